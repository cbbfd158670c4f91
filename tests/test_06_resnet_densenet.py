"""ResNet and DenseNet: torchvision's weights load strictly, all numbers are equal, small ones learn, and v1's strides cost."""

import copy

import pytest
import torch
from conftest import lesson
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from utils.datasets import picture_book
from utils.datasets.images import ImageData
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def networks():
    return lesson("06_advanced/resnet_densenet")


@pytest.fixture(scope="module")
def book():
    """A thinner picture book: all of it takes some seconds to draw."""
    train, test = picture_book.load(train=1300, test=300)
    return ImageData(train, test, list(picture_book.CLASSES), "sample", is_real=False)


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


class TestEqualToTorchvision:
    @pytest.mark.parametrize("name", ["resnet18", "resnet50", "densenet121"])
    def test_all_numbers(self, networks, name):
        assert networks.compare_with_torchvision(name, seed=1) < 1e-5

    @pytest.mark.parametrize(
        ("name", "weights", "multiplications"),
        [("resnet18", 11_689_512, 1.814), ("resnet34", 21_797_672, 3.664), ("resnet50", 25_557_032, 4.089),
         ("densenet121", 7_978_856, 2.834)],
    )  # fmt: skip
    def test_names_shapes_and_costs(self, networks, name, weights, multiplications):
        with torch.device("meta"):
            ours, theirs = networks.NETWORKS[name](), models.get_model(name, weights=None)
            x = torch.empty(1, 3, 224, 224)
        shapes = [[(key, tensor.shape) for key, tensor in model.state_dict().items()] for model in (ours, theirs)]
        assert shapes[0] == shapes[1]  # in the same order, too
        assert size(ours) == size(theirs) == weights
        with FlopCounterMode(display=False) as counter:
            ours.eval()(x)
        assert counter.get_total_flops() / 2e9 == pytest.approx(multiplications, abs=0.001)

    @pytest.mark.parametrize("name", ["resnet18", "densenet121"])
    def test_same_seed_same_start(self, networks, name):
        states = []
        for build in (networks.NETWORKS[name], lambda: models.get_model(name, weights=None)):
            torch.manual_seed(5)
            states.append(build().state_dict().values())
        assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))

    def test_comparison_notices_another_order(self, networks, monkeypatch):
        """A block that adds after its ReLU has the same names and shapes, and other numbers."""

        def forward(self, x):
            out = torch.relu(self.bn1(self.conv1(x)))
            return torch.relu(self.bn2(self.conv2(out))) + self.downsample(x)

        monkeypatch.setattr(networks.BasicBlock, "forward", forward)
        assert networks.compare_with_torchvision("resnet18", seed=1) > 1e-2


class TestParts:
    def test_shortcut_has_weights_only_where_shapes_differ(self, networks):
        assert not networks.shortcut(8, 8, 1).state_dict()
        for arguments in ((8, 16, 1), (8, 8, 2)):
            way = networks.shortcut(*arguments)
            assert way(torch.zeros(2, 8, 6, 6)).shape == (2, arguments[1], 6 // arguments[2], 6 // arguments[2])

    @pytest.mark.parametrize(("block", "channels"), [("BasicBlock", 6), ("Bottleneck", 24)])
    def test_blocks(self, networks, block, channels):
        torch.manual_seed(0)
        block = getattr(networks, block)
        assert block(8, 6, 2)(torch.randn(2, 8, 10, 10)).shape == (2, channels, 5, 5)
        same = block(channels, 6, 1)
        nn.init.zeros_(getattr(same, "bn3" if channels == 24 else "bn2").weight)
        x = torch.rand(2, channels, 5, 5)
        assert torch.equal(same(x), x)  # a branch that answers 0 leaves the shortcut

    def test_dense_layer_keeps_what_it_gets(self, networks):
        torch.manual_seed(0)
        x = torch.randn(2, 7, 5, 5)
        out = networks.DenseLayer(7, 3)(x)
        assert out.shape == (2, 10, 5, 5) and torch.equal(out[:, :7], x)

    def test_small_ones(self, networks):
        for build in networks.SMALL.values():
            model = build()
            assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10) and size(model) < 200_000

    def test_error_is_the_one_that_is_told(self, networks):
        assert networks.meet_error().startswith("size mismatch for fc.weight")


class TestStrides:
    def test_v1_has_the_same_names_and_reads_a_quarter(self, networks):
        block = networks.Bottleneck(8, 8, 2)
        other = networks.as_v1(copy.deepcopy(block))
        assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))
        assert (other.conv1.stride, other.conv2.stride) == ((2, 2), (1, 1))
        shares = []
        for one in (block, other):
            x = torch.rand(1, 8, 16, 16, requires_grad=True)
            one.eval()(x).sum().backward()
            shares.append((x.grad.abs().sum(dim=1) > 0).float().mean().item())
        assert shares == [1, 0.25]

    def test_v1_loads_strictly_and_answers_otherwise(self, networks):
        torch.manual_seed(0)
        model, other = networks.SMALL["bottleneck"]().eval(), networks.as_v1(networks.SMALL["bottleneck"]()).eval()
        other.load_state_dict(model.state_dict(), strict=True)
        x = torch.randn(4, 3, 32, 32)
        with torch.no_grad():
            assert (model(x) - other(x)).norm() > 0.05 * model(x).norm()
            torch.testing.assert_close(networks.as_v1(other)(x), model(x))  # moved twice: back again


class TestMain:
    @pytest.fixture
    def quick(self, networks, book, monkeypatch):
        """The lesson on the thinner book, and without the comparison, which has its own tests."""
        monkeypatch.setattr(networks, "cifar10", lambda source: book)
        monkeypatch.setattr(networks, "compare_with_torchvision", lambda name, seed: 0.0)
        return networks

    def test_learns(self, quick, monkeypatch):
        monkeypatch.setattr(quick, "SMALL", {"basic": quick.SMALL["basic"]})
        results = quick.main(epochs=3, source="sample", device="cpu", seed=0)
        assert results["basic"] > results["baseline"] + 0.12

    def test_check_notices_networks_that_do_not_learn(self, quick, monkeypatch):
        monkeypatch.setattr(quick, "train", lambda *_: None)
        with pytest.raises(LessonError, match="more --epochs"):
            quick.main(epochs=1, source="sample", device="cpu", seed=0)

    def test_check_notices_other_numbers(self, quick, monkeypatch):
        monkeypatch.setattr(quick, "compare_with_torchvision", lambda name, seed: 1e-3)
        with pytest.raises(LessonError, match="differ by 1e-03"):
            quick.main(epochs=1, source="sample", device="cpu", seed=0)

    def test_check_notices_wrong_flags(self, networks):
        with pytest.raises(LessonError, match="--epochs"):
            networks.main(epochs=0, source="sample", device="cpu", seed=0)

    @pytest.mark.slow  # the three networks of the default run: 40 s
    def test_keeps_its_promise(self, networks):
        results = networks.main(epochs=2, source="sample", device="cpu", seed=1)
        assert min(results[name] for name in networks.SMALL) > results["baseline"] + 0.1
        assert results["v1"] < results["bottleneck"] - 0.03

    @pytest.mark.slow  # as above
    @pytest.mark.real_data("cifar10")
    def test_learns_cifar10(self, networks):
        results = networks.main(epochs=2, source="real", device="cpu", seed=0)
        assert min(results[name] for name in networks.SMALL) > results["baseline"] + 0.05
