"""Subword embeddings · 서브워드 임베딩

A table of word vectors has no row for a form that it never saw. FastText makes a vector of pieces, so that a new form of a known
word gets one, too. Korean gains most, where one noun or verb is written in a dozen ways; its pieces may be letters or syllables.
단어 벡터 표에는 본 적 없는 꼴의 자리가 없다. FastText는 조각으로 벡터를 만들기 때문에 아는 낱말의 새로운 꼴도 벡터를 얻는다.
명사와 동사가 조사와 어미에 따라 여러 꼴로 적히는 한국어가 가장 덕을 본다. 조각은 자모일 수도, 음절일 수도 있다.

You will
  1. cut words into n-grams, of characters in English and of jamo in Korean, and hash them into buckets
  2. write the mean of a word's pieces by hand, and hold it against nn.EmbeddingBag
  3. train, and ask for forms that never occurred: for their word, and for another word that has to do with the same
  4. take what must be taken from it: the training, the jamo, the pieces, and most of the buckets
  5. meet Korean in another Unicode form, a hash that differs in every process, and an error of nn.EmbeddingBag

Before     07_nlp/word_embeddings.py
Run        python -m study run subword_embeddings   (about 25 s on one CPU core, after importing torch)
You see    new Korean forms: their word 0.73, their group 0.86; whole words guess; untrained pieces 0.79, 0.21; unseen_forms.png
Try next   --seed 10, then --seed 10 --lr 0.1: first guess which language loses more
Theory     notes/en/07_nlp.md · notes/ko/07_nlp.md
Practise   python -m study check 07
"""

import os
import subprocess
import sys
import unicodedata

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets.small_world import World, load_world
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.word_windows import Corpus, neighbours, read_corpus

# The letters that begin, carry and end a syllable, in Unicode's order; many syllables end in none.
INITIALS, VOWELS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ", "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
FINALS = "·ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"


