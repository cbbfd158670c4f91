"""Project 5 learns to find, counts its mistakes rightly, goes on where it was interrupted, and saves what it says."""

import functools
from collections import Counter

import matplotlib.pyplot as plt
import pytest
import torch
from projects.detection_world import CLASSES, RECIPE, known_finder, world
from torchvision.ops import box_iou

from project5_realtime_detection import evaluate, loss, train
from project5_realtime_detection.finder import load_finder
from project5_realtime_detection.loss import NOTHING, assign, detection_loss, pairwise_overlaps
from project5_realtime_detection.model import Convolution, Detector, Said
from utils import checkpoint, paths
from utils.average_precision import Found
from utils.lesson import LessonError
from utils.training import History

CPU = torch.device("cpu")
SCENES, LOAD = train.PRESETS["scenes"].copy(), train.load  # before fixtures put the small world there
ASKED = ("width", "side", "epochs", "batch_size", "lr", "mosaics", "mirror")

# Everything that matters is said here: a reader who edits the defaults keeps a green suite.
main = functools.partial(
    train.main,
    data="scenes",
    folder=None,
    preset="default",
    **{name: RECIPE[name] for name in ASKED},
    seed=0,
    device="cpu",
    resume=False,
    figures=False,
)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """The scenes are painted rectangles, gently zoomed."""
    monkeypatch.setattr(train, "load", lambda *_, **__: world())
    monkeypatch.setattr(evaluate, "load", lambda *_, **__: world())
    monkeypatch.setitem(train.PRESETS["scenes"], "default", RECIPE)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One training run for all tests that only look: its results, and the folder that it wrote to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_WORK_DIR", str(tmp_path_factory.mktemp("work")))
        patch.setattr(train, "load", lambda *_, **__: world())
        patch.setitem(train.PRESETS["scenes"], "default", RECIPE)
        return main(), paths.models("project5_realtime_detection")


class TestLearning:
    def test_finds_what_it_has_never_seen(self, trained):
        results, _ = trained
        assert results["map_50"] > 0.9 and results["map"] > 0.4 and results["validation_map_50"] > 0.9
        assert results["baseline_map_50"] < 0.3
        assert results["objects"] == sum(map(len, world().test.labels)) == results["right"] + results["missed"]

    def test_check_notices_a_network_that_learned_nothing(self):
        with pytest.raises(LessonError, match="hardly better than boxes drawn without looking"):
            main(epochs=1, lr=1e-9)

    def test_interrupted_and_resumed_it_is_the_same_network(self, trained, press_ctrl_c):
        second_epoch = 18  # a step of it
        with press_ctrl_c(train, "compute_loss", second_epoch), pytest.raises(KeyboardInterrupt, match="--resume"):
            main()
        results = main(resume=True)
        again, first = (
            checkpoint.load(place / "model.pt") for place in (paths.models("project5_realtime_detection"), trained[1])
        )
        assert all(torch.equal(again["model"][name], first["model"][name]) for name in first["model"])
        assert results["map"] == trained[0]["map"]

    def test_resume_with_other_settings_is_refused(self, trained, monkeypatch):
        monkeypatch.setenv("STUDY_WORK_DIR", str(trained[1].parents[1]))
        with pytest.raises(LessonError, match=r"lr 0.1 \(now 0.2\)"):
            main(lr=0.2, resume=True)

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"lr": 0.0}, "--lr must be above 0"),
            ({"epochs": 0}, "--epochs must be above 0"),
            ({"batch_size": -1}, "--batch-size must be above 0"),
            ({"width": 0}, "--width must be above 0"),
            ({"width": 7}, "--width must be even"),
            ({"side": 100}, "--side must be a multiple of 32"),
            ({"mosaics": 1.5}, "--mosaics is a share"),
            ({"data": "bccd", "preset": "camera"}, "--preset camera is for scenes; --data bccd has default and fast"),
        ],
    )
    def test_wrong_flags_are_one_sentence(self, wrong, told):
        with pytest.raises(LessonError, match=told):
            main(**wrong)


class TestRecipe:
    def test_presets_have_all_settings(self):
        for presets in (SCENES, train.PRESETS["bccd"], train.PRESETS["folder"]):
            for recipe in presets.values():
                assert set(RECIPE) <= set(recipe) <= {*RECIPE, "paper", "scenes"} and recipe["side"] % 32 == 0

    def test_every_weight_learns_and_the_right_ones_turn(self):
        torch.manual_seed(0)
        model, batches, optimizer = train.prepare(world(), RECIPE, 0, CPU)
        train.compute_loss(model, next(iter(batches))).backward()
        assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())
        filters, others = optimizer.param_groups
        before_a_norm = [module.convolution.weight for module in model.modules() if isinstance(module, Convolution)]
        assert filters["orthogonal"] and not others["orthogonal"]
        assert {id(one) for one in filters["params"]} == {id(one) for one in before_a_norm}
        assert len(filters["params"]) + len(others["params"]) == len(list(model.parameters()))

    def test_things_of_the_scenes_are_not_mirrored(self):
        """A mirrored 3 is no digit."""
        assert not any(recipe["mirror"] for recipe in SCENES.values())
        assert train.PRESETS["bccd"]["default"]["mirror"] and not train.PRESETS["folder"]["default"]["mirror"]


