"""GAN: every step of the game is the one that the formulas say, and what it draws comes closer to the real pictures."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson
from torch import nn
from torch.nn.utils import parametrizations

from utils import paths
from utils.datasets import mnist
from utils.lesson import LessonError
from utils.sample_quality import frechet_distance


@pytest.fixture(scope="module")
def gan():
    return lesson("06_advanced/gan")


@pytest.fixture(scope="module")
def digits():
    """Digits of half size, (n, 1, 14, 14) in -1..1."""
    return F.avg_pool2d(mnist("sample").train.images.float(), 2) / 127.5 - 1


def players(gan, sharpness: float, width: int = 8, seed: int = 0) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(seed)
    return gan.make_generator(width), gan.Discriminator(width, sharpness)


class TestLosses:
    def test_slopes(self, gan):
        """-p for log(1 - p), and p - 1 for -log p, by the logit."""
        logits = torch.tensor([-8.0, -1.0, 0.0, 3.0])
        saturating, non_saturating = gan.generator_slopes(logits)
        torch.testing.assert_close(saturating, -logits.sigmoid())
        torch.testing.assert_close(non_saturating, logits.sigmoid() - 1)

    def test_are_cross_entropies(self, gan):
        real, fake = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
        cross_entropy = F.binary_cross_entropy_with_logits
        expected = cross_entropy(real, torch.ones(9)) + cross_entropy(fake, torch.zeros(9))
        torch.testing.assert_close(gan.discriminator_loss(real, fake), expected)
        torch.testing.assert_close(gan.generator_loss(fake), cross_entropy(fake, torch.ones(9)))

    def test_without_detach(self, gan):
        """At first p = 1/2 everywhere: what the discriminator's loss leaves in the generator cancels what is wanted."""
        message, share = gan.forget_detach(seed=1)
        assert message.startswith("Trying to backward through the graph a second time")
        assert 0 < share < 0.3


class TestSpectralNorm:
    def test_is_pytorchs_and_the_svds(self, gan):
        outputs, gradients, largest = gan.compare_norms(seed=3)
        assert outputs < 1e-6 and gradients < 1e-6 and largest < 1e-5

    @pytest.mark.parametrize("layer", [nn.Linear(5, 3), nn.Conv2d(2, 4, 3)], ids=["linear", "convolution"])
    def test_eval_mode_changes_nothing(self, gan, layer):
        layer = gan.normalise(layer).eval()
        norm = layer.parametrizations.weight[0]
        norm.v = F.normalize(torch.ones_like(norm.v), dim=0)  # far from where power iteration would end
        before = norm.u.clone()
        assert torch.equal(layer.weight, layer.weight) and torch.equal(norm.u, before)
        layer.train().weight  # noqa: B018  (looking at it is what counts)
        assert not torch.equal(norm.u, before)

    def test_scaling_the_weight_changes_nothing(self, gan):
        layer = gan.normalise(nn.Linear(6, 4))
        weight = layer.eval().weight.detach().clone()
        with torch.no_grad():
            layer.parametrizations.weight.original.mul_(7)
        torch.testing.assert_close(layer.weight, weight)


class TestPlayers:
    def test_shapes(self, gan):
        generator, discriminator = players(gan, sharpness=2.0)
        drawn = generator(torch.randn(5, gan.LATENT))
        assert drawn.shape == (5, 1, 14, 14) and drawn.abs().max() <= 1
        assert discriminator(drawn).shape == (5,)

    def test_sharpness(self, gan):
        """It multiplies logits; with 0 the layers are as they were."""
        x = torch.randn(4, 1, 14, 14)
        one, five = (players(gan, sharpness)[1].eval() for sharpness in (1.0, 5.0))
        torch.testing.assert_close(five(x), 5 * one(x))
        assert not any(nn.utils.parametrize.is_parametrized(layer) for layer in players(gan, 0.0)[1].modules())


