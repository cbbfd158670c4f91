"""utils.tracking: what was logged can be read back."""

import matplotlib.pyplot as plt
import pytest

from utils import lesson, paths
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
