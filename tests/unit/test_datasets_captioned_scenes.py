"""utils.datasets.captioned_scenes: the sentence is the only right one, and what is held out is never met in training."""

import re
from collections import Counter

import pytest
import torch

from utils.datasets import captioned_scenes
from utils.datasets.captioned_scenes import (
    COLOURS,
    NEW_PAIRS,
    RELATIONS,
    SHAPES,
    SIDE,
    SPLITS,
    CaptionedScenes,
    Scene,
    Thing,
    draw_captioned,
    mirrored,
    owner,
    tell,
    with_particle,
)
from utils.lesson import LessonError

DISC, SQUARE, STAR = Thing("large", "red", "disc"), Thing("small", "blue", "square"), Thing("small", "green", "star")


@pytest.fixture(scope="module")
def drawn() -> dict[str, CaptionedScenes]:
    return {split: draw_captioned(150, seed=3, split=split) for split in SPLITS}


class TestSentences:
    @pytest.mark.parametrize(
        ("scene", "english", "korean"),
        [
            (
                Scene((DISC, SQUARE), "left of", None),
                "a large red disc is left of a small blue square",
                "큰 빨간 원이 작은 파란 네모 왼쪽에 있다",
            ),
            (
                Scene((SQUARE, STAR, DISC), "above", "left"),
                "a small blue square is above a small green star, and a large red disc is to the left of them",
                "작은 파란 네모가 작은 초록 별 위쪽에 있고, 큰 빨간 원은 그 왼쪽에 있다",
            ),
            (
                Scene((STAR, DISC, SQUARE), "inside", "below"),
                "a small green star is inside a large red disc, and a small blue square is below them",
                "작은 초록 별이 큰 빨간 원 안에 있고, 작은 파란 네모는 그 아래쪽에 있다",
            ),
        ],
    )
    def test_both_languages(self, scene, english, korean):
        assert tell(scene, "en") == english and tell(scene, "ko") == korean

    def test_particles_fit_the_last_sound(self, drawn):
        assert with_particle("별", "이가") == "별이" and with_particle("고리", "은는") == "고리는"
        nouns = {"원": True, "별": True, "네모": False, "세모": False, "고리": False}
        for scene in drawn["train"].scenes:
            for noun, said in re.findall("(원|별|네모|세모|고리)([이가은는]) ", tell(scene, "ko")):
                assert (said in "이은") == nouns[noun], tell(scene, "ko")

    def test_different_scenes_have_different_sentences(self, drawn):
        scenes = {scene for one in drawn.values() for scene in one.scenes}
        for language in ("en", "ko"):
            assert len({tell(scene, language) for scene in scenes}) == len(scenes)


class TestCombinations:
    def test_every_colour_and_every_shape_is_met_in_every_relation(self):
        owners = {(c, s, r): owner(Thing("small", c, s), r) for c in COLOURS for s in SHAPES for r in RELATIONS}
        assert Counter(owners.values()) == {"train": 62, "test": 8, "validation": 5}
        for relation in RELATIONS:
            pairs = [(c, s) for (c, s, r), whose in owners.items() if r == relation and whose == "train"]
            assert {c for c, _ in pairs} == set(COLOURS) and {s for _, s in pairs} == set(SHAPES)

    def test_what_is_held_out_is_never_met_in_training(self, drawn):
        def triples(split):
            return {(t.colour, t.shape, s.relation) for s in drawn[split].scenes for t in s.things[:2]}

        def pairs(split):
            return {(t.colour, t.shape) for s in drawn[split].scenes for t in s.things}

        every = [(c, s, r) for c in COLOURS for s in SHAPES for r in RELATIONS]
        held = {(c, s, r) for c, s, r in every if owner(Thing("", c, s), r) == "test"}
        assert not triples("train") & held and not triples("known") & held and not triples("validation_held_out") & held
        assert not pairs("train") & NEW_PAIRS and not pairs("held_out") & NEW_PAIRS
        for scene in drawn["held_out"].scenes:
            assert any((t.colour, t.shape, scene.relation) in held for t in scene.things[:2])
        for scene in drawn["new_pair"].scenes:
            assert any((t.colour, t.shape) in NEW_PAIRS for t in scene.things)

    def test_all_that_is_combined_is_met_in_training(self, drawn):
        scenes = drawn["train"].scenes
        assert {s.relation for s in scenes} == set(RELATIONS) and {len(s.things) for s in scenes} == {2, 3}
        assert {t.colour for s in scenes for t in s.things} == set(COLOURS)
        assert {t.shape for s in scenes for t in s.things} == set(SHAPES)


