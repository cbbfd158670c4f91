"""Transfer learning: frozen is frozen, the three ways do what they say, transfer beats learning from scratch, mistakes cost."""

import copy
import functools

import pytest
import torch
from conftest import lesson
from stripes import learn_stripes, striped_pictures
from torch import nn

from utils import pretrained
from utils.datasets import Images
from utils.lesson import LessonError
from utils.pretrained import Backbone
from utils.weights import EFFICIENTNET_LITE0


@pytest.fixture(scope="module")
def transfer():
    return lesson("04_cnn/transfer_learning")


stripes = functools.partial(striped_pictures, noise=30)


@pytest.fixture(scope="module")
def backbone():
    """A network of three stages that has seen such stripes before."""
    torch.manual_seed(0)
    stages = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(8, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        nn.Sequential(nn.Conv2d(16, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )
    return learn_stripes(stages, width=16, classes=5, noise=30)


def changed(before: nn.Module, after: nn.Module, kind: str) -> bool:
    names = [name for name in before.state_dict() if ("running" in name) == (kind == "statistics") and "tracked" not in name]
    assert names
    return any(not torch.equal(before.state_dict()[name], after.state_dict()[name]) for name in names)


class TestFreezing:
    def test_neither_weights_nor_statistics_move(self, transfer, backbone):
        stages = copy.deepcopy(backbone.stages).train()
        assert transfer.freeze(stages) is stages
        out = stages(backbone.prepare(stripes(8, seed=1).images))
        assert not out.requires_grad
        assert not changed(backbone.stages, stages, "weights") and not changed(backbone.stages, stages, "statistics")

    def test_features_computed_once_train_the_same_head(self, transfer, backbone):
        passed = []  # how many pictures at a time go through the network; a copy of it keeps the hook
        hook = backbone.stages.register_forward_hook(lambda _, inputs, __: passed.append(len(inputs[0])))
        difference, slow, fast = transfer.compare_once(backbone, stripes(40, seed=1), steps=12, seed=3)
        hook.remove()
        assert difference < 1e-5
        assert passed == [16] * 12 + [16, 16, 8]
        assert min(slow, fast) > 0

    def test_activations_do_not_depend_on_their_batch(self, transfer, backbone):
        x = backbone.prepare(stripes(21, seed=2).images)
        found = transfer.activations(backbone.stages, x, batch_size=4)
        assert found.shape == (21, 16) and not found.requires_grad
        torch.testing.assert_close(found, backbone.stages(x).detach(), rtol=1e-4, atol=1e-5)

    def test_without_eval_the_statistics_move(self, transfer, backbone):
        test = stripes(60, seed=4)
        network, *_ = transfer.train(backbone, stripes(60, seed=5), "feature extraction", 80, 16, 0, 0.03)
        before = copy.deepcopy(backbone.stages)
        # Pictures of a single class, as in a sorted folder: the statistics follow it.
        lying = stripes(240, seed=6)
        lying = Images(255 - (lying.images[::2] * 0.5).to(torch.uint8), lying.labels[::2])
        found = transfer.forget_eval(backbone, network[1], lying, test, batch_size=10)
        assert found["weights"] == 0 and found["statistics"] > 0.3
        assert found["right"] == transfer.score(network, backbone.prepare(test.images), test.labels) > 0.9
        assert found["moved"] < found["right"] - 0.1
        assert found["training_mode"] < found["right"] - 0.1
        assert not changed(before, backbone.stages, "statistics") and not backbone.stages.training


class TestWays:
    def test_rates_fall_with_depth_only_in_fine_tuning(self, transfer):
        assert transfer.learning_rates("fine-tuning", 0.01, 3) == pytest.approx([0.001, 0.0005, 0.00025])
        assert (
            transfer.learning_rates("one large rate", 0.01, 2) == transfer.learning_rates("from scratch", 0.01, 2) == [0.01] * 2
        )

    @pytest.mark.parametrize(("way", "moves"), [("feature extraction", []), ("fine-tuning", [1, 2]), ("from scratch", [0, 1, 2])])
    def test_what_moves(self, transfer, backbone, way, moves):
        before = copy.deepcopy(backbone.stages)
        network, losses, _ = transfer.train(backbone, stripes(20, seed=1), way, 5, 8, 0, 0.01)
        assert len(losses) == 5 and losses.isfinite().all()
        assert not network.training
        for number, (old, new) in enumerate(zip(before, network[0], strict=True)):
            assert changed(old, new, "weights") == (number in moves)
            assert changed(old, new, "statistics") == (way == "from scratch")
        assert not changed(before, backbone.stages, "weights")  # the backbone itself is as it was

    def test_from_scratch_knows_nothing(self, transfer, backbone):
        """Without a step, its weights are new ones: other for another seed, the same for the same."""
        few = stripes(20, seed=1)
        first, again, other = (transfer.train(backbone, few, "from scratch", 1, 8, seed, 0.0)[0][0] for seed in (0, 0, 1))
        assert changed(backbone.stages, first, "weights")
        assert changed(first, other, "weights") and not changed(first, again, "weights")

    @pytest.mark.parametrize("way", ["from scratch", "feature extraction", "fine-tuning"])
    def test_learns(self, transfer, backbone, way):
        test = stripes(60, seed=4)
        network, losses, seconds = transfer.train(backbone, stripes(60, seed=5), way, 80, 16, 0, 0.01)
        assert losses[-10:].mean() < 0.5 * losses[:10].mean()
        assert transfer.score(network, backbone.prepare(test.images), test.labels) > 0.9
        assert seconds > 0

    def test_gradients_do_not_add_up_over_steps(self, transfer, backbone, monkeypatch):
        """One grey picture is every batch, and the weights hardly move: the gradient of the head stays what it was."""
        norms, step = [], torch.optim.AdamW.step
        spy = lambda self, *rest: norms.append(self.param_groups[0]["params"][0].grad.norm().item()) or step(self, *rest)  # noqa: E731
        monkeypatch.setattr(torch.optim.AdamW, "step", spy)
        grey = Images(torch.full((1, 3, 16, 16), 100, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
        transfer.train(backbone, grey, "fine-tuning", 3, 4, 0, 0.0)
        assert norms[0] > 0.01
        assert norms == pytest.approx([norms[0]] * 3, rel=0.3)

    def test_every_way_sees_the_same_batches(self, transfer, backbone, monkeypatch):
        drawn, randint, few = {}, torch.randint, stripes(20, seed=1)
        for way in transfer.WAYS:
            drawn[way] = []
            monkeypatch.setattr(torch, "randint", lambda *a, log=drawn[way], **k: log.append(randint(*a, **k)) or log[-1])
            transfer.train(backbone, few, way, 4, 8, 7, 0.01)
        first, *others = (torch.stack(batches) for batches in drawn.values())
        assert all(torch.equal(first, other) for other in others)

    def test_mirror_images_are_among_them(self, transfer, backbone, monkeypatch):
        few = stripes(6, seed=1)
        seen = []
        monkeypatch.setattr(transfer, "activations", lambda stages, x: seen.append(x) or transfer.torch.zeros(len(x), 16))
        transfer.train(backbone, few, "feature extraction", 1, 4, 0, 0.01)
        assert torch.equal(seen[1], seen[0].flip(-1)) and not torch.equal(seen[0], seen[1])


def test_another_normalisation_costs(transfer, backbone):
    few, test = stripes(60, seed=5), stripes(60, seed=4)
    right, *_ = transfer.train(backbone, few, "feature extraction", 80, 16, 0, 0.03)
    in_use, throughout = transfer.normalise_otherwise(backbone, right, few, test, 80, 0)
    assert in_use < transfer.score(right, backbone.prepare(test.images), test.labels) - 0.2
    assert 0.3 < throughout <= 1


def test_error_is_the_one_that_is_told(transfer, backbone):
    message = transfer.meet_error(backbone, 2)
    assert "size mismatch for weight" in message and "[5, 16]" in message and "[2, 16]" in message


class TestMain:
    def arguments(self, **changes) -> dict:
        usual = {
            "pictures": 60,
            "steps": 100,
            "batch_size": 16,
            "seeds": 5,
            "weights": "own",
            "source": "sample",
            "device": "cpu",
        }
        return {**usual, "seed": 0, **changes}

    @pytest.mark.slow  # 12 s of CPU: a backbone, though a smaller one than the lesson's, and two seeds of all ways to learn
    def test_transfer_beats_scratch_and_mistakes_cost(self, transfer, monkeypatch):
        small = functools.partial(pretrained.pretrain_backbone, steps=150, pictures=3000, width=16)
        monkeypatch.setattr(transfer, "pretrain_backbone", small)
        results = transfer.main(**self.arguments(seeds=2))
        best = max(results["accuracy_feature_extraction"], results["accuracy_fine_tuning"])
        assert min(results["accuracy_feature_extraction"], results["accuracy_fine_tuning"]) > results["baseline_accuracy"] + 0.05
        assert best > results["accuracy_from_scratch"] + 0.07
        assert results["accuracy_one_large_rate"] < best - 0.07
        assert min(results["accuracy_eval_forgotten"], results["accuracy_training_mode"]) < best - 0.05
        assert results["accuracy_normalised_otherwise"] < best - 0.07
        assert results["difference_once"] < 1e-5

    def test_check_notices_features_that_are_worth_nothing(self, transfer, backbone, monkeypatch):
        flat = Backbone(nn.Sequential(*(nn.Sequential(layer, nn.Identity()) for layer in (nn.MaxPool2d(32), nn.Flatten()))),
                        nn.Linear(3, 8), 32, (128.0,) * 3, (64.0,) * 3, "flat")  # fmt: skip
        monkeypatch.setattr(transfer, "pretrain_backbone", lambda **_: flat)
        monkeypatch.setattr(transfer, "forget_eval", lambda *_: {})
        monkeypatch.setattr(transfer, "draw_figure", lambda *_: None)
        with pytest.raises(LessonError, match="with transfer"):
            transfer.main(**self.arguments(steps=10, seeds=1))

    @pytest.mark.parametrize("wrong", [{"pictures": 5}, {"pictures": 1000}, {"steps": 3}, {"seeds": 0}, {"batch_size": 1}])
    def test_numbers_that_make_no_sense_are_refused(self, transfer, backbone, monkeypatch, wrong):
        monkeypatch.setattr(transfer, "pretrain_backbone", lambda **_: backbone)
        with pytest.raises(LessonError, match="needed are"):
            transfer.main(**self.arguments(**wrong))

    @pytest.mark.slow  # a minute of CPU or more: photographs of 224x224 through EfficientNet
    @pytest.mark.real_data("hymenoptera")
    @pytest.mark.skipif(EFFICIENTNET_LITE0.packaged() is None, reason="needs weights: python -m study setup --extra models")
    def test_ants_and_bees(self, transfer, monkeypatch):
        fast = {way: transfer.WAYS[way] for way in ("from scratch", "feature extraction", "fine-tuning", "one large rate")}
        del fast["from scratch"], fast["one large rate"]
        train = transfer.train

        def without_the_slow_ones(backbone, few, way, *rest):
            way = way if way in fast else "feature extraction"
            return train(backbone, few, way, *rest)

        monkeypatch.setattr(transfer, "train", without_the_slow_ones)
        monkeypatch.setattr(transfer, "check", lambda *_: None)
        results = transfer.main(**self.arguments(weights="efficientnet_lite0", source="real", steps=60, seeds=1, pictures=244))
        assert results["accuracy_feature_extraction"] >= 0.93
        assert results["baseline_accuracy"] < 0.7
