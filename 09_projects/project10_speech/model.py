"""A small convolutional network that hears which digit a wave is: 176,050 parameters."""

import torch
from torch import Tensor, nn

from project10_speech.features import LogMel, spec_augment

FLOOR = 9.0  # below the loudest place of a clip, as a natural logarithm: 39 dB


class DigitNet(nn.Module):
    """Wave to log-mel, log-mel to feature maps, their mean and maximum over time to a logit for each digit.

    The features are computed inside: a checkpoint cannot be used with another window or other bands. They are seen as a picture,
    not as a list of 40 channels, because a voice with a shorter tract has the same pattern a little higher up: what a filter
    learned about one place of the picture holds a few bands above as well.
    """

    def __init__(self, rate: int = 8000, classes: int = 10):
        """Random weights.

        Args:
            rate: Of the waves, in samples a second.
            classes: How many words to tell apart.
        """
        super().__init__()
        self.log_mel = LogMel(rate)
        self.layers = nn.Sequential(  # (batch, 1, 40 bands, 101 frames) for a second
            *_block(1, 24, stride=2),  # (batch, 24, 20, 51)
            *_block(24, 48, stride=2),  # (batch, 48, 10, 26)
            *_block(48, 96, stride=1),
            nn.MaxPool2d(2),  # (batch, 96, 5, 13)
            *_block(96, 128, stride=1),
        )
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(2 * 5 * 128, classes)
        nn.init.zeros_(self.head.weight)  # nothing is certain before anything was learned

    def features(self, waves: Tensor) -> Tensor:
        """Log-mel features with mean 0 in each band and deviation 1 in each clip: (batch, n) → (batch, 40, frames).

        What is fainter than the loudest place by more than `FLOOR` is silence: whether there is a quiet room before the word,
        or nothing at all because a clip was filled up, should not matter. The mean of a band over time is the microphone and
        the room rather than the word.
        """
        log_mel = self.log_mel(waves)
        log_mel = torch.maximum(log_mel, log_mel.amax(dim=(1, 2), keepdim=True) - FLOOR)
        centred = log_mel - log_mel.mean(dim=2, keepdim=True)
        return centred / centred.std(dim=(1, 2), keepdim=True).clamp_min(1e-5)

    def forward(self, waves: Tensor) -> Tensor:
        """Logits (batch, classes) of waves (batch, n), 0.2 seconds or more."""
        features = self.features(waves)
        if self.training:
            features = spec_augment(features)
        maps = self.layers(features.unsqueeze(1))  # (batch, 128, 5, frames / 8)
        # How much of it, and was it there at all? Low and high bands stay apart: s is high, u is low.
        pooled = torch.cat([maps.mean(dim=3), maps.amax(dim=3)], dim=1)  # (batch, 256, 5)
        return self.head(self.dropout(pooled.flatten(1)))


def _block(channels_in: int, channels: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels_in, channels, kernel_size=3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels), nn.ReLU()
