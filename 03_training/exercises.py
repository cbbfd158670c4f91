"""Exercises · 연습문제: losses, optimizers, data, the loop and all that can go wrong in it

Put your code where it says TODO, then:  python -m study check 03
Stuck?  python -m study hint log_sum_exp
"""

import json  # noqa: F401  (for your code)
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import ExportedProgram


def log_sum_exp(logits: Tensor) -> Tensor:
    """Return log(exp(logits[0]) + exp(logits[1]) + ...) of each row, for logits of any size. Without torch.logsumexp and softmax.

    Args:
        logits: (..., classes) float. An entry may be -inf, a class that is ruled out; a whole row may be.

    Returns:
        (...) float: -inf for a row of nothing but -inf, finite otherwise.
    """
    raise NotImplementedError  # TODO


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int) -> float:
    """Return how far confidence and accuracy are apart.

    The confidence of a prediction is its largest probability. Predictions with a confidence in [0, 1/bins), in [1/bins, 2/bins),
    and so on form a bin each; a confidence of exactly 1 belongs to the last. Take the distance between each bin's mean confidence
    and its share of right predictions, and average these distances, each bin weighted by the number of its predictions.

    Args:
        probabilities: (n, classes) float, each row summing to 1; n is at least 1.
        labels: (n,) int64.
        bins: How many bins there are.

    Returns:
        A Python float from 0 to 1.
    """
    raise NotImplementedError  # TODO


def adam_path(start: Tensor, gradients: list[Tensor], lr: float, decay: float) -> list[Tensor]:
    """Return the weights after each step of AdamW, given the gradients that it meets on its way. Without torch.optim.

    The averages are kept with β₁ = 0.9 and β₂ = 0.999, both from 0 on and both corrected for that; 1e-8 is added to the root. The
    weight decay is AdamW's: before each step the weights shrink by the factor 1 - lr · decay.

    Args:
        start: The weights at the beginning, of any shape; they stay as they are.
        gradients: One tensor of the same shape for each step.
        lr: Learning rate.
        decay: Weight decay.
    """
    raise NotImplementedError  # TODO


def newton_schulz(matrix: Tensor, steps: int) -> Tensor:
    """Bring all singular values of a matrix to 1 and leave its directions as they are, by matrix products alone.

    Divide the matrix by its Frobenius norm (the root of the sum of all squares), so that no singular value is above 1. Then every
    step replaces X by 1.5 X - 0.5 X Xᵀ X: it turns each singular value s into 1.5 s - 0.5 s³, and 1 is where that stays.

    Args:
        matrix: (rows, columns) float, not all zeros; wide or tall.
        steps: How many times.

    Returns:
        (rows, columns) float.
    """
    raise NotImplementedError  # TODO


def trapezoid(step: int, steps: int, warm_up: int, decay: int, lr: float) -> float:
    """Return the rate of one step of the schedule warm-up, stable, decay, in which many language models are trained.

    In the first `warm_up` steps it climbs in a straight line: step 0 has lr / warm_up, step warm_up - 1 has lr. Then it stays at
    lr. In the last `decay` steps it falls in a straight line: the first of them still has lr, and a step after the last one
    would have 0.

    Args:
        step: 0 to steps - 1.
        steps: Of the whole training, at least warm_up + decay.
        warm_up: Steps of the climb; 0 for none.
        decay: Steps of the fall; 0 for none.
        lr: The highest rate.
    """
    raise NotImplementedError  # TODO


def suggest_rate(rates: list[float], losses: list[float], memory: float) -> float:
    """Return the rate that a range test suggests: a tenth of the one at which the smoothed loss is lowest.

    The smoothed loss is a running mean, mean = memory * mean + (1 - memory) * loss from 0 on, divided by 1 - memory ** k after k
    losses. Look no further than the first loss that is infinite or not a number.

    Args:
        rates: The rate of every step, rising.
        losses: The loss of every step; the first one is a number.
        memory: 0 to less than 1; 0 smooths nothing.
    """
    raise NotImplementedError  # TODO


def early_stop(losses: list[float], patience: int) -> tuple[int, int]:
    """Watch the validation losses of a training run go by, and stop it once `patience` epochs in a row have had no new best.

    A new best is smaller than every loss before it. nan is no new best.

    Args:
        losses: One of every epoch, if nothing stopped the run. The first one is a number.
        patience: At least 1.

    Returns:
        The epoch whose weights to keep, counted from 0, and the number of epochs that were run.
    """
    raise NotImplementedError  # TODO


def accumulate(model: nn.Module, inputs: Tensor, labels: Tensor, size: int) -> float:
    """Leave the gradient of the mean cross-entropy over all examples in the parameters' .grad, working on `size` at a time.

    No forward pass may see more than `size` examples; the last one may see fewer. What was in .grad before is forgotten.

    Args:
        model: From inputs (n, features) to logits (n, classes).
        inputs: (examples, features) float.
        labels: (examples,) int64.
        size: At least 1.

    Returns:
        The mean cross-entropy over all examples, a Python float.
    """
    raise NotImplementedError  # TODO


