"""Machine translation: learns a grammar with other word order, caches rightly, looks things up where they stand."""

import pytest
import torch
from conftest import lesson

from utils import byte_bpe, paths
from utils.datasets.small_translations import THINGS, write_translations
from utils.lesson import LessonError
from utils.networks.translator import END, PAD, SPECIAL, START, Translator
from utils.translation_scores import judge, most_similar

SMALL = {"source": "sample", "into": "ko", "pairs": 100, "vocabulary": 300, "width": 16, "layers": 1, "heads": 2, "dropout": 0.1}
SMALL |= {"steps": 2, "batch_tokens": 256, "lr": 0.004, "threads": 1, "bfloat16": False, "device": "cpu", "seed": 0}


@pytest.fixture(scope="module")
def translation():
    return lesson("07_nlp/machine_translation")


@pytest.fixture(scope="module")
def sentences():
    """Short ones, which are learned soon, in Korean: verb last, particles, counters; the test's verbs never had those objects."""
    pairs = {split: write_translations(count, split, "ko", seed=0) for split, count in (("training", 6000), ("test", 1500))}
    return {split: [pair for pair in part if len(pair[0].split()) < 7] for split, part in pairs.items()}


@pytest.fixture(scope="module")
def bpe(sentences):
    return byte_bpe.train([text for pair in sentences["training"] for text in pair], 800, SPECIAL)


@pytest.fixture(scope="module")
def trained(translation, sentences, bpe):
    """The network, its averaged weights, what was printed of it, its last loss."""
    batches, told = translation.make_batches(translation.encode(sentences["training"], bpe), 384), []
    model = Translator(len(bpe), width=64, heads=2, layers=1, dropout=0.0, seed=0)
    averaged, loss = translation.train(
        model, batches, steps=160, lr=0.01, seed=0, smoothing=0.1, bfloat16=False, shift=1, watch=lambda *seen: told.append(seen)
    )  # fmt: skip
    return model, averaged, told, loss


def write(translation, model, bpe, pairs, cache=True):
    sources = [source for source, _ in translation.encode(pairs, bpe)]
    return [bpe.decode(tokens) for tokens in translation.translate(model, sources, bfloat16=False, cache=cache)]


class TestBatches:
    def test_encoding(self, translation, bpe):
        ((source, target),) = translation.encode([("Mina finds a cat.", "미나는 고양이를 찾는다.")], bpe)
        assert source[-1] == END and START not in source and [target[0], target[-1]] == [START, END]
        assert bpe.decode(source) == "Mina finds a cat." and bpe.decode(target) == "미나는 고양이를 찾는다."

    @pytest.mark.parametrize("by_length", [True, False])
    def test_hold_everything_once_within_the_budget(self, translation, by_length):
        draw = torch.Generator().manual_seed(0)
        lengths = torch.randint(2, 30, (200, 2), generator=draw).tolist()
        examples = [([3 + i] * a, [3 + i] * b) for i, (a, b) in enumerate(lengths)]
        batches = translation.make_batches(examples, 100, by_length)
        rows = [(s[s != PAD].tolist(), t[t != PAD].tolist()) for batch in batches for s, t in zip(*batch, strict=True)]
        assert sorted(rows) == sorted(examples)
        assert all(len(s) * max(s.shape[1], t.shape[1]) <= 100 for s, t in batches)

    def test_sorting_saves_padding(self, translation, sentences, bpe):
        examples = translation.encode(write_translations(600, "training", "ko", seed=0), bpe)  # long ones, too
        shares = [translation.padding_share(translation.make_batches(examples, 1024, sort)) for sort in (True, False)]
        assert shares[0] < 0.2 and shares[1] > shares[0] + 0.15
        assert translation.padding_share([(torch.tensor([[3, PAD]]), torch.tensor([[1, 2]]))]) == 0.25


