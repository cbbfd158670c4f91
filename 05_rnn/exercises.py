"""Exercises · 연습문제: sequences, and forecasts that are honest

Put your code where it says TODO, then:  python -m study check 05
Stuck?  python -m study hint read_with_resets
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def read_with_resets(x: Tensor, starts: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor) -> Tensor:
    """Read rows in which one sequence follows another, and let none of them see the state of the one before.

    The new state is tanh(w_ih x + w_hh h + bias). The state h is 0 before the first step, and again before every step that starts
    a new sequence.

    Args:
        x: (batch, steps, inputs) float.
        starts: (batch, steps) bool, True where a new sequence begins.
        w_ih: (hidden, inputs) float.
        w_hh: (hidden, hidden) float.
        bias: (hidden,) float.

    Returns:
        The state after every step, (batch, steps, hidden) float.
    """
    raise NotImplementedError  # TODO


def jamo(text: str) -> list[tuple[int, int, int]]:
    """Take Hangul syllables apart by arithmetic: no table, no unicodedata.

    The syllables stand in Unicode from 가 (0xAC00) on, 11,172 of them. They are sorted by the initial consonant (19), then by the
    vowel (21), then by the final consonant (28, of which number 0 is none).

    Args:
        text: Hangul syllables only; may be empty.

    Returns:
        For each syllable the numbers of its initial, vowel and final, each counted from 0: 강 is (0, 0, 21).
    """
    raise NotImplementedError  # TODO


def state_jacobian(states: Tensor, w_hh: Tensor) -> Tensor:
    """Return how the last state of a tanh network depends on the first one: the product of all steps' Jacobians.

    Entry (i, j) is the derivative of unit i of the last state by unit j of the first. Inputs and biases need not be known: what
    they did is in the states.

    Args:
        states: (steps + 1, hidden) float, those after each step; states[0] is the first one, before any step.
        w_hh: (hidden, hidden) float.

    Returns:
        (hidden, hidden) float; the identity where there is no step.
    """
    raise NotImplementedError  # TODO


def orthonormal_columns(matrix: Tensor) -> Tensor:
    """Turn a random matrix into an orthogonal one, column by column (Gram and Schmidt).

    Each column loses what it has in common with those before it, and is then divided by its length.

    Args:
        matrix: (n, n) float64, of full rank; it stays as it is.

    Returns:
        (n, n) float64, whose columns have length 1 and are at right angles to each other. The first one has the direction of the
        first column of `matrix`.
    """
    raise NotImplementedError  # TODO


def lstm_backward(
    upstream_h: Tensor, upstream_c: Tensor, c_before: Tensor, c: Tensor, i: Tensor, f: Tensor, g: Tensor, o: Tensor
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Go back through one step of an LSTM by hand: c = f · c_before + i · g and h = o · tanh(c).

    No autograd. i, f, o are what came out of a sigmoid, g what came out of tanh.

    Args:
        upstream_h: The loss's gradient of h, (batch, hidden); all other arguments have this shape.
        upstream_c: What arrives at c from the next step.
        c_before: The cell state before the step.
        c: The cell state after it.
        i: Input gate.
        f: Forget gate.
        g: Candidate.
        o: Output gate.

    Returns:
        The gradient of the four numbers before their sigmoids and tanh, in PyTorch's order i, f, g, o: (batch, 4 · hidden); and
        the gradient of c_before (batch, hidden).
    """
    raise NotImplementedError  # TODO


def open_forget_gates(model: nn.Module, value: float) -> int:
    """Set the bias of every forget gate of every nn.LSTM inside a model: the sum of the two biases becomes `value`.

    In all layers and directions. bias_hh's part becomes 0; nothing else changes. Other modules are left alone, the GRUs too.

    Returns:
        How many numbers are forget-gate biases now: one for each unit, layer and direction, counted once although it has two.
    """
    raise NotImplementedError  # TODO


