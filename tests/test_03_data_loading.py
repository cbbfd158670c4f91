"""Data sets, the loader by hand and PyTorch's, and a network that learns from files."""

import pytest
import torch
from conftest import lesson
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from utils.lesson import LessonError


@pytest.fixture(scope="module")
def loading():
    return lesson("03_training/data_loading")


@pytest.fixture(scope="module")
def folder(loading, tmp_path_factory):
    """200 digits as PNG files: 160 to train on, 40 to test on."""
    folder = tmp_path_factory.mktemp("digits")
    loading.write_pictures(folder, 200)
    return folder


class TestPictureFolder:
    def test_finds_what_torchvision_finds(self, loading, folder):
        datasets = pytest.importorskip("torchvision.datasets")
        ours, theirs = loading.PictureFolder(folder / "train"), datasets.ImageFolder(str(folder / "train"))
        assert [(str(path), label) for path, label in ours.files] == theirs.samples
        assert ours.classes == theirs.classes == [str(digit) for digit in range(10)]
        assert len(ours) == 160 and len(loading.PictureFolder(folder / "test")) == 40

    def test_a_picture_is_the_digit_that_was_written(self, loading, folder):
        from sklearn.datasets import load_digits

        digits = load_digits()
        pictures = loading.PictureFolder(folder / "train", loading.scale)
        for index in (0, 57, 159):
            path, truth = pictures.files[index]
            x, label = pictures[index]
            assert x.shape == (1, 8, 8) and label == truth == digits.target[int(path.stem)]
            torch.testing.assert_close(x[0], torch.tensor(digits.images[int(path.stem)] / 16).float(), rtol=0, atol=1 / 255)

    def test_shift_moves_and_fills_with_nothing(self, loading):
        x = torch.zeros(1, 8, 8)
        x[0, 4, 4] = 1
        torch.manual_seed(0)
        places = {tuple(loading.RandomShift(1)(x).nonzero()[0].tolist()) for _ in range(100)}
        assert places == {(0, row, column) for row in (3, 4, 5) for column in (3, 4, 5)}
        torch.testing.assert_close(loading.RandomShift(0)(x), x)
        assert loading.RandomShift(3)(torch.ones(1, 8, 8)).shape == (1, 8, 8)


class TestLoader:
    def test_equal_to_pytorchs(self, loading, folder):
        assert loading.compare_loaders(loading.PictureFolder(folder / "train"), seed=1) == 5 + 3

    @pytest.mark.parametrize(("drop_last", "sizes"), [(False, [4, 4, 2]), (True, [4, 4])])
    def test_last_batch(self, loading, drop_last, sizes):
        data = [(torch.tensor([float(i)]), i) for i in range(10)]
        ours = list(loading.load(data, 4, range(9, -1, -1), drop_last=drop_last))
        theirs = list(DataLoader(data, 4, sampler=range(9, -1, -1), drop_last=drop_last))
        assert [len(y) for _, y in ours] == [len(y) for _, y in theirs] == sizes
        assert all(torch.equal(a, b) for mine, other in zip(ours, theirs, strict=True) for a, b in zip(mine, other, strict=True))
        assert ours[0][1].tolist() == [9, 8, 7, 6]


class TestSampler:
    def test_rare_class_comes_as_often(self, loading):
        labels = torch.tensor([0] * 900 + [1] * 100)
        for seed in range(3):
            drawn = loading.draw_evenly(labels, seed)
            assert len(drawn) == 1000
            assert 0.44 < labels[drawn].double().mean() < 0.56  # a standard deviation is 0.016
            assert len(drawn[labels[drawn] == 1].unique()) > 90  # all of them, not one again and again


class TestPadding:
    def test_equal_to_pad_sequence(self, loading):
        sequences = [torch.rand(length, 8) for length in (3, 7, 1)]
        padded, lengths, labels = loading.pad([(sequence, i) for i, sequence in enumerate(sequences)])
        assert torch.equal(padded, pad_sequence(sequences, batch_first=True))
        assert lengths.tolist() == [3, 7, 1] and labels.tolist() == [0, 1, 2]

    def test_empty_columns_are_left_out(self, loading):
        x = torch.zeros(1, 8, 8)
        x[0, 5, 2] = x[0, 1, 6] = 1
        assert loading.columns_with_ink(x).nonzero().tolist() == [[0, 5], [1, 1]]  # (column, row)

    def test_message_and_shares(self, loading, folder):
        strokes = loading.PictureFolder(folder / "train", loading.scale, loading.columns_with_ink)
        message, padding, sorted_padding = loading.measure_padding(strokes, seed=0)
        assert "equal size" in message and "[6, 8]" in message
        assert 0.08 < padding < 0.25 and 0 <= sorted_padding < 0.06


class TestMain:
    def test_learns_from_files(self, loading):
        results = loading.main(pictures=600, shift=1, epochs=8, lr=0.01, seed=0)
        assert results["accuracy"] > results["baseline_accuracy"] > 0.5
        assert results["accuracy"] > results["accuracy_shifted"] + 0.02
        assert results["equal_batches"] == 18
        assert 0.4 < results["nines_drawn"] < 0.6

    def test_check_notices_a_network_that_did_not_learn(self, loading):
        with pytest.raises(LessonError, match="nearest mean"):
            loading.main(pictures=200, shift=0, epochs=1, lr=0.0, seed=0)
