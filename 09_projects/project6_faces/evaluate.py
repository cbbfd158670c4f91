"""How good are faces that nobody has? · 아무도 아닌 얼굴은 얼마나 그럴듯한가

Load the saved network, generate as many faces as there are test faces, and measure them beside two yardsticks: real test faces,
which nobody trained on, and normally distributed pixels, which know means and covariances only.
저장한 신경망으로 테스트 얼굴만큼 얼굴을 만들고, 두 잣대와 나란히 잰다. 하나는 학습에 쓰지 않은 진짜 테스트 얼굴, 다른 하나는
평균과 공분산만 아는 정규 분포 픽셀이다.

Run        python -m study run faces/evaluate        (after python -m study run faces)
"""

from pathlib import Path

import torch
from torch import Tensor

from project6_faces.data import load_again, pictures, some_wishes
from project6_faces.model import Eigenfaces, Maker, load_network
from project6_faces.reader import Reader, Space, space_for
from utils.datasets.faces import FaceData
from utils.device import pick_device
from utils.evaluation import draw_losses
from utils.lesson import run
from utils.plotting import label, save_figure
from utils.sample_quality import copied, frechet_distance, gaussian_samples, kernel_distance, nearest, precision_recall
from utils.training import History

FIRM = 0.8  # what is asked for, of -1..1, when it is counted how often a wish comes true
ASKED = 100  # faces for each wish
COMPARED = 3000  # training faces, for the kernel distance: unbiased, it needs no more


# %% Generating
def generate(model: Maker, data: FaceData, count: int, seed: int) -> Tensor:
    """Faces (count, channels, 32, 32) in 0..1 on the CPU, with wishes as they come."""
    return draw_for(model, some_wishes(data, count, seed), seed)


def draw_for(model: Maker, wishes: Tensor, seed: int) -> Tensor:
    """A face on the CPU for each of the wishes (n, wishes), from noise that the seed decides."""
    device = next(model.parameters()).device
    noise = torch.randn(len(wishes), model.noise, generator=torch.Generator().manual_seed(seed))
    made = [model.draw(a.to(device), b.to(device)) for a, b in zip(noise.split(500), wishes.split(500), strict=True)]
    return torch.cat(made).cpu()


# %% Measuring
def measure(model: Maker, data: FaceData, space: Space, seed: int = 0) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Measure generated faces, test faces, test faces that went through the code, and normally distributed pixels.

    Args:
        model: Trained on `data`.
        data: Its faces.
        space: In whose features distances are measured.
        seed: Of what is generated.

    Returns:
        Flat numbers, "frechet_model", "frechet_test", ...; and the pictures by name. Of each kind there are as many as test
        faces. "test" is the floor, "coded" what a perfect network could reach with these codes, "gaussian" the baseline.
    """
    train, test = pictures(data.train.images), pictures(data.test.images)
    shown = {
        "test": test,
        "coded": through_code(model.eigenfaces, test),
        "model": generate(model, data, len(test), seed),
        "gaussian": gaussian_samples(train, len(test), seed),
    }
    known = space.features(train)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    usual, _ = nearest(test, train)
    results: dict[str, float] = {}
    for name, images in shown.items():
        seen = space.features(images)
        distances = usual if name == "test" else nearest(images, train)[0]
        numbers = {"frechet": frechet_distance(known, seen), "kernel": kernel_distance(known[order[:COMPARED]], seen)}
        numbers["precision"], numbers["recall"] = precision_recall(known[order[: len(seen)]], seen)
        numbers |= {"nearest": distances.median().item(), "copied": copied(distances, usual)}
        results |= {f"{key}_{name}": value for key, value in numbers.items()}
    if space.reader is not None and data.attributes:
        results |= wishes_come_true(model, data, space.reader, seed)
    return results, shown


def through_code(eigenfaces: Eigenfaces, images: Tensor) -> Tensor:
    """Pictures made codes and then pictures again: what is lost is lost for every network that makes codes."""
    device = eigenfaces.mean.device
    with torch.no_grad():
        return eigenfaces.decode(eigenfaces.encode(images.to(device))).clamp(0, 1).cpu()


def wishes_come_true(model: Maker, data: FaceData, reader: Reader, seed: int, count: int = ASKED) -> dict[str, float]:
    """How often a wish is there in the face.

    Each attribute is asked for at 0.8 and at -0.8 of -1..1, the others being as they come. It is there if the reader reads a
    number of the same sign off the face. How often the reader is right about test faces that are so far on one side is the
    ceiling: more than "reader" cannot be measured.

    Returns:
        "asked_smile", ..., their mean "asked" and the smallest "asked_least", and "reader", of test faces.
    """
    results = {}
    found, truth = reader.read(pictures(data.test.images)), data.test.wishes
    firm = truth.abs() >= FIRM
    results["reader"] = ((found * truth > 0) & firm).sum().item() / max(1, firm.sum().item())
    for column, name in enumerate(data.attributes):
        wishes = some_wishes(data, count, seed + 1)
        wishes[:, column] = torch.tensor([-FIRM, FIRM]).repeat(count // 2)
        if resting(data)[column] == -1:
            wishes[:, column] = wishes[:, column].sign()  # there or not: nothing between was ever learned
        read = reader.read(draw_for(model, wishes, seed + column))[:, column]
        results[f"asked_{name}"] = (read * wishes[:, column] > 0).float().mean().item()
    values = [results[f"asked_{name}"] for name in data.attributes]
    return results | {"asked": sum(values) / len(values), "asked_least": min(values)}


def show(results: dict[str, float]) -> None:
    """Print the table."""
    rows = {"test": "test faces", "coded": "... as codes", "model": "generated", "gaussian": "normal pixels"}
    columns = ("frechet", "kernel", "precision", "recall", "nearest", "copied")
    print("\n" + " " * 14 + "".join(f"{key:>11}" for key in columns))
    for name, told in rows.items():
        print(f"{told:14}" + "".join(f"{results[f'{key}_{name}']:11.4f}" for key in columns))
    wishes = {name[6:]: value for name, value in results.items() if name.startswith("asked_") and name != "asked_least"}
    if wishes:
        print("wishes that came true: " + ", ".join(f"{name} {value:.1%}" for name, value in wishes.items()))


# %% Figures
def draw_learning_curves(history: History):
    """Loss of every step with its running mean, and the distance to the validation faces after every epoch; the figure."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    draw_losses(left, history.losses)
    right.plot(range(1, len(history.epochs) + 1), [epoch["kernel_distance"] for epoch in history.epochs], "o-", markersize=4)
    right.set(
        title=label("Kernel distance to validation faces", "검증 얼굴과의 커널 거리"),
        xlabel=label("epoch", "에포크"),
        ylim=(0, None),
    )
    right.xaxis.get_major_locator().set_params(integer=True)
    right.grid(alpha=0.3)
    return figure


