"""Solutions of stage 07, to read after your own attempt."""

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor


def initial_consonants(text: str) -> str:
    # 588 syllables share an initial: 21 vowels times 28 finals. In NFD the syllables are not there; NFC brings them back.
    keyboard = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
    text = unicodedata.normalize("NFC", text)
    return "".join(keyboard[(ord(one) - ord("가")) // 588] if "가" <= one <= "힣" else one for one in text)


def token_batches(lengths: list[int], most: int) -> list[list[int]]:
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):  # sorted keeps the order of equals
        if batches and (len(batches[-1]) + 1) * lengths[place] <= most:  # this one is the longest so far
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def wordpiece_pair(words: dict[tuple[str, ...], int]) -> tuple[str, str]:
    tokens, pairs = Counter(), Counter()
    for word, count in words.items():
        for token in word:
            tokens[token] += count
        for pair in pairwise(word):
            pairs[pair] += count
    return min(pairs, key=lambda pair: (-pairs[pair] / (tokens[pair[0]] * tokens[pair[1]]), pair))


def bm25_scores(counts: Tensor, query: Tensor, k: float = 1.2, b: float = 0.75) -> Tensor:
    # n / (n + k ...) can only come near 1: a document that repeats a word does not win by that, as it would with plain counts.
    holding = (counts > 0).sum(dim=0)  # (terms,)
    weights = (1 + (len(counts) - holding + 0.5) / (holding + 0.5)).log()
    lengths = counts.sum(dim=1, keepdim=True)  # (documents, 1)
    held_back = k * (1 - b + b * lengths / lengths.mean())
    return counts * (k + 1) / (counts + held_back).clamp(min=1e-12) @ (weights * query)  # with k = 0 it may be 0 / 0


def negative_sampling_gradients(given: Tensor, right: Tensor, wrong: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The derivative by a score is the error: σ(score) - 1 of what is right, σ(score) of what is wrong."""
    miss = ((given * right).sum(dim=1).sigmoid() - 1)[:, None]  # (n, 1)
    alarm = torch.einsum("nd,nkd->nk", given, wrong).sigmoid()[..., None]  # (n, k, 1)
    return miss * right + (alarm * wrong).sum(dim=1), miss * given, alarm * given[:, None]


def multiply_analogy(vectors: Tensor, a: int, b: int, c: int) -> int:
    """A product lets no single term that is large decide alone, as a sum does."""
    units = F.normalize(vectors, dim=1)
    to_a, to_b, to_c = (1 + units[[a, b, c]] @ units.T) / 2
    scores = to_b * to_c / (to_a + 0.001)
    scores[[a, b, c]] = -1
    return scores.argmax().item()


def fasttext_hash(text: str) -> int:
    """& 0xFFFFFFFF of a negative number is its two's complement in 32 bits."""
    number = 2166136261
    for byte in text.encode("utf-8"):
        signed = byte - 256 if byte >= 128 else byte
        number = (number ^ signed & 0xFFFFFFFF) * 16777619 & 0xFFFFFFFF
    return number


def mark_negation(words: list[str], negations: set[str]) -> list[str]:
    # One bit of memory: signs clear it, negations turn it. So a bag of words, which is blind to order, gets some of it.
    marked, negated = [], False
    for word in words:
        if not any(character.isalnum() for character in word):
            negated = False
            marked.append(word)
        elif word in negations:
            negated = not negated
            marked.append(word)
        else:
            marked.append(f"not_{word}" if negated else word)
    return marked


def attentive_mean(states: Tensor, scores: Tensor, real: Tensor) -> Tensor:
    # A softmax over nothing but -inf is NaN, and a NaN times zero is NaN: it has to be replaced, not multiplied away.
    weights = scores.masked_fill(~real, -torch.inf).softmax(dim=1).masked_fill(~real, 0.0)
    return (weights[:, None] @ states.masked_fill(~real[..., None], 0.0)).squeeze(1)


def sufficiency(judge: Callable[[list[str]], float], words: list[str], scores: list[float], keep: int) -> float:
    # sorted is stable, so that of equal scores the earlier one comes first.
    chosen = set(sorted(range(len(words)), key=lambda i: -scores[i])[:keep])
    return judge(words) - judge([word for i, word in enumerate(words) if i in chosen])


def stupid_backoff(ids: Sequence[int], context: Sequence[int], symbol: int, factor: float = 0.4) -> float:
    # Counts are enough: what a symbol's share lacks in theory, a trillion words make up for. It is called stupid by its authors.
    ids, context, score = list(ids), list(context), 1.0
    while True:
        n = len(context)
        after = [ids[i + n] for i in range(len(ids) - n) if ids[i : i + n] == context]
        if symbol in after:
            return score * after.count(symbol) / len(after)
        if not context:
            return 0.0
        context, score = context[1:], score * factor


def cut_into_streams(ids: Tensor, streams: int, steps: int) -> tuple[Tensor, Tensor]:
    # One symbol fewer than there are can be read: the last one is only predicted. Pieces overlap by nothing else.
    batches = (len(ids) // streams - 1) // steps
    length = len(ids) // streams
    pieces = ids[: streams * length].view(streams, length)[:, : batches * steps + 1]
    inputs, targets = (part.unflatten(1, (batches, steps)).transpose(0, 1) for part in (pieces[:, :-1], pieces[:, 1:]))
    return inputs, targets


def bits_per_byte(losses: Tensor, text: str) -> float:
    # The sum, not the mean: how many tokens it was cut into is the tokenizer's own affair, how many bytes there are is not.
    return losses.sum().item() / math.log(2) / len(text.encode("utf-8"))


def repeated_share(ids: Sequence[int], n: int) -> float:
    # Tuples can go into a set, lists cannot.
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def smoothed_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float, padding: int) -> Tensor:
    logarithms = logits.log_softmax(dim=2)  # (batch, steps, tokens)
    right = logarithms.gather(2, targets[..., None])[..., 0]  # (batch, steps)
    losses = -(1 - smoothing) * right - smoothing * logarithms.mean(dim=2)
    return losses[targets != padding].mean()  # one mean over all tokens: a mean of means would favour short sentences


def clipped_matches(hypothesis: list[str], references: list[list[str]], n: int) -> tuple[int, int]:
    ours, *theirs = (
        Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) for words in (hypothesis, *references)
    )  # fmt: skip
    matches = sum(min(count, max(counts[gram] for counts in theirs)) for gram, count in ours.items())
    return matches, ours.total()


def beam_step(scores: Tensor, log_probabilities: Tensor, ended: Tensor, end: int) -> tuple[Tensor, Tensor, Tensor]:
    nothing = torch.full_like(log_probabilities, -math.inf)
    nothing[:, end] = 0  # probability 1
    costs = torch.where(ended[:, None], nothing, log_probabilities)
    best = (scores[:, None] + costs).flatten().topk(len(scores))  # over hypotheses and tokens together
    tokens = log_probabilities.shape[1]
    return best.values, best.indices // tokens, best.indices % tokens


def personalized_pagerank(weights: Tensor, start: Tensor, damping: float) -> Tensor:
    # The ranks r obey r = damping · P r + (1 - damping) · start: a linear system, for which no step need be taken. A column
    # without ties becomes `start` itself; with 1/n there, sentences that have nothing to do with the question would gain.
    start = start / start.sum()
    totals = weights.sum(dim=0)
    step = torch.where(totals > 0, weights / totals.clamp(min=1e-300), start[:, None])
    return torch.linalg.solve(torch.eye(len(start), dtype=start.dtype) - damping * step, (1 - damping) * start)


def pick_diverse(scores: Tensor, similar: Tensor, count: int, balance: float) -> list[int]:
    # `nearest` is kept from pick to pick, so each pick costs one row. argmax of a tensor does not promise the first of equals.
    picked: list[int] = []
    nearest = torch.zeros_like(scores)
    for _ in range(min(count, len(scores))):
        gains = (balance * scores - (1 - balance) * nearest).tolist()
        best = max((i for i in range(len(gains)) if i not in picked), key=lambda i: (gains[i], -i))
        nearest = similar[best] if not picked else torch.maximum(nearest, similar[best])
        picked.append(best)
    return picked


def skip_bigram_f1(candidate: list[str], reference: list[str], gap: int) -> float:
    # For each word, the words within reach behind it. Counters meet in their minimum, as with n-grams.
    one, other = (
        Counter((word, after) for i, word in enumerate(words) for after in words[i + 1 : i + 2 + gap])
        for words in (candidate, reference)
    )
    common = (one & other).total()
    return 2 * common / (one.total() + other.total()) if common else 0.0


def coverage_loss(attention: Tensor, real: Tensor) -> Tensor:
    # cumsum counts the step itself, which is taken off again. Padding is left out of sum and count: what a decoder does behind
    # END is nobody's business.
    coverage = attention.cumsum(dim=1) - attention  # (batch, targets, sources)
    losses = torch.minimum(attention, coverage).sum(dim=2)  # (batch, targets)
    return losses[real].mean()
