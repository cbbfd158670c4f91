"""Exporting a graph · 그래프 내보내기

A network is Python code and weights, and where it is to run there may be neither Python nor your code. torch.export writes down
what is computed, operation by operation: a graph. Where Python looked at numbers to choose a way, tensors have to do it.
신경망은 파이썬 코드와 가중치다. 그런데 정작 돌릴 곳에는 파이썬도 내 코드도 없을 수 있다. torch.export는 무엇을 계산하는지 연산
하나하나 그래프로 적는다. 파이썬이 값을 보고 길을 고르던 곳은 텐서 연산으로 바꿔 써야 한다.

You will
  1. export a network, and compute its graph node by node with ten lines of your own
  2. meet the error everyone meets, a batch of another size, and say which sizes may change
  3. take a branch that Python chooses: torch.export refuses it, torch.jit.trace froze it, torch.cond and torch.where say it
  4. forget eval(), and see what no error tells
  5. read an old TorchScript file, and move its weights over

Before     03_training/checkpoint_files.py
Run        python -m study run export_graph        (about 7 s on one CPU core, after importing torch)
You see    a frozen branch: 2.5 % right where 93.6 % should be; without eval() 10 % of the answers change when asked again
Try next   --dropout 0: guess what then becomes of the two numbers in 4., of the answers without eval(); then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import copy
import logging
import tempfile
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from utils.datasets import Source, mnist, nearest_mean_accuracy
from utils.lesson import check, run, silence

Examples = tuple[Tensor, Tensor]  # pictures (n, 1, 28, 28) in 0..1, bright ink on black; labels (n,)


class Network(nn.Module):
    """A small classifier of pictures (batch, 1, 28, 28) with two layers that behave otherwise in training; logits (batch, 10)."""

    def __init__(self, dropout: float):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(16 * 7 * 7, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def train(network: nn.Module, data: Examples, steps: int, lr: float, seed: int) -> None:
    """Train in place with Adam, 64 drawn pictures a step; leave the network in eval mode."""
    optimizer, generator = torch.optim.Adam(network.train().parameters(), lr), torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(data[0]), (64,), generator=generator)
        loss = F.cross_entropy(network(data[0][rows]), data[1][rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()


@torch.no_grad()
def accuracy(model, pictures: Tensor, labels: Tensor) -> float:
    """The share of right answers of anything that turns pictures into logits."""
    return (model(pictures).argmax(dim=1) == labels).float().mean().item()


# %% 1. A graph, and who computes it
def interpret(program: ExportedProgram, x: Tensor) -> Tensor:
    """Compute an exported program node by node, in order: what every runtime does, in whatever language it is written."""
    weights, values = {**program.state_dict, **program.constants}, {}
    for spec in program.graph_signature.input_specs:  # weights are inputs of the graph, like x
        values[spec.arg.name] = x if spec.target is None else weights[spec.target]
    for node in program.graph.nodes:
        args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda earlier: values[earlier.name])
        if node.op == "call_function":
            values[node.name] = node.target(*args, **kwargs)
        elif node.op == "output":
            (result,) = args[0]  # a graph returns a tuple
    return result


@torch.no_grad()
def compare_interpreter(network: Network, pictures: Tensor) -> tuple[list[str], float, float]:
    """Return the operations, and by how much our interpreter and PyTorch's own are off the network."""
    program = export(network, (pictures,))
    operations = [str(node.target).split(".")[1] for node in program.graph.nodes if node.op == "call_function"]
    expected = network(pictures)
    found = interpret(program, pictures), program.module()(pictures)
    ours, theirs = ((one - expected).abs().max().item() for one in found)
    print(f"1. the graph: {' → '.join(operations)}")
    print(f"   computed by ten lines of ours it is off by {ours:.0e}, by PyTorch's own {theirs:.0e}")
    return operations, ours, theirs


# %% 2. Sizes that change
def meet_size(network: nn.Module, pictures: Tensor) -> str:
    """Export for 2 pictures, and ask about 3; return PyTorch's answer."""
    program = export(network, (pictures[:2],)).module()
    try:
        program(pictures[:3])
    except (AssertionError, RuntimeError) as error:  # which of them depends on PyTorch's version
        message = str(error).splitlines()[0]
    print(f'2. "{message}"\n   read: a size is fixed to the example\'s, unless you say that it may change')
    return message


def export_batches(network: nn.Module, pictures: Tensor, largest: int) -> ExportedProgram:
    """Export for any number of pictures from 1 to `largest`. The example has 2: a size of 1 would be taken as fixed."""
    return export(network, (pictures[:2],), dynamic_shapes=({0: Dim("batch", min=1, max=largest)},))


