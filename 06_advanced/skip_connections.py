"""Skip connections · 잔차 연결

A deeper network can do whatever a shallower one can, and yet, trained, it does worse: on the very pictures it learns from. Adding
each block's input to its output changes no weight and cures it, because signals and gradients no longer have to pass every layer.
깊은 신경망은 얕은 신경망이 하는 일을 모두 할 수 있는데도, 학습시키면 학습 데이터에서부터 더 못한다. 블록의 출력에 입력을 더하면
가중치는 그대로인데 이 병이 낫는다. 신호와 기울기가 모든 층을 다 지나가지 않아도 되기 때문이다.

You will
  1. see that a residual network is a sum over many paths, most of them short; and the identity where its branches are 0
  2. meet the error everyone meets: a shortcut that does not fit
  3. measure gradients before training: how large in each layer, and whether neighbouring inputs agree on them
  4. train 10, 18 and 34 layers with and without shortcuts, from the same weights, over seeds
  5. lengthen the shallow plain network to 34 layers, changing no answer; and delete blocks from trained networks

Before     04_cnn/batch_normalization.py, 05_rnn/vanishing_gradients.py
Run        python -m study run skip_connections     (about 42 s on one CPU core, after importing torch)
You see    34 layers: training loss 2.18 without shortcuts, 1.51 with them; one block deleted: 0.28 → 0.11, 0.39 → 0.33; skips.png
Try next   --steps 320 --seeds 1: train twice as long. First guess whether plain 34 catches up with 10 layers, with or without
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import copy
from itertools import combinations, pairwise, product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Source, cifar10, nearest_mean_accuracy
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

Examples = tuple[Tensor, Tensor]  # pictures (n, 3, 32, 32), labels (n,)
DEPTHS, KINDS = (10, 18, 34), {False: "plain", True: "residual"}  # by whether there are shortcuts


# %% A network with and without shortcuts
class Block(nn.Module):
    """Two convolutions, with or without a shortcut: (n, inputs, h, w) → (n, outputs, h / stride, w / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int, skip: bool):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)
        self.skip, self.stride, self.new = skip, stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.skip:  # every other place, and zeros for the new channels: shortcuts without weights, so both kinds have the same
            out = out + F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new))
        return F.relu(out)


class Network(nn.Module):
    """Pictures (n, 3, 32, 32) → logits (n, 10), through `depth` layers: a stem, (depth - 2) / 2 blocks, a classifier."""

    def __init__(self, depth: int, skip: bool, width: int = 16):
        super().__init__()
        half = (depth - 2) // 4
        conv = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.stem = nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2))
        widths = [width] * (half + 1) + [2 * width] * half  # where they double, the stride is 2
        blocks = (Block(inputs, outputs, outputs // inputs, skip) for inputs, outputs in pairwise(widths))
        self.blocks, self.classifier = nn.Sequential(*blocks), nn.Linear(2 * width, 10)
        for conv in [module for module in self.modules() if isinstance(module, nn.Conv2d)]:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))  # (n, 16, 8, 8) → (n, 32, 4, 4)
        return self.classifier(x.mean(dim=(2, 3)))


# %% 1. A sum over paths
def sum_paths(blocks: int, size: int, seed: int) -> tuple[float, list[float]]:
    """Send numbers through linear residual blocks, and along every single path through them (Veit et al., 2016).

    Return how far the sum over all paths is from what the blocks answer, and the share of the signals that each length has.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, generator=generator, dtype=torch.float64)
    branches = 0.3 * torch.randn(blocks, size, size, generator=generator, dtype=torch.float64) / size**0.5
    out, total, strength = x, torch.zeros_like(x), torch.zeros(blocks + 1)
    for branch in branches:
        out = out + branch @ out
    for length in range(blocks + 1):
        for path in combinations(branches, length):  # through these branches, and past all others
            signal = x
            for branch in path:
                signal = branch @ signal
            total, strength[length] = total + signal, strength[length] + signal.norm()
    difference, shares = (total - out).abs().max().item(), (strength / strength.sum()).tolist()
    print(
        f"1. {2**blocks} paths add up to the network within {difference:.0e}; shares by length", [f"{one:.2f}" for one in shares]
    )
    return difference, shares


# %% 2. The error everyone meets
def meet_error() -> str:
    """Add the input of a block with stride 2 as it is; return PyTorch's answer."""
    x = torch.zeros(2, 16, 8, 8)
    try:
        return str(x + Block(16, 32, stride=2, skip=False)(x))
    except RuntimeError as error:
        print(f'2. "{error}"\n   read: the branch made 4x4 of 8x8, and 32 channels of 16. The shortcut has to follow in both')
        return str(error)


