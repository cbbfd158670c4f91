"""Text generation · 텍스트 생성

A language model gives probabilities; what becomes of them is another decision. Always the likeliest character, any character by
its chance, or something between: the same model tells one story again and again, nonsense, or what one wanted.
언어 모델이 주는 것은 확률이고, 그것으로 무엇을 할지는 따로 정해야 한다. 늘 가장 그럴듯한 글자를 고를지, 확률대로 뽑을지, 그 사이
어디쯤으로 할지에 따라 같은 모델이 한 이야기만 되풀이하기도 하고, 횡설수설하기도 하고, 쓸 만한 글을 쓰기도 한다.

You will
  1. write temperature, top-k, top-p and min-p, and hold what is drawn against what should be drawn
  2. keep keys and values instead of computing them again: the same text, in less time, and the memory that it takes
  3. train a small GPT, and see what each way of choosing makes of it
  4. meet the error everyone meets with a cache, and two mistakes that no message tells

Before     06_advanced/gpt.py
Run        python -m study run text_generation     (about 24 s on one CPU core, after importing torch)
You see    at temperature 1.5, 0.73 of the words exist, with top-p 0.94; 512 characters 7 times as fast with a cache
Try next   --layers 4: first guess whether the cache is worth more or less now, and what its size becomes
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import math
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import datasets
from utils.device import pick_device
from utils.language import ngram_losses, train_on_rows
from utils.lesson import check, run

WAYS = {
    "greedy": {"temperature": 0}, "temperature 0.7": {"temperature": 0.7}, "as it is": {}, "1.5": {"temperature": 1.5},
    "1.5, top-k 5": {"temperature": 1.5, "top_k": 5}, "1.5, top-p 0.9": {"temperature": 1.5, "top_p": 0.9},
    "1.5, min-p 0.1": {"temperature": 1.5, "min_p": 0.1},
}  # fmt: skip
Cache = list[tuple[Tensor, Tensor]]  # of each layer, keys and values (batch, heads, steps so far, d)


# %% 1. Choosing
def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Rule out all but the k likeliest symbols (Fan et al., 2018); logits (batch, symbols)."""
    smallest = logits.topk(min(k, logits.shape[1]), dim=1).values[:, -1:]
    return logits.masked_fill(logits < smallest, -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Rule out all but the fewest symbols that together have probability p, the nucleus (Holtzman et al., 2020)."""
    chances, order = logits.softmax(dim=1).sort(dim=1, descending=True)
    before = chances.cumsum(dim=1) - chances  # of all that are likelier: the one that reaches p still belongs to them
    return logits.masked_fill((before >= p).gather(1, order.argsort(dim=1)), -math.inf)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Rule out symbols with less than p times the probability of the likeliest one (Nguyen et al., 2024)."""
    return logits.masked_fill(logits < logits.amax(dim=1, keepdim=True) + math.log(p), -math.inf)


def chances(logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> Tensor:
    """Return the probabilities to draw by, of logits (batch, symbols); a temperature of 0 takes the likeliest symbol."""
    if temperature == 0:
        return F.one_hot(logits.argmax(dim=1), logits.shape[1]).float()
    logits = logits / temperature
    logits = keep_top_k(logits, top_k) if top_k else logits
    logits = keep_top_p(logits, top_p) if top_p < 1 else logits
    return (keep_min_p(logits, min_p) if min_p else logits).softmax(dim=1)


def draw(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """Draw by each of probabilities (batch, symbols): (batch, 1). On the CPU, so that all devices draw alike."""
    return torch.multinomial(probabilities.cpu(), 1, generator=generator).to(probabilities.device)


def count_draws(draws: int, seed: int) -> dict[str, float]:
    """Draw often from the same logits; return the worst count of each way, in standard deviations."""
    logits, generator, found = torch.tensor([[2, 1.5, 1, 0.5, 0, -0.5, -1, -3]]), torch.Generator().manual_seed(seed), {}
    for name, way in WAYS.items():
        p = chances(logits, **way)[0].double()
        counts = draw(chances(logits.expand(draws, -1), **way), generator).flatten().bincount(minlength=len(p))
        found[name] = ((counts - draws * p).abs() / (draws * p * (1 - p)).sqrt().clamp(min=0.01)).max().item()
        print(f"1. {name:15} " + " ".join(f"{chance:.3f}" for chance in p.tolist()) + f"   counts off by {found[name]:.1f} sd")
    return found


# %% 2. A GPT with a cache
class Block(nn.Module):
    """A block of GPT-2 that looks at the keys and values in a cache before its own."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor] | None, visible: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Take x (batch, steps, width); visible (steps, past + steps) is True where a step may look."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (batch, heads, steps, d)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)  # (batch, heads, past + steps, d)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=visible).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x)))), (k, v)


class GPT(nn.Module):
    """The model of 06_advanced/gpt.py; `read` also takes and returns what it has to keep."""

    def __init__(self, symbols: int, context: int, width: int, layers: int, heads: int, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.context = context
        self.characters, self.places = nn.Embedding(symbols, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, symbols, bias=False)
        self.head.weight = self.characters.weight
        nn.init.normal_(self.characters.weight, std=0.02)
        nn.init.normal_(self.places.weight, std=0.02)

    def read(self, ids: Tensor, cache: Cache | None = None, moved: int = 0) -> tuple[Tensor, Cache]:
        """Read ids (batch, steps) after those in the cache: logits (batch, steps, symbols), new cache; `moved` is a mistake."""
        seen = cache[0][0].shape[2] if cache else 0
        total, kept = seen + ids.shape[1], []
        visible = torch.ones(total, total, dtype=torch.bool, device=ids.device).tril()[seen:]  # (steps, total): the last rows
        x = self.characters(ids) + self.places.weight[seen + moved : total + moved]
        for i, block in enumerate(self.blocks):
            x, own = block(x, cache[i] if cache else None, visible)
            kept.append(own)
        return self.head(self.norm(x)), kept

    def forward(self, ids: Tensor) -> Tensor:
        return self.read(ids)[0]


@torch.no_grad()
def write(model: GPT, ids: Tensor, count: int, seed: int, cached: bool = True, **way: float) -> Tensor:
    """Continue ids (batch, n) by `count` symbols, drawn by `chances`: (batch, n + count), no more than the context."""
    check((total := ids.shape[1] + count) <= model.context, f"{total} characters do not fit into a context of {model.context}")
    generator = torch.Generator().manual_seed(seed)
    logits, cache = model.read(ids)
    for i in range(count):
        ids = torch.cat([ids, draw(chances(logits[:, -1], **way), generator)], dim=1)
        if i < count - 1:
            logits, cache = model.read(ids[:, -1:], cache) if cached else model.read(ids)
    return ids


def compare_cache(lengths: tuple[int, ...], width: int, layers: int, seed: int, device) -> list[float]:
    """Write texts of these lengths with and without a cache; return how many times as fast it is with it."""
    model, found = GPT(65, max(lengths), width, layers, 4, seed).to(device), []
    begin = torch.zeros(1, 1, dtype=torch.long, device=device)
    for length in lengths:
        texts, seconds = [], []
        for cached in (False, True):
            begun = time.perf_counter()
            texts.append(write(model, begin, length - 1, seed, cached).cpu())
            seconds.append(time.perf_counter() - begun)
        check(torch.equal(*texts), "the cache changes the text")
        found.append(seconds[0] / seconds[1])
        size = sum(part.numel() * part.element_size() for pair in model.read(texts[0].to(device))[1] for part in pair)
        check(size == 2 * layers * width * length * 4, "the cache is not a key and a value of each layer and step")
        speed = f"{(length - 1) / seconds[1]:4.0f} a second, {found[-1]:4.1f} times as many as without the cache"
        print(f"2. {length:4} characters: {speed}; it has {size:,} bytes")
    return found


# %% 3. What each way makes of one model
def stories_as_rows(ids: Tensor, steps: int) -> Tensor:
    """Cut a text (n,) into rows (stories, steps + 1), each from a line break on, so that every story begins at place 0."""
    begins = (ids[: -steps - 1] == 0).nonzero()  # (stories, 1)
    return ids[begins + torch.arange(steps + 1, device=ids.device)]


def compare_ways(model: GPT, text: datasets.Text, count: int, seed: int) -> dict[str, tuple[float, float]]:
    """Have `count` stories told in every way; return the share of words that exist, and that of stories told before."""
    begin, found = torch.zeros(count, 1, dtype=torch.long, device=model.places.weight.device), {}
    known = set(text.characters.split())
    for name, way in WAYS.items():
        rows = write(model, begin, model.context - 1, seed, **way)
        stories = [text.decode(row[1:]).partition("\n")[0] for row in rows]
        words = " ".join(stories).split()
        found[name] = sum(word in known for word in words) / max(1, len(words)), 1 - len(set(stories)) / count
        print("3. {:15} words that exist {:.2f}, told before {:.2f}: {}".format(name, *found[name], stories[1 % count]))
    return found


# %% 4. Mistakes
@torch.no_grad()
def meet_mistakes(model: GPT, seed: int) -> dict[str, float]:
    """Read past the context; return by how much logits are off with a cache: rightly used, and after two mistakes."""
    ids = torch.randint(model.head.out_features, (1, model.context), generator=torch.Generator().manual_seed(seed))
    ids = ids.to(model.places.weight.device)
    right, full = model.read(ids)
    before, new = model.read(ids[:, :-2])[1], ids[:, -2:-1]
    found = {name: model.read(new, before, moved)[0] - right[:, -2:-1] for name, moved in (("right", 0), ("place one off", 1))}
    q, k, v = torch.randn(3, 1, 1, 5, 8, generator=torch.Generator().manual_seed(seed))  # five steps, of which the last is new
    last = F.scaled_dot_product_attention(q, k, v, is_causal=True)[:, :, -1:]
    found["is_causal=True"] = F.scaled_dot_product_attention(q[:, :, -1:], k, v, is_causal=True) - last
    found = {name: difference.abs().max().item() for name, difference in found.items()}
    print("4. off by: " + ", ".join(f"{name} {off:.2g}" for name, off in found.items()))
    print("   is_causal starts at the upper left corner: the new step is taken for the first one, and sees one key of five")
    try:
        model.read(new, full)[0][:, -1]
    except IndexError as error:
        print(f'   "{error}"\n   read: the context is full; there are no places left, and one step plus none of them is none')
    return found


# %% All of it, in order
def main(
    steps: int = 600, width: int = 64, layers: int = 2, context: int = 112, longest: int = 512, count: int = 100,
    lr: float = 0.01, device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Choose what a language model writes, and write it faster.

    Args:
        steps: Steps of training, on 16 stories each.
        width: Of the model; a multiple of 4.
        layers: How many blocks.
        context: How many characters it sees, and writes; 8 to 1024.
        longest: The longest text that is written with and without a cache; 64 to 2048.
        count: How many stories are told in each way.
        lr: The highest learning rate.
        device: auto, cpu, cuda or mps.
        seed: Of all that is drawn.
    """
    check(min(steps, layers, count) > 0 and width > 0 and width % 4 == 0, "--width is a multiple of 4, the rest at least 1")
    check(8 <= context <= 1024 and 64 <= longest <= 2048, "--context is 8 to 1024, --longest 64 to 2048")
    where, text = pick_device(device), datasets.tinyshakespeare("sample", seed=seed)
    check(max(count_draws(100_000, seed).values()) < 5, "symbols are not drawn as often as they should be")
    speed_up = compare_cache((longest // 8, longest // 4, longest // 2, longest), width, layers, seed, where)[-1]
    ids, held = text.split()
    bigram = ngram_losses(ids, held, len(text.alphabet), 2)[1]
    model = GPT(len(text.alphabet), context, width, layers, 4, seed).to(where)
    train_on_rows(model, stories_as_rows(ids, context).to(where), steps, 16, lr, seed)
    rows = stories_as_rows(held, context).to(where)
    with torch.no_grad():
        loss = F.cross_entropy(model(rows[:, :-1]).transpose(1, 2), rows[:, 1:]).item()
    print(f"3. loss {loss:.3f} on new stories; bigrams {bigram:.3f}")
    found = compare_ways(model, text, count, seed)
    mistakes = meet_mistakes(model, seed)
    results = {"loss": loss, "bigram_loss": bigram, "speed_up": speed_up, "greedy_repeats": found["greedy"][1]}
    results |= {"words_as_it_is": found["as it is"][0], "words_1.5": found["1.5"][0], "words_top_p": found["1.5, top-p 0.9"][0]}
    results |= {"cache_off": mistakes["right"], "place_off": mistakes["place one off"], "corner_off": mistakes["is_causal=True"]}
    check(loss < bigram, "bigrams predict better: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
