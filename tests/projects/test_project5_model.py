"""Project 5's network: where its cells are, what they say, and the file in which it is kept."""

import pytest
import torch
from projects.detection_world import CLASSES, SIDE, untrained_file
from torch import nn

from project5_realtime_detection.model import Detector, cell_centres, fused, load_network, save_network
from utils import checkpoint
from utils.lesson import LessonError


@pytest.fixture
def model():
    """A small network whose batch norms have seen something."""
    torch.manual_seed(0)
    model = Detector(2, width=4)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return model.eval()


class TestWhatCellsSay:
    def test_there_are_three_maps(self, model):
        boxes, scores = model(torch.rand(2, 3, 96, 96))
        cells = 12 * 12 + 6 * 6 + 3 * 3
        assert boxes.shape == (2, cells, 4) and scores.shape == (2, cells, 2)
        assert (scores > 0).all() and (scores < 1).all()

    def test_centres_lie_in_the_middle_of_their_cells_row_by_row(self, model):
        assert cell_centres(2, 3, 8, torch.device("cpu")).tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]
        said = model.say(torch.rand(1, 3, SIDE, SIDE))
        assert said.strides.unique(return_counts=True)[1].tolist() == [64, 16, 4]
        assert said.centres[64].tolist() == [8, 8] and said.centres[-1].tolist() == [48, 48]

    def test_distances_are_powers_of_e_in_cells_of_their_map(self, model):
        for head in model.heads:
            nn.init.zeros_(head.where[-1].weight)
            head.where[-1].bias.data = torch.tensor([1.0, 2.0, 3.0, 4.0]).log()  # left, top, right, bottom
        said = model.say(torch.rand(1, 3, SIDE, SIDE))
        sides = torch.tensor([-1.0, -2.0, 3.0, 4.0]) * said.strides[:, None]
        torch.testing.assert_close(said.boxes[0], said.centres.repeat(1, 2) + sides)

    def test_what_is_recognised_moves_with_the_picture(self, model):
        picture = torch.full((1, 3, 256, 256), 0.5)
        picture[..., 96:112, 96:112] = 1.0
        moved = picture.roll((32, 64), dims=(2, 3))
        maps, there = (model(one)[1][0, : 32 * 32, 0].view(32, 32) for one in (picture, moved))
        torch.testing.assert_close(maps[10:16, 10:16], there[14:20, 18:24])

    def test_finest_map_is_told_what_the_coarse_ones_see(self, model):
        """Its cells depend on pixels that are far outside of what the layers before it look at."""

        def seen(cell: torch.Tensor) -> int:
            """How many columns of the picture a cell depends on."""
            (slope,) = torch.autograd.grad(cell, pictures)
            columns = slope.abs().sum(dim=(0, 1, 2)).nonzero()
            return int(columns.max() - columns.min() + 1)

        pictures = torch.rand(1, 3, 256, 256).requires_grad_()
        own = seen(model.stem(2 * pictures - 1)[0, :, 16, 16].sum())
        told = seen(model.say(pictures).logits[0, 16 * 32 + 16].sum())
        assert own < 80 and told > 160

    def test_begins_with_rare_scores_and_boxes_of_four_cells(self):
        torch.manual_seed(0)
        model = Detector(3, width=8)
        boxes, scores = model(torch.rand(4, 3, SIDE, SIDE))
        assert 0.002 < scores.median() < 0.05
        assert 20 < (boxes[:, :64, 2:] - boxes[:, :64, :2]).median() < 50  # of the finest map

    def test_pictures_of_a_batch_do_not_mix_when_it_is_used(self, model):
        pictures = torch.rand(3, 3, SIDE, SIDE)
        for together, alone in zip(model(pictures), model(pictures[1:2]), strict=True):
            torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=1e-4)


class TestFused:
    def test_says_the_same_and_has_no_batch_norm(self, model):
        quick = fused(model)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in quick.modules())
        pictures = torch.rand(2, 3, SIDE, SIDE)
        for one, other in zip(model(pictures), quick(pictures), strict=True):
            torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)

    def test_leaves_the_network_as_it_was(self, model):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        fused(model)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class TestFile:
    def test_comes_back_ready_for_use(self, tmp_path, model):
        save_network(tmp_path / "m.pt", model, CLASSES, SIDE, "a source", 0.5, seed=7)
        again, about = load_network(tmp_path / "m.pt")
        assert not again.training and about["seed"] == 7
        assert (about["classes"], about["side"], about["source"], about["average_precision"]) == (CLASSES, SIDE, "a source", 0.5)
        pictures = torch.rand(1, 3, SIDE, SIDE)
        assert torch.equal(model(pictures)[0], again(pictures)[0])

    def test_says_to_train_first(self):
        with pytest.raises(LessonError, match="python -m study run detection"):
            load_network()

    def test_other_file_that_is_not_there(self, tmp_path):
        with pytest.raises(LessonError, match="does not exist"):
            load_network(tmp_path / "none.pt")

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"classes": ["red", "blue", "green"]}, r"another model than Detector.*what.1.weight \(2, 16, 1, 1\) instead of \(3"),
            ({"classes": []}, "does not name its classes"),
            ({"classes": "red"}, "does not name its classes"),
            ({"side": 100}, "for no size of pictures"),
            ({"side": "64"}, "for no size of pictures"),
            ({"width": 6}, "another model than Detector"),
            ({"width": "wide"}, "is not a network of this project"),
        ],
    )
    def test_of_another_network_is_one_sentence(self, tmp_path, change, told):
        state = checkpoint.load(untrained_file(tmp_path / "m.pt"))
        checkpoint.save(tmp_path / "other.pt", state | change)
        with pytest.raises(LessonError, match=told):
            load_network(tmp_path / "other.pt")

    def test_without_facts(self, tmp_path):
        checkpoint.save(tmp_path / "bare.pt", {"model": Detector(2, 4).state_dict(), "classes": CLASSES})
        with pytest.raises(LessonError, match="does not say its width, side, source, average_precision"):
            load_network(tmp_path / "bare.pt")

    def test_cut_off(self, tmp_path):
        whole = untrained_file(tmp_path / "m.pt").read_bytes()
        (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(LessonError, match="truncated or damaged"):
            load_network(tmp_path / "cut.pt")
