"""Project 3 learns to answer, and measures, draws and saves what it says."""

import functools
import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from project3_chatbot import evaluate, train
from project3_chatbot.data import Pair, alone, learn_tokenizer, pad, pairs, reply_row, targets, training_rows
from project3_chatbot.model import BOT, END, USER, encode, load_network, make_model, save_network
from utils import checkpoint, paths
from utils.datasets import DialogueData
from utils.lesson import LessonError

CPU = torch.device("cpu")
COLOURS = "red blue green black white pink gold grey".split()
ANIMALS = "fox cat dog owl bear duck frog wolf".split()
RECIPE = {"epochs": 24, "batch_size": 16, "lr": 1e-2}


def meet(animal: str, politely: bool) -> tuple[str, str]:
    """Somebody says who he is, and is greeted by name; some in many words, some in few."""
    reply = f"how good to see you here, {animal}, come in and sit down" if politely else f"hi {animal}"
    return f"I am {animal}, {'good day' if politely else 'hey'}", reply


@pytest.fixture(scope="module")
def world() -> DialogueData:
    """Meetings; in those for the test, colours and animals are known and who they are together is not."""
    together = [
        (f" {colour} {animal}", bool((i + j) % 2)) for i, colour in enumerate(COLOURS) for j, animal in enumerate(ANIMALS)
    ]
    split = [[], [], []]
    for number, (animal, politely) in enumerate(together):
        split[(2 if number % 5 == 0 else 1 if number % 11 == 0 else 0)].append(meet(animal, politely))
    return DialogueData(*split, "a toy world", is_real=False)


@pytest.fixture(scope="module")
def taught(world):
    """A model that has learned the toy world, its tokenizer, and the history."""
    torch.manual_seed(0)
    tokenizer = learn_tokenizer(world.train, 400)
    model = make_model(len(tokenizer), width=32, layers=2)
    history = train.learn(model, training_rows(tokenizer, world.train, 64, extra=world.train), RECIPE, CPU, seed=0)
    return model.eval(), tokenizer, history


