"""What perplexity is not · 퍼플렉시티가 말하지 않는 것

Perplexity tells how well a model predicts the tokens of a text. It does not compare models that cut the text otherwise, and it
does not tell how well a model writes: the likeliest text is not a likely one, and a text that is nearly right reads all wrong.
퍼플렉시티는 모델이 글의 토큰을 얼마나 잘 예측하는지 말해 준다. 글을 다르게 자르는 모델끼리는 견줄 수 없고, 글을 얼마나 잘
쓰는지도 알 수 없다. 확률이 가장 높은 글은 있을 법한 글이 아니고, 거의 다 맞는 글도 읽어 보면 틀린 글이다.

You will
  1. cut one text into more and fewer tokens: the lower perplexity belongs to the worse model, and Korean bytes are cheap
  2. spoil a model: what hardly moves its perplexity ruins its texts, and what ruins its perplexity leaves them as they are
  3. have one model write greedily, by beam search, and by drawing, and hold what it writes against what people wrote
  4. meet the error everyone meets who draws

Before     07_nlp/language_model.py, 06_advanced/text_generation.py
Run        python -m study run what_perplexity_is_not   (about 17 s on one CPU core, after importing torch)
You see    perplexity 1.55 of bytes is worse than 2.06 of subwords; greedily written, half of a text repeats itself; ways.png
Try next   --beams 1: first guess what beam search with a single beam writes, then compare its row with the others
Theory     notes/en/07_nlp.md · notes/ko/07_nlp.md
Practise   python -m study check 07
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import byte_bpe
from utils.datasets.plain_texts import PlainText, plain_text, stories_text
from utils.datasets.small_stories import holds_together
from utils.device import pick_device
from utils.kneser_ney import KneserNey
from utils.language import train_on_rows
from utils.lesson import check, run
from utils.networks.llama import sample
from utils.plotting import label, save_figure

WAYS = {
    "greedy": {"temperature": 0.0}, "temperature 0.7": {"temperature": 0.7}, "as it is": {},
    "temperature 1.5": {"temperature": 1.5}, "top-k 10": {"top_k": 10}, "top-p 0.9": {"top_p": 0.9}, "2 % noise": {"noise": 0.02},
}  # fmt: skip
Choose = Callable[[Tensor], Tensor]  # logits (batch, symbols) → the tokens to write next, (batch,)


# %% 1. Other tokens, other perplexities
def cut(text: PlainText, symbols: int) -> tuple[byte_bpe.ByteBPE, Tensor, Tensor, Tensor]:
    """Train a tokenizer on the beginning of a text; return it, and the three parts in tokens, (n,) int64 each."""
    tokenizer = byte_bpe.train(text.train[:100_000].splitlines(keepends=True), symbols)
    return tokenizer, *(torch.tensor(tokenizer.encode(part)) for part in (text.train, text.validation, text.test))


def compare_tokenizers(text: PlainText, sizes: tuple[int, ...], order: int) -> dict[int, tuple[float, float, float]]:
    """Count n-grams of bytes and of ever larger tokens; return by their number perplexity, bits per character, bits per byte."""
    found = {}
    for symbols in sizes:
        _, train, _, test = cut(text, symbols)
        loss = KneserNey(train, symbols, order).loss(train, test)  # nats a token
        bits = loss * (len(test) - 1) / math.log(2)
        found[symbols] = math.exp(loss), bits / len(text.test), bits / len(text.test.encode("utf-8"))
        print("   {:4} tokens: perplexity {:6.2f}, bits per character {:.3f}, per byte {:.3f}".format(symbols, *found[symbols]))
    return found


# %% 2. A model, and what spoils it
class Recurrent(nn.Module):
    """An LSTM as in 07_nlp/language_model.py, with tied embeddings."""

    def __init__(self, symbols: int, width: int, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.tokens, self.lstm = nn.Embedding(symbols, width), nn.LSTM(width, width, batch_first=True)
        self.head = nn.Linear(width, symbols)
        nn.init.normal_(self.tokens.weight, std=width**-0.5)
        self.head.weight = self.tokens.weight

    def read(self, ids: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Read tokens (batch, steps) after those that left this state: logits (batch, steps, symbols), and the new state."""
        out, state = self.lstm(self.tokens(ids), state)
        return self.head(out), state

    def forward(self, ids: Tensor) -> Tensor:
        return self.read(ids)[0]


