"""Pictures and masks that move together."""

import pytest
import torch

from utils.datasets.boxes import IGNORED
from utils.mask_augmentation import crop_and_zoom


@pytest.fixture
def pair():
    """Masks of four blocks, and pictures that show the class as brightness."""
    masks = torch.zeros(40, 24, 32, dtype=torch.uint8)
    masks[:, :12, 16:], masks[:, 12:, :16], masks[:, 12:, 16:] = 1, 2, 3
    return masks[:, None].float() + 1, masks


def test_whole_picture_stays_as_it_is(pair):
    images, masks = crop_and_zoom(*pair, (24, 32), zoom=1.0, flip=False, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(images, pair[0], atol=1e-5) and torch.equal(masks, pair[1].long())


def test_mirrored_or_not(pair):
    images, masks = crop_and_zoom(*pair, (24, 32), zoom=1.0, flip=True, generator=torch.Generator().manual_seed(0))
    mirrored = torch.tensor([torch.equal(one, pair[1][0].flip(1).long()) for one in masks])
    straight = torch.tensor([torch.equal(one, pair[1][0].long()) for one in masks])
    assert (mirrored ^ straight).all() and 8 < mirrored.sum() < 32
    assert torch.allclose(images[:, 0], masks + 1.0, atol=1e-4)


@pytest.mark.parametrize(("size", "zoom"), [((16, 16), 1.0), ((16, 20), 1.5), ((24, 32), 2.0)])
def test_masks_move_with_their_pictures(pair, size, zoom):
    images, masks = crop_and_zoom(*pair, size, zoom, flip=True, generator=torch.Generator().manual_seed(0))
    assert images.shape == (40, 1, *size) and masks.shape == (40, *size) and masks.dtype == torch.int64
    assert set(masks.unique().tolist()) <= {0, 1, 2, 3, IGNORED}
    whole = (images[:, 0] - images[:, 0].round()).abs() < 1e-3  # not between two classes
    assert whole.float().mean() > 0.7
    inside = whole & (masks != IGNORED) & (images[:, 0] > 0.5)
    assert ((images[:, 0] - 1).round() == masks)[inside].float().mean() > 0.99
    assert (masks == IGNORED).any() == (zoom == 2)  # 16 x 1.5 and 20 x 1.5 still fit into 24 x 32
    assert torch.equal(masks == IGNORED, images[:, 0] == 0) or zoom > 1  # beyond it the picture is 0
    assert len({tuple(one.flatten().tolist()) for one in masks}) > 20  # each picture its own piece


def test_what_is_ignored_stays_ignored(pair):
    images, masks = pair
    masks[:, :, :4] = IGNORED
    _, moved = crop_and_zoom(images, masks, (24, 32), zoom=1.0, flip=False, generator=torch.Generator().manual_seed(0))
    assert torch.equal(moved, masks.long())
