"""The environment: .venv in the project's root, made from requirements.txt, and the stamp that says it is complete."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from study.messages import Problem, companion, note, say
from study.processes import call

CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
STAMP, LOCK = "study.json", "study.lock"  # both inside .venv, so that they go when it goes


@dataclass(frozen=True)
class Stamp:
    """What .venv was made from, and for whom."""

    digest: str = ""  # of the requirement files; "" while an installation is not finished
    root: str = ""  # where the editable install points
    executable: str = ""  # the real file behind .venv's python; "" until the first installation has finished
    python: str = ""
    cpu: bool = False  # the two choices of `setup`, remembered for the next one
    extras: list[str] = field(default_factory=list)


# ---------------------------------------------------------------- what there is


def find_python(root: Path) -> Path | None:
    """The python to run lessons with, without changing anything: that of a complete .venv, or this one if it has all."""
    stamp = read_stamp(root)
    if is_complete(root, stamp):
        return venv_python(root)
    if not venv(root).exists() and satisfied_here(requirement_files(root, [])):
        return Path(sys.executable)
    return None


def venv(root: Path) -> Path:
    return root / ".venv"


def venv_python(root: Path) -> Path:
    return venv(root) / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def read_stamp(root: Path) -> Stamp:
    """The stamp in .venv; an empty one where there is none or it is damaged, so that pip looks after everything again."""
    try:
        stamp = Stamp(**json.loads((venv(root) / STAMP).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Stamp()
    sound = all(type(getattr(stamp, name)) is type(value) for name, value in asdict(Stamp()).items())
    return stamp if sound and all(isinstance(extra, str) for extra in stamp.extras) else Stamp()


def is_complete(root: Path, stamp: Stamp) -> bool:
    """Does .venv hold what `stamp` says, for this folder, with a Python that is still there? No process is started."""
    return (
        stamp.digest == digest(root, stamp.extras)
        and stamp.root == str(root)
        and stamp.executable == os.path.realpath(venv_python(root))
        and _base_python_is_there(root)
    )


def _base_python_is_there(root: Path) -> bool:
    """.venv borrows the Python that made it. Has that gone, what is left is a dead link, or on Windows a dead launcher."""
    home = _configuration(root).get("home")
    return home is not None and Path(home).is_dir() and venv_python(root).exists()


def _configuration(root: Path) -> dict[str, str]:
    """What pyvenv.cfg says: "home" is the folder of the Python that made .venv, "version" is that Python's."""
    try:
        lines = (venv(root) / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}


def extras(root: Path) -> list[str]:
    """The extras that exist: every requirements-NAME.txt is one."""
    return sorted(file.stem.removeprefix("requirements-") for file in root.glob("requirements-*.txt"))


def requirement_files(root: Path, chosen: list[str]) -> list[Path]:
    """requirements.txt and the files of the chosen extras (an extra that the project no longer has is forgotten)."""
    return [root / "requirements.txt", *(root / f"requirements-{name}.txt" for name in chosen if name in extras(root))]


def digest(root: Path, chosen: list[str]) -> str:
    """A fingerprint of everything that decides what is installed."""
    try:
        contents = [file.read_bytes() for file in [*requirement_files(root, chosen), root / "pyproject.toml"]]
    except FileNotFoundError as missing:
        name = Path(missing.filename).name
        raise Problem(
            say(
                f"{name} is missing from {root}: get it back with  git restore {name}",
                f"{root}에 {name} 파일이 없습니다.  git restore {name}  으로 되살리세요",
            )
        ) from None
    return hashlib.sha256(b"\0".join(content.replace(b"\r\n", b"\n") for content in contents)).hexdigest()


def satisfied_here(files: list[Path]) -> bool:
    """Does the running Python already have every package that `files` ask for? (A conda environment, Colab.)"""
    from importlib import metadata

    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:  # pytest and matplotlib bring it: where it is absent, they are too
        return False
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            line = line.partition("#")[0].partition(" --hash=")[0].strip()
            if not line or line.startswith("-"):  # `-e .` is not needed: `study run` puts the folder on the path itself
                continue
            try:
                wanted = Requirement(line)
                if wanted.marker and not wanted.marker.evaluate():
                    continue
                if not wanted.specifier.contains(metadata.version(wanted.name), prereleases=True):
                    return False
            except (InvalidRequirement, metadata.PackageNotFoundError):
                return False
    return True


# ---------------------------------------------------------------- making it