class TestGame:
    @pytest.mark.parametrize("sharpness", [0.0, 3.0], ids=["plain", "spectral"])
    def test_steps_are_the_formulas(self, gan, digits, sharpness):
        """Three steps, written once more, with gradients that are asked for one by one and PyTorch's spectral norm."""
        generator, discriminator = players(gan, sharpness)
        own, other = copy.deepcopy(generator), copy.deepcopy(discriminator)
        average, seen, losses = gan.play((own, other), digits, [1, 3], 0.01, seed=5, keep=0.5)
        for layer in [layer for layer in discriminator.body if sharpness and isinstance(layer, (nn.Conv2d, nn.Linear))]:
            u, v = (vector.clone() for vector in layer.parametrizations.weight[0].buffers())
            nn.utils.parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
            parametrizations.spectral_norm(layer)
            layer.parametrizations.weight[0]._u.copy_(u)
            layer.parametrizations.weight[0]._v.copy_(v)
        draw = torch.Generator().manual_seed(5)
        optimizers = [
            torch.optim.Adam(net.parameters(), lr, betas=(0.5, 0.999)) for net, lr in ((generator, 0.005), (discriminator, 0.01))
        ]
        torch.randn(10, gan.LATENT, generator=draw)

        def step(which: int, loss: torch.Tensor) -> float:
            weights = list((generator, discriminator)[which].parameters())
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.grad = gradient
            optimizers[which].step()
            return loss.item()

        for number in range(3):
            real = digits[torch.randint(len(digits), (64,), generator=draw)]
            fake = generator(torch.randn(64, gan.LATENT, generator=draw))
            first = step(1, F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake.detach())).mean())
            second = step(0, F.softplus(-discriminator(fake)).mean())
            torch.testing.assert_close(losses[number], torch.tensor([first, second]), rtol=1e-4, atol=1e-5)
        for found, expected in zip(own.parameters(), generator.parameters(), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-4)
        assert len(seen) == 2 and seen[1].shape == (10, 1, 14, 14) and len(losses) == 3
        assert not average.training

    def test_average(self, gan, digits):
        """With nothing kept it is the generator itself; with half of it, after two steps, half of the last and of the first."""
        averages = {}
        for keep in (0.0, 0.05):
            generator, discriminator = players(gan, 0.0)
            states = [copy.deepcopy(generator.state_dict())]
            averages[keep] = gan.play((generator, discriminator), digits, [1], 0.01, seed=0, keep=keep)[0].state_dict()
            states.append(generator.state_dict())
            for name, tensor in averages[keep].items():
                expected = torch.lerp(*(state[name].float() for state in states), 1 - keep) if keep else states[1][name]
                if tensor.is_floating_point():
                    torch.testing.assert_close(tensor, expected)
                else:
                    assert torch.equal(tensor, states[1][name])

    def test_comes_closer_to_the_digits(self, gan, digits):
        """In the pixels, halved once more: from an untrained generator far below half the distance."""

        def distance(pictures: torch.Tensor) -> float:
            return frechet_distance(*(F.avg_pool2d(part, 2).flatten(1) for part in (digits, pictures)))

        generator, discriminator = players(gan, 5.0, width=16)
        before = distance(gan.draw_pictures(generator, 300, seed=1))
        average, _, losses = gan.play((generator.train(), discriminator), digits, [80], 4e-3, seed=0)
        after = distance(gan.draw_pictures(average, 300, seed=1))
        assert after < before / 4
        assert losses.isfinite().all()


class TestQuality:
    def test_measure_knows_copies(self, gan):
        class Pixels:
            def features(self, images):
                return images.flatten(1)

        real = torch.rand(300, 16, generator=torch.Generator().manual_seed(0))
        new = torch.rand(100, 1, 4, 4, generator=torch.Generator().manual_seed(1))
        copies, fresh = (gan.measure(Pixels(), real, images) for images in (real[:100].view(-1, 1, 4, 4), new))
        assert copies["nearest"] < 1e-2 < fresh["nearest"]  # cdist by a matrix product leaves a rounding error
        assert copies["precision"] > 0.8 and copies["frechet"] < fresh["frechet"]
        assert set(copies) == {"frechet", "precision", "recall", "nearest"}


class TestMain:
    @pytest.fixture
    def quick(self, gan, monkeypatch):
        monkeypatch.setattr("utils.sample_quality.JUDGE_STEPS", 6)
        return gan

    def test_check_notices_players_that_do_not_learn(self, quick):
        with pytest.raises(LessonError, match="more --steps"):
            quick.main(steps=2, sharpness=5.0, lr=4e-3, source="sample", device="cpu", seed=0)
        assert (paths.outputs("gan") / "samples.png").exists()

    @pytest.mark.parametrize("flag", ["steps", "sharpness", "lr"])
    def test_check_notices_wrong_flags(self, gan, flag):
        flags = {"steps": 2, "sharpness": 5.0, "lr": 4e-3} | {flag: 0}
        with pytest.raises(LessonError, match=f"--{flag} 0"):
            gan.main(**flags, source="sample", device="cpu", seed=0)

    @pytest.mark.slow  # the claim itself: two games of 1,000 steps and a judge, 40 s
    def test_keeps_its_promise(self, gan):
        results = gan.main(steps=1000, sharpness=5.0, lr=4e-3, source="sample", device="cpu", seed=3)
        assert results["frechet_spectral"] < 0.8 * results["frechet_gaussian"]
        assert results["nearest_spectral"] > results["nearest_held_out"]
        assert all(math.isfinite(value) for value in results.values())
