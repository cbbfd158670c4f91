"""Linear regression · 선형 회귀

A weighted sum of the inputs, with the weights that make the mean squared error smallest. It is the one model whose best
weights can be written down, so that everything gradient descent does can be held against the truth.
입력의 가중합으로 값을 예측하고, 평균 제곱 오차가 가장 작아지는 가중치를 찾는다. 가장 좋은 가중치를 식으로 쓸 수 있는 모델이어서,
경사 하강법이 하는 일을 하나하나 정답과 비교해 볼 수 있다.

You will
  1. look at real data: 442 diabetes patients, and how much worse each was a year later
  2. fit it three ways that agree step for step: by hand, by autograd, by nn.Linear with SGD; and by the closed form
  3. meet the warning everyone meets, and a model that learns nothing but the mean
  4. measure what the scale of the features costs: the condition number
  5. compare SGD, momentum (a step goes on with 0.9 of the last) and Adam (each weight's step is divided by the usual size of
     its gradient), each with a learning rate of its own that the validation patients chose
  6. predict patients that were used for nothing else, against the mean

Before     01_basics/autograd.py, 01_basics/basic_nn.py
Run        python -m study run linear_regression   (about 8 s on one CPU core, after importing torch)
You see    off by 53 on new patients, the mean by 81; SGD leaves 39 % unlearned, or 0.5 % after scaling; curves.png, paths.png
Try next   --momentum 0.99, ten times the memory. First guess whether that helps; then look, and again with --steps 1000
Theory     notes/en/02_neural_networks.md · notes/ko/02_neural_networks.md
Practise   python -m study check 02
"""

import math
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.lesson import check, mention, run
from utils.plotting import label, save_figure

Data = tuple[Tensor, Tensor]  # features (patients, features) and target (patients,), float64
BMI = slice(2, 3)  # the feature that the figure of the walks is about
COLOURS = {"Adam": "tab:green", "momentum": "tab:orange", "SGD": "tab:blue"}  # in the order in which they are drawn


