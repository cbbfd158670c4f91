"""Beam search: finds what trying everything finds, whoever shares the batch; and what is likely is not always good."""

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson

from utils import byte_bpe, paths
from utils.datasets.small_translations import write_translations
from utils.lesson import LessonError
from utils.networks.translator import END, PAD, SPECIAL, START, Translator


@pytest.fixture(scope="module")
def searching():
    return lesson("07_nlp/beam_search")


@pytest.fixture(scope="module")
def model():
    network = Translator(tokens=9, width=16, heads=2, layers=2, seed=3).eval()
    network.embedding.weight.data *= 3
    return network


def sources() -> torch.Tensor:
    rows = torch.randint(3, 9, (3, 6), generator=torch.Generator().manual_seed(0))
    rows[1, 4:], rows[2, 2:] = PAD, PAD
    return rows


class TestSearch:
    def test_equals_trying_everything(self, searching):
        off, greedy = searching.compare_with_everything(models=4, seed=1)
        assert off < 1e-10 and 0 < greedy <= 1

    def test_everything_is_everything_and_sums_to_one(self, searching, model):
        every, scores = searching.try_everything(model, sources()[:1], longest=3)
        assert len(every) == 8**3 + 8**2 + 8 + 1  # nothing ended; END third, second, first
        assert scores.exp().sum().item() == pytest.approx(1, abs=1e-5)
        assert len({tuple(row) for row in every.tolist()}) == len(every)

    def test_scores_are_those_of_teacher_forcing(self, searching, model):
        source = sources()
        tokens, scores = searching.beam_search(model, source, beam=5, longest=7)
        for row in range(3):
            for hypothesis, score in zip(tokens[row], scores[row], strict=True):
                before = F.pad(hypothesis[:-1], (1, 0), value=START)[None]
                logs = model(source[row : row + 1], before).log_softmax(dim=2)[0].gather(1, hypothesis[:, None])[:, 0]
                assert logs[: searching.lengths_of(hypothesis)].sum().item() == pytest.approx(score.item(), abs=1e-4)
        assert (scores.diff(dim=1) <= 0).all()

    def test_batch_changes_nothing(self, searching, model):
        source = sources()
        tokens, scores = searching.beam_search(model, source, beam=4, longest=6)
        for row, length in enumerate((6, 4, 2)):
            alone = searching.beam_search(model, source[row : row + 1, :length], beam=4, longest=6)
            torch.testing.assert_close(alone[1][0], scores[row])
            width = alone[0].shape[2]
            assert torch.equal(alone[0][0], tokens[row, :, :width])

    def test_one_is_greedy(self, searching, model):
        source = sources()
        written = torch.full((3, 1), START)
        for _ in range(6):
            written = torch.cat([written, model(source, written)[:, -1:].argmax(dim=2)], dim=1)
        tokens, _ = searching.beam_search(model, source, beam=1, longest=6)
        for ours, right in zip(tokens[:, 0].tolist(), written[:, 1:].tolist(), strict=True):
            end = right.index(END) + 1 if END in right else 6
            assert ours[:end] == right[:end]

    def test_forgotten_cache_is_another_search(self, searching, model):
        right, wrong = (searching.beam_search(model, sources(), 4, 6, reorder)[1] for reorder in (True, False))
        assert not torch.allclose(right, wrong, atol=1e-3)


class TestChoice:
    def test_lengths(self, searching):
        tokens = torch.tensor([[5, 6, END, END], [END, END, END, END], [5, 5, 5, 5], [5, 5, 5, END]])
        assert searching.lengths_of(tokens).tolist() == [3, 1, 4, 4]

    def test_division_takes_the_longer_one(self, searching):
        tokens = torch.tensor([[[END] * 4, [5, 6, 7, END]]])
        scores = torch.tensor([[-2.0, -4.0]])  # per token -2 and -1
        for alpha, place in ((0.0, 0), (0.4, 0), (0.6, 1), (1.0, 1)):
            chosen, score = searching.choose(tokens, scores, alpha)
            assert torch.equal(chosen[0], tokens[0, place]) and score.item() == scores[0, place].item()


@pytest.fixture(scope="module")
def found(searching):
    """A translator that has learned little, from sentences of which a fifth lost their translation: losses, what beams find."""
    pairs = [pair for pair in write_translations(1500, "training", "ko", seed=0) if len(pair[0].split()) < 8]
    bpe = byte_bpe.train([text for pair in pairs for text in pair], 400, SPECIAL)
    model = Translator(len(bpe), width=32, heads=2, layers=1, seed=0)
    lost = [(source, "" if i % 5 == 0 else target) for i, (source, target) in enumerate(pairs)]
    losses = [searching.train(model, searching.encode(lost, bpe), steps=steps, lr=0.01, seed=0) for steps in (1, 50)]
    source, right = searching.encode(pairs[:10], bpe)[0], [target for _, target in pairs[:10]]
    return losses, {beam: searching.measure(model.eval(), bpe, source, right, beam, "ko") for beam in (1, 8)}


def test_learns(found):
    assert found[0][1] < found[0][0] - 2


def test_wide_beams_find_the_empty_translation(found):
    greedy, wide = found[1][1], found[1][8]
    assert wide[0.0].score > greedy[0.0].score + 1 and wide[0.0].empty > 0.8 > greedy[0.0].empty
    assert wide[1.0].empty < 0.4 and wide[1.0].length > wide[0.0].length + 0.5


def test_error(searching):
    assert "out of range" in searching.meet_error()


class TestMain:
    def test_runs_and_notices_what_does_not_learn(self, searching, monkeypatch):
        monkeypatch.setattr(searching, "compare_with_everything", lambda **_: (0.0, 0.5))  # tested above
        with pytest.raises(LessonError, match="more --steps"):
            searching.main(into="de", pairs=60, empty=0.1, steps=1, lr=0.0, widest=4, sentences=4, device="cpu", seed=0)
        assert (paths.outputs("beam_search") / "beams.png").exists()

    @pytest.mark.parametrize("wrong", [{"steps": 0}, {"widest": 3}, {"sentences": 301}, {"empty": 1.0}])
    def test_settings_that_cannot_be(self, searching, wrong):
        with pytest.raises(LessonError, match="--"):
            searching.main(**({"steps": 1, "widest": 4, "sentences": 1, "empty": 0.0} | wrong))

    @pytest.mark.slow  # the default run: wide beams that find empty sentences in a translator that works
    def test_default_settings(self, searching):
        results = searching.main(device="cpu", seed=1)
        assert results["off"] < 1e-10 and results["widest_score"] > results["greedy_score"]
        assert results["widest_bleu"] < results["greedy_bleu"] - 5 and results["widest_length"] < 0.9
