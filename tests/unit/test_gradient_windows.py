"""The detector without a network finds what edges tell apart, and nothing where nothing is."""

import torch

from utils.average_precision import mean_average_precision
from utils.datasets.boxes import Boxed
from utils.gradient_windows import cell_centres, find_by_gradients


def crosses_and_frames(count, seed):
    """Pictures of 72x96 with one bright cross (0) or frame (1) each."""
    generator, parts = torch.Generator().manual_seed(seed), Boxed([], [], [])
    for i in range(count):
        image = torch.randint(40, 70, (3, 72, 96), generator=generator, dtype=torch.uint8)
        x, y, side = (int(torch.randint(*ends, (), generator=generator)) for ends in ((2, 60), (2, 36), (26, 33)))
        thing = image[:, y : y + side, x : x + side]
        if i % 2:
            thing[:] = 220
            thing[:, 5:-5, 5:-5] = 60
        else:
            thing[:, side // 2 - 3 : side // 2 + 3] = 220
            thing[:, :, side // 2 - 3 : side // 2 + 3] = 220
        for part, value in zip(
            parts, (image, torch.tensor([[x, y, x + side, y + side]]).float(), torch.tensor([i % 2])), strict=True
        ):
            part.append(value)
    return parts


def test_it_finds_what_edges_tell_apart():
    known, new = crosses_and_frames(60, seed=0), crosses_and_frames(30, seed=1)
    found = find_by_gradients(known, new.images, classes=2)
    assert mean_average_precision(found, new.boxes, new.labels, 2).at_50 > 0.8
    assert all(len(one.scores) <= 100 and (one.boxes[:, 2:] >= one.boxes[:, :2]).all() for one in found)


def test_pictures_without_objects_and_of_any_size():
    known = crosses_and_frames(6, seed=0)
    for part, value in zip(known, (torch.zeros(3, 50, 41).byte(), torch.zeros(0, 4), torch.zeros(0).long()), strict=True):
        part.append(value)
    found = find_by_gradients(known, [torch.zeros(3, 33, 20).byte()], classes=2)
    assert len(found) == 1 and found[0].boxes.shape[1] == 4 and found[0].boxes.isfinite().all()


def test_cell_centres():
    assert cell_centres(2, 3, 8).tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]
