"""Strings of spoken digits, put together from recordings of single ones: with pauses, run together, or none at all.

data = load("auto")
data.clips.train    # single digits, of which StringBatches makes new strings in every step
data.apart          # Strings to test on, always the same; so is data.together
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from project10_speech.features import add_noise, change_speed
from utils.datasets import Source
from utils.datasets.speech import Clips, SpeechData, fsdd
from utils.lesson import check

SPEEDS = (0.9, 1.0, 1.1)
DIGITS = 10  # CTC's symbol 0 is the blank, digit d is symbol d + 1


class Manner(NamedTuple):
    """How strings are said.

    Attributes:
        fewest, most: Digits.
        pause: Seconds between two digits, from so many to so many; below 0 they overlap.
        around: Seconds of background before and behind.
        decibels: How much louder speech is than the background.
        silent: The share of strings in which nobody speaks.
    """

    fewest: int
    most: int
    pause: tuple[float, float]
    around: tuple[float, float] = (0.05, 0.5)
    decibels: tuple[float, float] = (15.0, 40.0)
    silent: float = 0.0


LEARNED = Manner(1, 5, (-0.08, 0.3), decibels=(5.0, 40.0), silent=0.06)  # so that nothing is heard where nobody speaks
APART = Manner(3, 7, (0.12, 0.3))
TOGETHER = Manner(3, 7, (-0.08, 0.02))


@dataclass(frozen=True)
class Strings:
    """Waves with several digits each.

    Attributes:
        waves: Each (n,) float32.
        digits: What is said in each, 0 to 9.
        rate: Samples a second.
    """

    waves: list[Tensor]
    digits: list[list[int]]
    rate: int

    def __len__(self) -> int:
        return len(self.waves)


@dataclass(frozen=True)
class StringData:
    """To learn from, to choose by, and to test on.

    Attributes:
        clips: Single digits, of which the strings are made; the splits share none.
        validation: Strings of both manners.
        apart, together: Test strings, with pauses and without.
    """

    clips: SpeechData
    validation: Strings
    apart: Strings
    together: Strings


def load(source: Source, strings: int = 150) -> StringData:
    """Put strings together from recordings (FSDD), or from computed voices.

    Args:
        source: "auto", "real" or "sample".
        strings: Of each manner to test on, and half as many of each to choose by.
    """
    check(strings >= 2, "--strings must be at least 2")
    clips = fsdd(source)
    half = [make_strings(clips.validation, strings // 2, manner, seed=1) for manner in (APART, TOGETHER)]
    validation = Strings(half[0].waves + half[1].waves, half[0].digits + half[1].digits, half[0].rate)
    apart, together = (make_strings(clips.test, strings, manner, seed=2) for manner in (APART, TOGETHER))
    return StringData(clips, validation, apart, together)


def make_strings(clips: Clips, count: int, manner: Manner, seed: int) -> Strings:
    """So many strings, always the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    by_speaker = speakers_of(clips)
    made = [make_string(clips, by_speaker, manner, generator) for _ in range(count)]
    return Strings([wave for wave, _ in made], [digits for _, digits in made], clips.rate)


def speakers_of(clips: Clips) -> list[Tensor]:
    """The numbers of each speaker's clips."""
    return [clips.by(name).nonzero()[:, 0] for name in dict.fromkeys(clips.speakers)]


