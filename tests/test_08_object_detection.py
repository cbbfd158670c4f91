"""Object detection: cells answer where they should, boxes come out in pixels, and the detector learns."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson
from torch import nn
from torchvision.ops import box_iou, complete_box_iou_loss

from utils import paths
from utils.box_augmentation import GREY
from utils.datasets import bccd, scenes_with_boxes
from utils.datasets.boxes import Boxed, DetectionData
from utils.gradient_windows import cell_centres
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def detection():
    return lesson("08_computer_vision/object_detection")


@pytest.fixture(scope="module")
def scenes():
    """24 + 24 scenes of 64x64; what is to be learned is what is looked at in between."""
    data = scenes_with_boxes(train=24, validation=1, test=24, size=64, seed=0)
    return DetectionData(data.train, data.train, data.test, data.classes, "24 small scenes", is_real=False)


class Planted(nn.Module):
    """A detector that answers the same for all pictures."""

    def __init__(self, logits, boxes):
        super().__init__()
        self.sides, self.answers = nn.Conv2d(1, 1, 1), (logits, boxes)

    def forward(self, x):
        return tuple(answer.expand(len(x), -1, -1) for answer in self.answers)


class TestDetector:
    def test_shapes(self, detection):
        logits, boxes = detection.Detector(5)(torch.zeros(2, 3, 64, 96))
        assert logits.shape == (2, 8 * 12, 5) and boxes.shape == (2, 8 * 12, 4)

    @pytest.mark.parametrize("unit", [8.0, 1.0])
    def test_sides_are_counted_from_the_cell(self, detection, unit):
        model = detection.Detector(5, unit=unit).eval()
        nn.init.zeros_(model.sides.weight)
        model.sides.bias.data = torch.tensor([-1.0, 0.0, 1.0, 2.0])
        left, up, right, down = (unit * math.log(1 + math.exp(x)) for x in (-1, 0, 1, 2))
        boxes = model(torch.rand(1, 3, 64, 96))[1][0].view(8, 12, 4)
        for row, column in ((0, 0), (1, 2), (7, 11)):
            x, y = 8 * column + 4, 8 * row + 4
            expected = torch.tensor([x - left, y - up, x + right, y + down])
            torch.testing.assert_close(boxes[row, column], expected)

    @pytest.mark.parametrize(("changed", "expected"), [({}, 0.01), ({"prior": 0.5}, 0.5)])
    def test_before_training_it_believes_the_prior(self, detection, changed, expected):
        torch.manual_seed(0)
        logits, _ = detection.Detector(5, **changed)(torch.randn(4, 3, 64, 64))
        assert logits.mean().sigmoid().item() == pytest.approx(expected, rel=0.5)

    def test_first_boxes_are_of_a_useful_size(self, detection):
        torch.manual_seed(0)
        _, boxes = detection.Detector(5)(torch.randn(2, 3, 64, 64))
        sizes = boxes[..., 2:] - boxes[..., :2]
        assert 15 < sizes.mean().item() < 30

    def test_an_answer_depends_on_what_lies_there(self, detection):
        torch.manual_seed(0)
        model = detection.Detector(2).eval()
        nn.init.normal_(model.classes.weight)
        x = torch.rand(1, 3, 64, 96)
        moved = x.clone()
        moved[..., 8:16, 80:88] += 5
        change = (model(moved)[0] - model(x)[0]).abs().sum(dim=2).view(8, 12)
        assert divmod(change.argmax().item(), 12)[0] <= 2 and divmod(change.argmax().item(), 12)[1] >= 8

    def test_the_coarse_half_sees_far(self, detection):
        """The fine layers alone see 31 pixels to each side of a cell's middle."""
        torch.manual_seed(0)
        model, x = detection.Detector(2).eval(), torch.rand(1, 3, 192, 192, requires_grad=True)
        nn.init.normal_(model.classes.weight)
        answers = model(x)[0].view(24, 24, 2)
        (slope,) = torch.autograd.grad(answers[12, 12].sum(), x)
        rows = slope.abs().sum(dim=(0, 1, 3)).nonzero()[:, 0]  # which rows of pixels the cell at (100, 100) depends on
        assert rows.min() < 100 - 48 and rows.max() > 100 + 48


