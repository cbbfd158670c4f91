"""Data augmentation: every transform is torchvision's, image by image, and does what its name says."""

import colorsys

import pytest
import torch
from conftest import lesson

from utils.lesson import LessonError

SAME = {"flip", "crop_zeros", "crop_reflect", "affine", "brightness", "contrast", "saturation", "hue"}
SAME |= {"cutout", "mixup", "cutmix", "mixup_targets", "cutmix_targets"}


@pytest.fixture(scope="module")
def augmentation():
    return lesson("04_cnn/data_augmentation")


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class TestGeometry:
    def test_flips_only_those_that_are_asked(self, augmentation):
        images = noise(3, 3, 4, 6)
        out = augmentation.flip(images, torch.tensor([True, False, True]))
        assert torch.equal(out[1], images[1])
        assert torch.equal(out[0, :, :, 0], images[0, :, :, -1]) and torch.equal(out[2], images[2].flip(2))

    def test_crop_takes_each_window_where_it_is_asked(self, augmentation):
        images = noise(3, 2, 5, 7)
        top, left = torch.tensor([2, 0, 4]), torch.tensor([2, 4, 0])
        out = augmentation.crop(images, top, left, padding=2, mode="constant")
        assert out.shape == images.shape
        assert torch.equal(out[0], images[0])  # offsets equal to the padding: where it was
        assert torch.equal(out[1, :, 2:, :5], images[1, :, :3, 2:]) and out[1, :, :2].eq(0).all() and out[1, :, :, 5:].eq(0).all()
        assert torch.equal(out[2, :, :3, 2:], images[2, :, 2:, :5])
        mirrored = augmentation.crop(images, top, left, padding=2, mode="reflect")
        assert torch.equal(mirrored[1, :, 1, :5], images[1, :, 1, 2:])  # the row above the first is the second

    def test_quarter_turn_is_rot90(self, augmentation):
        images = noise(2, 3, 8, 8)
        out = augmentation.affine(
            images, torch.tensor([90.0, -90.0]).double(), torch.ones(2).double(), torch.zeros(2, 2).double()
        )
        torch.testing.assert_close(out[0], images[0].rot90(1, dims=(1, 2)), atol=1e-9, rtol=0)
        torch.testing.assert_close(out[1], images[1].rot90(-1, dims=(1, 2)), atol=1e-9, rtol=0)

    def test_shift_is_in_pixels_right_and_down(self, augmentation):
        images = noise(1, 1, 6, 9)
        out = augmentation.affine(images, torch.zeros(1).double(), torch.ones(1).double(), torch.tensor([[2.0, 1.0]]).double())
        torch.testing.assert_close(out[0, 0, 1:, 2:], images[0, 0, :-1, :-2], atol=1e-9, rtol=0)
        assert out[0, 0, 0].abs().max() < 1e-9 and out[0, 0, :, :2].abs().max() < 1e-9

    def test_scale_enlarges(self, augmentation):
        images = torch.zeros(1, 1, 16, 16)
        images[..., 6:10, 6:10] = 1
        out = augmentation.affine(images, torch.zeros(1), torch.full((1,), 2.0), torch.zeros(1, 2))
        assert out.sum().item() == pytest.approx(4 * 16, rel=0.05)


class TestColours:
    def test_hue_is_colorsys(self, augmentation):
        images, turn = noise(4, 3, 3, 3), torch.tensor([0.1, -0.4, 0.5, 0.0]).double()
        images[0, :, 0, 0] = 0.5  # grey has no hue
        out = augmentation.hue(images, turn)
        for i in range(4):
            for row in range(3):
                h, s, v = colorsys.rgb_to_hsv(*images[i, :, row, 0].tolist())
                expected = colorsys.hsv_to_rgb((h + turn[i].item()) % 1, s, v)
                assert out[i, :, row, 0].tolist() == pytest.approx(expected, abs=1e-9)

    def test_blend_goes_from_the_other_through_the_image(self, augmentation):
        images = noise(3, 3, 4, 4) * 0.4 + 0.3
        grey = augmentation.grey(images)
        out = augmentation.blend(images, grey, torch.tensor([0.0, 1.0, 0.5]).double())
        torch.testing.assert_close(out[0], grey[0].expand(3, -1, -1))
        torch.testing.assert_close(out[1], images[1])
        torch.testing.assert_close(out[2], (images[2] + grey[2]) / 2)
        assert augmentation.blend(images, grey, torch.full((3,), 50.0)).max() == 1


