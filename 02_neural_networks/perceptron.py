"""The perceptron · 퍼셉트론

The ancestor of all neural networks (Rosenblatt, 1958) adds up weighted inputs, answers yes or no, and changes its weights only
after a mistake. There is a proof of how many mistakes it can make, and a problem of four points that it can never solve.
신경망의 조상인 퍼셉트론(Rosenblatt, 1958)은 입력의 가중합으로 예, 아니오를 답하고, 틀렸을 때만 가중치를 고친다. 틀리는 횟수의
상한이 증명되어 있고, 점 네 개짜리인데도 끝내 풀지 못하는 문제가 있다.

You will
  1. write the rule by hand, and see that one correction is one SGD step of PyTorch
  2. count mistakes on nineteen data sets, and hold them against Novikoff's bound
  3. give it XOR: it goes round in a circle, and no line does better than 3 of 4
  4. solve XOR with a hidden layer, its weights set by hand
  5. meet the error everyone meets with a single output
  6. let gradient descent look for such weights, and count how often it finds them

Before     01_basics/basic_nn.py
Run        python -m study run perceptron          (about 4 s on one CPU core, after importing torch)
You see    33 mistakes where 847 are allowed; XOR learned by 64 of 100 networks with two hidden units, by 99 with four;
           mistakes.png, xor.png
Try next   --margin 0.01, points five times nearer. First guess which grows more, the mistakes or the bound; then look
Theory     notes/en/02_neural_networks.md · notes/ko/02_neural_networks.md
Practise   python -m study check 02
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.lesson import check, run
from utils.plotting import label, save_figure


# %% 1. The rule, and its step in PyTorch
def with_ones(x: Tensor) -> Tensor:
    """Append an input that is always 1, whose weight is the bias: (n, inputs) → (n, inputs + 1)."""
    return F.pad(x, (0, 1), value=1.0)


def separable_points(inputs: int, margin: float, seed: int, points: int = 100) -> tuple[Tensor, Tensor, Tensor]:
    """Draw points, none nearer than `margin` to a random plane; return x (points, inputs + 1), labels ±1 (points,), the plane."""
    generator = torch.Generator().manual_seed(seed)
    normal = F.normalize(torch.randn(inputs, generator=generator, dtype=torch.float64), dim=0)
    plane = torch.cat([normal, 0.6 * torch.rand(1, generator=generator, dtype=torch.float64) - 0.3])
    x = with_ones(2 * torch.rand(20 * points, inputs, generator=generator, dtype=torch.float64) - 1)  # a cube and its ones
    distance = x @ plane  # (20 · points,) signed; a distance because the normal has length 1
    far = distance.abs() >= margin
    return x[far][:points], distance[far][:points].sign(), plane


def perceptron(x: Tensor, labels: Tensor, passes: int) -> Tensor:
    """Show the examples in turn, until a whole pass is right; return the weights before the first and after every mistake."""
    weights = torch.zeros(x.shape[1], dtype=x.dtype)
    history = [weights]
    for _ in range(passes):
        before = len(history)
        for example, truth in zip(x, labels, strict=True):
            if truth * (weights @ example) <= 0:  # the wrong side, or exactly on the boundary
                weights = weights + truth * example  # turn towards the example, or away from it
                history.append(weights)
        if len(history) == before:
            break
    return torch.stack(history)  # (mistakes + 1, inputs)


def compare_with_torch(x: Tensor, labels: Tensor, passes: int) -> float:
    """Train weights by SGD on the loss max(0, -truth · score), one example a step; return their difference from the rule's."""
    history = perceptron(x, labels, passes)
    weights = torch.zeros(x.shape[1], dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=1.0)
    for example, truth in [*zip(x, labels, strict=True)] * passes:
        score = truth * (weights @ example)
        loss = torch.where(score <= 0, -score, 0.0)  # relu(-score) has derivative 0 at exactly 0: it would never leave the zeros
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    difference = (weights.detach() - history[-1]).abs().max().item()
    print(f"   {len(history) - 1} corrections in {passes} passes; PyTorch's SGD ends {difference:g} away from the same weights")
    return difference


