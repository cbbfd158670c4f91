"""Project 4 learns to judge, goes on where it was interrupted, and saves what it says."""

import functools

import matplotlib.pyplot as plt
import pytest
import torch
from projects.sentiment_world import plain_judge, review_set, world

from project4_sentiment import data, evaluate, train
from project4_sentiment.data import all_of
from project4_sentiment.model import load_network
from project4_sentiment.predict import Judge
from project4_sentiment.words import encode, words_of
from utils import checkpoint, paths
from utils.datasets import Texts
from utils.lesson import LessonError
from utils.training import History, fit

CPU = torch.device("cpu")
SETTINGS = {"pieces": 600, "width": 24, "hidden": 24, "epochs": 11, "batch_size": 16, "lr": 1e-2, "dropout": 0.0}

# Everything that matters is said here: a reader who edits the defaults keeps a green suite.
main = functools.partial(
    train.main,
    source="sample",
    preset="default",
    **SETTINGS,
    reviews=None,
    seed=0,
    device="cpu",
    baseline=True,
    resume=False,
    figures=False,
)
WRITE_SAMPLE, WRITTEN_BY_HAND = data.write_sample, evaluate.written_by_hand  # for the default run
BY_HAND = {
    "en": Texts(["The soup was good."] * 2, torch.tensor([1, 0])),
    "ko": Texts(["최악", "국은 좋다."], torch.tensor([0, 1])),
}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """The sample is the toy world, and few reviews are written by hand."""
    monkeypatch.setattr(data, "write_sample", world)
    monkeypatch.setattr(evaluate, "written_by_hand", lambda: BY_HAND)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One training run for all tests that only look: its results, and the folder that it wrote to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_WORK_DIR", str(tmp_path_factory.mktemp("work")))
        patch.setattr(data, "write_sample", world)
        patch.setattr(evaluate, "written_by_hand", lambda: BY_HAND)
        return main(), paths.models("project4_sentiment")


class TestLearning:
    def test_judges_what_it_has_never_read(self, trained):
        results, _ = trained
        assert results["accuracy_en"] > 0.9 and results["accuracy_ko"] > 0.9
        assert results["accuracy"] > results["baseline_accuracy"] + 0.2
        assert results["test_reviews"] == 114 and results["validation_accuracy"] > 0.9

    def test_not_turns_a_word_round(self, trained):
        model, lexicon, about = load_network(trained[1] / "model.pt")
        judge = Judge(model, lexicon, about["temperature"])
        for text, kind, word in (
            ("i would not say that the soup was good.", "complaint", "not"),
            ("i would not say that the soup was rude.", "praise", "not"),
            ("국은 좋다고 하면 틀립니다.", "complaint", "틀립니다"),
        ):
            verdict = judge.judge(text)
            strength = {piece.text: piece.strength for piece in verdict.pieces if piece.kind == "word"}
            assert verdict.kind == kind and (strength[word] > 0) == (kind == "praise")

    def test_check_notices_a_network_that_learned_nothing(self):
        with pytest.raises(LessonError, match="is not enough: it should be above"):
            main(epochs=1, lr=1e-9)

    def test_interrupted_and_resumed_it_is_the_same_network(self, trained, press_ctrl_c):
        second_epoch = 30  # a step of it
        with press_ctrl_c(train, "review_loss", second_epoch), pytest.raises(KeyboardInterrupt, match="--resume"):
            main()
        results = main(resume=True)
        again, first = (checkpoint.load(folder / "model.pt") for folder in (paths.models("project4_sentiment"), trained[1]))
        assert all(torch.equal(again["model"][name], first["model"][name]) for name in first["model"])
        assert again["pieces"] == first["pieces"] and results["temperature"] == trained[0]["temperature"]

    def test_resume_with_other_settings_is_refused(self, trained, monkeypatch):
        monkeypatch.setenv("STUDY_WORK_DIR", str(trained[1].parents[1]))
        with pytest.raises(LessonError, match=r"lr 0.01 \(now 0.02\)"):
            main(lr=0.02, resume=True)

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"lr": 0.0}, "--lr must be above 0"),
            ({"epochs": 0}, "--epochs must be above 0"),
            ({"batch_size": -1}, "--batch-size must be above 0"),
            ({"pieces": 0}, "--pieces must be above 0"),
            ({"hidden": 0}, "--hidden must be above 0"),
            ({"dropout": 1.0}, "--dropout is a share"),
            ({"reviews": 0}, "--reviews must be above 0"),
        ],
    )
    def test_wrong_flags_are_one_sentence(self, wrong, told):
        with pytest.raises(LessonError, match=told):
            main(**wrong)


