"""Mean average precision · 평균 정밀도와 mAP

A detector may find too little, too much, the right thing in the wrong place, and be sure of the wrong one; mean average precision
makes one number of that. Of the scores it sees the order and nothing else, so that a detector still needs a threshold.
검출기는 덜 찾을 수도, 더 찾을 수도, 엉뚱한 자리에서 찾을 수도, 틀린 것을 확신할 수도 있다. mAP는 이 모두를 숫자 하나로 만든다.
답의 순서만 보고 점수의 값은 보지 않으므로, 검출기를 쓰려면 문턱값을 따로 골라야 한다.

You will
  1. rank what was found, match it greedily with what is there, and draw precision over recall
  2. meet the error everyone meets: pictures have different numbers of boxes
  3. take the area under the curve in three ways, equal to utils.average_precision, which tests hold against pycocotools
  4. move perfect boxes by pixels, and see which thresholds notice
  5. see what the measure does not see: calibration, a flood of unsure boxes; and choose a threshold
  6. build in four bugs that everybody builds in, and measure how good they look

Before     08_computer_vision/non_maximum_suppression.py
Run        python -m study run mean_average_precision     (about 10 s on one CPU core, after importing torch)
You see    AP@0.5 0.76, 0.90 if duplicates count, 0.46 if sorted wrongly; 2 px cost 0.38 of AP@0.5:0.95; precision_recall.png
Try next   --size 64: scenes half as large. First guess what two pixels cost AP@0.5 and AP@0.75
Theory     notes/en/08_computer_vision.md · notes/ko/08_computer_vision.md
Practise   python -m study check 08
"""

import torch
from torch import Tensor

from utils import average_precision as finished
from utils.average_precision import COCO_THRESHOLDS, Found, mean_average_precision
from utils.datasets.scenes import CLASSES, draw_scenes
from utils.lesson import check, run
from utils.plotting import label, save_figure

Truth = tuple[list[Tensor], list[Tensor]]  # boxes (n, 4) and labels (n,) of each scene
COCO, VOC = finished.RECALLS, finished.RECALLS[::10].clone()  # 0, 0.01, ... 1; and 0, 0.1, ... 1, as Pascal VOC until 2009


# %% A detector, imitated
def imitate_detector(boxes: Tensor, labels: Tensor, size: int, generator: torch.Generator) -> Found:
    """Find 9 of 10 objects more or less exactly, 1 of 5 twice, 1 of 20 under another name; and 3 that are not there."""
    chances = torch.tensor([[0.9], [0.2]]).expand(2, len(boxes))
    rows = torch.bernoulli(chances, generator=generator).nonzero()[:, 1]
    shake = 0.01 + 0.12 * torch.rand(len(rows), 1, generator=generator)  # in sides of the object
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)[rows]
    found = boxes[rows] + shake * sides * torch.randn(len(rows), 4, generator=generator)
    scores = torch.cat([2 - 15 * shake[:, 0], torch.full((3,), -1.5)])
    corners, more = size * torch.tensor([[0.7], [0.2]])[:, None] * torch.rand(2, 3, 2, generator=generator)
    names = torch.randint(len(CLASSES), (len(scores),), generator=generator)
    named = torch.rand(len(rows), generator=generator) > 0.05
    names[: len(rows)][named] = labels[rows][named]
    nothing = torch.cat([corners, corners + more + 0.1 * size], dim=1)
    return Found(torch.cat([found, nothing]), torch.sigmoid(scores + torch.randn(len(scores), generator=generator)), names)


def imitate(split: str, scenes: int, size: int, seed: int) -> tuple[list[Found], Truth]:
    drawn, generator = draw_scenes(scenes, seed, size, split), torch.Generator().manual_seed(seed)
    found = [imitate_detector(*one, size, generator) for one in zip(drawn.boxes, drawn.labels, strict=True)]
    return found, (drawn.boxes, drawn.labels)


