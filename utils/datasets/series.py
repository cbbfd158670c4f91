"""Time series: values with their dates, missing ones as NaN. Filling them is left to the lesson, for it needs a reason.

series = seattle_weather()          # comes with the vega-datasets package, always there
series.values                       # (1461, 4) float64, a row a day
series.names, series.dates          # ["temp_max", ...], numpy datetime64[D]

series = from_csv("sales.csv")      # any CSV file with a column of dates
"""

import csv
import importlib.metadata
import importlib.util
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from utils import catalogue, paths
from utils.datasets.sources import Source
from utils.lesson import LessonError, explain, mention

PERIODS = {"hour": 24, "day": 365, "business day": 5, "week": 52, "month": 12}
MISSING = ("", "na", "nan", "null", "none")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True)
class Series:
    """Variables measured at the same times.

    Attributes:
        values: (time, variables) float64; NaN where nothing was measured.
        names: One for each variable.
        dates: (time,) numpy datetime64, strictly rising.
        frequency: "hour", "day", "business day", "week", "month", or "irregular".
        period: Rows in a season: 24 for hours, 365 for days, 5 for business days, 52 for weeks, 12 for months.
        source: One line that says what was really loaded. Belongs beside every number that is reported.
        is_real: False for numbers that somebody made up.
    """

    values: np.ndarray
    names: list[str]
    dates: np.ndarray
    frequency: str
    period: int
    source: str
    is_real: bool = True

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> "Series":
        """A stretch of time."""
        return replace(self, values=self.values[rows], dates=self.dates[rows])

    def select(self, *names: str) -> "Series":
        """Some of the variables, in this order.

        Raises:
            LessonError: There is no variable of that name.
        """
        for name in names:
            if name not in self.names:
                raise LessonError(f"there is no variable {name}; there are {', '.join(self.names)}")
        return replace(self, values=self.values[:, [self.names.index(name) for name in names]], names=list(names))

    def filled(self) -> np.ndarray:
        """The values with the last measured number in every gap: what somebody would have known at that time. (time, variables)

        What is missing at the beginning stays NaN: nothing was known then.
        """
        rows = np.arange(len(self.values))[:, None] * ~np.isnan(self.values)  # 0 in a gap
        return np.take_along_axis(self.values, np.maximum.accumulate(rows, axis=0), axis=0)

    def gaps(self) -> np.ndarray:
        """The dates between the first and the last for which there is no row; none if the frequency is irregular."""
        return np.setdiff1d(_every_date(self.dates, self.frequency), self.dates)


def _every_date(dates: np.ndarray, frequency: str) -> np.ndarray:
    first, last = dates[0], dates[-1]
    if frequency == "month":
        day = first - first.astype("datetime64[M]")  # all months begin on the day on which the first does
        return (np.arange(first.astype("datetime64[M]"), last.astype("datetime64[M]") + 1) + day).astype(dates.dtype)
    if frequency == "business day":
        days = np.arange(first.astype("datetime64[D]"), last.astype("datetime64[D]") + 1)
        return days[np.is_busday(days)].astype(dates.dtype)
    if frequency == "irregular":
        return dates
    step = {"hour": np.timedelta64(1, "h"), "day": np.timedelta64(1, "D"), "week": np.timedelta64(7, "D")}[frequency]
    return np.arange(first, last + step, step).astype(dates.dtype)


def _frequency_of(dates: np.ndarray) -> str:
    """What the distances between dates say; most of them decide, so that gaps do not matter."""
    distances = np.diff(dates).astype("timedelta64[s]").astype(np.int64)
    hours = Counter((distances / 3600).tolist()).most_common(1)[0][0]
    days = dates.astype("datetime64[D]")
    if hours == 1:
        return "hour"
    if hours == 24:
        weekends = not np.is_busday(np.arange(days[0], days[-1])).all()  # at least one lies between the first and the last date
        return "business day" if weekends and np.is_busday(days).all() else "day"
    if hours == 7 * 24:
        return "week"
    same_day = len(np.unique(days - days.astype("datetime64[M]").astype("datetime64[D]"))) == 1
    return "month" if same_day and 28 * 24 <= hours <= 31 * 24 else "irregular"


