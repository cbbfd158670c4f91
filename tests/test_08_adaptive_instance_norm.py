"""Adaptive instance norm: a style in means and deviations, decoded; any style, in any share."""

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson

from utils import paths, perceptual
from utils.datasets.style_training import laid_in_tiles, marbled_paper, paper_styles, photograph_patches
from utils.datasets.styles import StyleData
from utils.lesson import LessonError
from utils.weights import EFFICIENTNET_LITE0


@pytest.fixture(scope="module")
def styles():
    return lesson("08_computer_vision/adaptive_instance_norm")


@pytest.fixture(scope="module")
def network():
    return perceptual.random_features(seed=3, width=8)


@pytest.fixture(scope="module")
def papers():
    return paper_styles(12, 48, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def disc():
    """A photograph to be: a bright disc on a dark ground, with some grain, (1, 3, 64, 96)."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    inside = ((y - 32) ** 2 + (x - 48) ** 2 < 400).float()
    picture = torch.stack([0.2 + 0.6 * inside, 0.3 + 0.3 * inside, 0.5 - 0.2 * inside])[None]
    return (picture + 0.03 * torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


STEPS = 40


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
        assert message.startswith("The size of tensor a (7) must match the size of tensor b (8)") and left > 0.02

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
        nothing = styles.paint(network, decoder, disc, [])
        torch.testing.assert_close(styles.paint(network, decoder, disc, [(one, 0.0)]), nothing)
        with torch.no_grad():
            own = decoder(network(disc, decoder.layers), disc, torch.Generator().manual_seed(0)).clamp(0, 1)
        torch.testing.assert_close(nothing, own)  # the photograph's own maps and colours
        between = styles.paint(network, decoder, disc, [(one, 0.5), (other, 0.5)])
        ends = [(styles.paint(network, decoder, disc, [(end, 1.0)]) - between).abs().mean() for end in (one, other)]
        assert min(ends) > 0.01 and between.min() >= 0 and between.max() <= 1

    def test_decoder_is_given_maps_with_the_styles_statistics(self, styles, network, disc, papers):
        given = {}

        class Recorder:
            layers = network.style[:2]

            def __call__(self, maps, colours, generator):
                given.update(maps)
                return colours

        styles.paint(network, Recorder(), disc, [(papers[:1], 0.25)])
        with torch.no_grad():
            own, goals = network(disc, Recorder.layers), network(papers[:1], Recorder.layers)
        for name, goal in goals.items():
            torch.testing.assert_close(given[name], 0.75 * own[name] + 0.25 * styles.adain(own[name], goal))

    def test_decoder_can_leave_a_photograph_as_it_is(self, styles, network, disc):
        decoder = styles.Decoder(network, width=4)
        for parameter in decoder.finish[-1].parameters():
            torch.nn.init.zeros_(parameter)
        decoder.finish[-1].bias.data[3] = 50.0  # keep every edge, change nothing
        torch.testing.assert_close(styles.paint(network, decoder, disc, []), disc)
        decoder.finish[-1].bias.data[3] = -50.0
        soft = styles.paint(network, decoder, disc, [])
        assert soft.diff(dim=3).abs().max() < 0.3 * disc.diff(dim=3).abs().max() and (soft - disc).mean().abs() < 0.01

    def test_learns_styles_that_it_never_saw(self, styles, disc):
        network, papers = perceptual.random_features(seed=3, width=16), paper_styles(24, 48, torch.Generator().manual_seed(0))
        torch.manual_seed(1)
        decoder, new = styles.Decoder(network, width=8), papers[20:].split(1)
        photos = photograph_patches([disc], 8, 48, torch.Generator().manual_seed(0))
        frozen = {name: value.clone() for name, value in network.state_dict().items()}

        def distances(wrong):
            painted = [styles.paint(network, decoder, disc, [(one, 1.0)]) for one in new]
            pairs = zip(reversed(painted) if wrong else painted, new, strict=True)
            return sum(perceptual.style_distance(network, picture, one, network.style) for picture, one in pairs)

        losses = styles.train(network, decoder, photos, papers[:20], steps=STEPS, weight=30.0, lr=0.004, seed=1)
        assert len(losses) == STEPS and sum(losses[-10:]) / 10 < 0.5 * losses[0]
        assert all(torch.equal(value, frozen[name]) for name, value in network.state_dict().items())
        assert distances(wrong=False) < 0.6 * distances(wrong=True)

    def test_content_is_asked_for(self, styles, network, disc, papers):
        torch.manual_seed(0)
        decoder, photos = styles.Decoder(network, width=4), photograph_patches([disc], 4, 48, torch.Generator().manual_seed(0))
        losses = styles.train(network, decoder, photos, papers[:4], steps=3, weight=0.0, lr=0.001, seed=0)
        assert min(losses) > 0.1  # an untrained decoder does not show the photograph

    def test_judge(self, styles, network, disc, papers):
        far = styles.judge(network, disc, papers[:1], F.interpolate(papers[:1], size=disc.shape[2:]), disc)
        assert far["wrong"] == far["photograph"] > far["style"] and far["content"] > 0.3
        same = styles.judge(network, disc, papers[:1], disc, disc)
        assert same["content"] == 0 < same["elsewhere"] and same["style"] == far["photograph"]


class TestMaterial:
    def test_papers(self, papers):
        assert papers.shape == (12, 3, 48, 48) and 0 <= papers.min() and papers.max() <= 1
        torch.testing.assert_close(paper_styles(12, 48, torch.Generator().manual_seed(0)), papers)
        assert papers.std(dim=(2, 3)).mean(dim=1).min() > 0.02  # no sheet is blank

    def test_tiles(self, papers):
        tiles = laid_in_tiles(papers[:3], torch.Generator().manual_seed(0))
        assert tiles.shape == (3, 3, 48, 48) and 0 <= tiles.min() and tiles.max() <= 1
        flat = (tiles.diff(dim=3).abs().amax(dim=1) == 0).float().mean(dim=(1, 2))
        assert flat.min() > 0.2  # a tile has one colour
        joints = ((tiles - 0.18).abs() < 1e-6).all(dim=1).float().mean(dim=(1, 2))
        assert 0.01 < joints.min() and joints.max() < 0.6
        mixed = paper_styles(4, 48, torch.Generator().manual_seed(0))
        torch.testing.assert_close(mixed[::2], marbled_paper(4, 48, torch.Generator().manual_seed(0))[::2])
        assert (mixed.diff(dim=3) == 0).all(dim=1).float().mean(dim=(1, 2))[1::2].min() > 0.2

    def test_patches(self, disc):
        patches = photograph_patches([disc, 0 * disc], 6, 32, torch.Generator().manual_seed(0))
        assert patches.shape == (6, 3, 32, 32) and patches[::2].amax() > 0.5 and patches[1::2].amax() == 0


class TestMain:
    FLAGS = {
        "steps": 2,
        "weight": 10.0,
        "lr": 0.002,
        "size": 96,
        "weights": "random",
        "source": "sample",
        "device": "cpu",
        "seed": 0,
    }

    @pytest.fixture
    def quick(self, styles, network, disc, papers, monkeypatch):
        bytes_of = [(255 * one).byte() for one in (disc[0], papers[0], papers[1])]
        data = StyleData({"disc": bytes_of[0]}, {"one": bytes_of[1], "two": bytes_of[2]}, "drawn", is_real=False)
        monkeypatch.setattr(styles, "style_pictures", lambda source, size: data)
        monkeypatch.setattr(network, "trained", True)  # stands for one that has learned
        monkeypatch.setattr(styles, "load_perceptual", lambda weights, device, seed: network)
        monkeypatch.setattr(styles, "paper_styles", lambda count, size, generator: papers)
        monkeypatch.setattr(styles, "photograph_patches", lambda pictures, *_: F.interpolate(disc, size=(48, 48)))
        return styles

    def test_whole(self, quick, papers, monkeypatch):
        seen, far = [], {"photograph": 1.0, "colours": 0.8, "wrong": 0.9, "style": 0.5, "content": 1.0, "elsewhere": 2.0}
        monkeypatch.setattr(quick, "train", lambda network, decoder, photos, sheets, *_: seen.append(sheets) or [2.0, 1.0])
        monkeypatch.setattr(quick, "judge", lambda *_: far)
        results = quick.main(**self.FLAGS)
        assert {key: results[f"sheets_{key}"] for key in far} == pytest.approx(far)
        assert not any(torch.equal(one, new) for one in seen[0] for new in papers[-6:])
        assert torch.equal(seen[0][-1], papers[-7])
        assert results["share_0.5_content"] > 0 and (paths.outputs("adaptive_instance_norm") / "pictures.png").exists()
        monkeypatch.setattr(quick, "draw", lambda rows: None)
        for worse in ({"style": 0.79}, {"content": 1.6}):  # no nearer than the colours, or anywhere
            monkeypatch.setattr(quick, "judge", lambda *_, worse=worse: far | worse)
            with pytest.raises(LessonError, match="more --steps"):
                quick.main(**self.FLAGS)

    def test_check_notices_a_picture_that_stays(self, quick, monkeypatch):
        monkeypatch.setattr(quick, "paint", lambda network, decoder, photo, mixture: photo)
        monkeypatch.setattr(quick, "draw", lambda rows: None)
        with pytest.raises(LessonError, match="more --steps"):
            quick.main(**self.FLAGS)

    @pytest.mark.parametrize("wrong", [{"steps": 1}, {"size": 95}, {"weight": 0.0}])
    def test_wrong_flags(self, styles, wrong):
        with pytest.raises(LessonError, match="--steps"):
            styles.main(**self.FLAGS | wrong)


@pytest.mark.slow  # a decoder for any style needs features that have learned something, and a whole default run
@pytest.mark.skipif(not EFFICIENTNET_LITE0.packaged(), reason="EfficientNet-Lite0 is not installed")
def test_default_run(styles):
    flags = {"size": 160, "weights": "efficientnet_lite0", "source": "sample", "device": "cpu", "seed": 0}
    results = styles.main(steps=420, weight=20.0, lr=0.002, **flags)
    assert results["sheets_style"] < 0.9 * min(results[f"sheets_{rival}"] for rival in ("photograph", "colours", "wrong"))
    assert results["sheets_content"] < 0.75 * results["sheets_elsewhere"]
    assert results["share_0_content"] < results["share_0.5_content"] < results["share_1_content"]
    assert results["share_0_mosaic"] > results["share_1_mosaic"] < results["mosaic_colours"]
    assert results["share_0.5_+_0.5_brush_strokes"] < results["share_1_brush_strokes"]
