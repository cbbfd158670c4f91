"""Project 7's judges: rules by hand, no method that looks ahead, intervals that hold, and a verdict that is not too quick."""

from dataclasses import replace

import pytest
import torch
from projects.forecasting_world import PLAN, shop_task, task_of, walk_task, write_csv

from project7_forecasting import backtest as walking
from project7_forecasting import data, model, rules
from project7_forecasting.backtest import Backtest, Trained, gather, judge, measure, verdict, winners
from project7_forecasting.data import Plan, last_fold, load_csv, walk_forward
from project7_forecasting.model import KINDS, LEVELS, make_network, widened
from project7_forecasting.rules import RULES, with_past_errors
from utils.forecast_scores import conformal_corrections
from utils.lesson import LessonError
from utils.seeding import seed_everything


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def untrained(task: data.Task, kind: str, seed: int = 0) -> Trained:
    seed_everything(seed)
    inputs = len(task.columns) + task.calendar.shape[1] + task.plan.horizon * len(task.ahead_columns)
    return Trained(kind, seed, make_network(kind, inputs, task.plan, hidden=4).eval())


def backtest_of(targets: torch.Tensor, **forecasts: torch.Tensor) -> Backtest:
    """A backtest out of medians (n, horizon): intervals are one to both sides."""
    spread = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])
    quantiles = {name.replace("_", " "): one[..., None] + spread for name, one in forecasts.items()}
    count, horizon = targets.shape
    fold = torch.arange(count) * 2 // count
    dates = [str(row) for row in range(count + 2 * horizon)]
    history = torch.zeros(count + horizon)
    origins = torch.arange(count) + horizon - 1
    rest = {"future": {name: one[0] for name, one in quantiles.items()}, "corrections": torch.zeros(horizon, 2)}
    return Backtest("toy", "toy", "y", "m", 1, 1, fold, origins, targets, quantiles, quantiles, {}, history, dates, **rest)


@pytest.fixture(scope="module")
def gathered(tmp_path_factory):
    """A backtest of the shop with untrained networks."""
    task = shop_task(tmp_path_factory.mktemp("shop"))
    folds = [*walk_forward(task), last_fold(task)]
    networks = [[untrained(task, kind, seed) for kind in KINDS for seed in (0, 1)]] * len(folds)
    return task, folds, networks, gather(task, folds, networks)


