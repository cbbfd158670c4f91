"""Are the sentences right, of combinations that were never seen too, and does it look where it says? · 캡션은 맞는가

Exactly right captions, BLEU and CIDEr against captions that are written without a network (the most frequent one, that of the
nearest picture) and by one that sees nothing; which words are wrong; whether attention is on the thing that a word is about.
정확히 맞힌 캡션의 비율과 BLEU, CIDEr를 가장 흔한 캡션, 가장 비슷한 그림의 캡션, 그림을 보지 못하는 디코더와
비교한다. 어떤 단어가 틀리는지, 단어를 쓸 때 어텐션이 그 물체를 향하는지도 잰다.

Run        python -m study run captioning/evaluate        (after python -m study run captioning)
"""

from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from project9_captioning.data import CaptionSet, Pictures, first_captions, load
from project9_captioning.model import STRIDE
from project9_captioning.predict import Describer, draw, load_describer
from project9_captioning.scores import bleu_many, cider
from project9_captioning.words import split
from utils.datasets import Source
from utils.datasets.captioned_scenes import COLOURS, KOREAN, SHAPES, SIZES
from utils.device import pick_device
from utils.evaluation import draw_losses
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.training import History

KINDS = {"size": SIZES, "colour": COLOURS, "shape": SHAPES}


# %% Scores
def prepared(sentence: str) -> str:
    """A sentence as the scores compare it: words, particles and commas apart, in small letters."""
    return " ".join(split(sentence))


def scores(written: list[str], right: list[list[str]]) -> dict[str, float]:
    """How good captions are.

    Args:
        written: One for each picture.
        right: All that are right, for each.

    Returns:
        "exact", the share that is one of the right ones; "bleu", 0 to 100; "cider", 0 to 10.
    """
    ours, theirs = [prepared(one) for one in written], [[prepared(one) for one in some] for some in right]
    exact = sum(one in some for one, some in zip(ours, theirs, strict=True)) / len(ours)
    return {"exact": exact, "bleu": bleu_many(ours, theirs), "cider": cider(ours, theirs)}


def mean_over_languages(written: dict[str, list[str]], pictures: Pictures) -> dict[str, float]:
    """`scores` of each language with its name behind, and their mean over the languages."""
    every = {language: scores(captions, pictures.captions[language]) for language, captions in written.items()}
    numbers = {f"{key}_{language}": value for language, one in every.items() for key, value in one.items()}
    return numbers | {key: sum(one[key] for one in every.values()) / len(every) for key in ("exact", "bleu", "cider")}


def write_all(describer: Describer, images: Tensor) -> dict[str, list[str]]:
    """Captions of all pictures in every language."""
    return {language: describer.sentences(images, language) for language in describer.languages}


def validation_numbers(describer: Describer, validation: Pictures) -> dict[str, float]:
    """Scores on the validation pictures."""
    numbers = mean_over_languages(write_all(describer, validation.images), validation)
    return {key: numbers[key] for key in ("exact", "cider")}


def measure(describer: Describer, data: CaptionSet) -> dict[str, float]:
    """Measure on every set of test pictures.

    Returns:
        Flat numbers; "exact", "bleu" and "cider" are those of the first set (of combinations that were never seen, or Flickr8k's
        test pictures), "exact_known" and so on those of the others; where things are, "pointing" and its baselines.
    """
    results: dict[str, float] = {}
    for number, (name, pictures) in enumerate(data.tests.items()):
        written = write_all(describer, pictures.images)
        numbers = mean_over_languages(written, pictures)
        results |= numbers if number == 0 else {f"{key}_{name}": numbers[key] for key in ("exact", "cider")}
        if number == 0 and pictures.scenes:
            results |= wrong_words(written, pictures) | pointing(describer, pictures)
    return results


def wrong_words(written: dict[str, list[str]], pictures: Pictures) -> dict[str, float]:
    """The share of right sizes, colours and shapes, of captions that name as many things as they should."""
    right, total = Counter(), Counter()
    for language, captions in written.items():
        known = {(KOREAN[word] if language == "ko" else word): kind for kind, words in KINDS.items() for word in words}
        for ours, truth in zip(captions, first_captions(pictures, language), strict=True):
            named = [[word for word in named_words(sentence) if word in known] for sentence in (ours, truth)]
            if [known[word] for word in named[0]] == [known[word] for word in named[1]]:
                for said, wanted in zip(*named, strict=True):
                    total[known[wanted]] += 1
                    right[known[wanted]] += said == wanted
    return {f"right_{kind}": right[kind] / max(1, total[kind]) for kind in KINDS}


