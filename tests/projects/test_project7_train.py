"""Project 7 learns, goes on where it was interrupted, and saves what it forecasts."""

import functools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from projects.forecasting_world import PLAN, dates, shop, shop_csv, shop_task, walk, write_csv

from project7_forecasting import backtest as walking
from project7_forecasting import evaluate, model, predict, train
from project7_forecasting.data import last_fold, load_csv, walk_forward
from project7_forecasting.model import KINDS, LEVELS, load_forecaster, make_network
from utils import checkpoint, paths
from utils.forecast_scores import pinball
from utils.lesson import LessonError

RECIPE = {"hidden": 8, "steps": 80, "batch_size": 32, "lr": 2e-2, "weight_decay": 0.1}

# Everything that matters is said here: a reader who edits the defaults keeps a green suite.
main = functools.partial(
    train.main,
    data=(),
    source="sample",
    target="sales",
    known=("holiday",),
    logarithm=False,
    differences=False,
    period=7,
    date_column=None,
    date_format=None,
    **PLAN,
    stride=1,
    longest=None,
    **RECIPE,
    seeds=1,
    seed=0,
    device="cpu",
    resume=False,
    figures=False,
)
TINY = {"steps": 2, "folds": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One training run for all tests that only look: its results, the file that it read, and the folder that it wrote to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_WORK_DIR", str(tmp_path_factory.mktemp("work")))
        path = shop_csv(tmp_path_factory.mktemp("data") / "shop.csv")
        return main(csv=path), path, paths.models("project7_forecasting")


class TestLearning:
    def test_beats_the_rules_that_see_half_of_it_each(self, trained):
        """The last value knows the mood, climatology the week and the holidays; the networks have to put them together."""
        results, _, folder = trained
        (found,) = walking.load(folder / "backtests.pt")
        assert results["shop_ratio"] < 0.92 and "networks" in walking.winners(found)
        assert results["shop_error"] < 0.7 * results["shop_last_value"]
        for kind in KINDS:
            assert walking.measure(found, kind)["error"] < results["shop_baseline"], kind
        assert results["shop_coverage"] == pytest.approx(0.9, abs=0.07)

    def test_is_near_the_best_that_can_be_done(self, trained):
        """Who knew the law would forecast a row ahead to within the mean size of what is new in it: 4 times 0.8."""
        (found,) = walking.load(trained[2] / "backtests.pt")
        assert found.errors("networks")[:, 0].mean() < 1.45 * 4 * (2 / torch.pi) ** 0.5
        assert found.errors("ridge")[:, 0].mean() < 1.45 * 4 * (2 / torch.pi) ** 0.5

    def test_check_notices_networks_that_learned_nothing(self, trained):
        (found,) = walking.load(trained[2] / "backtests.pt")
        evaluate.check_learned(found, is_asked=True)
        found.quantiles["networks"].copy_(found.quantiles["last value"])
        evaluate.check_learned(found, is_asked=False)  # of a file of one's own nothing is asked
        with pytest.raises(LessonError, match="shop: the networks' error is .* of that of .*, not below 98 %"):
            evaluate.check_learned(found, is_asked=True)

    def test_interrupted_and_resumed_it_is_the_same_forecast(self, tmp_path, monkeypatch, press_ctrl_c):
        path = shop_csv(tmp_path / "shop.csv")
        settings = {"csv": path, "steps": 4, "folds": 1}
        expected = main(**settings)
        saved = paths.models("project7_forecasting") / "shop.pt"
        before = checkpoint.load(saved)
        saved.unlink()
        steps, loss = [], train.quantile_loss
        monkeypatch.setattr(train, "quantile_loss", lambda *args: steps.append(1) or loss(*args))
        second_network = 7  # a step in the middle of it
        with press_ctrl_c(train, "quantile_loss", second_network), pytest.raises(KeyboardInterrupt, match="--resume"):
            main(**settings)
        results = main(**settings, resume=True)
        assert len(steps) == 4 * 2 * len(KINDS)  # of two folds; no step was done twice
        after = checkpoint.load(saved)
        assert all(torch.equal(after["model"][name], before["model"][name]) for name in before["model"])
        assert results["shop_error"] == expected["shop_error"]

    def test_what_was_needed_to_resume_is_cleared_away(self, trained):
        assert sorted(file.name for file in trained[2].iterdir()) in (
            ["backtests.pt", "runs", "shop.pt"],
            ["backtests.pt", "shop.pt"],
        )
        assert not any(trained[2].glob("runs/shop/*"))

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"steps": 0}, "--steps must be above 0"),
            ({"seeds": 0}, "--seeds must be above 0"),
            ({"lr": 0.0}, "--lr must be above 0"),
            ({"batch_size": -1}, "--batch-size must be above 0"),
            ({"hidden": 0}, "--hidden must be above 0"),
            ({"weight_decay": -1.0}, "--weight-decay must be 0 or more"),
            ({"folds": 0}, "--folds must be 1 or more"),
            ({"window": 1000}, "too short"),
            ({"data": ("seattle",)}, "either --csv or --data"),
        ],
    )
    def test_wrong_flags_are_one_sentence(self, tmp_path, wrong, told):
        with pytest.raises(LessonError, match=told):
            main(csv=shop_csv(tmp_path / "shop.csv"), **wrong)

    def test_options_of_a_file_without_one(self):
        with pytest.raises(LessonError, match="--target, --known, --period: only with --csv"):
            main()


