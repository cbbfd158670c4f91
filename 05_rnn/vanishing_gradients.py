"""Vanishing and exploding gradients · 기울기 소실과 폭주

On its way back through time the gradient is multiplied at every step by the same weights. A factor a little below 1 leaves
nothing of it after fifty steps, one a little above 1 blows it up: how far back a network can learn is settled before it begins.
기울기는 시간을 거슬러 가는 동안 스텝마다 같은 가중치와 곱해진다. 배수가 1보다 조금만 작아도 쉰 스텝 뒤에는 남는 것이 없고, 1보다
조금만 커도 터져 버린다. 신경망이 얼마나 먼 과거까지 배울 수 있는지는 학습하기 전에 이미 정해진다.

You will
  1. follow a gradient back, by hand as by autograd, and predict by how much it shrinks or grows per step
  2. see what eigenvalues say about the long run, and singular values about each step
  3. write gradient clipping, equal to torch.nn.utils; and meet the error of a gradient that is infinite
  4. start a network in three ways, and measure how much of the gradient arrives
  5. let each learn to recall a symbol after 10 to 80 steps

Before     05_rnn/vanilla_rnn.py, 02_neural_networks/initialization.py
Run        python -m study run vanishing_gradients  (about 30 s on one CPU core, after importing torch)
You see    after 40 steps PyTorch's own start guesses, the orthogonal one is right; gradients.png
Try next   --steps 1200: four times as long. First guess which delay the default start can learn now; then look
Theory     notes/en/05_rnn.md · notes/ko/05_rnn.md
Practise   python -m study check 05
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.lesson import check, run
from utils.plotting import label, save_figure

GAINS = (3**-0.5, 1.0, 2.0)  # the first one is what PyTorch's own start amounts to
STARTS = {"default": None, "orthogonal": nn.init.orthogonal_, "identity": nn.init.eye_}  # recurrent weights
DELAYS = (10, 20, 40, 80)
SYMBOLS = 4  # to recall one of; as many others come in between


# %% 1. One gradient, followed back
def random_weights(size: int, gain: float, generator: torch.Generator) -> Tensor:
    """Draw recurrent weights (size, size) with the standard deviation gain / √size; their largest eigenvalue is about gain."""
    return gain / size**0.5 * torch.randn(size, size, generator=generator, dtype=torch.float64)


def read(w: Tensor, inputs: Tensor, tanh: bool) -> list[Tensor]:
    """Return the states (batch, size), that before the first step included; inputs (batch, steps, size) are added as they are."""
    states = [torch.zeros_like(inputs[:, 0]).requires_grad_(w.requires_grad)]
    for x in inputs.unbind(dim=1):
        h = states[-1] @ w.T + x
        states.append(h.tanh() if tanh else h)
    return states


def walk_back(w: Tensor, states: list[Tensor], upstream: Tensor, tanh: bool) -> list[Tensor]:
    """Return the gradient by each state (batch, size), the last first: times diag(1 - h²) W per step, the step's Jacobian."""
    gradients = [upstream]
    for h in reversed(states[1:]):
        gradients.append((gradients[-1] * (1 - h.square()) if tanh else gradients[-1]) @ w)
    return gradients


def predict(gain: float, noise: float) -> float:
    """Return by what factor per step a gradient's length changes in a large random network with tanh (mean field theory).

    What reaches one unit of many is normally distributed, with variance q = gain² E[tanh²] + noise², which settles. Back through
    a step the squared length is multiplied by gain² E[(tanh')²].
    """
    z, q = torch.linspace(-8, 8, 2001, dtype=torch.float64), 1.0
    density = (-z.square() / 2).softmax(dim=0)  # e^(-z²/2), adding up to 1
    for _ in range(500):
        q = gain**2 * (density @ (q**0.5 * z).tanh().square()).item() + noise**2
    return gain * (density @ (1 - (q**0.5 * z).tanh().square()).square()).sqrt().item()


def follow(gain: float, tanh: bool, size: int, steps: int, networks: int, seed: int) -> Tensor:
    """Return how long the gradient is d = 0 ... steps before the loss, (steps + 1,): the geometric mean over networks."""
    generator, lengths = torch.Generator().manual_seed(seed), []
    for _ in range(networks):
        w = random_weights(size, gain, generator)
        inputs = 0.3 * torch.randn(4, 50 + steps, size, generator=generator, dtype=torch.float64)
        states = read(w, inputs, tanh)[50:]  # by then they have settled
        upstream = F.normalize(torch.randn(4, size, generator=generator, dtype=torch.float64))  # of length 1
        lengths.append(torch.stack([gradient.norm(dim=1) for gradient in walk_back(w, states, upstream, tanh)]))
    return torch.cat(lengths, dim=1).log().mean(dim=1).exp()


