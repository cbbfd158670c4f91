"""What the unit tests share."""

import signal
import socket
import urllib.request

import pytest
from conftest import everything_in

from utils import catalogue
from utils.lesson import LessonError


@pytest.fixture
def ctrl_c():
    """Ctrl-C does what it does in a terminal, even where the tests themselves were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def no_network(monkeypatch):
    """Whoever asks the network fails the test."""

    def refuse(*arguments, **_):
        raise AssertionError(f"the network was asked: {arguments}")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(catalogue, "fetch", refuse)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a package of weights: installed("some-weights", "w.pth", b"content") returns the file; importing it is an error."""

    def install(package: str, file: str, content: bytes):
        name = package.replace("-", "_")
        info, folder = tmp_path / f"{name}-1.0.dist-info", tmp_path / name / "models"
        folder.mkdir(parents=True)
        info.mkdir()
        (folder.parent / "__init__.py").write_text("raise SystemExit('imported')", encoding="utf-8")
        (folder / file).write_bytes(content)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
        (info / "RECORD").write_text(f"{name}/__init__.py,,\n{name}/models/{file},,\n", encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        return folder / file

    return install


@pytest.fixture
def fails(without_data):
    """Loading gives one sentence with these words, and no file has changed."""

    def fails(load, *told):
        before = everything_in(without_data)
        for source in ("real", "auto"):  # a damaged file is no reason to use the sample without a word
            with pytest.raises(LessonError) as error:
                load(source)
            for words in told:
                assert words in str(error.value)
            assert "\n" not in str(error.value)
        assert everything_in(without_data) == before

    return fails
