"""Augmentation with boxes: by hand equal to torchvision, boxes left behind are wrong, a detector with few scenes is helped."""

import pytest
import torch
from conftest import lesson

from utils.datasets.boxes import Boxed, DetectionData
from utils.datasets.scenes import draw_scenes
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def boxed():
    return lesson("08_computer_vision/box_augmentation")


@pytest.fixture(scope="module")
def scenes():
    drawn = draw_scenes(24, seed=5, size=64)
    return Boxed(list(drawn.images), drawn.boxes, drawn.labels)


class TestByHand:
    def test_equals_torchvision(self, boxed, scenes):
        assert boxed.compare_with_torchvision(Boxed(*(part[:6] for part in scenes)), windows=5, seed=1) == 0

    def test_content_moves_with_its_box(self, boxed):
        picture = torch.zeros(3, 10, 20, dtype=torch.uint8)
        picture[:, 2:5, 3:9] = 200
        boxes = torch.tensor([[3.0, 2, 9, 5]])
        mirrored, moved = boxed.mirror(picture, boxes)
        assert moved.tolist() == [[11, 2, 17, 5]]
        assert (mirrored[:, 2:5, 11:17] == 200).all() and mirrored.sum() == picture.sum()
        piece, left, kept = boxed.cut_out(picture, boxes, (5, 1, 15, 8), share=0.5)
        assert piece.shape == (3, 7, 10) and left.tolist() == [[0, 1, 4, 4]] and kept.tolist() == [0]
        assert (piece[:, 1:4, 0:4] == 200).all() and (piece == 200).sum() == 3 * 3 * 4

    def test_share(self, boxed):
        picture = torch.zeros(3, 20, 20, dtype=torch.uint8)
        boxes = torch.tensor([[0.0, 0, 10, 10], [8, 0, 12, 4], [2, 2, 2, 8]])  # half, all and nothing of them is left
        for share, rows in ((0, [0, 1]), (0.5, [0, 1]), (0.6, [1])):
            assert boxed.cut_out(picture, boxes, (5, 0, 20, 20), share)[2].tolist() == rows


def test_what_is_forgotten(boxed, scenes):
    overlaps, message = boxed.forget(scenes, seed=0)
    assert 0 < overlaps["mirrored"] < 0.3 and 0.3 < overlaps["zoomed"] < 0.8
    assert message.startswith("Expected input batch_size") and "target batch_size" in message


class TestAugment:
    def test_boxes_go_with_the_picture_only_where_they_should(self, boxed, scenes):
        example = next(zip(*scenes, strict=True))
        for mode in boxed.MODES:
            picture, boxes, labels = boxed.augment(example, mode, torch.Generator().manual_seed(3))
            assert picture.shape == (3, 64, 64) and len(boxes) == len(labels)
            assert torch.equal(picture, example[0]) == (mode == "nothing")
            assert (boxes is example[1]) == (mode in ("nothing", "boxes stay"))

    def test_same_pictures_whether_boxes_move_or_not(self, boxed, scenes):
        example = next(zip(*scenes, strict=True))
        moved, stayed = (boxed.augment(example, m, torch.Generator().manual_seed(3))[0] for m in ("all moves", "boxes stay"))
        assert torch.equal(moved, stayed)

    @pytest.mark.parametrize("mode", ["all moves", "mirrored"])
    def test_labels_and_boxes_stay_with_their_objects(self, boxed, mode):
        """Red is 0, green is 1, blue is 2, each at an edge: wherever they are shown, and whichever is cut away."""
        picture, boxes = (
            torch.zeros(3, 64, 64, dtype=torch.uint8),
            torch.tensor([[0.0, 24, 10, 40], [54, 4, 64, 60], [24, 56, 40, 64]]),
        )
        for channel, (x1, y1, x2, y2) in enumerate(boxes.int().tolist()):
            picture[channel, y1:y2, x1:x2] = 250
        generator, numbers = torch.Generator().manual_seed(0), set()
        for _ in range(30):
            shown, moved, labels = boxed.augment((picture, boxes, torch.arange(3)), mode, generator)
            numbers.add(len(labels))
            for (x1, y1, x2, y2), label in zip(moved.tolist(), labels.tolist(), strict=True):
                colour = shown[:, int((y1 + y2) / 2), int((x1 + x2) / 2)]
                assert colour.argmax() == label and colour[label] > 60
        assert len(numbers) > 1

    def test_mirrored_mirrors_half(self, boxed):
        picture, labels = torch.zeros(3, 64, 64, dtype=torch.uint8), torch.tensor([0])
        picture[:, :, :32] = 255  # bright on the left
        example = picture, torch.tensor([[20.0, 20, 40, 40]]), labels
        generator, left = torch.Generator().manual_seed(0), 0
        for _ in range(60):
            shown = boxed.augment(example, "mirrored", generator)[0].float()
            left += bool(shown[:, :, :32].mean() > shown[:, :, 32:].mean())
        assert 20 < left < 40
        for _ in range(10):
            shown = boxed.augment(example, "all moves", generator)[0].float()
            assert shown[:, :, :32].mean() > shown[:, :, 32:].mean()


