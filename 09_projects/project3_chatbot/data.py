"""Dialogues for the model: as tokens, padded, in batches of like length, with a loss on the bot's turns only.

One model learns both languages. Where the real sets are missing, `utils.datasets` has small talk in both.
"""

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from project3_chatbot.model import BOT, END, TEMPLATE, encode
from utils import byte_bpe, datasets
from utils.batches import BatchesByLength
from utils.byte_bpe import ByteBPE
from utils.datasets import DialogueData, Source
from utils.datasets.dialogues import Dialogue

IGNORED = -100  # what cross_entropy takes for "nothing to predict here"


# %% Dialogues
def load(source: Source) -> dict[str, DialogueData]:
    """The dialogues of each language, "en" and "ko".

    Args:
        source: "real" (DailyDialog and Chatbot_data), "sample" (chatterbot-corpus), or "auto" for what is there.
    """
    return {"en": without_leaks(datasets.daily_dialog(source)), "ko": without_leaks(datasets.korean_chat(source))}


def without_leaks(data: DialogueData) -> DialogueData:
    """Leave out of a held-out split what begins like a dialogue of a split before it, but for punctuation and spaces."""
    training, validation = ({bare(dialogue[0]) for dialogue in split} for split in (data.train, data.validation))
    kept = [dialogue for dialogue in data.validation if bare(dialogue[0]) not in training]
    test = [dialogue for dialogue in data.test if bare(dialogue[0]) not in training | validation]
    return replace(data, validation=kept, test=test)


def bare(text: str) -> str:
    """Letters and digits only, in small letters: "What is AI?" and "what is ai" are one question."""
    return re.sub(r"[\W_]+", "", text).lower() or text


@dataclass(frozen=True)
class Pair:
    """What was said so far, the user's turn last, and what was answered."""

    before: Dialogue
    reply: str


def pairs(dialogues: Iterable[Dialogue]) -> list[Pair]:
    """Every turn but the first as the reply to those before it. Whoever replies is the bot, so the partner has to begin."""
    return [Pair(turns[1 - end % 2 : end], turns[end]) for turns in dialogues for end in range(1, len(turns))]


def tellings(dialogues: Iterable[Dialogue]) -> list[Dialogue]:
    """Every dialogue twice, with each partner once as the bot: so every reply is learned once."""
    return [told for turns in dialogues for told in (turns, turns[1:])]


def chains(dialogues: Iterable[Dialogue], seed: int) -> list[Dialogue]:
    """Questions with their answers, in random order, as conversations of one to three of them about this and that.

    A model that has only ever been asked one question takes every later one for something that it has not learned to answer.

    Args:
        dialogues: Of two turns each.
        seed: Of what comes after what.
    """
    rng = random.Random(seed)
    left, made = list(dialogues), []
    rng.shuffle(left)
    while left:
        count = rng.randint(1, 3)
        made.append(tuple(turn for turns in left[:count] for turn in turns))
        left = left[count:]
    return made


def later(held: Sequence[Pair], seed: int = 0) -> list[Pair]:
    """The same replies, after another question and its answer that have nothing to do with it."""
    others = random.Random(seed).sample(held, len(held))
    return [Pair((*other.before[-1:], other.reply, *pair.before), pair.reply) for pair, other in zip(held, others, strict=True)]


def exercises(dialogues: Iterable[Dialogue], count: int, seed: int) -> list[Dialogue]:
    """Random words, and some of them again in another order: what it takes to answer with a word of the question.

    A model that has only seen a thousand dialogues knows each by heart and does not look at the question. Words that nothing
    but the question can tell make it look.

    Args:
        dialogues: Where the words come from.
        count: How many to make.
        seed: Of the words.
    """
    rng = random.Random(seed)
    words = sorted({word for turns in dialogues for turn in turns for word in turn.split() if len(word) < 16})
    made = []
    for _ in range(count):
        said = rng.choices(words, k=rng.randint(2, 5))
        made.append((" ".join(said), " ".join(rng.sample(said, rng.randint(1, min(3, len(said)))))))
    return made


# %% Tokens
def learn_tokenizer(dialogues: Iterable[Dialogue], vocab_size: int) -> ByteBPE:
    """A byte-level BPE of both languages, with the template's special tokens; from training dialogues only."""
    return byte_bpe.train([turn for turns in dialogues for turn in turns], vocab_size, TEMPLATE)