# %% 2. Novikoff's bound
def mistake_bound(x: Tensor, labels: Tensor, direction: Tensor) -> float:
    """Return (R / γ)²: R is the longest example; γ, the margin, how far inside its side the nearest one is, by `direction`."""
    margin = (labels * (x @ direction)).min() / direction.norm()
    check(margin > 0, "this direction does not separate the data, so it bounds nothing")
    return (x.norm(dim=1).max() / margin).square().item()


def widest_direction(x: Tensor, labels: Tensor) -> Tensor:
    """Find the direction (inputs,) with the widest margin, nearly, by a support vector machine."""
    from sklearn.svm import LinearSVC

    machine = LinearSVC(C=1e5, loss="hinge", dual=True, fit_intercept=False, max_iter=200_000, random_state=0)
    return torch.from_numpy(machine.fit(x.numpy(), labels.numpy()).coef_[0])


def count_mistakes(seed: int) -> Tensor:
    """Run the rule to the end on 18 drawn data sets and on irises; return rows of mistakes, and bound by either direction."""
    from sklearn.datasets import load_iris

    kinds = [(inputs, margin) for inputs in (2, 10) for margin in (0.3, 0.1, 0.03)]
    sets = [separable_points(*kind, seed=1000 * seed + draw) for kind in kinds for draw in range(3)]
    data, species = load_iris(return_X_y=True)  # 150 real flowers: is it an Iris setosa, by length and width of a petal in cm?
    petals, is_setosa = with_ones(torch.from_numpy(data[:, 2:])), torch.from_numpy(1.0 - 2 * (species != 0))
    rows = []
    for x, labels, plane in [*sets, (petals, is_setosa, widest_direction(petals, is_setosa))]:  # no plane is known there
        history = perceptron(x, labels, passes=10_000)
        check((labels * (x @ history[-1]) > 0).all().item(), "it still makes mistakes, although the data is separable")
        bounds = mistake_bound(x, labels, plane), mistake_bound(x, labels, widest_direction(x, labels))
        check(len(history) - 1 <= min(bounds), f"{len(history) - 1} mistakes, and Novikoff allows {min(bounds):.0f}")
        rows.append((len(history) - 1, *bounds))
    counted = torch.tensor(rows)
    share = (counted[:, 0] / counted[:, 1:].amin(dim=1)).max()
    print(f"2. {len(rows)} data sets: {min(rows)[0]} to {max(rows)[0]} mistakes, at most {share:.0%} of what the bound allows")
    return counted


# %% 3. What no line can do
CORNERS = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.float64)
XOR = torch.tensor([-1, 1, 1, -1], dtype=torch.float64)  # yes where exactly one of the two inputs is 1


def try_xor() -> tuple[Tensor, Tensor, Tensor]:
    """Try XOR by the rule and with lines; return weights once round (·, 3), the lines' labelings (·, 4), a best line (3,)."""
    history = perceptron(with_ones(CORNERS), XOR, passes=5)
    back = next(i for i in range(1, len(history)) if torch.equal(history[i], history[0]))
    print(f"3. XOR: {back} mistakes, and the weights are {history[back].tolist()} again: so it goes on for ever")

    steps = torch.arange(-2, 3, dtype=torch.float64)
    lines = torch.cartesian_prod(steps, steps, steps + 0.5)  # (125, 3); the half keeps every line off the corners
    answers = (lines @ with_ones(CORNERS).T).sign()  # (125, 4)
    labelings, right = answers.unique(dim=0), (answers == XOR).double().mean(dim=1)
    print(f"   lines label the corners in {len(labelings)} of 16 ways, never as XOR: at best {right.max():g} are right")
    return history[: back + 1], labelings, lines[right.argmax()]


