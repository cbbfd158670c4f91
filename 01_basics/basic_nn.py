"""A first neural network · 첫 신경망

A layer multiplies by a matrix of weights and adds a bias; a network is layers with something bent in between; learning
is gradient descent on all their numbers at once. Everything is built by hand here, then held against torch.nn.
층은 가중치 행렬을 곱하고 편향을 더한다. 층과 층 사이를 한 번 꺾어 이은 것이 신경망이고, 그 안의 수를 모두 한꺼번에
경사 하강법으로 고치는 것이 학습이다. 모두 손으로 만든 다음 torch.nn과 같은지 확인한다.

You will
  1. build a linear layer from a matrix, with its gradients, equal to nn.Linear
  2. build a two-layer network as an nn.Module, and see what the module does for you
  3. work out all its gradients by hand, equal to backward()
  4. save its numbers, load them elsewhere, and switch between train and eval mode
  5. meet the error everyone meets with images
  6. train it on handwritten digits, against the simplest rule that works
  7. look at what it learned, and at what it confuses

Before     01_basics/tensor_operations.py, 01_basics/autograd.py
Run        python -m study run basic_nn            (about 4 s on one CPU core, after importing torch)
You see    0.91 right on digits of writers it never saw, the simplest rule 0.84 (MNIST: 0.94, 0.82); learning.png, weights.png
Try next   --hidden 2: the ten digits must pass through two numbers. First guess the accuracy, then look;
           then the same with --seed 1
Theory     notes/en/01_basics.md · notes/ko/01_basics.md
Practise   python -m study check 01
"""

import io
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Source, mnist
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure


# %% 1. A linear layer
def linear_by_hand(seed: int) -> float:
    """Compute a linear layer and its gradients with matrix products; return the largest difference from nn.Linear."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(5, 3, generator=generator)  # 5 examples of 3 numbers each
    weight = torch.randn(2, 3, generator=generator)  # one row of weights for each of the 2 outputs
    bias = torch.randn(2, generator=generator)
    upstream = torch.randn(5, 2, generator=generator)  # d loss / d output, as it would arrive from the layers above

    output = x @ weight.T + bias  # (5, 3) @ (3, 2) + (2,) → (5, 2)
    weight_gradient = upstream.T @ x  # (2, 5) @ (5, 3) → (2, 3): summed over the examples
    bias_gradient = upstream.sum(dim=0)  # (2,)
    layer = nn.Linear(3, 2)
    layer.load_state_dict({"weight": weight, "bias": bias})  # the same numbers as ours
    theirs = layer(x)
    theirs.backward(upstream)
    pairs = ((output, theirs), (weight_gradient, layer.weight.grad), (bias_gradient, layer.bias.grad))
    difference = max((ours - other).abs().max().item() for ours, other in pairs)
    print(f"1. x @ W.T + b and its gradients against nn.Linear: largest difference {difference:.1e}")
    return difference


# %% 2. A network as an nn.Module
class TwoLayerNetwork(nn.Module):
    """Linear, ReLU, linear. ReLU, max(0, ·), is the bend: without it two linear layers would make one.

    Turns (batch, inputs) into (batch, outputs), one logit (score) for each class; `hidden` numbers lie between the layers.
    The generator draws the initial weights, uniform within ±1/√inputs of each layer, as nn.Linear does.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, generator: torch.Generator):
        super().__init__()
        # Assigning an nn.Parameter to self is what registers it: parameters(), to(device), state_dict() will find it.
        self.weight1 = nn.Parameter((2 * torch.rand(hidden, inputs, generator=generator) - 1) / inputs**0.5)
        self.bias1 = nn.Parameter((2 * torch.rand(hidden, generator=generator) - 1) / inputs**0.5)
        self.weight2 = nn.Parameter((2 * torch.rand(outputs, hidden, generator=generator) - 1) / hidden**0.5)
        self.bias2 = nn.Parameter((2 * torch.rand(outputs, generator=generator) - 1) / hidden**0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = (x @ self.weight1.T + self.bias1).relu()  # (batch, hidden)
        return h @ self.weight2.T + self.bias2  # (batch, outputs): logits, any real numbers


# %% 3. Its gradients, by hand
def backward_by_hand(network: TwoLayerNetwork, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return every parameter's gradient of the mean cross-entropy, by name, for x (batch, inputs) and labels (batch,)."""
    before_bend = x @ network.weight1.T + network.bias1  # (batch, hidden)
    h = before_bend.relu()
    logits = h @ network.weight2.T + network.bias2  # (batch, outputs)

    right = F.one_hot(labels, logits.shape[1])  # (batch, outputs): 1 at the right class, else 0
    to_logits = (logits.softmax(dim=1) - right) / len(x)  # cross-entropy after softmax: what it says minus the truth
    to_h = to_logits @ network.weight2  # (batch, hidden)
    to_before_bend = to_h * (before_bend > 0)  # ReLU passes the gradient on where it passed the number on
    return {
        "weight1": to_before_bend.T @ x,
        "bias1": to_before_bend.sum(dim=0),
        "weight2": to_logits.T @ h,
        "bias2": to_logits.sum(dim=0),
    }


def compare_with_torch(seed: int) -> float:
    """Return the largest difference of our network's output and gradients from torch.nn's, in float64."""
    generator = torch.Generator().manual_seed(seed)
    ours = TwoLayerNetwork(4, 6, 3, generator).double()
    shapes = ", ".join(f"{name} {tuple(parameter.shape)}" for name, parameter in ours.named_parameters())
    print(f"2. {shapes}: {sum(parameter.numel() for parameter in ours.parameters())} numbers to learn")
    theirs = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(ours.parameters()), theirs.parameters())  # the same numbers
    x = torch.randn(8, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (8,), generator=generator)
    logits = theirs(x)
    F.cross_entropy(logits, labels).backward()
    pairs = [(ours(x), logits)]
    pairs += zip(backward_by_hand(ours, x, labels).values(), [p.grad for p in theirs.parameters()], strict=True)
    difference = max((by_hand - by_torch).abs().max().item() for by_hand, by_torch in pairs)
    print(f"3. output and gradients by hand against torch.nn and backward(): largest difference {difference:.1e}")
    return difference


# %% 4. Saving, loading, and the two modes
def save_and_load(seed: int) -> float:
    """Copy a network through a saved state_dict; return the largest difference of the copy's output (it is 0)."""
    generator = torch.Generator().manual_seed(seed)
    network, other = TwoLayerNetwork(4, 6, 3, generator), TwoLayerNetwork(4, 6, 3, generator)
    file = io.BytesIO()  # a file in memory; a path works the same
    torch.save(network.state_dict(), file)  # the names and the numbers, not the code
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))  # weights_only: never run what a file brings along
    x = torch.randn(8, 4, generator=generator)
    difference = (network(x) - other(x)).abs().max().item()
    print(f"4. saved, loaded elsewhere: the outputs differ by {difference:g}")
    return difference


