"""How well does it answer what it has never seen? · 처음 보는 말에 얼마나 알맞게 답하는가

Perplexity of held-out replies against counting, picking the right reply out of ten, and replies as they come, unedited.
학습하지 않은 답의 퍼플렉시티를 유니그램과 비교하고, 후보 열 개 가운데 맞는 답을 고르게 하고, 생성한 답을 손대지 않고 보여 준다.

Run        python -m study run chatbot/evaluate        (after python -m study run chatbot)
"""

from collections.abc import Sequence
from math import comb, exp, sqrt
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from project3_chatbot.data import IGNORED, Pair, alone, later, load, pad, pairs, reply_row, targets
from project3_chatbot.model import BOT, encode, load_network
from utils.byte_bpe import ByteBPE
from utils.datasets import DialogueData, Source
from utils.device import pick_device
from utils.evaluation import draw_losses
from utils.lesson import check, run
from utils.networks.llama import Llama, generate
from utils.plotting import label, save_figure
from utils.training import History

LONGEST = 160  # tokens of a dialogue that are measured
CANDIDATES = 10  # replies out of which one is picked
MOST = 110  # held-out replies of a language that are ranked: each is scored after each question
ASKED_IN_ENGLISH = ("Hello", "What is your name?", "Do you like music?", "What is the capital of France?", "I am sad.")
ASKED_IN_KOREAN = ("안녕", "이름이 뭐야?", "음악 좋아해?", "프랑스의 수도는?", "너무 슬퍼")


# %% Perplexity
@torch.no_grad()
def log_likelihoods(model: Llama, rows: Sequence[tuple[list[int], list[int]]], batch_size: int = 64) -> Tensor:
    """The sum of log p, in nats, over each row's targets; rows of like length are computed together.

    Returns:
        (rows,) float32 on the CPU, in the order of `rows`.
    """
    device = model.norm.weight.device
    order = sorted(range(len(rows)), key=lambda number: len(rows[number][0]))
    found = torch.zeros(len(rows))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        tokens, following = (tensor.to(device) for tensor in pad([rows[number] for number in chosen]))
        counted = following != IGNORED  # (batch, time): of most tokens no logits are needed
        losses = F.cross_entropy(model.logits(model.states(tokens)[counted]).float(), following[counted], reduction="none")
        sums = torch.zeros(len(chosen), device=device).index_add(0, counted.nonzero()[:, 0], losses)
        found[chosen] = -sums.cpu()
    return found


def reply_loss(model: Llama, tokenizer: ByteBPE, held: Sequence[Pair]) -> dict[str, float]:
    """Loss of replies after what was said before them, in nats for each token, <|end|> included, and for each byte."""
    rows = [reply_row(tokenizer, pair, LONGEST) for pair in held]
    nats = -log_likelihoods(model, rows).sum().item()
    return {"loss": nats / count_targets(rows), "nats_per_byte": nats / count_bytes(tokenizer, rows)}


def unigram_loss(tokenizer: ByteBPE, training: Sequence[Pair], held: Sequence[Pair]) -> dict[str, float]:
    """The same of a model that only knows how frequent each token is in training replies (every count begins at 1)."""
    counts = torch.ones(len(tokenizer), dtype=torch.float64)
    for pair in training:
        counts += torch.bincount(torch.tensor(alone(tokenizer, pair.reply)[1:]), minlength=len(tokenizer))
    log_share = (counts / counts.sum()).log()
    rows = [reply_row(tokenizer, pair, LONGEST) for pair in held]
    nats = -sum(log_share[target].item() for _, row in rows for target in row if target != IGNORED)
    return {"loss": nats / count_targets(rows), "nats_per_byte": nats / count_bytes(tokenizer, rows)}


def count_targets(rows: Sequence[tuple[list[int], list[int]]]) -> int:
    """How many tokens are predicted."""
    return sum(target != IGNORED for _, row in rows for target in row)


def count_bytes(tokenizer: ByteBPE, rows: Sequence[tuple[list[int], list[int]]]) -> int:
    """How many bytes of text those tokens stand for; <|end|> stands for none, although it has to be predicted."""
    return sum(len(tokenizer.decode(t for t in row if t != IGNORED).encode("utf-8")) for _, row in rows)


