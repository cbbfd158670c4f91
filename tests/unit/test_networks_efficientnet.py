"""utils.networks.efficientnet_lite: the architecture that the published weights were trained in, to the last half pixel."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from utils.networks.efficientnet_lite import STAGES, EfficientNetLite0, InvertedResidual, SameConv2d, rename_published
from utils.weights import EFFICIENTNET_LITE0

needs_weights = pytest.mark.skipif(
    EFFICIENTNET_LITE0.packaged() is None, reason="needs the weights package: python -m study setup --extra models"
)


class TestSamePadding:
    @pytest.mark.parametrize("size", [5, 6, 7, 8, 112])
    @pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2), (2, 2), (1, 2), (4, 3)])
    def test_is_tensorflows(self, size, kernel, stride):
        """Every output sits on stride * i + kernel // 2 - (zeros before), with ceil(size / stride) of them."""
        torch.manual_seed(0)
        conv = SameConv2d(2, 3, kernel, stride)
        x = torch.randn(1, 2, size, size + 3)
        out = conv(x)
        assert out.shape[-2:] == (-(-size // stride), -(-(size + 3) // stride))
        before = [max((-(-n // stride) - 1) * stride + kernel - n, 0) // 2 for n in (size, size + 3)]
        wide = F.pad(x, (before[1], kernel, before[0], kernel))  # more zeros than needed after; the surplus is cut off
        expected = F.conv2d(wide, conv.weight, conv.bias, stride)[..., : out.shape[-2], : out.shape[-1]]
        torch.testing.assert_close(out, expected)

    def test_odd_zero_goes_to_the_end(self):
        conv = SameConv2d(1, 1, 3, stride=2, bias=False)
        nn.init.ones_(conv.weight)
        out = conv(torch.ones(1, 1, 4, 4))
        assert out[0, 0].tolist() == [[9, 6], [6, 4]]  # padding=1 would give [[4, 6], [6, 9]]

    def test_stride_1_is_pytorchs(self):
        ours, theirs = SameConv2d(2, 2, 5), nn.Conv2d(2, 2, 5, padding=2)
        theirs.load_state_dict(ours.state_dict())
        x = torch.randn(2, 2, 9, 7)
        torch.testing.assert_close(ours(x), theirs(x))


def test_block_adds_its_input_only_where_it_fits():
    torch.manual_seed(0)
    x = torch.randn(2, 8, 6, 6)
    for inputs, outputs, stride, adds in ((8, 8, 1, True), (8, 8, 2, False), (8, 4, 1, False)):
        block = InvertedResidual(inputs, outputs, 3, stride, expansion=6).eval()
        nn.init.zeros_(block.project[1].weight)  # the block itself answers 0
        out = block(x)
        assert out.shape == (2, outputs, 6 // stride, 6 // stride)
        assert torch.equal(out, x) if adds else not out.any()


@pytest.fixture(scope="module")
def random_network():
    torch.manual_seed(0)
    return EfficientNetLite0(num_classes=1000)


@pytest.fixture(scope="module")
def trained_network():
    network = EfficientNetLite0()
    network.load_state_dict(rename_published(torch.load(EFFICIENTNET_LITE0.packaged(), weights_only=True)))
    return network.eval()


class TestNetwork:
    def test_shapes_and_size(self, random_network):
        sizes, x = [], torch.zeros(2, 3, 64, 64)
        with torch.no_grad():
            for stage in random_network.eval().stages:
                x = stage(x)
                sizes.append(tuple(x.shape[1:]))
            assert random_network.classifier(x).shape == (2, 1000)
        halved = [32, 32, 16, 8, 4, 4, 2, 2]
        assert sizes == [(c, n, n) for c, n in zip([32, *(s[3] for s in STAGES)], halved, strict=True)] + [(1280,)]
        assert sum(parameter.numel() for parameter in random_network.parameters()) == 4_652_008

    def test_batch_norms_are_tensorflows(self, random_network):
        norms = [module for module in random_network.modules() if isinstance(module, nn.BatchNorm2d)]
        assert len(norms) == 49
        assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
        assert not any(isinstance(module, (nn.SiLU, nn.ReLU)) for module in random_network.modules())

    def test_every_weight_learns(self, random_network):
        random_network.train()
        random_network(torch.randn(4, 3, 32, 32)).square().mean().backward()
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in random_network.parameters())

    def test_unknown_names_are_refused(self):
        with pytest.raises(KeyError):
            rename_published({"_blocks.0._se_reduce.weight": torch.zeros(1)})
        with pytest.raises(KeyError):
            rename_published({"layer1.weight": torch.zeros(1)})


def photographs() -> dict[str, torch.Tensor]:
    """The pictures that come with the installed packages, each (3, height, width) of 0..255."""
    from matplotlib import cbook
    from PIL import Image
    from sklearn.datasets import load_sample_image

    arrays = {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    with Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as picture:
        arrays["grace_hopper"] = np.asarray(picture.convert("RGB"))
    return {name: torch.from_numpy(array.copy()).permute(2, 0, 1) for name, array in arrays.items()}


@needs_weights
class TestPublishedWeights:
    def likely(self, trained_network, count: int = 5) -> dict[str, list[str]]:
        from torchvision.models import ResNet18_Weights

        names = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
        found = {}
        for name, picture in photographs().items():
            x = F.interpolate(picture[None].float(), size=(224, 224), mode="bilinear", antialias=True)
            with torch.no_grad():
                logits = trained_network((x - 127) / 128)[0]  # (1000,)
            found[name] = [names[i] for i in logits.topk(count).indices]
        return found

    def test_photographs_get_sensible_names(self, trained_network):
        found = self.likely(trained_network)
        assert found["grace_hopper"][0] == "military uniform"
        assert found["flower"][0] == "daisy"
        assert {"palace", "bell cote", "boathouse"} & set(found["china"])  # a Chinese palace by a lake

    def test_details_matter(self, trained_network, monkeypatch):
        """With PyTorch's padding, or another normalisation, the same weights know the uniform less well."""
        picture = photographs()["grace_hopper"][None].float()
        x = F.interpolate(picture, size=(224, 224), mode="bilinear", antialias=True)

        @torch.no_grad()
        def uniform(x):
            return trained_network(x).softmax(dim=1)[0, 652].item()

        right = uniform((x - 127) / 128)
        assert right > 0.3
        assert uniform(x / 255) < 0.8 * right
        symmetric = lambda self, x: nn.Conv2d.forward(self, F.pad(x, [self.kernel_size[0] // 2] * 4))  # noqa: E731
        monkeypatch.setattr(SameConv2d, "forward", symmetric)
        assert uniform((x - 127) / 128) < 0.8 * right
