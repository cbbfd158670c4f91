"""utils.paths: where things are read and written."""

import errno
import os
from pathlib import Path

import pytest

from utils import paths


class TestWriting:
    def test_beside_the_project_unless_told_otherwise(self, monkeypatch, tmp_path):
        monkeypatch.setattr(paths, "ROOT", tmp_path / "project")
        monkeypatch.delenv("STUDY_WORK_DIR")
        assert paths.outputs("autograd") == tmp_path / "project" / "outputs" / "autograd"
        monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path / "my own"))
        assert paths.models("autograd") == tmp_path / "my own" / "models" / "autograd"
        assert (tmp_path / "my own" / "models" / "autograd").is_dir()

    def test_empty_means_not_set(self, monkeypatch):
        monkeypatch.setenv("STUDY_WORK_DIR", "")
        assert paths.work_folder() == paths.ROOT
        monkeypatch.setenv("STUDY_DATA_DIR", "")
        assert paths.data_folders() == [paths.ROOT / "datasets"]

    def test_home_may_be_short(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))  # Windows
        monkeypatch.setenv("STUDY_WORK_DIR", "~/work")
        assert paths.work_folder() == tmp_path / "work"


class TestTryWriting:
    def test_nothing_is_left_behind(self, tmp_path):
        paths.try_writing(tmp_path)
        paths.try_writing(tmp_path / "not" / "yet" / "there")
        assert list(tmp_path.iterdir()) == []

    def test_relative(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        paths.try_writing(Path("here"))
        assert list(tmp_path.iterdir()) == []

    def test_a_file_in_the_place_of_a_folder(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(OSError):
            paths.try_writing(tmp_path / "file" / "outputs" / "autograd")
        assert (tmp_path / "file").read_text() == "mine"

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root, and Windows, write to a read-only folder")
    def test_no_permission(self, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(PermissionError):
            paths.try_writing(tmp_path / "outputs")

    def test_full_disk_takes_an_empty_file_but_no_content(self, monkeypatch, tmp_path):
        def full(file, content):
            file.touch()
            if content:
                raise OSError(errno.ENOSPC, "No space left on device", str(file))

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            paths.try_writing(tmp_path)
        assert list(tmp_path.iterdir()) == []


class TestReading:
    def test_home_may_be_short(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))  # Windows
        monkeypatch.setenv("STUDY_DATA_DIR", "~/data")
        assert paths.data_folders() == [paths.ROOT / "datasets", tmp_path / "data"]


class TestNames:
    def test_lesson_and_project(self):
        assert paths.lesson_name("01_basics/autograd.py") == "autograd"
        for file in ("train.py", "evaluate.py"):
            assert paths.lesson_name(paths.ROOT / "09_projects" / "project1_mnist" / file) == "project1_mnist"

    def test_short(self, tmp_path):
        assert paths.short(paths.ROOT / "models" / "a" / "b.pt") == "models/a/b.pt"
        assert paths.short(tmp_path) == str(tmp_path)
        assert paths.ROOT == Path(__file__).resolve().parents[2]