class TestTraining:
    def test_learns_combinations_it_has_never_seen(self, translation, sentences, bpe, trained):
        pairs = sentences["test"][:80]
        (texts, right), known = zip(*pairs, strict=True), sentences["training"]
        scores = judge(write(translation, trained[1], bpe, pairs), right, "ko")
        memory = judge([known[i][1] for i in most_similar([text for text, _ in known], texts)], right, "ko")
        assert memory["exact"] == 0 and memory["bleu"] < 65
        assert scores["exact"] > 0.6 and scores["bleu"] > 85
        assert trained[3] < 1.5  # with smoothing it cannot come near 0

    def test_tells_what_it_does(self, trained):
        model, averaged, told, loss = trained
        assert [step for _, step, _ in told] == [20, 40, 60, 80, 100, 120, 140, 160]
        assert told[-1][0] is averaged is not model and told[-1][2] == loss
        assert not torch.equal(averaged.embedding.weight, model.embedding.weight)

    def test_cache_writes_the_same(self, translation, sentences, bpe, trained):
        pairs = sentences["test"][:40]
        one, other = (write(translation, trained[1], bpe, pairs, cache) for cache in (True, False))
        assert one == other
        assert write(translation, trained[1], bpe, pairs[:3]) == one[:3]  # whoever is in the batch, and in which order

    def test_writes_what_teacher_forcing_says(self, translation, sentences, bpe, trained):
        (source, _), = translation.encode(sentences["test"][:1], bpe)  # fmt: skip
        (tokens,) = translation.translate(trained[1], [source], bfloat16=False, cache=True)
        logits = trained[1](torch.tensor([source]), torch.tensor([[START, *tokens]]))
        assert logits.argmax(dim=2)[0].tolist() == [*tokens, END]

    def test_unshifted_targets_teach_copying(self, translation, sentences, bpe):
        batches = translation.make_batches(translation.encode(sentences["training"], bpe), 512)
        model = Translator(len(bpe), width=32, heads=2, layers=1, seed=0)
        _, loss = translation.train(model, batches, steps=60, lr=0.01, seed=0, smoothing=0.0, bfloat16=False, shift=0, watch=None)
        assert loss < 1.0  # better than any translator, and yet
        assert (
            judge(write(translation, model, bpe, sentences["test"][:20]), [r for _, r in sentences["test"][:20]], "ko")["bleu"]
            < 5
        )

    def test_error(self, translation, bpe, trained):
        batch = torch.full((2, 5), 7), torch.full((2, 6), 7)
        assert "to match target batch_size (10)" in translation.meet_error(trained[0], batch)


def looked_up(translation, model, bpe, pairs) -> float:
    """How often the name of a thing in Korean looks most at that thing in English."""
    found, names = [], dict(line.split("|")[:2] for line in THINGS.strip().splitlines())
    for example in translation.encode(pairs, bpe):
        sources, targets, table = translation.align(model, bpe, example)
        for english, korean in names.items():
            here = [i for i, word in enumerate(sources) if word.strip(",.?") in english.split()]
            there = [i for i, word in enumerate(targets) if word[: len(korean.split()[0])] == korean.split()[0]]
            if here and there:
                found.append(table[there[0]].argmax().item() == here[0])
    return sum(found) / len(found)


class TestAlignment:
    def test_is_a_distribution_over_words(self, translation, sentences, bpe, trained):
        for example in translation.encode(sentences["test"][:5], bpe):
            sources, targets, table = translation.align(trained[1], bpe, example)
            assert " ".join(sources) == bpe.decode(example[0]) and " ".join(targets) == bpe.decode(example[1])
            assert table.shape == (len(targets), len(sources))
            assert (table >= 0).all() and (table.sum(dim=1) < 1.0001).all()  # the rest goes to END

    def test_things_are_looked_up_where_they_stand(self, translation, sentences, bpe, trained):
        share = looked_up(translation, trained[1], bpe, sentences["test"][:80])
        print(f"looked up {share:.2f}")
        assert share > 0.5  # by chance about one in six

    def test_figure(self, translation, sentences, bpe, trained):
        translation.draw_alignment(trained[1], bpe, translation.encode(sentences["test"][:2], bpe))
        assert (paths.outputs("machine_translation") / "alignment.png").exists()


class TestMain:
    def test_notices_what_does_not_learn(self, translation, monkeypatch):
        monkeypatch.setattr(translation, "translate", lambda model, sources, *_: [[]] * len(sources))
        with pytest.raises(LessonError, match="more --steps"):
            translation.main(**SMALL)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [({"steps": 0}, "at least 1"), ({"dropout": 1.0}, "--dropout"), ({"batch_tokens": 5}, "--batch-tokens"),
         ({"width": 15}, "width of 15"), ({"vocabulary": 100}, "vocabulary of 100"), ({"into": "fr"}, "Korean and German")],
    )  # fmt: skip
    def test_settings_that_cannot_be(self, translation, wrong, message):
        with pytest.raises(LessonError, match=message):
            translation.main(**(SMALL | wrong))

    @pytest.mark.slow  # the default run: the only proof that it learns the whole grammar
    def test_default_settings(self, translation):
        results = translation.main(source="sample", device="cpu", seed=1)
        assert results["bleu"] > 85 > 60 > results["best_baseline_bleu"]
        assert results["exact"] > 0.7 and results["same_uncached"] and results["copier_bleu"] < 5
