"""Batch normalization · 배치 정규화

Between two layers, give every channel mean 0 and variance 1 over the batch, then let the network choose its own. Deep networks
learn at rates that would ruin them otherwise; but now an answer depends on the batch, until eval() fixes the numbers.
층과 층 사이에서 채널마다 배치 전체의 평균이 0, 분산이 1이 되게 옮기고 늘인 뒤, 알맞은 평균과 분산은 신경망이 스스로 고르게 한다.
깊은 신경망도 높은 학습률로 배울 수 있다. 그 대신 한 예제의 답이 배치의 이웃에 따라 달라지며, eval()을 불러야 고정된 값을 쓴다.

You will
  1. write it with its backward pass and its running statistics, equal to nn.BatchNorm2d in both modes
  2. set layer, group and instance normalization beside it: the same formula over other axes
  3. train a deep network with and without it, at several learning rates, over seeds
  4. see what goes wrong: eval() forgotten, batches of one, neighbours that leak; and the error everyone meets
  5. fold it into the convolution before it: the same outputs, faster

Before     04_cnn/conv_layers.py
Run        python -m study run batch_normalization  (about 29 s on one CPU core, after importing torch)
You see    0.96 right with it, about 0.3 without, each at its best rate; 0.1, chance, if eval() is forgotten on single pictures
Try next   --depth 4: first guess how much of the difference is left; then look at learning_rates.png
Theory     notes/en/04_cnn.md · notes/ko/04_cnn.md
Practise   python -m study check 04
"""

import copy
import timeit

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Source, hold_out, mnist, nearest_mean_accuracy
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

Examples = tuple[Tensor, Tensor]  # pictures (n, 1, 14, 14), labels (n,)
AXES = (0, 2, 3)  # of (batch, channels, height, width): over all of these, each channel for itself
RATES = (0.01, 0.03, 0.1, 0.3)


# %% 1. By hand
class BatchNorm(nn.Module):
    """Batch normalization of (batch, channels, h, w); its state dict is nn.BatchNorm2d's."""

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float | None = 0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))  # a buffer is saved and moved, and does not learn
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(AXES), x.var(AXES, correction=0)  # (channels,): divided by n
            self.num_batches_tracked += 1
            share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum  # None: the plain mean of all
            with torch.no_grad():  # (1 - share) · running + share · new: the other way round than an optimizer's momentum
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(x.var(AXES, correction=1), share)  # divided by n - 1: no batch has all of the variance
        x_hat = (x - mean.view(-1, 1, 1)) / (var.view(-1, 1, 1) + self.eps).sqrt()
        return x_hat * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


def backward_by_hand(x: Tensor, weight: Tensor, upstream: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor, Tensor]:
    """Turn d loss / d out into the gradients of x, of the weight and of the bias, in training mode."""
    std = (x.var(AXES, correction=0, keepdim=True) + eps).sqrt()
    x_hat = (x - x.mean(AXES, keepdim=True)) / std
    g = upstream * weight.view(-1, 1, 1)  # d loss / d x_hat
    # x moves mean and variance, too: what of g would only shift or stretch the whole channel comes to nothing, and is taken out.
    grad_x = (g - g.mean(AXES, keepdim=True) - x_hat * (g * x_hat).mean(AXES, keepdim=True)) / std
    return grad_x, (upstream * x_hat).sum(AXES), upstream.sum(AXES)


def compare_by_hand(momentum: float | None, seed: int) -> float:
    """Feed three batches to ours and to nn.BatchNorm2d, then one in eval mode; return the largest difference of anything."""
    generator = torch.Generator().manual_seed(seed)
    ours, theirs = BatchNorm(4, momentum=momentum).double(), nn.BatchNorm2d(4, momentum=momentum).double()
    nn.init.uniform_(theirs.weight, 0.5, 2, generator=generator)
    ours.load_state_dict(theirs.state_dict())
    pairs = []
    for _ in range(3):
        x, upstream = (torch.randn(6, 4, 5, 5, generator=generator, dtype=torch.float64) for _ in range(2))
        x = (3 * x + 2).requires_grad_()
        out = theirs(x)
        gradients = torch.autograd.grad(out, (x, theirs.weight, theirs.bias), upstream)
        with torch.no_grad():
            pairs += [(ours(x), out), *zip(backward_by_hand(x, theirs.weight, upstream), gradients, strict=True)]
    pairs += (ours.eval()(x), theirs.eval()(x)), *zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    difference = max((one - other).abs().max().item() for one, other in pairs)
    print(f"1. momentum {momentum}: outputs, gradients and statistics differ from PyTorch's by {difference:.0e} at most")
    return difference