def switch_modes(seed: int) -> tuple[Tensor, Tensor]:
    """Send ones through a dropout layer in train and in eval mode; return both outputs, (8,) each."""
    torch.manual_seed(seed)  # a layer draws from the global generator
    dropout = nn.Dropout(p=0.5)  # in training, drop half of the numbers by chance and double the rest
    training = dropout.train()(torch.ones(8))
    evaluating = dropout.eval()(torch.ones(8))  # forgetting eval() before measuring is a classic
    print(f"   dropout in train mode {training.int().tolist()}, in eval mode {evaluating.int().tolist()}")
    return training, evaluating


# %% 5. The error everyone meets with images
def feed_raw_bytes(images: Tensor) -> str:
    """Feed pixels as they come, bytes from 0 to 255, to a layer of float32 weights; return PyTorch's answer."""
    try:
        nn.Linear(28 * 28, 10)(images.flatten(start_dim=1))
    except RuntimeError as error:
        message = str(error)
    print(f'5. "{message}"')
    print("   read: weights are float32, so the pixels must be: images.float() / 255, which also brings them to 0 to 1")
    return message


# %% 6. Training
def as_inputs(images: Tensor) -> Tensor:
    """Turn pixels (n, 1, 28, 28), bytes, into rows (n, 784) of numbers from 0 to 1."""
    return images.flatten(start_dim=1).float() / 255


