"""Text preprocessing: Hangul by arithmetic is Unicode's, padding has no say, and what cleaning throws away is missed."""

import random
import unicodedata

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.datasets import Texts
from utils.datasets.opinions import write_opinions
from utils.lesson import LessonError

SETTINGS = {"words": 500, "unit": "words", "steps": 60, "lr": 0.01, "source": "sample", "device": "cpu", "seed": 0}


@pytest.fixture(scope="module")
def lesson_module():
    return lesson("07_nlp/text_preprocessing")


def opinions(count: int, seed: int) -> Texts:
    some = write_opinions(count, seed, 0.0)
    return Texts([one.text for one in some], torch.tensor([one.content for one in some]))


class TestCodePoints:
    def test_every_syllable(self, lesson_module, capsys):
        assert lesson_module.look_closely() == 0
        assert "11,172" in capsys.readouterr().out

    def test_texts_that_mix_everything(self, lesson_module):
        """Syllables, loose jamo, finals after syllables with and without one, Latin: on all of it as Python does."""
        draw = random.Random(0)
        parts = ["가", "각", "힣", "뷁", "a", " ", "ᄀ", "ᄒ", "ᅡ", "ᅵ", "ᆨ", "ᇂ", "ㅋ", "ㅏ", "中", "👍🏽"]
        for _ in range(500):
            text = "".join(draw.choices(parts, k=8))
            assert lesson_module.decompose(text) == unicodedata.normalize("NFD", text)
            assert lesson_module.compose(text) == unicodedata.normalize("NFC", text)

    def test_what_one_sees_is_what_unicode_says(self, lesson_module):
        regex = pytest.importorskip("regex")
        assert {text: len(regex.findall(r"\X", text)) for text in lesson_module.LOOKS} == lesson_module.LOOKS


class TestTokens:
    def test_vocabulary(self, lesson_module):
        vocabulary = lesson_module.Vocabulary(["b a b.", "밥 a"], lesson_module.split_words)
        assert vocabulary.ids == {"<pad>": 0, "<unk>": 1, "a": 2, "b": 3, ".": 4, "밥": 5}
        assert vocabulary.encode("a 밥을 b.").tolist() == [2, 1, 3, 4]
        assert vocabulary.encode(" ").tolist() == [1]
        assert vocabulary.encode(" ").dtype == torch.int64

    def test_what_has_the_same_look_is_another_token(self, lesson_module):
        vocabulary = lesson_module.Vocabulary(["한글"], lesson_module.split_words)
        in_nfd = unicodedata.normalize("NFD", "한글")
        assert vocabulary.encode("한글").tolist() == [2] and vocabulary.encode(in_nfd).tolist() == [1]
        vocabulary = lesson_module.Vocabulary(["한글"], lesson_module.UNITS["jamo"])
        assert vocabulary.encode("한글").equal(vocabulary.encode(in_nfd))

    def test_korean_words_are_unknown_more_often(self, lesson_module):
        found = lesson_module.compare_units(2000, seed=0)
        assert found["ko_words"] > 1.4 * found["en_words"] > 0.2
        assert found["ko_words"] > 15 * found["ko_characters"] > 60 * found["ko_jamo"]
        assert found["en_characters"] == found["en_jamo"] < 0.01
        assert (paths.outputs("text_preprocessing") / "unknown.png").exists()


class TestBatches:
    def test_each_text_once_and_like_lengths_together(self, lesson_module):
        lengths = torch.randint(1, 40, (105,), generator=torch.Generator().manual_seed(0))
        batches = lesson_module.make_batches(lengths, 10, 4, torch.Generator().manual_seed(1))
        assert torch.cat(batches).sort().values.equal(torch.arange(105))
        assert sorted(len(batch) for batch in batches) == [5] + [10] * 10
        assert all((lengths[batch].diff() >= 0).all() for batch in batches if len(batch) == 10)
        others = lesson_module.make_batches(lengths, 10, 4, torch.Generator().manual_seed(2))
        assert not torch.cat(others).equal(torch.cat(batches))

    def test_batches_come_in_no_order(self, lesson_module):
        lengths = torch.arange(1, 101)
        batches = lesson_module.make_batches(lengths, 10, 10, torch.Generator().manual_seed(0))  # sorted as a whole
        longest = [lengths[batch].max().item() for batch in batches]
        assert sorted(longest) == list(range(10, 101, 10)) != longest

    def test_padding_has_no_say(self, lesson_module):
        model = lesson_module.Reader(9, 8, seed=0)
        ids = torch.tensor([[2, 3, 4, 5], [6, 7, 0, 0]])
        torch.testing.assert_close(model(torch.nn.functional.pad(ids, (0, 5))), model(ids))
        torch.testing.assert_close(model(ids[1:, :2]), model(ids)[1:])
        model(ids).sum().backward()
        assert model.embedding.weight.grad[0].eq(0).all() and model.embedding.weight.grad[6].ne(0).any()

    def test_equal_to_one_by_one_and_less_padding(self, lesson_module, capsys):
        found = lesson_module.compare_batches(opinions(512, 0).texts, seed=0)
        assert found["packed"] < 1e-5 and found["unpacked"] > 0.05
        assert found["padding"] > 0.3 and found["padding_by_length"] < 0.12
        assert "Length of all samples has to be greater than 0" in capsys.readouterr().out


class TestCleaning:
    def test_what_is_thrown_away(self, lesson_module):
        text = "although the bus was not late, 버스는 매우 빨랐다."
        cleaned = {name: " ".join(clean(text).split()) for name, clean in lesson_module.CLEANINGS.items()}
        assert cleaned["nothing"] == text
        assert cleaned["signs"] == "although the bus was not late 버스는 매우 빨랐다"
        assert cleaned["stop words"] == "bus late , 버스는 빨랐다 ."
        assert cleaned["all but a-z"] == "although the bus was not late"
        assert cleaned["all but 가-힣"] == "버스는 매우 빨랐다"

    def test_what_is_thrown_away_is_missed(self, lesson_module, monkeypatch):
        kept = {name: lesson_module.CLEANINGS[name] for name in ("nothing", "all but a-z")}
        monkeypatch.setattr(lesson_module, "CLEANINGS", kept)
        found = lesson_module.compare_cleanings(
            opinions(2000, 0), opinions(400, 9), "words", steps=90, lr=0.01, seed=0, where=torch.device("cpu")
        )
        assert min(found["without nothing"]) > 0.9
        assert found["asked in NFD"][1] == found["without nothing"][1], "English has no other form"
        assert found["asked in NFD"][2] < 0.65 and found["without all but a-z"][2] < 0.65
        assert found["without all but a-z"][1] > 0.9


class TestMain:
    def test_check_notices_a_reader_that_does_not_learn(self, lesson_module, monkeypatch):
        monkeypatch.setattr(lesson_module, "CLEANINGS", {"nothing": str})
        with pytest.raises(LessonError, match="more --steps"):
            lesson_module.main(**SETTINGS | {"steps": 1, "lr": 0.0})

    @pytest.mark.parametrize(
        ("flags", "told"), [({"steps": 0}, "--steps 1"), ({"words": 0}, "--words 64"), ({"words": 10**6}, "no more than")]
    )
    def test_check_notices_settings_that_cannot_be(self, lesson_module, flags, told):
        with pytest.raises(LessonError, match=told):
            lesson_module.main(**SETTINGS | flags)
