"""What several workers do alike, and what cures it."""

import sys

import numpy as np
import pytest
import torch
from conftest import lesson

FORK = "fork" if sys.platform == "linux" else "spawn"  # fork: no second import of torch


@pytest.fixture(scope="module")
def workers():
    return lesson("03_training/data_workers")


@pytest.fixture
def table(workers, tmp_path):
    path = tmp_path / "wine.csv"
    workers.write_table(path)
    return path


class TestStream:
    def test_is_the_table(self, workers, table):
        from sklearn.datasets import load_wine

        wine = load_wine()
        rows = list(workers.TableStream(table))
        torch.testing.assert_close(torch.stack([x for x, _ in rows]), torch.from_numpy(wine.data).float())
        assert [y for _, y in rows] == wine.target.tolist()

    def test_equal_to_pytorchs(self, workers, table):
        assert workers.compare_streams(table) == 6

    def test_two_workers_hand_out_everything_twice_or_once(self, workers, table):
        assert workers.count_rows(table, workers=0, divided=True) == 178
        assert workers.count_rows(table, workers=2, divided=False, start=FORK) == 2 * 178
        assert workers.count_rows(table, workers=2, divided=True, start=FORK) == 178


class TestSeeds:
    def test_copied_generator_draws_alike_in_workers_and_epochs(self, workers):
        drawn = workers.draw(workers.same_seed, workers=2, seed=0, start=FORK)
        assert drawn.shape == (2, 8, 3)
        assert workers.count_different(drawn) == [4, 4, 16]
        own = drawn[..., 0]
        assert torch.equal(own[0], own[1]) and torch.equal(own[:, 0::2], own[:, 1::2])
        assert own[0, 0] == np.random.default_rng(0).random()

    def test_own_seeds_differ_and_repeat(self, workers):
        first = workers.draw(workers.own_seed, workers=2, seed=0, start=FORK)
        assert workers.count_different(first) == [16, 16, 16]
        assert torch.equal(workers.draw(workers.own_seed, workers=2, seed=0, start=FORK), first)
        assert not (workers.draw(workers.own_seed, workers=2, seed=1, start=FORK) == first).any()


class TestGuard:
    def test_message_is_the_one_everyone_meets(self, workers):
        told = "\n".join(workers.meet_missing_guard(workers.UNGUARDED))
        assert "if __name__ == '__main__'" in told and "bootstrapping" in told
        assert "a batch" not in told.splitlines()

    def test_guard_cures_it(self, workers):
        first, *rest = workers.UNGUARDED.strip().splitlines()
        guarded = "\n".join([first, "if __name__ == '__main__':", *("    " + line for line in rest)])
        assert workers.meet_missing_guard(guarded) == ["a batch"]


class TestMain:
    def test_without_workers(self, workers, capsys):
        results = workers.main(workers=0, passes=5, seed=0)
        assert "\n4. An attempt has been made" in capsys.readouterr().out  # from its beginning, and without the traceback
        assert results["equal_batches"] == 6
        assert results["memory_over_batches"] > 0
        assert "rows" not in results

    def test_cost_knows_every_way(self, workers, table):
        cost = workers.measure_cost(table, workers=1, passes=2, start=FORK)
        assert list(cost) == ["stream", "memory", "Batches", "workers_start"]
        assert all(value > 0 for value in cost.values())

    def test_figure(self, workers, tmp_path):
        numbers = torch.rand(2, 8)
        workers.draw_figure({"one": numbers, "other": numbers})
        assert (tmp_path / "work" / "outputs" / "data_workers" / "draws.png").exists()
