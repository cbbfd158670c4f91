"""What does it find, what does it miss, and what does it see where nothing is? · 무엇을 찾고 무엇을 놓치는가

Mean average precision over overlaps and for each class, and every mistake by its kind: missed, doubled, confused, badly placed,
and found where nothing is. Pictures of the worst of them are drawn.
mAP를 IoU 기준별, 클래스별로 재고, 오류를 종류별로 센다: 놓침, 중복, 클래스 혼동, 위치 오류, 배경 오검출. 오류가 가장 많은
사진을 그려 본다.

Run        python -m study run detection/evaluate        (after python -m study run detection)
"""

import time
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor
from torchvision.ops import box_iou

from project5_realtime_detection.data import Kind, load
from project5_realtime_detection.finder import Finder, Runtime, load_finder
from project5_realtime_detection.model import load_network
from utils.average_precision import Found, Precision, mean_average_precision
from utils.datasets.boxes import Boxed, DetectionData
from utils.evaluation import draw_losses, show_image
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.training import History

LEAST_SCORE = 0.01  # below it, a box is not worth looking at: with it, precision over recall is complete
SURE = 0.3  # the threshold that the page and files use; mistakes are counted at it
RIGHT, NEAR = 0.5, 0.1  # overlap of a box that is right, and of one that is at least near its object
KINDS = ("right", "missed", "doubled", "confused", "misplaced", "background")


# %% Measuring
def look(finder: Finder, split: Boxed, threshold: float = LEAST_SCORE) -> list[Found]:
    """What it finds in each picture."""
    return [finder.find(picture, threshold) for picture in split.images]


def baseline_precision(data: DetectionData) -> float:
    """Average precision at 0.5 of who never looks: for each picture the same hundred boxes, drawn from the training pictures."""
    sized = [(boxes, labels, image) for image, boxes, labels in zip(*data.train, strict=True)]
    boxes = torch.cat([boxes / torch.tensor(image.shape[:0:-1]).repeat(2) for boxes, _, image in sized])  # in 0..1
    labels = torch.cat([labels for _, labels, _ in sized])
    drawn = torch.randperm(len(boxes), generator=torch.Generator().manual_seed(0))[:100]
    scores = torch.linspace(1, 0.5, len(drawn))
    test = data.test
    found = [Found(boxes[drawn] * torch.tensor(image.shape[:0:-1]).repeat(2), scores, labels[drawn]) for image in test.images]
    return mean_average_precision(found, test.boxes, test.labels, len(data.classes), [0.5]).at_50


def mistakes(found: Found, boxes: Tensor, labels: Tensor) -> tuple[Counter, list[str]]:
    """What went right and wrong in one picture, by kind.

    Args:
        found: Best first, with scores that count.
        boxes: What is there, (n, 4).
        labels: (n,)

    Returns:
        Counts of KINDS, and the kind of each found box. A box is right if it is the first one of its class with an overlap of 0.5
        or more with an object; doubled, if the object was found before; confused, if it lies on an object of another class;
        misplaced, if it overlaps one of its class by 0.1 at least; else there is only background. Objects that no box is right
        for are missed.
    """
    overlaps = box_iou(found.boxes, boxes)  # (found, there)
    same = found.labels[:, None] == labels
    taken: set[int] = set()
    kinds = []
    for row in range(len(found.boxes)):
        of_class = torch.where(same[row], overlaps[row], 0.0)
        free = [column for column in range(len(boxes)) if of_class[column] >= RIGHT and column not in taken]
        if free:
            taken.add(max(free, key=lambda column: of_class[column].item()))
            kinds.append("right")
        elif (of_class >= RIGHT).any():
            kinds.append("doubled")
        elif (overlaps[row] >= RIGHT).any():
            kinds.append("confused")
        elif (of_class >= NEAR).any():
            kinds.append("misplaced")
        else:
            kinds.append("background")
    return Counter(kinds) + Counter(missed=len(boxes) - len(taken)), kinds


def all_mistakes(found: list[Found], split: Boxed) -> Counter:
    """Counts of KINDS in all pictures, of boxes with a score of SURE or more."""
    together: Counter = Counter()
    for one, boxes, labels in zip(found, split.boxes, split.labels, strict=True):
        together += mistakes(sure(one), boxes, labels)[0]
    return together


def sure(found: Found) -> Found:
    """Boxes with a score of SURE or more."""
    kept = found.scores >= SURE
    return Found(*(part[kept] for part in found))


def measure(finder: Finder, data: DetectionData) -> tuple[dict[str, float], list[Found], Precision]:
    """Measure on the test pictures.

    Returns:
        Numbers: "map_50" and "map" (at an overlap of 0.5, and the mean of 0.5 to 0.95), "baseline_map_50", "objects", KINDS as
        counts at a score of SURE, "milliseconds" for one picture from pixels to boxes. What was found; the precision in full.
    """
    test = data.test
    started = time.perf_counter()
    found = look(finder, test)
    seconds = time.perf_counter() - started
    precision = mean_average_precision(found, test.boxes, test.labels, len(data.classes))
    counts = all_mistakes(found, test)
    numbers = {"map_50": precision.at_50, "map": precision.mean, "baseline_map_50": baseline_precision(data)}
    numbers |= {f"map_50_{name}": value.item() for name, value in zip(data.classes, precision.per_class[0], strict=True)}
    numbers |= {"objects": sum(map(len, test.labels)), **{kind: counts[kind] for kind in KINDS}}
    return numbers | {"milliseconds": 1000 * seconds / len(test.images)}, found, precision


