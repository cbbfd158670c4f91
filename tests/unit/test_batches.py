"""utils.batches: every example once an epoch, and a place in mid-epoch that can be gone back to."""

import gc

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from utils import checkpoint
from utils.batches import Batches, BatchesByLength, to_pixels


def numbers(count: int = 10):
    """`count` examples that can be told apart, and their labels."""
    return torch.arange(count * 3, dtype=torch.float32).view(count, 3), torch.arange(count)


def labels_of(batches) -> list[list[int]]:
    """One epoch: the labels of each batch."""
    return [labels.tolist() for _, labels in batches]


def noisy(images, generator):
    """A transform that draws."""
    return images + torch.rand(images.shape, generator=generator)


class TestEpoch:
    def test_every_example_comes_once_with_its_label(self):
        images, labels = numbers(10)
        seen = list(Batches(images, labels, batch_size=4, seed=1))
        assert [len(batch) for _, batch in seen] == [4, 4, 2]
        order = torch.cat([batch for _, batch in seen])
        assert sorted(order.tolist()) == list(range(10)) and order.tolist() != list(range(10))
        assert torch.equal(torch.cat([batch for batch, _ in seen]), images[order])

    def test_new_order_in_every_epoch(self):
        batches = Batches(*numbers(50), batch_size=50, seed=0)
        orders = [tuple(labels_of(batches)[0]) for _ in range(5)]
        assert len(set(orders)) == 5

    def test_seed_decides_and_nothing_else(self):
        torch.manual_seed(1)
        first = labels_of(Batches(*numbers(), batch_size=4, seed=7))
        torch.manual_seed(2)
        assert labels_of(Batches(*numbers(), batch_size=4, seed=7)) == first
        assert labels_of(Batches(*numbers(), batch_size=4, seed=8)) != first

    def test_global_generator_is_left_alone(self):
        before = torch.get_rng_state()
        labels_of(Batches(*numbers(), batch_size=4, transform=noisy))
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize(
        "count, drop_last, sizes", [(10, False, [4, 4, 2]), (10, True, [4, 4]), (8, True, [4, 4]), (8, False, [4, 4])]
    )
    def test_length(self, count, drop_last, sizes):
        batches = Batches(*numbers(count), batch_size=4, drop_last=drop_last)
        assert [len(batch) for batch in labels_of(batches)] == sizes
        assert len(batches) == len(sizes)

    def test_in_order_it_is_a_dataloader(self):
        loader = DataLoader(TensorDataset(*numbers()), batch_size=4)
        for ours, theirs in zip(Batches(*numbers(), batch_size=4, shuffle=False), loader, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))

    def test_any_number_of_tensors(self):
        (only,) = next(iter(Batches(torch.arange(3), batch_size=3, shuffle=False)))
        assert only.tolist() == [0, 1, 2]
        assert len(next(iter(Batches(*numbers(), torch.zeros(10), batch_size=3)))) == 3

    def test_transform_gets_the_first_tensor_and_a_seeded_generator(self):
        images, labels = numbers()
        plain = torch.cat([batch for batch, _ in Batches(images, labels, batch_size=4, shuffle=False)])

        def once(seed):
            return torch.cat(
                [batch for batch, _ in Batches(images, labels, batch_size=4, shuffle=False, transform=noisy, seed=seed)]
            )

        assert torch.equal(once(1), once(1)) and not torch.equal(once(1), once(2))
        assert ((once(1) - plain) >= 0).all() and ((once(1) - plain) < 1).all()
        assert torch.equal(images, numbers()[0])  # the data themselves stay as they are

    @pytest.mark.parametrize("tensors", [(torch.zeros(3), torch.zeros(4)), ()])
    def test_tensors_that_do_not_belong_together(self, tensors):
        with pytest.raises(ValueError, match="length"):
            Batches(*tensors, batch_size=2)

    @pytest.mark.parametrize("count, batch_size, drop_last", [(3, 4, True), (0, 4, False), (3, 0, False), (3, -1, False)])
    def test_epoch_without_a_batch_is_refused(self, count, batch_size, drop_last):
        with pytest.raises(ValueError, match="no batch"):
            Batches(torch.zeros(count), batch_size=batch_size, drop_last=drop_last)


