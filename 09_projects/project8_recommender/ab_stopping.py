"""A/B tests: when to stop · A/B 테스트: 언제 멈춰도 되는가

Whoever looks every day, and stops on the first day on which it looks good, finds effects where there are none. Here that is
counted, and two cures are computed: boundaries for looks that are planned, and intervals that hold however often one looks.
날마다 들여다보다가 결과가 좋아 보이는 첫날에 멈추면 없는 효과도 발견된다. 얼마나 자주 그런지 세어 보고 처방 두 가지를
계산한다. 정해진 횟수만큼 확인할 때 쓰는 경계와, 아무리 자주 확인해도 유효한 구간이다.

You will
  1. look every day at a test in which there is nothing to find, and count how often something is found
  2. compute the boundaries that allow looks: Pocock, O'Brien-Fleming, alpha spending; what they cost and save
  3. look as often as you like, with a confidence sequence, and pay for it
  4. stop the test of two recommenders early, and see what that does to the estimate

Before     09_projects/project8_recommender/ab_test.py
Run        python -m study run recommender/ab_stopping   (about 2 s on one CPU core, after importing torch)
You see    25 % of the tests of nothing find something; with bounds, 5 %, and a fifth fewer people; stopping.png, sequence.png
Try next   --looks 20: look four times as often. First guess what the last bounds of both become; then look
Theory     notes/en/09_projects.md · notes/ko/09_projects.md
"""

import math

import numpy
import torch
from scipy.optimize import brentq
from scipy.stats import norm
from torch import Tensor

from project8_recommender.ab_test import chances_of, people_needed, run_tests, z_of
from project8_recommender.visitors import make_town
from utils.lesson import check, run
from utils.plotting import label, save_figure

Bounds = dict[str, list[float]]  # by name, for each look how large |z| has to be


# %% 1. Looking every day
def crossing(bounds: list[float], looks: int, drift: float = 0.0, nodes: int = 160) -> Tensor:
    """The chance to stop at each look, because |z| has reached that look's bound: (len(bounds),).

    Between equally spaced looks the running total grows by independent normal steps. At look k it is B(t), t = k / looks: a
    Brownian motion with z = B(t) / √t. Its density among the tests that still run is carried from look to look by integration
    (Armitage, McPherson & Rowe, 1969), here by Gauss and Legendre's rule.

    Args:
        bounds: One for each look, from the first; there may be fewer than `looks`.
        looks: How many the whole test has.
        drift: The mean that z has at the last look: 0 without an effect, 2.80 where a test has power 0.8 at level 0.05.
        nodes: Points of the rule.
    """
    rule = [torch.from_numpy(part) for part in numpy.polynomial.legendre.leggauss(nodes)]
    step = 1 / looks
    stopped, points, mass = [], torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)  # starts at 0, surely
    for k, bound in enumerate(bounds, start=1):
        edge = bound * math.sqrt(k * step)
        away = [(edge - sign * (points + drift * step)) / math.sqrt(step) for sign in (1, -1)]
        # erfc keeps the digits of tails of 1e-20, which ndtr (1 + erf) rounds away
        stopped.append(sum((mass * torch.erfc(distance / math.sqrt(2)) / 2).sum() for distance in away))
        new = rule[0] * edge
        density = torch.exp(-0.5 * (new[:, None] - points - drift * step) ** 2 / step) / math.sqrt(2 * math.pi * step)
        points, mass = new, rule[1] * edge * (density @ mass)
    return torch.stack(stopped)


def simulate_days(rate_a: float, rate_b: float, people: int, days: int, experiments: int, seed: int) -> tuple[Tensor, Tensor]:
    """Run tests on yes-or-no outcomes, `people` a day in each arm.

    Returns the difference of the rates so far, and the variance of that estimate: (experiments, days) each.
    """
    generator = torch.Generator().manual_seed(seed)
    counts = torch.full((experiments, days), float(people), dtype=torch.float64)
    so_far = torch.arange(1, days + 1) * people
    rates = [
        torch.binomial(counts, torch.full_like(counts, rate), generator=generator).cumsum(1) / so_far for rate in (rate_a, rate_b)
    ]
    return rates[1] - rates[0], sum(rate * (1 - rate) for rate in rates) / so_far


