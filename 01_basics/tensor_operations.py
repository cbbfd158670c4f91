"""Tensor operations · 텐서 연산

A tensor is a block of numbers of one kind together with a shape that says how to read them. Nearly everything in deep
learning is done to whole tensors at once, and nearly every mistake in it is a mistake about a shape.
텐서는 같은 종류의 수를 한 줄로 늘어놓은 메모리에 '어떤 모양으로 읽을지'를 더한 것이다. 딥러닝의 계산은 거의 모두 텐서
전체에 한꺼번에 이루어지고, 실수도 거의 모두 모양(shape)에서 나온다.

You will
  1. make tensors, and meet the kinds of numbers they hold
  2. pick out parts of them
  3. combine different shapes (broadcasting), and see where that goes wrong without a word
  4. look at the memory behind a tensor: views and strides
  5. see which names share one memory, a NumPy array among them
  6. multiply matrices, read the error everyone meets aloud, and write products as einsum
  7. do the same on whatever device there is
  8. measure what a Python loop costs

Before     Python itself: variables, functions, lists
Run        python -m study run tensor_operations   (about 1 s on one CPU core, after importing torch)
You see    eight short printouts, the last a loop that takes hundreds of times longer than it must; broadcasting.png, strides.png
Try next   --points 240, four times as many: first guess how the loop's time and the ratio change, then look
Theory     notes/en/01_basics.md · notes/ko/01_basics.md
Practise   python -m study check 01
"""

from timeit import timeit

import numpy as np
import torch
from torch import Tensor

from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure


# %% 1. Making tensors; the kinds of numbers
def make_tensors() -> dict[str, Tensor]:
    """Make tensors from lists, by rule and by chance; meet the limits of each kind of number. Return them by name."""
    made = {
        "from a list": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),  # float32: PyTorch's usual kind (dtype)
        "whole numbers": torch.tensor([1, 2, 3]),  # int64: labels and indices
        "true or false": torch.tensor([1, 2, 3]) > 1,  # bool: the result of a comparison
        "zeros": torch.zeros(2, 3),  # likewise ones, and full(shape, number)
        "counting": torch.arange(6),  # 0 to 5: the end is not included, as in range(); linspace(0, 1, 5) includes it
        "by chance": torch.randn(2, 3, generator=torch.Generator().manual_seed(0)),  # around 0, the same every time
        "mixed": torch.tensor([1, 2]) + 0.5,  # int64 and a float give float32
        "overflow": torch.tensor([250], dtype=torch.uint8) + 10,  # uint8 counts to 255, then from 0 again
        "lost digit": torch.tensor(2.0**24) + 1,  # float32 keeps 24 binary digits, about 7 decimal ones
    }
    print("1. shape and dtype")
    for name, tensor in made.items():
        print(f"   {name:13}  {str(tuple(tensor.shape)):7} {str(tensor.dtype).removeprefix('torch.')}")
    print(f"   uint8 250 + 10 = {made['overflow'].item()}; float32 16777216 + 1 = {made['lost digit'].item():.0f}")
    return made


# %% 2. Picking out parts
def pick_parts() -> dict[str, Tensor]:
    """Index a table: a single number removes a dimension, a slice keeps it. Return the parts by expression."""
    t = torch.arange(12).view(3, 4)  # the numbers 0 to 11 in 3 rows of 4
    parts = {
        "t[1]": t[1],  # (4,) the second row: counting starts at 0
        "t[:, 1]": t[:, 1],  # (3,) the second column; ":" means all
        "t[:, 1:2]": t[:, 1:2],  # (3, 1) the same numbers, still a column
        "t[-1, -1]": t[-1, -1],  # () one number; .item() makes it a Python number
        "t[[2, 0]]": t[[2, 0]],  # (2, 4) a list of rows, in that order
        "t[t > 8]": t[t > 8],  # (3,) where a condition holds
        "t.sum(dim=0)": t.sum(dim=0),  # (4,) add along dimension 0, the rows: one sum per column
    }
    print(f"2. parts of {t.tolist()}")
    for expression, part in parts.items():
        print(f"   {expression:13}{str(tuple(part.shape)):7} {part.tolist()}")
    return parts


# %% 3. Broadcasting
def broadcast(device: torch.device) -> tuple[Tensor, float, float]:
    """Add a column to a row; then measure an error that is wrong because two shapes fitted by accident.

    The rule: write the shapes right-aligned. Two sizes go together if they are equal or one of them is 1 or missing;
    the 1 is stretched. Return the table (3, 4), the mean squared error with a wrong shape, and the right one.
    """
    column = torch.tensor([[0], [10], [20]], device=device)  # (3, 1)
    row = torch.tensor([1, 2, 3, 4], device=device)  # (4,), read as (1, 4)
    table = column + row  # (3, 4)
    print(f"3. {tuple(column.shape)} + {tuple(row.shape)} → {tuple(table.shape)}: {table.tolist()}")

    prediction = torch.tensor([[1.0], [2.0], [3.0]], device=device)  # (3, 1), as a network gives it
    target = torch.tensor([1.0, 2.0, 3.0], device=device)  # (3,), as a data set gives it
    wrong = (prediction - target).square().mean().item()  # (3, 1) - (3,) → (3, 3): every pair, and no error message
    right = (prediction - target.unsqueeze(1)).square().mean().item()  # unsqueeze: (3,) → (3, 1)
    print(f"   a perfect prediction (3, 1) has error {right:g}; held against a target (3,) it seems to have {wrong:.2f}")
    return table, wrong, right


