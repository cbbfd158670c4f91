"""Confusion and calibration · 혼동과 보정

One number, the accuracy, hides which classes are taken for which, and whether an answer deserves its certainty. Both can be
counted on pictures that the network has not learned; and too much certainty, the usual case, is mended by a single number.
정확도 하나로는 어떤 클래스를 어떤 클래스로 잘못 보는지, 자신 있는 답이 그만큼 믿을 만한지 알 수 없다. 둘 다 학습에 쓰지 않은
이미지로 세어 볼 수 있다. 그리고 흔한 경우인 지나친 확신은 수 하나로 고칠 수 있다.

You will
  1. train a few networks on the same pictures, again and again, until they are surer than they should be
  2. count confusions, precision and recall by hand, equal to scikit-learn's
  3. measure calibration, and how much of its error chance alone would make
  4. fit a temperature: the answers stay, their certainty comes right; and meet the error everyone meets with L-BFGS
  5. make the mistake that no message tells: fitting it on training pictures

Before     04_cnn/image_classification.py
Run        python -m study run calibration         (about 40 s on one CPU core, after importing torch)
You see    calibration error 0.13 before, 0.065 after, 0.40 with the wrong pictures; answers.png
Try next   --examples 4000: pictures enough. First guess the temperature, and whether it still helps; then look
Theory     notes/en/04_cnn.md · notes/ko/04_cnn.md
Practise   python -m study check 04
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Images, Source, cifar10, hold_out, mnist, nearest_mean_accuracy
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

Answers = tuple[Tensor, Tensor]  # logits (n, 10), labels (n,)


# %% 1. Networks that have seen the same pictures again and again
def build(channels: int) -> nn.Sequential:
    """Build four convolutions with batch norm, a mean over all places, and a linear classifier."""

    def block(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    first, second = block(channels, 32, stride=2) + block(32, 32), block(32, 64) + block(64, 64)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]  # (batch, 64, 8, 8) → (batch, 64) → (batch, 10)
    return nn.Sequential(*first, nn.MaxPool2d(2), *second, *head)


def prepare(images: Tensor) -> Tensor:
    """Turn bytes (n, channels, height, width) into numbers around 0: each picture less its mean, by its standard deviation."""
    std, mean = torch.std_mean(images.float(), dim=(1, 2, 3), keepdim=True)
    return (images - mean) / std.clamp_min(1)


def train(known: Images, images: int, lr: float, seed: int) -> nn.Module:
    """Show a new network `images` pictures drawn from `known`; return it in eval mode."""
    torch.manual_seed(seed)  # for weights and batches
    network, steps = build(known.images.shape[1]).to(known.images.device), images // 32
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        batch = torch.randint(len(known), (32,)).to(known.images.device)
        loss = F.cross_entropy(network(prepare(known.images[batch])), known.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def answer(network: nn.Module, data: Images) -> Tensor:
    """Return the logits (n, 10) of all pictures, on the CPU."""
    return torch.cat([network(prepare(images)).cpu() for images in data.images.split(250)])


# %% 2. What is taken for what
def confusion_matrix(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Count: row i, column j is how many pictures of class i were taken for class j."""
    return torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)


def precision_recall(confusion: Tensor) -> tuple[Tensor, Tensor]:
    """Return, by class, which share of what was called so is so, and which share of what is so was called so."""
    right = confusion.diagonal().double()
    return right / confusion.sum(dim=0).clamp_min(1), right / confusion.sum(dim=1).clamp_min(1)  # 0 where there is none


def compare_with_sklearn(predicted: Tensor, labels: Tensor, names: list[str]) -> tuple[Tensor, float]:
    """Return the confusion matrix, and how far it and precision and recall are from scikit-learn's."""
    from sklearn import metrics

    confusion, classes = confusion_matrix(predicted, labels, len(names)), range(len(names))
    theirs = metrics.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)[:2]
    pairs = [(confusion, metrics.confusion_matrix(labels, predicted, labels=classes))]
    pairs += zip(precision_recall(confusion), theirs, strict=True)
    difference = max((ours - torch.from_numpy(theirs)).abs().max().item() for ours, theirs in pairs)
    (precision, recall), wrong = precision_recall(confusion), confusion - confusion.diag().diag()
    (i, j), worst = divmod(wrong.argmax().item(), len(names)), recall.argmin().item()
    print(f"2. {wrong[i, j]} of {confusion[i].sum()} {names[i]} taken for {names[j]}; scikit-learn differs by {difference:g}")
    print(f"   hardest: {names[worst]}, recall {recall[worst]:.3f}, precision {precision[worst]:.3f}")
    return confusion, difference