# %% 1. From boxes to a curve
def match(found: list[Found], truth: Truth, kind: int, threshold: float, bug: str = "") -> tuple[Tensor, int]:
    """Decide of every box of one class whether it is right, surest first, (n,), and count the objects. Bugs: for part 6."""
    from torchvision.ops import box_iou

    scores, right, count = [], [], int((torch.cat(truth[1]) == kind).sum())
    for one, boxes, labels in zip(found, *truth, strict=True):
        theirs = boxes if bug == "names" else boxes[labels == kind]  # a star found where a ring is, is no star
        ours = (one.labels == kind).nonzero()[:, 0]
        ours = ours[one.scores[ours].argsort(descending=True, stable=True)]
        overlaps = box_iou(one.boxes[ours].double(), theirs.double())  # (ours, theirs)
        for score, row in zip(one.scores[ours].tolist(), overlaps, strict=True):  # the surest chooses first
            best = row.max(dim=0) if len(row) else None
            hit = best is not None and best.values.item() >= threshold
            scores.append(score)
            right.append(hit)
            if hit and bug != "twice":
                overlaps[:, best.indices] = 0  # found; whoever comes later is a duplicate, and wrong
    right = torch.tensor(right, dtype=torch.bool)
    if bug != "scenes":
        right = right[torch.tensor(scores).argsort(descending=True, stable=True)]
    return right, count