class TestPictures:
    def test_form_and_repetition(self, drawn):
        one = drawn["train"]
        assert one.images.shape == (150, 3, SIDE, SIDE) and one.images.dtype == torch.uint8
        again = draw_captioned(20, seed=3)
        assert torch.equal(again.images, one.images[:20]) and again.scenes == one.scenes[:20]
        assert torch.equal(again.boxes, one.boxes[:20])
        assert not torch.equal(draw_captioned(20, seed=4).images, again.images)
        assert draw_captioned(2, seed=3, size=112).images.shape == (2, 3, 112, 112)
        assert len(draw_captioned(0, seed=0).images) == 0

    def test_boxes_lie_as_the_sentence_says(self, drawn):
        for split in SPLITS:
            for scene, boxes in zip(drawn[split].scenes, drawn[split].boxes.tolist(), strict=True):
                a, b, c = boxes
                for x1, y1, x2, y2 in boxes[: len(scene.things)]:
                    assert 0 <= x1 < x2 <= SIDE and 0 <= y1 < y2 <= SIDE
                if scene.relation == "left of":
                    assert a[2] <= b[0] + 2
                elif scene.relation == "above":
                    assert a[3] <= b[1] + 2
                else:
                    assert a[0] >= b[0] and a[1] >= b[1] and a[2] <= b[2] and a[3] <= b[3]
                side = scene.third
                if side is None:
                    assert c == [0, 0, 0, 0]
                else:
                    nearest = {"left": c[2] - min(a[0], b[0]), "right": max(a[2], b[2]) - c[0]}
                    nearest |= {"above": c[3] - min(a[1], b[1]), "below": max(a[3], b[3]) - c[1]}
                    assert nearest[side] < -2  # apart from both

    def test_large_is_larger_than_small(self, drawn):
        areas = {"small": [], "large": []}
        for scene, boxes in zip(drawn["known"].scenes, drawn["known"].boxes, strict=True):
            if scene.relation in ("left of", "above"):
                for thing, (x1, y1, x2, y2) in zip(scene.things, boxes.tolist(), strict=False):
                    areas[thing.size].append(max(x2 - x1, y2 - y1))
        assert max(areas["small"]) < min(areas["large"])

    def test_paint_is_where_the_box_is(self, drawn):
        reds = [
            (image, boxes[i])
            for image, boxes, scene in zip(drawn["train"].images, drawn["train"].boxes, drawn["train"].scenes, strict=True)
            for i, thing in enumerate(scene.things)
            if thing[1:] == ("red", "square") and scene.relation in ("left of", "above")
        ]
        assert len(reds) > 1
        for image, box in reds:
            x, y = ((box[0] + box[2]) / 2).int(), ((box[1] + box[3]) / 2).int()
            red, green, blue = image[:, y, x].tolist()
            assert red > 2 * max(green, blue)

    def test_splits_share_no_part_of_a_photograph(self, monkeypatch):
        seen = {}
        bands = captioned_scenes.BANDS

        class Noting(dict):
            def __getitem__(self, name):
                seen.setdefault(split, set()).add(name)
                return bands[name]

        monkeypatch.setattr(captioned_scenes, "BANDS", Noting())
        for split in SPLITS:
            draw_captioned(2, seed=0, split=split)
        assert seen["train"] == {"train"} and seen["held_out"] == seen["known"] == seen["new_pair"] == {"test"}
        assert seen["validation"] == seen["validation_held_out"] == {"validation"}

    def test_in_a_mirror_left_is_right_and_the_sentence_says_so(self, drawn):
        one = mirrored(drawn["train"])
        assert torch.equal(one.images, drawn["train"].images.flip(3))
        for scene, boxes, before in zip(one.scenes, one.boxes.tolist(), drawn["train"].scenes, strict=True):
            if scene.relation == "left of":
                assert boxes[0][2] <= boxes[1][0] + 2 and scene.things[:2] == before.things[1::-1]
            else:
                assert scene.things == before.things
            assert (before.third in ("left", "right")) == (scene.third != before.third)
            for thing, (x1, y1, x2, y2) in zip(scene.things, boxes, strict=False):
                assert 0 <= x1 < x2 <= SIDE and 0 <= y1 < y2 <= SIDE, thing
        again = mirrored(one)
        assert again.scenes == drawn["train"].scenes and torch.equal(again.boxes, drawn["train"].boxes)

    def test_unknown_split_is_one_sentence(self):
        with pytest.raises(LessonError, match="there is no split 'valid'"):
            draw_captioned(1, 0, "valid")
