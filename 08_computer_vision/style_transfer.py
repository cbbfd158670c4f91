"""Neural style transfer · 신경망 스타일 변환

A network that has learned to see describes a picture twice: which features are where says what it shows, and which features go
together, wherever that is, says how it is painted. Change the pixels until the first agrees with a photograph and the second with
a painting: no weight is trained, the picture itself is.
보는 법을 배운 신경망은 그림을 두 가지로 말해 준다. 어떤 특징이 어디에 있는지는 무엇을 그렸는지를, 어떤 특징이 함께 나타나는지는
어떻게 그렸는지를 알려 준다. 앞의 것은 사진과, 뒤의 것은 그림과 같아지도록 픽셀을 바꾼다. 학습되는 것은 가중치가 아니라 그림이다.

You will
  1. write content loss, Gram matrix and style loss, equal to a double loop, and their gradients to finite differences
  2. see what each layer knows: content and style, restored from it alone
  3. meet the error everyone meets, and compare L-BFGS with Adam by the same number of evaluations
  4. turn the balance from photograph to painting, and see what total variation does
  5. paint from coarse to fine; judge it by layers that were not optimised, against matching the colours

Before     06_advanced/skip_connections.py, 04_cnn/transfer_learning.py
Run        python -m study run style_transfer       (about 45 s on one CPU core, after importing torch)
You see    style off by 0.83 → 0.04 and 0.90 → 0.06, matching colours 0.83 and 0.70; loss 1.33, Adam 1.39; pictures.png
           (features of study setup --extra models; with random ones 12.4 → 0.05 and 10.9 → 0.02, colours 0.72 and 0.23)
Try next   --weights random --size 128: a network that never learned. First guess what is lost, style or content; then look
Theory     notes/en/08_computer_vision.md · notes/ko/08_computer_vision.md
Practise   python -m study check 08
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from utils import perceptual
from utils.datasets import Source
from utils.datasets.styles import style_pictures
from utils.device import pick_device
from utils.lesson import check, run
from utils.perceptual import PerceptualNetwork, Weights, content_distance, load_perceptual, match_colours, style_distance
from utils.plotting import label, save_figure

Maps = dict[str, Tensor]


# %% 1. What and how
def gram(maps: Tensor) -> Tensor:
    """Multiply each channel with each, place by place, and take means: (1, channels, height, width) → (channels, channels)."""
    places = maps[0].flatten(start_dim=1)  # (channels, height · width): an order of places, and any other would do
    return places @ places.T / places.shape[1]


def content_loss(maps: Maps, wanted: Maps) -> Tensor:
    """Compare maps place by place; maps that have their mean everywhere, and show nothing, would be 1 off."""
    return torch.stack([(maps[name] - goal).square().mean() / goal.var(correction=0) for name, goal in wanted.items()]).mean()


def style_loss(maps: Maps, grams: Maps) -> Tensor:
    """Compare Gram matrices, each layer by its own size, so that none counts more because its numbers are larger."""
    return torch.stack([(gram(maps[name]) - goal).square().sum() / goal.square().sum() for name, goal in grams.items()]).mean()


def total_variation(picture: Tensor) -> Tensor:
    """How much neighbouring pixels differ: the mean square, to the right and downwards."""
    return picture.diff(dim=3).square().mean() + picture.diff(dim=2).square().mean()


def compare(seed: int) -> dict[str, float]:
    """Return how far Gram matrix and losses are from a double loop, the finished ones, and their gradients from differences."""
    generator = torch.Generator().manual_seed(seed)
    maps, goal = torch.randn(2, 1, 5, 4, 6, generator=generator, dtype=torch.float64)
    looped = torch.tensor([[(one * other).mean() for other in maps[0]] for one in maps[0]], dtype=torch.float64)
    ours = {"a": maps.requires_grad_()}, {"a": goal}, {"a": gram(goal)}
    finished = perceptual.style_loss(ours[0], {"a": gram(goal)[None]}), perceptual.content_loss(*ours[:2])
    found = {"gram": (gram(maps) - looped).abs().max().item()}
    found["losses"] = max(abs(style_loss(ours[0], ours[2]) - finished[0]), abs(content_loss(*ours[:2]) - finished[1])).item()
    loss = style_loss(ours[0], ours[2]) + content_loss(*ours[:2]) + total_variation(maps)
    (gradient,) = torch.autograd.grad(loss, maps)
    off, h = [], 1e-5
    for place in range(maps.numel()):
        moved = torch.zeros(maps.numel(), dtype=torch.float64).index_fill(0, torch.tensor(place), h).view(maps.shape)
        sides = [{"a": maps.detach() + way * moved} for way in (1, -1)]
        up, down = (style_loss(x, ours[2]) + content_loss(x, ours[1]) + total_variation(x["a"]) for x in sides)
        off.append(((up - down) / (2 * h) - gradient.flatten()[place]).abs().item())
    found["gradients"] = max(off)
    print("1. off: {gram:.0e} (double loop), {losses:.0e} (finished), {gradients:.0e} (differences)".format(**found))
    return found


# %% 2., 3. Changing the picture
def transfer(
    network: PerceptualNetwork, start: Tensor, wanted: Maps, grams: Maps, weight: float, evaluations: int,
    smooth: float = 3.0, optimizer: Literal["lbfgs", "adam"] = "lbfgs", lr: float = 0.03,
) -> tuple[Tensor, list[float]]:  # fmt: skip
    """Change a picture (1, 3, height, width) towards wanted maps and Gram matrices; return it, and the loss by evaluation."""
    picture, losses = start.clone().requires_grad_(), []
    if optimizer == "lbfgs":  # one call of step makes all iterations
        rest = {"tolerance_grad": 0, "tolerance_change": 0, "history_size": 20, "line_search_fn": "strong_wolfe"}
        stepper = torch.optim.LBFGS([picture], max_iter=evaluations, max_eval=evaluations, **rest)
    else:
        stepper = torch.optim.Adam([picture], lr=lr)

    def evaluate() -> Tensor:
        stepper.zero_grad()
        maps = network(picture, {*wanted, *grams})
        outside = (picture - picture.clamp(0, 1)).square().mean()  # a clamped pixel would have no gradient, and stay outside
        loss = smooth * total_variation(picture) + 10 * outside
        loss = loss + (content_loss(maps, wanted) if wanted else 0) + (weight * style_loss(maps, grams) if grams else 0)
        loss.backward()
        losses.append(loss.item())
        return loss

    while len(losses) < evaluations:
        stepper.step(evaluate)
    return picture.detach().clamp(0, 1), losses[:evaluations]


def describe(network: PerceptualNetwork, picture: Tensor, names: Sequence[str], how: str) -> Maps:
    """Return the feature maps ("content") or Gram matrices ("style") of a picture."""
    with torch.no_grad():
        maps = network(picture, names)
    return maps if how == "content" else {name: gram(one) for name, one in maps.items()}


def see_layers(network: PerceptualNetwork, content: Tensor, style: Tensor, evaluations: int, seed: int) -> list[list[tuple]]:
    """From noise, restore content from one layer, and style from all up to it: early, middle, late; return titled pictures."""
    noise = torch.randn(content.shape, generator=torch.Generator().manual_seed(seed))
    noise, rows = (0.5 + 0.1 * noise).to(content.device), [[], []]
    for last in (0, len(network.style) // 2, len(network.style) - 1):
        layers, name = network.style[: last + 1], network.style[last]
        goal = describe(network, content, layers[-1:], "content")
        restored = transfer(network, noise, goal, {}, 0, evaluations)[0]
        painted = transfer(network, noise, {}, describe(network, style, layers, "style"), 1, evaluations, smooth=0.3)[0]
        rows[0].append((label("content from {}", "{}의 내용").format(name), restored))
        rows[1].append((label("style up to {}", "{}까지의 스타일").format(name), painted))
        off = (restored - content).square().mean().sqrt().item()
        print(f"2. content from {name}: pixels off by {off:.2f}")
    return rows


def meet_error() -> str:
    """Optimise a picture that was computed from another; return PyTorch's answer."""
    picture = torch.rand(1, 3, 4, 4, requires_grad=True).clamp(0, 1)
    try:
        torch.optim.LBFGS([picture])
    except ValueError as error:
        print(f'3. "{error}"\n   read: clamp made a new tensor. Make the start first, then call requires_grad_()')
        return str(error)


