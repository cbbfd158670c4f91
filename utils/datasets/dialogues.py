"""What people say to one another, turn by turn: what a chatbot learns from.

data = chatterbot()
data.train[0]       # ("What is AI?", "Artificial Intelligence is the branch of ..."): turns, the partners taking turns
data.source         # print it beside every number
"""

import csv
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from utils import paths
from utils.datasets.sources import Source, damaged, locate, unreadable
from utils.lesson import mention

Dialogue = tuple[str, ...]
IN_TURNS = (
    "conversations",
    "greetings",
)  # the corpus's files in which a list is a conversation; elsewhere it is question, answers


@dataclass(frozen=True)
class DialogueData:
    """Dialogues, each a tuple of two turns or more, in three splits.

    Attributes:
        source: One line that says what was really loaded. Belongs beside every number that is reported.
        is_real: False for a sample.
    """

    train: list[Dialogue]
    validation: list[Dialogue]
    test: list[Dialogue]
    source: str
    is_real: bool


def chatterbot(language: str = "both", seed: int = 0) -> DialogueData:
    """Small talk, questions and answers, about 1,250 pairs in English and 700 in Korean: comes with a package, always there.

    (https://github.com/gunthercox/chatterbot-corpus, BSD) Dialogues that begin with the same words all go to the same split: a
    tenth of the beginnings is for validation, a tenth for the test.

    Args:
        language: "en", "ko" or "both".
        seed: Of the split.
    """
    import chatterbot_corpus
    import yaml

    folder, dialogues = Path(chatterbot_corpus.__file__).parent / "data", []
    for name in {"en": ("english",), "ko": ("korean",), "both": ("english", "korean")}[language]:
        for file in sorted((folder / name).glob("*.yml")):
            for lines in yaml.safe_load(file.read_text(encoding="utf-8"))["conversations"]:
                turns = [" ".join(line.split()) for line in lines if line.strip()]
                dialogues += [tuple(turns)] if file.stem in IN_TURNS else [(turns[0], answer) for answer in turns[1:]]
    splits = _split_by_beginning(dialogues, seed)
    told = {"en": "English", "ko": "Korean", "both": "English and Korean"}[language]
    return _told(DialogueData(*splits, f"sample: chatterbot-corpus, {told} ({_sizes(splits)} dialogues)", is_real=False))


def korean_chat(source: Source = "auto", seed: int = 0) -> DialogueData:
    """Questions and kind answers in Korean, 11,823 pairs (Song, https://github.com/songys/Chatbot_data, MIT).

    There is no official split: ours is that of `chatterbot`, which in Korean is also the sample.

    Args:
        source: "auto", "real" or "sample".
        seed: Of the split.

    Raises:
        LessonError: The file is damaged, or source="real" and it cannot be had.
    """
    place = locate("korean_chat", source)
    if place is None:
        return chatterbot("ko", seed)
    try:
        with open(place, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(place, error, "korean_chat") from None
    if not rows or rows[0][:2] != ["Q", "A"] or any(len(row) < 2 for row in rows):
        raise damaged(place, "it is not a table with the columns Q and A", "korean_chat")
    splits = _split_by_beginning([(question.strip(), answer.strip()) for question, answer, *_ in rows[1:]], seed)
    return _told(DialogueData(*splits, f"Chatbot_data ({_sizes(splits)} pairs, our split), {paths.short(place)}", is_real=True))


def daily_dialog(source: Source = "auto") -> DialogueData:
    """Everyday conversations in English (Li et al., 2017): 11,118 to train on, 1,000 for validation, 1,000 for the test.

    Reads the official folders. Where the one to train on is missing, the validation split is trained on, and a tenth of it
    takes its place. The sample is that of `chatterbot`, in English.

    Args:
        source: "auto", "real" or "sample".

    Raises:
        LessonError: A file is damaged or missing, or source="real" and the set is not there.
    """
    place = locate("daily_dialog", source)
    if place is None:
        return chatterbot("en")
    splits = {}
    for split in ("train", "validation", "test"):
        file = place / split / f"dialogues_{split}.txt"
        if split == "train" and not file.exists():
            continue
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise unreadable(file, error, "daily_dialog") from None
        splits[split] = [tuple(turn.strip() for turn in line.split("__eou__")[:-1]) for line in lines if line.strip()]
        if min(map(len, splits[split]), default=0) < 2:
            raise damaged(file, "it is not one dialogue a line, each turn followed by __eou__", "daily_dialog")
    kind = "DailyDialog"
    if "train" not in splits:
        kind = "a part of DailyDialog, trained on its validation split"
        tenth = len(splits["validation"]) // 10
        splits = {"train": splits["validation"][tenth:], "validation": splits["validation"][:tenth], "test": splits["test"]}
    parts = list(splits.values())
    return _told(DialogueData(*parts, f"{kind} ({_sizes(parts)} dialogues), {paths.short(place)}", is_real=True))


def _split_by_beginning(dialogues: Iterable[Dialogue], seed: int) -> list[list[Dialogue]]:
    """Split into eight, one and one tenth of the different first turns, without what is there twice or has no answer."""
    by_beginning: dict[str, list[Dialogue]] = {}
    for dialogue in dict.fromkeys(dialogue for dialogue in dialogues if len(dialogue) > 1):
        by_beginning.setdefault(dialogue[0].lower(), []).append(dialogue)
    beginnings = sorted(by_beginning)
    random.Random(seed).shuffle(beginnings)
    tenth = len(beginnings) // 10
    parts = beginnings[2 * tenth :], beginnings[tenth : 2 * tenth], beginnings[:tenth]
    return [[dialogue for beginning in part for dialogue in by_beginning[beginning]] for part in parts]


def _sizes(splits: Iterable[list[Dialogue]]) -> str:
    return " + ".join(f"{len(split):,}" for split in splits)


def _told(data: DialogueData) -> DialogueData:
    mention("data", data.source)
    return data
