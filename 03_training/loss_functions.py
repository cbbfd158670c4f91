"""Loss functions · 손실 함수

A loss turns "how wrong" into one number, and its slope is all that a network ever learns from. Each of the usual ones is a few
lines; what separates those lines from PyTorch's is care with numbers that are too large or too small for the computer.
손실은 얼마나 틀렸는지를 수 하나로 나타내고, 신경망은 오직 그 기울기에서 배운다. 자주 쓰는 손실은 저마다 몇 줄이면 된다.
그 몇 줄과 PyTorch 구현의 차이는 컴퓨터가 담지 못할 만큼 크거나 작은 수를 어떻게 다루느냐에 있다.

You will
  1. write MSE, MAE and Huber, and see what one typing error does to the answer that each likes best
  2. watch the textbook's cross entropy overflow, and cure it with log-sum-exp
  3. build the losses for classes from that one function: NLL, cross entropy, label smoothing, BCE, KL, focal, hinge
  4. write the triplet loss, which compares examples instead of naming them
  5. hold all eleven, and their gradients, against PyTorch
  6. meet the error everyone meets, and the mistake that brings no error: softmax before cross entropy

Before     02_neural_networks/linear_regression.py, 02_neural_networks/activation_functions.py
Run        python -m study run loss_functions      (about 3 s on one CPU core, after importing torch)
You see    eleven losses equal to PyTorch's; the textbook's formula lost from logits of 89 on; losses.png
Try next   --dtype bfloat16: half the bits. First guess from which logit on the textbook's formula is lost; then look,
           and look again with --dtype float16, which has just as many
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.lesson import check, run
from utils.plotting import label, save_figure

Dtype = Literal["float64", "float32", "float16", "bfloat16"]


# %% 1. How far off a number is
# Every loss here returns one number for each example, (n,). Training takes their mean, as PyTorch's losses do by default.
def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """The squared error: twice as far off counts four times."""
    return (prediction - target).square()


def mae(prediction: Tensor, target: Tensor) -> Tensor:
    """The absolute error: the slope is -1 or 1, however far off."""
    return (prediction - target).abs()


def huber(prediction: Tensor, target: Tensor, delta: float) -> Tensor:
    """Squared up to an error of `delta`, absolute beyond it; value and slope fit together where the two meet."""
    error = (prediction - target).abs()
    return torch.where(error <= delta, error.square() / 2, delta * (error - delta / 2))


def best_constants(targets: Tensor, delta: float) -> dict[str, float]:
    """Find, for each loss, the one prediction that makes its mean smallest on targets (n,), by trying many."""
    tried = torch.linspace(targets.min().item(), targets.max().item(), 10_001, dtype=targets.dtype).unsqueeze(1)  # (tried, 1)
    losses = {"MSE": mse(tried, targets), "MAE": mae(tried, targets), "Huber": huber(tried, targets, delta)}  # (tried, n) each
    return {name: tried[loss.mean(dim=1).argmin()].item() for name, loss in losses.items()}


# %% 2. Logits, and why log-sum-exp
def naive_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy as a textbook has it: exp, divide, log. Logits (n, classes), labels (n,) → (n,)."""
    probabilities = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    return -probabilities[torch.arange(len(labels)), labels].log()


def log_sum_exp(logits: Tensor) -> Tensor:
    """log Σ exp(logits) over the last dimension. Taking the largest out first leaves no exp above 1, and a sum of at least 1."""
    largest = logits.amax(dim=-1, keepdim=True)
    return largest.squeeze(-1) + (logits - largest).exp().sum(dim=-1).log()


def log_softmax(logits: Tensor) -> Tensor:
    """The logarithms of the probabilities, with no probability ever computed."""
    return logits - log_sum_exp(logits).unsqueeze(-1)


