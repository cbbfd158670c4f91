"""What comes next? · 다음에는 무엇이 올까

The networks that training saved read a series up to its last row, and say what comes: the median, and the intervals.
학습할 때 저장한 신경망이 시계열을 마지막 행까지 읽고, 다음에 올 값의 중앙값과 예측 구간을 답한다.

Run        python -m study run project7/predict                       (after python -m study run project7)
           python -m study run project7/predict --name stocks
           python -m study run project7/predict --csv sales.csv       (with newer rows than it was trained on, for example)
"""

from pathlib import Path

import torch

from project7_forecasting.data import SETS, Task, load, load_csv
from project7_forecasting.model import LEVELS, fits, load_forecaster
from utils import paths
from utils.device import pick_device
from utils.lesson import check, run


def find_file(name: str | None, csv: Path | None) -> Path:
    """The saved networks of a series; without a name the only ones, or the first of the course's.

    Raises:
        LessonError: There are none of that name, or none at all.
    """
    folder = paths.models("project7_forecasting")
    there = sorted(path.stem for path in folder.glob("*.pt") if path.stem != "backtests")
    check(bool(there), "there are no trained networks yet: run `python -m study run project7` first")
    name = name or (csv.stem if csv else next((known for known in SETS if known in there), there[0]))
    check(name in there, f"no networks were trained for {name}; there are some for {', '.join(there)}: choose with --name")
    return folder / f"{name}.pt"


def read_task(about: dict, csv: Path | None) -> Task:
    """The series, prepared as it was for training."""
    options, plan = about["options"], vars(about["plan"])
    if options is None:
        yours = "for a file of your own, run `python -m study run project7 --csv FILE` first"
        check(csv is None, f"these networks forecast {about['name']}; {yours}")
        return load(about["name"], **plan)
    check(csv is not None, f"these networks were trained on a file of yours, {about['name']}: name it with --csv")
    return load_csv(csv, **options, **plan)


def main(name: str | None = None, csv: Path | None = None, model: Path | None = None, device: str = "auto") -> dict[str, float]:
    """Forecast what comes after the last row.

    Args:
        name: Of the series.
        csv: A file of yours with the columns on which networks were trained.
        model: The networks; without it, those that `python -m study run project7` saved under the name.
        device: "auto", "cpu", "cuda" or "mps".
    """
    where = pick_device(device)
    forecaster, about = load_forecaster(model or find_file(name, csv), where)
    task = read_task(about, csv).to(where)
    fits(task, about)
    quantiles = forecaster(task, torch.tensor([len(task) - 1], device=where))[0].cpu()  # (horizon, levels)
    print(f"trained on: {about['source']}\nread:       {task.source}")
    print(f"on its test periods the error was {about['error']:.4g} {task.unit}, {about['ratio']:.0%} of the best simple rule's\n")
    print(f"{'':19} {'median':>10}   " + "   ".join(f"{level:>8.0%}" for level in LEVELS.tolist()))
    for date, row in zip(task.dates[len(task) :], quantiles.tolist(), strict=True):
        told = "   ".join(f"{value:8.4g}" for value in row)
        print(f"{str(date).removesuffix(':00:00').replace('T', ' '):19} {row[len(row) // 2]:10.4g}   {told}")
    middle = quantiles[:, len(LEVELS) // 2]
    return {"first": middle[0].item(), "last": middle[-1].item(), "width_last": (quantiles[-1, -1] - quantiles[-1, 0]).item()}


if __name__ == "__main__":
    run(main)
