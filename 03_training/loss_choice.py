"""Choosing a loss · 손실 고르기

The loss says what counts as wrong, so it decides what the network becomes good at. Three times the usual choice is the wrong one:
targets with gross errors, a class that is rare, and probabilities that somebody will take at their word.
손실은 무엇을 틀렸다고 볼지 정하므로, 신경망이 무엇을 잘하게 될지도 손실이 정한다. 늘 쓰던 손실이 맞지 않는 경우를 세 가지 본다.
목푯값에 터무니없는 오류가 섞였을 때, 한 클래스가 드물 때, 확률을 말 그대로 믿고 쓸 때다.

You will
  1. train on real patients, some of whose records have a digit too many: MSE, MAE, Huber
  2. find digits of which only one in five was kept: accuracy says nothing, recall, precision and average precision do
  3. compare plain BCE, weighted BCE, focal loss, and plain BCE with another threshold
  4. meet the error everyone meets with yes and no
  5. ask of a network that is 95 % sure whether it is right 95 times in 100: label smoothing, expected calibration error

Before     03_training/loss_functions.py
Run        python -m study run loss_choice         (about 18 s on one CPU core, after importing torch)
You see    one target in ten mistyped: MSE off by 146, Huber by 47; F1 of rare digits 0.69 by BCE, 0.75 by focal; choice.png
Try next   --steps 2000, so that every loss has time to finish. First guess which differences of section 3 are left; then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Source, mnist
from utils.lesson import check, mention, run
from utils.plotting import label, save_figure

Found = dict[str, Tensor]  # what each loss achieved: (seeds, metrics)


def minimize(model: nn.Module, mean_loss: Callable[[], Tensor], steps: int, lr: float) -> None:
    """Train the model by Adam, so that mean_loss() becomes smaller."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        mean_loss().backward()
        optimizer.step()


# %% 1. Targets with gross errors
def fit_with_outliers(share: float, steps: int, seeds: int) -> Found:
    """Fit lines to patients, with slips in the training targets only; return the mean absolute error on 100 others, clean."""
    from sklearn.datasets import load_diabetes

    patients = load_diabetes(scaled=False)
    mention("data", "diabetes (scikit-learn): 442 real patients, 10 features")
    features, target = torch.from_numpy(patients.data).float(), torch.from_numpy(patients.target).float()
    losses = {"MSE": F.mse_loss, "MAE": F.l1_loss, "Huber": F.huber_loss}
    errors = {name: [] for name in (*losses, "median")}
    for seed in range(seeds):
        torch.manual_seed(seed)
        train, test = torch.randperm(len(target)).split([342, 100])
        x = (features - features[train].mean(dim=0)) / features[train].std(dim=0)
        y = torch.where(torch.rand(342) < share, 10, 1) * target[train]  # somebody has typed a digit too many
        middle = y.median()
        spread = (y - middle).abs().median()  # unlike mean and standard deviation, slips hardly move these two
        for name, loss in losses.items():
            line = nn.Linear(10, 1)
            minimize(line, lambda: loss(line(x[train]).squeeze(1), (y - middle) / spread), steps, lr=0.05)  # noqa: B023
            prediction = line(x[test]).detach().squeeze(1) * spread + middle
            errors[name].append((prediction - target[test]).abs().mean())
        errors["median"].append((middle - target[test]).abs().mean())
    return {name: torch.stack(values) for name, values in errors.items()}


# %% 2. A rare class
def pictures(source: Source) -> tuple[tuple[Tensor, Tensor], ...]:
    """Return training, validation and test digits, each as pixels (n, 196) in [0, 1] and labels (n,)."""
    data = mnist(source)
    parts = data.train[:-400], data.train[-400:], data.test
    return tuple((F.avg_pool2d(part.images / 255, 2).flatten(1), part.labels) for part in parts)


