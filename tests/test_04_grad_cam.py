"""Grad-CAM: it is what the classifier's weights say, it passes the tests that it could fail, and those tests can tell."""

import pytest
import torch
from conftest import lesson
from torch import nn

from utils import evaluation
from utils.datasets import hold_out, mnist
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def cam():
    return lesson("04_cnn/grad_cam")


@pytest.fixture(scope="module")
def digits():
    return hold_out(mnist("sample").train, 300)


@pytest.fixture(scope="module")
def network(cam, digits):
    """A network that can read most digits."""
    return cam.train(digits[0].images, digits[0].labels, images=2400, lr=0.05, seed=0)


@pytest.fixture(scope="module")
def x(cam, digits):
    return cam.prepare(digits[1].images[:40])


class TestGradCAM:
    def test_by_gradient_is_by_weights(self, cam, network, x):
        classes = torch.arange(40) % 10
        heat = cam.grad_cam(network, x, classes)
        assert heat.shape == (40, 7, 7)
        assert heat.min() >= 0 and heat.max() > 0
        torch.testing.assert_close(heat, cam.class_activation(network, x, classes), atol=1e-6, rtol=1e-5)

    def test_by_a_network_whose_maps_are_known(self, cam):
        toy = nn.Module()
        toy.features, toy.classifier = nn.Identity(), nn.Linear(2, 2, bias=False)
        toy.classifier.weight.data = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
        toy.forward = lambda x: toy.classifier(toy.features(x).mean(dim=(2, 3)))
        x = torch.tensor([[[[4.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]]], requires_grad=True)  # (1, 2, 2, 2)
        heat = cam.grad_cam(toy, x.expand(2, -1, -1, -1), torch.tensor([0, 1]))
        assert heat.tolist() == [[[1, 0], [0, 0]], [[0, 0.75], [0.75, 0]]]  # weights divided by four places; below 0 is left out

    def test_is_the_one_of_utils(self, cam, network, x):
        classes = torch.arange(40) % 10
        heat = nn.functional.interpolate(cam.grad_cam(network, x, classes)[:, None], size=28, mode="bilinear")[:, 0]
        theirs = evaluation.grad_cam(network, network.features, x, classes)
        torch.testing.assert_close(heat / heat.amax(dim=(1, 2), keepdim=True).clamp_min(1e-8), theirs, atol=1e-4, rtol=1e-4)

    def test_leaves_nothing_behind(self, cam, network, x):
        network.zero_grad()
        cam.grad_cam(network, x[:2], torch.tensor([1, 2]))
        assert all(parameter.grad is None for parameter in network.parameters())
        assert not network.features._forward_hooks
        with pytest.raises(RuntimeError):
            cam.grad_cam(network, torch.zeros(1, 5, 28, 28), torch.tensor([0]))  # five channels
        assert not network.features._forward_hooks

    def test_of_one_picture_does_not_depend_on_the_others(self, cam, network, x):
        together, alone = (cam.grad_cam(network, part, torch.full((len(part),), 3)) for part in (x[:8], x[:1]))
        torch.testing.assert_close(together[:1], alone, atol=1e-6, rtol=1e-4)

    def test_of_another_layer(self, cam, network, x):
        assert cam.grad_cam(network, x[:2], torch.tensor([0, 1]), layer="features.2").shape == (2, 14, 14)

    def test_error_is_the_one_that_is_told(self, cam):
        assert "modified inplace" in cam.meet_error()


class TestFourInOne:
    def test_is_made_of_four_classes(self, cam, digits):
        images, labels = digits[1].images, digits[1].labels
        four, classes = cam.four_in_one(images, labels, count=12, seed=0)
        assert four.shape == (12, 1, 56, 56) and four.dtype == torch.uint8
        assert all(len(set(row)) == 4 for row in classes.tolist())
        for k, (top, left) in enumerate(((0, 0), (0, 28), (28, 0), (28, 28))):
            for picture, label in zip(four[:, :, top : top + 28, left : left + 28], classes[:, k], strict=True):
                same = (images == picture).all(dim=(1, 2, 3))
                assert same.any() and label in labels[same]

    def test_heat_is_measured_where_the_class_is(self, cam, monkeypatch):
        four, classes = torch.zeros(3, 1, 8, 8), torch.tensor([[0, 1, 2, 3]] * 3)

        def heat(network, x, asked):
            maps = torch.zeros(3, 4, 4)
            for i, k in enumerate(asked.tolist()):
                maps[i, 2 * (k // 2), 2 * (k % 2)] = 3.0  # on its own quarter
            maps[1, 0, 0] += 1.0  # in the second picture some above left as well
            maps[2] = 0  # in the third one none anywhere
            return maps

        monkeypatch.setattr(cam, "grad_cam", heat)
        found = cam.heat_in_place(None, four, classes)
        assert found.tolist() == [[1, 1, 1, 1], [1, 0.75, 0.75, 0.75], [0.25] * 4]


class TestShuffled:
    def test_has_the_same_numbers_elsewhere(self, cam, network):
        before = {name: value.clone() for name, value in network.state_dict().items()}
        ignorant = cam.shuffled(network, seed=0)
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        for ours, theirs in zip(network.parameters(), ignorant.parameters(), strict=True):
            assert torch.equal(ours.flatten().sort().values, theirs.flatten().sort().values)
            assert not torch.equal(ours, theirs)


class TestOcclusion:
    def test_finds_the_only_pixel_that_counts(self, cam):
        def network(x):
            return torch.stack([5 * x[:, 0, 10, 21], torch.zeros(len(x))], dim=1)

        x = torch.zeros(2, 1, 32, 32)
        x[0, 0, 10, 21] = 1
        before = x.clone()
        found = cam.occlusion(network, x, torch.tensor([0, 0]), size=8, stride=4)
        assert found.shape == (2, 7, 7)
        covers = torch.zeros(7, 7, dtype=torch.bool)
        covers[1:3, 4:6] = True  # squares from row 4 or 8 and column 16 or 20 on
        assert torch.equal(found[0] > 1e-6, covers)
        assert found[0].max().item() == pytest.approx(0.6931 - 0.0067, abs=1e-4)
        assert found[1].abs().max() < 1e-6
        assert torch.equal(x, before)

    def test_rank_correlation_is_spearmans(self, cam):
        from scipy.stats import spearmanr

        a, b = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0)).unbind(dim=0)
        expected = [spearmanr(one.flatten(), other.flatten()).statistic for one, other in zip(a, b, strict=True)]
        assert cam.rank_correlation(a, b).tolist() == pytest.approx(expected)
        assert cam.rank_correlation(a, a.exp()).tolist() == pytest.approx([1] * 3)
        assert cam.rank_correlation(a, -a).tolist() == pytest.approx([-1] * 3)


class TestMain:
    def test_maps_pass_the_tests(self, cam):
        results = cam.main(data="cifar10", images=4800, lr=0.05, pictures=60, source="sample", device="cpu", seed=0)
        assert results["accuracy"] > max(results["baseline_accuracy"], 0.1) + 0.15
        assert results["difference_by_hand"] < 1e-5
        assert results["in_place"] > 0.38
        assert abs(results["in_place_shuffled"] - 0.25) < 0.06
        assert results["agreement_own"] > results["agreement_other"] + 0.1
        assert abs(results["agreement_shuffled"]) < 0.2

    def test_reads_digits(self, cam):
        results = cam.main(data="mnist", images=1600, lr=0.05, pictures=40, source="sample", device="cpu", seed=0)
        assert results["accuracy"] > 0.85
        assert results["in_place"] > 0.45

    @pytest.mark.slow  # real CIFAR-10 has to be decoded
    @pytest.mark.real_data("cifar10")
    def test_maps_pass_the_tests_on_real_pictures(self, cam):
        results = cam.main(data="cifar10", images=19_200, lr=0.05, pictures=200, source="real", device="cpu", seed=0)
        assert results["in_place"] > 0.35
        assert abs(results["in_place_shuffled"] - 0.25) < 0.06
        assert results["agreement_own"] > results["agreement_other"] + 0.04

    def test_check_notices_a_network_that_did_not_learn(self, cam):
        with pytest.raises(LessonError, match="more --images"):
            cam.main(data="mnist", images=64, lr=0.0, pictures=10, source="sample", device="cpu", seed=0)

    @pytest.mark.parametrize("wrong", [{"images": 32}, {"pictures": 0}])
    def test_check_notices_numbers_that_make_no_sense(self, cam, wrong):
        with pytest.raises(LessonError, match="needed are"):
            cam.main(**{"images": 640, "pictures": 10, "source": "sample"} | wrong)
