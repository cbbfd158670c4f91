"""Recorded sound as a tensor, and back: WAV files of every usual kind, one channel, samples between -1 and 1.

wave, rate = read_wav("seven.wav")        # (n,) float32 on the CPU, samples a second
wave = resampled(wave, rate, to=8000)
wave = read_speech("seven.wav", rate=8000)  # both, and an error where nobody can be heard

`torchaudio.load` needs TorchCodec and FFmpeg since 2.9; a WAV file is simple enough to be read here: a header that says how the
samples are stored, and the samples. What cannot be used is told in one sentence, before any memory is spent on it.
"""

import contextlib
import io
import math
import os
import struct
import wave as wave_files
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils import paths
from utils.lesson import LessonError, check, explain

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE  # how a header calls the kinds; the last one says it further behind
KINDS = {(PCM, 8): "u1", (PCM, 16): "<i2", (PCM, 24): "u1", (PCM, 32): "<i4", (FLOAT, 32): "<f4", (FLOAT, 64): "<f8"}
UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # what programs write that send the sound on before they know how long it gets
SILENT = 1e-3  # of the largest sample that there can be: 60 dB below it
LOWEST_RATE, HIGHEST_RATE = 4_000, 384_000

Sound = Path | str | bytes | BinaryIO


class _Header(NamedTuple):
    kind: tuple[int, int]  # format and bits
    channels: int
    rate: int

    @property
    def frame_bytes(self) -> int:
        """Of one sample in every channel."""
        return self.channels * self.kind[1] // 8


def read_wav(source: Sound, most_seconds: float = 600.0) -> tuple[Tensor, int]:
    """Read a WAV file: 8, 16, 24 or 32 bits, or float of 32 or 64; any rate; the mean of its channels.

    Args:
        source: A path, the bytes of a file, or a file opened for reading bytes.
        most_seconds: What is longer is refused before it is read.

    Returns:
        The wave (n,) float32 in -1..1, and its rate in samples a second.

    Raises:
        LessonError: It is missing, no WAV file, compressed, cut off, empty, too long, or holds numbers that are none.
    """
    with _opened(source) as (file, name):
        header, size = _find_samples(file, name)
        start = file.tell()
        there = file.seek(0, os.SEEK_END) - start
        if size in UNKNOWN_SIZES:
            size = there
        seconds = size / header.frame_bytes / header.rate
        check(
            seconds <= most_seconds,
            f"{name} is {duration(seconds)} long; at most {duration(most_seconds)} are read: cut it into pieces",
        )
        if size > there:
            missing = (size - there) / header.frame_bytes / header.rate
            raise LessonError(f"{name} is cut off: its last {missing:.2f} of {seconds:.2f} seconds are missing; copy it again")
        check(size >= header.frame_bytes, f"{name} holds no sound: its list of samples is empty")
        file.seek(start)
        samples = _decoded(file.read(size - size % header.frame_bytes), header.kind)
    check(bool(np.isfinite(samples).all()), f"{name} is damaged: some of its samples are no numbers")
    return torch.from_numpy(samples.reshape(-1, header.channels).mean(axis=1)), header.rate


def read_speech(source: Sound, rate: int = 8000, most_seconds: float = 60.0) -> Tensor:
    """Read a WAV file at the rate that a network wants: (n,) float32.

    Raises:
        LessonError: As `read_wav`; or there is only silence in it.
    """
    wave, its_rate = read_wav(source, most_seconds)
    check_heard(wave, _name(source))
    return resampled(wave, its_rate, rate)


def check_heard(wave: Tensor, name: str = "the recording") -> None:
    """Raise LessonError where a wave (n,) is silent. A constant is silence as well: ears hear changes.

    A microphone that is switched off often delivers not quite 0, so everything below `SILENT` counts.
    """
    loudest = (wave - wave.mean()).abs().max().item() if len(wave) else 0.0
    level = f"{20 * math.log10(loudest):.0f} dB of the loudest possible" if loudest > 0 else "not a single sample differs"
    check(loudest >= SILENT, f"{name} is silent ({level}): is the microphone switched on?")


def resampled(wave: Tensor, rate: int, to: int) -> Tensor:
    """The same sound at another rate: (..., n) to (..., ceil(n * to / rate)).

    What is above half of the new rate is filtered away first; otherwise it would come back as a tone that nobody made (aliasing).

    Raises:
        LessonError: One of the rates is none that sound is recorded at.
    """
    for one in (rate, to):
        check(LOWEST_RATE <= one <= HIGHEST_RATE, f"{one} samples a second: from {LOWEST_RATE:,} to {HIGHEST_RATE:,} are read")
    # The filter has as many coefficients as the rates have no divisor in common: 11,127 Hz to 8,000 Hz would take 350 MB.
    # Brought to the next 25 Hz, the pitch is wrong by 0.2 % at most; a semitone is 6 %.
    rate = 25 * round(rate / 25) if math.gcd(rate, to) < 25 else rate
    if rate == to:
        return wave
    from torchaudio.functional import resample  # takes seconds to import

    return resample(wave, rate, to)


