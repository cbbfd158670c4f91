"""Long memory · 긴 기억

Remembering something for forty steps needs a gradient that reaches back forty steps. On two tasks made for nothing else, the cell
without gates answers as if it had read nothing, and cells with gates remember; how well depends on one number at the start.
무언가를 마흔 스텝 동안 기억하려면 마흔 스텝을 거슬러 닿는 기울기가 있어야 한다. 오직 그것만 시험하는 두 과제에서 게이트 없는 셀은
아무것도 읽지 않은 것처럼 답하고, 게이트가 있는 셀은 기억한다. 얼마나 잘하는지는 처음의 수 하나에 달려 있다.

You will
  1. make two tasks of any length: add two numbers among many, and recall a symbol after a delay
  2. give vanilla cell, LSTM and GRU the same number of weights, and meet the error everyone meets with a loss over steps
  3. train all three on the same data, short and long, and hold them against always giving the same answer
  4. open the gates at the start, by a bias of 0, 1 or 3, and see what that decides
  5. forget a dimension: the warning that everyone scrolls past, and a network that learns nothing

Before     05_rnn/lstm_gru.py
Run        python -m study run long_memory         (about 52 s on one CPU core, after importing torch)
You see    sums: vanilla 0.163 (always 1: 0.167), LSTM 0.0014; recall wrong by bias: 0.89, 0.89, 0.00; tasks.png, biases.png
Try next   --lengths 50 --steps 400 --networks 3: a little longer, fewer steps. First guess how many of 3 LSTMs can add, then look
Theory     notes/en/05_rnn.md · notes/ko/05_rnn.md
Practise   python -m study check 05
"""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

CELLS = ("RNN", "LSTM", "GRU")
SYMBOLS, NOISE = 8, 4  # recall: symbols that may be asked for, and others that only disturb
RATES = {"RNN": 1e-2, "LSTM": 4e-2, "GRU": 2e-2}  # chosen with other seeds, as was the bias: each cell has its own best
KEEP_BIAS = {"adding": 1.0, "recall": 3.0}  # section 4 varies it
BIASES = (0.0, 1.0, 3.0)


