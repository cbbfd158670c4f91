"""Off-policy evaluation · 오프폴리시 평가: 기록만으로 새 추천기 재기

What would a new recommender have earned, if all one has is a log of what the old one showed? Knowing how likely the old one was
to show it, one can tell without a test. How well, and when not at all, is measured in a town whose truth is known.
옛 추천기의 기록밖에 없는데 새 추천기를 썼더라면 어땠을까? 옛 추천기가 그것을 보여 줄 확률을 알면 테스트 없이도 추정할 수 있다.
얼마나 정확한지, 언제 전혀 알 수 없는지를 참값을 아는 마을에서 잰다.

You will
  1. keep a log of one recommended film a visit, with the propensity of each, and see what counting where both agree gets wrong
  2. estimate the new recommender's value: IPS, clipped, self-normalised, a model, doubly robust; bias and spread of each
  3. see the effective sample size melt while the new recommender moves away from the old one
  4. get the propensities wrong, and the model, and both: what doubly robust means
  5. ask for what was never shown: the log cannot know, and how to notice

Before     09_projects/project8_recommender/ab_test.py
Run        python -m study run recommender/off_policy   (about 7 s on one CPU core, after importing torch)
You see    0.200, estimated as 0.203 ± 0.024 from a log in which 0.109 are watched; estimators.png, overlap.png
Try next   --explore 0.01: a log of a recommender that dares less. First guess which estimators suffer, and how; then look
Theory     notes/en/09_projects.md · notes/ko/09_projects.md
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from project8_recommender.visitors import Town, item_neighbours, make_town, own_taste, popularity, standardise
from utils.lesson import check, run
from utils.plotting import label, save_figure

KOREAN = {
    "where both agree": "둘이 같을 때만",
    "model": "모델만",
    "IPS": "IPS",
    "clipped IPS": "잘라 낸 IPS",
    "SNIPS": "SNIPS",
    "doubly robust": "이중 강건",
}


# %% 1. A log
@dataclass(frozen=True)
class Log:
    """What happened in visits: one film is recommended in each.

    Attributes:
        who: (visits,), the person.
        film: (visits,), the film that was recommended.
        watched: (visits,), 1.0 if it was watched, else 0.0.
        propensity: (visits,), the chance with which that film was recommended to that person. Keep it: later, nobody knows.
    """

    who: Tensor
    film: Tensor
    watched: Tensor
    propensity: Tensor


def policy(scores: Tensor, seen: Tensor, temperature: float, explore: float = 0.0) -> Tensor:
    """The chance with which each unseen film is recommended: (people, films), rows sum to 1.

    Args:
        scores: (people, films). Standardised for each person, then divided by the temperature, and softmax.
        seen: (people, films): never recommended.
        temperature: Near 0 it is always the best one.
        explore: With this chance any unseen film.
    """
    likely = (standardise(scores) / temperature).masked_fill(seen, -torch.inf).softmax(dim=1)
    unseen = (~seen).double()
    return (1 - explore) * likely + explore * unseen / unseen.sum(dim=1, keepdim=True)


def value(town: Town, target: Tensor) -> float:
    """The truth: the share of visits in which the recommended film is watched, everybody coming equally often."""
    return (target * town.chances).sum(dim=1).mean().item()


def keep_log(town: Town, logging: Tensor, visits: int, seed: int) -> Log:
    """Have people come, and recommend by the logging policy (people, films)."""
    generator = torch.Generator().manual_seed(seed)
    who = torch.randint(len(logging), (visits,), generator=generator)
    film = torch.multinomial(logging[who], 1, generator=generator)[:, 0]
    watched = torch.rand(visits, generator=generator, dtype=torch.float64) < town.chances[who, film]
    return Log(who, film, watched.double(), logging[who, film])


# %% 2. Estimators
def click_model(log: Log, features: Tensor, penalty: float = 5.0) -> Tensor:
    """Predict the chance that a film is watched, from two halves of a log: (2, people, films).

    Ridge regression on `features` (people, films, k). Visits of one half are predicted by the model of the other, so that none
    has helped to predict itself (cross-fitting).
    """
    models = []
    for half in (slice(1, None, 2), slice(0, None, 2)):  # model 0, for the visits 0, 2, ..., learns from 1, 3, ...
        x, y = features[log.who[half], log.film[half]], log.watched[half]
        ridge = x.T @ x + penalty * torch.eye(x.shape[1], dtype=x.dtype)
        models.append((features @ torch.linalg.solve(ridge, x.T @ y)).clamp(0, 1))
    return torch.stack(models)


def where_both_agree(log: Log, target: Tensor) -> Tensor:
    """The share watched where the log happens to show what the new recommender likes best: no propensity, and biased."""
    agree = log.film == target.argmax(dim=1)[log.who]
    return log.watched[agree].mean()


def weights_of(log: Log, target: Tensor) -> Tensor:
    """How many times as likely the target policy was to recommend what was recommended: (visits,), 1 on average."""
    return target[log.who, log.film] / log.propensity


def ips(log: Log, target: Tensor, clip: float = math.inf) -> Tensor:
    """Inverse propensity scores (Horvitz & Thompson, 1952): unbiased. Weights above `clip` are cut: less spread, some bias."""
    return (weights_of(log, target).clamp(max=clip) * log.watched).mean()


def snips(log: Log, target: Tensor) -> Tensor:
    """Self-normalised: divided by the mean weight, which ought to be 1 (Swaminathan & Joachims, 2015). Never outside 0 to 1."""
    weights = weights_of(log, target)
    return (weights * log.watched).sum() / weights.sum()


def direct(log: Log, target: Tensor, models: Tensor) -> Tensor:
    """Believe the model (2, people, films): as biased as it is."""
    return (target * models.mean(dim=0))[log.who].sum(dim=1).mean()


def doubly_robust(log: Log, target: Tensor, models: Tensor) -> Tensor:
    """The model's answer, and IPS for what it got wrong: right if the model or the propensities are (Dudík et al., 2011)."""
    which = torch.arange(len(log.who)) % 2  # the model that has not learned from this visit
    predicted = (target[log.who] * models[which, log.who]).sum(dim=1)
    return (predicted + weights_of(log, target) * (log.watched - models[which, log.who, log.film])).mean()


