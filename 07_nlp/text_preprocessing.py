"""From text to tensors · 텍스트 전처리

What looks the same need not be the same: a text is a sequence of code points, and a vocabulary knows a word only in the very code
points that it has learned. So texts are normalised, cut into tokens, numbered and padded, and each step can lose something.
똑같아 보인다고 똑같은 글은 아니다. 글은 코드 포인트의 나열이고, 어휘는 배운 코드 포인트 그대로인 낱말만 알아본다. 그래서 글을
정규화하고, 토큰으로 나누고, 번호를 매기고, 길이를 맞춘다. 단계마다 무언가를 잃을 수 있다.

You will
  1. count what texts consist of; take Hangul syllables apart (Unicode's form NFD) and together (NFC) by arithmetic
  2. cut English and Korean into words, characters and jamo (Hangul's letters), and see how much of a new text is unknown
  3. turn texts into padded batches, prove that the padding has no say, pad less by sorting, and meet an error
  4. teach a small GRU to tell praise from complaint, and see what cleaning costs it, and text from a Mac's file names

Before     06_advanced/sentence_embeddings.py
Run        python -m study run text_preprocessing     (about 8 s on one CPU core, after importing torch)
You see    of new words 23 % are unknown, of Korean ones 41 %; accuracy 0.998, of Korean in NFD 0.513; unknown.png
Try next   --unit jamo: the reader reads letters. First guess what becomes of its accuracy, and of that in NFD
Theory     notes/en/07_nlp.md · notes/ko/07_nlp.md
Practise   python -m study check 07
"""

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from utils.datasets import Texts, chatterbot, nsmc
from utils.datasets.opinions import write_opinions
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

PAD, UNKNOWN = 0, 1  # ids of what is no token, and of every token that the training texts do not have
FIRST, VOWELS, FINALS, NO_FINAL = (0x1100, 0x1161, 0x11A7), 21, 28, "\u11a7"  # jamo: first initial, vowel, final; how many
LOOKS = {"café": 4, "한글": 2, "ㅋㅋ": 2, "ﬁ Ａ ①": 5, "10²": 3, "👍🏽": 1, "👩‍👩‍👧": 1}  # and how many characters one sees


# %% 1. Code points
def decompose(text: str) -> str:
    """Take Hangul syllables apart into jamo: what Unicode calls NFD, as far as modern Hangul goes."""
    parts = re.split("([가-힣])", text)  # syllables are at odd places
    for i in range(1, len(parts), 2):
        place = ord(parts[i]) - ord("가")
        numbers = place // (VOWELS * FINALS), place // FINALS % VOWELS, place % FINALS
        parts[i] = "".join(chr(first + number) for first, number in zip(FIRST, numbers, strict=True)).rstrip(NO_FINAL)
    return "".join(parts)


def compose(text: str) -> str:
    """Put jamo together, an initial, a vowel, and a final if there is one: NFC, as far as modern Hangul goes."""
    parts = re.split("([\u1100-\u1112][\u1161-\u1175][\u11a8-\u11c2]?)", decompose(text))
    for i in range(1, len(parts), 2):
        initial, vowel, final = (ord(one) - first for one, first in zip(parts[i].ljust(3, NO_FINAL), FIRST, strict=True))
        parts[i] = chr(ord("가") + (initial * VOWELS + vowel) * FINALS + final)
    return "".join(parts)


def look_closely() -> int:
    """Print what texts consist of; return how many syllables are taken apart and together otherwise than by unicodedata."""
    print("1. looks      seen  NFC  NFD  NFKC  bytes   what NFKC makes of it")
    for text, seen in LOOKS.items():
        nfc, nfd, nfkc = (unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC"))
        sizes = f"{seen:4}  {len(nfc):3}  {len(nfd):3}  {len(nfkc):4}  {len(nfc.encode()):5}"
        print(f"   {text:10} {sizes}   {nfkc}  ({' '.join(f'{ord(character):X}' for character in nfkc)})")
    pairs = [(chr(code), unicodedata.normalize("NFD", chr(code))) for code in range(ord("가"), ord("힣") + 1)]
    wrong = sum(decompose(one) != apart or compose(apart) != one for one, apart in pairs)
    print(f"   {len(pairs):,} syllables apart and together by arithmetic: {wrong} otherwise than by unicodedata")
    return wrong


# %% 2. Tokens
def split_words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)  # words and signs


UNITS = {"words": split_words, "characters": list, "jamo": lambda text: list(decompose(text))}


