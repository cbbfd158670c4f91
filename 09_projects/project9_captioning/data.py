"""Captioned pictures for the network: which splits there are, and sentences as rows of tokens.

Where Flickr8k is not, `utils.datasets.captioned_scenes` draws scenes and says in both languages what is in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from project9_captioning.words import UNKNOWN, Vocabulary
from utils.batches import Batches
from utils.datasets import Source
from utils.datasets.captioned_scenes import SIDE, CaptionedScenes, Scene, Split, draw_captioned, mirrored, tell
from utils.datasets.captions import flickr8k
from utils.lesson import mention
from utils.networks.translator import PAD

LANGUAGES = ("en", "ko")
SHIFT = 3  # pixels


@dataclass(frozen=True)
class Pictures:
    """Captioned pictures.

    Attributes:
        images: uint8 (N, 3, side, side).
        captions: For each language, the right sentences of each picture: as many for each, at least one.
        scenes: What is in each picture, where it was drawn here; else empty.
        boxes: float32 (N, 3, 4), where in the picture, as `captioned_scenes.CaptionedScenes`; else (0, 3, 4).
    """

    images: Tensor
    captions: dict[str, list[list[str]]]
    scenes: list[Scene]
    boxes: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice) -> "Pictures":
        """A part of them."""
        captions = {language: every[rows] for language, every in self.captions.items()}
        return Pictures(self.images[rows], captions, self.scenes[rows], self.boxes[rows])


@dataclass(frozen=True)
class CaptionSet:
    """Pictures to learn from, to choose settings with, and to be measured on.

    Attributes:
        tests: By name; the first one is what counts: "held_out", "known" and "new_pair" of drawn scenes, "test" of Flickr8k.
        source: What was loaded.
        is_real: False for the sample.
    """

    train: Pictures
    validation: Pictures
    tests: dict[str, Pictures]
    source: str
    is_real: bool


# %% Pictures
def load(source: Source, scenes: int, side: int, seed: int = 0) -> CaptionSet:
    """Load Flickr8k, or draw the sample.

    Args:
        source: "auto" (Flickr8k if it is there), "real" or "sample".
        scenes: Training scenes of the sample.
        side: Width and height of Flickr8k's pictures; the sample's are SIDE.
        seed: Of the sample's scenes.
    """
    real = flickr8k(source, side)
    if real is not None:
        train, validation, test = (
            Pictures(one.images, {"en": one.captions}, [], torch.empty(0, 3, 4))
            for one in (real.train, real.validation, real.test)
        )
        return CaptionSet(train, validation, {"test": test}, real.source, is_real=True)
    train = write_sample("train", scenes, seed, mirror=True)
    validation = both(write_sample("validation", 150, seed), write_sample("validation_held_out", 150, seed))
    tests = {split: write_sample(split, 250, seed) for split in ("held_out", "known", "new_pair")}
    told = f"sample: {scenes:,} drawn scenes of coloured shapes and their mirror images, {SIDE}x{SIDE}; not photographs"
    mention("data", told)
    return CaptionSet(train, validation, tests, told, is_real=False)


def write_sample(split: Split, count: int, seed: int, mirror: bool = False) -> Pictures:
    """Draw scenes, and say what is in them; with `mirror` also in their mirror images, where left is right."""
    drawn = draw_captioned(count, seed, split)
    return both(described(drawn), described(mirrored(drawn))) if mirror else described(drawn)


def described(drawn: CaptionedScenes) -> Pictures:
    """Scenes with their sentences in both languages."""
    captions = {language: [[tell(scene, language)] for scene in drawn.scenes] for language in LANGUAGES}
    return Pictures(drawn.images, captions, drawn.scenes, drawn.boxes)


def both(one: Pictures, other: Pictures) -> Pictures:
    """Pictures of two kinds, one after the other."""
    captions = {language: one.captions[language] + other.captions[language] for language in one.captions}
    images, boxes = torch.cat([one.images, other.images]), torch.cat([one.boxes, other.boxes])
    return Pictures(images, captions, one.scenes + other.scenes, boxes)


# %% Tokens
def all_sentences(pictures: Pictures) -> list[str]:
    """Every caption in every language."""
    return [sentence for every in pictures.captions.values() for right in every for sentence in right]


def encode(vocabulary: Vocabulary, pictures: Pictures, longest: int) -> Tensor:
    """All captions of each picture as rows of tokens: (N, captions, steps) int64, filled up with PAD.

    Args:
        vocabulary: What is known.
        pictures: With as many captions for each; where one has fewer, its own are repeated.
        longest: Tokens of a caption; what is longer is cut, and has no END to be learned.
    """
    most = {language: max(map(len, every)) for language, every in pictures.captions.items()}
    rows = [
        torch.tensor(vocabulary.encode(language, every[i][k % len(every[i])])[:longest])
        for i in range(len(pictures))
        for language, every in pictures.captions.items()
        for k in range(most[language])
    ]
    return pad_sequence(rows, batch_first=True, padding_value=PAD).unflatten(0, (len(pictures), -1))


def unknown_share(tokens: Tensor) -> float:
    """Which part of all tokens that are no padding is unknown."""
    return ((tokens == UNKNOWN).sum() / (tokens != PAD).sum()).item()


def make_batches(pictures: Pictures, tokens: Tensor, batch_size: int, device: torch.device, seed: int) -> Batches:
    """Batches (images, tokens) in a new random order in every epoch, each shifted a little."""
    drop_last = len(tokens) > batch_size
    return Batches(
        pictures.images, tokens, batch_size=batch_size, drop_last=drop_last, transform=shifted, device=device, seed=seed
    )


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move pictures (batch, 3, side, side) uint8 by up to SHIFT pixels, all alike; what comes in at the edge repeats the edge."""
    right, down = torch.randint(0, 2 * SHIFT + 1, (2,), generator=generator).tolist()
    side = images.shape[-1]
    larger = F.pad(images.float(), (SHIFT,) * 4, mode="replicate")  # torch pads no whole numbers
    return larger[:, :, down : down + side, right : right + side].to(torch.uint8)


def first_captions(pictures: Pictures, language: str) -> Sequence[str]:
    """The first right sentence of each picture."""
    return [right[0] for right in pictures.captions[language]]