def write_wav(target: Path | str | BinaryIO, wave: Tensor, rate: int) -> None:
    """Write a wave (n,) as a WAV file of 16 bits; what is beyond -1 and 1 is cut."""
    samples = (wave.detach().cpu().float().clamp(-1, 1) * 32767).round().numpy().astype("<i2")
    with wave_files.open(str(target) if isinstance(target, Path) else target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


def wav_bytes(wave: Tensor, rate: int) -> bytes:
    """A wave (n,) as the bytes of a WAV file."""
    buffer = io.BytesIO()
    write_wav(buffer, wave, rate)
    return buffer.getvalue()


def duration(seconds: float) -> str:
    """ "0.43 seconds", "12 seconds", "60 minutes"."""
    if seconds >= 120:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds:.0f} seconds" if seconds >= 10 else f"{seconds:.2f} seconds"


# ------------------------------------------------------------------------------------------------ what is in the file


def _name(source: Sound) -> str:
    return paths.short(Path(source).expanduser()) if isinstance(source, (str, Path)) else "the recording"


@contextlib.contextmanager
def _opened(source: Sound) -> Iterator[tuple[BinaryIO, str]]:
    name = _name(source)
    if isinstance(source, bytes):
        yield io.BytesIO(source), name
    elif isinstance(source, (str, Path)):
        try:
            file = open(Path(source).expanduser(), "rb")
        except FileNotFoundError:
            raise LessonError(f"{name} is not there") from None
        except IsADirectoryError:
            raise LessonError(f"{name} is a folder, not a WAV file") from None
        except OSError as error:
            raise LessonError(explain(error)) from None
        with file:
            yield file, name
    else:
        yield source, name


def _find_samples(file: BinaryIO, name: str) -> tuple[_Header, int]:
    """Go from chunk to chunk (four letters, a size, so many bytes) up to the samples; `file` stands there afterwards.

    Returns:
        How they are stored, and how many bytes they are said to be.
    """
    beginning = file.read(12)
    check(len(beginning) > 0, f"{name} is empty")
    if beginning[:4] != b"RIFF" or beginning[8:] != b"WAVE":
        raise LessonError(f"{name} is not a WAV file; `ffmpeg -i {Path(name).name} new.wav` makes one of nearly any sound")
    header = None
    while len(head := file.read(8)) == 8:
        kind, size = struct.unpack("<4sI", head)
        if kind == b"data":
            check(header is not None, f"{name} is damaged: it does not say how its samples are stored")
            return header, size
        if kind == b"fmt ":
            header = _read_header(file.read(size), name)
            file.seek(size % 2, os.SEEK_CUR)
        else:
            file.seek(size + size % 2, os.SEEK_CUR)  # chunks begin at even places
    raise LessonError(f"{name} is cut off: it ends before the first sample")


def _read_header(content: bytes, name: str) -> _Header:
    check(len(content) >= 16, f"{name} is cut off: it ends before the first sample")
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
    if kind == EXTENSIBLE and len(content) >= 26:
        (kind,) = struct.unpack("<H", content[24:26])
    if (kind, bits) not in KINDS:
        raise LessonError(
            f"{name} stores its samples in a way that is not read here (format {kind}, {bits} bits): save it as WAV, PCM, 16 bits"
        )
    check(channels > 0, f"{name} is damaged: it has no channel")
    check(
        LOWEST_RATE <= rate <= HIGHEST_RATE,
        f"{name} says {rate:,} samples a second; from {LOWEST_RATE:,} to {HIGHEST_RATE:,} are read",
    )
    return _Header((kind, bits), channels, rate)


def _decoded(content: bytes, kind: tuple[int, int]) -> np.ndarray:
    """Samples between -1 and 1, float32, from how they are stored."""
    numbers = np.frombuffer(content, KINDS[kind])
    if kind[0] == FLOAT:
        return numbers.astype(np.float32)
    if kind[1] == 8:  # the only kind without a sign
        return (numbers.astype(np.float32) - 128) / 128
    if kind[1] == 24:  # NumPy has no such number: three bytes become the upper three of four
        wider = np.zeros((len(numbers) // 3, 4), dtype=np.uint8)
        wider[:, 1:] = numbers.reshape(-1, 3)
        return (wider.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    return (numbers / 2.0 ** (kind[1] - 1)).astype(np.float32)