# %% 4., 5. The whole
def paint(network: PerceptualNetwork, content: Tensor, style: Tensor, weight: float, evaluations: int) -> Tensor:
    """Transfer at half the size, where one layer sees twice as far, then at the full size, from what was found."""
    picture = None
    for scale in (0.5, 1.0):
        photo, painting = (F.interpolate(x, scale_factor=scale, mode="bilinear", antialias=True) for x in (content, style))
        start = photo if picture is None else F.interpolate(picture, size=photo.shape[2:], mode="bilinear")
        goals = describe(network, photo, [network.content], "content"), describe(network, painting, network.style, "style")
        picture, _ = transfer(network, start, *goals, weight, evaluations)
    return picture


def judge(network: PerceptualNetwork, photo: Tensor, painting: Tensor, painted: Tensor) -> dict[str, float]:
    """Return distances: in style, by layers not optimised, of photo, its colours matched, result; in content, of the result."""
    pictures = {"photograph": photo, "colours": match_colours(photo, painting), "style": painted}
    found = {name: style_distance(network, picture, painting, network.unseen) for name, picture in pictures.items()}
    stretched = F.interpolate(painting, size=photo.shape[2:], mode="bilinear")  # a picture that shows something else
    return found | {"content": content_distance(network, painted, photo), "other": content_distance(network, stretched, photo)}


