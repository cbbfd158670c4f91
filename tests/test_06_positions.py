"""Positions: attention sees a bag of words, rotations know only distances, and only they carry over to longer sequences."""

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def positions():
    return lesson("06_advanced/positions")


@pytest.fixture(scope="module")
def trained(positions):
    """One small network of each kind that has learned to say the digit before, from sequences of eight."""
    models = {kind: [positions.Reader(kind, seed=0, width=32, heads=2)] for kind in positions.KINDS}
    for networks in models.values():
        positions.train(networks[0], length=8, back=1, shift=0, steps=70, lr=0.01, seed=0)
    return models


def test_a_bag_of_words(positions):
    found = positions.shuffle_words(seed=1)
    assert found["nothing"] < 1e-5
    assert found["waves"] > 0.1 and found["a causal mask"] > 0.1


class TestPositions:
    def test_waves_as_the_paper_writes_them(self, positions):
        got = positions.waves(torch.arange(5), 6)
        assert got.shape == (5, 6)
        for place in range(5):
            for i in range(3):
                angle = torch.tensor(place / 10_000 ** (2 * i / 6))
                torch.testing.assert_close(got[place, [i, i + 3]], torch.stack([angle.sin(), angle.cos()]))

    def test_what_knows_only_distances(self, positions):
        found = positions.compare_distances(seed=1)
        assert max(found["rotation"], found["waves alone"], found["complex"], found["length"]) < 1e-10
        assert min(found["waves"], found["table"]) > 0.1

    def test_rotation_of_place_0_is_none(self, positions):
        x = torch.randn(2, 3, 4, 8)
        turned = positions.rotate(x, torch.arange(4))
        torch.testing.assert_close(turned[:, :, 0], x[:, :, 0])
        assert (turned[:, :, 1:] - x[:, :, 1:]).abs().max() > 0.1

    def test_network_with_rotations_does_not_notice_where_it_begins(self, positions):
        model, digits = positions.Reader("rotation", seed=1).double(), torch.randint(10, (3, 9))
        torch.testing.assert_close(model(digits, start=0), model(digits, start=100))
        for kind in ("table", "waves"):
            model = positions.Reader(kind, seed=1).double()
            assert (model(digits, start=0) - model(digits, start=100)).abs().max() > 0.01


class TestLengths:
    def test_all_but_the_bag_learn_and_only_rotations_carry_over(self, positions, trained):
        found = positions.compare_lengths(trained, length=8, back=1, seed=99)
        assert found["none"][0, 0] < 0.4
        for kind in ("table", "waves", "rotation"):
            assert found[kind].shape == (1, 5) and found[kind][0, 0] > 0.95
        assert found["rotation"][0, 3] > max(found["table"][0, 3], found["waves"][0, 3]) + 0.15
        assert (paths.outputs("positions") / "lengths.png").exists()

    def test_the_table_fails_where_it_was_not_trained(self, positions, trained):
        by_place = positions.measure(trained["table"][0], 16, 1, seed=7)
        assert by_place.shape == (15,)
        assert by_place[:7].min() > 0.9 and by_place[8:].mean() < 0.3

    def test_shifts_teach_the_table_all_places(self, positions):
        model = positions.Reader("table", seed=0, width=32, heads=2)
        positions.train(model, length=8, back=1, shift=12, steps=120, lr=0.01, seed=0)
        assert positions.measure(model, 8, 1, seed=7, start=10).mean() > 0.6

    def test_mistakes(self, positions, trained):
        message, found = positions.meet_error(trained, length=8, back=1, seed=7)
        assert message == "index out of range in self"
        assert found["rotation"] > 0.95 > 0.85 > found["table"]


class TestMain:
    def test_learns(self, positions):
        results = positions.main(length=8, back=1, shift=0, steps=40, networks=1, lr=0.006, device="cpu", seed=1)
        assert results["rotation_accuracy"] > 0.9 and results["rotation_twice_as_long"] > results["table_twice_as_long"]

    def test_check_notices_networks_that_do_not_learn(self, positions):
        with pytest.raises(LessonError, match="more --steps"):
            positions.main(length=8, back=1, shift=0, steps=2, networks=1, lr=1e-6, device="cpu", seed=0)

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            ({"length": 7}, "--length 8"),
            ({"back": 8}, "--back 1"),
            ({"shift": 249}, "0 to 248"),
            ({"steps": 0}, "--steps 1"),
        ],
    )
    def test_check_notices_settings_that_cannot_be(self, positions, wrong, sentence):
        settings = {"length": 8, "back": 1, "shift": 0, "steps": 2, "networks": 1, "lr": 0.01, "device": "cpu", "seed": 0}
        with pytest.raises(LessonError, match=sentence):
            positions.main(**settings | wrong)