# %% 3. Gradients before training
def gradient_norms(network: Network, data: Examples) -> Tensor:
    """Return the length of the loss's gradient by each block's first kernels, (blocks,)."""
    loss = F.cross_entropy(network(data[0][:64]), data[1][:64])
    return torch.stack([one.norm() for one in torch.autograd.grad(loss, [block.conv1.weight for block in network.blocks])])


def agreement(depth: int, skip: bool, width: int, networks: int, seed: int) -> float:
    """Return how d output / d input correlates between inputs 1/8 apart, at 256 places from -2 to 2 (Balduzzi et al., 2017)."""
    generator, found = torch.Generator().manual_seed(seed), []
    for _ in range(networks):
        x = torch.linspace(-2, 2, 256, dtype=torch.float64)[:, None].requires_grad_()  # (256, 1)
        first, bias = torch.randn(2, 1, width, generator=generator, dtype=torch.float64)
        h = x @ first + bias  # (256, width): each unit will bend at a place of its own
        for _ in range(depth):
            branch = F.relu(h) @ torch.randn(width, width, generator=generator, dtype=torch.float64) * (2 / width) ** 0.5
            h = h + branch / depth**0.5 if skip else branch
        slope = torch.autograd.grad(h[:, 0].sum(), x)[0][:, 0]  # (256,)
        found.append(torch.corrcoef(torch.stack([slope[8:], slope[:-8]]))[0, 1])
    return torch.stack(found).mean().item()