def flag_sequences(count: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw a task for a memory: a flag is shown at the first step only, and noise from then on; which flag was it?

    Args:
        count: How many sequences.
        length: Steps of each, at least 2.
        generator: For all random numbers.

    Returns:
        Sequences (count, length, 1) float: -1 or 1, as likely as each other, at the first step, and normal numbers of mean 0 and
        standard deviation 1 at all others; and the class (count,) int64: 0 for -1, 1 for 1.
    """
    raise NotImplementedError  # TODO


def masked_mean_and_max(states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Summarise a padded batch by its mean and its maximum over time, as if there were no padding.

    What stands at padded steps may be anything, also NaN and infinity, and must not matter.

    Args:
        states: (batch, steps, features) float; row b is real at steps 0 ... lengths[b] - 1.
        lengths: (batch,) int64, from 1 to steps.

    Returns:
        The mean and the maximum, (batch, features) float each.
    """
    raise NotImplementedError  # TODO


def spans(tags: list[str]) -> list[tuple[int, int, str]]:
    """Read BIO tags: "B-x" begins a span of kind x, "I-x" goes on with it, "O" is outside.

    An "I-x" that follows no span of kind x begins one: taggers write such things.

    Args:
        tags: For example ["O", "B-OLD", "I-OLD", "O"].

    Returns:
        For each span its first place, the place after its last, and its kind, in their order: [(1, 3, "OLD")].
    """
    raise NotImplementedError  # TODO


def beam_step(scores: Tensor, log_p: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Take one step of beam search, for a whole batch at once.

    Every beginning can go on with every symbol; of all these, keep the `width` whose log-probabilities are the largest.

    Args:
        scores: (batch, beginnings) float, the log-probability of every beginning.
        log_p: (batch, beginnings, symbols) float, that of every symbol after it.
        width: How many to keep, at most beginnings · symbols.

    Returns:
        (batch, width) each, the best first: their scores, the numbers of the beginnings they come from, the new symbols.
    """
    raise NotImplementedError  # TODO


def mase(forecasts: Tensor, targets: Tensor, past: Tensor, period: int) -> float:
    """Return the mean absolute error of forecasts, in units of that of the seasonal naive rule in the past.

    The rule forecasts each value of the past by the one `period` steps before it; the first `period` values have no forecast.
    With a period of 1 it is the last value.

    Args:
        forecasts: (n, horizon) float.
        targets: (n, horizon) float.
        past: (time,) float, longer than `period`.
        period: Steps in a season, at least 1.

    Returns:
        A Python float: below 1, the forecasts are better than the rule was.
    """
    raise NotImplementedError  # TODO


def forecast_recursively(one_step: Callable[[Tensor], Tensor], window: Tensor, horizon: int) -> Tensor:
    """Forecast several steps with a model that forecasts one.

    Every forecast becomes the newest entry of the next window, whose oldest entry falls out: the model always reads the
    same number of values.

    Args:
        one_step: From windows (batch, lags), the oldest value first, to forecasts (batch,).
        window: (batch, lags) float; it stays as it is.
        horizon: Steps to forecast, at least 1.

    Returns:
        (batch, horizon) float, the next step first.
    """
    raise NotImplementedError  # TODO


def standardize_as_you_go(x: Tensor) -> Tensor:
    """Standardize every value of a series by the values before it, so that nothing of the present or the future leaks in.

    Value t becomes (x[t] - mean) / std, where mean and std (as torch.std measures it) are those of x[0] ... x[t - 1]. Where
    fewer than two values are before it, or all of them are equal, it becomes 0.

    Args:
        x: (time,) float.

    Returns:
        (time,) float.
    """
    raise NotImplementedError  # TODO


def leaky_columns(prepare: Callable[[Tensor], Tensor], x: Tensor, day: int) -> list[int]:
    """Find the columns of a prepared table that know the future.

    Row t of prepare(x) is read when x[0] ... x[t - 1] are known. A column leaks if one of its entries in the rows 0 ... day
    changes when the values from x[day] on are others. Try it with one other future: every value from x[day] on, plus 1000.

    Args:
        prepare: From a series (time,) to a table (time, columns). NaN in the same place twice is no change.
        x: (time,) float; it stays as it is.
        day: From 0 to time - 1.

    Returns:
        The numbers of the columns, rising.
    """
    raise NotImplementedError  # TODO


def causal_convolution(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """Slide a filter over time that sees the present and the past only; before the beginning there are zeros.

    Output o at time t is the sum over channels c and k = 0 ... size - 1 of weight[o, c, k] * x[c, t - (size - 1 - k) * dilation]:
    the last weight is on the present.

    Args:
        x: (batch, channels, time) float.
        weight: (outputs, channels, size) float.
        dilation: Steps between the values that the filter sees, at least 1.

    Returns:
        (batch, outputs, time) float.
    """
    raise NotImplementedError  # TODO


def conformal_interval(forecasts: Tensor, targets: Tensor, new: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Put intervals round forecasts, as wide as the errors of earlier ones demand (split conformal prediction).

    The half width is the k-th smallest absolute error of the earlier forecasts, k = ceil((n + 1) * share): of the n + 1 errors,
    the new one among them, each place is equally likely. Where k is more than n, no finite width is enough: infinity.

    Args:
        forecasts: (n,) float, forecasts that were not used for training.
        targets: (n,) float, what came.
        new: (m,) float, forecasts whose targets are not known.
        share: Of the new targets that the intervals shall hold, from 0 to 1, neither included.

    Returns:
        The lower and the upper ends, (m,) float each.
    """
    raise NotImplementedError  # TODO