def compare_with_autograd(size: int, steps: int, seed: int) -> float:
    """Return the largest relative difference of a gradient by hand and by autograd, with tanh and without."""
    generator, worst = torch.Generator().manual_seed(seed), 0.0
    w = random_weights(size, 1.2, generator).requires_grad_()
    inputs, upstream = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((4, steps, size), (4, size)))
    for tanh in (True, False):
        states = read(w, inputs, tanh)
        theirs = torch.autograd.grad(states[-1], states, upstream)
        for one, other in zip(walk_back(w, states, upstream, tanh), reversed(theirs), strict=True):
            worst = max(worst, ((one - other).abs().max() / other.abs().max()).item())
    return worst


# %% 2. Eigenvalues and singular values
def stretch(size: int, distances: tuple[int, ...], seed: int) -> dict[str, Tensor]:
    """Return by how much d steps stretch a gradient at most and at least: (distances, 2), singular values of the weights to d."""
    generator, found = torch.Generator().manual_seed(seed), {}
    orthogonal = nn.init.orthogonal_(torch.empty(size, size, dtype=torch.float64), generator=generator)
    for name, w in (("random", random_weights(size, 0.9, generator)), ("orthogonal", orthogonal)):
        found[name] = torch.stack([torch.linalg.svdvals(w.matrix_power(d))[[0, -1]] for d in distances])
        told = [f"{d} steps {most:.2g} to {least:.1g}" for d, (most, least) in zip(distances, found[name].tolist(), strict=True)]
        print(f"2. {name}: largest eigenvalue {torch.linalg.eigvals(w).abs().max():.2f}; stretched by {', '.join(told)}")
    return found


# %% 3. Clipping, and a gradient that is infinite
def clip(gradients: list[Tensor], max_norm: float) -> Tensor:
    """Shorten all gradients together, in place, to `max_norm` at most; the direction stays. Return the length before."""
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()  # of all of them as one long vector
    for gradient in gradients:
        gradient *= (max_norm / (norm + 1e-6)).clamp(max=1)  # never lengthened
    return norm


def compare_clipping(seed: int) -> tuple[float, str]:
    """Clip by hand and by torch.nn.utils; return the largest difference, and PyTorch's answer to an infinite gradient."""
    torch.manual_seed(seed)
    rnn, difference = nn.RNN(3, 4).double(), 0.0
    for scale in (0.01, 100.0):  # one that is short enough, one that is not
        for parameter in rnn.parameters():
            parameter.grad = scale * torch.randn_like(parameter)
        ours = [parameter.grad.clone() for parameter in rnn.parameters()]
        norms = clip(ours, 1.0), nn.utils.clip_grad_norm_(rnn.parameters(), 1.0)
        pairs = [norms, *((one, parameter.grad) for one, parameter in zip(ours, rnn.parameters(), strict=True))]
        difference = max([difference, *((one - other).abs().max().item() for one, other in pairs)])
    rnn.bias_hh_l0.grad[0] = torch.inf
    try:
        nn.utils.clip_grad_norm_(rnn.parameters(), 1.0, error_if_nonfinite=True)
    except RuntimeError as error:
        message = str(error)
    clip([gradient := torch.tensor([torch.inf, 1.0])], 1.0)
    print(f'3. clipping by hand and by torch.nn.utils differ by {difference:.0e}; "{message.partition(". To")[0]}"')
    print(f"   read: it overflowed before. Without error_if_nonfinite, [inf, 1] silently becomes {gradient.tolist()}")
    return difference, message


# %% 4. and 5. Three starts, and what becomes of them
class Recall(nn.Module):
    """Symbols (batch, steps, 2 SYMBOLS), one-hot → logits of what the first one was (batch, SYMBOLS)."""

    def __init__(self, start: str, hidden: int):
        super().__init__()
        bend = "relu" if start == "identity" else "tanh"  # Le, Jaitly and Hinton, 2015: IRNN
        self.rnn = nn.RNN(2 * SYMBOLS, hidden, batch_first=True, nonlinearity=bend)
        self.readout = nn.Linear(hidden, SYMBOLS)
        if start != "default":
            STARTS[start](self.rnn.weight_hh_l0)
            nn.init.zeros_(self.rnn.bias_ih_l0)
            nn.init.zeros_(self.rnn.bias_hh_l0)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.rnn(x)  # (batch, steps, hidden)
        return self.readout(states[:, -1])


