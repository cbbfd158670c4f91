"""Whisper: a Transformer that reads half a minute of sound and writes what was said, with a cache.

Radford et al., 2022, https://arxiv.org/abs/2212.04356. The encoder sees a log-mel picture of 30 seconds, halved in time by its
second convolution; the decoder is a language model that also looks at what the encoder has made of it. Weights published for
CTranslate2, in which they are stored as float16, load with `renamed`.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.lesson import check

RATE, SECONDS = 16_000, 30  # what it listens to, at once
WINDOW, HOP = 400, 160  # samples, 25 and 10 ms
FRAMES = RATE * SECONDS // HOP


@dataclass(frozen=True)
class WhisperConfig:
    """The shape of a Whisper; the numbers are those of tiny.en.

    Attributes:
        vocab_size: Tokens, special ones among them.
        width: Numbers per frame or token between the blocks.
        layers: Blocks of the encoder, and of the decoder.
        heads: Of each attention.
        bands: Of the mel picture.
        encoder_frames: What 30 seconds are to the encoder.
        max_tokens: That the decoder can read and write.
    """

    vocab_size: int = 51_864
    width: int = 384
    layers: int = 4
    heads: int = 6
    bands: int = 80
    encoder_frames: int = FRAMES // 2
    max_tokens: int = 448


def log_mel(wave: Tensor, bands: int = 80) -> Tensor:
    """The picture that Whisper was trained on: (samples,) at 16 kHz → (bands, 3000), filled up with silence to 30 seconds.

    Slaney's mel scale with filters of equal area, logarithm to base 10, at most 80 dB below the loudest, then to about -1..1.
    """
    from torchaudio.functional import melscale_fbanks

    check(len(wave) <= RATE * SECONDS, f"{len(wave) / RATE:.0f} seconds: Whisper listens to {SECONDS} at once")
    wave = F.pad(wave, (0, RATE * SECONDS - len(wave)))
    window = torch.hann_window(WINDOW, device=wave.device)
    power = torch.stft(wave, WINDOW, HOP, window=window, return_complex=True)[:, :-1].abs() ** 2  # (201, 3000)
    filters = melscale_fbanks(WINDOW // 2 + 1, 0.0, RATE / 2, bands, RATE, norm="slaney", mel_scale="slaney")
    logarithm = (filters.T.to(wave.device) @ power).clamp(min=1e-10).log10()
    return (logarithm.maximum(logarithm.max() - 8) + 4) / 4


class Attention(nn.Module):
    """Multi-head attention; in self-attention `qkv` makes queries, keys and values at once. (Of keys, no bias matters.)"""

    def __init__(self, width: int, heads: int, is_cross: bool = False):
        super().__init__()
        self.heads = heads
        if is_cross:
            self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        else:
            self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(batch, time, parts · width) to `parts` of (batch, heads, time, head_width)."""
        return tuple(part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in x.chunk(parts, dim=2))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, is_causal: bool = False) -> Tensor:
        """Look at `key` and `value`, put the heads together again: (batch, time, width)."""
        found = F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
        return self.out(found.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Self-attention, attention to the encoder where `has_cross`, MLP: each behind its norm, beside a residual connection."""

    def __init__(self, config: WhisperConfig, has_cross: bool):
        super().__init__()
        width = config.width
        self.attention_norm, self.attention = nn.LayerNorm(width), Attention(width, config.heads)
        if has_cross:
            self.cross_norm, self.cross = nn.LayerNorm(width), Attention(width, config.heads, is_cross=True)
        self.mlp_norm, self.mlp = (
            nn.LayerNorm(width),
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)),
        )


@dataclass
class Cache:
    """What the decoder remembers of one piece of sound.

    Attributes:
        cross: For each layer keys and values of what was heard, (batch, heads, frames, head_width) each.
        own: For each layer keys and values of the tokens so far.
    """

    cross: list[tuple[Tensor, Tensor]]
    own: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens so far."""
        return self.own[0][0].shape[2] if self.own else 0


class Encoder(nn.Module):
    """Mel picture to states."""

    def __init__(self, config: WhisperConfig):
        super().__init__()
        self.conv1 = nn.Conv1d(config.bands, config.width, 3, padding=1)
        self.conv2 = nn.Conv1d(config.width, config.width, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(config.encoder_frames, config.width))
        self.blocks = nn.ModuleList(Block(config, has_cross=False) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, mel: Tensor) -> Tensor:
        """(batch, bands, 2 · encoder_frames) → (batch, encoder_frames, width)."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2) + self.positions
        for block in self.blocks:
            attention = block.attention
            x = x + attention.attend(*attention.split(attention.qkv(block.attention_norm(x)), 3))
            x = x + block.mlp(block.mlp_norm(x))
        return self.norm(x)


class Decoder(nn.Module):
    """Tokens and what was heard to logits of the next tokens."""

    def __init__(self, config: WhisperConfig):
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Parameter(torch.zeros(config.max_tokens, config.width))
        self.blocks = nn.ModuleList(Block(config, has_cross=True) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def new_cache(self, heard: Tensor) -> Cache:
        """Keys and values of what was heard (batch, frames, width): computed once, looked at by every token."""
        return Cache([block.cross.split(block.cross.key_value(heard), 2) for block in self.blocks])

    def forward(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Tokens (batch, time), which come after those in the cache, to logits (batch, time, vocab_size). The cache grows."""
        start, time = cache.length, tokens.shape[1]
        check(start + time <= len(self.positions), f"{start + time} tokens: the decoder can take {len(self.positions)}")
        check(start == 0 or time == 1, "a cache grows by one token at a time once it has begun")
        x = self.tokens(tokens) + self.positions[start : start + time]
        before, cache.own = cache.own, []
        for layer, block in enumerate(self.blocks):
            query, key, value = block.attention.split(block.attention.qkv(block.attention_norm(x)), 3)
            if before:
                key, value = (torch.cat(pair, dim=2) for pair in zip(before[layer], (key, value), strict=True))
            cache.own.append((key, value))
            x = x + block.attention.attend(query, key, value, is_causal=start == 0)  # one token more may look at all before it
            (query,) = block.cross.split(block.cross.query(block.cross_norm(x)), 1)
            x = x + block.cross.attend(query, *cache.cross[layer])
            x = x + block.mlp(block.mlp_norm(x))
        return F.linear(self.norm(x), self.tokens.weight)


class Whisper(nn.Module):
    """Encoder and decoder."""

    def __init__(self, config: WhisperConfig):
        super().__init__()
        self.config, self.encoder, self.decoder = config, Encoder(config), Decoder(config)

    @torch.inference_mode()
    def write(
        self,
        wave: Tensor,
        prompt: Collection[int],
        stop: int,
        never: Collection[int],
        not_first: Collection[int],
        most: int = 200,
    ) -> tuple[list[int], float]:
        """Listen to at most 30 seconds, and write greedily what was said.

        Args:
            wave: (samples,) at 16 kHz.
            prompt: The tokens to begin with.
            stop: The token that ends the text.
            never: Tokens that are not written: signs for what is no speech.
            not_first: Tokens that are not written first, such as `stop`, so that something is.
            most: Tokens at most.

        Returns:
            The tokens, and the mean of their log-probabilities.
        """
        device = self.encoder.positions.device
        cache = self.decoder.new_cache(self.encoder(log_mel(wave.to(device), self.config.bands)[None]))
        tokens, total, new = [], 0.0, list(prompt)
        for _ in range(most):
            logits = self.decoder(torch.tensor([new], device=device), cache)[0, -1]
            logits[[*never, *(not_first if not tokens else ())]] = -torch.inf
            value, token = logits.log_softmax(dim=0).max(dim=0)
            total, new = total + value.item(), [int(token)]
            if new == [stop]:
                break
            tokens += new
        return tokens, total / (len(tokens) + 1)


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn the names of CTranslate2's WhisperSpec, `decoder/layer_0/attention/linear_2/weight`, into ours, and to float32."""
    patterns = (
        (r"/layer_(\d+)/", r".blocks.\1."),
        (r"ffn/layer_norm", "mlp_norm"),
        (r"ffn/linear_0", "mlp.0"),
        (r"ffn/linear_1", "mlp.2"),
        (r"self_attention/layer_norm", "attention_norm"),
        (r"self_attention/linear_0", "attention.qkv"),
        (r"self_attention/linear_1", "attention.out"),
        (r"\.attention/layer_norm", ".cross_norm"),
        (r"\.attention/linear_0", ".cross.query"),
        (r"\.attention/linear_1", ".cross.key_value"),
        (r"\.attention/linear_2", ".cross.out"),
        (r"embeddings/weight", "tokens/weight"),
        (r"position_encodings/encodings", "positions"),
        (r"layer_norm", "norm"),
        (r"gamma$", "weight"),
        (r"beta$", "bias"),
        (r"/", "."),
    )
    found = {}
    for name, tensor in weights.items():
        if tensor.dim() == 0 or name == "decoder/projection/weight":  # settings; and the embeddings once more
            continue
        for pattern, ours in patterns:
            name = re.sub(pattern, ours, name)
        found[name] = tensor.float()
    return found
