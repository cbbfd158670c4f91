"""Project 7 prepares series without looking ahead, and says in one sentence what it cannot use."""

import math

import numpy as np
import pytest
import torch
from conftest import lesson
from projects.forecasting_world import PLAN, dates, shop_csv, shop_task, task_of, walk_task, write_csv

from project7_forecasting import data
from project7_forecasting.data import Plan
from utils.datasets.series import from_csv
from utils.lesson import LessonError

NUMBERS = np.sin(np.arange(300.0)) + np.arange(300) % 7


def csv(tmp_path, **columns):
    return write_csv(tmp_path / "mine.csv", {"y": NUMBERS, **columns})


class TestTask:
    def test_targets_are_the_next_rows(self, tmp_path):
        task = data.load_csv(csv(tmp_path), **PLAN)
        assert task.columns == ("y",) and len(task) == 300
        for ahead in range(3):
            torch.testing.assert_close(task.targets[10, ahead], torch.tensor(NUMBERS[11 + ahead]).float())
        assert task.targets[-1].isnan().all() and task.targets[-3, :2].isnan().sum() == 0

    def test_window_ends_with_its_origin_and_has_what_is_known_ahead(self, tmp_path):
        task = shop_task(tmp_path)
        fold = data.walk_forward(task)[0]
        scale = task.scale(fold)
        read = task.windows(torch.tensor([50, 60]), scale)
        assert read.shape == (2, 9, 2 + task.calendar.shape[1] + 3)
        torch.testing.assert_close(read[1, -1, :2] * scale.std + scale.mean, task.observed[60], atol=1e-3, rtol=0)
        holidays = read[1, -1, -3:] * scale.ahead_std + scale.ahead_mean
        torch.testing.assert_close(holidays, task.ahead[61:64, 0], atol=1e-4, rtol=0)
        torch.testing.assert_close(read[1, -1, 2:-3], task.calendar[61])

    def test_what_is_known_ahead_goes_on_after_the_last_number(self, tmp_path):
        task = shop_task(tmp_path)
        assert len(task) == 417 and len(task.ahead) == len(task.calendar) == len(task.dates) == 420
        assert task.columns == ("sales", "visitors") and task.ahead_columns == ("holiday",)
        with pytest.raises(LessonError, match="holiday.* go on for 3 rows after the last sales; they go on for 2"):
            data.load_csv(shop_csv(tmp_path / "short.csv", ahead=2), "sales", ["holiday"], **PLAN)

    def test_gaps_are_filled_from_the_past_and_are_no_targets(self, tmp_path):
        values = NUMBERS.copy()
        values[100:103] = np.nan
        task = data.load_csv(write_csv(tmp_path / "holes.csv", {"y": values}), **PLAN)
        assert task.observed[100:103, 0].tolist() == [task.observed[99, 0].item()] * 3
        assert task.targets[99].isnan().all() and not task.targets[102].isnan().any()

    def test_dates_without_a_row_become_rows(self, tmp_path):
        rows = [f"{day},{value:.3f}" for day, value in zip(dates(300), NUMBERS, strict=True)]
        del rows[100:104]
        (tmp_path / "gaps.csv").write_text("date,y\n" + "\n".join(rows), encoding="utf-8")
        task = data.load_csv(tmp_path / "gaps.csv", **PLAN)
        assert len(task) == 300 and task.measured[100:104].isnan().all()
        assert (np.diff(task.dates) == np.timedelta64(1, "D")).all()

    def test_logarithm_and_back(self, tmp_path):
        task = data.load_csv(csv(tmp_path), logarithm=True, **PLAN)
        torch.testing.assert_close(task.in_units(task.measured), torch.tensor(NUMBERS).float(), atol=1e-5, rtol=1e-5)
        assert task.measured.max() < 3

    def test_differences_are_read_and_levels_are_not(self, tmp_path):
        task = walk_task(tmp_path)
        torch.testing.assert_close(task.inputs[1:], task.observed.diff(dim=0), atol=1e-4, rtol=0)
        assert task.inputs[0].item() == 0

    def test_useless_columns_are_left_out_and_told(self, tmp_path, capsys):
        task = data.load_csv(csv(tmp_path, zero=np.zeros(300), other=NUMBERS[::-1]), **PLAN)
        assert task.columns == ("y", "other") and "nothing changes in them: zero" in capsys.readouterr().out

    def test_plan_follows_from_the_length(self, tmp_path):
        plan = data.load_csv(csv(tmp_path)).plan
        assert plan == Plan(window=21, horizon=7, folds=4, test=18, calibration=37)

    @pytest.mark.parametrize("name", data.OFFLINE)
    def test_series_of_the_course(self, name):
        task = data.load(name)
        assert len(task) > 300 and not task.observed.isnan().any() and not task.calendar.isnan().any()
        assert len(data.walk_forward(task)) == task.plan.folds

    @pytest.mark.parametrize("name", ["pm25", "aapl", "airline"])
    def test_real_series(self, name):
        if not data.catalogue.find(data.SETS[name].reader):
            pytest.skip("needs its file in datasets/ or $STUDY_DATA_DIR")
        task = data.load(name, folds=2)
        assert not task.observed.isnan().any() and len(data.walk_forward(task)) == 2