def ensure(root: Path) -> Path:
    """The python to run lessons with, set up first where needed.

    An environment that was complete before and cannot be brought up to date now (on a train, say) is used as it is.
    """
    try:
        return setup(root)
    except Problem as problem:
        if not (read_stamp(root).executable and _base_python_is_there(root)):
            raise
        note(str(problem))
        note(say("going on with the packages that are there", "지금 있는 패키지로 계속합니다"))
        return venv_python(root)


def setup(root: Path, cpu: bool = False, chosen: tuple[str, ...] = ()) -> Path:
    """Make .venv or bring it up to date, unless it is complete already; return its python.

    Args:
        root: The project's folder.
        cpu: Take PyTorch's CPU wheels. Remembered until .venv is deleted.
        chosen: Names of extras, remembered as well.

    Raises:
        Problem: an unknown extra, no `venv` in this Python, or pip failed.
    """
    unknown = [name for name in chosen if name not in extras(root)]
    if unknown:
        known = ", ".join(extras(root)) or "-"
        raise Problem(
            say(f"there is no extra {unknown[0]}; there are: {known}", f"{unknown[0]} 추가 묶음은 없습니다. 있는 것: {known}"),
            code=2,
        )
    wanted = _wanted(root, cpu, chosen)
    if is_complete(root, wanted):
        return venv_python(root)
    if not venv(root).exists() and satisfied_here(requirement_files(root, wanted.extras)):
        note(
            say(
                f"using {sys.executable}: it has every package already, so no .venv is made",
                f"{sys.executable}에 필요한 패키지가 모두 있어 .venv를 만들지 않고 그대로 씁니다",
            )
        )
        return Path(sys.executable)
    with _one_at_a_time(root):
        wanted = _wanted(root, cpu, chosen)  # while we waited, another setup may have done the work
        if not is_complete(root, wanted):
            _install(root, wanted)
    return venv_python(root)


def _wanted(root: Path, cpu: bool, chosen: tuple[str, ...]) -> Stamp:
    """The present stamp with new choices added; adding one makes it incomplete."""
    stamp = read_stamp(root)
    added = sorted({*stamp.extras, *chosen})
    changed = cpu > stamp.cpu or added != stamp.extras
    return replace(stamp, cpu=cpu or stamp.cpu, extras=added, digest="" if changed else stamp.digest)


def _install(root: Path, wanted: Stamp) -> None:
    """Everything that pip does, in steps that can be repeated; the finished stamp comes last."""
    if not _works(root):
        if wanted.executable or venv_python(root).is_symlink():
            note(say("the .venv here cannot be used any more; making it anew", "여기 있는 .venv를 쓸 수 없어 새로 만듭니다"))
        _make_venv(root)
        wanted = replace(wanted, digest="", executable="")
    moved = wanted.root != str(root) and wanted.digest == digest(root, wanted.extras)
    _write_stamp(root, replace(wanted, digest=""))  # the choices survive an interruption
    if not (moved and _reinstall_this_folder(root)):
        _install_packages(root, wanted)
    finished = replace(
        wanted,
        digest=digest(root, wanted.extras),
        root=str(root),
        executable=os.path.realpath(venv_python(root)),
        python=_configuration(root).get("version", ""),
    )
    _write_stamp(root, finished)


def _works(root: Path) -> bool:
    """Does .venv's python start, is it new enough, does it see its own packages, can it install more?"""
    # After an upgrade of the system's Python the packages stay behind in lib/python3.11, where 3.12 does not look.
    sound = "import os, sys, sysconfig; sys.exit(sys.version_info < (3, 10) or not os.path.isdir(sysconfig.get_path('purelib')))"
    if not _base_python_is_there(root) or not _succeeds(root, "-c", sound):
        return False
    return _succeeds(root, "-c", "import pip") or _succeeds(root, "-m", "ensurepip")  # uv makes environments without pip


