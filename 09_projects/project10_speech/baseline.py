"""What CTC is measured against: cut where it is silent, and ask a classifier of single digits about every piece.

Before CTC this is how it was done, and where people speak with pauses it does well.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from project10_speech.digit_strings import Strings
from project10_speech.features import LogMel
from project10_speech.word_errors import word_error_rate
from utils.datasets.speech import Clips

WIDTH = 20  # frames to which every piece is stretched
LEVELS, GAPS = (0.3, 0.4, 0.5, 0.6), (4, 8, 12)  # tried on the validation strings
SHORTEST = 8  # frames of 10 ms: what is shorter is a click


@dataclass(frozen=True)
class CutAndClassify:
    """Cuts and classifies.

    Attributes:
        classifier: scikit-learn's support vector machine with a Gaussian kernel, on log-mel pictures of equal size.
        log_mel: Makes the pictures.
        level: Between the quietest (0) and the loudest frame (1) of a recording: what is above it is speech.
        gap: Frames of silence that end a digit; shorter ones are inside it, as before the t of "eight".
    """

    classifier: Any
    log_mel: LogMel
    level: float
    gap: int

    @classmethod
    def learn(cls, clips: Clips, validation: Strings) -> "CutAndClassify":
        """Train the classifier on single digits; choose level and gap by the word error rate on the validation strings."""
        from sklearn.svm import SVC

        log_mel = LogMel(clips.rate)
        pictures = torch.stack([_picture(log_mel(wave[None])[0]) for wave in clips.waves])
        classifier = SVC(C=10.0).fit(pictures.flatten(1).numpy(), clips.labels.numpy())
        tried = [cls(classifier, log_mel, level, gap) for level, gap in product(LEVELS, GAPS)]
        # The number of pieces is told fast, what they are is not: the classifier is asked for the best few only.
        tried.sort(key=lambda one: one.miscounted(validation))
        return min(tried[:3], key=lambda one: word_error_rate(one.hear(validation), validation.digits))

    def miscounted(self, strings: Strings) -> int:
        """By how many pieces it is wrong, over all strings."""
        pairs = zip(strings.waves, strings.digits, strict=True)
        return sum(abs(len(self.cut(self.log_mel(wave[None])[0])) - len(digits)) for wave, digits in pairs)

    def cut(self, features: Tensor) -> list[tuple[int, int]]:
        """First frame and the one behind the last, for each piece of a picture (bands, frames) that is not silence."""
        loudness = features.exp().sum(dim=0).log()
        quiet, loud = loudness.quantile(0.05), loudness.max()
        frames = (loudness > quiet + self.level * (loud - quiet)).nonzero()[:, 0].tolist()
        pieces: list[list[int]] = []
        for frame in frames:
            if pieces and frame - pieces[-1][1] < self.gap:
                pieces[-1][1] = frame + 1
            else:
                pieces.append([frame, frame + 1])
        return [(start, end) for start, end in pieces if end - start >= SHORTEST]

    def hear(self, strings: Strings) -> list[list[int]]:
        """What is said in each string."""
        pictures, counts = [], []
        for wave in strings.waves:
            features = self.log_mel(wave[None])[0]
            pieces = self.cut(features)
            pictures += [_picture(features[:, start:end]).flatten() for start, end in pieces]
            counts.append(len(pieces))
        if not pictures:
            return [[] for _ in counts]
        answers = self.classifier.predict(torch.stack(pictures).numpy()).tolist()
        ends = torch.tensor(counts).cumsum(dim=0).tolist()
        return [answers[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _picture(features: Tensor) -> Tensor:
    """A piece (bands, frames) stretched to (bands, WIDTH), 0 in the mean and 1 in its spread."""
    stretched = F.interpolate(features[None], WIDTH, mode="linear")[0]
    return (stretched - stretched.mean()) / (stretched.std() + 1e-3)
