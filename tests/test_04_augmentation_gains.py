"""What augmentation buys: the recipes do what they say, flip, crop and colour help, upside down harms."""

import numpy as np
import pytest
import torch
from conftest import lesson

from utils.datasets import Images, cifar10
from utils.lesson import LessonError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def gains():
    return lesson("04_cnn/augmentation_gains")


@pytest.fixture
def batch():
    """Sixty-four images, each of a class of its own."""
    return torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.eye(64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestRecipes:
    def test_every_one_is_repeatable_and_of_its_own(self, gains, batch):
        for name, recipe in gains.RECIPES.items():
            for augment in recipe:
                state = torch.get_rng_state()
                (x, y), again, other = augment(*batch, seeded()), augment(*batch, seeded()), augment(*batch, seeded(1))
                assert torch.equal(state, torch.get_rng_state()), name
                assert x.shape == batch[0].shape and y.shape == batch[1].shape
                assert torch.equal(x, again[0]) and not torch.equal(x, other[0]), name
                assert 0 <= x.min() and x.max() <= 1
                torch.testing.assert_close(y.sum(dim=1), torch.ones(64))
                assert torch.equal(y, batch[1]) != (augment is gains.mixup)

    @pytest.mark.parametrize("axis", [2, 3])
    def test_flip_mirrors_about_half(self, gains, batch, axis):
        x, _ = gains.flip(*batch, seeded(), axis=axis)
        mirrored = [torch.equal(a, b.flip(axis - 1)) for a, b in zip(x, batch[0], strict=True)]
        same = [torch.equal(a, b) for a, b in zip(x, batch[0], strict=True)]
        assert sum(mirrored) + sum(same) == 64 and 16 < sum(mirrored) < 48

    def test_crop_moves_each_by_up_to_four_pixels(self, gains, batch):
        x, _ = gains.crop(*batch, seeded())
        found = set()
        for moved, image in zip(x, batch[0], strict=True):
            middle = image[:, 4:28, 4:28]
            places = [(i, j) for i in range(9) for j in range(9) if torch.equal(moved[:, i : i + 24, j : j + 24], middle)]
            assert len(places) == 1
            found |= set(places)
        assert {i for i, _ in found} == {j for _, j in found} == set(range(9))
        assert len(found) > 30  # of 81: down and right are drawn apart

    def test_colour_leaves_grey_grey_and_changes_its_brightness(self, gains):
        x, _ = gains.colour(torch.full((50, 3, 4, 4), 0.5), torch.eye(50), seeded())
        assert (x - x[:, :1]).abs().max() < 1e-6
        assert 0.3 <= x.min() and x.max() <= 0.7 and x[:, 0, 0, 0].std() > 0.05

    def test_cutout_paints_a_square_that_the_edge_may_cut(self, gains):
        x, _ = gains.cutout(torch.ones(300, 3, 32, 32), torch.eye(300), seeded())
        sizes = (x == 0.5).all(dim=1).sum(dim=(1, 2))
        assert sizes.max() == 121 and 36 <= sizes.min() < 60
        assert ((x == 0.5) | (x == 1)).all()

    def test_mixup_mixes_targets_in_the_shares_of_the_images(self, gains):
        images = torch.arange(64.0).view(64, 1, 1, 1).expand(64, 3, 2, 2) / 64
        x, y = gains.mixup(images, torch.eye(64), seeded())
        torch.testing.assert_close(x[:, 0, 0, 0], y @ images[:, 0, 0, 0])


class TestTraining:
    def test_probabilities_must_be_floats(self, gains):
        assert "floating point" in gains.forget_probabilities()

    def test_same_seed_same_network_and_other_seed_another(self, gains):
        few = Images(torch.randint(0, 256, (20, 3, 32, 32), generator=seeded()).byte(), torch.arange(20) % 4)
        a, b, c = (
            gains.train(few, [gains.flip, gains.mixup], classes=4, steps=4, lr=0.01, device=CPU, seed=seed) for seed in (0, 0, 1)
        )
        weights = [torch.cat([weight.flatten() for weight in model.parameters()]) for model in (a, b, c)]
        assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
        assert not a.training

    def test_learns_a_few_images_by_heart(self, gains):
        few = Images(torch.randint(0, 256, (32, 3, 32, 32), generator=seeded()).byte(), torch.arange(32) % 4)
        model = gains.train(few, [], classes=4, steps=60, lr=0.015, device=CPU, seed=0)
        assert gains.accuracy(model, few) > 0.9

    def test_reading_off(self, gains):
        assert gains.images_worth([100, 200, 400], [0.2, 0.3, 0.5], 0.3) == pytest.approx(200)
        assert gains.images_worth([100, 200, 400], [0.2, 0.3, 0.5], 0.4) == pytest.approx(np.sqrt(200 * 400))
        assert gains.images_worth([100, 200, 400], [0.2, 0.3, 0.5], 0.9) == pytest.approx(400)
        assert gains.images_worth([100, 200, 400], [0.2, 0.3, 0.5], 0.1) == pytest.approx(100)


class TestMain:
    def test_check_notices_a_network_that_does_not_learn(self, gains, monkeypatch):
        monkeypatch.setattr(gains, "RECIPES", {name: gains.RECIPES[name] for name in ("none", "these three")})
        with pytest.raises(LessonError, match="nearest mean"):
            gains.main(images=20, steps=10, lr=1e-9, seeds=2, source="sample", device="cpu", seed=0)

    @pytest.mark.parametrize("wrong", [{"images": 5}, {"images": 10**6}, {"steps": 1}, {"seeds": 1}])
    def test_check_notices_wrong_numbers(self, gains, wrong):
        with pytest.raises(LessonError, match=next(iter(wrong))):
            gains.main(**{"images": 20, "steps": 10, "lr": 0.01, "seeds": 2, "source": "sample", "device": "cpu", **wrong})

    @pytest.mark.slow  # 33 trainings: what the lesson claims, at the size at which it claims it
    def test_three_help_and_upside_down_harms(self, gains):
        results = gains.main(images=100, steps=360, lr=0.01, seeds=3, source="sample", device="cpu", seed=0)
        assert results["gain"] > max(0.04, results["gain_spread"])
        assert results["test_none"] > results["baseline"] > 0.1
        assert results["test_upside_down"] < results["test_none"] - 0.01
        assert results["training_none"] > 0.99 > results["training_these_three"] > results["training_all_five"] + 0.1
        assert results["test_400_images"] > results["test_200_images"] + 0.05 > results["test_none"] + 0.1
        assert 130 < results["worth"] < 400

    @pytest.mark.slow  # as above, on real images
    @pytest.mark.real_data("cifar10")
    def test_three_help_on_cifar10(self, gains):
        results = gains.main(images=100, steps=360, lr=0.01, seeds=3, source="real", device="cpu", seed=0)
        assert results["gain"] > max(0.01, results["gain_spread"])
        assert results["test_none"] > results["baseline"] > 0.1

    def test_augmentation_helps_on_few_images(self, gains):
        """The heart of it in four trainings: one seed alone says 0.04 or 0.10."""
        data = cifar10("sample")
        plans = {name: (100, gains.RECIPES[name]) for name in ("none", "these three")}
        found = gains.compare(data.train, data.test, plans, range(2), classes=10, steps=360, lr=0.01, device=CPU)
        (known, none), (_, three) = found["none"].mean(dim=0), found["these three"].mean(dim=0)
        assert known > 0.98
        assert three > none + 0.03 > 0.2
