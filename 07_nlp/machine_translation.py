"""Machine translation · 기계 번역

A Transformer reads a sentence and writes it in another language, in which the verb stands somewhere else, a particle hangs on the
last consonant, and one word may need three. What it is tested on are sentences whose verb and object it never saw together.
트랜스포머가 문장을 읽고 다른 언어로 쓴다. 그 언어에서는 동사가 다른 자리에 오고, 조사는 받침을 따르며, 한 낱말이 세 낱말이 되기도
한다. 시험에는 학습할 때 한 번도 함께 나오지 않은 동사와 목적어가 든 문장만 나온다.

You will
  1. cut both languages into pieces of one shared vocabulary, and make batches of equal length with little padding
  2. train with teacher forcing, label smoothing, warm-up and averaged weights
  3. write translations with a KV cache, the same text as without, and compare them with a dictionary and a translation memory
  4. draw where the decoder looks: an alignment that crosses where the languages differ
  5. meet the error everyone meets, and what comes of silencing it: a network that learns to copy

Before     06_advanced/date_translation.py, 07_nlp/text_preprocessing.py
Run        python -m study run machine_translation (about 23 s on one CPU core, after importing torch)
You see    97 % of new sentences exactly right, of a translation memory none; a loss of 0.01 that says nothing; alignment.png
Try next   --into de: German cuts its verb in two, and has three genders. First guess whether that is harder than Korean
Theory     notes/en/07_nlp.md · notes/ko/07_nlp.md
Practise   python -m study check 07
"""

import math
import random
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from utils import byte_bpe, datasets
from utils.byte_bpe import ByteBPE
from utils.datasets.sentence_pairs import Pair
from utils.datasets.small_translations import translations, word_by_word
from utils.device import autocast, keep_memory, pick_device
from utils.lesson import check, run
from utils.networks.translator import END, PAD, SPECIAL, START, Translator
from utils.plotting import korean_font, save_figure
from utils.translation_scores import judge, most_similar

Example = tuple[list[int], list[int]]  # a source with END behind it; a target between START and END
Batch = tuple[Tensor, Tensor]  # sources (batch, sources), targets (batch, targets), filled up with PAD


# %% 1. Sentences, tokens, batches
def encode(pairs: list[Pair], bpe: ByteBPE) -> list[Example]:
    return [([*bpe.encode(source), END], [START, *bpe.encode(target), END]) for source, target in pairs]


def make_batches(examples: list[Example], budget: int, by_length: bool = True) -> list[Batch]:
    """Cut examples into batches of at most `budget` tokens a side, padding counted; of similar lengths, or as they come."""
    if by_length:
        examples = sorted(examples, key=lambda example: (len(example[1]), len(example[0])))
    groups, longest = [[]], 0
    for example in examples:
        longest = max(longest, *map(len, example))
        if groups[-1] and longest * (len(groups[-1]) + 1) > budget:
            groups.append([])
            longest = max(map(len, example))
        groups[-1].append(example)
    return [tuple(pad_sequence([torch.tensor(row) for row in side], True, PAD) for side in zip(*group, strict=True))
            for group in groups]  # fmt: skip


def padding_share(batches: list[Batch]) -> float:
    """What share of all places is filled with PAD."""
    return sum((side == PAD).sum().item() for batch in batches for side in batch) / sum(s.numel() for b in batches for s in b)


