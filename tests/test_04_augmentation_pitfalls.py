"""Augmentation pitfalls: one draw for all is found, digits change their label, and a leak promises what is not true."""

import pytest
import torch
from conftest import lesson

from utils.batches import Batches
from utils.datasets import Images, cifar10, mnist
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def pitfalls():
    return lesson("04_cnn/augmentation_pitfalls")


class TestDraws:
    def test_torchvision_flips_all_or_none_and_ours_about_half(self, pitfalls):
        images = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        state = torch.get_rng_state()
        counts = pitfalls.count_flips(images, batches=10, seed=0)
        assert torch.equal(state, torch.get_rng_state())
        assert set(counts["torchvision"]) == {0, 64}
        assert all(16 < count < 48 for count in counts["for each image"]) and len(set(counts["for each image"])) > 3

    def test_augment_flips_and_moves(self, pitfalls):
        images = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0)).repeat(300, 1, 1, 1)
        out = pitfalls.augment(images, torch.Generator().manual_seed(0))
        middle = images[0, :, 4:8, 4:8]  # stays inside whatever the move
        found = set()
        for picture in out:
            for mirrored, x in ((0, picture), (1, picture.flip(2))):
                places = [(i, j) for i in range(9) for j in range(9) if torch.equal(x[:, i : i + 4, j : j + 4], middle)]
                found |= {(mirrored, *place) for place in places}
        assert len(found) > 120  # of 2 x 81
        assert {m for m, _, _ in found} == {0, 1}
        assert {i for _, i, _ in found} == {j for _, _, j in found} == set(range(9))

    def test_repeatable_and_untouched(self, pitfalls):
        assert pitfalls.whose_numbers(torch.rand(8, 3, 32, 32), seed=0) == (True, True)
        one, other = (
            next(iter(Batches(torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)), batch_size=8,
                              transform=pitfalls.augment, seed=seed)))[0]
            for seed in (0, 1)
        )  # fmt: skip
        assert not torch.equal(one, other)

    def test_speed_is_a_ratio(self, pitfalls):
        assert pitfalls.compare_speed(torch.rand(256, 3, 32, 32)) > 0


class TestLabels:
    def test_turn_is_rot90(self, pitfalls):
        x = torch.rand(2, 1, 10, 10, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(pitfalls.turn(x, 90), x.rot90(1, dims=(2, 3)), atol=1e-4, rtol=0)
        torch.testing.assert_close(pitfalls.turn(x, 180), x.rot90(2, dims=(2, 3)), atol=1e-4, rtol=0)

    def test_digits_are_others_when_changed(self, pitfalls):
        digits = mnist("sample")
        answers = pitfalls.read_changed(digits.train, digits.test)
        same = {name: (answer == digits.test.labels).float().mean().item() for name, answer in answers.items()}
        assert same["as they are"] > 0.93
        assert 0.8 < same["turned by 15"] < same["as they are"]
        assert same["mirrored"] < 0.5 and same["turned by 180"] < 0.55
        assert (answers["turned by 180"][digits.test.labels == 6] == 9).float().mean() > 0.7


class TestLeak:
    def test_copies_stand_one_after_the_other(self, pitfalls):
        data = Images((torch.arange(3) * 50).to(torch.uint8).view(3, 1, 1, 1).expand(3, 3, 12, 12), torch.tensor([7, 8, 9]))
        copies = pitfalls.with_copies(data, 4, torch.Generator().manual_seed(0))
        assert copies.labels.tolist() == [7] * 4 + [8] * 4 + [9] * 4
        torch.testing.assert_close(copies.images[:, 0, 0, 0], (torch.arange(3) * 50 / 255).repeat_interleave(4))

    def test_splitting_too_late_promises_too_much(self, pitfalls):
        data = cifar10("sample")
        found = [pitfalls.compare_splits(data.train[s * 300 : s * 300 + 300], data.test[:500], 3, seed=s) for s in range(3)]
        mean = {name: sum(one[name] for one in found) / len(found) for name in found[0]}
        assert mean["promised_too_early"] > mean["true_too_early"] + 0.2
        assert abs(mean["promised_after_splitting"] - mean["true_after_splitting"]) < 0.12  # the sample's test set is harder
        assert abs(mean["true_too_early"] - mean["true_after_splitting"]) < 0.05


class TestMain:
    def test_promises_and_truth(self, pitfalls):
        results = pitfalls.main(copies=3, images=200, repeats=3, source="sample", seed=0)
        assert results["promised_too_early"] > results["true_too_early"] + 0.15
        assert results["read_as_they_are"] > 0.93 > 0.5 > results["read_mirrored"]
        assert results["six_read_as_nine"] > 0.7

    @pytest.mark.parametrize("wrong", [{"copies": 1}, {"repeats": 1}, {"images": 3}, {"images": 10**6}])
    def test_check_notices_wrong_numbers(self, pitfalls, wrong):
        with pytest.raises(LessonError, match=next(iter(wrong))):
            pitfalls.main(**{"copies": 2, "images": 40, "repeats": 2, "source": "sample", "seed": 0, **wrong})
