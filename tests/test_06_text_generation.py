"""Text generation: what is drawn is what should be drawn, and a cache changes nothing but the time."""

import math

import pytest
import torch
from conftest import lesson

from utils.datasets import tinyshakespeare
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def generation():
    return lesson("06_advanced/text_generation")


@pytest.fixture(scope="module")
def model(generation):
    """A small one with weights large enough that everything matters."""
    model = generation.GPT(20, context=24, width=16, layers=2, heads=4, seed=0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def random_logits(count: int = 200, symbols: int = 12) -> torch.Tensor:
    return 2 * torch.randn(count, symbols, generator=torch.Generator().manual_seed(0))


class TestChoosing:
    @pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.999])
    def test_nucleus_is_the_smallest_that_reaches_p(self, generation, p):
        logits = random_logits()
        for before, after in zip(logits.softmax(1).tolist(), generation.keep_top_p(logits, p).tolist(), strict=True):
            kept = [chance for chance, value in zip(before, after, strict=True) if value > -math.inf]
            ruled_out = [chance for chance, value in zip(before, after, strict=True) if value == -math.inf]
            assert sum(kept) >= p - 1e-5 and sum(kept) - min(kept) < p + 1e-5
            assert not ruled_out or max(ruled_out) <= min(kept)

    @pytest.mark.parametrize("k", [1, 3, 12, 50])
    def test_top_k(self, generation, k):
        logits = random_logits()
        kept = generation.keep_top_k(logits, k) > -math.inf
        assert kept.sum(dim=1).eq(min(k, 12)).all()
        assert kept.gather(1, logits.argmax(dim=1, keepdim=True)).all()

    def test_min_p(self, generation):
        logits = random_logits()
        chances = logits.softmax(dim=1)
        kept = generation.keep_min_p(logits, 0.2) > -math.inf
        assert torch.equal(kept, chances >= 0.2 * chances.amax(dim=1, keepdim=True))

    def test_temperature(self, generation):
        logits = random_logits()
        torch.testing.assert_close(generation.chances(logits, temperature=2.0), (logits / 2).softmax(dim=1))
        torch.testing.assert_close(generation.chances(logits), logits.softmax(dim=1))
        assert torch.equal(generation.chances(logits, temperature=0).argmax(dim=1), logits.argmax(dim=1))
        torch.testing.assert_close(
            generation.chances(logits, temperature=1e-3), generation.chances(logits, temperature=0), atol=0.2, rtol=0
        )

    def test_is_what_transformers_does(self, generation):
        transformers = pytest.importorskip("transformers")
        logits = random_logits()
        pairs = [
            (generation.keep_top_k(logits, 4), transformers.TopKLogitsWarper(4)),
            (generation.keep_top_p(logits, 0.8), transformers.TopPLogitsWarper(0.8)),
            (generation.keep_min_p(logits, 0.1), transformers.MinPLogitsWarper(0.1)),
        ]
        for ours, warper in pairs:
            assert torch.equal(ours, warper(None, logits))

    def test_filters_come_after_the_temperature(self, generation):
        logits = random_logits()
        expected = generation.keep_top_p(logits / 1.5, 0.7).softmax(dim=1)
        torch.testing.assert_close(generation.chances(logits, temperature=1.5, top_p=0.7), expected)

    def test_draws_by_the_probabilities(self, generation):
        logits, generator = torch.tensor([[1.0, 3.0, 0.0, 2.0]]).expand(50_000, -1), torch.Generator().manual_seed(1)
        counts = generation.draw(generation.chances(logits, top_k=3), generator).flatten().bincount(minlength=4)
        p = torch.tensor([math.e, math.e**3, 0.0, math.e**2]) / (math.e + math.e**2 + math.e**3)
        assert counts[2] == 0
        expected = 50_000 * p[[0, 1, 3]]
        chi_square = ((counts[[0, 1, 3]] - expected) ** 2 / expected).sum().item()
        assert chi_square < 18.4  # of 2 degrees of freedom; larger once in 10,000 times

    def test_counts(self, generation):
        found = generation.count_draws(20_000, seed=0)
        assert len(found) == len(generation.WAYS) and max(found.values()) < 5


