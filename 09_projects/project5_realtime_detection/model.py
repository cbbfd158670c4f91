"""The network that finds things, and the file in which it is kept.

    picture ─ stem ─┬─ 1/8 ──────────────┬─ 1/8 ── head
                    └─ 1/16 ─────────┬─ ↑│↓ 1/16 ─ head      three maps: small things are seen on the fine one,
                        └─ 1/32 ── ↑ ┘  ↓ 1/32 ── head      large things on the coarse one

Every cell of the three maps says one box and one score for each class. There are no anchor boxes: a cell says how far from its
centre the four sides of its box are (Tian et al., 2019, "FCOS", https://arxiv.org/abs/1904.01355). All of this, from pixels to
boxes in pixels, is inside `forward`, so that every runtime computes the same; what is left to do outside is to throw double boxes
out (finder.py).
"""

import copy
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from utils import checkpoint, paths
from utils.lesson import LessonError, check

STRIDES = (8, 16, 32)  # pixels from one cell to the next
RARE = 0.01  # the score of every cell before anything is learned: most cells are background (Lin et al., 2017)
FACTS = ("classes", "width", "side", "source", "average_precision")  # what must be saved with the weights
TRAIN_AGAIN = "train again with `python -m study run detection`"


class Said(NamedTuple):
    """What the network says before scores are made of it; `loss.py` takes this.

    Attributes:
        boxes: (batch, cells, 4): x1 y1 x2 y2 in pixels.
        logits: (batch, cells, classes).
        centres: (cells, 2): x y of each cell's centre in pixels.
        strides: (cells,): pixels from this cell to the next.
    """

    boxes: Tensor
    logits: Tensor
    centres: Tensor
    strides: Tensor


class Convolution(nn.Module):
    """A convolution, batch norm and ReLU. ReLU costs nothing and bears whole numbers (int8) well."""

    def __init__(self, channels_in: int, channels: int, size: int = 3, stride: int = 1):
        super().__init__()
        self.convolution = nn.Conv2d(channels_in, channels, size, stride, padding=size // 2, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.convolution(x)))


class Block(nn.Module):
    """Half of the channels go through two convolutions beside a shortcut, the other half past them (Wang et al., 2019, "CSPNet").

    For n channels that makes 6.5 n² multiplications a pixel; two convolutions of the full width, a residual block, take 18 n².
    """

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        half = channels // 2
        self.split = Convolution(channels_in, channels, size=1)
        self.first, self.second = Convolution(half, half), Convolution(half, half)
        self.join = Convolution(channels, channels, size=1)

    def forward(self, x: Tensor) -> Tensor:
        past, through = self.split(x).chunk(2, dim=1)
        return self.join(torch.cat([past, through + self.second(self.first(through))], dim=1))


class Detector(nn.Module):
    """Finds things of any number of classes in square pictures whose side is a multiple of 32."""

    def __init__(self, classes: int, width: int = 16):
        """Make a network with random weights.

        Args:
            classes: How many kinds of things.
            width: Channels of the first layer; all others are multiples of it, and an even number is wanted.
        """
        super().__init__()
        self.classes, self.width = classes, width
        fine, middle, coarse = 3 * width, 6 * width, 8 * width
        self.stem = nn.Sequential(
            Convolution(3, width, stride=2),
            Convolution(width, 2 * width, stride=2),
            Block(2 * width, 2 * width),
            Convolution(2 * width, fine, stride=2),
            Block(fine, fine),
        )
        self.to_middle = nn.Sequential(Convolution(fine, middle, stride=2), Block(middle, middle))
        self.to_coarse = nn.Sequential(Convolution(middle, coarse, stride=2), Block(coarse, coarse))
        self.look_around = Convolution(2 * coarse, coarse, size=1)
        # What is recognised in coarse maps comes back to the finer ones (Lin et al., 2016), and down again (Liu et al., 2018).
        self.up_middle, self.up_fine = Block(coarse + middle, middle), Block(middle + fine, fine)
        self.down_middle, self.down_coarse = Convolution(fine, middle, stride=2), Convolution(middle, coarse, stride=2)
        self.again_middle, self.again_coarse = Block(2 * middle, middle), Block(2 * coarse, coarse)
        self.heads = nn.ModuleList(Head(channels, 4 * width, classes) for channels in (fine, middle, coarse))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Turn pictures (batch, 3, side, side) in 0..1 into boxes and scores.

        Returns:
            boxes (batch, cells, 4), x1 y1 x2 y2 in pixels; scores (batch, cells, classes) in 0..1. At a side of 320 there are
            40 * 40 + 20 * 20 + 10 * 10 = 2,100 cells.
        """
        said = self.say(pictures)
        return said.boxes, said.logits.sigmoid()

    def say(self, pictures: Tensor) -> Said:
        """As `forward`, with logits, and where the cells are: what training needs."""
        fine = self.stem(2 * pictures - 1)  # (batch, channels, side / 8, side / 8)
        middle = self.to_middle(fine)
        coarse = self.to_coarse(middle)
        coarse = self.look_around(torch.cat([coarse, F.max_pool2d(coarse, 5, stride=1, padding=2)], dim=1))
        middle = self.up_middle(torch.cat([twice(coarse), middle], dim=1))
        fine = self.up_fine(torch.cat([twice(middle), fine], dim=1))
        middle = self.again_middle(torch.cat([self.down_middle(fine), middle], dim=1))
        coarse = self.again_coarse(torch.cat([self.down_coarse(middle), coarse], dim=1))

        sides, logits, centres, strides = [], [], [], []
        for maps, head, stride in zip((fine, middle, coarse), self.heads, STRIDES, strict=True):
            far, classes = head(maps)
            sides.append(far.float().exp() * stride)
            logits.append(classes.float())
            centres.append(cell_centres(*maps.shape[2:], stride, maps.device))
            strides.append(torch.full((len(centres[-1]),), float(stride), device=maps.device))
        centres, sides = torch.cat(centres), torch.cat(sides, dim=1)
        boxes = torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], dim=2)
        return Said(boxes, torch.cat(logits, dim=1), centres, torch.cat(strides))


class Head(nn.Module):
    """What each cell of one map says: where the sides of its box are, and what is in it."""

    def __init__(self, channels_in: int, channels: int, classes: int):
        super().__init__()
        self.where = nn.Sequential(Convolution(channels_in, channels), nn.Conv2d(channels, 4, 1))
        self.what = nn.Sequential(Convolution(channels_in, channels), nn.Conv2d(channels, classes, 1))
        nn.init.constant_(self.where[-1].bias, 0.7)  # boxes begin four cells wide: e^0.7 = 2 cells on each side
        nn.init.constant_(self.what[-1].bias, torch.logit(torch.tensor(RARE)).item())

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, channels, height, width) to logarithms of distances (batch, cells, 4) and logits (batch, cells, classes)."""
        far, classes = self.where(maps), self.what(maps)
        return far.flatten(2).transpose(1, 2).clamp(-4, 4), classes.flatten(2).transpose(1, 2)


def twice(maps: Tensor) -> Tensor:
    """Maps of twice the height and width."""
    return F.interpolate(maps, scale_factor=2.0, mode="nearest")


def cell_centres(height: int, width: int, stride: int, device: torch.device) -> Tensor:
    """The centres of the cells in pixels, row by row: (height * width, 2), x before y."""
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    return (torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5) * stride


def fused(model: Detector) -> Detector:
    """A copy for use, not for training: each batch norm is worked into the convolution before it, which then computes both."""
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, Convolution):
            module.convolution = fuse_conv_bn_eval(module.convolution, module.norm)
            module.norm = nn.Identity()
    return model.requires_grad_(False)


