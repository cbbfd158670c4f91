"""Project 9 learns to describe, goes on where it was interrupted, and measures itself honestly."""

import functools

import matplotlib.pyplot as plt
import pytest
import torch
from projects.captioning_world import Brightness, spots, world

from project9_captioning import data, evaluate, train
from project9_captioning.model import load_network
from project9_captioning.predict import Describer
from utils import checkpoint, paths
from utils.datasets.captioned_scenes import draw_captioned, tell
from utils.lesson import LessonError
from utils.training import History

CPU = torch.device("cpu")
SETTINGS = {"width": 32, "layers": 1, "epochs": 4, "batch_size": 8, "lr": 6e-3, "dropout": 0.0, "covered": 0.3}

# Everything that matters is said here: a reader who edits the defaults keeps a green suite.
main = functools.partial(
    train.main,
    source="sample",
    preset="default",
    scenes=50,
    **SETTINGS,
    beam=1,
    seed=0,
    device="cpu",
    baseline=True,
    resume=False,
    figures=False,
)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """The sample is the toy world."""
    monkeypatch.setattr(train, "load", world)
    monkeypatch.setattr(evaluate, "load", world)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One training run for all tests that only look: its results, and the folder that it wrote to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_WORK_DIR", str(tmp_path_factory.mktemp("work")))
        patch.setattr(train, "load", world)
        return main(), paths.models("project9_captioning")


class TestLearning:
    def test_describes_combinations_that_it_has_never_seen(self, trained):
        results, _ = trained
        assert results["exact"] > 0.9 and results["exact_known"] > 0.9 and results["exact_ko"] > 0.9
        assert results["baseline_exact"] < 0.1 and results["exact_nearest"] == 0  # no training picture has the right caption
        assert results["cider"] > results["baseline_cider"] + 1

    def test_check_notices_a_network_that_learned_nothing(self):
        with pytest.raises(LessonError, match="of the captions are right; it should be more than"):
            main(epochs=1, lr=1e-9, baseline=False)

    def test_interrupted_and_resumed_it_is_the_same_network(self, trained, press_ctrl_c):
        second_epoch = 50  # a step of it
        with press_ctrl_c(train, "caption_loss", second_epoch), pytest.raises(KeyboardInterrupt, match="--resume"):
            main()
        main(resume=True, baseline=False)
        again, first = (checkpoint.load(folder / "model.pt") for folder in (paths.models("project9_captioning"), trained[1]))
        assert all(torch.equal(again["model"][name], first["model"][name]) for name in first["model"])
        assert again["tokens"] == first["tokens"]

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"scenes": 0}, "--scenes must be above 0"),
            ({"beam": 0}, "--beam must be above 0"),
            ({"lr": 0.0}, "--lr must be above 0"),
            ({"epochs": 0}, "--epochs must be above 0"),
            ({"layers": 0}, "--layers must be above 0"),
            ({"batch_size": 1}, "--batch-size and --scenes must be above 1"),
            ({"dropout": 1.0}, "--dropout is a share"),
            ({"covered": -0.1}, "--covered is a share"),
            ({"width": 18}, "cannot be cut into 4 heads"),
        ],
    )
    def test_wrong_flags_are_one_sentence(self, wrong, told):
        with pytest.raises(LessonError, match=told):
            main(**wrong)


