"""Project 6 learns to make faces, goes on where it was interrupted, measures and saves what it says."""

import functools

import matplotlib.pyplot as plt
import pytest
import torch
from projects.faces_world import a_quick_reader, few_faces, photographs, untrained

from project6_faces import data as loading
from project6_faces import directions, evaluate, reader, train
from project6_faces import model as networks
from project6_faces.data import pictures
from project6_faces.model import load_network
from utils import checkpoint, paths
from utils.datasets import faces as sets
from utils.lesson import LessonError
from utils.training import History

# Everything that matters is said here: a reader who edits the defaults keeps a green suite.
main = functools.partial(
    train.main,
    source="sample",
    data="auto",
    model="diffusion",
    steps=450,
    lr=4e-3,
    width=128,
    batch_size=64,
    faces=1500,
    seed=0,
    device="cpu",
    resume=False,
    figures=False,
)


@pytest.fixture(scope="module")
def quick_reader():
    return a_quick_reader()


@pytest.fixture(autouse=True)
def _small(request, monkeypatch, quick_reader):
    """Few faces are held out, and the reader is there already; but not in the default run."""
    if request.node.get_closest_marker("slow") is None:
        settle(monkeypatch, quick_reader)


def settle(patch, quick_reader) -> None:
    patch.setattr(sets, "drawn", lambda count, size: few_faces(count, 500))
    patch.setattr(reader, "train_reader", lambda data: quick_reader)
    patch.setattr(evaluate, "ASKED", 20)
    patch.setattr(train, "DIRECTIONS", 2)
    patch.setattr(train, "ENOUGH", 1.2)  # after so few steps it is told by precision and recall
    patch.setattr(train, "STEPS_PER_EPOCH", 150)
    patch.setattr(directions, "FACES", 150)
    patch.setattr(directions, "MEASURED", 4)
    patch.setattr(networks, "STEPS_BACK", 10)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, quick_reader):
    """One training run for all tests that only look: its results, and the folder that it wrote to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_WORK_DIR", str(tmp_path_factory.mktemp("work")))
        settle(patch, quick_reader)
        return main(), paths.models("project6_faces")


class TestLearning:
    def test_diffusion_beats_normal_pixels_and_does_what_it_is_asked(self, trained):
        results, _ = trained
        assert results["precision_model"] > results["precision_gaussian"] + 0.08
        assert results["recall_model"] > results["recall_gaussian"] + 0.05
        assert results["asked_skin"] > 0.95 and results["asked_turn"] > 0.9 and results["asked_glasses"] > 0.9
        assert results["asked"] > 0.9 and results["copied_model"] < 0.05

    def test_gan_does_what_it_is_asked_and_draws_faces_sooner_than_it_draws_all_of_them(self, capsys):
        """It has precision and lacks variety: its Fréchet distance is above that of normal pixels, and the run says so."""
        results = main(model="gan", steps=400, lr=2e-3)
        assert "by this measure the GAN is worse than the baseline" in capsys.readouterr().out
        assert results["precision_model"] > results["precision_gaussian"] + 0.05
        assert results["asked"] > 0.8 and results["asked_skin"] > 0.8 and results["copied_model"] < 0.05

    @pytest.mark.parametrize(
        ("kind", "found"),
        [
            ("diffusion", {"frechet_model": 1.3}),
            ("gan", {"precision_model": 0.5}),
            ("gan", {"recall_model": 0.1}),
        ],
    )
    def test_check_notices_a_network_that_learned_nothing(self, kind, found):
        good = {"frechet_model": 0.5, "precision_model": 0.8, "recall_model": 0.8}
        pixels = {"frechet_test": 0.1, "frechet_gaussian": 1.0, "precision_gaussian": 0.5, "recall_gaussian": 0.8}
        train.check_learned(kind, good | pixels)
        with pytest.raises(LessonError, match="not enough, (less|more) than"):
            train.check_learned(kind, good | pixels | found)

    def test_few_test_faces_are_far_from_the_training_faces_themselves(self, monkeypatch):
        """What is wanted lies between the test faces' distance and that of normal pixels, wherever the two are."""
        monkeypatch.setattr(train, "ENOUGH", 0.7)
        train.check_learned("diffusion", {"frechet_test": 4.0, "frechet_model": 12.0, "frechet_gaussian": 16.0})
        with pytest.raises(LessonError, match="less than 12.400 is wanted"):
            train.check_learned("diffusion", {"frechet_test": 4.0, "frechet_model": 13.0, "frechet_gaussian": 16.0})

    def test_interrupted_and_resumed_it_is_the_same_network(self, monkeypatch, press_ctrl_c):
        short = functools.partial(main, steps=60, width=32, faces=200)
        monkeypatch.setattr(evaluate, "measure", lambda *_: ({}, {}))  # weights are compared, and nobody looks at faces
        monkeypatch.setattr(evaluate, "show", lambda results: None)
        monkeypatch.setattr(train, "check_learned", lambda kind, results: None)
        monkeypatch.setattr(train, "STEPS_PER_EPOCH", 30)
        short()
        saved = paths.models("project6_faces") / "model.pt"
        first = checkpoint.load(saved)["model"]
        saved.unlink()
        second_epoch = 40  # a step of it; the moving average follows once a step
        with press_ctrl_c(train, "follow", second_epoch), pytest.raises(KeyboardInterrupt, match="--resume"):
            short()
        short(resume=True)
        again = checkpoint.load(saved)["model"]
        assert all(torch.equal(again[name], first[name]) for name in first)
        with pytest.raises(LessonError, match=r"lr 0.004 \(now 0.02\)"):
            short(lr=0.02, resume=True)

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"lr": 0.0}, "--lr must be above 0"),
            ({"steps": 0}, "--steps must be above 0"),
            ({"width": -1}, "--width must be above 0"),
            ({"batch_size": 1}, "--batch-size must be at least 2"),
            ({"faces": 60}, "--faces must be at least 100"),
            ({"source": "real", "data": "drawn"}, "drawn faces are no real ones"),
        ],
    )
    def test_wrong_flags_are_one_sentence(self, wrong, told):
        with pytest.raises(LessonError, match=told):
            main(**wrong)

    def test_real_without_any_is_one_sentence(self, monkeypatch, tmp_path):
        monkeypatch.setattr("utils.paths.ROOT", tmp_path)
        monkeypatch.delenv("STUDY_DATA_DIR", raising=False)
        with pytest.raises(LessonError, match="--source real: there are no faces"):
            main(source="real")
        with pytest.raises(LessonError, match="olivetti is not there: get it from https"):
            main(source="real", data="olivetti")

    def test_recipes_have_all_settings(self):
        assert all(set(recipe) == {"steps", "lr", "width", "blocks", "batch_size"} for recipe in train.RECIPES.values())


