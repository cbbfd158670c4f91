"""The diffusion process: formulas against simulation and Bayes, and a way back that needs its noise."""

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def process():
    return lesson("06_advanced/diffusion_process")


@pytest.fixture(scope="module")
def left(process):
    return process.signal_left("cosine", 50)


@pytest.fixture(scope="module")
def pictures(process):
    """Sixteen numbers that depend on four others, so that there is a covariance to be known."""
    return process.normal(300, 4, seed=0) @ process.normal(4, 16, seed=1) / 2


class TestSchedule:
    @pytest.mark.parametrize("schedule", ["cosine", "linear"])
    def test_signal_only_falls(self, process, schedule):
        left = process.signal_left(schedule, 60)
        assert left.shape == (61,) and left.dtype == torch.float64
        assert left[0] == 1 and 0 < left[-1] < 1e-3
        assert (left.diff() < 0).all()

    def test_linear_is_that_of_ddpm(self, process):
        beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        torch.testing.assert_close(process.signal_left("linear", 1000)[1:], (1 - beta).cumprod(0))

    def test_cosine_keeps_half_in_the_middle(self, process):
        assert process.signal_left("cosine", 100)[50].item() == pytest.approx(0.5, abs=0.02)
        assert process.signal_left("linear", 100)[50].item() < 0.1

    @pytest.mark.parametrize("schedule", ["cosine", "linear"])
    def test_steps_end_where_the_closed_form_does(self, process, schedule):
        assert process.compare_forward(process.signal_left(schedule, 50), start=2.0, draws=20_000, seed=3) < 0.04


class TestStepBack:
    @pytest.mark.parametrize("t", [2, 10, 25, 49, 50])
    def test_is_bayes_rule(self, process, left, t):
        assert process.compare_bayes(left, t, start=0.8, now=-0.3) < 1e-9

    def test_first_step_back_knows(self, process, left):
        mean, variance = process.step_back(0.8, -0.3, left, 1)
        assert mean.item() == pytest.approx(0.8) and variance.item() == 0

    def test_variance_is_below_that_of_the_step_forward(self, process, left):
        for t in range(1, 51):
            assert process.step_back(0.0, 0.0, left, t)[1] < 1 - left[t] / left[t - 1]


def test_error_is_the_one_that_is_told(process, left):
    assert process.meet_error(left).startswith("tensors used as indices must be long")


class TestWayBack:
    def test_one_normal_distribution(self, process, left):
        """A hill alone: the guess is linear, and mean and deviation come back."""
        noise = process.normal(4000, 1, seed=0)

        def denoise(x, t):
            share = left[t]
            return 3 + share.sqrt() * 0.25 / (share * 0.25 + 1 - share) * (x - share.sqrt() * 3)

        seen = process.walk_back(denoise, noise, left, seed=1, kind="step")
        assert len(seen) == 51 and torch.equal(seen[0], noise)
        assert seen[-1].mean().item() == pytest.approx(3, abs=0.05)
        assert seen[-1].std().item() == pytest.approx(0.5, abs=0.03)

    @pytest.mark.parametrize("kind", ["posterior", "step", "none"])
    def test_last_step_is_the_guess_and_adds_no_noise(self, process, left, kind):
        seen = process.walk_back(lambda x, t: x / 2, process.normal(5, 1, seed=0), left, seed=1, kind=kind)
        torch.testing.assert_close(seen[-1], seen[-2] / 2)

    def test_guess_is_the_mean_of_what_may_have_been(self, process, left):
        """E[start | x] by brute force: many starts, those that end up near x."""
        start, t = process.draw_hills(400_000, seed=0), 15
        x = left[t].sqrt() * start + (1 - left[t]).sqrt() * process.normal(400_000, 1, seed=1)
        denoise = process.hills_denoiser(left)
        for place in (-1.0, 0.2, 0.9):
            near = (x - place).abs() < 0.02
            guess = denoise(torch.tensor([[place]], dtype=torch.float64), t).item()
            assert guess == pytest.approx(start[near].mean().item(), abs=0.05)

    def test_noise_on_the_way_is_needed(self, process):
        found = process.compare_kinds((50,), count=3000, seed=2)
        assert found["posterior", 50] < 0.1 and found["step", 50] < 0.1
        assert found["none", 50] > 0.5 and found["real", 0] < 0.1


class TestDigits:
    def test_linear_is_the_best_for_normal_pictures(self, process, pictures, left):
        values, share = torch.linalg.eigvalsh(pictures.T.cov()).clamp(min=0), left[1:, None]
        expected = (share * values / (share * values + 1 - share)).mean(dim=1)
        found = process.losses_by_time(process.linear_denoiser(pictures, left), pictures, left, seed=4)
        torch.testing.assert_close(found, expected, rtol=0.2, atol=0.01)

    def test_memory_makes_copies(self, process, pictures, left):
        def memory(x, t):
            return process.recall_pictures(x, t, pictures, left)

        made = process.walk_back(memory, process.normal(40, 16, seed=5), left, seed=6)[-1]
        nearest = torch.cdist(made, pictures).min(dim=1)
        assert nearest.values.max() < 1e-5 and len(nearest.indices.unique()) > 20
        seen, new = pictures[:150], process.normal(150, 4, seed=7) @ process.normal(4, 16, seed=1) / 2
        losses = [process.losses_by_time(memory, part, left, seed=8).mean() for part in (seen, new)]
        assert losses[0] < losses[1]  # knowing pictures by heart helps with those only


class TestMain:
    def test_keeps_its_promise(self, process):
        results = process.main(timesteps=20, numbers=1000, source="sample", seed=1)
        assert results["nearest_memory"] < 1e-4 < 1 < results["nearest_new_digits"] < results["nearest_linear"]
        assert results["loss_zero"] == 1 and results["loss_linear"] < min(0.2, results["loss_memory"])
        for name in ("forward", "back", "denoisers"):
            assert (paths.outputs("diffusion_process") / f"{name}.png").exists()

    def test_check_notices_wrong_flags(self, process):
        with pytest.raises(LessonError, match="--timesteps 2"):
            process.main(timesteps=2, numbers=1000, source="sample", seed=0)
        with pytest.raises(LessonError, match="--numbers 5"):
            process.main(timesteps=20, numbers=5, source="sample", seed=0)
