"""Instance segmentation: pieces are SciPy's, panoptic quality is what a plain count says, grouping beats the pieces."""

import math

import pytest
import torch
from conftest import lesson

from utils.datasets.scenes import CLASSES, draw_scenes
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def instances():
    return lesson("08_computer_vision/instance_segmentation")


@pytest.fixture(scope="module")
def scenes(instances):
    return draw_scenes(24, 3, 64, "validation", instances.THINGS)


@pytest.fixture(scope="module")
def semantic(scenes):
    return (scenes.masks > 0).long() + (scenes.masks == 1 + CLASSES.index("ring"))


@pytest.fixture(scope="module")
def truth(instances, scenes, semantic):
    return [instances.separate(*one) for one in zip(scenes.owners.long(), semantic, strict=True)]


class TestPieces:
    def test_equal_scipy(self, instances, semantic):
        generator = torch.Generator().manual_seed(0)
        assert instances.compare_with_scipy(torch.rand(20, 9, 13, generator=generator) < 0.4) == 0
        assert instances.compare_with_scipy(semantic > 0) == 0
        assert instances.compare_with_scipy(torch.stack([torch.zeros(4, 4), torch.ones(4, 4)]) > 0) == 0

    def test_corners_connect(self, instances):
        mask = torch.tensor([[[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]]]) > 0
        numbers = instances.connected_pieces(mask)[0]
        assert numbers[0, 0] == numbers[1, 1] and len({numbers[0, 0].item(), numbers[0, 3].item(), numbers[2, 3].item()}) == 3
        assert not numbers[~mask[0]].any()

    def test_a_long_snake_is_one_piece(self, instances):
        mask = torch.zeros(1, 15, 15, dtype=torch.bool)
        mask[:, ::2] = True
        mask[:, 1::4, -1] = mask[:, 3::4, 0] = True
        assert len(instances.connected_pieces(mask).unique()) == 2

    def test_classes_are_apart(self, instances):
        semantic = torch.zeros(1, 10, 10, dtype=torch.long)
        semantic[0, 2:8, 1:5], semantic[0, 2:8, 5:9] = 1, 2
        (found,) = instances.separate_pieces(semantic)
        assert found.labels.tolist() == [1, 2] and found.masks.sum(dim=(1, 2)).tolist() == [24, 24]


class TestSeparate:
    def test_small_ones_are_dropped_and_most_pixels_decide(self, instances):
        ids, semantic = torch.zeros(2, 10, 10, dtype=torch.long)
        ids[:4, :4], ids[6:9, 6:9] = 7, 3  # 16 pixels, and 9
        semantic[:4, :4] = 1
        semantic[:3, :4] = 2
        found = instances.separate(ids, semantic)
        assert found.labels.tolist() == [2] and found.masks.shape == (1, 10, 10) and found.masks.sum() == 16

    def test_nothing(self, instances):
        found = instances.separate(torch.zeros(8, 8, dtype=torch.long), torch.zeros(8, 8, dtype=torch.long))
        assert found.masks.shape == (0, 8, 8) and found.labels.shape == (0,)


def count_plainly(found, truth, labels) -> tuple[float, float]:
    """Panoptic quality and miscount once more, in sets of pixels, one object at a time."""
    qualities, off = [], 0
    for label in labels:
        overlap, right, false, missed = 0.0, 0, 0, 0
        for ours, theirs in zip(found, truth, strict=True):
            a, b = ([set(m.flatten().nonzero()[:, 0].tolist()) for m in one.masks[one.labels == label]] for one in (ours, theirs))
            pairs = [len(x & y) / len(x | y) for x in a for y in b if len(x & y) / len(x | y) > 0.5]
            overlap, right = overlap + sum(pairs), right + len(pairs)
            false, missed = false + len(a) - len(pairs), missed + len(b) - len(pairs)
        qualities.append(overlap / (right + false / 2 + missed / 2))
    for ours, theirs in zip(found, truth, strict=True):
        off += abs(len(ours.masks) - len(theirs.masks))
    return sum(qualities) / len(qualities), off / len(found)


class TestMeasure:
    def test_equals_a_plain_count(self, instances, scenes, semantic, truth):
        moved = [instances.separate(*one) for one in zip(scenes.owners.long().roll(2, 1), semantic.roll(2, 1), strict=True)]
        for found in (instances.separate_pieces(semantic), moved, instances.separate_pieces(semantic.roll(1, 0))):
            assert instances.measure(found, truth) == pytest.approx(count_plainly(found, truth, labels=(1, 2)), abs=1e-5)

    def test_truth_is_perfect_and_pieces_are_not(self, instances, semantic, truth):
        assert instances.measure(truth, truth) == pytest.approx((1, 0))
        quality, off = instances.measure(instances.separate_pieces(semantic), truth)
        assert quality < 0.8 and off > 0.5