class TestRecipe:
    def test_loss_is_cross_entropy_of_the_log_odds(self):
        judge = plain_judge()
        words, texts = encode(judge.lexicon, [["superb"], ["awful", "plot"]])
        loss = train.review_loss(judge.model, (texts, torch.tensor([1.0, 0.0])), words)
        expected = -(torch.tensor([3.0, 3 / 2**0.5]).sigmoid().log()).mean()
        torch.testing.assert_close(loss, expected)

    def test_every_weight_learns_and_vectors_are_not_decayed(self):
        torch.manual_seed(0)
        model, _, batches = train.prepare({"en": review_set("en")}, SETTINGS, 0, CPU)
        texts, labels = next(iter(batches))
        train.review_loss(model, (texts, labels), batches.words).backward()
        assert all(parameter.grad.abs().max() > 0 for name, parameter in model.named_parameters() if name != "attention.bias")
        decayed, free = train.make_optimizer(model, 0.1).param_groups
        assert decayed["weight_decay"] > 0 == free["weight_decay"] and free["params"] == [model.pieces.weight]
        assert len(decayed["params"]) + 1 == len(list(model.parameters()))

    def test_each_step_follows_the_gradient_of_its_own_batch(self):
        torch.manual_seed(0)
        model, _, batches = train.prepare({"en": review_set("en")}, SETTINGS, 0, CPU)
        model.unseen, optimizer, seen = 0.0, train.make_optimizer(model, 1e-12), []

        def note(model, batch):
            seen.append(batch)
            return train.review_loss(model, batch, batches.words)

        gradients = []
        optimizer.register_step_pre_hook(lambda *_: gradients.append(model.judge.weight.grad.clone()))
        fit(model, batches, optimizer, note, epochs=1)
        for batch, gradient in zip(seen, gradients, strict=True):
            (fresh,) = torch.autograd.grad(train.review_loss(model, batch, batches.words), model.judge.weight)
            torch.testing.assert_close(gradient, fresh, atol=1e-6, rtol=1e-4)

    def test_presets_have_all_settings(self):
        for recipe in (*train.PRESETS.values(), *train.SAMPLE_PRESETS.values()):
            assert set(recipe) == set(SETTINGS)

    def test_small_sets_count_as_much_as_large_ones_when_the_epoch_is_chosen(self):
        judge, sets = plain_judge(), world()
        one = sets["en"]
        right = Texts(["superb", "awful"], torch.tensor([1, 0]))
        sets = {"en": one, "ko": type(one)(one.train, right, one.test, "", False)}
        numbers = train.validation_numbers(judge, sets)
        assert numbers["accuracy_ko"] == 1 and numbers["accuracy"] == (numbers["accuracy_en"] + 1) / 2


class TestMeasuring:
    def test_numbers_by_hand(self):
        log_odds = torch.tensor([2.0, -3.0, 0.1, float("nan"), 1.0])
        found = evaluate.numbers_for(log_odds, torch.tensor([1, 0, 0, 1, 0]), temperature=2.0)
        assert found["accuracy"] == pytest.approx(0.4) and found["silent"] == pytest.approx(0.4)
        assert found["accuracy_of_verdicts"] == pytest.approx(2 / 3)
        certain = torch.tensor([2.0, 3.0, 0.1, 1.0]).sigmoid()
        error = (1 - certain[0]) + (1 - certain[1]) + (certain[3])  # each in a bin of its own
        # 0.1 and the unknown text share a bin: 0.525 and 0.5 certain; the first is wrong, the second counts as complaint: wrong
        expected = (error + (certain[2] + 0.5)) / 5
        assert found["calibration_error"] == pytest.approx(expected.item(), abs=1e-4)
        assert found["calibration_error_before"] != found["calibration_error"]

    def test_temperature_is_found_where_it_was_hidden(self):
        judge = plain_judge(temperature=0.5)
        generator = torch.Generator().manual_seed(0)
        texts, labels = [], []
        for _ in range(4000):
            words = ["superb" if torch.rand((), generator=generator) < 0.5 else "awful" for _ in range(4)]
            odds = sum(3.0 if word == "superb" else -3.0 for word in words) / 4**0.5
            texts.append(" ".join(words))
            labels.append(int(torch.rand((), generator=generator) < torch.tensor(odds / 1.7).sigmoid()))
        found = evaluate.find_temperature(judge, Texts(texts, torch.tensor(labels)))
        assert found == pytest.approx(1.7, rel=0.08)

    def test_who_makes_no_mistake_is_not_quite_sure(self):
        reviews = Texts(["superb", "awful"] * 500, torch.tensor([1, 0] * 500))
        temperature = evaluate.find_temperature(plain_judge(), reviews)
        assert torch.tensor(3 / temperature).sigmoid().item() == pytest.approx(1000 / 1001, abs=1e-4)

    def test_counting_needs_no_order(self):
        one = review_set("en")
        accuracy = evaluate.counting_accuracy(one.train, one.test, is_korean=False)
        assert 0.5 < accuracy < 0.75
        plain = Texts(["good soup", "bad soup"] * 20, torch.tensor([1, 0] * 20))
        assert evaluate.counting_accuracy(plain, plain, is_korean=True) == 1

    def test_by_hand_reviews_are_measured_and_never_learned(self, trained, monkeypatch):
        results, folder = trained
        assert results["accuracy_by_hand_en"] == 0.5
        assert not any("최악" in piece for piece in checkpoint.load(folder / "model.pt")["pieces"])

    def test_calibration_is_from_validation(self, trained, monkeypatch):
        seen = []
        monkeypatch.setattr(evaluate, "fit_temperature", lambda logits, labels: seen.append(labels) or 1.0)
        sets = world()
        validation = all_of([one.validation for one in sets.values()])
        evaluate.find_temperature(plain_judge(), validation)
        assert torch.equal(seen[0][:-1], validation.labels)