class TestMeasuring:
    def test_test_faces_are_at_the_floor(self, trained):
        results, _ = trained
        assert abs(results["kernel_test"]) < 0.25 * results["kernel_gaussian"]
        assert results["copied_test"] == pytest.approx(0.01, abs=0.005)
        assert results["precision_test"] > 0.85 and results["recall_test"] > 0.85

    def test_training_faces_are_all_copies(self, quick_reader, monkeypatch):
        data = few_faces(400, 200)
        model, space = untrained("gan", data), reader.Space("read", quick_reader.features, None)
        monkeypatch.setattr(evaluate, "generate", lambda *_: pictures(data.train.images[:200]))
        results, shown = evaluate.measure(model, data, space)
        assert results["copied_model"] == 1 and results["nearest_model"] < 1e-3
        assert results["copied_gaussian"] < 0.05 and set(shown) == {"test", "coded", "model", "gaussian"}

    def test_wishes_by_hand(self, quick_reader):
        """A maker that always draws test faces as asked gets what the reader gets; one that does the opposite gets nothing."""
        data = few_faces(400, 300)

        class Obeys(torch.nn.Module):
            noise = 2

            def __init__(self, sign):
                super().__init__()
                self.sign = torch.nn.Parameter(torch.tensor(float(sign)))

            def draw(self, noise, wishes, guidance=1.0):
                from utils.datasets.drawn_faces import draw_parameters, render

                parameters = draw_parameters(len(wishes), 5)
                wanted = self.sign.detach() * wishes
                parameters[:, :8] = torch.where(torch.tensor([1, 1, 0, 1, 0, 0, 0, 1]) == 1, wanted, (wanted + 1) / 2)
                return pictures(render(parameters, 32))

        right = evaluate.wishes_come_true(Obeys(1), data, quick_reader, 0, count=60)
        wrong = evaluate.wishes_come_true(Obeys(-1), data, quick_reader, 0, count=60)
        assert right["asked_least"] > 0.7 and right["asked"] > 0.93 and right["reader"] > 0.9
        assert wrong["asked"] < 0.07

    def test_faces_without_attributes_have_no_wishes(self, quick_reader):
        data = photographs()
        space = reader.Space("read", lambda images: quick_reader.features(reader.colour(images)), None)
        results, _ = evaluate.measure(untrained("diffusion", data), data, space)
        assert not any(name.startswith("asked") for name in results)
        assert "kernel_model" in results and evaluate.resting(data).shape == (0,)

    def test_resting_is_without_glasses(self):
        assert evaluate.resting(few_faces(400, 300)).tolist() == [0, 0, -1, 0, 0, 0, 0, 0]

    def test_sheet_puts_pictures_in_rows(self):
        images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 1, 2, 2) / 5
        found = evaluate.sheet(images, 3)
        assert found.shape == (4, 6, 3) and found[3, 5].tolist() == [1, 1, 1]
        torch.testing.assert_close(found[0, ::2, 0], torch.tensor([0.0, 0.2, 0.4]))


