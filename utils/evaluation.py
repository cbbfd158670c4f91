"""What a trained classifier does: its probabilities, its mistakes, whether it knows how sure it may be, where it looks.

    logits = look(model, test.images, device, views=[to_pixels])[0]  # (N, classes)
    figure = draw_confusion(logits.argmax(dim=1), test.labels, classes)

Plain functions for any network that turns pictures (batch, channels, height, width) into logits (batch, classes). Those that draw
return a matplotlib figure, for `utils.plotting.save_figure`.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.batches import Batches, to_pixels
from utils.datasets import Images
from utils.plotting import label
from utils.training import History

# --------------------------------------------------------------------------------------------------- asking the network


def plain_batches(data: Images, device: torch.device, batch_size: int = 500) -> Batches:
    """Batches (pixels, labels) in order and unchanged, for measuring."""
    return Batches(
        data.images,
        data.labels,
        batch_size=batch_size,
        shuffle=False,
        transform=lambda images, _: to_pixels(images),
        device=device,
    )


@torch.no_grad()
def look(
    model: nn.Module, images: Tensor, device: torch.device, views: Sequence[Callable[[Tensor], Tensor]], batch_size: int = 500
) -> Tensor:
    """Logits for pictures, each seen in one or several ways (test-time augmentation). In eval mode.

    Args:
        model: The network, on `device`.
        images: (N, channels, height, width) uint8, as a data set holds them.
        device: Where to compute.
        views: Each turns a batch of `images` into what the network takes.
        batch_size: Pictures at a time.

    Returns:
        (views, N, classes) float32 on the CPU.
    """
    was_training = model.training
    model.eval()
    found = []
    for batch in images.split(batch_size):
        batch = batch.to(device)
        found.append(torch.stack([model(view(batch)) for view in views]).float().cpu())
    model.train(was_training)
    return torch.cat(found, dim=1)


def grad_cam(model: nn.Module, layer: nn.Module, pixels: Tensor, classes: Tensor) -> Tensor:
    """Which places spoke for a class (Selvaraju et al., 2017, https://arxiv.org/abs/1610.02391).

    Each of the layer's maps is weighted by how much the class's logit would grow with it; what is positive in the sum spoke for
    the class. The strongest place is 1 in every picture: heat tells where, not how much.

    Args:
        model: Any network of pictures, in eval mode (in train mode a batch norm would mix the pictures of a batch).
        layer: The module inside it whose maps are weighted, usually the last one before the maps are pooled.
        pixels: (batch, channels, height, width), what the network takes.
        classes: The class to explain for each picture, (batch,).

    Returns:
        (batch, height, width) in 0..1; all 0 where nothing spoke for the class.

    Raises:
        ValueError: The layer does not run exactly once, or what leaves it are no maps.
    """
    kept = []

    def keep(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        maps = output.detach().requires_grad_()  # the gradient is wanted down to here and no further
        kept.append(maps)
        return maps.clone()  # a ReLU that works in place must not change what was kept

    hook = layer.register_forward_hook(keep)
    with torch.enable_grad():
        try:
            logits = model.forward(pixels)  # not model(pixels): after model.compile() that would not call the hook
        finally:
            hook.remove()
        if len(kept) != 1 or kept[0].ndim != 4:
            shapes = [tuple(maps.shape) for maps in kept]
            raise ValueError(f"Grad-CAM needs a layer that runs once and gives (batch, channels, h, w); this one gave {shapes}")
        (maps,) = kept
        (gradient,) = torch.autograd.grad(logits.gather(1, classes.unsqueeze(1)).sum(), maps)
    weights = gradient.mean(dim=(2, 3), keepdim=True)  # (batch, channels, 1, 1)
    places = (weights * maps.detach()).sum(dim=1, keepdim=True).relu()  # (batch, 1, h, w)
    places = F.interpolate(places, size=pixels.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return places / places.amax(dim=(1, 2), keepdim=True).clamp_min(1e-8)


# ------------------------------------------------------------------------------------------------------ right and wrong


def confusion_matrix(predicted: Tensor, labels: Tensor, count: int) -> Tensor:
    """How often each class was taken for each one: (true, predicted) int64 for `count` classes, from two tensors (N,)."""
    return torch.bincount(labels * count + predicted, minlength=count * count).view(count, count)


def draw_losses(axis, losses: Sequence[float]) -> None:
    """The loss of every step, and its running mean over a fortieth of the run."""
    window = max(1, len(losses) // 40)
    smooth = torch.tensor(losses).unfold(0, window, 1).mean(dim=1)
    axis.plot(losses, color="lightsteelblue", linewidth=0.6, label=label("each batch", "배치마다"))
    axis.plot(range(window - 1, len(losses)), smooth.numpy(), color="navy", label=label("running mean", "이동 평균"))
    axis.set(title=label("Training loss", "훈련 손실"), xlabel=label("step", "스텝"))
    axis.legend()


def draw_learning_curves(history: History, rate: str, loss_scale: str = "linear"):
    """Loss of every step with its running mean, learning rate, and accuracy on the validation images; returns the figure.

    Args:
        history: What `utils.training.fit` returned; its validation must have measured "accuracy".
        rate: What the learning rate is of, as a title.
        loss_scale: "linear" or "log".
    """
    import matplotlib.pyplot as plt

    steps_per_epoch = len(history.losses) // len(history.epochs)
    ends = [steps_per_epoch * (epoch + 1) for epoch in range(len(history.epochs))]

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4))
    draw_losses(left, history.losses)
    left.set_yscale(loss_scale)
    middle.plot(history.rates, color="darkorange")
    middle.set(title=rate, xlabel=label("step", "스텝"))
    right.plot(ends, [100 * epoch["accuracy"] for epoch in history.epochs], "o-", color="seagreen", markersize=4)
    right.set(title=label("Validation accuracy (%)", "검증 정확도 (%)"), xlabel=label("step", "스텝"))
    right.grid(alpha=0.3)
    return figure


def draw_probabilities(axis, probabilities: Tensor, classes: Sequence[str]) -> None:
    """Bars of the probabilities (classes,) of one answer, the highest one coloured, on a matplotlib axis."""
    best = probabilities.argmax().item()
    colours = ["tab:blue" if index == best else "lightgray" for index in range(len(classes))]
    bars = axis.barh(classes, probabilities.numpy(), color=colours)
    axis.bar_label(bars, [f"{value:.1%}" for value in probabilities.tolist()], padding=3)
    axis.set(xlim=(0, 1.2), xticks=[0, 0.5, 1], title=label("probability", "확률"))
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)


def draw_confusion(predicted: Tensor, labels: Tensor, classes: list[str]):
    """How often each class was taken for each other one; the darker, the more often. Returns the figure."""
    import matplotlib.pyplot as plt

    count = len(classes)
    matrix = confusion_matrix(predicted, labels, count)
    mistakes = matrix.clone().fill_diagonal_(0)
    has_words = max(map(len, classes)) > 3
    figure, axis = plt.subplots(figsize=(8, 7.5) if has_words else (6.5, 6))
    axis.imshow(mistakes.numpy(), cmap="Reds", vmax=max(1, mistakes.max().item()))
    for true in range(count):
        for guess in range(count):
            if matrix[true, guess]:
                color = "silver" if true == guess else "white" if mistakes[true, guess] > 0.6 * mistakes.max() else "black"
                axis.text(guess, true, matrix[true, guess].item(), ha="center", va="center", color=color, fontsize=9)
    axis.set(xticks=range(count), yticks=range(count), xticklabels=classes, yticklabels=classes)
    if has_words:
        plt.setp(axis.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    axis.set_xlabel(label("the network said", "신경망의 답"))
    axis.set_ylabel(label("it was", "정답"))
    wrong = mistakes.sum().item()
    axis.set_title(
        label(f"{wrong} mistakes in {len(labels):,} test images", f"테스트 이미지 {len(labels):,}장 중 {wrong}장 오답")
    )
    return figure


def class_accuracy(predicted: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Accuracy on each class, and how far off it may be: the 95 % interval of Wilson (1927).

    Args:
        predicted: (N,)
        labels: (N,)
        count: The number of classes.

    Returns:
        Accuracy, lower end and upper end of the interval, each (count,) in 0..1; NaN for a class without examples.
    """
    matrix = confusion_matrix(predicted, labels, count).double()
    number = matrix.sum(dim=1)
    share = matrix.diagonal() / number
    z = 1.96  # 95 % of a normal distribution lie within so many standard deviations
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    half = z / (1 + z**2 / number) * (share * (1 - share) / number + z**2 / (4 * number**2)).sqrt()
    return share, middle - half, middle + half


def draw_class_accuracy(predicted: Tensor, labels: Tensor, classes: list[str]):
    """Accuracy of each class with its 95 % interval, and what it was most often taken for; returns the figure."""
    import matplotlib.pyplot as plt

    share, low, high = class_accuracy(predicted, labels, len(classes))
    mistakes = confusion_matrix(predicted, labels, len(classes)).fill_diagonal_(0)
    order = [i for i in share.argsort().tolist() if not share[i].isnan()]  # the worst at the bottom
    figure, axis = plt.subplots(figsize=(8, 0.42 * len(order) + 1.4), layout="constrained")
    for row, i in enumerate(order):
        axis.barh(row, share[i].item(), color="tab:blue", alpha=0.75)
        axis.errorbar(share[i].item(), row, xerr=[[share[i] - low[i]], [high[i] - share[i]]], color="black", capsize=3)
        most, taken_for = mistakes[i].max(dim=0)
        of_all = most / (labels == i).sum()
        note = f" \u2192 {classes[taken_for]} {of_all:.1%}" if most > 0 else ""
        axis.text(1.01, row, f"{share[i]:.1%}{note}", va="center", fontsize=9)
    mean = (predicted == labels).float().mean().item()
    axis.axvline(mean, color="gray", linestyle=":")
    axis.set(yticks=range(len(order)), yticklabels=[classes[i] for i in order], xlim=(0, 1), xticks=[0, 0.25, 0.5, 0.75, 1])
    axis.set_title(
        label(
            f"Accuracy by class (all: {mean:.1%}, dotted), 95 % interval, most frequent mistake",
            f"클래스별 정확도 (전체 {mean:.1%}, 점선), 95 % 신뢰 구간, 가장 잦은 오답",
        ),
        fontsize=11,
    )
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def worst_mistakes(probabilities: Tensor, labels: Tensor, most: int = 20) -> Tensor:
    """Indices of the mistakes in (N, classes) of which the network was most certain, the worst first; at most `most`."""
    certainty, predicted = probabilities.max(dim=1)
    wrong = (predicted != labels).nonzero().flatten()
    return wrong[certainty[wrong].argsort(descending=True)][:most]


def draw_worst_mistakes(test: Images, found: Tensor, classes: list[str], most: int = 20):
    """The mistakes of which the network was most certain; returns the figure.

    Args:
        test: The test images, grey or RGB.
        found: Probabilities (N, classes).
        classes: Names of the classes.
        most: How many to draw.
    """
    import matplotlib.pyplot as plt

    certainty, predicted = found.max(dim=1)
    worst = worst_mistakes(found, test.labels, most)
    has_words = max(map(len, classes)) > 3
    columns = 10 if len(worst) > 5 else 5
    rows = max(1, -(-len(worst) // columns))
    size = (1.5 * columns, 2.1 * rows + 0.5) if has_words else (1.35 * columns, 1.75 * rows + 0.5)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, i in zip(axes.flat, worst.tolist(), strict=False):
        show_image(axis, test.images[i])
        truth, answer = classes[test.labels[i]], classes[predicted[i]]
        between = "\n" if has_words else " "  # "automobile" and "airplane" do not fit side by side
        axis.set_title(f"{truth}{between}\u2192 {answer}{between if has_words else '  '}{certainty[i]:.0%}", fontsize=9)
    figure.suptitle(label("Worst mistakes: truth \u2192 answer, certainty", "가장 확신하고 틀린 그림: 정답 \u2192 답, 확신"))
    figure.tight_layout()
    return figure


# --------------------------------------------------------------------------------------------------- how sure it may be


def calibration_bins(probabilities: Tensor, labels: Tensor, bins: int = 15) -> tuple[Tensor, Tensor, Tensor]:
    """Sort answers by how certain they are into `bins` equally wide bins, and look how many are right in each.

    Args:
        probabilities: (N, classes), each row with the sum 1.
        labels: (N,)
        bins: How many; bin i holds certainties above i/bins up to (i+1)/bins.

    Returns:
        The number of answers, their mean certainty, and the share of right ones, each (bins,) float64; 0 in an empty bin.
    """
    certainty, predicted = probabilities.double().max(dim=1)
    inner_edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
    where = torch.bucketize(certainty, inner_edges)  # right=False: an edge belongs to the bin below it
    count = torch.bincount(where, minlength=bins).double()
    divisor = count.clamp_min(1)
    certain = torch.bincount(where, weights=certainty, minlength=bins) / divisor
    right = torch.bincount(where, weights=(predicted == labels).double(), minlength=bins) / divisor
    return count, certain, right


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """By how much certainty and accuracy differ, on average over the answers (Naeini et al., 2015; Guo et al., 2017).

    0 means that of the answers given with 80 % certainty, 80 % are right. An estimate from N answers is above 0 by chance alone
    (roughly by 1/sqrt(N)), even for a perfectly calibrated network.

    Args:
        probabilities: (N, classes).
        labels: (N,)
        bins: See `calibration_bins`.
    """
    count, certain, right = calibration_bins(probabilities, labels, bins)
    return (count / count.sum() * (certain - right).abs()).sum().item()


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The number T for which softmax(logits / T) fits best (Guo et al., 2017, https://arxiv.org/abs/1706.04599).

    T above 1 makes a network less certain, below 1 more; which class is the most probable stays the same. It is fitted on
    examples that the network was not trained on, by the cross entropy, which as a function of 1/T has one minimum.

    Args:
        logits: (N, classes) of examples that the network has not seen.
        labels: (N,)

    Returns:
        T, between 0.05 and 20: where every answer is right, the best T would be 0.
    """
    from math import exp, log

    from scipy.optimize import minimize_scalar

    logits = logits.double()
    best = minimize_scalar(
        lambda logarithm: F.cross_entropy(logits / exp(logarithm), labels).item(), bounds=(log(0.05), log(20)), method="bounded"
    )
    return exp(best.x)


def draw_reliability(probabilities: dict[str, Tensor], labels: Tensor, bins: int = 15):
    """Certainty against accuracy (a reliability diagram), one panel for each set of probabilities; returns the figure.

    Args:
        probabilities: Title of the panel → (N, classes).
        labels: (N,)
        bins: See `calibration_bins`.
    """
    import matplotlib.pyplot as plt

    width = 4.6 * len(probabilities)
    figure, axes = plt.subplots(1, len(probabilities), figsize=(width, 4.9), squeeze=False, layout="constrained")
    for axis, (title, found) in zip(axes.flat, probabilities.items(), strict=True):
        count, certain, right = calibration_bins(found, labels, bins)
        some = count > 0
        left = torch.arange(bins)[some] / bins
        axis.bar(
            left.numpy(),
            right[some].numpy(),
            1 / bins,
            align="edge",
            edgecolor="white",
            label=label("share of right answers", "정답률"),
        )
        sizes = 6 + 300 * count[some] / count.sum()
        axis.scatter(
            certain[some], right[some], sizes, "darkorange", zorder=3, label=label("size: how many answers", "크기: 답의 수")
        )
        axis.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label=label("as it should be", "이상적인 경우"))
        error = expected_calibration_error(found, labels, bins)
        told = label(f"expected calibration error {error:.1%}", f"기대 보정 오차(ECE) {error:.1%}")
        axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axis.set(xlabel=label("certainty", "확신"), ylabel=label("share of right answers", "정답률"))
        axis.set_title(f"{title}\n{told}", fontsize=11)
        axis.legend(loc="upper left", fontsize=9, markerscale=0.6)
    return figure


# ---------------------------------------------------------------------------------------------------- the space it made


def draw_embedding(features: Tensor, labels: Tensor, classes: list[str]):
    """Features (N, dimensions) of test images, brought into the plane by t-SNE (van der Maaten and Hinton, 2008).

    Neighbours stay neighbours; distances between far groups and the sizes of groups mean nothing. Returns the figure.
    """
    import matplotlib.pyplot as plt
    from sklearn.manifold import TSNE

    plane = TSNE(perplexity=min(30, len(labels) // 4), init="pca", random_state=0, max_iter=500).fit_transform(
        features.cpu().numpy()
    )
    figure, axis = plt.subplots(figsize=(7.5, 7))
    points = axis.scatter(*plane.T, c=labels.numpy(), cmap="tab10", s=7, vmin=-0.5, vmax=9.5)
    for one in labels.unique():
        middle = torch.from_numpy(plane)[labels == one].median(dim=0).values
        name = classes[one]
        axis.text(*middle.tolist(), name, fontsize=17 if len(name) < 4 else 12, weight="bold", ha="center", va="center")
    figure.colorbar(points, ticks=range(len(classes)), shrink=0.8).ax.set_yticklabels(classes)
    axis.set(xticks=[], yticks=[])
    axis.set_title(
        label(f"{len(labels):,} test images as the last layer sees them", f"마지막 층에서 본 테스트 이미지 {len(labels):,}장")
    )
    return figure


# -------------------------------------------------------------------------------------------------- pictures in figures


def show_image(axis, image: Tensor) -> None:
    """Draw one image (1 or 3, height, width), uint8 in 0..255 or float in 0..1; grey ones as ink on paper."""
    if len(image) == 1:
        axis.imshow(image[0].cpu().numpy(), cmap="gray_r")
    else:
        axis.imshow(image.permute(1, 2, 0).cpu().numpy())
    axis.axis("off")


def show_heat(axis, image: Tensor, heat: Tensor) -> None:
    """Draw one image with the heat (height, width) of `grad_cam` over it."""
    show_image(axis, image)
    axis.imshow(heat.cpu().numpy(), cmap="jet", alpha=0.45, vmin=0, vmax=1)