def features_of(town: Town) -> Tensor:
    """What the model knows of a person and a film, (people, films, films + 2): which film it is, how near, and a constant."""
    nearness = standardise(item_neighbours(town))
    people, films = nearness.shape
    which = torch.eye(films, dtype=torch.float64).expand(people, films, films)
    return torch.cat([which, nearness[..., None], torch.ones(people, films, 1, dtype=torch.float64)], dim=2)


def estimate(log: Log, target: Tensor, features: Tensor) -> dict[str, Tensor]:
    """Every estimator on one log."""
    models = click_model(log, features)
    return {
        "where both agree": where_both_agree(log, target),
        "model": direct(log, target, models),
        "IPS": ips(log, target),
        "clipped IPS": ips(log, target, clip=20.0),
        "SNIPS": snips(log, target),
        "doubly robust": doubly_robust(log, target, models),
    }


def compare_estimators(town: Town, logging: Tensor, target: Tensor, visits: int, logs: int, seed: int) -> dict[str, Tensor]:
    """Estimate the target's value from many logs: by name, the estimates (logs,)."""
    features = features_of(town)
    rows = [estimate(keep_log(town, logging, visits, 1000 * seed + k), target, features) for k in range(logs)]
    found = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    truth = value(town, target)
    print(f"2. the new recommender: truth {truth:.4f}     mean    bias  spread    RMSE   ({logs} logs of {visits} visits)")
    for name, values in found.items():
        bias, spread = values.mean().item() - truth, values.std().item()
        print(f"   {name:36} {values.mean():.4f} {bias:+.4f} {spread:.4f}  {math.hypot(bias, spread):.4f}")
    worth = truth * (1 - truth) / found["doubly robust"].var().item()
    print(f"   as exact as doubly robust on {visits} logged visits: a test that shows it in {worth:.0f} visits")
    return found


# %% 3. Moving away
def effective_share(logging: Tensor, target: Tensor) -> float:
    """Of how many of the visits a weighted mean is worth: 1 / E[w²], computed; (Σ w)² / Σ w² over n on a log (Kish)."""
    squares = torch.where(target > 0, target**2 / logging, 0.0)  # where neither shows a film, 0 / 0 is nothing
    return 1 / squares.sum(dim=1).mean().item()