class TestRecipe:
    def test_loss_is_the_pinball_loss_of_scaled_changes(self, tmp_path):
        task = shop_task(tmp_path)
        fold = walk_forward(task)[0]
        scale, origins = task.scale(fold), torch.tensor([50, 90])
        answers = torch.randn(2, 1, 15, generator=torch.Generator().manual_seed(0))
        found = train.quantile_loss(lambda x: answers, origins, task, scale)
        changes = (task.targets[origins] - task.observed[origins, :1]) / scale.changes
        expected = pinball(answers[:, 0].unflatten(1, (3, 5)), changes, LEVELS).mean()
        torch.testing.assert_close(found, expected)

    def test_every_step_of_a_window_learns_but_those_that_have_read_too_little(self, tmp_path):
        task = shop_task(tmp_path)
        fold = walk_forward(task)[0]
        answers = torch.zeros(2, 9, 15, requires_grad=True)
        train.quantile_loss(lambda x: answers, torch.tensor([50, 90]), task, task.scale(fold)).backward()
        assert (answers.grad.abs().sum(dim=(0, 2)) > 0).tolist() == [False] * 2 + [True] * 7

    def test_unmeasured_targets_do_not_count(self, tmp_path):
        sales, visitors, holidays = shop()
        sales[60:200] = np.nan
        sales[-3:] = np.nan
        path = write_csv(tmp_path / "holes.csv", {"sales": sales, "visitors": visitors, "holiday": holidays})
        task = load_csv(path, "sales", ["holiday"], **PLAN)
        fold = walk_forward(task)[0]
        batches = train.make_batches(task, fold, steps=5, batch_size=16, seed=0)
        origins = torch.cat([batch for (batch,) in batches])
        assert len(origins) == 80 and not task.targets[origins].isnan().all(dim=1).any()
        network = make_network("LSTM", 2 + task.calendar.shape[1] + 3, task.plan, 4)
        loss = train.quantile_loss(network, origins, task, task.scale(fold))
        loss.backward()
        assert loss.isfinite() and all(parameter.grad.isfinite().all() for parameter in network.parameters())

    def test_each_origin_comes_once_before_any_comes_twice(self, tmp_path):
        task = shop_task(tmp_path)
        fold = walk_forward(task)[0]
        count = len(task.origins_to_learn(fold))
        batches = train.make_batches(task, fold, steps=40, batch_size=16, seed=0)
        origins = torch.cat([batch for (batch,) in batches])
        assert len(batches) == 40 and origins[:count].sort().values.equal(task.origins_to_learn(fold))

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_weight_learns(self, tmp_path, kind):
        task = shop_task(tmp_path)
        fold = walk_forward(task)[0]
        torch.manual_seed(0)
        network = make_network(kind, 2 + task.calendar.shape[1] + 3, task.plan, 8)
        train.quantile_loss(network, task.origins_to_learn(fold)[:64], task, task.scale(fold)).backward()
        unused = [name for name, one in network.named_parameters() if one.grad is None or one.grad.abs().max() == 0]
        assert unused == (
            ["understood.2.weight", "understood.2.bias"] if kind == "N-BEATS" else []
        )  # nobody reads what it leaves

    @pytest.mark.parametrize("kind", ["LSTM", "convolution"])
    def test_no_network_looks_ahead_inside_of_a_window(self, tmp_path, kind):
        task = shop_task(tmp_path)
        x = torch.randn(4, 9, 13, generator=torch.Generator().manual_seed(0))
        other = torch.cat([x[:, :5], 3 - 2 * x[:, 5:]], dim=1)
        network = make_network(kind, 13, task.plan, 8).eval()
        with torch.no_grad():
            torch.testing.assert_close(network(x)[:, :5], network(other)[:, :5])


