"""Multi-head attention · 멀티 헤드 어텐션

One look-up gives one average. Several small ones side by side, the heads, can bring several things at once, each found by a
question of its own. The layer knows no order: whoever wants it to must put the place into what it is shown.
한 번 찾아보면 평균 하나를 얻는다. 작은 찾아보기 여럿, 곧 헤드를 나란히 두면 저마다의 질문으로 찾은 것들을 한꺼번에 가져올 수
있다. 이 층은 순서를 모른다. 순서가 필요하면 보여 주는 것에 자리를 넣어 두어야 한다.

You will
  1. write the layer, self- and cross-attention, with nn.MultiheadAttention's parameters: equal in outputs, weights and gradients
  2. meet the error everyone meets with it, and two mistakes that no message tells
  3. shuffle the sequence, and change its end: what the layer notices, and what it must not
  4. answer two questions with one head and with more, and see where each of them looks

Before     06_advanced/attention.py
Run        python -m study run multi_head_attention  (about 8 s on one CPU core, after importing torch)
You see    one head answers one of two questions; with four and eight heads both are right in 0.99; heads.png
Try next   --questions 3: first guess how many heads are enough now
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

Books = tuple[Tensor, Tensor, Tensor]  # books (n, entries, 2) of name and digit, names asked for (n, questions), their digits
NAMES, ENTRIES, DIGITS = 16, 8, 10  # who may stand in a telephone book, how many do, and what stands behind the name


# %% 1. The layer
class MultiHeadAttention(nn.Module):
    """Attention with several heads; its state dict and its conventions are nn.MultiheadAttention's with batch_first=True."""

    def __init__(self, width: int, heads: int, kdim: int | None = None, vdim: int | None = None):
        super().__init__()
        check(width % heads == 0, f"{width} numbers cannot be cut into {heads} heads of equal size")
        self.heads, self.whole = heads, kdim is None and vdim is None
        shapes = {"in_proj_weight": (3 * width, width)}  # queries, keys and values of one width: one matrix, one product
        if not self.whole:
            sizes = ("q", width), ("k", kdim or width), ("v", vdim or width)
            shapes = {f"{name}_proj_weight": (width, size) for name, size in sizes}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(nn.init.xavier_uniform_(torch.empty(shape))))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor,
        key_padding_mask: Tensor | None = None, attn_mask: Tensor | None = None, average_attn_weights: bool = True,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Look up each target in all sources.

        Args:
            query, key, value: (batch, targets, width), (batch, sources, kdim), (batch, sources, vdim).
            key_padding_mask: (batch, sources) bool: True is ignored.
            attn_mask: (targets, sources) or (batch · heads, targets, sources): bool, True is ignored; or float, added to scores.
            average_attn_weights: Return the mean of the heads' weights.

        Returns:
            (batch, targets, width), and weights (batch, targets, sources), or of all heads (batch, heads, targets, sources).
        """
        matrices = self.in_proj_weight.chunk(3) if self.whole else (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (batch, heads, steps, width / heads)
            for x, weight, bias in zip((query, key, value), matrices, self.in_proj_bias.chunk(3), strict=True)
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])  # (batch, heads, targets, sources)
        if attn_mask is not None:
            mask = attn_mask if attn_mask.dim() == 2 else attn_mask.unflatten(0, (-1, self.heads))
            scores = scores.masked_fill(mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        if key_padding_mask is not None:
            scores = scores.masked_fill(key_padding_mask[:, None, None], -math.inf)
        weights = scores.softmax(dim=3)
        out = (weights @ v).transpose(1, 2).flatten(2)  # (batch, targets, width): the heads side by side again
        return self.out_proj(out), weights.mean(dim=1) if average_attn_weights else weights


def compare_layers(dtype: torch.dtype, seed: int) -> dict[str, float]:
    """Return by how much outputs, weights and all gradients differ from nn.MultiheadAttention's with the same parameters."""
    torch.manual_seed(seed)
    x, other, wide = (torch.randn(3, steps, width, dtype=dtype) for steps, width in ((5, 12), (7, 12), (7, 20)))
    padding = torch.arange(7) >= torch.tensor([7, 4, 1])[:, None]  # (3, 7): True is ignored
    causal, bias = torch.ones(5, 5, dtype=torch.bool).triu(1), torch.randn(3 * 4, 5, 7, dtype=dtype)
    cases = {
        "self": ((x, x, x), {}, {}),
        "causal": ((x, x, x), {}, {"attn_mask": causal}),
        "cross, padding": ((x, other, other), {}, {"key_padding_mask": padding}),
        "kdim and vdim": ((x, other, wide), {"kdim": 12, "vdim": 20}, {"key_padding_mask": padding}),
        "bias for each head": ((x, other, other), {}, {"attn_mask": bias, "average_attn_weights": False}),
    }
    found = {}
    for name, (inputs, dims, options) in cases.items():
        theirs = nn.MultiheadAttention(12, 4, batch_first=True, dtype=dtype, **dims)
        ours = MultiHeadAttention(12, 4, **dims).to(dtype)
        nn.init.normal_(theirs.in_proj_bias)  # zeros would hide a mistake
        ours.load_state_dict(theirs.state_dict())
        results = []
        for layer in (ours, theirs):
            out, weights = layer(*(leaves := [part.clone().requires_grad_() for part in inputs]), **options)
            loss = (out * torch.linspace(-1, 1, 12)).mean() + (weights * weights).mean()
            results.append([out, weights, *torch.autograd.grad(loss, [*leaves, *layer.parameters()])])
        found[name] = max((a - b).abs().max().item() for a, b in zip(*results, strict=True))
    print(f"1. {dtype}: off by at most " + ", ".join(f"{name} {off:.0e}" for name, off in found.items()))
    return found