# %% 1. The data
def diabetes(seed: int) -> tuple[Data, Data, Data]:
    """Deal the patients out by chance: 266 to train on, 88 to choose settings by, 88 to test."""
    from sklearn.datasets import load_diabetes

    patients = load_diabetes(scaled=False)  # as measured: years, kg/m², mmHg, mg/dl and so on
    mention("data", "diabetes (scikit-learn): 442 real patients, 10 features")
    x, y = torch.from_numpy(patients.data), torch.from_numpy(patients.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, validation, test = ((x[rows], y[rows]) for rows in order.split([266, 88, 88]))
    print(f"1. {patients.feature_names}")
    print(f"   their means {[round(mean, 1) for mean in train[0].mean(dim=0).tolist()]}, the target's {train[1].mean():.0f}")
    return train, validation, test


def standardize(x: Tensor, by: Tensor) -> Tensor:
    """Shift and scale every feature so that on `by`, always the training patients, it has mean 0 and standard deviation 1."""
    return (x - by.mean(dim=0)) / by.std(dim=0)


def losses(x: Tensor, y: Tensor, path: Tensor) -> Tensor:
    """Return the mean squared error (steps,) along a path (steps, features + 1) of weights, the bias last."""
    return (x @ path[:, :-1].T + path[:, -1] - y.unsqueeze(1)).square().mean(dim=0)


# %% 2. Three ways to walk, and where they must arrive
def by_hand(x: Tensor, y: Tensor, steps: int, lr: float) -> Tensor:
    """Descend from zero with the gradient worked out on paper; return weights and bias after each step (steps, features + 1)."""
    weight, bias = torch.zeros(x.shape[1], dtype=x.dtype), torch.zeros(1, dtype=x.dtype)
    path = []
    for _ in range(steps):
        residual = x @ weight + bias - y  # (patients,) prediction minus truth; the loss is the mean of its squares
        weight = weight - lr * 2 * (residual @ x) / len(x)  # (patients,) @ (patients, features) → (features,)
        bias = bias - lr * 2 * residual.mean()
        path.append(torch.cat([weight, bias]))
    return torch.stack(path)


def by_autograd(x: Tensor, y: Tensor, steps: int, lr: float) -> Tensor:
    """The same walk, its gradient from backward()."""
    parameters = torch.zeros(x.shape[1] + 1, dtype=x.dtype, requires_grad=True)
    path = []
    for _ in range(steps):
        (x @ parameters[:-1] + parameters[-1] - y).square().mean().backward()
        with torch.no_grad():
            parameters -= lr * parameters.grad
        parameters.grad = None
        path.append(parameters.detach().clone())
    return torch.stack(path)


def by_module(x: Tensor, y: Tensor, steps: int, optimizer_class: type, **settings: float) -> Tensor:
    """The same walk by nn.Linear and an optimizer of torch.optim; y is (patients, 1), as the layer's output is."""
    model = nn.Linear(x.shape[1], 1, dtype=x.dtype)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = optimizer_class(model.parameters(), **settings)
    path = []
    for _ in range(steps):
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        path.append(torch.cat([model.weight[0], model.bias]).detach())
    return torch.stack(path)


def closed_form(x: Tensor, y: Tensor) -> Tensor:
    """Return the best weights and bias (features + 1,), where the gradient 2 Xᵀ(Xw - y) / n is zero: XᵀX w = Xᵀy."""
    ones = F.pad(x, (0, 1), value=1.0)  # the bias is the weight of an input that is always 1
    return torch.linalg.solve(ones.T @ ones, ones.T @ y)


def compare_ways(x: Tensor, y: Tensor, steps: int, lr: float) -> tuple[float, float]:
    """Return the largest difference between the three walks at any step, and of the closed form from torch.linalg.lstsq."""
    ours = by_hand(x, y, steps, lr)
    others = by_autograd(x, y, steps, lr), by_module(x, y.unsqueeze(1), steps, torch.optim.SGD, lr=lr)
    walks = max((ours - path).abs().max().item() for path in others)
    solution = torch.linalg.lstsq(F.pad(x, (0, 1), value=1.0), y.unsqueeze(1)).solution.squeeze(1)
    solutions = (closed_form(x, y) - solution).abs().max().item()
    print(f"2. three walks of {steps} steps differ by {walks:.0e} at most, the closed form and lstsq by {solutions:.0e}")
    return walks, solutions


# %% 3. The warning everyone meets
def meet_warning(x: Tensor, y: Tensor, steps: int, lr: float) -> tuple[str, float]:
    """Hold predictions (n, 1) against a target (n,); return PyTorch's warning, and the share of the mean's error that is left."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        path = by_module(x, y, steps, torch.optim.SGD, lr=lr)  # should be y.unsqueeze(1)
    message = str(caught[0].message)
    left = (losses(x, y, path[-1:]) / y.var(correction=0)).item()
    print(f'3. "{message.split(". ")[0]}."')
    print(f"   read: (n, 1) - (n,) → (n, n), every prediction with every target; its error is {left:.2f} of the mean's")
    return message, left


# %% 4. Scale
def share_left(x: Tensor, y: Tensor, path: Tensor) -> Tensor:
    """Return what is left to learn at the start and after each step (steps + 1,): 1 is the mean predictor, 0 the closed form."""
    floor = losses(x, y, closed_form(x, y).unsqueeze(0))
    return (losses(x, y, F.pad(path, (0, 0, 1, 0))) - floor) / (y.var(correction=0) - floor)  # from zero weights on


def measure_scale(x: Tensor, y: Tensor, steps: int) -> dict[str, tuple[float, Tensor]]:
    """Descend on four versions of the same features; return each one's condition number, and what is left to learn."""
    centred, scaled = x - x.mean(dim=0), standardize(x, by=x)
    turned = scaled @ torch.linalg.eigh(scaled.T @ scaled).eigenvectors  # (n, features): sums of features, uncorrelated
    whitened = standardize(turned, by=turned)
    found = {}
    for name, version in {"as measured": x, "centred": centred, "standardized": scaled, "decorrelated": whitened}.items():
        ones = F.pad(version, (0, 1), value=1.0)
        curvatures = torch.linalg.eigvalsh(2 * ones.T @ ones / len(x))  # of the loss: the Hessian's eigenvalues, rising
        condition = (curvatures[-1] / curvatures[0]).item()
        left = share_left(version, y, by_hand(version, y, steps, lr=1 / curvatures[-1].item()))  # half of what runs away
        found[name] = condition, left
        enough = (left < 0.01).nonzero()
        when = f"1 % left at step {enough[0].item()}" if len(enough) else f"{left[-1]:.1%} left at step {steps}"
        print(f"{'4.' if len(found) == 1 else '  '} {name:13} condition number {condition:8.2g}, {when}")
    return found


# %% 5. Optimizers
def choose_rates(train: Data, validation: Data, steps: int, momentum: float) -> dict[str, tuple[float, Tensor]]:
    """Walk with each optimizer at 17 learning rates; return the one that serves the validation patients best, and its walk."""
    kinds = {"SGD": (torch.optim.SGD, {}), "momentum": (torch.optim.SGD, {"momentum": momentum}), "Adam": (torch.optim.Adam, {})}
    chosen = {}
    for name, (kind, settings) in kinds.items():
        best = math.inf
        for lr in [10 ** (k / 2) for k in range(-12, 5)]:  # 1e-6 to 100
            path = by_module(train[0], train[1].unsqueeze(1), steps, kind, lr=lr, **settings)
            loss = losses(*validation, path).mean().item()  # over all steps: a rate must get there fast, and stay
            if loss < best:  # False for nan: that one ran away
                best, chosen[name] = loss, (lr, path)
    return chosen


def draw_figures(scale: dict, left: dict, versions: dict, line: dict) -> None:
    """Draw what is left to learn after each step; then the walks of a line through one feature, over its loss."""
    import matplotlib.pyplot as plt

    figure, (descents, optimizers) = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    for name, (condition, share) in scale.items():
        descents.plot(share, label=f"{name} ({condition:.2g})")
    for (version, shares), style in zip(left.items(), ("-", "--"), strict=True):
        for name, colour in COLOURS.items():
            optimizers.plot(shares[name], style, color=colour, label=f"{name}, {version}")
    title = label("gradient descent (condition number)", "경사 하강법 (조건수)")
    descents.set(xscale="symlog", yscale="log", ylim=(1e-4, 300), xlabel="step", ylabel="left to learn", title=title)
    optimizers.set(xlabel="step", title=label("each with its own learning rate", "저마다 알맞은 학습률로"))
    descents.legend(loc="lower left")
    optimizers.legend(loc="upper right")
    save_figure(figure, __file__, "curves")

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    for axis, (version, ((x, y), _)) in zip(axes, versions.items(), strict=True):
        best, walks = closed_form(x[:, BMI], y), line[version]
        places = torch.cat([*(path for _, path in walks.values()), 1.2 * best.unsqueeze(0), torch.zeros(1, 2)])
        ends = zip(places.amin(dim=0).tolist(), places.amax(dim=0).tolist(), strict=True)
        slopes, intercepts = (torch.linspace(low, high, 101, dtype=x.dtype) for low, high in ends)
        height = losses(x[:, BMI], y, torch.cartesian_prod(slopes, intercepts)).view(101, 101)
        levels = height.min() + (height.max() - height.min()) * torch.logspace(-3, 0, 10)
        axis.contour(slopes, intercepts, height.T, levels=levels, linewidths=0.7, colors="grey")
        for name, colour in COLOURS.items():
            path = F.pad(walks[name][1], (0, 0, 1, 0)).T  # (2, steps + 1), from (0, 0) on
            axis.plot(*path, "o-", color=colour, markersize=3, linewidth=1, label=f"{name}, lr {walks[name][0]:.2g}")
        axis.plot(*best, "k*", markersize=13)
        axis.set(xlabel="slope", ylabel="intercept", title=f"progression = slope · BMI + intercept, BMI {version}")
        axis.legend()
    save_figure(figure, __file__, "paths")


# %% All of it, in order
def main(steps: int = 200, momentum: float = 0.9, walk: int = 10_000, seed: int = 0) -> dict[str, float]:
    """Fit a line to patients in every way there is, and see what the scale of the features costs.

    Args:
        steps: Steps of every optimizer.
        momentum: Of SGD with momentum.
        walk: Steps of the gradient descent that measures what the scale of the features costs.
        seed: Decides which patients train, validate and test.
    """
    check(steps > 0 and walk > 0, f"--steps {steps} --walk {walk}: at least one step is needed")
    train, validation, test = diabetes(seed)
    x, y = train
    scaled, scaled_validation, scaled_test = (standardize(part, by=x) for part in (x, validation[0], test[0]))
    difference, _ = compare_ways(scaled, y, steps=100, lr=0.1)
    meet_warning(scaled, y, steps=100, lr=0.1)
    scale = measure_scale(x, y, walk)

    versions = {"as measured": (train, validation), "standardized": ((scaled, y), (scaled_validation, validation[1]))}
    chosen = {version: choose_rates(*data, steps, momentum) for version, data in versions.items()}
    left = {v: {name: share_left(*versions[v][0], path) for name, (_, path) in walks.items()} for v, walks in chosen.items()}
    for version, walks in chosen.items():
        told = ", ".join(f"{name} {left[version][name][-1]:.1%} (lr {rate:.1g})" for name, (rate, _) in walks.items())
        print(f"5. left to learn after {steps} steps, {version}: {told}")
    line = {v: choose_rates(*((x[:, BMI], y) for x, y in data), steps, momentum) for v, data in versions.items()}
    draw_figures(scale, left, versions, line)

    baseline = (test[1] - y.mean()).square().mean().item()
    error = losses(scaled_test, test[1], chosen["standardized"]["SGD"][1][-1:]).item()
    best = losses(scaled_test, test[1], closed_form(scaled, y).unsqueeze(0)).item()
    print(f"6. patients never used: off by {error**0.5:.1f} (closed form {best**0.5:.1f}), the mean by {baseline**0.5:.1f}")
    check(error < 0.8 * baseline, f"the squared error is {error / baseline:.2f} of the mean predictor's: more --steps?")
    results = {"rmse": error**0.5, "closed_form_rmse": best**0.5, "baseline_rmse": baseline**0.5, "walks_difference": difference}
    results |= {f"condition_{version.replace(' ', '_')}": condition for version, (condition, _) in scale.items()}
    return results | {f"left_{name}_as_measured": share[-1].item() for name, share in left["as measured"].items()}


if __name__ == "__main__":
    run(main)