# %% 3. Branches
class PythonChooses(nn.Module):
    """Turns pictures with dark ink on bright paper round first. Python looks at the numbers, and chooses."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > 0.5:
            x = 1 - x
        return self.network(x)


class GraphChooses(PythonChooses):
    """The same, said so that both ways are in the graph."""

    def forward(self, x: Tensor) -> Tensor:
        return self.network(torch.cond(x.mean() > 0.5, lambda x: 1 - x, lambda x: x.clone(), (x,)))


class EachChooses(PythonChooses):
    """Better: for each picture on its own, whatever else is in its batch. Nothing is left to choose, it is all arithmetic."""

    def forward(self, x: Tensor) -> Tensor:
        bright = x.mean(dim=(1, 2, 3), keepdim=True) > 0.5  # (batch, 1, 1, 1)
        return self.network(torch.where(bright, 1 - x, x))


def compare_branches(network: Network, data: Examples) -> tuple[str, dict[str, float]]:
    """Return torch.export's answer to Python's choice, and the accuracies: on dark ink only, and where every third is dark."""
    pictures, labels = data
    mixed = torch.where((torch.arange(len(pictures)) % 3 == 0).view(-1, 1, 1, 1), 1 - pictures, pictures)
    chooser, found = PythonChooses(network).eval(), {}
    logging.disable(logging.WARNING)  # PyTorch also logs and prints the graph up to there
    try:
        with silence(errors=True):
            export(chooser, (pictures[:2],))
    except Exception as error:  # its class is private
        message = next(line for line in str(error).splitlines() if "data-dependent" in line).split(" (unhinted")[0]
    logging.disable(logging.NOTSET)
    print(f'3. "{message}"\n   read: which way to go depends on numbers that are not there yet')
    models = {"if": chooser, "trace": as_torchscript(chooser, pictures[:2])}
    for name, said in (("cond", GraphChooses), ("where", EachChooses)):
        models[name] = export_batches(said(network).eval(), pictures, len(pictures)).module()
    for name, model in models.items():
        dark, some = accuracy(model, 1 - pictures, labels), accuracy(model, mixed, labels)
        print(f"   {name:5}: {dark:.1%} right on dark ink, {some:.1%} where every third picture has dark ink")
        found |= {f"{name}_dark": dark, f"{name}_mixed": some}
    return message, found


# %% 4. What no error tells
@torch.no_grad()
def forget_eval(network: Network, pictures: Tensor) -> tuple[float, float]:
    """Export in training mode; return the share of answers that are others when asked again, and when asked one by one."""
    program = export_batches(copy.deepcopy(network).train(), pictures, len(pictures)).module()
    first, again = program(pictures).argmax(dim=1), program(pictures).argmax(dim=1)
    alone = torch.cat([program(picture[None]).argmax(dim=1) for picture in pictures])
    changed, lonely = ((first != other).float().mean().item() for other in (again, alone))
    print(f"4. exported without eval(): {changed:.1%} of the answers are others when asked again, {lonely:.1%} one by one")
    return changed, lonely


# %% 5. Old files
def as_torchscript(model: nn.Module, pictures: Tensor) -> torch.jit.ScriptModule:
    """Trace a model as one did before torch.export: what is computed for an example is what will be computed for ever."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and aware that a choice of Python's is lost
        return torch.jit.trace(model, pictures)


def read_old(file: Path, fresh: Network, pictures: Tensor) -> tuple[str, float]:
    """Load a TorchScript file, and move its weights into `fresh`; return what torch.load says, and how far the two are apart."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.load is deprecated; for old files it is what there is
        try:
            torch.load(file, weights_only=True)
        except RuntimeError as error:
            message = str(error).partition(". ")[0]
        old = torch.jit.load(file, map_location="cpu")
    fresh.load_state_dict(old.state_dict())
    program = export_batches(fresh.eval(), pictures, len(pictures))
    with torch.no_grad():
        off = (program.module()(pictures) - old(pictures)).abs().max().item()
    print(f'5. "{message}"\n   read: use torch.jit.load. Its weights in our own class, exported: off by {off:.0e}')
    return message, off


# %% All of it, in order
def main(steps: int = 300, lr: float = 3e-3, dropout: float = 0.5, source: Source = "auto", seed: int = 0) -> dict[str, float]:
    """Export a network to a graph: what has to be said, what is refused, what goes wrong without an error, and old files.

    Args:
        steps: Of training, 64 digits each.
        lr: Adam's learning rate.
        dropout: Share of the features that is left out in training.
        source: Digits from: auto (MNIST if it is there, else the sample), real, sample.
        seed: Seed of the weights, the order of the digits, and dropout.
    """
    check(min(steps, lr) > 0 and 0 <= dropout < 1, f"--steps {steps} --lr {lr}: above 0; --dropout {dropout}: from 0, below 1")
    digits = mnist(source)
    data, test = ((part.images.float() / 255, part.labels) for part in (digits.train, digits.test[:1000]))
    torch.manual_seed(seed)
    network = Network(dropout)
    train(network, data, steps, lr, seed)
    right, baseline = accuracy(network, *test), max(0.1, nearest_mean_accuracy(digits.train, digits.test))
    check(right > baseline, f"{right:.1%} right, the nearest mean {baseline:.1%}: more --steps?")
    _, ours, theirs = compare_interpreter(network, test[0])
    meet_size(network, test[0])
    _, branches = compare_branches(network, test)
    changed, lonely = forget_eval(network, test[0])
    with tempfile.TemporaryDirectory() as folder:
        as_torchscript(network, test[0][:2]).save(file := Path(folder) / "old.pt")
        _, old_off = read_old(file, Network(dropout), test[0])
    check(max(ours, theirs, old_off) < 1e-4, f"an exported graph computes something else, by {max(ours, theirs, old_off):.0e}")
    check(branches["trace_dark"] < branches["where_dark"], "a frozen branch does no harm: has the network learned?")
    results = {"accuracy": right, "baseline": baseline, "interpreter_off": ours, "graph_off": theirs, "old_off": old_off}
    return results | branches | {"changed_again": changed, "changed_alone": lonely}


if __name__ == "__main__":
    run(main)