# %% 2. Mistakes
def meet_error(seed: int) -> tuple[str, float]:
    """Return PyTorch's answer to 64 numbers in 10 heads, and what one sentence learns of another without batch_first=True."""
    try:
        nn.MultiheadAttention(64, 10)
    except AssertionError as error:
        message = str(error)
    print(f'2. "{message}"\n   read: each head gets width / heads numbers, and 64 cannot be cut into 10 equal parts')
    torch.manual_seed(seed)
    x, layer = torch.randn(2, 6, 8), nn.MultiheadAttention(8, 2)
    changed = torch.cat([x[:1], x[1:] + 1])  # another second sentence
    leak = (layer(x, x, x)[0] - layer(changed, changed, changed)[0])[0].abs().max().item()
    print(f"   batch_first=True forgotten, no message: changing the second sentence moves the first one's output by {leak:.2f}")
    return message, leak


# %% 3. Order and causality
@torch.no_grad()
def shuffle_and_change(seed: int) -> dict[str, float]:
    """Return how far outputs move when the inputs are shuffled, or the last of them is changed."""
    torch.manual_seed(seed)
    layer, x, places = MultiHeadAttention(16, 4), torch.randn(1, 8, 16), torch.randn(8, 16)
    order, causal = torch.randperm(8), torch.ones(8, 8, dtype=torch.bool).triu(1)
    changed = torch.cat([x[:, :-1], x[:, -1:] + 1], dim=1)

    def out(x: Tensor, mask: Tensor | None = None) -> Tensor:
        return layer(x, x, x, attn_mask=mask)[0]

    found = {
        "shuffled": out(x[:, order]) - out(x)[:, order],  # the answers are shuffled in the same way, and are no others
        "shuffled, with places": out(x[:, order] + places) - out(x + places)[:, order],
        "last one changed": (out(changed) - out(x))[:, :-1],
        "last one changed, causal": (out(changed, causal) - out(x, causal))[:, :-1],
    }
    found = {name: difference.abs().max().item() for name, difference in found.items()}
    print("3. outputs move by: " + ", ".join(f"{name} {moved:.2g}" for name, moved in found.items()))
    return found


# %% 4. Several questions, several heads
def telephone_books(count: int, questions: int, generator: torch.Generator) -> Books:
    """Draw books (count, entries, 2) of names and digits, names to ask for (count, questions), and their digits."""
    names = torch.rand(count, NAMES, generator=generator).argsort(dim=1)[:, :ENTRIES]
    digits = torch.randint(DIGITS, (count, ENTRIES), generator=generator)
    asked = torch.rand(count, ENTRIES, generator=generator).argsort(dim=1)[:, :questions]
    return torch.stack([names, digits], dim=2), names.gather(1, asked), digits.gather(1, asked)