class TestRules:
    def test_by_hand(self):
        task = task_of(torch.tensor([1.0, 3.0, 2.0, 5.0] * 20), Plan(3, 2, 1, 10, 10), period=4)
        fold, origins = walk_forward(task)[0], torch.tensor([7, 8])
        assert rules.last_value(task, fold)(origins).tolist() == [[5, 5], [1, 1]]
        slope = 4 / 7
        torch.testing.assert_close(rules.drift(task, fold)(origins)[0], torch.tensor([5 + slope, 5 + 2 * slope]))
        assert rules.seasonal_naive(task, fold)(origins).tolist() == [[1, 3], [3, 2]]
        assert rules.moving_average(task, fold)(origins)[1].unique().numel() == 1

    def test_seasonal_naive_of_more_than_a_season_ahead(self):
        task = task_of(torch.arange(60.0), Plan(3, 5, 1, 10, 10), period=2)
        assert rules.seasonal_naive(task, walk_forward(task)[0])(torch.tensor([20]))[0].tolist() == [19, 20, 19, 20, 19]
        assert rules.seasonal_naive(task, walk_forward(task)[0])(torch.tensor([0]))[0, 0].isnan()

    def test_length_of_the_average_is_chosen_on_the_past(self):
        waves = torch.tensor([0.0, 6.0, 0.0, 6.0, 3.0, 3.0, 3.0]).repeat(40)  # seven rows have no waves left in them
        task = task_of(waves)
        found = rules.moving_average(task, walk_forward(task)[0])(torch.arange(100, 107))
        torch.testing.assert_close(found, torch.full_like(found, 3.0))

    def test_ridge_finds_a_linear_law(self):
        y = torch.zeros(300)
        y[:2] = torch.tensor([1.0, 0.5])
        for row in range(2, 300):
            y[row] = 1.6 * y[row - 1] - 0.8 * y[row - 2] + 0.3 * noise(300)[row]
        task = task_of(y, Plan(4, 1, 1, 60, 20))
        fold = walk_forward(task)[0]
        law = 1.6 * y[fold.test] - 0.8 * y[fold.test - 1]
        found = rules.ridge(task, fold)(fold.test)[:, 0]
        assert (found - law).abs().mean() < 0.2 * (law - y[fold.test]).abs().mean()

    def test_ridge_equals_scikit_learns(self, monkeypatch):
        linear_model = pytest.importorskip("sklearn.linear_model")
        monkeypatch.setattr(rules, "PENALTIES", (10.0,))
        task = task_of(noise(200).cumsum(dim=0), Plan(4, 2, 1, 40, 20))
        fold = walk_forward(task)[0]
        past = task.origins_to_learn(fold)
        scale = task.scale(fold)

        def table(origins):
            return ((task.observed[origins[:, None] + torch.arange(-3, 1), 0] - scale.mean) / scale.std).double().numpy()

        changes = (task.targets - task.observed)[past].double().numpy()
        expected = linear_model.Ridge(10.0).fit(table(past), changes).predict(table(fold.test))
        found = rules.ridge(task, fold)(fold.test) - task.observed[fold.test]
        torch.testing.assert_close(found.double(), torch.from_numpy(expected), atol=1e-3, rtol=0)

    def test_climatology_knows_the_week_and_the_holidays_and_nothing_else(self, tmp_path):
        task = shop_task(tmp_path)
        fold = walk_forward(task)[0]
        found = rules.climatology(task, fold)(fold.test)
        later = replace(task, observed=task.observed + 50)
        torch.testing.assert_close(rules.climatology(later, fold)(fold.test), found)
        holiday = task.ahead[task.rows_ahead(fold.test), 0] == 1
        assert (found[holiday].mean() - found[~holiday].mean()).item() == pytest.approx(12, abs=2.5)

    def test_without_a_whole_season_nothing_is_seasonal(self):
        assert "seasonal naive" not in rules.rules_for(task_of(noise(100), period=90))
        assert "seasonal naive" not in rules.rules_for(task_of(noise(100), period=1))
        assert "seasonal naive" in rules.rules_for(task_of(noise(100), period=7))

    def test_past_errors_are_those_of_what_was_learned_from(self):
        task = task_of(noise(400), Plan(3, 2, 1, 100, 50))
        fold = walk_forward(task)[0]
        found = with_past_errors(rules.last_value(task, fold), task, fold, LEVELS)(fold.test)
        past = task.origins_to_learn(fold)
        errors = task.targets[past] - task.observed[past]
        torch.testing.assert_close(
            found[5, :, 0], task.observed[fold.test[5], 0] + errors.quantile(0.05, dim=0), atol=1e-4, rtol=0
        )
        torch.testing.assert_close(found[..., 2], task.observed[fold.test].expand(-1, 2))

    def test_rule_that_is_always_too_low_stays_what_it_is(self):
        """Sorted without care, the quantiles of its errors would make a better rule of it: one that knows the growth."""
        task = task_of(torch.arange(400.0) + noise(400), Plan(3, 2, 1, 100, 50), period=12)
        fold = walk_forward(task)[0]
        rule = rules.seasonal_naive(task, fold)
        found = with_past_errors(rule, task, fold, LEVELS)(fold.test)
        torch.testing.assert_close(found[..., 2], rule(fold.test))
        assert (found.diff(dim=-1) >= 0).all() and (found[..., 4] - found[..., 2]).mean() > 10


