"""Quantization · 양자화

A model that writes reads each of its weights for every token, and waits for them: in 8 bits instead of 32 they come four times as
fast, in 4 more than six times. Each bit less doubles the error; an outlier does worse, unless few numbers share its scale.
글을 쓰는 모델은 토큰마다 모든 가중치를 읽고, 그것을 기다린다. 32비트 대신 8비트면 네 배, 4비트면 여섯 배 넘게 빨리 온다. 비트가
하나 줄 때마다 오차가 두 배가 된다. 이상치 하나는 그보다 더 해로운데, 척도를 함께 쓰는 수가 적으면 괜찮다.

You will
  1. round numbers to 8 bits, with one scale and with a zero point, and see what a single outlier does
  2. pack two numbers into a byte, 32 of them behind a scale and a minimum: Q4_1, as published models are stored
  3. measure the error against bits and block size
  4. train a network, quantise its weights, and see when its loss notices
  5. multiply in integers, equal to PyTorch's; meet an error, and a mistake without one; read a real model's blocks

Before     06_advanced/llama.py
Run        python -m study run quantization        (about 6 s on one CPU core, after importing torch)
You see    an outlier: 0.94 % error become 23 %, in blocks 2 %; 2 bits: 0.40 right with one scale, 0.86 in blocks; errors.png
Try next   --steps 50: networks that have learned too little, as the last check will say. Guess first: do they mind 2 bits more?
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import gguf
from utils.datasets import Source, mnist, nearest_mean_accuracy
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.weights import SMOLLM2


# %% 1. Eight bits
def absmax(x: Tensor, bits: int = 8) -> tuple[Tensor, Tensor]:
    """Quantise rows of x (rows, n) symmetrically: int8, for 8 bits from -127 to 127, and scales (rows, 1); x ≈ number · scale."""
    most = 2 ** (bits - 1) - 1
    scale = x.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / most
    return (x / scale).round().to(torch.int8), scale


def affine(x: Tensor, bits: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise rows from their least to their largest: uint8 from 0 on, scales, and minima: x ≈ number · scale + minimum."""
    least = x.amin(dim=1, keepdim=True)
    scale = (x.amax(dim=1, keepdim=True) - least).clamp(min=1e-12) / (2**bits - 1)
    return ((x - least) / scale).round().to(torch.uint8), scale, least


def restored(x: Tensor, bits: int, block: int, symmetric: bool = True) -> Tensor:
    """Quantise x in blocks of so many numbers in a row, and turn it back: what is left of it, in its shape."""
    rows = x.reshape(-1, block)
    numbers, scale, least = (*absmax(rows, bits), 0.0) if symmetric else affine(rows, bits)
    return (numbers * scale + least).view(x.shape)


def relative_error(x: Tensor, found: Tensor) -> float:
    """The root mean square of the difference, over that of x."""
    return ((found - x).square().mean() / x.square().mean()).sqrt().item()


def one_outlier(seed: int) -> dict[str, float]:
    """Return errors of 4,096 normal numbers in 8 bits: alone, after a ReLU, and beside one that is 100 times as large."""
    x = torch.randn(1, 4096, generator=torch.Generator().manual_seed(seed))
    spiked, rest = x.clone(), torch.arange(4096) != 7
    spiked[0, 7], positive = 100.0, x.relu()
    found = {
        "symmetric": relative_error(x, restored(x, 8, 4096)),
        "after ReLU, symmetric": relative_error(positive, restored(positive, 8, 4096)),
        "after ReLU, affine": relative_error(positive, restored(positive, 8, 4096, symmetric=False)),
        "beside an outlier": relative_error(x[:, rest], restored(spiked, 8, 4096)[:, rest]),
        "beside an outlier, blocks of 32": relative_error(x[:, rest], restored(spiked, 8, 32)[:, rest]),
    }
    print("1. relative error in 8 bits: " + ", ".join(f"{name} {error:.2%}" for name, error in found.items()))
    return found


# %% 2. Four bits, packed
def pack_q4_1(x: Tensor) -> Tensor:
    """Write numbers, a multiple of 32, as blocks of Q4_1: (blocks, 20) bytes.

    Scale and minimum are float16, 2 bytes each. Number i sits in the lower half of byte i, number i + 16 in its upper half.
    """
    rows = x.reshape(-1, 32).float()
    _, scale, least = affine(rows, bits=4)
    head = torch.cat([scale, least], dim=1).half()  # rounded first: the numbers have to fit the scale that will be read
    numbers = ((rows - head[:, 1:].float()) / head[:, :1].float().clamp(min=1e-7)).round().clamp(0, 15).to(torch.uint8)
    return torch.cat([head.view(torch.uint8), numbers[:, :16] | numbers[:, 16:] << 4], dim=1)


