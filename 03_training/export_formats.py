"""Formats and runtimes · 파일 형식과 런타임

One trained network as files for several runtimes, the programs that compute it: whether they give the same answers, how large the
files are, how long it takes, and what a file may do to whoever loads it. Answers come first; only then is time worth measuring.
학습한 신경망 하나를 여러 런타임(신경망을 계산하는 프로그램)용 파일로 만든다. 답이 같은지, 파일이 얼마나 큰지, 얼마나 걸리는지,
그리고 파일이 읽는 사람의 컴퓨터에서 무엇을 할 수 있는지 본다. 먼저 답을 비교하고, 시간은 그다음에 잰다.

You will
  1. multiply in 8 bits, with inputs scaled as they come: dynamic quantisation, equal to PyTorch's deprecated one
  2. meet the error everyone meets with a quantised network
  3. write the network for torch.export, torch.compile, AOTInductor and ONNX Runtime, and in int8
  4. read one table: size, how far off, how many answers differ, milliseconds as ratios within one run, and what may run code

Before     03_training/export_graph.py, 03_training/speed_and_memory.py
Run        python -m study run export_formats      (about 35 s on one CPU core, 25 of them compiling; --no-compiled: 9 s)
You see    seven ways to compute the same answers; a quarter of the size in int8; a file of machine code, three with pickles
Try next   --width 64: a network eight times as narrow. First guess which runtimes lose their lead; then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import logging
import statistics
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from utils.datasets import Source, mnist, nearest_mean_accuracy
from utils.device import keep_memory
from utils.lesson import check, mention, run
from utils.paths import models, short

Model = Callable[[Tensor], Tensor]  # pictures (n, 1, 28, 28) in 0..1 → logits (n, 10)
LARGEST = 64  # pictures at once
EXACT, INT8_LOST = 1e-4, 0.02  # by how much logits of floats may be off; how much accuracy int8 may cost


def make_network(width: int) -> nn.Sequential:
    """Two convolutions, and two linear layers that hold nearly all of the weights."""
    convolutions = nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()
    head = nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 7 * 7, width), nn.ReLU(), nn.Linear(width, 10)
    return nn.Sequential(*convolutions, *head)


def train(network: nn.Module, pictures: Tensor, labels: Tensor, steps: int, lr: float, seed: int) -> None:
    """Train in place with Adam, 64 drawn pictures a step; leave the network in eval mode."""
    optimizer, generator = torch.optim.Adam(network.train().parameters(), lr), torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(pictures), (64,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(network(pictures[rows]), labels[rows]).backward()
        optimizer.step()
    network.eval()


# %% 1. Dynamic quantisation
class Int8Linear(nn.Module):
    """A linear layer with its weights in 8 bits. Its inputs are rounded on the way, by the range that they happen to have."""

    def __init__(self, layer: nn.Linear, levels: int):
        super().__init__()
        weight, self.levels = layer.weight.detach(), levels
        self.scale = weight.abs().max().item() / 127.5
        self.register_buffer("numbers", (weight / self.scale).round().clamp(-128, 127).to(torch.int8))  # (outputs, inputs)
        self.register_buffer("bias", layer.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        least, most = min(x.min().item(), 0.0), max(x.max().item(), 0.0)  # 0 has to be one of the levels: ReLU makes many
        scale = max(most - least, 1e-12) / self.levels
        zero = round(-least / scale)
        rounded = ((x / scale).round() + zero).clamp(0, self.levels).int() - zero  # (n, inputs)
        return (rounded @ self.numbers.int().T) * (scale * self.scale) + self.bias  # whole numbers, and two factors at the end


def quantised(network: nn.Sequential, levels: int) -> nn.Sequential:
    """Copy a network with our linear layers in the place of PyTorch's; inputs are rounded to `levels` steps."""
    return nn.Sequential(*(Int8Linear(layer, levels) if isinstance(layer, nn.Linear) else layer for layer in network))


