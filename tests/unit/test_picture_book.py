"""utils.datasets.picture_book: worth classifying, never the same twice, and nothing but the shape gives a class away."""

import math
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from utils.datasets import nearest_mean_accuracy, picture_book
from utils.datasets.drawings import DRAWINGS, Pen
from utils.datasets.images import Images


@pytest.fixture(scope="module")
def book() -> tuple[Images, Images]:
    return picture_book.load()


@pytest.fixture
def drawn_anew():
    """Nothing is taken from the memory of this process."""
    picture_book._drawn.cache_clear()
    yield
    picture_book._drawn.cache_clear()


def softmax_regression(train: torch.Tensor, train_labels, test: torch.Tensor, test_labels) -> float:
    """Accuracy on the test split of one linear layer on the given features: (N, features)."""
    many = train.shape[1] > 100
    mean, std = train.mean(dim=0), train.std(dim=0) + 1e-6
    train, test = (train - mean) / std, (test - mean) / std
    layer = torch.nn.Linear(train.shape[1], 10)
    torch.nn.init.zeros_(layer.weight)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3 if many else 0.03, weight_decay=1.0 if many else 0.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        batch = torch.randint(len(train), (256,), generator=generator)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(train[batch]), train_labels[batch]).backward()
        optimizer.step()
    return (layer(test).argmax(dim=1) == test_labels).float().mean().item()


class TestFormat:
    def test_is_cifar10s(self, book):
        train, test = book
        assert train.images.shape == (5000, 3, 32, 32) and test.images.shape == (2000, 3, 32, 32)
        for part in book:
            assert (part.images.dtype, part.labels.dtype) == (torch.uint8, torch.int64)
            assert part.labels.bincount().tolist() == [len(part) // 10] * 10

    def test_classes_are_in_random_order(self, book):
        labels = book[0].labels
        assert (labels[1:] == labels[:-1]).float().mean() == pytest.approx(0.1, abs=0.03)

    def test_another_size_and_other_classes(self):
        train, test = picture_book.load(train=6, test=4, size=100, classes=("car", "cup"))
        assert train.images.shape == (6, 3, 100, 100) and test.images.shape == (4, 3, 100, 100)
        assert train.labels.bincount().tolist() == [3, 3]

    def test_hard_pair_is_among_the_classes(self):
        assert set(picture_book.HARD_PAIR) <= set(picture_book.CLASSES)


class TestCache:
    """Of a book as large as a lesson's, the pictures are kept for the next process."""

    @pytest.fixture(autouse=True)
    def shared_cache(self):
        """Not shared here."""

    @pytest.fixture
    def drawings(self, monkeypatch, drawn_anew):
        """Every call appends to it; quick, because nothing is really drawn."""
        calls = []

        def draw(name, split, size, seed):
            calls.append(seed)
            return np.full((3, size, size), len(calls) % 256, np.uint8)

        monkeypatch.setattr(picture_book, "draw", draw)
        return calls

    @staticmethod
    def next_process(**arguments) -> torch.Tensor:
        picture_book._drawn.cache_clear()
        return picture_book.load(**{"train": 600, "test": 20, **arguments})[0].images

    def test_next_process_draws_nothing_but_the_small_split(self, drawings):
        first = self.next_process()
        assert len(drawings) == 620
        assert torch.equal(self.next_process(), first)
        assert len(drawings) == 640

    @pytest.mark.parametrize("arguments", [{"seed": 1}, {"classes": ("car", "cup")}, {"size": 33}, {"train": 601}])
    def test_another_book_is_drawn(self, drawings, arguments):
        self.next_process()
        before = len(drawings)
        self.next_process(**arguments)
        assert len(drawings) - before == arguments.get("train", 600) + 20

    def test_changed_code_draws_anew(self, drawings, monkeypatch):
        self.next_process()
        monkeypatch.setattr(picture_book, "fingerprint", lambda *code: "changed")
        self.next_process()
        assert len(drawings) == 1240

    def test_fingerprint_is_of_code_and_packages(self, monkeypatch):
        picture_book.fingerprint.cache_clear()
        now = picture_book.fingerprint()
        monkeypatch.setattr(picture_book.metadata, "version", lambda name: "another")
        picture_book.fingerprint.cache_clear()
        assert picture_book.fingerprint() != now
        picture_book.fingerprint.cache_clear()


class TestDeterminism:
    def test_same_arguments_same_pictures(self, drawn_anew):
        first = picture_book.load(train=30, test=20)
        torch.manual_seed(5)
        np.random.seed(5)
        picture_book._drawn.cache_clear()
        second = picture_book.load(train=30, test=20)
        for a, b in zip(first, second, strict=True):
            assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)

    def test_another_seed_other_pictures(self):
        first, second = (picture_book.load(train=30, test=20, seed=seed)[0].images for seed in (0, 1))
        assert (first != second).flatten(1).any(dim=1).all()

    def test_who_writes_into_the_pictures_harms_nobody(self):
        first = picture_book.load(train=30, test=20)[0]
        kept = first.images.clone()
        first.images.zero_()
        assert torch.equal(picture_book.load(train=30, test=20)[0].images, kept)

    @pytest.mark.parametrize("name", picture_book.CLASSES)
    def test_no_two_drawings_are_alike(self, name):
        """Same pose, same paints, same background: the drawings themselves differ."""
        drawn = set()
        for seed in range(20):
            picture = Image.new("L", (64, 64))
            DRAWINGS[name](Pen(ImageDraw.Draw(picture), (32, 32, 25, 25, 0), (100, 160, 220), None, 0), Random(seed))
            drawn.add(picture.tobytes())
        assert len(drawn) >= 19  # on 64x64 pixels; two slim firs may look the same

    @pytest.mark.parametrize("ground", [0, 89, 90, 169, 170, 255])
    def test_there_are_paints_for_every_background(self, ground):
        for seed in range(50):
            paints = picture_book._paints(Random(seed), ground)
            assert len(set(paints)) == 3
            assert abs(picture_book._brightness(paints[0]) - ground) > 20


