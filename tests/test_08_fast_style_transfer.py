"""Fast style transfer: the network is built as told, learns a style without a target, and the photograph stays in it."""

import pytest
import torch
from conftest import lesson
from torch import nn

from utils import paths, perceptual
from utils.datasets.styles import StyleData
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def fast():
    return lesson("08_computer_vision/fast_style_transfer")


@pytest.fixture(scope="module")
def network():
    return perceptual.random_features(seed=3, width=8)


@pytest.fixture(scope="module")
def stripes():
    """A painting: slanting stripes of two colours, (1, 3, 48, 48)."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    wave = (torch.sin(1.2 * (x + y)) > 0).float()
    return torch.stack([0.9 * wave, 0.6 - 0.3 * wave, 0.2 + 0.1 * wave])[None]


@pytest.fixture(scope="module")
def photographs():
    """Three pictures of blobs, (3, 100, 128)."""
    generator = torch.Generator().manual_seed(0)
    made = [
        nn.functional.interpolate(torch.rand(1, 3, 6, 8, generator=generator), size=(100, 128), mode="bicubic") for _ in "abc"
    ]
    return [one[0].clamp(0, 0.9) for one in made]


class TestNetwork:
    def test_instance_norm(self, fast):
        found = fast.try_norms(seed=1)
        assert found["off"] < 1e-5 and found["moved_instance"] < 1e-3 < 0.1 < found["moved_batch"]

    @pytest.mark.parametrize("norm", ["instance", "batch"])
    def test_sizes(self, fast, norm):
        torch.manual_seed(0)
        painter = fast.Painter(4, norm, blocks=1, add_photo=False).eval()
        out = painter(torch.rand(2, 3, 32, 40))
        assert out.shape == (2, 3, 32, 40) and 0 <= out.min() and out.max() <= 1
        convolutions = [module for module in painter.modules() if isinstance(module, nn.Conv2d)]
        assert {module.padding_mode for module in convolutions} == {"reflect"}
        norms = {"instance": fast.InstanceNorm, "batch": nn.BatchNorm2d}
        assert sum(isinstance(module, norms[norm]) for module in painter.modules()) == len(convolutions) - 1 == 7

    def test_residual_adds(self, fast):
        block, x = fast.Residual(4, "instance"), torch.rand(1, 4, 8, 8)
        for parameter in block.layers[-1].parameters():
            nn.init.zeros_(parameter)
        assert torch.equal(block(x), x)

    @pytest.mark.parametrize("add_photo", [True, False])
    def test_photograph_is_added(self, fast, photographs, add_photo):
        x, painter = photographs[0][None, :, :64, :64], fast.Painter(4, "instance", blocks=1, add_photo=add_photo)
        for parameter in painter.layers[-1].parameters():  # a network that changes nothing
            nn.init.zeros_(parameter)
        expected = x.clamp(0.02, 0.98) if add_photo else torch.full_like(x, 0.5)
        assert torch.allclose(painter(x), expected, atol=1e-6)

    def test_error_is_the_one_that_is_told(self, fast):
        assert fast.meet_error().startswith("The size of tensor a (62) must match the size of tensor b (64)")


class TestTraining:
    def test_patches(self, fast):
        photo = torch.stack([torch.linspace(0, 1, 100).expand(60, 100), torch.linspace(0, 1, 60)[:, None].expand(60, 100)])
        patches = fast.cut([torch.cat([photo, photo[:1]])], 60, 24, torch.Generator().manual_seed(0))
        assert patches.shape == (60, 3, 24, 24)
        slope = (patches[:, 0, 0, -2] - patches[:, 0, 0, 1]) * 99 / 21  # photograph's pixels for each of the patch's
        assert 0.9 < slope.abs().min() < 1.2 and 1.8 < slope.abs().max() < 2.1
        assert (slope < 0).any() and (slope > 0).any()  # some are mirrored
        assert (patches[:, 1, -2, 0] > patches[:, 1, 1, 0]).all()  # and none stands on its head
        assert patches[:, 0].min() < 0.05 and patches[:, 0].max() > 0.95 and patches[:, 1].max() > 0.95  # from everywhere

    def test_learns_a_style_and_keeps_the_photograph(self, fast, network, photographs, stripes):
        torch.manual_seed(0)
        painter, grams = fast.Painter(6, "instance", blocks=1), perceptual.grams_of(network, stripes, network.style)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        history = fast.train(painter, network, photographs[1:], grams, steps=60, weight=0.02, size=48, batch=2, lr=0.01, seed=0)
        assert len(history) == 60 and sum(history[-5:]) < 0.5 * sum(history[:5]) and not painter.training
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        test = photographs[0][None, :, :96, :124]
        with torch.no_grad():
            far = fast.judge(network, painter(test), test, stripes)
        rivals = [fast.judge(network, one, test, stripes)["style"] for one in (test, perceptual.match_colours(test, stripes))]
        assert far["style"] < 0.4 * min(rivals) and far["content"] < 0.5 * far["elsewhere"]

    def test_loss_asks_for_the_photograph_and_for_the_style(self, fast, network, photographs, stripes):
        photo, grams = photographs[0][None, :, :96, :124], perceptual.grams_of(network, stripes, network.style)
        same, mirrored = (fast.loss_of(network, one, photo, grams, weight=0.0) for one in (photo, photo.flip(3)))
        assert mirrored > same + 0.5  # as rough as the photograph, but everything is elsewhere
        styled = stripes.repeat(1, 1, 2, 3)[..., :124]
        with_style, without = (
            [fast.loss_of(network, one, one, grams, weight).item() for one in (photo, styled)] for weight in (1.0, 0.0)
        )
        assert with_style[0] - without[0] > 2 * (with_style[1] - without[1])

    def test_optimisation(self, fast, network, photographs, stripes):
        grams, test = perceptual.grams_of(network, stripes, network.style), photographs[0][None, :, :48, :48]
        painted = fast.optimise(network, test, grams, 10.0, 15)
        far, before = (fast.judge(network, one, test, stripes)["style"] for one in (painted, test))
        assert far < 0.5 * before and 0 <= painted.min() and painted.max() <= 1

    def test_judge(self, fast, network, photographs, stripes):
        photo = photographs[0][None, :, :96, :124]
        same, style = (fast.judge(network, one, photo, stripes) for one in (photo, stripes.repeat(1, 1, 2, 3)[..., :124]))
        assert same["content"] == 0 and same["elsewhere"] > 0.5
        assert style["style"] < 0.2 * same["style"] and style["content"] > 0.5


class TestMain:
    FLAGS = {
        "steps": 6,
        "weight": 5.0,
        "evaluations": 1,
        "add_photo": True,
        "weights": "random",
        "source": "sample",
        "device": "cpu",
    }

    @pytest.fixture
    def quick(self, fast, network, photographs, stripes, monkeypatch):
        styles = {"stripes": (255 * stripes[0]).byte()}
        monkeypatch.setattr(fast, "style_pictures", lambda source, size: StyleData({}, styles, "drawn", is_real=False))
        monkeypatch.setattr(perceptual, "load_perceptual", lambda weights, device, seed: network)
        monkeypatch.setattr(perceptual, "packaged_photographs", lambda size: [one[None] for one in photographs])
        return fast

    @pytest.mark.parametrize("worse", [{}, {"style": 0.5}, {"content": 1.6}])
    def test_both_distances_count(self, quick, network, photographs, monkeypatch, worse):
        photo, far = photographs[0][None], {"style": 0.4, "content": 1.4, "elsewhere": 2.0} | worse
        judged = iter([far | {"style": 1.0}, far | {"style": 0.8}, far, far, far])  # photograph, colours, what was painted
        monkeypatch.setattr(network, "trained", True)
        monkeypatch.setattr(quick, "train", lambda *_, **__: [1.0] * 6)
        monkeypatch.setattr(quick, "optimise", lambda *_: photo)
        monkeypatch.setattr(quick, "judge", lambda *_: next(judged))
        monkeypatch.setattr(quick, "draw", lambda pictures: None)
        if not worse:
            assert quick.main(style="stripes", seed=0, **self.FLAGS)["style_instance"] == 0.4
            return
        with pytest.raises(LessonError, match="more --steps"):
            quick.main(style="stripes", seed=0, **self.FLAGS)

    @pytest.mark.parametrize("trained", [True, False])
    def test_check_notices_a_network_that_does_not_learn(self, quick, network, photographs, monkeypatch, trained):
        seen = []
        monkeypatch.setattr(network, "trained", trained)
        monkeypatch.setattr(quick, "train", lambda painter, network, photos, *_, **__: seen.extend(photos) or [1.0] * 6)
        with pytest.raises(LessonError, match="more --steps"):
            quick.main(style="stripes", seed=0, **self.FLAGS)
        assert len(seen) == 4 and not any(torch.equal(one, photographs[0]) for one in seen)  # twice two: not the first
        assert (paths.outputs("fast_style_transfer") / "painted.png").exists()

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [({"steps": 5}, "--steps"), ({"weight": 0.0}, "--weight"), ({"style": "cubism"}, "there are stripes")],
    )
    def test_wrong_flags(self, quick, wrong, sentence):
        with pytest.raises(LessonError, match=sentence):
            quick.main(**{"style": "stripes", "seed": 0, **self.FLAGS} | wrong)