def nll(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """Minus the log-probability of the right class: log_probabilities (n, classes), labels (n,) → (n,)."""
    return -log_probabilities[torch.arange(len(labels)), labels]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy that no logits can break: logits (n, classes), labels (n,) → (n,)."""
    return nll(log_softmax(logits), labels)


def first_loss_lost(loss: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> float:
    """Raise one of two logits 1, 2, 3, ... above the other, 0; return where the loss of either class is no longer finite."""
    logits = torch.stack([torch.arange(1, 1001), torch.zeros(1000)], dim=1).to(dtype)  # (1000, 2)
    right, wrong = (loss(logits, torch.full((1000,), truth)).abs() for truth in (0, 1))  # is the raised one the truth? abs: no -0
    print(f"   {loss.__name__:20} at a logit of 100: {right[99]:g} if that is the right class, {wrong[99]:g} if it is not")
    lost = (~(right + wrong).isfinite()).nonzero()
    return 1.0 + lost[0].item() if len(lost) else math.inf


# %% 3. Everything else about classes, from the same function
def smoothed_cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Cross entropy with targets that give a share `label_smoothing` to all classes alike: logits (n, classes) → (n,)."""
    log_probabilities = log_softmax(logits)
    return (1 - label_smoothing) * nll(log_probabilities, labels) - label_smoothing * log_probabilities.mean(dim=1)


def bce_with_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """Yes or no: cross entropy of two classes, one of which always has the logit 0. Logits and targets in [0, 1] are (n,)."""
    return log_sum_exp(F.pad(logits.unsqueeze(1), (1, 0))) - targets * logits  # (n, 2) → (n,): log(1 + exp(logits)) - ...


def focal(logits: Tensor, targets: Tensor, gamma: float, alpha: float) -> Tensor:
    """BCE in which what is nearly right hardly counts (Lin et al., 2017); the yes have the weight alpha, the no 1 - alpha."""
    loss = bce_with_logits(logits, targets)
    right = (-loss).exp()  # the probability given to the right answer
    return torch.where(targets == 1, alpha, 1 - alpha) * (1 - right) ** gamma * loss


def kl_divergence(log_probabilities: Tensor, target: Tensor) -> Tensor:
    """Σ target · log(target / probabilities), what the cross entropy has above its smallest value: (n, classes) both → (n,)."""
    return (torch.xlogy(target, target) - target * log_probabilities).sum(dim=1)  # xlogy: 0 · log 0 is 0


def hinge(scores: Tensor, labels: Tensor) -> Tensor:
    """Wants the right score 1 above every other, and then nothing more: scores (n, classes), labels (n,) → (n,)."""
    right = scores[torch.arange(len(labels)), labels].unsqueeze(1)
    others = 1 - F.one_hot(labels, scores.shape[1])
    return ((1 - right + scores).relu() * others).mean(dim=1)  # PyTorch divides by all classes, the right one included


# %% 4. Which two belong together
def triplet(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Wants the anchor nearer to its like than to another, by the margin: three times (n, features) → (n,)."""
    near, far = ((anchor - other + 1e-6).norm(dim=1) for other in (positive, negative))  # 1e-6 as in PyTorch: √ has no slope at 0
    return (near - far + margin).relu()


# %% 5. Against PyTorch
def compare_with_torch(draws: int, seed: int) -> dict[str, tuple[float, float]]:
    """Return each loss's largest difference from PyTorch's, and its gradient's: on examples drawn at random, in float64."""
    from torchvision.ops import sigmoid_focal_loss

    generator = torch.Generator().manual_seed(seed)
    one, other = 10 * torch.randn(2, draws, generator=generator, dtype=torch.float64)  # times 10: some are nearly certain
    rows, like, unlike = 10 * torch.randn(3, draws, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (draws,), generator=generator)
    yes = torch.randint(2, (draws,), generator=generator).double()
    table = {
        "MSE": (mse, F.mse_loss, (one, other), {}),
        "MAE": (mae, F.l1_loss, (one, other), {}),
        "Huber": (huber, F.huber_loss, (one, other), {"delta": 2.0}),
        "NLL": (nll, F.nll_loss, (rows.log_softmax(dim=1), labels), {}),
        "cross entropy": (cross_entropy, F.cross_entropy, (rows, labels), {}),
        "label smoothing": (smoothed_cross_entropy, F.cross_entropy, (rows, labels), {"label_smoothing": 0.1}),
        "BCE with logits": (bce_with_logits, F.binary_cross_entropy_with_logits, (one, yes), {}),
        "KL": (kl_divergence, F.kl_div, (rows.log_softmax(dim=1), like.softmax(dim=1)), {}),
        "focal": (focal, sigmoid_focal_loss, (one, yes), {"alpha": 0.25, "gamma": 2.0}),
        "hinge": (hinge, F.multi_margin_loss, (rows, labels), {}),
        "triplet": (triplet, F.triplet_margin_loss, (rows, like, unlike), {"margin": 20.0}),
    }
    differences = {}
    for name, (ours, theirs, (x, *rest), settings) in table.items():
        x = x.detach().requires_grad_()
        values = [ours(x, *rest, **settings), theirs(x, *rest, **settings, reduction="none")]
        values[1] = values[1].view(draws, -1).sum(dim=1)  # kl_div leaves the parts of the sum apart, (n, classes)
        gradients = [torch.autograd.grad(value.sum(), x)[0] for value in values]
        differences[name] = tuple((a - b).abs().max().item() for a, b in (values, gradients))
    return differences


# %% 6. The error everyone meets, and the mistake that brings none
def meet_error() -> str:
    """Hand over labels as a column (n, 1), as a table has them; return PyTorch's answer."""
    try:
        F.cross_entropy(torch.zeros(4, 3), torch.tensor([[0], [2], [1], [0]]))
    except RuntimeError as error:
        message = str(error)
    print(f'6. "{message}"')
    print("   read: cross_entropy wants class numbers in the shape (n,), and labels.squeeze(1) makes it")
    return message


def softmax_twice(classes: int) -> tuple[float, float, float]:
    """Return the smallest loss possible after a softmax before cross_entropy; and, where the logit of a wrong class is 20 above
    the others, the slope by the right class's logit: as it should be, and with softmax twice."""
    floor = F.cross_entropy(torch.eye(classes)[:1], torch.tensor([0])).item()  # probabilities of 1 and 0: no better exist
    slopes = []
    for prepare in (lambda z: z, lambda z: z.softmax(dim=1)):
        logits = F.pad(torch.tensor([[20.0]]), (1, classes - 2)).requires_grad_()  # (1, classes): 0, 20, 0, 0, ...
        F.cross_entropy(prepare(logits), torch.tensor([0])).backward()
        slopes.append(logits.grad[0, 0].item())
    return floor, *slopes


def draw_losses() -> None:
    """Draw losses, and below each its slope: of a number, and of the logit of a yes."""
    import matplotlib.pyplot as plt

    x = torch.linspace(-4, 4, 401).requires_grad_()
    zeros, ones = torch.zeros(401), torch.ones(401)
    margin = 2 * hinge(torch.stack([x, zeros], dim=1), zeros.long())  # two scores, the right one first, the other 0
    errors = {"MSE": mse(x, zeros), "MAE": mae(x, zeros), "Huber, δ = 1": huber(x, zeros, delta=1.0)}
    answers = {"BCE": bce_with_logits(x, ones), "focal, γ = 2": focal(x, ones, 2.0, 1.0), "hinge": margin}
    titles = label("prediction - target", "예측 - 목푯값"), label("logit of the right answer", "정답의 로짓")
    figure, axes = plt.subplots(2, 2, figsize=(10, 6), sharex="col", layout="constrained")
    for (upper, lower), losses, title in zip(axes.T, (errors, answers), titles, strict=True):
        for (name, loss), style in zip(losses.items(), ("-", "--", "-."), strict=True):
            (slope,) = torch.autograd.grad(loss.sum(), x, retain_graph=True)  # the graph of x is shared by all of them
            upper.plot(x.detach(), loss.detach(), style, label=name)
            lower.plot(x.detach(), slope, style)
        upper.legend()
        lower.set(xlabel=title)
    axes[0, 0].set(ylim=(0, 6), ylabel=label("loss", "손실"))
    axes[1, 0].set(ylim=(-4, 4), ylabel=label("its slope", "손실의 기울기"))
    save_figure(figure, __file__, "losses")


# %% All of it, in order
def main(dtype: Dtype = "float32", draws: int = 1000, seed: int = 0) -> dict[str, float]:
    """Write the usual losses from scratch, break the careless version, and hold the others against PyTorch.

    Args:
        dtype: The kind of numbers in which the logits of section 2 are computed.
        draws: How many examples each loss is compared on.
        seed: Seed of those examples.
    """
    check(draws > 0, f"--draws {draws}: at least one example is needed")
    heights = torch.tensor([170.0, 165.0, 180.0, 175.0, 172.0, 168.0, 177.0], dtype=torch.float64)  # of seven people, in cm
    best = best_constants(heights, delta=1.0), best_constants(torch.where(heights == 180, 1800.0, heights), delta=1.0)
    told = ", ".join(f"{loss} from {best[0][loss]:.1f} to {best[1][loss]:.1f}" for loss in best[0])
    print(f"1. 1800 typed for 180, and the best guess of seven heights moves: for {told}")
    print(f"2. in {dtype}:")
    lost_from, stable_lost_from = (first_loss_lost(loss, getattr(torch, dtype)) for loss in (naive_cross_entropy, cross_entropy))
    print(f"   the textbook's formula is lost from a logit of {lost_from:g} on")
    differences = compare_with_torch(draws, seed)
    worst = max(max(pair) for pair in differences.values())
    print(f"5. {len(differences)} losses on {draws} examples: they and their gradients differ by {worst:.0e} at most")
    meet_error()
    floor, once, twice = softmax_twice(classes=10)
    print(f"   softmax twice brings no error: no loss is below {floor:.3f}, and a slope of {once:.2g} becomes {twice:.2g}")
    draw_losses()
    check(worst < 1e-9, f"a loss or its gradient differs from PyTorch's by {worst:.1e}")
    check(stable_lost_from == math.inf, f"our cross entropy is lost from a logit of {stable_lost_from:g} on")
    results = {"difference": worst, "naive_lost_from": lost_from, "softmax_twice_floor": floor}
    return results | {f"typing_error_moves_{name}": best[1][name] - best[0][name] for name in best[0]}


if __name__ == "__main__":
    run(main)
