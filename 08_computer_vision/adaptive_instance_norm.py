"""Adaptive instance normalization · 적응적 인스턴스 정규화

A style that nobody trained for has to be handed over as numbers: each feature's mean and deviation over the painting. Give these
to the photograph's features, and let a decoder, trained once on many styles, make a picture of them.
학습한 적 없는 스타일로 그리려면 스타일을 숫자로 건네야 한다. 특징마다 그림 전체에서 잰 평균과 표준 편차가 그 숫자다. 사진의
특징을 그 숫자에 맞추면, 여러 스타일로 한 번 학습한 디코더가 그것을 그림으로 바꾼다.

You will
  1. write adaptive instance normalization, equal to PyTorch's instance norm; meet the error everyone meets
  2. see what means and deviations carry: a picture cut up and shuffled has nearly the same ones
  3. train a decoder behind a fixed encoder, on photographs and paper that is marbled, or laid in tiles, by a few lines of code
  4. paint in styles that it has never seen; judge it, by layers not optimised, against matched colours and a wrong style
  5. turn the knob from photograph to style, and walk from one style to another

Before     08_computer_vision/style_transfer.py
Run        python -m study run adaptive_instance_norm  (about 45 s on one CPU core, after importing torch)
You see    six new sheets: style off by 0.60 (colours only 0.71, a wrong style 0.91); brush strokes 0.76 (colours only 0.64)
           (features of study setup --extra models; with random ones 0.55, the best rival 1.33, and hardly any content)
Try next   --lr 0.004 --steps 2000: larger steps, and more of them (3 min). First guess what is painted then; then look
Theory     notes/en/08_computer_vision.md · notes/ko/08_computer_vision.md
Practise   python -m study check 08
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import perceptual
from utils.datasets import Source
from utils.datasets.style_training import paper_styles, photograph_patches
from utils.datasets.styles import style_pictures
from utils.device import pick_device
from utils.lesson import check, run
from utils.perceptual import PerceptualNetwork, Weights, load_perceptual, match_colours
from utils.plotting import label, save_figure

NOISE = 2  # channels of it: to paint in a plain sky, a decoder has to start somewhere


# %% 1. The statistics, and a style made of them
def statistics(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Each channel's mean and deviation over its places: (n, channels, height, width) → twice (n, channels, 1, 1)."""
    variance, mean = torch.var_mean(maps, dim=(2, 3), correction=0, keepdim=True)
    return mean, (variance + 1e-5).sqrt()  # a channel that is the same everywhere has no deviation to divide by


def adain(content: Tensor, style: Tensor) -> Tensor:
    """Give the content's channels the style's means and deviations; sizes may differ, the numbers of channels may not."""
    (mean, deviation), (goal, spread) = statistics(content), statistics(style)
    return (content - mean) / deviation * spread + goal


def compare(seed: int) -> float:
    """Return how far we are from PyTorch's instance norm, with the style's deviations as weight and its means as bias."""
    generator = torch.Generator().manual_seed(seed)
    content, style = torch.randn(3, 8, 6, 7, generator=generator), 3 + 2 * torch.randn(3, 8, 9, 4, generator=generator)
    goal, spread = (value.flatten() for value in statistics(style))  # a picture's channels after another's, as one picture's
    expected = F.instance_norm(content.flatten(0, 1)[None], weight=spread, bias=goal)
    off = (expected.view_as(content) - adain(content, style)).abs().max().item()
    print(f"1. off PyTorch's instance norm by {off:.0e}")
    return off


def meet_error() -> tuple[str, float]:
    """Forget keepdim; return PyTorch's answer, and the largest mean that is left where no answer comes."""
    maps = torch.rand(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))  # as many columns as channels
    left = (maps - maps.mean(dim=(2, 3))).mean(dim=(2, 3)).abs().max().item()
    try:
        return str(maps[..., :7] - maps.mean(dim=(2, 3))), left
    except RuntimeError as error:
        print(f'1. "{error}"\n   read: keepdim=True is missing; with 8 columns no message comes, and means up to {left:.2f} stay')
        return str(error), left