# %% 3. Is it as sure as it should be?
def reliability(confidence: Tensor, right: Tensor, bins: int = 15) -> tuple[Tensor, Tensor, Tensor]:
    """Sort answers by confidence into bins of equal width; return of each: how many, mean confidence, share right."""
    which = (confidence * bins).long().clamp_max(bins - 1)  # (n,): [0, 1/15) is bin 0, and 1 itself belongs to the last
    counts, sure, hits = (
        torch.zeros(bins, dtype=torch.float64).index_add_(0, which, values.double())
        for values in (torch.ones_like(confidence), confidence, right)
    )
    return counts, sure / counts.clamp_min(1), hits / counts.clamp_min(1)


def calibration_error(confidence: Tensor, right: Tensor, bins: int = 15) -> float:
    """Return the mean distance between confidence and share right, over bins that count as much as they hold."""
    counts, sure, hits = reliability(confidence, right, bins)
    return ((sure - hits).abs() * counts).sum().item() / len(confidence)


def error_if_honest(confidence: Tensor, seed: int, times: int = 100) -> float:
    """Return the mean calibration error of answers that are right exactly as often as they say: chance alone makes some."""
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.rand(len(confidence), generator=generator) < confidence for _ in range(times))
    return sum(calibration_error(confidence, right) for right in drawn) / times


# %% 4. The temperature
def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the T for which the cross-entropy of logits / T is smallest, on pictures that the network was not trained on."""
    log_t = torch.zeros(1, requires_grad=True)  # T = e^log_t is above 0, whatever a step does
    optimizer = torch.optim.LBFGS([log_t], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits / log_t.exp(), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    return log_t.exp().item()


def meet_error() -> str:
    """Step L-BFGS as one steps every other optimizer; return Python's answer."""
    try:
        torch.optim.LBFGS([torch.zeros(1, requires_grad=True)]).step()
    except TypeError as error:
        print(f'   "{error}"')
        print("   read: it tries several places in one step, so it must be able to ask for the loss itself")
        return str(error)


class Measured(NamedTuple):
    """What answers are worth."""

    error: float  # of calibration
    loss: float
    confidence: Tensor  # (n,)
    right: Tensor  # (n,) bool


def measure(logits: Tensor, labels: Tensor) -> Measured:
    """Measure logits (n, 10)."""
    confidence, answers = logits.softmax(dim=1).max(dim=1)
    right = answers == labels
    return Measured(calibration_error(confidence, right), F.cross_entropy(logits, labels).item(), confidence, right)


def calibrate(known: Answers, validation: Answers, test: Answers) -> tuple[dict[str, float], dict[str, Measured]]:
    """Divide test logits by each of three temperatures; by name, return these and what the answers are worth then."""
    temperatures = {"as trained": 1.0, "temperature": fit_temperature(*validation), "of training set": fit_temperature(*known)}
    return temperatures, {name: measure(test[0] / t, test[1]) for name, t in temperatures.items()}


def draw_figure(confusion: Tensor, names: list[str], found: dict[str, Measured]) -> None:
    """Draw the confusion matrix; and how often answers of each confidence are right, each dot as large as its bin is full."""
    import matplotlib.pyplot as plt

    figure, (table, curve) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    table.imshow(confusion.numpy(), cmap="Blues")
    for i, j in (confusion > 0).nonzero().tolist():
        color = "white" if 2 * confusion[i, j] > confusion.max() else "black"
        table.text(j, i, f"{confusion[i, j]}", ha="center", va="center", fontsize=8, color=color)
    table.set_xticks(range(len(names)), names, rotation=45, ha="right")
    table.set_yticks(range(len(names)), names)
    table.set(xlabel=label("taken for", "예측"), ylabel=label("is", "실제"))
    curve.plot([0, 1], [0, 1], color="grey", linestyle=":", label=label("as sure as right", "확신한 만큼 맞힘"))
    for name, one in found.items():
        bins = torch.stack(reliability(one.confidence, one.right))  # (3, bins)
        counts, sure, hits = bins[:, bins[0] >= 10]  # the share of fewer answers says nothing
        curve.plot(sure, hits, label=f"{name}: {one.error:.3f}")
        curve.scatter(sure, hits, s=300 * counts / counts.sum())
    curve.set(xlabel=label("mean confidence", "평균 확신도"), ylabel=label("share right", "맞힌 비율"))
    curve.legend(title=label("calibration error", "보정 오차"))
    save_figure(figure, __file__, "answers")


