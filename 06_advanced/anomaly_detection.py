"""Anomaly detection · 이상 탐지

An autoencoder that saw normal pictures only restores others badly; its error is a score of how strange they are. How good that
is, one number tells without a threshold: how often a strange picture scores above a normal one. It has to be held against simple
scores, and it fails where the strange is simple, or looks like the normal.
정상 그림만 본 오토인코더는 다른 그림을 잘 되살리지 못한다. 그 오차가 낯선 정도를 재는 점수다. 점수가 얼마나 좋은지는 문턱값 없이
수 하나로 잰다. 낯선 그림이 정상 그림보다 점수가 높을 확률이다. 단순한 점수들과 견주어 보아야 하고, 낯선 것이 단순하거나
정상을 닮았으면 실패한다.

You will
  1. compute AUROC in two ways, by sorting and by comparing pairs, equal to scikit-learn's, ties included
  2. meet the error everyone meets: a loss that is one number when a score for each picture was meant
  3. leave out each digit in turn, and score it: autoencoder, PCA, distance to the mean, nearest neighbour
  4. choose a threshold on validation pictures, and see what it keeps where other people write
  5. score things that are no digits: drawings, digits on their heads, inverted and empty ones

Before     06_advanced/autoencoder.py
Run        python -m study run anomaly_detection   (about 17 s on one CPU core, after importing torch)
You see    AUROC, mean of ten digits: autoencoder 0.83, PCA 0.85, distance to the mean 0.61, nearest neighbour 0.96; roc.png
Try next   --width 64 --digits 2 5 8: a wider code. First guess which of the scores gain by it, and which lose, then look
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Images, Source, hold_out, mnist
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

METHODS = {"autoencoder": "오토인코더", "PCA": "PCA", "mean": "평균까지의 거리", "neighbour": "가장 가까운 이웃"}


# %% 1. AUROC
def roc(normal: Tensor, strange: Tensor) -> tuple[Tensor, Tensor]:
    """Return false and true alarms, shares of `normal` (n,) and `strange` (m,) scores at or above each threshold, falling."""
    thresholds = torch.cat([normal, strange]).unique().flip(0)  # equal scores are one threshold: nothing lies between them
    alarms = [(scores >= thresholds[:, None]).double().mean(dim=1) for scores in (normal, strange)]
    return torch.cat([torch.zeros(1), alarms[0]]), torch.cat([torch.zeros(1), alarms[1]])


def auroc(normal: Tensor, strange: Tensor) -> float:
    """The area under that curve: how often a strange score is above a normal one, a tie counting half. 0.5 is chance."""
    ranks = torch.cat([normal, strange]).double()
    _, inverse, counts = ranks.unique(return_inverse=True, return_counts=True)
    counts = counts.double()
    middle = counts.cumsum(0) - (counts - 1) / 2  # the mean rank, from 1, of all that are equal
    above = middle[inverse][len(normal) :].sum() - len(strange) * (len(strange) + 1) / 2  # Mann and Whitney's U
    return (above / (len(normal) * len(strange))).item()


def compare_auroc(seed: int) -> float:
    """Return how far our area is from the curve's, from counting pairs and from scikit-learn's, at most; with many ties."""
    from sklearn.metrics import roc_auc_score, roc_curve

    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(300, generator=generator).mul(3).round()
    strange = torch.randn(40, generator=generator).add(1).mul(3).round()
    scores, truth = torch.cat([normal, strange]), torch.cat([torch.zeros(300), torch.ones(40)])
    pairs = strange[:, None] - normal
    false, true = roc(normal, strange)
    others = [((pairs > 0).double() + (pairs == 0).double() / 2).mean().item(), torch.trapezoid(true, false).item()]
    others.append(roc_auc_score(truth, scores))
    theirs = roc_curve(truth, scores, drop_intermediate=False)
    difference = max(abs(auroc(normal, strange) - other) for other in others)
    difference = max(difference, (true - torch.from_numpy(theirs[1])).abs().max().item())
    print(f"1. AUROC {others[0]:.4f}: by ranks, pairs, the curve's area and scikit-learn equal within {difference:.0e}")
    return difference


# %% 2. Scores
class Autoencoder(nn.Module):
    """Pictures (n, 1, 28, 28) in 0..1 → codes (n, width) → pictures (n, 1, 28, 28) in 0..1."""

    def __init__(self, width: int, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(784, 256), nn.ELU(), nn.Linear(256, 128), nn.ELU(), nn.Linear(128, width)
        )
        self.decoder = nn.Sequential(
            nn.Linear(width, 128), nn.ELU(), nn.Linear(128, 256), nn.ELU(), nn.Linear(256, 784), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x)).view_as(x)


def train(model: Autoencoder, images: Tensor, steps: int, lr: float, seed: int) -> list[float]:
    """Take steps of AdamW on 64 pictures each, of images (n, 1, 28, 28) in 0..1; return the losses."""
    generator, losses = torch.Generator().manual_seed(seed), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        x = images[torch.randint(len(images), (64,), generator=generator).to(images.device)]
        loss = F.mse_loss(model(x), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


class Scorer:
    """Four scores of strangeness, all learned from normal pictures (n, 1, 28, 28) alone."""

    def __init__(self, normal: Tensor, width: int, steps: int, lr: float, seed: int):
        self.model = Autoencoder(width, seed).to(normal.device)
        self.losses = train(self.model, normal, steps, lr, seed)
        self.learned = normal[:5000]  # enough for PCA; the nearest neighbour would gain by more, at a price
        self.memory = self.learned.flatten(1)
        self.mean = self.memory.mean(dim=0)
        self.axes = torch.linalg.svd(self.memory - self.mean, full_matrices=False).Vh[:width]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Scores (n,) on the CPU of images (n, 1, 28, 28) by method; the higher, the stranger."""
        flat = images.flatten(1)
        centred = flat - self.mean
        found = {"autoencoder": (self.model(images).flatten(1) - flat).square().mean(dim=1)}
        found["PCA"] = (centred - centred @ self.axes.T @ self.axes).square().mean(dim=1)
        found["mean"] = centred.square().mean(dim=1)
        found["neighbour"] = torch.cat([torch.cdist(part, self.memory).amin(dim=1) for part in flat.split(500)])
        return {name: scores.cpu() for name, scores in found.items()}


