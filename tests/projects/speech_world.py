"""What the tests of project 10 share: people who speak in tones, which are soon learned, and a listener that has learned them."""

import functools
import math

import torch
from torch import Tensor

from project10_speech.digit_strings import LEARNED, Manner, StringBatches, StringData, make_strings
from project10_speech.listener import DigitListener, Listener
from project10_speech.strings import string_loss
from utils.datasets.formant_voices import DIGITS
from utils.datasets.speech import Clips, SpeechData
from utils.training import rise_and_fall

RATE = 8000
SOURCE = "computed voices: tones"
MANNERS = {"apart": Manner(2, 5, (0.1, 0.2)), "together": Manner(2, 5, (-0.08, -0.05))}


def tone(digit: int, generator: torch.Generator) -> Tensor:
    """A digit: a fifth of a second of two tones that belong to it, a little higher or lower, and a little longer or shorter."""
    seconds = 0.18 + 0.06 * torch.rand((), generator=generator).item()
    time = torch.arange(int(seconds * RATE)) / RATE
    shift = 1 + 0.02 * torch.randn((), generator=generator).item()
    first, second = 300 + 150 * digit, 3400 - 130 * digit
    wave = sum(torch.sin(2 * math.pi * hz * shift * time) for hz in (first, second))
    return 0.3 * wave * torch.hann_window(len(wave))


@functools.cache
def clips(first_speaker: int, speakers: int = 2, takes: int = 4) -> Clips:
    """Every digit in tones, some takes by some speakers."""
    generator = torch.Generator().manual_seed(first_speaker)
    made = [
        (tone(digit, generator), digit, f"flute {first_speaker + speaker}", take)
        for speaker in range(speakers)
        for take in range(takes)
        for digit in range(10)
    ]
    waves, labels, names, numbers = zip(*made, strict=True)
    return Clips(list(waves), torch.tensor(labels), list(names), torch.tensor(numbers), RATE)


def spoken(source: str = "sample", language: str = "en") -> SpeechData:
    """In place of `fsdd`."""
    return SpeechData(clips(0), clips(10), clips(20), DIGITS["en"], SOURCE, is_real=False)


def world(source: str = "sample", strings: int = 12) -> StringData:
    """In place of `digit_strings.load`."""
    data = spoken()
    half, apart, together = (
        make_strings(part, strings, MANNERS[manner], seed)
        for part, manner, seed in ((data.validation, "together", 1), (data.test, "apart", 2), (data.test, "together", 2))
    )
    return StringData(data, half, apart, together)


@functools.cache
def trained_listener() -> Listener:
    """Learns the tones in five seconds: with fewer steps, how many it knows depends on the machine's rounding."""
    torch.manual_seed(0)
    model = DigitListener(channels=48, blocks=3, bands=40, dropout=0.0)
    batches = StringBatches(clips(0), steps=160, batch_size=12, manner=LEARNED._replace(most=4), seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    schedule = rise_and_fall(optimizer, steps=len(batches))
    for batch in batches:
        loss = string_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return Listener(model.eval(), SOURCE)
