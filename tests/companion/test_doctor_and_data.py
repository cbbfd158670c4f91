"""doctor says what is wrong and what to do; data says what is there."""

import io
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from study import cli, data, doctor, environment, probe
from study.messages import Problem
from utils import catalogue
from utils.lesson import LessonError


def healthy(root: Path) -> dict:
    return {
        "versions": {"torch": "2.9", "torchvision": "0.24", "torchaudio": "2.9"},
        "errors": {},
        "computes": True,
        "cuda": None,
        "mps": False,
        "font": "NanumGothic",
        "utils": str(root / "utils" / "__init__.py"),
    }


@pytest.fixture
def found(project, monkeypatch):
    """What the probe finds; tests change it."""
    answer = healthy(project)
    monkeypatch.setattr(doctor, "probe", lambda root, python: answer)
    return answer


@pytest.fixture
def examine(project, capsys):
    def run() -> tuple[int, str]:
        code = cli.main(["doctor"], root=project)
        return code, capsys.readouterr().out

    return run


def test_healthy(examine, found):
    code, output = examine()
    assert code == 0, output
    assert "[FAIL]" not in output and "Everything is in place" in output


def test_before_setup(study, project):
    (project / "requirements.txt").write_text("a-package-that-nobody-has\n", encoding="ascii")
    result = study("doctor")
    assert result.returncode == 1
    assert "[FAIL] no environment yet\n     to do: " in result.stdout and "-m study setup" in result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("change", "sign", "words"),
    [
        (
            {"versions": {}, "errors": dict.fromkeys(("torch", "torchvision", "torchaudio"), "ImportError: no torch")},
            "FAIL",
            "ImportError: no torch",
        ),
        ({"computes": False}, "FAIL", "small computation went wrong"),
        ({"cuda": "GeForce"}, "OK", "CUDA: GeForce"),
        ({"mps": True}, "OK", "MPS"),
        ({}, "--", "no GPU that PyTorch can use"),
        ({"font": None}, "--", "no Korean font"),
        ({"utils": "/somewhere/else/utils/__init__.py"}, "FAIL", "leads to another folder: /somewhere/else"),
        ({"utils": None}, "--", "does not find utils"),
    ],
)
def test_what_the_probe_finds(examine, found, change, sign, words):
    found.update(change)
    code, output = examine()
    line = next(line for line in output.splitlines() if words in line)
    assert line.startswith(f"[{sign}]")
    assert code == (sign == "FAIL")


def test_another_environment_is_active(examine, found, monkeypatch, tmp_path):
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "other"))
    code, output = examine()
    assert code == 1 and "deactivate" in output
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    assert examine()[0] == 0


def test_environment_of_another_clone(examine, found, project):
    (project / ".venv").mkdir()
    environment._write_stamp(project, environment.Stamp(root="/another/clone"))
    code, output = examine()
    assert code == 1 and "[FAIL] .venv belongs to /another/clone" in output


def test_unfinished_environment(examine, found, project):
    (project / ".venv").mkdir()
    code, output = examine()
    assert code == 1 and "[FAIL] .venv is unfinished" in output


def test_full_disk(examine, found, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10**8})())
    code, output = examine()
    assert code == 1 and "[FAIL] 0 GB free" in output


def test_no_write_access(examine, found, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("utils.paths.try_writing", refuse)
    code, output = examine()
    assert code == 1 and output.count("[FAIL] cannot write to") == 3


def test_read_only_project_with_a_work_folder(examine, found, project, monkeypatch, tmp_path):
    """A class that shares one checkout: what a run writes goes elsewhere, so nothing is wrong."""

    def refuse(folder):
        if folder == project:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("utils.paths.try_writing", refuse)
    monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path))
    code, output = examine()
    assert code == 0
    assert f"[--] cannot write to {project}" in output and "[OK] outputs and models can be written" in output