# %% 1. Two tasks
def adding(count: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw Hochreiter and Schmidhuber's adding problem: two of many numbers are marked, one in each half; what is their sum?

    Returns:
        Sequences (count, length, 2) of a number from 0 to 1 and a mark, 0 or 1; and the sums (count, 1).
    """
    numbers, marks, half = torch.rand(count, length, generator=generator), torch.zeros(count, length), length // 2
    for first, last in ((0, half), (half, length)):
        places = torch.randint(first, last, (count, 1), generator=generator)
        marks.scatter_(1, places, 1.0)
    return torch.stack([numbers, marks], dim=2), (numbers * marks).sum(dim=1, keepdim=True)


def recall(count: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw a symbol, then noise, then a signal that asks for the symbol; in between are length - 2 steps.

    Returns:
        Sequences, one-hot (count, length, 13) of 8 symbols, 4 kinds of noise and the signal; and the symbols (count,).
    """
    sequences = torch.randint(SYMBOLS, SYMBOLS + NOISE, (count, length), generator=generator)
    symbols = torch.randint(SYMBOLS, (count,), generator=generator)
    sequences[:, 0], sequences[:, -1] = symbols, SYMBOLS + NOISE
    return F.one_hot(sequences, SYMBOLS + NOISE + 1).float(), symbols


TASKS = {"adding": adding, "recall": recall}
BASELINES = {"adding": 1 / 6, "recall": 1 - 1 / SYMBOLS}  # always 1: the variance of a sum, twice 1/12; always the same symbol


# %% 2. Three cells of one size
class Reader(nn.Module):
    """Read a sequence (batch, steps, inputs), and answer after its last step: a sum (batch, 1), or logits (batch, 8).

    Args:
        cell: RNN, LSTM or GRU.
        task: adding or recall.
        weights: How many the cell may have, biases included; it gets as many units as fit.
        keep_bias: Added to the bias of the gate that keeps the old state: an LSTM's forget gate, a GRU's update gate.
        seed: Seed of the initial weights.
    """

    def __init__(self, cell: str, task: str, weights: int, keep_bias: float, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.task, inputs, outputs = task, *((2, 1) if task == "adding" else (SYMBOLS + NOISE + 1, SYMBOLS))
        blocks = {"RNN": 1, "GRU": 3, "LSTM": 4}[cell]
        hidden = 1
        while blocks * (hidden + 1) * (inputs + hidden + 3) <= weights:
            hidden += 1
        self.recurrent = getattr(nn, cell)(inputs, hidden, batch_first=True)
        self.head = nn.Linear(hidden, outputs)
        if cell != "RNN":  # in PyTorch both gates have the second block; in one of the two biases, because they are added
            self.recurrent.bias_ih_l0.data[hidden : 2 * hidden] += keep_bias

    def forward(self, x: Tensor) -> Tensor:
        outputs, _ = self.recurrent(x)  # (batch, steps, hidden)
        return self.head(outputs[:, -1])


def keep_the_steps() -> str:
    """Hand cross_entropy logits (batch, steps, classes), as from a network that answers at every step; return its answer."""
    try:
        F.cross_entropy(torch.zeros(3, 2, 8), torch.zeros(3, 2, dtype=torch.int64))
    except RuntimeError as error:
        message = str(error)
    print(f'2. "{message}"')
    print("   read: it takes dimension 1 for the classes. A row for every step: logits.flatten(0, 1), targets.flatten()")
    return message


# %% 3. Training
def train(model: Reader, length: int, steps: int, lr: float, seed: int) -> list[float]:
    """Take steps of Adam on 64 new sequences each; the learning rate rises to `lr` and falls to zero. Return the losses."""
    generator, device = torch.Generator().manual_seed(seed), model.head.weight.device
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
    losses = []
    for _ in range(steps):
        x, targets = (part.to(device) for part in TASKS[model.task](64, length, generator))
        loss = (F.mse_loss if model.task == "adding" else F.cross_entropy)(model(x), targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # a gradient that does not vanish may explode
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def measure(model: Reader, length: int) -> float:
    """Return the mean squared error of sums, or the share of symbols that are wrong, in 1,000 sequences that no training has."""
    sequences = TASKS[model.task](1000, length, torch.Generator().manual_seed(10**9))
    x, targets = (part.to(model.head.weight.device) for part in sequences)
    if model.task == "adding":
        return F.mse_loss(model(x), targets).item()
    return (model(x).argmax(dim=1) != targets).float().mean().item()


# %% 4. Several networks, with gates more and less open at the start
def train_some(
    cell: str, task: str, length: int, bias: float, steps: int, weights: int, networks: int, seed: int, device: torch.device
) -> tuple[Tensor, list[float]]:  # fmt: skip
    """Train networks from several seeds; return the error of each (networks,), and the losses of the last one."""
    errors = []
    for i in range(networks):
        model = Reader(cell, task, weights, bias, seed + i).to(device)
        losses = train(model, length, steps, RATES[cell], seed + i)
        errors.append(measure(model, length))
    told = " ".join(f"{error:.4f}" for error in errors)
    print(f"   {cell:4} of {model.recurrent.hidden_size:2} units, {length:3} steps, keep bias {bias:g}: {told}")
    return torch.tensor(errors), losses


# %% 5. A dimension too few
def forget_a_dimension(seed: int) -> tuple[float, float, str]:
    """Compare answers (n, 1) with targets (n,); return the loss of perfect answers, that of always 1, and PyTorch's warning."""
    _, sums = adding(1000, 10, torch.Generator().manual_seed(seed))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        perfect, always = (F.mse_loss(answers, sums[:, 0]).item() for answers in (sums, torch.ones_like(sums)))
    message = str(caught[0].message)
    print(f'5. answers (1000, 1), targets (1000,): perfect ones have loss {perfect:.3f}, "always 1" has {always:.3f}')
    print(f'   a warning only: "{message.split(". ")[0]}"')
    return perfect, always, message


def draw_figures(curves: dict[tuple[str, str], list[float]], errors: dict[tuple, Tensor], by_bias: dict[float, Tensor]) -> None:
    """Draw losses while learning and errors against length, by task and cell; then the errors against the bias."""
    import matplotlib.pyplot as plt

    titles = {
        "adding": label("adding: squared error", "덧셈: 제곱 오차"),
        "recall": label("recall: share wrong", "회상: 틀린 비율"),
    }
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained")
    for (task, title), (left, right) in zip(titles.items(), axes, strict=True):
        for cell in CELLS:
            smooth = torch.tensor(curves[task, cell]).unfold(0, 10, 10).mean(dim=1)  # (steps / 10,)
            left.semilogy(range(10, 10 * len(smooth) + 1, 10), smooth, label=cell)
            points = [(length, found) for (t, c, length), found in errors.items() if (t, c) == (task, cell)]
            means, spreads = zip(*((found.mean().item(), found.std(correction=0).item()) for _, found in points), strict=True)
            right.errorbar([length for length, _ in points], means, spreads, fmt="o-", capsize=4, label=cell)
        right.axhline(BASELINES[task], color="grey", linestyle=":", label=label("always the same answer", "늘 같은 답"))
        left.set(xlabel=label("step of training", "학습 스텝"), ylabel=label("loss", "손실"), title=task)
        right.set(xlabel=label("length", "길이"), title=title)
        right.legend()
    save_figure(figure, __file__, "tasks")
    figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
    for bias, found in by_bias.items():
        axis.plot([bias] * len(found), found, "o", color="tab:blue")
    axis.plot(list(by_bias), [found.mean() for found in by_bias.values()], color="tab:blue")
    axis.set(xlabel=label("forget-gate bias at the start", "처음의 망각 게이트 편향"), ylabel=titles["recall"])
    save_figure(figure, __file__, "biases")


# %% All of it, in order
def main(
    lengths: tuple[int, ...] = (10, 40), steps: int = 600, weights: int = 4500, networks: int = 1,
    device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Compare vanilla cell, LSTM and GRU on two tasks that need a long memory.

    Args:
        lengths: Lengths of the sequences, the longest last; each is trained and tested by itself.
        steps: Optimizer steps, each on 64 new sequences.
        weights: How many numbers each cell may learn.
        networks: Networks of each kind, from different seeds.
        device: auto, cpu, cuda or mps.
        seed: Seed of weights and sequences.
    """
    check(min(steps // 10, weights // 100, networks) > 0, "--steps must be at least 10, --weights 100, --networks 1")
    check(len(lengths) > 0 and min(lengths) >= 2, "--lengths: needed is at least one, and none below 2")
    where, errors, curves = pick_device(device), {}, {}
    keep_the_steps()
    rest = {"steps": steps, "weights": weights, "networks": networks, "seed": seed, "device": where}
    for task, baseline in BASELINES.items():
        print(f"3. {task}: error of always the same answer {baseline:.4f}")
        for length in lengths:
            for cell in CELLS:
                errors[task, cell, length], curves[task, cell] = train_some(cell, task, length, KEEP_BIAS[task], **rest)
    print("4. recall: error by the bias of the forget gate")
    known = {KEEP_BIAS["recall"]: errors["recall", "LSTM", lengths[-1]]}
    by_bias = {
        bias: known[bias] if bias in known else train_some("LSTM", "recall", lengths[-1], bias, **rest)[0] for bias in BIASES
    }
    forget_a_dimension(seed)
    draw_figures(curves, errors, by_bias)
    results = {f"{task}_{cell}_{length}": found.mean().item() for (task, cell, length), found in errors.items()}
    for task, baseline in BASELINES.items():
        worst = max(results[f"{task}_{cell}_{lengths[-1]}"] for cell in ("LSTM", "GRU"))
        check(worst < 0.3 * baseline, f"{task}: error {worst:.3f}, of always the same answer {baseline:.3f}: more --steps?")
    return results | {f"recall_bias_{bias:g}": found.mean().item() for bias, found in by_bias.items()}


if __name__ == "__main__":
    run(main)
