"""Mode collapse: modes are counted right, penalties are exact where the answer is known, and every step is the formula's."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson
from torch import nn

from utils import paths
from utils.lesson import LessonError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def collapse():
    return lesson("06_advanced/mode_collapse")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestModes:
    def test_centres(self, collapse):
        centres = collapse.centres()
        assert centres.shape == (8, 2)
        torch.testing.assert_close(centres.norm(dim=1), torch.full((8,), 2.0))
        torch.testing.assert_close(centres[2], torch.tensor([0.0, 2.0]), atol=1e-6, rtol=0)

    def test_counting(self, collapse):
        assert collapse.count_modes(collapse.ring(2000, generator())) == (8, pytest.approx(1, abs=0.005))
        centres = collapse.centres()
        one, three = centres[:1].repeat(100, 1), centres[[0, 3, 5]].repeat(100, 1)
        assert collapse.count_modes(one) == (1, 1) and collapse.count_modes(three) == (3, 1)
        assert collapse.count_modes(torch.cat([one, torch.zeros(100, 2)])) == (1, 0.5)
        near = 4 * collapse.SPREAD
        assert collapse.count_modes(one + torch.tensor([0.9 * near, 0])) == (1, 1)
        assert collapse.count_modes(one + torch.tensor([1.1 * near, 0])) == (0, 0)

    def test_one_percent(self, collapse):
        points = collapse.centres()[[0] * 990 + [1] * 9 + [2]]
        assert collapse.count_modes(points) == (1, 1)
        assert collapse.count_modes(collapse.centres()[[0] * 990 + [1] * 10])[0] == 2


class TestPenalties:
    def test_slopes_of_a_linear_critic_are_its_weights_length(self, collapse):
        critic = nn.Linear(3, 1)
        found = collapse.slopes(critic, torch.randn(5, 3))
        torch.testing.assert_close(found, critic.weight.norm().expand(5), rtol=1e-6, atol=1e-6)
        real, fake = torch.randn(2, 7, 3)
        expected = (critic.weight.norm() - 1).square()
        torch.testing.assert_close(collapse.slope_penalty(critic, real, fake, generator()), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(collapse.r1_penalty(critic, real), critic.weight.square().sum() / 2, rtol=1e-5, atol=1e-6)

    def test_penalties_have_gradients(self, collapse):
        """Of (|w| - 1)² by w: 2 (|w| - 1) w / |w|; of |w|² / 2: w."""
        critic, (real, fake) = nn.Linear(3, 1), torch.randn(2, 7, 3)
        with torch.no_grad():
            critic.weight.copy_(torch.tensor([[2.0, 0.0, 0.0]]))
        for penalty, expected in (
            (collapse.slope_penalty(critic, real, fake, generator()), [[2.0, 0.0, 0.0]]),
            (collapse.r1_penalty(critic, real), [[2.0, 0.0, 0.0]]),
        ):
            (gradient,) = torch.autograd.grad(penalty, critic.weight)
            torch.testing.assert_close(gradient, torch.tensor(expected), rtol=1e-5, atol=1e-5)

    def test_where_slopes_are_taken(self, collapse):
        """WGAN-GP between real points and fakes, each between its own two; R1 at the real ones."""
        seen = []

        class Watching(nn.Module):
            def forward(self, x):
                seen.append(x.detach())
                return x.sum(dim=1, keepdim=True)

        real, fake = torch.zeros(500, 2), torch.ones(500, 2) * torch.tensor([1.0, 3.0])
        collapse.slope_penalty(Watching(), real, fake, generator())
        collapse.r1_penalty(Watching(), real)
        between, at = seen
        torch.testing.assert_close(between[:, 1], 3 * between[:, 0])
        assert 0 <= between.min() and between[:, 0].max() <= 1 and between[:, 0].std() > 0.2
        assert torch.equal(at, real)

    def test_slopes_that_are_only_limited(self, collapse):
        flat, steep = nn.Linear(2, 1), nn.Linear(2, 1)
        with torch.no_grad():
            flat.weight.copy_(torch.tensor([[0.3, 0.4]]))
            steep.weight.copy_(torch.tensor([[3.0, 4.0]]))
        found = [collapse.slope_penalty(critic, *torch.randn(2, 5, 2), generator(), least=0.0).item() for critic in (flat, steep)]
        assert found == pytest.approx([0, 16], abs=1e-4)

    def test_slope_of_zero(self, collapse):
        """The root of 0 has an infinite slope: NaN, if nothing is done about it."""
        critic = collapse.make_net(2, 1, 8)
        nn.init.zeros_(critic[4].weight)
        gradients = torch.autograd.grad(collapse.r1_penalty(critic, torch.randn(4, 2)), critic[4].weight)
        assert gradients[0].isfinite().all()

    def test_without_create_graph(self, collapse):
        message, share = collapse.forget_create_graph(seed=2)
        assert message.startswith("element 0 of tensors does not require grad") and share == 0


class TestGame:
    def test_losses(self, collapse):
        critic, (real, fake) = collapse.make_net(2, 1, 8), torch.randn(2, 20, 2)
        cross_entropy, outputs = F.binary_cross_entropy_with_logits, [critic(real), critic(fake)]
        plain = cross_entropy(outputs[0], torch.ones(20, 1)) + cross_entropy(outputs[1], torch.zeros(20, 1))
        expected = {
            "plain": plain,
            "R1": plain + 3 * collapse.r1_penalty(critic, real),
            "WGAN-GP": outputs[1].mean() - outputs[0].mean() + 3 * collapse.slope_penalty(critic, real, fake, generator()),
        }
        for kind, loss in expected.items():
            torch.testing.assert_close(collapse.critic_loss(kind, critic, real, fake, 3.0, generator()), loss)
        torch.testing.assert_close(collapse.generator_loss("R1", outputs[1]), cross_entropy(outputs[1], torch.ones(20, 1)))
        torch.testing.assert_close(collapse.generator_loss("WGAN-GP", outputs[1]), -outputs[1].mean())

    @pytest.mark.parametrize("kind", ["R1", "WGAN-GP"])
    def test_steps_are_the_formulas(self, collapse, kind):
        """Eight steps, written once more, with gradients that are asked for one by one."""
        counted, clouds = collapse.play(kind, 8, 1e-3, 3.0, 0.5, seed=4, device=CPU)
        torch.manual_seed(4)
        draw, nets = generator(4), (collapse.make_net(collapse.LATENT, 2, 64), collapse.make_net(2, 1, 64))
        optimizers = [
            torch.optim.Adam(net.parameters(), lr, betas=(0.5, 0.9)) for net, lr in zip(nets, (3e-3, 1e-3), strict=True)
        ]

        def step(which: int, loss: torch.Tensor) -> None:
            weights = list(nets[which].parameters())
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.grad = gradient
            optimizers[which].step()

        for _ in range(8):
            for _ in range({"R1": 1, "WGAN-GP": 4}[kind]):
                real, noise = collapse.ring(64, draw), torch.randn(64, collapse.LATENT, generator=draw)
                step(1, collapse.critic_loss(kind, nets[1], real, nets[0](noise).detach(), 0.5, draw))
            fake = nets[0](torch.randn(64, collapse.LATENT, generator=draw))
            step(0, collapse.generator_loss(kind, nets[1](fake)))
        assert [one[0] for one in counted] == list(range(1, 9)) and clouds.shape == (8, 500, 2)
        torch.testing.assert_close(clouds[-1], collapse.sample(nets[0], 500, 4), rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("kind", ["plain", "R1"])
    def test_finds_a_single_cluster(self, collapse, monkeypatch, kind):
        monkeypatch.setattr(collapse, "MODES", 1)  # at (2, 0)
        _, clouds = collapse.play(kind, 120, 3e-3, 1.0, 0.1, seed=0, device=CPU)
        torch.manual_seed(0)
        untrained = collapse.sample(collapse.make_net(collapse.LATENT, 2, 64), 500, 0)
        before, after = ((points.mean(dim=0) - collapse.centres()[0]).norm().item() for points in (untrained, clouds[-1]))
        assert after < 0.6 < 1.5 < before


class TestDistances:
    def test_exact(self, collapse):
        wasserstein = pytest.importorskip("scipy.stats").wasserstein_distance
        a, b = torch.randn(2, 50, 1, generator=generator(), dtype=torch.float64)
        assert collapse.exact_distance(a, 2 * b + 1) == pytest.approx(wasserstein(a.flatten(), 2 * b.flatten() + 1), rel=1e-9)
        assert collapse.exact_distance(a, a.flip(0)) == 0

    def test_critic_estimates_it(self, collapse):
        exact, guess, divergence = collapse.compare_distances((2.0,), steps=150, seed=1)[0]
        assert exact == pytest.approx(2, abs=0.05) and guess == pytest.approx(exact, rel=0.05)
        assert divergence == pytest.approx(math.log(2), abs=1e-4)

    def test_jensen_shannon(self, collapse):
        assert collapse.jensen_shannon(0.0) == pytest.approx(0, abs=1e-6)
        assert 0 < collapse.jensen_shannon(0.1) < collapse.jensen_shannon(0.2) < math.log(2)


class TestMain:
    def test_check_notices_games_that_teach_nothing(self, collapse, monkeypatch):
        monkeypatch.setattr(collapse, "compare_distances", lambda *_: [(1.0, 1.0, 0.7)] * 4)
        with pytest.raises(LessonError, match="more --steps"):
            collapse.main(steps=8, speed=4.0, seeds=1, lr=1e-3, device="cpu", seed=0)
        assert (paths.outputs("mode_collapse") / "collapse.png").exists()

    @pytest.mark.parametrize("flag", ["steps", "speed", "seeds", "lr"])
    def test_check_notices_wrong_flags(self, collapse, flag):
        with pytest.raises(LessonError, match=f"--{flag} 0"):
            collapse.main(**({"steps": 8, "speed": 4.0, "seeds": 1, "lr": 1e-3} | {flag: 0}), device="cpu", seed=0)

    @pytest.mark.slow  # the claim itself: nine games, 30 s
    def test_keeps_its_promise(self, collapse):
        results = collapse.main(steps=1000, speed=4.0, seeds=3, lr=2e-3, device="cpu", seed=10)
        assert results["modes_plain"] < 3 and min(results["least_r1"], results["least_wgan_gp"]) > 4
        assert max(results[f"critic_error_{shift}"] for shift in ("0.5", "1", "2", "4")) < 0.1
