"""Is everything in place? One line for each question, and what to do where the answer is no."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from study import environment
from study.messages import can_show, companion, paint, say
from study.processes import child_environment

SIGNS = {"OK": "green", "FAIL": "red", "--": "dim"}  # "--": optional, and not there


@dataclass(frozen=True)
class Line:
    """One answer; `advice` says what to do about a FAIL, or how to get what is optional."""

    sign: str
    text: str
    advice: str = ""


def examine(root: Path) -> bool:
    """Print all answers; return whether none of them is a FAIL."""
    python = environment.find_python(root)
    examinations = [
        check_python,
        lambda: check_environment(root, python),
        lambda: check_active(root, python),
        lambda: check_packages(root, python),
        lambda: check_disk(root, python),
        lambda: check_writing(root),
        check_data,
        check_console,
    ]
    healthy = True
    for examination in examinations:
        for line in examination():
            healthy = healthy and line.sign != "FAIL"
            print(f"{paint(f'[{line.sign}]', SIGNS[line.sign])} {line.text}")
            if line.advice:
                print(f"     {say('to do', '할 일') if line.sign == 'FAIL' else say('tip', '참고')}: {line.advice}", flush=True)
    if healthy:
        print(say("\nEverything is in place.", "\n모두 준비되어 있습니다."))
    return healthy


def check_python() -> list[Line]:
    text = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    if sys.maxsize <= 2**32:
        advice = say(
            "install the 64-bit Python from python.org: there is no 32-bit PyTorch",
            "python.org에서 64비트 파이썬을 설치하세요. 32비트용 PyTorch는 없습니다",
        )
        return [Line("FAIL", f"{text}, 32-bit", advice)]
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        advice = say(
            "use Colab or another machine: there is no current PyTorch for Intel Macs",
            "인텔 맥용 최신 PyTorch가 없으니 Colab이나 다른 컴퓨터를 쓰세요",
        )
        return [Line("FAIL", text, advice)]
    return [Line("OK", f"{text}, 64-bit")]


def check_environment(root: Path, python: Path | None) -> list[Line]:
    setup = f"{companion()} setup"
    stamp = environment.read_stamp(root)
    if python == environment.venv_python(root):
        choices = ", ".join([*(["cpu"] if stamp.cpu else []), *stamp.extras])
        return [
            Line("OK", say("environment .venv is complete", ".venv 환경이 갖추어졌습니다") + (f" ({choices})" if choices else ""))
        ]
    if python:
        return [
            Line(
                "OK",
                say(
                    f"no .venv: this Python has every package ({python})",
                    f".venv 없음: 이 파이썬에 패키지가 모두 있습니다 ({python})",
                ),
            )
        ]
    if stamp.root and stamp.root != str(root):
        return [Line("FAIL", say(f".venv belongs to {stamp.root}", f".venv가 {stamp.root}의 것입니다"), setup)]
    if environment.venv(root).exists():
        return [
            Line(
                "FAIL",
                say(".venv is unfinished, out of date or broken", ".venv가 미완성이거나 오래되었거나 망가졌습니다"),
                setup,
            )
        ]
    return [Line("FAIL", say("no environment yet", "아직 환경이 없습니다"), setup)]


def check_active(root: Path, python: Path | None) -> list[Line]:
    """Is the environment that the terminal has activated the one that lessons run in?"""
    active = os.environ.get("VIRTUAL_ENV")
    if not active or os.path.realpath(active) == os.path.realpath(environment.venv(root)):
        return []
    if python and Path(os.path.realpath(active)) in Path(os.path.abspath(python)).parents:
        return []
    return [
        Line(
            "FAIL",
            say(
                f"this terminal has another environment activated: {active}", f"이 터미널에는 다른 환경이 켜져 있습니다: {active}"
            ),
            say("deactivate  (or open a new terminal)", "deactivate  (또는 새 터미널을 여세요)"),
        )
    ]


# ---------------------------------------------------------------- inside the environment


def check_packages(root: Path, python: Path | None) -> list[Line]:
    python = python or environment.venv_python(root)
    if not python.exists():
        return [Line("--", say("packages not examined: no environment yet", "환경이 없어 패키지는 살펴보지 않았습니다"))]
    try:
        found = probe(root, python)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        text = say(
            f"{python} could not be examined ({type(error).__name__})",
            f"{python}을(를) 살펴볼 수 없습니다 ({type(error).__name__})",
        )
        return [Line("FAIL", text, rebuild_advice())]
    lines = [check_package(name, found) for name in ("torch", "torchvision", "torchaudio")]
    if "torch" in found["versions"]:
        lines += check_computation(found) + check_gpu(found)
    return lines + check_import_of_utils(root, python, found["utils"]) + check_font(found)


def check_package(name: str, found: dict) -> Line:
    if name in found["versions"]:
        return Line("OK", f"{name} {found['versions'][name]}")
    error = found["errors"][name]
    if name != "torch" and "CUDA version" in error:  # the wheels of one day need not be built for the same CUDA
        advice = say(
            f"it matters to lessons that use {name}; the CPU wheels fit together: delete .venv, then  {companion()} setup --cpu",
            f"{name}을(를) 쓰는 레슨에만 문제가 됩니다. CPU 버전끼리는 맞습니다. .venv를 지운 뒤  {companion()} setup --cpu",
        )
        return Line("FAIL", f"{name}: {error}", advice)
    return Line("FAIL", f"{name}: {error}", rebuild_advice())


def probe(root: Path, python: Path) -> dict:
    """What study/probe.py finds, run by `python` from a folder that has no `utils` of its own.

    Raises:
        ValueError: it printed no JSON; a crash while importing, for example.
    """
    variables = {name: value for name, value in child_environment(root).items() if name != "PYTHONPATH"}
    if os.environ.get("PYTHONPATH"):
        variables["PYTHONPATH"] = os.environ["PYTHONPATH"]  # the reader's own: what they import from belongs to the picture
    command = [str(python), str(Path(__file__).with_name("probe.py")), str(root)]
    result = subprocess.run(command, env=variables, capture_output=True, timeout=120, cwd=tempfile.gettempdir())
    return json.loads(result.stdout.decode("utf-8", errors="replace").strip().rpartition("\n")[2])


def rebuild_advice() -> str:
    return say(f"delete the folder .venv, then  {companion()} setup", f".venv 폴더를 지운 뒤  {companion()} setup")


def check_computation(found: dict) -> list[Line]:
    if found.get("computes"):
        return [Line("OK", say("a small computation and its gradient are right", "간단한 계산과 기울기가 맞습니다"))]
    return [
        Line(
            "FAIL",
            say("a small computation went wrong: ", "간단한 계산이 틀렸습니다: ") + found["errors"].get("torch", ""),
            rebuild_advice(),
        )
    ]


def check_gpu(found: dict) -> list[Line]:
    if found.get("cuda"):
        return [Line("OK", f"CUDA: {found['cuda']}")]
    if found.get("mps"):
        return [Line("OK", "MPS (Apple GPU)")]
    advice = ""
    if shutil.which("nvidia-smi"):
        advice = say(
            "there is an NVIDIA driver: update it; if setup was made with --cpu, delete .venv and set up without",
            "NVIDIA 드라이버가 있습니다. 드라이버를 새로 깔고, --cpu로 설치했다면 .venv를 지우고 다시 설치하세요",
        )
    return [
        Line(
            "--",
            say("no GPU that PyTorch can use: everything runs on the CPU", "쓸 수 있는 GPU가 없어 모두 CPU에서 실행합니다"),
            advice,
        )
    ]


def check_import_of_utils(root: Path, python: Path, origin: str | None) -> list[Line]:
    """Does `import utils` outside `study run` lead to this folder, and not to another clone?"""
    install = f'"{python}" -m pip install --no-deps -e .'
    if origin is None:
        text = say(
            "plain `python 01_basics/autograd.py` does not find utils",
            "`python 01_basics/autograd.py`처럼 직접 실행하면 utils를 찾지 못합니다",
        )
        return [Line("FAIL" if python == environment.venv_python(root) else "--", text, install)]
    if Path(origin).resolve().parent != root / "utils":
        return [
            Line(
                "FAIL",
                say(f"`import utils` leads to another folder: {origin}", f"`import utils`가 다른 폴더를 가리킵니다: {origin}"),
                install,
            )
        ]
    return [Line("OK", say("utils is imported from this folder", "utils를 이 폴더에서 가져옵니다"))]


def check_font(found: dict) -> list[Line]:
    if found.get("font"):
        return [Line("OK", say("Korean font for figures: ", "그림에 쓸 한글 글꼴: ") + found["font"])]
    if "font_error" in found:
        return [Line("--", say("fonts not examined: ", "글꼴은 살펴보지 못했습니다: ") + found["font_error"])]
    advice = say(
        "install one, on Debian and Ubuntu:  sudo apt install fonts-nanum",
        "글꼴 설치(데비안·우분투):  sudo apt install fonts-nanum",
    )
    return [Line("--", say("no Korean font: figures are labelled in English", "한글 글꼴이 없어 그림에 영어로 적습니다"), advice)]


# ---------------------------------------------------------------- around it


def check_disk(root: Path, python: Path | None) -> list[Line]:
    free = shutil.disk_usage(root).free / 1e9
    text = say(f"{free:.0f} GB free on this disk", f"디스크 여유 공간 {free:.0f} GB")
    needed = 1 if python else 7
    if free >= needed:
        return [Line("OK", text)]
    advice = say(f"make room: {needed} GB", f"{needed} GB를 비우세요") + (
        "" if python else say(", or setup --cpu (2 GB)", ". setup --cpu는 2 GB면 됩니다")
    )
    return [Line("FAIL", text, advice)]


def check_writing(root: Path) -> list[Line]:
    try:
        from utils import paths
    except ImportError:  # `check_data` says so
        return []
    shared = os.environ.get("STUDY_WORK_DIR")  # the project itself may then be read-only, as for a class that shares it
    work = Path(shared or root).expanduser()
    lines = []
    for folder in (root, work / "outputs", work / "models"):
        try:
            paths.try_writing(folder)
        except OSError as error:
            reason = error.strerror or error
            if shared and folder == root:
                text = say(
                    f"cannot write to {root}: {reason}; there are no ticks, exercises, notes and notebooks of your own",
                    f"{root}에 쓸 수 없어({reason}) 체크 표시, 연습문제 답, 노트, 노트북을 남길 수 없습니다",
                )
                lines.append(Line("--", text))
                continue
            advice = say(
                "allow writing there, or set STUDY_WORK_DIR to a folder of your own",
                "쓰기를 허용하거나 STUDY_WORK_DIR을 자기 폴더로 지정하세요",
            )
            lines.append(Line("FAIL", say(f"cannot write to {folder}: {reason}", f"{folder}에 쓸 수 없습니다: {reason}"), advice))
    if not any(line.sign == "FAIL" for line in lines):
        lines.append(Line("OK", say("outputs and models can be written", "outputs와 models에 쓸 수 있습니다")))
    return lines


def check_data() -> list[Line]:
    try:
        from utils import catalogue
    except ImportError:
        return [Line("FAIL", say("utils/catalogue.py is missing", "utils/catalogue.py가 없습니다"), "git restore utils")]
    places = {name: catalogue.find(name) for name in catalogue.CATALOGUE}
    lines = [Line("OK", say(f"data set {name}: {place}", f"데이터셋 {name}: {place}")) for name, place in places.items() if place]
    missing = sum(place is None for place in places.values())
    if missing:
        text = say(
            f"{missing} of {len(places)} data sets are not here: lessons use samples instead",
            f"데이터셋 {len(places)}개 중 {missing}개가 없어 레슨은 샘플을 씁니다",
        )
        lines.append(Line("--", text, f"{companion()} data"))
    return lines


def check_console() -> list[Line]:
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    if can_show("한글"):
        return [Line("OK", say(f"the console shows Korean ({encoding})", f"콘솔에 한글이 나옵니다 ({encoding})"))]
    advice = "chcp 65001" if os.name == "nt" else "export LANG=C.UTF-8"
    return [Line("--", f"the console cannot show Korean ({encoding}): messages are in English", advice)]