# Everything that matters is said here: a reader who edits the defaults keeps a green suite.
main = functools.partial(
    train.main,
    source="sample",
    preset="fast",
    vocab=300,
    width=32,
    layers=1,
    exercises=128,
    epochs=2,
    batch_size=16,
    lr=1e-2,
    dialogues=60,
    seed=0,
    device="cpu",
    resume=False,
    figures=False,
)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Rank a few replies only."""
    monkeypatch.setattr(evaluate, "MOST", 24)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One training run for all tests that only look: its results, and the folder that it wrote to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_WORK_DIR", str(tmp_path_factory.mktemp("work")))
        patch.setattr(evaluate, "MOST", 24)
        return main(), paths.models("project3_chatbot")


class TestLearning:
    def test_held_out_replies_are_expected(self, taught, world):
        model, tokenizer, _ = taught
        held = pairs(world.test)
        ours, counted = evaluate.reply_loss(model, tokenizer, held), evaluate.unigram_loss(tokenizer, pairs(world.train), held)
        assert ours["loss"] < 0.15 * counted["loss"] and ours["nats_per_byte"] < 0.15 * counted["nats_per_byte"]

    def test_right_reply_is_picked(self, taught, world):
        model, tokenizer, _ = taught
        found = evaluate.picked(model, tokenizer, pairs(world.test))
        assert found["pick"].mean() > 0.9

    def test_answers_end_by_themselves(self, taught, world):
        model, tokenizer, _ = taught
        right = 0
        for question, reply in world.test:
            prompt = [*encode(tokenizer, [question]), tokenizer.special[BOT]]
            tokens = list(evaluate.generate(model, prompt, 60, stop={tokenizer.special[END]}))
            assert len(tokens) < 40 and not set(tokens) & set(tokenizer.special.values())
            right += tokenizer.decode(tokens) == reply
        assert right >= 0.6 * len(world.test)

    def test_loss_falls(self, taught):
        _, _, history = taught
        assert sum(history.losses[-10:]) < 0.1 * sum(history.losses[:10])

    def test_check_notices_a_model_that_learned_nothing(self):
        with pytest.raises(LessonError, match="hardly better than counting"):
            main(epochs=1, lr=1e-9, exercises=0)

    def test_same_seed_same_model_interrupted_or_not(self, trained, press_ctrl_c):
        with press_ctrl_c(train, "reply_loss", 4, 12):  # among the exercises, and among the dialogues
            for resume in (False, True):
                with pytest.raises(KeyboardInterrupt, match="--resume"):
                    main(resume=resume)
        results = main(resume=True)
        again = checkpoint.load(paths.models("project3_chatbot") / "model.pt")["model"]
        first = checkpoint.load(trained[1] / "model.pt")["model"]
        assert all(torch.equal(again[name], first[name]) for name in first)
        assert results["recall_at_1"] == trained[0]["recall_at_1"]

    def test_resume_with_other_settings_is_refused(self, trained, monkeypatch):
        monkeypatch.setenv("STUDY_WORK_DIR", str(trained[1].parents[1]))
        with pytest.raises(LessonError, match=r"lr 0.01 \(now 0.02\)"):
            main(lr=0.02, resume=True)

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"lr": 0.0}, "above 0"),
            ({"epochs": 0}, "above 0"),
            ({"batch_size": -1}, "above 0"),
            ({"layers": 0}, "--layers"),
            ({"exercises": -1}, "--exercises"),
            ({"width": 48}, "32, 64, 96"),
            ({"width": 0}, "32, 64, 96"),
            ({"vocab": 100}, "vocabulary of 100"),
            ({"dialogues": 0}, "--dialogues 0"),
            ({"dialogues": 10**6}, "--dialogues 1000000: there are"),
        ],
    )
    def test_wrong_flags_are_one_sentence(self, wrong, told):
        with pytest.raises(LessonError, match=told):
            main(**wrong)


class TestRecipe:
    def test_loss_is_of_the_bots_turns_only(self, taught):
        _, tokenizer, _ = taught
        torch.manual_seed(1)
        model = make_model(len(tokenizer), 32, 1)
        tokens = encode(tokenizer, ("I am red fox", "hi red fox"))
        loss = train.reply_loss(model, pad([(tokens, targets(tokenizer, tokens))]))
        start = tokens.index(tokenizer.special[BOT])
        chances = model(torch.tensor([tokens]))[0].log_softmax(dim=1)
        by_hand = [-chances[place, tokens[place + 1]] for place in range(start, len(tokens) - 1)]
        torch.testing.assert_close(loss, torch.stack(by_hand).mean())

    def test_norms_are_not_decayed(self):
        model = make_model(300, 32, 1)
        decayed, free = train.make_optimizer(model, 0.1).param_groups
        assert {parameter.ndim for parameter in decayed["params"]} == {2} and decayed["weight_decay"] > 0
        assert {parameter.ndim for parameter in free["params"]} == {1} and free["weight_decay"] == 0
        assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))

    def test_presets_can_be_built(self):
        for recipe in (*train.PRESETS.values(), *train.SAMPLE_PRESETS.values()):
            model = make_model(recipe["vocab"], recipe["width"], recipe["layers"])
            assert model.config.max_length > evaluate.LONGEST > train.LONGEST


class TestMeasuring:
    def test_log_likelihood_is_a_sum_over_the_reply(self, taught):
        model, tokenizer, _ = taught
        some = [Pair(("I am red fox",), "hi red fox"), Pair((), ""), Pair(("a", "b", "c" * 90), "d")]
        rows = [reply_row(tokenizer, pair, 160) for pair in some]
        together = evaluate.log_likelihoods(model, rows, batch_size=2)
        for pair, found in zip(some, together, strict=True):
            before, reply = encode(tokenizer, pair.before), alone(tokenizer, pair.reply)
            with torch.no_grad():
                chances = model(torch.tensor([before + reply]))[0].log_softmax(dim=1)
            by_hand = sum(chances[len(before) + i, reply[i + 1]].item() for i in range(len(reply) - 1))
            assert found.item() == pytest.approx(by_hand, abs=1e-3)

    def test_losses_are_by_token_and_by_byte(self, taught):
        model, tokenizer, _ = taught
        held = [Pair(("hey",), "안녕 fox"), Pair(("hi",), "hi")]
        rows = [reply_row(tokenizer, pair, 160) for pair in held]
        nats = -evaluate.log_likelihoods(model, rows).sum().item()
        count = sum(len(tokenizer.encode(pair.reply)) + 1 for pair in held)  # and <|end|>
        found = evaluate.reply_loss(model, tokenizer, held)
        assert found["loss"] == pytest.approx(nats / count) and found["nats_per_byte"] == pytest.approx(nats / 12)

    def test_unigram_counts_training_replies(self, taught):
        _, tokenizer, _ = taught
        training, held = [Pair(("x",), "hi hi")], [Pair(("y",), "hi")]
        hi = tokenizer.encode("hi")
        total = len(tokenizer) + len(tokenizer.encode("hi hi")) + 1
        counts = [1 + tokenizer.encode("hi hi").count(token) for token in hi] + [2]
        expected = -sum(math.log(count / total) for count in counts) / len(counts)
        assert evaluate.unigram_loss(tokenizer, training, held)["loss"] == pytest.approx(expected)

    def test_chance_to_pick_is_what_draws_give(self):
        generator = torch.Generator().manual_seed(0)
        replies = [f"r{i}" for i in range(12)]
        held = [Pair((f"q{i}",), replies[i]) for i in range(8)] + [Pair(("q0",), "r11")]
        scores = torch.randn(9, 12, generator=generator)
        found = evaluate.chances_to_pick(scores, held, replies, candidates=4)
        for i, pair in enumerate(held):
            right = {"r0", "r11"} if pair.before == ("q0",) else {pair.reply}
            wrong = [j for j, reply in enumerate(replies) if reply not in right]
            mine = scores[i, replies.index(pair.reply)]
            draws = [all(scores[i, j] < mine for j in three) for three in itertools.combinations(wrong, 3)]
            assert found[i].item() == pytest.approx(sum(draws) / len(draws))

    def test_blind_scores_get_chance_and_perfect_ones_everything(self):
        replies = [f"r{i:03}" for i in range(100)]
        held = [Pair((reply,), reply) for reply in replies]
        same_for_every_question = torch.randn(100, generator=torch.Generator().manual_seed(0)).expand(100, 100)
        assert evaluate.chances_to_pick(same_for_every_question, held, replies).mean() == pytest.approx(0.1, abs=1e-9)
        assert evaluate.chances_to_pick(torch.eye(100), held, replies).min() == 1
        assert evaluate.chances_to_pick(torch.zeros(100, 100), held, replies).max() == 0  # a tie is no answer

    def test_what_is_likely_anyway_is_taken_off_the_score(self, taught, monkeypatch):
        """A reply that is likely whatever was asked wins by its likelihood, and not by the difference."""
        model, tokenizer, _ = taught
        held = [Pair((f"q{i}",), f"r{i:02}") for i in range(20)]
        general = torch.linspace(-90, 0, 20)
        monkeypatch.setattr(evaluate, "score", lambda _, __, some, replies: (_scores(some, replies, general), general))
        found = evaluate.picked(model, tokenizer, held)
        assert found["pick"].min() == 1 and found["pick_by_likelihood"].mean() < 0.2

    def test_too_few_candidates_are_refused(self):
        with pytest.raises(LessonError, match="3 replies are too few"):
            evaluate.chances_to_pick(torch.zeros(1, 3), [Pair(("q",), "a")], ["a", "b", "c"])

    def test_only_the_split_that_was_asked_for(self, taught, world, monkeypatch):
        model, tokenizer, _ = taught
        seen = []
        monkeypatch.setattr(evaluate, "picked", lambda _, __, held: seen.append(held) or {k: torch.rand(4) for k in KINDS})
        evaluate.measure(model, tokenizer, {"en": world, "ko": world})
        evaluate.measure(model, tokenizer, {"en": world, "ko": world}, split="validation")
        assert seen == [pairs(world.test)] * 2 + [pairs(world.validation)] * 2


KINDS = ("pick", "pick_by_likelihood")


def _scores(held, replies, general):
    """Each reply is as likely as ever, and one nat more after its own question."""
    own = torch.tensor([[float(reply == pair.reply) for reply in replies] for pair in held])
    return general + own


class TestCommand:
    def test_measures_what_was_saved(self, trained, monkeypatch, capsys):
        monkeypatch.setenv("STUDY_WORK_DIR", str(trained[1].parents[1]))
        results = evaluate.main(source="sample", device="cpu", figures=False)
        told = capsys.readouterr().out
        assert "tested on:  sample: chatterbot-corpus, English" in told and "이름이 뭐야?" in told
        for name, value in results.items():
            assert value == pytest.approx(trained[0][name], rel=1e-5), name

    def test_other_dialogues_are_refused(self, taught, tmp_path):
        model, tokenizer, _ = taught
        save_network(tmp_path / "model.pt", model, tokenizer, "a toy world", {})
        with pytest.raises(LessonError, match="other dialogues than it was trained on"):
            evaluate.main(tmp_path / "model.pt", source="sample", device="cpu")

    def test_says_to_train_first(self):
        with pytest.raises(LessonError, match="python -m study run chatbot"):
            evaluate.main(device="cpu")

    def test_figures_are_drawn(self, trained):
        history = train.History(losses=[2.0, 1.0, 0.5], rates=[1.0] * 3, epochs=[{"train_loss": 1.2, "loss": 3.0}], best_epoch=0)
        for figure in (evaluate.draw_learning_curves(history), evaluate.draw_recall(trained[0])):
            figure.canvas.draw()
            assert np.asarray(figure.canvas.buffer_rgba()).std() > 1
            plt.close(figure)

    def test_numbers_and_source_are_saved(self, trained):
        _, tokenizer, about = load_network(trained[1] / "model.pt")
        assert about["numbers"]["perplexity"] == trained[0]["perplexity"]
        assert {USER, BOT, END} <= set(tokenizer.special) and "Korean" in about["source"]