# %% 4. The memory behind a tensor
def views_and_strides(device: torch.device) -> tuple[bool, str]:
    """Turn a table on its side without moving a number, and see view() refuse what reshape() copies.

    A stride says how many places in memory one step along that dimension is. Return whether both share memory, and the error.
    """
    t = torch.arange(6, device=device).view(2, 3)  # view: the same memory, read in another shape
    turned = t.T  # (3, 2) transposed: rows become columns
    shared = turned.data_ptr() == t.data_ptr()  # both begin at the same address
    print(f"4. t (2, 3) has strides {t.stride()}, t.T (3, 2) has {turned.stride()}; one memory: {shared}")
    try:
        turned.view(6)  # no single stride reads 0 3 1 4 2 5 from a memory that holds 0 1 2 3 4 5
    except RuntimeError as error:
        message = str(error).split(" (")[0]
    print(f'   t.T.view(6): "{message}"')
    print(f"   t.T.reshape(6) copies instead: {turned.reshape(6).tolist()}, and so does t.T.contiguous().view(6)")
    return shared, message


def draw_grid(axis, numbers: Tensor, colours: Tensor | list[list[int]], title: str) -> None:
    """Draw a table as coloured squares, one integer of `colours` (0 to 11) for each number."""
    axis.pcolormesh(colours, cmap="Set3", vmin=-0.5, vmax=11.5, edgecolors="white", linewidth=3)
    for (i, j), number in np.ndenumerate(numbers.numpy()):
        axis.text(j + 0.5, i + 0.5, number, ha="center", va="center", fontsize=13)
    axis.set(title=title, aspect="equal", ylim=(len(numbers), 0), xticks=[], yticks=[], frame_on=False)  # first row on top


def draw_figures() -> None:
    """Draw column + row = table (grey: read again), and one memory read as two tables (colour: the place in memory)."""
    import matplotlib.pyplot as plt

    column, row = torch.tensor([[0], [10], [20]]), torch.tensor([1, 2, 3, 4])
    figure, axes = plt.subplots(1, 3, figsize=(11, 2.8), layout="constrained")
    draw_grid(axes[0], column.expand(3, 4), [[4, 8, 8, 8]] * 3, "column (3, 1)")  # 8 is grey
    draw_grid(axes[1], row.expand(3, 4), [[5] * 4, [8] * 4, [8] * 4], "+   row (4,), read as (1, 4)")
    draw_grid(axes[2], column + row, [[6] * 4] * 3, "=   table (3, 4)")
    figure.supxlabel(label("grey: read again, not stored again", "회색: 다시 읽을 뿐, 다시 저장하지 않는다"), fontsize=11)
    save_figure(figure, __file__, "broadcasting")

    t = torch.arange(6).view(2, 3)
    figure, axes = plt.subplots(2, 2, figsize=(11, 4), height_ratios=(1, 2.6), layout="constrained")
    draw_grid(axes[0, 0], t.view(1, 6), t.view(1, 6), label("memory of t and t.T", "t와 t.T의 메모리"))
    draw_grid(axes[0, 1], t.T.reshape(1, 6), t.T.reshape(1, 6), label("memory of t.T.contiguous()", "t.T.contiguous()의 메모리"))
    draw_grid(axes[1, 0], t, t, "t: shape (2, 3), stride (3, 1)")
    draw_grid(axes[1, 1], t.T, t.T, "t.T: shape (3, 2), stride (1, 3)")
    save_figure(figure, __file__, "strides")


# %% 5. Two names, one tensor; the bridge to NumPy
def share_and_copy() -> tuple[Tensor, dict[str, float]]:
    """Make `b` from `a` in six ways, then fill `a` with 100; return `a`, and b[0] afterwards, 1 or 100, by way."""
    a = torch.from_numpy(np.array([1.0, 2.0, 3.0]))  # float64, NumPy's usual kind; networks want .float()
    ways = {
        "b = a": a,  # a second name for one tensor
        "b = a[:2]": a[:2],  # a slice is a view: the same memory
        "b = a[[0, 1]]": a[[0, 1]],  # picking with a list copies
        "b = a.clone()": a.clone(),  # a copy, said aloud
        "b = a.numpy()": a.numpy(),  # NumPy reads the same memory
        "b = torch.tensor(a.numpy())": torch.tensor(a.numpy()),  # from_numpy() shares an array's memory, tensor() copies it
    }
    a.fill_(100)  # a trailing underscore means in place: the tensor itself is changed
    after = {way: b[0].item() for way, b in ways.items()}
    print(f"5. a {a.dtype} from NumPy; b[0] was 1, and after a.fill_(100):")
    for way, number in after.items():
        print(f"   {way:28} {number:g}")
    return a, after