def train(network: nn.Module, x: Tensor, labels: Tensor, steps: int, lr: float, seed: int) -> list[float]:
    """Take `steps` steps of gradient descent, each on 64 random examples; return the loss of every step."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        batch = torch.randint(len(x), (64,), generator=generator).to(x.device)
        loss = F.cross_entropy(network(x[batch]), labels[batch])
        optimizer.zero_grad()  # forget the last step's gradients: backward() adds
        loss.backward()  # fill .grad of every parameter
        optimizer.step()  # parameter -= lr * parameter.grad
        losses.append(loss.item())
    return losses


def nearest_mean(x: Tensor, labels: Tensor, x_test: Tensor, classes: int) -> Tensor:
    """Classify by the simplest rule that works: average each class, then choose the nearest average; return (n,)."""
    means = torch.stack([x[labels == c].mean(dim=0) for c in range(classes)])  # (classes, 784)
    return torch.cdist(x_test, means).argmin(dim=1)


# %% 7. What it learned
def draw_figures(losses: list[float], confusion: Tensor, weight: Tensor) -> None:
    """Draw the loss and what each digit was taken for; then the first layer's weights, (hidden, 784), as pictures."""
    import matplotlib.pyplot as plt

    figure, (curve, table) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    curve.plot(losses, linewidth=0.8)
    curve.axhline(math.log(10), color="grey", linestyle=":", label=label("ln 10: guessing", "ln 10: 찍을 때"))
    curve.set(xlabel="step", ylabel="cross-entropy of the batch", ylim=(0, None), title="training")
    curve.legend()
    mistakes = confusion.clone().fill_diagonal_(0)  # only they are coloured: the diagonal would outshine them
    table.imshow(mistakes.numpy(), cmap="Reds", vmax=2 * mistakes.max().item())
    for i, j in confusion.nonzero().tolist():
        table.text(j, i, confusion[i, j].item(), ha="center", va="center", fontsize=9)
    table.set(xlabel="taken for", ylabel="is", xticks=range(10), yticks=range(10), title="held-out digits")
    save_figure(figure, __file__, "learning")

    empty = {"xticks": [], "yticks": [], "frame_on": False}
    figure, axes = plt.subplots(2, 8, figsize=(11, 3.1), layout="constrained", subplot_kw=empty)
    limit = weight.abs().max().item()
    strongest = weight[weight.norm(dim=1).argsort(descending=True)]
    for axis, unit in zip(axes.flat, strongest, strict=False):
        axis.imshow(unit.view(28, 28).numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
    figure.suptitle(label("hidden units: ink on red adds, on blue takes away", "은닉 유닛: 빨간 곳의 획은 더하고 파란 곳은 뺀다"))
    save_figure(figure, __file__, "weights")


# %% All of it, in order
def main(
    hidden: int = 64, steps: int = 1000, lr: float = 0.2, source: Source = "auto", device: str = "auto", seed: int = 0
) -> dict[str, float]:
    """Build a network by hand, prove it right, and teach it to read digits.

    Args:
        hidden: Numbers between the two layers.
        steps: Steps of gradient descent, each on 64 digits.
        lr: Learning rate.
        source: Digits from: auto (MNIST if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: Seed of the initial weights and of the batches.
    """
    check(hidden > 0 and steps > 0, f"--hidden {hidden} --steps {steps}: at least one of each is needed")
    where = pick_device(device)
    check(max(linear_by_hand(seed), compare_with_torch(seed), save_and_load(seed)) < 1e-5, "by hand and torch.nn disagree")
    switch_modes(seed)

    data = mnist(source)
    feed_raw_bytes(data.train.images[:2])
    x, labels = as_inputs(data.train.images).to(where), data.train.labels.to(where)
    x_test, labels_test = as_inputs(data.test.images).to(where), data.test.labels.to(where)
    classes = len(data.classes)
    network = TwoLayerNetwork(28 * 28, hidden, classes, torch.Generator().manual_seed(seed)).to(where)
    losses = train(network, x, labels, steps, lr, seed)
    with torch.no_grad():
        predicted = network(x_test).argmax(dim=1)  # (n,) the class with the largest logit
    accuracy = (predicted == labels_test).float().mean().item()
    by_mean = (nearest_mean(x, labels, x_test, classes) == labels_test).float().mean().item()
    baseline = max(by_mean, data.test.labels.bincount().max().item() / len(labels_test))  # or always the most frequent digit
    print(f"6. loss {losses[0]:.2f} → {losses[-1]:.2f}; digits never seen: {accuracy:.3f} right, nearest mean {by_mean:.3f}")
    confusion = (labels_test * classes + predicted).bincount(minlength=classes**2).view(classes, classes)  # is, taken for
    draw_figures(losses, confusion.cpu(), network.weight1.detach().cpu())
    check(1 - accuracy < 0.8 * (1 - baseline), f"{accuracy:.1%} right, simplest rule {baseline:.1%}: more --steps or --hidden?")
    return {"first_loss": losses[0], "last_loss": sum(losses[-20:]) / 20, "accuracy": accuracy, "baseline_accuracy": baseline}


if __name__ == "__main__":
    run(main)
