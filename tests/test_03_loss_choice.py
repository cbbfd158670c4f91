"""Where the choice of a loss matters it is measured, over seeds: gross errors, a rare class, probabilities that are meant."""

import pytest
import torch
from conftest import lesson

from utils.lesson import LessonError


@pytest.fixture(scope="module")
def choice():
    return lesson("03_training/loss_choice")


@pytest.fixture(scope="module")
def digits(choice):
    return choice.pictures("sample")


class TestOutliers:
    def test_slips_ruin_mse_and_nothing_else(self, choice):
        clean, dirty = (choice.fit_with_outliers(share, steps=60, seeds=2) for share in (0.0, 0.1))
        for errors in (clean, dirty):
            assert all(len(values) == 2 for values in errors.values())
        assert (clean["MSE"] < 0.8 * clean["median"]).all()
        assert clean["MSE"].mean() < clean["MAE"].mean() + 1  # without slips there is nothing to gain
        assert (dirty["MSE"] > 1.3 * dirty["median"]).all()  # worse than a single number
        for name in ("MAE", "Huber"):
            assert (dirty[name] < 0.8 * dirty["median"]).all()
            assert dirty[name].mean() < 1.1 * clean[name].mean()


class TestRare:
    def test_one_yes_in_five_is_kept(self, choice):
        torch.manual_seed(0)
        labels = torch.arange(10).repeat(500)
        answers, kept = choice.make_rare(labels)
        assert torch.equal(answers.argmax(dim=1), labels) and (answers.sum(dim=1) == 1).all()
        assert (kept[answers == 0] == 1).all()
        assert kept[answers == 1].mean().item() == pytest.approx(0.2, abs=0.02)

    def test_measures_by_hand(self, choice):
        logits = torch.tensor([[2.0], [1.0], [-1.0], [3.0], [-2.0]])
        answers = torch.tensor([[1.0], [0.0], [1.0], [1.0], [0.0]])
        kept = torch.tensor([[1.0], [1.0], [1.0], [0.0], [1.0]])  # found 1, missed 1, wrong 1, rightly no 1
        assert choice.measure(logits, answers, kept) == pytest.approx([0.5, 0.5, 0.5, 0.5])
        assert choice.measure(logits, answers, kept, threshold=-1.5) == pytest.approx([0.75, 1, 2 / 3, 0.8])

    def test_average_precision_by_hand(self, choice):
        logits = torch.tensor([3.0, 2.0, 1.0]).unsqueeze(1).expand(3, 10)
        answers = torch.tensor([1.0, 0.0, 1.0]).unsqueeze(1).expand(3, 10)
        assert choice.average_precision(logits, answers, torch.ones(3, 10)) == pytest.approx((1 + 2 / 3) / 2)

    def test_losses_trade_recall_for_precision(self, choice, digits):
        found = choice.find_rare(digits, steps=120, seeds=2)
        accuracy, recall, precision, f1, ranking = ({name: rows[:, i] for name, rows in found.items()} for i in range(5))
        assert (accuracy["never yes"] > 0.97).all()  # says nothing, and looks excellent
        assert (recall["never yes"] == 0).all()
        assert (recall["BCE, weighted"] > recall["focal"]).all() and (recall["focal"] > recall["BCE"]).all()
        assert (precision["BCE, weighted"] < precision["focal"]).all()
        assert f1["focal"].mean() > f1["BCE"].mean() + 0.03
        assert f1["BCE, threshold"].mean() > f1["BCE"].mean()
        assert torch.equal(ranking["BCE, threshold"], ranking["BCE"])  # a threshold ranks nothing anew
        assert (ranking["BCE"] > ranking["never yes"] + 0.5).all()

    def test_threshold_is_chosen_on_validation(self, choice, digits, monkeypatch):
        measured, measure = [], choice.measure
        monkeypatch.setattr(choice, "measure", lambda logits, *rest: measured.append(len(logits)) or measure(logits, *rest))
        choice.find_rare(digits, steps=1, seeds=1)
        validation, test = (len(labels) for _, labels in digits[1:])
        assert measured.count(test) == 5  # once for each row of the table
        assert measured.count(validation) == len(measured) - 5 > 10  # every threshold that was tried

    def test_error_is_the_one_everyone_meets(self, choice):
        assert "can't be cast" in choice.meet_error()


class TestCalibration:
    def test_reliability_by_hand(self, choice):
        probabilities = torch.tensor([[0.95, 0.05], [0.92, 0.08], [0.3, 0.7], [1.0, 0.0]])
        table = choice.reliability(probabilities, torch.tensor([0, 1, 1, 0]), bins=10)
        assert table[0].tolist() == [0] * 7 + [1, 0, 3]
        assert table[:, 9].tolist() == pytest.approx([3, 2.87, 2])
        assert choice.calibration_error(table) == pytest.approx((0.3 + 0.87) / 4)

    def test_who_is_right_as_often_as_sure_has_no_error(self, choice):
        probabilities = torch.tensor([[0.75, 0.25]]).expand(8, 2)
        assert choice.calibration_error(choice.reliability(probabilities, torch.tensor([0, 0, 0, 1] * 2))) == 0

    def test_some_smoothing_helps_and_more_hurts(self, choice, digits):
        found, tables = choice.calibrate(digits, steps=100, seeds=2)
        error, accuracy = ({name: rows[:, i].mean() for name, rows in found.items()} for i in (0, 1))
        assert error["0.02"] < 0.75 * error["0.0"] < error["0.1"]
        assert min(accuracy.values()) > 0.8
        sure, right = tables["0.0"][1:].sum(dim=1)
        assert sure > 1.03 * right  # without smoothing: surer than right
        sure, right = tables["0.1"][1:].sum(dim=1)
        assert sure < 0.95 * right  # with too much of it: the other way round


class TestMain:
    def test_learns_and_reports(self, choice):
        results = choice.main(steps=50, seeds=2, source="sample")
        assert results["error_Huber"] < 0.8 * results["error_median"] < results["error_MSE"]
        assert results["f1_always_yes"] < 0.06
        assert results["f1_focal"] > 0.4
        assert results["recall_BCE_weighted"] > 0.75

    def test_check_notices_untrained_lines(self, choice):
        with pytest.raises(LessonError, match="steps"):
            choice.main(steps=1, seeds=2, source="sample")
