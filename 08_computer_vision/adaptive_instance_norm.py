"""Adaptive instance normalisation · 적응적 인스턴스 정규화

To paint in a style that nobody trained for, hand the style over as numbers: each feature's mean and deviation over the picture. Give
the photograph's features the painting's numbers, and let a decoder, trained once on many styles, make a picture of them.
학습한 적 없는 스타일로 그리려면 스타일을 숫자로 건네면 된다. 특징마다 그림 전체의 평균과 표준 편차가 그 숫자다. 사진의 특징을 그림의
평균과 표준 편차에 맞추고, 여러 스타일로 한 번 학습한 디코더가 그것을 그림으로 바꾼다.

You will
  1. write adaptive instance normalisation, equal to PyTorch's instance norm; meet the error everyone meets
  2. see what means and deviations carry: a picture cut up and shuffled has the same ones
  3. train a decoder behind a fixed encoder, on photographs and paper that is marbled by a few lines of code
  4. paint in styles that it has never seen; judge it by layers that were not optimised, against matching the colours
  5. turn the knob from photograph to style, and walk from one style to another

Before     08_computer_vision/style_transfer.py
Run        python -m study run adaptive_instance_norm  (about RUNTIME s on one CPU core, after importing torch)
You see    SEEN
Try next   TRYNEXT
Theory     notes/en/08_computer_vision.md · notes/ko/08_computer_vision.md
Practise   python -m study check 08
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Source
from utils.datasets.marbled_paper import marbled_paper
from utils.datasets.styles import style_pictures
from utils.device import pick_device
from utils.lesson import check, run
from utils.perceptual import (
    PerceptualNetwork, Weights, content_distance, grams_of, load_perceptual, match_colours, packaged_photographs,
    style_distance, style_loss,
)  # fmt: skip
from utils.plotting import label, save_figure

Maps = dict[str, Tensor]
NOISE = 2  # channels of it: to paint in a plain sky, a decoder has to start somewhere
EPS = 1e-5  # under the root: a channel that is the same everywhere has no deviation to divide by


# %% 1. The statistics, and a style made of them
def statistics(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Each channel's mean and deviation over its places: (n, channels, height, width) → twice (n, channels, 1, 1)."""
    variance, mean = torch.var_mean(maps, dim=(2, 3), correction=0, keepdim=True)
    return mean, (variance + EPS).sqrt()


def adain(content: Tensor, style: Tensor) -> Tensor:
    """Give the content's channels the style's means and deviations; sizes may differ, the numbers of channels may not."""
    (mean, deviation), (goal, spread) = statistics(content), statistics(style)
    return (content - mean) / deviation * spread + goal


def compare(seed: int) -> float:
    """Return how far we are from PyTorch's instance norm, with the style's deviations as weight and its means as bias."""
    generator = torch.Generator().manual_seed(seed)
    content, style = torch.randn(3, 8, 6, 7, generator=generator), 3 + 2 * torch.randn(3, 8, 9, 4, generator=generator)
    off = 0.0
    for one, other in zip(content.split(1), style.split(1), strict=True):
        goal, spread = (value.flatten() for value in statistics(other))
        off = max(off, (F.instance_norm(one, weight=spread, bias=goal) - adain(one, other)).abs().max().item())
    print(f"1. off PyTorch's instance norm by {off:.0e}")
    return off


def meet_error() -> tuple[str, float]:
    """Forget keepdim; return PyTorch's answer, and the largest mean that is left where no answer comes."""
    message, maps = "", torch.rand(1, 8, 6, 7, generator=torch.Generator().manual_seed(0))
    try:
        maps - maps.mean(dim=(2, 3))
    except RuntimeError as error:
        message = str(error)
    square = F.interpolate(maps, size=(8, 8))  # as many columns as channels
    left = (square - square.mean(dim=(2, 3))).mean(dim=(2, 3)).abs().max().item()
    print(f'1. "{message}"\n   read: the means (1, 8) meet columns, not channels. keepdim=True leaves them (1, 8, 1, 1)')
    print(f"   with 8 columns no message comes: the means should be 0 now, and are up to {left:.2f}")
    return message, left


