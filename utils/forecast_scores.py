"""How good forecasts are: quantiles, intervals and their correction, and whether one forecaster is really better than another.

05_rnn/prediction_intervals.py builds the first three by hand. Everywhere NaN is a target that was never measured.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor


def pinball(quantiles: Tensor, targets: Tensor, levels: Tensor) -> Tensor:
    """The pinball loss of quantile forecasts, averaged over the levels; lowest on average for the true quantiles.

    Twice its mean over many levels is the continuous ranked probability score (Gneiting and Raftery, 2007).

    Args:
        quantiles: (..., levels), in the target's units.
        targets: (...).
        levels: (levels,), from 0 to 1.

    Returns:
        (...), in the target's units; NaN where the target is.
    """
    above = targets.unsqueeze(-1) - quantiles
    return torch.maximum(levels * above, (levels - 1) * above).mean(dim=-1)


def interval_score(low: Tensor, high: Tensor, targets: Tensor, share: float) -> Tensor:
    """Winkler's score: the width, plus 2 / (1 - share) times by how much the target is outside; NaN where the target is.

    Args:
        low: (...), the interval's lower end.
        high: (...), its upper end.
        targets: (...).
        share: Of the targets that the interval is to hold, 0.9 for example.
    """
    outside = (low - targets).clamp(min=0) + (targets - high).clamp(min=0)
    return high - low + 2 / (1 - share) * outside


def covered(low: Tensor, high: Tensor, targets: Tensor) -> Tensor:
    """1 where the target lies in the interval, 0 where it does not, NaN where it was not measured: (...)."""
    return ((low <= targets) & (targets <= high)).to(targets).masked_fill(targets.isnan(), torch.nan)


def conformal_corrections(scores: Tensor, origins: Tensor, first: int, memory: int, share: float) -> Tensor:
    """By how much to widen each interval so that it holds `share`, from the scores that are known when it is made.

    A score says how far a target was outside of its interval: max(low - target, target - high), below 0 inside. Of n of them the
    ceil((n + 1) * share)-th smallest is added at both ends (Romano, Patterson and Candès, 2019). A score of h rows ahead is known
    h rows after its forecast, and is not used earlier.

    Args:
        scores: (forecasts, horizon), of the calibration and then of those that are to be corrected.
        origins: (forecasts,), the rows after which they were made, rising.
        first: Index of the first one to be corrected.
        memory: How many of the last known scores are used.
        share: Of the targets that the intervals are to hold.

    Returns:
        (forecasts - first, horizon); 0 where no score is known yet.
    """
    corrections = scores.new_zeros(len(scores) - first, scores.shape[1])
    for ahead in range(scores.shape[1]):
        known = torch.searchsorted(origins + ahead + 1, origins[first:], right=True)  # so many scores are known at each origin
        padded = torch.cat([scores.new_full((memory,), torch.nan), scores[:, ahead]])
        last = padded.unfold(0, memory, 1)[known].sort(dim=1).values  # (forecasts - first, memory); NaN comes last
        count = (~last.isnan()).sum(dim=1, keepdim=True)
        place = torch.minimum(((count + 1) * share).ceil().long(), count) - 1
        corrections[:, ahead] = last.gather(1, place.clamp(min=0)).nan_to_num(0.0)[:, 0]
    return corrections


@dataclass(frozen=True)
class Comparison:
    """How two forecasters differ, measured on the same targets.

    Attributes:
        difference: Mean loss of the one minus that of the other: below 0 the one is better.
        standard_error: Of the difference, with neighbouring losses that go together taken into account.
        p_value: How likely a difference of this size is between two that are equally good.
    """

    difference: float
    standard_error: float
    p_value: float

    def interval(self, share: float = 0.95) -> tuple[float, float]:
        """Between which differences the truth lies, with this probability."""
        reach = NormalDist().inv_cdf((1 + share) / 2) * self.standard_error
        return self.difference - reach, self.difference + reach


def diebold_mariano(losses: Tensor, others: Tensor, lags: int) -> Comparison:
    """Compare two forecasters by their losses on the same occasions (Diebold and Mariano, 1995).

    Forecasts of several rows ahead overlap, and so their losses go together: counted as independent, they would make any
    difference look certain. The variance of the mean is that of Newey and West (1987), whose weights fall to 0 behind `lags`,
    corrected for few occasions as in a t test.

    Args:
        losses: (occasions,), of the one, in the order of time; occasions with NaN are left out.
        others: (occasions,), of the other.
        lags: How many occasions apart losses may go together: at least horizon - 1 where forecasts are made at every row.

    Returns:
        The comparison; with fewer than two occasions nothing is certain: an infinite error, and a p-value of 1.
    """
    differences = (losses - others).double()
    differences = differences[~differences.isnan()]
    count = len(differences)
    if count < 2:
        return Comparison(differences.mean().item() if count else 0.0, math.inf, 1.0)
    centred = differences - differences.mean()
    variance = centred.square().sum().item()
    lags = min(lags, count - 1)
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * (centred[lag:] @ centred[:-lag]).item()
    error = math.sqrt(max(variance, 0.0) / count / (count - 1))
    difference = differences.mean().item()
    if error == 0:
        return Comparison(difference, 0.0, float(difference == 0))
    return Comparison(difference, error, 2 * NormalDist().cdf(-abs(difference) / error))
