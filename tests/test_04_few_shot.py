"""Few-shot learning: the simple classifiers are what they are said to be, draws are fair, and with few pictures transfer wins."""

import functools

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson
from stripes import learn_stripes, striped_pictures
from torch import nn

from utils import pretrained
from utils.datasets import Images
from utils.lesson import LessonError
from utils.pretrained import Backbone
from utils.weights import EFFICIENTNET_LITE0


@pytest.fixture(scope="module")
def few_shot():
    return lesson("04_cnn/few_shot")


def clouds(count: int, seed: int, apart: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (count, 12) of two classes that lie `apart`, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    return torch.randn(count, 12, generator=generator) + 5 + apart * labels.view(-1, 1) * torch.eye(12)[0], labels


stripes = functools.partial(striped_pictures, noise=60)


@pytest.fixture(scope="module")
def backbone():
    """A network of two stages that has seen such stripes before."""
    torch.manual_seed(0)
    stages = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(8, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )
    return learn_stripes(stages, width=16, classes=2, noise=60)


class TestNearestMean:
    def test_by_hand(self, few_shot):
        features, labels = torch.tensor([[0.0, 0.0], [2.0, 0.0], [10.0, 0.0], [10.0, 4.0]]), torch.tensor([0, 0, 1, 1])
        means = few_shot.class_means(features, labels)
        assert means.tolist() == [[1, 0], [10, 2]]
        assert few_shot.nearest_mean(means, torch.tensor([[5.0, 0.0], [6.5, 0.0]])).tolist() == [0, 1]

    def test_is_a_linear_layer(self, few_shot):
        means = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
        queries = torch.randn(300, 12, generator=torch.Generator().manual_seed(1))
        logits = few_shot.as_linear_layer(means)(queries)
        assert torch.equal(logits.argmax(dim=1), few_shot.nearest_mean(means, queries))
        torch.testing.assert_close(queries.square().sum(dim=1, keepdim=True) - logits, torch.cdist(queries, means).square())

    def test_error_is_the_one_that_is_told(self, few_shot):
        message = few_shot.meet_error(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
        assert "floating-point" in message and "Byte" in message


class TestProbe:
    @pytest.mark.parametrize("penalty", [0.001, 0.1])
    def test_is_scikit_learns(self, few_shot, penalty):
        features, labels = clouds(40, seed=0)
        assert few_shot.compare_probe(F.normalize(features), labels, F.normalize(clouds(100, 1)[0]), penalty) < 2e-3

    def test_gradient_is_zero_at_the_end(self, few_shot):
        features, labels = clouds(30, seed=2)
        layer = few_shot.probe(F.normalize(features), labels, penalty=0.01)
        loss = F.cross_entropy(layer(F.normalize(features)), labels) + 0.005 * layer.weight.square().sum()
        assert all(gradient.abs().max() < 1e-4 for gradient in torch.autograd.grad(loss, list(layer.parameters())))

    def test_start_does_not_matter(self, few_shot):
        features, labels = clouds(30, seed=2)
        weights = []
        for seed in range(2):
            torch.manual_seed(seed)
            weights.append(few_shot.probe(F.normalize(features), labels, penalty=0.01).weight)
        torch.testing.assert_close(*weights, rtol=1e-2, atol=1e-3)


class TestTraining:
    def test_draws_are_balanced_and_nested(self, few_shot):
        labels = torch.randint(3, (90,), generator=torch.Generator().manual_seed(0))
        five, ten = (few_shot.draw_few(labels, count, seed=1) for count in (5, 10))
        assert labels[ten].bincount().tolist() == [10, 10, 10]
        assert len(set(ten.tolist())) == 30 and set(five.tolist()) < set(ten.tolist())
        assert set(five.tolist()) != set(few_shot.draw_few(labels, 5, seed=2).tolist())

    def test_fine_tuning_starts_from_the_head_and_keeps_what_is_frozen(self, few_shot, backbone):
        head = nn.Linear(16, 2)
        before = {name: tensor.clone() for name, tensor in backbone.stages.state_dict().items()}
        network = few_shot.train(backbone, stripes(12, seed=1), head, steps=3, seed=0)
        assert network[1] is head
        for name, tensor in network[0].state_dict().items():
            trained = name.startswith("1.") and "running" not in name and "tracked" not in name
            assert torch.equal(tensor, before[name]) != trained, name
            assert torch.equal(backbone.stages.state_dict()[name], before[name])

    def test_from_scratch_starts_anew(self, few_shot, backbone):
        network = few_shot.train(backbone, stripes(12, seed=1), None, steps=1, seed=0)
        assert not torch.allclose(network[0][0][0].weight, backbone.stages[0][0].weight, atol=0.05)
        assert not torch.equal(network[0][0][1].running_mean, backbone.stages[0][1].running_mean)

    def test_gradients_do_not_add_up_over_steps(self, few_shot, backbone, monkeypatch):
        """One grey picture is every batch, and the weights hardly move: the gradient of the head stays what it was."""
        norms, step = [], torch.optim.AdamW.step
        spy = lambda self, *rest: norms.append(self.param_groups[0]["params"][0].grad.norm().item()) or step(self, *rest)  # noqa: E731
        monkeypatch.setattr(torch.optim.AdamW, "step", spy)
        grey = Images(torch.full((1, 3, 16, 16), 100, dtype=torch.uint8), torch.ones(1, dtype=torch.int64))
        torch.manual_seed(0)
        few_shot.train(backbone, grey, nn.Linear(16, 2), steps=3, seed=0)
        assert norms[0] > 0.01
        assert norms == pytest.approx([norms[0]] * 3, rel=0.3)

    @pytest.mark.parametrize("fine_tuned", [True, False])
    def test_learns_from_a_head_that_knows_nothing_and_from_scratch(self, few_shot, backbone, fine_tuned):
        head = nn.Linear(16, 2) if fine_tuned else None
        for parameter in head.parameters() if fine_tuned else ():
            nn.init.zeros_(parameter)
        network = few_shot.train(backbone, stripes(60, seed=1), head, steps=60, seed=0)
        test = stripes(100, seed=2)
        right = (few_shot.predict(network, backbone.prepare(test.images)) == test.labels).float().mean()
        assert right > 0.8  # a coin has 0.5

    def test_curve_rises_and_transfer_wins_with_few(self, few_shot, backbone):
        data, test = stripes(80, seed=1), stripes(80, seed=2)
        pool, queries = backbone.features(data.images), backbone.features(test.images)
        found = few_shot.measure_curve(backbone, data, pool, test, queries, (2, 20), draws=3, steps=15, scratch=True, seed=0)
        mean = {way: accuracies.mean(dim=1).tolist() for way, accuracies in found.items()}
        assert set(mean) == {"pixels", "nearest mean", "linear probe", "fine-tuning", "from scratch"}
        assert all(accuracies.shape == (2, 3) for accuracies in found.values())
        for way in ("nearest mean", "linear probe", "fine-tuning"):
            assert min(mean[way]) > max(mean["from scratch"][0], mean["pixels"][0]) + 0.1, way
            assert mean[way][1] > 0.85, way
        assert found["pixels"].std(dim=1)[0] > 0  # other draws, other results

    def test_probe_does_not_depend_on_the_scale_of_features(self, few_shot, backbone, monkeypatch):
        data, heads = stripes(40, seed=1), []
        pool = backbone.features(data.images)
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))
        monkeypatch.setattr(few_shot, "train", lambda backbone, few, head, *_: heads.append(head) or network)
        for scale in (1, 50):
            few_shot.measure_curve(backbone, data, scale * pool, data, scale * pool, (5,), 1, 1, scratch=False, seed=0)
        torch.testing.assert_close(heads[0](pool).softmax(dim=1), heads[1](50 * pool).softmax(dim=1), rtol=0, atol=0.01)