# --------------------------------------------------------------------------------------------------- any CSV file


def from_csv(
    path: str | Path,
    columns: Sequence[str] | None = None,
    date_column: str | None = None,
    date_format: str | None = None,
    period: int | None = None,
    title: str | None = None,
) -> Series:
    """Read any CSV file that has a header, a column of dates and columns of numbers.

    Empty cells and NA are missing values. A file whose newest row comes first is turned round. Lines that begin with # are
    comments.

    Args:
        path: The file, in UTF-8, with or without a byte-order mark.
        columns: Names of the variables; without it every column whose first entry is a number.
        date_column: Without it the first column called date, time, month or the like, else the first column.
        date_format: As in `datetime.strptime`, for example "%d-%m-%y". Without it dates are read as ISO 8601 writes them, year
            first: 2012-01-31, 2012/01/31, 2012-01, 2012-01-31 14:00.
        period: Rows in a season; without it what is usual for the distance between the dates.
        title: How `source` calls the data; without it the file's name.

    Raises:
        LessonError: The file is missing, damaged, or has other columns.
    """
    return _mentioned(_table(Path(path).expanduser(), columns, date_column, date_format, period, title))


def _table(
    path: Path,
    columns: Sequence[str] | None = None,
    date_column: str | None = None,
    date_format: str | None = None,
    period: int | None = None,
    title: str | None = None,
) -> Series:
    header, rows = _read_csv(path)
    if date_column is None:
        named = [name for name in header if name.strip().lower() in ("date", "datetime", "time", "timestamp", "month", "ds")]
        date_column = (named or header)[0]
    missing = [name for name in (date_column, *(columns or ())) if name not in header]
    if missing:
        raise LessonError(f"{paths.short(path)} has no column {', '.join(missing)}; it has {', '.join(header)}")
    at = header.index(date_column)
    dates = [_date(row[at], date_format, f"{paths.short(path)}, line {line}") for line, row in rows]
    if columns is None:
        columns = [name for name in header if name != date_column and _begins_with_number(rows, header.index(name))]
        if not columns:
            raise LessonError(f"{paths.short(path)} has no column of numbers beside {date_column}")
    places = [header.index(name) for name in columns]
    values = [[_number(row[place], path, line, header[place]) for place in places] for line, row in rows]
    return _series(values, list(columns), dates, [line for line, _ in rows], path, period, title)