class TestRecipe:
    def test_loss_is_of_every_word_of_every_caption_and_of_what_is_in_the_picture(self):
        torch.manual_seed(0)
        model, _, batches = train.prepare(world(), {**SETTINGS, "covered": 0.0}, 0, CPU)
        images, tokens = next(iter(batches))
        model.eval()
        writing, count, naming = 0.0, 0, 0.0
        for image, captions in zip(images, tokens, strict=True):
            for caption in captions:  # one in each language
                row = caption[caption != 0]
                logits, found = (one[0] for one in model(image[None], row[None, None, :-1]))
                writing -= logits[0].log_softmax(dim=1).gather(1, row[1:, None]).sum().item()
                count += len(row) - 1
            said = torch.zeros(len(found)).index_fill(0, captions.flatten().unique(), 1.0)  # in either language
            chance = torch.where(said == 1, found.sigmoid(), (-found).sigmoid())[5:]  # of what is no special token
            naming -= chance.log().sum().item() / 8
        loss = train.caption_loss(model, (images, tokens))
        assert loss.item() == pytest.approx(writing / count + train.NAMING * naming, rel=1e-4)

    def test_every_weight_learns_and_norms_are_not_decayed(self):
        torch.manual_seed(0)
        model, _, batches = train.prepare(world(), SETTINGS, 0, CPU)
        images, tokens = next(iter(batches))
        train.caption_loss(model, (images, tokens)).backward()
        still = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
        assert still == []
        decayed, free = train.make_optimizer(model, 0.1).param_groups
        assert decayed["weight_decay"] > 0 == free["weight_decay"] and all(one.dim() == 1 for one in free["params"])
        assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))

    def test_blind_decoder_says_the_same_of_every_picture(self):
        blind = train.train_blind(world(), SETTINGS, 0, CPU)
        said = blind.sentences(evaluate.nothing_to_see(world().train.images[:3]), "en")
        assert len(set(said)) == 1 and said[0].startswith("a ")

    def test_presets_have_all_settings(self):
        for recipe in (*train.PRESETS.values(), *train.SAMPLE_PRESETS.values()):
            assert set(recipe) == set(SETTINGS)


class TestMeasuring:
    def test_scores_forgive_capitals_and_full_stops_only(self):
        right = [["A dog runs on grass ."], ["Two cats sit on grass ."]]
        assert evaluate.scores(["a dog runs on grass", "two cats sit on grass"], right) == {
            "exact": 1.0,
            "bleu": pytest.approx(100),
            "cider": pytest.approx(10),
        }
        assert evaluate.scores(["a dog", "two cats sit on grass"], right)["exact"] == 0.5

    def test_wrong_words_are_counted_by_kind(self):
        drawn = draw_captioned(1, seed=0)
        (truth,) = [tell(drawn.scenes[0], "en")]
        pictures = data.Pictures(drawn.images, {"en": [[truth]]}, drawn.scenes, drawn.boxes)
        first = drawn.scenes[0].things[0]
        other = truth.replace(first.colour, "green" if first.colour != "green" else "red", 1)
        found = evaluate.wrong_words({"en": [other]}, pictures)
        count = len(drawn.scenes[0].things)
        assert found == {"right_size": 1.0, "right_colour": pytest.approx((count - 1) / count), "right_shape": 1.0}
        assert evaluate.wrong_words({"en": ["a red disc"]}, pictures)["right_colour"] == 0  # nothing to compare with
        assert evaluate.named_words("작은 원이 있다")[0] == "작은"

    def test_baselines_by_hand(self):
        toy = world()
        assert evaluate.nearest(toy.train, toy.train.images[5:8]) == [5, 6, 7]
        pictures = data.Pictures(
            toy.train.images[:3], {"en": [["a dog"], ["a cat", "a dog"], ["a bird"]]}, [], torch.empty(0, 3, 4)
        )
        assert evaluate.most_frequent(pictures, "en") == "a dog"

    def test_pointing_knows_where_things_are(self):
        drawn = draw_captioned(30, seed=1)
        captions = {"en": [[tell(scene, "en")] for scene in drawn.scenes]}
        pictures = data.Pictures(drawn.images, captions, drawn.scenes, drawn.boxes)
        model = Brightness()
        model.vocabulary = train.learn_vocabulary(data.all_sentences(pictures), 1)
        describer = Describer(model, model.vocabulary, ["en"])
        corner = evaluate.pointing(describer, pictures)
        assert corner["pointing"] < 0.2 and 0.05 < corner["pointing_chance"] < 0.5  # it looks at the upper left corner

        class Knows(Brightness):
            """Looks at the middle of the thing that comes next, or of another one of the picture."""

            def __init__(self, others: int):
                super().__init__()
                self.others = others

            def looks(self, images, tokens):
                i = next(i for i in range(30) if torch.equal(drawn.images[i], images[0]))
                maps, words = torch.zeros(1, tokens.shape[1], 7, 7), model.vocabulary.words(tokens[0].tolist())
                for step, word in enumerate(words):
                    thing = sum(one in captioned for one in words[: step + 1]) - 1
                    if word in {*evaluate.SIZES, *evaluate.COLOURS, *evaluate.SHAPES}:
                        x1, y1, x2, y2 = drawn.boxes[i, (thing + self.others) % len(drawn.scenes[i].things)].tolist()
                        maps[0, step, int((y1 + y2) / 16), int((x1 + x2) / 16)] = 1
                return maps

        captioned = set(evaluate.SIZES)
        right, wrong = (evaluate.pointing(Describer(Knows(others), model.vocabulary, ["en"]), pictures) for others in (0, 1))
        assert right["pointing"] == right["pointing_at_shape"] == 1 and right["pointing_other"] == 0
        assert wrong["pointing"] < 0.3 and wrong["pointing_other"] > 0.7  # one thing inside another is on both