class TestNoLeak:
    """The oracle test: with another future, every forecast up to now has to be the same to the last bit."""

    def changed(self, task: data.Task, now: int) -> data.Task:
        """The same task with another future behind row `now`, prepared again from its target."""
        observed, measured = task.observed.clone(), task.measured.clone()
        observed[now + 1 :] = 500 - 3 * observed[now + 1 :]
        measured[now + 1 :] = 500 - 3 * measured[now + 1 :]
        horizon = task.plan.horizon
        targets = torch.cat([measured[1:], measured.new_full((horizon,), torch.nan)]).unfold(0, horizon, 1)
        return replace(task, observed=observed, inputs=observed, measured=measured, targets=targets)

    def forecasts(self, task: data.Task, make, number: int) -> torch.Tensor:
        """Corrected forecasts of a fold up to its tenth one."""
        fold = walk_forward(task)[number]
        origins = torch.cat([fold.calibration, fold.test])
        quantiles = with_past_errors(make(task, fold), task, fold, LEVELS)(origins)
        return widened(quantiles[len(fold.calibration) :], walking.corrections_for(quantiles, task, fold))[:10]

    @pytest.mark.parametrize("rule", RULES)
    @pytest.mark.parametrize("number", [0, 1])
    def test_rules_and_their_intervals(self, tmp_path, rule, number):
        task = shop_task(tmp_path)
        now = int(walk_forward(task)[number].test[9])
        args = (RULES[rule], number)
        torch.testing.assert_close(self.forecasts(self.changed(task, now), *args), self.forecasts(task, *args), rtol=0, atol=0)

    @pytest.mark.parametrize("kind", KINDS)
    def test_networks(self, tmp_path, kind):
        task = shop_task(tmp_path)
        network, fold = untrained(task, kind).network, walk_forward(task)[1]

        def make(task, fold):
            return lambda origins: model.quantiles_of(network, task, task.scale(fold), origins)[..., 2]

        other = self.changed(task, int(fold.test[9]))
        torch.testing.assert_close(self.forecasts(other, make, 1), self.forecasts(task, make, 1), rtol=0, atol=0)

    @pytest.mark.parametrize("ahead", [1, 3])
    def test_oracle_is_caught(self, tmp_path, ahead):
        """A forecaster that reads the answer, or scales by everything, does not get through."""
        task = shop_task(tmp_path)
        other = self.changed(task, int(walk_forward(task)[0].test[9]))

        def peek(task, fold):
            return lambda origins: task.observed[(origins + ahead).clamp(max=len(task) - 1), :1].expand(-1, 3)

        def scale_by_everything(task, fold):
            mean = task.observed[:, 0].mean()
            return lambda origins: (0.9 * task.observed[origins, :1] + 0.1 * mean).expand(-1, 3)

        for cheat in (peek, scale_by_everything):
            assert not torch.equal(self.forecasts(other, cheat, 0), self.forecasts(task, cheat, 0))

    def test_corrections_use_what_is_known(self, monkeypatch, gathered):
        task, folds, _, _ = gathered
        seen = []

        def note(*args, **more):
            seen.append(more)
            return conformal_corrections(*args, **more)

        monkeypatch.setattr(walking, "conformal_corrections", note)
        count = len(folds[0].calibration)
        walking.corrections_for(torch.zeros(count + len(folds[0].test), 3, 5), task, folds[0])
        assert [one["share"] for one in seen] == [0.9, 0.5] and seen[0]["first"] == seen[0]["memory"] == count


class TestGather:
    def test_everything_is_there_once(self, gathered):
        task, folds, _, found = gathered
        assert list(found.quantiles) == [*RULES, *KINDS, "networks"] == list(found.future)
        count = sum(len(fold.test) for fold in folds[:-1])
        assert all(one.shape == (count, 3, 5) for one in found.quantiles.values()) and found.targets.shape == (count, 3)
        assert found.fold.bincount().tolist() == [28, 28] and found.corrections.shape == (3, 2)
        torch.testing.assert_close(found.targets[:, 0], found.history[found.origins + 1])
        assert len(found.dates) == len(task) + 3 and found.dates[-1] == "2024-02-25"
        assert all((one.diff(dim=-1) >= 0).all() for one in found.quantiles.values())

    def test_networks_are_the_mean_of_all(self, gathered):
        task, folds, networks, found = gathered
        each = torch.stack([found.uncorrected[kind] for kind in KINDS])
        torch.testing.assert_close(found.uncorrected["networks"], each.mean(dim=0), atol=1e-4, rtol=1e-4)
        assert {kind: one.shape for kind, one in found.seeds.items()} == {kind: (2, 2) for kind in (*KINDS, "networks")}

    def test_forecast_of_what_comes_is_the_last_folds(self, gathered):
        task, folds, _, found = gathered
        last = rules.last_value(task, folds[-1])(folds[-1].test)
        torch.testing.assert_close(found.future["last value"][:, 2], last[0])

    def test_file_and_back(self, gathered, tmp_path):
        walking.save(tmp_path / "b.pt", [gathered[3]])
        (again,) = walking.load(tmp_path / "b.pt")
        torch.testing.assert_close(again.quantiles["networks"], gathered[3].quantiles["networks"])
        assert measure(again, "ridge") == measure(gathered[3], "ridge")
        torch.save({"backtests": [{"name": "x"}]}, tmp_path / "other.pt")
        with pytest.raises(LessonError, match="no backtests of this project"):
            walking.load(tmp_path / "other.pt")
        with pytest.raises(LessonError, match="python -m study run project7"):
            walking.load()