class TestTargets:
    def test_way_leads_to_the_own_centre(self, instances):
        owners = torch.zeros(1, 20, 30, dtype=torch.uint8)
        owners[0, 2:7, 4:11], owners[0, 2:9, 11:20] = 1, 2  # centres (4, 7) and (5, 15)
        heat, offsets = instances.make_targets(owners, spread=2.0)
        assert (heat[0, 4, 7], heat[0, 5, 15]) == (1, 1) and heat[0, 15, 25] < 0.01
        assert offsets[0, :, 2, 4].tolist() == [2, 3] and offsets[0, :, 8, 19].tolist() == [-3, -4]
        assert offsets[0, :, 4, 7].tolist() == [0, 0] and not offsets[0, :, owners[0] == 0].any()

    def test_too_small_ones_have_no_hill(self, instances):
        owners = torch.zeros(1, 10, 10, dtype=torch.uint8)
        owners[0, :3, :3] = 1
        assert not instances.make_targets(owners, spread=2.0)[0].any()

    def test_grouping_them_gives_the_objects_back(self, instances, scenes, semantic, truth):
        heat, offsets = instances.make_targets(scenes.owners, spread=2.5)
        found = [instances.group(*one) for one in zip(semantic, heat, offsets, strict=True)]
        assert instances.measure(found, truth)[0] > 0.97
        swapped = [instances.group(*one) for one in zip(semantic, heat, offsets.flip(1), strict=True)]
        assert instances.measure(swapped, truth)[0] < 0.7

    def test_group_joins_what_is_cut_in_two(self, instances):
        owners = torch.ones(1, 12, 30, dtype=torch.uint8)
        owners[:, :, 13:17] = 2  # in front
        heat, offsets = instances.make_targets(owners, spread=1.5)
        offsets = offsets.clone()
        heat[0, 5:7, 14] = 0.5  # two centres so near each other would be one: that of the farther is moved to the left
        heat[0, 5, 8] = 1
        offsets[0, 0], offsets[0, 1] = 5 - torch.arange(12.0)[:, None], 8 - torch.arange(30.0)
        offsets[0, 1, :, 13:17] = 14 - torch.arange(13.0, 17)
        found = instances.group(1 + (owners[0] == 2).long(), heat[0], offsets[0])
        assert sorted(found.masks.sum(dim=(1, 2)).tolist()) == [48, 12 * 26]

    def test_group_without_centres_or_objects(self, instances):
        nothing, ground = torch.zeros(16, 16), torch.zeros(16, 16, dtype=torch.long)
        assert len(instances.group(ground + 1, nothing, torch.zeros(2, 16, 16)).labels) == 0
        assert len(instances.group(ground, nothing + 1, torch.zeros(2, 16, 16)).labels) == 0


class TestTraining:
    def test_network(self, instances):
        torch.manual_seed(0)
        logits, heat, offsets = instances.Network(width=4)(torch.zeros(2, 3, 32, 64, dtype=torch.uint8))
        assert logits.shape == (2, 3, 32, 64) and heat.shape == (2, 32, 64) and offsets.shape == (2, 2, 32, 64)

    def test_learns_a_few_scenes(self, instances, scenes, semantic):
        torch.manual_seed(0)
        few = type(scenes)(*(part[:2] for part in scenes))
        network = instances.Network(width=8)
        losses = instances.train(network, few, semantic[:2], spread=2.5, steps=60, seed=0)
        assert len(losses) == 60 and losses[-1] < 0.4 * losses[0]
        logits = network(few.images)[0]  # in training mode: the means of the norms are young
        right, ground = (logits.argmax(dim=1) == semantic[:2]).float().mean(), (semantic[:2] == 0).float().mean()
        assert right > ground + 0.05
        classes, heat, offsets = instances.answer(network, few.images)
        assert not network.training and classes.shape == heat.shape == (2, 64, 64) and offsets.shape == (2, 2, 64, 64)

    def test_classes_centres_and_offsets_are_learned(self, instances, scenes, semantic):
        torch.manual_seed(0)
        network = instances.Network(width=4)
        instances.train(network, scenes, semantic, spread=2.5, steps=1, seed=0)
        assert (network.head.bias.grad != 0).all()  # three classes, a hill, two ways

    def test_mirrored_scenes_have_mirrored_targets(self, instances, scenes, semantic):
        """A network that works out the targets from the mirrored pictures is never wrong but in the classes."""

        class Oracle(instances.nn.Module):
            def __init__(self):
                super().__init__()
                self.head = instances.nn.Conv2d(1, 1, 1)

            def forward(self, pictures):
                heat, offsets = instances.make_targets(pictures[:, 0], spread=2.5)  # the pictures show who owns the pixels
                return torch.zeros(len(pictures), 3, 64, 64) + 0 * self.head.bias, heat, offsets

        painted = scenes._replace(images=scenes.owners[:, None].repeat(1, 3, 1, 1))
        losses = instances.train(Oracle(), painted, semantic, spread=2.5, steps=6, seed=0)
        assert losses == pytest.approx([math.log(3)] * 6, abs=1e-5)


class TestMain:
    def test_check_notices_a_network_that_does_not_learn(self, instances, scenes, monkeypatch):
        monkeypatch.setattr(instances, "draw_scenes", lambda *_: type(scenes)(*(part[:6] for part in scenes)))
        monkeypatch.setattr(instances, "train", lambda *_: [1.0])
        with pytest.raises(LessonError, match="more --steps"):
            instances.main(scenes=4, steps=1, spread=2.5, device="cpu", seed=0)

    @pytest.mark.parametrize("wrong", [{"steps": 0}, {"scenes": 0}, {"spread": 0.0}])
    def test_flags(self, instances, wrong):
        with pytest.raises(LessonError, match="above 0"):
            instances.main(**wrong)

    @pytest.mark.slow  # the network has to be trained: 40 s of CPU
    def test_default_run(self, instances):
        results = instances.main(scenes=1000, steps=700, spread=2.5, device="cpu", seed=0)
        assert results["scipy_differs"] == 0
        assert results["pq_grouped_true"] > 0.97 > 0.8 > results["pq_pieces_true"]
        assert results["pq_grouped"] > results["pq_pieces"] + 0.1
        assert results["off_grouped"] < results["off_pieces_true"] - 0.2  # better than the pieces of the true mask
