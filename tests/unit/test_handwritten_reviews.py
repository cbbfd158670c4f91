"""utils.datasets.handwritten_reviews: balanced in every way that is counted, and written nowhere else."""

import re
import unicodedata
from collections import Counter

import pytest
import torch

from utils import paths
from utils.datasets.handwritten_reviews import KINDS, handwritten_reviews, kinds
from utils.datasets.opinions import write_opinions
from utils.lesson import LessonError

both = pytest.mark.parametrize("language", ["en", "ko"])


@both
def test_half_are_positive_in_each_kind(language):
    reviews = handwritten_reviews(language)
    assert len(reviews) == 160 and reviews.labels.dtype == torch.int64 and reviews.labels.unique().tolist() == [0, 1]
    counts = Counter(zip(kinds(language), reviews.labels.tolist(), strict=True))
    assert {kind for kind, _ in counts} == set(KINDS)
    assert all(counts[kind, 0] == counts[kind, 1] in (11, 12) for kind in KINDS)


@both
def test_texts_are_clean(language):
    texts = handwritten_reviews(language).texts
    assert len({re.sub(r"\W", "", text).lower() for text in texts}) == len(texts)  # no duplicates, not even nearly
    for text in texts:
        assert text == unicodedata.normalize("NFC", text) == text.strip() and "  " not in text and text.isprintable()
        assert 3 <= len(text.split()) <= 40, text
        assert bool(re.search("[가-힣]", text)) == (language == "ko"), text


def test_file_is_small_and_has_unix_line_ends():
    content = (paths.ROOT / "datasets" / "samples" / "reviews_by_hand.txt").read_bytes()
    assert len(content) <= 40_000 and content.count(b"\n") == 320 and content.endswith(b"\n") and b"\r" not in content


@both
def test_lengths_differ_but_not_between_the_labels(language):
    reviews = handwritten_reviews(language)
    lengths = torch.tensor([len(text.split()) for text in reviews.texts])
    negative, positive = (lengths[reviews.labels == label].double().mean() for label in (0, 1))
    assert lengths.min() <= 4 and lengths.max() >= 25
    assert 0.85 < negative / positive < 1.15  # the length does not tell the label


@both
def test_none_is_made_up_by_the_grammar(language):
    opinions = [opinion.text for seed in (0, 1) for opinion in write_opinions(4000, seed)]
    sentences = {sentence.strip() for text in opinions for sentence in re.split(r"[.]", text)} - {""}
    for text in handwritten_reviews(language).texts:
        own = {sentence.strip().lower() for sentence in re.split("[.!?]", text)} - {""}
        assert not own & sentences, text


def test_known_reviews_have_the_right_labels_and_kinds():
    for language, text, label, kind in [
        ("en", "Not bad at all for a first film; I would gladly watch the director's next one.", 1, "negation"),
        ("en", "A tedious novel full of clichés and flat characters.", 0, "plain"),
        ("ko", "가게는 허름한데 맛은 정말 끝내줍니다.", 1, "contrast"),
        ("ko", "상영 시간 내내 시계만 들여다봤다.", 0, "implicit"),
    ]:
        reviews = handwritten_reviews(language)
        place = reviews.texts.index(text)
        assert (reviews.labels[place].item(), kinds(language)[place]) == (label, kind)


@pytest.mark.parametrize("load", [handwritten_reviews, kinds])
def test_another_language(load):
    with pytest.raises(LessonError, match='^there are hand-written reviews in "en" and in "ko", not in "de"$'):
        load("de")