def unpack_q4_1(blocks: Tensor) -> Tensor:
    """Read blocks (n, 20) back: (n, 32) float32."""
    scale, least = blocks[:, :4].contiguous().view(torch.float16).float().split(1, dim=1)  # (n, 1) each
    numbers = torch.cat([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], dim=1)  # (n, 32), from 0 to 15
    return numbers * scale + least


# %% 3. Bits and blocks
def error_table(x: Tensor) -> dict[tuple[int, int], float]:
    """Return and draw the error of x by bits and by how many numbers share a scale of 16 bits."""
    import matplotlib.pyplot as plt

    sizes, found = (16, 32, 64, 256, 1024), {}
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    print("3. numbers that share a scale" + "".join(f"{size:8}" for size in sizes))
    for bits in (8, 6, 4, 3, 2):
        errors = [relative_error(x, restored(x, bits, size)) for size in sizes]
        found |= {(bits, size): error for size, error in zip(sizes, errors, strict=True)}
        print(f"   relative error, {bits} bits    " + "".join(f"{error:8.2%}" for error in errors))
        axis.semilogy([bits + 16 / size for size in sizes], errors, "o-", label=label(f"{bits} bits", f"{bits}비트"))
    axis.set(xlabel=label("bits per number, with its share of the scale", "수당 비트(척도 포함)"), ylabel=label("error", "오차"))
    axis.legend()
    save_figure(figure, __file__, "errors")
    return found


