"""Convolution · 합성곱

A convolution looks at a picture through a small window, asks the same question at every place, and writes the answers down as a
new picture. The question is a handful of numbers, the kernel; one can choose them by hand, or learn them.
합성곱은 작은 창으로 그림을 들여다보며 모든 자리에서 같은 질문을 하고, 그 답을 새 그림으로 적는다. 질문은 몇 개 안 되는 수, 곧
커널이다. 커널은 손으로 정할 수도 있고 학습할 수도 있다.

You will
  1. write the convolution as plain loops, as one matrix product, and call PyTorch's: equal, gradients too, and timed
  2. find out that it is not a convolution, and meet the error everyone meets with a photo
  3. count the weights that a dense layer would need for the same
  4. move a picture, and see the answer move with it; except where the padding shows
  5. draw what classic kernels see in a photo
  6. let gradient descent find hidden kernels from pictures alone, and see that photos teach them slowly

Before     02_neural_networks/mlp.py
Run        python -m study run conv_layers         (about 5 s on one CPU core, after importing torch)
You see    loops take thousands of times as long; kernels recovered; kernels.png, learned.png
Try next   --size 5: 25 weights learn what 9 could do. First guess what becomes of the other 16; then look at learned.png
Theory     notes/en/04_cnn.md · notes/ko/04_cnn.md
Practise   python -m study check 04
"""

import timeit
from itertools import pairwise, product
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.lesson import check, run
from utils.plotting import label, save_figure

Photo = Literal["china", "flower", "grace_hopper"]
KERNELS = {  # those whose numbers sum to 1 keep the brightness; those that sum to 0 answer 0 wherever nothing changes
    "blur": [[1 / 16, 2 / 16, 1 / 16], [2 / 16, 4 / 16, 2 / 16], [1 / 16, 2 / 16, 1 / 16]],
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "emboss": [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]],
    "Laplacian": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    "Sobel x": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],  # right minus left: upright edges
    "Sobel y": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],  # below minus above: level edges
}
HIDDEN = ("Sobel x", "sharpen", "emboss")  # what section 6 has to find


def kernels(*names: str) -> Tensor:
    """Return some of KERNELS as the weight of a layer that looks at grey pictures, (kernels, 1, 3, 3)."""
    return torch.tensor([KERNELS[name] for name in names], dtype=torch.float32).unsqueeze(1)


def load_photo(name: Photo) -> tuple[Tensor, Tensor]:
    """Return a photo of scikit-learn's, or matplotlib's "grace_hopper", 0 to 1: (1, 3, h, w), and in grey (1, 1, h, w)."""
    import matplotlib.pyplot as plt
    from matplotlib.cbook import get_sample_data
    from sklearn.datasets import load_sample_image

    pixels = plt.imread(get_sample_data("grace_hopper.jpg")) if name == "grace_hopper" else load_sample_image(f"{name}.jpg")
    photo = torch.tensor(pixels).permute(2, 0, 1).unsqueeze(0) / 255  # (h, w, 3), the colours last → (1, 3, h, w)
    return photo, F.conv2d(photo, torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1))  # 1x1, as eyes weigh it


# %% 1. Three ways to the same numbers
def by_loops(x: Tensor, weight: Tensor) -> Tensor:
    """Slide the window: x (n, channels, h, w), weight (outs, channels, k, k) → (n, outs, h - k + 1, w - k + 1)."""
    pixels, weights = x.tolist(), weight.tolist()  # Python's numbers are quicker one by one
    size = weight.shape[-1]
    out = x.new_empty(len(x), len(weight), x.shape[2] - size + 1, x.shape[3] - size + 1)
    for b, o, i, j in product(*map(range, out.shape)):
        window = product(*map(range, weight.shape[1:]))  # all channels, and k rows and columns of each
        out[b, o, i, j] = sum(pixels[b][c][i + u][j + v] * weights[o][c][u][v] for c, u, v in window)
    return out


