"""Anomaly detection: the area is scikit-learn's, the score tells what is strange, and simple scores are not hidden."""

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.datasets import mnist
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def anomaly():
    return lesson("06_advanced/anomaly_detection")


@pytest.fixture(scope="module")
def digits():
    """Learned, new normal and strange pictures: twos are the strange ones."""
    data = mnist("sample")
    x, test = (part.images.float() / 255 for part in (data.train, data.test))
    return x[data.train.labels != 2], test[data.test.labels != 2], test[data.test.labels == 2]


@pytest.fixture(scope="module")
def scorer(anomaly, digits):
    return anomaly.Scorer(digits[0], width=8, steps=120, lr=0.003, seed=0)


class TestAuroc:
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_is_scikit_learns(self, anomaly, seed):
        assert anomaly.compare_auroc(seed) < 1e-12

    def test_known_values(self, anomaly):
        low, high = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0, 5.0])
        assert anomaly.auroc(low, high) == 1 and anomaly.auroc(high, low) == 0
        assert anomaly.auroc(low, low) == anomaly.auroc(torch.ones(7), torch.ones(3)) == 0.5  # a constant score is chance
        assert anomaly.auroc(torch.tensor([1.0, 3.0]), torch.tensor([2.0])) == 0.5

    def test_no_matter_the_units_and_the_shares(self, anomaly):
        generator = torch.Generator().manual_seed(0)
        normal, strange = torch.rand(200, generator=generator), torch.rand(30, generator=generator) + 0.2
        area = anomaly.auroc(normal, strange)
        assert anomaly.auroc(normal.exp() * 100, strange.exp() * 100) == pytest.approx(area, abs=1e-12)
        assert anomaly.auroc(normal, strange.repeat(9)) == pytest.approx(area, abs=1e-12)

    def test_curve(self, anomaly):
        false, true = anomaly.roc(torch.tensor([1.0, 2.0, 2.0]), torch.tensor([2.0, 3.0]))
        assert false.tolist() == pytest.approx([0, 0, 2 / 3, 1]) and true.tolist() == [0, 0.5, 1, 1]


def test_error_is_the_one_that_is_told(anomaly):
    assert anomaly.meet_error(torch.rand(4, 1, 28, 28)) == "slice() cannot be applied to a 0-dim tensor."


class TestScores:
    def test_one_for_each_picture(self, anomaly, digits, scorer):
        _, normal, strange = digits
        both = scorer(torch.cat([normal[:5], strange[:3]]))
        assert list(both) == list(anomaly.METHODS)
        for name, scores in scorer(strange[:3]).items():
            torch.testing.assert_close(both[name][5:], scores, rtol=1e-4, atol=1e-5)  # whoever is beside it in the batch

    def test_autoencoder_tells_twos(self, anomaly, digits, scorer):
        assert sum(scorer.losses[-10:]) < sum(scorer.losses[:10]) / 3
        usual, unusual = scorer(digits[1]), scorer(digits[2])
        areas = {name: anomaly.auroc(usual[name], unusual[name]) for name in anomaly.METHODS}
        assert areas["autoencoder"] > 0.85 and areas["autoencoder"] > areas["mean"] + 0.05
        assert areas["neighbour"] > 0.95

    def test_baselines_are_what_they_are_called(self, digits, scorer):
        learned, normal, _ = digits
        found, flat, known = scorer(normal), normal.flatten(1), learned.flatten(1)
        torch.testing.assert_close(found["mean"], (flat - known.mean(dim=0)).square().mean(dim=1))
        assert (found["PCA"] < found["mean"]).all()
        nearest = torch.stack([(known - one).square().sum(dim=1).min().sqrt() for one in flat[:20]])
        torch.testing.assert_close(found["neighbour"][:20], nearest, rtol=1e-3, atol=1e-3)
        assert scorer(learned[:50])["neighbour"].max() < 0.02  # what was learned has itself for a neighbour

    def test_nothing_strange_and_nothing_held_out_was_learned(self, anomaly, monkeypatch):
        seen = []

        def look(images, *_):
            seen.append(images)
            raise LessonError("enough")

        monkeypatch.setattr(anomaly, "Scorer", look)
        with pytest.raises(LessonError, match="enough"):
            anomaly.main(digits=(2,), width=8, steps=1, lr=0.003, alarms=0.1, source="sample", device="cpu", seed=0)
        train = mnist("sample").train
        allowed = {bytes(image.flatten().tolist()) for image in train.images[:-143][train.labels[:-143] != 2]}
        learned = {bytes((255 * image).round().flatten().int().tolist()) for image in seen[0]}
        assert learned < allowed and len(allowed) - len(learned) > 100  # a tenth is held out at random, too


