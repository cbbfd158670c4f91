"""Contrastive learning: the loss is the paper's, views keep what they should, features are worth more than pixels."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson
from sklearn.linear_model import LogisticRegression
from torch import nn

from utils import paths
from utils.datasets import picture_book
from utils.datasets.images import ImageData, Images
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def contrast():
    return lesson("06_advanced/contrastive_learning")


@pytest.fixture(scope="module")
def stripes():
    """Ten classes of stripes, five widths in two directions, in any colours and at any place: nothing for a linear classifier."""
    generator = torch.Generator().manual_seed(0)
    labels, place = torch.arange(320) % 10, torch.arange(32.0)
    phase, colours = torch.rand(320, generator=generator), torch.randn(320, 3, 1, 1, generator=generator)
    waves = torch.sin(place / (0.6 + 0.5 * (labels // 2)).unsqueeze(1) + 6.3 * phase.unsqueeze(1))  # (320, 32)
    grid = torch.where((labels % 2 == 0).view(-1, 1, 1), waves[:, :, None], waves[:, None, :]).expand(320, 32, 32)
    x = grid[:, None] * colours + 0.3 * torch.randn(320, 3, 32, 32, generator=generator)
    return x, labels


class TestLoss:
    @pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
    def test_loops_agree(self, contrast, temperature):
        difference, message = contrast.compare_losses(temperature, seed=1)
        assert difference < 1e-9
        assert message == "Expected input batch_size (12) to match target batch_size (6)."

    def test_known_values(self, contrast):
        """All features alike: every other view is as likely. Opposite pictures: by hand."""
        alike = torch.ones(3, 4)
        assert contrast.nt_xent(alike, 2 * alike, 0.5).item() == pytest.approx(math.log(5))
        one = torch.tensor([[1.0, 0], [-1, 0]])
        expected = -math.log(math.exp(2) / (math.exp(2) + 2 * math.exp(-2)))
        assert contrast.nt_xent(one, 3 * one, 0.5).item() == pytest.approx(expected, abs=1e-6)

    def test_wants_the_other_view_of_the_same_picture(self, contrast):
        one = F.normalize(torch.randn(8, 16, generator=torch.Generator().manual_seed(0)), dim=1)
        assert contrast.nt_xent(one, one, 0.1) < 0.1 < 3 < contrast.nt_xent(one, one.roll(1, dims=0), 0.1)

    def test_smaller_temperatures_look_at_the_hardest(self, contrast):
        """The share of the gradient that goes to the most similar negative grows as the temperature falls."""
        generator, shares = torch.Generator().manual_seed(0), []
        one, two = torch.randn(2, 6, 8, generator=generator)
        for temperature in (1.0, 0.1):
            leaf = two.clone().requires_grad_()
            contrast.nt_xent(one, leaf, temperature).backward()
            norms = leaf.grad.norm(dim=1)
            shares.append((norms.max() / norms.sum()).item())
        assert shares[1] > shares[0]


class TestViews:
    def test_nothing_asked_nothing_changed(self, contrast):
        x = torch.randn(3, 3, 32, 32)
        assert torch.equal(contrast.draw_view(x, (), torch.Generator()), x)

    def test_two_views_differ(self, contrast):
        x, generator = torch.randn(4, 3, 32, 32), torch.Generator().manual_seed(0)
        for kinds in (("crop",), ("colour",), contrast.VIEWS["both"]):
            one, two = (contrast.draw_view(x, kinds, generator) for _ in range(2))
            assert one.shape == x.shape and (one - two).abs().mean() > 0.1

    def test_training_compares_two_views_and_not_one_with_itself(self, contrast, monkeypatch):
        apart, loss = [], contrast.nt_xent

        def watched(one, two, temperature):
            apart.append((one - two).abs().mean().item())
            return loss(one, two, temperature)

        monkeypatch.setattr(contrast, "nt_xent", watched)
        contrast.pretrain(torch.randn(128, 3, 32, 32), contrast.VIEWS["both"], epochs=1, temperature=0.2, seed=0)
        assert len(apart) == 1 and apart[0] > 1e-3

    def test_crops_are_pieces_of_the_picture(self, contrast):
        """A picture whose pixels tell their own place: pieces are straight, inside, between 0.3 and 1 of the area."""
        ramp = torch.linspace(-1, 1, 65)[1::2]  # the middles of 32 pixels
        x = torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32), torch.ones(32, 32)]).expand(200, 3, 32, 32)
        out = contrast.draw_view(x, ("crop",), torch.Generator().manual_seed(0))
        assert out[:, 0].std(dim=1).max() < 1e-5 and out[:, 1].std(dim=2).max() < 1e-5
        assert out.abs().max() < 1 + 1e-5
        width, height = out[:, 0, 0, -1] - out[:, 0, 0, 0], out[:, 1, -1, 0] - out[:, 1, 0, 0]
        assert 0.3 < (width < 0).float().mean() < 0.7 and height.min() > 0  # mirrored left to right only
        area = (width.abs() / (2 * 31 / 32)) * (height / (2 * 31 / 32))
        assert 0.28 < area.min() < 0.4 and 0.9 < area.max() < 1.02

    def test_colours_keep_places(self, contrast):
        """Every pixel of one colour gets the same new colour."""
        x = torch.zeros(20, 3, 32, 32)
        x[:, :, :, 16:] = torch.tensor([1.0, -1.0, 0.5]).view(3, 1, 1)
        out = contrast.draw_view(x, ("colour",), torch.Generator().manual_seed(0))
        for half in (out[:, :, :, :16], out[:, :, :, 16:]):
            assert half.std(dim=(2, 3)).max() < 1e-5
        assert out[:, :, 0, 20].std(dim=0).min() > 0.1


class TestProbe:
    def test_equals_scikit_learn(self, contrast):
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(400) % 10
        x = torch.randn(400, 6, generator=generator) + F.one_hot(labels, 10)[:, :6]
        x = (x - x.mean(dim=0)) / x.std(dim=0)
        found = contrast.probe((x, labels), (x, labels), penalty=0.01)
        theirs = LogisticRegression(C=1 / (0.01 * 400), tol=1e-8, max_iter=1000).fit(x, labels)
        assert found == pytest.approx(theirs.score(x, labels), abs=0.006)

    def test_scale_of_features_does_not_matter(self, contrast):
        x, labels = torch.randn(200, 5, generator=torch.Generator().manual_seed(1)), torch.arange(200) % 10
        assert contrast.probe((x, labels), (x, labels), 0.1) == contrast.probe((64 * x + 3, labels), (64 * x + 3, labels), 0.1)


class TestLearning:
    def test_features_beat_pixels_and_an_untrained_network(self, contrast, stripes):
        x, labels = stripes
        network, losses = contrast.pretrain(x, contrast.VIEWS["both"], epochs=9, temperature=0.2, seed=0)
        found = {"simclr": contrast.read(network[0], x), "pixels": x.flatten(1)}
        found["untrained"] = contrast.read(contrast.encoder(24, 0), x)
        right = {name: contrast.probe((f[:240], labels[:240]), (f[240:], labels[240:]), 0.01) for name, f in found.items()}
        assert losses[-1] < losses[0] - 0.5
        assert right["simclr"] > max(right["pixels"], right["untrained"]) + 0.05
        assert contrast.mean_cosine(contrast.read(network, x)) < 0.5

    def test_without_negatives_everything_is_alike(self, contrast, stripes):
        network, losses = contrast.pretrain(
            stripes[0], contrast.VIEWS["both"], epochs=6, temperature=0.2, seed=0, negatives=False
        )
        assert losses[-1] < -0.8
        assert contrast.mean_cosine(contrast.read(network, stripes[0])) > 0.8

    @pytest.mark.slow  # the same loop as above, for the comparison only
    def test_supervised_learns(self, contrast, stripes):
        network = contrast.supervise(stripes, steps=30, seed=0)
        assert (contrast.read(network, stripes[0]).argmax(dim=1) == stripes[1]).float().mean() > 0.4

    def test_mean_cosine(self, contrast):
        one = torch.tensor([[1.0, 0], [0, 2], [-3, 0]])
        assert contrast.mean_cosine(one) == pytest.approx(-1 / 3)
        assert contrast.mean_cosine(torch.ones(5, 3)) == pytest.approx(1)


class TestNeighbours:
    def test_shares(self, contrast):
        images = torch.randint(256, (12, 3, 32, 32), dtype=torch.uint8)
        labels = torch.tensor([0] * 6 + [1] * 6)
        data = Images(images, labels)
        right, wrong = F.one_hot(labels, 2).float(), F.one_hot(1 - labels, 2).float()
        spaces = {"pixels": (right, right), "simclr": (right, wrong)}  # features of known pictures, and of those that ask
        found = contrast.draw_neighbours(data, data, spaces)
        assert found == {"neighbours_pixels": 1.0, "neighbours_simclr": 0.0}
        assert (paths.outputs("contrastive_learning") / "neighbours.png").exists()


class TestMain:
    def test_check_notices_features_that_are_worth_nothing(self, contrast, monkeypatch):
        train, test = picture_book.load(train=200, test=60)
        book = ImageData(train, test, list(picture_book.CLASSES), "sample", is_real=False)
        monkeypatch.setattr(contrast, "cifar10", lambda source: book)
        spaces, draw = [], contrast.draw_neighbours
        monkeypatch.setattr(contrast, "draw_neighbours", lambda *arguments: spaces.append(arguments[2]) or draw(*arguments))
        blind = nn.Sequential(contrast.encoder(24, 0), nn.Linear(96, 64))
        for parameter in blind.parameters():
            nn.init.zeros_(parameter)
        monkeypatch.setattr(contrast, "pretrain", lambda *_, **__: (blind, 4 * [1.0]))
        with pytest.raises(LessonError, match="more --epochs"):
            contrast.main(epochs=1, temperature=0.2, views="both", labels=5, source="sample", device="cpu", seed=0)
        assert spaces[0]["simclr"][0].shape == (200, 96), "features are taken before the projector"

    @pytest.mark.parametrize("flags", [{"epochs": 0}, {"temperature": 0.0}, {"labels": 0}])
    def test_check_notices_wrong_flags(self, contrast, flags):
        settings = {"epochs": 1, "temperature": 0.2, "views": "both", "labels": 5, "source": "sample", "device": "cpu", "seed": 0}
        with pytest.raises(LessonError, match="all above 0"):
            contrast.main(**settings | flags)

    @pytest.mark.slow  # SimCLR once, twice with labels: 45 s
    def test_keeps_its_promise(self, contrast):
        results = contrast.main(epochs=8, temperature=0.2, views="both", labels=20, source="sample", device="cpu", seed=1)
        assert results["simclr"] > max(results["pixels"], results["untrained"]) + 0.05
        assert results["collapsed_cosine"] > results["cosine"] + 0.3

    @pytest.mark.slow  # as above
    @pytest.mark.real_data("cifar10")
    def test_learns_cifar10(self, contrast):
        results = contrast.main(epochs=8, temperature=0.2, views="both", labels=20, source="real", device="cpu", seed=0)
        assert results["simclr"] > max(results["pixels"], results["untrained"]) + 0.03
