"""Object detection · 객체 탐지

A one-stage detector answers everywhere at once: each cell of a grid says what lies there and how far its four sides are. It works
less by its network than by who has to answer for which object, and by teaching all the others to keep silent.
1단계 검출기는 모든 곳에서 한꺼번에 답한다. 격자의 칸마다 거기에 무엇이 있고 네 변이 얼마나 떨어져 있는지 말한다. 검출기를 되게
하는 것은 신경망보다도, 어느 칸이 어느 물체를 맡을지 정하고 나머지 칸에는 잠자코 있으라고 가르치는 일이다.

You will
  1. build a small YOLO without anchors: two strides, merged on one grid of 8 pixels; classes and sides for each cell
  2. decide which cells answer for an object: those inside it that answer best already
  3. write the loss and the loop, and watch mean average precision on pictures kept apart
  4. turn answers into boxes, and see what non-maximum suppression removes, and what it costs to leave it out
  5. make two mistakes that give no message: no prior, and sides that forget the stride

Before     08_computer_vision/mean_average_precision.py, 06_advanced/skip_connections.py
Run        python -m study run object_detection     (about 52 s on one CPU core, after importing torch)
You see    mAP@0.5 0.79, 0.42 without NMS, 0.32 without a network; 0.02 and 0.00 where a mistake is made; found.png, curves.png
Try next   --source real --steps 3000: blood cells, if you have BCCD. First guess which of the three kinds is the hardest
Theory     notes/en/08_computer_vision.md · notes/ko/08_computer_vision.md
Practise   python -m study check 08
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.average_precision import Found, Precision, mean_average_precision
from utils.box_augmentation import GREY, flip, jitter_colour, random_crop
from utils.box_figures import compare_boxes, training_curves
from utils.datasets import Source, bccd, scenes_with_boxes
from utils.datasets.boxes import Boxed, DetectionData
from utils.device import keep_memory, pick_device
from utils.gradient_windows import cell_centres, find_by_gradients
from utils.lesson import check, run
from utils.plotting import save_figure
from utils.training import rise_and_fall

STRIDE = 8  # pixels from cell to cell
EACH = 8  # cells that answer for an object, at most
Curves = tuple[list[float], dict[int, float]]  # the loss of every step; by step, mAP@0.5 on validation pictures


# %% 1. A network that answers everywhere
def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Block(nn.Sequential):
    """Layers with a shortcut past them."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Detector(nn.Module):
    """Pictures (n, 3, h, w), h and w multiples of 16 → logits (n, cells, classes), boxes (n, cells, 4) as x1 y1 x2 y2 in pixels.

    `prior` is what each cell believes of each class before training, `unit` how many pixels a 1 in the answer about a side means.
    """

    def __init__(self, classes: int, prior: float = 0.01, unit: float = STRIDE):
        super().__init__()
        self.fine = nn.Sequential(
            conv(3, 16, stride=2), conv(16, 32, stride=2), conv(32, 64, stride=2), Block(conv(64, 64), conv(64, 64))
        )
        blocks = (Block(conv(128, 128), conv(128, 128)) for _ in range(2))
        self.coarse = nn.Sequential(conv(64, 128, stride=2), *blocks, conv(128, 64, size=1))
        self.merged, self.unit = conv(64, 64), unit
        self.classes, self.sides = nn.Conv2d(64, classes, 1), nn.Conv2d(64, 4, 1)
        nn.init.constant_(self.classes.bias, torch.tensor(prior).logit().item())  # Lin et al., RetinaNet, 2017
        nn.init.constant_(self.sides.bias, 1.0)  # the first boxes are 21 px wide instead of 11, nearer to what is to be found

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(x)  # (n, 64, h/8, w/8): where exactly
        coarse = F.interpolate(self.coarse(fine), scale_factor=2)  # (n, 64, h/8, w/8): what it is, seen with its surroundings
        x = self.merged(fine + coarse)
        logits, sides = (head(x).flatten(start_dim=2).mT for head in (self.classes, self.sides))  # (n, cells, classes or 4)
        low, high = (self.unit * F.softplus(sides)).split(2, dim=2)  # how far left and up, right and down: never negative
        centres = cell_centres(*x.shape[2:], STRIDE).to(x.device)  # (cells, 2), x before y, in pixels, row by row
        return logits, torch.cat([centres - low, centres + high], dim=2)


