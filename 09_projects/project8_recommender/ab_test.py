"""A/B tests: how many people · A/B 테스트: 몇 명이 필요한가

Half of the people get recommender A, half get B, and a number is compared. Whether that can work is decided before the first
person comes, by how many there will be. That is computed here, and held against thousands of simulated tests with a known truth.
사람들의 절반에게는 추천기 A를, 절반에게는 B를 보여 주고 숫자 하나를 비교한다. 이 비교가 쓸모 있을지는 첫 방문자가 오기 전에
사람 수로 이미 정해진다. 필요한 사람 수를 식으로 구하고, 참값을 아는 마을에서 수천 번 모의실험해 확인한다.

You will
  1. compute how many people a test needs, and hold the formula against simulated tests: yes-or-no metrics, and skewed ones
  2. run tests that are too small, and see what they find: little, and that exaggerated
  3. count the people first: a sample-ratio mismatch, and the effect that it makes out of nothing
  4. run the test for which all this was made: what is popular against item neighbours

Before     09_projects/project8_recommender/README.md
Run        python -m study run recommender/ab_test   (about 3 s on one CPU core, after importing torch)
You see    2,398 people in each arm, and 81 % of 4,000 tests that find the better recommender; power.png, experiment.png
Try next   --smallest 0.02: plan for half the effect. First guess how many people that takes, and how many tests find the effect
Theory     notes/en/09_projects.md · notes/ko/09_projects.md
"""

import math
from collections.abc import Callable

import torch
from scipy.stats import chi2, norm
from torch import Tensor

from project8_recommender.visitors import Town, chance_of_page, item_neighbours, make_town, page, popularity
from utils.lesson import check, run
from utils.plotting import label, save_figure

Draw = Callable[[tuple[int, int], torch.Generator], Tensor]  # outcomes of people: (experiments, people)


# %% 1. How many people
def people_needed(effect: float, variance_a: float, variance_b: float, alpha: float, power: float) -> int:
    """People in each arm for a two-sided z-test at level `alpha` to find `effect`, a difference of means, with chance `power`.

    Derivation: the estimate has variance (variance_a + variance_b) / n, and has to lie as many of its standard deviations from 0
    as the threshold (the normal quantile of 1 - alpha/2) and the quantile of the power are together.
    """
    quantiles = norm.ppf(1 - alpha / 2) + norm.ppf(power)
    return math.ceil(quantiles**2 * (variance_a + variance_b) / effect**2)


def power_of(effect: float, variance_a: float, variance_b: float, people: int, alpha: float) -> float:
    """The chance that a z-test with `people` in each arm is significant, on either side."""
    drift, threshold = effect / math.sqrt((variance_a + variance_b) / people), norm.ppf(1 - alpha / 2)
    return norm.sf(threshold - drift) + norm.cdf(-threshold - drift)


def detectable(variance_a: float, variance_b: float, people: int, alpha: float, power: float) -> float:
    """The minimal detectable effect: the difference that is found with chance `power` by `people` in each arm."""
    return (norm.ppf(1 - alpha / 2) + norm.ppf(power)) * math.sqrt((variance_a + variance_b) / people)


