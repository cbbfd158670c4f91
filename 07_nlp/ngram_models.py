"""N-gram language models · n-gram 언어 모델

How likely is the next character? Count what came after the last few ones in a text. That is all there is to an n-gram model, but
for one question, to which this lesson compares six answers: how likely is what was never seen?
다음 글자가 무엇일 확률은 얼마인가? 글에서 바로 앞 몇 글자 뒤에 무엇이 왔는지 세면 된다. n-gram 모델은 이것이 전부이고 남는
물음은 하나다. 한 번도 본 적 없는 것의 확률은 얼마인가? 이 레슨은 그 답 여섯 가지를 견준다.

You will
  1. count, and meet the perplexity of infinity
  2. write add-k, interpolation with weights from EM, absolute discounting, and Kneser-Ney with one discount and with three
  3. see that they all sum to one, and compare them by the order n and by the amount of text, in English and in Korean
  4. measure the San Francisco argument: what a frequent word is worth that has only one neighbour

Before     06_advanced/gpt.py
Run        python -m study run ngram_models        (about 5 s on one CPU core, after importing torch)
You see    with n = 6, Kneser-Ney hesitates among 4.8 characters in English, add-k among 14.8; in Korean 18 and 311; orders.png
Try next   --longest 4000: first guess who suffers least from so little text, and whether three discounts still help
Theory     notes/en/07_nlp.md · notes/ko/07_nlp.md
Practise   python -m study check 07
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from utils import datasets, kneser_ney
from utils.datasets.plain_texts import NumberedText, numbered, plain_text
from utils.language import ngram_losses
from utils.lesson import check, run
from utils.plotting import label, save_figure

Model = Callable[[Tensor], Tensor]  # n-grams (m, n) → how likely the last symbol of each is after the others: (m,) float64
KS, BEST = (1.0, 0.1, 0.01, 0.001), "Kneser-Ney, 3 discounts"  # KS: what add-k may add; validation chooses


# %% 1. Counting
class Table:
    """How often n-grams of one length occur in ids (n,); or, for `neighbours`, how many different symbols stand before them."""

    def __init__(self, ids: Tensor, symbols: int, n: int, neighbours: bool = False):
        self.symbols, self.n = symbols, n
        if neighbours:
            longer = self.numbers(ids.unfold(0, n + 1, 1)).unique()
            self.grams, self.counts = (longer % symbols**n).unique(return_counts=True)  # the first symbol falls off
        else:
            self.grams, self.counts = self.numbers(ids.unfold(0, n, 1)).unique(return_counts=True)  # sorted
        self.contexts, place = (self.grams // symbols).unique(return_inverse=True)  # the last symbol falls off
        self.totals = torch.zeros_like(self.contexts).index_add(0, place, self.counts)
        once_twice_more = F.one_hot(self.counts.clamp(max=3) - 1, 3)  # (grams, 3)
        self.kinds = once_twice_more.new_zeros(len(self.contexts), 3).index_add(0, place, once_twice_more)

    def numbers(self, grams: Tensor) -> Tensor:
        """Write each n-gram as one number whose digits are its symbols: (m, n) → (m,)."""
        return grams @ self.symbols ** torch.arange(grams.shape[1] - 1, -1, -1)

    def look_up(self, grams: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find the last n symbols of n-grams (m, n or more): their counts (m,); how often anything came after the same contexts
        (m,); how many different symbols came after these once, twice and more often (m, 3). All are 0 for what was never seen."""
        asked = self.numbers(grams[:, grams.shape[1] - self.n :])
        gram = torch.searchsorted(self.grams, asked).clamp(max=len(self.grams) - 1)
        context = torch.searchsorted(self.contexts, asked // self.symbols).clamp(max=len(self.contexts) - 1)
        known = self.contexts[context] == asked // self.symbols
        count = self.counts[gram] * (self.grams[gram] == asked)
        return count.double(), self.totals[context] * known.double(), self.kinds[context] * known.double()[:, None]


def windows(before: Tensor, held: Tensor, n: int) -> Tensor:
    """Every symbol held but the first, with the n - 1 symbols before it: (m - 1, n)."""
    return torch.cat([before, held])[len(before) + 2 - n :].unfold(0, n, 1)


def shares(tables: list[Table], grams: Tensor) -> Tensor:
    """Maximum likelihood for n = 0 (pure chance), 1, 2, ...: (m, n + 1). After a context never seen, that of the shorter one."""
    found = [torch.full((len(grams),), 1 / tables[0].symbols, dtype=torch.float64)]
    for count, total, _ in (table.look_up(grams) for table in tables):
        found.append(torch.where(total > 0, count / total.clamp(min=1), found[-1]))
    return torch.stack(found, dim=1)


def perplexity(chances: Tensor) -> float:
    """Among how many equally likely symbols a model hesitates that gave these chances to what came: exp of the mean loss."""
    return chances.log().mean().neg().exp().item()


def meet_infinity(split: NumberedText) -> float:
    """Predict a text from counts of pairs and nothing else; return the perplexity."""
    tables = [Table(split.train, len(split.symbols), n) for n in (1, 2)]
    pairs = windows(split.train, split.validation, 2)
    chances = shares(tables, pairs)[:, 2]
    new = pairs[chances == 0]
    print(f"1. {len(new)} of {len(pairs):,} pairs are new, the first is {''.join(split.symbols[i] for i in new[0])!r}")
    try:
        math.log(chances.min().item())
    except ValueError as error:
        print(f'   "{error}"\n   read: the logarithm of 0. Who rules out one thing that then happens is infinitely wrong')
    return perplexity(chances)


# %% 2. Something for what was never seen
def add_k(tables: list[Table], k: float, grams: Tensor) -> Tensor:
    """Pretend that each symbol was seen k times more after each context (k = 1: Laplace)."""
    count, total, _ = tables[-1].look_up(grams)
    return (count + k) / (total + k * tables[-1].symbols)


def fit_weights(shares: Tensor, rounds: int) -> tuple[Tensor, list[float]]:
    """Weigh shares (m, n + 1) so that a text is likeliest (Jelinek and Mercer, 1980), by EM: weights, losses by round."""
    weights, losses = torch.full_like(shares[0], 1 / shares.shape[1]), []
    for _ in range(rounds):
        parts = shares * weights
        losses.append(-parts.sum(dim=1).log().mean().item())
        weights = (parts / parts.sum(dim=1, keepdim=True)).mean(dim=0)  # how much of each symbol was whose doing?
    return weights, losses


def discounts(counts: Tensor, three: bool) -> Tensor:
    """What to take off counts of 1, of 2 and of more: (3,), one for all (Ney et al., 1994) or three (Chen and Goodman, 1998)."""
    often = [(counts == i).sum().item() for i in range(5)]
    share = often[1] / (often[1] + 2 * often[2]) if often[1] and often[2] else 0.5
    less = [share] * 3
    if three and all(often[1:]):
        less = [min(max(i - (i + 1) * share * often[i + 1] / often[i], kneser_ney.LEAST), i) for i in (1, 2, 3)]
    return torch.tensor(less, dtype=torch.float64)


def discounted(tables: list[Table], less: list[Tensor], grams: Tensor) -> Tensor:
    """Take a little off every count, and share what becomes free as the shorter context says."""
    found = torch.full((len(grams),), 1 / tables[0].symbols, dtype=torch.float64)
    for table, off in zip(tables, less, strict=True):
        count, total, kinds = table.look_up(grams)
        own = (count - off[count.long().clamp(1, 3) - 1]).clamp(min=0)
        free = kinds @ off  # all that was taken after this context
        found = torch.where(total > 0, (own + free * found) / total.clamp(min=1), found)
    return found


def build_all(split: NumberedText, n: int) -> dict[str, Model]:
    """Make a model of each kind; what has to be chosen is chosen on the validation text."""
    plain = [Table(split.train, len(split.symbols), i) for i in range(1, n + 1)]
    kneser = [Table(split.train, len(split.symbols), i, neighbours=i < n) for i in range(1, n + 1)]  # Kneser and Ney, 1995
    asked = windows(split.train, split.validation, n)
    k = min(KS, key=lambda k: perplexity(add_k(plain, k, asked)))
    weights, _ = fit_weights(shares(plain, asked), 20)
    models = {"add-k": partial(add_k, plain, k), "interpolation": lambda grams: shares(plain, grams) @ weights}
    for name, tables, three in (("absolute discounting", plain, False), ("Kneser-Ney", kneser, False), (BEST, kneser, True)):
        models[name] = partial(discounted, tables, [discounts(table.counts, three) for table in tables])
    return models


# %% 3. Do they sum to one, and which is best?
def farthest_from_one(model: Model, contexts: Tensor, symbols: int) -> float:
    """Sum the chances of all symbols after each of contexts (m, n - 1); by how much is the worst sum off?"""
    last = torch.arange(symbols).repeat(len(contexts))[:, None]
    sums = model(torch.cat([contexts.repeat_interleave(symbols, dim=0), last], dim=1)).view(-1, symbols).sum(dim=1)
    return (sums - 1).abs().max().item()


def compare_orders(split: NumberedText, order: int, seed: int) -> tuple[dict[str, list[float]], float, float]:
    """Return test perplexities by method and n; how far sums are from 1; how far Kneser-Ney is from the finished one."""
    size, off_sum, off_finished = len(split.symbols), 0.0, 0.0
    found = {"Witten-Bell": [math.exp(one) for one in ngram_losses(split.train, split.test, size, order)]}
    for n in range(1, order + 1):
        asked = windows(split.train, split.test, n)
        strange = torch.randint(size, (50, n - 1), generator=torch.Generator().manual_seed(seed))
        for name, model in build_all(split, n).items():
            found.setdefault(name, []).append(perplexity(model(asked)))
            off_sum = max(off_sum, farthest_from_one(model, torch.cat([asked[:50, :-1], strange]), size))
        finished = kneser_ney.KneserNey(split.train, size, n).loss(split.train, split.test)
        off_finished = max(off_finished, abs(math.log(found[BEST][-1]) - finished))
    return found, off_sum, off_finished


# %% 4. San Francisco
def compare_unigrams(split: NumberedText) -> tuple[float, float]:
    """Predict words in new pairs of old words: perplexities by how often the word comes, and by after how many others."""
    size, often = len(split.symbols), Table(split.train, len(split.symbols), 1)
    pairs, others = Table(split.train, size, 2), Table(split.train, size, 1, neighbours=True)
    counts, different = (torch.zeros(size).long().index_put((table.grams,), table.counts) for table in (often, others))
    faithful = torch.where(counts > 9, different / counts, 1).argsort()[:3].tolist()
    told = ", ".join(f"{split.symbols[i]!r} {counts[i]} times after {different[i]}" for i in faithful)
    asked = windows(split.train, split.test, 2)
    new = asked[(pairs.look_up(asked)[0] == 0) & (different[asked] > 0).all(dim=1)]
    by_count, by_neighbours = (perplexity((numbers.double() / numbers.sum())[new[:, 1]]) for numbers in (counts, different))
    print(f"4. share of words never seen {(counts[split.test] == 0).double().mean():.3f}; {told} others")
    print(f"   second words of {len(new)} new pairs: perplexity {by_count:.0f} by counts, {by_neighbours:.0f} by neighbours")
    return by_count, by_neighbours


# %% 3 again, by the amount of text
def compare_amounts(split: NumberedText, order: int) -> dict[int, list[float]]:
    """Count the last 1/64, 1/16, 1/4 and all of the text; return by its length the test perplexities of Kneser-Ney for each n."""
    found = {}
    for ids in (split.train[-(len(split.train) // part) :] for part in (64, 16, 4, 1)):
        models = [kneser_ney.KneserNey(ids, len(split.symbols), n) for n in range(1, order + 1)]
        found[len(ids)] = [math.exp(model.loss(ids, split.test)) for model in models]
    return found


def draw_curves(found: dict[str, tuple[dict[str, list[float]], dict[int, list[float]]]]) -> None:
    """Draw perplexities of each language by n for all methods, and by the amount of text for each n."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    for (left, right), (language, (orders, amounts)) in zip(axes, found.items(), strict=True):
        for name, values in orders.items():
            left.plot(range(1, len(values) + 1), values, ".-", label=name)
        for n, values in enumerate(zip(*amounts.values(), strict=True), 1):
            right.plot([*amounts], values, ".-", label=f"n = {n}")
        left.set(title=language, xlabel="n", ylabel=label("perplexity", "퍼플렉시티"), ylim=(0, 1.2 * orders[BEST][0]))
        right.set(title=f"{language}, {BEST}", xlabel=label("characters counted", "센 글자 수"), ylim=(0, None), xscale="log")
        left.legend(), right.legend()
    save_figure(figure, __file__, "orders")


# %% All of it, in order
def main(source: datasets.Source = "sample", order: int = 6, longest: int = 1_000_000, seed: int = 0) -> dict[str, float]:
    """Count n-grams, and give what was never seen its share.

    Args:
        source: "sample" (small talk), "real" or "auto" (tinyshakespeare and NSMC).
        order: The longest n-gram, 2 to 6.
        longest: How many characters to count at most, at least 1,000.
        seed: Of the split of the sample, and of contexts that nobody ever wrote.
    """
    check(2 <= order <= 6 and longest >= 1000, "--order is 2 to 6, --longest at least 1000")
    results, curves = {}, {}
    for language in ("en", "ko"):
        split = numbered(text := plain_text(language, source, seed), longest=longest)
        results[f"{language}_pairs_alone"] = meet_infinity(split)
        most = min(order, int(62.9 / math.log2(len(split.symbols))))  # longer n-grams do not fit into a number
        found, off_sum, off_finished = compare_orders(split, most, seed)
        print(f"3. {language}, {len(split.symbols)} different characters: test perplexities for n from 1")
        print("\n".join(f"   {name:23} " + " ".join(f"{value:6.2f}" for value in values) for name, values in found.items()))
        print(f"   sums are off 1 by {off_sum:.0e}, Kneser-Ney by {off_finished:.0e} from the finished one")
        check(off_sum < 1e-9 and off_finished < 1e-9, "these are no probabilities, or it is no Kneser-Ney")
        words = compare_unigrams(numbered(text, words=True, longest=longest // 4))
        curves[language] = found, compare_amounts(split, most)
        best = {"kneser_ney": found[BEST][-1], "others": min(min(row) for name, row in found.items() if "Kneser" not in name)}
        best |= {"off_sum": off_sum, "off_finished": off_finished, "by_count": words[0], "by_neighbours": words[1]}
        results |= {f"{language}_{name}": value for name, value in best.items()}
        check(best["kneser_ney"] < best["others"], "Kneser-Ney is no better than the others: too little text?")
    draw_curves(curves)
    return results


if __name__ == "__main__":
    run(main)