class TestAssign:
    BOXES = torch.tensor([[4.0, 4.0, 30.0, 40.0], [20.0, 10.0, 60.0, 30.0], [41.0, 49.0, 45.0, 51.0]])
    LABELS = torch.tensor([2, 0, 1])
    CENTRES = cell_centres(8, 8, 8)

    def random(self, seed, spread):
        """Answers near the truth, and others."""
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(64, 3, generator=generator)
        nearest = (self.CENTRES[:, None] - (self.BOXES[:, :2] + self.BOXES[:, 2:]) / 2).norm(dim=2).argmin(dim=1)
        boxes = self.BOXES[nearest] + spread * torch.randn(64, 4, generator=generator)
        return logits, torch.cat([boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)], dim=1)

    @pytest.mark.parametrize("seed", range(3))
    def test_against_loops(self, detection, seed):
        logits, found = self.random(seed, spread=2)
        owner, score = detection.assign(logits, found, self.BOXES, self.LABELS, self.CENTRES)
        overlap = box_iou(self.BOXES, found)
        wishes = {}  # of each cell, the objects that want it
        fits = torch.zeros(3, 64)
        for k, (box, label) in enumerate(zip(self.BOXES.tolist(), self.LABELS.tolist(), strict=True)):
            middle, half = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), ((box[2] - box[0]) / 2, (box[3] - box[1]) / 2)
            inside = []
            for cell, (x, y) in enumerate(self.CENTRES.tolist()):
                if abs(x - middle[0]) <= max(half[0], 4) and abs(y - middle[1]) <= max(half[1], 4):
                    fits[k, cell] = logits[cell, label].sigmoid() ** 0.5 * overlap[k, cell] ** 4 + 1e-9
                    inside.append(cell)
            for cell in sorted(inside, key=lambda cell: -fits[k, cell])[:8]:
                wishes.setdefault(cell, []).append(k)
        won = {cell: max(objects, key=lambda k: overlap[k, cell]) for cell, objects in wishes.items()}
        expected = torch.zeros(64)
        for k in range(3):
            cells = [cell for cell, winner in won.items() if winner == k]
            for cell in cells:
                best, reach = max(fits[k, c] for c in cells), max(overlap[k, c] for c in cells)
                expected[cell] = fits[k, cell] / best * reach
        torch.testing.assert_close(score, expected)
        assert all(owner[cell] == winner for cell, winner in won.items())

    def test_the_best_cell_is_to_say_its_overlap(self, detection):
        logits, found = self.random(0, spread=1)
        owner, score = detection.assign(logits, found, self.BOXES[:1], self.LABELS[:1], self.CENTRES)
        assert 0 < (score > 0).sum() <= detection.EACH and (owner == 0).all()
        overlap = box_iou(self.BOXES[:1], found)[0]
        assert score.max().item() == pytest.approx(overlap[score > 0].max().item())

    def test_no_object_is_without_a_cell(self, detection):
        logits, found = torch.zeros(64, 3), torch.cat([self.CENTRES - 6, self.CENTRES + 6], dim=1)
        tiny = torch.tensor([[7.0, 7.5, 9.0, 8.5]])  # between four cells; it holds no centre
        _, score = detection.assign(logits, found, tiny, torch.tensor([1]), self.CENTRES)
        assert (score > 0).any() and score.view(8, 8)[2:].sum() == 0

    def test_nothing_there(self, detection):
        owner, score = detection.assign(*self.random(0, 1), torch.zeros(0, 4), torch.zeros(0).long(), self.CENTRES)
        assert owner.shape == score.shape == (64,) and not score.any() and owner.dtype == torch.int64