class TestNoLeak:
    """Whatever comes later is changed: nothing that belongs to an earlier forecast may move."""

    @pytest.mark.parametrize("number", [0, 1])
    def test_inputs_and_scale_of_a_fold(self, tmp_path, number):
        task = shop_task(tmp_path)
        fold = data.walk_forward(task)[number]
        values = np.genfromtxt(tmp_path / "shop.csv", delimiter=",", skip_header=1)[:, 1:]
        values[fold.known :, :2] = 1000 - 3 * values[fold.known :, :2]  # not the holidays: they are known
        path = write_csv(tmp_path / "other.csv", dict(zip(("sales", "visitors", "holiday"), values.T, strict=True)))
        other = data.load_csv(path, "sales", ["holiday"], period=7, **PLAN)
        mine, theirs = task.scale(fold), other.scale(fold)
        for one, another in zip(mine[:3], theirs[:3], strict=True):
            torch.testing.assert_close(one, another, rtol=0, atol=0)
        origins = torch.tensor([20, fold.known - 1])
        torch.testing.assert_close(task.windows(origins, mine), other.windows(origins, theirs), rtol=0, atol=0)
        learned = task.origins_to_learn(fold)
        torch.testing.assert_close(task.targets[learned], other.targets[learned], rtol=0, atol=0, equal_nan=True)
        assert not torch.allclose(task.windows(origins + 1, mine), other.windows(origins + 1, theirs))

    def test_scale_of_columns_known_ahead_is_the_past_as_well(self, tmp_path):
        task = shop_task(tmp_path)
        fold = data.walk_forward(task)[0]
        scale = task.scale(fold)
        torch.testing.assert_close(scale.ahead_mean, task.ahead[: fold.known].mean(dim=0))

    def test_folds_learn_calibrate_and_test_in_this_order(self):
        task = task_of(torch.arange(200.0), Plan(window=5, horizon=4, folds=3, test=20, calibration=30))
        folds = data.walk_forward(task)
        assert [fold.known for fold in folds] == [110, 130, 150] and all(fold.start == 0 for fold in folds)
        for fold, begin in zip(folds, (140, 160, 180), strict=True):
            learned = task.rows_ahead(task.origins_to_learn(fold))
            calibrated, tested = task.rows_ahead(fold.calibration), task.rows_ahead(fold.test)
            assert learned.max() == fold.known - 1 and learned.min() == 5
            assert (calibrated.min(), calibrated.max()) == (fold.known, begin - 1)
            assert (tested.min(), tested.max()) == (begin, begin + 19)

    def test_folds_are_the_lessons(self):
        task = task_of(torch.arange(200.0), Plan(window=5, horizon=1, folds=3, test=20, calibration=30))
        expected = lesson("05_rnn/time_series").walk_forward(200, 3, 20)
        for fold, (past, test) in zip(data.walk_forward(task), expected, strict=True):
            assert fold.known + 30 == past.stop and task.rows_ahead(fold.test).flatten().tolist() == list(test)

    def test_window_that_slides(self):
        plan = Plan(window=5, horizon=4, folds=3, test=20, calibration=30, longest=60)
        assert [fold.start for fold in data.walk_forward(task_of(torch.arange(200.0), plan))] == [50, 70, 90]

    def test_last_fold_forecasts_what_nobody_knows(self):
        task = task_of(torch.arange(200.0))
        fold = data.last_fold(task)
        assert fold.test.tolist() == [199] and task.targets[fold.test].isnan().all()
        assert task.rows_ahead(fold.calibration).max() == 199

    def test_stride(self):
        plan = Plan(window=5, horizon=4, folds=1, test=40, calibration=30, stride=7)
        fold = data.walk_forward(task_of(torch.arange(200.0), plan))[0]
        assert fold.test.diff().unique().tolist() == [7] and fold.calibration.diff().unique().tolist() == [7]