def torch_int8(network: nn.Sequential) -> tuple[nn.Module, str]:
    """The same by PyTorch's own deprecated function, and the first sentence of its warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)
    return model, next((str(warning.message).splitlines()[0].strip() for warning in caught), "")


@torch.no_grad()
def compare_int8(network: nn.Sequential, pictures: Tensor) -> tuple[float, float]:
    """Return by how much our 8 bits are off PyTorch's, and off the floats, both in units of the logits' standard deviation."""
    levels = 255 if torch.backends.quantized.engine == "qnnpack" else 127  # on x86 a bit is kept free, for sums of two products
    (theirs, warning), ours, exact = torch_int8(network), quantised(network, levels)(pictures), network(pictures)
    off, lost = ((ours - other).abs().max() / exact.std() for other in (theirs(pictures), exact))
    print(f"1. ours in 8 bits: off PyTorch's by {off:.0e}, off the floats by {lost:.3f}. PyTorch's own says: {warning}")
    return off.item(), lost.item()


def meet_names(network: nn.Sequential) -> str:
    """Load the weights of a float network into a quantised one; return PyTorch's answer."""
    try:
        quantised(network, levels=127).load_state_dict(network.state_dict())
    except RuntimeError as error:
        message = str(error).splitlines()[1].strip()
    print(f'2. "{message}"\n   read: quantised is another network; load the floats into floats, and quantise afterwards')
    return message


# %% 3. Files
def write_onnx(network: nn.Module, pictures: Tensor, folder: Path) -> dict[str, tuple[Model, Path]]:
    """Write ONNX in floats and in 8 bits; return ONNX Runtime's models and their files, or nothing where it is not installed."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx.export needs it
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        print(f"   without ONNX: {error.name} is not installed (python -m study setup --extra onnx)")
        return {}
    files, sizes = {"ONNX": folder / "digits.onnx", "ONNX int8": folder / "digits.int8.onnx"}, {0: Dim("n", min=1, max=LARGEST)}
    names = {"input_names": ["pictures"], "output_names": ["logits"]}
    logging.disable(logging.WARNING)  # of much good advice
    program = torch.onnx.export(network, (pictures[:2],), **names, dynamic_shapes=(sizes,), dynamo=True, verbose=False)
    onnx.save(program.model_proto, files["ONNX"])
    quantize_dynamic(*files.values(), weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
    logging.disable(logging.NOTSET)
    options, found = onnxruntime.SessionOptions(), {}
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    for name, file in files.items():
        session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
        found[name] = (lambda x, session=session: torch.from_numpy(session.run(None, {"pictures": x.numpy()})[0])), file
    return found


def write_native(network: nn.Module, program: ExportedProgram, folder: Path) -> dict[str, tuple[Model, Path | None]]:
    """Compile while running, and beforehand into a file; return both models, or nothing where there is no C++ compiler."""
    file, compiled = folder / "digits.native.pt2", torch.compile(network, dynamic=True)
    try:
        torch._inductor.aoti_compile_and_package(program, package_path=str(file))
        compiled(torch.zeros(2, 1, 28, 28))  # compiling begins when the first input comes
    except (RuntimeError, ImportError, OSError) as error:
        print(f"   without compiled ones: {str(error).strip().splitlines()[0][:100]}")
        return {}
    return {"AOTInductor": (torch._inductor.aoti_load_package(str(file)), file), "torch.compile": (compiled, None)}


def write_files(network: nn.Sequential, pictures: Tensor, folder: Path, compiled: bool) -> dict[str, tuple[Model, Path | None]]:
    """Write a network in all forms that are to be had here; return the models as they are loaded, and their files."""
    weights, file, int8 = folder / "weights.pt", folder / "digits.pt2", folder / "weights.int8.pt"
    program = export(network, (pictures[:2],), dynamic_shapes=({0: Dim("n", min=1, max=LARGEST)},))
    torch.export.save(program, file)
    torch.save(network.state_dict(), weights)
    torch.save((small := torch_int8(network)[0]).state_dict(), int8)
    found = {"eager": (network, weights), "torch.export": (torch.export.load(file).module(), file), "torch int8": (small, int8)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch about its own changes
        return found | (write_native(network, program, folder) if compiled else {}) | write_onnx(network, pictures, folder)


# %% 4. One table
def measure(runtimes: dict[str, Model], pictures: Tensor, labels: Tensor, rounds: int) -> dict[str, dict[str, float]]:
    """Return by name how far the logits are off the first one's, how many answers differ, and milliseconds for 1 and 32."""
    found, exact, batches = {}, None, {1: pictures[:1], 32: pictures[:32]}
    times = {(name, size): [] for name in runtimes for size in batches}
    for _ in range(rounds + 3):  # in turn: what disturbs one disturbs all
        for name, size in times:
            started = time.perf_counter()
            runtimes[name](batches[size])
            times[name, size].append(1000 * (time.perf_counter() - started))
    for name, model in runtimes.items():
        logits = torch.cat([model(part) for part in pictures.split(LARGEST)])
        exact = logits if exact is None else exact  # the first one is the yardstick
        row = {"off": (logits - exact).abs().max().item(), "right": (logits.argmax(1) == labels).float().mean().item()}
        row["other"] = (logits.argmax(1) != exact.argmax(1)).float().mean().item()
        found[name] = row | {f"ms_{size}": statistics.median(times[name, size][3:]) for size in batches}
    return found


