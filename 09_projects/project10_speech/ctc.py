"""CTC: learning from words without being told when each was said · CTC: 언제 말했는지 몰라도 배우기

A network that listens answers once in every frame, and a string of digits has many more frames than digits. CTC adds an answer
for "nothing new", the blank, and counts every way to stretch the digits over the frames: their probabilities are summed, and the
sum is what is learned.
소리를 듣는 신경망은 프레임마다 답하는데, 숫자열에는 숫자보다 프레임이 훨씬 많다. CTC는 "새로운 것 없음"이라는 답(블랭크)을
더하고, 숫자들을 프레임에 늘어놓는 모든 방법의 확률을 합한다. 학습하는 것은 이 합이다.

You will
  1. read answers as CTC does: repeated ones are one, blanks vanish
  2. sum over all ways in a few lines of log space: equal to nn.CTCLoss, gradients too, and to counting them all
  3. see what the gradient is: where the network should have said what
  4. decode greedily and with a beam, and meet a case in which the likeliest way is not the likeliest string
  5. meet the error everyone meets: a string that does not fit into its frames, and what an infinite loss does to the weights

Run        python -m study run speech/ctc             (about a second on one CPU core, after importing torch)
You see    differences of about 1e-5 and less; ctc_alignment.png
Try next   --frames 6: first guess what becomes of the number of ways, and of the loss
Source     Graves et al., 2006, Connectionist temporal classification; the beam: Hannun et al., https://arxiv.org/abs/1408.2873
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.lesson import check, run
from utils.plotting import label, save_figure

BLANK = 0
NEVER = -1e30  # the logarithm of 0, as far as float32 can tell: adding and comparing go on, where -inf would make gradients NaN


# %% 1. Reading
def collapse(answers: Sequence[int]) -> list[int]:
    """What a way of answers says: of equal ones side by side one is left, then blanks go. [1, 1, 0, 1, 2, 2] says [1, 1, 2]."""
    return [answer for answer, _ in itertools.groupby(answers) if answer != BLANK]


# %% 2. The loss
def with_blanks(targets: Tensor) -> Tensor:
    """Put a blank before, between and behind: (batch, n) → (batch, 2n + 1)."""
    states = targets.new_full((len(targets), 2 * targets.shape[1] + 1), BLANK)
    states[:, 1::2] = targets
    return states


def ctc_loss(log_probs: Tensor, targets: Tensor, frames: Tensor, lengths: Tensor) -> Tensor:
    """The negative logarithm of the probability of each target, summed over all ways to say it: the forward algorithm.

    A way goes through the states blank, first symbol, blank, second symbol, ..., blank. In each frame it stays, takes one step,
    or jumps over a blank, if the symbols on both sides of that differ. alpha[s] is the logarithm of the probability of all ways
    that are in state s by now; autograd makes the backward algorithm out of this.

    Args:
        log_probs: (time, batch, symbols), logarithms of probabilities; symbol 0 is the blank.
        targets: (batch, longest) int64, symbols from 1 on; what stands behind a target's end is not looked at.
        frames: (batch,), how many frames of each are real.
        lengths: (batch,), how many symbols each target has; 0 is a silence.

    Returns:
        (batch,), as nn.CTCLoss(reduction="none") has it: inf where a target does not fit into its frames, without a gradient.
    """
    states = with_blanks(targets)  # (batch, states)
    said = log_probs.gather(2, states.expand(len(log_probs), -1, -1))  # (time, batch, states): of each state's symbol
    may_jump = torch.zeros_like(states, dtype=torch.bool)
    may_jump[:, 2:] = (states[:, 2:] != BLANK) & (states[:, 2:] != states[:, :-2])
    alpha = log_probs.new_full(states.shape, NEVER)
    alpha[:, 0] = 0.0  # before the first frame, all ways stand on the first blank
    for time in range(len(log_probs)):
        step = F.pad(alpha, (1, 0), value=NEVER)[:, :-1]
        jump = F.pad(alpha, (2, 0), value=NEVER)[:, :-2].masked_fill(~may_jump, NEVER)
        arrived = torch.stack([alpha, step, jump]).logsumexp(dim=0) + said[time]
        alpha = torch.where((time < frames)[:, None], arrived, alpha)
    last = 2 * lengths[:, None]  # a way ends on the last symbol, or on the blank behind it
    ends = alpha.gather(1, torch.cat([last, (last - 1).clamp(min=0)], dim=1))  # (batch, 2)
    on_symbol = torch.where(lengths > 0, ends[:, 1], NEVER)
    loss = -torch.stack([ends[:, 0], on_symbol]).logsumexp(dim=0)
    return torch.where(loss > -NEVER / 2, torch.inf, loss)


def count_all(log_probs: Tensor, target: Sequence[int]) -> tuple[int, float]:
    """The same by brute force: write down every way through (time, symbols), and keep those that say the target.

    Returns:
        How many there are, and the logarithm of the sum of their probabilities.
    """
    time, symbols = log_probs.shape
    ways = [way for way in itertools.product(range(symbols), repeat=time) if collapse(way) == list(target)]
    probabilities = [math.exp(sum(log_probs[frame, symbol].item() for frame, symbol in enumerate(way))) for way in ways]
    return len(ways), math.log(sum(probabilities)) if ways else -math.inf


def random_cases(generator: torch.Generator, cases: int = 40, symbols: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Targets with repetitions, of length 0 to 7, in 1 to 19 frames, some of which are too few: what `ctc_loss` takes."""
    log_probs = torch.randn(19, cases, symbols, generator=generator).mul(2).log_softmax(dim=2)
    targets = torch.randint(1, 4, (cases, 7), generator=generator)  # few symbols, so that neighbours are often equal
    return log_probs, targets, *(torch.randint(low, 20 if low else 8, (cases,), generator=generator) for low in (1, 0))