# %% 4. Training
def train(network: Network, data: Examples, steps: int, lr: float, seed: int) -> list[float]:
    """Take steps of SGD on 32 random pictures each, the rate rising, then falling to zero; return the losses."""
    generator, losses = torch.Generator().manual_seed(seed), []
    optimizer = torch.optim.SGD(network.train().parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, cycle_momentum=False)
    for _ in range(steps):
        batch = torch.randint(len(data[1]), (32,), generator=generator).to(data[1].device)
        loss = F.cross_entropy(network(data[0][batch]), data[1][batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def measure(network: Network, data: Examples) -> tuple[float, float]:
    """Return loss and accuracy in eval mode."""
    logits = torch.cat([network.eval()(x) for x in data[0].split(500)])
    return F.cross_entropy(logits, data[1]).item(), (logits.argmax(dim=1) == data[1]).float().mean().item()


# %% 5. Longer and shorter
def lengthen(network: Network, blocks: int) -> Network:
    """Put `blocks` blocks that change nothing at the end of a plain network."""
    network, channels = copy.deepcopy(network), network.classifier.in_features
    for _ in range(blocks):
        block = Block(channels, channels, 1, skip=False).to(network.classifier.weight.device)
        for conv, norm in ((block.conv1, block.norm1), (block.conv2, block.norm2)):
            nn.init.dirac_(conv.weight)  # each channel is copied; it is not negative, so ReLU lets it pass
            nn.init.constant_(norm.weight, (1 + norm.eps) ** 0.5)  # with a running mean of 0 and variance of 1: no change
        network.blocks.append(block)
    return network


def delete_blocks(network: Network, data: Examples) -> list[float]:
    """Return the accuracy without each of the blocks, one at a time; but for the one that changes the shape."""
    found = []
    for i in [i for i, block in enumerate(network.blocks) if block.stride == 1]:
        shorter = copy.deepcopy(network)
        shorter.blocks[i] = nn.Identity()
        found.append(measure(shorter, data)[1])
    return found


# %% All of it, in order
def draw(losses: dict, norms: dict, deleted: dict) -> None:
    """Draw losses by step, gradients by block, and what is left without each block."""
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    for (depth, skip), curve in losses.items():
        smooth, style = F.avg_pool1d(torch.tensor([curve]), min(20, len(curve)), stride=1)[0], "-" if skip else ":"
        left.plot(smooth, style, color=f"C{DEPTHS.index(depth)}", label=f"{KINDS[skip]} {depth}")
    for skip, name in KINDS.items():
        middle.semilogy(norms[DEPTHS[-1], skip].cpu(), "o-", label=f"{name} {DEPTHS[-1]}")
        right.plot(deleted[skip], "o-", label=f"{name} {DEPTHS[1]}")
    left.set(xlabel=label("step", "스텝"), ylabel=label("training loss", "학습 손실"))
    middle.set(xlabel=label("block", "블록"), ylabel=label("length of the gradient", "기울기의 길이"))
    right.set(xlabel=label("deleted block", "지운 블록"), ylabel=label("accuracy that is left", "남은 정확도"), ylim=(0, None))
    for axis in (left, middle, right):
        axis.legend()
    save_figure(figure, __file__, "skips")


def main(steps: int = 160, seeds: int = 2, source: Source = "auto", device: str = "auto", seed: int = 0) -> dict[str, float]:
    """Measure why shortcuts help: gradients before training, training itself, and networks made longer and shorter.

    Args:
        steps: Steps of each training, on 32 pictures each.
        seeds: Networks of each kind and depth.
        source: Pictures from: auto (CIFAR-10 if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps; for the training.
        seed: The first seed.
    """
    check(min(steps, seeds) > 0, f"--steps {steps} --seeds {seeds}: at least one of each is needed")
    where, data = pick_device(device), cifar10(source)
    parts = data.train, data.test[:1000]
    known, test = ((F.layer_norm(part.images.to(where).float(), (3, 32, 32)), part.labels.to(where)) for part in parts)
    seen, x = (known[0][:1000], known[1][:1000]), torch.rand(2, 16, 8, 8)
    results = {"baseline": max(0.1, nearest_mean_accuracy(*parts)), "paths": sum_paths(10, 32, seed)[0]}
    quiet = Network(18, True).blocks[:4]
    for block in quiet:
        nn.init.zeros_(block.norm2.weight)  # torchvision's zero_init_residual (Goyal et al., 2017): the branch answers 0
    check(torch.equal(quiet(x), x), "residual blocks whose branches answer 0 are not the identity")
    meet_error()
    for depth, skip in ((1, False), (30, False), (30, True)):
        results[f"agreement_{KINDS[skip]}_{depth}"] = agree = agreement(depth, skip, 100, 5, seed)
        print(f"3. {depth:2} dense layers, {KINDS[skip]:8}: slopes at inputs 1/8 apart correlate {agree:.2f}")
    models, losses, norms = {}, {}, {}
    for depth, skip in product(DEPTHS, KINDS):
        runs = []
        for one in range(seed, seed + seeds):
            torch.manual_seed(one)  # the same weights for both kinds
            models[depth, skip] = model = Network(depth, skip).to(where)
            norms[depth, skip] = gradient_norms(model, known)
            losses[depth, skip] = train(model, known, steps, 0.1, one)
            runs.append([measure(model, seen)[0], measure(model, test)[1]])
        by, mean = torch.std_mean(torch.tensor(runs), dim=0, correction=0)
        print(f"4. {depth} layers, {KINDS[skip]:8}: training loss {mean[0]:.2f} ± {by[0]:.2f}, right {mean[1]:.2f} ± {by[1]:.2f}")
        results |= {f"loss_{KINDS[skip]}_{depth}": mean[0].item(), f"accuracy_{KINDS[skip]}_{depth}": mean[1].item()}
    shallow, deep = DEPTHS[0], DEPTHS[-1]
    results["loss_lengthened"] = longer = measure(lengthen(models[shallow, False], (deep - shallow) // 2), seen)[0]
    print(f"5. plain {shallow}, lengthened to {deep} layers: training loss {longer:.2f}, and training did not find it")
    deleted = {skip: delete_blocks(models[DEPTHS[1], skip], test) for skip in KINDS}
    for skip, name in KINDS.items():
        results[f"deleted_{name}"] = left = sum(deleted[skip]) / len(deleted[skip])
        print(f"5. {DEPTHS[1]} layers, {name:8}: one block deleted, {left:.2f} right on average")
    draw(losses, norms, deleted)
    better, right = results[f"loss_plain_{deep}"] - results[f"loss_residual_{deep}"], results[f"accuracy_residual_{deep}"]
    check(better > 0.1 and right > results["baseline"] + 0.05, f"loss lower by {better:.2f}, {right:.0%} right: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
