"""utils.paths: where things are read and written."""

from pathlib import Path

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
