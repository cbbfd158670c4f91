"""utils.datasets.series: what a file says is loaded, what it does not say is NaN, what is wrong with it is one sentence."""

import numpy as np
import pytest

from utils.datasets import Series, aapl, airline_passengers, beijing_pm25, from_csv, monthly_prices, seattle_weather, stocks
from utils.lesson import LessonError


@pytest.fixture
def csv_file(tmp_path):
    """Writes a CSV file and returns its path."""

    def write(text: str, encoding: str = "utf-8"):
        path = tmp_path / "series.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


PM25_HEADER = "No,year,month,day,hour,pm2.5,DEWP,TEMP,PRES,cbwd,Iws,Is,Ir\n"


class TestInstalledSeries:
    def test_seattle(self, without_data):
        series = seattle_weather()
        assert series.values.shape == (1461, 4) and series.values.dtype == np.float64
        assert series.names == ["temp_max", "temp_min", "precipitation", "wind"]
        assert series.values[0].tolist() == [12.8, 5.0, 0.0, 4.7]
        assert (series.frequency, series.period, series.is_real) == ("day", 365, True)
        assert series.dates[0] == np.datetime64("2012-01-01") and series.dates[-1] == np.datetime64("2015-12-31")
        assert len(series.gaps()) == 0 and not np.isnan(series.values).any()
        assert "Seattle" in series.source and "vega-datasets" in series.source

    def test_stocks(self, without_data):
        series = stocks()
        assert series.names == ["AAPL", "AMZN", "GOOG", "IBM", "MSFT"] and series.values.shape == (123, 5)
        assert series.values[0, 4] == 39.81 and np.isnan(series.values[0, 2])
        assert np.isnan(series.values[:55, 2]).all() and not np.isnan(series.values[55:]).any()
        assert (series.frequency, series.period) == ("month", 12) and len(series.gaps()) == 0

    def test_monthly_prices(self, without_data):
        series = monthly_prices()
        assert series.values.shape == (390, 10) and series.frequency == "month"
        assert series.select("^GSPC").values[0, 0] == pytest.approx(329.08, abs=0.01)
        assert len(series.gaps()) == 0 and not np.isnan(series.select("^GSPC", "IBM").values).any()

    def test_dates_rise(self, without_data):
        for read in (seattle_weather, stocks, monthly_prices):
            assert (np.diff(read().dates).astype(int) > 0).all()

    def test_missing_package_is_one_sentence(self, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(LessonError, match="vega-datasets, which is missing"):
            seattle_weather()


class TestFromCsv:
    def test_reads_what_is_there(self, csv_file):
        path = csv_file("# measured by hand\nname,when,a,b\nx,2020-01-01,1,2.5\ny,2020-01-02,,-3\nz,2020-01-03,NA,1e3\n")
        series = from_csv(path, date_column="when")
        assert series.names == ["a", "b"]
        np.testing.assert_array_equal(series.values, [[1, 2.5], [np.nan, -3], [np.nan, 1000]])
        assert series.frequency == "day" and "2 rows with missing values" in series.source

    def test_order_of_columns_is_the_readers(self, csv_file):
        series = from_csv(csv_file("date,a,b\n2020-01-01,1,2\n2020-01-02,3,4\n"), columns=["b", "a"])
        assert series.values.tolist() == [[2, 1], [4, 3]]

    def test_byte_order_mark_windows_lines_and_short_years(self, csv_file):
        text = "Date,Close\r\n30-12-99,1\r\n31-12-99,2\r\n03-01-00,3\r\n"
        series = from_csv(csv_file(text, "utf-8-sig"), date_format="%d-%m-%y")
        assert series.dates.astype(str).tolist() == ["1999-12-30", "1999-12-31", "2000-01-03"]
        assert series.frequency == "business day"

    def test_newest_first_is_turned_round(self, csv_file):
        series = from_csv(csv_file("date,a\n2020-01-03,3\n2020-01-02,2\n2020-01-01,1\n"))
        assert series.values[:, 0].tolist() == [1, 2, 3]

    @pytest.mark.parametrize(
        ("dates", "frequency", "gaps"),
        [
            (["2020-01-01 00:00", "2020-01-01 01:00", "2020-01-01 02:00", "2020-01-01 04:00"], "hour", ["2020-01-01T03:00:00"]),
            (["2020-01-03", "2020-01-04", "2020-01-06", "2020-01-07"], "day", ["2020-01-05"]),
            (["2020-01-02", "2020-01-03", "2020-01-06", "2020-01-08", "2020-01-09"], "business day", ["2020-01-07"]),
            (["2020-01-01", "2020-01-08", "2020-01-22", "2020-01-29"], "week", ["2020-01-15"]),
            (["2020-01", "2020-02", "2020-04", "2020-05", "2020-06"], "month", ["2020-03-01"]),
            (["2020/01/01", "2020/01/05", "2020/02/11"], "irregular", []),
        ],
    )
    def test_gaps_in_dates_are_found(self, csv_file, dates, frequency, gaps):
        series = from_csv(csv_file("date,a\n" + "".join(f"{date},1\n" for date in dates)))
        assert series.frequency == frequency
        assert series.gaps().astype(str).tolist() == gaps
        assert ("without a row" in series.source) == bool(gaps)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "no series"),
            ("date,a\n2020-01-01,1\n", "at least two rows"),
            ("date,a\n2020-01-01,1\n2020-01-02,2\n2020-01", "line 4: 1 cells.*cut off"),
            ("date,a\n2020-01-01,1\n01.02.2020,2\n", "line 3: '01.02.2020' is not a date"),
            ("date,a\n2020-01-01,1\n2020-02-30,2\n", "line 3.*not a date"),
            ("date,a\n2020-01-01,1\n2020-01-02,two\n", "line 3: 'two' in column a is not a number"),
            ("date,a\n2020-01-01,1\n2020-01-02,inf\n", "not a number"),
            ("date,a\n2020-01-01,1\n2020-01-03,2\n2020-01-02,2\n2020-01-04,1\n", "line 4.*does not come after"),
            ("date,a\n2020-01-01,1\n2020-01-01,2\n", "does not come after"),
            ("date,a\n2020-01-01,x\n2020-01-02,y\n", "no column of numbers"),
        ],
    )
    def test_what_is_wrong_is_one_sentence(self, csv_file, text, words):
        with pytest.raises(LessonError, match=words) as caught:
            from_csv(csv_file(text))
        assert "\n" not in str(caught.value) and "series.csv" in str(caught.value)

    def test_line_numbers_count_comments(self, csv_file):
        with pytest.raises(LessonError, match="line 4"):
            from_csv(csv_file("# a comment\ndate,a\n2020-01-01,1\n2020-01-02,x\n"))

    def test_missing_column_says_what_there_is(self, csv_file):
        path = csv_file("date,a\n2020-01-01,1\n2020-01-02,2\n")
        with pytest.raises(LessonError, match="no column price; it has date, a"):
            from_csv(path, columns=["price"])
        with pytest.raises(LessonError, match="no column when"):
            from_csv(path, date_column="when")

    def test_missing_file_other_text_and_folder(self, tmp_path, csv_file):
        with pytest.raises(LessonError, match="is not there"):
            from_csv(tmp_path / "nothing.csv")
        with pytest.raises(LessonError, match="UTF-8"):
            from_csv(csv_file("date,a\n2020-01-01,\xe9\n", "latin-1"))
        with pytest.raises(LessonError, match="cannot be read"):
            from_csv(tmp_path)