class Vocabulary:
    """Numbers for the tokens of texts, the frequent ones first."""

    def __init__(self, texts: list[str], split: Callable[[str], list[str]]):
        counts = Counter(token for text in texts for token in split(text))
        kept = sorted(counts, key=lambda token: (-counts[token], token))  # of equals the first by alphabet: always the same
        self.split, self.ids = split, {token: i for i, token in enumerate(["<pad>", "<unk>", *kept])}

    def encode(self, text: str) -> Tensor:
        """Number the tokens of a text: (steps,). A text without any gets one that is unknown."""
        return torch.tensor([self.ids.get(token, UNKNOWN) for token in self.split(text)] or [UNKNOWN])


def compare_units(words: int, seed: int) -> dict[str, float]:
    """Learn vocabularies from up to `words` words of small talk; return the unknown shares in 200 other texts, and draw them."""
    import matplotlib.pyplot as plt

    (figure, axis), found, sizes = plt.subplots(figsize=(7, 4), layout="constrained"), {}, [words // n for n in (16, 8, 4, 2, 1)]
    print(f"2. vocabularies from {words:,} words: their size, the share of tokens that are unknown in new texts, tokens a text")
    for language, colour in (("en", "C0"), ("ko", "C1")):
        texts = sorted({turn.lower() for dialogue in chatterbot(language).train for turn in dialogue})
        random.Random(seed).shuffle(texts)
        new, known = texts[:200], texts[200:]
        read = torch.tensor([len(split_words(text)) for text in known]).cumsum(0)  # words in the first text, the first two, ...
        check(read[-1] >= words, f"--words {words}: there are no more than {read[-1]} in {language}")
        for (unit, split), style in zip(UNITS.items(), ("o-", "o--", "o:"), strict=True):
            learned = [Vocabulary(known[: int((read <= size).sum())], split) for size in sizes]
            unknown = [(torch.cat([one.encode(text) for text in new]) == UNKNOWN).float().mean().item() for one in learned]
            found[f"{language}_{unit}"] = unknown[-1]
            tokens = sum(len(split(text)) for text in new) / len(new)
            print(f"   {language} {unit:11} {len(learned[-1].ids):6,} {unknown[-1]:8.4f} {tokens:6.1f}")
            axis.plot(sizes, unknown, style, color=colour, markersize=4)[0].set_label(f"{language}, {unit}")
    axis.set(xlabel=label("words learned from", "배운 글의 낱말 수"), ylabel=label("unknown share", "모르는 토큰의 비율"), ylim=0)
    figure.legend(loc="outside right upper")
    save_figure(figure, __file__, "unknown")
    return found


# %% 3. Batches
def make_batches(lengths: Tensor, size: int, pool: int, generator: torch.Generator) -> list[Tensor]:
    """Draw texts in a new order, sort each `pool` batches of them by length, and shuffle the batches."""
    order = torch.randperm(len(lengths), generator=generator)
    batches = torch.cat([part[lengths[part].argsort()] for part in order.split(pool * size)]).split(size)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


class Reader(nn.Module):
    """A GRU that reads tokens (batch, steps) and says which of two classes it was: logits (batch, 2)."""

    def __init__(self, tokens: int, width: int, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.embedding, self.head = nn.Embedding(tokens, width), nn.Linear(width, 2)
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, ids: Tensor, packed: bool = True) -> Tensor:
        x = self.embedding(ids)
        if packed:  # the last state is then that after each row's own last token
            x = pack_padded_sequence(x, (ids != PAD).sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        return self.head(self.gru(x)[1][0])


@torch.no_grad()
def compare_batches(texts: list[str], seed: int) -> dict[str, float]:
    """Return how far logits of a batch are from those of its rows alone, and shares of padding in batches of 32."""
    vocabulary = Vocabulary(texts, split_words)
    rows, model = [vocabulary.encode(text) for text in texts], Reader(len(vocabulary.ids), 16, seed)
    ids, alone = pad_sequence(rows[:32], batch_first=True, padding_value=PAD), torch.cat([model(row[None]) for row in rows[:32]])
    found = {"packed": (model(ids) - alone).abs().max().item(), "unpacked": (model(ids, packed=False) - alone).abs().max().item()}
    print(f"3. in a batch, logits move by {found['packed']:.0e} if it is packed, by {found['unpacked']:.2f} if not")
    lengths = torch.tensor([len(row) for row in rows])
    for name, pool in (("padding", 1), ("padding_by_length", 16)):
        batches = make_batches(lengths, 32, pool, torch.Generator().manual_seed(seed))
        found[name] = 1 - lengths.sum().item() / sum(len(batch) * lengths[batch].max().item() for batch in batches)
    try:
        model(torch.stack([rows[0], torch.full_like(rows[0], PAD)]))  # the second text has no token
    except RuntimeError as error:
        print(f'   "{error}"\n   read: one of the texts is empty; who cleaned it, and was that what they wanted?')
    print(f"   padding: {found['padding']:.3f} of all places in random batches, {found['padding_by_length']:.3f} by length")
    return found


# %% 4. Cleaning
def without_stop_words(text: str) -> str:
    """Throw away the words that scikit-learn's list calls too frequent to mean anything, and 매우, 비록 and 다만."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return " ".join(word for word in split_words(text) if word not in ENGLISH_STOP_WORDS | {"매우", "비록", "다만"})


CLEANINGS = {
    "nothing": str,
    "signs": lambda text: re.sub(r"[^\w\s]", " ", text),
    "stop words": without_stop_words,
    "all but a-z": lambda text: re.sub("[^a-z]", " ", text),
    "all but 가-힣": lambda text: re.sub("[^가-힣]", " ", text),
}


def train(texts: list[str], labels: Tensor, unit: str, steps: int, lr: float, seed: int, where: torch.device):
    """Learn a vocabulary and a reader, by steps of Adam on 64 texts of like lengths each; return both."""
    vocabulary, generator, batches = Vocabulary(texts, UNITS[unit]), torch.Generator().manual_seed(seed), []
    rows, model = [vocabulary.encode(text) for text in texts], Reader(len(vocabulary.ids), 32, seed).to(where)
    lengths, optimizer = torch.tensor([len(row) for row in rows]), torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        batches = batches or make_batches(lengths, 64, 16, generator)  # a new epoch
        batch = batches.pop()
        ids = pad_sequence([rows[i] for i in batch.tolist()], batch_first=True, padding_value=PAD)
        loss = nn.functional.cross_entropy(model(ids.to(where)), labels[batch].to(where))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return vocabulary, model


@torch.no_grad()
def accuracies(vocabulary: Vocabulary, model: Reader, texts: list[str], labels: Tensor, korean: Tensor) -> list[float]:
    """Return the shares of texts that are put into their class: of all, of the English ones, of the Korean ones."""
    ids = pad_sequence([vocabulary.encode(text) for text in texts], batch_first=True, padding_value=PAD)
    good = model(ids.to(model.head.weight.device)).argmax(dim=1).cpu() == labels
    return [part.float().mean().item() for part in (good, good[~korean], good[korean])]


def compare_cleanings(known: Texts, test: Texts, unit: str, steps: int, lr: float, seed: int, where: torch.device) -> dict:
    """Train a reader on texts without one thing or another, and ask it in the same way; return `accuracies` by name."""
    korean, found = torch.tensor([bool(re.search("[ㄱ-ㅣ가-힣]", text)) for text in test.texts]), {}
    print(f"4. accuracy on {len(test):,} other texts: all, English, Korean")
    for name, clean in CLEANINGS.items():
        trained = train([clean(text) for text in known.texts], known.labels, unit, steps, lr, seed, where)
        in_nfd = {"asked in NFD": lambda text: unicodedata.normalize("NFD", text)} if name == "nothing" else {}
        for title, change in {f"without {name}": clean, **in_nfd}.items():
            found[title] = accuracies(*trained, [change(text) for text in test.texts], test.labels, korean)
            print(f"   {title:20}" + "".join(f"{share:7.3f}" for share in found[title]))
    return found


# %% All of it, in order
def main(
    words: int = 3000, unit: Literal["words", "characters", "jamo"] = "words", steps: int = 250, lr: float = 0.01,
    source: Literal["sample", "real"] = "sample", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Turn texts into tensors, and see what each step on the way can cost.

    Args:
        words: Of small talk to learn vocabularies from, in each language.
        unit: What the reader reads.
        steps: Steps of training, on 64 texts each.
        lr: Learning rate of Adam; it stays the same.
        source: Opinions of our own in both languages (sample), or reviews of films in Korean (real).
        device: auto, cpu, cuda or mps.
        seed: Of texts, weights and batches.
    """
    check(words >= 64 and steps > 0, "needed are --words 64 and --steps 1, or more")
    if source == "real":
        parts = nsmc("real").train[:20_000], nsmc("real").test[:5000]
        known, test = (Texts([unicodedata.normalize("NFC", text).lower() for text in part.texts], part.labels) for part in parts)
    else:
        known, new = (write_opinions(count, seed + i, 0.0) for i, count in enumerate((4000, 2000)))
        parts = known, [one for one in new if one not in known]
        known, test = (Texts([one.text for one in part], torch.tensor([one.content for one in part])) for part in parts)
    results = {"wrong_syllables": look_closely(), "majority": test.labels.bincount().max().item() / len(test)}
    results |= {f"unknown_{name}": share for name, share in compare_units(words, seed).items()}
    results |= compare_batches(known.texts[:2048], seed)
    for title, shares in compare_cleanings(known, test, unit, steps, lr, seed, pick_device(device)).items():
        results |= {f"{title.replace(' ', '_')}_{of}": share for of, share in zip(("all", "en", "ko"), shares, strict=True)}
    check(results["without_nothing_all"] > results["majority"] + 0.1, "hardly better than the larger class: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