# %% Figures
def draw_learning_curves(history: History):
    """Loss of every step with its running mean, and average precision on validation pictures after every epoch."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    draw_losses(left, history.losses)
    epochs = range(1, len(history.epochs) + 1)
    for key, name in (("map_50", "mAP@0.5"), ("map", "mAP@0.5:0.95")):
        right.plot(epochs, [epoch[key] for epoch in history.epochs], "o-", markersize=4, label=name)
    right.set(title=label("On validation pictures", "검증 사진에서"), xlabel=label("epoch", "에포크"), ylim=(0, 1))
    right.grid(alpha=0.3)
    right.legend()
    return figure


def draw_classes(precision: Precision, classes: list[str]):
    """Average precision of each class at an overlap of 0.5 and 0.75; returns the figure."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 1.4 + 0.35 * len(classes)), layout="constrained")
    order = precision.per_class[0].nan_to_num(-1).argsort().tolist()
    for row, (name, colour) in {0: ("0.5", "tab:blue"), 5: ("0.75", "tab:orange")}.items():
        shift = 0.2 if row == 0 else -0.2
        values = precision.per_class[row][order].nan_to_num(0).tolist()
        axis.barh([place + shift for place in range(len(order))], values, 0.38, color=colour, label=f"IoU ≥ {name}")
    axis.set(yticks=range(len(order)), yticklabels=[classes[one] for one in order], xlim=(0, 1))
    axis.set_title(label("Average precision of each class on test pictures", "테스트 사진에서 클래스별 평균 정밀도(AP)"))
    axis.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def draw_worst(found: list[Found], split: Boxed, classes: list[str], most: int = 8):
    """The pictures with the most mistakes: what was found, and (dashed) what was missed; returns the figure."""
    import matplotlib.pyplot as plt

    colours = {"right": "limegreen", "doubled": "gold", "confused": "magenta", "misplaced": "orange", "background": "red"}
    korean = {"right": "정답", "doubled": "중복", "confused": "혼동", "misplaced": "위치 오류", "background": "배경"}
    wrong = []
    for one, boxes, labels in zip(found, split.boxes, split.labels, strict=True):
        counts, _ = mistakes(sure(one), boxes, labels)
        wrong.append(counts.total() - counts["right"])
    worst = torch.tensor(wrong).argsort(descending=True, stable=True)[:most].tolist()
    figure, axes = plt.subplots(2, -(-len(worst) // 2), figsize=(13, 7), layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, number in zip(axes.flat, worst, strict=False):
        one, boxes, labels = sure(found[number]), split.boxes[number], split.labels[number]
        _, kinds = mistakes(one, boxes, labels)
        show_image(axis, split.images[number])
        for box, kind in zip(boxes.tolist(), labels.tolist(), strict=True):
            _draw_box(axis, box, "white", "--", classes[kind], below=True)
        for box, score, kind, verdict in zip(*(part.tolist() for part in one), kinds, strict=True):
            _draw_box(axis, box, colours[verdict], "-", f"{classes[kind]} {score:.2f}")
    for kind, colour in colours.items():
        axes[0, 0].plot([], [], color=colour, label=label(kind, korean[kind]))
    axes[0, 0].plot([], [], "--", color="silver", label=label("what is there", "정답 박스"))
    figure.legend(loc="outside lower center", ncols=6)
    figure.suptitle(label("The test pictures with the most mistakes", "오류가 가장 많은 테스트 사진"))
    return figure


def _draw_box(axis, box: list[float], colour: str, line: str, name: str, below: bool = False) -> None:
    x1, y1, x2, y2 = box
    axis.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], line, color=colour, linewidth=1.2)
    place = {"x": x1, "y": y2, "va": "bottom"} if below else {"x": x1, "y": y1, "va": "top"}
    axis.text(**place, s=name, fontsize=7, color="black", bbox={"facecolor": colour, "alpha": 0.6, "pad": 0.5, "linewidth": 0})


def draw_results(found: list[Found], precision: Precision, data: DetectionData) -> None:
    """Write the figures to outputs/project5_realtime_detection/."""
    save_figure(draw_classes(precision, data.classes), __file__, "classes")
    save_figure(draw_worst(found, data.test, data.classes), __file__, "worst")


def pictures_for(model: Path | None, kind: Kind, folder: Path | None) -> DetectionData:
    """The pictures that a network was trained on: scenes as many, as large and as often on paper.

    Raises:
        LessonError: It was trained on something else, which has other classes.
    """
    _, about = load_network(model)
    recipe = about.get("recipe", {})
    pictures = load(kind, about["side"], folder, **{name: recipe[name] for name in ("scenes", "paper") if name in recipe})
    print(f"trained on: {about['source']}\ntested on:  {pictures.source}")
    check(
        about["classes"] == pictures.classes,
        f"this network finds {', '.join(about['classes'])}; the test pictures are of {', '.join(pictures.classes)}. "
        "Choose the pictures it was trained on with --data",
    )
    return pictures


def main(
    model: Path | None = None,
    data: Kind = "scenes",
    folder: Path | None = None,
    runtime: Runtime = "eager",
    device: str = "auto",
    figures: bool = True,
) -> dict[str, float]:
    """Load a trained network, measure it on the test pictures, and count its mistakes.

    Args:
        model: The file; without it, the one that `python -m study run detection` wrote.
        data: "scenes", "bccd" or "folder": the test pictures.
        folder: Where they are, for --data folder.
        runtime: "eager", or "compiled", "exported", "onnx" or "int8" after `python -m study run detection/export`.
        device: "auto", "cpu", "cuda" or "mps".
        figures: Draw as well.
    """
    finder = load_finder(model, runtime, device)
    pictures = pictures_for(model, data, folder)
    numbers, found, precision = measure(finder, pictures)
    if figures:
        draw_results(found, precision, pictures)
    return numbers


if __name__ == "__main__":
    run(main, all_cores=True)