# %% The file
def default_file() -> Path:
    """Where training puts the network."""
    return paths.models("project5_realtime_detection") / "model.pt"


def save_network(path: Path, model: Detector, classes: list[str], side: int, source: str, average_precision: float, **about):
    """Keep a network in one file: weights, width, names of the classes, and facts about it.

    Args:
        path: The file.
        model: The network.
        classes: The name of each class.
        side: Of the pictures that it was trained for.
        source: What data it was trained on.
        average_precision: On test pictures, at an overlap of 0.5.
        about: Further facts.
    """
    facts = {"classes": classes, "width": model.width, "side": side, "source": source, "average_precision": average_precision}
    checkpoint.save_model(path, model, **facts, **about)


def load_network(file: Path | None = None, device: torch.device | str = "cpu") -> tuple[Detector, dict]:
    """Load what `save_network` has written, ready for use.

    Args:
        file: None is where training puts it.
        device: Where it goes.

    Returns:
        The network, and the facts: "classes", "side", "source", "average_precision".

    Raises:
        LessonError: There is no such file, it is damaged, or it is another model's.
    """
    path, about = checkpoint.load_facts(file, default_file(), FACTS, "run detection")
    classes, side = about["classes"], about["side"]
    named = isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes)
    check(named, f"{paths.short(path)} does not name its classes: {TRAIN_AGAIN}")
    fits = isinstance(side, int) and side > 0 and side % STRIDES[-1] == 0
    check(fits, f"{paths.short(path)} is for no size of pictures: {TRAIN_AGAIN}")
    try:
        model = Detector(len(classes), about["width"])
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise LessonError(f"{paths.short(path)} is not a network of this project ({error}): {TRAIN_AGAIN}") from None
    about = checkpoint.load_model(path, model, device)
    return model.eval(), about