class TestMixing:
    def test_box_is_cut_by_the_edge(self, augmentation):
        inside = augmentation.box(torch.tensor([[-2, 1], [3, 4]]), torch.tensor([[4, 2], [9, 1]]), 5, 6)
        assert inside.shape == (2, 1, 5, 6)
        assert inside[0, 0].nonzero().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
        assert inside[1, 0].nonzero().tolist() == [[3, 4], [4, 4]]

    def test_mixup_mixes_images_and_targets_alike(self, augmentation):
        images, targets, share = noise(3, 3, 2, 2), torch.eye(3).double(), torch.tensor([1.0, 0.25, 0.0]).double()
        partner = torch.tensor([1, 2, 0])
        out, out_targets = augmentation.mixup(images, share, partner), augmentation.mixup(targets, share, partner)
        torch.testing.assert_close(out[1], 0.25 * images[1] + 0.75 * images[2])
        torch.testing.assert_close(out[2], images[0])
        torch.testing.assert_close(out_targets, torch.tensor([[1, 0, 0], [0, 0.25, 0.75], [1, 0, 0]]).double())

    def test_targets_of_cutmix_follow_the_area(self, augmentation):
        numbers = augmentation.draw_numbers(6, 16, 24, strength=1.0, seed=3)
        targets = torch.eye(6).double()
        made = augmentation.apply_ours(noise(6, 3, 16, 24), targets, numbers)
        covered = numbers["size"].prod(dim=1) / (16 * 24)
        torch.testing.assert_close(made["cutmix targets"].diagonal(), 1 - covered.double())
        torch.testing.assert_close(made["cutmix targets"].sum(dim=1), torch.ones(6).double())


class TestTorchvision:
    @pytest.mark.parametrize(("height", "width", "strength"), [(32, 32, 1.0), (24, 40, 2.0)])
    def test_every_transform_is_torchvisions(self, augmentation, height, width, strength):
        images, targets = noise(5, 3, height, width), torch.eye(5).double()
        numbers = augmentation.draw_numbers(5, height, width, strength, seed=1)
        ours = augmentation.apply_ours(images, targets, numbers)
        for i in range(5):
            theirs = augmentation.apply_torchvision(images, targets, numbers, i)
            assert theirs.keys() == ours.keys()
            for name, result in theirs.items():
                torch.testing.assert_close(ours[name][i], result, atol=1e-5, rtol=0, msg=name)

    def test_every_image_has_numbers_of_its_own_and_repeatable_ones(self, augmentation):
        state = torch.get_rng_state()
        numbers = augmentation.draw_numbers(50, 32, 32, strength=1.0, seed=1)
        assert torch.equal(state, torch.get_rng_state())
        for name, value in numbers.items():
            assert len(value) == 50 and len(value.unique(dim=0)) > (1 if name == "which" else 5), name
            assert torch.equal(value, augmentation.draw_numbers(50, 32, 32, strength=1.0, seed=1)[name])

    def test_conventions(self, augmentation):
        found = augmentation.measure_conventions(noise(3, 20, 30))
        assert found["other_way"] > 0.1 and found["half_a_pixel"] > 0.01
        assert found["white_tensor"] == 254 and found["white_picture"] == 255


class TestMain:
    def test_bytes_cannot_be_turned(self, augmentation):
        assert "not implemented" in augmentation.forget_floats(torch.zeros(1, 3, 8, 8))

    def test_all_are_equal(self, augmentation):
        results = augmentation.main(strength=1.0, source="sample", seed=0)
        for name in SAME:
            assert results[f"difference_{name}"] < 1e-5
        assert results["other_way"] > 10 * results["half_a_pixel"] > 0

    @pytest.mark.parametrize("strength", [0.0, -1.0, 9.0])
    def test_check_notices_a_strength_that_is_none(self, augmentation, strength):
        with pytest.raises(LessonError, match="strength"):
            augmentation.main(strength=strength, source="sample", seed=0)
