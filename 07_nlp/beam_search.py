"""Beam search · 빔 서치

Taking the likeliest token each time does not give the likeliest sentence; a beam keeps the best few beginnings and comes closer.
The closer it comes, the worse the sentence can be: the likeliest translation of all is often an empty one.
매번 가장 그럴듯한 토큰을 고른다고 가장 그럴듯한 문장이 되지는 않는다. 빔은 유망한 앞부분 몇 개를 함께 끌고 가서 더 가까이 간다.
그런데 가까이 갈수록 번역은 나빠지기도 한다. 확률이 가장 높은 번역이 빈 문장인 경우가 많다.

You will
  1. write beam search, batched and with a cache: equal to trying out every sequence there is
  2. train a small translator on sentences of which a few lost their translation, as in every large corpus
  3. widen the beam: probabilities rise, translations get worse; divide by the length, and they do not
  4. read what is in a beam, meet the error everyone meets, and forget to reorder the cache

Before     07_nlp/machine_translation.py, 07_nlp/bleu.py
Run        python -m study run beam_search         (about 9 s on one CPU core, after importing torch)
You see    BLEU 77 to 80 with a beam of 1, 5 or 6 with 32, 77 to 82 if the score is divided by the length; beams.png
Try next   --empty 0: no line is empty. First guess what the widest beam finds then
Theory     notes/en/07_nlp.md · notes/ko/07_nlp.md
Practise   python -m study check 07
"""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from utils import byte_bpe
from utils.byte_bpe import ByteBPE
from utils.datasets.small_translations import translations
from utils.device import pick_device
from utils.lesson import check, run
from utils.networks.translator import END, PAD, SPECIAL, START, Translator
from utils.plotting import label, save_figure
from utils.translation_scores import judge

ALPHAS = 0.0, 0.6, 1.0