# %% 4. A hidden layer, by hand
def by_hand(x: Tensor) -> Tensor:
    """Answer XOR, x (n, 2) → (n,) of +1 and -1: "at least one" and not "both"."""
    h = (x @ torch.ones(2, 2).double() + torch.tensor([-0.5, -1.5]) > 0).double()  # (n, 2): two steps of height 1
    return (h @ torch.tensor([1.0, -1.0]).double() - 0.5).sign()


# %% 5. The error everyone meets with a single output
def meet_shape_error() -> str:
    """Hold logits (4, 1), as a layer with one output gives them, against labels (4,); return PyTorch's answer."""
    try:
        F.binary_cross_entropy_with_logits(nn.Linear(2, 1).double()(CORNERS), (XOR > 0).double())
    except ValueError as error:
        message = str(error)
    print(f'5. "{message}"')
    print("   read: one of them has a dimension too many, and logits.squeeze(1) drops it. Other losses broadcast instead")
    return message


# %% 6. A hidden layer, learned
def forward(parameters: list[Tensor], x: Tensor) -> Tensor:
    """Run many networks side by side, each 2 → hidden → 1 with tanh, a smooth step: x (n, 2) → logits (networks, n)."""
    weight1, bias1, weight2, bias2 = parameters
    h = torch.tanh(x @ weight1 + bias1)  # (n, 2) @ (networks, 2, hidden) → (networks, n, hidden)
    return (h @ weight2 + bias2).squeeze(2)  # (networks, n, 1) → (networks, n)


def train_networks(hidden: int, networks: int, steps: int, lr: float, seed: int) -> tuple[Tensor, list[Tensor]]:
    """Train networks on XOR, each from a start of its own; return the share each has right (networks,), and all weights."""
    generator = torch.Generator().manual_seed(seed)
    parameters = []
    for rows, columns, inputs in ((2, hidden, 2), (1, hidden, 2), (hidden, 1, hidden), (1, 1, hidden)):
        numbers = 2 * torch.rand(networks, rows, columns, generator=generator, dtype=torch.float64) - 1
        parameters.append((numbers / inputs**0.5).requires_grad_())  # uniform within ±1/√inputs, as nn.Linear draws
    optimizer = torch.optim.SGD(parameters, lr=lr)
    truth = (XOR > 0).double().expand(networks, 4)
    for _ in range(steps):
        losses = F.binary_cross_entropy_with_logits(forward(parameters, CORNERS), truth, reduction="none")  # (networks, 4)
        optimizer.zero_grad()
        losses.mean(dim=1).sum().backward()  # no loss depends on another network's weights: each gets its own gradient
        optimizer.step()
    with torch.no_grad():
        return (forward(parameters, CORNERS).sign() == XOR).double().mean(dim=1), [p.detach() for p in parameters]


