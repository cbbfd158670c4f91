"""n-gram models: all sum to one, EM never loses, Kneser-Ney is that of loops and of NLTK, and is the best of them."""

import math
from collections import Counter

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.datasets.plain_texts import NumberedText, numbered, plain_text
from utils.lesson import LessonError

SMALL = {"source": "sample", "order": 4, "longest": 16_000}


@pytest.fixture(scope="module")
def ngrams():
    return lesson("07_nlp/ngram_models")


@pytest.fixture(scope="module", params=["en", "ko"])
def split(request):
    return numbered(plain_text(request.param, "sample", seed=0), longest=8000)


@pytest.fixture(scope="module")
def models(ngrams, split):
    return {n: ngrams.build_all(split, n) for n in (1, 3)}


class TestCounting:
    def test_is_what_a_counter_counts(self, ngrams, split):
        ids, size = split.train.tolist(), len(split.symbols)
        grams = Counter(tuple(ids[i : i + 3]) for i in range(len(ids) - 2))
        table = ngrams.Table(split.train, size, 3)
        asked = torch.cat([split.train.unfold(0, 3, 1)[::50], torch.tensor([[0, 0, size - 1]])])
        count, total, kinds = table.look_up(asked)
        for i, gram in enumerate(map(tuple, asked.tolist())):
            after = [number for other, number in grams.items() if other[:2] == gram[:2]]
            assert (count[i], total[i]) == (grams[gram], sum(after))
            assert kinds[i].tolist() == [after.count(1), after.count(2), sum(number > 2 for number in after)]
        neighbours = ngrams.Table(split.train, size, 2, neighbours=True)
        before = Counter(gram[1:] for gram in grams)
        assert neighbours.look_up(asked)[0].tolist() == [before[tuple(gram[1:])] for gram in asked.tolist()]

    def test_windows(self, ngrams):
        found = ngrams.windows(torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6]), 3)
        assert found.tolist() == [[3, 4, 5], [4, 5, 6]]

    def test_shares_fall_back_to_the_shorter_context(self, ngrams):
        ids = torch.tensor([0, 1, 0, 1, 0, 2])
        tables = [ngrams.Table(ids, 4, n) for n in (1, 2)]
        found = ngrams.shares(tables, torch.tensor([[0, 1], [0, 3], [3, 0], [3, 3]]))
        expected = [[1 / 4, 1 / 3, 2 / 3], [1 / 4, 0, 0], [1 / 4, 1 / 2, 1 / 2], [1 / 4, 0, 0]]
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))

    def test_perplexity_of_equal_chances_is_their_number(self, ngrams):
        assert ngrams.perplexity(torch.full((9,), 1 / 7)) == pytest.approx(7, rel=1e-5)

    def test_infinity(self, ngrams, split, capsys):
        assert ngrams.meet_infinity(split) == math.inf
        assert "read: the logarithm of 0" in capsys.readouterr().out