class TestSplit:
    def test_no_picture_is_in_both(self, book):
        train, test = ({image.numpy().tobytes() for image in part.images} for part in book)
        assert len(train) == 5000 and len(test) == 2000 and not train & test

    def test_backgrounds_come_from_parts_of_the_photographs_that_do_not_meet(self, monkeypatch):
        """Paint every part of the photographs in the colour of its split, and look at the patches."""
        photos = []
        for width, height in ((640, 427), (640, 427), (512, 270)):
            pixels = np.full((height, width, 3), 128, np.uint8)  # grey: the margin
            for split, value in (("train", 0), ("test", 255)):
                for start, end in picture_book.BANDS[split]:
                    pixels[:, math.floor(start * width) : math.ceil(end * width)] = value
            photos.append(Image.fromarray(pixels))
        monkeypatch.setattr(picture_book, "photographs", lambda: photos)
        r = Random(0)
        for split, value in (("train", 0), ("test", 255)):
            for _ in range(500):
                patch = np.asarray(picture_book._patch(r, split, 32)).astype(int)
                assert np.abs(patch - value).max() < 128  # the smoothing of a border may mix in a little of the margin

    def test_margin(self):
        (_, left_end), (right_start, _) = picture_book.BANDS["train"]
        ((test_start, test_end),) = picture_book.BANDS["test"]
        assert left_end + 0.03 < test_start and test_end + 0.03 < right_start

    def test_photographs_are_those_of_the_dependencies(self):
        assert [photo.size for photo in picture_book.photographs()] == [(640, 427), (640, 427), (512, 270)]


class TestDifficulty:
    """Chance is 10 %. Measured: nearest mean 24, softmax regression on pixels 33, mean colour 11.6."""

    def test_simple_methods_find_something_and_not_much(self, book):
        train, test = book
        assert 0.18 < nearest_mean_accuracy(train, test) < 0.32
        pixels = [torch.nn.functional.avg_pool2d(part.images.float(), 2).flatten(1) for part in book]
        accuracy = softmax_regression(pixels[0], train.labels, pixels[1], test.labels)
        assert 0.22 < accuracy < 0.45

    def test_colour_alone_does_not_give_the_class_away(self, book):
        train, test = book
        means = [part.images.float().mean(dim=(2, 3)) / 255 for part in book]
        colours = [torch.cat([mean, mean**2, mean * mean.roll(1, dims=1)], dim=1) for mean in means]  # (N, 9)
        assert softmax_regression(colours[0], train.labels, colours[1], test.labels) < 0.15

    def test_background_alone_does_not_give_the_class_away(self, book):
        """The outermost pixels, which show little else."""
        train, test = book
        border = torch.ones(32, 32, dtype=torch.bool)
        border[1:-1, 1:-1] = False
        pixels = [part.images[:, :, border].float().flatten(1) for part in book]
        assert softmax_regression(pixels[0], train.labels, pixels[1], test.labels) < 0.15

    def test_mirror_image_keeps_its_class(self, book):
        """As many objects look to the left as to the right: the mean picture of a class is its own mirror image, nearly."""
        train, _ = book
        for label, name in enumerate(picture_book.CLASSES):
            mean = train.images[train.labels == label].float().mean(dim=0)
            assert (mean - mean.flip(2)).abs().mean() < 6, name
