"""Multi-layer perceptron · 다층 퍼셉트론

A layer must know two things: what to do with the numbers on their way up, and what to do with the gradients on their way
down. Stack such layers as high as you like, and gradient descent trains all of them at once.
층이 알아야 할 것은 두 가지뿐이다. 올라가는 수를 어떻게 바꾸는지, 그리고 내려오는 기울기를 어떻게 바꾸는지다. 이런 층을 몇 개든
쌓아 놓으면 경사 하강법이 전체를 한꺼번에 학습시킨다.

You will
  1. build layers with a forward and a backward of their own, and stack them
  2. train the stack without autograd, and find every weight after every step equal to autograd's
  3. meet the error everyone meets when building an nn.Module
  4. make it wider and deeper, several times each, and see what that is worth
  5. train it well: warped digits, AdamW (Adam that shrinks weights a little), a schedule; then look once at digits it never saw

Before     01_basics/basic_nn.py
Run        python -m study run mlp                 (about 26 s on one CPU core, after importing torch)
You see    0.96 right on digits of writers it never saw, nearest mean 0.84 (MNIST: 0.987, 0.82); sizes.png, digits.png
Try next   --warp 0: the digits as they are. First guess what happens to the training loss and to the accuracy; then look
Theory     notes/en/02_neural_networks.md · notes/ko/02_neural_networks.md
Practise   python -m study check 02
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Source, mnist
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

WIDTHS = [(4,), (16,), (64,), (256,)]  # hidden layers: one, wider and wider
DEPTHS = [(), (64,), (64,) * 2, (64,) * 4, (64,) * 8]  # none, which is a linear model; then more and more
Data = tuple[Tensor, Tensor]  # pictures (n, 1, 28, 28) of pixels from 0 to 1, and labels (n,)
RATES = (3e-3, 1e-2)  # learning rates, from which each of these networks gets its own


# %% 1. Layers that know the way up and the way down
class LinearByHand:
    """y = x Wᵀ + b. It keeps x on the way up, because the gradient of W needs it on the way down."""

    def __init__(self, weight: Tensor, bias: Tensor):
        self.parameters = [weight, bias]  # (outputs, inputs), (outputs,)

    def forward(self, x: Tensor) -> Tensor:
        self.x = x  # (batch, inputs)
        return x @ self.parameters[0].T + self.parameters[1]  # (batch, inputs) @ (inputs, outputs) → (batch, outputs)

    def backward(self, upstream: Tensor) -> Tensor:
        """Turn d loss / d y (batch, outputs) into d loss / d x (batch, inputs); keep the gradients of weight and bias."""
        # y_ij = Σ_k x_ik W_jk + b_j. So W_jk meets x_ik in every example i, b_j meets 1, and x_ik meets W_jk in every output j.
        self.gradients = [upstream.T @ self.x, upstream.sum(dim=0)]  # (outputs, batch) @ (batch, inputs); (outputs,)
        return upstream @ self.parameters[0]  # (batch, outputs) @ (outputs, inputs)


class ReLUByHand:
    """y = max(0, x). On the way down it lets through what it let through on the way up."""

    parameters, gradients = (), ()

    def forward(self, x: Tensor) -> Tensor:
        self.passed = x > 0
        return x * self.passed

    def backward(self, upstream: Tensor) -> Tensor:
        return upstream * self.passed  # dy/dx is 1 where x > 0, else 0


def step_by_hand(layers: list[LinearByHand | ReLUByHand], x: Tensor, labels: Tensor, lr: float) -> float:
    """Take one step of gradient descent without autograd, and return the loss before it. No layer knows of the others."""
    for layer in layers:
        x = layer.forward(x)  # at last the logits z, (batch, classes)
    # The loss of one row is ln Σ_j e^z_j - z_label; its derivative by z_j is softmax(z)_j, less 1 where j is the label.
    upstream = (x.softmax(dim=1) - F.one_hot(labels, x.shape[1])) / len(labels)  # (batch, classes)
    for layer in reversed(layers):
        upstream = layer.backward(upstream)
    for layer in layers:
        for parameter, gradient in zip(layer.parameters, layer.gradients, strict=True):
            parameter -= lr * gradient
    return (x.logsumexp(dim=1) - x.gather(1, labels.unsqueeze(1)).squeeze(1)).mean().item()


# %% 2. Two trainings from the same start, on the same batches
def mlp(sizes: list[int], seed: int) -> nn.Module:
    """Put linear layers in a row, ReLU between them: pictures (batch, ...) of sizes[0] pixels → logits (batch, sizes[-1])."""
    torch.manual_seed(seed)  # nn.Linear draws its weights from the global generator
    layers = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])  # no ReLU after the last: logits may be any real numbers


def compare_ways(x: Tensor, labels: Tensor, hidden: int, steps: int, lr: float, seed: int) -> tuple[Tensor, float]:
    """Train two layers by hand and by autograd, in float64; return both losses (steps, 2), and how far any weights came apart."""
    theirs = mlp([x.shape[1], hidden, 10], seed).double()
    ours = [parameter.detach().clone() for parameter in theirs.parameters()]  # weight1, bias1, weight2, bias2
    layers = [LinearByHand(*ours[:2]), ReLUByHand(), LinearByHand(*ours[2:])]
    optimizer = torch.optim.SGD(theirs.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(seed)
    losses, difference = [], 0.0
    for _ in range(steps):
        batch = torch.randint(len(x), (64,), generator=generator)
        by_hand = step_by_hand(layers, x[batch], labels[batch], lr)
        loss = F.cross_entropy(theirs(x[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append((by_hand, loss.item()))
        for one, other in zip(ours, theirs.parameters(), strict=True):  # `ours` was changed in place
            difference = max(difference, (one - other).abs().max().item())
    told = f"loss by hand {losses[0][0]:.4f} → {losses[-1][0]:.4f}, by autograd {losses[-1][1]:.4f}"
    print(f"2. {steps} steps: {told}; the weights never differ by more than {difference:.0e}")
    return torch.tensor(losses, dtype=torch.float64), difference


# %% 3. The error everyone meets
def forget_the_layers() -> str:
    """Give a module its layers in a plain list, and ask an optimizer to train it; return PyTorch's answer."""
    model = nn.Module()
    model.layers = [nn.Linear(4, 8), nn.Linear(8, 2)]
    try:
        torch.optim.SGD(model.parameters(), lr=0.1)
    except ValueError as error:
        message = str(error)
    print(f'3. "{message}"')
    print("   read: a module finds layers that are assigned to it, not those in a list: use nn.ModuleList or nn.Sequential")
    return message