class TestSmoothing:
    @pytest.mark.parametrize("n", [1, 3])
    def test_sums_to_one_after_contexts_seen_and_never_seen(self, ngrams, split, models, n):
        contexts = ngrams.windows(split.train, split.test[:40], n)[:, :-1]
        strange = torch.randint(len(split.symbols), (40, n - 1), generator=torch.Generator().manual_seed(0))
        for name, model in models[n].items():
            assert ngrams.farthest_from_one(model, torch.cat([contexts, strange]), len(split.symbols)) < 1e-12, name

    def test_everything_has_a_chance(self, ngrams, split, models):
        asked = ngrams.windows(split.train, split.test, 3)
        for name, model in models[3].items():
            assert model(asked).min() > 0, name

    def test_a_discount_that_is_not_handed_on_is_noticed(self, ngrams, split):
        tables = [ngrams.Table(split.train, len(split.symbols), 1)]
        lost = lambda grams: ngrams.discounted(tables, [torch.full((3,), 0.5).double()], grams) * 0.9  # noqa: E731
        assert ngrams.farthest_from_one(lost, torch.zeros(1, 0, dtype=torch.long), len(split.symbols)) > 0.05

    def test_add_k(self, ngrams):
        tables = [ngrams.Table(torch.tensor([0, 1, 0, 1, 0, 2]), 4, n) for n in (1, 2)]
        found = ngrams.add_k(tables, 0.5, torch.tensor([[0, 1], [0, 3], [3, 1]]))
        torch.testing.assert_close(found, torch.tensor([2.5 / 5, 0.5 / 5, 0.25], dtype=torch.float64))

    def test_em_finds_the_best_weights_and_never_loses(self, ngrams):
        shares = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)).double() ** 3
        weights, losses = ngrams.fit_weights(shares, 200)
        assert all(b <= a + 1e-12 for a, b in zip(losses, losses[1:], strict=False))
        assert weights.sum() == pytest.approx(1) and weights.min() >= 0
        for i in range(3):  # whoever moves a little weight gains nothing
            moved = 0.99 * weights + 0.01 * torch.eye(3).double()[i]
            assert -(shares @ moved).log().mean() >= losses[-1] - 1e-6

    def test_kneser_ney_is_that_of_nltk(self, ngrams):
        lm = pytest.importorskip("nltk.lm")
        padded = pytest.importorskip("nltk.util").everygrams
        generator = torch.Generator().manual_seed(0)
        middle = [min(a, b) for a, b in torch.randint(8, (300, 2), generator=generator).tolist()]
        ids = [*range(8), *middle, *range(8)]  # begins as it goes on: NLTK counts what the first symbols are followed by, too
        theirs = lm.KneserNeyInterpolated(3, discount=0.3)
        theirs.fit([list(padded(list(map(str, ids)), max_len=3))], vocabulary_text=map(str, ids))
        tables = [ngrams.Table(torch.tensor(ids), 8, n, neighbours=n < 3) for n in (1, 2, 3)]
        less = [torch.full((3,), off, dtype=torch.float64) for off in (0.0, 0.3, 0.3)]  # theirs does not discount single symbols
        grams = torch.tensor(ids).unfold(0, 3, 1).unique(dim=0)
        grams = torch.cat([grams, grams + torch.tensor([0, 0, 1])]).clamp(max=7)
        expected = [theirs.score(str(c), [str(a), str(b)]) for a, b, c in grams.tolist()]
        found = ngrams.discounted(tables, less, grams)
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)

    def test_neighbours_and_three_discounts_help(self, ngrams, split, models):
        asked = ngrams.windows(split.train, split.test, 3)
        found = {name: ngrams.perplexity(model(asked)) for name, model in models[3].items()}
        assert found[ngrams.BEST] < found["absolute discounting"] < found["add-k"]
        assert found["Kneser-Ney"] < found["absolute discounting"]
        assert found["interpolation"] < 1.1 * found["absolute discounting"]  # weights of the text that was counted are worse


class TestComparisons:
    def test_agrees_with_the_finished_one(self, ngrams, split):
        found, off_sum, off_finished = ngrams.compare_orders(split, 3, seed=0)
        assert off_sum < 1e-12 and off_finished < 1e-12
        assert {len(row) for row in found.values()} == {3} and len(found) == 6

    def test_san_francisco(self, ngrams, capsys):
        words = ["san", "francisco", "is", "far", "the", "sea", "road", "town"]
        draw = torch.Generator().manual_seed(0)
        rest = [torch.randint(2, 8, (6,), generator=draw) for _ in range(60)]
        train = torch.cat([torch.cat([torch.tensor([0, 1]), part]) for part in rest])
        test = torch.tensor([2, 7, 5, 0, 4, 0, 3])
        by_count, by_neighbours = ngrams.compare_unigrams(NumberedText(train, train, torch.cat([test, test]), words))
        assert "'francisco' 60 times after 1" in capsys.readouterr().out
        assert by_count > 0 and by_neighbours > 0

    def test_more_text_helps_more_for_longer_ones(self, ngrams, split):
        rows = list(ngrams.compare_amounts(split, 3).values())
        assert len(rows) == 4
        for n in range(3):
            assert rows[-1][n] < rows[0][n]
        assert rows[0][2] / rows[-1][2] > rows[0][0] / rows[-1][0]


class TestMain:
    def test_runs(self, ngrams):
        results = ngrams.main(**SMALL, seed=0)
        for language in ("en", "ko"):
            assert results[f"{language}_pairs_alone"] == math.inf
            assert results[f"{language}_kneser_ney"] < results[f"{language}_others"]
        assert (paths.outputs("ngram_models") / "orders.png").exists()

    def test_check_notices_sums_that_are_not_one(self, ngrams, monkeypatch):
        right = ngrams.discounted
        monkeypatch.setattr(ngrams, "discounted", lambda tables, less, grams: 1.01 * right(tables, less, grams))
        with pytest.raises(LessonError, match="no probabilities"):
            ngrams.main(**(SMALL | {"order": 2}), seed=0)

    @pytest.mark.parametrize(("wrong", "message"), [({"order": 1}, "2 to 6"), ({"longest": 10}, "at least 1000")])
    def test_settings_that_cannot_be(self, ngrams, wrong, message):
        with pytest.raises(LessonError, match=message):
            ngrams.main(**(SMALL | wrong), seed=0)
