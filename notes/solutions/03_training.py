"""Solutions of stage 03, to read after your own attempt."""

import json
import math
from collections import Counter
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import ExportedProgram


def log_sum_exp(logits: Tensor) -> Tensor:
    # With the largest taken out no exp overflows, and the sum is at least 1, so its logarithm is harmless. A row of nothing but
    # -inf would give -inf - (-inf) = nan; there 0 is taken out instead, and log(0) is the -inf that is wanted.
    largest = logits.amax(dim=-1, keepdim=True)
    largest = torch.where(largest.isinf(), torch.zeros_like(largest), largest)
    return largest.squeeze(-1) + (logits - largest).exp().sum(dim=-1).log()


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int) -> float:
    # The weight of a bin is its count / n, and a mean is a sum / count: the counts cancel, and sums are enough. Empty bins add 0.
    confidence, predicted = probabilities.max(dim=1)
    member = (confidence * bins).long().clamp(max=bins - 1)  # (n,) a confidence of 1 would fall into a bin too many
    surplus = confidence - (predicted == labels).float()
    return sum(surplus[member == i].sum().abs().item() for i in range(bins)) / len(labels)


def adam_path(start: Tensor, gradients: list[Tensor], lr: float, decay: float) -> list[Tensor]:
    # The averages begin at 0 and are too small at first, by exactly the factor 1 - βᵗ. The decay never meets the averages: that
    # is the difference between AdamW and Adam with decay · w added to the gradient.
    w, mean, square, path = start, torch.zeros_like(start), torch.zeros_like(start), []
    for t, gradient in enumerate(gradients, start=1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        step = (mean / (1 - 0.9**t)) / ((square / (1 - 0.999**t)).sqrt() + 1e-8)
        w = (1 - lr * decay) * w - lr * step
        path.append(w)
    return path


def newton_schulz(matrix: Tensor, steps: int) -> Tensor:
    # With X = U S Vᵀ, X Xᵀ X is U S³ Vᵀ: the directions U and V are never touched. The largest singular value is at most the
    # Frobenius norm; from (0, 1] on, 1.5 s - 0.5 s³ rises towards 1, by half as much again at first.
    x = matrix / matrix.norm()
    for _ in range(steps):
        x = 1.5 * x - 0.5 * x @ x.T @ x
    return x


def trapezoid(step: int, steps: int, warm_up: int, decay: int, lr: float) -> float:
    # Counting from the end makes the last piece as simple as the first. Without a warm-up or a decay its branch is never taken,
    # so nothing divides by 0.
    if step < warm_up:
        return lr * (step + 1) / warm_up  # step + 1: a first step at rate 0 would be a step for nothing
    if step > steps - decay:
        return lr * (steps - step) / decay
    return lr


def suggest_rate(rates: list[float], losses: list[float], memory: float) -> float:
    best, best_rate, mean = math.inf, rates[0], 0.0
    for step, (rate, loss) in enumerate(zip(rates, losses, strict=True), start=1):
        if not math.isfinite(loss):  # one nan would make every running mean after it nan
            break
        mean = memory * mean + (1 - memory) * loss
        smooth = mean / (1 - memory**step)  # without the division the first means would be too small, and always win
        if smooth < best:
            best, best_rate = smooth, rate
    return best_rate / 10


def early_stop(losses: list[float], patience: int) -> tuple[int, int]:
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:  # False for nan
            best = epoch
        if epoch - best == patience:
            return best, epoch + 1
    return best, len(losses)


def accumulate(model: nn.Module, inputs: Tensor, labels: Tensor, size: int) -> float:
    model.zero_grad()
    total = 0.0
    for few, truth in zip(inputs.split(size), labels.split(size), strict=True):
        # reduction="sum" and one division by all examples: dividing by the number of small batches would count the examples
        # of a smaller last one for more than the others.
        loss = F.cross_entropy(model(few), truth, reduction="sum") / len(labels)
        loss.backward()  # adds to .grad
        total += loss.item()  # the number; adding up tensors would keep every graph in memory
    return total


def pad_left(sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
    # The last `length` places of a row are real. row[-length:] says so, and would be wrong only for a length of 0.
    longest = max(len(sequence) for sequence in sequences)
    batch = torch.zeros(len(sequences), longest, sequences[0].shape[1])
    mask = torch.zeros(len(sequences), longest, dtype=torch.bool)
    for i, sequence in enumerate(sequences):
        batch[i, -len(sequence) :] = sequence
        mask[i, -len(sequence) :] = True
    return batch, mask


def rows_of_worker(count: int, worker: int, workers: int) -> range:
    # Every worker has `size` rows, the first `more` of them one in addition. Before this worker there are `worker` others,
    # of whom min(worker, more) had one more.
    size, more = divmod(count, workers)
    start = worker * size + min(worker, more)
    return range(start, start + size + (worker < more))


def prepare_honestly(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    # Three numbers are measured for each column, and all of them on the training rows: what fills the gaps, and, after
    # filling, mean and standard deviation. A gap filled with the mean stays at 0 after standardizing.
    fill = train.nanmean(dim=0)
    train, test = (torch.where(part.isnan(), fill, part) for part in (train, test))
    mean, std = train.mean(dim=0), train.std(dim=0)
    return (train - mean) / std, (test - mean) / std


class Standardizer(nn.Module):
    # A buffer is in the state dict and moves with the module, and the optimizer does not see it. A plain attribute would be
    # neither saved nor moved, a parameter would learn.
    def __init__(self, x: Tensor):
        super().__init__()
        self.register_buffer("mean", x.mean(dim=0))
        self.register_buffer("std", x.std(dim=0))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def load_matching(model: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    # strict=False forgives missing and unknown names, but no wrong shape: those are sorted out first.
    own = model.state_dict()
    fitting = {name: tensor for name, tensor in weights.items() if name in own and tensor.shape == own[name].shape}
    model.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting.keys())


def read_curve(lines: list[str], name: str) -> dict[int, float]:
    points = [json.loads(line) for line in lines]
    # A dict keeps the last value of a key, but the place of its first: hence sorted.
    curve = {point["step"]: point["value"] for point in points if point.get("name") == name}
    return dict(sorted(curve.items()))


def best_setting(runs: list[tuple[dict, float]]) -> dict:
    groups: dict[tuple, list[float]] = {}
    for settings, accuracy in runs:
        # A dict cannot be a key; its items can, once their order does not matter.
        setting = tuple(sorted((name, value) for name, value in settings.items() if name != "seed"))
        groups.setdefault(setting, []).append(accuracy)
    means = {setting: sum(found) / len(found) for setting, found in groups.items() if len(found) > 1}
    if not means:
        raise ValueError("no setting was run twice")
    return dict(max(means, key=means.get))


def mend_training(model: nn.Sequential, batches: list[tuple[Tensor, Tensor]], lr: float) -> list[float]:
    # Given only the last layer, the optimizer leaves the others as they were drawn; the last layer learns, so the loss falls.
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for inputs, labels in batches:
        loss = F.cross_entropy(model(inputs), labels)  # it takes logits: the softmax is inside
        optimizer.zero_grad()  # before backward; after it, the step had only zeros to go by, and nothing moved
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def mend_accuracy(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    # Softmax over dim 0 compares examples with one another, and changes which class of an example is the largest; none is needed,
    # because softmax over the classes would change no order. Right answers are counted, because a mean of the batches' means
    # gives an example of a small batch more weight.
    was_training = model.training
    model.eval()
    correct = count = 0
    with torch.no_grad():
        for inputs, labels in batches:
            correct += (model(inputs).argmax(dim=1) == labels).sum().item()
            count += len(labels)
    model.train(was_training)
    return correct / count


def bytes_kept(function: Callable[[Tensor], Tensor], x: Tensor) -> int:
    # A storage is the memory behind a tensor and all its views. The storages themselves are kept here: if one were freed, the
    # next tensor might get its address and be taken for it.
    storages = {}

    def note(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        function(x)
    storages.pop(x.untyped_storage().data_ptr(), None)
    return sum(storage.nbytes() for storage in storages.values())


def checkpoint_backward(block: nn.Module, x: Tensor, gradient: Tensor, state: Tensor) -> list[Tensor]:
    # The same random numbers, so the same dropout mask: with another one the gradient would be that of another network.
    x = x.detach().requires_grad_()  # a leaf of its own: the graph begins here
    now = torch.get_rng_state()
    torch.set_rng_state(state)
    with torch.enable_grad():  # inside a backward pass autograd is off
        out = block(x)
    torch.set_rng_state(now)
    return list(torch.autograd.grad(out, [x, *block.parameters()], gradient))


def average_gradients(gradients: list[Tensor], counts: list[int]) -> Tensor:
    # A part's mean loss is its sum divided by its own count, so the sum comes back with that count. A part without examples has
    # no mean: it is left out, since 0 · nan is nan.
    sums = [count * gradient for gradient, count in zip(gradients, counts, strict=True) if count > 0]
    return torch.stack(sums).sum(dim=0) / sum(counts)


def deal_out(count: int, processes: int, epoch: int, seed: int) -> list[list[int]]:
    # All processes draw the same order, because all have the same seed: nothing needs to be sent. The epoch in the seed is
    # what set_epoch sets. Unequal hands would leave the others waiting for an all-reduce that never comes, hence the filling up.
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed + epoch)).tolist()
    order += order[: -count % processes]
    return [order[process::processes] for process in range(processes)]


def say_without_python(x: Tensor, most: float) -> Tensor:
    # A factor for each row, 1 where nothing is to be done. Both sides of where are computed: without the clamp a row of 0 would
    # give most / 0 = inf, which is not taken, but whose gradient would be nan.
    largest = x.abs().amax(dim=1, keepdim=True)  # (rows, 1)
    return torch.where(largest > most, x * (most / largest.clamp(min=most)), x)


def parameters_by_operation(program: ExportedProgram) -> dict[str, int]:
    # Parameters are inputs of the graph, with names of their own; the signature says which weight each of them is.
    weights = program.graph_signature.inputs_to_parameters  # placeholder's name → name in the state dict
    found: Counter[str] = Counter()
    for node in program.graph.nodes:
        if node.op == "call_function":
            used = [argument.name for argument in node.all_input_nodes if argument.name in weights]
            if used:
                found[str(node.target)] += sum(program.state_dict[weights[name]].numel() for name in used)
    return dict(found)


def quantize_per_channel(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    largest = layer.weight.detach().abs().amax(dim=1, keepdim=True)  # (outputs, 1)
    scales = torch.where(largest > 0, largest / 127, torch.ones_like(largest))
    return (layer.weight.detach() / scales).round().to(torch.int8), scales


def plan_batches(arrivals: list[float], most: int, wait: float, seconds: float) -> list[list[int]]:
    # Under load `taken` is late and many are there already: with wait = 0, too, batches form by themselves.
    found, free, first = [], 0.0, 0
    while first < len(arrivals):
        taken = max(free, arrivals[first])
        batch = [number for number in range(first, min(first + most, len(arrivals))) if arrivals[number] <= taken + wait]
        begun = max(taken, arrivals[batch[-1]]) if len(batch) == most else taken + wait
        found.append(batch)
        free, first = begun + seconds, first + len(batch)
    return found


def open_loop_times(service: list[float], gap: float) -> list[float]:
    # The server is free again at `free`; a question is begun when it is there and the server is free. One slow answer delays all
    # that follow it, until the queue is empty again.
    free, times = 0.0, []
    for number, seconds in enumerate(service):
        asked = number * gap
        free = max(free, asked) + seconds
        times.append(free - asked)
    return times