def _read_csv(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and for every row its line number and cells."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader("\n" if line.startswith("#") else line for line in file)  # so that the lines keep their numbers
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except FileNotFoundError:
        raise LessonError(f"{paths.short(path)} is not there") from None
    except UnicodeDecodeError:
        raise LessonError(f"{paths.short(path)} is not text in UTF-8; save it as CSV UTF-8 and try again") from None
    except csv.Error as error:
        raise LessonError(f"{paths.short(path)} is not a CSV file ({error})") from None
    except OSError as error:
        raise LessonError(f"{paths.short(path)} cannot be read: {explain(error)}") from None
    if len(rows) < 3:
        raise LessonError(f"{paths.short(path)} is no series: expected a header and at least two rows, found {len(rows)} lines")
    (_, header), *rows = rows
    for line, row in rows:
        if len(row) != len(header):
            raise LessonError(
                f"{paths.short(path)}, line {line}: {len(row)} cells, but the header has {len(header)}; is the file cut off?"
            )
    return header, rows


def _date(text: str, date_format: str | None, where: str) -> datetime:
    try:
        if date_format is not None:
            found = datetime.strptime(text, date_format)
        else:
            iso = text.replace("/", "-").removesuffix("Z") + ("+00:00" if text.endswith("Z") else "")  # as Python 3.10 reads it
            found = datetime.fromisoformat(f"{iso}-01" if len(iso) == 7 else iso)  # a month is its first day
    except ValueError:
        expected = date_format or "year-month-day; a date_format such as %d-%m-%y reads others"
        raise LessonError(f"{where}: {text!r} is not a date ({expected})") from None
    if found.tzinfo is not None:  # with them the hours of a day would be another place's, or differ from row to row
        raise LessonError(f"{where}: {text!r} has a time zone; write all dates in one, and leave it out")
    return found


def _begins_with_number(rows: list[tuple[int, list[str]]], place: int) -> bool:
    first = next((row[place] for _, row in rows if row[place].lower() not in MISSING), None)
    try:
        return first is not None and math.isfinite(float(first))
    except ValueError:
        return False


def _number(text: str, path: Path, line: int, name: str) -> float:
    if text.lower() in MISSING:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        number = math.inf
    if not math.isfinite(number):
        raise LessonError(f"{paths.short(path)}, line {line}: {text!r} in column {name} is not a number")
    return number


def _series(
    values: list, names: list[str], dates: list[datetime], lines: list[int], path: Path, period: int | None, title: str | None
) -> Series:
    """Put the rows in order, find the frequency, and say what was loaded."""
    if dates[0] > dates[-1]:
        values, dates, lines = values[::-1], dates[::-1], lines[::-1]
    for (before, after), line in zip(itertools.pairwise(dates), lines[1:], strict=True):
        if after <= before:
            raise LessonError(f"{paths.short(path)}, line {line}: the date {after} does not come after {before}")
    times = np.array(dates, dtype="datetime64[s]")
    days = times.astype("datetime64[D]")
    times = days if (days == times).all() else times
    frequency = _frequency_of(times)
    series = Series(
        np.array(values, dtype=np.float64),
        names,
        times,
        frequency,
        period or PERIODS.get(frequency, 1),
        source=title or path.stem,
    )
    rows = f"{len(series):,} rows" if frequency == "irregular" else f"{len(series):,} {frequency}s"
    gaps = f", {len(series.gaps()):,} dates without a row" if len(series.gaps()) else ""
    empty = int(np.isnan(series.values).any(axis=1).sum())
    holes = f", {empty:,} rows with missing values" if empty else ""
    span = f"{days[0]} to {days[-1]}"
    return replace(series, source=f"{series.source} ({rows}, {span}{gaps}{holes}), {paths.short(path)}")


# ---------------------------------------------------------------------------- series that come with installed packages


def seattle_weather() -> Series:
    """Four years of Seattle's weather, 2012 to 2015, a row a day: temp_max, temp_min (°C), precipitation (mm), wind (m/s).

    Measured by NOAA; comes with vega-datasets.
    """
    path, version = _vega("seattle-weather.csv")
    columns = ["temp_max", "temp_min", "precipitation", "wind"]
    return _mentioned(_table(path, columns, title="Seattle weather"), version)


def stocks() -> Series:
    """Monthly prices in dollars of five companies, 2000 to 2010: AAPL, AMZN, GOOG (NaN before August 2004), IBM, MSFT.

    Comes with vega-datasets.
    """
    path, version = _vega("stocks.csv")
    header, rows = _read_csv(path)
    if header != ["symbol", "date", "price"]:
        raise LessonError(f"{path} is another version than this course reads; `pip install vega-datasets==0.9.0` brings it back")
    prices: dict[datetime, dict[str, float]] = {}
    for line, (symbol, date, price) in rows:
        month, _, year = date.split()  # "Jan 1 2000"; strptime would want January in the reader's language
        when = datetime(int(year), MONTHS.index(month) + 1, 1)
        prices.setdefault(when, {})[symbol] = _number(price, path, line, symbol)
    names = sorted({symbol for _, (symbol, *_) in rows})
    dates = sorted(prices)
    values = [[prices[date].get(name, math.nan) for name in names] for date in dates]
    return _mentioned(_series(values, names, dates, list(range(len(dates))), path, None, "Stocks"), version)


def monthly_prices() -> Series:
    """Monthly prices in dollars from 1990 to 2022: eight companies (NaN before they are listed) and the indices ^GSPC and ^IXIC.

    Comes with matplotlib (Stocks.csv). Rows that only mark a dividend, and the last one, which begins no month, are left out.
    """
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "sample_data" / "Stocks.csv"
    series = _table(path, title="Stocks")
    rows = ~np.isnan(series.values).all(axis=1) & (series.dates == series.dates.astype("datetime64[M]"))
    source = f"Stocks.csv ({rows.sum()} months, 1990 to 2022), matplotlib {matplotlib.__version__}"
    mention("data", source)
    return replace(series, values=series.values[rows], dates=series.dates[rows], frequency="month", period=12, source=source)


def _vega(name: str) -> tuple[Path, str]:
    """A file of vega-datasets, without importing it: it would import pandas. And the package's name and version."""
    spec = importlib.util.find_spec("vega_datasets")
    path = Path(spec.origin).parent / "_data" / name if spec and spec.origin else None
    if path is None or not path.exists():
        raise LessonError(
            f"{name} comes with the package vega-datasets, which is missing here; `python -m study setup` installs it"
        )
    return path, f"vega-datasets {importlib.metadata.version('vega-datasets')}"


def _mentioned(series: Series, package: str | None = None) -> Series:
    """Note the source for the report; what comes with a package is named by the package instead of a path."""
    if package is not None:
        series = replace(series, source=f"{series.source.rpartition(', ')[0]}, {package}")
    mention("data", series.source)
    return series


# --------------------------------------------------------------------------- series that lie in datasets/, if anywhere


def beijing_pm25(source: Source = "auto") -> Series:
    """Beijing's fine dust (µg/m³) and weather, 2010 to 2014, a row an hour (Liang et al., 2015).

    The variables: pm2.5 (2,067 hours are missing), DEWP dew point (°C), TEMP (°C), PRES (hPa), Iws cumulated wind speed (m/s),
    Is and Ir hours of snow and rain so far, and the wind's direction as four columns of 0 and 1: NE, NW, SE, cv (calm or
    variable).

    Args:
        source: "auto" and "real" read the file; there is no sample.

    Raises:
        LessonError: The file is not there, or damaged.
    """
    path = _find("beijing_pm25", "pm25", source)
    header, rows = _read_csv(path)
    numbers = ["pm2.5", "DEWP", "TEMP", "PRES", "Iws", "Is", "Ir"]
    missing = [name for name in ("year", "month", "day", "hour", "cbwd", *numbers) if name not in header]
    if missing:
        raise LessonError(f"{paths.short(path)} has no column {', '.join(missing)}; it has {', '.join(header)}")
    at = {name: place for place, name in enumerate(header)}
    values, dates = [], []
    for line, row in rows:
        try:
            dates.append(datetime(*(int(row[at[name]]) for name in ("year", "month", "day", "hour"))))
        except ValueError as error:
            raise LessonError(f"{paths.short(path)}, line {line}: year, month, day and hour are no date ({error})") from None
        directions = [float(row[at["cbwd"]] == name) for name in ("NE", "NW", "SE", "cv")]
        values.append([*(_number(row[at[name]], path, line, name) for name in numbers), *directions])
    lines = [line for line, _ in rows]
    return _mentioned(_series(values, [*numbers, "NE", "NW", "SE", "cv"], dates, lines, path, None, "Beijing PM2.5"))


def aapl(source: Source = "auto") -> Series:
    """Apple's share, 2006 to 2017, a row a trading day: Close, Open, High, Low (dollars) and Volume (shares).

    Args:
        source: "auto" and "real" read the file; there is no sample.

    Raises:
        LessonError: The file is not there, or damaged.
    """
    columns = ["Close", "Open", "High", "Low", "Volume"]
    path = _find("aapl", "aapl", source)
    return _mentioned(_table(path, columns, date_column="Date", date_format="%d-%m-%y", title="AAPL"))


def airline_passengers(source: Source = "auto") -> Series:
    """Thousands of international airline passengers, 1949 to 1960, a row a month (Box and Jenkins, 1976).

    Args:
        source: "auto" and "real" read the file; there is no sample.

    Raises:
        LessonError: The file is not there, or damaged.
    """
    path = _find("airline_passengers", "airline", source)
    return _mentioned(_table(path, ["Passengers"], date_column="Month", title="Airline passengers"))


def _find(name: str, flag: str, source: Source) -> Path:
    path = None if source == "sample" else catalogue.find(name)
    if path is None:
        entry = catalogue.CATALOGUE[name]
        raise LessonError(
            f"{name} has no sample and its file is not here: put {entry.places[0]} ({entry.homepage}) into datasets/ or "
            f"$STUDY_DATA_DIR; seattle_weather and monthly_prices need no file"
        )
    return path
