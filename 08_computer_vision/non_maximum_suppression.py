"""Non-maximum suppression · 비최대 억제

A detector finds every object many times, because neighbouring cells see the same one. Non-maximum suppression keeps the best box
and drops what overlaps it too much; it cannot know whether that was a duplicate or a neighbour in a crowd.
검출기는 물체 하나를 여러 번 찾는다. 이웃한 칸들이 같은 물체를 보기 때문이다. 비최대 억제(NMS)는 가장 좋은 박스를 남기고 그것과
많이 겹치는 박스를 버린다. 버린 것이 중복인지 무리 속의 이웃인지는 알 길이 없다.

You will
  1. write NMS, equal to torchvision's in thousands of cases with ties, down to one surprise at the threshold
  2. keep classes apart, by comparing labels and by the offset trick; and find where the trick breaks
  3. meet the error everyone meets, and the format that raises none
  4. choose a threshold on validation scenes, and see what it costs with and without classes, and in a crowd
  5. lower scores instead of dropping boxes: soft-NMS
  6. measure what it costs in time

Before     08_computer_vision/boxes_and_iou.py
Run        python -m study run non_maximum_suppression     (about 14 s on one CPU core, after importing torch)
You see    ten classes: 0.73 without NMS, 0.99 with it; a crowd: 0.95 at best, soft-NMS 0.97; 8,400 boxes 0.1 s; suppression.png
Try next   --layers 1: no crowd. First guess what soft-NMS is still worth, and which threshold is chosen
Theory     notes/en/08_computer_vision.md · notes/ko/08_computer_vision.md
Practise   python -m study check 08
"""

import time

import torch
from torch import Tensor

from utils.average_precision import Found, mean_average_precision
from utils.datasets.scenes import CLASSES, draw_scenes
from utils.lesson import check, run
from utils.plotting import label, save_figure

Truth = tuple[list[Tensor], list[Tensor]]  # boxes (n, 4) and labels (n,) of each scene
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # 1: nothing is dropped
SIGMAS = (0.1, 0.2, 0.4, 0.8, 1.6)
CURVES = {  # what is drawn: in English and Korean, of which scenes, and whether only boxes of one label are compared
    "ten classes": ("클래스 열 개", "classes", True),
    "classes forgotten": ("클래스를 무시함", "classes", False),
    "crowd of one class": ("한 클래스의 무리", "crowd", True),
}