# %% All of it, in order
def main(
    data: Literal["cifar10", "mnist"] = "cifar10", examples: int = 1000, images: int = 19_200, networks: int = 3,
    lr: float = 0.05, source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Count what a classifier confuses, measure whether its certainty is deserved, and put it right.

    Args:
        data: cifar10, or what stands in for it where it is missing; mnist.
        examples: Pictures to learn from.
        images: Pictures that each network sees in training, the same ones again and again.
        networks: Networks, each with its own seed.
        lr: The highest learning rate.
        source: auto (the real pictures if they are there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    check(min(examples, images // 64, networks) > 0, "needed are one example, one network and 64 images, or more")
    where, loaded = pick_device(device), {"cifar10": cifar10, "mnist": mnist}[data](source)
    pool, held_out = hold_out(loaded.train, min(2000, len(loaded.train) // 5))
    parts = [Images(part.images.to(where), part.labels.to(where)) for part in (pool[:examples], held_out, loaded.test)]
    labels = loaded.test.labels
    print(f"1. {networks} networks, each shown {images:,} pictures, drawn from the same {len(parts[0]):,}")
    trained = [train(parts[0], images, lr, seed + k) for k in range(networks)]
    answers = [[(answer(network, part), part.labels.cpu()) for part in parts] for network in trained]
    right = sum((three[2][0].argmax(dim=1) == labels).float().mean().item() for three in answers) / networks
    known = sum((three[0][0].argmax(dim=1) == three[0][1]).float().mean().item() for three in answers) / networks
    baseline = max(labels.bincount().max().item() / len(labels), nearest_mean_accuracy(parts[0], parts[2]))
    print(f"   right: {known:.3f} of the pictures they learned, {right:.3f} of the test pictures; nearest mean {baseline:.3f}")
    confusion, difference = compare_with_sklearn(answers[0][2][0].argmax(dim=1), labels, loaded.classes)
    meet_error()
    temperatures, found = zip(*(calibrate(*three) for three in answers), strict=True)
    draw_figure(confusion, loaded.classes, {name: found[0][name] for name in ("as trained", "temperature")})
    results = {"accuracy": right, "baseline_accuracy": baseline, "difference_by_hand": difference}
    print("3. on test pictures, mean of the networks: T, cross-entropy, calibration error (of honest answers, by chance alone)")
    for name in found[0]:
        rows = [(one[name].loss, one[name].error, error_if_honest(one[name].confidence, seed)) for one in found]
        loss, error, chance = torch.tensor(rows).mean(dim=0).tolist()
        t, spread = sum(each[name] for each in temperatures) / networks, torch.tensor(rows)[:, 1].std(correction=0)
        print(f"   {name:16} T {t:.2f}  {loss:.3f}  {error:.3f} ± {spread:.3f} ({chance:.3f})")
        results |= {f"{what}_{name.replace(' ', '_')}": value for what, value in (("t", t), ("loss", loss), ("error", error))}
    same = all(torch.equal(one["as trained"].right, one["temperature"].right) for one in found)
    together = measure(torch.stack([three[2][0].softmax(dim=1) for three in answers]).mean(dim=0).log(), labels)
    told = f"{together.right.double().mean():.3f} right, cross-entropy {together.loss:.3f}, error {together.error:.3f}"
    print(f"   answers unchanged by a temperature: {same}; mean probabilities of all networks: {told}")
    check(1 - right < 0.9 * (1 - baseline), f"{right:.1%} right, the simplest rule {baseline:.1%}: more --images?")
    return results | {"error_together": together.error}


if __name__ == "__main__":
    run(main)