class TestLoss:
    def test_against_a_second_computation(self, detection):
        torch.manual_seed(0)
        model, x = detection.Detector(3).eval(), torch.randn(2, 3, 64, 64)
        boxes, labels = [TestAssign.BOXES, torch.zeros(0, 4)], [TestAssign.LABELS, torch.zeros(0).long()]
        logits, found = model(x)
        owner, score = detection.assign(logits[0], found[0], boxes[0], labels[0], TestAssign.CENTRES)
        total = entropy = apart = 0.0
        for cell in range(64):
            wanted = torch.zeros(2, 3)
            if score[cell] > 0:
                wanted[0, labels[0][owner[cell]]] = score[cell]
                mine, theirs = found[0, cell][None], boxes[0][owner[cell]][None]
                apart += score[cell] * complete_box_iou_loss(mine, theirs)[0]
            total += score[cell]
            entropy += F.binary_cross_entropy(logits[:, cell].sigmoid(), wanted, reduction="sum")
        expected = (entropy + 2 * apart) / max(total, 1)
        torch.testing.assert_close(detection.detection_loss(model, x, boxes, labels), expected, rtol=1e-4, atol=1e-4)

    def test_pictures_without_objects(self, detection):
        loss = detection.detection_loss(
            detection.Detector(3), torch.randn(2, 3, 64, 64), [torch.zeros(0, 4)] * 2, [torch.zeros(0).long()] * 2
        )
        loss.backward()
        assert loss.isfinite() and loss > 0

    def test_without_the_prior_silence_is_expensive(self, detection, scenes):
        losses = {}
        for prior in (0.01, 0.5):
            torch.manual_seed(0)
            x = detection.together(scenes.train.images[:8])
            losses[prior] = detection.detection_loss(detection.Detector(10, prior), x, *(part[:8] for part in scenes.train[1:]))
        assert losses[0.5] > 10 * losses[0.01]


class TestPictures:
    def test_together(self, detection):
        images = [torch.full((3, 20, 33), 128, dtype=torch.uint8), torch.full((3, 17, 16), 255, dtype=torch.uint8)]
        x = detection.together(images)
        assert x.shape == (2, 3, 32, 48) and x.is_contiguous(memory_format=torch.channels_last)
        assert (x[0, :, :20, :33] == 0).all() and (x[1, :, :17, :16] == 127 / 64).all()
        assert (x[0, :, 20:] == (GREY - 128) / 64).all() and (x[1, :, :, 16:] == (GREY - 128) / 64).all()

    def test_change_moves_boxes_with_their_pictures(self, detection):
        image = torch.full((3, 48, 64), 20, dtype=torch.uint8)
        image[:, 20:30, 24:40] = 255
        kinds = set()
        for seed in range(20):
            generator = torch.Generator().manual_seed(seed)
            box, label = torch.tensor([[24.0, 20.0, 40.0, 30.0]]), torch.tensor([3])
            changed, boxes, labels = detection.change(image, box, label, generator)
            assert changed.shape == image.shape and changed.dtype == torch.uint8 and labels.tolist() == [3] * len(boxes)
            for x1, y1, x2, y2 in boxes.tolist():
                light = changed.float().mean(dim=0)
                bright = (light > 0.75 * light.max()).nonzero()  # the thing, not the grey beyond the picture's edge
                seen = [*bright.amin(dim=0).flip(0).tolist(), *(bright.amax(dim=0) + 1).flip(0).tolist()]
                assert max(abs(a - b) for a, b in zip(seen, (x1, y1, x2, y2), strict=True)) <= 2
                kinds.add((x1 + x2 < 64, y1 + y2 < 48))
        assert len(kinds) > 2  # it was flipped and moved


