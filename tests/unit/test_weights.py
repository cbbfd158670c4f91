"""utils.weights: which file is taken, and that a wrong one is never read."""

import hashlib
import os

import pytest

from utils.lesson import LessonError
from utils.weights import Published

CONTENT = b"weights"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Weights that are nowhere yet, with an empty cache."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return Published("Some", "some-weights", "w.pth", hashlib.sha256(CONTENT).hexdigest(), "owner/some", "model.safetensors")


def put_into_cache(tmp_path, revision: str, modified: int):
    file = tmp_path / "home" / "hub" / "models--owner--some" / "snapshots" / revision / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(revision.encode())
    os.utime(file, (modified, modified))
    return file


def test_nowhere(published):
    assert published.packaged() is None
    assert published.cached() is None
    assert published.find() is None


def test_package_is_found_without_importing_it(published, installed):
    file = installed("some-weights", "w.pth", CONTENT)
    assert published.packaged() == published.find() == file
    assert published.package_name() == "package some-weights 1.0"
    file.unlink()
    assert published.find() is None  # uninstalled by hand


def test_another_file_of_the_package_is_not_taken(published, installed):
    installed("some-weights", "other.pth", CONTENT)
    assert published.find() is None


def test_wrong_file_is_told(published, installed):
    file = installed("some-weights", "w.pth", CONTENT[:-1])
    with pytest.raises(LessonError, match="w.pth is not the file that it should be .* nothing in it was read: reinstall"):
        published.find()
    assert file.read_bytes() == CONTENT[:-1]


def test_cache_comes_first_and_its_newest_file(published, installed, tmp_path):
    installed("some-weights", "w.pth", CONTENT)
    new, _ = put_into_cache(tmp_path, "a", 2_000_000_000), put_into_cache(tmp_path, "b", 1_000_000_000)
    assert published.find() == published.cached() == new


def test_without_a_repository_the_cache_is_not_looked_into(installed, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    put_into_cache(tmp_path, "a", 2_000_000_000)
    assert Published("Some", "some-weights", "w.pth", "").cached() is None