# %% All of it, in order
def draw(name: str, rows: list[list[tuple[str, Tensor]]]) -> None:
    """Draw rows of pictures with titles; columns are as wide as their pictures in the first row."""
    import matplotlib.pyplot as plt

    widths = [picture.shape[3] / picture.shape[2] for _, picture in rows[0]]
    size = {"figsize": (1.9 * sum(widths), 2.15 * len(rows)), "width_ratios": widths}
    figure, axes = plt.subplots(len(rows), len(widths), layout="constrained", squeeze=False, **size)
    for axis, (title, picture) in zip(axes.flat, [one for row in rows for one in row], strict=True):
        axis.imshow(picture[0].permute(1, 2, 0).cpu().numpy())
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    save_figure(figure, __file__, name)


def draw_curves(curves: dict[str, list[float]]) -> None:
    """Draw the lowest loss so far, by evaluation."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for name, losses in curves.items():
        axis.semilogy(torch.tensor(losses).cummin(dim=0).values, label=name)
    axis.set(xlabel=label("evaluations", "신경망 평가 횟수"), ylabel=label("lowest loss so far", "지금까지의 최저 손실"))
    axis.legend()
    save_figure(figure, __file__, "optimizers")


def main(
    weight: float = 10.0, evaluations: int = 60, size: int = 256, weights: Weights = "auto", source: Source = "auto",
    device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Paint a photograph in the manner of pictures, by changing pixels.

    Args:
        weight: Of the style, where the content has 1.
        evaluations: Of the network, for each picture and size.
        size: Of the shorter side of the pictures in the last section, in pixels; half of it before.
        weights: The network whose features are used; auto takes what is on this machine, and downloads nothing.
        source: Pictures from: auto (PyTorch's examples if they are there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: Of noise and numbers.
    """
    check(evaluations > 0 and size >= 64 and weight > 0, "--evaluations 1 and --size 64 are the least, and --weight above 0")
    where, data = pick_device(device), style_pictures(source, size)
    network, rows = load_perceptual(weights, where, seed), []
    contents, styles = ({name: one.to(where)[None] / 255 for name, one in part.items()} for part in (data.content, data.styles))
    shown, photo = next(iter(contents.items()))
    small, model = (F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True) for x in (photo, [*styles.values()][0]))
    results = {f"off_{name}": value for name, value in compare(seed).items()}
    draw("layers", see_layers(network, small, model, evaluations, seed))
    meet_error()
    goals = describe(network, small, [network.content], "content"), describe(network, model, network.style, "style")
    ways, curves = {"L-BFGS": ("lbfgs", 0.0), "Adam, 0.03": ("adam", 0.03), "Adam, 0.1": ("adam", 0.1)}, {}
    for name, (optimizer, lr) in ways.items():
        curves[name] = losses = transfer(network, small, *goals, weight, 2 * evaluations, 3.0, optimizer, lr)[1]
        results[f"loss_{name}"] = min(losses)
        print(f"3. {name:10}: loss {losses[0]:.2f} → {min(losses):.3f} in {len(losses)} evaluations")
    draw_curves(curves)
    strip = [(label("photograph", "사진"), small)]
    for style, smooth in ((weight / 10, 3.0), (weight, 3.0), (10 * weight, 3.0), (weight, 0.0)):
        picture = transfer(network, small, *goals, style, evaluations, smooth)[0]
        results[f"rough_{style:g}_{smooth:g}"] = rough = total_variation(picture).sqrt().item()
        strip.append((f"{style:g} : 1" + ("" if smooth else label(", not smoothed", ", 총변동 없음")), picture))
        print(f"4. style {style:g}, smoothing {smooth:g}: neighbours differ by {rough:.3f}")
    draw("balance", [strip])
    for name, painting in styles.items():
        painted = paint(network, photo, painting, weight, evaluations)
        far = judge(network, photo, painting, painted)
        told = f"{far['photograph']:.2f} before, {far['colours']:.2f} with its colours, {far['style']:.3f} now"
        print(f"5. {shown} as {name}: off the style by {told}")
        print(f"   off the content by {far['content']:.2f}; it would be {far['other']:.2f} if it showed what the painting shows")
        results |= {f"{name.replace(' ', '_')}_{key}": value for key, value in far.items()}
        pictures = {shown: photo, name: painting, label("colours only", "색만"): match_colours(photo, painting)}
        rows.append([*pictures.items(), (label("style", "스타일"), painted)])
        better = far["style"] < 0.5 * min(far["photograph"], far["colours"]) and far["content"] < far["other"]
        check(better, f"{name}: the style is off by {far['style']:.2f}, the content by {far['content']:.2f}: more --evaluations?")
    draw("pictures", rows)
    return results


if __name__ == "__main__":
    run(main)
