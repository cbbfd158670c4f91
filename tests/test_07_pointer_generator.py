"""Pointer-generator: probabilities sum to one, padding changes nothing, new names are copied, and only with copying."""

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.datasets.reports import Report, write_reports
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def pointer():
    return lesson("07_nlp/pointer_generator")


@pytest.fixture(scope="module")
def reports():
    """English reports of one kind, which are learned soon."""
    everything = [write_reports(n, 0, split, short=True) for n, split in ((4000, "training"), (800, "test"))]
    return [[one for one in some if one.language == "en" and "bridge" in one.summary] for some in everything]


@pytest.fixture(scope="module")
def data(pointer, reports):
    vocabulary = pointer.make_vocabulary(reports[0], 0.02)
    return vocabulary, *(pointer.encode(some, vocabulary) for some in reports)


@pytest.fixture(scope="module")
def trained(pointer, data):
    found = {}
    for copies in (True, False):
        found[copies] = pointer.PointerGenerator(len(data[0]) + 4, 32, copies, seed=0)
        pointer.train(found[copies], data[1], steps=70 if copies else 25, lr=0.02, seed=0)
    return found


def small(pointer, copies=True, rows=((4, 1, 5), (6, 4))):
    """A model of ten words, and two texts with new words."""
    model = pointer.PointerGenerator(10, 8, copies, seed=0)
    source = torch.tensor([[*row, 0, 0][:4] for row in rows])
    extended = torch.where(source == 1, 10, source)
    return model, pointer.Examples(source, extended, torch.tensor([[4, 10, 3], [6, 3, 0]]), [["new"], []], 12)


def say(pointer, model, batch, before):
    *memory, state = model.read(batch.source)
    return model(before, state, memory, batch.extended, batch.size)


class TestNumbers:
    def test_vocabulary_and_new_words(self, pointer):
        report = Report(("Ann Kelly ran.", "Kelly won 417."), "Ann Kelly and Mars.", 0, 1, ("Ann Kelly", "417"), "en")
        vocabulary = {"Ann": 4, ".": 5, "ran": 6, "and": 7}
        data = pointer.encode([report], vocabulary)
        assert data.source.tolist() == [[4, 1, 6, 5, 1, 1, 1, 5]]
        assert data.extended.tolist() == [[4, 8, 6, 5, 8, 9, 10, 5]] and data.new == [["Kelly", "won", "417"]]
        assert data.target.tolist() == [[4, 8, 7, 1, 5, 3]] and data.size == 11  # Mars is nowhere: unknown

    def test_rare_words_stay_out(self, pointer, reports):
        vocabulary = pointer.make_vocabulary(reports[0], 0.02)
        assert sorted(vocabulary.values()) == [*range(4, len(vocabulary) + 4)]
        assert "bridge" in vocabulary and reports[0][0].facts[1] not in vocabulary
        assert reports[0][0].facts[1] in pointer.make_vocabulary(reports[0], 0.0)

    def test_batches_are_no_longer_than_they_are(self, pointer):
        _, data = small(pointer)
        assert data.rows([1]).source.tolist() == [[6, 4]] and data.rows([1]).target.tolist() == [[6, 3]]
        assert data.rows([1]).new == [[]] and data.rows([0]).size == 12


