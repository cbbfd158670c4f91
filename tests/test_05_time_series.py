"""Time series: what is written by hand equals other ways, nothing looks ahead, and ridge beats the rules on temperature."""

import numpy as np
import pytest
import torch
from conftest import lesson
from sklearn.model_selection import TimeSeriesSplit

from utils.datasets import seattle_weather
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def series():
    return lesson("05_rnn/time_series")


@pytest.fixture(scope="module")
def temperature():
    return torch.from_numpy(seattle_weather().values[:, 0])


class TestLooking:
    def test_autocorrelation_is_the_definition(self, series):
        x = torch.tensor([1.0, 2.0, 4.0, 3.0])
        centred = x - 2.5
        expected = [1.0] + [sum(centred[i] * centred[i + k] for i in range(4 - k)).item() / 5 for k in (1, 2)]
        assert series.autocorrelation(x, 2).tolist() == pytest.approx(expected)

    def test_partial_autocorrelation_stops_where_the_memory_does(self, series):
        noise, x = torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64), [0.0, 0.0]
        for value in noise.tolist():
            x.append(0.5 * x[-1] + 0.3 * x[-2] + value)
        partial = series.partial_autocorrelation(series.autocorrelation(torch.tensor(x, dtype=torch.float64), 6))
        assert partial[0] == 1 and partial[2].item() == pytest.approx(0.3, abs=0.03)
        assert partial[3:].abs().max() < 0.03

    def test_partial_autocorrelation_is_the_last_weight_of_a_regression(self, series, temperature):
        correlations = series.autocorrelation(temperature, 12)
        for k in range(1, 13):
            rows = torch.stack([correlations[(torch.arange(k) - i).abs()] for i in range(k)])
            last = torch.linalg.solve(rows, correlations[1 : k + 1])[-1]
            torch.testing.assert_close(series.partial_autocorrelation(correlations)[k], last)

    @pytest.mark.parametrize("period", [7, 12])
    def test_trend_and_season_are_found_again(self, series, period):
        time = torch.arange(10 * period, dtype=torch.float64)
        wave = torch.sin(2 * torch.pi * time / period)
        trend, season, remainder = series.decompose(3 + 0.5 * time + wave, period)
        inside = ~trend.isnan()
        assert inside.sum() == len(time) - 2 * (period // 2)
        torch.testing.assert_close(trend[inside], (3 + 0.5 * time)[inside])
        torch.testing.assert_close(season, wave)
        assert remainder[inside].abs().max() < 1e-9


class TestWalking:
    def test_windows_are_a_loops(self, series):
        x = torch.arange(10.0)
        inputs, targets = series.make_windows(x, 3, 2)
        for i in range(6):
            assert inputs[i].tolist() == [i, i + 1, i + 2] and targets[i].tolist() == [i + 3, i + 4]
        assert len(inputs) == len(targets) == 6

    @pytest.mark.parametrize(
        ("folds", "size", "gap", "longest"), [(5, 10, 0, None), (3, 20, 6, None), (4, 7, 2, 30), (2, 5, 3, 4)]
    )
    def test_splits_are_scikit_learns(self, series, folds, size, gap, longest):
        theirs = TimeSeriesSplit(folds, test_size=size, gap=gap, max_train_size=longest).split(np.zeros(120))
        ours = series.walk_forward(120, folds, size, gap, longest)
        assert [(list(a), list(b)) for a, b in ours] == [(a.tolist(), b.tolist()) for a, b in theirs]

    def test_error_is_the_one_everyone_meets(self, series):
        assert "negative" in series.meet_error(torch.arange(3.0))


class TestRules:
    def test_by_hand(self, series):
        x = torch.tensor([1.0, 3.0, 2.0, 6.0, 5.0, 9.0, 0.0, 0.0])
        rules = series.simple_rules(x, torch.tensor([5]), 3, period=2, average=3)
        assert rules["last value"].tolist() == [[5, 5, 5]]
        assert rules["seasonal naive"].tolist() == [[6, 5, 6]]
        assert rules["average of 3"][0].tolist() == pytest.approx([13 / 3] * 3)
        assert rules["drift"].tolist() == [[6, 7, 8]]  # from 1 to 5 in four steps

    def test_rules_do_not_look_ahead(self, series, temperature):
        starts, other = torch.tensor([800, 900]), temperature.clone()
        other[900:] = 1e6
        for name, one in series.simple_rules(temperature, starts, 7, 365, 14).items():
            assert torch.equal(one, series.simple_rules(other, starts, 7, 365, 14)[name]), name

    def test_errors_by_hand(self, series):
        mae, rmse, mase = series.measure(torch.tensor([1.0, 2.0]), torch.tensor([2.0, -1.0]), naive=4.0)
        assert (mae, rmse, mase) == pytest.approx((2, 5**0.5, 0.5))


class TestRidge:
    def test_minimises_its_objective(self, series):
        generator = torch.Generator().manual_seed(0)
        x, y = (torch.randn(50, columns, generator=generator, dtype=torch.float64) for columns in (4, 2))
        ridge = series.Ridge(x, y, 3.0)
        z = (x - x.mean(dim=0)) / x.std(dim=0)
        weights = ridge.weights.clone().requires_grad_()
        ((z @ weights + y.mean(dim=0) - y).square().sum() + 3 * weights.square().sum()).backward()
        assert weights.grad.abs().max() < 1e-9

    def test_forecasts_do_not_look_ahead(self, series, temperature):
        splits = [(range(0, 1000 - 6), range(1000, 1010))]
        other = temperature.clone()
        other[1000 + 14 :] = 1e3  # from the first day that the first forecast is about
        for one, two in zip(*(series.forecast(x, splits, 14, 7, 10.0, 365.25) for x in (temperature, other)), strict=True):
            assert one.shape == (10, 7)
            torch.testing.assert_close(one[0], two[0])

    def test_recursive_is_direct_for_one_step(self, series, temperature):
        direct, recursive = series.forecast(temperature, series.walk_forward(1400, 2, 30), 14, 1, 10.0, 365.25)
        torch.testing.assert_close(direct, recursive)


class TestComparing:
    SETTINGS = {"test": 360, "period": 365, "year": 365.25}

    def test_no_target_that_is_learned_from_reaches_into_the_test(self, series, temperature, monkeypatch):
        asked, forecast = [], series.forecast

        def note(x, splits, *rest):
            asked.extend(splits)
            return forecast(x, splits, *rest)

        monkeypatch.setattr(series, "forecast", note)
        series.compare_forecasts(temperature, 1400, 14, 7, self.SETTINGS, 10.0, 3)
        assert len(asked) == 12
        for past, test in asked:
            assert past[-1] + 14 + 7 - 1 < test[0] + 14  # its last target, and the first day of the test

    def test_settings_are_chosen_on_the_stretch_before_the_test(self, series, temperature, monkeypatch):
        stretches = []

        def note(x, rows, *rest):
            stretches.append(rows)
            return dict.fromkeys(("ridge, direct", "average of 3", "average of 7", "average of 14"), (1.0, 1.0, 1.0))

        monkeypatch.setattr(series, "compare_forecasts", note)
        series.choose_and_compare(temperature, 14, 7, self.SETTINGS)
        *chosen_on, last = stretches
        assert last == len(temperature) - 14 - 7 + 1 and max(chosen_on) == last - self.SETTINGS["test"]


class TestMain:
    def test_temperature_is_learned_and_prices_are_not(self, series):
        results = series.main(lags=14, horizon=3)
        assert results["difference_by_hand"] < 1e-9
        assert results["season_strength"] > 0.7
        assert results["temperature_one_direct"] < 0.97 * results["temperature_one_baseline"]
        assert results["temperature_path_direct"] < 0.92 * results["temperature_path_baseline"]
        for way in ("direct", "recursive"):
            assert results[f"prices_one_{way}"] > 0.99 * results["prices_one_last"]
            assert results[f"prices_path_{way}"] > 0.99 * results["prices_path_last"]

    def test_check_notices_what_does_not_learn(self, series, monkeypatch):
        errors = dict.fromkeys(("last value", "ridge, direct", "ridge, recursive"), (1.0, 1.0, 1.0))
        monkeypatch.setattr(series, "choose_and_compare", lambda *_: errors)
        with pytest.raises(LessonError, match="learned nothing"):
            series.main(lags=14, horizon=3)

    def test_check_notices_wrong_flags(self, series):
        with pytest.raises(LessonError, match="lags"):
            series.main(lags=0, horizon=3)
