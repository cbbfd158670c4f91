"""TF-IDF and logistic regression: numbers of scikit-learn, search that survives slips, and mistakes that cost what they cost."""

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.datasets import Texts
from utils.datasets.opinions import write_opinions
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def lesson_module():
    return lesson("07_nlp/tf_idf")


@pytest.fixture(scope="module")
def opinions():
    some = write_opinions(1200, seed=0)
    return Texts([one.text for one in some], torch.tensor([one.content for one in some]))


class TestSparseTensor:
    def test_terms(self, lesson_module):
        assert list(lesson_module.terms_of("A good, not bad 영화", "words", 2)) == [
            "good", "not", "bad", "영화", "good not", "not bad", "bad 영화"
        ]  # fmt: skip
        assert list(lesson_module.terms_of("Ab  가", "characters", 2)) == ["a", "b", " ", "가", "ab", "b ", " 가"]
        assert list(lesson_module.terms_of("안 못 a", "words", 3)) == [], "words of one letter are none"

    @pytest.mark.parametrize("unit", ["words", "characters"])
    @pytest.mark.parametrize("sublinear", [True, False])
    def test_equal_to_sklearn(self, lesson_module, opinions, unit, sublinear):
        from sklearn.feature_extraction.text import TfidfVectorizer

        known = [*opinions.texts[:30], "É  Straße\t\n x", "ㅋㅋㅋ!! 10/10 재밌다"]
        new = [*opinions.texts[60:80], "", "!?", "never seen 뷁", "so so so good"]
        analyser = {"words": "word", "characters": "char"}[unit]
        theirs = TfidfVectorizer(analyzer=analyser, ngram_range=(1, 3), sublinear_tf=sublinear).fit(known)
        ours = lesson_module.TfIdf(known, unit, 3, sublinear)
        assert list(ours.places) == list(theirs.get_feature_names_out())
        expected = torch.from_numpy(theirs.transform(new).toarray())
        torch.testing.assert_close(ours(new).to_dense(), expected, rtol=1e-12, atol=1e-12)
        assert ours(new).is_coalesced() and ours(new).dtype == torch.float64

    def test_what_the_lesson_compares(self, lesson_module, opinions):
        assert max(lesson_module.compare_with_sklearn(opinions.texts[:100]).values()) < 1e-12

    def test_most(self, lesson_module):
        tfidf = lesson_module.TfIdf(["bb aa", "bb cc", "bb aa dd"], most=2)
        assert tfidf.places == {"aa": 0, "bb": 1}
        torch.testing.assert_close(tfidf.weights, torch.tensor([4 / 3, 1.0], dtype=torch.float64).log() + 1)


def test_search_survives_what_words_do_not(lesson_module):
    found = lesson_module.search(60, seed=0)
    for language in ("en", "ko"):
        assert found[f"{language}_words_whole"] > 0.9 and found[f"{language}_characters_whole"] > 0.95
        for damage in ("no_spaces", "slips"):
            assert found[f"{language}_words_{damage}"] < 0.6 < 0.8 < found[f"{language}_characters_{damage}"]