def draw_figures(x: Tensor, labels: Tensor, counted: Tensor, line: Tensor, right: Tensor, parameters: list[Tensor]) -> None:
    """Draw the line after every mistake, and mistakes against their bounds; then the plane as four solvers of XOR see it."""
    import matplotlib.pyplot as plt

    figure, (plane, bounds) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    plane.scatter(*x[:, :2].T, c=labels, cmap="coolwarm", s=18, edgecolors="k", linewidths=0.3)
    lines = perceptron(x, labels, passes=10_000)[1:].tolist()
    for i, (a, b, c) in enumerate(lines, start=1):  # the line a x + b y + c = 0, first through its point nearest to (0, 0)
        foot = -c / (a * a + b * b)
        colour = plt.cm.viridis_r(i / len(lines)) if i < len(lines) else "black"
        plane.axline((foot * a, foot * b), (foot * a - b, foot * b + a), color=colour, linewidth=1 if i < len(lines) else 3)
    title = label("the line after each mistake, the last is black", "실수할 때마다의 직선, 마지막은 검정")
    plane.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal", xlabel="input 1", ylabel="input 2", title=title)
    bounds.scatter(counted[:, 1], counted[:, 0], marker="o", label=label("γ of the known plane", "알고 있는 평면의 γ"))
    bounds.scatter(counted[:, 2], counted[:, 0], marker="x", label=label("the widest γ", "가장 넓은 γ"))
    limits = [1, 2 * counted.max().item()]
    bounds.fill_between(limits, limits, limits[1], color="0.88", label=label("ruled out by the proof", "증명이 배제하는 곳"))
    bounds.set(xscale="log", yscale="log", xlim=limits, ylim=limits, xlabel="(R / γ)²", ylabel="mistakes", title="Novikoff")
    bounds.legend(loc="upper left")
    save_figure(figure, __file__, "mistakes")

    side = torch.linspace(-0.4, 1.4, 181, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)  # (181², 2)
    trained = forward(parameters, grid).sigmoid()  # (networks, 181²)
    answers = (with_ones(grid) @ line > 0, by_hand(grid) > 0, trained[right.argmax()], trained[right.argmin()])
    english = ("a line: 3 of 4", "hidden units set by hand", "hidden units, trained", "trained from another start")
    korean = ("직선: 4개 중 3개", "손으로 정한 은닉 유닛", "학습한 은닉 유닛", "다른 초깃값에서 학습")
    figure, axes = plt.subplots(1, 4, figsize=(11, 3.1), layout="constrained")
    for axis, yes, *title in zip(axes, answers, english, korean, strict=True):
        picture = yes.view(181, 181).T.numpy()  # (height, width)
        axis.imshow(picture, origin="lower", extent=(-0.4, 1.4) * 2, cmap="coolwarm", vmin=0, vmax=1, alpha=0.6)
        axis.scatter(*CORNERS.T, c=XOR, cmap="coolwarm", s=90, edgecolors="k")
        axis.set(title=label(*title), xticks=[0, 1], yticks=[0, 1])
    save_figure(figure, __file__, "xor")


# %% All of it, in order
def main(margin: float = 0.05, networks: int = 100, steps: int = 1000, seed: int = 0) -> dict[str, float]:
    """Learn from mistakes, hold their number against its bound, and meet the problem that needs a hidden layer.

    Args:
        margin: How far the points of the first data set stay away from the line that labels them.
        networks: How many networks try XOR, for each number of hidden units.
        steps: Steps of gradient descent on XOR.
        seed: Seed of the points and of the initial weights.
    """
    check(0 < margin <= 0.5 and networks > 0, f"--margin {margin} --networks {networks}: more than 0, and a margin up to 0.5")
    x, labels, plane = separable_points(2, margin, seed=1000 * seed + 3)  # not one of the draws of section 2
    mistakes = len(perceptron(x, labels, passes=10_000)) - 1
    bound = min(mistake_bound(x, labels, plane), mistake_bound(x, labels, widest_direction(x, labels)))
    print(f"1. {len(x)} points, all on the right side after {mistakes} mistakes; Novikoff allows {bound:.0f}")
    difference = compare_with_torch(x, labels, passes=20)
    counted = count_mistakes(seed)
    _, _, line = try_xor()
    baseline = ((with_ones(CORNERS) @ line).sign() == XOR).double().mean().item()
    print(f"4. two hidden units with weights set by hand answer {by_hand(CORNERS).tolist()}, XOR is {XOR.tolist()}")
    meet_shape_error()
    tried = {hidden: train_networks(hidden, networks, steps, lr=1.0, seed=seed) for hidden in (1, 2, 4, 8)}
    solved = {hidden: (right == 1).double().mean().item() for hidden, (right, _) in tried.items()}
    print("6. have learned XOR: " + ", ".join(f"{share:.0%} with {hidden} hidden" for hidden, share in solved.items()))
    draw_figures(x, labels, counted, line, *tried[2])
    accuracy = tried[4][0].mean().item()
    check(accuracy > (1 + baseline) / 2, f"four hidden units have {accuracy:.2f} right, a line {baseline}: more --steps?")
    results = {"mistakes": mistakes, "bound": bound, "torch_difference": difference, "accuracy": accuracy}
    return results | {"baseline_accuracy": baseline} | {f"solved_by_{hidden}": share for hidden, share in solved.items()}


if __name__ == "__main__":
    run(main)
