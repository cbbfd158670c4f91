"""Scores of masks against plain counting, pixel by pixel."""

import pytest
import torch

from utils.datasets.boxes import IGNORED
from utils.lesson import LessonError
from utils.segmentation_scores import (
    confusion_matrix,
    intersection_over_union,
    mean_iou,
    near_boundary,
    pixel_accuracy,
    wrong_by_distance,
)


@pytest.fixture
def pair():
    """Answers and masks (3, 9, 11) of four classes, some pixels ignored."""
    answers, masks = torch.randint(4, (2, 3, 9, 11), generator=torch.Generator().manual_seed(0))
    masks[:, 0] = IGNORED
    return answers, masks.to(torch.uint8)


def test_counts(pair):
    counts = confusion_matrix(*pair, classes=5)
    plain = torch.zeros(5, 5, dtype=torch.int64)
    for found, truth in zip(*(one.flatten().tolist() for one in pair), strict=True):
        if truth != IGNORED:
            plain[truth, found] += 1
    assert torch.equal(counts, plain)
    each = [confusion_matrix(found, truth, 5) for found, truth in zip(*pair, strict=True)]
    assert torch.equal(sum(each), counts)
    assert pixel_accuracy(counts) == pytest.approx(plain.diagonal().sum().item() / plain.sum().item())


def test_iou_leaves_out_what_is_nowhere(pair):
    scores = intersection_over_union(confusion_matrix(*pair, classes=5))
    assert scores[4].isnan() and mean_iou(confusion_matrix(*pair, classes=5)) == pytest.approx(scores[:4].mean().item())
    only_said = confusion_matrix(torch.tensor([0, 2]), torch.tensor([0, 0]), 3)
    assert intersection_over_union(only_said)[[0, 2]].tolist() == [0.5, 0]  # said where it is not: 0, and that counts


def test_nothing_counts():
    counts = confusion_matrix(torch.zeros(2, 2), torch.full((2, 2), IGNORED), 3)
    assert counts.sum() == 0 and mean_iou(counts) != mean_iou(counts) and pixel_accuracy(counts) != pixel_accuracy(counts)


def test_wrong_arguments():
    with pytest.raises(LessonError, match="classes from 0 to 3, expected 0 to 2"):
        confusion_matrix(torch.tensor([0, 1]), torch.tensor([3, 0]), 3)
    with pytest.raises(LessonError, match="answers have classes from 0 to 7"):
        confusion_matrix(torch.tensor([0, 7]), torch.tensor([1, 0]), 3)
    with pytest.raises(LessonError, match="shape"):
        confusion_matrix(torch.zeros(2, 3), torch.zeros(2, 4), 3)


@pytest.mark.parametrize("distance", [1, 2, 4])
def test_near_boundary(pair, distance):
    masks = pair[1].clone()
    masks[1:] = 2
    masks[1, 4, 5], masks[2, :, 8:] = 0, IGNORED
    found = near_boundary(masks, distance)
    for n, i, j in torch.cartesian_prod(*map(torch.arange, masks.shape)).tolist():
        window = masks[n, max(0, i - distance) : i + distance + 1, max(0, j - distance) : j + distance + 1]
        others = set(window.flatten().tolist()) - {IGNORED, int(masks[n, i, j])}
        assert found[n, i, j] == (masks[n, i, j] != IGNORED and len(others) > 0)
    assert not found[2].any()  # what is ignored is no other class


def test_wrong_by_distance():
    masks = torch.zeros(1, 4, 12, dtype=torch.uint8)
    masks[..., 6:], masks[..., 11] = 1, IGNORED
    answers = masks.clone().int()
    answers[..., 5] = 1  # wrong at the boundary
    answers[0, 0, 0] = 1  # and once far from it
    answers[..., 11] = 0
    assert wrong_by_distance(answers, masks, (1, 3)) == pytest.approx([4 / 8, 0, 1 / 20])
    assert wrong_by_distance(answers, masks, (12,))[1] != wrong_by_distance(answers, masks, (12,))[1]  # no pixel: NaN