# %% 2. Training
def train(
    model: Translator, batches: list[Batch], steps: int, lr: float, seed: int, smoothing: float = 0.1, bfloat16: bool = False,
    shift: int = 1, watch: Callable[[Translator, int, float], None] | None = None,
) -> tuple[Translator, float]:  # fmt: skip
    """Take steps on batches in random order; return the averaged weights as a model, and the mean of the last losses.

    The decoder is given the right tokens before (teacher forcing). `shift` is how many places ahead its targets are: 1.
    """
    draw, order, losses, device = random.Random(seed), [], [], model.embedding.weight.device
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(max(0.0, 1 - 10 / steps)))  # over about steps / 10
    optimizer, warm = torch.optim.AdamW(model.parameters(), lr, (0.9, 0.98)), max(1, steps // 10)
    torch.manual_seed(seed)  # of dropout
    for step in range(1, steps + 1):
        order = order or draw.sample(range(len(batches)), len(batches))
        source, target = (side.to(device) for side in batches[order.pop()])
        before, wanted = target[:, : target.shape[1] - shift], target[:, shift:]  # START a b c  →  a b c END
        with autocast(device, on_cpu=bfloat16):
            logits = model.train()(source, before)  # (batch, targets, tokens)
        loss = F.cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), ignore_index=PAD, label_smoothing=smoothing)
        model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = lr * min(step / warm, (warm / step) ** 0.5)  # up, then down as the paper has it
        optimizer.step()
        averaged.update_parameters(model)
        losses.append(loss.item())
        if watch is not None and (step == steps or step % max(1, steps // 8) == 0):
            watch(averaged.module, step, sum(losses[-50:]) / len(losses[-50:]))
    return averaged.module, sum(losses[-50:]) / len(losses[-50:])


# %% 3. Writing
@torch.no_grad()
def translate(model: Translator, sources: list[list[int]], bfloat16: bool = False, cache: bool = True) -> list[list[int]]:
    """Write the likeliest token again and again, until END, or until it is half as long again as the source and 20 tokens.

    With the cache the decoder reads only the last token of each, without it everything again.
    """
    model.eval()
    device, found = model.embedding.weight.device, {}
    for rows in torch.tensor([len(source) for source in sources]).argsort().split(50):  # of similar length
        source = pad_sequence([torch.tensor(sources[row]) for row in rows], True, PAD).to(device)
        written, ended = torch.full((len(rows), 1), START, device=device), torch.zeros(len(rows), dtype=torch.bool, device=device)
        with autocast(device, on_cpu=bfloat16):
            reading = model.read(source)
            for _ in range(source.shape[1] * 3 // 2 + 20):
                reading.past = reading.past if cache else None
                logits = model.write(written[:, -1:] if cache else written, reading)[:, -1]  # (batch, tokens)
                written = torch.cat([written, logits.argmax(dim=1, keepdim=True)], dim=1)
                ended |= written[:, -1] == END
                if ended.all():
                    break
        for row, tokens in zip(rows.tolist(), written[:, 1:].tolist(), strict=True):
            found[row] = tokens[: tokens.index(END)] if END in tokens else tokens
    return [found[row] for row in range(len(sources))]


# %% 4. Where it looks
@torch.no_grad()
def align(model: Translator, bpe: ByteBPE, example: Example) -> tuple[list[str], list[str], Tensor]:
    """Return the words of both sides, and how much attention of the last layer goes from each target word to each source word."""
    (source, target), layer, seen, device = example, model.eval().decoder[-1], [], model.embedding.weight.device
    hook = layer.query.register_forward_hook(lambda _, inputs, output: seen.append(output))  # the fused kernel keeps no weights
    reading = model.read(torch.tensor([source], device=device))
    model.write(torch.tensor([target[:-1]], device=device), reading)
    hook.remove()
    (q,), (keys, _) = layer.heads_of(seen[0], 1), reading.memory[-1]
    weights = (q @ keys.transpose(2, 3) / math.sqrt(q.shape[3])).softmax(dim=3)[0].mean(dim=0).cpu()  # (targets, sources)
    words, places = [], []
    for tokens in (target[1:-1], source[:-1]):
        begins = torch.tensor([i == 0 or bpe.decode([token]).startswith(" ") for i, token in enumerate(tokens)])
        words.append(bpe.decode(tokens).split(" "))
        places.append(F.one_hot(begins.cumsum(0) - 1).float())  # (tokens, words)
    table = (places[0].T @ weights[:-1, :-1] @ places[1]) / places[0].sum(dim=0)[:, None]  # a mean over tokens, a sum over them
    return words[1], words[0], table


def draw_alignment(model: Translator, bpe: ByteBPE, examples: list[Example]) -> None:
    """Draw where each word was looked up."""
    import matplotlib.pyplot as plt

    plt.rcParams["font.family"] = [*filter(None, [korean_font()]), "DejaVu Sans"]  # one that has Hangul, where there is one
    figure, axes = plt.subplots(1, len(examples), figsize=(12, 4.5), layout="constrained", squeeze=False)
    for axis, example in zip(axes[0], examples, strict=True):
        sources, targets, table = align(model, bpe, example)
        axis.imshow(table.numpy(), cmap="Greys", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(len(sources)), sources, rotation=60)
        axis.set_yticks(range(len(targets)), targets)
    save_figure(figure, __file__, "alignment")


# %% 5. Mistakes
def meet_error(model: Translator, batch: Batch) -> str:
    """Give the decoder the whole target, and ask for what comes after START; return PyTorch's answer."""
    source, target = (side.to(model.embedding.weight.device) for side in batch)
    try:
        F.cross_entropy(model(source, target).flatten(0, 1), target[:, 1:].flatten())
    except ValueError as error:
        message = str(error)
    print(f'5. "{message}"\n   read: one prediction too many in each row; the last token predicts nothing: put target[:, :-1] in')
    return message


# %% All of it, in order
def main(
    source: datasets.Source = "sample", into: Literal["ko", "de", "fr"] = "ko", pairs: int = 6000, vocabulary: int = 1000,
    width: int = 64, layers: int = 2, heads: int = 4, dropout: float = 0.0, steps: int = 400, batch_tokens: int = 768,
    lr: float = 0.006, threads: int = 1, bfloat16: bool = False, device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Train a Transformer to translate from English.

    Args:
        source: "sample" (sentences of our own grammar), "real" or "auto" (Multi30k; for Korean, Tatoeba).
        into: ko (Korean), de (German) or fr (French, only real).
        pairs: Sentences of the grammar to train on.
        vocabulary: Tokens, which both languages share; at least 259.
        width: Of the stream, a multiple of heads.
        layers: Of the encoder, and of the decoder.
        heads: Of every attention.
        dropout: Share of numbers that are zeroed while training.
        steps: Steps of training.
        batch_tokens: Tokens of a batch, on each side, with padding.
        lr: The highest learning rate.
        threads: CPU cores to work on.
        bfloat16: Compute in bfloat16 on a CPU that has it, too: faster, and other numbers on other CPUs.
        device: auto, cpu, cuda or mps.
        seed: Of weights, batches and sentences.
    """
    check(min(pairs, layers, heads, steps, threads) > 0, "--pairs, --layers, --heads, --steps, --threads: at least 1")
    check(batch_tokens >= 128 and 0 <= dropout < 1, "--batch-tokens is at least 128, --dropout from 0 up to 1")
    torch.set_num_threads(threads)
    if threads > 1:  # a long run on large tensors
        keep_memory()
    where, data = pick_device(device), translations(source, into, pairs, seed)
    bpe = byte_bpe.train([text for pair in data.train for text in pair], vocabulary, SPECIAL)
    known, held, test = (encode(part, bpe) for part in (data.train, data.validation[:100], data.test))
    batches, (texts, right) = make_batches(known, batch_tokens), zip(*data.test, strict=True)
    shares = padding_share(batches), padding_share(make_batches(known, batch_tokens, by_length=False))
    print(f"1. {data.train[0][0]} → {'·'.join(bpe.decode([token]) for token in known[0][1][1:-1])}")
    print(f"   {len(batches)} batches; padding {shares[0]:.1%}, without sorting {shares[1]:.1%}")
    model = Translator(len(bpe), width, heads, layers, dropout, seed=seed).to(where)
    print(f"2. {sum(p.numel() for p in model.parameters()):,} parameters")

    def write(model: Translator, examples: list[Example], bfloat16: bool = bfloat16, cache: bool = True) -> list[str]:
        return [bpe.decode(tokens) for tokens in translate(model, [row for row, _ in examples], bfloat16, cache)]

    def watch(averaged: Translator, step: int, loss: float) -> None:
        written = write(averaged, held)
        scores = judge(written, [text for _, text in data.validation[: len(held)]], into)
        print(f"   step {step:5}: loss {loss:.3f}, validation BLEU {scores['bleu']:.1f}: {written[0][:60]}", flush=True)

    averaged, loss = train(model, batches, steps, lr, seed, smoothing=0.1, bfloat16=bfloat16, watch=watch)
    copier = Translator(len(bpe), width=64, heads=4, layers=1, seed=seed).to(where)
    _, copier_loss = train(copier, batches, steps=100, lr=0.004, seed=seed, smoothing=0.0, shift=0)
    written = {"copy": texts, "memory": [data.train[i][1] for i in most_similar([text for text, _ in data.train], list(texts))]}
    if "grammar" in data.source:
        written["dictionary"] = [word_by_word(text, into) for text in texts]
    written |= {"transformer": write(averaged, test), "last weights": write(model, test)}
    found = {name: judge(list(lines), list(right), into) for name, lines in written.items()}
    print("3. on new sentences: BLEU and chrF (0 to 100: runs of words, of characters, that are right), exactly right")
    for name, scores in found.items():
        print("   {:13} {:5.1f} {:5.1f} {:6.3f}".format(name, *scores.values()))
    same = write(averaged, test[:50], bfloat16=False, cache=False) == write(averaged, test[:50], bfloat16=False)
    for text, line, wanted in [*zip(texts, written["transformer"], right, strict=True)][:3]:
        print(f"   {text} → {line}" + f" ({wanted})" * (line != wanted))
    draw_alignment(averaged, bpe, test[:2])
    meet_error(copier, batches[0])
    copied = judge(write(copier, test[:50]), list(right[:50]), into)["bleu"]
    print(f"   not shifted at all, no message: loss {copier_loss:.3f}, BLEU {copied:.1f}; it says again what it is given")
    best = max(scores["bleu"] for name, scores in found.items() if name in ("copy", "memory", "dictionary"))
    check(found["transformer"]["bleu"] > best + 5, "looking up similar sentences is as good: more --steps?")
    results = {"loss": loss, "best_baseline_bleu": best, "copier_loss": copier_loss, "copier_bleu": copied, "same_uncached": same}
    return results | found["transformer"] | {"last_weights_bleu": found["last weights"]["bleu"], "padding": shares[0]}


if __name__ == "__main__":
    run(main)
