"""Checkpoint files · 체크포인트 파일

A checkpoint is a zip of raw numbers and one pickle, and a pickle may tell Python to do anything. What is in such a file, which
part of it is dangerous, how its tensors find another device and another network, and a format without the danger.
체크포인트는 날것의 수들과 피클 하나를 묶은 zip 파일이고, 피클은 파이썬에게 무엇이든 시킬 수 있다. 그 안에 무엇이 있고
어디가 위험한지, 텐서를 다른 장치와 다른 신경망으로 어떻게 옮기는지, 위험이 없는 형식은 어떤 것인지 본다.

You will
  1. unzip a checkpoint and find a weight in it, byte for byte
  2. load a file that holds code: refused, and then, harmless as it is, allowed
  3. meet the error everyone meets with a file from a GPU, and load it anywhere
  4. write and read the safetensors format by hand
  5. load a network's body under another head, and see what strict=False forgives and what it hides
  6. learn odd and even from 50 pictures, with a body that knows digits and without

Before     03_training/save_and_load.py
Run        python -m study run checkpoint_files   (about 4 s on one CPU core, after importing torch)
You see    code in a checkpoint refused, and run; a file from a GPU; odd or even 90 % right with a loaded body, 87 % without
Try next   --few 500, ten times the pictures. First guess whether the loaded body is still worth more than a fresh one; then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import importlib.util
import json
import math
import os
import pickle
import tempfile
import zipfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Images, Source, mnist
from utils.device import pick_device
from utils.lesson import check, run


class Network(nn.Module):
    """A small classifier of pictures (batch, 1, 28, 28): a body that finds features, and a head that answers."""

    def __init__(self, classes: int):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.BatchNorm1d(64), nn.ReLU())
        self.head = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images.float() / 255))  # (batch, classes)


# %% 1. What is in the file
def raw(tensor: Tensor) -> bytes:
    """Return a tensor's numbers as they lie in memory, row by row."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def unzip(path: Path, tensor: Tensor) -> tuple[list[str], str]:
    """Return the names of the files in a checkpoint, and the name of the one that is `tensor`, byte for byte."""
    with zipfile.ZipFile(path) as archive:
        contents = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    found = next(name for name, content in contents.items() if content == raw(tensor))
    print(f"1. a checkpoint is a zip of {', '.join(contents)}; {found} is the first layer's weight")
    return list(contents), found


# %% 2. A file that does something
class Surprise:
    """An object whose pickle makes a folder. It could as well delete one: a pickle may call any function."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)  # read: to get this object back, call os.mkdir(folder)


def load_surprise(folder: Path) -> tuple[str, bool, bool]:
    """Save a surprise among weights, and load it twice; return PyTorch's refusal, and whether the code ran: first, second."""
    path, made = folder / "found_on_the_internet.pt", folder / "made_by_the_checkpoint"
    torch.save({"head.weight": torch.zeros(10, 64), "config": Surprise(made)}, path)
    try:
        torch.load(path, weights_only=True)
    except pickle.UnpicklingError as error:
        message = next(line.strip() for line in str(error).splitlines() if "GLOBAL" in line)
    ran = [made.exists()]
    torch.load(path, weights_only=False)  # only because we wrote the file ourselves, a few lines above
    ran.append(made.exists())
    print(f'2. "{message}"\n   the code in the file ran with weights_only=True: {ran[0]}, with weights_only=False: {ran[1]}')
    return message, ran[0], ran[1]


# %% 3. Another device
def as_from_a_gpu(path: Path) -> Path:
    """Copy a checkpoint and write into its pickle that the tensors came from a GPU, as if it had been saved there."""
    copy = path.with_name("from_a_gpu.pt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():  # a text in a pickle: X, its length in four bytes, the text
            new.writestr(name, old.read(name).replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"))
    return copy


def move(path: Path) -> tuple[str, list[str]]:
    """Load a file from a GPU without and with map_location; return the error where there is no GPU, and where tensors went."""
    file, message = as_from_a_gpu(path), ""
    try:
        torch.load(file, weights_only=True)
    except RuntimeError as error:
        message = str(error).partition(". ")[0]
        print(f'3. "{message}"\n   read: the file remembers where its tensors were; map_location="cpu" puts them elsewhere')
    gpu = pick_device("auto").type
    print("   no GPU here, so loading onto one was left out" if gpu == "cpu" else f"   and {gpu} is here as well")
    targets = dict.fromkeys(["cpu", "meta", gpu])  # "meta": shapes without numbers, to look into a file larger than memory
    return message, [torch.load(file, map_location=t, weights_only=True)["head.bias"].device.type for t in targets]


# %% 4. safetensors
DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}


def write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write the header's length in eight bytes, the header as JSON, and then nothing but numbers."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + len(raw(tensor))
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # spaces, so that the numbers begin at a multiple of eight
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(map(raw, tensors.values())))


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read them back; no place in such a file could hold code."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)  # texts about the file, if there are any
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        part = bytearray(content[start + begin : start + end])  # a copy that may be written to
        dtype = next(dtype for dtype, short in DTYPES.items() if short == entry["dtype"])
        check(len(part) == math.prod(entry["shape"]) * dtype.itemsize, f"{name} in {path.name} has {len(part)} bytes: damaged")
        tensors[name] = torch.frombuffer(part, dtype=dtype).view(entry["shape"])
    return tensors


