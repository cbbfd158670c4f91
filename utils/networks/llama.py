"""Llama: a decoder-only language model as they have been built since 2023, with a cache, and a generator of tokens.

Touvron et al., 2023 (https://arxiv.org/abs/2302.13971), with the grouped queries of Llama 2 (Ainslie et al., 2023,
https://arxiv.org/abs/2305.13245) and tied embeddings, as SmolLM2 has them. Modules have the names of transformers'
LlamaForCausalLM, so that published weights load. 06_advanced/llama.py builds each part by hand.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.lesson import check

CHUNK = 512  # tokens of a prompt that are read at once: bounds the memory that their scores take


@dataclass(frozen=True)
class LlamaConfig:
    """The shape of a Llama.

    Attributes:
        vocab_size: Tokens.
        width: Numbers per token between the blocks.
        mlp_width: Numbers inside the gated MLP.
        layers: Blocks.
        heads: Heads of queries.
        kv_heads: Heads of keys and values; `heads / kv_heads` queries share each.
        max_length: Positions that the rotary tables hold.
        rope_theta: Base of the rotary wavelengths, which go from 2π to nearly 2π · rope_theta tokens.
        norm_eps: What RMSNorm adds to the mean square.
    """

    vocab_size: int
    width: int
    mlp_width: int
    layers: int
    heads: int
    kv_heads: int
    max_length: int = 2048
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5

    def __post_init__(self):
        sizes = self.vocab_size, self.width, self.mlp_width, self.layers, self.heads, self.kv_heads, self.max_length
        check(min(sizes) > 0, f"sizes of {sizes}: all have to be above 0")
        check(self.width % self.heads == 0, f"a width of {self.width} cannot be cut into {self.heads} heads")
        check(self.head_width % 2 == 0, f"heads of {self.head_width} numbers: rotary positions turn pairs, so it has to be even")
        check(self.heads % self.kv_heads == 0, f"{self.heads} heads of queries cannot share {self.kv_heads} of keys evenly")

    @property
    def head_width(self) -> int:
        """Numbers per head."""
        return self.width // self.heads


class KVCache:
    """Keys and values of the tokens that were read, in memory laid out once: a new token adds a row and copies nothing.

    Attributes:
        keys, values: (layers, batch, kv_heads, max_length, head_width).
        length: Tokens that are in it.
        tokens: Which ones, as far as `generate` has put them there.
    """

    def __init__(self, config: LlamaConfig, max_length: int, batch: int = 1, device=None, dtype: torch.dtype | None = None):
        check(0 < max_length <= config.max_length, f"a cache for {max_length} tokens: this model has 1 to {config.max_length}")
        shape = (config.layers, batch, config.kv_heads, max_length, config.head_width)
        with torch.inference_mode(False):  # so that it can be written to in any mode later
            self.keys, self.values = (torch.zeros(shape, device=device, dtype=dtype) for _ in range(2))
        self.max_length, self.length, self.tokens = max_length, 0, []

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens. Nothing is erased: what comes next is written over it."""
        self.length, self.tokens = min(length, self.length), self.tokens[:length]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write new rows (batch, kv_heads, time, head_width) behind the others; return all so far. `length` stays as it is."""
        end = self.length + keys.shape[2]
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


def rotary_tables(config: LlamaConfig) -> tuple[Tensor, Tensor]:
    """Cosine and sine of position times frequency, (max_length, head_width) each; numbers i and i + head_width / 2 are a pair."""
    exponents = torch.arange(0, config.head_width, 2, device="cpu", dtype=torch.float32) / config.head_width
    angles = torch.outer(torch.arange(config.max_length, device="cpu", dtype=torch.float32), config.rope_theta**-exponents)
    return angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of numbers in x (batch, heads, time, head_width) by the angle of its position (Su et al., 2021)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    """Causal self-attention in which groups of queries share a head of keys and values."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.kv_heads, self.head_width = config.kv_heads, config.head_width
        self.q_proj = nn.Linear(config.width, config.width, bias=False)
        self.k_proj = nn.Linear(config.width, config.kv_heads * config.head_width, bias=False)
        self.v_proj = nn.Linear(config.width, config.kv_heads * config.head_width, bias=False)
        self.o_proj = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: KVCache | None, layer: int) -> Tensor:
        batch, time, _ = x.shape
        q, k, v = (
            project(x).view(batch, time, -1, self.head_width).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )  # (batch, heads or kv_heads, time, head_width)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            k, v = cache.append(layer, k, v)  # (batch, kv_heads, sources, head_width)
        # The queries of a group look at the same keys: they are put below one another, and nothing has to be copied.
        q = q.reshape(batch, self.kv_heads, -1, self.head_width)  # (batch, kv_heads, group · time, head_width)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o_proj(out.view(batch, -1, time, self.head_width).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """SwiGLU (Shazeer, 2020): one projection, through SiLU, is the gate of the other."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.mlp_width, bias=False)
        self.up_proj = nn.Linear(config.width, config.mlp_width, bias=False)
        self.down_proj = nn.Linear(config.mlp_width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Attention and MLP, each behind its norm and beside a residual connection."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.width, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.width, config.norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: KVCache | None, layer: int) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask, cache, layer)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """Tokens (batch, time) to logits (batch, time, vocab_size) of the next ones.

    Attributes:
        cos, sin: The rotary tables; not among the weights.
    """

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.width)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, config.norm_eps)
        self.head: Int8Linear | None = None  # in place of the embeddings, once `to_int8` has made it
        for name, table in zip(("cos", "sin"), rotary_tables(config), strict=True):
            self.register_buffer(name, table, persistent=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)

    def states(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """Read tokens (batch, time): states (batch, time, width), from which `logits` makes the answer.

        With a cache, the tokens come after those that are in it, and are in it afterwards.
        """
        time, start = tokens.shape[1], cache.length if cache is not None else 0
        room = cache.max_length if cache is not None else self.config.max_length
        check(start + time <= room, f"{start + time} tokens, and there is room for {room}: shorten the text")
        mask = None  # a single token may look at everything before it
        if time > 1:
            mask = torch.ones(time, start + time, dtype=torch.bool, device=tokens.device).tril(start)
            mask = mask.repeat(self.config.heads // self.config.kv_heads, 1)  # (group · time, sources)
        cos, sin = self.cos[start : start + time], self.sin[start : start + time]  # (time, head_width)
        x = self.embed_tokens(tokens)
        for layer, block in enumerate(self.layers):
            x = block(x, cos, sin, mask, cache, layer)
        if cache is not None:
            cache.length += time
        return self.norm(x)

    def logits(self, states: Tensor) -> Tensor:
        """States (..., width) to logits (..., vocab_size), by the embeddings themselves."""
        return F.linear(states, self.embed_tokens.weight) if self.head is None else self.head(states)

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        return self.logits(self.states(tokens, cache))

    def new_cache(self, max_length: int, batch: int = 1) -> KVCache:
        """An empty cache for this model, on its device."""
        weight = self.norm.weight
        return KVCache(self.config, max_length, batch, weight.device, weight.dtype)


def sample(logits: Tensor, temperature: float, top_k: int, top_p: float, generator: torch.Generator) -> int:
    """Draw a token from logits (vocab_size,), on the CPU, so that a seed draws the same everywhere.

    Args:
        logits: On any device.
        temperature: What they are divided by; 0 takes the largest.
        top_k: Only the k largest count; 0 for all.
        top_p: Of those, only the most probable that together reach p count, and always one; 1 for all.
        generator: On the CPU.
    """
    if temperature == 0:
        return int(logits.argmax())
    logits = logits.float().cpu() / temperature
    largest, tokens = logits.topk(top_k) if 0 < top_k < len(logits) else logits.sort(descending=True)  # the best first
    probabilities = largest.softmax(dim=0)
    before = probabilities.cumsum(dim=0) - probabilities  # the sum of all that are better
    probabilities = probabilities.masked_fill(before >= top_p, 0)
    return int(tokens[torch.multinomial(probabilities, 1, generator=generator)])


@torch.inference_mode()
def generate(
    model: Llama,
    prompt: Sequence[int],
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: Collection[int] = (),
    cache: KVCache | None = None,
) -> Iterator[int]:
    """Write on after a prompt, one token at a time; whoever has seen enough stops asking for more.

    Args:
        model: In eval mode or not: there is nothing in it that minds.
        prompt: Tokens, at least one.
        max_new_tokens: Where it ends at the latest. It also ends where the cache is full.
        temperature, top_k, top_p: As in `sample`; a temperature of 0 is greedy.
        seed: Of the draws.
        stop: Tokens that end the text. They are not handed out.
        cache: Kept from an earlier call, it spares reading again what the prompts have in common at the beginning.
            Without it, a new one of the size that is needed.

    Yields:
        Tokens.
    """
    prompt = list(prompt)
    check(len(prompt) > 0, "the prompt is empty: there is nothing to write on from")
    check(temperature >= 0, f"temperature {temperature}: 0 takes the likeliest token, more draws more freely; never below 0")
    check(top_k >= 0 and 0 < top_p <= 1, f"top_k {top_k}, top_p {top_p}: from 0 up, and above 0 up to 1")
    if cache is None:
        room = min(len(prompt) + max_new_tokens, model.config.max_length)
        cache = model.new_cache(max(room, 1))
    check(len(prompt) <= cache.max_length, f"a prompt of {len(prompt)} tokens, and room for {cache.max_length}: shorten it")
    device, generator = model.norm.weight.device, torch.Generator().manual_seed(seed)
    shared = 0
    while shared < min(len(prompt) - 1, len(cache.tokens)) and prompt[shared] == cache.tokens[shared]:
        shared += 1  # the last token is read again in any case: its state is not kept
    cache.rewind(shared)
    new = prompt[shared:]
    for _ in range(max_new_tokens):
        for start in range(0, len(new), CHUNK):
            part = new[start : start + CHUNK]
            states = model.states(torch.tensor([part], device=device), cache)  # (1, time, width)
            cache.tokens += part
        token = sample(model.logits(states[0, -1]), temperature, top_k, top_p, generator)
        if token in stop:
            return
        yield token
        if cache.length == cache.max_length:
            return
        new = [token]


class Int8Linear(nn.Module):
    """A linear layer without bias whose weights are single bytes, with a scale for each output: for use, not for training.

    A token that is written needs every weight once, and waits for memory longer than it computes: a quarter of the bytes is
    worth more than exact arithmetic. A CPU multiplies them as they are, in bfloat16; elsewhere they are unpacked.

    Attributes:
        weight: (outputs, inputs) int8.
        scale: (outputs,) bfloat16: what a weight of 1 stands for.
    """

    def __init__(self, weight: Tensor):
        super().__init__()
        largest = weight.detach().float().abs().amax(dim=1)
        scale = (largest / 127).clamp(min=1e-12).bfloat16()  # rounded before it is used, so that it is the scale of the bytes
        numbers = (weight.detach().float() / scale.float()[:, None]).round().clamp(-127, 127)
        self.register_buffer("weight", numbers.to(torch.int8))
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])  # (tokens, inputs)
        if x.device.type == "cpu" and hasattr(torch, "_weight_int8pack_mm"):
            out = torch._weight_int8pack_mm(rows.bfloat16(), self.weight, self.scale).to(x.dtype)
        else:
            out = F.linear(rows, self.weight.to(x.dtype)) * self.scale.to(x.dtype)
        return out.view(*x.shape[:-1], -1)


def to_int8(model: Llama) -> Llama:
    """Replace the matrices of a model by `Int8Linear`, in place, and return it. Embeddings are still looked up in floats."""
    for block in model.layers:
        for part in (block.self_attn, block.mlp):
            for name, layer in list(part.named_children()):
                setattr(part, name, Int8Linear(layer.weight))
    model.head = Int8Linear(model.embed_tokens.weight)
    return model


def rename_published(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn the names of transformers' LlamaForCausalLM, `model.layers.0.mlp.up_proj.weight`, into ours: without `model.`.

    Its `lm_head.weight` is the embedding once more, and is left out.
    """
    return {name.removeprefix("model."): tensor for name, tensor in weights.items() if name != "lm_head.weight"}
