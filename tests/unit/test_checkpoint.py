"""utils.checkpoint: all of a checkpoint or the old one, and nothing in a file is ever run."""

import errno
import multiprocessing
import os
import pickle
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from utils import checkpoint, lesson
from utils.checkpoint import alone, check_saved, load, load_model, save, save_model
from utils.lesson import LessonError

PROCESSES = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")  # fork: no second import of torch


def model(width: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Linear(width, 1))


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


class Trap:
    """What a hostile pickle holds: loading it runs a command. Here, one that leaves a trace."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return (os.mkdir, (str(self.trace),))


class TestSave:
    def test_what_is_saved_is_loaded(self, tmp_path):
        state = {"step": 3, "rates": [0.5, 0.1], "weights": torch.arange(4.0), "name": "한글", "none": None, "pair": (1, 2)}
        save(tmp_path / "new folder" / "last.pt", state)
        again = load(tmp_path / "new folder" / "last.pt")
        assert torch.equal(again.pop("weights"), state.pop("weights"))
        assert again == state
        assert names_in(tmp_path / "new folder") == ["last.pt"]

    def fails(self, path, told, state=None):
        """Saving fails with one sentence, the checkpoint from before is whole, nothing else is left."""
        with pytest.raises(LessonError, match=told) as error:
            save(path, state or {"weights": torch.zeros(300_000)})
        assert "\n" not in str(error.value)
        assert "the checkpoint from before is untouched" in str(error.value)
        assert load(path) == {"step": 1}
        assert names_in(path.parent) == [path.name]

    @pytest.fixture
    def old(self, tmp_path):
        save(tmp_path / "models" / "last.pt", {"step": 1})
        return tmp_path / "models" / "last.pt"

    @pytest.mark.parametrize("step", ["torch.save", "os.fsync", "os.replace"])
    @pytest.mark.parametrize(
        "number, told", [(errno.ENOSPC, "disk is full"), (errno.EACCES, "permission"), (errno.EIO, "Input/output error|I/O")]
    )
    def test_old_one_survives_a_failure(self, old, monkeypatch, step, number, told):
        def fail(*_, **__):
            raise OSError(number, os.strerror(number), "last.pt.tmp")

        monkeypatch.setattr(step, fail)
        self.fails(old, told)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
    def test_old_one_survives_a_disk_that_really_is_full(self, old, monkeypatch):
        monkeypatch.setattr(checkpoint, "open", lambda *_: open("/dev/full", "wb"), raising=False)
        self.fails(old, "disk is full")

    def test_old_one_survives_a_limit_on_the_size_of_files(self, old):
        resource = pytest.importorskip("resource", reason="limits on the size of files are a Unix thing")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
        try:
            with pytest.raises(LessonError):
                save(old, {"weights": torch.zeros(300_000)})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert load(old) == {"step": 1}
        assert names_in(old.parent) == ["last.pt"]

    @pytest.mark.skipif(os.name == "nt" or getattr(os, "geteuid", lambda: 1)() == 0, reason="root may write everywhere")
    def test_folder_that_may_not_be_written_to(self, old):
        old.parent.chmod(0o500)
        try:
            self.fails(old, "permission")
        finally:
            old.parent.chmod(0o700)

    def test_bug_leaves_nothing_behind(self, old):
        with pytest.raises((AttributeError, pickle.PicklingError)):
            save(old, {"function": lambda: None})
        assert names_in(old.parent) == ["last.pt"]

    def test_ctrl_c_leaves_nothing_behind(self, old, monkeypatch):
        def press(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(torch, "save", press)
        with pytest.raises(KeyboardInterrupt):
            save(old, {"step": 2})
        assert names_in(old.parent) == ["last.pt"] and load(old) == {"step": 1}

    def test_first_one_that_fails_does_not_speak_of_one_before(self, tmp_path, monkeypatch):
        def fail(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(LessonError) as error:
            save(tmp_path / "last.pt", {"step": 1})
        assert "from before" not in str(error.value)
        assert names_in(tmp_path) == []


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
class TestLoad:
    def refuses(self, path, told):
        before = path.read_bytes()
        with pytest.raises(LessonError, match=told) as error:
            load(path)
        assert "\n" not in str(error.value) and path.name in str(error.value)
        assert path.read_bytes() == before

    @pytest.mark.parametrize("zipped", [True, False])
    def test_truncated_anywhere(self, tmp_path, zipped):
        path = tmp_path / "model.pt"
        torch.save({"model": model().state_dict(), "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
        whole = path.read_bytes()
        for length in {0, 1, 2, 10, 64, 100, *range(0, len(whole), len(whole) // 25), len(whole) - 100, len(whole) - 1}:
            path.write_bytes(whole[:length])
            self.refuses(path, "damaged|not only weights")  # cut in the middle of a name, it seems to name something else

    def test_scrambled_anywhere(self, tmp_path):
        """A changed byte may go unnoticed or be told in a sentence; it never is a traceback."""
        path = tmp_path / "model.pt"
        for zipped in (True, False):
            torch.save({"model": model().state_dict(), "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
            whole = path.read_bytes()
            for place in range(0, len(whole), max(1, len(whole) // 150)):
                path.write_bytes(whole[:place] + bytes([255 - whole[place]]) + whole[place + 1 :])
                try:
                    load(path)
                except LessonError as error:
                    assert "\n" not in str(error)

    @pytest.mark.parametrize(
        "content", [b"<!DOCTYPE html><html></html>", b"hello", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"\x80\x04N."]
    )
    def test_something_else(self, tmp_path, content):
        path = tmp_path / "model.pt"
        path.write_bytes(content)
        self.refuses(path, "damaged")

    @pytest.mark.parametrize("zipped", [True, False])
    def test_code_is_refused_and_not_run(self, tmp_path, zipped):
        path = tmp_path / "model.pt"
        torch.save({"model": Trap(tmp_path / "trace")}, path, _use_new_zipfile_serialization=zipped)
        self.refuses(path, "code, not only weights; it was refused and nothing in it was run")
        assert not (tmp_path / "trace").exists()
        torch.load(path, weights_only=False)  # the trap is a real one
        assert (tmp_path / "trace").exists()

    @pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
    def test_plain_pickle_with_code_is_not_run(self, tmp_path, protocol):
        path = tmp_path / "model.pt"
        path.write_bytes(pickle.dumps(Trap(tmp_path / "trace"), protocol=protocol))
        self.refuses(path, "refused|not a checkpoint")
        assert not (tmp_path / "trace").exists()

    def test_whole_model_is_refused(self, tmp_path):
        torch.save(model(), tmp_path / "model.pt")
        self.refuses(tmp_path / "model.pt", "not only weights")

    def test_no_dictionary(self, tmp_path):
        torch.save([1, 2], tmp_path / "model.pt")
        self.refuses(tmp_path / "model.pt", "holds a list, not a checkpoint")

    def test_missing(self, tmp_path):
        with pytest.raises(LessonError, match="model.pt does not exist; train first"):
            load(tmp_path / "model.pt")

    def test_folder(self, tmp_path):
        with pytest.raises(LessonError, match="folder|permission"):  # Windows speaks of permission
            load(tmp_path)


class TestModel:
    def test_comes_back_with_its_facts(self, tmp_path, monkeypatch):
        monkeypatch.setattr(lesson, "_mentioned", {})
        saved, loaded, x = model(seed=1).eval(), model(seed=2).eval(), torch.randn(5, 2)
        save_model(tmp_path / "model.pt", saved, accuracy=0.5, source="twelve numbers")
        assert load_model(tmp_path / "model.pt", loaded) == {"accuracy": 0.5, "source": "twelve numbers"}
        assert torch.equal(saved(x), loaded(x))
        assert str(tmp_path / "model.pt") in lesson._mentioned["written"]

    def test_a_file_that_holds_other_weights_is_noticed(self, tmp_path):
        saved, path = model(seed=1), tmp_path / "model.pt"
        save_model(path, saved)
        check_saved(path, saved, model(seed=2))
        with pytest.raises(LessonError, match="model.pt does not hold what was saved"):
            check_saved(path, model(seed=3), model(seed=2))

    def refuses(self, path, other, *told):
        before = {name: value.clone() for name, value in other.state_dict().items()}
        with pytest.raises(LessonError) as error:
            load_model(path, other)
        for words in told:
            assert words in str(error.value)
        assert "\n" not in str(error.value) and len(str(error.value)) < 500
        assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())  # no half-loaded model

    def test_other_shapes_are_named(self, tmp_path):
        save_model(tmp_path / "model.pt", model(width=3))
        self.refuses(
            tmp_path / "model.pt", model(width=4), "another model than Sequential", "0.weight (3, 2) instead of (4, 2)", "more"
        )

    def test_other_keys_are_named(self, tmp_path):
        save_model(tmp_path / "model.pt", nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)))
        self.refuses(tmp_path / "model.pt", model(), "lacks 1.running_mean", "and 2 more", "has 1.weight (1, 3) instead of (3,)")

    def test_additional_keys_are_named(self, tmp_path):
        save_model(tmp_path / "model.pt", model())
        self.refuses(
            tmp_path / "model.pt", nn.Sequential(nn.Linear(2, 3)), "also has 1.weight, 1.bias, 1.running_mean and 4 more"
        )

    def test_bare_weights(self, tmp_path):
        save(tmp_path / "model.pt", {f"layer {i}": torch.zeros(1) for i in range(300)})
        self.refuses(tmp_path / "model.pt", model(), "no weights under 'model'", "layer 0")

    @pytest.mark.parametrize("weights", [{1: 2}, {"0.weight": "text"}, {}, 3])
    def test_weights_that_are_none(self, tmp_path, weights):
        save(tmp_path / "model.pt", {"model": weights})
        self.refuses(tmp_path / "model.pt", model())


def hold(folder: Path, held, forks: bool = False) -> None:
    with alone(folder):
        if forks and os.fork() == 0:
            time.sleep(3)  # a DataLoader's worker: outlives its killed parent by some seconds
            os._exit(0)
        held.set()
        time.sleep(60)


class TestAlone:
    @pytest.fixture
    def holder(self, tmp_path):
        processes = []

        def start(**options):
            held = PROCESSES.Event()
            process = PROCESSES.Process(target=hold, args=(tmp_path / "models", held), kwargs=options, daemon=True)
            process.start()
            processes.append(process)
            assert held.wait(30)
            return process

        yield start
        for process in processes:
            process.kill()
            process.join()

    def test_second_process_is_turned_away_until_the_first_has_died(self, tmp_path, holder):
        process = holder()
        with pytest.raises(LessonError, match="another run is training into .*models right now"), alone(tmp_path / "models"):
            pass
        process.kill()
        process.join()
        with alone(tmp_path / "models"):
            pass

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are not forked")
    def test_orphaned_worker_does_not_hold_it(self, tmp_path, holder):
        process = holder(forks=True)
        process.kill()
        process.join()
        with alone(tmp_path / "models"):
            pass

    def test_can_be_taken_again(self, tmp_path):
        for _ in range(2):
            with alone(tmp_path):
                pass

    def test_error_inside_is_passed_on_and_frees_it(self, tmp_path, holder):
        with pytest.raises(OSError, match="inside"), alone(tmp_path / "models"):
            raise OSError("inside")
        holder()


class TestFacts:
    def test_the_default_unless_a_file_is_named(self, tmp_path):
        checkpoint.save(tmp_path / "default.pt", {"source": "ours"})
        checkpoint.save(tmp_path / "other.pt", {"source": "theirs"})
        for named, file, source in ((None, "default.pt", "ours"), (tmp_path / "other.pt", "other.pt", "theirs")):
            assert checkpoint.load_facts(named, tmp_path / "default.pt", ["source"], "run x") == (
                tmp_path / file,
                {"source": source},
            )

    def test_nothing_trained_yet(self, tmp_path):
        with pytest.raises(LessonError, match="no trained network yet: run `python -m study run x` first"):
            checkpoint.load_facts(None, tmp_path / "model.pt", [], "run x")

    def test_what_is_not_said(self, tmp_path):
        checkpoint.save(tmp_path / "model.pt", {"source": "ours"})
        with pytest.raises(
            LessonError, match=r"model.pt does not say its shape, classes: train again with `python -m study run x`"
        ):
            checkpoint.load_facts(None, tmp_path / "model.pt", ["shape", "source", "classes"], "run x")
