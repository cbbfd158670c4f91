"""GPT, a decoder on its own · 디코더만으로 만든 GPT

A decoder that looks at nothing but its own past, trained on one question, "which character comes next?", at every place of a text
at once. That is all: what the answer takes, spelling, agreement, who is who, how many are left, it has to find by itself.
자기 과거만 보는 디코더에게 글의 모든 자리에서 한꺼번에 "다음 글자는 무엇인가?"라고 묻는다. 학습은 그것이 전부다. 답하는 데 필요한
맞춤법, 호응, 누가 누구인지, 몇 개가 남았는지는 모델이 스스로 찾아내야 한다.

You will
  1. write GPT-2: blocks with the norm first, causal attention, tied embeddings, its initialisation
  2. prove it: equal to PyTorch's layers, gradients too, and blind to all that comes later
  3. train it against the best that counting can do, and see whether its stories agree with themselves
  4. meet the error everyone meets, and two mistakes after which the loss looks wonderful

Before     06_advanced/transformer.py
Run        python -m study run gpt                 (about 45 s on one CPU core, after importing torch)
You see    0.30 nats a character on new stories; the best n-gram 0.40, all rules known 0.21; no story agrees yet; curve.png
Try next   --source real --optimizer muon --width 192 --layers 4 --context 128 --bfloat16 --threads 2, if you have the file: first
           guess whether 1,000 steps beat the best n-gram on Shakespeare
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import datasets
from utils.datasets.small_stories import holds_together
from utils.device import autocast, pick_device
from utils.language import ngram_losses, text_loss, write_on
from utils.lesson import check, run
from utils.plotting import label, save_figure


# %% 1. GPT
class Block(nn.Module):
    """Look back, then think: both read a normed copy of the stream, and what they find is added to it."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, later: Tensor) -> Tensor:
        """Take x (batch, steps, width); later (steps, steps) is True where a source comes after its target."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (batch, heads, steps, d)
        scores = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).masked_fill(later, -math.inf)  # (batch, heads, steps, steps)
        x = x + self.out((scores.softmax(dim=3, dtype=v.dtype) @ v).transpose(1, 2).flatten(2))  # (batch, steps, width)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """GPT-2 without dropout: up to `context` characters (batch, steps) → logits of the next ones (batch, steps, symbols)."""

    def __init__(self, symbols: int, context: int, width: int, layers: int, heads: int, seed: int, causal: bool = True):
        super().__init__()
        torch.manual_seed(seed)
        self.context = context
        self.characters, self.places = nn.Embedding(symbols, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, symbols, bias=False)
        self.head.weight = self.characters.weight  # tied: one vector for a character, whether it is read or written
        later = torch.ones(context, context, dtype=torch.bool).triu(1)
        self.register_buffer("later", later if causal else torch.zeros_like(later), persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:  # each block adds twice to the stream: 2 · layers sums that shall not blow up
                adds = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if adds else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, characters: Tensor) -> Tensor:
        steps = characters.shape[1]
        x = self.characters(characters) + self.places.weight[:steps]  # (batch, steps, width)
        for block in self.blocks:
            x = block(x, self.later[:steps, :steps])
        return self.head(self.norm(x))


# %% 2. Proofs
def compare_stack(dtype: torch.dtype, seed: int) -> float:
    """Return by how much logits and gradients differ from those of nn.TransformerEncoderLayers with the same weights."""
    ours = GPT(symbols=11, context=9, width=12, layers=2, heads=3, seed=seed).to(dtype)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.5)  # biases of 0 and norms of 1 would hide a mistake
    options = {"dropout": 0.0, "activation": F.gelu, "batch_first": True, "norm_first": True, "dtype": dtype}
    theirs = nn.TransformerEncoder(nn.TransformerEncoderLayer(12, 3, 48, **options), 2, enable_nested_tensor=False)
    renamed, weights = {"qkv.": "self_attn.in_proj_", "out.": "self_attn.out_proj.", "up": "linear1", "down": "linear2"}, {}
    for name, weight in ours.blocks.state_dict().items():  # 0.norm1.weight, ...
        weights[next((name.replace(a, b) for a, b in renamed.items() if a in name), name)] = weight
    theirs.layers.load_state_dict(weights)
    ids = torch.randint(11, (2, 9), generator=torch.Generator().manual_seed(seed))
    x = theirs(ours.characters(ids) + ours.places.weight, mask=ours.later, is_causal=True)
    shared, found = [ours.characters.weight, ours.places.weight], []
    for logits in (ours(ids), ours.head(ours.norm(x))):
        found.append([logits, *torch.autograd.grad((logits * torch.linspace(-1, 1, 11)).sum(), shared)])
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(*found, strict=True))


@torch.no_grad()
def measure_leak(model: GPT, ids: Tensor) -> float:
    """Change the last of characters (batch, steps): by how much do logits move that stand before it?"""
    changed = torch.cat([ids[:, :-1], (ids[:, -1:] + 1) % model.head.out_features], dim=1)
    return (model(changed) - model(ids))[:, :-1].abs().max().item()


# %% 3. Training
def optimizers_for(model: GPT, kind: str, lr: float) -> list[torch.optim.Optimizer]:
    """Return what trains the model: matrices decay, norms and biases do not; Muon takes the matrices of the blocks alone."""
    matrices, others = ([p for p in model.parameters() if (p.dim() == 2) is wanted] for wanted in (True, False))
    inner = [p for p in model.blocks.parameters() if p.dim() == 2] if kind == "muon" else []
    outer = [model.characters.weight, model.places.weight] if kind == "muon" else matrices
    adamw = torch.optim.AdamW([{"params": outer, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr, (0.9, 0.99))
    return [torch.optim.Muon(inner, lr, adjust_lr_fn="match_rms_adamw"), adamw] if inner else [adamw]  # one rate fits both


def train(
    model: GPT, ids: Tensor, steps: int, batch_size: int, lr: float, seed: int, optimizer: str = "adamw",
    bfloat16: bool = False, shift: int = 1, held: Tensor | None = None,
) -> tuple[list[float], dict[int, float]]:  # fmt: skip
    """Take steps on random windows of ids (n,), the targets `shift` places ahead; return all losses, some on `held` by step."""
    generator, losses, validation = torch.Generator().manual_seed(seed), [], {}
    optimizers = optimizers_for(model, optimizer, lr)
    for step in range(1, steps + 1):
        rate = lr * min(20 * step / steps, 0.5 + 0.5 * math.cos(math.pi * (step - 1) / steps))  # warm-up, then down to 0
        starts = torch.randint(len(ids) - model.context, (batch_size, 1), generator=generator)
        windows = ids[(starts + torch.arange(model.context + 1)).to(ids.device)]  # (batch, context + 1)
        with autocast(ids.device, on_cpu=bfloat16):
            logits = model(windows[:, :-1])  # (batch, context, symbols)
        loss = F.cross_entropy(logits.float().flatten(0, 1), windows[:, shift : shift + model.context].flatten())
        model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for one in optimizers:
            for group in one.param_groups:
                group["lr"] = rate
            one.step()
        losses.append(loss.item())
        if held is not None and (step == steps or step % max(1, steps // 5) == 0):
            validation[step] = text_loss(model, held, model.context)
            print(f"   step {step:5}: loss {sum(losses[-50:]) / len(losses[-50:]):.3f}, on the rest {validation[step]:.3f}")
    return losses, validation


def draw_curve(losses: list[float], validation: dict[int, float], ngram: float) -> None:
    """Draw the losses, and what counting reaches."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    axis.plot(range(1, len(losses) + 1), losses, linewidth=0.6, alpha=0.6, label=label("training", "학습"))
    axis.plot([*validation], [*validation.values()], "o-", label=label("validation", "검증"))
    axis.axhline(ngram, color="grey", linestyle=":", label=label("best n-gram", "가장 좋은 n-gram"))
    axis.set(xlabel=label("step", "스텝"), ylabel=label("nats per character", "글자당 nat"), ylim=(0, None))
    axis.legend()
    save_figure(figure, __file__, "curve")


