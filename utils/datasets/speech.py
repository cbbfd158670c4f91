"""Spoken digits: who said which digit, as waves. The Free Spoken Digit Dataset, or voices that are computed where it is not.

data = fsdd("auto")
data.train.waves[0], data.train.labels[0], data.train.speakers[0]     # (n,) float32 in -1..1, 7, "jackson"

`spoken_digits` makes as many clips of computed voices as are wanted, in English or Korean (`utils.datasets.formant_voices`).
"""

import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from utils import paths
from utils.datasets import cache, formant_voices
from utils.datasets.formant_voices import DIGITS, make_voice, say
from utils.datasets.sources import Source
from utils.lesson import LessonError, check, mention
from utils.sound import read_wav

Language = Literal["en", "ko"]

PAGE = "https://github.com/Jakobovski/free-spoken-digit-dataset"
PLACES = (
    *(f"{folder}/recordings" for folder in ("fsdd", "free-spoken-digit-dataset", "free-spoken-digit-dataset-master")),
    *(f"fsdd/{name}" for name in ("recordings.tar", "recordings.tar.gz")),
)
NAME = re.compile(r"(\d)_([^_/]+)_(\d+)\.wav")  # 7_jackson_32.wav: digit, speaker, take
RATE = 8000
TEST_TAKES = range(5)  # the usual test: takes 0 to 4 of every digit and speaker
TRAIN_VOICES, VALIDATION_VOICES, TEST_VOICES = range(90), range(500, 515), range(1000, 1020)


@dataclass(frozen=True)
class Clips:
    """Recordings of one digit each.

    Attributes:
        waves: Each (n,) float32 in -1..1.
        labels: The digits, (clips,) int64.
        speakers: Who speaks, one name for each clip.
        takes: How often that speaker had said that digit before, (clips,) int64.
        rate: Samples a second.
    """

    waves: list[Tensor]
    labels: Tensor
    speakers: list[str]
    takes: Tensor
    rate: int

    def __len__(self) -> int:
        return len(self.waves)

    def at(self, chosen: Tensor) -> "Clips":
        """Some of them; `chosen` are numbers, or a mask (clips,)."""
        numbers = torch.arange(len(self))[chosen]
        waves, speakers = ([items[number] for number in numbers.tolist()] for items in (self.waves, self.speakers))
        return Clips(waves, self.labels[numbers], speakers, self.takes[numbers], self.rate)

    def by(self, speaker: str) -> Tensor:
        """Mask of the clips (clips,) in which this one speaks."""
        return torch.tensor([name == speaker for name in self.speakers])


@dataclass(frozen=True)
class SpeechData:
    """Spoken digits to learn from, to choose settings on, and to test on.

    Attributes:
        train, validation, test: Clips.
        words: What is said for 0 to 9.
        source: One line that says what was really loaded. Belongs beside every number that is reported.
        is_real: False for computed voices.
    """

    train: Clips
    validation: Clips
    test: Clips
    words: Sequence[str]
    source: str
    is_real: bool


def fsdd(source: Source = "auto", language: Language = "en") -> SpeechData:
    """The Free Spoken Digit Dataset (Jackson and others, 2016): 3,000 recordings, 6 speakers, 8 kHz; or computed voices.

    The usual test are takes 0 to 4 (300 recordings, by the same people as those to learn from); takes 5 to 9 are held out for
    validation. Of the computed voices, those of the test are other ones than those of training.

    Args:
        source: "auto", "real" or "sample".
        language: Of the computed voices: "en" or "ko". The recordings are in English.

    Raises:
        LessonError: A recording is damaged, or source="real" and they are not there.
    """
    check(language in DIGITS, f"the voices speak {' and '.join(DIGITS)}, not {language!r}")
    place = None if source == "sample" or language != "en" else find_fsdd()
    if place is None:
        wanted = f"the Free Spoken Digit Dataset is not there: unpack it ({PAGE}) as datasets/free-spoken-digit-dataset/"
        check(source != "real" or language == "en", "the real recordings are in English; --language ko has computed voices only")
        check(source != "real", wanted)
        data = _computed(language)
    else:
        data = _recorded(place)
    mention("data", data.source)
    return data


def find_fsdd() -> Path | None:
    """The folder or the archive with the recordings, in datasets/ or $STUDY_DATA_DIR, or None."""
    places = (folder / place for folder in paths.data_folders() for place in PLACES)
    return next((place for place in places if place.exists()), None)


def read_fsdd(place: Path) -> Clips:
    """Read all recordings, sorted by digit, speaker and take.

    Args:
        place: The folder `recordings` with 7_jackson_32.wav and so on, or a tar of it, packed or not; it is read as it is.

    Raises:
        LessonError: There are none, or one is damaged or at another rate than the first one.
    """
    clips = []
    for name, content in _files(place):
        if found := NAME.fullmatch(name):
            try:
                wave, rate = read_wav(content)
            except LessonError as error:
                problem = str(error).removeprefix("the recording ")
                raise LessonError(f"{paths.short(place)}: {name} {problem}; the file was left as it is") from None
            clips.append((int(found[1]), found[2], int(found[3]), wave, rate))
    check(len(clips) > 0, f"{paths.short(place)} holds no recordings with names such as 7_jackson_32.wav")
    clips.sort(key=lambda clip: clip[:3])
    digits, speakers, takes, waves, rates = zip(*clips, strict=True)
    check(len(set(rates)) == 1, f"{paths.short(place)} holds recordings of several rates: {sorted(set(rates))} a second")
    return Clips(list(waves), torch.tensor(digits), list(speakers), torch.tensor(takes), rates[0])


