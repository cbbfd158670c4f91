"""utils/average_precision.py: the numbers of COCO's evaluation, compared with a second computation and with pycocotools."""

import contextlib
import io
import math

import numpy as np
import pytest
import torch

from utils.average_precision import COCO_THRESHOLDS, Found, average_precision, match, mean_average_precision
from utils.lesson import LessonError


def box(*numbers):
    return torch.tensor([numbers], dtype=torch.float32)


def case(generator, pictures, classes, most=8, crowded=False):
    """Draw boxes on whole pixels and found ones near them: equal overlaps, equal scores, empty pictures and more occur."""

    def number(below):
        return int(torch.randint(below, (), generator=generator))

    def drawn(n):
        corners = torch.randint(0, 12, (n, 2), generator=generator)
        return torch.cat([corners, corners + torch.randint(1, 10, (n, 2), generator=generator)], dim=1).float()

    found, boxes, labels = [], [], []
    for _ in range(pictures):
        theirs = drawn(number(most) if number(4) else 0)
        kinds = torch.randint(max(1, classes - 1), (len(theirs),), generator=generator)  # the last class has no box
        chosen = torch.randint(len(theirs), (number(2 * most),), generator=generator) if len(theirs) else torch.zeros(0).long()
        ours = theirs[chosen] + torch.randint(-1, 2, (len(chosen), 4), generator=generator)
        ours[:, 2:] = torch.maximum(ours[:, 2:], ours[:, :2])  # of no area now and then
        more = drawn(300 if crowded else number(4))
        ours = torch.cat([ours, more]) if number(5) else ours[:0]
        ours_kinds = torch.cat([kinds[chosen], torch.randint(classes, (len(more),), generator=generator)])[: len(ours)]
        found.append(Found(ours, torch.randint(20, (len(ours),), generator=generator) / 20, ours_kinds))
        boxes.append(theirs)
        labels.append(kinds)
    if not any(map(len, labels)):
        boxes[0], labels[0] = box(0, 0, 1, 1), torch.zeros(1).long()
    return found, boxes, labels


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def plainly(found, boxes, labels, label, threshold):
    """Average precision of one class at one threshold, one box after another."""
    ranked, count = [], 0
    for picture, (one, theirs, kinds) in enumerate(zip(found, boxes, labels, strict=True)):
        there = [row for row, kind in zip(theirs.tolist(), kinds.tolist(), strict=True) if kind == label]
        count += len(there)
        ours = [
            (-score, i, row)
            for i, (row, score, kind) in enumerate(zip(*(part.tolist() for part in one), strict=True))
            if kind == label
        ]
        taken = set()
        for minus_score, i, row in sorted(ours)[:100]:
            best, at = threshold, None
            for j, other in enumerate(there):
                if j not in taken and overlap(row, other) >= best:
                    best, at = overlap(row, other), j
            if at is not None:
                taken.add(at)
            ranked.append((minus_score, picture, i, at is not None))
    if not count:
        return math.nan
    hits, points = 0, []
    for rank, (*_, right) in enumerate(sorted(ranked), start=1):
        hits += right
        points.append((hits / count, hits / rank))
    recalls = np.linspace(0, 1, 101).tolist()
    return sum(max((precision for recall, precision in points if recall >= wanted), default=0) for wanted in recalls) / 101