def compare_safetensors(folder: Path, tensors: dict[str, Tensor]) -> bool:
    """Write and read by hand, and by the package where it is installed; return whether it was."""
    ours, theirs = folder / "ours.safetensors", folder / "theirs.safetensors"
    write_safetensors(ours, tensors)
    read = [read_safetensors(ours)]
    if installed := importlib.util.find_spec("safetensors") is not None:
        from safetensors.torch import load_file, save_file

        save_file(tensors, theirs)
        read += [load_file(ours), read_safetensors(theirs)]
    for back in read:
        check(back.keys() == tensors.keys() and all(raw(back[k]) == raw(tensors[k]) for k in tensors), "read back otherwise")
    told = "the package reads ours and we read its" if installed else "the package safetensors is not installed: not compared"
    print(f"4. safetensors by hand: {len(tensors)} tensors in {ours.stat().st_size:,} bytes, read back equal; {told}")
    return installed


# %% 5. Another head
def body_of(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave the head out."""
    return {name: tensor for name, tensor in weights.items() if name.startswith("body.")}


def transplant(weights: dict[str, Tensor]) -> tuple[str, list[str], int]:
    """Return PyTorch's answer to another head's shape, the keys missing without it, how many tensors wrong names load."""
    network = Network(classes=2)
    try:
        network.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        message = str(error).splitlines()[1].strip()
    print(f'5. "{message}"\n   read: strict=False forgives names that are missing or too many, but no wrong shape')
    missing = network.load_state_dict(body_of(weights), strict=False).missing_keys
    wrapped = {f"module.{name}": tensor for name, tensor in weights.items()}  # as DistributedDataParallel names them
    loaded = len(wrapped) - len(network.load_state_dict(wrapped, strict=False).unexpected_keys)
    print(f"   without the head, missing: {missing}; with a wrong prefix {loaded} tensors are loaded, and no error says so")
    return message, missing, loaded


# %% 6. What the body is worth
def train(network: Network, data: Images, steps: int, lr: float, seed: int) -> None:
    """Fit what is not frozen of a network to pictures with Adam, 64 drawn ones a step."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam([parameter for parameter in network.parameters() if parameter.requires_grad], lr=lr)
    for _ in range(steps):
        rows = torch.randint(len(data), (64,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(network(data.images[rows]), data.labels[rows]).backward()
        optimizer.step()


def learn_parity(weights: dict[str, Tensor], few: Images, test: Images, steps: int, lr: float, seed: int) -> float:
    """Learn from a few pictures whether a digit is odd, all of a fresh network ({}) or a head on a loaded body; test it."""
    torch.manual_seed(seed)
    network = Network(classes=2)
    network.load_state_dict(body_of(weights), strict=False)
    if weights:
        network.body.requires_grad_(False).eval()  # frozen: 50 pictures would rather spoil it; eval for its running statistics
    train(network, Images(few.images, few.labels % 2), steps, lr, seed)
    with torch.no_grad():
        return (network.eval()(test.images).argmax(dim=1) == test.labels % 2).float().mean().item()


# %% All of it, in order
def main(steps: int = 300, few: int = 50, repeats: int = 8, source: Source = "auto", seed: int = 0) -> dict[str, float]:
    """Look into checkpoint files, load dangerous and foreign ones, and use a body again.

    Args:
        steps: Steps of training on digits; a third of them on odd and even.
        few: Pictures from which odd and even are learned.
        repeats: How often, each time from other pictures.
        source: "real" MNIST, the "sample" without it, or "auto".
        seed: Seed of weights and examples.
    """
    data = mnist(source)
    half = len(data.train) // 2
    torch.manual_seed(seed)
    train(network := Network(classes=10), data.train[:half], steps, 0.003, seed)
    weights = network.state_dict()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(weights, file := Path(folder) / "digits.pt")
        unzip(file, weights["body.1.weight"])
        load_surprise(Path(folder))
        move(file)
        compare_safetensors(Path(folder), weights)
    transplant(weights)

    accuracies = []
    for draw in range(1000 * seed, 1000 * seed + repeats):
        chosen = torch.randperm(len(data.train) - half, generator=torch.Generator().manual_seed(draw))[:few]
        some = data.train[half:][chosen]  # pictures that the body has not seen
        accuracies.append([learn_parity(body, some, data.test, steps // 3, 0.003, draw) for body in (weights, {})])
    loaded, fresh = torch.tensor(accuracies).mean(dim=0).tolist()
    print(f"6. odd or even, learned from {few}, mean of {repeats}: {loaded:.1%} with the loaded body, {fresh:.1%} without")
    odd = (data.test.labels % 2).float().mean().item()
    baseline = max(odd, 1 - odd, fresh)
    check(loaded > baseline, f"the loaded body has {loaded:.3f} right, a fresh one or chance {baseline:.3f}: more --steps?")
    return {"accuracy": loaded, "baseline_accuracy": baseline, "accuracy_fresh": fresh}


if __name__ == "__main__":
    run(main)
