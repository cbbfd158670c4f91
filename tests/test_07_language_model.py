"""Language models: what is predicted and from what is exact, both networks learn, and what is taken away is missed."""

import math
from functools import partial

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.datasets.plain_texts import stories_text
from utils.kneser_ney import KneserNey
from utils.language import text_loss
from utils.lesson import LessonError

SMALL = {
    "corpus": "stories",
    "source": "sample",
    "symbols": 300,
    "width": 16,
    "steps": 30,
    "shorter": 3,
    "lr": 0.02,
    "window": 16,
}


@pytest.fixture(scope="module")
def models():
    return lesson("07_nlp/language_model")


@pytest.fixture(scope="module")
def tokens(models):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "stories_text", partial(stories_text, 600))
        return models.read("stories", "sample", 300, 0, "cpu")


@pytest.fixture(scope="module")
def trained(models, tokens):
    """Both networks, and the losses of their training."""
    networks = {}
    for name, model, steps, rate in (
        ("lstm", models.Recurrent(300, 32, 0), 120, 0.03),
        ("transformer", models.Transformer(300, 32, 32, 2, 4, 0), 250, 0.01),
    ):
        networks[name] = model, *models.train(model, tokens.train, steps, 8, 32, rate)
    return networks


class TestTokens:
    def test_are_the_text(self, models, tokens):
        text = stories_text(600, 0)
        assert tokens.symbols == 300 and tokens.characters == len(text.test)
        assert len(tokens.train) > 6 * len(tokens.test) and int(tokens.train.max()) < 300

    @pytest.mark.parametrize(("length", "batch_size", "window"), [(41, 2, 5), (44, 2, 5), (100, 3, 8)])
    def test_streams_go_on_where_they_ended(self, models, length, batch_size, window):
        reader, ids = models.streams(torch.arange(length), batch_size, window), []
        for _ in range(2 * (length // batch_size // window)):
            inputs, targets, anew = next(reader)
            assert inputs.shape == (batch_size, window) and torch.equal(targets, inputs + 1)
            assert anew == (inputs[0, 0] == 0)
            if not anew:
                assert torch.equal(inputs[:, 0], ids[-1][:, -1] + 1)
            ids.append(inputs)
        assert sum(part[0, 0] == 0 for part in ids) >= 2

    def test_too_short_a_text_is_one_sentence(self, models):
        with pytest.raises(LessonError, match="too few"):
            next(models.streams(torch.arange(20), 8, 16))


class TestNetworks:
    def test_nobody_looks_ahead(self, models, trained):
        ids = torch.randint(300, (2, 20), generator=torch.Generator().manual_seed(0))
        changed = torch.cat([ids[:, :-1], (ids[:, -1:] + 1) % 300], dim=1)
        for model, *_ in trained.values():
            assert torch.equal(model(ids)[0][:, :-1], model(changed)[0][:, :-1])

    def test_the_transformer_knows_the_order(self, models, trained):
        ids = torch.arange(12)[None]
        swapped = ids[:, [1, 0, *range(2, 12)]]
        model = trained["transformer"][0]
        assert (model(ids)[0] - model(swapped)[0])[0, -1].abs().max() > 1e-3

    def test_tying_saves_a_matrix(self, models):
        tied, free = models.Recurrent(300, 16, 0), models.Recurrent(300, 16, 0, tied=False)
        numbers = [sum(p.numel() for p in model.parameters()) for model in (tied, free)]
        assert numbers[1] - numbers[0] == 300 * 16 and tied.head.weight is tied.tokens.weight

    def test_a_carried_state_is_as_good_as_reading_at_once(self, models, tokens, trained):
        model, ids = trained["lstm"][0], tokens.test[:300]
        whole = torch.nn.functional.cross_entropy(model(ids[None, :-1])[0][0], ids[1:]).item()
        assert models.carried_loss(model, ids, 32) == pytest.approx(whole, abs=1e-5)
        assert models.carried_loss(model, ids, 32, carry=False) > whole

    def test_windows_predict_each_token_once(self, models, tokens, trained):
        model, ids = trained["transformer"][0], tokens.test[:300]
        expected = text_loss(lambda part: model(part)[0], ids, 32)
        assert models.window_loss(model, ids, 32, 16) == pytest.approx(expected, abs=1e-5)
        logits = [model(ids[None, max(0, i - 32) : i])[0][0, -1] for i in range(1, 60)]
        one_by_one = torch.nn.functional.cross_entropy(torch.stack(logits), ids[1:60]).item()
        assert models.window_loss(model, ids[:60], 32, 1) == pytest.approx(one_by_one, abs=1e-5)
        assert models.window_loss(model, tokens.test, 32, 32) > models.window_loss(model, tokens.test, 32, 16)

    def test_early_places_are_hard(self, models, tokens, trained):
        for model, *_ in trained.values():
            losses = models.by_place(model, tokens.test, 32)
            assert losses.shape == (32,) and losses[0] > losses[16:].mean() + 0.1


class TestTraining:
    def test_both_learn(self, models, tokens, trained):
        unigram = KneserNey(tokens.train, 300, 1).loss(tokens.train, tokens.test)
        for name, most in (("lstm", 0.6), ("transformer", 0.65)):
            model, losses, _ = trained[name]
            assert losses[0] == pytest.approx(math.log(300), rel=0.15)
            loss = (
                models.carried_loss(model, tokens.test, 32) if name == "lstm" else models.window_loss(model, tokens.test, 32, 16)
            )
            assert loss < most * unigram, name

    def test_rates_go_up_and_down(self, models, tokens):
        rates, original = [], torch.optim.AdamW.step
        with pytest.MonkeyPatch.context() as patch:

            def step(self, *arguments, **options):
                rates.append(self.param_groups[0]["lr"])
                return original(self, *arguments, **options)

            patch.setattr(torch.optim.AdamW, "step", step)
            models.train(models.Recurrent(300, 4, 0), tokens.train, 40, 2, 8, 0.1)
        top = rates.index(max(rates))
        assert 2 <= top <= 4 and rates[0] < 0.05 and rates[-1] < 0.001
        assert rates[top:] == sorted(rates[top:], reverse=True)

    def test_gradients_are_of_one_batch(self, models, tokens):
        model = models.Recurrent(300, 8, 0)
        _, lengths = models.train(model, tokens.train, 6, 2, 8, 1e-9, schedule=False)
        assert max(lengths) < 3 * min(lengths)  # they would add up without zero_grad

    def test_the_state_is_carried_on(self, models, tokens):
        """With next to no learning, the second window's loss is that after reading the first one."""
        model = models.Recurrent(300, 16, 0)
        (_, loss), (_, anew) = (
            models.train(model, tokens.train, 2, 2, 8, 1e-9, schedule=False, carry=carry)[0] for carry in (True, False)
        )
        inputs, targets, _ = next(models.streams(tokens.train, 2, 16))
        logits = model(inputs)[0][:, 8:].flatten(0, 1)
        expected = torch.nn.functional.cross_entropy(logits, targets[:, 8:].flatten()).item()
        assert loss == pytest.approx(expected, abs=1e-6) and abs(anew - expected) > 1e-4

    def test_taking_away(self, models, tokens):
        found = models.take_away(tokens, 16, 2, 0.01, 16, seed=0)
        assert list(found) == ["nothing", "clipping", "the schedule", "the state", "tying"]

    def test_error(self, models, tokens):
        assert "backward through the graph a second time" in models.meet_error(tokens)


class TestMain:
    @pytest.fixture(autouse=True)
    def less_to_do(self, models, request, monkeypatch):
        if "slow" not in request.keywords:
            monkeypatch.setattr(models, "stories_text", partial(stories_text, 200))

    def test_check_notices_networks_that_have_not_learned(self, models):
        with pytest.raises(LessonError, match="more --steps"):
            models.main(**(SMALL | {"steps": 2}), device="cpu", seed=0)
        assert (paths.outputs("language_model") / "places.png").exists()

    @pytest.mark.parametrize(
        ("wrong", "message"), [({"steps": 0}, "at least 1"), ({"width": 30}, "multiple"), ({"symbols": 200}, "257 to 1024")]
    )
    def test_settings_that_cannot_be(self, models, wrong, message):
        with pytest.raises(LessonError, match=message):
            models.main(**(SMALL | wrong), device="cpu", seed=0)

    @pytest.mark.slow  # the default run: that a network beats counting
    def test_default_settings_beat_counting(self, models):
        results = models.main(corpus="stories", source="sample", seed=1)
        assert results["lstm_bits"] < 0.95 * results["ngram_bits"]
        assert results["carried"] < results["anew"] and results["most_overlap"] < results["no_overlap"]
