"""Data loading · 데이터 로딩

A network learns from batches of tensors, and data lies in files. A data set knows how to fetch one example, a sampler says
which ones, a collate function makes a batch of them, and a data loader is the short loop around all three.
신경망은 텐서 배치로 학습하는데 데이터는 파일에 있다. 데이터셋은 예제 하나를 가져오고, 샘플러는 어느 것을 가져올지 정하고,
collate 함수는 예제들을 배치로 묶는다. 데이터 로더는 이 셋을 엮는 짧은 반복문이다.

You will
  1. turn a folder of pictures into a data set, with transforms
  2. write the data loader, equal to PyTorch's batch for batch
  3. draw the examples of a rare class more often
  4. meet the error everyone meets with sequences, and pad them in a collate function
  5. train on the folder, with pictures as they are and shifted by chance, and beat the nearest mean

Before     01_basics/basic_nn.py
Run        python -m study run data_loading       (about 7 s on one CPU core, after importing torch)
You see    48 batches equal to PyTorch's; 91 % of new pictures right, the nearest mean 85 %; shifted pictures hurt; batches.png
Try next   --shift 2 --epochs 20: shifts by up to two pixels, and time to learn them. First guess who wins; then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, WeightedRandomSampler

from utils.lesson import check, mention, run
from utils.plotting import label, save_figure

Example = tuple[Tensor, int]  # what goes in, and its label


# %% 1. A folder of pictures
def write_pictures(folder: Path, count: int) -> None:
    """Write scikit-learn's first `count` digits as PNG: train/7/0007.png and so on, the last fifth of them under test/."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()  # 1,797 real handwritten digits, (8, 8) each, from 0 to 16; in the order in which people wrote them
    mention("data", f"scikit-learn's digits, written as PNG files: {count} real handwritten digits of 8x8 pixels")
    for i in range(count):
        place = folder / ("train" if i < 0.8 * count else "test") / str(digits.target[i])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[i] * 255 / 16).astype(np.uint8)).save(place / f"{i:04}.png")


class PictureFolder(Dataset):
    """Pictures in one folder for each class. A data set needs two methods, __len__ and __getitem__."""

    def __init__(self, folder: Path, *transforms: Callable[[Tensor], Tensor]):
        """List the files, and open none: a folder of a million pictures starts as fast."""
        self.classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
        self.files = [(file, i) for i, name in enumerate(self.classes) for file in sorted((folder / name).glob("*.png"))]
        self.transforms = transforms

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Example:
        """Read and decode one picture, (1, 8, 8) uint8, and send it through the transforms."""
        from PIL import Image

        path, truth = self.files[index]
        with Image.open(path) as picture:
            x = torch.from_numpy(np.array(picture)).unsqueeze(0)
        for transform in self.transforms:
            x = transform(x)
        return x, truth


def scale(x: Tensor) -> Tensor:
    """A transform: bytes to numbers from 0 to 1."""
    return x.float() / 255


class RandomShift:
    """A transform that draws: every time it moves a picture (1, 8, 8) by up to `most` pixels, another way."""

    def __init__(self, most: int):
        self.most = most

    def __call__(self, x: Tensor) -> Tensor:
        down, right = torch.randint(0, 2 * self.most + 1, (2,)).tolist()
        return F.pad(x, [self.most] * 4)[:, down : down + x.shape[1], right : right + x.shape[2]]


# %% 2. The loader
def stack(examples: list[Example]) -> list[Tensor]:
    """The usual collate function: [(x, y), (x, y), ...] → all x (batch, ...), all y (batch,)."""
    return [torch.stack([torch.as_tensor(value) for value in column]) for column in zip(*examples, strict=True)]


def load(
    dataset: Dataset, batch_size: int, sampler: Iterable[int], collate: Callable = stack, drop_last: bool = False
) -> Iterator[Sequence[Tensor]]:
    """The data loader: fetch the examples that the sampler names, one after the other, and hand them out in batches."""
    examples = (dataset[index] for index in sampler)
    while batch := list(islice(examples, batch_size)):
        if len(batch) == batch_size or not drop_last:
            yield collate(batch)