# %% 4. Mistakes
def meet_error() -> str:
    """Hand logits (batch, steps, symbols) to cross_entropy as they are; return its answer."""
    logits, targets = torch.linspace(-3, 3, 60).sin().view(2, 6, 5), torch.arange(12).view(2, 6) % 5
    try:
        F.cross_entropy(logits, targets)
    except RuntimeError as error:
        message = str(error)
    print(f'4. "{message}"\n   read: symbols belong on the second axis; flatten batch and steps, or transpose')
    return message


@torch.no_grad()
def loss_in_use(model: GPT, ids: Tensor) -> float:
    """Predict as one has to when writing: only the last character, of which nothing is there yet. About 1,000 times."""
    windows = ids.unfold(0, model.context + 1, 1 + len(ids) // 1000)
    return F.cross_entropy(model(windows[:, :-1])[:, -1], windows[:, -1]).item()


def compare_mistakes(ids: Tensor, held: Tensor, symbols: int, steps: int, seed: int) -> dict[str, tuple[float, float]]:
    """Train small models, the right one and two wrong ones; return losses of each: in training, and in use."""
    found = {}
    for name, causal, shift in (("right", True, 1), ("no mask", False, 1), ("targets not shifted", True, 0)):
        model = GPT(symbols, context=8, width=32, layers=2, heads=4, seed=seed, causal=causal).to(ids.device)
        losses, _ = train(model, ids, steps, 16, 0.02, seed, shift=shift)
        found[name] = sum(losses[-20:]) / len(losses[-20:]), loss_in_use(model, held)
        print("   {:20} loss in training {:.2f}, in use {:.2f}".format(name, *found[name]))
    return found


# %% All of it, in order
def main(
    source: datasets.Source = "sample", steps: int = 1000, width: int = 64, layers: int = 2, heads: int = 4, context: int = 96,
    batch_size: int = 16, lr: float = 0.01, optimizer: Literal["adamw", "muon"] = "adamw", ngram: int = 8, threads: int = 1,
    bfloat16: bool = False, device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Build GPT-2, train it on the characters of a text, and compare it with counting.

    Args:
        source: "sample" (small stories), "real" or "auto" (tinyshakespeare).
        steps: Steps of training.
        width: Of the stream; a multiple of heads.
        layers: How many blocks.
        heads: Of each block.
        context: How many characters it sees, 2 to 1024.
        batch_size: Windows of the text in a step.
        lr: The highest learning rate.
        optimizer: adamw, or muon for the matrices in the blocks (PyTorch 2.9 and later).
        ngram: Counted are n-grams of up to this many characters, at most 8.
        threads: CPU cores to work on.
        bfloat16: Train in bfloat16 on a CPU that has it, too: faster, and other numbers on other CPUs.
        device: auto, cpu, cuda or mps.
        seed: Of weights and batches.
    """
    check(min(steps, layers, heads, batch_size, threads) > 0, "--steps, --layers, --heads, --batch-size, --threads: at least 1")
    check(2 <= context <= 1024 and width > 0 and width % heads == 0, "--context is 2 to 1024, --width a multiple of --heads")
    check(optimizer == "adamw" or hasattr(torch.optim, "Muon"), "--optimizer muon needs PyTorch 2.9 or later")
    torch.set_num_threads(threads)
    where, text = pick_device(device), datasets.tinyshakespeare(source)
    ids, held = text.split()
    ngrams = ngram_losses(ids, held, len(text.alphabet), ngram)
    off = compare_stack(torch.float32, seed), compare_stack(torch.float64, seed)
    model = GPT(len(text.alphabet), context, width, layers, heads, seed).to(where)
    ids, held, chance = ids.to(where), held.to(where), math.log(len(text.alphabet))
    leak, parameters = measure_leak(model, held[None, :context]), sum(p.numel() for p in model.parameters())
    print(f"2. off by {off[0]:.0e} (float32), {off[1]:.0e} (float64) from PyTorch's layers; what comes later moves {leak:.0f}")
    check(off[0] < 1e-5 and off[1] < 1e-12 and leak == 0, "this is not GPT-2, or it looks ahead")
    print("3. losses of n-grams, n from 1: " + ", ".join(f"{loss:.3f}" for loss in ngrams))
    print(f"   {parameters:,} parameters; the loss begins at {text_loss(model, held, context):.2f}, pure chance is {chance:.2f}")
    losses, validation = train(model, ids, steps, batch_size, lr, seed, optimizer, bfloat16, held=held)
    draw_curve(losses, validation, min(ngrams))
    results = {"validation_loss": validation[steps], "best_ngram_loss": min(ngrams), "leak": leak, "off_float64": off[1]}
    if text.is_real:
        print(text.decode(write_on(model, held[None, :1], 600, context, seed)[0]))
    else:
        told = write_on(model, held.new_zeros(100, 1), 130, context, seed)  # each begins after a line break, and ends at the next
        stories = [text.decode(row[1:]).partition("\n")[0] for row in told]
        print("\n".join(f"   {'agrees   ' if holds_together(story) else 'disagrees'} {story}" for story in stories[:6]))
        results["stories_that_agree"] = sum(map(holds_together, stories)) / len(stories)
    meet_error()
    mistakes = compare_mistakes(ids, held, len(text.alphabet), 400, seed)
    results["no_mask_loss"], results["no_mask_in_use"] = mistakes["no mask"]
    check(validation[steps] < min(ngrams), "counting predicts better: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