def gradients_by_loops(x: Tensor, weight: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    """Turn d loss / d out into d loss / d x and d loss / d weight: every product pixel · weight gives something to both."""
    pixels, weights, ups = x.tolist(), weight.tolist(), upstream.tolist()
    grad_x, grad_weight = torch.zeros_like(x).tolist(), torch.zeros_like(weight).tolist()
    for b, o, i, j in product(*map(range, upstream.shape)):
        for c, u, v in product(*map(range, weight.shape[1:])):
            grad_x[b][c][i + u][j + v] += ups[b][o][i][j] * weights[o][c][u][v]
            grad_weight[o][c][u][v] += ups[b][o][i][j] * pixels[b][c][i + u][j + v]  # shared: it adds up over all places
    return torch.tensor(grad_x, dtype=x.dtype), torch.tensor(grad_weight, dtype=x.dtype)


def by_unfold(x: Tensor, weight: Tensor) -> Tensor:
    """Lay every window out as a column; then one matrix product does all places at once."""
    columns = F.unfold(x, weight.shape[2:])  # (n, channels · k · k, places): a pixel is copied into each window that it is in
    out = weight.flatten(start_dim=1) @ columns  # (outs, channels · k · k) @ (n, channels · k · k, places) → (n, outs, places)
    return out.unflatten(2, (x.shape[2] - weight.shape[2] + 1, -1))


def compare_ways(dtype: torch.dtype, size: int, seed: int) -> tuple[float, float]:
    """Do all three, gradients too; return the largest relative difference, and how many times as long as conv2d loops take."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (4, 3, size, size), (8, 3, 3, 3), (4, 8, size - 2, size - 2)
    x, weight, upstream = (torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes)

    def with_autograd(out: Tensor) -> tuple[Tensor, ...]:
        return out, *torch.autograd.grad(out, (x, weight), upstream)

    ways = {
        "loops": lambda: (by_loops(x, weight), *gradients_by_loops(x, weight, upstream)),
        "unfold": lambda: with_autograd(by_unfold(x, weight)),
        "conv2d": lambda: with_autograd(F.conv2d(x, weight)),
    }
    found = {name: way() for name, way in ways.items()}
    seconds = {name: min(timeit.repeat(way, number=1, repeat=1 if name == "loops" else 30)) for name, way in ways.items()}
    pairs = [pair for name in ("loops", "unfold") for pair in zip(found[name], found["conv2d"], strict=True)]
    difference = max(((ours - right).abs().max() / right.abs().max()).item() for ours, right in pairs)
    loops, unfold = (seconds[name] / seconds["conv2d"] for name in ("loops", "unfold"))
    told = f"loops take {loops:,.0f} times as long as conv2d, unfold {unfold:.1f}"
    print(f"1. {str(dtype)[6:]}: the same to {difference:.0e} of the largest, gradients too; {told}")
    return difference, loops


# %% 2. It is not a convolution; and the error everyone meets
def meet_conventions(photo: Tensor) -> tuple[Tensor, str]:
    """Return what a kernel makes of one bright pixel (3, 3), and PyTorch's answer to a photo as picture files hold it."""
    answer = F.conv2d(F.pad(torch.ones(1, 1, 1, 1), (2, 2, 2, 2)), kernels("emboss"))[0, 0]  # (1, 1, 5, 5) → (3, 3)
    print(f"2. of one bright pixel emboss makes {answer.int().tolist()}, itself turned by 180°: conv2d is cross-correlation")
    try:
        nn.Conv2d(3, 8, kernel_size=3)(photo.permute(0, 2, 3, 1))  # (1, height, width, 3)
    except RuntimeError as error:
        print(f'   "{error}"\n   read: the colours come second, (batch, 3, height, width); in a picture file they come last')
        return answer, str(error)


# %% 3. What the same would cost as a dense layer
def compare_with_dense() -> tuple[int, int, Tensor]:
    """Return the parameters of a convolution and of a dense layer; and the matrix (36, 64) that does a small convolution."""
    small = sum(parameter.numel() for parameter in nn.Conv2d(3, 16, kernel_size=3).parameters())  # 16 · (3 · 3 · 3 + 1)
    dense = (3 * 32 * 32 + 1) * 16 * 30 * 30  # every output from every number, and a bias
    weight = torch.arange(1.0, 10).view(1, 1, 3, 3)
    matrix = torch.autograd.functional.jacobian(lambda x: F.conv2d(x, weight), torch.zeros(1, 1, 8, 8)).view(36, 64)
    print(f"3. 3 channels of 32x32 → 16 of 30x30: {small} parameters; a dense layer would have {dense:,}")
    print(f"   the same as a matrix {tuple(matrix.shape)}: {len(matrix.nonzero())} numbers are not 0, and only 9 are different")
    return small, dense, matrix


# %% 4. Move the picture, and the answer moves
def compare_moving(grey: Tensor, padding_mode: str, rows: int, layers: int, seed: int) -> Tensor:
    """Move and compute, compute and move; return how far each row's answers are apart (h,), as a share of the largest answer."""
    torch.manual_seed(seed)
    channels = [1] + [8] * layers
    parts = [nn.Conv2d(*pair, kernel_size=3, padding=1, padding_mode=padding_mode) for pair in pairwise(channels)]
    network = nn.Sequential(*[part for layer in parts for part in (layer, nn.ReLU())]).double()
    with torch.no_grad():
        answer, of_moved = (network(picture) for picture in (grey.double(), grey.double().roll(rows, dims=2)))
    apart = (of_moved - answer.roll(rows, dims=2)).abs().amax(dim=(0, 1, 3)) / answer.max()  # (h,)
    told = f"{(apart > 1e-9).sum()} of {len(apart)} rows differ, by up to {apart.max():.0%}"
    print(f"4. moved by {rows} rows, padding {padding_mode:8}: {told}")
    return apart


# %% 5. What classic kernels see
def draw_kernels(photo: Tensor, grey: Tensor) -> Tensor:
    """Draw a photo and what each kernel makes of it; return the answers (kernels, h - 2, w - 2)."""
    import matplotlib.pyplot as plt

    answers = F.conv2d(grey, kernels(*KERNELS))[0]  # (1, 1, h, w) → (6, h - 2, w - 2): six questions at once
    edges = answers[-2:].square().sum(dim=0).sqrt()  # how steep, in whatever direction
    figure, axes = plt.subplots(2, 4, figsize=(13, 5.2), layout="constrained", subplot_kw={"xticks": [], "yticks": []})
    titles = [label("photo", "사진"), *KERNELS, "√(x² + y²)"]
    for axis, title, picture in zip(axes.flat, titles, [photo[0].permute(1, 2, 0), *answers, edges], strict=True):
        axis.imshow(picture.numpy(), cmap="gray", vmin=0 if picture.mean() > 0.1 else -1, vmax=1)  # answers below 0 are dark
        axis.set_title(title)
    save_figure(figure, __file__, "kernels")
    return answers


# %% 6. Kernels that nobody chose
def cut(grey: Tensor, count: int, seed: int) -> Tensor:
    """Cut random squares out of a picture (1, 1, h, w): (count, 1, 24, 24)."""
    corners = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * (torch.tensor(grey.shape[2:]) - 23)
    return torch.cat([grey[:, :, i : i + 24, j : j + 24] for i, j in corners.int().tolist()])


def learn(inputs: Tensor, targets: Tensor, size: int, steps: int, lr: float, seed: int) -> Tensor:
    """Look for kernels that turn inputs (n, 1, h, w) into targets; return them at every step (steps + 1, outs, 1, size, size)."""
    torch.manual_seed(seed)
    layer = nn.Conv2d(1, targets.shape[1], size, bias=False)
    optimizer = torch.optim.Adam(layer.parameters(), lr=lr)
    path = [layer.weight.detach().clone()]
    for _ in range(steps):
        loss = F.mse_loss(layer(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        path.append(layer.weight.detach().clone())
    return torch.stack(path)


def draw_learned(off: dict[str, Tensor], hidden: Tensor, learned: Tensor) -> None:
    """Draw how far the kernels are off at every step; then the hidden ones, and those that were learned."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplot_mosaic("cc012;cc345", figsize=(11, 4.4), layout="constrained")
    for name, curve in off.items():
        axes["c"].semilogy(curve.numpy(), label=name)
    axes["c"].legend(title=label("largest error of a weight, by step", "가중치의 최대 오차, 스텝별"))
    titles = *HIDDEN, *[label("learned", "학습한 커널")] * 3
    for place, title, kernel in zip("012345", titles, [*hidden, *learned], strict=True):
        axes[place].imshow(kernel[0].numpy(), cmap="coolwarm", vmin=-5, vmax=5)
        axes[place].set(title=title, xticks=[], yticks=[])
    save_figure(figure, __file__, "learned")


# %% All of it, in order
def main(photo: Photo = "china", size: int = 3, steps: int = 300, lr: float = 0.1, seed: int = 0) -> dict[str, float]:
    """Build the convolution three times, look at a photo through kernels, and let gradient descent find hidden ones.

    Args:
        photo: The photo to look at, and to learn from.
        size: Height and width of the kernels that are learned; the hidden ones are 3x3.
        steps: Optimizer steps, each on 64 squares of 24x24 pixels.
        lr: Adam's learning rate.
        seed: Seed of everything that is drawn.
    """
    check(size in (3, 5, 7, 9) and steps > 0, f"--size {size} --steps {steps}: needed are 3, 5, 7 or 9, and at least one step")
    ways = [compare_ways(dtype, 16, seed) for dtype in (torch.float32, torch.float64)]
    check(ways[0][0] < 1e-5 and ways[1][0] < 1e-12, "loops, unfold and conv2d do not give the same numbers")
    picture, grey = load_photo(photo)
    meet_conventions(picture)
    small, dense, _ = compare_with_dense()
    apart = {mode: compare_moving(grey[:, :, :64, :64], mode, 16, layers=3, seed=seed) for mode in ("circular", "zeros")}
    draw_kernels(picture, grey)
    hidden = F.pad(kernels(*HIDDEN), ((size - 3) // 2,) * 4)  # (3, 1, size, size): zeros round the 3x3
    off, generator = {}, torch.Generator().manual_seed(seed)
    for name, squares in (("noise", torch.rand(64, 1, 24, 24, generator=generator)), ("photo", cut(grey, 64, seed))):
        inputs = squares - squares.mean()
        errors = 0.05 * torch.randn(64, 3, 25 - size, 25 - size, generator=generator)  # nobody measures without
        path = learn(inputs, F.conv2d(inputs, hidden) + errors, size, steps, lr, seed)
        off[name] = (path - hidden).abs().amax(dim=(1, 2, 3, 4))
    draw_learned(off, hidden, path[-1])
    new = cut(load_photo("flower" if photo == "grace_hopper" else "grace_hopper")[1], 64, seed)  # another photo
    answers, learned = F.conv2d(new, hidden), F.conv2d(new, path[-1])  # (64, 3, 25 - size, 25 - size)
    error = (learned - answers).square().mean().item()
    baseline = answers.var(dim=(0, 2, 3)).mean().item()  # the error of always answering the mean
    told = f"photo {off['photo'][0]:.1f} → {off['photo'][-1]:.3f}, noise {off['noise'][0]:.1f} → {off['noise'][-1]:.3f}"
    print(f"6. largest error of a weight: {told}; error on another photo {error:.0e}, of answering the mean {baseline:.0e}")
    check(error < 0.01 * baseline, f"error {error:.1e} on another photo, of answering the mean {baseline:.1e}: more --steps?")
    results = {"difference": ways[0][0], "loops_ratio": ways[0][1], "error": error, "baseline_error": baseline}
    results |= {"parameters": small, "dense_parameters": dense}
    results |= {f"rows_off_{mode}": (rows > 1e-9).sum().item() for mode, rows in apart.items()}
    return results | {f"weights_off_{name}": curve[-1].item() for name, curve in off.items()}


if __name__ == "__main__":
    run(main)