class TestCalendar:
    @pytest.mark.parametrize(
        ("last", "frequency", "expected"),
        [
            ("2024-02-28", "day", ["2024-02-29", "2024-03-01"]),
            ("2024-03-01", "business day", ["2024-03-04", "2024-03-05"]),  # a Friday
            ("2024-12-25", "week", ["2025-01-01", "2025-01-08"]),
            ("2024-11-01", "month", ["2024-12-01", "2025-01-01"]),
            ("2024-12-31T23:00:00", "hour", ["2025-01-01T00:00:00", "2025-01-01T01:00:00"]),
        ],
    )
    def test_later_dates(self, last, frequency, expected):
        found = data.later_dates(np.array([last], dtype="datetime64[s]" if "T" in last else "datetime64[D]"), frequency, 2)
        assert [str(day) for day in found] == expected

    def test_points_come_back_after_a_week_a_day_and_a_year(self):
        hours = np.datetime64("2023-01-01T00:00:00") + np.arange(3 * 366 * 24) * np.timedelta64(1, "h")
        points = data.calendar_points(hours, "hour", years=3)
        assert points.shape == (len(hours), 3 * 2 * data.HARMONICS)
        torch.testing.assert_close(points[:100, :4], points[24:124, :4], atol=1e-4, rtol=0)
        torch.testing.assert_close(points[:100, 4:8], points[168:268, 4:8], atol=1e-4, rtol=0)
        torch.testing.assert_close(points[:24, 8:], points[365 * 24 : 366 * 24, 8:], atol=1e-2, rtol=0)

    def test_year_needs_two_years(self):
        days = np.datetime64("2023-01-01") + np.arange(500)
        assert data.calendar_points(days, "day", years=1.4).shape[1] == 2 * data.HARMONICS
        assert data.calendar_points(days, "month", years=1.4).shape[1] == 0


