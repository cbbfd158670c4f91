"""Augmentation with boxes · 바운딩 박스와 함께하는 데이터 증강

A detector learns from pictures that are mirrored, cut and zoomed, but only if each box goes where its object went. A box that
stays behind is a wrong label, and no error message says so.
물체 검출기도 사진을 뒤집고 자르고 확대해 가며 학습한다. 다만 물체가 옮겨 간 자리로 박스도 함께 옮겨야 한다. 제자리에 남은 박스는
틀린 정답인데, 이를 알려 주는 오류 메시지는 없다.

You will
  1. mirror and cut a picture with its boxes by hand, equal to torchvision's transforms; drop what is hardly seen any more
  2. meet the error that nobody reports, boxes that do not move, and one that PyTorch does report
  3. train a small detector on 150 scenes, over seeds: with nothing changed, with all that moves, with boxes left behind
  4. find out what a change does that the data set does not allow: mirrored digits

Before     04_cnn/data_augmentation.py, 08_computer_vision/mean_average_precision.py, 08_computer_vision/object_detection.py
Run        python -m study run box_augmentation     (about 45 s on one CPU core, after importing torch)
You see    mAP@0.5 of 0.05 without augmentation, 0.13 with it, 0.05 with boxes left behind; mirrored digits 0.08 → 0.04; boxes.png
Try next   --scenes 600 --seeds 1: four times as many. First guess how much of augmentation's gain is left
Theory     notes/en/08_computer_vision.md · notes/ko/08_computer_vision.md
Practise   python -m study check 08
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.average_precision import Found, mean_average_precision
from utils.box_augmentation import clip, flip, jitter_colour, mosaic, random_crop, zoom
from utils.datasets import scenes_with_boxes
from utils.datasets.boxes import Boxed
from utils.datasets.scenes import DIGITS, SHAPES
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import save_figure

SIDE, STRIDE, CLASSES = 64, 8, len(SHAPES) + len(DIGITS)
MODES = ("nothing", "all moves", "boxes stay", "mirrored")  # what is done to each scene before it is learned from
Example = tuple[Tensor, Tensor, Tensor]  # a picture (3, h, w) uint8, boxes (n, 4) in pixels, labels (n,)


# %% 1. By hand
def mirror(picture: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Turn left and right round: the left edge of a box becomes its right one."""
    x1, y1, x2, y2 = boxes.T
    width = picture.shape[2]
    return picture.flip(2), torch.stack([width - x2, y1, width - x1, y2], dim=1)


