"""Skip connections: sums over paths are exact, gradients behave as told, and depth hurts only where there are no shortcuts."""

import pytest
import torch
from conftest import lesson
from torch import nn

from utils import paths
from utils.datasets import picture_book
from utils.datasets.images import ImageData
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def skips():
    return lesson("06_advanced/skip_connections")


@pytest.fixture(scope="module")
def noise():
    """Pictures of noise with random labels: enough where nothing has to be learned."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(64, 3, 32, 32, generator=generator), torch.randint(10, (64,), generator=generator)


@pytest.fixture(scope="module")
def bars():
    """Ten classes that are easy: a bright bar at one of ten heights, in noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 10
    x = 0.5 * torch.randn(300, 3, 32, 32, generator=generator)
    for picture, label in zip(x, labels.tolist(), strict=True):
        picture[:, 3 * label : 3 * label + 4] += 2
    return x, labels


@pytest.fixture(scope="module")
def trained(skips, bars):
    """A plain network of 10 layers that knows the bars."""
    torch.manual_seed(0)
    network = skips.Network(10, False, width=8)
    skips.train(network, bars, steps=60, lr=0.1, seed=0)
    return network.eval()


class TestNetwork:
    def test_both_kinds_start_from_the_same_weights(self, skips):
        states = []
        for skip in (False, True):
            torch.manual_seed(3)
            states.append(skips.Network(18, skip).state_dict())
        assert list(states[0]) == list(states[1])
        assert all(torch.equal(one, other) for one, other in zip(states[0].values(), states[1].values(), strict=True))

    @pytest.mark.parametrize("depth", [10, 18, 34])
    def test_depth_counts_layers_with_kernels(self, skips, depth):
        network = skips.Network(depth, True)
        assert sum(isinstance(module, (nn.Conv2d, nn.Linear)) for module in network.modules()) == depth
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
        assert [block.stride for block in network.blocks].count(2) == 1

    def test_shortcut(self, skips):
        x = torch.rand(2, 4, 6, 6)
        for block in (skips.Block(4, 4, 1, True), skips.Block(4, 8, 2, True)):
            nn.init.zeros_(block.norm2.weight)  # the branch answers 0, and the shortcut is left
            assert torch.equal(block(x)[:, :4], x[:, :, :: block.stride, :: block.stride])
            assert not block(x)[:, 4:].any()
        plain = skips.Block(4, 4, 1, False)
        nn.init.zeros_(plain.norm2.weight)
        assert not plain(x).any()

    def test_error_is_the_one_that_is_told(self, skips):
        assert skips.meet_error().startswith("The size of tensor a (8) must match the size of tensor b (4)")


class TestPaths:
    def test_they_add_up(self, skips):
        difference, shares = skips.sum_paths(blocks=7, size=12, seed=1)
        assert difference < 1e-12 and len(shares) == 8
        assert sum(shares) == pytest.approx(1)

    def test_short_ones_carry_most(self, skips):
        _, shares = skips.sum_paths(blocks=8, size=40, seed=2)
        assert shares.index(max(shares)) <= 2  # although most of the paths have length 4
        expected = torch.tensor([1, 8, 28, 56, 70, 56, 28, 8, 1]) * 0.3 ** torch.arange(9)
        torch.testing.assert_close(torch.tensor(shares), expected / expected.sum(), rtol=0.3, atol=0.02)


class TestGradients:
    def test_without_shortcuts_they_grow_on_the_way_back(self, skips, noise):
        ratios = {}
        for skip in (False, True):
            torch.manual_seed(0)
            network = skips.Network(34, skip)
            norms = skips.gradient_norms(network, noise)
            assert norms.shape == (16,)
            ratios[skip] = (norms[0] / norms[-1]).item()
        assert ratios[False] > 30 and ratios[True] < 10

    def test_neighbours_agree_with_shortcuts(self, skips):
        shallow, plain, residual = (skips.agreement(*kind, 60, 3, seed=1) for kind in ((1, False), (30, False), (30, True)))
        assert min(shallow, residual) > plain + 0.2


class TestTraining:
    def test_depth_hurts_without_shortcuts_only(self, skips, bars):
        losses = {}
        for skip in (False, True):
            torch.manual_seed(0)
            network = skips.Network(34, skip, width=8)
            losses[skip] = sum(skips.train(network, bars, steps=60, lr=0.1, seed=0)[-10:]) / 10
        assert losses[True] < losses[False] - 0.5

    def test_measure(self, skips, bars):
        torch.manual_seed(0)
        network = skips.Network(10, True, width=8)
        skips.train(network, bars, steps=60, lr=0.1, seed=0)
        loss, right = skips.measure(network, bars)
        assert not network.training and loss < 1 and right > 0.7
        assert skips.measure(network, (bars[0], (bars[1] + 1) % 10))[1] < 0.2


class TestLongerAndShorter:
    def test_longer_changes_no_answer(self, skips, bars, trained):
        longer = skips.lengthen(trained, 12).eval()
        assert len(trained.blocks) == 4 and len(longer.blocks) == 16
        with torch.no_grad():
            torch.testing.assert_close(longer(bars[0]), trained(bars[0]), rtol=1e-4, atol=1e-4)

    def test_deleting(self, skips, bars, trained):
        found = skips.delete_blocks(trained, bars)
        assert len(found) == 3  # the block that changes the shape stays
        assert len(trained.blocks) == 4 and not any(isinstance(block, nn.Identity) for block in trained.blocks)
        with torch.no_grad():
            for i, right in zip([i for i, block in enumerate(trained.blocks) if block.stride == 1], found, strict=True):
                x = trained.eval().stem(bars[0])
                for j, block in enumerate(trained.blocks):
                    x = x if j == i else block(x)
                answers = trained.classifier(x.mean(dim=(2, 3))).argmax(dim=1)
                assert right == pytest.approx((answers == bars[1]).float().mean().item())
        assert min(found) < skips.measure(trained, bars)[1]  # a plain network has but one path
        longer = skips.lengthen(trained, 2)
        torch.testing.assert_close(skips.delete_blocks(longer, bars)[-2:], [skips.measure(trained, bars)[1]] * 2)


class TestMain:
    @pytest.fixture
    def quick(self, skips, monkeypatch):
        train, test = picture_book.load(train=1300, test=300)
        book = ImageData(train, test, list(picture_book.CLASSES), "sample", is_real=False)
        monkeypatch.setattr(skips, "cifar10", lambda source: book)
        return skips

    def test_check_notices_networks_that_do_not_learn(self, quick, monkeypatch):
        monkeypatch.setattr(quick, "DEPTHS", (6, 10))
        monkeypatch.setattr(quick, "train", lambda *_: [2.0, 2.0])
        with pytest.raises(LessonError, match="more --steps"):
            quick.main(steps=2, seeds=1, source="sample", device="cpu", seed=0)
        assert (paths.outputs("skip_connections") / "skips.png").exists()

    def test_check_notices_wrong_flags(self, skips):
        with pytest.raises(LessonError, match="--seeds"):
            skips.main(steps=2, seeds=0, source="sample", device="cpu", seed=0)

    @pytest.mark.slow  # the claim itself: twelve networks of up to 34 layers, 50 s
    def test_keeps_its_promise(self, skips):
        results = skips.main(steps=160, seeds=2, source="sample", device="cpu", seed=2)
        assert results["loss_residual_34"] < results["loss_plain_34"] - 0.3
        assert results["loss_lengthened"] < results["loss_plain_34"] - 0.2
        assert results["deleted_residual"] > results["deleted_plain"]
