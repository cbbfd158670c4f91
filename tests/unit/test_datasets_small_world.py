"""The small world: held-out pairs never meet, missing forms never occur, and Korean endings are written as they should be."""

import pytest

from utils.datasets.small_world import conjugate, load_world, with_ending, write_questions, write_world
from utils.lesson import LessonError


@pytest.mark.parametrize("language", ["en", "ko"])
class TestWorld:
    def test_pairs_that_are_held_out_never_meet_and_the_others_do(self, language):
        world = write_world(language, 6000, seed=3)
        sentences = [set(sentence.split()) for sentence in world.sentences]
        for kind, pairs in world.held_out.items():
            assert len(pairs) >= 5 and not set(pairs) & set(world.stated[kind])
            assert not any(set(pair) <= sentence for pair in pairs for sentence in sentences)
        kind = "capital" if language == "en" else "past"  # in Korean, places carry other endings where they are stated
        assert all(any(set(pair) <= sentence for sentence in sentences) for pair in world.stated[kind])

    def test_missing_forms_never_occur_but_others_of_the_word_do(self, language):
        world = write_world(language, 6000, seed=3)
        words = {word for sentence in world.sentences for word in sentence.split()}
        assert len(world.missing) > 30 and not words & world.missing.keys()
        for form, stem in world.missing.items():
            assert form not in world.forms[stem] and words & set(world.forms[stem])
        assert world.groups.keys() == world.forms.keys()

    def test_the_same_seed_writes_the_same(self, language):
        assert write_world(language, 50, seed=1) == write_world(language, 50, seed=1)
        one, other = (write_world(language, 50, seed=seed) for seed in (1, 2))
        assert one.sentences != other.sentences and one.missing != other.missing and one.held_out != other.held_out

    def test_no_gap_stays_open(self, language):
        assert not any("{" in sentence or "  " in sentence for sentence in write_world(language, 3000, seed=0).sentences)


def test_questions():
    words = ["italy", "rome", "france", "paris", "cow"]
    stated, held_out = (
        {"capital": [("italy", "rome"), ("spain", "madrid")]},
        {"capital": [("france", "paris"), ("italy", "rome")]},
    )
    assert write_questions(words, stated, held_out).tolist() == [[0, 1, 2, 3], [1, 0, 3, 2]]
    assert write_questions(["cow"], stated, held_out).shape == (0, 4)


def test_korean_endings():
    written = [
        with_ending(*pair)
        for pair in (("서울", "로"), ("빈", "로"), ("로마", "로"), ("빈", "는"), ("파리", "고"), ("빈", "에서"))
    ]
    assert written == ["서울로", "빈으로", "로마로", "빈은", "파리고", "빈에서"]
    forms = conjugate("마시", "마셔")
    assert [forms[name] for name in ("present", "past", "polite", "면", "서")] == [
        "마신다",
        "마셨다",
        "마십니다",
        "마시면",
        "마셔서",
    ]
    forms = conjugate("읽", "읽어")
    assert [forms[name] for name in ("present", "past", "polite", "면", "려고")] == [
        "읽는다",
        "읽었다",
        "읽습니다",
        "읽으면",
        "읽으려고",
    ]


class TestReviews:
    def test_without_the_file(self, without_data, monkeypatch):
        monkeypatch.setattr("utils.datasets.reviews.locate", lambda name, source: (_ for _ in ()).throw(LessonError("not there")))
        with pytest.raises(LessonError, match="not there"):
            load_world("ko", "real", 10, seed=0)

    @pytest.mark.real_data("nsmc")
    def test_pairs_are_in_the_reviews(self):
        world = load_world("ko", "real", 10, seed=0)
        words = {word for text in world.sentences[:50_000] for word in text.split()}
        pairs = [pair for kind in world.stated.values() for pair in kind]
        assert sum(set(pair) <= words for pair in pairs) > 0.8 * len(pairs)
