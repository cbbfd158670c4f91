"""utils.datasets.dialogues: turns stay in order, splits share no beginning, damage is told in one sentence."""

import pytest

from utils.datasets import chatterbot, daily_dialog, korean_chat


def beginnings(dialogues) -> set[str]:
    return {dialogue[0].lower() for dialogue in dialogues}


class TestChatterbot:
    @pytest.mark.parametrize(("language", "least"), [("en", 1100), ("ko", 600)])
    def test_splits_share_no_beginning(self, language, least):
        data = chatterbot(language)
        splits = data.train, data.validation, data.test
        everything = [dialogue for split in splits for dialogue in split]
        assert len(everything) > least and len(set(everything)) == len(everything)
        found = [beginnings(split) for split in splits]
        assert sum(map(len, found)) == len(set.union(*found))
        assert all(len(dialogue) >= 2 and all(dialogue) and "\n" not in "".join(dialogue) for dialogue in everything)
        assert not data.is_real and data.source.startswith("sample: chatterbot-corpus, ")

    def test_conversations_keep_their_turns_and_questions_have_one_answer_each(self):
        data = chatterbot("en")
        everything = [*data.train, *data.validation, *data.test]
        assert any(dialogue[:3] == ("Hello", "Hi", "How are you doing?") for dialogue in everything)
        answers = [dialogue for dialogue in everything if dialogue[0] == "What is a computer?"]
        assert len(answers) > 2 and all(len(dialogue) == 2 for dialogue in answers)

    def test_both_languages_and_another_split(self):
        both = chatterbot()
        assert len(both.train) > len(chatterbot("en").train) > len(chatterbot("ko").train)
        assert both.test == chatterbot().test != chatterbot(seed=1).test


class TestKoreanChat:
    def test_pairs(self, without_data):
        rows = "".join(f'질문 {i},"답, {i}",0\n' for i in range(40))
        (without_data / "ChatbotData.csv").write_text(f"Q,A,label\n{rows}", encoding="utf-8-sig")
        data = korean_chat("real")
        assert (len(data.train), len(data.validation), len(data.test)) == (32, 4, 4) and data.is_real
        assert all(answer == question.replace("질문", "답,") for question, answer in data.train)

    @pytest.mark.parametrize("content", ["", "<html>", "Q,A,label\nonly a question\n", "질문,답\n가,나\n"])
    def test_something_else(self, without_data, fails, content):
        (without_data / "ChatbotData.csv").write_text(content, encoding="utf-8")
        fails(korean_chat, "ChatbotData.csv is damaged", "the columns Q and A")

    def test_other_encoding(self, without_data, fails):
        (without_data / "ChatbotData.csv").write_bytes("Q,A,label\n안녕,네,0\n".encode("cp949"))
        fails(korean_chat, "ChatbotData.csv is damaged", "cannot be read")

    def test_sample_is_the_korean_corpus(self, without_data):
        assert korean_chat("auto").source == chatterbot("ko").source

    @pytest.mark.real_data("korean_chat")
    def test_real(self):
        assert len(korean_chat("real").train) > 8000


class TestDailyDialog:
    @staticmethod
    def put(folder, **counts):
        for split, count in counts.items():
            place = folder / "ijcnlp_dailydialog" / split
            place.mkdir(parents=True)
            lines = "".join(f"{split} {i} . __eou__ Yes ? __eou__ No . __eou__\n" for i in range(count))
            (place / f"dialogues_{split}.txt").write_text(lines, encoding="utf-8")

    def test_official_folders(self, without_data):
        self.put(without_data, train=5, validation=3, test=2)
        data = daily_dialog("real")
        assert (len(data.train), len(data.validation), len(data.test)) == (5, 3, 2)
        assert data.train[0] == ("train 0 .", "Yes ?", "No .") and data.source.startswith("DailyDialog (5 + 3 + 2")

    def test_without_the_split_to_train_on(self, without_data):
        self.put(without_data, validation=20, test=2)
        data = daily_dialog("real")
        assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 2)
        assert "trained on its validation split" in data.source and not set(data.train) & set(data.validation)

    def test_missing_file(self, without_data, fails):
        self.put(without_data, validation=20)
        fails(daily_dialog, "dialogues_test.txt is missing")

    @pytest.mark.parametrize("content", ["", "no turns\n", "one turn __eou__\n"])
    def test_something_else(self, without_data, fails, content):
        self.put(without_data, validation=2, test=2)
        (without_data / "ijcnlp_dailydialog" / "test" / "dialogues_test.txt").write_text(content, encoding="utf-8")
        fails(daily_dialog, "dialogues_test.txt is damaged", "__eou__")

    @pytest.mark.real_data("daily_dialog")
    def test_real(self):
        assert len(daily_dialog("real").train) >= 900
