"""What was logged is in the files, and a choice can be made from them alone."""

import json
import sys

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.datasets import hold_out, mnist
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def tracking():
    return lesson("03_training/experiment_tracking")


@pytest.fixture(scope="module")
def digits():
    return mnist("sample")


@pytest.fixture(scope="module")
def found(tracking, tmp_path_factory):
    """One run of the whole lesson: what it returned, and the folder it wrote to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_WORK_DIR", str(tmp_path_factory.mktemp("work")))
        results = tracking.main(source="sample", steps=300, rates=(0.02, 0.2), seeds=2, others=False)
        (folder,) = (path for path in paths.outputs("experiment_tracking").iterdir() if path.is_dir())
        return results, folder


class TestLines:
    def test_what_was_logged_is_read_back(self, tracking, tmp_path):
        tracker = tracking.Lines(tmp_path / "run.jsonl", {"lr": 0.1, "data": "손글씨"})
        tracker.log({"loss": 2.5, "accuracy": 0.25}, step=0)
        tracker.log({"loss": 1.25}, step=7)
        tracker.close()
        settings, curves = tracking.read_lines(tmp_path / "run.jsonl")
        assert settings == {"lr": 0.1, "data": "손글씨"}
        assert curves == {"loss": {0: 2.5, 7: 1.25}, "accuracy": {0: 0.25}}

    def test_same_means_the_same_points(self, tracking):
        curves = {"loss": {0: 0.1, 1: 0.2}}
        assert tracking.same(curves, {"loss": {0: torch.tensor(0.1).item(), 1: 0.2}})  # TensorBoard's precision
        for other in ({"loss": {0: 0.1}}, {"loss": {0: 0.1, 1: 0.21}}, {"loss": {0: 0.1, 2: 0.2}}, {"other": {0: 0.1, 1: 0.2}}):
            assert not tracking.same(curves, other)


class TestTraining:
    def test_the_curves_are_those_of_a_run_that_learns(self, tracking, digits, tmp_path):
        train_on, validation = hold_out(digits.train, count=200)
        settings = {"lr": 0.05, "hidden": 32, "seed": 0, "steps": 200}
        model = tracking.train(train_on, validation, settings, tmp_path / "run.jsonl")
        kept, curves = tracking.read_lines(tmp_path / "run.jsonl")
        assert kept == settings
        assert list(curves["train/loss"]) == list(range(9, 200, 10)) == list(curves["validation/accuracy"])
        losses = list(curves["train/loss"].values())
        assert losses[0] > 2 and losses[-1] < 0.3
        assert curves["validation/accuracy"][199] == tracking.accuracy(model, validation) > 0.9
        assert tracking.accuracy(model, digits.test) > 0.86

    def test_same_settings_same_curve_another_seed_another(self, tracking, digits, tmp_path):
        train_on, validation = hold_out(digits.train, count=200)
        curves = []
        for number, seed in enumerate((0, 0, 1)):
            settings = {"lr": 0.05, "hidden": 8, "seed": seed, "steps": 20}
            tracking.train(train_on, validation, settings, tmp_path / f"{number}.jsonl")
            curves.append(tracking.read_lines(tmp_path / f"{number}.jsonl")[1])
        assert curves[0] == curves[1] != curves[2]


class TestTensorBoard:
    def test_everything_is_in_the_file(self, tracking, found):
        results, folder = found
        tags = tracking.read_tensorboard(folder / "tensorboard").Tags()
        assert set(tags["scalars"]) == {"train/loss", "validation/accuracy", "best/accuracy"}
        assert tags["images"] == ["worst"] and tags["graph"]
        assert len(tags["histograms"]) == 8  # weights and gradients of two layers
        projector = (folder / "tensorboard" / "projector_config.pbtxt").read_text(encoding="utf-8")
        assert "tensor_path" in projector and "sprite" in projector
        points = next((folder / "tensorboard").rglob("tensors.tsv")).read_text(encoding="utf-8").splitlines()
        assert len(points) == 100 and len(points[0].split("\t")) == 64
        assert results["tools_that_agree"] == 1

    def test_hyperparameters_are_in_the_file(self, tracking, found):
        plugin = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")
        events = tracking.read_tensorboard(found[1] / "tensorboard")
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        given = plugin.HParamsPluginData.FromString(content).session_start_info.hparams
        assert {name: value.number_value for name, value in given.items()} == {"lr": 0.05, "hidden": 64, "seed": 0, "steps": 300}

    def test_two_runs_in_one_folder_are_joined(self, tracking, tmp_path):
        assert tracking.two_runs_in_one_folder(tmp_path) == 20


class TestOtherTools:
    def test_without_them_one_sentence(self, tracking, tmp_path, monkeypatch, capsys):
        for name in ("wandb", "mlflow"):
            monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
        assert tracking.in_other_tools(tmp_path, {"lr": 0.1}, {"train/loss": {0: 1.0}}) == 0
        told = capsys.readouterr().out
        assert told.count("skipped") == 2 and "setup --extra tracking" in told

    def test_they_say_the_same(self, tracking, tmp_path):
        pytest.importorskip("wandb", reason="the extra `tracking` is not installed")
        pytest.importorskip("mlflow", reason="the extra `tracking` is not installed")
        curves = {"train/loss": {9: 2.5, 19: 1.25}, "validation/accuracy": {9: 0.25, 19: 0.5}}
        assert tracking.in_other_tools(tmp_path, {"lr": 0.1}, curves) == 2


class TestSweep:
    def test_chooses_by_the_mean_of_the_last_validation_accuracies(self, tracking, tmp_path):
        ends = {(0.1, 0): 0.9, (0.1, 1): 0.7, (0.2, 0): 0.85, (0.2, 1): 0.85, (0.3, 0): 0.99, (0.3, 1): 0.1}
        files = []
        for (lr, seed), end in ends.items():
            files.append(tmp_path / f"{lr}_{seed}.jsonl")
            tracker = tracking.Lines(files[-1], {"lr": lr, "seed": seed})
            tracker.log({"validation/accuracy": 0.95}, step=9)  # the best point of a noisy curve is luck
            tracker.log({"validation/accuracy": end}, step=19)
            tracker.close()
        rows = tracking.compare(files)
        assert [row[0] for row in rows] == [{"lr": 0.2}, {"lr": 0.1}, {"lr": 0.3}]
        assert [row[1] for row in rows] == pytest.approx([0.85, 0.8, 0.545])
        assert [row[2] for row in rows] == pytest.approx([0, 0.02**0.5, 0.6293250], rel=1e-5)

    def test_the_best_setting_reads_new_writers(self, found):
        results, folder = found
        assert len(list(folder.glob("lr*.jsonl"))) == 8
        assert results["best_hidden"] == 64
        assert results["validation_accuracy"] > 0.95
        assert results["test_accuracy"] > 0.88 > results["baseline_accuracy"] + 0.03
        assert results["baseline_accuracy"] == pytest.approx(0.833, abs=0.01)
        assert results["joined_points"] == 20
        figure = folder.parent / "sweep.png"
        assert figure.stat().st_size > 10_000

    def test_check_notices_a_sweep_that_learned_nothing(self, tracking):
        with pytest.raises(LessonError, match="hardly better"):
            tracking.main(source="sample", steps=10, rates=(1e-6,), seeds=2, others=False)

    @pytest.mark.parametrize("wrong", [{"steps": 5}, {"seeds": 1}])
    def test_too_few_is_one_sentence(self, tracking, wrong):
        with pytest.raises(LessonError, match="or more"):
            tracking.main(**{"source": "sample", "steps": 20, "rates": (0.1,), "seeds": 2, "others": False, **wrong})

    def test_a_folder_for_each_run_of_the_lesson(self, tracking):
        for _ in range(2):
            with pytest.raises(LessonError):
                tracking.main(source="sample", steps=10, rates=(1e-6,), seeds=2, others=False)
        folders = [path for path in paths.outputs("experiment_tracking").iterdir() if path.is_dir()]
        assert len(folders) == 2
        first = [json.loads((folder / "first.jsonl").read_text(encoding="utf-8").splitlines()[0]) for folder in folders]
        assert first[0] == first[1]
