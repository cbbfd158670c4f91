"""Forecasting with networks: gaps are filled from the past, nothing looks ahead, temperature is learned and prices are not."""

import dataclasses

import pytest
import torch
from conftest import lesson
from torch import nn

from utils.lesson import LessonError
from utils.networks.forecasters import Convolutional, Recurrent, Transformer


@pytest.fixture(scope="module")
def forecasting():
    return lesson("05_rnn/forecasting")


@pytest.fixture(scope="module")
def task(forecasting):
    return forecasting.load("seattle")


class TestTask:
    def test_targets_are_the_next_values(self, task):
        assert task.x.shape == (1461, 4) and task.targets.shape == (1461, 3)
        for k in range(3):
            torch.testing.assert_close(task.targets[: -1 - k, k], task.x[1 + k :, 0])
            assert task.targets[-1 - k :, k].isnan().all()

    def test_what_is_read_ends_with_the_last_known_day(self, task):
        windows = task.windows(700, torch.tensor([100, 900]))
        assert windows.shape == (2, 21, 6)
        scaled = (task.x - task.x[:700].mean(dim=0)) / task.x[:700].std(dim=0)
        torch.testing.assert_close(windows[1, :, :4], scaled[880:901])

    def test_scaling_knows_the_past_only(self, task):
        x = task.x.clone()
        x[700:] = 1e4
        other = dataclasses.replace(task, x=x)
        torch.testing.assert_close(task.windows(700, torch.tensor([699])), other.windows(700, torch.tensor([699])))

    @pytest.mark.parametrize("name", ["seattle", "stocks"])
    def test_rules_do_not_look_ahead(self, forecasting, name):
        task, ends = forecasting.load(name), torch.tensor([380])
        x = task.x.clone()
        x[381:] = 7.0
        other = forecasting.naive_rules(dataclasses.replace(task, x=x), ends)
        for rule, one in forecasting.naive_rules(task, ends).items():
            assert one.shape == (1, task.horizon)
            assert torch.equal(one, other[rule]), rule

    def test_ridge_does_not_look_ahead(self, forecasting, task):
        x, targets = task.x.clone(), task.targets.clone()
        x[801:] = 7.0
        targets[800 - task.horizon + 1 :] = 7.0
        other = dataclasses.replace(task, x=x, targets=targets)
        ends = torch.tensor([800])
        torch.testing.assert_close(forecasting.ridge(task, 801, ends), forecasting.ridge(other, 801, ends))


class TestNetworks:
    @pytest.mark.parametrize("name", ["LSTM", "GRU", "convolution", "Transformer"])
    def test_look_back_only(self, forecasting, task, name):
        torch.manual_seed(0)
        network = forecasting.NETWORKS[name](6, task).eval()
        x = torch.randn(2, task.window, 6)
        assert network(x).shape == (2, task.window, task.horizon)
        for step in (1, 10, 20):
            assert not forecasting.looks_ahead(network, x, step)

    def test_leak_is_caught(self, forecasting, task):
        x = torch.randn(2, task.window, 6)
        unmasked = Transformer(6, 16, 3, task.window)
        unmasked.mask.zero_()
        both_ways = nn.Sequential(nn.LSTM(6, 4, batch_first=True, bidirectional=True))
        assert forecasting.looks_ahead(forecasting.NETWORKS["looks ahead"](6, task), x, 10)
        assert forecasting.looks_ahead(unmasked.eval(), x, 10)
        assert forecasting.looks_ahead(lambda x: both_ways(x)[0], x, 20)

    def test_convolution_sees_31_steps(self):
        torch.manual_seed(0)
        x = torch.randn(1, 60, 2, requires_grad=True)
        Convolutional(2, 8, 1)(x)[0, 50].sum().backward()
        seen = x.grad.abs().sum(dim=2)[0].nonzero().flatten()
        assert seen[-1] == 50 and seen[0] >= 20  # 1 + 2 * (1 + 2 + 4 + 8)

    def test_error_is_the_one_everyone_meets(self, forecasting):
        assert "input_size" in forecasting.meet_error()


class TestTraining:
    def test_loss_of_the_very_task_falls(self, forecasting, task):
        known, ends = len(task.x) - task.test, forecasting.ends_of(task, len(task.x))
        errors = {
            steps: forecasting.errors_of(
                forecasting.forecast(forecasting.train("GRU", task, known, steps, 0.005, 0), task, known, ends), task, ends
            ).mean()
            for steps in (1, 120)
        }
        assert errors[120] < 0.9 * errors[1]

    def test_training_knows_the_past_only(self, forecasting, task):
        """Whatever comes from row 60 on, as input or as target, the network is the same."""
        x, targets, ahead = task.x.clone(), task.targets.clone(), torch.arange(1, task.horizon + 1)
        x[60:], targets[torch.arange(len(x))[:, None] + ahead >= 60] = 1e3, 1e3
        other = dataclasses.replace(task, x=x, targets=targets)
        networks = [forecasting.train("GRU", one, 60, steps=5, lr=0.01, seed=0) for one in (task, other)]
        for one, two in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
            assert torch.equal(one, two)

    def test_forecasts_cover_the_period_and_nothing_else(self, forecasting, task):
        ends = forecasting.ends_of(task, 1400)
        assert ends[0] + 1 == 1400 - task.test  # the first day that is forecast
        assert ends[-1] + task.horizon == 1400 - 1  # the last one

    def test_unmeasured_targets_are_left_out(self, forecasting, task):
        targets = task.targets.clone()
        targets[::3] = torch.nan
        holes = dataclasses.replace(task, targets=targets)
        network = forecasting.train("GRU", holes, 700, 5, 0.005, 0)
        assert all(parameter.isfinite().all() for parameter in network.parameters())
        errors = forecasting.errors_of(holes.x[700:800, :1].expand(-1, 3), holes, torch.arange(700, 800))
        assert errors.isfinite().all()

    def test_promise_is_not_kept(self, forecasting, task):
        promised, kept = forecasting.promise_and_keep(task, 60, 0.005, 0)
        assert promised < 0.6 * kept


class TestMain:
    def test_temperature_is_learned(self, forecasting):
        results = forecasting.main(data="seattle", steps=60, lr=0.005, seeds=1, seed=0)
        assert results["leaks_found"] == 1
        assert results["seattle_ratio"] < 0.95

    def test_check_notices_networks_that_do_not_learn(self, forecasting):
        with pytest.raises(LessonError, match="seattle"):
            forecasting.main(data="seattle", steps=2, lr=1e-9, seeds=1, seed=0)

    @pytest.mark.slow  # three seeds of five networks, on two data sets: the claim itself, about 50 s
    def test_ten_percent_on_temperature_and_nothing_on_prices(self, forecasting):
        results = forecasting.main(data="offline", steps=120, lr=0.005, seeds=3, seed=0)
        assert results["seattle_ratio"] < 0.9
        assert results["stocks_ratio"] > 0.99

    @pytest.mark.slow  # five networks on 43,000 hours, about 60 s
    @pytest.mark.real_data("beijing_pm25")
    def test_ten_percent_on_fine_dust(self, forecasting):
        results = forecasting.main(data="pm25", steps=120, lr=0.005, seeds=1, seed=0)
        assert results["pm25_ratio"] < 0.9


def test_recurrent_takes_any_cell():
    for kind in (nn.RNN, nn.LSTM, nn.GRU):
        assert Recurrent(kind, 3, 5, 2)(torch.zeros(4, 6, 3)).shape == (4, 6, 2)
