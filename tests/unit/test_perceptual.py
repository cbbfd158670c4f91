"""utils.perceptual: features by name from the weights that are there, on one scale; and distances that mean what they say."""

import hashlib

import pytest
import torch
from torch import nn

from utils import perceptual
from utils.lesson import LessonError
from utils.weights import EFFICIENTNET_LITE0


@pytest.fixture(scope="module")
def network():
    return perceptual.random_features(seed=0, width=8)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of torch's hub: the place of VGG-19's file."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints" / perceptual.VGG19_FILE


class TestNetwork:
    def test_maps_by_name(self, network):
        x = torch.rand(2, 3, 32, 40)
        maps = network(x, ("random3_2", "random1_1"))
        assert [*maps] == ["random1_1", "random3_2"] and maps["random3_2"].shape == (2, 32, 8, 10)
        assert torch.equal(network(x, ("random3_2",))["random3_2"], maps["random3_2"])
        assert not set(network.style) & set(network.unseen) and {network.content, *network.style} <= set(network.stages)

    def test_frozen(self, network):
        assert not network.train().training and not any(module.training for module in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())
        x = torch.rand(1, 3, 32, 32, requires_grad=True)
        network(x, network.style)["random5_2"].sum().backward()
        assert x.grad.abs().sum() > 0

    def test_one_scale_over_photographs(self, network):
        seen = [network(one, ("random2_2",))["random2_2"][0].flatten(start_dim=1) for one in perceptual.packaged_photographs(192)]
        std, mean = torch.std_mean(torch.cat(seen, dim=1), dim=1)
        assert mean.abs().max() < 0.01 and std.max() < 1.01 and std.median() > 0.8

    def test_seed_leaves_other_randomness_alone(self):
        torch.manual_seed(0)
        before = torch.get_rng_state()
        one, other = (perceptual.random_features(seed, width=4).stages["random1_1"][1].weight for seed in (1, 2))
        assert torch.equal(torch.get_rng_state(), before) and not torch.equal(one, other)

    @pytest.mark.parametrize(
        ("names", "size", "sentence"), [(("conv1",), 32, "no layer conv1"), (("random1_1",), 31, "32 at least")]
    )
    def test_complaints(self, network, names, size, sentence):
        with pytest.raises(LessonError, match=sentence):
            network(torch.rand(1, 3, 64, size), names)


class TestChoice:
    def test_nothing_there(self, hub, monkeypatch):
        monkeypatch.setattr(type(EFFICIENTNET_LITE0), "packaged", lambda published: None)
        assert "nobody has trained" in perceptual.load_perceptual("auto").source
        with pytest.raises(LessonError, match="are not on this machine"):
            perceptual.load_perceptual("vgg19")
        assert not hub.exists()

    def test_wrong_file(self, hub):
        hub.write_bytes(b"something else")
        with pytest.raises(LessonError, match="SHA-256"):
            perceptual.load_perceptual("auto")

    @pytest.mark.slow  # 548 MB of random weights in VGG-19's names, written and read
    def test_vgg19(self, hub, monkeypatch):
        from torchvision.models import vgg19

        torch.manual_seed(0)
        model = vgg19()
        torch.save(model.state_dict(), hub)
        monkeypatch.setattr(perceptual, "VGG19_SHA256", hashlib.sha256(hub.read_bytes()).hexdigest())
        network, x = perceptual.load_perceptual("auto"), torch.rand(1, 3, 32, 32)
        assert "VGG-19" in network.source
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        expected = nn.Sequential(*[nn.AvgPool2d(2) if isinstance(one, nn.MaxPool2d) else one for one in model.features[:23]])
        raw = network(x, ("conv4_2",))["conv4_2"] * network.scales["conv4_2"][1] + network.scales["conv4_2"][0]
        with torch.no_grad():
            torch.testing.assert_close(raw, expected((x - mean) / std), rtol=1e-3, atol=1e-5)

    @pytest.mark.skipif(EFFICIENTNET_LITE0.packaged() is None, reason="EfficientNet-Lite0's package is not installed")
    def test_efficientnet(self):
        network = perceptual.load_perceptual("efficientnet_lite0")
        maps = network(torch.rand(1, 3, 64, 96), network.stages)
        assert maps["stem"].shape == (1, 32, 32, 48) and maps["stage4_3"].shape == (1, 80, 4, 6)
        strides = {module.stride for module in network.modules() if isinstance(module, nn.Conv2d)}
        assert strides == {(1, 1)}


class TestDistances:
    def test_against_other_computations(self):
        maps = torch.rand(2, 3, 4, 5, dtype=torch.float64)
        torch.testing.assert_close(perceptual.gram(maps), torch.einsum("nchw,ndhw->ncd", maps, maps) / 20)
        goal = perceptual.gram(torch.rand(1, 3, 7, 2, dtype=torch.float64))
        by_hand = ((perceptual.gram(maps) - goal) ** 2).sum(dim=(1, 2)).mean() / (goal**2).sum()
        torch.testing.assert_close(perceptual.style_loss({"a": maps}, {"a": goal}), by_hand)
        assert perceptual.content_loss({"a": maps}, {"a": maps}) == 0

    def test_same_picture(self, network):
        x = torch.rand(1, 3, 32, 48)
        assert perceptual.style_distance(network, x, x, network.unseen) == pytest.approx(0, abs=1e-8)
        assert perceptual.content_distance(network, x, x) == 0
        assert perceptual.content_distance(network, x.flip(3), x) > 0.1

    def test_matched_colours(self):
        generator = torch.Generator().manual_seed(0)
        mix = torch.rand(3, 3, generator=generator)
        photo = 0.4 + 0.1 * torch.rand(1, 3, 16, 20, generator=generator)
        style = 0.35 + 0.1 * torch.einsum("ij,njhw->nihw", mix, torch.rand(1, 3, 9, 9, generator=generator))
        matched = perceptual.match_colours(photo, style)
        (mean, covariance), (wanted, wanted_covariance) = (
            (one[0].flatten(start_dim=1).mean(dim=1), one[0].flatten(start_dim=1).cov()) for one in (matched, style)
        )
        torch.testing.assert_close(mean, wanted, rtol=0, atol=1e-5)
        torch.testing.assert_close(covariance, wanted_covariance, rtol=0.01, atol=1e-6)
        torch.testing.assert_close(perceptual.match_colours(style, style), style, rtol=0, atol=1e-4)
        flat = perceptual.match_colours(torch.full((1, 3, 4, 4), 0.5), style)  # a picture of one colour has nothing to spread
        assert flat.isfinite().all()
