"""Every data set by name: real when it is there, an honest sample when it is not.

    data = mnist()
    data.train.images   # (60000, 1, 28, 28) uint8
    data.train.labels   # (60000,) int64
    data.source         # "MNIST, official files, datasets/MNIST/raw": print it beside every number

`source` is the flag that every lesson passes on:
    "auto"    the real set where it is on disk (a project may download it), else the sample
    "real"    the real set, downloaded if it must be; never the sample
    "sample"  small, comes with the installed packages, never touches the network

Pictures: mnist, cifar10 (ten classes, 32x32 in colour), hymenoptera (ants and bees).
Time series: seattle_weather, stocks, monthly_prices (always there); beijing_pm25, aapl, airline_passengers; from_csv.
"""

from utils.datasets.images import ImageData, Images, hold_out, nearest_mean_accuracy
from utils.datasets.pictures import cifar10, hymenoptera, mnist
from utils.datasets.series import (
    Series,
    aapl,
    airline_passengers,
    beijing_pm25,
    from_csv,
    monthly_prices,
    seattle_weather,
    stocks,
)
from utils.datasets.sources import Source

__all__ = [
    "ImageData",
    "Images",
    "Series",
    "Source",
    "aapl",
    "airline_passengers",
    "beijing_pm25",
    "cifar10",
    "from_csv",
    "hold_out",
    "hymenoptera",
    "mnist",
    "monthly_prices",
    "nearest_mean_accuracy",
    "seattle_weather",
    "stocks",
]