@pytest.mark.parametrize("python", ["crashes", "missing"])
def test_python_that_cannot_be_examined(project, monkeypatch, python):
    if python == "crashes":
        monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, -11, b"", b""))
        lines = doctor.check_packages(project, Path(sys.executable))
        assert [line.sign for line in lines] == ["FAIL"]
    else:
        assert [line.sign for line in doctor.check_packages(project, None)] == ["--"]


def test_the_probe_is_a_program(project, monkeypatch, tmp_path):
    """With stand-ins for the three packages, because importing the real ones takes seconds."""
    for name, text in {
        "torch": "raise OSError('a library is missing\\nand so on')",
        "torchvision": "__version__ = '1'",
        "torchaudio": "1 / 0",
    }.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = doctor.probe(project, Path(sys.executable))
    assert found["errors"] == {"torch": "OSError: a library is missing", "torchaudio": "ZeroDivisionError: division by zero"}
    assert found["versions"] == {"torchvision": "1"}


def test_missing_data_is_one_line(monkeypatch):
    from utils import catalogue

    monkeypatch.setattr(catalogue, "find", lambda name: "here" if name == "mnist" else None)
    there, missing = doctor.check_data()
    assert there.sign == "OK" and "mnist" in there.text
    assert missing.sign == "--" and str(len(catalogue.CATALOGUE) - 1) in missing.text and missing.advice.endswith("study data")


def test_the_probe_computes():
    found = {"errors": {}}
    probe.look_at_torch(found)
    assert found["computes"] is True and not found["errors"]


class TestData:
    def test_table(self, study, tmp_path):
        output = study("data").stdout
        assert "[--] mnist" in output and "CC BY-SA" in output and "data mnist" in output and "MB" in output
        assert "data beijing_pm25" not in output and "datasets/PRSA_data_2010.1.1-2014.12.31.csv" in output
        place = tmp_path / "own data" / "MNIST" / "raw" / "train-images-idx3-ubyte"
        place.parent.mkdir(parents=True)
        place.touch()
        output = study("data", STUDY_DATA_DIR=str(tmp_path / "own data")).stdout
        assert "[OK] mnist" in output and str(place) in output

    def test_unknown(self, here):
        result = here("data", "mnits")
        assert result.returncode == 2 and "did you mean mnist?" in result.stderr
        assert "-m study data shows what there is" in here("data", "nonsense").stderr

    def test_fetch(self, monkeypatch, capsys, tmp_path):
        monkeypatch.setattr(catalogue, "find", lambda name: None)
        monkeypatch.setattr(catalogue, "fetch", lambda name: tmp_path / name)
        data.fetch(["MNIST"])
        assert str(tmp_path / "mnist") in capsys.readouterr().out

    def test_what_is_there_is_not_fetched(self, monkeypatch, tmp_path):
        monkeypatch.setattr(catalogue, "find", lambda name: tmp_path)
        monkeypatch.setattr(catalogue, "fetch", None)
        data.fetch(["mnist"])

    def test_no_network(self, monkeypatch):
        def fail(name):
            raise LessonError("mnist could not be downloaded")

        monkeypatch.setattr(catalogue, "find", lambda name: None)
        monkeypatch.setattr(catalogue, "fetch", fail)
        with pytest.raises(Problem, match="could not be downloaded"):
            data.fetch(["mnist"])

    def test_what_nobody_may_pass_on(self, here, monkeypatch):
        monkeypatch.setattr(catalogue, "find", lambda name: None)
        result = here("data", "korean_english")
        assert result.returncode == 1 and "get kor.txt from https" in result.stderr


def english_words(text: str) -> set[str]:
    """Common words of English sentences in a text; names of data sets and files are none."""
    words = "a an and are be cannot check could from is it no not of or put sent there this two with without yourself"
    return set(words.split()) & set(re.findall(r"[a-z]+", re.sub(r"https?://\S+|datasets/\S+", "", text.lower())))