def meet_error(images: Tensor) -> str:
    """Ask a loss for the scores of three of the pictures (n, 1, 28, 28); return PyTorch's answer."""
    scores = F.mse_loss(torch.zeros_like(images), images)
    try:
        return str(scores[:3])
    except IndexError as error:
        print(f'2. "{error}"\n   read: mse_loss made one number of all pictures: reduction="none", then .flatten(1).mean(dim=1)')
        return str(error)


# %% 3. Every digit in turn
def pixels(data: Images, device) -> Tensor:
    """Pictures (n, 1, 28, 28) in 0..1."""
    return data.images.float().to(device) / 255


# %% 4. A threshold
def choose_threshold(scores: Tensor, alarms: float) -> float:
    """The score that this share of normal validation pictures reaches or exceeds."""
    return torch.quantile(scores, 1 - alarms).item()


def report_threshold(scorer: Scorer, held: dict[str, Tensor], normal: Tensor, strange: Tensor, alarms: float) -> dict[str, float]:
    """Choose thresholds on normal pictures held out in several ways; return the alarms on new pictures with each."""
    found, new = {}, {"false": scorer(normal)["autoencoder"], "true": scorer(strange)["autoencoder"]}
    for name, pictures in held.items():
        threshold = choose_threshold(scorer(pictures)["autoencoder"], alarms)
        found |= {f"{kind}_alarms_{name}": (scores >= threshold).float().mean().item() for kind, scores in new.items()}
        false, true = found[f"false_alarms_{name}"], found[f"true_alarms_{name}"]
        print(
            f"4. threshold for {alarms:.0%} from {name:6} held-out pictures: {false:.1%} false alarms, {true:.0%} of the strange"
        )
    return found


# %% 5. No digits at all
def other_things(digits: Tensor, seed: int) -> dict[str, Tensor]:
    """Pictures that are no digits, drawn or made of digits (n, 1, 28, 28) in 0..1; as many of each."""
    from utils.datasets import picture_book

    book = picture_book.load(train=10, test=len(digits))[1].images.float().mean(dim=1, keepdim=True).to(digits.device) / 255
    order = torch.randperm(784, generator=torch.Generator().manual_seed(seed)).to(digits.device)
    others = {"picture book": F.interpolate(book, size=28, mode="area"), "inverted": 1 - digits, "on its head": digits.flip(2)}
    others["shuffled pixels"] = digits.flatten(1)[:, order].view_as(digits)
    return others | {"half as dark": digits / 2, "empty": torch.zeros_like(digits)}