# %% 1. Pieces
def to_jamo(word: str) -> str:
    """Write each syllable as three letters, with · where the last one is missing: 소는 becomes ㅅㅗ·ㄴㅡㄴ."""
    letters = []
    for character in word:
        place = ord(character) - ord("가")  # syllables stand in the order of their letters: 19 · 21 · 28 of them
        is_syllable = 0 <= place < 19 * 21 * 28
        letters += [INITIALS[place // 588], VOWELS[place // 28 % 21], FINALS[place % 28]] if is_syllable else [character]
    return "".join(letters)


def to_ngrams(word: str, shortest: int, longest: int, jamo: bool) -> list[str]:
    """Cut a word, with < before and > after it, into all pieces of these lengths."""
    text = f"<{to_jamo(word) if jamo else word}>"
    return [text[i : i + n] for n in range(shortest, longest + 1) for i in range(len(text) - n + 1)]


def fnv1a(text: str) -> int:
    """Hash a text's UTF-8 into 32 bits (Fowler, Noll and Vo): the same number in every process, language and year."""
    number = 0x811C9DC5
    for byte in text.encode("utf-8"):
        number = (number ^ byte) * 0x01000193 & 0xFFFFFFFF
    return number


def number_pieces(words: list[str], known: dict[str, int], buckets: int, shortest: int, longest: int, jamo: bool) -> Tensor:
    """Number the pieces of words: (words, pieces), filled up with the row after the last, which is padding.

    The first rows are for whole words that are known, then come the buckets. `longest` 0 leaves whole words alone.
    """
    rows, padding = [], len(known) + buckets
    for word in words:
        whole = [known[word]] if word in known else []
        pieces = [len(known) + fnv1a(piece) % buckets for piece in to_ngrams(word, shortest, longest, jamo)]
        rows.append(torch.tensor(whole + pieces or [padding]))
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)


def count_collisions(words: list[str], buckets: int, shortest: int, longest: int, jamo: bool) -> tuple[float, float]:
    """Return which share of the n-grams of words has to share its bucket, and what is expected of a perfect hash."""
    pieces = sorted({piece for word in words for piece in to_ngrams(word, shortest, longest, jamo)})
    filled = torch.tensor([fnv1a(piece) % buckets for piece in pieces]).bincount(minlength=buckets)
    return filled[filled > 1].sum().item() / len(pieces), 1 - (1 - 1 / buckets) ** (len(pieces) - 1)


# %% 2. Vectors of pieces
class FastText(nn.Module):
    """A word's vector is the mean of its own row, if it has one, and of its pieces' rows; predicted are whole words."""

    def __init__(self, pieces: Tensor, rows: int, words: int, width: int, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.register_buffer("pieces", pieces)  # (words, pieces)
        self.inputs, self.outputs = nn.EmbeddingBag(rows + 1, width, mode="mean", padding_idx=rows), nn.Embedding(words, width)
        nn.init.uniform_(self.inputs.weight, -1 / width, 1 / width)
        nn.init.zeros_(self.inputs.weight[rows : rows + 1])
        nn.init.zeros_(self.outputs.weight)

    def forward(self, given: Tensor, asked: Tensor) -> Tensor:
        """Score asked (n, 1 + negatives) beside given (n,): (n, 1 + negatives)."""
        return torch.einsum("nd,nkd->nk", self.inputs(self.pieces[given]), self.outputs(asked))


def pool_by_hand(table: nn.EmbeddingBag, pieces: Tensor) -> Tensor:
    """Take the mean of the rows of pieces (words, pieces) that are no padding: (words, width)."""
    real = (pieces != table.padding_idx)[..., None]  # (words, pieces, 1)
    return (table.weight[pieces] * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)


# %% 3. Training and questions
def train(model: FastText, corpus: Corpus, steps: int, lr: float, seed: int) -> float:
    """Take steps of Adam on 1024 pairs of neighbours with 5 words of noise each; return the loss of the last step."""
    generator, device = torch.Generator().manual_seed(seed), model.pieces.device
    left, right, distances = neighbours(corpus, 4)
    stay = (1e-3 / (corpus.counts / corpus.counts.sum())).sqrt().clamp(max=1)
    weights = (stay[left] * stay[right] * (5 - distances) / 4).cumsum(0)  # frequent and far ones are drawn seldom
    noise = corpus.counts.pow(0.75).cumsum(0)
    optimizer, labels = torch.optim.Adam(model.parameters(), lr), torch.eye(6, device=device)[:1].expand(1024, 6)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    for _ in range(steps):
        drawn = torch.rand(1024, 6, generator=generator, dtype=torch.float64)
        pairs = torch.searchsorted(weights, drawn[:, 0] * weights[-1]).clamp(max=len(weights) - 1)
        wrong = torch.searchsorted(noise, drawn[:, 1:] * noise[-1]).clamp(max=len(noise) - 1)
        turned = torch.rand(1024, generator=generator) < 0.5  # each of two neighbours is given as often as asked for
        given, asked = torch.where(turned, right[pairs], left[pairs]), torch.where(turned, left[pairs], right[pairs])
        scores = model(given.to(device), torch.cat([asked[:, None], wrong], dim=1).to(device))  # (1024, 6)
        loss = F.binary_cross_entropy_with_logits(scores, labels, reduction="sum") / 1024
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return loss.item()


def find_words(unseen: Tensor, known: Tensor, world: World, words: list[str]) -> tuple[float, float]:
    """Ask for the forms that never occurred, by their vectors (missing, width) and those of all known words (words, width).

    Returns:
        Of how many the nearest word, as the mean of its known forms, is their own; and of how many the nearest group, as the
        mean of its words without their own: baking has to do with cooking.
    """
    stems, names = list(world.forms), sorted(set(world.groups.values()))
    stem_of = {form: i for i, stem in enumerate(stems) for form in world.forms[stem]}
    rows, places = torch.tensor([(i, stem_of[word]) for i, word in enumerate(words) if word in stem_of]).T
    means = torch.zeros(len(stems), known.shape[1]).index_add_(0, places, F.normalize(known, dim=1)[rows])
    means, own = F.normalize(means, dim=1), torch.tensor([stems.index(stem) for stem in world.missing.values()])
    guess = torch.randn(unseen.shape, generator=torch.Generator().manual_seed(0))  # for what has no vector at all
    unseen = F.normalize(unseen, dim=1) + 1e-6 * guess
    found = (unseen @ means.T).argmax(dim=1) == own
    groups = torch.tensor([names.index(world.groups[stem]) for stem in stems])
    others = F.one_hot(groups).float() * (1 - F.one_hot(own, len(stems)))[..., None]  # (missing, stems, groups)
    group_means = F.normalize(torch.einsum("msg,sd->mgd", others, means), dim=2)
    related = torch.einsum("md,mgd->mg", unseen, group_means).argmax(dim=1) == groups[own]
    return found.float().mean().item(), related.float().mean().item()


# %% 4. What can be taken from it
def compare(world: World, corpus: Corpus, ways: dict[str, dict], settings: dict, device: torch.device) -> dict[str, tuple]:
    """Train in several ways, `settings` but for what each way changes; return what each finds, its pieces and its model."""
    known, found = {word: i for i, word in enumerate(corpus.words)}, {}
    for name, changes in ways.items():
        own = settings | changes
        cut = {key: own[key] for key in ("buckets", "shortest", "longest", "jamo")}
        pieces = number_pieces(corpus.words, known, **cut).to(device)
        model = FastText(pieces, len(known) + own["buckets"], len(known), own["width"], own["seed"]).to(device)
        if own["steps"]:
            train(model, corpus, own["steps"], own["lr"], own["seed"])
        with torch.no_grad():
            unseen = model.inputs(number_pieces(list(world.missing), known, **cut).to(device)).cpu()
            found[name] = (*find_words(unseen, model.inputs(pieces).cpu(), world, corpus.words), model, cut)
        print(f"   {name:12} its own word {found[name][0]:.3f}, what has to do with the same {found[name][1]:.3f}")
    return found


def draw_bars(found: dict[str, dict[str, tuple]]) -> None:
    """Draw what each way finds, in each language."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(11, 3.5), layout="constrained")
    for axis, (language, ways) in zip(axes, found.items(), strict=True):
        for i, name in enumerate((label("its own word", "제 낱말"), label("what has to do with the same", "같은 부류의 낱말"))):
            axis.barh([place + 0.4 * i for place in range(len(ways))], [way[i] for way in ways.values()], 0.38, label=name)
        axis.set_yticks([place + 0.2 for place in range(len(ways))], list(ways))
        title = {"en": label("English", "영어"), "ko": label("Korean", "한국어")}[language]
        axis.set(title=title, xlim=(0, 1), xlabel=label("share found", "찾은 비율"))
        axis.invert_yaxis()
    axes[0].legend()
    save_figure(figure, __file__, "unseen_forms")


# %% 5. Mistakes
def meet_mistakes(world: World, corpus: Corpus, model: FastText, cut: dict) -> dict[str, float]:
    """Ask in Unicode's taken-apart form, and hash as Python does; return what is found, and how many hashes there are."""
    known, found = {word: i for i, word in enumerate(corpus.words)}, {}
    device, table = model.pieces.device, model.inputs(model.pieces).detach().cpu()
    for form in ("NFC", "NFD"):
        forms = [unicodedata.normalize(form, word) for word in world.missing]
        unseen = model.inputs(number_pieces(forms, known, **cut).to(device)).detach().cpu()
        found[form.lower()] = find_words(unseen, table, world, corpus.words)[0]
    one = next(iter(world.missing))
    lengths = [len(unicodedata.normalize(form, one)) for form in ("NFC", "NFD")]
    print(f"5. {one} has {lengths[0]} characters in NFC, {lengths[1]} in NFD: found {found['nfc']:.3f} and {found['nfd']:.3f}")
    command, environment = [sys.executable, "-c", "print(hash('abc'))"], {**os.environ, "PYTHONHASHSEED": "random"}
    hashes = [subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip() for _ in range(2)]
    found["python_hashes"] = float(len(set(hashes)))
    print(f"   Python's hash of abc in two processes: {hashes[0]} and {hashes[1]}; FNV-1a's in all: {fnv1a('abc')}")
    try:
        model.inputs(model.pieces[0])  # the pieces of one word, (pieces,)
    except ValueError as error:
        print(f'   "{error}"\n   read: one row of numbers may be any number of bags; pieces[None] makes it (1, pieces): one bag')
    return found


# %% All of it, in order
def main(
    sentences: int = 12_000, steps: int = 400, width: int = 32, buckets: int = 10_000, lr: float = 0.3,
    device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Make vectors of words from their pieces, and ask for forms of words that never occurred.

    Args:
        sentences: How many sentences to write in each language.
        steps: Steps of training, on 1024 pairs each.
        width: Numbers in a vector.
        buckets: Rows for pieces.
        lr: Learning rate at the start; it falls to a twentieth.
        device: auto, cpu, cuda or mps.
        seed: Of the sentences, the initial weights and all that is drawn.
    """
    check(min(steps, width, buckets, lr) > 0, "--steps, --width, --buckets and --lr: all have to be above 0")
    where, results, found = pick_device(device), {}, {}
    for language in ("en", "ko"):
        world = load_world(language, "sample", sentences, seed)
        corpus = read_corpus(world.sentences)
        settings = {"buckets": buckets, "shortest": 3, "longest": 5, "jamo": language == "ko", "steps": steps, "width": width}
        ways = {"pieces": {}, "100 buckets": {"buckets": 100}, "not trained": {"steps": 0}, "whole words": {"longest": 0}}
        ways |= {"syllables": {"jamo": False, "shortest": 1, "longest": 3}} if language == "ko" else {}
        print(f"4. {language}: {len(corpus.words):,} words are known; asked for are {len(world.missing)} that never occurred")
        found[language] = compare(world, corpus, ways, settings | {"lr": lr, "seed": seed}, where)
        model, cut = found[language]["pieces"][2:]
        off = (pool_by_hand(model.inputs, model.pieces) - model.inputs(model.pieces)).abs().max().item()
        shared, expected = count_collisions(corpus.words, **cut)
        print(f"   the mean by hand and by nn.EmbeddingBag: off by {off:.1g}; {shared:.3f} of the pieces share a bucket")
        own, related = ({name: way[i] for name, way in found[language].items()} for i in (0, 1))
        numbers = {name.replace(" ", "_"): share for name, share in own.items()} | {"bag_off": off}
        numbers |= {f"{name.replace(' ', '_')}_related": share for name, share in related.items()}
        numbers |= {"collisions": shared, "collisions_expected": expected}
        results |= {f"{language}_{name}": number for name, number in numbers.items()}
        learned = related["pieces"] > max(related["not trained"], related["whole words"]) and own["pieces"] > own["whole words"]
        check(learned, f"{language}: the pieces know no more than letters do: more --steps?")
    draw_bars(found)
    return results | meet_mistakes(world, corpus, model, cut)


if __name__ == "__main__":
    run(main)