def in_parts(experiments: int, people: int) -> list[int]:
    """Cut many tests into parts of two million people at most, or one test, so that memory does not grow with their number."""
    part = max(1, 2_000_000 // people)
    return [min(part, experiments - start) for start in range(0, experiments, part)]


def simulate_power(
    draw_a: Draw, draw_b: Draw, people: int, experiments: int, alpha: float, seed: int
) -> tuple[float, float, float]:
    """Run tests and count.

    Returns the share that is significant, the mean estimate of all tests, and the mean of the significant ones.
    """
    generator, estimates, variances = torch.Generator().manual_seed(seed), [], []
    for part in in_parts(experiments, people):
        a, b = (draw((part, people), generator) for draw in (draw_a, draw_b))
        estimates.append(b.mean(dim=1) - a.mean(dim=1))
        variances.append((a.var(dim=1) + b.var(dim=1)) / people)
    estimates = torch.cat(estimates)  # (experiments,)
    z = estimates / torch.cat(variances).sqrt()
    significant = z.abs() > norm.ppf(1 - alpha / 2)
    return significant.double().mean().item(), estimates.mean().item(), estimates[significant].mean().item()


def yes_or_no(rate: float) -> Draw:
    """People who do something with chance `rate`."""
    return lambda shape, generator: (torch.rand(shape, generator=generator) < rate).double()


def minutes(rate: float, longest: float) -> Draw:
    """Minutes watched: none with chance 1 - rate, else a lognormal number (spread 1), so that a few people watch very long.

    Its mean is rate · longest, its second moment rate · longest² · e (for the lognormal, E x² = e^{σ²} (E x)² with σ = 1).
    """

    def draw(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        some = torch.rand(shape, generator=generator) < rate
        return some * longest * (torch.randn(shape, generator=generator, dtype=torch.float64) - 0.5).exp()

    return draw


def compare_power(experiments: int, alpha: float, power: float, seed: int) -> dict[str, float]:
    """Plan a test on shares and one on minutes by the formula, run them, and return the people and the power that they have."""
    rate, effect, mean, found = 0.20, 0.03, 30.0, {}
    plans = {
        "share": (yes_or_no(rate), yes_or_no(rate + effect), effect, [p * (1 - p) for p in (rate, rate + effect)]),
        "minutes": (
            minutes(rate, mean),
            minutes(rate + effect, mean),
            effect * mean,
            [p * mean**2 * math.e - (p * mean) ** 2 for p in (rate, rate + effect)],
        ),
    }
    print(f"1. {rate:.0%} of the people watch something with A, {rate + effect:.0%} with B; to be found with power {power:g}")
    for name, (draw_a, draw_b, difference, variances) in plans.items():
        people = people_needed(difference, *variances, alpha, power)
        simulated, mean_estimate, _ = simulate_power(draw_a, draw_b, people, experiments, alpha, seed)
        found |= {f"people_{name}": people, f"power_{name}": simulated, f"bias_{name}": mean_estimate / difference - 1}
        print(f"   metric {name:8} {people:6} people in each arm; simulated power {simulated:.3f}")
    variances = plans["share"][-1]
    sizes = [detectable(*variances, people, alpha, power) for people in (1000, 4000, 16000)]
    print("   detectable with 1000, 4000, 16000 people: " + ", ".join(f"{size:.3f}" for size in sizes))
    return found | {"detectable_1000": sizes[0], "detectable_4000": sizes[1]}


# %% 2. Too few people
def too_few(people: int, experiments: int, alpha: float, seed: int) -> dict[str, float]:
    """Look for the same effect with far too few people; return how often it is found, and how large the found ones look."""
    rate, effect = 0.20, 0.03
    expected = power_of(effect, rate * (1 - rate), (rate + effect) * (1 - rate - effect), people, alpha)
    found, _, seen = simulate_power(yes_or_no(rate), yes_or_no(rate + effect), people, experiments, alpha, seed)
    print(f"2. {people} people in each arm: power {expected:.3f}, simulated {found:.3f};")
    print(f"   those that are significant say {seen:+.3f} on average, {seen / effect:.1f} times the truth")
    return {"power_few": found, "power_few_formula": expected, "exaggeration": seen / effect}


# %% 3. Count the people first
def mismatch(people_a: Tensor, people_b: Tensor) -> Tensor:
    """The p-value of "everybody's arm was drawn with a fair coin" (χ² test, one degree of freedom), elementwise."""
    half = (people_a + people_b) / 2
    statistic = ((people_a - half) ** 2 + (people_b - half) ** 2) / half
    return torch.from_numpy(chi2.sf(statistic.numpy(), df=1))


def lose_people(people: int, lost: float, experiments: int, alpha: float, seed: int) -> dict[str, float]:
    """Test A against the same A, but `lost` of those who would watch nothing leave B, which is slow, before they are counted."""
    generator = torch.Generator().manual_seed(seed)

    def binomial(count: Tensor, chance: float) -> Tensor:
        return torch.binomial(count, torch.full_like(count, chance), generator=generator)

    everybody = torch.full((experiments,), 2.0 * people, dtype=torch.float64)
    arm_b = binomial(everybody, 0.5)
    arm_a = everybody - arm_b
    watched_a, watched_b = binomial(arm_a, 0.2), binomial(arm_b, 0.2)
    counted_b = arm_b - binomial(arm_b - watched_b, lost)
    rates = watched_a / arm_a, watched_b / counted_b
    z = (rates[1] - rates[0]) / (rates[0] * (1 - rates[0]) / arm_a + rates[1] * (1 - rates[1]) / counted_b).sqrt()
    found = {
        "false_effects": (z > norm.ppf(1 - alpha / 2)).double().mean().item(),
        "mismatch_alarms": (mismatch(arm_a, counted_b) < 0.001).double().mean().item(),
        "mismatch_false_alarms": (mismatch(arm_a, arm_b) < 0.001).double().mean().item(),
    }
    print(f"3. B loses {lost:.0%} of those who watch nothing; counted are {arm_a.mean():.0f} in A, {counted_b.mean():.0f} in B.")
    print(f"   B looks better in {found['false_effects']:.0%} of the tests; the count is alarming in", end=" ")
    print(f"{found['mismatch_alarms']:.0%}, and, where nobody is lost, in {found['mismatch_false_alarms']:.1%}")
    return found


# %% 4. Two recommenders
def chances_of(town: Town) -> list[Tensor]:
    """How likely each person is to watch something on A's page of five films, what is popular, and on B's, item neighbours."""
    return [chance_of_page(town, page(scores(town), town.seen, 5)) for scores in (popularity, item_neighbours)]


def run_tests(chances: list[Tensor], people: int, looks: int, experiments: int, seed: int) -> tuple[Tensor, Tensor]:
    """Show A and B to visitors drawn from the town, `people` in each arm (rounded up to a multiple of the looks).

    Returns the difference of the shares that watched something so far, and the variance of that estimate: (experiments, looks).
    """
    generator = torch.Generator().manual_seed(seed)
    step = math.ceil(people / looks)
    so_far, rates = torch.arange(1, looks + 1) * step, []
    for chance in chances:
        counts = []
        for part in in_parts(experiments, people):
            who = torch.randint(len(chance), (part, looks, step), generator=generator)
            watched = torch.rand(who.shape, generator=generator, dtype=torch.float64) < chance[who]
            counts.append(watched.sum(dim=2))
        rates.append(torch.cat(counts).cumsum(dim=1) / so_far)
    return rates[1] - rates[0], sum(rate * (1 - rate) for rate in rates) / so_far


def z_of(estimates: Tensor, variances: Tensor) -> Tensor:
    """Divide by the standard error; where nobody or everybody has done it, there is none, and z is 0."""
    return (estimates / variances.sqrt()).nan_to_num(0, 0, 0)


def compare_recommenders(
    smallest: float, experiments: int, alpha: float, power: float, seed: int
) -> tuple[dict[str, float], Tensor]:
    """Plan the test from what is known of A, and run it many times.

    Returns numbers, and the tests' estimates and half widths (2, experiments).
    """
    town = make_town(5000, films=60, taste=1.0, seed=seed)
    chances = chances_of(town)
    rates = [chance.mean().item() for chance in chances]
    truth = rates[1] - rates[0]
    people = people_needed(smallest, *[rates[0] * (1 - rates[0])] * 2, alpha, power)  # before the test, only A's rate is known
    estimates, variances = (part[:, 0] for part in run_tests(chances, people, 1, experiments, seed))
    widths = norm.ppf(1 - alpha / 2) * variances.sqrt()
    found = {
        "rate_popular": rates[0],
        "rate_neighbours": rates[1],
        "truth": truth,
        "people": people,
        "power_formula": power_of(truth, *(rate * (1 - rate) for rate in rates), people, alpha),
        "found": (estimates.abs() > widths).double().mean().item(),
        "mean_estimate": estimates.mean().item(),
        "coverage": ((estimates - truth).abs() <= widths).double().mean().item(),
    }
    print(f"4. watch something: {rates[0]:.3f} (popular), {rates[1]:.3f} (neighbours); the truth is {truth:+.4f}")
    print(f"   planned for {smallest:+.3f}: {people} people in each arm; {found['found']:.1%} of {experiments} tests find it")
    print(f"   (formula {found['power_formula']:.1%}); mean {found['mean_estimate']:+.4f}, coverage {found['coverage']:.3f}")
    return found, torch.stack([estimates, widths])


def meet_error() -> str:
    """Average yes and no as they come; return PyTorch's answer."""
    try:
        (torch.rand(10, generator=torch.Generator().manual_seed(0)) < 0.2).mean()
    except RuntimeError as error:
        message = str(error)
    print(f'   "{message}"')
    print("   read: a share is a mean of 0 and 1, and True is neither; .double() makes them numbers")
    return message


def draw_figures(tests: Tensor, truth: float, alpha: float) -> None:
    """Draw power against people, and the intervals of the first forty tests."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    people = range(100, 10001, 100)
    for effect, style in ((0.02, ":"), (0.03, "-"), (0.05, "--")):
        curve = [power_of(effect, 0.16, (0.2 + effect) * (0.8 - effect), n, alpha) for n in people]
        axis.plot(
            people, curve, style, label=label(f"20 % to {20 + 100 * effect:.0f} %", f"20 %에서 {20 + 100 * effect:.0f} %로")
        )
    axis.axhline(0.8, color="grey", linewidth=0.8)
    axis.set(xlabel=label("people in each arm", "집단마다 사람 수"), ylabel=label("power", "검정력"), ylim=(0, 1.02))
    axis.legend()
    save_figure(figure, __file__, "power")

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    estimates, widths = tests[:, :40]
    for hit, colour, name in ((True, "C0", label("covers it", "참값을 품음")), (False, "C3", label("misses it", "참값을 놓침"))):
        which = ((estimates - truth).abs() <= widths) == hit
        where = torch.arange(len(estimates))[which]
        axis.errorbar(where, estimates[which], widths[which], fmt="o", color=colour, markersize=3, label=name)
    axis.axhline(truth, color="C1", linestyle="--", label=label("truth", "참값"))
    axis.axhline(0, color="grey", linewidth=0.8)
    axis.set(xlabel=label("test", "테스트"), ylabel=label("B - A, share who watch something", "B - A, 하나라도 본 사람의 비율"))
    axis.legend()
    save_figure(figure, __file__, "experiment")


# %% All of it, in order
def main(
    alpha: float = 0.05, power: float = 0.8, smallest: float = 0.04, experiments: int = 4000, seed: int = 0
) -> dict[str, float]:
    """Plan A/B tests, run them, and let two recommenders compete.

    Args:
        alpha: Level of the tests: how often one that has nothing to find may find something.
        power: How often a test shall find the effect that it is planned for.
        smallest: The smallest effect worth finding: a difference of the shares of people who watch something.
        experiments: Simulated tests.
        seed: Of the town and of everybody who visits.
    """
    check(0 < alpha < 0.5 < power < 1, f"--alpha {alpha} --power {power}: needed is 0 < alpha < 0.5 < power < 1")
    check(0.005 <= smallest <= 0.3, f"--smallest {smallest}: a difference of shares, from 0.005 to 0.3")
    check(100 <= experiments <= 100_000, f"--experiments {experiments}: from 100, below which shares say nothing, to 100000")
    results = compare_power(experiments, alpha, power, seed)
    results |= too_few(300, experiments, alpha, seed)
    results |= lose_people(20_000, 0.05, experiments, alpha, seed)
    found, tests = compare_recommenders(smallest, experiments, alpha, power, seed)
    meet_error()
    draw_figures(tests, found["truth"], alpha)
    check(found["truth"] > 0, "in this town the neighbours are no better than what is popular")
    wobble = 4 * math.sqrt(0.25 / experiments)
    check(abs(found["found"] - found["power_formula"]) < wobble, "the tests do not find as often as the formula says")
    return results | found


if __name__ == "__main__":
    run(main)