# %% 2. Who answers for which object
@torch.no_grad()
def assign(logits: Tensor, found: Tensor, boxes: Tensor, labels: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Choose, of the cells inside an object, those that answer best already (task alignment: Feng et al., TOOD, 2021).

    A picture's answers, (cells, classes) and (cells, 4), and what is there, (m, 4) and (m,) → which object each cell answers for,
    and the score it should give, both (cells,). The score is 0 for the background.
    """
    from torchvision.ops import box_iou

    if not len(labels):
        return torch.zeros_like(logits[:, 0], dtype=torch.int64), torch.zeros_like(logits[:, 0])
    middle, half = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2, (boxes[:, None, 2:] - boxes[:, None, :2]) / 2
    inside = ((centres - middle).abs() <= half.clamp(min=STRIDE / 2)).all(dim=2)  # (m, cells): for small objects one at least
    overlap = box_iou(boxes, found)  # (m, cells)
    fit = torch.where(inside, logits.sigmoid().T[labels] ** 0.5 * overlap**4 + 1e-9, 0)  # class and box must both be right
    chosen = inside & (fit >= fit.topk(min(EACH, len(centres)), dim=1).values[:, -1:])
    owner = torch.where(chosen, overlap, -1).argmax(dim=0)  # two objects want one cell: it goes to the one it overlaps more
    chosen &= owner == torch.arange(len(labels), device=owner.device)[:, None]
    fit, overlap = torch.where(chosen, fit, 0), torch.where(chosen, overlap, 0)
    scores = fit / fit.amax(dim=1, keepdim=True).clamp(min=1e-9) * overlap.amax(dim=1, keepdim=True)  # the best cell: its IoU
    return owner, scores.amax(dim=0)


# %% 3. Loss and loop
def detection_loss(model: Detector, x: Tensor, boxes: list[Tensor], labels: list[Tensor]) -> Tensor:
    """Binary cross entropy of all scores and 2 · (1 - CIoU) of the boxes that count, both per unit of wanted score."""
    from torchvision.ops import complete_box_iou_loss

    logits, found = model(x)
    centres = cell_centres(x.shape[2] // STRIDE, x.shape[3] // STRIDE, STRIDE).to(x.device)
    wanted, scores, theirs = torch.zeros_like(logits), torch.zeros_like(logits[..., 0]), []
    for i, (its_boxes, its_labels) in enumerate(zip(boxes, labels, strict=True)):
        owner, scores[i] = assign(logits[i], found[i], its_boxes, its_labels, centres)
        cells = scores[i].nonzero()[:, 0]
        wanted[i, cells, its_labels[owner[cells]]] = scores[i, cells]  # all other classes and all other cells: 0
        theirs.append(its_boxes[owner[cells]])
    entropy, counts = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum"), scores > 0
    apart = complete_box_iou_loss(found[counts], torch.cat(theirs))
    return (entropy + 2 * (scores[counts] * apart).sum()) / scores.sum().clamp(min=1)


def together(images: list[Tensor]) -> Tensor:
    """Make one batch of pictures of any size, with grey to the right and below: float (n, 3, h, w), from -2 to 2."""
    height, width = (-(-max(image.shape[side] for image in images) // 16) * 16 for side in (1, 2))
    padded = [F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1]), value=GREY) for image in images]
    return ((torch.stack(padded).float() - 128) / 64).contiguous(memory_format=torch.channels_last)


def change(image: Tensor, boxes: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Flip, zoom and tint: nothing is upside down under a microscope. (A mirrored 3 is no 3, and scenes can be drawn anew.)"""
    for vertical in (False, True):
        if torch.rand((), generator=generator) < 0.5:
            image, boxes = flip(image, boxes, vertical)
    image, boxes, kept = random_crop(image, boxes, tuple(image.shape[1:]), generator, scale=(0.8, 1.25))
    return jitter_colour(image, generator, 0.2, 0.2, 0.2), boxes, labels[kept]


def train(model: Detector, data: DetectionData, steps: int, batch_size: int, lr: float, looks: int, seed: int) -> Curves:
    """Take steps of AdamW; return all losses, and by step mAP@0.5 on the first validation pictures, seen `looks` times."""
    where, count, generator = model.sides.weight.device, len(data.train.images), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.to(memory_format=torch.channels_last).parameters(), lr=lr, weight_decay=0.05)
    schedule, losses, precision = rise_and_fall(optimizer, steps), [], {}
    some = Boxed(*(part[:100] for part in data.validation))
    order = torch.cat([torch.randperm(count, generator=generator) for _ in range(-(-steps * batch_size // count))])  # epochs
    for step, batch in enumerate(order.split(batch_size)[:steps], start=1):
        pictures = [tuple(part[i] for part in data.train) for i in batch.tolist()]
        if data.is_real:
            pictures = [change(*picture, generator) for picture in pictures]
        images, *truth = zip(*pictures, strict=True)
        boxes, labels = ([one.to(where) for one in part] for part in truth)
        loss = detection_loss(model.train(), together(images).to(where), boxes, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step in {steps * look // looks for look in range(1, looks + 1)}:
            precision[step] = judge(find(model, some.images), some, data).at_50
            print(f"   step {step:5}: loss {losses[-1]:6.2f}, validation mAP@0.5 {precision[step]:.3f}")
    return losses, precision


# %% 4. From answers to boxes
@torch.no_grad()
def find(model: Detector, images: list[Tensor], threshold: float = 0.02, overlap: float = 0.6) -> list[Found]:
    """Return of each picture the 100 best scores above `threshold`; of a class, no two boxes with more IoU than `overlap`."""
    from torchvision.ops import batched_nms

    model.eval()
    found = []
    for start in range(0, len(images), 20):
        some = images[start : start + 20]
        answers = model(together(some).to(model.sides.weight.device))
        for image, logits, boxes in zip(some, *(answer.cpu() for answer in answers), strict=True):
            cells, labels = (logits.sigmoid() > threshold).nonzero(as_tuple=True)  # a cell may answer for two classes
            scores, edge = logits[cells, labels].sigmoid(), torch.tensor([image.shape[2], image.shape[1]] * 2)
            boxes = torch.minimum(boxes[cells].clamp(min=0), edge)
            kept = batched_nms(boxes, scores, labels, overlap)[:100]
            found.append(Found(boxes[kept], scores[kept], labels[kept]))
    return found


def judge(found: list[Found], truth: Boxed, data: DetectionData) -> Precision:
    return mean_average_precision(found, truth.boxes, truth.labels, len(data.classes))


# %% All of it, in order
@torch.no_grad()
def draw(model: Detector, data: DetectionData, curves: Curves) -> None:
    """Draw the curves; and of five test pictures the truth, what was found, and the best score of each cell."""
    some, found = Boxed(*(part[:5] for part in data.test)), find(model, data.test.images[:5], threshold=0.3)
    x = together(some.images).to(model.sides.weight.device)
    scores = model(x)[0].sigmoid().amax(dim=2).cpu().view(len(x), -1, x.shape[3] // STRIDE)  # (5, h/8, w/8)
    save_figure(compare_boxes(some, found, data.classes, scores), __file__, "found")
    save_figure(training_curves(*curves), __file__, "curves")


def main(
    steps: int = 600, batch_size: int = 8, lr: float = 0.004, scenes: int = 2000, size: int = 320, early: int = 120,
    source: Source = "sample", threads: int = 1, device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Train a detector; see what it finds, what NMS removes, and what two silent mistakes cost.

    Args:
        steps: Steps of training.
        batch_size: Pictures in a step.
        lr: The highest learning rate.
        scenes: Training scenes that are drawn.
        size: What the longer side of a real picture becomes, in pixels.
        early: Steps of the short trainings that compare mistakes.
        source: sample (scenes), real (blood cells: BCCD), auto (blood cells if they are there).
        threads: CPU cores to work on.
        device: auto, cpu, cuda or mps.
        seed: Of weights and order.
    """
    check(min(steps, batch_size, lr, scenes, early, threads) > 0 and size >= 32, "all flags above 0, and --size at least 32")
    torch.set_num_threads(threads)
    if threads > 1:  # a long run on large tensors
        keep_memory()
    where, data = pick_device(device), bccd(source, size) or scenes_with_boxes(scenes)
    known, test = Boxed(*(part[:300] for part in data.train)), data.test
    results = {"baseline": judge(find_by_gradients(known, test.images, len(data.classes)), test, data).at_50}
    print(f"   without any network, by edges and least squares: mAP@0.5 {results['baseline']:.3f} on the test pictures")
    torch.manual_seed(seed)
    model = Detector(len(data.classes)).to(where)
    draw(model, data, train(model, data, steps, batch_size, lr, 6, seed))
    for name, overlap in (("_without_nms", 1.0), ("", 0.6)):
        found = find(model, test.images, overlap=overlap)
        result, sure = judge(found, test, data), sum(int((one.scores > 0.3).sum()) for one in found)
        print(f"4. overlap ≤ {overlap}: mAP@0.5 {result.at_50:.3f}; {sure} boxes above 0.3, {sum(map(len, test.labels))} objects")
        results |= {f"map_50{name}": result.at_50, f"boxes{name}": sure}
    print("   AP@0.5:", ", ".join(f"{name} {one:.2f}" for name, one in zip(data.classes, result.per_class[0], strict=True)))
    results["map"] = result.mean  # over thresholds from 0.5 to 0.95
    for name, mistake in (("right", {}), ("no_prior", {"prior": 0.5}), ("no_stride", {"unit": 1.0})):  # all else is equal
        print(f"5. {name.replace('_', ' ')}")
        torch.manual_seed(seed)
        model = Detector(len(data.classes), **mistake).to(where)
        losses, precision = train(model, data, min(steps, early), batch_size, lr, 1, seed)
        results |= {f"first_loss_{name}": losses[0], f"early_map_50_{name}": precision[len(losses)]}
    check(results["map_50"] > results["baseline"] + 0.1, "mAP@0.5 is hardly above that of edges and least squares: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