def pad_left(sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Make a batch of sequences of different length, with the padding in front: as language models want it that write on.

    Args:
        sequences: Each (length, features) float, no length 0.

    Returns:
        The batch (sequences, longest, features), zeros where there is padding; and a mask (sequences, longest), bool, True
        where there is not.
    """
    raise NotImplementedError  # TODO


def rows_of_worker(count: int, worker: int, workers: int) -> range:
    """Say which rows of a file one of several workers reads: neighbouring ones, in order, shared out as evenly as can be.

    All workers together read every row once; no worker has more than one row more than another, and those who have
    one more come first. 10 rows among 3 workers: 0 to 3, 4 to 6, 7 to 9.

    Args:
        count: Rows in the file.
        worker: The worker's number, from 0.
        workers: How many there are, at least 1.
    """
    raise NotImplementedError  # TODO


def prepare_honestly(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Fill the gaps in a table, then standardize it, and let nothing leak from the test rows.

    A gap is a NaN. It is filled with the mean of the column's other numbers. After that every column is shifted and scaled
    so that the training rows have mean 0 and standard deviation 1 (as torch.std measures it).

    Args:
        train: (examples, features) float; every column has numbers that differ.
        test: (examples, features) float; there may be only one row.

    Returns:
        Both tables, prepared; the tensors that were given stay as they are.
    """
    raise NotImplementedError  # TODO


class Standardizer(nn.Module):
    """A first layer that standardizes its input: (x - mean) / std, for each feature.

    What it was measured on is saved with the network (the names in the state dict are "mean" and "std"), moves with it to
    another device or dtype, and does not learn.
    """

    def __init__(self, x: Tensor):
        """Measure mean and standard deviation (as torch.std does) of the training examples x (examples, features)."""
        super().__init__()
        raise NotImplementedError  # TODO

    def forward(self, x: Tensor) -> Tensor:
        """Standardize x (batch, features)."""
        raise NotImplementedError  # TODO


def load_matching(model: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    """Load into `model` every tensor of `weights` that has its name and its shape in the model, and leave the rest as it is.

    Returns:
        The names of the model's own tensors that were not loaded, sorted.
    """
    raise NotImplementedError  # TODO


def read_curve(lines: list[str], name: str) -> dict[int, float]:
    """Read one curve from the lines of a log, each a JSON object.

    A point is a line like {"name": "train/loss", "step": 20, "value": 0.7}; other lines are something else. A run that was
    resumed logs some steps a second time: the later line is the one that counts.

    Args:
        lines: Of the file, in order.
        name: Of the curve.

    Returns:
        step → value, in the order of the steps; empty where there is no such curve.
    """
    raise NotImplementedError  # TODO


def best_setting(runs: list[tuple[dict, float]]) -> dict:
    """Choose the setting with the highest mean validation accuracy over its seeds.

    Args:
        runs: (settings, validation accuracy) of every run; settings are numbers by name, among them "seed".

    Returns:
        The settings without the seed. A setting that was run only once is not in the running: one run may be luck.

    Raises:
        ValueError: No setting was run twice.
    """
    raise NotImplementedError  # TODO


def mend_training(model: nn.Sequential, batches: list[tuple[Tensor, Tensor]], lr: float) -> list[float]:
    """Take one step of SGD for each batch, on all of the model's parameters; return the loss of each batch before its step.

    Three of the lines below are wrong, and no error message says so. Mend them.

    Args:
        model: From inputs (batch, features) to logits (batch, classes).
        batches: Inputs, and labels (batch,) int64.
        lr: Learning rate.
    """
    optimizer = torch.optim.SGD(model[-1].parameters(), lr=lr)
    losses = []
    for inputs, labels in batches:
        loss = F.cross_entropy(model(inputs).softmax(dim=1), labels)
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()
        losses.append(loss.item())
    raise NotImplementedError  # TODO: mend the lines above, then return losses here


def mend_accuracy(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    """Return the share of all examples that the model gets right, computed as in use: no dropout, and nothing is learned.

    The number comes out wrong for three reasons. Mend them. Afterwards the model is in the mode in which it was.

    Args:
        model: From inputs (batch, features) to logits (batch, classes); it may hold dropout and batch normalisation.
        batches: Inputs, and labels (batch,) int64; the last batch may be smaller than the others.
    """
    total = 0.0
    for inputs, labels in batches:
        predicted = model(inputs).softmax(dim=0).argmax(dim=1)
        total += (predicted == labels).float().mean().item()
    raise NotImplementedError  # TODO: mend the lines above, then return total / len(batches) here, or what it should be


def bytes_kept(function: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Return how many bytes autograd keeps for the backward pass when function(x) is computed.

    Memory that several of the kept tensors share counts once. The memory of x itself does not count: it is there anyway. By
    torch.autograd.graph.saved_tensors_hooks.

    Args:
        function: From a tensor to a tensor.
        x: Any shape, requires_grad is on.
    """
    raise NotImplementedError  # TODO


def checkpoint_backward(block: nn.Module, x: Tensor, gradient: Tensor, state: Tensor) -> list[Tensor]:
    """Do the backward pass of gradient checkpointing: compute the block once more, and differentiate it. On the CPU.

    Afterwards torch's random numbers go on as if nothing had been drawn in here, x and the block's parameters have no other
    .grad than before. Without torch.utils.checkpoint.

    Args:
        block: May draw random numbers: dropout.
        x: The block's input (batch, ...), of which only the numbers were kept.
        gradient: The derivative of the loss by the block's output, of its shape.
        state: torch.get_rng_state() as it was just before the block was computed for the first time.

    Returns:
        The gradient with respect to x, then those of block.parameters(), in their order.
    """
    raise NotImplementedError  # TODO


def average_gradients(gradients: list[Tensor], counts: list[int]) -> Tensor:
    """Return the gradients of the whole batch, from what each process found for its part of it.

    Args:
        gradients: For every process the gradients of the mean loss over its part, each of shape (parameters,).
        counts: How many examples each part has; 0 for a process that got none, whose gradients are then all nan.

    Returns:
        (parameters,) the gradients of the mean loss over all examples.
    """
    raise NotImplementedError  # TODO


def deal_out(count: int, processes: int, epoch: int, seed: int) -> list[list[int]]:
    """Deal the examples 0 .. count - 1 out to processes as a sampler does: shuffled, in another order in every epoch.

    Draw the order with torch.randperm and a generator of its own, seeded with seed + epoch. Fill it up from its beginning until
    it can be dealt out evenly, then give the first to process 0, the second to process 1, and so on in turn.

    Args:
        count: How many examples, at least `processes`.
        processes: How many hands.
        epoch: Which one, from 0.
        seed: The same in all processes.

    Returns:
        For every process its examples, in order, as Python ints.
    """
    raise NotImplementedError  # TODO


def say_without_python(x: Tensor, most: float) -> Tensor:
    """Do without Python's choices, so that torch.export accepts it for any number of rows:

        for each row: if its largest absolute value is above `most`, the row is scaled down so that this value becomes `most`

    Rows that are small enough, rows of nothing but 0 too, stay exactly as they are.

    Args:
        x: (rows, n), of which the graph is to work for any number of rows.
        most: Above 0.

    Returns:
        A new tensor of x's shape; x stays.
    """
    raise NotImplementedError  # TODO


def parameters_by_operation(program: ExportedProgram) -> dict[str, int]:
    """Return how many weights each operation of an exported graph uses: where the size of a model comes from.

    Count the elements of parameters, not of buffers, among the direct arguments of each node with op "call_function"; the weights
    of all nodes with the same operation are added up. Operations that use none are left out.

    Returns:
        From the operation's name, as str(node.target) has it ("aten.linear.default"), to a number of weights.
    """
    raise NotImplementedError  # TODO


def quantize_per_channel(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    """Quantise a linear layer's weights to 8 bits with a scale for each output, where the lesson has one for all of them.

    The largest absolute weight of an output becomes 127 or -127; an output of nothing but 0 gets the scale 1.

    Returns:
        int8 (outputs, inputs), and scales (outputs, 1) float32: numbers * scales is near the weights.
    """
    raise NotImplementedError  # TODO


def plan_batches(arrivals: list[float], most: int, wait: float, seconds: float) -> list[list[int]]:
    """Return which questions a batcher answers together.

    As soon as the model is free and a question is there, the batcher takes it, and with it those that are there or come within
    `wait` seconds from then on, up to `most` in all. The model begins when the batch has `most` questions, else when `wait` is
    over, and takes `seconds` for a batch of any size. At 0 it is free.

    Args:
        arrivals: When each question comes, in seconds, in order.
        most: At least 1.
        wait: From 0 on; what comes exactly at its end still belongs to the batch.
        seconds: Above 0.

    Returns:
        For each batch the numbers of its questions, from 0.
    """
    raise NotImplementedError  # TODO


def open_loop_times(service: list[float], gap: float) -> list[float]:
    """Return what people wait who ask every `gap` seconds, whether the ones before them have their answers or not.

    A load test that waits for each answer before it asks again (a closed loop) would report `service`: nobody is in its queue.
    Here the server computes for one at a time, in the order in which they came; a time counts from the asking to the answer.

    Args:
        service: Seconds for which the server computes for each question.
        gap: Seconds between two questions; the first one comes at 0.
    """
    raise NotImplementedError  # TODO
