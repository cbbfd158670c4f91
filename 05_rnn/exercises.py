"""Exercises · 연습문제: sequences, and forecasts that are honest

Put your code where it says TODO, then:  python -m study check 05
Stuck?  python -m study hint mase
"""

from collections.abc import Callable

import torch  # noqa: F401  (for your code)
from torch import Tensor


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