# %% 6. Products, and the error everyone meets
def multiply(device: torch.device, seed: int) -> tuple[str, float]:
    """Multiply matrices, commit the shape error everyone meets, and write four products as einsum.

    Einsum names dimensions by letters, and sums those missing after the arrow. Return the error and the largest difference.
    """
    batch = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(seed)).to(device)  # five (2, 3) matrices
    a, b = batch[0], batch[1]
    try:
        a @ b  # @ multiplies matrices: (n, k) @ (k, m) → (n, m)
    except RuntimeError as error:
        message = str(error)
    print(f'6. (2, 3) @ (2, 3): "{message}"')
    print("   read: the two inner sizes must be equal, and 3 is not 2; a @ b.T, (2, 3) @ (3, 2), works")
    pairs = (
        (torch.einsum("ik,jk->ij", a, b), a @ b.T),  # (2, 2): every row of a with every row of b
        (torch.einsum("ij,ij->", a, b), (a * b).sum()),  # (): number by number, then all added up
        (torch.einsum("i,j->ij", a[0], b[0]), a[0].unsqueeze(1) * b[0]),  # (3, 3): every number with every number
        (torch.einsum("nij,kj->nik", batch, b), batch @ b.T),  # (5, 2, 2): five products at once
    )
    difference = max((ours - theirs).abs().max().item() for ours, theirs in pairs)
    print(f"   four products by einsum and by @, * and sum: largest difference {difference:.1e}")
    return message, difference


# %% 7. Devices
def same_on_every_device(device: torch.device, seed: int) -> float:
    """Multiply on the CPU and on `device`; return the largest difference (0 where they are the same, else rounding)."""
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(seed))
    there = x.to(device)  # a tensor on a GPU works with tensors on the same GPU only
    difference = (x @ x - (there @ there).cpu()).abs().max().item()
    print(f"7. x @ x on the {device.type} and on the cpu: largest difference {difference:.1e}")
    return difference


# %% 8. What a Python loop costs
def pairwise_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the distance of every row of a (n, d) to every row of b (m, d): (n, m)."""
    return (a.unsqueeze(1) - b).square().sum(dim=2).sqrt()  # (n, 1, d) - (m, d) → (n, m, d), summed over d → (n, m)


def pairwise_distances_in_a_loop(a: Tensor, b: Tensor) -> Tensor:
    """The same, pair by pair: each operation costs microseconds of preparation for three numbers of work."""
    distances = torch.empty(len(a), len(b), device=a.device)
    for i in range(len(a)):
        for j in range(len(b)):
            distances[i, j] = (a[i] - b[j]).square().sum().sqrt()
    return distances


# %% All of it, in order
def main(points: int = 60, device: str = "auto", seed: int = 0) -> dict[str, float]:
    """Make, index, broadcast, reshape, multiply, share and time tensors.

    Args:
        points: How many points to find all distances of, in the loop and in one expression.
        device: auto, cpu, cuda or mps.
        seed: Seed of the random numbers.
    """
    check(points > 0, f"--points {points}: at least one point is needed")
    where = pick_device(device)
    make_tensors()
    pick_parts()
    _, wrong, right = broadcast(where)
    views_and_strides(where)
    draw_figures()
    share_and_copy()
    _, einsum_difference = multiply(where, seed)
    device_difference = same_on_every_device(where, seed)
    x = torch.rand(points, 3, generator=torch.Generator().manual_seed(seed)).to(where)
    difference = (pairwise_distances_in_a_loop(x, x) - pairwise_distances(x, x)).abs().max().item()
    check(difference < 1e-5, f"the loop and the expression disagree by {difference:.2g}")  # and the slow first call is over
    loop = timeit(lambda: pairwise_distances_in_a_loop(x, x).cpu(), number=1)  # seconds; a GPU works on behind our back,
    vectorised = timeit(lambda: pairwise_distances(x, x).cpu(), number=20) / 20  # and .cpu() waits for it
    print(f"8. {points}² distances: loop {loop * 1e3:.0f} ms, one expression {vectorised * 1e3:.2f} ms")
    return {
        "error_wrong_shape": wrong,
        "error_right_shape": right,
        "einsum_difference": einsum_difference,
        "device_difference": device_difference,
        "loop_over_vectorised": loop / vectorised,
    }


if __name__ == "__main__":
    run(main)