# %% 4. Width and depth
def warped(images: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Move, turn and stretch every picture (n, 1, 28, 28) a little and at random; amount 1 moves by up to 2 pixels."""
    change = amount * (2 * torch.rand(len(images), 2, 3, generator=generator) - 1) * torch.tensor([0.2, 0.2, 2 / 14])
    matrix = (torch.eye(2, 3) + change).to(images.device)  # (n, 2, 3): turn and stretch, then move by parts of 14 pixels
    grid = F.affine_grid(matrix, images.shape, align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def train(model: nn.Module, x: Tensor, labels: Tensor, steps: int, lr: float, warp: float, seed: int) -> list[float]:
    """Take steps of AdamW on batches of 128 pictures; the learning rate rises to `lr` and falls to zero. Return the losses."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
    losses = []
    for _ in range(steps):
        batch = torch.randint(len(x), (128,), generator=generator).to(x.device)
        images = warped(x[batch], warp, generator) if warp else x[batch]
        loss = F.cross_entropy(model(images), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def compare_sizes(train_set: Data, validation: Data, steps: int, networks: int, seed: int) -> dict[tuple, Tensor]:
    """Let every size choose its learning rate with one seed; return what it gets right from `networks` other seeds."""

    def right(hidden: tuple[int, ...], lr: float, seed: int) -> float:
        model = mlp([28 * 28, *hidden, 10], seed).to(train_set[0].device)
        train(model, *train_set, steps=steps, lr=lr, warp=0, seed=seed)
        with torch.no_grad():
            return (model(validation[0]).argmax(dim=1) == validation[1]).float().mean().item()

    found = {}
    print("4. hidden layers, numbers to learn, and the share of validation digits that are right")
    for hidden in dict.fromkeys([*WIDTHS, *DEPTHS]):
        best = max(RATES, key=lambda lr, hidden=hidden: right(hidden, lr, seed))
        found[hidden] = torch.tensor([right(hidden, best, seed + 1 + i) for i in range(networks)])
        count = sum(parameter.numel() for parameter in mlp([28 * 28, *hidden, 10], seed).parameters())
        told = f"{found[hidden].mean():.3f} ± {found[hidden].std(correction=0):.3f}  (lr {best:g})"
        print(f"   {f'{len(hidden)} of {hidden[0]}' if hidden else 'none':8} {count:7,}  {told}")
    return found


# %% 5. Train it well, and look once
def draw_figures(found: dict[tuple, Tensor], x: Tensor, test: Data, predicted: Tensor, warp: float) -> None:
    """Draw accuracy against width and depth; then one digit, warped, and digits that were taken for others."""
    import matplotlib.pyplot as plt

    figure, (wide, deep) = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    for axis, sizes in ((wide, WIDTHS), (deep, DEPTHS)):
        right = torch.stack([found[hidden] for hidden in sizes]).numpy()  # (sizes, networks)
        axis.plot(right, "o", color="grey", markersize=4)
        axis.errorbar(range(len(sizes)), right.mean(axis=1), right.std(axis=1), fmt="s-", capsize=5)
    wide.set_xticks(range(len(WIDTHS)), [hidden[0] for hidden in WIDTHS])
    wide.set(xlabel=label("width of one hidden layer", "은닉층 하나의 너비"), ylabel=label("accuracy", "정확도"))
    deep.set_xticks(range(len(DEPTHS)), [len(hidden) for hidden in DEPTHS])
    deep.set(xlabel=label("number of hidden layers of 64", "너비 64인 은닉층의 수"))
    save_figure(figure, __file__, "sizes")
    pictures = torch.cat([x[:1], warped(x[:1].expand(9, -1, -1, -1), warp, torch.Generator().manual_seed(0))])
    wrong = (predicted != test[1]).nonzero().flatten()[:10]
    figure, axes = plt.subplots(2, 10, figsize=(11, 2.8), layout="constrained", subplot_kw={"xticks": [], "yticks": []})
    titles = [label("as it is", "원본"), label("warped", "변형")] + [""] * 8 + [f"{test[1][i]} → {predicted[i]}" for i in wrong]
    for axis, picture, title in zip(axes.flat, torch.cat([pictures, test[0][wrong]]), titles, strict=False):
        axis.imshow(picture[0].numpy(), cmap="gray_r")
        axis.set_title(title)
    save_figure(figure, __file__, "digits")


# %% All of it, in order
def main(
    hidden: int = 256, steps: int = 2500, lr: float = 3e-3, warp: float = 0.7, networks: int = 3, sweep_steps: int = 150,
    source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Build backpropagation from layers, prove it right, measure what size is worth, and read digits well.

    Args:
        hidden: Units in each of the two hidden layers of section 5's network.
        steps: Steps that it is trained.
        lr: Its largest learning rate.
        warp: How much its digits are moved, turned and stretched while it trains; 0 leaves them alone.
        networks: Networks of each size in section 4.
        sweep_steps: Steps that each of them is trained.
        source: Digits from: auto (MNIST if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: Seed of all initial weights and batches.
    """
    check(min(hidden, steps, networks, sweep_steps) > 0, "--hidden, --steps, --networks and --sweep-steps must be at least 1")
    where, data = pick_device(device), mnist(source)
    x, x_test = (part.images.float().div(255).to(where) for part in (data.train, data.test))  # (n, 1, 28, 28)
    labels, labels_test = data.train.labels.to(where), data.test.labels.to(where)
    rows = data.train.images[:1000].flatten(start_dim=1).double() / 255  # (1000, 784)
    _, difference = compare_ways(rows, data.train.labels[:1000], hidden=16, steps=100, lr=0.1, seed=seed)
    check(difference < 1e-6, f"weights by hand and by autograd differ by {difference:.1e}")
    forget_the_layers()

    fifth = len(x) // 5  # held out for choosing: the last ones, because in the sample they are other writers'
    found = compare_sizes((x[:-fifth], labels[:-fifth]), (x[-fifth:], labels[-fifth:]), sweep_steps, networks, seed)
    model = mlp([28 * 28, hidden, hidden, 10], seed).to(where)
    losses = train(model, x, labels, steps, lr, warp, seed)
    with torch.no_grad():
        predicted = model(x_test).argmax(dim=1)  # (n,) the class with the largest logit
    accuracy = (predicted == labels_test).float().mean().item()
    means = torch.stack([x[labels == digit].mean(dim=0).flatten() for digit in range(10)])  # (10, 784), the mean pictures
    by_mean = (torch.cdist(x_test.flatten(start_dim=1), means).argmin(dim=1) == labels_test).float().mean().item()
    baseline = max(by_mean, labels_test.bincount().max().item() / len(labels_test))  # or always the most frequent digit
    print(f"5. loss {losses[0]:.2f} → {losses[-1]:.2f}; digits never seen: {accuracy:.4f} right, nearest mean {by_mean:.3f}")
    draw_figures(found, x.cpu(), (x_test.cpu(), labels_test.cpu()), predicted.cpu(), warp)
    check(1 - accuracy < 0.8 * (1 - baseline), f"{accuracy:.1%} right, the simplest rule {baseline:.1%}: more --steps?")
    results = {"accuracy": accuracy, "baseline_accuracy": baseline, "weights_difference": difference}
    results |= {f"width_{sizes[0]}": found[sizes].mean().item() for sizes in WIDTHS}
    return results | {f"depth_{len(sizes)}": found[sizes].mean().item() for sizes in DEPTHS}


if __name__ == "__main__":
    run(main)
