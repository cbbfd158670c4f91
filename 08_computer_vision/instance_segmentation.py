"""Instance segmentation · 인스턴스 분할

A mask of classes says "disc" for every pixel of two discs that touch, and not that there are two. A network that also says, for
every pixel, where the middle of its object lies, can tell them apart, and joins the pieces of what a nearer object cuts in two.
클래스 마스크는 맞닿은 두 원반의 모든 픽셀에 "원반"이라고만 적을 뿐, 둘이라고는 말하지 않는다. 픽셀마다 제 물체의 중심이 어딘지도
답하는 신경망은 둘을 갈라 놓고, 앞의 물체 때문에 두 동강 난 물체는 다시 하나로 잇는다.

You will
  1. find the connected pieces of a mask by passing labels on, equal to SciPy's
  2. write panoptic quality, and see that pieces of a perfect mask still count wrongly
  3. train one network to say class, centres and offsets (the idea of Panoptic-DeepLab), and see swapped axes that nobody reports
  4. group pixels by the centre that they point at, and compare with the pieces of the very same prediction

Before     08_computer_vision/image_segmentation.py, 08_computer_vision/mean_average_precision.py
Run        python -m study run instance_segmentation     (about 45 s on one CPU core, after importing torch)
You see    panoptic quality: pieces of the true mask 0.65; of the network's mask 0.37, the same pixels grouped 0.58; instances.png
Try next   --spread 6: wider hills round the centres. First guess what that does to objects that touch; then look at the figure
Theory     notes/en/08_computer_vision.md · notes/ko/08_computer_vision.md
Practise   python -m study check 08
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets.scenes import CLASSES, Scenes, draw_scenes
from utils.device import pick_device
from utils.lesson import check, mention, run
from utils.plotting import save_figure

THINGS = ("disc", "ring")  # only two classes, so that objects of one class often touch
SMALLEST = 12  # pixels: what is smaller is no object, neither in the truth nor in an answer


class Segments(NamedTuple):
    """The objects of one scene: masks (m, h, w) bool that do not overlap, labels (m,) from 1 to len(THINGS)."""

    masks: Tensor
    labels: Tensor


# %% 1. Pieces that hang together
def connected_pieces(mask: Tensor) -> Tensor:
    """Number the connected pieces of masks: (n, h, w) bool → (n, h, w) int64, 0 outside. Corners connect.

    Every pixel starts with a number of its own, and takes over the largest among its neighbours until nothing changes.
    """
    numbers = mask * torch.arange(1.0, mask[0].numel() + 1, device=mask.device).view(mask.shape[1:])  # exact up to 2^24
    while True:
        spread = F.max_pool2d(numbers[:, None], 3, stride=1, padding=1)[:, 0] * mask
        if torch.equal(spread, numbers):
            return numbers.long()
        numbers = spread


def compare_with_scipy(masks: Tensor) -> int:
    """Return in how many of the masks (n, h, w) SciPy finds other pieces."""
    from scipy import ndimage

    different = 0
    for mask, ours in zip(masks, connected_pieces(masks), strict=True):
        theirs, count = ndimage.label(mask.numpy(), structure=[[1] * 3] * 3)
        pairs = torch.stack([ours, torch.from_numpy(theirs)])[:, mask].unique(dim=1)  # which number of ours lies on which
        different += not (pairs.shape[1] == len(ours[mask].unique()) == count)  # one to one
    print(f"1. pieces of {len(masks)} masks: SciPy finds others in {different}")
    return different


# %% 2. Objects, and how well they are found
def separate(ids: Tensor, semantic: Tensor) -> Segments:
    """Make objects of the pixels with the same number (h, w), 0 for none; an object has the class of most of its pixels."""
    masks = torch.stack([ids == number for number in ids.unique()])  # (1 + m, h, w)
    masks = masks[(masks & (ids > 0)).sum(dim=(1, 2)) >= SMALLEST]
    labels = [semantic[mask].bincount(minlength=len(THINGS) + 1)[1:].argmax() + 1 for mask in masks]
    return Segments(masks, torch.tensor(labels, dtype=torch.long))


def separate_pieces(semantic: Tensor) -> list[Segments]:
    """Take every connected piece of one class for an object: masks of classes (n, h, w) → the objects of each."""
    ids = sum(connected_pieces(semantic == label) for label in range(1, len(THINGS) + 1))  # no two pieces get the same number
    return [separate(*one) for one in zip(ids, semantic, strict=True)]


def measure(found: list[Segments], truth: list[Segments]) -> tuple[float, float]:
    """Return panoptic quality (Kirillov et al., 2019), the mean over classes, and by how many objects the counts are off."""
    overlap, count = torch.zeros(2, len(THINGS) + 1)
    for ours, theirs in zip(found, truth, strict=True):
        a, b = ours.masks.flatten(1).float(), theirs.masks.flatten(1).float()  # (m, h w), (k, h w)
        both = a @ b.T
        iou = both / (a.sum(dim=1)[:, None] + b.sum(dim=1) - both)  # (m, k)
        rows, columns = ((iou > 0.5) & (ours.labels[:, None] == theirs.labels)).nonzero(as_tuple=True)  # one to one, above a half
        overlap += torch.bincount(theirs.labels[columns], weights=iou[rows, columns], minlength=len(count))
        count += torch.cat([ours.labels, theirs.labels]).bincount(minlength=len(count))
    quality = overlap / (count / 2)  # TP + FP / 2 + FN / 2 is half of all that was found and all that is there
    off = [abs(len(ours.labels) - len(theirs.labels)) for ours, theirs in zip(found, truth, strict=True)]
    return quality[1:].nanmean().item(), sum(off) / len(off)


# %% 3. Class, centres, offsets
class Network(nn.Module):
    """Pictures (n, 3, h, w) uint8 → class logits (n, 3, h, w), heat (n, h, w), offsets (n, 2, h, w) in pixels, down and right."""

    def __init__(self, width: int = 16):
        super().__init__()
        pairs = ((3, width), (width, 2 * width), (2 * width, 4 * width), (4 * width, 4 * width))
        self.down = nn.ModuleList(nn.Sequential(layer(a, b, stride=2), layer(b, b)) for a, b in pairs)
        self.up = nn.ModuleList([layer(8 * width, 4 * width), layer(6 * width, 2 * width), layer(3 * width, 2 * width)])
        self.head = nn.Conv2d(2 * width, len(THINGS) + 4, 1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, kept = pictures.float() / 128 - 1, []
        for part in self.down:  # to a half, a quarter, an eighth, a sixteenth
            x = part(x)
            kept.append(x)
        for part, skipped in zip(self.up, kept[-2::-1], strict=True):  # and back to a half, as in a U-Net
            x = part(torch.cat([F.interpolate(x, scale_factor=2, mode="bilinear"), skipped], dim=1))
        out = F.interpolate(self.head(x), scale_factor=2, mode="bilinear")
        return out[:, :-3], out[:, -3], 8 * out[:, -2:]  # offsets are of the order of 8 pixels


def layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A convolution with norm and ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def make_targets(owners: Tensor, spread: float) -> tuple[Tensor, Tensor]:
    """Return hills round the objects' centres (n, h, w), 1 at the top, and each pixel's way to its centre (n, 2, h, w)."""
    n, height, width = owners.shape
    grid = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))  # (2, h, w): row, column
    heat, offsets = torch.zeros(n, height, width), torch.zeros(n, 2, height, width)
    for k in range(1, int(owners.max()) + 1):
        seen = owners == k
        size = seen.sum(dim=(1, 2))  # (n,)
        centre = (seen[:, None] * grid).sum(dim=(2, 3)) / size.clamp(min=1)[:, None]  # (n, 2), the mean of its pixels
        way = centre[:, :, None, None] - grid
        hill = torch.exp(-way.square().sum(dim=1) / (2 * spread**2)) * (size >= SMALLEST)[:, None, None]
        heat, offsets = torch.maximum(heat, hill), torch.where(seen[:, None], way, offsets)
    return heat, offsets


def train(network: Network, scenes: Scenes, semantic: Tensor, spread: float, steps: int, seed: int) -> list[float]:
    """Take steps of AdamW on 16 random scenes each, half of them mirrored; return the losses."""
    generator, losses, where = torch.Generator().manual_seed(seed), [], network.head.weight.device
    known = [one.to(where) for one in (scenes.images, semantic, *make_targets(scenes.owners, spread))]
    optimizer = torch.optim.AdamW(network.train().parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(semantic), (16,), generator=generator).to(where)
        images, classes, heat, offsets = (one[chosen] for one in known)
        for axis in (0, 1):  # top and bottom, left and right: discs and rings allow both
            if torch.rand((), generator=generator) < 0.5:
                images, classes, heat, offsets = (one.flip(axis - 2) for one in (images, classes, heat, offsets))
                offsets[:, axis] *= -1  # they point the other way
        logits, hills, ways = network(images)
        wrong_way = (ways - offsets).abs().sum(dim=1)[classes > 0].mean()  # in pixels, on objects
        loss = F.cross_entropy(logits, classes) + 20 * F.mse_loss(hills, heat) + 0.1 * wrong_way
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


# %% 4. Grouping
def group(semantic: Tensor, heat: Tensor, offsets: Tensor, least: float = 0.3) -> Segments:
    """Give every pixel of an object to the centre nearest to where it points: (h, w), (h, w), (2, h, w) → objects."""
    # Centres are the highest points of 7x7, if higher than `least`.
    centres = ((heat == F.max_pool2d(heat[None], 7, stride=1, padding=3)[0]) & (heat > least)).nonzero()  # (m, 2)
    rows, columns = (semantic > 0).nonzero(as_tuple=True)  # (p,) each
    ids = torch.zeros_like(semantic)
    if len(centres):
        goals = torch.stack([rows, columns], dim=1) + offsets[:, rows, columns].T  # (p, 2)
        ids[rows, columns] = 1 + torch.cdist(goals, centres.float()).argmin(dim=1)
    return separate(ids, semantic)


@torch.no_grad()
def answer(network: Network, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the class of every pixel (n, h, w), heat (n, h, w) and offsets (n, 2, h, w), on the CPU."""
    parts = [network.eval()(some.to(network.head.weight.device)) for some in images.split(100)]
    logits, heat, offsets = (torch.cat(one).cpu() for one in zip(*parts, strict=True))
    return logits.argmax(dim=1), heat, offsets