class TestCommand:
    def test_measures_what_was_saved(self, trained, monkeypatch, capsys):
        monkeypatch.setenv("STUDY_WORK_DIR", str(trained[1].parents[1]))
        results = evaluate.main(model=None, seed=0, device="cpu", figures=False)
        assert "wishes that came true" in capsys.readouterr().out
        for name, value in results.items():
            assert value == pytest.approx(trained[0][name], rel=1e-4, abs=1e-5), name

    def test_other_faces_are_refused(self, trained, monkeypatch):
        monkeypatch.setenv("STUDY_WORK_DIR", str(trained[1].parents[1]))
        monkeypatch.setattr(loading, "faces", lambda name, size, count: photographs())
        with pytest.raises(LessonError, match="was trained on other faces"):
            evaluate.main(device="cpu")

    def test_says_to_train_first(self):
        with pytest.raises(LessonError, match="python -m study run faces"):
            evaluate.main(device="cpu")

    def test_directions_and_reader_are_saved(self, trained):
        model, about = load_network(trained[1] / "model.pt")
        assert len(set(about["names"])) == len(about["directions"]) > 0
        assert about["directions"].shape[1] == model.noise and about["reader"] is not None
        assert about["set"] == "drawn" and about["count"] == 1500

    def test_figures_are_drawn(self, trained):
        model, about = load_network(trained[1] / "model.pt")
        data = loading.load_again(about)
        made = evaluate.generate(model, data, 40, 0)
        evaluate.draw_results(model, data, dict.fromkeys(("test", "coded", "model", "gaussian"), made))
        history = History(losses=[2.0, 1.0, 0.5], rates=[1.0] * 3, epochs=[{"kernel_distance": 0.1}])
        evaluate.save_figure(evaluate.draw_learning_curves(history), train.__file__, "learning_curves")
        for name in ("samples", "nearest", "wishes", "learning_curves"):
            assert plt.imread(paths.outputs("project6_faces") / f"{name}.png").std() > 0.01
        assert plt.get_fignums() == []


@pytest.mark.slow  # the default run: about a minute of one core
def test_default_run():
    results = train.main(source="sample", model="diffusion", seed=0, figures=False, device="cpu")
    assert results["frechet_model"] < 0.7 * results["frechet_gaussian"] and results["asked_least"] > 0.75