@torch.no_grad()
def spoil(model: Recurrent, ids: Tensor, noise: float, sharper: float) -> dict[str, float]:
    """Return perplexities of ids (n,): of the model, of one that errs blindly now and then, and of one that is too sure."""
    logits = model(ids[None, :-1])[0]  # (n - 1, symbols)
    chances = logits.softmax(dim=1)
    models = {
        "as it is": chances,
        "noisy": (1 - noise) * chances + noise / chances.shape[1],
        "too sure": (sharper * logits).softmax(dim=1),
    }
    return {name: F.nll_loss(one.log(), ids[1:]).exp().item() for name, one in models.items()}


# %% 3. Writing
@torch.no_grad()
def write(model: Recurrent, begun: Tensor, count: int, choose: Choose) -> Tensor:
    """Continue texts (batch, n) by `count` tokens: (batch, count)."""
    logits, state = model.read(begun)
    written = []
    for _ in range(count):
        written.append(choose(logits[:, -1])[:, None])
        logits, state = model.read(written[-1], state)
    return torch.cat(written, dim=1)


def drawing(generator: torch.Generator, noise: float = 0.0, **way: float) -> Choose:
    """Draw as 06_advanced/text_generation.py teaches it; and let a share of all tokens, `noise`, be any token."""

    def choose(logits: Tensor) -> Tensor:
        options = {"temperature": 1.0, "top_k": 0, "top_p": 1.0} | way
        tokens = torch.tensor([sample(row, generator=generator, **options) for row in logits])
        blind = torch.randint(logits.shape[1], tokens.shape, generator=generator)
        return torch.where(torch.rand(len(tokens), generator=generator) < noise, blind, tokens).to(logits.device)

    return choose


@torch.no_grad()
def beam_search(model: Recurrent, begun: Tensor, count: int, beams: int) -> Tensor:
    """Look for the likeliest continuation of each of texts (batch, n), keeping the best `beams`: (batch, count)."""
    best = []
    for text in begun:
        logits, state = model.read(text[None])
        scores, written = torch.zeros(1, device=text.device), text.new_zeros(1, 0)  # (beams,), (beams, so far)
        for _ in range(count):
            totals = scores[:, None] + logits[:, -1].log_softmax(dim=1)  # (beams, symbols)
            scores, flat = totals.flatten().topk(min(beams, totals.numel()))
            beam, token = flat // totals.shape[1], flat % totals.shape[1]
            written = torch.cat([written[beam], token[:, None]], dim=1)
            logits, state = model.read(token[:, None], tuple(part[:, beam] for part in state))
        best.append(written[0])
    return torch.stack(best)


def grams(ids: Tensor, n: int) -> list[tuple[int, ...]]:
    """All n-grams of each of texts (batch, steps), in one list."""
    return [tuple(gram) for gram in ids.unfold(1, n, 1).flatten(0, 1).tolist()]


@torch.no_grad()
def judge(model: Recurrent, begun: Tensor, texts: Tensor, known: set[tuple[int, ...]]) -> tuple[float, float, float, float]:
    """Measure texts (batch, steps) that continue others (batch, n).

    Returns:
        Repetition: the share of 4-grams that stood in the same text before. Distinct: the share of different ones among all
        4-grams of all texts. Unseen: the share of 4-grams that the training text does not have. The model's own perplexity.
    """
    repeated = sum(1 - len(set(grams(text[None], 4))) / len(grams(text[None], 4)) for text in texts) / len(texts)
    every = grams(texts, 4)
    logits = model(torch.cat([begun, texts], dim=1)[:, :-1])[:, begun.shape[1] - 1 :]  # (batch, steps, symbols)
    own = F.cross_entropy(logits.flatten(0, 1), texts.flatten()).exp().item()
    return repeated, len(set(every)) / len(every), sum(gram not in known for gram in every) / len(every), own