class TestNeighbours:
    def test_by_hand(self, few_shot):
        pool = torch.tensor([[1.0, 0.0], [0.0, 5.0], [-3.0, 0.0], [2.0, 2.0]])
        assert few_shot.neighbours(pool, torch.tensor([[10.0, 1.0], [-1.0, -0.1]]), 2).tolist() == [[0, 3], [2, 1]]

    def test_what_is_compared_with_what(self, few_shot):
        """Features that tell the class, pictures that say nothing."""
        generator = torch.Generator().manual_seed(0)
        parts = [
            Images(torch.randint(0, 256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8), torch.arange(n) % 2)
            for n in (60, 40)
        ]
        features = [F.one_hot(part.labels).float() + 0.1 * torch.randn(len(part), 2, generator=generator) for part in parts]
        found = few_shot.compare_neighbours(parts[0], features[0], parts[1], features[1])
        assert found["neighbours_features"] > 0.95
        assert found["neighbours_pixels"] == pytest.approx(0.5, abs=0.12)


class TestMain:
    def arguments(self, **changes) -> dict:
        usual = {"counts": (5, 20, 100), "draws": 3, "steps": 100, "scratch": True, "weights": "own", "source": "sample"}
        return {**usual, "device": "cpu", "seed": 0, **changes}

    @pytest.mark.slow  # 12 s of CPU: a backbone, though a smaller one than the lesson's, and two draws of all ways to learn
    def test_transfer_beats_scratch_everywhere(self, few_shot, monkeypatch):
        small = functools.partial(pretrained.pretrain_backbone, steps=150, pictures=3000, width=16)
        monkeypatch.setattr(few_shot, "pretrain_backbone", small)
        results = few_shot.main(**self.arguments(counts=(5, 100), draws=2))
        for count in (5, 100):
            best = max(results[f"{way}_{count}"] for way in ("nearest_mean", "linear_probe", "fine_tuning"))
            assert best > max(results[f"from_scratch_{count}"], results[f"pixels_{count}"]) + 0.05
        assert results["fine_tuning_100"] > results["fine_tuning_5"] + 0.05
        assert results["fine_tuning_100"] > results["nearest_mean_100"] + 0.02
        assert results["neighbours_features"] > results["neighbours_pixels"] + 0.08
        assert results["agreement_of_linear_layer"] > 0.99
        assert results["difference_of_probe"] < 5e-3

    def test_check_notices_features_that_are_worth_nothing(self, few_shot, monkeypatch):
        stages = nn.Sequential(nn.MaxPool2d(32), nn.Sequential(nn.Flatten(), nn.BatchNorm1d(3)))
        flat = Backbone(stages, nn.Linear(3, 8), 32, (128.0,) * 3, (64.0,) * 3, "flat")
        monkeypatch.setattr(few_shot, "pretrain_backbone", lambda **_: flat)
        monkeypatch.setattr(few_shot, "compare_neighbours", lambda *_: {})
        with pytest.raises(LessonError, match="with transfer"):
            few_shot.main(**self.arguments(counts=(3, 20), draws=1, steps=3, scratch=False))

    @pytest.mark.parametrize("wrong", [{"counts": (0, 5)}, {"counts": (5, 500)}, {"counts": ()}, {"draws": 0}, {"steps": 0}])
    def test_numbers_that_make_no_sense_are_refused(self, few_shot, backbone, monkeypatch, wrong):
        monkeypatch.setattr(few_shot, "pretrain_backbone", lambda **_: backbone)
        with pytest.raises(LessonError, match="needed are"):
            few_shot.main(**self.arguments(**wrong))

    @pytest.mark.slow  # a minute of CPU or more: photographs of 224x224 through EfficientNet
    @pytest.mark.real_data("hymenoptera")
    @pytest.mark.skipif(EFFICIENTNET_LITE0.packaged() is None, reason="needs weights: python -m study setup --extra models")
    def test_ants_and_bees(self, few_shot):
        changes = {"weights": "efficientnet_lite0", "source": "real", "counts": (5, 20), "draws": 1, "steps": 5, "scratch": False}
        results = few_shot.main(**self.arguments(**changes))
        assert min(results["nearest_mean_20"], results["linear_probe_20"]) > 0.85
        assert results["pixels_20"] < 0.7
        assert results["neighbours_features"] > results["neighbours_pixels"] + 0.2
