"""Plain texts in three parts, and their symbols by number."""

import pytest
import torch

from utils.datasets.plain_texts import PlainText, numbered, plain_text, stories_text


@pytest.mark.parametrize(("language", "letters"), [("en", "e"), ("ko", "는")])
def test_sample(language, letters):
    text = plain_text(language, "sample", seed=0)
    assert not text.is_real and "sample" in text.source
    for part in (text.train, text.validation, text.test):
        assert part.endswith("\n") and letters in part
    assert len(text.train) > 4 * len(text.test)
    assert plain_text(language, "sample", seed=1).test != text.test


def test_without_real_data_auto_is_the_sample(without_data):
    assert plain_text("ko", "auto", seed=0) == plain_text("ko", "sample", seed=0)


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.real_data("tinyshakespeare")
@pytest.mark.real_data("nsmc")
def test_real(language):
    text = plain_text(language, "real")
    assert text.is_real and len(text.train) > 7 * len(text.validation)
    assert not set(text.train.split("\n\n")[:50]) & set(text.test.split("\n\n")) - {""} or language == "ko"


def test_stories():
    text = stories_text(50, seed=1)
    assert [part.count("\n") for part in (text.train, text.validation, text.test)] == [40, 5, 5]
    assert stories_text(50, seed=1) == text and stories_text(50, seed=2).train != text.train


def test_numbered():
    text = PlainText("Go, go!\nNo.\n", "Oh\n", "Go\n", "made up", is_real=False)
    split = numbered(text)
    assert "".join(split.symbols[i] for i in split.train.tolist()) == text.train
    assert split.symbols == sorted(set(text.train + text.validation + text.test))
    words = numbered(text, words=True, longest=8)
    assert [words.symbols[i] for i in words.train.tolist()] == ["go", ",", "go", "!", "\n", "no", ".", "\n"]
    assert len(words.test) == 1 and words.train.dtype == torch.int64
