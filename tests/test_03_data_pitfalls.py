"""The leak pretends what it is said to pretend, and sorted classes are forgotten."""

import pytest
import torch
from conftest import lesson

from utils.datasets import hold_out, mnist
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def pitfalls():
    return lesson("03_training/data_pitfalls")


class TestCoins:
    def test_leak_predicts_coins_and_honesty_does_not(self, pitfalls):
        accuracies = torch.tensor([pitfalls.toss_coins(examples=40, features=2000, keep=20, seed=s) for s in range(40)])
        leaked, honest = accuracies.mean(dim=0)
        assert leaked > 0.9
        assert 0.43 < honest < 0.57  # 40 times 20 coins: a standard deviation of 0.02

    def test_fewer_features_leak_less(self, pitfalls):
        leaked = [
            sum(pitfalls.toss_coins(examples=40, features=features, keep=20, seed=s)[0] for s in range(40)) / 40
            for features in (20, 200, 2000)
        ]
        assert 0.4 < leaked[0] < 0.6  # all twenty are kept: nothing is chosen
        assert leaked[0] + 0.1 < leaked[1] < leaked[2] - 0.05

    def test_most_different(self, pitfalls):
        x = torch.tensor([[0.0, 5, 1], [0, 5, 1], [9, 5, 2], [9, 5, 2]])
        assert pitfalls.most_different(x, torch.tensor([0, 0, 1, 1]), keep=2).tolist() == [0, 2]


class TestStandardizing:
    def test_which_mistake_costs_what(self, pitfalls):
        found = [pitfalls.compare_standardizing(examples=30, seed=s) for s in range(20)]
        mean = {name: sum(one[name] for one in found) / len(found) for name in found[0]}
        assert mean["by the training set"] > 0.92
        assert abs(mean["by everything"] - mean["by the training set"]) < 0.015
        assert mean["not at all"] < 0.8
        assert mean["each delivery by itself"] < 0.45

    def test_by_other_rows(self, pitfalls):
        by = torch.tensor([[0.0], [2.0], [4.0]])
        assert pitfalls.standardize(torch.tensor([[2.0], [6.0]]), by=by).tolist() == [[0], [2]]


class TestShuffleBuffer:
    @pytest.mark.parametrize("buffer", [1, 7, 100, 1000])
    def test_hands_out_everything_once(self, pitfalls, buffer):
        out = list(pitfalls.shuffle(range(100), buffer, torch.Generator().manual_seed(0)))
        assert sorted(out) == list(range(100))
        assert (out == list(range(100))) == (buffer == 1)

    def test_nothing_comes_earlier_than_the_buffer_reaches(self, pitfalls):
        out = list(pitfalls.shuffle(range(1000), 10, torch.Generator().manual_seed(0)))
        assert all(example <= place + 10 for place, example in enumerate(out))

    def test_any_of_the_buffer_may_be_next(self, pitfalls):
        """Nothing is held back: after five times the buffer's size hardly one of the first is left in it."""
        out = list(pitfalls.shuffle(range(1000), 100, torch.Generator().manual_seed(0)))
        assert sum(example < 100 for example in out[:500]) > 90

    def test_whole_buffer_is_a_fair_shuffle(self, pitfalls):
        generator = torch.Generator().manual_seed(0)
        first = torch.tensor([next(pitfalls.shuffle(range(5), 5, generator)) for _ in range(1000)])
        assert (first.bincount(minlength=5) > 150).all()


class TestSorted:
    def test_sorted_classes_are_forgotten(self, pitfalls):
        data = mnist("sample")
        train, _ = hold_out(data.train, 400, seed=0)
        for seed in range(2):
            answers = pitfalls.compare_orders(train, data.test, [1, len(train)], epochs=3, lr=0.003, seed=seed)
            right = {buffer: (answer == data.test.labels).float().mean().item() for buffer, answer in answers.items()}
            assert right[1] < 0.35
            assert right[len(train)] > 0.8


class TestMain:
    def test_learns_when_shuffled(self, pitfalls):
        results = pitfalls.main(examples=40, features=500, draws=5, epochs=5, lr=0.003, source="sample", seed=0)
        assert results["accuracy"] > results["baseline_accuracy"] > 0.8
        assert results["accuracy_sorted"] < 0.4
        assert results["coins_leaked"] > results["coins_honest"] + 0.15

    def test_check_notices_a_network_that_did_not_learn(self, pitfalls):
        with pytest.raises(LessonError, match="nearest mean"):
            pitfalls.main(examples=8, features=20, draws=2, epochs=1, lr=0.0, source="sample", seed=0)