# %% 2. What they carry
def statistics_loss(maps: Maps, goals: Maps) -> Tensor:
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
    changed = {f"squares of {side}": shuffle(painting, side, generator) for side in (32, 8, 1)} | {"turned": painting.mT}
    found |= {name: statistics_loss(network(one, network.style), goals).item() for name, one in changed.items()}
    print("2. statistics off by", ", ".join(f"{value:.2g} ({name})" for name, value in found.items()))
    return found


# %% 3. A decoder
class Decoder(nn.Module):
    """From an encoder's feature maps, from late to early, and the colours, to a picture.

    There is no norm in it: a norm would throw away the very means and deviations that carry the style.
    """

    def __init__(self, network: PerceptualNetwork, width: int):
        """Take the first style layer of every size below the picture's; the smallest maps get 4 · width channels."""
        super().__init__()
        sizes: dict[int, tuple[str, int]] = {}
        for name, maps in network(torch.zeros(1, 3, 64, 64, device=network.mean.device), network.style).items():
            if maps.shape[2] < 64:
                sizes.setdefault(maps.shape[2], (name, maps.shape[1]))
        self.layers = [name for name, _ in list(sizes.values())[3::-1]]
        self.joins, self.refines, inputs = nn.ModuleList(), nn.ModuleList(), 0
        for outputs, name in zip((4 * width, 3 * width, 2 * width, width), self.layers, strict=True):
            self.joins.append(convolution(inputs + dict(sizes.values())[name] + NOISE, outputs))
            self.refines.append(convolution(outputs, outputs))
            inputs = outputs
        self.finish = nn.Sequential(convolution(width + 3, 16), nn.ReLU(), convolution(16, 3))

    def forward(self, maps: Maps, colours: Tensor, generator: torch.Generator) -> Tensor:
        """Decode maps (n, channels, height / 2..16, width / 2..16), colours (n, 3, height, width), noise: (n, 3, height, width)."""
        x = None
        for name, join, refine in zip(self.layers, self.joins, self.refines, strict=True):
            count, _, *size = maps[name].shape
            noise = torch.randn(count, NOISE, *size, generator=generator).to(colours.device)
            grown = [] if x is None else [F.interpolate(x, size=size)]
            x = F.relu(join(torch.cat([maps[name], noise, *grown], dim=1)))
            x = x + F.relu(refine(x))
        soft = F.interpolate(F.avg_pool2d(colours, 4), size=colours.shape[2:], mode="bilinear")  # without the photograph's edges
        return soft + self.finish(torch.cat([F.interpolate(x, size=soft.shape[2:]), soft], dim=1))


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution that continues the picture by its mirror image: zeros would paint a frame around it."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")


def patches(pictures: Sequence[Tensor], count: int, size: int, generator: torch.Generator) -> Tensor:
    """Cut squares out of pictures (1, 3, height, width): (count, 3, size, size), some of them reduced, half of them mirrored."""
    cut = []
    for number in range(count):
        picture, draw = pictures[number % len(pictures)], torch.rand(4, generator=generator).tolist()
        side = min(int(size * (1 + draw[0])), *picture.shape[2:])
        y, x = (int(share * (length - side + 1)) for share, length in zip(draw[1:3], picture.shape[2:], strict=True))
        patch = F.interpolate(picture[:, :, y : y + side, x : x + side], size=(size, size), mode="bilinear", antialias=True)
        cut.append(patch.flip(3) if draw[3] < 0.5 else patch)
    return torch.cat(cut)


def recolour(photos: Tensor, styles: Tensor) -> Tensor:
    """Match the colours of photographs with those of styles, pair by pair: both (n, 3, height, width)."""
    return torch.cat([match_colours(photo, style) for photo, style in zip(photos.split(1), styles.split(1), strict=True)])


