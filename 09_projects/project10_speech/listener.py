"""The network that hears digits in a row, the file in which it is kept, and what one asks it.

    log-mel → two convolutions, each halving the frames → convolutions that look further and further → digits and blank

Answers come 25 times a second, and each is made from 1.3 seconds of sound (with three blocks; 2.5 with four), half of them still
to come. CTC does not say when a digit has to be told: a network that remembers everything (a GRU in both directions was tried)
may tell the last one whenever the recording ends. This one has to tell it near the place where it is.

`Listener.hear` turns a wave into digits with the moments at which they were said.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from project10_speech.ctc import BLANK, align, beam_search, greedy
from project10_speech.digit_strings import DIGITS
from project10_speech.features import LogMel
from utils import checkpoint, paths
from utils.lesson import LessonError
from utils.sound import resampled

RATE = 8000
FACTS = ("shape", "source", "word_error_rate")  # what must be saved with the weights
TRAIN_AGAIN = "train again with `python -m study run speech/strings`"
HALVINGS = 2


class DigitListener(nn.Module):
    """Waves to log-probabilities of what is said in each frame.

    Args:
        channels: Of the convolutions.
        blocks: Convolutions behind those that halve, each looking twice as far as the one before.
        bands: Of the log-mel picture.
        dropout: The share of channels' values that is set to 0 in training, behind each block.
    """

    def __init__(self, channels: int = 96, blocks: int = 3, bands: int = 40, dropout: float = 0.1):
        super().__init__()
        self.shape = (channels, blocks, bands)
        self.log_mel = LogMel(RATE, bands)
        halving = [nn.Conv1d(inputs, channels, 5, 2, padding=2) for inputs in [bands] + [channels] * (HALVINGS - 1)]
        further = [nn.Conv1d(channels, channels, 5, padding=2 * 2**block, dilation=2**block) for block in range(blocks)]
        self.convolutions = nn.ModuleList(halving + further)
        self.norms = nn.ModuleList(nn.BatchNorm1d(channels) for _ in self.convolutions)
        self.judge = nn.Linear(channels, DIGITS + 1)
        with torch.no_grad():
            # Most frames are blank, and "always blank" is found first and hard to leave: the way out is made shorter.
            self.judge.bias[BLANK] -= 1.0
        self.dropout = nn.Dropout(dropout)

    def forward(self, waves: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Listen.

        Args:
            waves: (batch, n) at 8 kHz; behind the end of each zeros, which are not looked at.
            samples: (batch,), how long each is.

        Returns:
            Log-probabilities (time, batch, 11) as `ctc_loss` wants them, and how many frames of each are real, (batch,).
        """
        features, frames = self.picture(waves, samples)
        x = normalised(features, frames)
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            frames = (frames - 1) // convolution.stride[0] + 1
            found = norm(convolution(x)).relu()
            x = found if number < HALVINGS else x + self.dropout(found)
            x = x * is_real(frames, x.shape[2])[:, None]  # the next one looks at zeros behind the end
        return self.judge(x.permute(2, 0, 1)).log_softmax(dim=2), frames

    def picture(self, waves: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel (batch, bands, frames), and the number of real frames (batch,)."""
        return self.log_mel(waves), self.log_mel.frames(samples)


def is_real(frames: Tensor, longest: int) -> Tensor:
    """Mask (batch, longest): which frames are not padding."""
    return torch.arange(longest, device=frames.device) < frames[:, None]


def normalised(features: Tensor, frames: Tensor) -> Tensor:
    """Make every recording's picture 0 in the mean, in each band, and 1 in its spread; padding becomes 0.

    So it does not matter how loud somebody speaks, or which frequencies the microphone prefers.
    """
    real = is_real(frames, features.shape[2])[:, None]  # (batch, 1, time)
    count = frames[:, None, None]
    features = (features - (features * real).sum(dim=2, keepdim=True) / count) * real
    spread = (features.square().sum(dim=(1, 2), keepdim=True) / (count * features.shape[1])).sqrt()
    return features / (spread + 0.1)


# %% Asking
@dataclass(frozen=True)
class HeardDigit:
    """A digit, from when to when it was heard (in seconds), and how sure the network is of it (0 to 1)."""

    digit: int
    start: float
    end: float
    probability: float


class Listener:
    """A trained network, and how to read its answers."""

    def __init__(self, model: DigitListener, source: str, beam: int = 8):
        """Keep them.

        Args:
            model: In eval mode.
            source: What it learned from.
            beam: Strings that are kept in mind; 1 reads greedily.
        """
        self.model, self.source, self.beam = model, source, beam

    @property
    def seconds_per_frame(self) -> float:
        """Of its answers."""
        return 2**HALVINGS * self.model.log_mel.hop / RATE

    @torch.inference_mode()
    def log_probs(self, waves: list[Tensor]) -> list[Tensor]:
        """For each wave (n,) at 8 kHz its log-probabilities (time, 11), on the CPU."""
        device = self.model.judge.weight.device
        samples = torch.tensor([len(wave) for wave in waves], device=device)
        found, frames = self.model(nn.utils.rnn.pad_sequence(waves, batch_first=True).to(device), samples)
        return [found[:count, number].cpu() for number, count in enumerate(frames.tolist())]

    def digits(self, log_probs: Tensor) -> list[int]:
        """What was said, as digits."""
        symbols = greedy(log_probs) if self.beam == 1 else beam_search(log_probs, self.beam)[0][1]
        return [symbol - 1 for symbol in symbols]

    def hear(self, wave: Tensor, rate: int) -> list[HeardDigit]:
        """Hear digits in a wave (n,) of any rate, with the moments at which they were said."""
        if rate != RATE:
            wave = resampled(wave, rate, RATE)
        if len(wave) < 0.05 * RATE:
            return []
        (log_probs,) = self.log_probs([wave])
        digits = self.digits(log_probs)
        way = align(log_probs, [digit + 1 for digit in digits])
        found, start = [], 0
        for frame in range(1, len(way) + 1):
            if frame < len(way) and way[frame] == way[start]:
                continue
            if way[start] != BLANK:
                sure = log_probs[start:frame, way[start]].max().exp().item()
                found.append(HeardDigit(way[start] - 1, start * self.seconds_per_frame, frame * self.seconds_per_frame, sure))
            start = frame
        return found


# %% Keeping
def model_file() -> Path:
    """Where training puts the network."""
    return paths.models("project10_speech") / "strings" / "model.pt"


def save_network(path: Path, model: DigitListener, **about) -> None:
    """Keep a network in one file: weights, size, and facts about it."""
    checkpoint.save_model(path, model, shape=list(model.shape), **about)


def load_network(file: Path | None, device: torch.device | str = "cpu") -> tuple[DigitListener, dict]:
    """Load what `save_network` has written, ready to listen.

    Args:
        file: None is where training puts it.
        device: Where it goes.

    Returns:
        The network, and the facts: "source", "word_error_rate".

    Raises:
        LessonError: There is no such file, it is damaged, or it is another model's.
    """
    path, about = checkpoint.load_facts(file, model_file(), FACTS, "run speech/strings")
    try:
        model = DigitListener(*about["shape"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise LessonError(f"{paths.short(path)} is not a network of this project ({error}): {TRAIN_AGAIN}") from None
    about = checkpoint.load_model(path, model, device)
    del about["shape"]
    return model.eval(), about