# %% 1. From scratch
def iou(box: Tensor, others: Tensor) -> Tensor:
    """Overlap of one box (4,) with others (n, 4): (n,)."""
    sides = torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2])
    common = sides.clamp(min=0).prod(dim=1)
    return common / ((box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(dim=1) - common)


def nms(boxes: Tensor, scores: Tensor, threshold: float, labels: Tensor | None = None) -> Tensor:
    """Return indices of the boxes (n, 4) that stay, best first: none overlaps a better one, of its label, more than threshold."""
    order = scores.argsort(descending=True, stable=True)  # stable: of equal scores the first one wins, as in torchvision
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(int(best))
        dropped = iou(boxes[best], boxes[order]).double() > threshold  # 0.6 in float32 is more than 0.6, in torchvision too
        if labels is not None:
            dropped &= labels[order] == labels[best]
        order = order[~dropped]
    return torch.tensor(kept, dtype=torch.int64)


def compare_nms(cases: int, seed: int) -> tuple[int, int]:
    """Compare with torchvision on boxes full of ties; return how many cases differ, and would with overlaps as float32."""
    from torchvision import ops

    generator, wrong, careless = torch.Generator().manual_seed(seed), 0, 0
    for case in range(cases):
        n = int(torch.randint(30, (), generator=generator))
        corners = torch.randint(8, (n, 2), generator=generator)
        boxes = torch.cat([corners, corners + torch.randint(1, 8, (n, 2), generator=generator)], dim=1).float()
        scores, labels = torch.randint(8, (n,), generator=generator) / 8, torch.randint(3, (n,), generator=generator)
        threshold = THRESHOLDS[case % 9]
        wrong += not torch.equal(nms(boxes, scores, threshold), ops.nms(boxes, scores, threshold))
        wrong += not torch.equal(nms(boxes, scores, threshold, labels), ops.batched_nms(boxes, scores, labels, threshold))
        careless += not torch.equal(nms(boxes, scores, torch.tensor(threshold).item()), ops.nms(boxes, scores, threshold))
    print(f"1. nms and batched_nms, {cases} cases: {wrong} differ from torchvision; {careless} would with a float32 threshold")
    return wrong, careless


# %% 2. The offset trick
def break_offset() -> int:
    """Give torchvision's batched_nms, which moves class k by k times the largest coordinate, one below 0; return what stays."""
    from torchvision import ops

    boxes = torch.tensor([[-50.0, -50, -1, -1], [50, 50, 99, 99]])  # what a network says before anyone clips it
    scores, labels = torch.tensor([0.9, 0.8]), torch.tensor([1, 0])
    kept, clipped = (len(ops.batched_nms(one, scores, labels, 0.5)) for one in (boxes, boxes.clamp(min=0)))
    print(f"2. boxes of two classes at opposite corners, one outside the picture: {kept} of 2 stays; {clipped} if clipped before")
    return kept


# %% 3. The error everyone meets, and the one nobody sees
def meet_errors(found: Found) -> tuple[str, float]:
    """Keep a dimension of the scores, then forget which format boxes are in; return the message, and the share that stays."""
    from torchvision import ops

    try:
        ops.nms(found.boxes, found.scores[:, None], 0.5)
    except RuntimeError as error:
        message = str(error)[str(error).index("scores should") :]
    low, high = found.boxes[:, :2], found.boxes[:, 2:]
    centers = torch.cat([(low + high) / 2, high - low], dim=1)
    kept, wrongly = (len(ops.nms(boxes, found.scores, 0.5)) for boxes in (found.boxes, centers))
    print(f'3. "{message}"\n   read: scores are (n,), and a network\'s last layer gives (n, 1): squeeze(1)')
    print(f"   no message: of {len(found.boxes)} boxes {kept} stay, and {wrongly} if they are given as centres and sizes")
    return message, wrongly / kept


# %% 4. A threshold
def imitate_detector(boxes: Tensor, labels: Tensor, size: int, generator: torch.Generator) -> Found:
    """Let every cell of 8 pixels near an object's middle find it: the nearer, the better and surer. One in ten misnames it."""
    places = torch.arange(4.0, size, 8)
    sides = boxes[:, 2:] - boxes[:, :2]
    away = (torch.cartesian_prod(places, places)[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2) / sides  # (cells, n, 2)
    away, owner = away.norm(dim=2).min(dim=1)
    away, owner = away[away < 0.35] / 0.35, owner[away < 0.35]
    shake = torch.randn(len(owner), 4, generator=generator) * (0.04 + 0.08 * away[:, None])
    scores = torch.sigmoid(2.5 - 3 * away + 0.7 * torch.randn(len(owner), generator=generator))
    confused = torch.rand(len(owner), generator=generator) < 0.1
    kinds = torch.where(confused, torch.randint(len(CLASSES), (len(owner),), generator=generator), labels[owner])
    return Found(boxes[owner] + shake * sides[owner].repeat(1, 2), torch.where(confused, 0.7 * scores, scores), kinds)


def imitate(split: str, scenes: int, layers: int, seed: int, size: int = 128) -> dict[str, tuple[list[Found], Truth]]:
    """Return what is found and what is there in scenes of ten classes, and in a crowd of one: `layers` scenes in one picture."""
    drawn, generator = draw_scenes(scenes, seed, size, split), torch.Generator().manual_seed(seed)
    together = [torch.cat(drawn.boxes[i : i + layers]) for i in range(0, scenes - layers + 1, layers)]
    crowd = together, [torch.zeros(len(boxes), dtype=torch.int64) for boxes in together]
    found = [imitate_detector(*one, size, generator) for one in zip(drawn.boxes, drawn.labels, strict=True)]
    crowded = [imitate_detector(*one, size, generator) for one in zip(*crowd, strict=True)]
    crowded = [one._replace(labels=torch.zeros_like(one.labels)) for one in crowded]
    return {"classes": (found, (drawn.boxes, drawn.labels)), "crowd": (crowded, crowd)}


def precision(found: list[Found], truth: Truth) -> float:
    """Average precision at IoU 0.5; the next lesson builds it."""
    return mean_average_precision(found, *truth, len(CLASSES), (0.5,)).at_50


def precision_after_nms(found: list[Found], truth: Truth, threshold: float, by_class: bool = True) -> float:
    kept = [nms(boxes, scores, threshold, labels if by_class else None) for boxes, scores, labels in found]
    return precision([Found(*(part[rows] for part in one)) for one, rows in zip(found, kept, strict=True)], truth)


def share_kept(truth: Truth) -> list[float]:
    """The share of objects that NMS leaves of the truth itself, every box perfect, at each of THRESHOLDS."""
    kept = [sum(len(nms(one, torch.ones(len(one)), threshold)) for one in truth[0]) for threshold in THRESHOLDS]
    return [number / sum(map(len, truth[0])) for number in kept]


# %% 5. Soft-NMS (Bodla et al., 2017)
def soft_nms(found: Found, sigma: float, least: float = 0.01) -> Found:
    """Lower scores of boxes that overlap a better one of their label by exp(-IoU² / sigma); drop what falls below `least`."""
    boxes, scores, labels = found
    kept, finals, order = [], [], torch.arange(len(scores))
    while len(order):
        at = scores.argmax()  # the order changes as scores fall, so it cannot be sorted once
        best, rest = order[at], torch.arange(len(order)) != at
        kept, finals = [*kept, int(best)], [*finals, scores[at].item()]
        order, scores = order[rest], scores[rest]
        overlaps = iou(boxes[best], boxes[order]) * (labels[order] == labels[best])
        scores = scores * torch.exp(-(overlaps**2) / sigma)
        order, scores = order[scores >= least], scores[scores >= least]
    kept = torch.tensor(kept, dtype=torch.int64)
    return Found(boxes[kept], torch.tensor(finals), labels[kept])


# %% 6. Time
def measure_time(counts: tuple[int, ...], best: int, seed: int) -> dict[str, float]:
    """Return CPU milliseconds of ours and torchvision's for boxes all over a picture, and of torchvision's for the best ones."""
    from torchvision import ops

    generator, found = torch.Generator().manual_seed(seed), {}
    for n in counts:
        corners = 600 * torch.rand(n, 2, generator=generator)
        boxes = torch.cat([corners, corners + 10 + 60 * torch.rand(n, 2, generator=generator)], dim=1)
        scores = torch.rand(n, generator=generator)
        chosen = scores.topk(min(best, n)).indices
        jobs = {"ours": (nms, slice(None)), "torchvision": (ops.nms, slice(None)), "best": (ops.nms, chosen)}
        for name, (function, part) in jobs.items():
            started = time.process_time()
            function(boxes[part], scores[part], 0.5)
            found[f"{name}_{n}"] = 1000 * (time.process_time() - started)
        print(f"6. {n} boxes: ours {found[f'ours_{n}']:.0f} ms, torchvision {found[f'torchvision_{n}']:.1f} ms, ", end="")
        print(f"of the best {best} {found[f'best_{n}']:.2f} ms; a table of all overlaps would take {4e-6 * n * n:.0f} MB")
    return found


# %% All of it, in order
def draw(curves: dict[str, list[float]], soft: float) -> None:
    """Draw average precision by threshold, the objects that perfect boxes would keep, and soft-NMS in the crowd."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name, (korean, _, _) in CURVES.items():
        axis.plot(THRESHOLDS, curves[name], "o-", label=label(name, korean))
    axis.plot(THRESHOLDS, curves["perfect, kept"], "k:", label=label("crowd, perfect boxes that stay", "무리, 남는 완벽한 박스"))
    axis.axhline(soft, color="C2", linestyle="--", label=label("crowd, soft-NMS", "무리, soft-NMS"))
    axis.set(xlabel=label("threshold", "문턱값"), ylabel=label("average precision at 0.5", "0.5에서의 평균 정밀도"))
    axis.legend()
    save_figure(figure, __file__, "suppression")


def main(scenes: int = 150, layers: int = 3, cases: int = 600, seed: int = 0) -> dict[str, float]:
    """Drop what was found twice, and count what is lost with it.

    Args:
        scenes: Validation scenes, and as many test scenes; at least 30.
        layers: How many scenes are laid over one another for the crowd.
        cases: Random cases for the comparison with torchvision.
        seed: Of scenes, cases and the imitated detector.
    """
    check(scenes >= 30 and 1 <= layers <= scenes and cases >= 1, "--scenes: at least 30, --layers and --cases: at least 1")
    wrong, careless = compare_nms(cases, seed)
    check(wrong == 0, f"{wrong} cases differ from torchvision's")
    found = {"off_torchvision": wrong, "careless": careless, "offset_stays": break_offset()}
    known, test = (imitate(split, scenes, layers, seed) for split in ("validation", "test"))
    found["centers_kept"] = meet_errors(known["crowd"][0][0])[1]
    curves = {
        name: [precision_after_nms(*known[kind], threshold, by_class) for threshold in THRESHOLDS]
        for name, (_, kind, by_class) in CURVES.items()
    }
    curves["perfect, kept"] = share_kept(known["crowd"][1])
    print("4. AP@0.5 by threshold " + " ".join(f"{threshold:4}" for threshold in THRESHOLDS))
    for name, curve in curves.items():
        print(f"   {name:20}" + " ".join(f"{value:.2f}" for value in curve))
    softly = {sigma: precision([soft_nms(one, sigma) for one in known["crowd"][0]], known["crowd"][1]) for sigma in SIGMAS}
    sigma = max(softly, key=softly.get)
    print("5. crowd, soft-NMS " + ", ".join(f"sigma {one} {value:.3f}" for one, value in softly.items()))
    for kind, name in (("classes", "ten classes"), ("crowd", "crowd of one class")):
        threshold = THRESHOLDS[torch.tensor(curves[name]).argmax()]
        said, truth = test[kind]
        none, hard = precision(said, truth), precision_after_nms(said, truth, threshold)
        soft = precision([soft_nms(one, sigma) for one in said], truth)
        print(f"5. test, {name}: no NMS {none:.3f}, threshold {threshold} {hard:.3f}, soft {soft:.3f}")
        found |= {f"threshold_{kind}": threshold, f"none_{kind}": none, f"nms_{kind}": hard, f"soft_{kind}": soft}
    found |= {"sigma": sigma, "kept_at_05": curves["perfect, kept"][4]} | measure_time((500, 2000, 8400), 300, seed)
    draw(curves, softly[sigma])
    better = found["nms_classes"] - found["none_classes"]
    check(better > 0.1, f"average precision rose by {better:.2f} only: is what overlaps really dropped?")
    return found


if __name__ == "__main__":
    run(main)