def peek(days: int, experiments: int, alpha: float, seed: int) -> dict[str, float]:
    """Stop a test of A against A on the first day on which it looks significant; count how often that happens."""
    threshold = norm.ppf(1 - alpha / 2)
    z = z_of(*simulate_days(0.2, 0.2, 500, days, experiments, seed))
    once, daily = (z[:, -1].abs() > threshold).double().mean().item(), (z.abs() > threshold).any(dim=1).double().mean().item()
    exact = crossing([threshold] * days, days).sum().item()
    print(f"1. nothing to find: significant in {once:.1%} where one looks once; looking on {days} days and stopping on the first")
    print(f"   that looks good, in {daily:.1%} (computed: {exact:.1%})")
    return {"false_once": once, "false_daily": daily, "false_daily_exact": exact}


# %% 2. Boundaries that allow looks
def constant_bounds(looks: int, alpha: float, power_of_time: float) -> list[float]:
    """Bounds c · t^-power_of_time with c such that the whole test has level alpha: 0 is Pocock's, 1/2 O'Brien and Fleming's."""
    shape = [(k / looks) ** -power_of_time for k in range(1, looks + 1)]
    c = brentq(lambda c: crossing([c * s for s in shape], looks).sum().item() - alpha, 1.0, 6.0)
    return [c * s for s in shape]


def spent(t: float, alpha: float) -> float:
    """How much of alpha may be used up by time t in (0, 1]: hardly anything early (Lan & DeMets, 1983, alpha/2 on each side)."""
    return 4 * norm.sf(norm.ppf(1 - alpha / 4) / math.sqrt(t))


def spending_bounds(looks: int, alpha: float) -> list[float]:
    """Bounds such that at each look exactly as much of alpha is gone as `spent` allows: no look has to be planned for ahead."""
    bounds = []
    for k in range(1, looks + 1):
        allowed = spent(k / looks, alpha)
        bounds.append(brentq(lambda b, allowed=allowed: crossing([*bounds, b], looks).sum().item() - allowed, 0.5, 20.0))
    return bounds


def compare_bounds(looks: int, experiments: int, alpha: float, power: float, seed: int) -> tuple[Bounds, dict[str, float]]:
    """Return bounds by name, and for each the false positives (simulated), the power, and the share of the people it takes."""
    threshold = norm.ppf(1 - alpha / 2)
    drift = threshold + norm.ppf(power)
    bounds = {
        "every look": [threshold] * looks,
        "Pocock": constant_bounds(looks, alpha, 0.0),
        "O'Brien-Fleming": constant_bounds(looks, alpha, 0.5),
        "alpha spending": spending_bounds(looks, alpha),
    }
    z = z_of(*simulate_days(0.2, 0.2, 1000, looks, experiments, seed))
    found = {}
    print(f"2. {looks} looks          false positives   power   people, with an effect   bounds")
    for name, values in bounds.items():
        false = (z.abs() >= torch.tensor(values)).any(dim=1).double().mean().item()
        stops = crossing(values, looks, drift)
        share = 1 - sum((stops[k] * (1 - (k + 1) / looks)).item() for k in range(looks))  # of the people of the whole test
        told = " ".join(f"{bound:.2f}" for bound in values)
        print(f"   {name:16} {false:14.3f} {stops.sum():9.3f} {share:12.0%}             {told}")
        key = name.lower().replace("'", "").replace(" ", "_").replace("-", "_")
        found |= {f"false_{key}": false, f"power_{key}": stops.sum().item(), f"people_{key}": share}
    return bounds, found


