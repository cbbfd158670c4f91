"""A small Llama that answers, how a dialogue is written for it, and the file in which it is kept with its tokenizer.

<|user|>What is AI?<|end|><|bot|>The science of machines that think.<|end|>

Every turn begins with who speaks and ends with <|end|>: a model that has learned to write <|end|> knows when to stop talking.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from utils import checkpoint, paths
from utils.byte_bpe import ByteBPE
from utils.lesson import LessonError, check
from utils.networks.llama import Llama, LlamaConfig

USER, BOT, END = "<|user|>", "<|bot|>", "<|end|>"
TEMPLATE = (USER, BOT, END)  # the special tokens: no text that is typed can become one of them
FACTS = ("tokenizer", "shape", "source", "numbers")  # what must be saved with the weights
TRAIN_AGAIN = "train again with `python -m study run chatbot`"


def make_model(vocab_size: int, width: int = 64, layers: int = 2) -> Llama:
    """A Llama with random weights, drawn from torch's global generator, that begins by repeating.

    Values and outputs of attention begin near the identity (compare Trockman and Kolter, 2023,
    https://arxiv.org/abs/2305.09828): what a token looks at becomes likelier as the next one, because input and output share
    their embeddings. To use a word of the question again, the model only has to learn where to look.

    Args:
        vocab_size: Tokens.
        width: Numbers per token; each head has 32 of them.
        layers: Blocks.
    """
    heads = width // 32
    model = Llama(LlamaConfig(vocab_size, width, 3 * width, layers, heads, kv_heads=heads, max_length=1024))
    with torch.no_grad():
        model.embed_tokens.weight.mul_(5)  # a standard deviation of 0.1: large enough to be told apart at once
        for block in model.layers:
            block.self_attn.v_proj.weight.add_(torch.eye(width))
            block.self_attn.o_proj.weight.add_(torch.eye(width))
    return model


def encode(tokenizer: ByteBPE, turns: Sequence[str]) -> list[int]:
    """Write a dialogue as tokens. The user begins, and the partners take turns.

    Args:
        tokenizer: With the special tokens of TEMPLATE.
        turns: What was said. Special tokens in it are taken as plain text.
    """
    tokens = []
    for number, turn in enumerate(turns):
        speaker = BOT if number % 2 else USER
        tokens += [tokenizer.special[speaker], *tokenizer.encode(turn), tokenizer.special[END]]
    return tokens


def save_network(path: Path, model: Llama, tokenizer: ByteBPE, source: str, numbers: dict[str, float]) -> None:
    """Keep a chatbot in one file: weights, shape, tokenizer, the data it learned from, and what it reached."""
    written = {
        "vocabulary": tokenizer.vocabulary,
        "merges": [list(pair) for pair in tokenizer.merges],
        "special": tokenizer.special,
    }
    checkpoint.save_model(path, model, tokenizer=written, shape=asdict(model.config), source=source, numbers=numbers)


def load_network(file: Path | None, device: torch.device | str = "cpu") -> tuple[Llama, ByteBPE, dict]:
    """Load what `save_network` has written; with None, where training puts it.

    Returns:
        The model, its tokenizer, and the facts that were saved with them: "shape", "source" and "numbers".

    Raises:
        LessonError: There is no such file, it is damaged, or it is another model's.
    """
    file, about = checkpoint.load_facts(file, paths.models("project3_chatbot") / "model.pt", FACTS, "run chatbot")
    try:
        written = about["tokenizer"]
        tokenizer = ByteBPE(written["vocabulary"], [tuple(pair) for pair in written["merges"]], written["special"])
        model = Llama(LlamaConfig(**about["shape"]))
        whole = len(tokenizer) == model.config.vocab_size and set(TEMPLATE) <= set(tokenizer.special)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise LessonError(f"{paths.short(file)} is not a chatbot of this project ({error}): {TRAIN_AGAIN}") from None
    check(whole, f"{paths.short(file)}: its tokenizer does not belong to its weights: {TRAIN_AGAIN}")
    about = checkpoint.load_model(file, model, device)
    del about["tokenizer"]
    return model.eval(), tokenizer, about