def named_words(sentence: str) -> list[str]:
    """The words of a sentence; 작은, which loses its last syllable where particles are cut off, is whole."""
    return " ".join(split(sentence)).replace("작 +은", "작은").split()


# %% Baselines
def most_frequent(train: Pictures, language: str) -> str:
    """The caption that is said most often; of equally frequent ones, the first."""
    return Counter(one for right in train.captions[language] for one in right).most_common(1)[0][0]


def nearest(train: Pictures, images: Tensor, side: int = 14) -> list[int]:
    """For each picture (N, 3, ...) uint8 the training picture that is most like it, reduced to side x side pixels."""

    def small(pictures: Tensor) -> Tensor:
        parts = [F.adaptive_avg_pool2d(part.float(), side) for part in pictures.split(500)]
        return torch.cat(parts).flatten(1)  # (pictures, 3 * side * side)

    known = small(train.images)
    return [int(i) for part in small(images).split(200) for i in torch.cdist(part, known).argmin(dim=1)]


def nothing_to_see(images: Tensor) -> Tensor:
    """Grey pictures instead of these."""
    return torch.full_like(images, 128)


def measure_baselines(data: CaptionSet, blind: Describer) -> dict[str, float]:
    """What is right without a network that looks, on the first set of test pictures.

    Args:
        data: Pictures with captions.
        blind: Learned from the captions alone.

    Returns:
        Scores of each baseline, "exact_frequent" and so on; "baseline_exact" and "baseline_cider" are the best ones.
    """
    test = next(iter(data.tests.values()))
    like = nearest(data.train, test.images)
    written = {"frequent": {}, "nearest": {}, "blind": {}}
    for language in test.captions:
        written["frequent"][language] = [most_frequent(data.train, language)] * len(test)
        known = first_captions(data.train, language)
        written["nearest"][language] = [known[i] for i in like]
        written["blind"][language] = blind.sentences(nothing_to_see(test.images[:1]), language) * len(test)
    results: dict[str, float] = {}
    for name, captions in written.items():
        numbers = mean_over_languages(captions, test)
        results |= {f"{key}_{name}": numbers[key] for key in ("exact", "bleu", "cider")}
    return results | {f"baseline_{key}": max(results[f"{key}_{name}"] for name in written) for key in ("exact", "cider")}