# %% 1. The search
@torch.no_grad()
def beam_search(model: Translator, source: Tensor, beam: int, longest: int, reorder: bool = True) -> tuple[Tensor, Tensor]:
    """Keep the `beam` best beginnings of each translation, go on with all of them, keep the best of what comes out.

    Args:
        source: (batch, sources), filled up with PAD.
        beam: How many; 1 is greedy.
        longest: Tokens of a translation, END among them.
        reorder: Let the cache follow the beginnings it belongs to. False is a mistake (section 4).

    Returns:
        The likeliest first: tokens (batch, beam, written), after END only END; log-probabilities (batch, beam).
    """
    batch, device = len(source), source.device
    reading = model.read(source).select(torch.arange(batch, device=device).repeat_interleave(beam))  # batch · beam rows
    scores = torch.full((batch, beam), -math.inf, device=device)
    scores[:, 0] = 0  # all begin with START: one of them is enough, or the beam would hold the same sentence many times
    written = torch.full((batch * beam, 1), START, device=device)
    ended = torch.zeros(batch * beam, dtype=torch.bool, device=device)
    for _ in range(longest):
        logs = model.write(written[:, -1:], reading)[:, -1].log_softmax(dim=1)  # (batch · beam, tokens)
        over = torch.full_like(logs, -math.inf)
        over[:, END] = 0  # what has ended stays as it is, at no cost, and competes with what goes on
        logs = torch.where(ended[:, None], over, logs)
        totals = (scores.flatten()[:, None] + logs).view(batch, -1)  # (batch, beam · tokens): all ways to go on
        scores, best = totals.topk(beam)
        rows = (best // logs.shape[1] + torch.arange(batch, device=device)[:, None] * beam).flatten()  # which were gone on with
        reading = reading.select(rows) if reorder else reading
        written = torch.cat([written[rows], (best % logs.shape[1]).view(-1, 1)], dim=1)
        ended = written[:, -1] == END
        if ended.all():
            break
    return written[:, 1:].unflatten(0, (batch, beam)), scores


def lengths_of(tokens: Tensor) -> Tensor:
    """How many tokens of (..., written) there are up to the first END, and with it: (...)."""
    return ((tokens != END).cumprod(dim=-1).sum(dim=-1) + 1).clamp(max=tokens.shape[-1])


def choose(tokens: Tensor, scores: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Take from each beam what has the highest score divided by length ** alpha: tokens (batch, written), scores (batch,)."""
    best = (scores / lengths_of(tokens) ** alpha).argmax(dim=1)
    every = torch.arange(len(best), device=best.device)
    return tokens[every, best], scores[every, best]


@torch.no_grad()
def try_everything(model: Translator, source: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """Score every sequence of `longest` tokens (shorter ones end in END) for one source (1, sources); the likeliest first."""
    every = torch.cartesian_prod(*[torch.arange(model.embedding.num_embeddings)] * longest)  # (tokens ** longest, longest)
    later = torch.arange(longest) >= lengths_of(every)[:, None]
    every = every[((every == END) | ~later).all(dim=1)]  # after END only END
    before = F.pad(every[:, :-1], (1, 0), value=START)
    logs = model(source.expand(len(every), -1), before).log_softmax(dim=2).gather(2, every[..., None])[..., 0]
    scores = logs.masked_fill(torch.arange(longest) >= lengths_of(every)[:, None], 0).sum(dim=1)
    order = scores.argsort(descending=True)
    return every[order], scores[order]


def compare_with_everything(models: int, seed: int) -> tuple[float, float]:
    """Search random models with a beam as wide as everything; return by how much it is off, how often greedy is right."""
    off, same, greedy, generator = [], [], [], torch.Generator().manual_seed(seed)
    for number in range(models):
        model = Translator(tokens=6, width=8, heads=2, layers=1, seed=seed + number).double().eval()
        model.embedding.weight.data *= 3  # so that it prefers something
        source = torch.randint(3, 6, (2, 4), generator=generator)
        source[1, 3] = PAD  # two sources, of different length
        tokens, scores = beam_search(model, source, beam=6**4, longest=4)
        for row in range(2):
            every, right = try_everything(model, source[row : row + 1], longest=4)
            off.append((scores[row, : len(right)] - right).abs().max().item())  # of all sequences, not only the best
            same.append(torch.equal(tokens[row, 0], every[0]))
            greedy.append(beam_search(model, source[row : row + 1], 1, 4)[1].item() > right[0].item() - 1e-6)
    off += [] if all(same) else [math.inf]
    print(f"1. beam as wide as everything: off by {max(off):.0e}; greedy finds the likeliest in {sum(greedy)} of {len(greedy)}")
    return max(off), sum(greedy) / len(greedy)


# %% 2. A translator
def encode(pairs: list[tuple[str, str]], bpe: ByteBPE) -> tuple[Tensor, Tensor]:
    """Turn pairs into sources (n, sources) and targets (n, targets), filled up with PAD."""
    rows = [(torch.tensor([*bpe.encode(a), END]), torch.tensor([START, *bpe.encode(b), END])) for a, b in pairs]
    return tuple(pad_sequence(side, True, PAD) for side in zip(*rows, strict=True))


def train(model: Translator, data: tuple[Tensor, Tensor], steps: int, lr: float, seed: int) -> float:
    """Take steps of AdamW on 40 pairs each; return the mean of the last losses. (Better: 07_nlp/machine_translation.py.)"""
    generator, losses = torch.Generator().manual_seed(seed), []
    optimizer = torch.optim.AdamW(model.parameters(), lr, (0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(data[0]), (40,), generator=generator).to(data[0].device)
        source, target = (side[rows] for side in data)
        loss = F.cross_entropy(model(source, target[:, :-1]).flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    model.eval()
    return sum(losses[-20:]) / len(losses[-20:])


# %% 3. Wider beams
class Found(NamedTuple):
    """Mean log-probability of what was chosen, BLEU, share of empty translations, length by that of the right ones."""

    score: float
    bleu: float
    empty: float
    length: float


def measure(model: Translator, bpe: ByteBPE, source: Tensor, right: list[str], beam: int, into: str) -> dict[float, Found]:
    """Search with a beam; return what was found by alpha: the score was divided by length ** alpha."""
    found, wanted = {alpha: [] for alpha in ALPHAS}, sum(len(bpe.encode(text)) + 1 for text in right)
    for part in source.split(max(1, 1600 // beam)):
        tokens, scores = beam_search(model, part, beam, longest=60)
        for alpha, rows in found.items():
            rows += zip(*choose(tokens, scores, alpha), strict=True)
    for alpha, rows in found.items():
        lengths = [int(lengths_of(tokens)) for tokens, _ in rows]
        written = [bpe.decode(tokens[:length].tolist()) for (tokens, _), length in zip(rows, lengths, strict=True)]
        score = torch.stack([score for _, score in rows]).mean().item()
        found[alpha] = Found(score, judge(written, right, into)["bleu"], written.count("") / len(right), sum(lengths) / wanted)
    return found


def draw_beams(found: dict[int, dict[float, Found]]) -> None:
    """Draw log-probability and BLEU over the width of the beam."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    for axis, field, title in zip(axes, ("score", "bleu"), (label("log-probability", "로그 확률"), "BLEU"), strict=True):
        for alpha in ALPHAS:
            axis.plot([*found], [getattr(row[alpha], field) for row in found.values()], "o-", label=f"α = {alpha:g}")
        axis.set(xscale="log", xlabel=label("beam", "빔 폭"), ylabel=title, xticks=[*found], xticklabels=[*found])
    axes[1].legend()
    save_figure(figure, __file__, "beams")


# %% 4. Mistakes
def meet_error() -> str:
    """Take the 8 best of the 6 tokens that may come first; return PyTorch's answer."""
    try:
        torch.zeros(6).log_softmax(dim=0).topk(8)
    except RuntimeError as error:
        message = str(error)
    print(f'   "{message}"\n   read: there are only 6 ways to begin. Begin with 8 rows, all but one at -inf, and take 8 of 8 · 6')
    return message


# %% All of it, in order
def main(
    into: Literal["ko", "de"] = "ko", pairs: int = 4000, empty: float = 0.05, steps: int = 120, lr: float = 0.01,
    widest: int = 32, sentences: int = 40, device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Search for translations with wider and wider beams.

    Args:
        into: ko (Korean) or de (German).
        pairs: Sentences to train on.
        empty: Share of them whose translation got lost: an empty line instead.
        steps: Steps of training.
        lr: The highest learning rate.
        widest: Width of the widest beam; the others are 1, 2, 4, ...
        sentences: New sentences to translate, at most 300.
        device: auto, cpu, cuda or mps.
        seed: Of weights, batches and sentences.
    """
    check(min(pairs, steps, sentences) > 0 and widest > 3, "needed are at least --pairs, --steps, --sentences 1, --widest 4")
    check(0 <= empty < 1 and sentences <= 300, "--empty is a share, from 0 up to 1; --sentences at most 300")
    off, greedy = compare_with_everything(models=10, seed=seed)
    check(off < 1e-10, "the beam does not find what there is")
    where, data = pick_device(device), translations("sample", into, pairs, seed)
    lost = torch.rand(pairs, generator=torch.Generator().manual_seed(seed)) < empty
    train_pairs = [(source, "" if gone else target) for (source, target), gone in zip(data.train, lost.tolist(), strict=True)]
    bpe = byte_bpe.train([text for pair in data.train for text in pair], 1000, SPECIAL)
    model = Translator(len(bpe), width=64, heads=4, layers=1, seed=seed).to(where)
    loss = train(model, tuple(side.to(where) for side in encode(train_pairs, bpe)), steps, lr, seed)
    source, (texts, right) = encode(data.test[:sentences], bpe)[0].to(where), zip(*data.test[:sentences], strict=True)
    print(f"2. loss {loss:.3f} after {steps} steps; {lost.sum()} of {pairs} lines are empty")
    beams, found = [2**i for i in range(widest.bit_length())], {}
    print("3. beam: log-probability, BLEU, empty, length | likewise, divided by length ** 0.6 | by length")
    for beam in beams:
        found[beam] = measure(model, bpe, source, list(right), beam, into)
        rows = ("{:6.2f} {:5.1f} {:5.2f} {:5.2f}".format(*row) for row in found[beam].values())
        print(f"   {beam:4}: {' | '.join(rows)}", flush=True)
    draw_beams(found)
    tokens, scores = beam_search(model, source[:1], 4, longest=60)
    print(f"4. {texts[0]} ({right[0]})")
    for row, score in zip(tokens[0], scores[0].tolist(), strict=True):
        print(f"   {score:6.2f} {bpe.decode(row.tolist()) or '(empty)'}")
    meet_error()
    forgot, _ = choose(*beam_search(model, source, 4, 60, reorder=False), alpha=0.6)
    forgetful = judge([bpe.decode(row.tolist()) for row in forgot], right, into)["bleu"]
    print(f"   cache not reordered, no message: BLEU {forgetful:.1f} instead of {found[4][0.6].bleu:.1f}")
    first, last, best = found[1][0.0], found[beams[-1]][0.0], max(found[beam][0.6].bleu for beam in (2, 4))
    check(last.score >= first.score, "a wider beam found less likely sentences")
    check(best > 30, "there is nothing to search in: more --steps?")
    results = {"off": off, "greedy_is_best": greedy, "loss": loss, "forgetful_bleu": forgetful, "divided_bleu": best}
    return results | {f"{name}_{k}": v for name, row in (("greedy", first), ("widest", last)) for k, v in row._asdict().items()}


if __name__ == "__main__":
    run(main)
