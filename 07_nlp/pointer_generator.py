"""Pointer-generator · 포인터 생성 네트워크

A network that writes a summary in its own words must still write names and numbers that it has never seen. The pointer-generator
may do both: at each step it decides between its vocabulary and pointing at a word of the text, which is then copied.
자기 말로 요약을 쓰는 신경망도 처음 보는 이름과 숫자는 써야 한다. 포인터 생성 네트워크는 둘 다 할 수 있다. 단어마다 어휘에서
고를지, 글의 한 곳을 가리켜 베낄지를 정한다.

You will
  1. number words, those in the vocabulary and, text by text, those that are not
  2. build an encoder, a decoder with attention, and the mixture of generating and copying (See et al., 2017)
  3. train it with and without copying, over seeds, on reports whose names and numbers are new in the test
  4. compare with the old trick of replacing "unknown" by the word that attention looks at most
  5. see what it copies, and feed a copied word back without thinking

Before     06_advanced/attention_seq2seq.py, 07_nlp/text_summarization.py
Run        python -m study run pointer_generator   (about 50 s on one CPU core, after importing torch)
You see    name and number right: with copying 0.99, "unknown" replaced 0.00, without 0.00; copying.png
Try next   --rare 0: every word of the training texts gets into the vocabulary. First guess what becomes of new names
Theory     notes/en/07_nlp.md · notes/ko/07_nlp.md
Practise   python -m study check 07
"""

import math
from collections import Counter
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from utils.datasets.reports import Report, write_reports
from utils.device import pick_device
from utils.lesson import check, mention, run
from utils.plotting import label, save_figure
from utils.sentences import split_words

PAD, UNKNOWN, START, END = range(4)


class Examples(NamedTuple):
    """Texts (n, sources) and summaries (n, targets), filled up with PAD.

    For words that the vocabulary lacks, `source` has UNKNOWN, `extended` and `target` have numbers behind the vocabulary, other
    ones in each text; `new` lists them. `size` is how many numbers there are.
    """

    source: Tensor
    extended: Tensor
    target: Tensor
    new: list[list[str]]
    size: int

    def rows(self, rows: list[int]) -> "Examples":
        """Some of the examples, in a batch no longer than they are."""
        cut = [part[rows][:, : int((part[rows] != PAD).sum(dim=1).max())] for part in self[:3]]
        return Examples(*cut, [self.new[i] for i in rows], self.size)


# %% 1. Words and numbers
def make_vocabulary(reports: list[Report], rare: float) -> dict[str, int]:
    """Number the words that stand in more than a share `rare` of the reports, from 4 on."""
    counts = Counter(word for one in reports for word in set(split_words(" ".join((*one.sentences, one.summary)))))
    return {word: i for i, word in enumerate(sorted(word for word, n in counts.items() if n > rare * len(reports)), END + 1)}


def encode(reports: list[Report], vocabulary: dict[str, int]) -> Examples:
    """Turn reports into numbers; a word of a summary that stands neither in the vocabulary nor in the text is UNKNOWN."""
    sources, extended, targets, everything_new = [], [], [], []
    for one in reports:
        words = split_words(" ".join(one.sentences))
        new = list(dict.fromkeys(word for word in words if word not in vocabulary))
        numbers = vocabulary | {word: len(vocabulary) + END + 1 + i for i, word in enumerate(new)}
        sources.append(torch.tensor([vocabulary.get(word, UNKNOWN) for word in words]))
        extended.append(torch.tensor([numbers[word] for word in words]))
        targets.append(torch.tensor([numbers.get(word, UNKNOWN) for word in split_words(one.summary)] + [END]))
        everything_new.append(new)
    size = len(vocabulary) + END + 1 + max(map(len, everything_new))
    return Examples(*(pad_sequence(rows, batch_first=True) for rows in (sources, extended, targets)), everything_new, size)