class TestWidened:
    def test_by_hand(self):
        quantiles = torch.tensor([[[0.0, 1.0, 2.0, 3.0, 4.0]]])
        found = widened(quantiles, torch.tensor([[[1.0, -0.5]]]))
        assert found.tolist() == [[[-1.0, 1.5, 2.0, 2.5, 5.0]]]

    def test_never_out_of_order_and_never_moves_the_median(self):
        quantiles = noise(50, 3, 5).sort(dim=-1).values
        found = widened(quantiles, 3 * noise(50, 3, 2, seed=1))
        assert (found.diff(dim=-1) >= 0).all() and torch.equal(found[..., 2], quantiles[..., 2])


class TestMeasure:
    def test_by_hand(self):
        targets = torch.tensor([[0.0, 3.0], [float("nan"), 0.5]])
        found = measure(backtest_of(targets, last_value=torch.zeros(2, 2)), "last value")
        assert found["error"] == pytest.approx(3.5 / 3) and found["error_one"] == 0
        assert found["coverage"] == pytest.approx(2 / 3) and found["width"] == 2
        assert found["score"] == pytest.approx((2 + (2 + 20 * 2) + 2) / 3)

    def test_best_rule_is_the_hardest_one_and_not_ridge(self):
        targets = noise(40, 2)
        found = backtest_of(targets, last_value=targets + 2, drift=targets + 1, ridge=targets)
        assert found.best_rule() == "drift"

    def test_intervals_hold_what_they_promise(self, tmp_path):
        """Naive intervals on a random walk, and networks that know nothing: corrected, both hold about 90 %."""
        plan = {**PLAN, "test": 150, "calibration": 120}
        path = write_csv(tmp_path / "walk.csv", {"price": torch.cumsum(noise(900), 0).numpy() + 50})
        task = load_csv(path, differences=True, **plan)
        folds = [*walk_forward(task), last_fold(task)]
        found = gather(task, folds, [[untrained(task, "LSTM")]] * len(folds))
        for method in ("last value", "networks"):
            assert measure(found, method)["coverage"] == pytest.approx(0.9, abs=0.05)
        assert measure(found, "networks")["coverage_before"] < 0.5


class TestVerdict:
    def test_random_walk_nothing_beats_the_last_value(self, tmp_path):
        for seed in (1, 2, 3):
            task = walk_task(tmp_path, seed)
            folds = [*walk_forward(task), last_fold(task)]
            found = gather(task, folds, [[untrained(task, "LSTM")]] * len(folds))
            assert winners(found) == [] and verdict(found).startswith("nothing beats the last value: ")

    def test_what_is_better_beyond_doubt_is_named(self):
        truth = noise(200, 2)
        found = backtest_of(truth, last_value=truth + 1 + 0.3 * noise(200, 2, seed=1), ridge=truth + 0.5 * noise(200, 2, seed=2))
        assert winners(found) == ["ridge"] and verdict(found).startswith("ridge beat the last value beyond doubt; ridge by ")

    def test_networks_speak_first_for_they_were_chosen_before(self):
        truth = noise(200, 2)
        found = backtest_of(truth, last_value=truth + 2, ridge=truth + 0.1, networks=truth + 0.5)
        assert verdict(found) == "ridge, networks beat the last value beyond doubt; networks by 75.0%"

    def test_few_forecasts_are_taken_with_care(self):
        truth = noise(19, 2)
        few = backtest_of(truth, last_value=truth + 2, ridge=truth + 0.1)
        assert verdict(few).endswith("(with care: 19 forecasts that overlap are few)")
        assert "with care" not in verdict(backtest_of(noise(20, 2), last_value=noise(20, 2) + 2, ridge=noise(20, 2)))

    def test_many_methods_have_to_be_more_certain(self):
        truth, base, some = torch.zeros(100, 1), torch.full((100, 1), 5.0), noise(100, 1)
        better = base - 0.11 + 0.5 * (some - some.mean())
        alone = backtest_of(truth, last_value=base, ridge=better)
        p = judge(alone)["ridge"].p_value
        assert 0.05 / 9 < p < 0.05 and winners(alone) == ["ridge"]
        others = {f"method_{number}": base + 1 for number in range(8)}
        assert winners(backtest_of(truth, last_value=base, ridge=better, **others)) == []
