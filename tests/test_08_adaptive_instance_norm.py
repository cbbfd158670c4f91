"""Adaptive instance norm: a style in means and deviations, decoded; any style, in any share."""

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson

from utils import paths, perceptual
from utils.datasets.style_training import marbled_paper, photograph_patches
from utils.datasets.styles import StyleData
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def styles():
    return lesson("08_computer_vision/adaptive_instance_norm")


@pytest.fixture(scope="module")
def network():
    return perceptual.random_features(seed=3, width=8)


@pytest.fixture(scope="module")
def papers():
    return marbled_paper(12, 48, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def disc():
    """A photograph to be: a bright disc on a dark ground, with some grain, (1, 3, 64, 96)."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    inside = ((y - 32) ** 2 + (x - 48) ** 2 < 400).float()
    picture = torch.stack([0.2 + 0.6 * inside, 0.3 + 0.3 * inside, 0.5 - 0.2 * inside])[None]
    return (picture + 0.03 * torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


class TestStatistics:
    def test_equal_to_instance_norm(self, styles):
        assert styles.compare(seed=5) < 1e-5

    def test_means_and_deviations_become_the_styles(self, styles):
        content, style = torch.randn(2, 4, 6, 8), 3 + 2 * torch.randn(2, 4, 5, 5)
        given = styles.adain(content, style)
        torch.testing.assert_close(given.mean(dim=(2, 3)), style.mean(dim=(2, 3)), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(given.std(dim=(2, 3), correction=0), style.std(dim=(2, 3), correction=0), rtol=1e-4, atol=1e-4)
        centred = given - given.mean(dim=(2, 3), keepdim=True), content - content.mean(dim=(2, 3), keepdim=True)
        assert F.cosine_similarity(*(one.flatten() for one in (centred[0][0, 0], centred[1][0, 0])), dim=0) > 0.999
        assert styles.adain(torch.ones(1, 4, 3, 3), style[:1]).isfinite().all()  # a channel that is the same everywhere

    def test_error_is_the_one_that_is_told(self, styles):
        message, left = styles.meet_error()
        assert "size of tensor a (7) must match the size of tensor b (8)" in message and left > 0.02

    def test_loss_by_hand(self, styles):
        maps, goals = torch.randn(2, 3, 4, 5, dtype=torch.float64), 1 + torch.randn(2, 3, 6, 2, dtype=torch.float64)
        ours, wanted = (
            torch.cat([one.mean(dim=(2, 3)), one.std(dim=(2, 3), correction=0)], dim=1).double() for one in (maps, goals)
        )
        by_hand = (((ours - wanted) ** 2).sum(dim=1) / (wanted**2).sum(dim=1)).mean()
        torch.testing.assert_close(styles.statistics_loss({"a": maps}, {"a": goals}), by_hand, rtol=1e-4, atol=1e-4)

    def test_shuffled(self, styles, network):
        squares = torch.arange(24.0).view(1, 1, 4, 6)
        moved = styles.shuffle(squares, 2, torch.Generator().manual_seed(1))
        assert sorted(moved.flatten().tolist()) == list(range(24)) and not torch.equal(moved, squares)
        assert moved[0, 0, 0, 1] == moved[0, 0, 0, 0] + 1 and moved[0, 0, 1, 0] == moved[0, 0, 0, 0] + 6  # a square stays whole
        paper = marbled_paper(1, 96, torch.Generator().manual_seed(2))
        found = styles.see_shuffled(network, paper, seed=0)
        assert found["maps"] < 1e-8 < found["squares_of_32"] < found["squares_of_8"] < found["squares_of_1"]


class TestDecoder:
    def test_shapes_and_layers(self, styles, network):
        torch.manual_seed(0)
        decoder = styles.Decoder(network, width=4)
        assert decoder.layers == ["random5_2", "random4_2", "random3_2", "random2_2"]
        photo = torch.rand(1, 3, 70, 90)  # no multiple of 16
        with torch.no_grad():
            maps = network(photo, decoder.layers)
            made = [decoder(maps, photo, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
        assert made[0].shape == photo.shape
        assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])

    def test_shares(self, styles, network, disc, papers):
        torch.manual_seed(0)
        decoder = styles.Decoder(network, width=4)
        one, other = papers[:1], papers[1:2]
        whole = styles.paint(network, decoder, disc, [(one, 1.0)])
        torch.testing.assert_close(styles.paint(network, decoder, disc, [(one, 0.4), (one, 0.6)]), whole, rtol=0, atol=1e-4)
        torch.testing.assert_close(styles.paint(network, decoder, disc, [(one, 0.0)]), styles.paint(network, decoder, disc, []))
        between = styles.paint(network, decoder, disc, [(one, 0.5), (other, 0.5)])
        ends = [(styles.paint(network, decoder, disc, [(end, 1.0)]) - between).abs().mean() for end in (one, other)]
        assert min(ends) > 0.01 and between.min() >= 0 and between.max() <= 1

    def test_learns_a_new_style(self, styles, network, disc, papers):
        torch.manual_seed(0)
        decoder = styles.Decoder(network, width=8)
        photos = photograph_patches([disc], 8, 48, torch.Generator().manual_seed(0))

        def distances():
            new = [(styles.paint(network, decoder, disc, [(one, 1.0)]), one) for one in papers[8:].split(1)]
            style = [perceptual.style_distance(network, painted, one, network.unseen) for painted, one in new]
            return sum(style) / len(style), max(perceptual.content_distance(network, painted, disc) for painted, _ in new)

        before = distances()[0]
        losses = styles.train(network, decoder, photos, papers[:8], steps=40, weight=10.0, seed=0)
        style, content = distances()
        colours = [perceptual.match_colours(disc, one) for one in papers[8:].split(1)]
        rival = [
            perceptual.style_distance(network, one, paper, network.unseen)
            for one, paper in zip(colours, papers[8:].split(1), strict=True)
        ]
        print(losses[0], sum(losses[-10:]) / 10, before, style, rival, content)
        assert len(losses) == 40 and sum(losses[-10:]) / 10 < 0.6 * losses[0]
        assert style < 0.8 * before and style < 0.8 * sum(rival) / len(rival)


class TestMaterial:
    def test_papers(self, papers):
        assert papers.shape == (12, 3, 48, 48) and 0 <= papers.min() and papers.max() <= 1
        torch.testing.assert_close(marbled_paper(12, 48, torch.Generator().manual_seed(0)), papers)
        assert papers.std(dim=(2, 3)).mean(dim=1).min() > 0.02  # no sheet is blank

    def test_patches(self, disc):
        patches = photograph_patches([disc, 0 * disc], 6, 32, torch.Generator().manual_seed(0))
        assert patches.shape == (6, 3, 32, 32) and patches[::2].amax() > 0.5 and patches[1::2].amax() == 0


class TestMain:
    FLAGS = {"steps": 2, "weight": 10.0, "size": 96, "weights": "random", "source": "sample", "device": "cpu", "seed": 0}

    @pytest.fixture
    def quick(self, styles, network, disc, papers, monkeypatch):
        bytes_of = [(255 * one).byte() for one in (disc[0], papers[0], papers[1])]
        data = StyleData({"disc": bytes_of[0]}, {"one": bytes_of[1], "two": bytes_of[2]}, "drawn", is_real=False)
        monkeypatch.setattr(styles, "style_pictures", lambda source, size: data)
        monkeypatch.setattr(styles, "load_perceptual", lambda weights, device, seed: network)
        monkeypatch.setattr(styles, "marbled_paper", lambda count, size, generator: papers)
        monkeypatch.setattr(styles, "photograph_patches", lambda pictures, *_: F.interpolate(disc, size=(48, 48)))
        return styles

    def test_whole(self, quick, monkeypatch):
        monkeypatch.setattr(quick, "paint", lambda network, decoder, photo, mixture: mixture[0][0] if mixture else photo)
        monkeypatch.setattr(quick.perceptual, "content_distance", lambda network, one, photo: float(one.shape == photo.shape))
        results = quick.main(**self.FLAGS)
        assert results["sheets_style"] < 1e-6 and results["sheets_other"] == 1
        assert (paths.outputs("adaptive_instance_norm") / "pictures.png").exists()

    def test_check_notices_a_picture_that_stays(self, quick, monkeypatch):
        monkeypatch.setattr(quick, "paint", lambda network, decoder, photo, mixture: photo)
        with pytest.raises(LessonError, match="more --steps"):
            quick.main(**self.FLAGS)

    @pytest.mark.parametrize("wrong", [{"steps": 1}, {"size": 95}, {"weight": 0.0}])
    def test_wrong_flags(self, styles, wrong):
        with pytest.raises(LessonError, match="--steps"):
            styles.main(**self.FLAGS | wrong)