def curve(right: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Precision and recall if only the first 1, 2, ... n boxes are believed: (n,) each, float64."""
    hits = right.double().cumsum(dim=0)
    return hits / torch.arange(1, len(right) + 1), hits / count


def show_curve() -> tuple[list[float], list[float]]:
    """Print the curve of six boxes, four of which are right, where five objects are to be found."""
    right = torch.tensor([True, True, False, True, False, True])
    precision, recall = (values.tolist() for values in curve(right, 5))
    print("1. right      " + " ".join(f"{'yes' if hit else 'no':>4}" for hit in right))
    for name, values in (("precision", precision), ("recall", recall)):
        print(f"   {name:11}" + " ".join(f"{value:4.2f}" for value in values))
    return precision, recall


# %% 2. The error everyone meets
def meet_error(truth: Truth) -> str:
    """Make a batch of the boxes of some scenes, as of anything else; return PyTorch's answer."""
    try:
        torch.stack(truth[0])
    except RuntimeError as error:
        print(f'2. "{error}"\n   read: boxes stay in a list, or are padded to equal numbers, with a mask')
        return str(error)


# %% 3. From a curve to a number
def area(right: Tensor, count: int, recalls: Tensor | None = COCO) -> float:
    """Average precision: the mean, over recalls, of the best precision with at least that recall; None: the whole area."""
    precision, recall = curve(right, count)
    best = precision.flip(0).cummax(dim=0).values.flip(0)  # precision goes up and down; believing more boxes is always allowed
    if recalls is None:  # as in Pascal VOC since 2010
        return (best * recall.diff(prepend=torch.zeros(1))).sum().item()
    reached = torch.searchsorted(recall, recalls)  # where each recall is first reached
    return torch.cat([best, torch.zeros(1)])[reached].mean().item()  # never reached: 0


def mean_area(found: list[Found], truth: Truth, threshold: float, recalls: Tensor | None = COCO, bug: str = "") -> float:
    """Mean over the classes."""
    return sum(area(*match(found, truth, kind, threshold, bug), recalls) for kind in range(len(CLASSES))) / len(CLASSES)


def compare(found: list[Found], truth: Truth) -> tuple[dict[str, float], float]:
    """Return AP@0.5 by the three conventions and AP@0.5:0.95, and how far ours is from the finished one."""
    ours = [mean_area(found, truth, threshold) for threshold in COCO_THRESHOLDS]
    theirs = mean_average_precision(found, *truth, len(CLASSES))
    off = (torch.tensor(ours, dtype=torch.float64) - theirs.per_class.mean(dim=1)).abs().max().item()
    areas = {"11 points": mean_area(found, truth, 0.5, VOC), "all points": mean_area(found, truth, 0.5, None)}
    areas |= {"101 points": ours[0], "101 points, from 0.5 to 0.95": sum(ours) / len(ours)}
    numbers = "; ".join(f"{name}: {value:.4f}" for name, value in areas.items())
    print(f"3. AP@0.5 by {numbers}; off from the finished one by {off:.0e}")
    return areas, off


# %% 4. A few pixels
def move_boxes(truth: Truth, pixels: tuple[int, ...], seed: int) -> dict[int, Tensor]:
    """Move each side of perfect boxes by some pixels, out or in; return average precision at each of COCO_THRESHOLDS (10,)."""
    found = {}
    for error in pixels:
        generator, moved = torch.Generator().manual_seed(seed), []
        for boxes, labels in zip(*truth, strict=True):
            signs = torch.randint(2, boxes.shape, generator=generator) * 2 - 1
            moved.append(Found(boxes + error * signs, torch.rand(len(boxes), generator=generator), labels))
        found[error] = mean_average_precision(moved, *truth, len(CLASSES)).per_class.nanmean(dim=1)
        at_50, at_75, at_90 = found[error][[0, 5, 8]].tolist()
        print(f"4. {error} px off: AP@0.5 {at_50:.2f}, @0.75 {at_75:.2f}, @0.9 {at_90:.2f}, mean {found[error].mean():.2f}")
    return found


# %% 5. What it does not see
def precision_recall(found: list[Found], truth: Truth, cuts: Tensor) -> Tensor:
    """Precision, recall and F1 at IoU 0.5 over all classes, if boxes with scores from each cut on are believed: (3, cuts)."""
    matched = finished.match(found, *truth, len(CLASSES), (0.5,))
    believed = matched.scores >= cuts[:, None]  # (cuts, n)
    hits = (believed & matched.right[0]).sum(dim=1).double()
    precision, recall = hits / believed.sum(dim=1).clamp(min=1), hits / sum(map(len, truth[0]))
    return torch.stack([precision, recall, 2 * precision * recall / (precision + recall).clamp(min=1e-12)])


def change_scores(found: list[Found], truth: Truth, size: int, seed: int) -> dict[str, tuple[float, float, float]]:
    """Change scores, and add boxes; return AP@0.5, and precision and recall of the boxes with a score of at least 0.5."""
    generator, n, flooded, results = torch.Generator().manual_seed(seed), 80, [], {}
    for boxes, scores, labels in found:
        corners, names = size * torch.rand(n, 2, generator=generator), torch.randint(len(CLASSES), (n,), generator=generator)
        nothing, low = torch.cat([corners, corners + 0.3 * size], dim=1), torch.full((n,), 1e-3)
        flooded.append(Found(torch.cat([boxes, nothing]), torch.cat([scores, low]), torch.cat([labels, names])))
    changed = {
        "as it is": found,
        "scores to the power of 4": [one._replace(scores=one.scores**4) for one in found],
        f"{n} unsure boxes more in each": flooded,
        "one sure box of nothing in each": [one._replace(scores=torch.cat([one.scores[:-1], torch.ones(1)])) for one in found],
        "scores drawn anew": [one._replace(scores=torch.rand(len(one.scores), generator=generator)) for one in found],
    }
    for name, said in changed.items():
        ap = mean_average_precision(said, *truth, len(CLASSES), (0.5,)).at_50
        precision, recall, _ = precision_recall(said, truth, torch.tensor([0.5]))[:, 0].tolist()
        results[name] = ap, precision, recall
        print(f"5. {name:32} AP@0.5 {ap:.3f}; believed from 0.5 on: precision {precision:.2f}, recall {recall:.2f}")
    return results


# %% 6. Bugs
def compare_bugs(found: list[Found], truth: Truth) -> dict[str, float]:
    """Count wrongly in four ways; return AP@0.5 of each."""
    told = {"": "right", "names": "any class will do", "twice": "duplicates count", "scenes": "sorted in each scene only"}
    results = {bug: mean_area(found, truth, 0.5, bug=bug) for bug in told}
    each = zip(found, *truth, strict=True)
    scenes = [mean_average_precision([one], [boxes], [labels], len(CLASSES), (0.5,)).at_50 for one, boxes, labels in each]
    results["mean"] = sum(scenes) / len(scenes)
    for bug, value in results.items():
        print(f"6. AP@0.5 {value:.3f}: {told.get(bug, 'AP of each scene, then the mean')}")
    return results


# %% All of it, in order
def draw(rights: tuple[Tensor, int], moved: dict[int, Tensor], scores: Tensor) -> None:
    """Draw the curve of the first class, average precision by threshold, and precision, recall and F1 by score."""
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    precision, recall = curve(*rights)
    best = precision.flip(0).cummax(dim=0).values.flip(0)
    left.plot(recall, precision, label=label("as measured", "잰 그대로"))
    left.step(recall, best, where="pre", label=label("best from here on", "여기부터 최댓값"))
    left.set(xlabel=label("recall", "재현율"), ylabel=label("precision", "정밀도"), ylim=(0, 1.05))
    for error, values in moved.items():
        middle.plot(COCO_THRESHOLDS, values, "o-", label=f"{error} px")
    middle.set(xlabel=label("IoU threshold", "IoU 문턱값"), ylabel=label("average precision", "평균 정밀도"))
    for values, name in zip(scores, (label("precision", "정밀도"), label("recall", "재현율"), "F1"), strict=True):
        right.plot(torch.linspace(0, 1, 101), values, label=name)
    right.set(xlabel=label("boxes believed from this score on", "이 점수부터 믿음"), ylim=(0, 1.05))
    for axis in (left, middle, right):
        axis.legend()
    save_figure(figure, __file__, "precision_recall")


def main(scenes: int = 150, size: int = 128, seed: int = 0) -> dict[str, float]:
    """Make one number of what a detector finds, and find out what it hides.

    Args:
        scenes: Validation scenes, and as many test scenes; at least 30.
        size: Width and height of the scenes in pixels, at least 32.
        seed: Of the scenes and of the imitated detector.
    """
    check(scenes >= 30 and size >= 32, "--scenes: at least 30, --size: at least 32")
    show_curve()
    (known, known_truth), (found, truth) = (imitate(split, scenes, size, seed) for split in ("validation", "test"))
    meet_error(truth)
    areas, off = compare(found, truth)
    results = {f"ap_{name}": value for name, value in areas.items()} | {"off": off}
    moved = move_boxes(truth, (0, 1, 2, 3, 4), seed)
    results |= {f"moved_{error}_px": values.mean().item() for error, values in moved.items()}
    changed = change_scores(found, truth, size, seed)
    results |= {f"{what}_{name}": values[i] for name, values in changed.items() for i, what in enumerate(("ap", "precision"))}
    cuts = torch.linspace(0, 1, 101)
    results["cut"] = cut = cuts[precision_recall(known, known_truth, cuts)[2].argmax()].item()
    f1, f1_half = results["f1"], results["f1_half"] = precision_recall(found, truth, torch.tensor([cut, 0.5]))[2].tolist()
    print(f"5. best F1 of validation scenes from {cut:.2f} on; of test scenes there {f1:.3f}, from 0.5 on {f1_half:.3f}")
    results |= {f"bug_{name}": value for name, value in compare_bugs(found, truth).items() if name}
    draw(match(found, truth, 0, 0.5), moved, precision_recall(found, truth, cuts))
    better = results["ap_as it is"] - results["ap_scores drawn anew"]
    check(off < 1e-9 and better > 0.05, f"off from utils.average_precision by {off}, and the order is worth {better:.2f} only")
    return {name.replace(" ", "_"): value for name, value in results.items()}


if __name__ == "__main__":
    run(main)