def said(boxes: torch.Tensor, centres: torch.Tensor, logits: torch.Tensor) -> Said:
    return Said(boxes[None], logits[None], centres, torch.full((len(centres),), 8.0))


class TestLoss:
    def test_overlaps_are_those_of_torchvision(self):
        torch.manual_seed(0)
        corners = torch.rand(2, 30, 2, 2) * 50
        boxes = torch.cat([corners.amin(dim=2), corners.amax(dim=2)], dim=2)
        for ours, theirs, found in zip(
            boxes[:, :12], boxes[:, 12:], pairwise_overlaps(boxes[:, :12], boxes[:, 12:]), strict=True
        ):
            torch.testing.assert_close(found, box_iou(ours, theirs))

    def test_cells_of_an_object_are_inside_of_it_and_the_best_one_aims_at_its_overlap(self):
        centres = torch.tensor([[5.0, 5], [15, 5], [25, 5]])
        boxes = torch.tensor([[0.0, 0, 20, 10], [0, 0, 16, 10], [0, 0, 20, 10]])  # the last cell lies outside of the object
        found = assign(said(boxes, centres, torch.zeros(3, 2)), torch.tensor([[[0.0, 0, 20, 10]]]), torch.tensor([[1]]))
        assert found.chosen.tolist() == [[True, True, False]]
        torch.testing.assert_close(found.scores[0, :, 1], torch.tensor([1.0, 0.8**loss.OVERLAP_POWER, 0.0]))
        assert (found.scores[0, :, 0] == 0).all() and found.boxes[0, 1].tolist() == [0, 0, 20, 10]

    def test_a_cell_between_two_objects_goes_to_the_one_it_overlaps_more(self):
        objects = torch.tensor([[[0.0, 0, 20, 20], [0, 0, 40, 20]]])
        one = said(torch.tensor([[0.0, 0, 36, 20]]), torch.tensor([[10.0, 10]]), torch.zeros(1, 2))
        found = assign(one, objects, torch.tensor([[0, 1]]))
        assert found.boxes[0, 0].tolist() == [0, 0, 40, 20] and found.scores[0, 0].tolist() == pytest.approx([0, 0.9])

    def test_a_higher_score_makes_a_cell_the_better_one(self):
        boxes, centres = torch.tensor([[0.0, 0, 16, 16]] * 2), torch.tensor([[4.0, 4], [12, 4]])
        logits = torch.tensor([[0.0], [2.0]])
        found = assign(said(boxes, centres, logits), torch.tensor([[[0.0, 0, 16, 16]]]), torch.tensor([[0]]))
        assert found.scores[0, 1, 0] == 1 and found.scores[0, 0, 0] == pytest.approx((0.5 / torch.sigmoid(logits[1, 0])) ** 0.5)

    def test_at_most_so_many_cells_for_an_object(self):
        centres = torch.rand(50, 2) * 30 + 1
        found = assign(said(torch.rand(50, 4) + torch.tensor([0.0, 0, 31, 31]), centres, torch.zeros(50, 1)),
                       torch.tensor([[[0.0, 0, 32, 32]]]), torch.tensor([[0]]))  # fmt: skip
        assert found.chosen.sum() == loss.CELLS

    def test_rows_that_fill_up_count_for_nothing(self):
        torch.manual_seed(0)
        model = Detector(2, 4).eval()
        pictures, box = torch.rand(1, 3, 64, 64), torch.tensor([[[10.0, 10, 40, 50]]])
        filled = torch.cat([box, torch.tensor([[[0.0, 0, 64, 64]]])], dim=1)
        one = detection_loss(model, (pictures, box, torch.tensor([[1]])))
        other = detection_loss(model, (pictures, filled, torch.tensor([[1, NOTHING]])))
        torch.testing.assert_close(one, other)

    def test_pictures_without_objects_teach_silence(self):
        torch.manual_seed(0)
        model = Detector(2, 4)
        empty = (torch.rand(2, 3, 64, 64), torch.zeros(2, 1, 4), torch.full((2, 1), NOTHING))
        detection_loss(model, empty).backward()
        assert all((head.what[-1].bias.grad > 0).all() for head in model.heads)  # scores go down
        assert all(head.where[-1].bias.grad.abs().max() == 0 for head in model.heads)

    def test_what_is_right_costs_less(self):
        """A network that says the box of an object exactly, surely and once has hardly any loss."""

        class Says:
            def __init__(self, shift: float, logit: float):
                self.shift, self.logit = shift, logit

            def say(self, pictures):
                boxes = torch.tensor([[8.0, 8, 40, 40]]) + self.shift
                return said(boxes, torch.tensor([[24.0, 24]]), torch.tensor([[self.logit, -9.0]]))

        batch = (torch.zeros(1, 3, 64, 64), torch.tensor([[[8.0, 8, 40, 40]]]), torch.tensor([[0]]))
        right, shifted, silent = (detection_loss(Says(*how), batch) for how in ((0, 9.0), (6, 9.0), (0, -9.0)))
        assert right < 0.01 and shifted > right + 0.3 and silent > right + 0.3