def cut_out(picture: Tensor, boxes: Tensor, window: tuple[int, int, int, int], share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Cut the window x1 y1 x2 y2 out; return the piece, the boxes that are left, and the rows they had."""
    x1, y1, x2, y2 = window
    moved = boxes - torch.tensor([x1, y1, x1, y1])  # counted from the window's corner
    cut = torch.minimum(moved.clamp(min=0), torch.tensor([x2 - x1, y2 - y1] * 2))  # nothing reaches beyond it
    before, after = (sizes.prod(dim=1) for sizes in (boxes[:, 2:] - boxes[:, :2], cut[:, 2:] - cut[:, :2]))
    kept = ((after >= share * before) & (after > 0)).nonzero()[:, 0]  # (m,)
    return picture[:, y1:y2, x1:x2], cut[kept], kept


def compare_with_torchvision(scenes: Boxed, windows: int, seed: int) -> float:
    """Do the same with torchvision to every scene; return the largest difference of any pixel or box."""
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    generator, f, differences = torch.Generator().manual_seed(seed), v2.functional, []
    for picture, boxes in zip(scenes.images, scenes.boxes, strict=True):
        told = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=tuple(picture.shape[1:]))
        pairs = [*zip(mirror(picture, boxes), (f.horizontal_flip(picture), f.horizontal_flip(told)), strict=True)]
        for x1, y1, columns, rows in torch.randint(1, SIDE // 2, (windows, 4), generator=generator).tolist():
            piece, left, kept = cut_out(picture, boxes, (x1, y1, x1 + columns, y1 + rows), share=0)
            pairs.append((piece, f.crop(picture, y1, x1, rows, columns)))
            pairs.append((left, f.crop(told, y1, x1, rows, columns)[kept]))  # boxes without area are left to a later transform
        differences += [(ours.float() - theirs).abs().max() for ours, theirs in pairs if len(ours)]
    largest = torch.stack(differences).max().item()
    print(f"1. mirrored and cut {len(scenes.images)} scenes: largest difference from torchvision {largest:.0f}")
    return largest


# %% 2. Errors
def forget(scenes: Boxed, seed: int) -> tuple[dict[str, float], str]:
    """Move pictures, not boxes: return their mean IoU with where they should be. Move boxes, not labels: return the message."""
    from torchvision import tv_tensors
    from torchvision.ops import box_iou
    from torchvision.transforms import v2

    overlaps, generator, message = {"mirrored": [], "zoomed": []}, torch.Generator().manual_seed(seed), ""
    for picture, boxes, labels in zip(*scenes, strict=True):
        _, unmoved = v2.RandomHorizontalFlip(p=1.0)(tv_tensors.Image(picture), boxes)  # who knows that these are boxes?
        overlaps["mirrored"].append(box_iou(unmoved, flip(picture, boxes)[1]).diag())
        part = zoom(picture, boxes, generator, (0.7, 1.4), share=0.9)  # without those that are cut by more than a tenth
        overlaps["zoomed"].append(box_iou(boxes[part.kept], part.boxes).diag())
        try:
            F.cross_entropy(torch.zeros(len(part.kept), CLASSES), labels)
        except ValueError as error:
            message = message or str(error)
    means = {name: torch.cat(values).mean().item() for name, values in overlaps.items()}
    print("2. torchvision mirrors the picture and says nothing: boxes in a plain tensor stay where they were")
    print("   they overlap with their objects by " + ", ".join(f"{mean:.2f} ({name})" for name, mean in means.items()))
    print(f'   "{message}"\n   read: boxes were dropped, their labels were not; labels[kept] belongs to every cut')
    return means, message


# %% 3. A small detector
class Detector(nn.Module):
    """Pictures (n, 3, 64, 64) uint8 → class logits (n, 64, 10) and boxes (n, 64, 4) in pixels, one for each of 8x8 cells."""

    def __init__(self, width: int = 16):
        super().__init__()
        layers, widths = [], (3, width, 2 * width, 4 * width, 4 * width)
        for inputs, outputs, stride in zip(widths, widths[1:], (2, 2, 2, 1), strict=False):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.body, self.head = nn.Sequential(*layers), nn.Conv2d(4 * width, CLASSES + 4, 1)
        nn.init.constant_(self.head.bias[:CLASSES], -4.0)  # at first there is nothing anywhere: 2 %
        nn.init.constant_(self.head.bias[CLASSES:], 1.8)  # and boxes reach e^1.8 = 6 pixels to each side
        middles = torch.arange(STRIDE / 2, SIDE, STRIDE)  # (8,) in pixels
        y, x = torch.meshgrid(middles, middles, indexing="ij")
        self.register_buffer("middles", torch.stack([x, y], dim=2).view(-1, 2))  # (64, 2)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        out = self.head(self.body(pictures.float() / 128 - 1)).flatten(2).transpose(1, 2)  # (n, 64, 14)
        reach = out[..., CLASSES:].clamp(max=5).exp()  # left, up, right, down from the middle of the cell
        return out[..., :CLASSES], torch.cat([self.middles - reach[..., :2], self.middles + reach[..., 2:]], dim=2)


def compute_loss(network: Detector, examples: list[Example]) -> Tensor:
    """Focal loss of the classes in all cells, and GIoU loss of the box where the middle of an object lies."""
    from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

    pictures, boxes, labels = zip(*examples, strict=True)
    device = network.middles.device
    logits, guessed = network(torch.stack(pictures).to(device))
    row = torch.cat([torch.full((len(one),), i) for i, one in enumerate(boxes)])  # which picture each object is in
    boxes, labels = torch.cat(boxes), torch.cat(labels)  # (m, 4), (m,) of all pictures together
    across, down = ((boxes[:, :2] + boxes[:, 2:]) / 2 / STRIDE).long().clamp(0, SIDE // STRIDE - 1).T
    cell = down * (SIDE // STRIDE) + across
    row, cell, boxes, labels = (one.to(device) for one in (row, cell, boxes, labels))
    target = torch.zeros_like(logits)
    target[row, cell, labels] = 1
    found = 2 * sigmoid_focal_loss(logits, target, alpha=0.75, gamma=2, reduction="sum")
    return (found + generalized_box_iou_loss(guessed[row, cell], boxes, reduction="sum")) / max(1, len(boxes))


def augment(example: Example, mode: str, generator: torch.Generator) -> Example:
    """Zoom, stretch and colour a scene; "mirrored": mirror every other one too; "boxes stay": change its picture only."""
    picture, boxes, labels = example
    if mode == "nothing":
        return example
    part = zoom(picture, boxes, generator, scale=(0.7, 1.4), stretch=1.15)
    picture, moved = jitter_colour(part.picture, generator), part.boxes
    if mode == "boxes stay":
        return picture, boxes, labels
    if mode == "mirrored" and torch.rand((), generator=generator) < 0.5:
        picture, moved = flip(picture, moved)
    return picture, moved, labels[part.kept]


def train(network: Detector, scenes: Boxed, mode: str, steps: int, seed: int) -> list[float]:
    """Take steps of AdamW on 16 random scenes each, changed anew every time; return the losses."""
    generator, examples, losses = torch.Generator().manual_seed(seed), list(zip(*scenes, strict=True)), []
    optimizer = torch.optim.AdamW(network.train().parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(examples), (16,), generator=generator).tolist()
        loss = compute_loss(network, [augment(examples[i], mode, generator) for i in chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def find(network: Detector, scenes: Boxed) -> list[Found]:
    """Answer every scene: the boxes of all cells, without those that overlap too much with a better one."""
    from torchvision.ops import batched_nms

    found = []
    for pictures in torch.stack(scenes.images).split(100):
        logits, boxes = (one.cpu() for one in network.eval()(pictures.to(network.middles.device)))
        for one, its_boxes in zip(logits.sigmoid(), boxes, strict=True):
            scores, labels = one.max(dim=1)  # (64,)
            best = batched_nms(its_boxes, scores, labels, 0.5)
            found.append(Found(clip(its_boxes[best], SIDE, SIDE), scores[best], labels[best]))
    return found


def measure(found: list[Found], scenes: Boxed) -> Tensor:
    """Return the mean average precision at 0.5: of all, of shapes, of digits (3,)."""
    by_class = mean_average_precision(found, scenes.boxes, scenes.labels, CLASSES, thresholds=(0.5,)).per_class[0]
    return torch.stack([part.nanmean() for part in (by_class, by_class[: len(SHAPES)], by_class[len(SHAPES) :])])


# %% All of it, in order
def draw(scenes: Boxed, seed: int) -> None:
    """Draw one scene under every operation, with its boxes."""
    import matplotlib.pyplot as plt

    generator, picture, boxes = torch.Generator().manual_seed(seed), scenes.images[0], scenes.boxes[0]
    views = {"as it is": (picture, boxes), "mirrored": flip(picture, boxes), "boxes stayed": (picture.flip(2), boxes)}
    views["colours"] = (jitter_colour(picture, generator), boxes)
    for name, factor in (("farther", 0.6), ("nearer", 1.4)):
        views[name] = zoom(picture, boxes, generator, (factor, factor))[:2]
    views["cut"] = random_crop(picture, boxes, (48, 40), generator)[:2]
    views["mosaic of four"] = mosaic(scenes.images[:4], scenes.boxes[:4], SIDE, generator)[:2]
    figure, axes = plt.subplots(2, 4, figsize=(12, 6.2), layout="constrained")
    for axis, (name, (shown, its_boxes)) in zip(axes.flat, views.items(), strict=True):
        axis.imshow(shown.permute(1, 2, 0).numpy(), extent=(0, shown.shape[2], shown.shape[1], 0))  # counted by borders
        for x1, y1, x2, y2 in its_boxes.tolist():
            colour = "red" if name == "boxes stayed" else "lime"
            axis.add_patch(plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=colour))
        axis.set(title=name, xticks=[], yticks=[])
    save_figure(figure, __file__, "boxes")


def main(scenes: int = 150, steps: int = 250, seeds: int = 3, device: str = "auto") -> dict[str, float]:
    """Move pictures and boxes together, and measure what that is worth to a detector with few scenes.

    Args:
        scenes: How many scenes the detector learns from.
        steps: Steps of each training, on 16 scenes each.
        seeds: Detectors trained in each way, from seed 0 on.
        device: auto, cpu, cuda or mps; for the detector.
    """
    check(min(steps, seeds) > 0 and scenes >= 10, f"--scenes {scenes} --steps {steps} --seeds {seeds}: at least 10, 1 and 1")
    where, data = pick_device(device), scenes_with_boxes(scenes, 0, 200, SIDE)
    results = {"difference": compare_with_torchvision(Boxed(*(part[:10] for part in data.train)), windows=20, seed=0)}
    check(results["difference"] == 0, f"ours differs from torchvision by {results['difference']}")
    results |= {f"overlap_{name}": mean for name, mean in forget(data.train, seed=0)[0].items()}
    draw(data.train, seed=0)
    others = [Found(boxes, torch.ones(len(boxes)), labels) for boxes, labels in zip(*data.train[1:], strict=True)]
    results["blind"] = measure((others * 200)[: len(data.test.boxes)], data.test)[0].item()  # the boxes of some training scene
    for mode in MODES:
        runs = []
        for one in range(seeds):
            torch.manual_seed(one)  # the same weights in every way
            network = Detector().to(where)
            losses = train(network, data.train, mode, steps, one)
            runs.append([*measure(find(network, data.test), data.test).tolist(), sum(losses[-20:]) / len(losses[-20:])])
        by, mean = torch.std_mean(torch.tensor(runs), dim=0, correction=0)
        print(f"3. {mode:10}: mAP@0.5 {mean[0]:.3f} ± {by[0]:.3f} (digits {mean[2]:.3f}), training loss {mean[3]:.2f}")
        for name, value in (("map", mean[0]), ("digits", mean[2]), ("loss", mean[3])):
            results[f"{name}_{mode.replace(' ', '_')}"] = value.item()
    best, rival = results["map_all_moves"], max(results["map_nothing"], 1.2 * results["map_boxes_stay"], 1.2 * results["blind"])
    check(best > rival, f"mAP@0.5 {best:.3f} with augmentation, not above {rival:.3f}, without it or done wrong: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