class TestFind:
    BOXES = torch.tensor([[10.0, 10, 30, 30], [11, 10, 30, 31], [-5, 40, 20, 70], [40, 5, 60, 25]])
    LOGITS = torch.tensor([[3.0, -9], [2, -9], [-9, 1], [0.5, 0.2]])
    IMAGES = [torch.zeros(3, 64, 62, dtype=torch.uint8)] * 3

    def test_what_is_kept(self, detection):
        found = detection.find(Planted(self.LOGITS, self.BOXES), self.IMAGES)
        assert len(found) == 3
        assert found[2].boxes.tolist() == [[10, 10, 30, 30], [0, 40, 20, 64], [40, 5, 60, 25], [40, 5, 60, 25]]
        assert found[2].labels.tolist() == [0, 1, 0, 1]  # the same box once for each class
        torch.testing.assert_close(found[2].scores, torch.tensor([3, 1, 0.5, 0.2]).sigmoid())

    def test_without_suppression_and_with_a_threshold(self, detection):
        model = Planted(self.LOGITS, self.BOXES)
        assert len(detection.find(model, self.IMAGES, overlap=1.0)[0].scores) == 5
        assert len(detection.find(model, self.IMAGES, threshold=0.7)[0].scores) == 2
        assert detection.find(model, self.IMAGES, threshold=0.99)[0].boxes.shape == (0, 4)

    def test_company_does_not_matter(self, detection, scenes):
        torch.manual_seed(0)
        model = detection.Detector(10)
        (alone,) = detection.find(model, scenes.test.images[:1], threshold=0.001)
        among = detection.find(model, scenes.test.images[:4], threshold=0.001)[0]
        assert len(alone.scores) == 100
        torch.testing.assert_close(alone.scores, among.scores)

    def test_at_most_a_hundred(self, detection):
        x = 10.0 * torch.arange(300)
        boxes = torch.stack([x, torch.zeros(300), x + 9, torch.full((300,), 9.0)], dim=1)
        logits = torch.linspace(-1, 1, 300)[:, None]
        (found,) = detection.find(Planted(logits, boxes), [torch.zeros(3, 16, 3000, dtype=torch.uint8)])
        assert len(found.scores) == 100 and found.scores.min() > logits[199].sigmoid()


class TestLearning:
    def test_it_learns_its_scenes(self, detection, scenes):
        torch.manual_seed(0)
        model = detection.Detector(10)
        losses, precision = detection.train(model, scenes, steps=64, batch_size=8, lr=0.004, looks=1, seed=0)
        assert len(losses) == 64 and list(precision) == [64]
        assert losses[-1] < 0.5 * losses[0]
        assert precision[64] > 0.7

    def test_main_notices_what_has_not_learned(self, detection, scenes, monkeypatch):
        few = Boxed(*(part[:6] for part in scenes.train))
        data = DetectionData(few, few, few, scenes.classes, "6 small scenes", is_real=False)
        monkeypatch.setattr(detection, "scenes_with_boxes", lambda count: data)
        with pytest.raises(LessonError, match="more --steps"):
            detection.main(steps=2, batch_size=2, scenes=6, early=1, source="sample", device="cpu", seed=0)
        for name in ("found", "curves"):
            assert (paths.outputs("object_detection") / f"{name}.png").exists()

    @pytest.mark.parametrize("name", ["steps", "batch_size", "lr", "scenes", "size", "early", "threads"])
    def test_wrong_flags(self, detection, name):
        with pytest.raises(LessonError, match="above 0"):
            detection.main(**{name: 0})

    @pytest.mark.slow  # decodes 364 pictures
    @pytest.mark.real_data("bccd")
    def test_blood_cells(self, detection):
        data = bccd("real", size=96)
        few = DetectionData(*(Boxed(*(part[:8] for part in split)) for split in (data.train, data.validation, data.test)),
                            data.classes, data.source, is_real=True)  # fmt: skip
        losses, precision = detection.train(detection.Detector(3), few, steps=3, batch_size=4, lr=0.004, looks=1, seed=0)
        assert all(math.isfinite(loss) for loss in losses) and 0 <= precision[3] <= 1

    @pytest.mark.slow  # the claim itself: the default run, 40 s
    def test_keeps_its_promise(self, detection):
        results = detection.main(source="sample", device="cpu", seed=1)
        assert results["map_50"] > 0.7 and results["baseline"] < 0.4
        assert results["map_50_without_nms"] < results["map_50"] - 0.2
        assert results["boxes_without_nms"] > 1.5 * results["boxes"]
