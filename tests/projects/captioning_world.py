"""What the tests of project 9 share: a small world of spots at nine places, and a network whose answers are known beforehand."""

import torch
from torch import Tensor, nn

from project9_captioning.data import CaptionSet, Pictures
from project9_captioning.model import Shape
from project9_captioning.words import END, SPECIAL, STARTS, Vocabulary, split
from utils.networks.translator import Reading

PAINTS = {"red": (230, 30, 30), "green": (30, 200, 60), "blue": (40, 70, 230), "white": (240, 240, 240), "yellow": (240, 210, 30)}
KOREAN = {"red": "빨간", "green": "초록", "blue": "파란", "white": "하얀", "yellow": "노란"}
ROWS = {"top": "위", "middle": "가운데", "bottom": "아래"}
COLUMNS = {"left": "왼쪽", "centre": "중앙", "right": "오른쪽"}
PLACES = {f"{row} {column}": (y, x) for y, row in enumerate(ROWS) for x, column in enumerate(COLUMNS)}
HELD_OUT = {("red", "top left"), ("green", "bottom centre"), ("blue", "middle right")}  # never together in training


def spot(colour: str, place: str, generator: torch.Generator) -> Tensor:
    """A spot at a place of a dark picture (3, 24, 24), a little noisy."""
    image = torch.randint(20, 60, (3, 24, 24), generator=generator, dtype=torch.uint8)
    y, x = (torch.randint(1, 3, (2,), generator=generator) + 8 * torch.tensor(PLACES[place])).tolist()
    image[:, y : y + 5, x : x + 5] = torch.tensor(PAINTS[colour], dtype=torch.uint8)[:, None, None]
    return image


def spots(combinations: list[tuple[str, str]], times: int, seed: int) -> Pictures:
    """Each combination of colour and place so many times, with its sentence in both languages."""
    generator, some = torch.Generator().manual_seed(seed), combinations * times
    english = [[f"a {colour} spot is in the {place}"] for colour, place in some]
    korean = [[f"{KOREAN[colour]} 점이 {_in_korean(place)}에 있다"] for colour, place in some]
    images = torch.stack([spot(*each, generator) for each in some])
    return Pictures(images, {"en": english, "ko": korean}, [], torch.empty(0, 3, 4))


def _in_korean(place: str) -> str:
    row, column = place.split()
    return f"{COLUMNS[column]} {ROWS[row]}"


def world(*_) -> CaptionSet:
    """The toy world; takes what `data.load` takes."""
    every = [(colour, place) for colour in PAINTS for place in PLACES]
    known = [each for each in every if each not in HELD_OUT]
    tests = {"held_out": spots(sorted(HELD_OUT), 10, seed=2), "known": spots(known, 1, seed=3)}
    return CaptionSet(spots(known, 8, seed=0), spots(known, 1, seed=1), tests, "sample: spots at places", is_real=False)


SENTENCES = {
    "bright": {"en": "a bright, plain picture", "ko": "밝은 그림이 있다"},
    "dark": {"en": "a dark picture", "ko": "어두운 그림이 있다"},
}


class Brightness(nn.Module):
    """Says of a picture whether it is bright or dark, whatever is in it, and looks at its first place for every word."""

    longest = 16

    def __init__(self):
        super().__init__()
        tokens = dict.fromkeys(token for one in SENTENCES.values() for sentence in one.values() for token in split(sentence))
        self.vocabulary = Vocabulary([*SPECIAL, *tokens])
        self.shape = Shape(side=56, tokens=len(self.vocabulary), width=4, heads=1, layers=1)
        self.embedding = nn.Embedding(1, 1)

    def read(self, images: Tensor) -> Reading:
        bright = images.float().mean(dim=(1, 2, 3)) > 127
        return Reading(bright[:, None, None, None], [], [(torch.zeros(len(images), 1, 0, 1),) * 2])

    def write(self, tokens: Tensor, reading: Reading) -> Tensor:
        logits = torch.zeros(*tokens.shape, self.shape.tokens)
        step = reading.length
        for row, (start, bright) in enumerate(zip(self.starts(tokens, step), reading.mask.flatten().tolist(), strict=True)):
            language = next(name for name, number in STARTS.items() if number == start)
            said = self.vocabulary.encode(language, SENTENCES["bright" if bright else "dark"][language])[1:]
            logits[row, -1, said[step] if step < len(said) else END] = 5.0
        longer = torch.zeros(len(tokens), 1, step + 1, 1)
        reading.past = [(longer, longer)]
        return logits

    def starts(self, tokens: Tensor, step: int) -> list[int]:
        if step == 0:
            self.begun = tokens[:, -1].tolist()
        return (self.begun * len(tokens))[: len(tokens)]

    def looks(self, images: Tensor, tokens: Tensor) -> Tensor:
        maps = torch.zeros(len(images), tokens.shape[1], 7, 7)
        maps[..., 0, 0] = 1.0
        return maps
