"""A/B tests: what to measure · A/B 테스트: 무엇을 재는가

People tell more if what was known of them before is used. They seem to tell more than they do if each click is counted as if it
came from somebody else, or if one looks at twenty numbers. Gains and mistakes are measured here where the truth is known.
미리 알던 것을 쓰면 같은 사람들에게서 더 많은 것을 알아낼 수 있다. 반대로 클릭 하나하나를 서로 다른 사람의 것처럼 세거나 지표
스무 개를 한꺼번에 보면 실제보다 많이 아는 것처럼 보인다. 이득도 실수도 참값을 아는 곳에서 잰다.

You will
  1. take out of a metric what was known before the test (CUPED): the same effect, less than half the variance
  2. count clicks per page, a ratio of two sums: the delta method, the bootstrap, and an error that is far too small
  3. look at twenty metrics at once, and pay for it: Bonferroni, Benjamini-Hochberg
  4. see that what is new pleases more than what is good, and wait
  5. let both arms borrow from the same shelf: a test whose arms are not apart

Before     09_projects/project8_recommender/ab_test.py
Run        python -m study run recommender/ab_metrics   (about 2 s on one CPU core, after importing torch)
You see    power 0.32 that becomes 0.66 with the same people; 23 % false positives from clicks; cuped.png, novelty.png
Try next   --spread 0: people who are all alike. First guess what becomes of CUPED's gain and of clicks per page; then look
Theory     notes/en/09_projects.md · notes/ko/09_projects.md
"""

import math

import numpy
import torch
from scipy.stats import norm
from torch import Tensor

from utils.lesson import check, run
from utils.plotting import label, save_figure


def share(true: Tensor) -> float:
    """The share of True."""
    return true.double().mean().item()


# %% 1. What was known before
def watch(shape: tuple[int, ...], spread: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """How many films people watch in the four weeks before the test and in those of it: Poisson numbers.

    Each person has a rate of their own, lognormal with `spread`, 8 films on average: that is what the two have in common.
    """
    rates = 8 * (spread * torch.randn(shape, generator=generator, dtype=torch.float64) - spread**2 / 2).exp()
    return torch.poisson(rates, generator=generator), torch.poisson(rates, generator=generator)


def adjust(metric: Tensor, covariate: Tensor) -> Tensor:
    """CUPED (Deng et al., 2013): take out of a metric (..., people) what a covariate, known before the test, predicts of it.

    θ = cov / var is the slope that leaves the least variance: 1 - ρ² of it. Both arms are adjusted with one θ. The covariate has
    the same mean in both but for chance, and this chance is what is taken out: the arms' difference still estimates the effect.
    """
    centred = covariate - covariate.mean(dim=-1, keepdim=True)
    theta = (centred * metric).mean(dim=-1, keepdim=True) / centred.square().mean(dim=-1, keepdim=True)
    return metric - theta * centred


def difference(values: Tensor) -> tuple[Tensor, Tensor]:
    """Of people (..., 2n), the first n in A, the others in B: B's mean minus A's, and that estimate's variance."""
    a, b = values.chunk(2, dim=-1)
    return b.mean(dim=-1) - a.mean(dim=-1), (a.var(dim=-1) + b.var(dim=-1)) / a.shape[-1]


def use_the_past(people: int, spread: float, experiments: int, alpha: float, seed: int) -> tuple[dict[str, float], list[Tensor]]:
    """Run tests with an effect of 5 %, and estimate it plainly, by CUPED, and by CUPED with what was known too late.

    Returns numbers, and the plain and the adjusted estimates.
    """
    generator, truth = torch.Generator().manual_seed(seed), 0.05 * 8
    before, after = watch((experiments, 2 * people), spread, generator)
    after[:, people:] += torch.poisson(after.new_full((experiments, people), truth), generator=generator)
    estimates, variances = difference(after)
    adjusted, adjusted_variances = difference(adjust(after, before))
    # Too late: films seen in the test's first half. It has the effect in it, and takes it out again.
    late, _ = difference(adjust(after, torch.binomial(after, torch.full_like(after, 0.5), generator=generator)))
    rho = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(before[:20], after[:20], strict=True)]).mean()
    found = {
        "truth": truth,
        "plain_mean": estimates.mean().item(),
        "cuped_mean": adjusted.mean().item(),
        "late_mean": late.mean().item(),
        "variance_ratio": (adjusted.var() / estimates.var()).item(),
        "one_minus_rho2": 1 - rho.item() ** 2,
        "plain_power": share((estimates / variances.sqrt()).abs() > norm.ppf(1 - alpha / 2)),
        "cuped_power": share((adjusted / adjusted_variances.sqrt()).abs() > norm.ppf(1 - alpha / 2)),
        "cuped_coverage": share((adjusted - truth).abs() <= norm.ppf(1 - alpha / 2) * adjusted_variances.sqrt()),
    }
    print(f"1. the truth is {truth:+.3f} films; mean estimate {found['plain_mean']:+.3f}, CUPED {found['cuped_mean']:+.3f}")
    print(f"   variance {found['variance_ratio']:.3f} of the plain one (1 - ρ² = {found['one_minus_rho2']:.3f}): ", end="")
    print(f"power {found['plain_power']:.2f} becomes {found['cuped_power']:.2f}, coverage {found['cuped_coverage']:.3f}")
    print(f"   with a covariate from the test itself, which knows the effect: {found['late_mean']:+.3f}")
    return found, [estimates, adjusted]