class TestMistakes:
    BOXES, LABELS = torch.tensor([[0.0, 0, 20, 20], [40, 0, 60, 20], [0, 40, 20, 60]]), torch.tensor([0, 1, 0])

    @pytest.mark.parametrize(
        ("box", "label", "kind"),
        [
            ((0, 0, 20, 21), 0, "right"),
            ((0, 0, 20, 21), 1, "confused"),
            ((10, 0, 30, 20), 0, "misplaced"),
            ((70, 70, 80, 80), 0, "background"),
            ((52, 0, 72, 20), 0, "background"),  # near an object, but of another class and not on it
        ],
    )
    def test_each_kind(self, box, label, kind):
        found = Found(torch.tensor([box]).float(), torch.tensor([0.9]), torch.tensor([label]))
        counts, kinds = evaluate.mistakes(found, self.BOXES, self.LABELS)
        assert kinds == [kind] and counts == Counter({kind: 1}) + Counter(missed=2 if kind == "right" else 3)

    def test_second_box_of_an_object_is_a_double(self):
        found = Found(torch.tensor([[0.0, 0, 20, 21], [0, 0, 20, 20]]), torch.tensor([0.9, 0.8]), torch.tensor([0, 0]))
        assert evaluate.mistakes(found, self.BOXES, self.LABELS)[1] == ["right", "doubled"]

    def test_nothing_found_and_nothing_there(self):
        nothing = Found(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long())
        assert evaluate.mistakes(nothing, self.BOXES, self.LABELS)[0] == Counter(missed=3)
        assert evaluate.mistakes(nothing, torch.zeros(0, 4), torch.zeros(0).long())[0] == Counter()

    def test_one_that_knows_makes_none(self):
        numbers, found, precision = evaluate.measure(known_finder(), one_of_each())
        assert numbers["map_50"] == 1 == precision.mean and numbers["map_50_red"] == 1
        assert numbers["right"] == numbers["objects"] and not any(numbers[kind] for kind in evaluate.KINDS[1:])
        assert 0 <= numbers["baseline_map_50"] < 0.5


def one_of_each():
    """The painted world without pictures that have two rectangles of a colour: known_finder would make one of them."""
    data = world()
    keep = [len(labels.unique()) == len(labels) for labels in data.test.labels]
    test = type(data.test)(*([one for one, kept in zip(part, keep, strict=True) if kept] for part in data.test))
    return type(data)(data.train, data.validation, test, CLASSES, data.source, False)


class TestCommand:
    def test_measures_what_was_saved(self, trained, monkeypatch, capsys):
        monkeypatch.setenv("STUDY_WORK_DIR", str(trained[1].parents[1]))
        results = evaluate.main(data="scenes", device="cpu", figures=False)
        assert "tested on:  sample: painted rectangles" in capsys.readouterr().out
        for name in ("map_50", "map", "missed", "baseline_map_50"):
            assert results[name] == pytest.approx(trained[0][name], rel=1e-5), name
        about = checkpoint.load(trained[1] / "model.pt")
        assert about["classes"] == CLASSES and about["average_precision"] == trained[0]["validation_map_50"]

    def test_pictures_of_other_things_are_refused(self, trained, monkeypatch):
        monkeypatch.setenv("STUDY_WORK_DIR", str(trained[1].parents[1]))
        cells = world()
        monkeypatch.setattr(
            evaluate, "load", lambda *_, **__: type(cells)(cells.train, cells.validation, cells.test, ["RBC"], "cells", True)
        )
        with pytest.raises(LessonError, match="this network finds red, blue; the test pictures are of RBC"):
            evaluate.main(data="bccd", device="cpu")

    def test_says_to_train_first(self):
        with pytest.raises(LessonError, match="python -m study run detection"):
            evaluate.main(device="cpu")

    def test_figures_are_drawn(self, trained):
        numbers = [{"train_loss": 1.0, "map_50": 0.6, "map": 0.4}] * 2
        history = History(losses=[2.0, 1.0, 0.5], rates=[1.0] * 3, epochs=numbers, best_epoch=0)
        evaluate.save_figure(evaluate.draw_learning_curves(history), train.__file__, "learning_curves")
        finder = load_finder(trained[1] / "model.pt", device="cpu")
        _, found, precision = evaluate.measure(finder, world())
        evaluate.draw_results(found, precision, world())
        for name in ("learning_curves", "classes", "worst"):
            assert plt.imread(paths.outputs("project5_realtime_detection") / f"{name}.png").std() > 0.01
        assert plt.get_fignums() == []


@pytest.mark.slow  # the default run: a minute
def test_scenes_are_learned(monkeypatch):
    monkeypatch.setattr(train, "load", LOAD)
    monkeypatch.setitem(train.PRESETS["scenes"], "default", SCENES["default"])
    results = train.main(data="scenes", preset="default", seed=0, device="cpu", figures=False)
    assert results["map_50"] > 0.65 > results["baseline_map_50"] + 0.5