class TestCache:
    @pytest.mark.parametrize("parts", [[24], [1] * 24, [5, 1, 1, 10, 7], [23, 1]])
    def test_reading_in_parts_is_reading_at_once(self, generation, model, parts):
        ids = torch.randint(20, (3, 24), generator=torch.Generator().manual_seed(0))
        whole, whole_cache = model.read(ids)
        torch.testing.assert_close(model(ids), whole)
        cache, logits = None, []
        for part in ids.split(parts, dim=1):
            out, cache = model.read(part, cache)
            logits.append(out)
        torch.testing.assert_close(torch.cat(logits, dim=1), whole, rtol=1e-4, atol=1e-4)
        for mine, theirs in zip(cache, whole_cache, strict=True):
            assert mine[0].shape == (3, 4, 24, 4)
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)

    def test_does_not_look_ahead(self, model):
        ids = torch.randint(20, (2, 24), generator=torch.Generator().manual_seed(1))
        changed = torch.cat([ids[:, :-1], (ids[:, -1:] + 1) % 20], dim=1)
        assert torch.equal(model(ids)[:, :-1], model(changed)[:, :-1])

    @pytest.mark.parametrize("way", [{}, {"temperature": 0}, {"temperature": 1.3, "top_p": 0.8}])
    def test_same_text(self, generation, model, way):
        begin = torch.tensor([[1, 2, 3], [4, 5, 6]])
        texts = [generation.write(model, begin, 21, seed=0, cached=cached, **way) for cached in (True, False)]
        assert texts[0].shape == (2, 24) and torch.equal(texts[0][:, :3], begin)
        assert torch.equal(*texts)

    def test_is_measured(self, generation):
        speed_ups = generation.compare_cache((8, 16), 16, 1, seed=0, device="cpu")
        assert len(speed_ups) == 2 and min(speed_ups) > 0

    def test_mistakes(self, generation, model, capsys):
        found = generation.meet_mistakes(model, seed=0)
        assert found["right"] < 1e-3
        assert found["place one off"] > 0.05 and found["is_causal=True"] > 0.1
        assert "out of bounds" in capsys.readouterr().out


class TestWays:
    def test_rows_begin_with_line_breaks(self, generation):
        ids = torch.tensor([5, 0, 1, 2, 0, 3, 0, 4])
        assert generation.stories_as_rows(ids, 2).tolist() == [[0, 1, 2], [0, 3, 0]]

    def test_greedy_says_always_the_same(self, generation):
        text = tinyshakespeare("sample", stories=50, seed=0)
        model = generation.GPT(len(text.alphabet), context=24, width=16, layers=1, heads=4, seed=0)
        found = generation.compare_ways(model, text, 10, seed=0)
        assert found["greedy"][1] == 0.9 and found["as it is"][1] < 0.2
        assert all(0 <= words <= 1 for words, _ in found.values())


class TestMain:
    SMALL = {"steps": 120, "width": 32, "layers": 1, "context": 32, "longest": 64, "count": 20, "lr": 0.02, "device": "cpu"}

    def test_learns(self, generation):
        results = generation.main(**self.SMALL, seed=0)
        assert results["loss"] < results["bigram_loss"] and results["cache_off"] < 1e-4 < results["place_off"]
        assert results["words_as_it_is"] > results["words_1.5"]

    def test_check_notices_a_model_that_does_not_learn(self, generation):
        with pytest.raises(LessonError, match="more --steps"):
            generation.main(**(self.SMALL | {"lr": 1e-9, "steps": 3}), seed=0)

    @pytest.mark.parametrize(
        ("wrong", "message"), [({"steps": 0}, "at least 1"), ({"width": 30}, "multiple"), ({"context": 5}, "8 to")]
    )
    def test_settings_that_cannot_be(self, generation, wrong, message):
        with pytest.raises(LessonError, match=message):
            generation.main(**(self.SMALL | wrong), seed=0)


def test_full_context_is_one_sentence(generation, model):
    with pytest.raises(LessonError, match="25 characters do not fit"):
        generation.write(model, torch.zeros(1, 20, dtype=torch.long), 5, seed=0)