class TestLogisticRegression:
    def test_equal_to_sklearn(self, lesson_module, opinions):
        from sklearn.linear_model import LogisticRegression

        tfidf = lesson_module.TfIdf(opinions.texts[:300], "words", 2)
        x, labels = tfidf(opinions.texts[:300]), opinions.labels[:300]
        for strength in (0.3, 30.0):
            w, b = lesson_module.fit(x, labels, strength)
            theirs = LogisticRegression(C=strength, tol=1e-9, max_iter=2000).fit(x.to_dense().numpy(), labels.numpy())
            torch.testing.assert_close(w, torch.from_numpy(theirs.coef_[0]), rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(b, torch.from_numpy(theirs.intercept_), rtol=1e-4, atol=1e-4)
        assert lesson_module.compare_probabilities(opinions[:100], opinions[200:300]) < 1e-5

    def test_the_minimum_has_no_gradient(self, lesson_module, opinions):
        """By autograd, which the lesson does not use."""
        x = lesson_module.TfIdf(opinions.texts[:100])(opinions.texts[:100])
        w, b = (part.requires_grad_() for part in lesson_module.fit(x, opinions.labels[:100], 3.0))
        logits = x.to_dense() @ w + b
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, opinions.labels[:100].double(), reduction="sum")
        (3 * loss + w @ w / 2).backward()
        assert max(w.grad.abs().max().item(), b.grad.abs().max().item()) < 1e-4

    def test_strength_is_chosen_on_what_was_held_out(self, lesson_module, opinions, monkeypatch):
        shares = {(strength, held): 0.5 for strength in lesson_module.STRENGTHS for held in (False, True)}
        shares |= {(3.0, True): 0.8, (30.0, False): 1.0}
        seen = []

        def told(model, x, labels):
            seen.append(len(labels))
            return shares[model, len(labels) == 20]

        monkeypatch.setattr(lesson_module, "fit", lambda x, labels, strength: strength)
        monkeypatch.setattr(lesson_module, "accuracy", told)
        assert lesson_module.choose_strength(opinions[:100], "words", 1) == 3.0
        assert set(seen) == {80, 20}
        assert (paths.outputs("tf_idf") / "strength.png").exists()


class TestMistakes:
    def test_terms_learned_twice(self, lesson_module, opinions):
        message, right, wrong = lesson_module.learn_terms_twice(opinions[:600], opinions[600:900], 60)
        assert "size" in message
        assert wrong + 0.1 < right > 0.75

    def test_leaks(self, lesson_module, opinions):
        found = lesson_module.leak(opinions, draws=3, seed=0)
        assert abs(found["idf_of_all"] - found["honest"]) < 0.05 and found["honest"] > 0.75
        assert abs(found["coin"] - 0.5) < 0.07 and found["coin_of_all"] > found["coin"] + 0.06


class TestMain:
    @pytest.fixture
    def small(self, lesson_module, monkeypatch, opinions):
        data = lesson_module.datasets.TextData(opinions[:500], opinions[500:700], ("negative", "positive"), "a few", False)
        monkeypatch.setattr(lesson_module.datasets, "imdb", lambda source: data)
        monkeypatch.setattr(lesson_module, "search", lambda count, seed: {})
        monkeypatch.setattr(lesson_module, "STRENGTHS", (1.0, 10.0))
        return data

    def test_beats_the_larger_class(self, lesson_module, small, capsys):
        results = lesson_module.main(data="sample", unit="words", longest=1, draws=1, seed=0)
        assert results["accuracy"] > 0.9 > 0.6 > results["majority"]
        assert results["off_probabilities"] < 1e-5
        assert "happy" in capsys.readouterr().out, "a term that says much"

    def test_check_notices_what_does_not_learn(self, lesson_module, small, monkeypatch):
        fit = lesson_module.fit
        monkeypatch.setattr(lesson_module, "fit", lambda x, labels, strength: fit(x, labels, 1e-12))
        with pytest.raises(LessonError, match="larger class"):
            lesson_module.main(data="sample", unit="words", longest=1, draws=1, seed=0)

    @pytest.mark.parametrize("flags", [{"longest": 0}, {"draws": 0}])
    def test_check_notices_settings_that_cannot_be(self, lesson_module, flags):
        with pytest.raises(LessonError, match="--longest 1 and --draws 1"):
            lesson_module.main(**{"data": "sample", "unit": "words", "longest": 2, "draws": 1, "seed": 0} | flags)


@pytest.mark.real_data("rt_polarity")
@pytest.mark.slow  # 10,662 sentences, five strengths
def test_real_sentences(lesson_module):
    results = lesson_module.main(data="rt_polarity", unit="words", longest=2, draws=5, seed=0)
    assert results["accuracy"] > 0.75 and results["coin_of_all"] > 0.55