def compare_loaders(pictures: PictureFolder, seed: int) -> int:
    """Load a folder and a list by hand and by PyTorch's DataLoader; return how many batches were equal, bit for bit."""
    some = [pictures[index] for index in range(100)]  # a list has __len__ and __getitem__: it is a data set
    order = torch.randperm(len(some), generator=torch.Generator().manual_seed(seed)).tolist()
    sampler = RandomSampler(some, generator=torch.Generator().manual_seed(seed))  # what shuffle=True makes for you
    pairs = (
        (load(pictures, 32, range(len(pictures))), DataLoader(pictures, 32)),
        (load(some, 32, order, drop_last=True), DataLoader(some, 32, sampler=sampler, drop_last=True)),
    )
    batches = [both for ours, theirs in pairs for both in zip(ours, theirs, strict=True)]
    for ours, theirs in batches:
        same = all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        check(same, "PyTorch's DataLoader gives another batch")
    print(f"2. {len(batches)} batches by hand, each equal to PyTorch's: a folder in order, a list in random order")
    return len(batches)


# %% 3. A sampler for rare classes
def draw_evenly(labels: Tensor, seed: int) -> Tensor:
    """Draw as many indices as there are labels (n,), with replacement, so that on average every class comes equally often."""
    weights = 1 / torch.bincount(labels)[labels].double()  # (n,): each of 150 examples of a class gets 1/150
    drawn = torch.multinomial(weights, len(labels), replacement=True, generator=torch.Generator().manual_seed(seed))
    sampler = WeightedRandomSampler(weights, len(labels), generator=torch.Generator().manual_seed(seed))
    check(drawn.tolist() == list(sampler), "PyTorch's WeightedRandomSampler draws others")
    return drawn


# %% 4. Sequences of different length
def columns_with_ink(x: Tensor) -> Tensor:
    """A transform: a digit as a sequence, from left to right, of its columns that are not empty: (1, 8, 8) → (columns, 8)."""
    columns = x[0].T
    return columns[columns.sum(dim=1) > 0]