# %% 2. What they carry
def statistics_loss(maps: dict[str, Tensor], goals: dict[str, Tensor]) -> Tensor:
    """Compare means and deviations, each layer as a share of its own size; mean over layers and pictures."""
    losses = []
    for name, goal in goals.items():
        ours, wanted = (torch.cat(statistics(one), dim=1) for one in (maps[name], goal))  # (n, 2 · channels, 1, 1)
        losses.append(((ours - wanted).square().sum(dim=1) / wanted.square().sum(dim=1)).mean())
    return torch.stack(losses).mean()


def shuffle(picture: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Cut a picture (1, channels, height, width) into squares, and lay them anew, in any order."""
    rows, columns = picture.shape[2] // side, picture.shape[3] // side
    squares = F.unfold(picture[:, :, : rows * side, : columns * side], side, stride=side)  # (1, channels · side², squares)
    order = torch.randperm(rows * columns, generator=generator).to(picture.device)
    return F.fold(squares[:, :, order], (rows * side, columns * side), side, stride=side)


@torch.no_grad()
def see_shuffled(network: PerceptualNetwork, painting: Tensor, seed: int) -> dict[str, float]:
    """Return how far the statistics of a painting move when its maps, its pixels, its squares are shuffled, or it is turned."""
    generator, goals = torch.Generator().manual_seed(seed), network(painting, network.style)
    found = {"maps": statistics_loss({name: shuffle(one, 1, generator) for name, one in goals.items()}, goals).item()}
    changed = {f"squares_of_{side}": shuffle(painting, side, generator) for side in (32, 8, 1)} | {"turned": painting.mT}
    found |= {name: statistics_loss(network(one, network.style), goals).item() for name, one in changed.items()}
    print("2. statistics off by", ", ".join(f"{value:.2g} ({name})" for name, value in found.items()))
    return found


# %% 3. A decoder
convolution = partial(nn.Conv2d, kernel_size=3, padding=1, padding_mode="reflect")  # zeros would paint a frame around a picture


class Decoder(nn.Module):
    """From feature maps, late to early, and a photograph, to a picture; without any norm, which would erase the style."""

    def __init__(self, network: PerceptualNetwork, width: int = 32):
        super().__init__()
        maps = network(torch.zeros(1, 3, 64, 64, device=network.mean.device), network.style)
        self.layers = [*{one.shape[2]: name for name, one in reversed(maps.items()) if one.shape[2] < 64}.values()]
        self.joins, self.refines, inputs = nn.ModuleList(), nn.ModuleList(), 0
        for outputs, name in zip((4 * width, 3 * width, 2 * width, width), self.layers, strict=True):
            self.joins.append(convolution(inputs + maps[name].shape[1] + NOISE, outputs))
            self.refines.append(convolution(outputs, outputs))
            inputs = outputs
        self.finish = nn.Sequential(convolution(width + 3, 16), nn.ReLU(), convolution(16, 4))

    def forward(self, maps: dict[str, Tensor], colours: Tensor, generator: torch.Generator) -> Tensor:
        """Decode maps (n, channels, ...), 1/2 to 1/16 of the size of the recoloured photographs (n, 3, height, width)."""
        x = None
        for name, join, refine in zip(self.layers, self.joins, self.refines, strict=True):
            count, _, *size = maps[name].shape
            noise = torch.randn(count, NOISE, *size, generator=generator).to(colours.device)
            grown = [] if x is None else [F.interpolate(x, size=size)]
            x = F.relu(join(torch.cat([maps[name], noise, *grown], dim=1)))
            x = x + F.relu(refine(x))
        change, keep = self.finish(torch.cat([F.interpolate(x, size=colours.shape[2:]), colours], dim=1)).split((3, 1), dim=1)
        soft = F.interpolate(F.avg_pool2d(colours, 4), size=colours.shape[2:], mode="bilinear")
        return torch.lerp(soft, colours, torch.sigmoid(keep)) + change  # where are the photograph's edges to stay?


def train(
    network: PerceptualNetwork, decoder: Decoder, photos: Tensor, styles: Tensor, steps: int, weight: float, lr: float, seed: int,
) -> list[float]:  # fmt: skip
    """Train a decoder on photographs and styles, both (n, 3, size, size), two pairs of them in each step; return losses."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    names, losses = {*network.style, network.content}, []
    with torch.no_grad():  # the encoder is fixed: it looks at every picture once
        contents, goals = network(photos, names), network(styles, network.style)
        grams = perceptual.grams_of(network, styles, network.style)
    for _ in range(steps):
        i, j = (torch.randint(len(pictures), (2,), generator=generator) for pictures in (photos, styles))
        wanted = {name: adain(contents[name][i], goals[name][j]) for name in decoder.layers}
        colours = torch.cat([match_colours(photos[a : a + 1], styles[b : b + 1]) for a, b in zip(i, j, strict=True)])
        pictures = decoder(wanted, colours, generator)
        maps = network(pictures, names)
        shown = F.mse_loss(maps[network.content], contents[network.content][i])
        style = statistics_loss(maps, {name: goal[j] for name, goal in goals.items()})
        style = style + perceptual.style_loss(maps, {name: goal[j] for name, goal in grams.items()})
        loss = shown + weight * style + 10 * (pictures - pictures.clamp(0, 1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses


# %% 4., 5. Any style, more or less of it, and between two
@torch.no_grad()
def paint(network: PerceptualNetwork, decoder: Decoder, photo: Tensor, mixture: list[tuple[Tensor, float]]) -> Tensor:
    """Paint a photograph (1, 3, height, width) in styles and their shares; what these lack to 1 stays the photograph's."""
    seen, kept = network(photo, decoder.layers), 1 - sum(share for _, share in mixture)
    maps, colours = {name: kept * one for name, one in seen.items()}, kept * photo
    for style, share in mixture:
        colours = colours + share * match_colours(photo, style)
        for name, goal in network(style, decoder.layers).items():
            maps[name] = maps[name] + share * adain(seen[name], goal)
    return decoder(maps, colours, torch.Generator().manual_seed(0)).clamp(0, 1)


def judge(network: PerceptualNetwork, photo: Tensor, painting: Tensor, painted: Tensor, wrong: Tensor) -> dict[str, float]:
    """Return distances: in style, by layers not optimised, of four pictures; in content, of the result, and moved half aside."""
    pictures = {"photograph": photo, "colours": match_colours(photo, painting), "wrong": wrong, "style": painted}
    far = {name: perceptual.style_distance(network, one, painting, network.unseen) for name, one in pictures.items()}
    places = {"content": painted, "elsewhere": painted.roll(painted.shape[3] // 2, dims=3)}  # painted alike, out of place
    return far | {name: perceptual.content_distance(network, one, photo) for name, one in places.items()}


def draw(rows: list[tuple[tuple[str, Tensor], ...]]) -> None:
    """Draw rows of four pictures with titles."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(rows), 4, layout="constrained", figsize=(8.8, 1.7 * len(rows)))
    for axis, (title, picture) in zip(axes.flat, [one for row in rows for one in row], strict=True):
        axis.imshow(picture[0].permute(1, 2, 0).cpu().numpy())
        axis.set(title=title, xticks=[], yticks=[])
    save_figure(figure, __file__, "pictures")


def main(
    steps: int = 420, weight: float = 20.0, lr: float = 0.002, size: int = 160, weights: Weights = "auto",
    source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Train a decoder on marbled paper, whole and in tiles, and paint in styles that it has never seen.

    Args:
        steps: Of training, each with two photographs and two styles.
        weight: Of the style, where the content has 1.
        lr: Learning rate of Adam, at its highest.
        size: Of the shorter side of the pictures, in pixels.
        weights: The network whose features are used; auto takes what is on this machine, and downloads nothing.
        source: Pictures from: auto (PyTorch's examples if they are there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: Of weights, patches, paper and pairs.
    """
    check(steps > 1 and size >= 96 and weight > 0, "--steps 2 and --size 96 are the least, and --weight above 0")
    where, data = pick_device(device), style_pictures(source, size)
    network, results = load_perceptual(weights, where, seed), {"off_instance_norm": compare(seed), "mean_left": meet_error()[1]}
    contents, paintings = ({n: one.to(where)[None] / 255 for n, one in part.items()} for part in (data.content, data.styles))
    (shown, photo), (first, second) = next(iter(contents.items())), list(paintings)[:2]
    results |= see_shuffled(network, paintings[first], seed)
    torch.manual_seed(seed)
    generator, decoder = torch.Generator().manual_seed(seed), Decoder(network).to(where)
    photos = photograph_patches(perceptual.packaged_photographs(size)[1:], 64, 96, generator).to(where)  # the first stays unseen
    styles = torch.cat([photos[:20], paper_styles(206, 96, generator).to(where)])  # photographs: to be able to leave one as it is
    losses = train(network, decoder, photos, styles[:-6], steps, weight, lr, seed)
    results |= {"first_loss": losses[0], "loss": sum(losses[-30:]) / len(losses[-30:])}
    print("3. loss {first_loss:.1f} → {loss:.1f}".format(**results))
    sheets = [f"{kind} {number}" for number in (1, 2, 3) for kind in ("paper", "tiles")]  # of known kinds, but new
    paintings |= dict(zip(sheets, styles[-6:].split(1), strict=True))
    painted = {name: paint(network, decoder, photo, [(painting, 1.0)]) for name, painting in paintings.items()}
    found, columns, mixed = {}, [], []
    for (name, one), wrong in zip(paintings.items(), reversed(painted.values()), strict=True):
        found[name] = judge(network, photo, one, painted[name], wrong)
        print(f"4. {shown} as {name}, off:", ", ".join(f"{key} {value:.2f}" for key, value in found[name].items()))
        columns.append([(name, one), (label("colours only", "색만"), match_colours(photo, one)), ("AdaIN", painted[name])])
    found["sheets"] = mean = {key: sum(found[name][key] for name in sheets) / len(sheets) for key in found[sheets[0]]}
    for title, shares in (("0", {}), ("0.5", {first: 0.5}), ("1", {first: 1.0}), ("0.5 + 0.5", {first: 0.5, second: 0.5})):
        picture = paint(network, decoder, photo, [(paintings[name], share) for name, share in shares.items()])
        off = {name: perceptual.style_distance(network, picture, paintings[name], network.unseen) for name in (first, second)}
        found[f"share {title}"] = off | {"content": perceptual.content_distance(network, picture, photo)}
        print(f"5. {title}, off:", ", ".join(f"{key} {value:.2f}" for key, value in found[f"share {title}"].items()))
        mixed.append((label("share {}", "비율 {}").format(title), picture))
    draw([*zip(*columns[:4], strict=True), tuple(mixed)])
    results |= {f"{name}_{key}".replace(" ", "_"): value for name, far in found.items() for key, value in far.items()}
    rival, moved = min(mean["photograph"], mean["colours"], mean["wrong"]), mean["content"] / mean["elsewhere"]
    if not network.trained:  # to whose features one thing is much like another
        print("   untrained features: little content is asked for (study setup --extra models gets trained ones)")
    enough = mean["style"] < 0.9 * rival and moved < (0.75 if network.trained else 1)
    check(enough, f"style {mean['style']:.2f}, otherwise {rival:.2f}: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
