"""Guided diffusion: DDIM has DDPM in it, one network answers with and without labels, and guidance costs variety."""

from functools import partial

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def guided():
    return lesson("06_advanced/guided_diffusion")


@pytest.fixture(scope="module")
def left(guided):
    return guided.signal_left(50)


@pytest.fixture(scope="module")
def plates():
    """Pictures (200, 1, 14, 14) of one grey: label 0 dark, label 1 bright, no two alike."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (200,), generator=generator)
    grey = 1.2 * labels - 0.6 + 0.2 * torch.randn(200, generator=generator)
    return grey.clamp(-1, 1).view(-1, 1, 1, 1).expand(-1, 1, 14, 14).contiguous(), labels


def train(guided, plates, left, drop, steps):
    torch.manual_seed(0)
    model = guided.UNet(8)
    guided.train(*plates, left, model, steps=steps, drop=drop, lr=0.01, seed=0)
    return model


@pytest.fixture(scope="module")
def trained(guided, plates, left):
    return train(guided, plates, left, drop=0.3, steps=120)


class TestNetwork:
    def test_hears_time_and_label(self, guided, trained):
        x = torch.randn(4, 1, 14, 14, generator=torch.Generator().manual_seed(0))
        outs = [
            trained(x, torch.full((4,), t), torch.full((4,), kind)) for t, kind in ((30, 0), (30, 1), (30, guided.NONE), (9, 0))
        ]
        assert outs[0].shape == x.shape
        for i, one in enumerate(outs):
            assert all((one - other).abs().max() > 0.02 for other in outs[:i])

    def test_error_is_the_one_that_is_told(self, guided):
        assert guided.meet_error() == "index out of range in self"


class TestSteps:
    def test_schedule_falls(self, left):
        assert left.shape == (51,) and left[0] == 1 and 0 < left[-1] < 1e-3 and (left.diff() < 0).all()

    def test_eta_1_is_ddpm(self, guided, left):
        assert guided.compare_ddpm(left) < 1e-12

    @pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
    def test_noise_has_the_strength_it_should(self, guided, eta):
        """From the right amount of noise to the right amount, for any jump, if the guess is right."""
        noise, more = torch.randn(2, 100_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        clean = torch.full_like(noise, 0.7)
        mean, deviation = guided.step(0.2**0.5 * clean + 0.8**0.5 * noise, clean, 0.2, 0.9, eta)
        assert (deviation > 0) == (eta > 0)
        there = mean + deviation * more
        assert there.mean().item() == pytest.approx(0.9**0.5 * 0.7, abs=0.01)
        assert there.std().item() == pytest.approx(0.1**0.5, abs=0.01)

    def test_eta_decides_whether_chance_matters(self, guided, trained, left):
        noise, labels = torch.randn(4, 1, 14, 14, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1])
        for eta, same in ((0.0, True), (1.0, False)):
            one, other = (guided.sample(trained, noise, labels, left, 10, 1.0, eta, seed=seed) for seed in (1, 2))
            assert torch.equal(one, other) == same

    def test_exact_guesses_come_through_in_few_steps(self, guided, left):
        """Without noise, more and more steps lead to the one point where a normal distribution's quantiles say."""

        def exact(x, t, labels):
            share = left[t[0]].item()
            return (1 - share) ** 0.5 * (x - share**0.5 * 0.2) / (share * 0.04 + 1 - share)

        noise = torch.randn(300, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        errors = []
        for steps in (5, 50):
            made = guided.sample(exact, noise, torch.zeros(300, dtype=torch.int64), left, steps, 1.0, 0.0, seed=0)
            errors.append((made - (0.2 + 0.2 * noise)).abs().mean().item())
        assert errors[1] < 0.02 < errors[0]


class TestGuidance:
    @pytest.mark.parametrize(("weight", "grey"), [(0.0, 0.1), (1.0, 0.3), (2.0, 0.5), (9.0, 1.0)])
    def test_weight_leads_away_from_what_nobody_asked_for(self, guided, left, weight, grey):
        """With a network that knows: none means a grey of 0.1, label 7 one of 0.3. No pixel gets beyond 1."""

        def knows(x, t, labels):
            share, clean = left[t[0]].item(), torch.where(labels == guided.NONE, 0.1, 0.3).view(-1, 1, 1, 1)
            assert set(labels.tolist()) <= {7, guided.NONE}
            return (x - share**0.5 * clean) / (1 - share) ** 0.5

        noise = torch.randn(5, 1, 14, 14, generator=torch.Generator().manual_seed(0))
        for eta in (0.0, 1.0):
            made = guided.sample(knows, noise, torch.full((5,), 7), left, 10, weight, eta, seed=0)
            torch.testing.assert_close(made, torch.full_like(made, grey), atol=1e-3, rtol=0)

    def test_without_dropped_labels_none_was_never_learned(self, guided, plates, left):
        torch.manual_seed(0)
        first = guided.UNet(8).labels.weight[guided.NONE]
        for drop, same in ((0.0, True), (0.3, False)):
            assert torch.equal(train(guided, plates, left, drop, steps=8).labels.weight[guided.NONE], first) == same


def test_variety(guided):
    features, labels = torch.randn(300, 8, generator=torch.Generator().manual_seed(0)), torch.arange(300) % 3
    assert guided.variety(2 * features, labels) == pytest.approx(2 * guided.variety(features, labels))
    apart = features + 100 * labels[:, None]  # between labels, distances do not count
    assert guided.variety(apart, labels) == pytest.approx(guided.variety(features, labels), rel=1e-3)


def test_between(guided):
    one, other = torch.randn(2, 1, 60, 60, generator=torch.Generator().manual_seed(0))
    way = guided.between(one, other, 5)
    assert way.shape == (5, 1, 60, 60)
    torch.testing.assert_close(way[0], one)
    torch.testing.assert_close(way[-1], other, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(way.flatten(1).std(dim=1), torch.ones(5), atol=0.06, rtol=0)


class TestMain:
    def test_check_notices_a_network_that_does_not_listen(self, guided, monkeypatch):
        monkeypatch.setattr(guided, "UNet", partial(guided.UNet, width=4))
        monkeypatch.setattr("utils.sample_quality.JUDGE_STEPS", 2)
        whole = guided.sample  # which takes 2 steps where 5 to 50 are asked for: from a network that knows nothing, as good
        monkeypatch.setattr(
            guided, "sample", lambda model, noise, labels, left, steps, *rest: whole(model, noise, labels, left, 2, *rest)
        )
        with pytest.raises(LessonError, match="more --steps"):
            guided.main(steps=2, timesteps=50, drop=0.2, lr=1e-9, source="sample", device="cpu", seed=0)
        for name in ("digits", "curves"):
            assert (paths.outputs("guided_diffusion") / f"{name}.png").exists()

    @pytest.mark.parametrize("flags", [{"steps": 0}, {"timesteps": 49}, {"drop": 1.1}])
    def test_check_notices_wrong_flags(self, guided, flags):
        with pytest.raises(LessonError, match="--timesteps 50"):
            guided.main(
                **{"steps": 1, "timesteps": 50, "drop": 0.1, "lr": 0.01, "source": "sample", "device": "cpu", "seed": 0} | flags
            )

    @pytest.mark.slow  # the claim itself: 700 steps and 2,000 samples, 35 s
    def test_keeps_its_promise(self, guided):
        results = guided.main(steps=700, timesteps=60, drop=0.15, lr=4e-3, source="sample", device="cpu", seed=3)
        assert results["accuracy_2"] >= results["accuracy_1"] > results["accuracy_0"] + 0.3
        assert results["variety_4"] < results["variety_2"] < results["variety_1"]
        assert results["frechet_4"] > results["frechet_1"]
        assert results["frechet_eta0_50"] < results["frechet_eta0_5"] and results["frechet_eta1_50"] < results["frechet_eta1_5"]