def pad(examples: list[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """A collate function: fill up with zeros → (batch, longest, 8), lengths (batch,), labels (batch,)."""
    sequences, labels = zip(*examples, strict=True)
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    padded = torch.zeros(len(sequences), int(lengths.max()), sequences[0].shape[1])
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded, lengths, torch.tensor(labels)


def measure_padding(strokes: PictureFolder, seed: int) -> tuple[str, float, float]:
    """Make batches of sequences: return PyTorch's answer without `pad`; with it, the share of padding, unsorted and sorted."""
    try:
        list(DataLoader(strokes, batch_size=32))
    except RuntimeError as error:
        message = str(error)
    print(f'4. "{message}"')
    print("   read: examples of different length do not stack; pad them in a collate_fn, and keep their lengths")
    lengths = torch.tensor([len(x) for x, _ in strokes])
    orders = torch.randperm(len(strokes), generator=torch.Generator().manual_seed(seed)), lengths.argsort(stable=True)
    shares = []
    for order in orders:
        batches = DataLoader(strokes, batch_size=32, sampler=order.tolist(), collate_fn=pad)
        shares.append(1 - lengths.sum().item() / sum(x.shape[0] * x.shape[1] for x, _, _ in batches))
    print(f"   {shares[0]:.0%} of such batches is padding; {shares[1]:.1%} where examples of like length share a batch")
    return message, shares[0], shares[1]


# %% 5. Training on the folder
def train(folder: Path, transforms: tuple, epochs: int, lr: float, seed: int) -> nn.Module:
    """Train a small network on the pictures below `folder`, 32 at a time and in a new order in every epoch."""
    torch.manual_seed(seed)  # for the weights, the order, and what the transforms draw
    batches = DataLoader(PictureFolder(folder, *transforms), batch_size=32, shuffle=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(epochs):
        for x, y in batches:  # (32, 1, 8, 8), (32,)
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model


@torch.no_grad()
def score(folder: Path, models: list[nn.Module]) -> list[float]:
    """Return the accuracy on the pictures below test/ of each model, and last of the nearest mean of a class in train/."""
    (x, y), (x_test, y_test) = (stack(list(PictureFolder(folder / part, scale))) for part in ("train", "test"))
    means = torch.stack([x[y == digit].mean(dim=0) for digit in range(10)])  # (10, 1, 8, 8)
    nearest = torch.cdist(x_test.flatten(1), means.flatten(1)).argmin(dim=1)
    answers = [*(model(x_test).argmax(dim=1) for model in models), nearest]
    return [(answer == y_test).float().mean().item() for answer in answers]


def draw_batches(folder: Path, shift: int, seed: int) -> None:
    """Draw eight pictures as the network sees them in three epochs, and as a batch of padded sequences."""
    import matplotlib.pyplot as plt

    torch.manual_seed(seed)
    pictures = PictureFolder(folder, scale, RandomShift(shift))
    chosen = range(0, len(pictures), len(pictures) // 8)[:8]
    epochs = torch.cat([torch.cat([pictures[i][0][0] for i in chosen], dim=1) for _ in range(3)])  # (3 · 8, 8 · 8)
    x, lengths, _ = pad([PictureFolder(folder, scale, columns_with_ink)[i] for i in chosen])
    x[torch.arange(x.shape[1]) >= lengths.unsqueeze(1)] = torch.nan  # shows the background where there is padding
    titles = label("three epochs, shifted by chance", "세 에포크, 무작위로 이동"), label("sequences, padded", "시퀀스와 패딩")
    figure, axes = plt.subplots(2, 1, figsize=(9, 5.2), height_ratios=(3, 1), layout="constrained")
    for axis, strip, title in zip(axes, (epochs, torch.cat([*x.transpose(1, 2)], dim=1)), titles, strict=True):
        axis.imshow(strip.numpy(), cmap="gray_r")
        axis.set(xticks=np.arange(8) * strip.shape[1] / 8 - 0.5, yticks=np.arange(0, len(strip), 8) - 0.5)
        axis.set(xticklabels=[], yticklabels=[], title=title, facecolor="lightblue")
        axis.grid()
    save_figure(figure, __file__, "batches")


# %% All of it, in order
def main(pictures: int = 1797, shift: int = 1, epochs: int = 5, lr: float = 0.01, seed: int = 0) -> dict[str, float]:
    """Make data sets out of files, write the loader around them, and learn from what it hands out.

    Args:
        pictures: How many of scikit-learn's 1,797 digits are written as files; the last fifth is for the test.
        shift: By how many pixels RandomShift moves a training picture at most.
        epochs: Passes over the training pictures.
        lr: Adam's learning rate.
        seed: Seed of all orders, shifts and weights.
    """
    check(200 <= pictures <= 1797 and shift >= 0 and epochs > 0, "--pictures is 200 to 1797, --shift not below 0, --epochs above")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder, pictures)
        training = PictureFolder(folder / "train")
        print(f"1. {len(training)} files to train on, of the classes {', '.join(training.classes)}")
        equal = compare_loaders(training, seed)
        nines = torch.tensor([int(truth == 9) for _, truth in training.files])
        evenly = nines[draw_evenly(nines, seed)].double().mean().item()
        print(f"3. nines are {nines.double().mean():.0%} of the pictures, and {evenly:.0%} of what a weighted sampler draws")
        _, padding, sorted_padding = measure_padding(PictureFolder(folder / "train", scale, columns_with_ink), seed)
        kinds = (scale,), (scale, RandomShift(shift))
        models = [train(folder / "train", transforms, epochs, lr, seed) for transforms in kinds]
        accuracy, shifted, baseline = score(folder, models)
        draw_batches(folder / "train", shift, seed)
    print(f"5. right on new pictures: {accuracy:.1%}, after training on shifted ones {shifted:.1%}, nearest mean {baseline:.1%}")
    check(accuracy > max(0.1, baseline), f"the network ({accuracy:.3f}) is no better than the nearest mean ({baseline:.3f})")
    results = {"accuracy": accuracy, "accuracy_shifted": shifted, "baseline_accuracy": baseline, "equal_batches": equal}
    return results | {"nines_drawn": evenly, "padding": padding, "padding_sorted": sorted_padding}


if __name__ == "__main__":
    run(main)
