"""What every test shares."""

import importlib
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import matplotlib
import pytest
import torch

matplotlib.use("Agg")
torch.set_num_threads(1)  # small tensors: on a busy machine two threads wait for each other longer than they work

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background of a shell; Ctrl-C is among what is tested
    signal.signal(signal.SIGINT, signal.default_int_handler)


def lesson(path: str):
    """Import a lesson by its path: a module name in an import statement cannot start with a digit."""
    return importlib.import_module(path.replace("/", "."))


def everything_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def processes():
    """The way in which tests start processes: from a fork server, where there is one, it imports torch once for all of them.

    Its processes have the environment in which the server was started: hand them the test's. (A fork of the test's own process
    would copy locks that other threads hold.)
    """
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    names = ["pytest", "torch._dynamo", "torch.utils.tensorboard", "matplotlib.pyplot", "sklearn.datasets", "utils.training"]
    context.set_forkserver_preload(names)
    return context


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    """Figures and checkpoints of tests go to a temporary folder; the reader's own stay as they are."""
    monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.setenv("STUDY_LANG", "en")
    monkeypatch.setenv("PYTHONUTF8", "1")  # for the processes that tests start


@pytest.fixture(autouse=True)
def shared_cache(monkeypatch, tmp_path_factory):
    """Tests share the pixels that one of them has decoded or drawn: 60,000 files take 20 s, the picture book 4 s."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # -n 2: one folder for both, beside their own
        folder = folder.parent
    monkeypatch.setattr("utils.datasets.cache.folder", lambda: folder / "cache")


@pytest.fixture(autouse=True)
def coarse_figures(request, monkeypatch):
    """Figures are drawn once, coarsely and as they are: to lay one out takes as long as to draw it, and no test looks at that.

    tests/unit/test_plotting.py sees to whole ones, and so do the slow checks, which run lessons as their readers do. Without
    matplotlib there is nothing to do: exercises should not wait for it.
    """
    if "matplotlib.figure" in sys.modules and request.node.get_closest_marker("slow") is None:
        figure = sys.modules["matplotlib.figure"].Figure
        whole = figure.savefig

        def coarse(figure, target, **settings):
            figure.set_layout_engine("none")
            whole(figure, target, **settings | {"dpi": 50, "bbox_inches": None})

        monkeypatch.setattr(figure, "savefig", coarse)


@pytest.fixture
def without_data(tmp_path, monkeypatch):
    """A machine that has no real data sets, and a place to put some: the fixture's value."""
    monkeypatch.setattr("utils.paths.ROOT", tmp_path / "project")
    monkeypatch.delenv("STUDY_DATA_DIR", raising=False)
    folder = tmp_path / "project" / "datasets"
    folder.mkdir(parents=True)
    return folder


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="the slow checks too: most are whole runs of lessons at their defaults")


def leaves_out_slow(config) -> bool:
    """Whether the slow checks are left out: not if they are asked for, by --slow, by a mark or by name."""
    return not (config.option.slow or config.option.markexpr or any("::" in argument for argument in config.args))


def pytest_collection_modifyitems(config, items):
    """Leave out the slow checks unless they are asked for; skip what needs real data where there is none, and say so."""
    from utils import catalogue

    if leaves_out_slow(config):
        slow = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)

    for item in items:
        marker = item.get_closest_marker("real_data")
        if marker is not None:
            missing = [name for name in marker.args if catalogue.find(name) is None]
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"needs real data: {', '.join(missing)} (see STUDY_DATA_DIR)"))


def pytest_report_header(config):
    return [
        f"STUDY_DATA_DIR: {os.environ.get('STUDY_DATA_DIR') or 'not set; tests on real data skip unless it is in datasets/'}",
        "slow checks: left out; --slow runs them too" if leaves_out_slow(config) else "slow checks: included",
    ]