class Operator(nn.Module):
    """Ask telephone books for several names with one vector: logits (batch, questions, 10), weights (batch, heads, entries)."""

    def __init__(self, heads: int, questions: int, width: int, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.name, self.digit = nn.Embedding(NAMES, width), nn.Embedding(DIGITS, width)
        self.asked = nn.ModuleList(nn.Embedding(NAMES, width) for _ in range(questions))  # first name, second name, ...
        self.attention, self.head = MultiHeadAttention(width, heads), nn.Linear(width, questions * DIGITS)

    def forward(self, books: Tensor, names: Tensor) -> tuple[Tensor, Tensor]:
        entries = self.name(books[:, :, 0]) + self.digit(books[:, :, 1])  # (batch, entries, width)
        question = sum(embed(names[:, i]) for i, embed in enumerate(self.asked))[:, None]  # (batch, 1, width)
        out, weights = self.attention(question, entries, entries, average_attn_weights=False)
        return self.head(out[:, 0]).unflatten(1, (len(self.asked), DIGITS)), weights[:, :, 0]


def train(model: Operator, steps: int, lr: float, seed: int) -> None:
    """Take steps of AdamW on 256 new books each."""
    generator, device = torch.Generator().manual_seed(seed), model.head.weight.device
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for _ in range(steps):
        books, names, digits = (part.to(device) for part in telephone_books(256, len(model.asked), generator))
        loss = F.cross_entropy(model(books, names)[0].flatten(0, 1), digits.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def measure(model: Operator, data: Books) -> list[float]:
    """Return the share of right answers to each question, and last that of books of which all answers are right."""
    right = model(data[0], data[1])[0].argmax(dim=2) == data[2]  # (books, questions)
    return torch.cat([right, right.all(dim=1, keepdim=True)], dim=1).float().mean(dim=0).tolist()


@torch.no_grad()
def draw_heads(models: dict[int, Operator], data: Books) -> None:
    """Draw what the heads of each model look at in the first book."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(models), figsize=(4.2 * len(models), 3.4), layout="constrained")
    asked = data[1][0].tolist()
    ticks = [f"{name}\n({asked.index(name) + 1})" if name in asked else name for name in data[0][0, :, 0].tolist()]
    for axis, (heads, model) in zip(axes, models.items(), strict=True):
        weights = model(data[0][:1], data[1][:1])[1][0].cpu().numpy()  # (heads, entries)
        axis.imshow(weights, cmap="Greys", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(len(ticks)), ticks)
        axis.set(yticks=range(heads), xlabel=label("name (question)", "이름 (질문)"), ylabel=label("head", "헤드"))
    save_figure(figure, __file__, "heads")


# %% All of it, in order
def main(questions: int = 2, steps: int = 100, networks: int = 3, device: str = "auto", seed: int = 0) -> dict[str, float]:
    """Build multi-head attention, and find out what several heads are for.

    Args:
        questions: Names asked for at once, 2 to 8.
        steps: Steps that each network is trained, on 256 books each.
        networks: How many for every number of heads.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    check(2 <= questions <= ENTRIES, f"--questions {questions}: from 2 to {ENTRIES}, the names in a book")
    check(min(steps, networks) > 0, "at least --steps 1 and --networks 1 are needed")
    where, off = pick_device(device), (compare_layers(torch.float32, seed), compare_layers(torch.float64, seed))
    check(max(off[0].values()) < 1e-6 and max(off[1].values()) < 1e-12, "the layer does not give PyTorch's numbers")
    results = {"batch_first_leak": meet_error(seed)[1], "causal_leak": shuffle_and_change(seed)["last one changed, causal"]}
    test = [part.to(where) for part in telephone_books(2000, questions, torch.Generator().manual_seed(10**6 + seed))]
    usual = F.one_hot(test[0][:, :, 1], DIGITS).sum(dim=1).argmax(dim=1)  # of each book, the most frequent digit
    results["baseline_accuracy"] = (usual[:, None] == test[2]).float().mean().item()
    print(f"4. {questions} questions to {ENTRIES} names; most frequent digit: right {results['baseline_accuracy']:.3f}")
    models = {}
    for heads in (1, 2, 4, 8):
        found = []
        for i in range(seed, seed + networks):
            models[heads] = Operator(heads, questions, 64, i).to(where)
            train(models[heads], steps, 0.01, i)
            found.append(measure(models[heads], test))
            print(f"   {heads} heads, seed {i}: right, and all right " + ", ".join(f"{right:.3f}" for right in found[-1]))
        results[f"{heads}_heads"] = sum(shares[-1] for shares in found) / networks
    draw_heads(models, test)
    check(
        max(results["4_heads"], results["8_heads"]) > max(0.5, 2 * results["1_heads"]), "many heads are no better: more --steps?"
    )
    return results


if __name__ == "__main__":
    run(main)
