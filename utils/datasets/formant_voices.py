"""Voices that speak digits in English and Korean, computed: no recording, no file, no network.

    wave = say(["seven", "two"], make_voice(3), rate=8000, seed=1)     # (n,) float32

The source-filter model of speech (Fant, 1960), as synthesisers by formants have it (Klatt, 1980). Glottal pulses, or noise where
air rushes through a narrow place, go through a filter: the vocal tract, whose resonances (formants) move from sound to sound. A
word is a list of sounds; a sound is where its formants are, how long it lasts, and how much of which source it has. A voice has
its pitch, the length of its vocal tract, its speed and its breath; every take of a word comes out a little different.

Formants of vowels: Peterson and Barney (1952) and, for the Korean ones, Yang (1996), rounded; of consonants: Klatt (1980).
They sound like a robot from 1980, and are understood.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils.lesson import check

STEP = 0.005  # seconds between two settings of the filter
USUAL_TRACT = 17.5  # cm, a man's; the formants below are his
HIGHER_FORMANTS = (3500, 4500, 5500, 6500, 7500)  # Hz; the same for every sound: they tell a voice, not a vowel
HIGHEST = 0.47  # of the rate: resonances above it are not to be had (half of the rate is the highest frequency there is)
BANDWIDTHS = (70, 100, 150, 250, 300, 350, 400, 450)  # Hz


class Sound(NamedTuple):
    """A target that the mouth moves to.

    Attributes:
        formants: The first three resonances in Hz, in a tract of 17.5 cm.
        ms: How long it lasts, in milliseconds.
        voice: Amplitude of the glottal pulses.
        breath: Amplitude of noise at the glottis, which goes through the whole tract (aspiration).
        hiss: Amplitude of noise at a narrow place in the mouth, with a resonance of its own (frication).
        hiss_hz: Where that resonance is.
        hiss_width: How wide it is, in Hz.
        damping: Of the formants: the nose swallows much.
    """

    formants: tuple[float, float, float]
    ms: float
    voice: float = 1.0
    breath: float = 0.0
    hiss: float = 0.0
    hiss_hz: float = 3000.0
    hiss_width: float = 1500.0
    damping: float = 1.0


def _noise(formants: tuple[float, float, float], ms: float, hiss: float, at: float, width: float, breath: float = 0.0) -> Sound:
    return Sound(formants, ms, 0.0, breath, hiss, at, width)


def _closed(formants: tuple[float, float, float], ms: float = 60) -> Sound:
    """The silence of a stop, before it is released."""
    return Sound(formants, ms, voice=0.0)


PAUSE = Sound((500, 1500, 2500), 0, voice=0.0)
SOUNDS = {
    # vowels
    "ah": Sound((640, 1190, 2390), 140),
    "ao": Sound((570, 840, 2410), 170),
    "eh": Sound((530, 1840, 2480), 110),
    "ih": Sound((390, 1990, 2550), 110),
    "iy": Sound((280, 2250, 2950), 210),
    "uw": Sound((320, 950, 2240), 210),
    "uh": Sound((500, 1400, 2400), 70, voice=0.8),
    # diphthongs are two targets
    "a(y)": Sound((700, 1220, 2500), 150),
    "(a)y": Sound((400, 1950, 2550), 110),
    "e(y)": Sound((480, 1850, 2500), 110),
    "(e)y": Sound((320, 2200, 2800), 110),
    "o(w)": Sound((500, 1000, 2400), 120),
    "(o)w": Sound((360, 820, 2300), 110),
    # sounds between vowel and consonant
    "w": Sound((290, 650, 2150), 70, voice=0.7),
    "r": Sound((330, 1120, 1500), 80, voice=0.75),
    "l": Sound((360, 1150, 2700), 90, voice=0.7),
    "y": Sound((270, 2250, 3000), 55, voice=0.7),
    # through the nose
    "n": Sound((280, 1650, 2600), 100, voice=0.45, damping=2.5),
    "m": Sound((280, 950, 2200), 110, voice=0.45, damping=2.5),
    "ng": Sound((280, 1150, 2350), 130, voice=0.45, damping=2.5),
    # hissing ones; z and v with voice as well
    "s": _noise((320, 1390, 2530), 110, hiss=0.16, at=4700, width=1200),
    "f": _noise((340, 1100, 2080), 90, hiss=0.12, at=2500, width=4500),
    "th": _noise((320, 1290, 2540), 90, hiss=0.1, at=3300, width=4000),
    "z": Sound((240, 1390, 2530), 80, voice=0.35, hiss=0.08, hiss_hz=4500, hiss_width=1200),
    "v": Sound((230, 1100, 2080), 70, voice=0.4, hiss=0.06, hiss_hz=2500, hiss_width=4500),
    # stops: what is heard when they open; the silence before comes from `_closed`
    "t": _noise((400, 1700, 2600), 35, hiss=0.2, at=3800, width=1500, breath=0.15),
    "k": _noise((330, 1800, 2300), 40, hiss=0.35, at=1900, width=700, breath=0.15),
    "kh": _noise((330, 1000, 2300), 50, hiss=0.3, at=1300, width=700, breath=0.25),
    "ph": _noise((500, 1000, 2300), 70, hiss=0.12, at=1200, width=3000, breath=0.35),
    "ch": _noise((330, 1900, 2700), 90, hiss=0.2, at=3400, width=1200, breath=0.1),
    # Korean vowels
    "ㅏ": Sound((730, 1230, 2500), 190),
    "ㅣ": Sound((300, 2170, 2900), 190),
    "ㅗ": Sound((390, 740, 2450), 230),
    "ㅜ": Sound((340, 810, 2300), 190),
    "ㅓ": Sound((590, 950, 2480), 180),
    # the silences of stops
    "_t": _closed((400, 1700, 2600)),
    "_k": _closed((330, 1900, 2300)),
    "_p": _closed((400, 900, 2200)),
}

ENGLISH = {
    "zero": "z ih r o(w) (o)w",
    "one": "w ah n",
    "two": "_t t uw",
    "three": "th r iy",
    "four": "f ao r",
    "five": "f a(y) (a)y v",
    "six": "s ih _k k s",
    "seven": "s eh v uh n",
    "eight": "e(y) (e)y _t t",
    "nine": "n a(y) (a)y n",
}
KOREAN = {
    "영": "y ㅓ ng",
    "일": "ㅣ l",
    "이": "ㅣ",
    "삼": "s ㅏ m",
    "사": "s ㅏ",
    "오": "ㅗ",
    "육": "y ㅜ _k",  # the final stop is not released
    "칠": "_t ch ㅣ l",
    "팔": "_p ph ㅏ l",
    "구": "_k kh ㅜ",
}
DIGITS = {"en": tuple(ENGLISH), "ko": tuple(KOREAN)}  # the words for 0 to 9
WORDS = {word: tuple(SOUNDS[name] for name in sounds.split()) for word, sounds in {**ENGLISH, **KOREAN}.items()}


@dataclass(frozen=True)
class Voice:
    """Somebody who speaks.

    Attributes:
        name: To tell voices apart.
        pitch: Glottal pulses a second, in the mean.
        melody: How far the pitch goes up and down, as a share of it.
        tract_cm: Length of the vocal tract; the shorter it is, the higher are all formants.
        speed: 1 is usual.
        open: The share of each pulse in which the glottis is open: small sounds pressed, large sounds soft.
        breath: Noise that comes with each pulse.
        accent: Factors on the first two formants of all sounds: where this voice says its vowels.
    """

    name: str
    pitch: float = 115.0
    melody: float = 0.15
    tract_cm: float = USUAL_TRACT
    speed: float = 1.0
    open: float = 0.6
    breath: float = 0.03
    accent: tuple[float, float] = (1.0, 1.0)


def make_voice(number: int) -> Voice:
    """One of endlessly many voices: the same for the same number. Men, women and children, in turn at random."""
    random = np.random.default_rng([number, 20_100])
    pitch, tract = ((115, 17.3), (205, 14.8), (270, 12.8))[random.choice(3, p=(0.45, 0.4, 0.15))]
    return Voice(
        name=f"voice {number}",
        pitch=pitch * np.exp(0.14 * random.standard_normal()),
        melody=random.uniform(0.05, 0.25),
        tract_cm=tract + 0.6 * random.standard_normal(),
        speed=random.uniform(0.75, 1.35),
        open=random.uniform(0.4, 0.8),
        breath=random.uniform(0.0, 0.1),
        accent=tuple(np.exp(0.07 * random.standard_normal(2))),
    )


def say(
    words: Sequence[str],
    voice: Voice,
    rate: int = 8000,
    seed: int = 0,
    pause: tuple[float, float] = (0.05, 0.25),
) -> Tensor:
    """Speak words one after the other.

    Args:
        words: English or Korean words for digits, as in `DIGITS`.
        voice: Who speaks.
        rate: Samples a second.
        seed: Of this take: lengths, formants and pitch differ a little from take to take.
        pause: Between two words, from so many seconds to so many; (0, 0) runs them together, and their sounds then change
            one another as they do in real speech.

    Returns:
        (n,) float32; the loudest sample is 0.5.

    Raises:
        LessonError: No words, or one that is not in `DIGITS`.
    """
    check(len(words) > 0, "there is nothing to say: no words")
    unknown = [word for word in words if word not in WORDS]
    check(not unknown, f"the voices can only say digits, not {', '.join(map(repr, unknown))}: {' '.join(WORDS)}")
    random = np.random.default_rng([seed, 1_960])
    sounds, seconds = _sounds_of(words, voice, pause, random)
    tracks = _Tracks.of(sounds, seconds, voice, random)
    count = len(tracks.formants)  # of steps
    hop = round(STEP * rate)
    pulses = _pulses(_pitch(count, seconds, voice, random), voice, hop, rate)
    noise = random.standard_normal((2, count * hop))

    def amplitude(values: np.ndarray) -> np.ndarray:
        return np.interp(np.arange(count * hop) / hop, np.arange(count), values)

    # Breath comes while the glottis is open: its noise is loud and faint with the pulses.
    at_glottis = amplitude(tracks.voice) * (pulses + voice.breath * noise[0] * np.abs(pulses))
    at_glottis += 0.3 * amplitude(tracks.breath) * noise[0]
    higher = np.array(HIGHER_FORMANTS) * USUAL_TRACT / voice.tract_cm
    everywhere = np.broadcast_to(higher, (count, len(higher)))
    formants = np.concatenate([tracks.formants, everywhere], axis=1)
    widths = np.array(BANDWIDTHS) * tracks.damping[:, None]
    wave = _filtered(at_glottis, formants, widths, hop, rate)
    at_teeth = 0.35 * amplitude(tracks.hiss) * noise[1]
    hiss_hz = np.minimum(tracks.hiss_hz, HIGHEST * rate)
    wave += _filtered(at_teeth, hiss_hz[:, None], tracks.hiss_width[:, None], hop, rate)
    return torch.from_numpy(0.5 * wave / np.abs(wave).max()).float()


# ------------------------------------------------------------------------------------------------- from words to tracks


def _sounds_of(
    words: Sequence[str], voice: Voice, pause: tuple[float, float], random: np.random.Generator
) -> tuple[list[Sound], np.ndarray]:
    """All sounds in order, with silence around them, and the seconds that each of them lasts."""
    sounds, seconds = [PAUSE], [random.uniform(0.02, 0.06)]
    for number, word in enumerate(words):
        if number > 0 and pause[1] > 0:
            sounds.append(PAUSE)
            seconds.append(random.uniform(*pause))
        take = np.exp(0.1 * random.standard_normal())  # this word, faster or slower than usual
        for sound in WORDS[word]:
            sounds.append(sound)
            seconds.append(sound.ms / 1000 * take * np.exp(0.22 * random.standard_normal()) / voice.speed)
    return [*sounds, PAUSE], np.array([*seconds, random.uniform(0.02, 0.06)])


@dataclass(frozen=True)
class _Tracks:
    """What changes in the mouth, a row a step: formants (steps, 3) in Hz; all others (steps,)."""

    formants: np.ndarray
    voice: np.ndarray
    breath: np.ndarray
    hiss: np.ndarray
    hiss_hz: np.ndarray
    hiss_width: np.ndarray
    damping: np.ndarray

    @classmethod
    def of(cls, sounds: list[Sound], seconds: np.ndarray, voice: Voice, random: np.random.Generator) -> "_Tracks":
        """Move from target to target: formants within some 50 ms, for the tongue is slow; amplitudes within some 25 ms."""
        ends = np.cumsum(seconds)
        times = np.arange(int(ends[-1] / STEP) + 1) * STEP
        shorter = USUAL_TRACT / voice.tract_cm
        accent = np.array([*voice.accent, 1.0])
        targets = np.array([sound.formants for sound in sounds]) * shorter * accent
        targets *= np.exp(0.05 * random.standard_normal(targets.shape))
        slow, quick = (_between(ends - seconds, ends, most) for most in (0.05, 0.025))

        def moved(values: Sequence[float], places: np.ndarray) -> np.ndarray:
            return np.interp(times, places, np.repeat(values, 2))

        others = {
            name: moved([getattr(sound, name) for sound in sounds], quick)
            for name in ("voice", "breath", "hiss", "hiss_hz", "hiss_width", "damping")
        }
        others["hiss_hz"] = others["hiss_hz"] * shorter**0.5  # the place in front of the teeth differs less than the tract
        return cls(np.stack([moved(target, slow) for target in targets.T], axis=1), **others)


def _between(starts: np.ndarray, ends: np.ndarray, most: float) -> np.ndarray:
    """Where each sound reaches its target and where it leaves it, alternating: (2 * sounds,) seconds."""
    half = np.minimum(most, 0.8 * (ends - starts)) / 2
    return np.stack([starts + half, ends - half], axis=1).reshape(-1)


def _pitch(count: int, seconds: np.ndarray, voice: Voice, random: np.random.Generator) -> np.ndarray:
    """Pitch in Hz at each step: it falls towards the end, wobbles slowly, and trembles a little (jitter)."""
    falling = 1 + voice.melody * np.linspace(0.5, -0.5, count)
    slow = np.interp(np.arange(count), np.linspace(0, count, 2 + len(seconds)), random.standard_normal(2 + len(seconds)))
    return voice.pitch * falling * (1 + 0.3 * voice.melody * slow) * (1 + 0.01 * random.standard_normal(count))


# ------------------------------------------------------------------------------------------------------ source and filter


def _pulses(pitch: np.ndarray, voice: Voice, hop: int, rate: int) -> np.ndarray:
    """What the glottis sends into the tract: the change of the air's flow, pulse after pulse (Rosenberg, 1971). (steps * hop,)

    The flow rises slowly, falls fast, and is cut off when the vocal folds meet; that moment makes the resonances ring.
    """
    hz = np.interp(np.arange(len(pitch) * hop) / hop, np.arange(len(pitch)), pitch)
    place = np.cumsum(hz / rate) % 1  # in its pulse, 0 to 1
    rise, fall = 0.66 * voice.open, 0.34 * voice.open
    rising = 0.5 * (1 - np.cos(np.pi * place / rise))
    falling = np.cos(0.5 * np.pi * (place - rise) / fall)
    flow = np.where(place < rise, rising, np.where(place < rise + fall, falling, 0.0))
    return np.diff(flow, prepend=0.0) * rate / hz / 10  # about as strong at every pitch


def _filtered(source: np.ndarray, formants: np.ndarray, widths: np.ndarray, hop: int, rate: int) -> np.ndarray:
    """Send a source (steps * hop,) through resonances that change at every step.

    The source is cut into pieces of two steps that fade in and out, so that their sum is the source again; each piece goes
    through the filter of its moment, as a product of spectra, and rings on into the next ones; the pieces are added up.

    Args:
        source: Samples.
        formants: (steps, resonances) in Hz; what is too high for the rate is left out.
        widths: (steps, resonances) in Hz.
        hop: Samples in a step.
        rate: Samples a second.
    """
    steps, ring = len(formants), 12  # steps that a piece may ring: 60 ms
    fade = 0.5 - 0.5 * np.cos(np.pi * (np.arange(2 * hop) + 0.5) / hop)  # shifted by a step and added to itself it is 1
    padded = np.concatenate([np.zeros(hop), source])
    pieces = np.stack([padded[:-hop].reshape(steps, hop), padded[hop:].reshape(steps, hop)], axis=1).reshape(steps, 2 * hop)
    spectra = np.fft.rfft(pieces * fade, n=ring * hop)
    angles = np.exp(-2j * np.pi * np.arange(spectra.shape[1]) / (ring * hop))  # z^-1 at every frequency
    for hz, width in zip(formants.T, widths.T, strict=True):
        # Klatt's resonator: y[n] = a x[n] + b y[n - 1] + c y[n - 2]
        c = -np.exp(-2 * np.pi * width / rate)
        b = 2 * np.exp(-np.pi * width / rate) * np.cos(2 * np.pi * hz / rate)
        resonance = (1 - b - c)[:, None] / (1 - b[:, None] * angles - c[:, None] * angles**2)
        spectra *= np.where((hz <= HIGHEST * rate)[:, None], resonance, 1.0)
    rung = np.fft.irfft(spectra, n=ring * hop).reshape(steps, ring, hop)
    wave = np.zeros((steps + ring, hop))
    for later in range(ring):
        wave[later : later + steps] += rung[:, later]
    return wave[1 : steps + 1].reshape(-1)