# %% 3. Looking as often as one likes
def half_width(variances: Tensor, tau: float, alpha: float) -> Tensor:
    """Half the width of a confidence sequence: intervals that all hold the truth, at every time, with chance 1 - alpha.

    Let δ be an estimate of variance V. The likelihood ratio of "the effect was drawn from N(0, τ²)" against "there is none" is
    √(V / (V + τ²)) · exp(δ² τ² / (2 V (V + τ²))). Without an effect its mean stays 1 (a martingale), so the chance that it ever
    exceeds 1/alpha is alpha at most (Ville). Every other effect can be tested alike; those never rejected are the interval
    (Robbins, 1970; as a test, mSPRT: Johari et al., 2017). V is estimated here: begin where the estimate is nearly normal.

    Args:
        variances: V.
        tau: The size of effect for which the sequence is made narrowest; any is right.
        alpha: As above.
    """
    both = variances + tau**2
    return (variances * both / tau**2 * (2 * math.log(1 / alpha) + (both / variances).log())).sqrt()


def look_often(looks: int, experiments: int, alpha: float, seed: int) -> dict[str, float]:
    """Look after every 20 people in each arm, from 200 on: count how often an interval has ever missed the truth."""
    threshold, tau, found = norm.ppf(1 - alpha / 2), 0.03, {}
    for name, effect in (("null", 0.0), ("effect", 0.03)):
        estimates, variances = (part[:, 9:] for part in simulate_days(0.2, 0.2 + effect, 20, looks, experiments, seed))
        usual, widths = threshold * variances.sqrt(), half_width(variances, tau, alpha)
        for kind, width in (("usual", usual), ("sequence", widths)):
            found[f"{kind}_missed_{name}"] = ((estimates - effect).abs() > width).any(dim=1).double().mean().item()
    outside = estimates.abs() > widths  # of the tests that have an effect
    found["sequence_power"] = outside.any(dim=1).double().mean().item()
    when = torch.where(outside.any(dim=1), outside.int().argmax(dim=1), looks)
    found["sequence_people"] = 20 * (when.double().mean().item() + 10)
    found["width_ratio"] = (widths[:, -1] / usual[:, -1]).mean().item()
    print(
        f"3. looked at {looks - 9} times, a usual interval has missed the truth in {found['usual_missed_null']:.0%} of the tests,"
    )
    print(
        f"   a confidence sequence in {found['sequence_missed_null']:.1%}; with an effect, {found['sequence_missed_effect']:.1%}."
    )
    print(
        f"   At the end it is {found['width_ratio']:.2f} times as wide. It finds {effect:+.2f} in {found['sequence_power']:.1%},"
    )
    print(f"   after {found['sequence_people']:.0f} people in each arm on average")
    return found


# %% 4. Two recommenders, stopped early
def stop_early(smallest: float, looks: int, experiments: int, alpha: float, power: float, seed: int) -> dict[str, float]:
    """Run the test of `ab_test.py`, and stop it by alpha spending, or on the first look at which it is significant."""
    chances = chances_of(make_town(5000, films=60, taste=1.0, seed=seed))
    rates = [chance.mean().item() for chance in chances]
    people = people_needed(smallest, *[rates[0] * (1 - rates[0])] * 2, alpha, power)
    estimates, variances = run_tests(chances, people, looks, experiments, seed)
    z, found = z_of(estimates, variances).abs(), {"truth": rates[1] - rates[0], "mean_at_end": estimates[:, -1].mean().item()}
    print(f"4. the truth is {found['truth']:+.4f}; at the end, tests say {found['mean_at_end']:+.4f} on average")
    for name, bounds in (("spending", spending_bounds(looks, alpha)), ("peeking", [norm.ppf(1 - alpha / 2)] * looks)):
        crossed = z >= torch.tensor(bounds)
        last = torch.where(crossed.any(dim=1), crossed.int().argmax(dim=1), looks - 1)  # the look at which a test ends
        stopped = estimates.gather(1, last[:, None])[:, 0]
        found[f"found_{name}"] = crossed.any(dim=1).double().mean().item()
        found[f"people_{name}"] = (last + 1).double().mean().item() / looks
        found[f"mean_{name}"] = stopped.mean().item()
        found[f"mean_early_{name}"] = stopped[last < looks - 1].mean().item()
        print(
            f"   stopped by {name:8}: found in {found[f'found_{name}']:.1%}, {found[f'people_{name}']:.0%} of the people, ",
            end="",
        )
        print(f"mean {found[f'mean_{name}']:+.4f}; where it ended early, {found[f'mean_early_{name}']:+.4f}")
    return found