class TestModel:
    @pytest.mark.parametrize("copies", [True, False])
    def test_probabilities_sum_to_one(self, pointer, copies):
        model, batch = small(pointer, copies)
        final, _, attention, generate = say(pointer, model, batch, torch.tensor([[2, 4, 10], [2, 6, 3]]))
        assert final.shape == (2, 3, 12) and (final >= 0).all()
        torch.testing.assert_close(final.sum(dim=2), torch.ones(2, 3), rtol=0, atol=1e-6)
        torch.testing.assert_close(attention.sum(dim=2), torch.ones(2, 3), rtol=0, atol=1e-6)
        assert (attention[0, :, 3] == 0).all() and (attention[1, :, 2:] == 0).all()  # padding
        assert (final[..., 11] == 0).all() and (final[1, :, 10] == 0).all()  # words that are not in the text
        assert ((final[0, :, 10] > 0) == copies).all() and ((generate == 1) != copies).all()

    def test_copied_share_is_scattered(self, pointer):
        model, batch = small(pointer)
        final, _, attention, generate = say(pointer, model, batch, torch.tensor([[2], [2]]))
        torch.testing.assert_close(final[0, 0, 10], ((1 - generate) * attention)[0, 0, 1])
        twice = pointer.Examples(torch.tensor([[1, 4, 1, 5]]), torch.tensor([[10, 4, 10, 5]]), None, [["new"]], 12)
        final, _, attention, generate = say(pointer, model, twice, torch.tensor([[2]]))
        copied = (1 - generate) * attention
        torch.testing.assert_close(final[0, 0, 10], copied[0, 0, 0] + copied[0, 0, 2])  # both places count

    def test_padding_changes_nothing(self, pointer):
        model, batch = small(pointer)
        longer = batch._replace(source=torch.nn.functional.pad(batch.source, (0, 5)),
                                extended=torch.nn.functional.pad(batch.extended, (0, 5)))  # fmt: skip
        before = torch.tensor([[2, 4], [2, 6]])
        one, other = (say(pointer, model, some, before)[0] for some in (batch, longer))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
        alone = say(pointer, model, batch.rows([1]), before[1:])[0]
        torch.testing.assert_close(alone[0], one[1], rtol=0, atol=1e-6)

    def test_writing_is_what_teacher_forcing_says(self, pointer, trained, data):
        model, batch = trained[True], data[2].rows([0, 1, 2, 3])
        numbers, _, _ = pointer.write(model, batch, 20)
        before = torch.cat([torch.full_like(numbers[:, :1], pointer.START), numbers[:, :-1]], dim=1)
        assert torch.equal(say(pointer, model, batch, before)[0].argmax(dim=2), numbers)

    def test_a_copied_word_has_no_vector(self, pointer):
        model, _ = small(pointer)
        assert "index out of range" in pointer.feed_back(model, 10)


class TestLearning:
    def right(self, pointer, model, data, reports, replace=False):
        numbers, attention, _ = pointer.write(model, data[2])
        texts = pointer.to_words(data[2], numbers, attention, data[0], replace)
        return pointer.facts_right(texts, reports[1]).mean().item()

    def test_copies_names_that_it_has_never_seen(self, pointer, trained, data, reports):
        names = {one.facts[0] for one in reports[0]}
        assert len(reports[1]) > 50 and not any(one.facts[0] in names for one in reports[1])
        assert self.right(pointer, trained[True], data, reports) > 0.7
        assert self.right(pointer, trained[False], data, reports) == 0.0
        assert self.right(pointer, trained[False], data, reports, replace=True) < 0.5

    def test_gradients_are_of_one_batch(self, pointer, data, monkeypatch):
        lengths = []

        def measure(parameters, most):
            lengths.append(sum(weight.grad.square().sum().item() for weight in parameters if weight.grad is not None) ** 0.5)

        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", measure)
        pointer.train(pointer.PointerGenerator(len(data[0]) + 4, 8, True, seed=0), data[1], steps=5, lr=1e-9, seed=0)
        assert max(lengths) < 3 * min(lengths)  # they would add up without zero_grad

    def test_switch_is_for_new_words(self, pointer, trained, data):
        numbers, _, generate = pointer.write(trained[True], data[2])
        new = numbers >= len(data[0]) + 4
        assert generate[new].mean() < 0.2 and generate[new].mean() + 0.3 < generate[(numbers > 3) & ~new].mean()

    def test_figure(self, pointer, trained, data, reports):
        words = pointer.draw_copying(trained[True], data[2].rows([0]), reports[1][0], data[0])
        assert "bridge" in words
        assert (paths.outputs("pointer_generator") / "copying.png").exists()


def test_facts(pointer):
    report = Report((), "", 0, 0, ("Ann Kelly", "417"), "en")
    texts = [["Ann", "Kelly", "has", "417"], ["Kelly", "Ann", "417"], ["Ann", "Kelly", "41"], ["Ann", "?", "417"]]
    assert pointer.facts_right(texts, [report] * 4).tolist() == [1, 0, 0, 0]


def test_main_notices_what_does_not_learn(pointer, monkeypatch):
    monkeypatch.setattr(pointer, "write_reports", lambda count, *rest, **more: write_reports(count // 20, *rest, **more))
    with pytest.raises(LessonError, match="more --steps"):
        pointer.main(steps=1, lr=1e-6, width=8, rare=0.01, networks=1, device="cpu", seed=0)
    with pytest.raises(LessonError, match="--steps 1"):
        pointer.main(steps=0)
    with pytest.raises(LessonError, match="--rare 0.7"):
        pointer.main(rare=0.7)
