"""What the tests of project 4 share: a small world of reviews, and a network whose answers are known beforehand."""

import torch

from project4_sentiment.data import ReviewSet
from project4_sentiment.model import ReviewClassifier, Shape
from project4_sentiment.predict import Judge
from project4_sentiment.words import Lexicon, pieces_of
from utils.datasets import Texts

THINGS = {
    "en": "soup room film train bread chair lamp ferry song taxi book coat".split(),
    "ko": "국 방 책 차 빵 옷 춤 떡 죽 잔 문 곡".split(),
}
QUALITIES = {  # of praise, and of complaint
    "en": (("good", "fresh", "kind", "clever"), ("bad", "stale", "rude", "silly")),
    "ko": (("좋", "맛있", "멋지", "빠르"), ("나쁘", "느리", "낡", "더럽")),
}
FRAMES = {  # the last one denies it
    "en": (
        "the {thing} was {quality}.",
        "i would say that the {thing} was {quality}.",
        "i would not say that the {thing} was {quality}.",
    ),
    "ko": ("{thing}은 {quality}다.", "{thing}은 {quality}다고 해도 맞습니다.", "{thing}은 {quality}다고 하면 틀립니다."),
}
VALUES = {"superb": 3.0, "awful": -3.0, "훌륭": 3.0, "지루": -3.0, "plot": 0.0, "the": 0.0, "영화": 0.0, "!": 1.0}


def review_set(language: str) -> ReviewSet:
    """Reviews in which a quality is affirmed, or denied, which turns it round; who had what quality is new in the tests."""
    splits: list[list] = [[], [], []]
    for place, thing in enumerate(THINGS[language]):
        for number, quality in enumerate(sum(QUALITIES[language], ())):
            split = splits[{0: 2, 1: 1}.get((place + number) % 5, 0)]
            for frame, text in enumerate(FRAMES[language]):
                split.append((text.format(thing=thing, quality=quality), int((number < 4) != (frame == 2))))
    texts = [Texts([text for text, _ in split], torch.tensor([label for _, label in split])) for split in splits]
    return ReviewSet(*texts, "sample: a toy world", is_real=False)


def world() -> dict[str, ReviewSet]:
    """The toy world in both languages."""
    return {language: review_set(language) for language in ("en", "ko")}


def plain_judge(temperature: float = 1.0) -> Judge:
    """A network that knows the words of VALUES, which share no piece; its log-odds are their sum by the root of the count."""
    lexicon = Lexicon(dict.fromkeys(piece for word in VALUES for piece in pieces_of(word)))
    model = ReviewClassifier(Shape(len(lexicon), width=1, hidden=1), dropout=0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for word, value in VALUES.items():
            model.pieces.weight[lexicon.spell(word)] = value
        model.judge.weight[0, 2] = 1.0
    return Judge(model.eval(), lexicon, temperature)
