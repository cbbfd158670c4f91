"""What was saved goes on exactly; what was left out is missed; a full disk destroys nothing."""

import errno
import os

import pytest
import torch
from conftest import lesson

from utils.datasets import mnist
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def saving():
    return lesson("03_training/save_and_load")


@pytest.fixture(scope="module")
def digits():
    return mnist("sample").train[:500]


class TestState:
    def test_parameters_and_buffers(self, saving):
        kinds = saving.look_inside(saving.Network(classes=3))
        assert sum(kind == "parameter" for kind in kinds.values()) == 6
        assert [name for name, kind in kinds.items() if kind == "buffer"] == [
            "body.2.running_mean",
            "body.2.running_var",
            "body.2.num_batches_tracked",
        ]


class TestBest:
    def test_copy_is_kept_and_reference_is_not(self, saving, digits, monkeypatch):
        training = saving.Training(digits[:300], steps=30, seed=0, lr=0.003)
        steps, learn = iter(range(30)), training.step

        def learn_and_then_forget():
            if next(steps) < 20:
                learn()
            else:
                training.model.head.weight.data += torch.randn(10, 64)

        monkeypatch.setattr(training, "step", learn_and_then_forget)
        best, last, changed = saving.keep_best(training, digits[300:], steps=30, every=5)
        assert changed
        assert all(torch.equal(last[name], tensor) for name, tensor in training.model.state_dict().items())
        model, losses = saving.Network(), []
        for weights in (best, last):
            model.load_state_dict(weights)
            losses.append(saving.evaluate(model, digits[300:])[0])
        assert 2 * losses[0] < losses[1]

    def test_evaluate_leaves_the_network_training(self, saving, digits):
        model = saving.Network()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        assert saving.evaluate(model, digits) == saving.evaluate(model, digits)  # no dropout
        assert model.training
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


class TestResume:
    @pytest.mark.parametrize("stop", [3, 8, 13])  # eight steps are an epoch of 500: in the middle of one and at its end
    def test_nothing_left_out_is_bit_identical_and_anything_is_missed(self, saving, digits, tmp_path, stop):
        away, losses = saving.resume(digits, steps=20, stop=stop, seed=0, path=tmp_path / "last.pt")
        assert list(away) == ["nothing", "model", "optimizer", "scheduler", "random numbers", "data order"]
        assert away.pop("nothing") == 0
        assert losses["nothing"] == losses["not stopped"] and len(losses["nothing"]) == 20 - stop
        assert all(value > 1e-4 for value in away.values())

    def test_every_example_once_an_epoch(self, saving, digits):
        training = saving.Training(digits, steps=10, seed=0, lr=0.003)
        seen = []
        for _ in range(8):
            before = training.to_come
            training.step()
            seen.append(len(before))
        assert seen == [0, 436, 372, 308, 244, 180, 116, 52] and len(training.to_come) == 0


class TestFullDisk:
    def test_only_what_is_written_beside_survives(self, saving, tmp_path):
        path = tmp_path / "last.pt"
        message, over, beside = saving.fill_disk(path, {"weights": torch.randn(10_000)})
        assert os.strerror(errno.ENOSPC) in message
        assert not over and beside
        assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]  # nothing unfinished is left lying about

    def test_save_replaces(self, saving, tmp_path):
        for number in (1, 2):
            saving.save(tmp_path / "a.pt", {"number": number})
            assert torch.load(tmp_path / "a.pt", weights_only=True) == {"number": number}


class TestMain:
    def test_learns_and_goes_on(self, saving):
        results = saving.main(steps=120, stop=50, every=20, source="sample", seed=0)
        assert results["accuracy"] > results["baseline_accuracy"] > 0.8
        assert results["away_without_nothing"] == 0
        assert min(value for name, value in results.items() if name.startswith("away") and "nothing" not in name) > 1e-4

    def test_check_notices_a_network_that_did_not_learn(self, saving):
        with pytest.raises(LessonError, match="nearest mean"):
            saving.main(steps=2, stop=1, every=1, source="sample", seed=0)