def _succeeds(root: Path, *arguments: str) -> bool:
    try:
        return call([str(venv_python(root)), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:  # not a program at all
        return False


def _make_venv(root: Path) -> None:
    """An empty .venv with pip, in place of whatever was there (except the lock that we hold)."""
    if find_spec("venv") is None or find_spec("ensurepip") is None:
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        raise Problem(
            say(
                f"this Python cannot make environments; on Debian and Ubuntu:  sudo apt install {package}",
                f"이 파이썬에는 venv가 없습니다. 데비안·우분투라면  sudo apt install {package}  로 설치하세요",
            )
        )
    for entry in venv(root).iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()
    print(say("making .venv ...", ".venv를 만듭니다 ..."), flush=True)
    base = getattr(sys, "_base_executable", None) or sys.executable  # .venv's own python may be the one that runs us
    if call([base, "-m", "venv", str(venv(root))], cwd=root) != 0:
        raise Problem(_why_it_failed(root, "venv"))


def _install_packages(root: Path, wanted: Stamp) -> None:
    if not wanted.executable:
        print(
            say(
                "installing the packages: 2 to 8 minutes and, with CUDA, about 6 GB the first time (setup --cpu: 1 GB)",
                "패키지를 설치합니다. 처음에는 2~8분, CUDA 포함 약 6 GB가 필요합니다 (setup --cpu는 1 GB)",
            ),
            flush=True,
        )
    if wanted.cpu and sys.platform != "darwin":  # macOS has no CUDA, so its ordinary wheels are the small ones
        torch = ["torch", "torchvision", "torchaudio", "--index-url", CPU_WHEELS]
        _pip(root, *torch, *(["--force-reinstall", "--no-deps"] if _has_cuda_wheels(root) else []))
    ordinary, hashed = [], []  # pip wants hashes of everything in a call or of nothing
    for file in requirement_files(root, wanted.extras):
        (hashed if b"--hash=" in file.read_bytes() else ordinary).extend(["-r", file.name])
    _pip(root, *ordinary)
    if hashed:  # uploads by third parties: these very files, and nothing that they would bring along
        _pip(root, "--no-deps", "--require-hashes", *hashed)


def _has_cuda_wheels(root: Path) -> bool:
    """Is the torch in .venv another one than the CPU wheel? pip alone would call it installed already."""
    folders = [*venv(root).glob("lib/python*/site-packages"), venv(root) / "Lib" / "site-packages"]
    return any("+cpu" not in found.name for folder in folders for found in folder.glob("torch-*.dist-info"))


def _reinstall_this_folder(root: Path) -> bool:
    """Point .venv's editable install at this folder: it was moved here, or copied from another clone. Needs no network."""
    note(say("this folder has moved; telling .venv", "폴더가 옮겨져 .venv를 새 위치에 맞춥니다"))
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # where it fails, all is installed again, aloud
    return _run_pip(root, "--no-deps", "--no-build-isolation", "-e", ".", **silent) == 0


def _pip(root: Path, *arguments: str) -> None:
    if _run_pip(root, *arguments) != 0:
        raise Problem(_why_it_failed(root, "pip"))


def _run_pip(root: Path, *arguments: str, **options) -> int:
    command = [str(venv_python(root)), "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    return call(command, cwd=root, env=os.environ | {"PYTHONUTF8": "1"}, **options)


def _why_it_failed(root: Path, program: str) -> str:
    again = f"{companion()} setup"
    free = shutil.disk_usage(root).free / 1e9
    if free < 1:
        return say(
            f"{program} could not finish: only {free:.1f} GB are free on this disk; make room (6 GB, --cpu 1 GB), then:  {again}",
            f"{program}이(가) 끝내지 못했습니다. 디스크에 {free:.1f} GB만 남았습니다. 6 GB(--cpu는 1 GB)를 비운 뒤:  {again}",
        )
    if sys.platform == "darwin" and os.uname().machine == "x86_64":
        return say(
            f"{program} could not finish: there is no current PyTorch for Intel Macs; use Colab or another machine",
            f"{program}이(가) 끝내지 못했습니다. 인텔 맥용 최신 PyTorch는 없습니다. Colab이나 다른 컴퓨터를 쓰세요",
        )
    return say(
        f"{program} could not finish, its reason stands above (often: no network); afterwards it goes on where it was:  {again}",
        f"{program}이(가) 끝내지 못했습니다. 까닭은 위에 있습니다(대개 네트워크). 해결한 뒤 다시 부르면 이어서 합니다:  {again}",
    )


def _write_stamp(root: Path, stamp: Stamp) -> None:
    unfinished = venv(root) / f"{STAMP}.tmp"
    unfinished.write_text(json.dumps(asdict(stamp), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(unfinished, venv(root) / STAMP)


@contextlib.contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Hold the lock in .venv; wait while another setup holds it. The system takes it back when its process ends, however."""
    try:
        venv(root).mkdir(exist_ok=True)
        lock = (venv(root) / LOCK).open("w")
    except OSError as error:
        reason = error.strerror
        raise Problem(say(f"cannot write {venv(root)}: {reason}", f"{venv(root)}에 쓸 수 없습니다: {reason}")) from None
    with lock:
        if not _take(lock):
            note(say("another setup is at work here; waiting for it", "다른 설치가 진행 중이라 끝나기를 기다립니다"))
            while not _take(lock):
                time.sleep(0.3)
        yield


def _take(lock) -> bool:
    """Take the lock if it is free."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # held by another process
        return False
    except OSError:  # some network drives have no locks: better unlocked than not at all
        pass
    return True