class TestDetector:
    def test_boxes_reach_from_the_middle_of_their_cell(self, boxed):
        torch.manual_seed(0)
        network = boxed.Detector(width=4)
        logits, boxes = network(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
        assert logits.shape == (2, 64, 10) and boxes.shape == (2, 64, 4)
        assert network.middles[:2].tolist() == [[4, 4], [12, 4]]
        inside = (boxes[..., :2] < network.middles) & (network.middles < boxes[..., 2:])
        assert inside.all()

    def test_no_objects_at_all(self, boxed):
        torch.manual_seed(0)
        empty = torch.zeros(3, 64, 64, dtype=torch.uint8), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
        loss = boxed.compute_loss(boxed.Detector(width=4), [empty, empty])
        loss.backward()
        assert loss.isfinite()

    def test_learns_scenes_by_heart(self, boxed, scenes):
        few = Boxed(*(part[:6] for part in scenes))
        torch.manual_seed(0)
        network = boxed.Detector(width=8)
        losses = boxed.train(network, few, "nothing", steps=80, seed=0)
        assert losses[-1] < 0.1 * losses[0]
        assert boxed.measure(boxed.find(network, few), few).min() > 0.7 and not network.training

    def test_measure_knows_right_from_wrong(self, boxed, scenes):
        right = [boxed.Found(boxes, torch.ones(len(boxes)), labels) for boxes, labels in zip(*scenes[1:], strict=True)]
        assert boxed.measure(right, scenes).tolist() == pytest.approx([1, 1, 1])
        assert boxed.measure(right[1:] + right[:1], scenes)[0] < 0.1


class TestMain:
    def test_check_notices_a_detector_that_does_not_learn(self, boxed, scenes, monkeypatch):
        data = DetectionData(scenes, scenes, scenes, ["ten"] * 10, "a few scenes", is_real=False)
        monkeypatch.setattr(boxed, "scenes_with_boxes", lambda *_: data)
        monkeypatch.setattr(boxed, "train", lambda *_: [1.0])
        with pytest.raises(LessonError, match="more --steps"):
            boxed.main(scenes=20, steps=1, seeds=1, device="cpu")

    @pytest.mark.parametrize("wrong", [{"steps": 0}, {"seeds": 0}, {"scenes": 9}])
    def test_flags(self, boxed, wrong):
        with pytest.raises(LessonError, match="at least"):
            boxed.main(**wrong)

    @pytest.mark.slow  # the detectors have to be trained: 45 s of CPU
    def test_default_run(self, boxed):
        results = boxed.main(scenes=150, steps=250, seeds=1, device="cpu")
        assert results["difference"] == 0 and results["blind"] < 0.02
        assert results["map_all_moves"] > 1.7 * max(results["map_nothing"], results["map_boxes_stay"])
        assert results["loss_nothing"] < results["loss_all_moves"]  # what it knows by heart is of no use