class TestSeries:
    def test_gaps_are_filled_from_the_past(self):
        values = np.array([[np.nan, 1.0], [2.0, np.nan], [np.nan, np.nan], [3.0, 4.0]])
        series = Series(values, ["a", "b"], np.arange("2020-01-01", "2020-01-05", dtype="datetime64[D]"), "day", 7, "made up")
        np.testing.assert_array_equal(series.filled(), [[np.nan, 1], [2, 1], [2, 1], [3, 4]])
        assert np.isnan(series.values[0, 0])

    def test_parts(self):
        series = seattle_weather()
        assert series[10:20].select("wind").values.tolist() == series.values[10:20, 3:].tolist()
        assert len(series[10:20]) == len(series[10:20].dates) == 10
        with pytest.raises(LessonError, match="no variable rain; there are temp_max"):
            series.select("rain")


class TestFilesOfTheReaders:
    @pytest.mark.parametrize("read", [beijing_pm25, aapl, airline_passengers])
    @pytest.mark.parametrize("source", ["auto", "real", "sample"])
    def test_without_the_file_it_says_where_to_put_it(self, without_data, read, source):
        with pytest.raises(LessonError, match=r"put .*csv \(https.*into datasets/"):
            read(source)

    def test_beijing(self, without_data):
        rows = "1,2010,1,1,23,NA,-21,-11,1021,NW,1.79,0,0\n2,2010,1,2,0,129,-16,-4,1020,SE,1.79,0,0\n"
        (without_data / "pollution.csv").write_text(PM25_HEADER + rows, encoding="utf-8")
        series = beijing_pm25()
        assert series.names[0] == "pm2.5" and series.frequency == "hour" and series.period == 24
        assert np.isnan(series.values[0, 0]) and series.values[1, 0] == 129
        assert series.select("NE", "NW", "SE", "cv").values.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]
        assert series.dates.astype(str).tolist() == ["2010-01-01T23:00:00", "2010-01-02T00:00:00"]

    @pytest.mark.parametrize(
        ("rows", "words"),
        [
            ("1,2010,1,1,23,NA,-21,-11,1021,NW,1.79,0,0\n2,2010,1,2,24,1,-16,-4,1020,SE,1,0,0\n", "line 3: .*no date"),
            ("1,2010,1,1,0,NA,-21,-11,1021,NW,1.79,0,0\n2,2010,1,1,1,9,x,-4,1020,SE,1,0,0\n", "'x' in column DEWP"),
            ("1,2010,1,1,0,NA,-21,-11,1021,NW,1.79,0,0\n2,2010,1,1,1,9,3", "cut off"),
        ],
    )
    def test_damaged_beijing_is_one_sentence(self, without_data, rows, words):
        (without_data / "pollution.csv").write_text(PM25_HEADER + rows, encoding="utf-8")
        with pytest.raises(LessonError, match=words):
            beijing_pm25()

    def test_beijing_without_a_column(self, without_data):
        (without_data / "pollution.csv").write_text("year,month,day,hour\n2010,1,1,0\n2010,1,1,1\n", encoding="utf-8")
        with pytest.raises(LessonError, match="no column cbwd, pm2.5"):
            beijing_pm25()

    @pytest.mark.real_data("beijing_pm25", "aapl", "airline_passengers")
    def test_real_files(self):
        air, apple, passengers = beijing_pm25("real"), aapl("real"), airline_passengers("real")
        assert air.values.shape == (43_824, 11) and np.isnan(air.values[:, 0]).sum() == 2067 and len(air.gaps()) == 0
        assert (
            apple.values.shape == (3019, 5)
            and apple.frequency == "business day"
            and apple.dates[0] == np.datetime64("2006-01-03")
        )
        assert passengers.values[[0, -1], 0].tolist() == [112, 432] and passengers.frequency == "month"