class TestSaved:
    def test_saved_networks_forecast_what_was_reported(self, trained, monkeypatch, capsys):
        results, path, folder = trained
        monkeypatch.setenv("STUDY_WORK_DIR", str(folder.parents[1]))
        found = predict.main(csv=path, device="cpu")
        (backtest,) = walking.load()
        future = backtest.future["networks"]
        assert found["first"] == pytest.approx(future[0, 2].item(), rel=1e-4)
        assert found["width_last"] == pytest.approx((future[-1, -1] - future[-1, 0]).item(), rel=1e-3)
        said = capsys.readouterr().out
        assert "2024-02-23" in said and "2024-02-25" in said and f"{results['shop_ratio']:.0%} of the best simple rule's" in said

    def test_forecast_knows_the_holidays_to_come(self, trained, tmp_path):
        _, path, folder = trained
        rows = path.read_text(encoding="utf-8").splitlines()
        found = []
        for holiday in ("0", "1"):
            other = tmp_path / "shop.csv"
            other.write_text("\n".join([*rows[:-1], rows[-1].rpartition(",")[0] + f",{holiday}"]), encoding="utf-8")
            found.append(predict.main(csv=other, model=folder / "shop.pt", device="cpu"))
        assert found[1]["last"] - found[0]["last"] > 6 and found[1]["first"] == pytest.approx(found[0]["first"], abs=4)

    def test_evaluate_says_the_same(self, trained, monkeypatch, capsys):
        results, _, folder = trained
        monkeypatch.setenv("STUDY_WORK_DIR", str(folder.parents[1]))
        found = evaluate.main(figures=False)
        assert found == {name: pytest.approx(results[name]) for name in found}
        said = capsys.readouterr().out
        assert "beat the last value beyond doubt" in said and "the networks against ridge" in said

    def test_other_series_are_refused(self, trained, tmp_path, monkeypatch):
        _, path, folder = trained
        sales, _, holidays = shop()
        other = write_csv(tmp_path / "other.csv", {"sales": sales, "holiday": holidays, "rain": walk()})
        for kwargs, told in (
            ({"csv": tmp_path / "nowhere.csv"}, "is not there"),
            ({}, "name it with --csv"),
            ({"csv": other}, "holiday.* go on for 3 rows"),
        ):
            with pytest.raises(LessonError, match=told):
                predict.main(**kwargs, model=folder / "shop.pt", device="cpu")
        sales[-3:] = np.nan
        write_csv(other, {"sales": sales, "holiday": holidays, "rain": walk()})
        with pytest.raises(LessonError, match=r"whose columns were \['sales', 'visitors'\], here they are \['sales', 'rain'\]"):
            predict.main(csv=other, model=folder / "shop.pt", device="cpu")

    def test_says_to_train_first(self, trained, monkeypatch):
        with pytest.raises(LessonError, match="python -m study run project7"):
            predict.main(device="cpu")
        with pytest.raises(LessonError, match="python -m study run project7"):
            evaluate.main()
        monkeypatch.setenv("STUDY_WORK_DIR", str(trained[2].parents[1]))
        with pytest.raises(LessonError, match="no networks were trained for stocks; there are some for shop"):
            predict.main(name="stocks", device="cpu")

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda about: about.pop("scale"), "does not say its scale"),
            (lambda about: about.update(plan={"window": 3}), "not a forecaster of this project"),
            (lambda about: about.update(hidden=9), "is of another model"),
            (lambda about: about.update(kinds=["LSTM"]), "is of another model"),
        ],
    )
    def test_damaged_files_are_one_sentence(self, trained, tmp_path, change, told):
        about = checkpoint.load(trained[2] / "shop.pt")
        change(about)
        torch.save(about, tmp_path / "changed.pt")
        with pytest.raises(LessonError, match=told):
            load_forecaster(tmp_path / "changed.pt")
        (tmp_path / "cut.pt").write_bytes((trained[2] / "shop.pt").read_bytes()[:2000])
        with pytest.raises(LessonError, match="truncated|damaged"):
            load_forecaster(tmp_path / "cut.pt")

    def test_corrections_are_saved_as_well(self, trained):
        forecaster, about = load_forecaster(trained[2] / "shop.pt")
        task = load_csv(trained[1], **about["options"], **vars(about["plan"]))
        origin = last_fold(task).test
        with_them = forecaster(task, origin)
        forecaster.corrections = torch.zeros_like(forecaster.corrections)
        assert not torch.allclose(with_them, forecaster(task, origin))
        assert about["columns"] == ["sales", "visitors"] and about["options"]["known"] == ["holiday"]
        model.fits(task, about)


class TestShown:
    def test_table_and_figures(self, trained, monkeypatch, capsys):
        (found,) = walking.load(trained[2] / "backtests.pt")
        evaluate.show(found)
        said = capsys.readouterr().out
        for method in found.quantiles:
            assert f"\n   {method:15} " in said
        evaluate.draw([found], {"shop": torch.rand(3, 60)})
        for name in ("shop_errors", "shop_coverage", "shop_future", "losses"):
            assert plt.imread(paths.outputs("project7_forecasting") / f"{name}.png").std() > 0.01
        assert plt.get_fignums() == []

    def test_series_of_prices_is_said_to_be_one(self, tmp_path, capsys):
        path = write_csv(tmp_path / "walk.csv", {"price": walk()})
        options = {"target": None, "known": (), "period": None, "differences": True}
        results = main(csv=path, **options, **TINY)
        assert results["walk_beaten_by"] == 0 and "nothing beats the last value" in capsys.readouterr().out
        assert predict.main(csv=path, device="cpu")["first"] == pytest.approx(walk()[-1], abs=3)
        assert len(dates(3)) == 3


@pytest.mark.slow  # the default run: half a minute
def test_sample_is_learned():
    results = train.main(source="sample", seeds=2, seed=0, device="cpu", figures=False)
    assert results["seattle_ratio"] < 0.97 and results["seattle_beaten_by"] >= 2 and results["stocks_beaten_by"] == 0
    assert results["seattle_error"] < 0.87 * results["seattle_last_value"]
    assert results["seattle_coverage"] == pytest.approx(0.9, abs=0.04)