def train(
    network: PerceptualNetwork, decoder: Decoder, photos: Tensor, styles: Tensor, steps: int, weight: float, lr: float, seed: int,
    batch: int = 2,
) -> list[float]:  # fmt: skip
    """Train a decoder on pairs of photographs and styles, both (n, 3, size, size), drawn anew in each step; return losses."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    with torch.no_grad():  # the encoder is fixed: it looks at every picture once
        contents, goals = network(photos, network.style), network(styles, network.style)
        grams = grams_of(network, styles, network.style)
    losses = []
    for step in range(steps):
        i, j = (torch.randint(len(pictures), (batch,), generator=generator) for pictures in (photos, styles))
        wanted = {name: adain(contents[name][i], goals[name][j]) for name in decoder.layers}
        pictures = decoder(wanted, recolour(photos[i], styles[j]), generator)
        maps = network(pictures, network.style)
        shown = F.mse_loss(maps[network.content], contents[network.content][i])
        style = statistics_loss(maps, {name: goal[j] for name, goal in goals.items()})
        together = style_loss(maps, {name: goal[j] for name, goal in grams.items()})
        outside = (pictures - pictures.clamp(0, 1)).square().mean()
        smooth = pictures.diff(dim=3).square().mean() + pictures.diff(dim=2).square().mean()
        loss = shown + weight * (style + together) + 0.3 * smooth + 10 * outside
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        if (step + 1) % max(1, steps // 3) == 0:
            print(f"3. step {step + 1:3}: loss {sum(losses[-50:]) / len(losses[-50:]):.2f}; style off by {together.item():.2f}")
    return losses


# %% 4., 5. Any style, more or less of it, and between two
@torch.no_grad()
def paint(
    network: PerceptualNetwork, decoder: Decoder, photo: Tensor, styles: Sequence[Tensor], shares: Sequence[float],
) -> Tensor:  # fmt: skip
    """Paint a photograph (1, 3, height, width) in a mixture of styles; what the shares lack to 1 stays the photograph's."""
    seen = network(photo, decoder.layers)
    kept = 1 - sum(shares)
    maps, colours = {name: kept * one for name, one in seen.items()}, kept * photo
    for style, share in zip(styles, shares, strict=True):
        colours = colours + share * match_colours(photo, style)
        for name, goal in network(style, decoder.layers).items():
            maps[name] = maps[name] + share * adain(seen[name], goal)
    return decoder(maps, colours, torch.Generator().manual_seed(0)).clamp(0, 1)


