"""utils.datasets.texts and small_stories: what is there is read, what is damaged is one sentence, stories add up."""

import random
import re

import pytest
import torch

from utils import catalogue
from utils.datasets import Text, tinyshakespeare
from utils.datasets.small_stories import ASIDES, COUNTERS, GIRLS, NAMES_KO, holds_together, write_stories
from utils.lesson import LessonError


class TestText:
    def test_numbers_and_back(self):
        text = Text("b\na가 a\n", "made up", is_real=False)
        assert text.alphabet == "\n ab가"
        ids = text.encode("가b \n")
        assert ids.dtype == torch.int64 and ids.tolist() == [4, 3, 1, 0]
        assert text.decode(ids) == "가b \n"

    def test_split_keeps_the_order(self):
        text = Text("0123456789" * 10, "made up", is_real=False)
        train, held = text.split(0.83)
        assert (len(train), len(held)) == (83, 17)
        assert text.decode(torch.cat([train, held])) == text.characters

    def test_unknown_characters_are_one_sentence(self):
        with pytest.raises(LessonError, match="no 'yz'"):
            Text("x", "made up", is_real=False).encode("xyz")
        assert Text("x", "made up", is_real=False).encode("").shape == (0,)


class TestTinyShakespeare:
    def test_sample_is_stories(self, without_data):
        text = tinyshakespeare(stories=50, seed=3)
        assert text.characters.splitlines() == write_stories(50, seed=3) and text.characters.endswith("\n")
        assert not text.is_real and "not Shakespeare" in text.source

    def test_own_copy_is_used_and_called_so(self, without_data):
        (without_data / "tinyshakespeare.txt").write_text("To be or not\n" * 90_000, encoding="utf-8")
        text = tinyshakespeare("auto")
        assert text.is_real and "own copy" in text.source and len(text.characters) == 13 * 90_000

    def test_damaged_files_are_one_sentence(self, without_data):
        path = without_data / "tinyshakespeare" / "input.txt"
        path.parent.mkdir()
        path.write_text("First Citizen:", encoding="utf-8")
        with pytest.raises(LessonError, match="14 bytes instead of 1,115,394"):
            tinyshakespeare("real")
        path.write_bytes(b"\xff\xfe" * 600_000)
        with pytest.raises(LessonError, match="not text in UTF-8"):
            tinyshakespeare("auto")
        assert path.exists()

    @pytest.mark.real_data("tinyshakespeare")
    def test_real(self):
        text = tinyshakespeare("real")
        assert text.is_real and len(text.alphabet) == 65 and len(text.characters) == 1_115_394
        assert text.characters.startswith("First Citizen:")
        file = catalogue.CATALOGUE["tinyshakespeare"].files[0]
        assert ("official file" in text.source) == (catalogue.checksum(catalogue.find("tinyshakespeare")) == file.md5)


class TestStories:
    def test_hold_together(self):
        stories = write_stories(600, seed=0)
        assert all(map(holds_together, stories))
        assert stories == write_stories(600, seed=0) != write_stories(600, seed=1)
        assert 200 < sum(bool(re.search("[가-힣]", story)) for story in stories) < 400

    def test_sums_are_right(self):
        for story in write_stories(300, seed=1):
            n, *_, k, m = map(int, re.findall(r"\d", story))
            assert m in (n - k, n + k)

    def test_one_change_is_noticed(self):
        draw, checked = random.Random(0), 0
        for story in write_stories(400, seed=2):
            name = max((name for name in GIRLS + NAMES_KO if name in story), key=story.rfind, default=None)
            other = draw.choice([name for name in GIRLS + NAMES_KO if name not in story])
            place = draw.choice([found.start() for found in re.finditer(r"\d", story)])
            digit = str(int(story[place]) % 9 + 1)
            assert not holds_together(story[:place] + digit + story[place + 1 :])
            if name and story.count(name) > 1:  # the last time it is somebody else
                checked += 1
                assert not holds_together(other.join(story.rsplit(name, 1)))
        assert checked > 100

    @pytest.mark.parametrize(
        "story",
        [
            "",
            "Mina has",
            "Mina has 3 kites. He gives 1 of them to Nora. Now Mina has 2 kites.",  # he
            "Mina has 3 kites. She gives 1 of them to Nora. Now Mina has 2 kite.",  # one, many
            "Mina has 3 kites. She gives 1 of them to Nora. Now Mina has 2 pears.",
            "Mina has 3 kites. She gives 1 of them to Mina. Now Mina has 2 kites.",
            "Mina has 0 kites. Joon gives Mina 2 more. Now she has 2 kites.",
            "민지는 책이 3권 있다. 보라에게 민지가 1권을 준다.",
            "민지는 책이 3자루 있다. 민지는 보라에게 2자루를 더 받는다. 책은 모두 5자루다.",  # books are counted in 권
            "민지는 책이 3권 있다. 민지은 보라에게 2권을 더 받는다. 책은 모두 5권다.",  # 는 after a vowel
        ],
    )
    def test_what_does_not_agree(self, story):
        assert not holds_together(story)

    def test_words_do_not_hide_in_one_another(self):
        """Names and things are found by searching the story."""
        assert not any(name in aside for name in GIRLS for aside in ASIDES)
        assert not any(name in thing for name in NAMES_KO for thing in COUNTERS)