# %% Picking a reply
def score(model: Llama, tokenizer: ByteBPE, held: Sequence[Pair], replies: Sequence[str]) -> tuple[Tensor, Tensor]:
    """How likely is each reply after each question, and how likely in general?

    Returns:
        log p(reply | question), (questions, replies), and log p(reply), (replies,), in nats.
    """
    rows = [reply_row(tokenizer, Pair(pair.before, reply), LONGEST) for pair in held for reply in replies]
    cut = [alone(tokenizer, reply)[: LONGEST // 2] for reply in replies]
    general = log_likelihoods(model, [(tokens, targets(tokenizer, tokens)) for tokens in cut])
    return log_likelihoods(model, rows).view(len(held), len(replies)), general


def chances_to_pick(scores: Tensor, held: Sequence[Pair], replies: Sequence[str], candidates: int = CANDIDATES) -> Tensor:
    """How often the right reply has the best score among `candidates`, if the others are drawn at random.

    Not estimated by draws but counted: if w of the m wrong replies score below the right one, all k others are among those
    w in comb(w, k) of comb(m, k) draws. What else was answered to the same question is not wrong, and never drawn.

    Args:
        scores: (questions, replies).
        held: The questions with their replies.
        replies: All different; each pair's reply is among them.
        candidates: Replies to choose from, the right one included.

    Returns:
        (questions,) float64 in 0..1.
    """
    right: dict[tuple, set[str]] = {}
    for pair in held:
        right.setdefault(pair.before, set()).add(pair.reply)
    found = []
    for pair, row in zip(held, scores, strict=True):
        wrong = torch.tensor([reply not in right[pair.before] for reply in replies])
        check(wrong.sum() >= candidates - 1, f"{len(replies)} replies are too few to pick one out of {candidates}")
        beaten = (row[wrong] < row[replies.index(pair.reply)]).sum().item()
        found.append(comb(beaten, candidates - 1) / comb(int(wrong.sum()), candidates - 1))
    return torch.tensor(found, dtype=torch.float64)


def picked(model: Llama, tokenizer: ByteBPE, held: Sequence[Pair]) -> dict[str, Tensor]:
    """`chances_to_pick` by the score log p(reply | question) - log p(reply), and by the first term alone.

    Without the second term the model picks what is short and frequent, whatever the question (Li et al., 2016,
    https://arxiv.org/abs/1510.03055).

    Args:
        model: In eval mode or not: there is nothing in it that minds.
        tokenizer: Its own.
        held: Of one language; a random MOST of them are ranked.

    Returns:
        "pick" and "pick_by_likelihood", each (questions,).
    """
    some = torch.randperm(len(held), generator=torch.Generator().manual_seed(0))[:MOST].tolist()
    held = [held[number] for number in some]
    replies = sorted({pair.reply for pair in held})
    given, general = score(model, tokenizer, held, replies)
    return {
        "pick": chances_to_pick(given - general, held, replies),
        "pick_by_likelihood": chances_to_pick(given, held, replies),
    }


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """The mean of (N,) numbers and its standard error."""
    return values.mean().item(), values.std().item() / sqrt(len(values))


# %% All numbers
def measure(model: Llama, tokenizer: ByteBPE, data: dict[str, DialogueData], split: str = "test") -> dict[str, float]:
    """Perplexity and picking, of both languages and of each.

    Args:
        model: The chatbot.
        tokenizer: Its own.
        data: What it was trained on, and what it is measured on.
        split: "test", or "validation" to choose settings by.

    Returns:
        Flat numbers; "recall_at_1" is the share of right picks out of ten, chance is 0.1.
    """
    held = {language: pairs(getattr(one, split)) for language, one in data.items()}
    training = [pair for one in data.values() for pair in pairs(one.train)]
    together = [pair for some in held.values() for pair in some]
    ours, counted = reply_loss(model, tokenizer, together), unigram_loss(tokenizer, training, together)
    results = {
        "perplexity": exp(ours["loss"]),
        "perplexity_later": exp(reply_loss(model, tokenizer, [pair for some in held.values() for pair in later(some)])["loss"]),
        "unigram_perplexity": exp(counted["loss"]),
        "nats_per_byte": ours["nats_per_byte"],
        "unigram_nats_per_byte": counted["nats_per_byte"],
    }
    picks = {language: picked(model, tokenizer, some) for language, some in held.items()}
    for name, told in (("pick", "recall_at_1"), ("pick_by_likelihood", "recall_by_likelihood")):
        results[told], results[f"{told}_error"] = mean_and_error(torch.cat([one[name] for one in picks.values()]))
    for language, one in picks.items():
        results[f"recall_at_1_{language}"], results[f"recall_at_1_{language}_error"] = mean_and_error(one["pick"])
        results[f"perplexity_{language}"] = exp(reply_loss(model, tokenizer, held[language])["loss"])
    return results | {"questions_ranked": sum(len(one["pick"]) for one in picks.values())}


def answer(model: Llama, tokenizer: ByteBPE, turns: Sequence[str], seed: int = 0, temperature: float = 0.7) -> str:
    """What the bot says after these turns, the user's last: at most 60 tokens, drawn with `temperature` and top_p 0.9."""
    prompt = [*encode(tokenizer, turns), tokenizer.special[BOT]]
    stop = set(tokenizer.special.values())
    tokens = generate(model, prompt, 60, temperature=temperature, top_p=0.9, seed=seed, stop=stop)
    return tokenizer.decode(tokens).strip()


def show_answers(model: Llama, tokenizer: ByteBPE, asked: Sequence[str] = ASKED_IN_ENGLISH + ASKED_IN_KOREAN) -> None:
    """Print what it says to a few questions, unedited: the likeliest reply, and a drawn one."""
    print("\nunedited: the likeliest reply / one drawn with temperature 0.7")
    for question in asked:
        likeliest, drawn = (answer(model, tokenizer, [question], temperature=heat) for heat in (0.0, 0.7))
        print(f"  {question}\n    {likeliest} / {drawn}")


# %% Figures
def draw_learning_curves(history: History):
    """Loss of every step with its running mean, and training and validation loss of every epoch; returns the figure."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    draw_losses(left, history.losses)
    left.set_ylabel(label("nats a token", "토큰당 nat"))
    epochs = range(1, len(history.epochs) + 1)
    right.plot(epochs, [epoch["train_loss"] for epoch in history.epochs], "o-", label=label("training", "훈련"))
    right.plot(epochs, [epoch["loss"] for epoch in history.epochs], "o-", label=label("held-out replies", "검증용 답"))
    right.axvline(history.best_epoch + 1, color="gray", linestyle=":", label=label("kept", "저장한 에포크"))
    right.set(title=label("Where it begins to learn by heart", "외우기 시작하는 곳"), xlabel=label("epoch", "에포크"))
    right.legend()
    return figure


def draw_recall(results: dict[str, float]):
    """The right reply out of ten, by both scores and in each language, with standard errors; returns the figure."""
    import matplotlib.pyplot as plt

    bars = {
        label("likelihood alone", "우도만"): "recall_by_likelihood",
        label("minus log p(reply)", "log p(답)을 뺀 점수"): "recall_at_1",
        label("… in English", "… 영어"): "recall_at_1_en",
        label("… in Korean", "… 한국어"): "recall_at_1_ko",
    }
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    errors = [results[f"{name}_error"] for name in bars.values()]
    axis.bar(list(bars), [results[name] for name in bars.values()], yerr=errors, color="tab:blue", alpha=0.8, capsize=4)
    axis.axhline(1 / CANDIDATES, color="gray", linestyle=":", label=label("chance", "무작위"))
    axis.set(ylabel=label("right reply out of ten", "후보 열 개 중 정답률"))
    axis.set_title(label("Picking the reply, with standard error", "답 고르기, 막대 위는 표준 오차"))
    axis.legend()
    return figure


def main(model: Path | None = None, source: Source = "auto", device: str = "auto", figures: bool = True) -> dict[str, float]:
    """Load a trained chatbot, measure it on the test dialogues, and let it answer.

    Args:
        model: The file; without it, the one that `python -m study run chatbot` wrote.
        source: "auto", "real" or "sample": the test dialogues.
        device: "auto", "cpu", "cuda" or "mps".
        figures: Draw as well.
    """
    network, tokenizer, about = load_network(model, pick_device(device))
    data = load(source)
    tested = told_source(data)
    print(f"trained on: {about['source']}\ntested on:  {tested}")
    # Another set's test questions may be this one's training questions: what is measured then is memory.
    check(tested == about["source"], "these are other dialogues than it was trained on: choose them with --source sample or real")
    results = measure(network, tokenizer, data)
    show_answers(network, tokenizer)
    if figures:
        save_figure(draw_recall(results), __file__, "recall")
    return results


def told_source(data: dict[str, DialogueData]) -> str:
    """One line for the data of all languages."""
    return " · ".join(one.source for one in data.values())


if __name__ == "__main__":
    run(main)
