"""utils.tracking: what was logged can be read back."""

import struct
import sys

import matplotlib.pyplot as plt
import pytest

from utils import lesson, paths, tracking
from utils.tracking import TensorBoard


@pytest.fixture(scope="module")
def reader():
    return pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator


class TestTensorBoard:
    def test_curves_and_figures(self, tmp_path, reader, monkeypatch):
        monkeypatch.setattr(lesson, "_mentioned", {})
        figure, _ = plt.subplots(figsize=(1, 1))
        tracker = TensorBoard(tmp_path)
        for step in range(3):
            tracker.log({"train/loss": 1 / (step + 1), "train/rate": 0.1}, step)
        tracker.figure("line", figure)
        tracker.close()
        (folder,) = tmp_path.iterdir()
        log = reader(str(folder)).Reload()
        assert {point.step: point.value for point in log.Scalars("train/loss")} == pytest.approx({0: 1, 1: 1 / 2, 2: 1 / 3})
        assert log.Tags()["images"] == ["line"]
        assert plt.fignum_exists(figure.number)  # it may still be saved
        plt.close(figure)
        assert paths.short(tmp_path) in lesson._mentioned["written"][0]

    def test_each_run_is_a_curve_of_its_own(self, tmp_path, monkeypatch):
        for now in ("2030-01-01_10-00-00", "2030-01-01_10-00-01"):
            monkeypatch.setattr("utils.tracking.time.strftime", lambda _, now=now: now)
            TensorBoard(tmp_path).close()
        assert [len(list(folder.iterdir())) for folder in tmp_path.iterdir()] == [1, 1]

    def test_two_runs_in_one_second_are_kept_apart(self, tmp_path, monkeypatch):
        monkeypatch.setattr("utils.tracking.time.strftime", lambda _: "2030-01-01_10-00-00")
        for _ in range(3):
            TensorBoard(tmp_path).close()
        assert [len(list(folder.iterdir())) for folder in tmp_path.iterdir()] == [1, 1, 1]

    def test_settings_stand_beside_the_curves(self, tmp_path, reader):
        tracker = TensorBoard(tmp_path, {"lr": 0.1, "data": "sample"})
        tracker.close()
        log = reader(str(tracker.folder)).Reload()
        (event,) = log.Tensors("settings/text_summary")
        assert event.tensor_proto.string_val[0].decode() == "- lr: 0.1\n- data: sample"


class TestOtherTools:
    """The same three calls."""

    def test_tensorboard_is_started_by_name(self, tmp_path):
        tracker = tracking.start("tensorboard", tmp_path)
        tracker.close()
        assert tracker.folder.parent == tmp_path / "tensorboard"

    @pytest.mark.parametrize(("kind", "package", "name"), [("wandb", "wandb", "W&B"), ("mlflow", "mlflow", "MLflow")])
    def test_what_is_not_installed_is_one_sentence(self, kind, package, name, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(lesson.LessonError, match=f"{name} is not installed.*setup --extra tracking"):
            tracking.start(kind, tmp_path)

    @pytest.mark.parametrize(("kind", "package"), [("wandb", "wandb"), ("mlflow", "mlflow")])
    def test_curves_and_figures(self, kind, package, tmp_path, monkeypatch):
        pytest.importorskip(package, reason="the extra `tracking` is not installed")
        monkeypatch.setenv("WANDB_MODE", "online")  # nothing may leave this machine, whatever the environment says
        folder = tmp_path / "a folder 폴더"
        figure, _ = plt.subplots(figsize=(1, 1))
        for run in range(2):
            tracker = tracking.start(kind, folder, {"lr": 0.1, "name": "시험"})
            for step in range(3):
                tracker.log({"train/loss": run + 1 / (step + 1), "train/rate": 0.1}, step)
            tracker.figure("line", figure, step=2)
            tracker.close()
            curves = tracker.read()
            assert curves["train/loss"] == pytest.approx({step: run + 1 / (step + 1) for step in range(3)})
            assert curves["train/rate"] == pytest.approx(dict.fromkeys(range(3), 0.1))
        assert len(list(folder.rglob("*.png"))) == 2
        assert plt.fignum_exists(figure.number)
        plt.close(figure)

    def test_records_that_span_blocks_are_put_together(self):
        """A LevelDB log: parts of kind 2 (first) and 4 (last); the last three bytes of a block are too few for a heading."""
        block, heading = 32768, b"0123456"
        first = bytes(range(256)) * 100  # whole
        content = heading + struct.pack("<IHB", 0, len(first), 1) + first
        room, rest = block - len(content) - 7, block - 7 - 3
        second = (bytes(range(250)) * 200)[: room + rest]
        content += struct.pack("<IHB", 0, room, 2) + second[:room]
        content += struct.pack("<IHB", 0, rest, 4) + second[room:]
        content += bytes(3) + struct.pack("<IHB", 0, 5, 1) + b"third"
        assert list(tracking._log_records(content, start=7)) == [first, second, b"third"]