def make_rare(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Turn labels (n,) into answers (n, 10) to "is it a 0?", ..., "is it a 9?", and choose (n, 10) every no, one yes in five."""
    answers = F.one_hot(labels, 10).float()
    return answers, 1 - answers * (torch.rand(answers.shape) >= 0.2).float()


def measure(logits: Tensor, answers: Tensor, kept: Tensor, threshold: float = 0.0) -> list[float]:
    """Return accuracy, recall, precision and F1 of all kept answers (n, 10), when a logit above the threshold says yes."""
    yes = (logits > threshold).float()
    found, missed, wrong = ((part * kept).sum().item() for part in (yes * answers, (1 - yes) * answers, yes * (1 - answers)))
    accuracy = 1 - (missed + wrong) / kept.sum().item()
    return [accuracy, found / (found + missed), found / max(found + wrong, 1), 2 * found / (2 * found + missed + wrong)]


def average_precision(logits: Tensor, answers: Tensor, kept: Tensor) -> float:
    """Return the mean over ten questions of the precision that the ranking of the logits gives, whatever the threshold."""
    from sklearn.metrics import average_precision_score

    questions = [(answers[kept[:, i] > 0, i], logits[kept[:, i] > 0, i]) for i in range(10)]
    return sum(average_precision_score(*question) for question in questions) / 10


def find_rare(data: tuple, steps: int, seeds: int) -> Found:
    """Train ten linear detectors side by side with each loss; return `measure` and average precision on test."""
    from torchvision.ops import sigmoid_focal_loss

    (images, labels), (images_validation, labels_validation), (images_test, labels_test) = data
    found = {name: [] for name in ("never yes", "BCE", "BCE, weighted", "focal", "BCE, threshold")}
    for seed in range(seeds):
        torch.manual_seed(seed)
        chosen = torch.randperm(len(labels))[:1000]
        x, (answers, kept) = images[chosen], make_rare(labels[chosen])
        asked_validation, asked = make_rare(labels_validation), make_rare(labels_test)
        ratio = (1 - answers).sum(dim=0) / (answers * kept).sum(dim=0)  # (10,) how many no there are for one yes, about 45
        losses = {
            "BCE": partial(F.binary_cross_entropy_with_logits, reduction="none"),
            "BCE, weighted": partial(F.binary_cross_entropy_with_logits, reduction="none", pos_weight=ratio),
            "focal": partial(sigmoid_focal_loss, alpha=-1, gamma=2),  # alpha below 0: yes and no count alike
        }
        found["never yes"].append([*measure(asked[0] - 2, *asked), average_precision(0 * asked[0], *asked)])
        for name, loss in losses.items():
            detectors = nn.Linear(196, 10)
            minimize(detectors, lambda: (loss(detectors(x), answers) * kept).sum() / len(x), steps, lr=0.03)  # noqa: B023
            with torch.no_grad():
                logits_validation, logits = detectors(images_validation), detectors(images_test)
            found[name].append([*measure(logits, *asked), average_precision(logits, *asked)])
            if name == "BCE":
                thresholds = [k / 4 for k in range(-24, 9)]
                best = max(thresholds, key=lambda t: measure(logits_validation, *asked_validation, t)[3])  # F1 on validation
                found["BCE, threshold"].append([*measure(logits, *asked, best), average_precision(logits, *asked)])
    print("2. ten digits, one in five kept     accuracy  recall  precision     F1  average precision")
    for name, rows in found.items():
        print("   {:33} {:8.3f} {:7.3f} {:10.3f} {:6.3f} {:18.3f}".format(name, *torch.tensor(rows).mean(dim=0)))
    return {name: torch.tensor(rows) for name, rows in found.items()}


# %% 3. The error everyone meets with yes and no
def meet_error() -> str:
    """Hand over answers as whole numbers, as labels are; return PyTorch's answer."""
    try:
        F.binary_cross_entropy_with_logits(torch.zeros(3), torch.tensor([0, 1, 1]))
    except RuntimeError as error:
        message = str(error)
    print(f'3. "{message}"')
    print("   read: the answers must be floating-point numbers, since they may be probabilities; answers.float() makes them so")
    return message


# %% 4. Probabilities that are meant
def reliability(probabilities: Tensor, labels: Tensor, bins: int = 10) -> Tensor:
    """Sort predictions by their confidence, the largest probability, for probabilities (n, classes) and labels (n,).

    Returns:
        (3, bins): how many predictions each bin holds, the sum of their confidences, how many of them are right.
    """
    confidence, predicted = probabilities.max(dim=1)
    member = F.one_hot((confidence * bins).long().clamp(max=bins - 1), bins).float()  # (n, bins)
    return torch.stack([torch.ones_like(confidence), confidence, (predicted == labels).float()]) @ member


def calibration_error(table: Tensor) -> float:
    """Expected calibration error: how far confidence and accuracy are apart, averaged over all predictions."""
    count, confidence, right = table
    return ((confidence - right).abs().sum() / count.sum()).item()


def calibrate(data: tuple, steps: int, seeds: int) -> tuple[Found, dict[str, Tensor]]:
    """Train on 200 digits with label smoothing; return calibration error, accuracy, loss (seeds, 3) on test, and tables."""
    (images, labels), (images_validation, labels_validation), (images_test, labels_test) = data
    found, tables = {name: [] for name in ("0.0", "0.02", "0.05", "0.1", "chosen")}, {}
    for seed in range(seeds):
        chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:200]
        tried = []
        for smoothing in (0.0, 0.02, 0.05, 0.1):
            torch.manual_seed(seed)  # the same initial weights for each amount
            network = nn.Sequential(nn.Linear(196, 32), nn.ReLU(), nn.Linear(32, 10))
            loss = nn.CrossEntropyLoss(label_smoothing=smoothing)
            minimize(network, lambda: loss(network(images[chosen]), labels[chosen]), steps, lr=0.01)  # noqa: B023
            with torch.no_grad():
                validation_loss = F.cross_entropy(network(images_validation), labels_validation).item()
                logits = network(images_test)
            table, loss_test = reliability(logits.softmax(dim=1), labels_test), F.cross_entropy(logits, labels_test).item()
            metrics = [calibration_error(table), table[2].sum().item() / len(logits), loss_test]
            tried.append((validation_loss, smoothing, metrics, table))
        for name, (_, _, metrics, table) in zip(found, [*tried, min(tried)], strict=True):  # min: by the loss on validation
            found[name].append(metrics)
            tables[name] = tables.get(name, 0) + table
    print("4. label smoothing   calibration error  accuracy   loss")
    for name, rows in found.items():
        print("   {:15} {:19.3f} {:9.3f} {:6.3f}".format(name, *torch.tensor(rows).mean(dim=0)))
    return {name: torch.tensor(rows) for name, rows in found.items()}, tables