def kinds_inside(file: Path) -> str:
    """Say without loading it what in a file could run code."""
    if not zipfile.is_zipfile(file):  # ONNX is one protobuf: numbers and names of operations
        return "nothing"
    found = set()
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if name.endswith((".so", ".dll", ".pyd", ".dylib")):
                found.add("machine code")
            elif name.endswith((".pkl", ".pt")) or b"data.pkl" in archive.read(name):  # a file of torch.save, in it a pickle
                found.add("pickle")
    return ", ".join(sorted(found)) or "nothing"


# %% All of it, in order
def main(
    steps: int = 200, width: int = 512, lr: float = 2e-3, compiled: bool = True, rounds: int = 20,
    source: Source = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Write one network for several runtimes, and compare answers, sizes, times, and what the files may do.

    Args:
        steps: Of training, 64 digits each.
        width: Of the hidden linear layer.
        lr: Adam's learning rate.
        compiled: Whether to compile, which takes a C++ compiler and longer than all the rest.
        rounds: How often each time is measured; the median counts.
        source: Digits from: auto (MNIST if it is there, else the sample), real, sample.
        seed: Seed of the weights and of the order of the digits.
    """
    check(min(steps, width, lr, rounds) > 0, f"--steps {steps} --width {width} --lr {lr} --rounds {rounds}: all above 0")
    keep_memory()  # or eager pays, at each call, for memory that it has just given back
    digits = mnist(source)
    data, test = ((part.images.float() / 255, part.labels) for part in (digits.train, digits.test[:1000]))
    torch.manual_seed(seed)
    network = make_network(width)
    train(network, *data, steps, lr, seed)
    off, lost = compare_int8(network, test[0])
    meet_names(network)
    folder = models("export_formats")
    written = write_files(network, test[0], folder, compiled)
    mention("written", short(folder))
    with torch.no_grad():
        table = measure({name: model for name, (model, _) in written.items()}, *test, rounds)
    results = {"int8_off": off, "int8_lost": lost, "baseline": max(0.1, nearest_mean_accuracy(digits.train, digits.test))}
    print(f"4. {'':14}on disk   off by  others   right      for 1  ratio     for 32  ratio  what may run code")
    for name, row in table.items():
        file, first = written[name][1], table["eager"]
        size = f"{file.stat().st_size / 1e6:6.2f} MB" if file else "-"
        times = "".join(f"{row[ms]:8.2f} ms{row[ms] / first[ms]:7.2f}" for ms in ("ms_1", "ms_32"))
        inside = kinds_inside(file) if file else "-"
        print(f"   {name:13}{size:>9}{row['off']:9.0e}{row['other']:8.1%}{row['right']:8.1%}{times}  {inside}")
        results |= {f"{key}_{name.replace(' ', '_').replace('.', '_')}": value for key, value in row.items()}
    best = table["eager"]["right"]
    check(best > results["baseline"], f"{best:.1%} right, the nearest mean {results['baseline']:.1%}: more --steps?")
    for name, row in table.items():
        check("int8" in name or row["off"] < EXACT, f"{name} answers otherwise: logits off by {row['off']:.0e}")
        check(row["right"] > best - INT8_LOST, f"{name} costs {best - row['right']:.1%} of the answers")
    return results


if __name__ == "__main__":
    run(main)