class TestOtherThings:
    def test_what_they_are(self, anomaly, digits):
        normal = digits[1][:40]
        others = anomaly.other_things(normal, seed=0)
        assert {x.shape for x in others.values()} == {normal.shape}
        assert all(0 <= x.min() and x.max() <= 1 for x in others.values())
        torch.testing.assert_close(others["shuffled pixels"].sum(dim=(1, 2, 3)), normal.sum(dim=(1, 2, 3)))

    def test_not_all_are_found_alike(self, anomaly, digits, scorer):
        usual, others = scorer(digits[1])["autoencoder"], anomaly.other_things(digits[1], seed=0)
        areas = {name: anomaly.auroc(usual, scorer(x)["autoencoder"]) for name, x in others.items()}
        assert min(areas["inverted"], areas["shuffled pixels"], areas["picture book"]) > 0.97
        assert 0.6 < areas["on its head"] < 0.95  # 0, 1, 3 and 8 are digits on their heads, too


class TestThreshold:
    def test_choice(self, anomaly):
        scores = torch.arange(1000.0)
        assert anomaly.choose_threshold(scores, 0.05) == pytest.approx(949, abs=1)
        assert (scores >= anomaly.choose_threshold(scores, 0.2)).float().mean().item() == pytest.approx(0.2, abs=0.01)

    def test_alarms_on_new_pictures(self, anomaly, digits, scorer):
        _, normal, strange = digits
        held = {"same": normal[:160], "learned": digits[0]}
        found = anomaly.report_threshold(scorer, held, normal[160:], strange, 0.1)
        assert abs(found["false_alarms_same"] - 0.1) < 0.1 and found["true_alarms_same"] > 0.4
        assert found["false_alarms_learned"] > found["false_alarms_same"]  # known people's pictures are restored better


class TestMain:
    def test_check_notices_networks_that_do_not_learn(self, anomaly, monkeypatch):
        learned, judged, others = [], [], anomaly.other_things
        monkeypatch.setattr(anomaly, "train", lambda model, images, *_: learned.append(images))
        monkeypatch.setattr(anomaly, "other_things", lambda digits, seed: judged.append(digits) or others(digits, seed))
        with pytest.raises(LessonError, match="more --steps"):
            anomaly.main(digits=(2,), width=8, steps=1, lr=0.003, alarms=0.1, source="sample", device="cpu", seed=0)
        assert torch.cdist(judged[0].flatten(1), learned[0].flatten(1)).min() > 0.1, "measured on what it learned from"
        assert (paths.outputs("anomaly_detection") / "roc.png").exists()

    @pytest.mark.slow  # the claim itself, on the sample: ten networks, 20 s
    def test_keeps_its_promise(self, anomaly):
        digits = tuple(range(10))
        results = anomaly.main(digits=digits, width=8, steps=250, lr=0.003, alarms=0.05, source="sample", device="cpu", seed=3)
        assert results["auroc_autoencoder"] > results["auroc_mean"] + 0.15
        assert results["auroc_neighbour"] > results["auroc_autoencoder"] + 0.05  # what the notes say
        assert results["false_alarms_random"] > 0.05  # more than was wanted: other people wrote the test digits

    @pytest.mark.parametrize("wrong", [{"digits": ()}, {"digits": (3, 11)}, {"width": 0}, {"steps": 0}, {"alarms": 0.0}])
    def test_check_notices_wrong_flags(self, anomaly, wrong):
        settings = {"digits": (1,), "width": 8, "steps": 1, "lr": 0.003, "alarms": 0.1} | wrong
        with pytest.raises(LessonError, match="needed"):
            anomaly.main(**settings, source="sample", device="cpu", seed=0)

    @pytest.mark.real_data("mnist")
    @pytest.mark.slow  # three networks and the neighbours of 6,000 real digits, 12 s
    def test_on_real_digits(self, anomaly):
        results = anomaly.main(digits=(1, 8, 2), width=8, steps=250, lr=0.003, alarms=0.05, source="real", device="cpu", seed=1)
        assert results["lowest"] < 0.5 < results["auroc_neighbour"]  # ones are simpler than all other digits
        assert results["half_as_dark"] < 0.3 and results["inverted"] > 0.95
