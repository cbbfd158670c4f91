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
Texts: tinyshakespeare. Reviews: imdb, nsmc, rt_polarity. Translations: multi30k, korean_english.
Boxes: bccd (blood cells); read_voc and read_coco for any other set. Masks: camvid (11 classes). Style transfer: style_pictures.
Drawn, with boxes and masks: scenes_with_boxes, scenes_with_masks, draw_scenes.
News with summaries: bbc_news. Dialogues: chatterbot (always there), korean_chat, daily_dialog.
Ratings: movielens (100k and 1m); people with known tastes are in utils.datasets.simulated_ratings.
Speech: fsdd (spoken digits), spoken_digits (computed voices).
Time series: seattle_weather, stocks, monthly_prices (always there); beijing_pm25, aapl, airline_passengers; from_csv.
"""

from utils.datasets.detection import bccd, read_coco, read_voc
from utils.datasets.dialogues import DialogueData, chatterbot, daily_dialog, korean_chat
from utils.datasets.images import ImageData, Images, hold_out, nearest_mean_accuracy
from utils.datasets.news import Article, NewsData, bbc_news
from utils.datasets.pictures import cifar10, hymenoptera, mnist
from utils.datasets.ratings import RatingData, movielens
from utils.datasets.reviews import TextData, Texts, imdb, nsmc, rt_polarity
from utils.datasets.scenes import draw_scenes, scenes_with_boxes, scenes_with_masks
from utils.datasets.segmentation import camvid
from utils.datasets.sentence_pairs import PairData, korean_english, multi30k
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
from utils.datasets.speech import Clips, SpeechData, fsdd, spoken_digits
from utils.datasets.styles import StyleData, style_pictures
from utils.datasets.texts import Text, tinyshakespeare

__all__ = [
    "Article",
    "Clips",
    "DialogueData",
    "ImageData",
    "Images",
    "NewsData",
    "PairData",
    "RatingData",
    "Series",
    "Source",
    "SpeechData",
    "StyleData",
    "Text",
    "TextData",
    "Texts",
    "aapl",
    "airline_passengers",
    "bbc_news",
    "bccd",
    "beijing_pm25",
    "camvid",
    "chatterbot",
    "cifar10",
    "daily_dialog",
    "draw_scenes",
    "from_csv",
    "fsdd",
    "hold_out",
    "hymenoptera",
    "imdb",
    "korean_chat",
    "korean_english",
    "mnist",
    "monthly_prices",
    "movielens",
    "multi30k",
    "nearest_mean_accuracy",
    "nsmc",
    "read_coco",
    "read_voc",
    "rt_polarity",
    "scenes_with_boxes",
    "scenes_with_masks",
    "seattle_weather",
    "spoken_digits",
    "stocks",
    "style_pictures",
    "tinyshakespeare",
]
