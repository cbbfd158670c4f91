"""utils.box_augmentation: after each operation the content of a box is where the box says."""

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from utils import box_augmentation as boxing

COLOURS = torch.tensor([[250, 10, 10], [10, 250, 10], [10, 10, 250], [250, 250, 10]], dtype=torch.uint8)
GROUND = 40


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def painted(height: int, width: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Four rectangles of their own colours, one in each quarter of a picture, and their boxes."""
    generator = seeded(seed)
    picture, boxes = torch.full((3, height, width), GROUND, dtype=torch.uint8), []
    for i, colour in enumerate(COLOURS):
        row, column = i // 2 * height // 2, i % 2 * width // 2
        top, left = (int(torch.randint(n // 8, (), generator=generator)) for n in (height, width))
        rows, columns = (int(torch.randint(n // 5, n // 3, (), generator=generator)) for n in (height, width))
        top, left = row + 1 + top, column + 1 + left
        picture[:, top : top + rows, left : left + columns] = colour[:, None, None]
        boxes.append([left, top, left + columns, top + rows])
    return picture, torch.tensor(boxes, dtype=torch.float32)


def assert_in_place(picture, boxes, colours, slack):
    """Each box is the smallest one round the pixels of its colour, to `slack` pixels."""
    for box, colour in zip(boxes, colours, strict=True):
        seen = ((picture.int() - colour.int()[:, None, None]).abs() < 60).all(dim=0)
        rows, columns = seen.any(dim=1).nonzero()[:, 0], seen.any(dim=0).nonzero()[:, 0]
        around = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()
        torch.testing.assert_close(box, around, rtol=0, atol=slack)


def as_torchvision(boxes, picture):
    return tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=tuple(picture.shape[1:]))


@pytest.mark.parametrize("size", [(60, 90), (90, 60), (80, 80), (31, 47)])
class TestLetterbox:
    @pytest.mark.parametrize("side", [64, 120, 33])
    def test_content_is_where_the_box_says(self, size, side):
        picture, boxes = painted(*size, seed=1)
        square, factor, offset = boxing.letterbox(picture, side)
        assert square.shape == (3, side, side) and square.dtype == torch.uint8
        moved = boxing.letterbox_boxes(boxes, factor, offset)
        assert_in_place(square, moved, COLOURS, slack=1.6)
        back = boxing.unletterbox(moved, factor, offset, width=size[1], height=size[0])
        torch.testing.assert_close(back, boxes, rtol=0, atol=1e-4)

    def test_around_it_is_grey(self, size):
        picture, _ = painted(*size, seed=2)
        square, factor, (left, top) = boxing.letterbox(picture, 100)
        rows, columns = (round(n * factor) for n in size)
        inside = torch.zeros(100, 100, dtype=torch.bool)
        inside[top : top + rows, left : left + columns] = True
        assert (square[:, ~inside] == boxing.GREY).all()
        resized = v2.functional.resize(picture, [rows, columns], antialias=True)
        assert (square[:, inside].view(3, rows, columns).int() - resized.int()).abs().max() <= 1

    def test_same_size_changes_nothing(self, size):
        picture, _ = painted(*size, seed=3)
        square, factor, (left, top) = boxing.letterbox(picture, max(size))
        assert factor == 1
        assert torch.equal(square[:, top : top + size[0], left : left + size[1]], picture)


def test_boxes_found_beyond_the_picture_are_cut():
    found = torch.tensor([[-20.0, 5, 300, 200], [10, 10, 20, 20]])
    back = boxing.unletterbox(found, 0.5, (0, 10), width=80, height=60)
    assert back.tolist() == [[0, 0, 80, 60], [20, 0, 40, 20]]


@pytest.mark.parametrize("vertical", [False, True])
def test_flip(vertical):
    picture, boxes = painted(50, 70, seed=4)
    kept = picture.clone(), boxes.clone()
    mirrored, moved = boxing.flip(picture, boxes, vertical)
    assert_in_place(mirrored, moved, COLOURS, slack=0)
    function = v2.functional.vertical_flip if vertical else v2.functional.horizontal_flip
    assert torch.equal(mirrored, function(picture))
    assert torch.equal(moved, function(as_torchvision(boxes, picture)).as_subclass(torch.Tensor))
    again = boxing.flip(mirrored, moved, vertical)
    assert torch.equal(again[0], picture) and torch.equal(again[1], boxes)
    assert torch.equal(picture, kept[0]) and torch.equal(boxes, kept[1])  # nothing was changed in place


class TestCut:
    @pytest.mark.parametrize("window", [(5, 3, 45, 43), (-10, -6, 80, 66), (20, -5, 75, 30), (0, 0, 70, 60)])
    @pytest.mark.parametrize("size", [None, (40, 50), (90, 33)])
    def test_equals_torchvision(self, window, size):
        picture, boxes = painted(60, 70, seed=5)
        x1, y1, x2, y2 = window
        moved = boxing.cut(picture, boxes, window, size, share=0)
        theirs = v2.functional.crop(tv_tensors.Image(picture), y1, x1, y2 - y1, x2 - x1)
        their_boxes = v2.functional.crop(as_torchvision(boxes, picture), y1, x1, y2 - y1, x2 - x1)
        if size is not None:
            theirs, their_boxes = (v2.functional.resize(one, list(size), antialias=True) for one in (theirs, their_boxes))
        their_boxes = their_boxes.as_subclass(torch.Tensor)
        left = ((their_boxes[:, 2:] - their_boxes[:, :2]) > 0).all(dim=1)  # torchvision leaves empty boxes for its next transform
        assert moved.kept.tolist() == left.nonzero()[:, 0].tolist()
        torch.testing.assert_close(moved.boxes, their_boxes[left])
        reaches = min(x1, y1) < 0 or x2 > 70 or y2 > 60
        if not reaches:  # torchvision's crop is black where ours is grey
            assert (moved.picture.int() - theirs.int()).abs().max() <= 1

    def test_content_is_where_the_box_says(self):
        picture, boxes = painted(60, 70, seed=6)
        moved = boxing.cut(picture, boxes, (10, 5, 66, 58), (106, 112), share=0)
        assert_in_place(moved.picture, moved.boxes, COLOURS[moved.kept], slack=1.5)

    def test_share(self):
        picture = torch.zeros(3, 100, 100, dtype=torch.uint8)
        boxes = torch.tensor([[0.0, 0, 100, 10], [40, 40, 60, 60], [85, 0, 95, 10], [50, 50, 50, 70]])
        window = (30, 0, 90, 100)  # 60 % of the first is left, all of the second, half of the third; the last has no area
        assert boxing.cut(picture, boxes, window, share=0.5).kept.tolist() == [0, 1, 2]
        assert boxing.cut(picture, boxes, window, share=0.55).kept.tolist() == [0, 1]
        assert boxing.cut(picture, boxes, window, share=1).kept.tolist() == [1]
        moved = boxing.cut(picture, boxes, window, share=0)
        assert moved.kept.tolist() == [0, 1, 2]
        assert moved.boxes.tolist() == [[0, 0, 60, 10], [10, 40, 30, 60], [55, 0, 60, 10]]

    def test_grey_beyond_the_picture(self):
        moved = boxing.cut(torch.full((3, 4, 4), 200, dtype=torch.uint8), torch.zeros(0, 4), (-2, -1, 6, 5))
        assert (moved.picture[:, 1:5, 2:6] == 200).all()
        assert (moved.picture == boxing.GREY).sum() == 3 * (6 * 8 - 16)


class TestZoom:
    def test_content_is_where_the_box_says(self):
        picture, boxes = painted(64, 80, seed=7)
        numbers = []
        for seed in range(30):
            moved = boxing.zoom(picture, boxes, seeded(seed), scale=(0.5, 2.0), stretch=1.2)
            assert moved.picture.shape == picture.shape
            assert_in_place(moved.picture, moved.boxes, COLOURS[moved.kept], slack=2)
            numbers.append(len(moved.boxes))
        assert min(numbers) < 4 and max(numbers) == 4  # near ones lose boxes, far ones lose none

    def test_scale(self):
        picture, boxes = painted(64, 64, seed=8)
        widths = []
        for seed in range(40):
            moved = boxing.zoom(picture, boxes, seeded(seed), scale=(0.5, 1.0), share=0.999)
            if 0 in moved.kept:
                first = moved.boxes[moved.kept == 0][0]
                widths.append(((first[2] - first[0]) / (boxes[0, 2] - boxes[0, 0])).item())
        assert 0.49 < min(widths) < 0.6 and 0.9 < max(widths) < 1.02

    def test_same_seed_same_picture(self):
        picture, boxes = painted(40, 40, seed=9)
        one, same, other = (boxing.zoom(picture, boxes, seeded(seed)) for seed in (1, 1, 2))
        assert torch.equal(one.picture, same.picture) and torch.equal(one.boxes, same.boxes)
        assert not torch.equal(one.picture, other.picture)

    def test_crop_of_another_size(self):
        picture, boxes = painted(60, 90, seed=10)
        places = set()
        for seed in range(20):
            moved = boxing.random_crop(picture, boxes, (50, 40), seeded(seed))
            assert moved.picture.shape == (3, 50, 40)
            assert_in_place(moved.picture, moved.boxes, COLOURS[moved.kept], slack=0)
            places.add(tuple(moved.boxes.flatten().tolist()))
        assert len(places) > 10


class TestMosaic:
    def test_content_is_where_the_box_says(self):
        singles = [painted(60, 60, seed=i) for i in range(4)]
        pictures, boxes = [], []
        for i, (picture, its_boxes) in enumerate(singles):  # of each picture only the rectangle with its own colour
            box = its_boxes[i].int()
            plain = torch.full_like(picture, GROUND)
            plain[:, box[1] : box[3], box[0] : box[2]] = COLOURS[i][:, None, None]
            pictures.append(plain)
            boxes.append(its_boxes[i : i + 1])
        seen = 0
        for seed in range(20):
            moved = boxing.mosaic(pictures, boxes, 90, seeded(seed))
            assert moved.picture.shape == (3, 90, 90)
            assert_in_place(moved.picture, moved.boxes, COLOURS[moved.kept], slack=2)
            seen += len(moved.boxes)
        assert seen > 40

    def test_rows_count_through_all_four(self):
        pictures = [torch.zeros(3, 32, 32, dtype=torch.uint8)] * 4
        boxes = [torch.tensor([[0.0, 0, 32, 32]]), torch.zeros(0, 4), *[torch.tensor([[0.0, 0, 32, 32], [0, 0, 31, 31]])] * 2]
        moved = boxing.mosaic(pictures, boxes, 64, seeded(), scale=(0.5, 0.5), share=0.01)
        assert moved.kept.tolist() == [0, 1, 2, 3, 4]
        assert len(moved.boxes) == 5

    def test_needs_four(self):
        with pytest.raises(ValueError, match="four pictures"):
            boxing.mosaic([torch.zeros(3, 8, 8, dtype=torch.uint8)], [torch.zeros(0, 4)], 16, seeded())


class TestColour:
    @pytest.mark.parametrize(
        "factors", [(0.5, 1, 1), (1.6, 1, 1), (1, 0.4, 1), (1, 1.7, 1), (1, 1, 0), (1, 1, 1.8), (1.2, 0.8, 1.3)]
    )
    def test_equals_torchvision(self, factors):
        picture = torch.randint(256, (3, 30, 40), generator=seeded(), dtype=torch.uint8)
        theirs = v2.functional.adjust_brightness(picture, factors[0])
        theirs = v2.functional.adjust_contrast(theirs, factors[1])
        theirs = v2.functional.adjust_saturation(theirs, factors[2])
        ours = boxing.colour(picture, *factors)
        assert ours.dtype == torch.uint8
        assert (ours.int() - theirs.int()).abs().max() <= 3  # torchvision rounds down after each of the three

    def test_one_changes_nothing(self):
        picture = torch.randint(256, (3, 30, 40), generator=seeded(), dtype=torch.uint8)
        assert torch.equal(boxing.colour(picture, 1, 1, 1), picture)
        assert torch.equal(boxing.jitter_colour(picture, seeded(), 0, 0, 0), picture)

    def test_jitter_is_drawn(self):
        picture = torch.randint(256, (3, 30, 40), generator=seeded(), dtype=torch.uint8)
        means = torch.stack([boxing.jitter_colour(picture, seeded(seed)).float().mean() for seed in range(20)])
        assert means.std() > 10
        assert boxing.jitter_colour(picture, seeded(), brightness=3).shape == picture.shape  # never below 0


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3)])
def test_tiny_pictures(size):
    picture = torch.full((3, *size), 77, dtype=torch.uint8)
    boxes = torch.tensor([[0.0, 0, size[1], size[0]]])
    square, factor, offset = boxing.letterbox(picture, 16)
    assert square.shape == (3, 16, 16) and (square == 77).any()
    back = boxing.unletterbox(boxing.letterbox_boxes(boxes, factor, offset), factor, offset, size[1], size[0])
    torch.testing.assert_close(back, boxes)
    assert torch.equal(boxing.flip(picture, boxes)[1], boxes)
    assert torch.equal(boxing.flip(picture, boxes, vertical=True)[1], boxes)
    assert torch.equal(
        boxing.jitter_colour(picture, seeded(), 0, 0.4, 0.4), picture
    )  # one colour has no contrast, grey no colour
    for seed in range(5):
        assert boxing.zoom(picture, boxes, seeded(seed), (0.4, 3), 1.5).picture.shape == picture.shape
        assert boxing.random_crop(picture, boxes, (5, 4), seeded(seed)).boxes.shape == (1, 4)
        for side in (2, 3, 20):
            assert boxing.mosaic([picture] * 4, [boxes] * 4, side, seeded(seed)).picture.shape == (3, side, side)


def test_no_boxes():
    picture, none = painted(20, 30, seed=0)[0], torch.zeros(0, 4)
    results = [
        boxing.flip(picture, none)[1],
        boxing.zoom(picture, none, seeded()).boxes,
        boxing.random_crop(picture, none, (10, 10), seeded()).boxes,
        boxing.mosaic([picture] * 4, [none] * 4, 32, seeded()).boxes,
        boxing.letterbox_boxes(none, 2.0, (1, 2)),
        boxing.unletterbox(none, 2.0, (1, 2), 30, 20),
    ]
    assert all(result.shape == (0, 4) and result.dtype == torch.float32 for result in results)
    assert boxing.zoom(picture, none, seeded()).kept.shape == (0,)
