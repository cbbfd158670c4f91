"""Clips of one digit for the network: all equally long, and otherwise at each look: faster, slower, noisier, elsewhere."""

import torch
import torch.nn.functional as F
from torch import Tensor

from project10_speech.features import LogMel, add_noise, change_speed, mfcc
from utils.batches import Batches
from utils.datasets.speech import Clips

SECONDS = 1.0  # of a clip; 99 % of the recordings are shorter than 0.9 s
SPEEDS = (0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15)
DECIBELS = (5.0, 40.0)  # how much louder than the added noise a clip is


def fitted(wave: Tensor, length: int) -> Tensor:
    """A wave (n,) brought to `length` samples: silence on both sides, or the loudest stretch of a longer one."""
    if len(wave) <= length:
        missing = length - len(wave)
        return F.pad(wave, (missing // 2, missing - missing // 2))
    energy = F.pad(wave.square().cumsum(0), (1, 0))
    start = (energy[length:] - energy[:-length]).argmax().item()
    return wave[start : start + length]


def stacked(clips: Clips, seconds: float = SECONDS) -> Tensor:
    """All waves as one tensor (clips, samples)."""
    length = round(seconds * clips.rate)
    return torch.stack([fitted(wave, length) for wave in clips.waves])


def moved(waves: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Each wave of (batch, n), up to `most` samples earlier or later; what leaves at one end comes back at the other."""
    steps = torch.randint(-most, most + 1, (len(waves), 1), generator=generator)
    places = (torch.arange(waves.shape[1]) - steps) % waves.shape[1]
    return waves.gather(1, places.to(waves.device))


class TrainingBatches(Batches):
    """Shuffled batches (waves, labels), varied anew at each look; see 09_projects/project10_speech/features.py.

    One speed is drawn for a whole batch: a filter for each would take longer than the network.
    """

    def __init__(self, clips: Clips, batch_size: int, device: torch.device, seed: int, *, vary: bool = True):
        """Move the waves to the device.

        Args:
            clips: To learn from.
            batch_size: Clips in a batch.
            device: Where they are kept and varied.
            seed: Of the order and of the variations.
            vary: Without it they come as they are.
        """
        super().__init__(
            stacked(clips),
            clips.labels,
            batch_size=min(batch_size, len(clips)),
            drop_last=True,  # a last batch of a few clips has unreliable statistics for batch normalisation
            transform=self._varied if vary else None,
            device=device,
            seed=seed,
        )
        self.rate = clips.rate

    def _varied(self, waves: Tensor, generator: torch.Generator) -> Tensor:
        length = waves.shape[1]
        speed = SPEEDS[torch.randint(len(SPEEDS), (1,), generator=generator).item()]
        waves = change_speed(waves, self.rate, speed)
        missing = length - waves.shape[1]  # a negative number of samples to add takes them away
        waves = F.pad(waves, (missing // 2, missing - missing // 2))
        waves = moved(waves, length // 10, generator)
        low, high = DECIBELS
        decibels = low + (high - low) * torch.rand(len(waves), generator=generator)
        noise = torch.randn(waves.shape, generator=generator)
        return add_noise(waves, noise.to(waves.device), decibels.to(waves.device))


def plain_batches(clips: Clips, device: torch.device, batch_size: int = 250) -> Batches:
    """Batches (waves, labels) in order and unchanged, for measuring."""
    return Batches(stacked(clips), clips.labels, batch_size=batch_size, shuffle=False, device=device)


# %% The baseline
def shapes(clips: Clips, frames: int = 20) -> Tensor:
    """MFCC of every clip, stretched to as many frames for short words as for long ones, without loudness: (clips, 12 * frames).

    Each coefficient has mean 0 in each clip, so that microphones and rooms matter less (cepstral mean normalisation).
    """
    log_mel = LogMel(clips.rate)
    found = []
    for wave in clips.waves:
        coefficients = mfcc(log_mel(F.pad(wave, (0, max(0, log_mel.size - len(wave))))[None]))[:, 1:]  # the first one is loudness
        stretched = F.interpolate(coefficients, size=frames, mode="linear", align_corners=False)
        found.append((stretched - stretched.mean(dim=2, keepdim=True)).flatten())
    return torch.stack(found)


def nearest_mean(train: Clips, test: Clips) -> Tensor:
    """For each test clip the digit whose mean shape is nearest: what can be had without any network. (clips,) int64"""
    known, digits = shapes(train), train.labels.unique()
    means = torch.stack([known[train.labels == digit].mean(dim=0) for digit in digits])
    return digits[torch.cdist(shapes(test), means).argmin(dim=1)]