def compare_ways(
    model: Recurrent, tokenizer: byte_bpe.ByteBPE, learned: Tensor, test: Tensor, count: int, length: int, beams: int, seed: int
) -> dict[str, tuple[float, ...]]:
    """Continue `count` parts of a text in every way; return what `judge` says, and the share of whole stories that agree."""
    rows = test[: len(test) // count * count].view(count, -1)[:, : 32 + length]
    known, begun = set(grams(learned[None], 4)), rows[:, :32]
    texts = {"real": rows[:, 32:], "beam search": beam_search(model, begun, length, beams)}
    for name, way in WAYS.items():
        texts[name] = write(model, begun, length, drawing(torch.Generator().manual_seed(seed), **way))
    print("3.                  repeated  distinct  unseen  own perplexity  stories that agree")
    found = {}
    for name, text in texts.items():
        stories = [story for row in text.tolist() for story in tokenizer.decode(row).split("\n")[1:-1]]  # none that is cut off
        found[name] = *judge(model, begun, text, known), sum(map(holds_together, stories)) / max(1, len(stories))
        print("   {:16} {:8.3f} {:9.3f} {:7.3f} {:15.2f} {:19.2f}".format(name, *found[name]))
    print("   beam search writes: " + tokenizer.decode(texts["beam search"][0].tolist()).replace("\n", " / ")[:240])
    return found


def draw_ways(found: dict[str, tuple[float, ...]]) -> None:
    """Draw each way by how much it repeats and how much of it was never seen."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 5), layout="constrained")
    for name, (repeated, _, unseen, *_) in found.items():
        axis.scatter(repeated, unseen, s=160 if name == "real" else 40, marker="*" if name == "real" else "o", label=name)
    axis.set(xlabel=label("4-grams repeated", "되풀이된 4-gram"), ylabel=label("4-grams never seen", "본 적 없는 4-gram"))
    axis.set_yscale("symlog", linthresh=0.01)  # 0 is among them
    axis.legend()
    save_figure(figure, __file__, "ways")


def meet_error() -> str:
    """Draw from logits; return PyTorch's answer."""
    try:
        torch.multinomial(torch.tensor([2.0, -1.0, 0.5]), 1)
    except RuntimeError as error:
        message = str(error)
    print(f'4. "{message}"\n   read: it wants probabilities, so softmax first. (Positive logits it takes without a word)')
    return message


# %% All of it, in order
def main(
    steps: int = 600, lr: float = 0.02, width: int = 128, count: int = 40, length: int = 120, beams: int = 4,
    device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Show what a perplexity does not tell.

    Args:
        steps: Steps of training, on 8 windows of 64 tokens each.
        lr: The highest learning rate.
        width: Of the LSTM.
        count: How many texts are continued in every way, at least 2.
        length: By how many tokens each, at least 8.
        beams: Unfinished texts that beam search keeps.
        device: auto, cpu, cuda or mps.
        seed: Of stories, splits, weights and draws.
    """
    check(min(steps, width, beams) > 0 and count > 1 and length >= 8, "--count is at least 2, --length 8, all others 1")
    text, where = stories_text(seed=seed), pick_device(device)
    print("1. 5-grams of Kneser-Ney: the same stories in tokens of three kinds, then small talk in English and in Korean")
    sizes = compare_tokenizers(text, (256, 320, 512), 5)
    english, korean = (compare_tokenizers(plain_text(language, "sample", seed), (512,), 5)[512] for language in ("en", "ko"))
    tokenizer, learned, _, test = cut(text, 512)
    model, test = Recurrent(512, width, seed).to(where), test.to(where)
    train_on_rows(model, learned.unfold(0, 65, 1).to(where), steps, 8, lr, seed)
    spoiled = spoil(model, test[:6000], 0.02, 3.0)
    print("2. perplexities: " + ", ".join(f"{name} {value:.3f}" for name, value in spoiled.items()))
    found = compare_ways(model, tokenizer, learned, test, count, length, beams, seed)
    draw_ways(found)
    meet_error()
    results = {f"{name.replace(' ', '_')}_perplexity": value for name, value in spoiled.items()}
    for name, (repeated, _, unseen, own, agree) in found.items():
        row = {"repeated": repeated, "unseen": unseen, "own": own, "agree": agree}
        results |= {f"{name.replace(' ', '_')}_{key}": value for key, value in row.items()}
    results |= {"bytes_perplexity": sizes[256][0], "bytes_bits": sizes[256][1], "tokens_perplexity": sizes[512][0]}
    results |= {"tokens_bits": sizes[512][1], "english_per_byte": english[2], "korean_per_byte": korean[2]}
    counting = KneserNey(learned, 512, 5).loss(learned, test.cpu()[:6000])
    check(math.log(spoiled["as it is"]) < counting, "counting predicts better than the LSTM: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