def compare_with_pytorch(seed: int, cases: int) -> dict[str, float]:
    """Hold values and gradients against F.ctc_loss, and values against `count_all`; return the largest differences."""
    generator = torch.Generator().manual_seed(seed)
    log_probs, targets, frames, lengths = random_cases(generator, cases)
    ours, theirs = (log_probs.clone().requires_grad_() for _ in range(2))
    our_loss = ctc_loss(ours, targets, frames, lengths)
    their_loss = F.ctc_loss(theirs, targets, frames, lengths, reduction="none")
    fits = our_loss.isfinite()
    check(torch.equal(fits, their_loss.isfinite()), "ours and PyTorch's disagree about what fits")
    our_loss[fits].sum().backward()
    F.ctc_loss(theirs, targets, frames, lengths, reduction="none", zero_infinity=True).sum().backward()
    # PyTorch hands back the gradient for the logits behind a log_softmax; ours is turned into that by the softmax's own rule.
    ours_of_logits = ours.grad - log_probs.exp() * ours.grad.sum(dim=2, keepdim=True)
    short = log_probs[:5, 0, :3].log_softmax(dim=1)
    _, counted = count_all(short, [1, 1])
    summed = -ctc_loss(short[:, None], torch.tensor([[1, 1]]), torch.tensor([5]), torch.tensor([2])).item()
    found = {
        "loss_difference": (our_loss[fits] - their_loss[fits]).abs().max().item(),
        "gradient_difference": (ours_of_logits - theirs.grad).abs().max().item(),
        "count_difference": abs(summed - counted),
        "do_not_fit": (~fits).sum().item(),
    }
    by_value, by_gradient, by_count, unfit = found.values()
    print(f"2. {cases} cases ({unfit} do not fit into their frames): loss and gradient equal to F.ctc_loss's to {by_value:.0e}")
    print(f"   and {by_gradient:.0e}, and to the sum over all ways, written down one by one, to {by_count:.0e}")
    return found


# %% 3. Where was it said?
def occupancy(log_probs: Tensor, target: Sequence[int]) -> Tensor:
    """The probability that the network is saying each symbol in each frame, given that it says the target.

    It is the gradient of the loss, with its sign turned: d(-log P)/d(log p) = -P(symbol in this frame | target). Training pulls
    each frame's answer there.

    Args:
        log_probs: (time, symbols).
        target: Symbols.

    Returns:
        (time, symbols); each row sums to 1.
    """
    device = log_probs.device
    targets, lengths = torch.tensor([list(target)], device=device).long(), torch.tensor([len(target)], device=device)
    with torch.enable_grad():
        log_probs = log_probs.clone().detach().requires_grad_()  # a copy: what comes out of inference mode takes no gradient
        ctc_loss(log_probs[:, None], targets, torch.tensor([len(log_probs)], device=device), lengths).backward()
    return -log_probs.grad