class TestDataInKorean:
    @pytest.fixture(autouse=True)
    def korean(self, monkeypatch):
        monkeypatch.setenv("STUDY_LANG", "ko")
        monkeypatch.setattr("study.messages.can_show", lambda text: True)

    @pytest.mark.parametrize("there", [False, True])
    def test_table(self, monkeypatch, capsys, there):
        monkeypatch.setattr(catalogue, "find", lambda name: Path(name) if there else None)
        data.show()
        for line in capsys.readouterr().out.splitlines():
            assert not english_words(line), line

    def test_what_nobody_may_pass_on(self, here, monkeypatch):
        monkeypatch.setattr(catalogue, "find", lambda name: None)
        told = here("data", "korean_english").stderr
        assert "여기서 내려받을 수 없습니다" in told and "kor.txt" in told and not english_words(told)

    def test_unknown(self, here):
        assert not english_words(here("data", "mnits").stderr + here("data", "nonsense").stderr)

    def test_every_set_has_its_words(self):
        assert set(data.IN_KOREAN) == set(catalogue.CATALOGUE)

    def test_numbers_are_the_catalogues(self):
        for name, entry in catalogue.CATALOGUE.items():
            for english, korean in zip((entry.title, entry.licence, entry.sample), data.IN_KOREAN[name], strict=True):
                written = {number for number in re.findall(r"\d[\d,]*\d", english)}
                assert written == {number for number in re.findall(r"\d[\d,]*\d", korean)}, name

    def test_no_network(self, monkeypatch):
        def refuse(*arguments, **settings):
            raise OSError("Connection refused")

        monkeypatch.setattr(catalogue, "find", lambda name: None)
        monkeypatch.setattr(catalogue.urllib.request, "urlopen", refuse)
        with pytest.raises(Problem, match="내려받지 못했습니다.Connection refused.. 네트워크를 확인") as told:
            data.fetch(["movielens_100k"])
        assert not english_words(str(told.value)) and "datasets/movielens/" in str(told.value)

    def test_server_that_does_not_answer(self, monkeypatch):
        waiting = threading.Event()
        monkeypatch.setattr(catalogue, "find", lambda name: None)
        monkeypatch.setattr(catalogue, "SECONDS_TO_ANSWER", 0.01)
        monkeypatch.setattr(catalogue.urllib.request, "urlopen", lambda *arguments, **settings: waiting.wait(20))
        with pytest.raises(Problem, match="0초 안에 응답이 없음"):
            data.fetch(["mnist"])
        waiting.set()

    @pytest.mark.parametrize(
        ("name", "sent", "sentence"),
        [
            ("cifar10", b"<html>Please log in", "웹 페이지가 옴"),
            ("cifar10", b"something else", "체크섬이 다름"),
            ("nsmc", b"something else", "크기가 다름"),
            ("hymenoptera", b"something else", "온전하지 않음"),
            ("hymenoptera", "a zip", "zip에 hymenoptera_data/train/ants/이(가) 없음"),
        ],
    )
    def test_server_that_sends_something_else(self, monkeypatch, tmp_path, name, sent, sentence):
        class Answer(io.BytesIO):
            length = 0

            def peek(self, count):
                return b""

        if sent == "a zip":
            with zipfile.ZipFile(packed := io.BytesIO(), "w") as archive:
                archive.writestr("readme.txt", "nothing")
            sent = packed.getvalue()
        monkeypatch.setattr(catalogue.paths, "ROOT", tmp_path)
        monkeypatch.setattr(catalogue, "find", lambda name: None)
        monkeypatch.setattr(catalogue.urllib.request, "urlopen", lambda *arguments, **settings: Answer(sent))
        with pytest.raises(Problem, match="내려받지 못했습니다") as told:
            data.fetch([name])
        assert sentence in str(told.value) and "나중에 다시" in str(told.value) and not english_words(str(told.value))
