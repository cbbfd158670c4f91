"""Autograd · 자동 미분

Learning means knowing which way to turn every knob of a model, and the derivative is what tells. PyTorch records
the operations that made a number; backward() walks that record from the result back to the knobs.
학습은 모델의 값들을 어느 쪽으로 얼마나 바꿀지 아는 일이고, 그 답이 미분이다. PyTorch는 값이 만들어진 과정을 기록해 두고,
backward()는 그 기록을 결과에서 출발해 거꾸로 따라가며 기울기를 채운다.

You will
  1. find one derivative three ways: by hand, by autograd, by finite differences
  2. print the graph that backward() walks
  3. see gradients add up, and learn to clear them
  4. fit a line with nothing but gradients, and see what too large a step does
  5. stop the recording, and meet the error everyone meets
  6. differentiate a derivative
  7. teach autograd an operation of your own, and have its derivative verified

Before     01_basics/tensor_operations.py
Run        python -m study run autograd            (about 2 s on one CPU core, after importing torch)
You see    seven short printouts, y = 3 x -0.996 in the fourth; descent.png
Try next   --lr 1.0, exactly at the limit. First guess which number of the line comes out wrong, slope or intercept,
           and where it will stand; then look, and look again with --steps 201
Theory     notes/en/01_basics.md · notes/ko/01_basics.md
Practise   python -m study check 01
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.lesson import check, run
from utils.plotting import label, save_figure


# %% 1. One derivative, three ways
def derivative_three_ways(at: float = 2.0) -> tuple[float, float]:
    """Differentiate x³ + 2x three ways; return how far autograd and central differences are from the derivative by hand.

    Central differences miss by h² · f'''/6 = 1e-6 and need two evaluations for every single input: fine for checking,
    hopeless for a million parameters.
    """

    def f(x):
        return x**3 + 2 * x

    by_hand = 3 * at**2 + 2

    x = torch.tensor(at, dtype=torch.float64, requires_grad=True)  # "write down what happens to x"
    f(x).backward()  # fills x.grad with df/dx
    by_autograd = x.grad.item()

    h = 1e-3
    by_differences = (f(at + h) - f(at - h)) / (2 * h)
    print(f"1. d/dx (x³ + 2x) at {at:g}: by hand {by_hand:g}, autograd {by_autograd:g}, differences {by_differences:.7f}")
    return abs(by_autograd - by_hand), abs(by_differences - by_hand)


# %% 2. The graph that backward() walks
def print_graph() -> list[str]:
    """Print what was recorded for (a·b + sin a)², each node once, the last operation first; return the nodes' names.

    A leaf (a tensor you made, nothing computed it) ends in AccumulateGrad, the node that adds to its .grad.
    """
    a = torch.tensor(2.0, requires_grad=True)
    b = torch.tensor(3.0, requires_grad=True)
    result = (a * b + a.sin()) ** 2

    print("2. the graph behind (a·b + sin a)²:")
    names, seen, to_visit = [], set(), [(result.grad_fn, 0)]
    while to_visit:
        node, depth = to_visit.pop()
        if node in seen:  # `a` is used twice, yet there is one `a` and one a.grad
            continue
        seen.add(node)
        names.append(node.name().removeprefix("torch::autograd::"))
        print("   " + "  " * depth + names[-1])
        to_visit += [(parent, depth + 1) for parent, _ in node.next_functions]
    return names


# %% 3. Gradients add up
def gradients_add_up() -> tuple[float, float]:
    """Call backward() twice without clearing in between, then once after clearing; return w.grad in both cases.

    Adding is on purpose: a tensor that is used in several places gets the sum of what each place asks for.
    """
    w = torch.tensor(1.0, requires_grad=True)
    (2 * w).backward()
    (3 * w).backward()
    not_cleared = w.grad.item()  # 2 + 3, although the last function's derivative is 3

    w.grad = None  # what optimizer.zero_grad() does for every parameter
    (3 * w).backward()
    cleared = w.grad.item()
    print(f"3. derivatives 2 and then 3: w.grad is {not_cleared:g}; cleared in between it is {cleared:g}")
    return not_cleared, cleared


# %% 4. Fit a line with nothing but gradients
def noisy_line(seed: int) -> tuple[Tensor, Tensor]:
    """Draw 100 points of y = 3x - 1 with noise of standard deviation 0.1; return x and y, each (100,)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.linspace(-1, 1, 100)
    return x, 3 * x - 1 + 0.1 * torch.randn(100, generator=generator)


def descend(x: Tensor, y: Tensor, steps: int, lr: float) -> tuple[Tensor, list[float]]:
    """Fit a line by gradient descent from (0, 0); return the path (steps + 1, 2) and the loss before each step."""
    slope = torch.zeros((), requires_grad=True)
    intercept = torch.zeros((), requires_grad=True)
    path, losses = [(0.0, 0.0)], []
    for _ in range(steps):
        loss = (slope * x + intercept - y).square().mean()
        loss.backward()
        with torch.no_grad():  # the update is not part of the model, so it must not be recorded
            for parameter in (slope, intercept):
                parameter -= lr * parameter.grad  # downhill is against the gradient
                parameter.grad = None  # forget section 3 here and watch the line run away
        path.append((slope.item(), intercept.item()))
        losses.append(loss.item())
    return torch.tensor(path), losses


def steepest_curvature(x: Tensor, y: Tensor) -> float:
    """Return the largest second derivative of the loss over all directions: the bend of its steepest wall."""
    hessian = torch.autograd.functional.hessian(lambda p: (p[0] * x + p[1] - y).square().mean(), torch.zeros(2))  # (2, 2)
    return torch.linalg.eigvalsh(hessian).max().item()


def draw_descent(x: Tensor, y: Tensor, path: Tensor, lr: float, limit: float):
    """Draw the walk over the loss, and the loss at four learning rates around the limit; return the figure."""
    import matplotlib.pyplot as plt

    figure, (walk, curves) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    slopes, intercepts = torch.linspace(-1, 5, 121), torch.linspace(-3, 1, 121)
    lines = slopes.view(-1, 1, 1) * x + intercepts.view(1, -1, 1)  # (slopes, intercepts, points): broadcasting
    height = (lines - y).square().mean(dim=2)  # (slopes, intercepts)
    levels = [0.02, 0.1, 0.3, 0.7, 1.3, 2.2, 3.5, 5, 8]
    walk.contour(slopes.numpy(), intercepts.numpy(), height.T.numpy(), levels=levels, linewidths=1)
    walk.plot(*path.T.numpy(), "o-", color="tab:red", markersize=4, linewidth=1.2, label=f"lr {lr:g}, from (0, 0)")
    walk.plot(3, -1, "k*", markersize=13, label="the truth (3, -1)")
    title = label("the loss from above: each ring is one height", "위에서 본 손실: 고리 하나가 같은 높이")
    walk.set(xlim=(-1, 5), ylim=(-3, 1), xlabel="slope", ylabel="intercept", title=title)
    walk.legend(loc="upper left")

    for share in (0.02, 0.2, 0.95, 1.05):
        _, losses = descend(x, y, steps=60, lr=share * limit)
        curves.plot(losses, label=f"lr {share * limit:.3g}")
    title = label("too slow, good, at the edge, beyond it", "너무 느림, 적당함, 한계 바로 앞, 한계 너머")
    curves.set(yscale="log", xlabel="step", ylabel="loss", title=f"{title} (lr < {limit:.2f})")
    curves.legend()
    return figure


def fit_line(steps: int, lr: float, seed: int) -> tuple[float, float, float]:
    """Recover y = 3x - 1 from noisy points; return slope, intercept and the largest lr that does not run away."""
    x, y = noisy_line(seed)
    path, losses = descend(x, y, steps, lr)
    slope, intercept = path[-1].tolist()
    limit = 2 / steepest_curvature(x, y)  # beyond it, each step lands higher up the opposite wall
    print(f"4. y = {slope:.3g} x {intercept:+.3g} (the truth: y = 3 x - 1), loss {losses[0]:.3g} → {losses[-1]:.3g}")
    print(f"   a learning rate above {limit:.2f} would run away")
    save_figure(draw_descent(x, y, path, lr, limit), __file__, "descent")
    return slope, intercept, limit


# %% 5. Stop recording, and the error everyone meets
def stop_recording() -> str:
    """Show no_grad() and detach(), then ask for gradients of what was never recorded; return PyTorch's answer."""
    w = torch.ones(3, requires_grad=True)
    with torch.no_grad():
        unrecorded = w * 2  # for evaluation: nothing is written down, so memory and time are saved
    detached = (w * 2).detach()  # the same numbers, cut off from their history
    print(f"5. requires_grad: computed in no_grad() {unrecorded.requires_grad}, detached {detached.requires_grad}")
    try:
        unrecorded.sum().backward()  # no record, no way back
    except RuntimeError as error:
        message = str(error).splitlines()[0]
    print(f'   "{message}"')
    print("   read: nothing in this result leads back to a tensor with requires_grad=True")
    return message


# %% 6. The derivative of a derivative
def derivative_of_derivative(at: float = 3.0) -> tuple[float, float]:
    """Differentiate x³ twice, which gives 3x² and 6x: create_graph=True records the first differentiation as well."""
    x = torch.tensor(at, requires_grad=True)
    (first,) = torch.autograd.grad(x**3, x, create_graph=True)
    (second,) = torch.autograd.grad(first, x)
    print(f"6. x³ at {at:g}: the slope is {first.item():g}, and the slope's own slope is {second.item():g}")
    return first.item(), second.item()


# %% 7. An operation of your own
class Softplus(torch.autograd.Function):
    """log(1 + eˣ), a smooth max(0, x), with its derivative written by hand: the sigmoid 1 / (1 + e⁻ˣ)."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.log1p(torch.exp(x))

    @staticmethod
    def backward(ctx, upstream: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return upstream * torch.sigmoid(x)  # the chain rule: what arrives from above × the slope here


def verify_softplus() -> float:
    """Hold Softplus against finite differences and PyTorch's own; return the largest difference from the latter."""
    x = torch.linspace(-4, 4, 33, dtype=torch.float64, requires_grad=True)  # gradcheck needs float64's 16 digits
    ours, theirs = Softplus.apply(x), F.softplus(x)
    (our_gradient,) = torch.autograd.grad(ours.sum(), x)
    (their_gradient,) = torch.autograd.grad(theirs.sum(), x)
    difference = max((ours - theirs).abs().max().item(), (our_gradient - their_gradient).abs().max().item())
    check(torch.autograd.gradcheck(Softplus.apply, x, raise_exception=False), "Softplus.backward is not forward's derivative")
    print(f"7. our softplus against PyTorch's: largest difference {difference:.1e}; gradcheck agrees")
    return difference


# %% All of it, in order
def main(steps: int = 200, lr: float = 0.2, seed: int = 0) -> dict[str, float]:
    """Differentiate by hand and by machine, then learn a line from gradients.

    Args:
        steps: Gradient-descent steps for the line.
        lr: Learning rate: how far one step goes.
        seed: Seed of the noise on the points.
    """
    check(steps > 0, f"--steps {steps}: at least one step is needed")
    autograd_error, differences_error = derivative_three_ways()
    print_graph()
    gradients_add_up()
    slope, intercept, limit = fit_line(steps, lr, seed)
    stop_recording()
    derivative_of_derivative()
    softplus_difference = verify_softplus()

    line_error = max(abs(slope - 3), abs(intercept + 1))
    check(line_error < 0.1, f"the line is off by {line_error:.3g}: more --steps, or an --lr below {limit:.2f}?")
    return {
        "autograd_error": autograd_error,
        "differences_error": differences_error,
        "line_error": line_error,
        "largest_lr": limit,
        "softplus_difference": softplus_difference,
    }


if __name__ == "__main__":
    run(main)