def draw_task(count: int, delay: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw rows: a symbol to recall, then `delay` others; return (count, 1 + delay, 2 SYMBOLS), and the symbols (count,)."""
    first = torch.randint(SYMBOLS, (count, 1), generator=generator)
    others = SYMBOLS + torch.randint(SYMBOLS, (count, delay), generator=generator)
    return F.one_hot(torch.cat([first, others], dim=1), 2 * SYMBOLS).float(), first[:, 0]


def learn(start: str, delay: int, hidden: int, steps: int, lr: float, seed: int) -> tuple[float, float]:
    """Train on new rows in every step, until they are well known or for `steps` steps.

    Return the gradient by the first input before training, as a share of that by the last one; and what is right afterwards.
    """
    torch.manual_seed(seed)
    model, generator = Recall(start, hidden), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    test, answers = draw_task(500, delay, generator)
    F.cross_entropy(model(test.requires_grad_()), answers).backward()
    share = (test.grad[:, 0].norm(dim=1) / test.grad[:, -1].norm(dim=1)).mean().item()
    for _ in range(steps):
        x, labels = draw_task(32, delay, generator)
        loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        if loss < 0.03:
            break
    return share, (model(test).argmax(dim=1) == answers).float().mean().item()


# %% All of it, in order
def draw_gradients(measured: dict, predicted: dict, recalled: dict[str, Tensor]) -> None:
    """Draw gradients against distance, dots measured and lines predicted; and for each start what arrives, and what is right."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 7.5), layout="constrained")
    for (gain, tanh), lengths in measured.items():
        axis, name = axes[0, int(tanh)], f"{'tanh' if tanh else 'linear'}, gain {gain:.2f}: × {predicted[gain, tanh]:.2f}"
        (line,) = axis.semilogy(predicted[gain, tanh] ** torch.arange(len(lengths)).double(), linewidth=1, label=name)
        axis.plot(lengths, ".", color=line.get_color())
    for i, start in enumerate(STARTS):
        axes[1, 0].semilogy(DELAYS, recalled[start][:, :, 0].mean(dim=1), "o-", label=start)
        axes[1, 1].plot(DELAYS, recalled[start][:, :, 1].mean(dim=1), "o-", label=start)
        axes[1, 1].plot([delay + i - 1 for delay in DELAYS], recalled[start][:, :, 1], "x", color=f"C{i}")  # side by side
    axes[1, 1].axhline(1 / SYMBOLS, color="grey", linestyle="--")
    axes[0, 0].set(ylabel=label("length of the gradient", "기울기의 길이"))
    axes[1, 0].set(ylabel=label("share of the gradient that arrives", "도착하는 기울기의 비율"))
    axes[1, 1].set(ylabel=label("accuracy", "정확도"))
    for axis in axes.flat:
        axis.set_xlabel(label("steps between", "사이의 스텝"))
        axis.legend()
    save_figure(figure, __file__, "gradients")


def main(hidden: int = 64, steps: int = 300, lr: float = 0.003, seeds: int = 3, seed: int = 0) -> dict[str, float]:
    """Follow gradients back through time, and see which start lets a network learn over a distance.

    Args:
        hidden: Numbers in the state of the networks that recall.
        steps: Steps that each of them is trained at most, on 32 rows each.
        lr: Adam's learning rate.
        seeds: Networks for each start and delay.
        seed: The first seed.
    """
    check(min(hidden, steps, seeds) > 0, "--hidden, --steps and --seeds must be at least 1")
    difference = compare_with_autograd(16, 30, seed)
    print(f"1. gradients of 31 states by hand and by autograd differ by {difference:.0e}; length, factor per step:")
    settings = [(gain, tanh) for tanh in (False, True) for gain in GAINS]
    measured = {(gain, tanh): follow(gain, tanh, 128, 40, 4, seed) for gain, tanh in settings}
    predicted = {(gain, tanh): predict(gain, 0.3) if tanh else gain for gain, tanh in settings}
    factors = {one: (lengths[20] ** (1 / 20)).item() for one, lengths in measured.items()}
    for one in settings:
        print(f"   gain {one[0]:.2f}, {('linear', 'tanh')[one[1]]:6} {factors[one]:.3f}, predicted {predicted[one]:.3f}")
    stretch(64, (1, 5, 50), seed)
    check(max(difference, compare_clipping(seed)[0]) < 1e-10, "by hand and by PyTorch, the numbers are not the same")
    print(f"4. share of the gradient that arrives over {DELAYS} steps; 5. accuracy then, {seeds} seeds, chance {1 / SYMBOLS}")
    recalled = {}
    for start in STARTS:
        found = [[learn(start, delay, hidden, steps, lr, seed + i) for i in range(seeds)] for delay in DELAYS]
        recalled[start] = torch.tensor(found)  # (delays, seeds, 2)
        told = ",  ".join(f"{share:.0e} {right:.2f}" for share, right in recalled[start].mean(dim=1))
        print(f"   {start:10}  {told}")
    draw_gradients(measured, predicted, recalled)
    right = {start: found[:, :, 1].mean(dim=1) for start, found in recalled.items()}
    far, baseline = right["orthogonal"][2:].mean().item(), max(1 / SYMBOLS, right["default"][2:].mean().item())
    check(far > baseline + 0.2, f"far back {far:.0%} right from the orthogonal start, else {baseline:.0%}: more --steps?")
    results = {"difference": difference, "factor_error": max(abs(factors[one] / predicted[one] - 1) for one in factors)}
    return results | {f"{start}_{delay}": right[start][i].item() for start in STARTS for i, delay in enumerate(DELAYS)}


if __name__ == "__main__":
    run(main)
