"""What is in a picture of your own? · 내 그림에는 무엇이 있을까

    python -m study run captioning/predict drawing.png photo.jpg

For every picture a figure shows what the network sees of it, and for each word where it looked when it wrote it. Training comes
first: python -m study run captioning
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor

from project9_captioning.decode import write_captions
from project9_captioning.model import Captioner, load_network
from project9_captioning.picture import image_from
from project9_captioning.words import GLUE, Vocabulary, join
from utils.device import pick_device
from utils.lesson import check, mention, run
from utils.pictures import check_all_read, open_each
from utils.plotting import label, save_figure


@dataclass(frozen=True)
class Word:
    """A written word, with the particle or comma that belongs to it, and where the network looked.

    Attributes:
        text: As it is shown.
        look: (rows, columns), adding up to 1.
    """

    text: str
    look: Tensor


@dataclass(frozen=True)
class Caption:
    """What was written about a picture; `probability` is that of this very sentence."""

    text: str
    words: list[Word]
    probability: float


class Describer:
    """A trained network, ready to look at pictures.

    Args:
        model: In eval mode, on its device.
        vocabulary: What its tokens mean.
        languages: What it can write.
        beam: How many beginnings are gone on with; 1 takes the likeliest word each time.
    """

    def __init__(self, model: Captioner, vocabulary: Vocabulary, languages: list[str], beam: int = 1):
        self.model, self.vocabulary, self.languages, self.beam = model, vocabulary, languages, beam

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.model.embedding.weight.device

    def sentences(self, images: Tensor, language: str, batch_size: int = 100) -> list[str]:
        """One sentence about each picture of (N, 3, side, side) uint8."""
        found = []
        for part in images.split(batch_size):
            tokens, _ = write_captions(self.model, part.to(self.device), language, self.beam)
            found += [self.vocabulary.decode(row) for row in tokens.tolist()]
        return found

    def describe(self, image: Tensor, language: str) -> Caption:
        """One sentence about one picture (3, side, side) uint8, with where the network looked for each word."""
        check(language in self.languages, f"the network writes {' and '.join(self.languages)}, not {language}")
        images = image[None].to(self.device)
        tokens, scores = write_captions(self.model, images, language, self.beam)
        looks = self.model.looks(images, tokens)[0].cpu()  # (steps, rows, columns)
        words: list[Word] = []
        for part, look in zip(self.vocabulary.words(tokens[0].tolist()), looks, strict=False):
            if part.startswith(GLUE) and words:
                words[-1] = Word(words[-1].text + part.removeprefix(GLUE), words[-1].look)
            else:
                words.append(Word(part, look))
        return Caption(join(word.text for word in words), words, scores[0].exp().item())


def load_describer(file: Path | None, device: torch.device, beam: int = 1) -> tuple[Describer, dict]:
    """Load a trained network; returns it and what was saved with it. Raises as `model.load_network`."""
    model, vocabulary, about = load_network(file, device)
    return Describer(model, vocabulary, about["languages"], beam), about


def draw(image: Tensor, caption: Caption):
    """Draw a picture, and beside it where the network looked for each word; returns the figure."""
    import matplotlib.pyplot as plt

    columns = 7
    rows = -(-(len(caption.words) + 1) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.7 * columns, 2 * rows + 0.5), squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    shown = image.permute(1, 2, 0).numpy()
    side = len(shown)
    first, *others = axes.flat
    most = max(word.look.max().item() for word in caption.words)
    first.imshow(shown)
    first.set_title(label("what it sees", "입력"), fontsize=9)
    for axis, word in zip(others, caption.words, strict=False):
        axis.imshow(shown)
        axis.imshow(word.look.numpy(), cmap="inferno", vmin=0, vmax=most, alpha=0.6, extent=(-0.5, side - 0.5, side - 0.5, -0.5))
        axis.set_title(word.text, fontsize=9)
    figure.suptitle(caption.text, fontsize=10)
    return figure


def main(
    pictures: tyro.conf.Positional[tuple[Path, ...]], model: Path | None = None, beam: int = 3, device: str = "auto"
) -> dict[str, float]:
    """Say what is in each of your pictures, in every language that the network has learned.

    Args:
        pictures: Files: JPEG, PNG, WebP, GIF, BMP or TIFF.
        model: Another trained network than models/project9_captioning/model.pt.
        beam: How many beginnings of a sentence are gone on with.
        device: auto, cpu, cuda or mps.
    """
    check(len(pictures) > 0, "name at least one picture: python -m study run captioning/predict drawing.png")
    check(beam > 0, "--beam must be above 0")
    describer, about = load_describer(model, pick_device(device), beam)
    mention("data", f"trained on {about['source']}")
    results: dict[str, float] = {}
    failed: list[str] = []
    prepare = functools.partial(image_from, side=describer.model.shape.side)
    for number, path, _, image in open_each(pictures, prepare, failed):
        for language in describer.languages:
            caption = describer.describe(image, language)
            print(f"{path}: {caption.text}  ({caption.probability:.1%})")
            if language == "en":  # a font for the other one may be missing
                save_figure(draw(image, caption), __file__, f"predict_{number}_{path.stem}")
            results[f"{number}_{path.stem}_{language}_probability"] = caption.probability
    if results and not about["is_real"]:
        print("\nIt has only ever seen drawn shapes: whatever is in a picture, it will be told in terms of these.")
    check_all_read(failed, len(pictures))
    return results


if __name__ == "__main__":
    run(main)