# %% Where it looks
@torch.no_grad()
def pointing(describer: Describer, pictures: Pictures) -> dict[str, float]:
    """The pointing game (Zhang et al., 2016): is the place that a word looks at most on the thing that the word is about?

    The right English caption is read, so that for each size, colour and shape it is known which thing is meant. A place counts
    as on a thing where they touch.

    Returns:
        "pointing", the share of words; "pointing_at_shape", of the shapes' words only; "pointing_chance", the share of places
        that would do; "pointing_other", the share that looks at another thing of the picture instead.
    """
    model, vocabulary = describer.model, describer.vocabulary
    hits, at_shape, other, chance = [], [], [], []
    named = set(SIZES + COLOURS + SHAPES)
    edges = STRIDE * torch.arange(model.shape.places, dtype=torch.float32)
    for i in range(len(pictures)):
        tokens = torch.tensor(vocabulary.encode("en", pictures.captions["en"][i][0])[:-1], device=describer.device)
        looks = model.looks(pictures.images[i : i + 1].to(describer.device), tokens[None])[0].cpu()  # (steps, rows, columns)
        words = vocabulary.words(tokens.tolist())
        places = [step for step, word in enumerate(words) if word in named]  # three of each thing, thing after thing
        boxes = pictures.boxes[i, : len(places) // 3]
        across = (edges < boxes[:, 2:3]) & (edges + STRIDE > boxes[:, 0:1])  # (things, columns)
        down = (edges < boxes[:, 3:4]) & (edges + STRIDE > boxes[:, 1:2])
        touches = (down[:, :, None] & across[:, None, :]).flatten(1)  # (things, places)
        peaks = looks.flatten(1).argmax(dim=1)[places]  # (words,)
        meant = torch.arange(len(places)) // 3
        on = touches[meant, peaks]
        hits.append(on)
        at_shape.append(on[2::3])
        other.append(touches.any(dim=0)[peaks] & ~on)
        chance.append(touches[meant].float().mean(dim=1))
    every = {"pointing": hits, "pointing_at_shape": at_shape, "pointing_other": other, "pointing_chance": chance}
    return {name: torch.cat(values).float().mean().item() for name, values in every.items()}


# %% Showing
def show_captions(describer: Describer, data: CaptionSet, count: int = 2) -> None:
    """Print a few captions beside the right ones."""
    print()
    for name, pictures in data.tests.items():
        for language, written in write_all(describer, pictures.images[:count]).items():
            for ours, right in zip(written, pictures.captions[language], strict=False):
                is_right = prepared(ours) in map(prepared, right)
                print(
                    f"  {name:9} {'right' if is_right else 'wrong'}  {ours}" + ("" if is_right else f"\n{'':19}it is: {right[0]}")
                )


def draw_learning_curves(history: History, monitor: str):
    """Loss of every step with its running mean, and what is right of the validation pictures; returns the figure."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    draw_losses(left, history.losses)
    left.set_yscale("log")
    epochs = range(1, len(history.epochs) + 1)
    right.plot(epochs, [epoch[monitor] for epoch in history.epochs], "o-", color="seagreen", markersize=4)
    right.axvline(history.best_epoch + 1, color="gray", linestyle=":")
    right.xaxis.get_major_locator().set_params(integer=True)  # there is no half epoch
    right.set(title=label(f"validation: {monitor}", f"검증: {monitor}"), xlabel=label("epoch", "에포크"))
    right.grid(alpha=0.3)
    return figure


def draw_scores(results: dict[str, float], tests: list[str]):
    """Captions that are exactly right, of each set of test pictures and of the baselines; returns the figure."""
    import matplotlib.pyplot as plt

    names = {"frequent": ("most frequent", "가장 흔한 것"), "nearest": ("nearest picture", "가장 비슷한 그림")}
    names |= {"blind": ("sees nothing", "그림 없이")}
    bars = {label(*told): results[f"exact_{name}"] for name, told in names.items() if f"exact_{name}" in results}
    told = {"held_out": ("new combinations", "처음 보는 조합"), "known": ("known combinations", "아는 조합")}
    told |= {"new_pair": ("new colour of a shape", "처음 보는 색과 모양"), "test": ("test", "테스트")}
    others = {label(*told[name]): results["exact" if name == tests[0] else f"exact_{name}"] for name in tests}
    figure, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
    drawn = axis.barh([*bars, *others], [100 * v for v in [*bars.values(), *others.values()]])
    for bar in drawn[: len(bars)]:
        bar.set_color("silver")
    axis.bar_label(drawn, fmt="%.1f", padding=3)
    axis.set(xlim=(0, 112), title=label("Captions that are exactly right (%)", "정확히 맞힌 캡션 (%)"))
    axis.invert_yaxis()
    return figure


def draw_results(describer: Describer, data: CaptionSet, results: dict[str, float]) -> None:
    """Write the figures to outputs/project9_captioning/."""
    save_figure(draw_scores(results, list(data.tests)), __file__, "exact")
    image = next(iter(data.tests.values())).images[0]
    save_figure(draw(image, describer.describe(image, "en")), __file__, "attention")


def main(
    model: Path | None = None, source: Source = "auto", beam: int = 1, device: str = "auto", figures: bool = True
) -> dict[str, float]:
    """Load a trained network, and measure it on test pictures.

    Args:
        model: The file; without it, the one that `python -m study run captioning` wrote.
        source: "auto", "real" or "sample": the test pictures.
        beam: Beginnings of a sentence that are gone on with; 1 takes the likeliest word each time.
        device: "auto", "cpu", "cuda" or "mps".
        figures: Draw as well.
    """
    check(beam > 0, "--beam must be above 0")
    describer, about = load_describer(model, pick_device(device), beam)
    data = load(source, about["scenes"], describer.model.shape.side, about["seed"])
    print(f"trained on: {about['source']}\ntested on:  {data.source}")
    # Another set's test pictures may be this one's training pictures: what is measured then is memory.
    check(data.source == about["source"], "these are other pictures than it was trained on: choose them with --source")
    results = measure(describer, data)
    show_captions(describer, data)
    if figures:
        draw_results(describer, data, results)
    return results


if __name__ == "__main__":
    run(main)