def spoken_digits(
    voices: Sequence[int],
    takes: int = 5,
    language: Language = "en",
    rate: int = RATE,
    seed: int = 0,
    decibels: tuple[float, float] = (0.0, 25.0),
) -> Clips:
    """Every digit, said by computed voices, with a noisy room around them; as loud or faint as it happens.

    Args:
        voices: Their numbers; other numbers are other voices.
        takes: How often each of them says each digit.
        language: "en" or "ko".
        rate: Samples a second.
        seed: Of the takes and of the noise.
        decibels: How much louder the voice is than the noise, from so much to so much.
    """
    random = np.random.default_rng([seed, 7])
    waves, labels, speakers, numbers = [], [], [], []
    for number in voices:
        voice = make_voice(number)
        for take in range(takes):
            for digit, word in enumerate(DIGITS[language]):
                wave = say([word], voice, rate, seed=int(random.integers(2**31))).numpy()
                waves.append(torch.from_numpy(_in_a_room(wave, random, decibels)))
                labels.append(digit)
                speakers.append(voice.name)
                numbers.append(take)
    return Clips(waves, torch.tensor(labels), speakers, torch.tensor(numbers), rate)


def _in_a_room(wave: np.ndarray, random: np.random.Generator, decibels: tuple[float, float]) -> np.ndarray:
    """Add noise (white, or deeper as of wind and fans), and turn the whole up or down."""
    noise = random.standard_normal(len(wave))
    if random.random() < 0.5:
        noise = np.convolve(noise, np.exp(-np.arange(20) / 4), mode="same")
    level = np.sqrt(np.square(wave).mean() / np.square(noise).mean()) * 10 ** (-random.uniform(*decibels) / 20)
    return (random.uniform(0.1, 1.0) * (wave + level * noise)).clip(-1, 1).astype(np.float32)


# -------------------------------------------------------------------------------------------------- what fsdd puts together


def _computed(language: Language) -> SpeechData:
    parts = {"train": (TRAIN_VOICES, 2), "validation": (VALIDATION_VOICES, 2), "test": (TEST_VOICES, 5)}
    key = cache.fingerprint([Path(__file__), Path(formant_voices.__file__)], language, parts)

    def make(name: str) -> Clips:
        voices, takes = parts[name]
        return _kept(f"voices-{language}-{name}", key, lambda: spoken_digits(voices, takes, language, seed=voices[0]))

    train, validation, test = (make(name) for name in parts)
    source = (
        f"computed voices, {language} ({len(train):,} + {len(test):,} clips by {len(TRAIN_VOICES)} and {len(TEST_VOICES)} voices)"
    )
    return SpeechData(train, validation, test, DIGITS[language], source, is_real=False)


def _recorded(place: Path) -> SpeechData:
    key = cache.fingerprint([place, Path(__file__)])
    clips = _kept("fsdd", key, lambda: read_fsdd(place)) if place.is_file() else read_fsdd(place)
    is_test = torch.isin(clips.takes, torch.tensor(TEST_TAKES))
    check(bool(is_test.any()), f"{paths.short(place)} holds none of the takes 0 to 4, which are the usual test")
    is_validation = torch.isin(clips.takes, torch.tensor(TEST_TAKES) + len(TEST_TAKES))
    check(bool((~is_test & ~is_validation).any()), f"{paths.short(place)} holds no take after the 9th to learn from")
    whole = "Free Spoken Digit Dataset" if len(clips) == 3000 else "a part of the Free Spoken Digit Dataset"
    people = len(set(clips.speakers))
    source = f"{whole} ({int((~is_test).sum()):,} + {int(is_test.sum()):,} recordings by {people} people), {paths.short(place)}"
    parts = (clips.at(mask) for mask in (~is_test & ~is_validation, is_validation, is_test))
    return SpeechData(*parts, words=DIGITS["en"], source=source, is_real=True)


def _kept(name: str, key: str, make: Callable[[], Clips]) -> Clips:
    """Clips from the last run's file, all waves in one row of 16-bit numbers; made anew where the key is another one."""

    def arrays() -> cache.Arrays:
        clips = make()
        samples = (torch.cat(clips.waves) * 32768).round().clamp(-32768, 32767).to(torch.int16)
        return {
            "samples": samples.numpy(),
            "lengths": np.array([len(wave) for wave in clips.waves]),
            "labels": clips.labels.numpy(),
            "speakers": np.array(clips.speakers),
            "takes": clips.takes.numpy(),
            "rate": np.array(clips.rate),
        }

    found = cache.kept(name, key, arrays)
    waves = (torch.from_numpy(found["samples"]).float() / 32768).split(found["lengths"].tolist())
    labels, takes = (torch.from_numpy(found[name]) for name in ("labels", "takes"))
    return Clips(list(waves), labels, found["speakers"].tolist(), takes, int(found["rate"]))


def _files(place: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file ending in .wav in a folder or a tar."""
    if place.is_dir():
        for path in sorted(place.glob("*.wav")):
            yield path.name, path.read_bytes()
        return
    try:
        with tarfile.open(place) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(".wav"):
                    yield Path(member.name).name, archive.extractfile(member).read()
    except FileNotFoundError:
        raise LessonError(f"{paths.short(place)} is not there") from None
    except (tarfile.TarError, EOFError) as error:
        raise LessonError(f"{paths.short(place)} is damaged ({error}): get it again from {PAGE}; it was left as it is") from None