def make_string(clips: Clips, by_speaker: list[Tensor], manner: Manner, generator: torch.Generator) -> tuple[Tensor, list[int]]:
    """One person says some digits, one after the other, in a room that is not quite silent.

    Returns:
        The wave (n,), its loudest sample anywhere from 0.1 to 1, and the digits.
    """
    mine = by_speaker[_whole(0, len(by_speaker) - 1, generator)]
    is_silent = torch.rand((), generator=generator).item() < manner.silent
    count = 0 if is_silent else _whole(manner.fewest, manner.most, generator)
    chosen = mine[torch.randint(len(mine), (count,), generator=generator)].tolist()
    start, pieces, begins = round(_uniform(manner.around, generator) * clips.rate), [], []
    for number in chosen:
        piece = clips.waves[number]
        pieces.append(piece / piece.abs().max().clamp(min=1e-4) * _uniform((0.5, 1.0), generator))
        begins.append(max(0, start))
        start += len(piece) + round(_uniform(manner.pause, generator) * clips.rate)
    end = max((begin + len(piece) for begin, piece in zip(begins, pieces, strict=True)), default=clips.rate // 2)
    wave = torch.zeros(end + round(_uniform(manner.around, generator) * clips.rate))
    for begin, piece in zip(begins, pieces, strict=True):
        wave[begin : begin + len(piece)] += piece  # where two overlap, both are heard
    noise = background(len(wave), generator)
    if chosen:
        wave = add_noise(wave[None], noise[None], torch.tensor([_uniform(manner.decibels, generator)]))[0]
    else:
        wave = noise
    wave = wave / wave.abs().max().clamp(min=1e-4) * _uniform((0.1, 1.0), generator)
    return wave, clips.labels[chosen].tolist()


def background(samples: int, generator: torch.Generator) -> Tensor:
    """Noise (samples,), from white to as deep as wind and fans: a piece of one of `backgrounds`, from anywhere in it."""
    noises = backgrounds()
    noise = noises[_whole(0, len(noises) - 1, generator)]
    start = _whole(0, len(noise) - 1, generator)
    return noise.roll(-start)[:samples] if samples <= len(noise) else noise.repeat(samples // len(noise) + 1)[:samples]


@functools.cache
def backgrounds(kinds: int = 16, samples: int = 80_000) -> Tensor:
    """Noises (kinds, samples), each deeper than the one before. Made once: to filter one for every string would take long."""
    noise = torch.randn(kinds, 1, samples + 20, generator=torch.Generator().manual_seed(0))
    deep = torch.exp(-torch.arange(21.0) / torch.linspace(0.1, 6.0, kinds)[:, None])  # (kinds, 21)
    return F.conv1d(noise.transpose(0, 1), deep[:, None], groups=kinds)[0]


def _uniform(between: tuple[float, float], generator: torch.Generator) -> float:
    low, high = between
    return low + (high - low) * torch.rand((), generator=generator).item()


def _whole(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


# %% Batches
def padded(waves: list[Tensor], digits: list[list[int]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the network and CTC take: waves (batch, n), their lengths, targets (batch, longest) in symbols, their lengths."""
    targets = [torch.tensor([digit + 1 for digit in string]).long() for string in digits]
    lengths = torch.tensor([len(wave) for wave in waves]), torch.tensor([len(target) for target in targets])
    return pad_sequence(waves, batch_first=True), lengths[0], pad_sequence(targets, batch_first=True), lengths[1]


class StringBatches:
    """New strings in every step, each at one of three speeds (Ko et al., 2015): nothing is learned by heart.

    All randomness comes from one generator on the CPU, whose state is saved: resumed, training goes on with the very strings that
    were still to come (`utils.training.fit`).
    """

    def __init__(self, clips: Clips, steps: int, batch_size: int, manner: Manner, seed: int):
        """Prepare.

        Args:
            clips: Single digits to learn from.
            steps: Batches in an epoch.
            batch_size: Strings in a batch.
            manner: How they are said.
            seed: Of everything that is drawn.
        """
        self.clips, self.steps, self.batch_size, self.manner = clips, steps, batch_size, manner
        self.by_speaker = speakers_of(clips)
        self.generator = torch.Generator().manual_seed(seed)
        self.position = 0
        self._resumed = False

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        if not self._resumed:
            self.position = 0
        self._resumed = False
        while self.position < self.steps:
            made = [self._draw() for _ in range(self.batch_size)]
            self.position += 1
            yield padded([wave for wave, _ in made], [digits for _, digits in made])
        self.position = 0

    def _draw(self) -> tuple[Tensor, list[int]]:
        wave, digits = make_string(self.clips, self.by_speaker, self.manner, self.generator)
        return change_speed(wave, self.clips.rate, SPEEDS[_whole(0, len(SPEEDS) - 1, self.generator)]), digits

    def state_dict(self) -> dict:
        """Where this is: how much of the epoch was handed out, and the generator."""
        return {"position": self.position, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        """Go back to where `state_dict` was taken."""
        self.position = state["position"]
        self._resumed = self.position > 0
        self.generator.set_state(state["generator"])
