"""The data sets of labelled pictures."""

from pathlib import Path

import torch
import torch.nn.functional as F

from utils import paths
from utils.datasets import picture_book
from utils.datasets.cifar_batches import read_cifar_batches
from utils.datasets.idx import read_mnist
from utils.datasets.images import ImageData, Images
from utils.datasets.picture_files import TRAIN_AND_VAL, Format, Pictures, read_pictures
from utils.datasets.sources import Source, locate
from utils.lesson import mention

MNIST_CLASSES = [str(digit) for digit in range(10)]
CIFAR10_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
HYMENOPTERA_CLASSES = ["ants", "bees"]


def mnist(source: Source = "auto", download: bool = False) -> ImageData:
    """Handwritten digits (LeCun, Cortes and Burges, 1998): 60,000 to train on, 10,000 to test on, 28x28 grey.

    Reads the four official files (plain or .gz), and folders, zips or tars of pictures named `train/7/any.png`.
    The sample is scikit-learn's digits: 1,797 real handwritten digits of 8x8 pixels, enlarged to MNIST's format. The last 360
    are its test set: the digits are in the order in which people wrote them, so that most of its writers are new.

    Args:
        source: "auto", "real" or "sample".
        download: With "auto", try the official download before the sample. Projects do; lessons do not.

    Raises:
        LessonError: A file is damaged or incomplete, or source="real" and it cannot be had.
    """
    place = locate("mnist", source, download)
    if place is None:
        data = _digits_sample()
    elif place.name.startswith("train-images"):
        train, test, official = read_mnist(place.parent)
        kind = "official files" if official else "own copy (not the official checksums)"
        name = f"MNIST, {kind} ({len(train):,} + {len(test):,}), {paths.short(place.parent)}"
        data = ImageData(train, test, MNIST_CLASSES, name, is_real=True)
    else:
        pictures = read_pictures("mnist", place, Format("L", 28), MNIST_CLASSES)
        data = _own_copy("MNIST", pictures, MNIST_CLASSES, place)
    mention("data", data.source)
    return data


def cifar10(source: Source = "auto", download: bool = False) -> ImageData:
    """Ten classes of animals and vehicles (Krizhevsky, 2009): 50,000 to train on, 10,000 to test on, 32x32 in colour.

    Reads the official Python pickles, unpacked or in their archive, the binary version, and folders, zips or tars of
    pictures named `train/airplane/any.png`. In the official files the classes come in random order; in folders of pictures
    one class follows another, so shuffle.
    The sample is the course's own picture book (`utils.datasets.picture_book`): ten other classes in the same format.

    Args:
        source: "auto", "real" or "sample".
        download: With "auto", try the official download (170 MB) before the sample. Projects do; lessons do not.

    Raises:
        LessonError: A file is damaged or incomplete, or source="real" and it cannot be had.
    """
    place = locate("cifar10", source, download)
    if place is None:
        train, test = picture_book.load()
        name = f"{_sample_name(train, test, '10 classes')}; not CIFAR-10"
        data = ImageData(train, test, list(picture_book.CLASSES), name, is_real=False)
    elif place.name.startswith(("cifar-10-batches", "cifar-10-python", "cifar-10-binary")):
        train, test, official = read_cifar_batches(place)
        kind = "official files" if official else "own copy (not the official checksums)"
        name = f"CIFAR-10, {kind} ({len(train):,} + {len(test):,}), {paths.short(place)}"
        data = ImageData(train, test, CIFAR10_CLASSES, name, is_real=True)
    else:
        pictures = read_pictures("cifar10", place, Format("RGB", 32), CIFAR10_CLASSES)
        data = _own_copy("CIFAR-10", pictures, CIFAR10_CLASSES, place)
    mention("data", data.source)
    return data


def hymenoptera(source: Source = "auto", download: bool = False, size: int = 224) -> ImageData:
    """Ants and bees, photographs from the web: 244 to train on, 153 to test on. PyTorch's tutorials learn transfer with them.

    The set's own name for its test split is `val`; here it is `test`, and only for the last look.
    Reads `hymenoptera_data/{train,val}/{ants,bees}/*` as a folder, zip or tar. Of each photograph the middle is taken: the
    shorter side scaled to 8/7 of `size`, then `size` x `size` cut out.
    The sample is two classes of the picture book that are hard to tell apart, drawn at the same size and in the same number.

    Args:
        source: "auto", "real" or "sample".
        download: With "auto", try the download (47 MB) before the sample. Projects do; lessons do not.
        size: Width and height of every picture.

    Raises:
        LessonError: A file is damaged or incomplete, or source="real" and it cannot be had.
    """
    place = locate("hymenoptera", source, download)
    if place is None:
        classes = picture_book.HARD_PAIR
        train, test = picture_book.load(train=244, test=153, size=size, classes=classes)
        name = f"{_sample_name(train, test, ' and '.join(classes))}; not ants and bees"
        data = ImageData(train, test, list(classes), name, is_real=False)
    else:
        pictures = read_pictures("hymenoptera", place, Format("RGB", size, crop=True), HYMENOPTERA_CLASSES, TRAIN_AND_VAL)
        counts = f"{len(pictures.train):,} + {len(pictures.test):,} photographs"
        name = f"Hymenoptera ({counts}, cut to {size}x{size}; checksum unknown), {paths.short(place)}"
        data = ImageData(pictures.train, pictures.test, HYMENOPTERA_CLASSES, name, is_real=True)
    mention("data", data.source)
    return data


def _own_copy(title: str, pictures: Pictures, classes: list[str], place: Path) -> ImageData:
    lossy = "; JPEG, not the original pixels" if pictures.lossy else ""
    counts = f"{len(pictures.train):,} + {len(pictures.test):,} pictures{lossy}"
    return ImageData(pictures.train, pictures.test, classes, f"{title}, own copy ({counts}), {paths.short(place)}", is_real=True)


def _sample_name(train: Images, test: Images, what: str) -> str:
    size = f"{train.images.shape[-1]}x{train.images.shape[-1]}"
    return f"sample: picture book, {what} of drawn objects on photographs, {size} ({len(train):,} + {len(test):,})"


def _digits_sample() -> ImageData:
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = torch.from_numpy(digits.images).float().unsqueeze(1) / 16  # (1797, 1, 8, 8) in 0..1
    large = F.interpolate(small, size=(20, 20), mode="bilinear", align_corners=False)  # MNIST's digits fill 20x20 of 28x28
    images = F.pad(large, (4, 4, 4, 4)).mul(255).round().to(torch.uint8)  # (1797, 1, 28, 28)
    everything = Images(images, torch.from_numpy(digits.target).long())
    return ImageData(
        train=everything[:-360],
        test=everything[-360:],
        classes=MNIST_CLASSES,
        source="sample: scikit-learn's digits, 8x8 enlarged to 28x28 (1,437 + 360); not MNIST",
        is_real=False,
    )