# %% All of it, in order
def draw(images: Tensor, semantic: Tensor, heat: Tensor, columns: dict[str, list[Segments]]) -> None:
    """Draw scenes (n, 3, h, w) with what the network says of them, and objects each in a colour of its own."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(images), 3 + len(columns), figsize=(12, 2.1 * len(images)), layout="constrained")
    for i, row in enumerate(axes):
        views = {"picture": images[i].permute(1, 2, 0), "classes": semantic[i], "centres": heat[i]}
        for name, segments in columns.items():
            views[name] = (segments[i].masks * torch.arange(1, 1 + len(segments[i].labels))[:, None, None]).sum(dim=0)
        for axis, (name, view) in zip(row, views.items(), strict=True):
            colours, most = {"picture": (None, None), "classes": ("viridis", 2), "centres": ("magma", 1)}.get(name, ("tab10", 9))
            axis.imshow(view.numpy(), cmap=colours, vmin=0, vmax=most)
            axis.set(title=name if i == 0 else "", xticks=[], yticks=[])
    save_figure(figure, __file__, "instances")


def main(scenes: int = 1000, steps: int = 700, spread: float = 2.5, device: str = "auto", seed: int = 0) -> dict[str, float]:
    """Tell objects of one class apart: by connected pieces, and by centres that every pixel points at.

    Args:
        scenes: How many scenes to learn from.
        steps: Training steps of 16 scenes each.
        spread: Standard deviation of the hills round the centres, in pixels.
        device: auto, cpu, cuda or mps; for the training.
        seed: Of weights and batches.
    """
    check(min(scenes, steps) > 0 and spread > 0, f"--scenes {scenes} --steps {steps} --spread {spread}: all must be above 0")
    known, test = draw_scenes(scenes, 0, 64, "train", THINGS), draw_scenes(200, 0, 64, "test", THINGS)
    mention("data", f"sample: scenes of discs and rings on photographs, drawn here, 64x64 ({scenes:,} + {len(test.images)})")
    numbers = torch.tensor([0, *(1 + CLASSES.index(name) for name in THINGS)])  # in a scene's mask; ours are 0, 1, 2
    known_classes, classes = (torch.bucketize(part.masks.long(), numbers) for part in (known, test))  # (n, 64, 64)
    results = {"scipy_differs": compare_with_scipy(classes > 0)}
    check(results["scipy_differs"] == 0, "our pieces are not SciPy's")

    truth = [separate(*one) for one in zip(test.owners.long(), classes, strict=True)]
    heat, offsets = make_targets(test.owners, spread)
    told = {"pieces_true": separate_pieces(classes)}
    for name, ways in (("grouped_true", offsets), ("swapped_true", offsets.flip(1))):
        told[name] = [group(*one) for one in zip(classes, heat, ways, strict=True)]
    for name, segments in told.items():
        results[f"pq_{name}"], results[f"off_{name}"] = measure(segments, truth)
    print(f"2. true mask: its pieces have PQ {results['pq_pieces_true']:.2f} and miscount by {results['off_pieces_true']:.2f}")
    swapped = f"(right, down) instead of (down, right): {results['pq_swapped_true']:.2f}, and no error message"
    print(f"3. true centres and offsets, grouped: PQ {results['pq_grouped_true']:.2f}; offsets as {swapped}")
    torch.manual_seed(seed)
    network = Network().to(pick_device(device))
    results["loss"] = train(network, known, known_classes, spread, steps, seed)[-1]
    semantic, heat, offsets = answer(network, test.images)
    results["pixels_right"] = (semantic == classes).float().mean().item()
    grouped = [group(*one) for one in zip(semantic, heat, offsets, strict=True)]
    told = {"pieces": separate_pieces(semantic), "grouped": grouped}
    for name, segments in told.items():
        results[f"pq_{name}"], results[f"off_{name}"] = pq, off = measure(segments, truth)
        print(f"4. classes of the network ({results['pixels_right']:.1%} right), {name:7}: PQ {pq:.3f}, miscounts by {off:.2f}")
    draw(test.images[:5], semantic, heat, told | {"truth": truth})
    gain, better = results["pq_grouped"] - results["pq_pieces"], results["off_pieces"] - results["off_grouped"]
    check(min(gain, better / 2) > 0.05, f"grouping gains {gain:.2f} PQ and {better:.2f} objects over pieces: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