def draw_figures(bounds: Bounds, alpha: float) -> None:
    """Draw the bounds over tests of A against A, and one test with an effect, looked at all the time."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    looks = range(1, len(next(iter(bounds.values()))) + 1)
    axis.plot(looks, z_of(*simulate_days(0.2, 0.2, 1000, len(looks), 30, seed=1)).T, color="grey", linewidth=0.5, alpha=0.6)
    korean = {"every look": "보정 없음", "Pocock": "포콕", "O'Brien-Fleming": "오브라이언-플레밍", "alpha spending": "알파 소비"}
    for (name, values), style in zip(bounds.items(), (":", "--", "-", "-."), strict=True):
        line = axis.plot(looks, values, style, label=label(name, korean[name]))[0]
        axis.plot(looks, [-b for b in values], style, color=line.get_color())
    axis.set(xlabel=label("look", "확인 차례"), ylabel="z", ylim=(-5.2, 5.2), xticks=looks)
    axis.legend(ncols=2)
    save_figure(figure, __file__, "stopping")

    estimates, variances = (part[0, 9:] for part in simulate_days(0.2, 0.23, 20, 500, 1, seed=0))
    people = 20 * torch.arange(10, 501)
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    widths = {label("confidence sequence", "신뢰 수열"): half_width(variances, 0.03, alpha)}
    widths |= {label("usual interval", "보통의 신뢰 구간"): norm.ppf(1 - alpha / 2) * variances.sqrt()}
    for (name, width), shade in zip(widths.items(), (0.15, 0.35), strict=True):
        axis.fill_between(people, estimates - width, estimates + width, color="C0", alpha=shade, linewidth=0, label=name)
    axis.plot(people, estimates, color="C0")
    axis.axhline(0.03, color="C1", linestyle="--", label=label("truth", "참값"))
    axis.axhline(0, color="grey", linewidth=0.8)
    axis.set(xlabel=label("people in each arm", "집단마다 사람 수"), ylabel="B - A", ylim=(-0.12, 0.18))
    axis.legend()
    save_figure(figure, __file__, "sequence")


# %% All of it, in order
def main(
    alpha: float = 0.05,
    power: float = 0.8,
    smallest: float = 0.04,
    days: int = 20,
    looks: int = 5,
    experiments: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """Look at A/B tests too often, and stop them rightly.

    Args:
        alpha: Level of the tests: how often one that has nothing to find may find something.
        power: How often a test shall find the effect that it is planned for.
        smallest: The effect for which the test of the recommenders is planned: a difference of shares.
        days: On each of which somebody looks, in section 1.
        looks: Of the tests that stop rightly.
        experiments: Simulated tests; sections take a multiple.
        seed: Of the town and of everybody who visits.
    """
    check(0 < alpha < 0.5 < power < 1, f"--alpha {alpha} --power {power}: needed is 0 < alpha < 0.5 < power < 1")
    check(0.005 <= smallest <= 0.3, f"--smallest {smallest}: a difference of shares, from 0.005 to 0.3")
    check(1 <= days <= 100 and 2 <= looks <= 30, f"--days {days} --looks {looks}: needed are 1 to 100, and 2 to 30")
    check(100 <= experiments <= 10_000, f"--experiments {experiments}: from 100, below which shares say nothing, to 10000")
    results = peek(days, 20 * experiments, alpha, seed)
    bounds, found = compare_bounds(looks, 20 * experiments, alpha, power, seed)
    results |= found | look_often(500, 2 * experiments, alpha, seed)
    results |= stop_early(smallest, looks, 2 * experiments, alpha, power, seed)
    draw_figures(bounds, alpha)
    wobble = 4 * math.sqrt(alpha * (1 - alpha) / (2 * experiments))
    rules = ("false_pocock", "false_obrien_fleming", "false_alpha_spending", "sequence_missed_null")
    worst = max(results[rule] for rule in rules)
    check(worst < alpha + wobble, f"a rule that should err in {alpha:.1%} of the tests errs in {worst:.1%}")
    return results


if __name__ == "__main__":
    run(main)