def draw_figure(outliers: dict[float, Found], rare: Found, tables: dict[str, Tensor]) -> None:
    """Draw the error against the share of slips, recall against precision, and confidence against accuracy."""
    import matplotlib.pyplot as plt

    figure, (lines, points, diagram) = plt.subplots(1, 3, figsize=(14, 4.5), layout="constrained")
    for name in outliers[0.0]:
        errors = torch.stack([found[name] for found in outliers.values()])  # (shares, seeds)
        lines.errorbar([100 * share for share in outliers], errors.mean(dim=1), errors.std(dim=1), capsize=3, label=name)
    title = label("mean absolute error on clean patients", "오류 없는 환자에서의 평균 절대 오차")
    lines.set(xlabel=label("targets with a digit too many, %", "자릿수를 하나 더 친 목푯값, %"), ylim=(0, None), title=title)
    for name in list(rare)[1:]:
        points.scatter(rare[name][:, 1], rare[name][:, 2], label=name)
    title = label("a rare class: a point for each seed", "드문 클래스: 점 하나가 시드 하나")
    points.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision", title=title)
    diagram.plot([0, 1], [0, 1], color="grey", linewidth=1)
    for name in ("0.0", "chosen"):
        count, confidence, right = tables[name][:, tables[name][0] >= 10]  # a handful says nothing
        diagram.plot(confidence / count, right / count, "o-", label=f"label smoothing: {name}")
    title = label("right as often as it is sure?", "확신한 만큼 맞히는가?")
    diagram.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", title=title)
    for axis in (lines, points, diagram):
        axis.legend(loc="best")
    save_figure(figure, __file__, "choice")


# %% All of it, in order
def main(steps: int = 300, seeds: int = 5, source: Source = "auto") -> dict[str, float]:
    """Compare losses where the choice matters: gross errors in the targets, a rare class, probabilities that are meant.

    Args:
        steps: Optimizer steps of every training.
        seeds: How many times everything is repeated, with other examples and other initial weights.
        source: Where the digits come from: the real MNIST, the sample, or whichever is there.
    """
    check(steps > 0 and seeds > 1, f"--steps {steps} --seeds {seeds}: at least one step and two seeds, for a spread")
    outliers = {share: fit_with_outliers(share, steps, seeds) for share in (0.0, 0.05, 0.1)}
    for share, found in outliers.items():
        told = ", ".join(f"{name} {errors.mean():.1f} ± {errors.std():.1f}" for name, errors in found.items())
        print(f"{'  ' if share else '1.'} {share:4.0%} of the targets ten times too large, off by: {told}")
    data = pictures(source)
    rare = find_rare(data, steps, seeds)
    meet_error()
    smoothed, tables = calibrate(data, steps, seeds)
    draw_figure(outliers, rare, tables)
    huber, median = outliers[0.1]["Huber"].mean(), outliers[0.1]["median"].mean()
    check(huber < 0.85 * median, f"Huber's line is off by {huber:.1f}, and the median alone by {median:.1f}: more --steps?")
    f1, share = rare["focal"][:, 3].mean().item(), rare["never yes"][:, 4].mean().item()
    always = 2 * share / (1 + share)  # the F1 of saying yes to everything; never saying it has 0
    check(f1 > always + 0.3, f"the focal detectors have an F1 of {f1:.2f}, saying yes to everything {always:.2f}: more --steps?")
    results = {f"error_{name}": found.mean().item() for name, found in outliers[0.1].items()} | {"f1_always_yes": always}
    for name, metrics in rare.items():
        results[f"recall {name}"], results[f"f1 {name}"] = metrics[:, 1].mean().item(), metrics[:, 3].mean().item()
    results |= {f"calibration error {name}": metrics[:, 0].mean().item() for name, metrics in smoothed.items()}
    return {name.replace(", ", "_").replace(" ", "_"): value for name, value in results.items()}


if __name__ == "__main__":
    run(main)