def sheet(images: Tensor, columns: int = 10) -> Tensor:
    """Pictures (n, channels, height, width) in rows, as one (rows * height, columns * width, 3)."""
    images = images[: len(images) // columns * columns].expand(-1, 3, -1, -1)
    _, channels, height, width = images.shape
    return images.view(-1, columns, channels, height, width).permute(0, 3, 1, 4, 2).reshape(-1, columns * width, channels)


def draw_samples(shown: dict[str, Tensor], count: int = 40):
    """Forty faces of each kind, as they come; returns the figure."""
    import matplotlib.pyplot as plt

    titles = {
        "test": label("test faces", "테스트 얼굴"),
        "coded": label("test faces, coded", "코드를 거친 테스트 얼굴"),
        "model": label("generated", "생성한 얼굴"),
        "gaussian": label("normal pixels", "정규 분포 픽셀"),
    }
    figure, axes = plt.subplots(2, 2, figsize=(12, 8), layout="constrained")
    for axis, (name, images) in zip(axes.flat, shown.items(), strict=True):
        axis.imshow(sheet(images[:count], 8).numpy())
        axis.set(title=titles[name], xticks=[], yticks=[])
    return figure


def draw_nearest(made: Tensor, train: Tensor, count: int = 10):
    """The generated faces that are nearest to a training face, above that face; returns the figure."""
    import matplotlib.pyplot as plt

    distances, indices = nearest(made, train)
    closest = distances.argsort()[:count]
    figure, axis = plt.subplots(figsize=(11, 2.9), layout="constrained")
    axis.imshow(sheet(torch.cat([made[closest], train[indices[closest]]]), count).numpy())
    size = made.shape[-1]
    axis.set(xticks=[size * (i + 0.5) for i in range(count)], xticklabels=[f"{distances[i]:.3f}" for i in closest])
    axis.set(yticks=[size / 2, 1.5 * size], yticklabels=[label("generated", "생성"), label("training", "학습")])
    axis.set_title(label("The ten that are nearest to a training face", "학습 얼굴에 가장 가까운 열 장"))
    return figure


def resting(data: FaceData) -> Tensor:
    """The wishes (attributes,) of a plain face: 0, but what is there or not is not there."""
    known = data.train.wishes
    return torch.where((known.abs() == 1).all(dim=0), -1.0, 0.0)


def draw_wishes(model: Maker, data: FaceData, columns: int = 9):
    """One noise, and each attribute from one end to the other; returns the figure."""
    import matplotlib.pyplot as plt

    rows = len(data.attributes)
    ends = torch.linspace(-1, 1, columns)
    wishes = resting(data).repeat(rows, columns, 1)
    for row in range(rows):
        wishes[row, :, row] = ends
    device = next(model.parameters()).device
    noise = torch.randn(1, model.noise, generator=torch.Generator().manual_seed(3)).expand(rows * columns, -1)
    made = model.draw(noise.to(device), wishes.flatten(0, 1).to(device)).cpu()
    figure, axis = plt.subplots(figsize=(8.6, 7.6), layout="constrained")
    axis.imshow(sheet(made, columns).numpy())
    size = made.shape[-1]
    axis.set(yticks=[size * (row + 0.5) for row in range(rows)], yticklabels=data.attributes)
    axis.set(xticks=[size * (i + 0.5) for i in range(columns)], xticklabels=[f"{end:+.2f}" for end in ends.tolist()])
    axis.set_title(label("One noise, one wish changed", "같은 잡음, 바뀐 요구 하나"))
    return figure


def draw_results(model: Maker, data: FaceData, shown: dict[str, Tensor]) -> None:
    """Write the figures to outputs/project6_faces/."""
    save_figure(draw_samples(shown), __file__, "samples")
    save_figure(draw_nearest(shown["model"], pictures(data.train.images)), __file__, "nearest")
    if data.attributes:
        save_figure(draw_wishes(model, data), __file__, "wishes")


def main(model: Path | None = None, seed: int = 0, device: str = "auto", figures: bool = True) -> dict[str, float]:
    """Load a trained network and the faces that it learned from, and measure what it makes.

    Args:
        model: The file; without it, the one that `python -m study run faces` wrote.
        seed: Of what is generated.
        device: "auto", "cpu", "cuda" or "mps".
        figures: Draw as well.
    """
    maker, about = load_network(model, pick_device(device))
    data = load_again(about)
    space = space_for(data)
    print(f"trained on: {about['source']}\ndistances are measured in {space.name}")
    results, shown = measure(maker, data, space, seed)
    show(results)
    if figures:
        draw_results(maker, data, shown)
    return results


if __name__ == "__main__":
    run(main)