# %% 4. What a network notices
def train(data: tuple[Tensor, Tensor], steps: int, lr: float, seed: int) -> nn.Sequential:
    """Train pixels → 256 → 256 → 10 on pictures (n, pixels) with Adam, 64 at a time; return the network."""
    torch.manual_seed(seed)
    layers = nn.Linear(data[0].shape[1], 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    model, generator = nn.Sequential(*layers).to(data[0].device), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for _ in range(steps):
        batch = torch.randint(len(data[0]), (64,), generator=generator).to(data[0].device)
        loss = F.cross_entropy(model(data[0][batch]), data[1][batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@torch.no_grad()
def measure(model: nn.Module, data: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Return loss and accuracy."""
    logits = model(data[0])
    return F.cross_entropy(logits, data[1]).item(), (logits.argmax(dim=1) == data[1]).float().mean().item()


@torch.no_grad()
def quantised(model: nn.Sequential, bits: int, block: int | None) -> nn.Sequential:
    """Copy a network with its matrices quantised and turned back; a block of None is a whole matrix with a single scale."""
    model = copy.deepcopy(model)
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight.copy_(restored(layer.weight, bits, block or layer.weight.numel()))
    return model


# %% 5. In integers
class Int8Linear(nn.Module):
    """A linear layer that multiplies in integers: weights quantised once, by output; inputs on the way, by example."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.numbers, self.scale = absmax(layer.weight.detach())  # (outputs, inputs) int8, (outputs, 1)
        self.bias = layer.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        numbers, scale = absmax(x)  # (batch, inputs) int8, (batch, 1)
        sums = numbers.int() @ self.numbers.int().T  # up to 127 · 127 · inputs: 32 bits hold that
        return sums * scale * self.scale.T + self.bias


def compare_integers(layer: nn.Linear, x: Tensor) -> dict[str, float]:
    """Return how far our integer layer is off PyTorch's integer product (exact), and off the float layer (relative error)."""
    ours, (numbers, scale) = Int8Linear(layer), absmax(x)
    sums = torch._int_mm(numbers, ours.numbers.T.contiguous())  # int8 · int8 → int32, in the processor's own instructions
    theirs, exact = sums * scale * ours.scale.T + ours.bias, F.linear(x, layer.weight, layer.bias)
    found = {"int_mm": (ours(x) - theirs).abs().max().item(), "float": relative_error(exact, ours(x))}
    print(f"5. off PyTorch's integer product by {found['int_mm']:.0e}, off the float layer by {found['float']:.2%}")
    return found


# %% Mistakes, and a published model
def meet_error() -> tuple[str, float]:
    """Ask integers for a gradient, and put 200 into 8 bits; return PyTorch's answer, and what becomes of the 200."""
    x, wrapped = torch.tensor([1.5, -2.0], requires_grad=True), torch.tensor([200]).to(torch.int8).item()
    try:
        return str(x.round().to(torch.int8).sum().backward()), wrapped
    except RuntimeError as error:
        print(f'   "{error}"\n   read: integers have no gradient; train in floats, and round afterwards')
        print(f"   without a message: 200 does not fit into 8 bits, and becomes {wrapped}; clamp before you convert")
        return str(error), wrapped


def read_published() -> dict[str, float]:
    """Unpack a matrix of SmolLM2 by hand, and quantise it anew in two ways; {} without its weights."""
    if SMOLLM2.packaged() is None:
        print("   SmolLM2's weights are not here (python -m study setup --extra models)")
        return {}
    name, file = "blk.0.ffn_up.weight", gguf.GGUF(SMOLLM2.packaged())
    blocks, expected = file.blocks(name), file.tensor(name)
    ours = unpack_q4_1(blocks).view(expected.shape)
    again, whole = relative_error(ours, restored(ours, 4, 32)), relative_error(ours, restored(ours, 4, ours.numel()))
    print(f"   {name}: {len(blocks):,} blocks of 32; the first begins {blocks[0, :6].tolist()}: {ours[0, :2].tolist()}, ...")
    print(f"   its largest weight is {(ours.abs().max() / ours.std()).item():.0f} standard deviations from 0; in 4 bits with one")
    print(f"   scale for all of them {whole:.0%} are lost, with one for 32 {again:.0%}")
    return {"published_off": (ours - expected).abs().max().item(), "published_32": again, "published_one": whole}


# %% All of it, in order
def main(
    source: Source = "sample", steps: int = 400, networks: int = 3, lr: float = 1e-3, device: str = "auto", seed: int = 0
) -> dict[str, float]:
    """Quantise numbers, networks, and a layer's arithmetic, and measure what is lost.

    Args:
        source: Digits from: auto (MNIST if it is there, else the sample), real, sample.
        steps: Steps of each training.
        networks: How many are trained.
        lr: Adam's learning rate.
        device: auto, cpu, cuda or mps; for the training.
        seed: The first seed.
    """
    check(min(steps, networks) > 0 and lr > 0, f"--steps {steps} --networks {networks} --lr {lr}: all above 0")
    where, digits, outlier = pick_device(device), mnist(source), one_outlier(seed)
    x = torch.randn(64, 1024, generator=torch.Generator().manual_seed(seed))
    blocks = pack_q4_1(x)
    lost, off = relative_error(x.view(-1, 32), unpack_q4_1(blocks)), unpack_q4_1(blocks) - gguf.KINDS[3].read(blocks)
    print(f"2. {x.numel():,} numbers in {blocks.numel():,} bytes: {lost:.1%} lost; off the GGUF reader by {off.abs().max():.0e}")
    results = {"packed_off": off.abs().max().item(), "packed_lost": lost, "outlier": outlier["beside an outlier"]}
    table = error_table(x)
    baseline = max(0.1, nearest_mean_accuracy(digits.train, digits.test))
    results |= {"lost_8_bits": table[8, 32], "lost_4_bits": table[4, 32], "baseline": baseline}
    parts = [((part.images.flatten(1) / 255).to(where), part.labels.to(where)) for part in (digits.train, digits.test)]
    models, kinds = [train(parts[0], steps, lr, one) for one in range(seed, seed + networks)], (None, 32)
    for bits in (32, 8, 4, 3, 2):
        for block in kinds if bits < 32 else kinds[:1]:
            found = [measure(quantised(model, bits, block) if bits < 32 else model, parts[1]) for model in models]
            loss, right = torch.tensor(found).mean(dim=0).tolist()
            print(f"4. {bits:2} bits, {f'blocks of {block}' if block else 'one scale':12}: loss {loss:.3f}, right {right:.3f}")
            results |= {f"loss_{bits}_{block or 'one'}": loss, f"accuracy_{bits}_{block or 'one'}": right}
    off = compare_integers(models[0][0].cpu(), parts[1][0][:200].cpu())
    results |= {"int_mm_off": off["int_mm"], "int8_lost": off["float"]}
    meet_error()
    results |= read_published()
    best, kept = results["accuracy_32_one"], results["accuracy_4_32"]
    check(best > baseline + 0.02, f"right {best:.2f}, and the nearest mean {baseline:.2f}: more --steps?")
    check(kept > best - 0.03, f"4 bits in blocks of 32 cost {best - kept:.2f}")
    return results


if __name__ == "__main__":
    run(main)