# %% 2. The same formula over other axes
def compare_norms(x: Tensor) -> dict[str, float]:
    """Normalize x (n, c, h, w) in four ways, c a multiple of 4; return the differences from PyTorch's."""
    groups = x.unflatten(1, (4, -1))  # (n, 4, c / 4, h, w)
    norms = {  # what is normalized, over which of its axes, and what PyTorch makes of it
        "batch": (x, (0, 2, 3), F.batch_norm(x, None, None, training=True)),
        "layer": (x, (1, 2, 3), F.layer_norm(x, x.shape[1:])),
        "group": (groups, (2, 3, 4), F.group_norm(x, 4).view_as(groups)),
        "instance": (x, (2, 3), F.instance_norm(x)),
    }
    found = {}
    for name, (inputs, axes, theirs) in norms.items():
        mean, var = inputs.mean(axes, keepdim=True), inputs.var(axes, correction=0, keepdim=True)
        found[name] = ((inputs - mean) / (var + 1e-5).sqrt() - theirs).abs().max().item()
        print(f"2. {name:8} over axes {axes} of {tuple(inputs.shape)}: {mean.numel():2} means, off by {found[name]:.0e}")
    return found


# %% 3. Why it helps
def new_network(depth: int, with_norm: bool, seed: int) -> nn.Sequential:
    """Stack `depth` convolutions of 16 channels, He-initialized with and without the norm: (n, 1, 14, 14) → logits (n, 10)."""
    torch.manual_seed(seed)
    layers = []
    for i in range(depth):
        layers.append(nn.Conv2d(16 if i else 1, 16, kernel_size=3, stride=1 if i else 2, padding=1))  # (n, 16, 7, 7)
        nn.init.kaiming_normal_(layers[-1].weight, nonlinearity="relu")
        layers += [nn.BatchNorm2d(16), nn.ReLU()] if with_norm else [nn.ReLU()]  # PyTorch's: equal, and quicker
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def train(network: nn.Module, data: Examples, steps: int, lr: float, seed: int) -> nn.Module:
    """Take steps of SGD with momentum on random batches, the rate falling to zero; return the network in eval mode."""
    network, generator = network.to(data[0].device).train(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for _ in range(steps):
        batch = torch.randint(len(data[1]), (64,), generator=generator).to(data[1].device)
        loss = F.cross_entropy(network(data[0][batch]), data[1][batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, data: Examples, size: int = 1000) -> float:
    """Return the share of right answers, from batches of this size, in the mode in which the network is."""
    return (torch.cat([network(x) for x in data[0].split(size)]).argmax(dim=1) == data[1]).float().mean().item()


def compare_rates(depth: int, known: Examples, held_out: Examples, steps: int, seeds: range) -> dict[bool, Tensor]:
    """Train with the norm (True) and without (False); return validation accuracies (rates, seeds) of each."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
    found = {}
    for with_norm, name in ((True, "batch norm"), (False, "no norm")):
        runs = [[train(new_network(depth, with_norm, seed), known, steps, lr, seed) for seed in seeds] for lr in RATES]
        found[with_norm] = torch.tensor([[accuracy(network, held_out) for network in row] for row in runs])
        mean, spread = found[with_norm].mean(dim=1), found[with_norm].std(dim=1, correction=0)
        told = ", ".join(f"lr {lr:g} {m:.2f} ± {s:.2f}" for lr, m, s in zip(RATES, mean, spread, strict=True))
        print(f"3. {depth} convolutions, {name:10} {told}")
        axis.errorbar(RATES, mean.numpy(), spread.numpy(), fmt="o-", capsize=5, label=name)
    axis.set(xscale="log", ylim=(0, 1), xlabel=label("learning rate", "학습률"), ylabel=label("accuracy", "정확도"))
    axis.legend()
    save_figure(figure, __file__, "learning_rates")
    return found


# %% 4. What goes wrong
def forget_eval(network: nn.Module, data: Examples) -> dict[str, float]:
    """Return accuracies: as it should be; in training mode, by how the batches are made up; and in eval mode after all that."""
    by_class, spoiled = data[1].argsort(), copy.deepcopy(network).train()
    found = {"eval": accuracy(network.eval(), data)}
    found |= {f"batches of {size}": accuracy(spoiled, data, size) for size in (64, 2, 1)}
    found["batches of one class"] = accuracy(spoiled, (data[0][by_class], data[1][by_class]), 32)
    found["eval afterwards"] = accuracy(spoiled.eval(), data)  # no_grad keeps gradients off, and running statistics not
    print("4. right: " + ", ".join(f"{name} {share:.2f}" for name, share in found.items()))
    return found


def meet_error_and_leak(seed: int) -> tuple[str, float, float]:
    """Return PyTorch's answer to one number per channel; how far an output moves if its neighbour changes, also in eval mode."""
    x, norm = torch.randn(3, 8, 3, 3, generator=torch.Generator().manual_seed(seed)), nn.BatchNorm2d(8)
    moved = [(mode(x[:2])[0] - mode(x[::2])[0]).abs().max().item() for mode in (norm, copy.deepcopy(norm).eval())]
    print("   another neighbour: an output moves by {:.1f} in training mode, by {:g} in eval mode".format(*moved))
    try:
        norm(torch.zeros(1, 8, 1, 1))
    except ValueError as error:
        print(f'   "{error}"\n   read: one number has no variance. An epoch\'s last batch may be of one example: drop_last=True')
        return str(error), *moved


# %% 5. Folded away
def fold(network: nn.Sequential) -> nn.Sequential:
    """Return the network, in eval mode, with every norm worked into the convolution before it."""
    folded = copy.deepcopy(network).eval()
    for i, layer in enumerate(folded):
        if isinstance(layer, nn.BatchNorm2d):
            convolution, factor = folded[i - 1], layer.weight / (layer.running_var + layer.eps).sqrt()  # (channels,)
            convolution.weight.data *= factor.view(-1, 1, 1, 1)
            convolution.bias.data = (convolution.bias - layer.running_mean) * factor + layer.bias
            folded[i] = nn.Identity()
    return folded


@torch.no_grad()
def compare_folded(network: nn.Sequential, x: Tensor) -> tuple[float, float]:
    """Return how far the folded network's logits are from the network's, and its share of the time, for one picture."""
    folded = fold(network.eval())
    difference = (folded(x) - network(x)).abs().max().item()
    times = [[timeit.timeit(lambda way=way: way(x[:1]), number=5) for way in (folded, network)] for _ in range(30)]  # in turn
    share = min(pair[0] for pair in times) / min(pair[1] for pair in times)
    print(f"5. folded: logits differ by {difference:.0e}, and one picture takes {share:.2f} of the time")
    return difference, share


# %% All of it, in order
def main(
    depth: int = 10, steps: int = 100, seeds: int = 3, source: Source = "auto", device: str = "auto", seed: int = 0
) -> dict[str, float]:
    """Build batch normalization, measure what it is worth in a deep network, and meet its traps.

    Args:
        depth: Convolutions in the network.
        steps: Steps of each training in section 3, on 64 pictures each; afterwards the best take three times as many.
        seeds: Networks for every setting.
        source: Digits from: auto (MNIST if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    check(min(depth, steps, seeds) > 0, f"--depth {depth} --steps {steps} --seeds {seeds}: at least one of each is needed")
    where, data = pick_device(device), mnist(source)
    x = torch.randn(6, 8, 5, 5, generator=torch.Generator().manual_seed(seed))
    differences = compare_by_hand(0.1, seed), compare_by_hand(None, seed), *compare_norms(x).values()
    rest, held_out = hold_out(data.train, 300, seed)
    parts = rest[:1137], held_out, data.test[:1000]  # of MNIST no more than the sample has
    pixels = [F.avg_pool2d((part.images.to(where) / 255 - 0.1307) / 0.3081, 2) for part in parts]  # (n, 1, 14, 14)
    known, validation, test = ((x, part.labels.to(where)) for x, part in zip(pixels, parts, strict=True))
    results, networks = {}, {}
    for norm, table in compare_rates(depth, known, validation, steps, range(seed, seed + seeds)).items():
        best = RATES[table.mean(dim=1).argmax()]  # the validation digits choose
        networks[norm] = train(new_network(depth, norm, seed), known, 3 * steps, best, seed)
        results["accuracy" if norm else "accuracy_without"] = accuracy(networks[norm], test)
    results["baseline_accuracy"] = max(nearest_mean_accuracy(parts[0], parts[2]), test[1].bincount().max().item() / len(test[1]))
    results |= {name.replace(" ", "_"): right for name, right in forget_eval(networks[True], test).items()}
    meet_error_and_leak(seed)
    folded, results["folded_time"] = compare_folded(networks[True], test[0])
    check(max(differences) < 1e-5 and folded < 1e-3, "a norm by hand, or folded away, does not give PyTorch's numbers")
    check(1 - results["accuracy"] < 0.8 * (1 - results["baseline_accuracy"]), "no better than the simplest rule: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