class TestCommand:
    def test_measures_what_was_saved(self, trained, monkeypatch, capsys):
        monkeypatch.setenv("STUDY_WORK_DIR", str(trained[1].parents[1]))
        results = evaluate.main(source="sample", device="cpu", figures=False)
        said = capsys.readouterr().out
        assert "tested on:  sample: spots at places" in said and "right  a " in said
        for name, value in results.items():
            assert value == pytest.approx(trained[0][name], rel=1e-5), name
        assert evaluate.main(source="sample", beam=3, device="cpu", figures=False)["exact"] > 0.9

    def test_other_pictures_are_refused(self, trained, monkeypatch):
        monkeypatch.setenv("STUDY_WORK_DIR", str(trained[1].parents[1]))
        other = train.CaptionSet(
            *[spots([("red", "top right")], 2, 0)] * 2, {"test": spots([("red", "top right")], 2, 0)}, "others", False
        )
        monkeypatch.setattr(evaluate, "load", lambda *_: other)
        with pytest.raises(LessonError, match="other pictures than it was trained on"):
            evaluate.main(source="sample", device="cpu")

    def test_says_to_train_first(self):
        with pytest.raises(LessonError, match="python -m study run captioning"):
            evaluate.main(device="cpu")

    def test_figures_are_drawn(self, trained):
        epochs = [{"train_loss": 1.0, "exact": 0.6, "cider": 5.0}]
        history = History(losses=[2.0, 1.0, 0.5], rates=[1.0] * 3, epochs=epochs, best_epoch=0)
        evaluate.save_figure(evaluate.draw_learning_curves(history, "exact"), train.__file__, "learning_curves")
        model, vocabulary, about = load_network(trained[1] / "model.pt")
        evaluate.draw_results(Describer(model, vocabulary, about["languages"]), world(), trained[0])
        for name in ("learning_curves", "exact", "attention"):
            assert plt.imread(paths.outputs("project9_captioning") / f"{name}.png").std() > 0.01
        assert plt.get_fignums() == []

    def test_photographs_are_captioned_in_their_own_language(self, monkeypatch):
        """A set in Flickr8k's form: five captions in English, words that are rare or new, no boxes."""
        words = {"red": "crimson"}  # one picture's caption has a word that nobody else uses

        def one(part, rare=False):
            captions = [[right[0] + " .", right[0].replace("spot", "dot")] for right in part.captions["en"]]
            if rare:
                captions[0][1] = captions[0][1].replace("red", words["red"]).replace("green", words["red"])
            return data.Pictures(part.images, {"en": captions}, [], torch.empty(0, 3, 4))

        toy = world()
        real = train.CaptionSet(one(toy.train, True), one(toy.validation), {"test": one(toy.tests["known"])}, "photographs", True)
        monkeypatch.setattr(train, "load", lambda *_: real)
        results = main(source="real", epochs=5, baseline=False)
        assert results["cider"] > 3 and "exact_ko" not in results and "pointing" not in results
        about = checkpoint.load(paths.models("project9_captioning") / "model.pt")
        assert about["languages"] == ["en"] and "crimson" not in about["tokens"] and "dot" in about["tokens"]


@pytest.mark.slow  # the default run: under a minute
def test_sample_is_learned(monkeypatch):
    monkeypatch.setattr(train, "load", data.load)
    results = train.main(source="sample", preset="default", seed=0, figures=False, device="cpu")
    assert results["exact"] > 0.9 > results["baseline_exact"] + 0.5 and results["exact_known"] > 0.95
    assert results["pointing"] > 0.9 > 3 * results["pointing_chance"]
