"""utils.seeding: the same seed, the same numbers; a state that survives a checkpoint."""

import random
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from utils.seeding import random_state, restore_random_state, seed_everything, seed_worker


def draw() -> list[float]:
    """Something from each of the three generators, normal numbers too: those are made in pairs, and one is remembered."""
    return [
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),
        np.random.randn(),
        torch.rand(()).item(),
        torch.randn(()).item(),
    ]


class Dice(Dataset):
    """What Python, NumPy and PyTorch draw in a DataLoader's worker."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()], dtype=torch.float64)


class TestSeed:
    @pytest.mark.parametrize("seed", [0, 7, 2**32 + 5])  # NumPy takes 32 bits only
    def test_same_seed_same_numbers(self, seed):
        seed_everything(seed)
        first = draw()
        seed_everything(seed)
        assert draw() == first

    def test_other_seed_other_numbers(self):
        seed_everything(0)
        first = draw()
        seed_everything(1)
        assert all(a != b for a, b in zip(first, draw(), strict=True))


class TestState:
    def test_goes_on_where_it_was(self, tmp_path):
        seed_everything(3)
        draw()  # an odd number of normal draws: half a pair is remembered
        torch.save(random_state(), tmp_path / "state.pt")
        expected = draw()
        seed_everything(99)
        restore_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
        assert draw() == expected

    def test_state_of_devices_that_are_not_here_is_skipped(self):
        state = random_state()
        expected = draw()
        restore_random_state({**state, "cuda": [torch.zeros(16, dtype=torch.uint8)] * 99})
        assert draw() == expected


class TestWorkers:
    def numbers(self, seed):
        loader = DataLoader(
            Dice(),
            batch_size=2,
            num_workers=2,
            worker_init_fn=seed_worker,
            generator=torch.Generator().manual_seed(seed),
            multiprocessing_context="fork" if sys.platform == "linux" else "spawn",  # fork: no second import of torch
        )
        return torch.cat(list(loader))  # (4, 3)

    def test_differ_from_each_other_and_repeat(self):
        random.seed(0)
        np.random.seed(0)
        numbers = self.numbers(seed=0)
        assert len(numbers.unique()) == numbers.numel()  # no worker draws what another one draws, from any generator
        torch.testing.assert_close(self.numbers(seed=0), numbers, rtol=0, atol=0)
        assert not (self.numbers(seed=1) == numbers).any()
