"""Project 5 in other runtimes: the same boxes, from files that say what they are, or one sentence about what is wrong."""

import builtins
import importlib.util
import shutil

import pytest
import torch
from projects.detection_world import CLASSES, SIDE, trained_file, untrained_file, world

from project5_realtime_detection import export
from project5_realtime_detection.export import ENDINGS, beside, differences, fingerprint, load_exported
from project5_realtime_detection.finder import Finder, load_finder
from project5_realtime_detection.model import Detector, fused
from utils.lesson import LessonError

ONNX = ("onnx", "onnxscript", "onnxruntime")
FACTS = '{"classes": ["red", "blue"], "side": 64, "source": "sample: painted rectangles", "weights": "%s"}'


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A network that has learned to find red and blue."""
    return trained_file(tmp_path_factory.mktemp("trained") / "model.pt")


@pytest.fixture(scope="module")
def exported(file):
    """All files, beside it."""
    for package in ONNX:
        pytest.importorskip(package, reason="needs python -m study setup --extra onnx")
    export.write_files(file, world().train.images[:16])
    return file


@pytest.fixture(scope="module")
def program(request, file):
    """What torch.export makes of it, beside it: among all files, or alone where ONNX's packages are not installed."""
    path = beside(file, "exported")
    if all(map(importlib.util.find_spec, ONNX)):
        request.getfixturevalue("exported")
    else:
        model, _ = export.load_network(file)
        export.write_program(fused(model), torch.zeros(1, 3, SIDE, SIDE), FACTS % fingerprint(model), path)
    return path


class TestProgram:
    def test_says_the_same_to_the_last_digits(self, file, program):
        finder = load_exported(file, "exported")
        assert (finder.classes, finder.side, finder.source) == (CLASSES, SIDE, "sample: painted rectangles")
        box, score = differences(load_finder(file, device="cpu"), finder, world().test.images)
        assert box <= export.PIXELS and score <= export.SCORES

    def test_of_another_network_is_refused(self, program, tmp_path):
        other = untrained_file(tmp_path / "model.pt", width=8)
        shutil.copy(program, beside(other, "exported"))
        with pytest.raises(LessonError, match="was made of another network than the one that is trained now: .*detection/export"):
            load_exported(other, "exported")

    def test_damaged_is_one_sentence(self, file, program, tmp_path):
        copy = shutil.copy(file, tmp_path / "model.pt")
        for content in (program.read_bytes()[:5000], b"", b"no program"):
            beside(copy, "exported").write_bytes(content)
            with pytest.raises(LessonError, match=r"model.pt2 is damaged .*: run `python -m study run detection/export` first"):
                load_exported(copy, "exported")