def align(log_probs: Tensor, target: Sequence[int]) -> list[int]:
    """The likeliest single way to say the target (Viterbi): the forward algorithm with max in place of sum, and its footprints.

    Args:
        log_probs: (time, symbols).
        target: Symbols.

    Returns:
        For each frame its symbol, BLANK between them.
    """
    states = with_blanks(torch.tensor([list(target)]).long())[0].tolist()
    rows = log_probs[:, states].tolist()
    best, footprints = [0.0] + [-math.inf] * (len(states) - 1), []
    for row in rows:
        came_from = []
        for state, symbol in enumerate(states):
            may_jump = state > 1 and symbol != BLANK and symbol != states[state - 2]
            came_from.append(max(range(max(0, state - 1 - may_jump), state + 1), key=best.__getitem__))
        best = [best[source] + value for source, value in zip(came_from, row, strict=True)]
        footprints.append(came_from)
    state = max((place for place in (len(states) - 1, len(states) - 2) if place >= 0), key=best.__getitem__)
    check(best[state] > -math.inf, f"{len(target)} symbols do not fit into {len(rows)} frames")
    way = []
    for came_from in reversed(footprints):
        way.append(states[state])
        state = came_from[state]
    return way[::-1]


# %% 4. Decoding
def greedy(log_probs: Tensor) -> list[int]:
    """Read the likeliest answer of each frame (time, symbols): fast, and right where the network is sure."""
    return collapse(log_probs.argmax(dim=1).tolist())


def beam_search(log_probs: Tensor, width: int) -> list[tuple[float, tuple[int, ...]]]:
    """The likeliest strings, each with all its ways together as far as they were kept (prefix beam search).

    For every prefix two probabilities are kept: of ways that end in a blank, and of ways that end in its last symbol. The same
    symbol once more starts a new one only after a blank.

    Args:
        log_probs: (time, symbols).
        width: Prefixes kept after each frame. With all of them kept, the probabilities are exactly those of `ctc_loss`.

    Returns:
        (log-probability, string), the likeliest first.
    """
    beam = {(): (0.0, -math.inf)}  # prefix → log-probability that ends in a blank, and in its last symbol
    for row in log_probs.tolist():
        found: dict[tuple[int, ...], list[list[float]]] = defaultdict(lambda: [[], []])
        for prefix, (blank, symbol) in beam.items():
            either = _log_add([blank, symbol])
            found[prefix][0].append(either + row[BLANK])
            for new, value in enumerate(row):
                if new == BLANK:
                    continue
                if prefix and new == prefix[-1]:
                    found[prefix][1].append(symbol + value)  # said on
                    found[(*prefix, new)][1].append(blank + value)  # said again
                else:
                    found[(*prefix, new)][1].append(either + value)
        sums = {prefix: (_log_add(blanks), _log_add(symbols)) for prefix, (blanks, symbols) in found.items()}
        beam = dict(sorted(sums.items(), key=lambda entry: _log_add(entry[1]), reverse=True)[:width])
    return [(_log_add(both), prefix) for prefix, both in beam.items()]


def _log_add(values: Sequence[float]) -> float:
    """log(sum(exp(values))) of a few plain numbers; of none, or only of -inf, -inf."""
    top = max(values, default=-math.inf)
    return top if top == -math.inf else top + math.log(sum(math.exp(value - top) for value in values))


def greedy_can_be_wrong() -> tuple[list[int], list[int]]:
    """Two frames, blank 0.6 and a digit 0.4 in each: the likeliest way says nothing (0.36), three ways say the digit (0.64)."""
    log_probs = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
    (log_probability, best), *_ = beam_search(log_probs, width=10)
    ways, _ = count_all(log_probs, best)
    print(f"4. greedily: {greedy(log_probs)}; with a beam: {list(best)}, {math.exp(log_probability):.2f} in {ways} ways")
    return greedy(log_probs), list(best)


def beam_against_exhaustion(seed: int, tries: int = 20) -> float:
    """Decode short random answers with a beam that keeps everything; return the largest difference to counting all ways."""
    generator = torch.Generator().manual_seed(seed)
    worst = 0.0
    for _ in range(tries):
        log_probs = torch.randn(4, 3, generator=generator).log_softmax(dim=1)
        sums: dict[tuple, float] = defaultdict(float)
        for way in itertools.product(range(3), repeat=4):
            sums[tuple(collapse(way))] += math.exp(sum(log_probs[frame, symbol].item() for frame, symbol in enumerate(way)))
        found = {prefix: math.exp(value) for value, prefix in beam_search(log_probs, width=1000)}
        check(max(sums, key=sums.get) == next(iter(found)), "the beam's best string is not the likeliest")
        worst = max(worst, *(abs(found[prefix] - probability) for prefix, probability in sums.items()))
    return worst