# %% 2. Clicks per page
def browse(shape: tuple[int, ...], spread: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """How many pages people open, and how often they click: (people) each. Who opens many has a chance to click of their own."""
    own = spread * torch.randn(shape, generator=generator, dtype=torch.float64)
    pages = 1 + torch.poisson(6 * (own - spread**2 / 2).exp(), generator=generator)
    chance = torch.sigmoid(-2 + own + spread * torch.randn(shape, generator=generator, dtype=torch.float64))
    return pages, torch.binomial(pages, chance, generator=generator)


def delta_variance(clicks: Tensor, pages: Tensor) -> Tensor:
    """The variance of mean(clicks) / mean(pages) over people (..., people), to first order (the delta method).

    Near their means a ratio moves like clicks - ratio · pages, divided by the mean of pages: a number of each person's, all of
    them independent, whose mean has a variance that is known.
    """
    ratio = clicks.mean(dim=-1, keepdim=True) / pages.mean(dim=-1, keepdim=True)
    return (clicks - ratio * pages).var(dim=-1) / pages.mean(dim=-1) ** 2 / clicks.shape[-1]


def bootstrap_variance(clicks: Tensor, pages: Tensor, draws: int, seed: int) -> float:
    """The variance of the ratio when people (people,), with all that is theirs, are drawn again and again with replacement."""
    who = torch.randint(len(clicks), (draws, len(clicks)), generator=torch.Generator().manual_seed(seed))
    return (clicks[who].sum(dim=1) / pages[who].sum(dim=1)).var().item()


def compare_ratio_errors(people: int, spread: float, experiments: int, alpha: float, seed: int) -> dict[str, float]:
    """Test A against A on clicks per page, and count how often something is found with each error."""
    pages, clicks = browse((2, experiments, people), spread, torch.Generator().manual_seed(seed))  # (arms, experiments, people)
    ratios = clicks.sum(dim=2) / pages.sum(dim=2)
    naive = ratios * (1 - ratios) / pages.sum(dim=2)  # as if every page were somebody else's
    delta, threshold = delta_variance(clicks, pages), norm.ppf(1 - alpha / 2)
    drawn = bootstrap_variance(clicks[0, 0], pages[0, 0], 2000, seed)
    found = {
        "false_naive": share(((ratios[1] - ratios[0]) / naive.sum(dim=0).sqrt()).abs() > threshold),
        "false_delta": share(((ratios[1] - ratios[0]) / delta.sum(dim=0).sqrt()).abs() > threshold),
        "naive_to_delta": (naive / delta).sqrt().mean().item(),
        "bootstrap_to_delta": math.sqrt(drawn / delta[0, 0].item()),
    }
    print(f"2. clicks per page, nothing to find: naive error {found['false_naive']:.1%} significant, ", end="")
    print(f"delta method {found['false_delta']:.1%}")
    print(
        f"   naive error / delta {found['naive_to_delta']:.2f}; bootstrap over people / delta {found['bootstrap_to_delta']:.3f}"
    )
    return found


# %% 3. Twenty metrics
def benjamini_hochberg(p: Tensor) -> Tensor:
    """Adjusted p-values (..., metrics): reject those below alpha, and of all that is rejected alpha at most is false, on average.

    The k-th smallest of m is multiplied by m / k; none may be larger than one after it (Benjamini & Hochberg, 1995).
    """
    ordered, order = p.sort(dim=-1)
    scaled = ordered * p.shape[-1] / torch.arange(1, p.shape[-1] + 1)
    smallest = scaled.flip(-1).cummin(dim=-1).values.flip(-1).clamp(max=1)  # from the largest down
    return torch.empty_like(p).scatter(-1, order, smallest)


def look_at_many(metrics: int, real: int, experiments: int, alpha: float, seed: int) -> dict[str, float]:
    """Test many metrics at once: first none of them has an effect, then the first `real` of them have."""
    noise = torch.randn(experiments, metrics, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = {}
    for name, drift in (("nothing", 0.0), ("some", 3.0)):  # at 3 standard errors, one test alone has power 0.85
        z = noise + drift * (torch.arange(metrics) < real)
        p = torch.erfc(z.abs() / math.sqrt(2))  # the two-sided p-value of z
        ways = {"plain": p, "bonferroni": (p * metrics).clamp(max=1), "bh": benjamini_hochberg(p)}
        for way, adjusted in ways.items():
            rejected = adjusted < alpha
            if name == "nothing":
                found[f"any_{way}"] = share(rejected.any(dim=1))
            else:
                false = rejected[:, real:].sum(dim=1)
                found[f"false_share_{way}"] = (false / rejected.sum(dim=1).clamp(min=1)).mean().item()
                found[f"power_{way}"] = share(rejected[:, :real])
    print(f"3. {metrics} metrics     something found, of nothing   false of those found, {real} being real   real ones found")
    for way, told in (("plain", "each for itself"), ("bonferroni", "Bonferroni"), ("bh", "Benj.-Hochberg")):
        print(f"   {told:16} {found[f'any_{way}']:18.1%} {found[f'false_share_{way}']:30.1%} {found[f'power_{way}']:30.1%}")
    return found


# %% 4. What is new
def wait(people: int, days: int, experiments: int, seed: int) -> tuple[dict[str, float], Tensor, Tensor]:
    """Run tests of something that pleases because it is new: its effect falls from 5 points to 1.

    Returns numbers, the effect on each day, and the estimates (experiments, days). (That it is
    the same people who come every day is left out: their days would be correlated.)
    """
    generator = torch.Generator().manual_seed(seed)
    effect = 0.01 + 0.04 * (-torch.arange(days, dtype=torch.float64) / 5).exp()
    counts = torch.full((experiments, days), float(people), dtype=torch.float64)
    estimates = torch.binomial(counts, (0.3 + effect).expand_as(counts), generator=generator) / people
    estimates -= torch.binomial(counts, torch.full_like(counts, 0.3), generator=generator) / people
    first, last = estimates[:, :7].mean(dim=1), estimates[:, -7:].mean(dim=1)
    error = math.sqrt(2 * 2 * 0.3 * 0.7 / people / 7)  # of the difference of two weeks' differences
    found = {"effect_to_stay": effect[-1].item(), "first_week": first.mean().item(), "last_week": last.mean().item()}
    found["novelty_found"] = share((first - last) / error > norm.ppf(0.95))
    print(
        f"4. first week {found['first_week']:+.4f}, last week {found['last_week']:+.4f}, to stay {found['effect_to_stay']:+.4f};"
    )
    print(f"   that the first week says more than the last is seen in {found['novelty_found']:.0%} of the tests")
    return found, effect, estimates


# %% 5. One shelf for both arms
def share_a_shelf(people: int, copies: int, evenings: int, seed: int) -> dict[str, float]:
    """Lend films of which there are too few copies: 40 % of the people in A want one in the evening, 50 % in B.

    Returns what everybody would gain by B, what a test says in which half of the people have B, and what one says in which
    the whole town has A on some evenings and B on others, drawn by lot (a switchback).
    """
    rng, wants = numpy.random.default_rng(seed), (0.4, 0.5)
    half = people // 2
    asked = [rng.binomial(half, want, evenings) for want in wants]
    lent_b = rng.hypergeometric(asked[1], asked[0], numpy.minimum(copies, sum(asked)))  # whoever comes first
    lent_a = numpy.minimum(copies, sum(asked)) - lent_b
    whole = [numpy.minimum(rng.binomial(2 * half, want, evenings), copies) / (2 * half) for want in wants]
    is_b = rng.permutation(evenings) < evenings // 2
    found = {
        "shelf_truth": float(whole[1].mean() - whole[0].mean()),
        "shelf_split": float((lent_b - lent_a).mean() / half),
        "shelf_switchback": float(whole[1][is_b].mean() - whole[0][~is_b].mean()),
    }
    print(
        f"5. {copies} copies for {people} people: half of them with B says {found['shelf_split']:+.3f}; B for all brings ", end=""
    )
    print(f"{found['shelf_truth']:+.3f}; whole evenings of A or B say {found['shelf_switchback']:+.3f}")
    return found


def meet_error(people: int) -> str:
    """Adjust by a covariate of which the newcomers have none; return what PyTorch says: nothing, the answer is nan."""
    before, after = watch((2 * people,), 0.6, torch.Generator().manual_seed(0))
    before[7] = torch.nan  # this one came yesterday
    answer = str(difference(adjust(after, before))[0].item())
    print(f'   one person without a past: the estimate is "{answer}", and no message comes. Give newcomers the mean, and a mark')
    return answer


def draw_figures(both: list[Tensor], truth: float, effect: Tensor, estimates: Tensor) -> None:
    """Draw the estimates with and without CUPED, and the effect of something new by day."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 3.8), layout="constrained")
    bins = numpy.histogram_bin_edges(both[0].numpy(), 40)  # the same for both, or their heights mean different things
    for values, name in zip(both, (label("plain", "그대로"), "CUPED"), strict=True):
        axis.hist(values.numpy(), bins=bins, alpha=0.6, label=name)
    axis.axvline(truth, color="black", linestyle="--", label=label("truth", "참값"))
    axis.axvline(0, color="grey", linewidth=0.8)
    axis.set(xlabel=label("estimated effect (films)", "추정한 효과 (편)"), ylabel=label("tests", "테스트 수"))
    axis.legend()
    save_figure(figure, __file__, "cuped")

    figure, axis = plt.subplots(figsize=(7, 3.8), layout="constrained")
    days = range(1, len(effect) + 1)
    axis.plot(days, estimates[0], "o", label=label("estimated on each day", "날마다 추정한 값"))
    axis.plot(days, effect, color="black", linestyle="--", label=label("truth", "참값"))
    so_far = estimates[0].cumsum(0) / torch.arange(1, len(effect) + 1)
    axis.plot(days, so_far, label=label("estimated up to that day", "그날까지의 평균"))
    axis.axhline(0, color="grey", linewidth=0.8)
    axis.set(xlabel=label("day", "날"), ylabel="B - A")
    axis.legend()
    save_figure(figure, __file__, "novelty")


# %% All of it, in order
def main(
    people: int = 1000, spread: float = 0.6, metrics: int = 20, alpha: float = 0.05, experiments: int = 1000, seed: int = 0
) -> dict[str, float]:
    """Gain variance, and lose illusions.

    Args:
        people: In each arm, in sections 1 and 2.
        spread: How much people differ in how much they watch and click: the standard deviation of a logarithm.
        metrics: That are looked at at once; a quarter of them have an effect.
        alpha: Level of the tests.
        experiments: Simulated tests.
        seed: Of everything that is drawn.
    """
    check(20 <= people <= 2000, f"--people {people}: needed are 20 to 2000")
    check(0 <= spread <= 1.5, f"--spread {spread}: a standard deviation from 0 to 1.5")
    check(4 <= metrics <= 1000, f"--metrics {metrics}: needed are 4 to 1000")
    check(0 < alpha < 0.5, f"--alpha {alpha}: needed is 0 < alpha < 0.5")
    check(100 <= experiments <= 5000, f"--experiments {experiments}: from 100, below which shares say nothing, to 5000")
    results, both = use_the_past(people, spread, experiments, alpha, seed)
    results |= compare_ratio_errors(people, spread, experiments, alpha, seed)
    results |= look_at_many(metrics, metrics // 4, 10 * experiments, alpha, seed)
    found, effect, estimates = wait(5000, 28, experiments, seed)
    results |= found | share_a_shelf(1000, 400, 200, seed)
    meet_error(people)
    draw_figures(both, results["truth"], effect, estimates)
    wobble = 4 * math.sqrt(alpha * (1 - alpha) / experiments)
    check(results["false_delta"] < alpha + wobble, f"the delta method errs in {results['false_delta']:.1%} of the tests")
    gap = abs(results["variance_ratio"] / results["one_minus_rho2"] - 1)
    check(gap < 8 / math.sqrt(experiments), "CUPED leaves another variance than 1 - ρ²")
    return results


if __name__ == "__main__":
    run(main)