class TestOnnx:
    def test_finds_the_same(self, exported):
        eager, onnx = load_finder(exported, device="cpu"), load_finder(exported, "onnx")
        box, score = differences(eager, onnx, world().test.images)
        assert box <= export.PIXELS and score <= export.SCORES
        seen = 0
        for picture in world().test.images:
            one, other = eager.find(picture), onnx.find(picture)
            torch.testing.assert_close(tuple(one), tuple(other), atol=1e-3, rtol=0)
            seen += len(one.boxes)
        assert seen >= 24 and (onnx.classes, onnx.side, onnx.source) == (CLASSES, SIDE, "sample: painted rectangles")

    def test_int8_differs_and_finds_nearly_the_same(self, exported):
        eager, int8 = load_finder(exported, device="cpu"), load_finder(exported, "int8")
        rows = list(export.compare({"eager": eager, "int8": int8}, world(), looked_at=4, repeats=1))
        assert rows[1]["map_50"] >= rows[0]["map_50"] - export.MOST_LOST and rows[0]["map_50"] > 0.9
        assert 1e-4 < rows[1]["score"] < 0.3 and rows[0]["score"] == 0
        assert beside(exported, "int8").stat().st_size < 0.6 * beside(exported, "onnx").stat().st_size

    def test_damaged_is_one_sentence(self, exported, tmp_path):
        copy = shutil.copy(exported, tmp_path / "model.pt")
        for runtime in ("onnx", "int8"):
            beside(copy, runtime).write_bytes(beside(exported, runtime).read_bytes()[:3000])
            with pytest.raises(LessonError, match=r"onnx is damaged .*: run `python -m study run detection/export` first"):
                load_exported(copy, runtime)

    def test_command_compares_all_of_them(self, exported, monkeypatch, capsys):
        monkeypatch.setattr(export.evaluation, "load", lambda *_: world())
        monkeypatch.setattr(export, "write_files", lambda *_: None)  # they are there
        results = export.main(exported, data="scenes", compiled=False, calibration=8, looked_at=4, repeats=1)
        said = capsys.readouterr().out
        assert all(name in said for name in ("eager", *ENDINGS)) and f"at {SIDE} pixels" in said
        assert results["map_50_onnx"] == pytest.approx(results["map_50_eager"]) and results["find_ms_int8"] > 0

    def test_command_notices_a_runtime_that_finds_something_else(self, exported, monkeypatch):
        monkeypatch.setattr(export.evaluation, "load", lambda *_: world())
        monkeypatch.setattr(export, "write_files", lambda *_: None)
        whole = export.load_exported

        def shifted(file, runtime):
            finder = whole(file, runtime)
            forward = finder.forward
            finder.forward = lambda pictures: (forward(pictures)[0] + 0.01, forward(pictures)[1])
            return finder

        monkeypatch.setattr(export, "load_exported", shifted)
        with pytest.raises(LessonError, match="exported finds something else than eager"):
            export.main(exported, calibration=8, looked_at=4, repeats=1)


class TestWithoutPackages:
    @pytest.fixture
    def without_onnx(self, monkeypatch):
        """Importing ONNX's packages fails."""
        whole = builtins.__import__

        def refuse(name, *rest):
            if name.split(".")[0] in ("onnx", "onnxruntime", "onnxscript"):
                raise ImportError(f"No module named {name}", name=name)
            return whole(name, *rest)

        monkeypatch.setattr(builtins, "__import__", refuse)

    def test_export_says_what_to_install_and_writes_nothing(self, tmp_path, without_onnx):
        file = untrained_file(tmp_path / "model.pt")
        with pytest.raises(LessonError, match="onnx is not installed; .*: python -m study setup --extra onnx"):
            export.write_files(file, [])
        assert [one.name for one in tmp_path.glob("model*")] == ["model.pt"]

    def test_onnx_says_what_to_install(self, tmp_path, without_onnx):
        file = untrained_file(tmp_path / "model.pt")
        beside(file, "onnx").write_bytes(b"x")
        with pytest.raises(LessonError, match="onnxruntime is not installed: python -m study setup --extra onnx"):
            load_exported(file, "onnx")


def test_fingerprints_tell_networks_apart():
    torch.manual_seed(0)
    one, other = Detector(2, 4), Detector(2, 4)
    assert fingerprint(one) == fingerprint(one) != fingerprint(other)
    other.load_state_dict(one.state_dict())
    assert fingerprint(one) == fingerprint(other)


def test_differences_are_of_boxes_that_count():
    """A box of a cell that sees nothing may lie anywhere."""

    def saying(shift: float, score: float) -> Finder:
        scores = torch.tensor([[[0.5, 0.0], [0.001, 0.0]]])
        boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10]]])
        return Finder(lambda _: (boxes + torch.tensor([[[shift], [50.0 * shift]]]), scores + score), CLASSES, SIDE, "")

    box, score = differences(saying(0, 0), saying(0.25, 0.002), world().test.images[:1])
    assert box == 0.25 and score == pytest.approx(0.002)


@pytest.mark.parametrize("wrong", [{"calibration": 0}, {"looked_at": -1}, {"repeats": 0}])
def test_wrong_flags_are_one_sentence(wrong):
    with pytest.raises(LessonError, match="must be above 0"):
        export.main(**wrong)