# %% 2. Generate or copy
class PointerGenerator(nn.Module):
    """GRUs with attention between them, and the switch between writing and copying; without it, if `copies` is False."""

    def __init__(self, words: int, width: int, copies: bool, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.words, self.copies = words, copies
        self.embedding = nn.Embedding(words, width, padding_idx=PAD)
        self.encoder = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.decoder = nn.GRU(width, width, batch_first=True)
        self.begin, self.query, self.key = nn.Linear(2 * width, width), nn.Linear(width, width), nn.Linear(2 * width, width)
        self.mix, self.head, self.switch = nn.Linear(3 * width, width), nn.Linear(width, words), nn.Linear(4 * width, 1)

    def read(self, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Read texts (batch, sources): states (batch, sources, 2 width), mask, and where the decoder begins (1, batch, width)."""
        real = source != PAD
        packed = pack_padded_sequence(self.embedding(source), real.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        states = pad_packed_sequence(self.encoder(packed)[0], batch_first=True, total_length=source.shape[1])[0]
        mean = (states * real[..., None]).sum(dim=1) / real.sum(dim=1, keepdim=True)
        return states, real, self.begin(mean).tanh()[None]

    def forward(self, before: Tensor, state: Tensor, memory: tuple, extended: Tensor, size: int) -> tuple[Tensor, ...]:
        """Return what follows the words `before` (batch, targets): probabilities over the extended vocabulary (batch, targets,
        size), the new state, attention (batch, targets, sources), the probability of generating (batch, targets, 1)."""
        states, real = memory
        x = self.embedding(torch.where(before < self.words, before, UNKNOWN))  # a copied word has no vector of its own
        out, state = self.decoder(x, state)  # (batch, targets, width)
        scores = self.query(out) @ self.key(states).transpose(1, 2) / math.sqrt(out.shape[2])
        attention = scores.masked_fill(~real[:, None], -math.inf).softmax(dim=2)  # (batch, targets, sources)
        found = attention @ states  # (batch, targets, 2 width)
        chosen = self.head(self.mix(torch.cat([out, found], dim=2)).tanh()).softmax(dim=2)
        generate = self.switch(torch.cat([found, out, x], dim=2)).sigmoid() if self.copies else torch.ones_like(out[..., :1])
        final = F.pad(generate * chosen, (0, size - self.words))  # new words cannot be generated
        where = extended[:, None].expand(-1, before.shape[1], -1)
        return final.scatter_add(2, where, (1 - generate) * attention), state, attention, generate


# %% 3. Training and writing
def train(model: PointerGenerator, data: Examples, steps: int, lr: float, seed: int) -> float:
    """Take steps of AdamW on 32 reports each, the decoder being given the right words before; return the mean last loss."""
    generator, losses, device = torch.Generator().manual_seed(seed), [], model.head.weight.device
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        batch = data.rows(torch.randint(len(data.source), (32,), generator=generator).tolist())
        source, extended, target = (part.to(device) for part in batch[:3])
        if not model.copies:
            target = torch.where(target < model.words, target, UNKNOWN)
        *memory, state = model.read(source)
        before = F.pad(target[:, :-1], (1, 0), value=START)
        final = model(before, state, memory, extended, batch.size)[0]
        right, real = final.gather(2, target[..., None])[..., 0], target != PAD  # (32, targets): what the right words got
        loss = -(right.clamp(min=1e-9).log() * real).sum() / real.sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return sum(losses[-20:]) / len(losses[-20:])


@torch.no_grad()
def write(model: PointerGenerator, batch: Examples, steps: int = 26) -> tuple[Tensor, Tensor, Tensor]:
    """Write greedily; return numbers (batch, steps), attention (batch, steps, sources), generating (batch, steps)."""
    source, extended, _ = (part.to(model.head.weight.device) for part in batch[:3])
    *memory, state = model.read(source)
    word, found = torch.full_like(source[:, :1], START), []
    for _ in range(steps):
        final, state, attention, generate = model(word, state, memory, extended, batch.size)
        word = final.argmax(dim=2)  # (batch, 1)
        found.append((word, attention, generate[..., 0]))
    return tuple(torch.cat(parts, dim=1).cpu() for parts in zip(*found, strict=True))


def to_words(batch: Examples, numbers: Tensor, attention: Tensor, vocabulary: dict[str, int], replace: bool) -> list[list[str]]:
    """Turn numbers into words up to END; with `replace`, UNKNOWN becomes the word that attention looks at most (Luong, 2015)."""
    known, texts = ["", "?", "", "", *vocabulary], []
    for row, looked, extended, new in zip(numbers.tolist(), attention.argmax(dim=2), batch.extended, batch.new, strict=True):
        names, row = known + new, row[: [*row, END].index(END)]
        row = [int(extended[looked[i]]) if replace and number == UNKNOWN else number for i, number in enumerate(row)]
        texts.append([names[number] for number in row])
    return texts


def facts_right(texts: list[list[str]], reports: list[Report]) -> Tensor:
    """Return which summaries have both the name, word by word, and the number: (n,), 1 or 0."""
    names = [f" {' '.join(split_words(one.facts[0]))} " for one in reports]
    rows = zip(names, [f" {' '.join(words)} " for words in texts], reports, strict=True)
    return torch.tensor([float(name in text and f" {one.facts[1]} " in text) for name, text, one in rows])


# %% 5. What it copies
def draw_copying(model: PointerGenerator, batch: Examples, report: Report, vocabulary: dict[str, int]) -> list[str]:
    """Draw, of a batch of one report, where each word was copied from: attention times the probability; return the words."""
    import matplotlib.pyplot as plt

    numbers, attention, generate = write(model, batch)
    (words,), source = to_words(batch, numbers, attention, vocabulary, replace=False), split_words(" ".join(report.sentences))
    copied = ((1 - generate[0, :, None]) * attention[0])[: len(words)]  # (targets, sources)
    figure, axis = plt.subplots(figsize=(11, 5), layout="constrained")
    axis.imshow(copied.numpy(), cmap="Greys", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(source)), source, rotation=75, fontsize=8)
    axis.set_yticks(range(len(words)), words, fontsize=8)
    save_figure(figure, __file__, "copying")
    return words


def feed_back(model: PointerGenerator, number: int) -> str:
    """Return the message when a number behind the vocabulary is looked up among the vectors, on the CPU, where one comes."""
    try:
        return str(F.embedding(torch.tensor([number]), model.embedding.weight.detach().cpu()))
    except IndexError as error:
        return str(error)


# %% All of it, in order
def main(
    steps: int = 150, lr: float = 0.01, width: int = 64, rare: float = 0.01, networks: int = 3,
    device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Summarise reports in words of one's own, with names that were never seen.

    Args:
        steps: Steps that each network is trained, on 32 reports each.
        lr: The highest learning rate.
        width: Of vectors and states.
        rare: Words in no more than this share of the reports stay out of the vocabulary.
        networks: How many with copying, and as many without, each from another seed.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    check(min(steps, width, networks) > 0, "needed are at least --steps 1, --width 1, --networks 1")
    check(0 <= rare < 0.5, f"--rare {rare}: a share of the reports, from 0 to 0.5")
    reports, tests = write_reports(4000, seed, "training", short=True), write_reports(300, seed, "test", short=True)
    mention("data", "4,000 + 300 reports in English and Korean, written here; names and numbers of the test are new")
    vocabulary, where = make_vocabulary(reports, rare), pick_device(device)
    data, test = (encode(some, vocabulary) for some in (reports, tests))
    print(f"1. {len(vocabulary)} words in the vocabulary; up to {test.size - len(vocabulary) - 4} new ones in a report")
    found = {"copying": [], "replaced": [], "without": []}
    for i in range(seed, seed + networks):
        for copies in (False, True):
            model = PointerGenerator(len(vocabulary) + END + 1, width, copies, i).to(where)
            loss = train(model, data, steps, lr, i)
            written = write(model, test)[:2]
            for name in ("copying",) if copies else ("replaced", "without"):
                texts = to_words(test, *written, vocabulary, replace=name == "replaced")
                found[name].append(facts_right(texts, tests))
                print(f"3. seed {i}, loss {loss:.3f}, {name:8} both right {found[name][-1].mean():.3f}: {' '.join(texts[0])}")
    korean, results = torch.tensor([one.language == "ko" for one in tests]), {}
    for name, rows in found.items():
        both = torch.stack(rows)  # (networks, reports)
        results |= {name: both.mean().item(), f"{name}_lowest": both.mean(dim=1).min().item()}
        results |= {f"{name}_english": both[:, ~korean].mean().item(), f"{name}_korean": both[:, korean].mean().item()}
    shown = next(i for i, one in enumerate(tests) if one.language == label("en", "ko"))
    draw_copying(model, test.rows([shown]), tests[shown], vocabulary)
    print(f"5. a copied word, looked up among the vectors: {feed_back(model, model.words)}")
    check(results["copying_lowest"] > results["replaced"] + 0.2, "copying does not help: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
