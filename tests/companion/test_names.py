"""Every lesson is found by all of its names, and a wrong name by the right one near it."""

import pytest

from study import lessons
from study.messages import Problem


@pytest.mark.parametrize(
    "name",
    ["autograd", "01_basics/autograd", "01_basics/autograd.py", "basics/autograd", "01/autograd", "1/autograd",
     "./01_basics/autograd.py", "AutoGrad", "01_basics\\autograd.py", " autograd "],
)  # fmt: skip
def test_names_of_a_lesson(project, name):
    assert lessons.find(name, lessons.runnable(project)) == "01_basics/autograd.py"


@pytest.mark.parametrize(
    ("name", "part"),
    [("mnist", "train"), ("project1_mnist", "train"), ("MNIST/", "train"), ("mnist/train", "train"),
     ("mnist/evaluate", "evaluate"), ("project1_mnist/predict.py", "predict"), ("09_projects/project1_mnist", "train"),
     ("09_projects\\project1_mnist\\predict.py", "predict")],
)  # fmt: skip
def test_names_of_a_project(project, name, part):
    assert lessons.find(name, lessons.runnable(project)) == f"09_projects/project1_mnist/{part}.py"


def test_a_project_of_two_words_is_called_by_the_last():
    names = lessons.names_of("09_projects/project5_realtime_detection/train.py")
    assert names[:4] == ["detection", "realtime_detection", "project5", "project5_realtime_detection"]
    assert lessons.names_of("09_projects/project5_realtime_detection/app.py")[0] == "detection/app"


def test_what_is_not_run_is_not_listed(project):
    names = lessons.runnable(project)
    assert not [path for path in names if path.endswith(("model.py", "data.py", "__init__.py", "exercises.py"))]
    assert len(names) == 6


@pytest.mark.parametrize(
    ("typed", "meant"), [("autogard", "autograd"), ("two_spiral", "two_spirals"), ("mnist/evaluat", "mnist/evaluate")]
)
def test_did_you_mean(project, typed, meant):
    with pytest.raises(Problem, match=f"did you mean.* {meant}") as raised:
        lessons.find(typed, lessons.runnable(project))
    assert raised.value.code == 2


@pytest.mark.parametrize("typed", ["01", "basics", "01_basics/"])
def test_a_stage_is_told_by_what_is_in_it(project, typed):
    with pytest.raises(Problem, match="whole stage.*autograd") as raised:
        lessons.find(typed, lessons.runnable(project))
    assert raised.value.code == 2


@pytest.mark.parametrize("typed", ["", "/", ".", "zzzzzz", "../../etc/passwd", "mnist/model"])
def test_nothing_near_is_one_sentence_too(project, typed):
    with pytest.raises(Problem, match="there is no"):
        lessons.find(typed, lessons.runnable(project))


def test_a_name_in_two_stages_needs_its_stage(project):
    (project / "02_neural_networks" / "autograd.py").touch()
    paths = lessons.runnable(project)
    with pytest.raises(Problem, match="more than one.*01_basics/autograd.*02_neural_networks/autograd"):
        lessons.find("autograd", paths)
    assert lessons.find("02/autograd", paths) == "02_neural_networks/autograd.py"
    assert lessons.usual_name("02_neural_networks/autograd.py", paths) == "02/autograd"