def coco(found, boxes, labels, classes):
    """pycocotools' precision (thresholds, classes), -1 for a class without boxes."""
    COCO = pytest.importorskip("pycocotools.coco").COCO
    from pycocotools.cocoeval import COCOeval

    def rows(all_boxes, all_labels):
        for picture, (some, kinds) in enumerate(zip(all_boxes, all_labels, strict=True)):
            for (x1, y1, x2, y2), kind in zip(some.tolist(), kinds.tolist(), strict=True):
                where = [x1, y1, x2 - x1, y2 - y1]
                yield {"image_id": picture, "category_id": kind, "bbox": where, "area": where[2] * where[3], "iscrowd": 0}

    with contextlib.redirect_stdout(io.StringIO()):
        truth, said = COCO(), COCO()
        scores = [score for one in found for score in one.scores.tolist()]
        for holder, annotations in (
            (truth, rows(boxes, labels)),
            (said, rows([one.boxes for one in found], [one.labels for one in found])),
        ):
            listed = [{"id": i + 1} | one for i, one in enumerate(annotations)]
            if holder is said:
                listed = [one | {"score": score} for one, score in zip(listed, scores, strict=True)]
            pictures = [{"id": i} for i in range(len(boxes))]
            holder.dataset = {"images": pictures, "categories": [{"id": i} for i in range(classes)], "annotations": listed}
            holder.createIndex()
        judge = COCOeval(truth, said, "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.eval["precision"][:, :, :, 0, -1].mean(axis=1), judge.stats


class TestEqual:
    def test_to_a_second_computation(self):
        generator = torch.Generator().manual_seed(0)
        for _ in range(10):
            found, boxes, labels = case(generator, pictures=5, classes=3)
            result = mean_average_precision(found, boxes, labels, 3)
            expected = [[plainly(found, boxes, labels, kind, threshold) for kind in range(3)] for threshold in COCO_THRESHOLDS]
            torch.testing.assert_close(result.per_class, torch.tensor(expected).double(), rtol=0, atol=1e-7, equal_nan=True)

    @pytest.mark.parametrize(("cases", "pictures", "crowded"), [(60, 6, False), (2, 3, True)])
    def test_to_pycocotools(self, cases, pictures, crowded):
        pytest.importorskip("pycocotools")
        generator = torch.Generator().manual_seed(1)
        for _ in range(cases):
            found, boxes, labels = case(generator, pictures, classes=3, crowded=crowded)
            result = mean_average_precision(found, boxes, labels, 3)
            expected, stats = coco(found, boxes, labels, 3)
            assert np.nan_to_num(result.per_class.numpy(), nan=-1) == pytest.approx(expected, abs=1e-12)
            assert (result.mean, result.at_50) == pytest.approx((stats[0], stats[1]), abs=1e-12)


class TestCounting:
    truth = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])

    def judge(self, boxes, scores, labels=None, thresholds=(0.5,)):
        kinds = torch.zeros(len(boxes)).long() if labels is None else torch.tensor(labels)
        found = [Found(torch.tensor(boxes).float().reshape(-1, 4), torch.tensor(scores).float(), kinds)]
        return mean_average_precision(found, [self.truth], [torch.zeros(2).long()], 2, thresholds)

    def test_perfect(self):
        result = self.judge(self.truth.tolist(), [0.2, 0.9], thresholds=COCO_THRESHOLDS)
        assert result.mean == result.at_50 == 1
        assert result.per_class[:, 1].isnan().all()  # a class that does not occur counts nowhere

    def test_nothing_found(self):
        assert self.judge([], []).mean == 0

    def test_an_object_is_found_once(self):
        twice = [[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]]
        assert self.judge(twice, [0.9, 0.8, 0.7]).mean == pytest.approx((51 + 50 * 2 / 3) / 101)
        assert self.judge(twice, [0.9, 0.6, 0.7]).mean == 1  # false, but after all that is there was found

    def test_threshold_is_reached_by_an_equal_overlap(self):
        half = [[0, 0, 10, 5], [20, 20, 30, 30]]
        assert self.judge(half, [0.9, 0.8]).mean == 1
        assert self.judge(half, [0.8, 0.9], thresholds=(0.51,)).mean == pytest.approx(51 / 101)

    def test_another_class_does_not_count(self):
        assert self.judge(self.truth.tolist(), [0.9, 0.8], labels=[1, 1]).mean == 0

    def test_without_50(self):
        assert math.isnan(self.judge([], [], thresholds=(0.75,)).at_50)

    def test_match_orders_each_picture(self):
        found = [Found(self.truth, torch.tensor([0.1, 0.6]), torch.zeros(2).long())] * 2
        matched = match(found, [self.truth, self.truth[:1]], [torch.zeros(2).long(), torch.zeros(1).long()], 1, (0.5, 1))
        assert matched.scores.tolist() == pytest.approx([0.6, 0.1, 0.6, 0.1])
        assert matched.right.tolist() == [[True, True, False, True]] * 2

    def test_average_precision(self):
        right = torch.tensor([[True, False, True], [False, False, False]])
        assert average_precision(right, 4).tolist() == pytest.approx([(26 + 25 * 2 / 3) / 101, 0])


class TestErrors:
    good = (box(0, 0, 5, 5), torch.tensor([0.5]), torch.tensor([0]))

    @pytest.mark.parametrize(
        ("found", "boxes", "labels", "message"),
        [
            ([good] * 2, [box(0, 0, 5, 5)], [torch.tensor([0])], "2 pictures found, 1 with boxes"),
            ([good], [torch.zeros(0, 4)], [torch.zeros(0).long()], "no picture has any box"),
            ([], [], [], "no picture has any box"),
            ([good], [box(5, 0, 0, 5)], [torch.tensor([0])], "picture 0, what is there: a box is not x1 y1 x2 y2"),
            ([(box(0, 0, math.nan, 5), *good[1:])], [box(0, 0, 5, 5)], [torch.tensor([0])], "found: a box is not x1 y1"),
            ([good], [torch.zeros(4)], [torch.tensor([0])], r"boxes \(4,\) and labels \(1,\)"),
            ([good], [box(0, 0, 5, 5)], [torch.tensor([7])], "a label is not one of 0 to 1"),
            ([(good[0], torch.tensor([math.nan]), good[2])], [box(0, 0, 5, 5)], [torch.tensor([0])], "needs a score"),
            ([(good[0], torch.zeros(2), good[2])], [box(0, 0, 5, 5)], [torch.tensor([0])], "needs a score"),
        ],
    )
    def test_one_sentence(self, found, boxes, labels, message):
        with pytest.raises(LessonError, match=message):
            mean_average_precision([Found(*one) for one in found], boxes, labels, 2)

    def test_threshold(self):
        with pytest.raises(LessonError, match="above 0"):
            mean_average_precision([Found(*self.good)], [box(0, 0, 5, 5)], [torch.tensor([0])], 1, (0.0, 0.5))