class TestByLength:
    LENGTHS = torch.randint(1, 200, (107,), generator=torch.Generator().manual_seed(0))

    def make(self, seed: int = 0) -> BatchesByLength:
        """Examples that are known by their numbers, ten in a batch."""

        def blur(lengths, noise):
            return lengths + 4 * noise

        return BatchesByLength(torch.arange(107), lengths=self.LENGTHS, blur=blur, batch_size=10, seed=seed)

    def test_every_example_once_and_neighbours_are_about_equally_long(self):
        seen = [numbers for (numbers,) in self.make()]
        assert sorted(torch.cat(seen).tolist()) == list(range(107)) and [len(one) for one in seen] == [10] * 10 + [7]
        spread = [int(self.LENGTHS[one].max() - self.LENGTHS[one].min()) for one in seen[:-1]]
        assert sum(spread) < 199 + 4 * 10  # of ten batches in random order: about 1,600
        middle = [self.LENGTHS[one].float().mean() for one in seen[:-1]]
        assert middle != sorted(middle)  # long and short batches come in turn

    def test_new_batches_in_every_epoch_and_the_same_for_a_seed(self):
        def epochs(batches):
            return [[sorted(numbers.tolist()) for (numbers,) in batches] for _ in range(2)]

        first, second = epochs(self.make())
        assert sorted(first) != sorted(second)  # not only their order
        assert epochs(self.make()) == [first, second] and epochs(self.make(seed=1)) != [first, second]

    def test_goes_on_where_it_was(self):
        one, other = self.make(), self.make(seed=5)
        reading = iter(one)
        next(reading), next(reading)
        other.load_state_dict(one.state_dict())
        assert [numbers.tolist() for (numbers,) in other] == [numbers.tolist() for (numbers,) in reading]


def test_pixels():
    for channels in (1, 3):
        levels = torch.tensor([0, 51, 255], dtype=torch.uint8)[:channels]
        pixels = to_pixels(levels.view(1, channels, 1, 1).expand(2, channels, 4, 4))
        assert pixels.dtype == torch.float32 and pixels.is_contiguous(memory_format=torch.channels_last)
        assert pixels[1, :, 2, 2].tolist() == pytest.approx([0, 0.2, 1][:channels])


class TestResume:
    @pytest.mark.parametrize("done", range(6))
    @pytest.mark.parametrize("through_a_file", [False, True])
    def test_goes_on_with_exactly_what_was_to_come(self, tmp_path, done, through_a_file):
        def make():
            return Batches(*numbers(), batch_size=2, transform=noisy, seed=3)

        straight = make()
        expected = [*straight, *straight]  # two epochs of five batches

        interrupted = make()
        iterator = iter(interrupted)
        for _ in range(done):
            next(iterator)
        state = interrupted.state_dict()
        if through_a_file:
            checkpoint.save(tmp_path / "state.pt", {"batches": state})
            state = checkpoint.load(tmp_path / "state.pt")["batches"]

        resumed = make()
        labels_of(resumed)  # whatever it did before
        resumed.load_state_dict(state)
        rest = [*resumed, *resumed]  # the rest of the first epoch (none, if it was done), and the second
        for ours, theirs in zip(rest, expected[done:], strict=True):
            assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])

    def test_state_between_epochs(self):
        batches = Batches(*numbers(), batch_size=2)
        labels_of(batches)
        state = batches.state_dict()
        expected = labels_of(batches)
        batches.load_state_dict(state)
        assert labels_of(batches) == expected

    def test_other_data_are_refused(self):
        batches = Batches(*numbers(10), batch_size=4)
        next(iterator := iter(batches))
        with pytest.raises(ValueError, match="10 examples, here are 12"):
            Batches(*numbers(12), batch_size=4).load_state_dict(batches.state_dict())
        del iterator


class TestLoopLeftEarly:
    def test_next_one_starts_afresh(self):
        batches = Batches(*numbers(), batch_size=2)
        for _ in batches:
            break
        assert sorted(sum(labels_of(batches), [])) == list(range(10))
        assert batches.state_dict()["position"] == 0

    def test_forgotten_loop_does_not_disturb_the_next_one(self):
        """An exception's traceback keeps the loop that it left alive, in a notebook until the next exception."""
        batches = Batches(*numbers(), batch_size=2)
        forgotten = iter(batches)
        next(forgotten)
        seen = []
        for i, (_, labels) in enumerate(batches):
            seen += labels.tolist()
            if i == 1:
                del forgotten
                gc.collect()
        assert sorted(seen) == list(range(10))

    def test_two_loops_at_once(self):
        batches = Batches(*numbers(), batch_size=2)
        pairs = [(a.tolist(), b.tolist()) for (_, a), (_, b) in zip(batches, batches, strict=True)]
        for side in zip(*pairs, strict=True):
            assert sorted(sum(side, [])) == list(range(10))
