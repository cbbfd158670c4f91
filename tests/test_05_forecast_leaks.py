"""Leaks in forecasting: every cheat promises what it does not keep, and the test for leaks finds those in the inputs."""

import pytest
import torch
from conftest import lesson

from utils.datasets import seattle_weather
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def leaks():
    return lesson("05_rnn/forecast_leaks")


@pytest.fixture(scope="module")
def temperature():
    return torch.from_numpy(seattle_weather().values[:, 0])


@pytest.fixture(scope="module")
def honest(leaks, temperature):
    return leaks.forecast_honestly(temperature, 14, 7, 10.0)


def test_nothing_of_the_past_reaches_into_the_test(leaks):
    past, test = leaks.cut(1000, horizon=7)
    assert test.tolist() == list(range(635, 1000))
    assert past[-1] + 7 - 1 < test[0]  # the last target of the past is before the first of the test


def test_honest_forecast_learns(honest):
    error, last_value = honest
    assert error < 0.85 * last_value


def test_small_leaks_gain_little(leaks, temperature, honest):
    measured, later = leaks.scale_on_everything(temperature, 14, 7, 10.0)
    assert later == honest[0] and measured == pytest.approx(later, rel=0.02) and abs(measured - later) > 1e-4
    measured, later = leaks.season_from_everything(temperature, 14, 7, 10.0)
    assert measured < 0.96 * later


@pytest.mark.parametrize("leak", ["target_in_the_window", "centred_smoothing"])
def test_large_leaks_promise_what_they_do_not_keep(leaks, temperature, honest, leak):
    measured, later = getattr(leaks, leak)(temperature, 14, 7, 10.0)
    assert measured < 0.88 * honest[0]
    assert later > honest[0]


def test_shuffled_days_choose_the_worst(leaks, temperature):
    found = leaks.shuffle_days(temperature, 7, [0.0, 5.0, 25.0], seed=0)
    assert found[25.0][0] < found[5.0][0] < found[0.0][0]  # measured on shuffled days, the date is the best there is
    assert found[25.0][1] > 2 * found[0.0][1]  # on days to come it is the worst


def test_neighbours_by_hand(leaks):
    inputs = torch.tensor([[0.0], [1.0], [5.0], [0.2]])
    targets = torch.tensor([[1.0], [3.0], [100.0], [0.0]])
    assert leaks.neighbours(inputs, targets, torch.tensor([0, 1, 2]), torch.tensor([3]), count=2).tolist() == [[2.0]]


def test_smooth_is_a_mean_of_seven(leaks):
    x = torch.arange(20.0)[None] ** 2
    assert leaks.smooth(x)[0, 10].item() == pytest.approx(x[0, 7:14].mean().item())
    assert leaks.smooth(x)[0, -1].item() == pytest.approx(x[0, -4:].mean().item())


class TestCatching:
    def test_finds_the_leaks_and_nothing_else(self, leaks, temperature):
        found = leaks.catch_leaks(temperature, 14)
        assert {name for name, ahead in found.items() if not ahead} == {"honest", "smoothed backwards"}
        assert len(found) == 6

    def test_notices_a_single_day(self, leaks):
        x = torch.arange(50.0)
        assert not leaks.looks_ahead(lambda x: torch.cat([x.new_zeros(1), x[:-1]])[:, None], x, day=30)
        assert leaks.looks_ahead(lambda x: x[:, None], x, day=30)  # row 30 holds day 30


class TestMain:
    def test_all_of_it(self, leaks, honest):
        results = leaks.main(lags=14, horizon=7, penalty=10.0, seed=0)
        assert results["honest"] == honest[0] and results["baseline_last_value"] == honest[1]
        assert results["leaks_caught"] == 4
        for leak in ("target_in_the_window", "centred_smoothing", "shuffled_days"):
            assert results[f"{leak}_measured"] < 0.92 * results["honest"] < results["honest"] < results[f"{leak}_later"]

    def test_check_notices_a_forecaster_that_learns_nothing(self, leaks):
        with pytest.raises(LessonError, match="honest"):
            leaks.main(lags=14, horizon=1, penalty=1e9, seed=0)

    def test_error_is_the_one_everyone_meets(self, leaks, temperature):
        assert "shapes cannot be multiplied" in leaks.meet_error(temperature)