# %% 5. The error everyone meets
def what_does_not_fit() -> tuple[float, bool, float]:
    """Say 7 7 in two frames, which needs three: the loss, whether PyTorch's gradient is NaN, and the loss in three frames."""
    log_probs = torch.full((3, 1, 10), 0.1).log().requires_grad_()
    target, length = torch.tensor([[7, 7]]), torch.tensor([2])
    loss = F.ctc_loss(log_probs, target, torch.tensor([2]), length)
    loss.backward()
    is_nan = bool(log_probs.grad.isnan().any())
    enough = ctc_loss(log_probs, target, torch.tensor([3]), length).item()
    print(f"5. 7 7 in two frames: loss {loss.item()}, gradient {'NaN' if is_nan else 'finite'}; in three: {enough:.2f}")
    print("   Equal neighbours need a blank between them: n symbols with r such pairs need n + r frames. No message tells it;")
    print("   zero_infinity=True leaves such examples out, fewer strides or shorter strings avoid them.")
    return loss.item(), is_nan, enough


# %% All of it, in order
def draw_alignment(frames: int, seed: int):
    """What CTC makes of answers that are half right: all of them, and those that belong to 3 1 1. Returns the figure."""
    import matplotlib.pyplot as plt

    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(frames, 5, generator=generator)
    logits[:, BLANK] += 1.5
    for frame, symbol in ((0.2, 3), (0.5, 1), (0.85, 1)):
        logits[int(frame * frames), symbol] += 3.0
    log_probs = logits.log_softmax(dim=1)
    way = align(log_probs, [3, 1, 1])
    figure, axes = plt.subplots(2, 1, figsize=(8.5, 4.6), sharex=True, layout="constrained")
    asked = label("what it should have said, given 3 1 1", "3 1 1이라면 했어야 할 답")
    titles = label("what the network says", "신경망의 답"), asked
    for axis, title, values in zip(axes, titles, (log_probs.exp(), occupancy(log_probs, [3, 1, 1])), strict=True):
        axis.imshow(values.T.numpy(), aspect="auto", cmap="magma", vmin=0, vmax=1, origin="lower")
        axis.set_yticks(range(5), [label("blank", "블랭크"), "1", "2", "3", "4"])
        axis.set_title(title, fontsize=11)
    likeliest = label("likeliest way", "가장 그럴듯한 경로")
    axes[1].plot(range(frames), way, color="cyan", marker="o", markersize=4, linewidth=1, label=likeliest)
    axes[1].legend(loc="upper right", fontsize=9)
    axes[1].set_xlabel(label("frame", "프레임"))
    return figure


def main(frames: int = 24, cases: int = 40, seed: int = 0, figures: bool = True) -> dict[str, float]:
    """Build CTC by hand, and hold it against PyTorch's.

    Args:
        frames: Of the picture, and of the ways that are counted (at most 8 of those).
        cases: Random cases that are compared.
        seed: Of everything that is drawn.
        figures: Draw the alignment.
    """
    check(frames >= 4, "--frames must be at least 4: 3 1 1 needs that many")
    check(cases > 0, "--cases must be above 0")
    print(f"1. [1, 1, 0, 1, 2, 2] says {collapse([1, 1, 0, 1, 2, 2])}")
    results = compare_with_pytorch(seed, cases)
    counted = min(frames, 8)
    ways, logarithm = count_all(torch.full((counted, 3), 1 / 3).log(), [1, 2])
    print(f"   in {counted} frames there are {ways} ways to say 1 2; who knows nothing has a loss of {-logarithm:.2f}")
    greedy_says, beam_says = greedy_can_be_wrong()
    results["beam_difference"] = beam_against_exhaustion(seed)
    _, is_nan, _ = what_does_not_fit()
    if figures:
        save_figure(draw_alignment(frames, seed), __file__, "ctc_alignment")
    for name in ("loss_difference", "gradient_difference", "count_difference", "beam_difference"):
        check(results[name] < 1e-4, f"{name} is {results[name]:.1e}: ours is not what it should be")
    results |= {"ways": ways, "loss_of_knowing_nothing": -logarithm, "beam_hears_more": float(len(beam_says) > len(greedy_says))}
    return results | {"pytorch_gradient_is_nan": float(is_nan)}


if __name__ == "__main__":
    run(main)