def alone(tokenizer: ByteBPE, reply: str) -> list[int]:
    """A reply that nobody has asked for: how likely is it in general?"""
    return [tokenizer.special[BOT], *tokenizer.encode(reply), tokenizer.special[END]]


def targets(tokenizer: ByteBPE, tokens: Sequence[int]) -> list[int]:
    """For every token what comes next, if that is the bot's to say, the <|end|> of its turn included; IGNORED elsewhere."""
    user, bot, end = (tokenizer.special[name] for name in TEMPLATE)
    said, bot_speaks = [], False
    for token, following in zip(tokens, [*tokens[1:], IGNORED], strict=False):
        bot_speaks = (bot_speaks or token == bot) and token not in (user, end)
        said.append(following if bot_speaks else IGNORED)
    return said


def fit_in(tokenizer: ByteBPE, turns: Dialogue, longest: int) -> list[int]:
    """A dialogue as at most `longest` tokens: the oldest turns are forgotten, in pairs; then what is still too long is cut."""
    while len(tokens := encode(tokenizer, turns)) > longest and len(turns) > 2:
        turns = turns[2:]
    return tokens[:longest]


def reply_row(tokenizer: ByteBPE, pair: Pair, longest: int) -> tuple[list[int], list[int]]:
    """Tokens and targets for measuring one reply; the turns before it are read and not predicted.

    Of turns that are too long the end is read; of a reply that is too long, the beginning counts.
    """
    reply = alone(tokenizer, pair.reply)[: longest // 2]
    before = encode(tokenizer, pair.before)[-(longest - len(reply)) :]
    return before + reply, [IGNORED] * len(before) + targets(tokenizer, reply)


def pad(rows: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """Rows of tokens and targets as two tensors (rows, time); behind its end a row has token 0, and nothing to predict."""
    tokens = pad_sequence([torch.tensor(row) for row, _ in rows], batch_first=True)
    return tokens, pad_sequence([torch.tensor(row) for _, row in rows], batch_first=True, padding_value=IGNORED)


class DialogueBatches(BatchesByLength):
    """Shuffled batches (tokens, targets), each (batch, time), of rows that are about equally long: little padding is computed."""

    def __init__(self, rows: Sequence[tuple[list[int], list[int]]], batch_size: int, device: torch.device, seed: int):
        """Pad the rows and move them to the device.

        Args:
            rows: Tokens and targets of each dialogue.
            batch_size: Rows in a batch; the last one may have fewer.
            device: Where they are kept.
            seed: Of the order.
        """
        lengths = torch.tensor([len(tokens) for tokens, _ in rows])
        super().__init__(*pad(rows), lengths=lengths, blur=blurred, batch_size=batch_size, device=device, seed=seed)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for tokens, following in super().__iter__():
            longest = int((following != IGNORED).any(dim=0).nonzero().max()) + 1  # nothing to predict behind it
            yield tokens[:, :longest], following[:, :longest]


def blurred(lengths: Tensor, noise: Tensor) -> Tensor:
    """Lengths by which rows are sorted, up to four tokens too long, so that batches are new in every epoch; noise is in 0..1."""
    return lengths + 4 * noise


def training_rows(
    tokenizer: ByteBPE, dialogues: Sequence[Dialogue], longest: int, extra: Sequence[Dialogue] = (), seed: int = 0
) -> list:
    """Tokens and targets of all that is learned: conversations, their replies without a question, and exercises.

    Args:
        tokenizer: From `learn_tokenizer`.
        dialogues: Of the training split.
        longest: Tokens that are kept of a conversation.
        extra: Exercises.
        seed: Of the `chains`.
    """
    told = chains((turns for turns in dialogues if len(turns) == 2), seed) + tellings(
        turns for turns in dialogues if len(turns) > 2
    )
    sequences = [fit_in(tokenizer, turns, longest) for turns in [*told, *extra]]
    sequences += [alone(tokenizer, pair.reply)[:longest] for pair in pairs(dialogues)]
    rows = [(tokens, targets(tokenizer, tokens)) for tokens in sequences]
    return [row for row in rows if any(target != IGNORED for target in row[1])]  # a question may have left no room
