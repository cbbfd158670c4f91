"""Batch normalization: by hand it is PyTorch's in every number, a deep network needs it, and its traps are shown as they are."""

import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from utils import paths
from utils.datasets import mnist
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def norms():
    return lesson("04_cnn/batch_normalization")


@pytest.fixture(scope="module")
def digits():
    """600 digits of the sample to learn from, and its test digits, as the lesson prepares them."""
    data = mnist("sample")
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    parts = data.train[order[:600]], data.test
    return [(F.avg_pool2d((part.images / 255 - 0.1307) / 0.3081, 2), part.labels) for part in parts]


@pytest.fixture(scope="module")
def trained(norms, digits):
    return norms.train(norms.new_network(4, True, seed=0), digits[0], steps=60, lr=0.2, seed=0)


class TestByHand:
    @pytest.mark.parametrize("momentum", [0.1, 0.5, None])
    def test_is_pytorchs_in_both_modes(self, norms, momentum):
        assert norms.compare_by_hand(momentum, seed=1) < 1e-12

    def test_backward_is_autograds(self, norms):
        generator = torch.Generator().manual_seed(0)
        x, upstream = (torch.randn(3, 2, 4, 5, generator=generator, dtype=torch.float64) for _ in range(2))
        ours = norms.BatchNorm(2).double()
        nn.init.constant_(ours.weight, 1.7)
        expected = torch.autograd.grad(ours(x.requires_grad_()), (x, ours.weight, ours.bias), upstream)
        torch.testing.assert_close(norms.backward_by_hand(x, ours.weight, upstream), expected)
        assert expected[0].sum(dim=(0, 2, 3)).abs().max() < 1e-12  # a shift of the whole channel changes nothing

    def test_running_statistics_follow_the_convention(self, norms):
        x = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(0)) * 2 + 5
        norm = norms.BatchNorm(1, momentum=0.1)
        norm(x)
        assert norm.running_mean.item() == pytest.approx(0.1 * x.mean().item(), rel=1e-5)
        assert norm.running_var.item() == pytest.approx(0.9 + 0.1 * x.var(correction=1).item(), rel=1e-5)
        assert norm.num_batches_tracked == 1
        norm.eval()(x)
        assert norm.num_batches_tracked == 1
        assert not norm.running_mean.requires_grad and not norm.running_var.requires_grad

    def test_no_momentum_is_the_plain_mean(self, norms):
        batches = torch.randn(5, 4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
        norm = norms.BatchNorm(2, momentum=None)
        for x in batches:
            norm(x)
        torch.testing.assert_close(norm.running_mean, batches.mean(dim=(0, 1, 3, 4)))
        torch.testing.assert_close(norm.running_var, batches.var(dim=(1, 3, 4)).mean(dim=0))

    def test_state_dict_is_pytorchs(self, norms):
        theirs = nn.BatchNorm2d(3)
        assert list(norms.BatchNorm(3).state_dict()) == list(theirs.state_dict())
        theirs.load_state_dict(norms.BatchNorm(3).state_dict())


def test_four_norms_differ_in_their_axes(norms):
    x = 3 * torch.randn(6, 8, 5, 5, generator=torch.Generator().manual_seed(0)) + 1
    found = norms.compare_norms(x)
    assert list(found) == ["batch", "layer", "group", "instance"]
    assert max(found.values()) < 1e-5


class TestTraining:
    def test_network(self, norms):
        plain, normed = (norms.new_network(5, with_norm, seed=3) for with_norm in (False, True))
        assert sum(isinstance(layer, nn.Conv2d) for layer in plain) == 5
        assert sum(isinstance(layer, nn.BatchNorm2d) for layer in normed) == 5
        assert torch.equal(plain[0].weight, normed[0].weight)  # the same start
        assert normed(torch.zeros(2, 1, 14, 14)).shape == (2, 10)
        assert plain[2].weight.std().item() == pytest.approx((2 / 144) ** 0.5, rel=0.05)  # He

    def test_accuracy_does_not_depend_on_the_batches_in_eval_mode(self, norms, digits, trained):
        shares = {norms.accuracy(trained, digits[1], size) for size in (7, 64, 1000)}
        assert len(shares) == 1
        with torch.no_grad():
            expected = (trained(digits[1][0]).argmax(dim=1) == digits[1][1]).float().mean().item()
        assert shares.pop() == pytest.approx(expected)

    def test_a_deep_network_needs_it(self, norms, digits, monkeypatch):
        monkeypatch.setattr(norms, "RATES", (0.1,))
        found = norms.compare_rates(8, digits[0], digits[1], steps=40, seeds=range(2))
        assert found[True].shape == (1, 2)
        assert found[True].mean() > found[False].mean() + 0.2
        assert (paths.outputs("batch_normalization") / "learning_rates.png").exists()


class TestTraps:
    def test_forgetting_eval(self, norms, digits, trained):
        before = copy.deepcopy(trained.state_dict())
        found = norms.forget_eval(trained, digits[1])
        assert found["eval"] == norms.accuracy(trained, digits[1]) > 0.7
        assert found["batches of 64"] > 0.6
        assert found["batches of 1"] < found["eval"] - 0.3
        assert found["batches of one class"] < found["eval"] - 0.2
        for name, tensor in trained.state_dict().items():  # the network itself was left alone
            assert torch.equal(tensor, before[name]), name
        assert not trained.training

    def test_error_and_leak(self, norms):
        message, in_training, in_eval = norms.meet_error_and_leak(seed=0)
        assert message.startswith("Expected more than 1 value per channel when training")
        assert in_training > 0.1
        assert in_eval == 0


class TestFolding:
    def test_gives_the_same_outputs_with_fewer_layers(self, norms, digits, trained):
        folded = norms.fold(trained)
        assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded)
        assert any(isinstance(layer, nn.BatchNorm2d) for layer in trained)
        with torch.no_grad():
            torch.testing.assert_close(folded(digits[1][0]), trained(digits[1][0]), rtol=1e-4, atol=1e-4)
        difference, share = norms.compare_folded(trained, digits[1][0])
        assert difference < 1e-4 and share > 0

    def test_is_pytorchs(self, norms, trained):
        theirs = fuse_conv_bn_eval(trained[0], trained[1])
        torch.testing.assert_close(norms.fold(trained)[0].weight, theirs.weight)
        torch.testing.assert_close(norms.fold(trained)[0].bias, theirs.bias)


class TestMain:
    def test_learns(self, norms, monkeypatch):
        monkeypatch.setattr(norms, "RATES", (0.2,))
        results = norms.main(depth=4, steps=40, seeds=1, source="sample", device="cpu", seed=0)
        assert results["accuracy"] > results["baseline_accuracy"] + 0.02 > 0.8
        assert results["batches_of_1"] < results["eval"] - 0.3

    @pytest.mark.real_data("mnist")
    def test_learns_mnist(self, norms, monkeypatch):
        monkeypatch.setattr(norms, "RATES", (0.2,))
        results = norms.main(depth=4, steps=40, seeds=1, source="real", device="cpu", seed=0)
        assert results["accuracy"] > results["baseline_accuracy"]

    def test_check_notices_a_network_that_does_not_learn(self, norms, monkeypatch):
        monkeypatch.setattr(norms, "RATES", (1e-9,))
        with pytest.raises(LessonError, match="more --steps"):
            norms.main(depth=2, steps=2, seeds=1, source="sample", device="cpu", seed=0)

    def test_check_notices_a_setting_that_cannot_be(self, norms):
        with pytest.raises(LessonError, match="at least one"):
            norms.main(depth=0, steps=2, seeds=1, source="sample", device="cpu", seed=0)
