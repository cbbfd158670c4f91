"""SmolLM2-135M-Instruct: a language model that talks, small enough for a laptop's processor.

    model, tokenizer, source = load_smollm2(device)
    prompt = chat_prompt(tokenizer, [{"role": "user", "content": "Why is the sky blue?"}])
    for piece in tokenizer.stream(generate(model, prompt, stop=stop_tokens(tokenizer))):
        print(piece, end="", flush=True)

Its weights come from an optional package (`python -m study setup --extra models`), quantised to 4 bits, or as they were published
from Hugging Face's cache (`hf download HuggingFaceTB/SmolLM2-135M-Instruct`). Nothing is downloaded here.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from utils import paths
from utils.byte_bpe import ByteBPE, read_gguf, read_json
from utils.gguf import GGUF
from utils.lesson import LessonError, check
from utils.networks.llama import Llama, LlamaConfig, rename_published
from utils.weights import SMOLLM2

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"  # what it was trained to be told
START, END = "<|im_start|>", "<|im_end|>"

# A block's tensors in a GGUF file, and what they are called in utils.networks.llama.
BLOCK = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
OUTSIDE = {"token_embd": "embed_tokens", "output_norm": "norm"}
MOST = 2**20  # of anything that a configuration counts: larger numbers are nonsense
MOST_ANGLES = 2**24  # as many as Llama 3 has: 131,072 places, heads of 128


def load_smollm2(device: torch.device | str = "cpu", file: Path | None = None) -> tuple[Llama, ByteBPE, str]:
    """Load the model, in float32 and eval mode.

    Args:
        device: Where it goes.
        file: A .gguf, or a model.safetensors with config.json and tokenizer.json beside it. Without it, the first place that
            has one: Hugging Face's cache, then the package.

    Returns:
        The model, its tokenizer, and one line that says which weights these are: print it beside every result.

    Raises:
        LessonError: There are no weights, or they are not what they should be.
    """
    found = file or SMOLLM2.find()
    check(found is not None, "SmolLM2 is not on this machine: python -m study setup --extra models")
    config, weights, tokenizer, stored = (from_gguf if found.suffix == ".gguf" else from_hugging_face)(found)
    tables = config.max_length * config.head_width
    check(
        tables <= MOST_ANGLES, f"{paths.short(found)} wants rotary tables of {tables:,} numbers; up to {MOST_ANGLES:,} are made"
    )
    with torch.device("meta"):  # shapes without numbers: drawing 135 million, only to throw them away, takes seconds
        model = Llama(config)
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise LessonError(f"{paths.short(found)} is of another model: {str(error).splitlines()[1].strip()}") from None
    where = SMOLLM2.package_name() if found == SMOLLM2.packaged() else paths.short(found)
    return model.to(device).eval(), tokenizer, f"{SMOLLM2.title}, {stored}, {where}"


def chat_prompt(tokenizer: ByteBPE, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Tokens of a conversation in ChatML, up to where the assistant is to begin.

    What is said is never read as a special token: who types <|im_end|> has typed ten characters.

    Args:
        tokenizer: The model's.
        messages: Each with its "role" (system, user or assistant) and "content". Without a first one from the system, the one
            that the model was trained with comes first.
    """
    start, end, tokens = tokenizer.special[START], tokenizer.special[END], []
    if not messages or messages[0]["role"] != "system":
        messages = [{"role": "system", "content": SYSTEM}, *messages]
    for message in messages:
        tokens += [start, *tokenizer.encode(f"{message['role']}\n{message['content']}"), end, *tokenizer.encode("\n")]
    return [*tokens, start, *tokenizer.encode("assistant\n")]


def stop_tokens(tokenizer: ByteBPE) -> set[int]:
    """The tokens that end an answer."""
    return {tokenizer.special[name] for name in (END, "<|endoftext|>")}


def from_gguf(path: Path) -> tuple[LlamaConfig, dict[str, Tensor], ByteBPE, str]:
    """Shape, weights, tokenizer, and how the weights are stored, out of a GGUF file of llama.cpp's."""
    file = GGUF(path)
    architecture = file.metadata.get("general.architecture")
    check(architecture == "llama", f"{paths.short(path)} is a model of the kind {architecture!r}, not llama")

    def number(key: str, kind: type = int) -> int | float:
        value = file.metadata.get(f"llama.{key}")
        known = isinstance(value, kind) and 0 < value <= MOST
        check(known, f"{paths.short(path)}: llama.{key} is {value!r}, which cannot be")
        return value

    config = LlamaConfig(
        vocab_size=number("vocab_size"),
        width=number("embedding_length"),
        mlp_width=number("feed_forward_length"),
        layers=number("block_count"),
        heads=number("attention.head_count"),
        kv_heads=number("attention.head_count_kv"),
        max_length=number("context_length"),
        rope_theta=number("rope.freq_base", float),
        norm_eps=number("attention.layer_norm_rms_epsilon", float),
    )
    check(config.layers < len(file.entries), f"{paths.short(path)} has fewer tensors than its {config.layers} layers need")
    heads = {"self_attn.q_proj": config.heads, "self_attn.k_proj": config.kv_heads}
    weights = {}
    for name in file.entries:
        part, _, kind = name.rpartition(".")
        _, layer, short = part.split(".") if part.startswith("blk.") else ("", "", part)
        ours, tensor = (BLOCK if layer else OUTSIDE).get(short, name), file.tensor(name)
        if ours in heads:
            tensor = unpermute(tensor, heads[ours])
        weights[f"layers.{layer}.{ours}.{kind}" if layer else f"{ours}.{kind}"] = tensor
    stored = "+".join(sorted({entry.kind.name for entry in file.entries.values()} - {"F32"})) or "F32"
    return config, weights, read_gguf(file), f"GGUF {stored}"


def unpermute(weight: Tensor, heads: int) -> Tensor:
    """Put rows back in the order of transformers: llama.cpp's rotary positions turn numbers 0 and 1 of a head, 2 and 3, ...

    In ours, as in transformers, number i and number i + half are the pair. Attention itself does not mind the order.

    Args:
        weight: (heads · head_width, width).
        heads: Of queries, or of keys.
    """
    return weight.view(heads, -1, 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def from_hugging_face(path: Path) -> tuple[LlamaConfig, dict[str, Tensor], ByteBPE, str]:
    """Shape, weights, tokenizer, and how the weights are stored, out of model.safetensors and what lies beside it."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    beside = path.with_name("config.json")
    try:
        shape = json.loads(beside.read_text(encoding="utf-8"))
        config = LlamaConfig(
            vocab_size=shape["vocab_size"],
            width=shape["hidden_size"],
            mlp_width=shape["intermediate_size"],
            layers=shape["num_hidden_layers"],
            heads=shape["num_attention_heads"],
            kv_heads=shape["num_key_value_heads"],
            max_length=shape["max_position_embeddings"],
            rope_theta=shape.get("rope_theta") or shape["rope_parameters"]["rope_theta"],  # its place since transformers 5
            norm_eps=shape["rms_norm_eps"],
        )
    except FileNotFoundError:
        raise LessonError(f"{paths.short(beside)} is missing: the whole repository is needed, not the weights alone") from None
    except (ValueError, KeyError, TypeError) as error:
        raise LessonError(f"{paths.short(beside)} is not the config.json of a Llama: {type(error).__name__}, {error}") from None
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise LessonError(f"{paths.short(path)} is not a safetensors file, or not all of it: {error}") from None
    stored = "+".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights.values()}))
    weights = {name: tensor.float() for name, tensor in rename_published(weights).items()}
    return config, weights, read_json(path.with_name("tokenizer.json")), stored
