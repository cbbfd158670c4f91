"""Diffusion models: the parts are what the formulas say, a small denoiser learns, and the whole beats what knows no shapes."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson
from torch import nn

from utils import paths
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def diffusion():
    return lesson("06_advanced/diffusion")


@pytest.fixture(scope="module")
def left(diffusion):
    return diffusion.signal_left(20)


@pytest.fixture(scope="module")
def bars():
    """Pictures (200, 1, 14, 14) with one bright bar at one of twelve heights: nothing that a covariance could tell well."""
    places = torch.randint(12, (200,), generator=torch.Generator().manual_seed(0))
    pictures = -torch.ones(200, 1, 14, 14)
    for picture, place in zip(pictures, places.tolist(), strict=True):
        picture[:, place : place + 2] = 1
    return pictures


@pytest.fixture(scope="module")
def trained(diffusion, bars, left):
    """A small network, the moving average of its weights, and what it was at first."""
    torch.manual_seed(0)
    model = diffusion.UNet(8)
    first = copy.deepcopy(model)
    return model, diffusion.train(bars, left, model, steps=120, lr=0.01, seed=0), first


class TestNoise:
    def test_schedule_falls_from_one_to_nothing(self, left):
        assert left.shape == (21,) and left[0] == 1 and 0 < left[-1] < 1e-3
        assert (left.diff() < 0).all()

    def test_variance_stays_and_signal_goes(self, diffusion, left):
        generator = torch.Generator().manual_seed(0)
        pictures, noise = torch.randn(2, 4000, 1, 2, 2, generator=generator)
        for t in (1, 10, 20):
            noisy = diffusion.add_noise(pictures, noise, left, torch.full((4000,), t))
            assert noisy.std().item() == pytest.approx(1, abs=0.02)
            assert (noisy * pictures).mean().item() == pytest.approx(left[t].sqrt().item(), abs=0.03)

    def test_every_picture_has_its_own_time(self, diffusion, left):
        noisy = diffusion.add_noise(torch.ones(3, 1, 2, 2), torch.zeros(3, 1, 2, 2), left, torch.tensor([0, 5, 20]))
        torch.testing.assert_close(noisy[:, 0, 0, 0], left[[0, 5, 20]].sqrt().float())

    def test_error_is_the_one_that_is_told(self, diffusion):
        message, silent = diffusion.meet_error()
        assert message.startswith("The size of tensor a (8) must match the size of tensor b (14)")
        assert silent == 1


class TestNetwork:
    def test_times_can_be_told_apart(self, diffusion):
        found = diffusion.time_embedding(torch.arange(1, 101), 32)
        assert found.shape == (100, 32)
        assert torch.pdist(found).min() > 0.1
        torch.testing.assert_close(found[:, 0], torch.arange(1, 101).float().cos())
        torch.testing.assert_close(found[:, 16], torch.arange(1, 101).float().sin())

    def test_begins_with_one_answer(self, diffusion):
        torch.manual_seed(0)
        out = diffusion.UNet(8)(torch.randn(3, 1, 14, 14), torch.tensor([1, 2, 3]))
        assert out.shape == (3, 1, 14, 14) and out.std() < 1e-6

    def test_hears_the_time(self, diffusion, trained, bars, left):
        """The same pixels, said to be less noisy than they are: another answer, and a worse one."""
        noise, t = torch.randn(bars.shape, generator=torch.Generator().manual_seed(1)), torch.full((200,), 14)
        noisy = diffusion.add_noise(bars, noise, left, t)
        with torch.no_grad():
            right, wrong = (F.mse_loss(trained[1](noisy, told), noise).item() for told in (t, t - 10))
        assert wrong > 1.5 * right


class TestAverage:
    def test_is_pytorchs(self, diffusion):
        assert diffusion.compare_average(50) < 1e-6

    def test_moves(self, diffusion):
        average, model = nn.Linear(2, 2), nn.Linear(2, 2)
        before = average.weight.clone()
        diffusion.average_weights(average, model, decay=0.75)
        torch.testing.assert_close(average.weight, 0.75 * before + 0.25 * model.weight)

    def test_forgets_the_first_weights(self, diffusion, trained):
        model, average, first = (torch.cat([one.flatten() for one in part.parameters()]) for part in trained)
        assert (average - model).norm() < 0.3 * (average - first).norm()


class TestTraining:
    def test_linear_loss_is_that_of_the_best_linear_denoiser(self, diffusion, bars, left):
        flat, generator = bars.flatten(1), torch.Generator().manual_seed(2)
        found = []
        for t in range(1, 21):
            noise = torch.randn(flat.shape, generator=generator)
            share = left[t].float()
            noisy = share.sqrt() * flat + (1 - share).sqrt() * noise
            covariance = share * flat.T.cov() + (1 - share) * torch.eye(196)
            guess = (1 - share).sqrt() * torch.linalg.solve(covariance, (noisy - share.sqrt() * flat.mean(dim=0)).T).T
            found.append(F.mse_loss(guess, noise))
        assert diffusion.linear_loss(bars, left) == pytest.approx(torch.stack(found).mean().item(), rel=0.05)

    def test_measure_loss(self, diffusion, bars, left):
        assert diffusion.measure_loss(lambda x, t: torch.zeros_like(x), bars, left, seed=0) == pytest.approx(1, abs=0.01)

        def knows(x, t):  # which bar it is, and so which noise
            share = left.float()[t].view(-1, 1, 1, 1)
            return (x - share.sqrt() * bars) / (1 - share).sqrt()

        assert diffusion.measure_loss(knows, bars, left, seed=0) < 1e-6

    def test_learns(self, diffusion, trained, bars, left):
        model, average, first = trained
        losses = [diffusion.measure_loss(one, bars[:100], left, seed=3) for one in (first, model, average)]
        assert losses[0] == pytest.approx(1, abs=0.02)
        assert max(losses[1:]) < 0.15


class TestSampling:
    def test_exact_guesses_give_the_distribution(self, diffusion):
        left = diffusion.signal_left(60)

        def denoise(x, t):
            share = left[t[0]].item()
            return (1 - share) ** 0.5 * (x - share**0.5 * 0.2) / (share * 0.09 + 1 - share)

        noise = torch.randn(400, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        seen = diffusion.sample(denoise, noise, left, seed=1)
        assert len(seen) == 61 and torch.equal(seen[0], noise)
        assert seen[-1].mean().item() == pytest.approx(0.2, abs=0.02)
        assert seen[-1].std().item() == pytest.approx(0.3, abs=0.03)

    def test_noise_comes_on_the_way_but_not_at_the_end(self, diffusion, left):
        noise = torch.randn(2, 1, 14, 14, generator=torch.Generator().manual_seed(0))
        one, other = (diffusion.sample(lambda x, t: 0.1 * x, noise, left, seed=seed) for seed in (1, 2))
        assert not torch.allclose(one[1], other[1], atol=0.01)
        clean = (one[-2] - (1 - left[1].item()) ** 0.5 * 0.1 * one[-2]) / left[1].item() ** 0.5
        torch.testing.assert_close(one[-1], clean.clamp(-1, 1))

    def test_samples_are_bars(self, diffusion, trained, left):
        noise = torch.randn(60, 1, 14, 14, generator=torch.Generator().manual_seed(4))
        made = diffusion.sample(trained[1], noise, left, seed=5)[-1][:, 0]
        assert made.abs().max() <= 1
        rows = (made > 0).float().mean(dim=2)  # of a bar, a row is bright or dark from end to end
        assert ((rows < 0.2) | (rows > 0.8)).float().mean() > 0.85
        assert len({tuple(row.round().tolist()) for row in rows}) > 5


def test_shrink(diffusion):
    images = torch.tensor([[0, 255], [255, 255]], dtype=torch.uint8).repeat(3, 1, 14, 14)
    torch.testing.assert_close(diffusion.shrink(images), torch.full((3, 1, 14, 14), 0.5))


class TestMain:
    def test_check_notices_a_network_that_does_not_learn(self, diffusion, monkeypatch):
        monkeypatch.setattr(diffusion, "UNet", partial(diffusion.UNet, width=4))
        monkeypatch.setattr("utils.sample_quality.JUDGE_STEPS", 2)
        with pytest.raises(LessonError, match="more --steps"):
            diffusion.main(steps=2, timesteps=8, lr=1e-9, source="sample", device="cpu", seed=0)
        assert (paths.outputs("diffusion") / "samples.png").exists()

    def test_check_notices_wrong_flags(self, diffusion):
        with pytest.raises(LessonError, match="--steps 0"):
            diffusion.main(steps=0, timesteps=8, lr=0.01, source="sample", device="cpu", seed=0)
        with pytest.raises(LessonError, match="--timesteps 1"):
            diffusion.main(steps=1, timesteps=1, lr=0.01, source="sample", device="cpu", seed=0)

    @pytest.mark.slow  # the claim itself: 700 steps and 300 samples, 30 s
    def test_keeps_its_promise(self, diffusion):
        results = diffusion.main(steps=700, timesteps=60, lr=4e-3, source="sample", device="cpu", seed=3)
        assert results["loss"] < 0.97 * results["loss_linear"]
        assert results["frechet_distance_real"] < results["frechet_distance"] < 0.75 * results["frechet_distance_Gaussian"]
        assert results["precision"] > results["precision_Gaussian"] + 0.05
        assert results["nearest_samples"] > results["nearest_new_digits"]  # no copies