class TestBadInput:
    """One clear sentence for each, with the line where there is one."""

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("date,y\n2024-01-01,1\n2024-01-02,2\n2024-01-02,3\n", "line 4: the date 2024-01-02.* does not come after"),
            (
                "date,y\n2024-01-01,1\n2024-01-05,2\n2024-01-03,3\n2024-01-07,1\n",
                "line 4: the date 2024-01-03.* does not come after",
            ),
            ("date,y\n2024-01-01,1\n2024-01-02,many\n2024-01-03,3\n", "line 3: 'many' in column y is not a number"),
            ("date,y\n2024-01-01,1\n2024-01-02,inf\n2024-01-03,3\n", "line 3: 'inf' in column y is not a number"),
            ("date,y\n2024-01-01 00:00+09:00,1\n2024-01-01 01:00+09:00,2\n2024-01-01 02:00+09:00,2\n", "line 2: .*time zone"),
            ("date,y\n2024-01-01 00:00,1\n2024-01-01 01:00+09:00,2\n2024-01-01 02:00,2\n", "line 3: .*time zone"),
            ("date,y\n01.02.2024,1\n02.02.2024,2\n03.02.2024,2\n", "line 2: '01.02.2024' is not a date .*date_format"),
            ("date,y\n2024-01-01,a\n2024-01-02,b\n2024-01-03,c\n", "no column of numbers"),
            ("date,y\n2024-01-01,1\n", "expected a header and at least two rows"),
            ("date,y\n2024-01-01,1\n2024-01-02\n2024-01-03,2\n", "line 3: 1 cells, but the header has 2"),
            ("date,y\n" + "".join(f"{day},5\n" for day in dates(300)), "y is 5 everywhere: nothing to forecast"),
            ("date,y\n" + "".join(f"{day},{day[-1]}\n" for day in dates(40)), "mine is too short: of 40 rows .* fewer --folds"),
            ("date,y\n2024-01-01,1\n2024-01-04,2\n2024-01-09,3\n2024-02-01,1\n", "no step of hours, days, weeks or months"),
            ("date,y\n2024-01-01,1\n2024-01-02,2\n2024-01-03,2\n2024-06-01,3\n", "dates have no row and only 4 have one"),
            (
                "date,y\n"
                + "".join(f"2024-01-01 {hour:02}:00,1\n" for hour in range(9))
                + "2024-01-01 09:30,2\n2024-01-01 10:00,1\n",
                "dates lie between the steps of its hours",
            ),
        ],
    )
    def test_files(self, tmp_path, text, told):
        path = tmp_path / "mine.csv"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(LessonError, match=told) as raised:
            data.load_csv(path)
        assert "\n" not in str(raised.value) and len(str(raised.value)) < 330

    def test_other_things_that_are_wrong(self, tmp_path):
        path = csv(tmp_path, text=["a"] * 300, minus=-NUMBERS - 5, holes=np.full(300, np.nan))
        for arguments, told in (
            ({"target": "sales"}, "no variable sales"),
            ({"target": "text"}, "no variable text"),
            ({"known": ["text"]}, "no variable text"),
            ({"target": "minus", "logarithm": True}, "logarithms need numbers above -1"),
            ({"target": "y", "known": ["y"]}, "cannot be known ahead"),
            ({"horizon": 0}, "--horizon must be 1 or more"),
            ({"test": 2}, "--test 2 is too short for a --horizon of 7"),
            ({"folds": 40}, "too short.*fewer --folds"),
            ({"date_column": "day"}, "no column day"),
        ):
            with pytest.raises(LessonError, match=told):
                data.load_csv(path, **arguments)
        with pytest.raises(LessonError, match="is not there"):
            data.load_csv(tmp_path / "nowhere.csv")
        with pytest.raises(LessonError, match="stocks.csv: the course has a stocks of its own"):
            data.load_csv(tmp_path / "stocks.csv")

    def test_empty_cells_in_what_is_known_ahead(self, tmp_path):
        holidays = np.zeros(300)
        holidays[40] = np.nan
        path = csv(tmp_path, holiday=holidays)
        with pytest.raises(LessonError, match="may have no empty cells|go on for"):
            data.load_csv(path, "y", ["holiday"], **PLAN)

    def test_options_belong_to_a_file(self, tmp_path):
        with pytest.raises(LessonError, match="--target, --date-format: only with --csv"):
            data.read((), None, "sample", {"target": "y", "known": [], "date_format": "%d"}, {})
        with pytest.raises(LessonError, match="either --csv or --data"):
            data.read(("seattle",), csv(tmp_path), "sample", {}, {})

    def test_newest_first_and_time_of_day_are_fine(self, tmp_path):
        rows = [f"{day} 00:00,{value:.3f}" for day, value in zip(dates(300), NUMBERS, strict=True)][::-1]
        (tmp_path / "turned.csv").write_text("when,y\n" + "\n".join(rows), encoding="utf-8")
        task = data.load_csv(tmp_path / "turned.csv", **PLAN)
        assert task.observed[5, 0].item() == pytest.approx(NUMBERS[5], abs=1e-3)
        assert math.isclose(from_csv(tmp_path / "turned.csv").values[0, 0], NUMBERS[0], abs_tol=1e-3)


def test_names_for_sources(without_data):
    assert data.names_for("sample") == data.names_for("auto") == ("seattle", "stocks")
    assert data.names_for("real") == ("pm25", "aapl", "airline")
