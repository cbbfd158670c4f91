"""The variational autoencoder: KL and gradients are exact, β trades rate for distortion, and what it draws are digits."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson

from utils import paths
from utils.datasets import mnist
from utils.lesson import LessonError
from utils.sample_quality import frechet_distance


@pytest.fixture(scope="module")
def vae():
    return lesson("06_advanced/vae")


@pytest.fixture(scope="module")
def digits():
    data = mnist("sample")
    return data.train.images.float() / 255, data.test.images.float() / 255


def spots(count: int, seed: int) -> torch.Tensor:
    """Pictures with one degree of freedom, which are quickly learned: a bright spot on half a circle."""
    angle = 3.1416 * torch.rand(count, 1, 1, 1, generator=torch.Generator().manual_seed(seed))
    row, column = torch.arange(28.0)[:, None], torch.arange(28.0)
    return torch.exp(-((row - 14 - 7 * angle.sin()) ** 2 + (column - 14 - 7 * angle.cos()) ** 2) / 60)


@pytest.fixture(scope="module")
def trained(vae):
    """Models of width 2 with β of 0.1, 2 and 784, and what was measured of them."""
    models = {}
    for beta in (0.1, 2.0, 784.0):
        models[beta] = vae.VAE(2, seed=0)
        models[beta].losses = vae.train(models[beta], spots(500, seed=0), beta=beta, steps=120, lr=0.003, seed=0)
        models[beta].found = vae.measure(models[beta], spots(200, seed=1), seed=0)
    return models


class TestReparameterization:
    def test_error_is_the_one_that_is_told(self, vae):
        assert vae.meet_error() == "element 0 of tensors does not require grad and does not have a grad_fn"

    def test_draws_what_it_should(self, vae):
        mean, log_variance = torch.tensor([3.0, -1.0]).expand(20_000, 2), torch.tensor([4.0, 0.25]).log().expand(20_000, 2)
        z = vae.reparameterize(mean, log_variance, torch.Generator().manual_seed(0))
        torch.testing.assert_close(z.mean(dim=0), torch.tensor([3.0, -1.0]), rtol=0, atol=0.05)
        torch.testing.assert_close(z.std(dim=0), torch.tensor([2.0, 0.5]), rtol=0.03, atol=0)

    def test_gradients_pass(self, vae):
        mean, log_variance = torch.zeros(50_000, requires_grad=True), torch.zeros(50_000, requires_grad=True)
        vae.reparameterize(mean, log_variance, torch.Generator().manual_seed(0)).square().sum().backward()
        assert mean.grad.mean().item() == pytest.approx(0, abs=0.03)
        assert log_variance.grad.mean().item() == pytest.approx(1, abs=0.03)  # E[z²] = e^(log variance)

    def test_both_ways_agree_one_is_quieter(self, vae):
        found = vae.compare_gradients(40_000, seed=3)
        assert found["through"] == pytest.approx(3, abs=0.05) and found["score"] == pytest.approx(3, abs=0.2)
        assert found["score_spread"] > 2 * found["through_spread"]


class TestKl:
    def test_is_pytorchs_and_what_draws_say(self, vae):
        found = vae.compare_kl(seed=1)
        assert found["kl_difference"] < 1e-12 and 0.5 < found["kl_monte_carlo"] < 1.5

    def test_known_values(self, vae):
        kl = vae.kl_from_standard(torch.tensor([0.0, 2.0]), torch.zeros(2))
        assert kl.tolist() == [0, 2]
        assert vae.kl_from_standard(torch.zeros(1), torch.tensor([2.0])).item() == pytest.approx((math.e**2 - 3) / 2)


class TestBound:
    def test_parts(self, vae, digits):
        model, x = vae.VAE(3, seed=1), digits[1][:5]
        distortion, rate = vae.bound(model, x, torch.Generator().manual_seed(0))
        assert distortion.shape == (5,) and rate.shape == (5, 3) and (rate >= 0).all()
        codes = vae.reparameterize(*model.encode(x), torch.Generator().manual_seed(0))
        pictures = model.draw(codes)
        expected = F.binary_cross_entropy(pictures, x, reduction="none").sum(dim=(1, 2, 3))
        torch.testing.assert_close(distortion.detach(), expected, rtol=1e-4, atol=1e-3)

    def test_is_below_the_likelihood(self, vae):
        """A model of width 1: ln p(x) by summing over a fine grid of codes, the ELBO by many draws."""
        torch.manual_seed(0)
        model, x = vae.VAE(1, seed=2), (torch.rand(1, 1, 28, 28) > 0.5).float()
        for parameter in model.decoder.parameters():
            parameter.data *= 1.5  # so that the code matters
        grid = torch.linspace(-8, 8, 2001)[:, None]
        logits = model.decoder(grid).flatten(1)
        likelihood = -F.binary_cross_entropy_with_logits(logits, x.flatten(1).expand_as(logits), reduction="none").sum(dim=1)
        prior = -(grid[:, 0] ** 2) / 2 - math.log(2 * math.pi) / 2
        evidence = torch.logsumexp(likelihood + prior, dim=0) + math.log(16 / 2000)
        distortion, rate = vae.bound(model, x.expand(2000, -1, -1, -1), torch.Generator().manual_seed(0))
        elbo = -(distortion + rate.sum(dim=1)).mean()
        assert elbo < evidence
        mean, log_variance = (one.item() for one in model.encode(x))
        log_q = -((grid[:, 0] - mean) ** 2) / (2 * math.exp(log_variance)) - (log_variance + math.log(2 * math.pi)) / 2
        log_posterior = likelihood + prior - evidence
        gap = (log_q.exp() * (log_q - log_posterior)).sum() * 16 / 2000  # KL(q || posterior): exactly what is missing
        torch.testing.assert_close(evidence - elbo, gap, rtol=0.1, atol=0.05)


class TestTraining:
    def test_beta_buys_rate_with_distortion(self, trained):
        low, high, none = (trained[beta].found for beta in (0.1, 2.0, 784.0))
        assert low["rate"] > high["rate"] + 2 > none["rate"] + 3
        assert low["distortion"] < high["distortion"] < none["distortion"]
        assert low["error"] < high["error"] < none["error"]

    def test_averaging_over_pixels_collapses(self, vae, trained):
        collapsed = trained[784.0]
        assert collapsed.found["used"] == 0 and collapsed.found["rate"] < 0.1
        drawn = vae.draw_codes(collapsed, 50, seed=0, device="cpu")
        assert drawn.std(dim=0).mean() < 0.1 * spots(200, seed=1).std(dim=0).mean()  # one picture for all codes
        assert trained[0.1].found["used"] == 2

    def test_restores(self, vae, trained):
        known, test = spots(500, seed=0), spots(200, seed=1)
        assert trained[0.1].found["error"] < 0.1 * F.mse_loss(known.mean(dim=0).expand_as(test), test).item()
        assert trained[2.0].found["distortion"] < vae.nats_without_code(known, test) - 50
        assert trained[784.0].found["distortion"] == pytest.approx(vae.nats_without_code(known, test), abs=3)
        assert sum(trained[0.1].losses[-10:]) < 0.7 * sum(trained[0.1].losses[:10])

    def test_draws_what_it_learned(self, vae, trained):
        drawn = vae.draw_codes(trained[2.0], 300, seed=0, device="cpu")
        assert drawn.shape == (300, 1, 28, 28) and 0 <= drawn.min() and drawn.max() <= 1
        assert torch.equal(drawn, vae.draw_codes(trained[2.0], 300, seed=0, device="cpu"))
        others = vae.draw_codes(trained[784.0], 300, seed=0, device="cpu")
        small = [F.avg_pool2d(x, 4).flatten(1) for x in (spots(300, seed=0), drawn, others)]
        assert frechet_distance(small[0], small[1]) < 0.3 * frechet_distance(small[0], small[2])

    def test_pca_error(self, vae, digits):
        errors = [vae.pca_error(digits[0], digits[1], width) for width in (1, 8, 60)]
        assert errors == sorted(errors, reverse=True) and errors[1] == pytest.approx(0.0061, abs=5e-4) and errors[2] < 1e-4


class TestWalks:
    def test_one_number_at_a_time(self, vae, trained):
        grid = vae.walk(trained[0.1], spots(200, seed=1), rows=6, columns=5)
        assert grid.shape == (2, 5, 28, 28)  # no more rows than numbers
        torch.testing.assert_close(grid[0, 2], grid[1, 2])  # in the middle all numbers are 0
        assert (grid[0, 0] - grid[0, 4]).abs().mean() > 0.02

    def test_from_one_to_another(self, vae, trained):
        model, x = trained[0.1], spots(6, seed=2)
        path = vae.interpolate(model, x[:3], x[3:], columns=7)
        assert path.shape == (3, 7, 28, 28)
        torch.testing.assert_close(path[:, :1], model.draw(model.encode(x[:3])[0]))
        torch.testing.assert_close(path[:, -1:], model.draw(model.encode(x[3:])[0]))


class TestMain:
    @pytest.fixture
    def quick(self, vae, monkeypatch):
        """A judge that looks at 49 mean values: a trained one takes 5 s."""

        class Judge:
            def features(self, images):
                return F.avg_pool2d(images, 4).flatten(1)

        monkeypatch.setattr(vae, "train_judge", lambda *_: Judge())
        return vae

    def test_check_notices_networks_that_do_not_learn(self, quick, monkeypatch):
        seen, measure = {}, quick.measure
        monkeypatch.setattr(quick, "train", lambda model, images, *_: seen.update(known=images))
        monkeypatch.setattr(quick, "measure", lambda model, test, seed: seen.update(test=test) or measure(model, test, seed))
        with pytest.raises(LessonError, match="more --steps"):
            quick.main(width=4, betas=(1.0,), steps=1, seeds=1, lr=0.003, source="sample", device="cpu", seed=0)
        assert torch.cdist(seen["test"].flatten(1), seen["known"].flatten(1)).min() > 0.1, "measured on what it learned from"
        for name in ("samples", "walk", "interpolation"):
            assert (paths.outputs("vae") / f"{name}.png").exists()

    @pytest.mark.parametrize("wrong", [{"width": 0}, {"steps": 0}, {"seeds": 0}, {"lr": 0.0}, {"betas": (-1.0,)}])
    def test_check_notices_wrong_flags(self, vae, wrong):
        settings = {"width": 4, "betas": (1.0,), "steps": 1, "seeds": 1, "lr": 0.003} | wrong
        with pytest.raises(LessonError, match="--width|negative"):
            vae.main(**settings, source="sample", device="cpu", seed=0)

    @pytest.mark.slow  # the claim itself: a judge and four networks, 25 s
    def test_keeps_its_promise(self, vae):
        results = vae.main(width=4, betas=(784.0,), steps=700, seeds=3, lr=0.003, source="sample", device="cpu", seed=5)
        assert results["error"] < 0.97 * results["pca_error"]
        assert results["distortion_beta_1"] + results["rate_beta_1"] < results["nats_without_code"] - 12
        assert results["used_beta_784"] == 0

    @pytest.mark.real_data("mnist")
    @pytest.mark.slow  # the same on 60,000 real digits
    def test_on_real_digits(self, vae):
        results = vae.main(width=4, betas=(1.0,), steps=700, seeds=1, lr=0.003, source="real", device="cpu", seed=5)
        assert results["error"] < 0.95 * results["pca_error"]
        assert results["frechet"] < 0.85 * results["frechet_normal"]