# %% All of it, in order
def draw(curves: dict[str, tuple[Tensor, Tensor]], table: dict[int, dict[str, float]], digit: int) -> None:
    """Draw the ROC curves for one digit, and the areas for all of them."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for i, (name, (false, true)) in enumerate(curves.items()):
        left.plot(false, true, label=label(name, METHODS[name]))
        places = [n + 0.2 * i - 0.3 for n in range(len(table))]
        right.bar(places, [areas[name] for areas in table.values()], 0.2)
    left.plot([0, 1], [0, 1], ":", color="grey")
    left.set(xlabel=label("false alarms", "거짓 경보"), ylabel=label("true alarms", "참 경보"))
    left.set_title(label(f"strange: {digit}", f"낯선 것: {digit}"))
    left.legend()
    right.axhline(0.5, color="grey", linestyle=":")
    right.set(xticks=range(len(table)), xticklabels=list(table), ylim=(0, 1), ylabel="AUROC")
    right.set_xlabel(label("digit left out", "빼 둔 숫자"))
    save_figure(figure, __file__, "roc")


def main(
    digits: tuple[int, ...] = tuple(range(10)), width: int = 8, steps: int = 250, lr: float = 0.003, alarms: float = 0.05,
    source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Tell strange pictures from normal ones, by what an autoencoder cannot restore, and by simpler scores.

    Args:
        digits: The classes to leave out, one after the other.
        width: Numbers in a code, and axes of PCA.
        steps: Steps of each training, on 64 pictures each.
        lr: The highest learning rate.
        alarms: Share of normal pictures that the threshold may take for strange.
        source: Pictures from: auto (MNIST if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: Of everything random.
    """
    check(len(digits) > 0 and all(0 <= digit <= 9 for digit in digits), f"--digits {digits}: needed are some of 0 to 9")
    check(0 < width < 128 and steps > 0 and 0 < alarms < 1, "needed: --width 1 to 127, --steps 1, --alarms between 0 and 1")
    where, data = pick_device(device), mnist(source)
    tenth, test = len(data.train) // 10, data.test[:2000]
    learned, others = hold_out(data.train[:-tenth], tenth, seed)
    held = {"random": others[:2000], "later": data.train[-tenth:][:2000]}  # the sample is in order: later is by other people
    results = {"auroc_difference": compare_auroc(seed)}
    meet_error(pixels(test, where))
    print("3. AUROC by the digit left out:\n   " + " " * 6 + "".join(f"{name:>13}" for name in METHODS))
    table = {}
    for digit in digits:
        scorer = Scorer(pixels(learned[learned.labels != digit], where), width, steps, lr, seed)
        normal, strange = (pixels(test[one], where) for one in (test.labels != digit, test.labels == digit))
        usual, unusual = scorer(normal), scorer(strange)
        table[digit] = {name: auroc(usual[name], unusual[name]) for name in METHODS}
        print(f"   {digit:6}" + "".join(f"{area:13.3f}" for area in table[digit].values()))
    curves = {name: roc(usual[name], unusual[name]) for name in METHODS}
    for name in METHODS:
        results[f"auroc_{name}"] = sum(areas[name] for areas in table.values()) / len(table)
    results["lowest"] = min(areas["autoencoder"] for areas in table.values())
    print("   mean  " + "".join(f"{results[f'auroc_{name}']:13.3f}" for name in METHODS))
    kept = {name: pixels(part[part.labels != digit], where) for name, part in held.items()}
    results |= report_threshold(scorer, kept, normal, strange, alarms)
    print("5. AUROC of what is no digit:")
    for kind, x in other_things(normal, seed).items():
        scores = scorer(x)
        areas = {name: auroc(usual[name], scores[name]) for name in METHODS}
        results[kind.replace(" ", "_")] = areas["autoencoder"]
        print(f"   {kind:16}" + ", ".join(f"{name} {area:.3f}" for name, area in areas.items()))
    draw(curves, table, digit)
    best = max(0.5, results["auroc_mean"])
    check(results["auroc_autoencoder"] > best + 0.03, f"AUROC {results['auroc_autoencoder']:.2f} is no better: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