def move_away(
    town: Town, logging: Tensor, temperatures: list[float], visits: int, logs: int, seed: int
) -> dict[float, dict[str, float]]:
    """Sharpen the target step by step: by temperature, its effective share on logs and computed, and the spreads."""
    scores, features, found = own_taste(town), features_of(town), {}
    print("3. temperature   effective share (computed)   spread: IPS   SNIPS   doubly robust")
    for temperature in temperatures:
        target = policy(scores, town.seen, temperature)
        rows, shares = [], []
        for k in range(logs):
            log = keep_log(town, logging, visits, 1000 * seed + k)
            weights, models = weights_of(log, target), click_model(log, features)
            shares.append((weights.sum() ** 2 / weights.square().sum() / visits).item())
            rows.append(torch.stack([ips(log, target), snips(log, target), doubly_robust(log, target, models)]))
        spreads = torch.stack(rows).std(dim=0).tolist()
        computed = effective_share(logging, target)
        found[temperature] = {"share": sum(shares) / logs, "computed": computed}
        found[temperature] |= dict(zip(("IPS", "SNIPS", "doubly robust"), spreads, strict=True))
        told = f"{spreads[0]:15.4f} {spreads[1]:7.4f} {spreads[2]:10.4f}"
        print(f"   {temperature:11g} {found[temperature]['share']:17.3f} {computed:10.3f} {told}")
    return found


# %% 4. Wrong propensities, wrong models
def err_on_purpose(town: Town, logging: Tensor, target: Tensor, visits: int, logs: int, seed: int) -> dict[str, float]:
    """Keep right and wrong propensities, use right and wrong models: the biases of doubly robust and IPS.

    Wrong propensities: in 3 of 10 visits an editor's pick, the most popular unseen film, was shown instead of the recommender's;
    the log has the recommender's propensity all the same. Wrong model: everybody watches everything with the same chance.
    """
    pick = torch.nn.functional.one_hot(popularity(town).masked_fill(town.seen, -1).argmax(dim=1), logging.shape[1])
    shown = 0.7 * logging + 0.3 * pick  # what really decides
    truth, found = value(town, target), {}
    right = town.chances.expand(2, -1, -1)
    models = {"right model": right, "wrong model": torch.full_like(right, 0.1)}
    print("4. bias of doubly robust (its standard error)     right model          wrong model          IPS      mean weight")
    for kind in ("right propensities", "wrong propensities"):
        rows = []
        for k in range(logs):
            log = keep_log(town, shown, visits, 1000 * seed + k)
            if kind == "wrong propensities":
                log = Log(log.who, log.film, log.watched, logging[log.who, log.film])
            robust = [doubly_robust(log, target, model) for model in models.values()]
            rows.append(torch.stack([*robust, ips(log, target), weights_of(log, target).mean()]))
        rows = torch.stack(rows)
        biases, errors = (rows.mean(dim=0) - truth).tolist(), (rows.std(dim=0) / math.sqrt(logs)).tolist()
        found |= {f"{kind}, {name}": bias for name, bias in zip((*models, "IPS"), biases, strict=False)}
        found |= {f"{kind}, error": errors[2], f"{kind}, mean weight": rows[:, 3].mean().item()}
        told = "   ".join(f"{bias:+.4f} ({error:.4f})" for bias, error in zip(biases[:3], errors[:3], strict=True))
        print(f"   {kind:42} {told}  {rows[:, 3].mean():.3f}")
    return found


# %% 5. What was never shown
def without_support(town: Town, target: Tensor, kept: int, visits: int, logs: int, seed: int) -> dict[str, float]:
    """Log a recommender that never shows any but each person's `kept` most popular films; estimate one that does."""
    scores = popularity(town).masked_fill(town.seen, -torch.inf)
    shown = torch.zeros_like(town.seen).scatter(1, scores.topk(kept, dim=1).indices, True)
    logging = policy(popularity(town), ~shown, 0.7)
    truth, missing = value(town, target), (target * ~shown).sum(dim=1).mean().item()
    rows = []
    for k in range(logs):
        log = keep_log(town, logging, visits, 1000 * seed + k)
        rows.append(torch.stack([ips(log, target), snips(log, target), weights_of(log, target).mean()]))
    means = torch.stack(rows).mean(dim=0).tolist()
    found = {"truth": truth, "missing": missing, "ips": means[0], "snips": means[1], "mean_weight": means[2]}
    found["expected_ips"] = (target * town.chances * shown).sum(dim=1).mean().item()
    print(f"5. {kept} films shown to each person: {missing:.1%} of what the new one recommends was never tried on that person.")
    print(
        f"   IPS {means[0]:.4f}, SNIPS {means[1]:.4f}, truth {truth:.4f}. Mean weight {means[2]:.3f}: it lacks that share of 1;"
    )
    print(f"   and all that the log says of the truth is that it lies from {means[0]:.3f} to {means[0] + missing:.3f}")
    return found