class TestCommand:
    def test_measures_what_was_saved(self, trained, monkeypatch, capsys):
        monkeypatch.setenv("STUDY_WORK_DIR", str(trained[1].parents[1]))
        results = evaluate.main(source="sample", device="cpu", figures=False)
        said = capsys.readouterr().out
        assert "tested on:  sample: a toy world" in said and "국은 짜지 않았다." in said
        for name, value in results.items():
            assert value == pytest.approx(trained[0][name], rel=1e-5), name
        assert "baseline_accuracy" not in evaluate.main(source="sample", device="cpu", baseline=False, figures=False)

    def test_other_reviews_are_refused(self, trained, monkeypatch):
        monkeypatch.setenv("STUDY_WORK_DIR", str(trained[1].parents[1]))
        other = {name: type(one)(one.train, one.validation, one.test, "sample: others", False) for name, one in world().items()}
        monkeypatch.setattr(data, "write_sample", lambda: other)
        with pytest.raises(LessonError, match="other reviews than it was trained on"):
            evaluate.main(source="sample", device="cpu")

    def test_says_to_train_first(self):
        with pytest.raises(LessonError, match="python -m study run sentiment"):
            evaluate.main(device="cpu")

    def test_numbers_are_saved(self, trained):
        results, folder = trained
        about = checkpoint.load(folder / "model.pt")
        assert about["accuracy"] == results["accuracy"] and about["source"] == "sample: a toy world"
        model, lexicon, _ = load_network(folder / "model.pt")
        found = evaluate.judged(Judge(model, lexicon, about["temperature"]), world()["en"].test)
        right = (found > 0) == world()["en"].test.labels.bool()
        assert right.float().mean().item() == pytest.approx(results["accuracy_en"])
        assert all(words_of(text) for text in world()["ko"].test.texts)

    def test_figures_are_drawn(self, trained):
        epochs = [{"train_loss": 1.0, "accuracy": 0.6, "accuracy_en": 0.5, "accuracy_ko": 0.7}]
        history = History(losses=[2.0, 1.0, 0.5], rates=[1.0] * 3, epochs=epochs, best_epoch=0)
        evaluate.save_figure(evaluate.draw_learning_curves(history), train.__file__, "learning_curves")
        evaluate.draw_results(plain_judge(), world(), trained[0])
        for name in ("learning_curves", "accuracy", "calibration"):
            assert plt.imread(paths.outputs("project4_sentiment") / f"{name}.png").std() > 0.01
        assert plt.get_fignums() == []


@pytest.mark.slow  # the default run: half a minute
def test_sample_is_learned(monkeypatch):
    monkeypatch.setattr(data, "write_sample", WRITE_SAMPLE)
    monkeypatch.setattr(evaluate, "written_by_hand", WRITTEN_BY_HAND)
    results = train.main(source="sample", preset="default", seed=0, figures=False, device="cpu")
    assert results["accuracy"] > results["baseline_accuracy"] + 0.1 and results["accuracy_en"] > 0.95
    assert results["calibration_error"] < 0.05