def whole(picture: Tensor) -> Tensor:
    """Make a picture (3, height, width) of 0..255 one of 0..1, (1, 3, ...), sides multiples of 16: maps fit on one another."""
    height, width = (side // 16 * 16 for side in picture.shape[1:])
    return picture[None, :, :height, :width] / 255


def judge(network: PerceptualNetwork, photo: Tensor, other: Tensor, style: Tensor, painted: Tensor) -> dict[str, float]:
    """Return distances: in style, by layers not optimised, of photo, its colours matched, result; in content, of result, other."""
    pictures = {"photograph": photo, "colours": match_colours(photo, style), "style": painted}
    found = {name: style_distance(network, picture, style, network.unseen) for name, picture in pictures.items()}
    return found | {"content": content_distance(network, painted, photo), "other": content_distance(network, other, photo)}


def draw(rows: list[list[tuple[str, Tensor]]]) -> None:
    """Draw rows of pictures with titles."""
    import matplotlib.pyplot as plt

    size = {"figsize": (2.2 * len(rows[0]), 1.75 * len(rows))}
    figure, axes = plt.subplots(len(rows), len(rows[0]), layout="constrained", squeeze=False, **size)
    for axis, (title, picture) in zip(axes.flat, [one for row in rows for one in row], strict=True):
        axis.imshow(picture[0].permute(1, 2, 0).cpu().numpy())
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    save_figure(figure, __file__, "pictures")


def main(
    steps: int = 300, weight: float = 10.0, lr: float = 0.004, width: int = 32, size: int = 160, weights: Weights = "auto",
    source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Train a decoder on marbled paper, and paint in styles that it has never seen.

    Args:
        steps: Of training, each with two photographs and two styles.
        weight: Of the style, where the content has 1.
        lr: Highest learning rate of Adam.
        width: Channels of the decoder's largest maps; the smallest have four times as many.
        size: Of the shorter side of the pictures, in pixels.
        weights: The network whose features are used; auto takes what is on this machine, and downloads nothing.
        source: Pictures from: auto (PyTorch's examples if they are there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: Of weights, patches, paper and pairs.
    """
    check(
        min(steps, width) > 0 and size >= 96 and weight > 0, "--steps 1, --width 1 and --size 96 are the least, --weight above 0"
    )
    where, data = pick_device(device), style_pictures(source, size)
    network, results = load_perceptual(weights, where, seed), {"off_instance_norm": compare(seed)}
    results["mean_left"] = meet_error()[1]
    shown, photo = next(iter(data.content.items()))
    photo, paintings = whole(photo.to(where)), {name: whole(one.to(where)) for name, one in data.styles.items()}
    shuffled = see_shuffled(network, next(iter(paintings.values())), seed)
    results |= {f"moved_{name.replace(' ', '_')}": value for name, value in shuffled.items()}
    torch.manual_seed(seed)
    generator, decoder = torch.Generator().manual_seed(seed), Decoder(network, width).to(where)
    known = packaged_photographs(size)[1:]  # the first is the sample's, and stays unseen
    photos, papers = patches(known, 64, 96, generator).to(where), marbled_paper(203, 96, generator).to(where)
    losses = train(network, decoder, photos, papers[:200], steps, weight, lr, seed)
    results |= {"first_loss": losses[0], "loss": sum(losses[-30:]) / len(losses[-30:])}
    sheets = [f"sheet {number}" for number in (1, 2, 3)]  # of a known kind, but new
    paintings |= dict(zip(sheets, papers[200:].split(1), strict=True))
    other, rows = F.interpolate(known[0].to(where), size=photo.shape[2:], mode="bilinear"), []
    for name, painting in paintings.items():
        painted = paint(network, decoder, photo, [painting], [1.0])
        far = judge(network, photo, other, painting, painted)
        print(f"4. {shown} as {name}, not seen before: off the style by {far['style']:.2f};", end=" ")
        print(f"the photograph {far['photograph']:.2f}, its colours matched {far['colours']:.2f}")
        print(f"   off the content by {far['content']:.2f}; another photograph {far['other']:.2f}")
        results |= {f"{name.replace(' ', '_')}_{key}": value for key, value in far.items()}
        pictures = {shown: photo, name: painting, label("colours only", "색만"): match_colours(photo, painting)}
        rows.append([*pictures.items(), ("AdaIN", painted)])
    first, second = list(paintings.values())[:2]
    mixtures = {"0": ([], []), "0.3": ([first], [0.3]), "0.6": ([first], [0.6]), "½ + ½": ([first, second], [0.5, 0.5])}
    rows.append([(name, paint(network, decoder, photo, *mixture)) for name, mixture in mixtures.items()])
    draw(rows)
    mean = {key: sum(results[f"{name.replace(' ', '_')}_{key}"] for name in sheets) / len(sheets) for key in far}
    results |= {f"sheets_{key}": value for key, value in mean.items()}
    better = mean["style"] < 0.9 * min(mean["photograph"], mean["colours"]) and mean["content"] < mean["other"]
    check(better, f"new sheets: off the style by {mean['style']:.2f}, colours only {mean['colours']:.2f}: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