def meet_error(log: Log, target: Tensor) -> str:
    """Look the propensities up the wrong way round; return PyTorch's answer."""
    try:
        target[log.film, log.who]
    except IndexError as error:
        message = str(error)
    print(f'   "{message}"')
    print("   read: a person's number stands where a film's belongs. With fewer people than films there would be no message")
    return message


def draw_figures(found: dict[str, Tensor], truth: float, moved: dict[float, dict[str, float]]) -> None:
    """Draw the estimates of every estimator, and what moving away costs."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
    for row, values in enumerate(found.values()):
        low, middle, high = torch.quantile(values, torch.tensor([0.05, 0.5, 0.95], dtype=values.dtype)).tolist()
        axis.plot([low, high], [row, row], color="C0", linewidth=3)  # nine in ten of the logs
        axis.plot(middle, row, "o", color="C0")
    axis.set_yticks(range(len(found)), [label(name, KOREAN[name]) for name in found])
    axis.invert_yaxis()
    axis.axvline(truth, color="C1", linestyle="--", label=label("truth", "참값"))
    axis.set_xlabel(label("estimated share watched", "추정한 시청 비율"))
    axis.legend()
    save_figure(figure, __file__, "estimators")

    figure, axis = plt.subplots(figsize=(7, 3.8), layout="constrained")
    shares = [row["computed"] for row in moved.values()]
    for name, style in (("IPS", "o-"), ("SNIPS", "s--"), ("doubly robust", "^:")):
        axis.plot(shares, [row[name] for row in moved.values()], style, label=label(name, KOREAN[name]))
    axis.set(xlabel=label("effective share of the visits", "유효 표본의 비율"), ylabel=label("spread", "표준편차"))
    axis.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axis.legend()
    save_figure(figure, __file__, "overlap")


# %% All of it, in order
def main(visits: int = 4000, temperature: float = 0.3, explore: float = 0.1, logs: int = 200, seed: int = 0) -> dict[str, float]:
    """Estimate a recommender from another one's log, and hold it against the truth.

    Args:
        visits: In a log.
        temperature: Of the new recommender: near 0 it always shows the best film of its neighbours.
        explore: How often the old one shows any film.
        logs: Simulated logs.
        seed: Of the town and of the visits.
    """
    check(200 <= visits <= 100_000, f"--visits {visits}: needed are 200 to 100000")
    check(temperature > 0, f"--temperature {temperature}: has to be above 0")
    check(0 < explore <= 1, f"--explore {explore}: above 0 and at most 1; what is never shown cannot be known (section 5)")
    check(logs >= 20, f"--logs {logs}: at least 20, or bias and spread say nothing")
    town = make_town(2000, films=40, taste=1.5, seed=seed)
    logging = policy(popularity(town), town.seen, 0.7, explore)
    target = policy(own_taste(town), town.seen, temperature)
    truth, old = value(town, target), value(town, logging)
    print(f"1. of the films shown by the old recommender {old:.4f} are watched; the truth of the new one is {truth:.4f}")
    found = compare_estimators(town, logging, target, visits, logs, 4 * seed)
    moved = move_away(town, logging, [2.0, 1.0, 0.5, 0.3, 0.1], visits, logs // 4, 4 * seed + 1)
    erred = err_on_purpose(town, logging, target, visits, logs // 2, 4 * seed + 2)
    missed = without_support(town, target, 10, visits, logs // 4, 4 * seed + 3)
    meet_error(keep_log(town, logging, visits, seed), target)
    draw_figures(found, truth, moved)

    results = {"truth": truth, "value_logging": old}
    for name, values in found.items():
        key = name.lower().replace(" ", "_")
        results |= {f"bias_{key}": values.mean().item() - truth, f"spread_{key}": values.std().item()}
    sharpest, softest = moved[min(moved)], moved[max(moved)]
    results |= {"effective_share_soft": softest["share"], "effective_share_sharp": sharpest["share"]}
    results |= {"spread_growth_ips": sharpest["IPS"] / softest["IPS"]}
    results |= {f"bias_{name.replace(', ', '_').replace(' ', '_')}": bias for name, bias in erred.items() if "model" in name}
    results |= {"missing_support": missed["missing"], "mean_weight_without_support": missed["mean_weight"]}
    check(abs(results["bias_ips"]) < 4 * results["spread_ips"] / math.sqrt(logs), "IPS with the right propensities is biased")
    check(results["spread_doubly_robust"] < results["spread_ips"], "the model has not helped")
    return results


if __name__ == "__main__":
    run(main)
