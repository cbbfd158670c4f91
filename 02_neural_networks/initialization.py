"""Initialization · 초기화

A deep network multiplies by one weight matrix after another: what one layer does to the size of the numbers, twenty layers do
twenty times over. A good start makes that factor 1, forwards and backwards, and leaves no two units alike.
깊은 신경망은 가중치 행렬을 잇달아 곱한다. 한 층이 수의 크기를 몇 배로 바꾸면 스무 층은 그 배수를 스무 번 곱한다. 좋은
초기화는 순전파에서도 역전파에서도 그 배수를 1로 맞추고, 어느 두 유닛도 같지 않게 한다.

You will
  1. start with equal weights, and see that equal units stay equal for ever
  2. follow the variance of activations and gradients through twenty layers, and predict it
  3. write Xavier's and Kaiming's rules, equal to torch.nn.init number for number
  4. meet the error everyone meets with a rule for all parameters
  5. train a network of twenty hidden layers from six starts, each at the best for it of three learning rates

Before     02_neural_networks/mlp.py, 02_neural_networks/activation_functions.py
Run        python -m study run initialization      (about 25 s on one CPU core, after importing torch)
You see    20 layers leave 1e-38 to 1e+42 of a variance; 89 % right from Kaiming's start, 10 % from four; sizes.png, learning.png
Try next   --depth 5: first guess which of the six starts learn now, then look
Theory     notes/en/02_neural_networks.md · notes/ko/02_neural_networks.md
Practise   python -m study check 02
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Source, hold_out, mnist
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

# The standard deviation of a layer's weights, from how many numbers go in and how many come out. Biases start at 0.
STARTS = {
    "zero": lambda inputs, outputs: 0.0,
    "too small": lambda inputs, outputs: 0.01,
    "default": lambda inputs, outputs: (1 / (3 * inputs)) ** 0.5,  # nn.Linear's own: uniform within ±1/√inputs
    "Xavier": lambda inputs, outputs: (2 / (inputs + outputs)) ** 0.5,  # Glorot and Bengio, 2010: for tanh
    "Kaiming": lambda inputs, outputs: (2 / inputs) ** 0.5,  # He, Zhang, Ren and Sun, 2015: for ReLU
    "too large": lambda inputs, outputs: 1.0,  # torch.randn as it comes
}
RATES = (0.01, 0.05, 0.25)  # learning rates to choose from
Examples = tuple[Tensor, Tensor]  # inputs (n, 196), labels (n,)


def train(network: nn.Module, x: Tensor, y: Tensor, steps: int, lr: float, seed: int, loss_of=F.cross_entropy) -> list[float]:
    """Take `steps` steps of SGD, each on 64 random examples, with a rate that falls in the second half; return all losses."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr)
    losses = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * min(1, 2 - 2 * step / steps)
        batch = torch.randint(len(x), (64,), generator=generator).to(x.device)
        loss = loss_of(network(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% 1. Equal units stay equal
def train_from_equal(seed: int) -> dict[str, tuple[float, float]]:
    """Train eight hidden units from three starts; by start, how far weights moved, and how far apart two units are then."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(256, 4, generator=generator)
    y, found = x[:, :1] * x[:, 1:2], {}  # (256, 1)
    for name, mean, std in (("all 0", 0.0, 0.0), ("all 0.5", 0.5, 0.0), ("random", 0.0, 0.5)):
        network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
        for layer in (network[0], network[2]):
            nn.init.normal_(layer.weight, mean, std, generator=generator)
            nn.init.zeros_(layer.bias)
        weight = network[0].weight  # (8, 4): one row for each unit
        before = weight.detach().clone()
        train(network, x, y, steps=100, lr=0.1, seed=seed, loss_of=F.mse_loss)
        moved, apart = found[name] = (weight - before).abs().max().item(), (weight - weight[0]).abs().max().item()
        print(f"{'1.' if len(found) == 1 else '  '} {name:8} weights moved by {moved:.2f}, units differ by {apart:.2f} at most")
    return found


# %% 2. The size of the numbers, layer by layer
def variances(std: float, depth: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Send numbers forwards and gradients backwards; return their variances before each ReLU, (depth + 1,) each, input first."""
    normal = {"generator": torch.Generator().manual_seed(seed), "dtype": torch.float64}  # float32 has too small a range
    z = [torch.randn(64, width, **normal).requires_grad_()]
    for _ in range(depth):
        weight = std * torch.randn(width, width, **normal)
        z.append(z[-1].relu() @ weight.T)  # (64, width)
    gradients = torch.autograd.grad(z[-1], z, torch.randn(64, width, **normal))
    return torch.stack([numbers.detach().var() for numbers in z]), torch.stack([numbers.var() for numbers in gradients])


def compare_with_theory(depth: int, seed: int, width: int = 256, networks: int = 5) -> dict[str, list[float]]:
    """Hold what a layer does to the variance against width · Var(w) / 2, and draw it; by start: predicted, forwards, backwards.

    width · Var(w): a number is the sum of `width` products. / 2: ReLU drops half of them, and on the way back the same half.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained", sharey=True)
    titles = label("activations, forwards →", "활성값, 순전파 →"), label("← gradients, backwards", "← 기울기, 역전파")
    layer, found = torch.arange(depth + 1), {}
    print(f"2. variance, factor per layer of {width} units: predicted, forwards, backwards; after {depth} layers")
    for name in list(STARTS)[1:]:  # from zero all is 0
        std = STARTS[name](width, width)
        drawn = zip(*(variances(std, depth, width, seed + i) for i in range(networks)), strict=True)
        measured = [torch.stack(part).mean(dim=0) for part in drawn]  # (depth + 1,) each
        found[name] = [factor := width * std**2 / 2]
        for axis, title, passed, sizes in zip(axes, titles, (layer, layer.flip(0)), measured, strict=True):
            found[name].append((sizes[passed == depth] / sizes[passed == 0]).item() ** (1 / depth))
            (line,) = axis.plot(layer, factor ** passed.double(), linewidth=1)
            axis.plot(layer, sizes, "o", markersize=3.5, color=line.get_color(), label=f"{name}: × {factor:.3g}")
            axis.set(yscale="log", xlabel="layer", xticks=range(0, depth + 1, depth // 5 or 1), title=title)
        print(f"   {name:10}" + "".join(f"{number:9.4f}" for number in found[name]) + f"   {found[name][1] ** depth:9.1e}")
    axes[0].set_ylabel(label("variance: dots measured, lines predicted", "분산: 점은 측정, 선은 예측"))
    axes[0].legend(fontsize=9)
    save_figure(figure, __file__, "sizes")
    return found


# %% 3. Xavier and Kaiming
def draw(kind: str, std: float, outputs: int, inputs: int, generator: torch.Generator) -> Tensor:
    """Draw weights (outputs, inputs) with this standard deviation from the bell curve, or with equal chance within ±bound."""
    if kind == "normal":
        return std * torch.randn(outputs, inputs, generator=generator)
    return 3**0.5 * std * (2 * torch.rand(outputs, inputs, generator=generator) - 1)  # the deviation is bound / √3


def compare_with_torch(seed: int, outputs: int = 50, inputs: int = 70) -> float:
    """Draw by five rules of torch.nn.init and by ours from the same seed; return the largest difference of a weight."""
    rules = (
        ("Xavier", "uniform", nn.init.xavier_uniform_, {}),
        ("Xavier", "normal", nn.init.xavier_normal_, {}),
        ("Kaiming", "uniform", nn.init.kaiming_uniform_, {"nonlinearity": "relu"}),
        ("Kaiming", "normal", nn.init.kaiming_normal_, {"nonlinearity": "relu"}),
        ("default", "uniform", nn.init.kaiming_uniform_, {"a": 5**0.5}),  # what nn.Linear does: 2 / (1 + a²) in place of 2
    )
    difference = 0.0
    for start, kind, theirs, settings in rules:
        by_hand = draw(kind, STARTS[start](inputs, outputs), outputs, inputs, torch.Generator().manual_seed(seed))
        by_torch = theirs(torch.empty(outputs, inputs), generator=torch.Generator().manual_seed(seed), **settings)
        difference = max(difference, (by_hand - by_torch).abs().max().item())
    print(f"3. weights by five rules: ours and those of torch.nn.init differ by {difference:.0e} at most")
    return difference


# %% 4. The error everyone meets with a rule for all parameters
def meet_fan_error() -> str:
    """Give every parameter of a layer, its bias too, to a rule that needs inputs and outputs; return PyTorch's answer."""
    try:
        for parameter in nn.Linear(3, 2).parameters():
            nn.init.kaiming_normal_(parameter)
    except ValueError as error:
        message = str(error)
    print(f'4. "{message}"')
    print("   read: a bias has one dimension, so no inputs to count; start it at 0, and give the rule only the weights")
    return message


# %% 5. Twenty hidden layers
def deep_network(start: str, sizes: list[int], seed: int) -> nn.Sequential:
    """Build linear layers with ReLU in between; sizes: of the input, every hidden layer, the output."""
    generator, layers = torch.Generator().manual_seed(seed), []
    for inputs, outputs in pairwise(sizes):
        linear = nn.Linear(inputs, outputs)
        nn.init.normal_(linear.weight, 0, STARTS[start](inputs, outputs), generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])  # no ReLU after the logits


@torch.no_grad()
def accuracy(network: nn.Module, x: Tensor, labels: Tensor) -> float:
    """Share of right answers, from 0 to 1."""
    return (network(x).argmax(dim=1) == labels).float().mean().item()


def train_from(start: str, sizes: list[int], learn: Examples, validation: Examples, steps: int, seeds: int, seed: int) -> tuple:
    """Train one network at every rate, the others at the one that served the validation digits best; return it, them, losses."""
    networks = [deep_network(start, sizes, seed).to(learn[0].device) for _ in RATES]
    curves = [train(network, *learn, steps, lr, seed) for network, lr in zip(networks, RATES, strict=True)]
    best = torch.tensor([accuracy(network, *validation) for network in networks]).argmax().item()  # of equals the first
    networks, curves = [networks[best]], [curves[best]]
    for i in range(1, seeds):
        networks.append(deep_network(start, sizes, seed + i).to(learn[0].device))
        curves.append(train(networks[i], *learn, steps, RATES[best], seed + i))
    return RATES[best], networks, torch.tensor(curves)  # losses (seeds, steps)


def draw_learning(losses: dict[str, Tensor], shares: dict[str, Tensor]) -> None:
    """Draw the loss of every network, (seeds, steps), smoothed; the legend tells the accuracies (seeds,)."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for i, (name, loss) in enumerate(losses.items()):
        told = f"{name}: {shares[name].mean():.0%}" + ("" if loss.isfinite().all() else label(", not finite", ", 발산"))
        smooth = loss.unfold(1, 20, 1).mean(dim=2)  # over 20 steps
        axis.plot(smooth.T, color=f"C{i}", linewidth=7 - i, alpha=0.8)[0].set_label(told)  # several lie on one another
    axis.set(xlabel="step", ylabel="cross-entropy", ylim=(0, 3))
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), title=label("accuracy on test digits", "테스트 정확도"))
    save_figure(figure, __file__, "learning")


# %% All of it, in order
def main(
    depth: int = 20, width: int = 64, steps: int = 500, seeds: int = 3,
    source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Follow numbers through deep networks, and train one from good and bad starts.

    Args:
        depth: Hidden layers.
        width: Units in each of them.
        steps: Training steps, each on 64 digits.
        seeds: Networks trained from every start.
        source: Digits from: auto (MNIST if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    where = pick_device(device)
    check(min(depth, width, seeds) > 0 and steps >= 20, "needed: 1 or more of --depth, --width and --seeds, 20 or more --steps")
    train_from_equal(seed)
    theory_error = max(abs(m / p - 1) for p, *ms in compare_with_theory(depth, seed).values() for m in ms)
    difference = compare_with_torch(seed)
    meet_fan_error()

    data = mnist(source)
    parts = *hold_out(data.train, 300), data.test  # to train on, to choose the learning rate by, for the last look
    rows = [F.avg_pool2d(part.images.float(), 2).flatten(start_dim=1).to(where) for part in parts]  # (n, 196) each
    mean, std = rows[0].mean(dim=0), rows[0].var(dim=0).mean().sqrt()  # one std for all pixels
    learn, validation, test = (((x - mean) / std, part.labels.to(where)) for x, part in zip(rows, parts, strict=True))
    means = torch.stack([learn[0][learn[1] == digit].mean(dim=0) for digit in range(10)])  # the simplest rule: nearest mean
    baseline = max(0.1, (torch.cdist(test[0], means).argmin(dim=1) == test[1]).float().mean().item())
    print(f"5. {depth} hidden layers, {steps} steps, {seeds} seeds: chosen rate, accuracy on test digits (lowest to highest)")
    losses, shares = {}, {}
    for start in STARTS:
        lr, networks, losses[start] = train_from(start, [196, *[width] * depth, 10], learn, validation, steps, seeds, seed)
        shares[start] = share = torch.tensor([accuracy(network, *test) for network in networks])  # the last look
        print(f"   {start:9} {lr:5}  {share.mean():.3f}  ({share.min():.3f} to {share.max():.3f})")
    draw_learning(losses, shares)

    wrong, limit = 1 - shares["Kaiming"].mean().item(), 1 - baseline
    check(wrong < limit, f"Kaiming's start is wrong on {wrong:.1%}, the simplest rule on {limit:.1%}: more --steps?")
    results = {"theory_error": theory_error, "init_difference": difference, "baseline_accuracy": baseline}
    return results | {f"accuracy_{start.lower().replace(' ', '_')}": share.mean().item() for start, share in shares.items()}


if __name__ == "__main__":
    run(main)
