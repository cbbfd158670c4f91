"""Convolution arithmetic · 합성곱의 산수

Padding, stride, dilation and groups decide how large the answer is, how much of the picture each number has seen, and what it
costs. All of it can be worked out on paper; here every formula is held against real layers.
패딩, 스트라이드, 팽창, 그룹은 출력의 크기와 출력의 수 하나가 본 입력의 범위, 그리고 계산량을 정한다. 모두 종이 위에서 계산할 수
있다. 이 레슨은 공식을 하나하나 실제 층과 맞춰 본다.

You will
  1. pad in four ways, and see which one darkens the border; take stride and dilation apart
  2. predict the output size of hundreds of layers, and meet the error everyone meets behind flatten
  3. split a layer into groups, a 3x3 convolution into two cheap ones, and find a dense layer in a 1x1 convolution
  4. turn a convolution round: the transposed one is its gradient, and leaves a checkerboard
  5. pool by hand, and see which pixel gets the gradient
  6. work out receptive fields, and measure them

Before     04_cnn/conv_layers.py
Run        python -m study run conv_arithmetic     (about 2 s on one CPU core, after importing torch)
You see    every formula right, every pair equal; 7.9 times fewer products; checkerboard.png, receptive_field.png
Try next   --kernel 4: first guess what becomes of the checkerboard; then look at checkerboard.png
Theory     notes/en/04_cnn.md · notes/ko/04_cnn.md
Practise   python -m study check 04
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from utils.lesson import check, run
from utils.plotting import save_figure

STACKS = {  # (kernel size, stride, dilation) of one layer after another
    "five 3x3": [(3, 1, 1)] * 5,
    "one 11x11": [(11, 1, 1)],
    "five 3x3, three with stride 2": [(3, 2, 1), (3, 1, 1), (3, 2, 1), (3, 1, 1), (3, 2, 1)],
    "four 3x3, dilated by 1, 2, 4, 8": [(3, 1, 1), (3, 1, 2), (3, 1, 4), (3, 1, 8)],
}


def apart(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference between two tensors; infinity if their shapes differ."""
    return (ours - theirs).abs().max().item() if ours.shape == theirs.shape else float("inf")


# %% 1. Padding, stride, dilation
def compare_padding(x: Tensor) -> tuple[float, dict[str, float]]:
    """Pad x (n, c, h, w) by hand; return how far that is from any layer's padding, and what each makes of a white corner."""
    weight, worst, corner = torch.ones(1, x.shape[1], 3, 3).to(x) / (9 * x.shape[1]), 0.0, {}  # a blur
    for mode in ("zeros", "reflect", "replicate", "circular"):
        layer = nn.Conv2d(x.shape[1], 1, kernel_size=3, padding=1, padding_mode=mode, bias=False).to(x)
        layer.load_state_dict({"weight": weight})
        padded = F.pad(x, (1, 1, 1, 1), mode="constant" if mode == "zeros" else mode)  # left, right, above, below
        worst = max(worst, apart(F.conv2d(padded, weight), layer(x)))
        corner[mode] = layer(torch.ones_like(x))[0, 0, 0, 0].item()
    print("1. the corner of a white picture, blurred: " + ", ".join(f"{mode} {value:.2f}" for mode, value in corner.items()))
    return worst, corner


def compare_steps(x: Tensor, weight: Tensor) -> tuple[float, float]:
    """Return how far a stride is from leaving answers out, and dilation from a larger kernel (outs, c, 5, 5) with holes."""
    holes = weight.new_zeros(*weight.shape[:2], 5, 5)
    holes[:, :, ::2, ::2] = weight  # it spans 5 pixels, and has 9 weights still
    strided = apart(F.conv2d(x, weight, stride=2), F.conv2d(x, weight)[:, :, ::2, ::2])
    return strided, apart(F.conv2d(x, weight, dilation=2), F.conv2d(x, holes))


# %% 2. Output sizes, and the error everyone meets
def output_size(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Work out height or width behind a convolution or a pooling."""
    span = dilation * (kernel - 1) + 1  # pixels from the window's first to its last
    return (size + 2 * padding - span) // stride + 1  # the steps it can take, and the place where it begins


def transposed_size(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Work out height or width behind a transposed convolution: the same, solved for the size, as if nothing was rounded off."""
    return (size - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding


def count_sizes() -> tuple[int, int]:
    """Hold both formulas against layers with many settings; return how many there were, and how many sizes were wrong."""
    tried = wrong = 0
    for size, kernel, stride, padding, dilation in product((7, 8, 12), (1, 2, 3, 5), (1, 2, 3), (0, 1, 2), (1, 2)):
        settings = {"stride": stride, "padding": padding, "dilation": dilation}
        layers = [(nn.Conv2d(1, 1, kernel, **settings), output_size)]
        layers.append((nn.ConvTranspose2d(1, 1, kernel, **settings), transposed_size))
        if padding <= kernel // 2:  # PyTorch pools no window that might lie in the padding alone
            layers.append((nn.MaxPool2d(kernel, **settings), output_size))
        for layer, formula in layers:
            side = formula(size, kernel, **settings)
            if side > 0:  # else the window is larger than the picture, and PyTorch refuses
                tried += 1
                wrong += layer(torch.zeros(1, 1, size, size)).shape != (1, 1, side, side)
    print(f"2. the output sizes of {tried} layers worked out: {wrong} are wrong")
    return tried, wrong


def meet_error() -> tuple[str, int, tuple[int, ...]]:
    """Return PyTorch's answer to a linear layer of the wrong size; then what LazyLinear counts, and AdaptiveAvgPool2d allows."""
    features = nn.Sequential(nn.Conv2d(1, 32, kernel_size=3, stride=2, padding=1), nn.ReLU())  # (n, 1, 28, 28) → (n, 32, 14, 14)
    try:
        nn.Sequential(features, nn.Flatten(), nn.Linear(32 * 28 * 28, 10))(torch.zeros(4, 1, 28, 28))
    except RuntimeError as error:
        message = str(error)
    lazy = nn.Sequential(features, nn.Flatten(), nn.LazyLinear(10))
    lazy(torch.zeros(4, 1, 28, 28))  # it gets its weights when the first batch comes
    adaptive = nn.Sequential(features, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32 * 4 * 4, 10))
    print(f'   "{message}"\n   read: of each picture {lazy[-1].in_features} numbers come, and Linear expects 25088.')
    print("   nn.LazyLinear counts them itself; nn.AdaptiveAvgPool2d(4) hands 4x4 on, whatever the size of the picture")
    return message, lazy[-1].in_features, tuple(adaptive(torch.zeros(4, 1, 50, 35)).shape)


# %% 3. Groups, and convolutions of 1x1
def compare_groups(x: Tensor) -> tuple[float, float]:
    """Return how far 4 groups are from a dense layer with zeros outside its blocks, and a 1x1 convolution from nn.Linear."""
    grouped = nn.Conv2d(8, 12, kernel_size=3, groups=4, bias=False).to(x)  # weight (12, 2, 3, 3): each group 2 → 3 channels
    dense = x.new_zeros(12, 8, 3, 3)
    for group in range(4):
        outs, ins = slice(3 * group, 3 * group + 3), slice(2 * group, 2 * group + 2)
        dense[outs, ins] = grouped.weight.detach()[outs]
    pointwise = nn.Conv2d(8, 5, kernel_size=1).to(x)
    linear = F.linear(x.movedim(1, 3), pointwise.weight.flatten(start_dim=1), pointwise.bias)  # (n, h, w, 8) → (n, h, w, 5)
    return apart(F.conv2d(x, dense), grouped(x)), apart(linear.movedim(3, 1), pointwise(x))


def count_products(*layers: nn.Module) -> tuple[int, int]:
    """Return how many weights layers have, and how many products they compute for 64 channels of 32x32, as PyTorch counts."""
    with FlopCounterMode(display=False) as counter:
        nn.Sequential(*layers)(torch.zeros(1, 64, 32, 32))
    return sum(layer.weight.numel() for layer in layers), counter.get_total_flops() // 2  # a product and a sum are two flops


# %% 4. Turned round
def by_stamping(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Let every place of x (n, ins, h, w) stamp its multiples of the kernels; weight (ins, outs, k, k), in PyTorch's order."""
    size = weight.shape[-1]
    out = x.new_zeros(len(x), weight.shape[1], *(transposed_size(side, size, stride) for side in x.shape[2:]))
    for i, j in product(*map(range, x.shape[2:])):
        rows, columns = slice(i * stride, i * stride + size), slice(j * stride, j * stride + size)
        out[:, :, rows, columns] += torch.einsum("nc,cokl->nokl", x[:, :, i, j], weight)  # stamps overlap where size > stride
    return out


def compare_transposed(x: Tensor, weight: Tensor, stride: int) -> tuple[float, float]:
    """Return how far conv_transpose2d is from stamping, and from the gradient with which conv2d answers x."""
    large = F.conv_transpose2d(x, weight, stride=stride)
    inputs = torch.zeros_like(large, requires_grad=True)
    (gradient,) = torch.autograd.grad(F.conv2d(inputs, weight, stride=stride), inputs, x)  # x is what comes from above
    return apart(by_stamping(x, weight, stride), large), apart(gradient, large)


def draw_checkerboard(kernel: int, stride: int) -> list[int]:
    """Enlarge a plain picture in three ways, and draw it; return how many different values each has inside."""
    import matplotlib.pyplot as plt

    plain, pictures = torch.ones(1, 1, 8, 8), {}
    for k in (kernel, 2 * stride):
        pictures[f"transposed, {k}x{k}, stride {stride}"] = F.conv_transpose2d(plain, torch.ones(1, 1, k, k), stride=stride)
    pictures["nearest, then 3x3"] = F.conv2d(F.interpolate(plain, scale_factor=stride), torch.ones(1, 1, 3, 3))
    figure, axes = plt.subplots(1, len(pictures), figsize=(11, 4), layout="constrained", squeeze=False)
    found = []
    for axis, (name, picture) in zip(axes[0], pictures.items(), strict=True):
        axis.imshow(picture[0, 0].numpy(), cmap="gray", vmin=0)
        axis.set(title=name, xticks=[], yticks=[])
        found.append(len(picture[0, 0, 2 * stride : -2 * stride, 2 * stride : -2 * stride].unique()))
    save_figure(figure, __file__, "checkerboard")
    print(f"4. different values in an enlarged plain picture: {dict(zip(pictures, found, strict=True))}")
    return found


# %% 5. Pooling
def compare_pooling(x: Tensor) -> tuple[list[float], list, list]:
    """Return how far max, average and global pooling by hand are from PyTorch's; max_pool2d's gradient of a tie, and amax's."""
    windows = x.unfold(2, 3, 2).unfold(3, 3, 2)  # (n, c, rows, columns, 3, 3): a view, nothing is copied
    pairs = [(windows.amax(dim=(4, 5)), F.max_pool2d(x, 3, stride=2)), (windows.mean(dim=(4, 5)), F.avg_pool2d(x, 3, stride=2))]
    pairs.append((x.mean(dim=(2, 3), keepdim=True), F.adaptive_avg_pool2d(x, 1)))
    tie = torch.ones(1, 1, 2, 2, requires_grad=True)
    gradients = [torch.autograd.grad(way(tie).sum(), tie)[0][0, 0].tolist() for way in (nn.MaxPool2d(2), torch.amax)]
    print(f"5. of four equal pixels, max_pool2d's gradient goes to {gradients[0]}, amax's to {gradients[1]}")
    return [apart(ours, theirs) for ours, theirs in pairs], *gradients


# %% 6. Receptive fields
def receptive_field(stack: list[tuple[int, int, int]]) -> tuple[int, int]:
    """Work out how many pixels, in a row, one output has seen, and how far apart the windows of two neighbours are."""
    seen, jump = 1, 1
    for kernel, stride, dilation in stack:
        seen += dilation * (kernel - 1) * jump  # the window's pixels are `jump` pixels of the picture apart
        jump *= stride
    return seen, jump


def measure_field(stack: list[tuple[int, int, int]]) -> Tensor:
    """Return the gradient of the middle output with respect to each pixel (101, 101): the paths that lead from there to here."""
    out = x = torch.zeros(1, 1, 101, 101, dtype=torch.float64, requires_grad=True)
    for kernel, stride, dilation in stack:
        out = F.conv2d(out, out.new_ones(1, 1, kernel, kernel), stride=stride, dilation=dilation)
    return torch.autograd.grad(out[0, 0, out.shape[2] // 2, out.shape[3] // 2], x)[0][0, 0]


def compare_fields() -> dict[str, tuple[int, int, float]]:
    """Return for each stack: pixels seen in a row, worked out and measured; and the share of the paths through the middle."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(STACKS), figsize=(13, 3.6), layout="constrained", subplot_kw={"xticks": [], "yticks": []})
    found = {}
    for axis, (name, stack) in zip(axes, STACKS.items(), strict=True):
        paths = measure_field(stack)
        rows = paths.sum(dim=1).nonzero().flatten()
        field = paths[rows[0] : rows[-1] + 1, rows[0] : rows[-1] + 1] / paths.sum()  # (seen, seen)
        middle = slice(len(field) // 4, -(len(field) // 4))  # half of the rows, and half of the columns, or a little more
        said, seen, share = found[name] = receptive_field(stack)[0], len(field), field[middle, middle].sum().item()
        axis.imshow(field.numpy(), cmap="magma", vmin=0)
        axis.set_title(name)
        print(f"6. {name}: {said} pixels in a row, measured {seen}; {share:.0%} of the paths in the middle")
    save_figure(figure, __file__, "receptive_field")
    return found


# %% All of it, in order
def main(kernel: int = 3, stride: int = 2, seed: int = 0) -> dict[str, float]:
    """Hold the arithmetic of convolutions against real layers.

    Args:
        kernel: Height and width of the transposed convolution's kernel.
        stride: Its stride.
        seed: Seed of all numbers and weights.
    """
    check(1 <= min(kernel, stride) and max(kernel, stride) <= 6, f"--kernel {kernel} --stride {stride}: needed are 1 to 6")
    torch.manual_seed(seed)
    x, weight = torch.randn(2, 8, 9, 11, dtype=torch.float64), torch.randn(8, 4, kernel, kernel, dtype=torch.float64)
    padding, _ = compare_padding(x)
    steps = compare_steps(x, torch.randn(4, 8, 3, 3, dtype=torch.float64))
    tried, wrong = count_sizes()
    meet_error()
    groups = compare_groups(x)
    depthwise, mix = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False), nn.Conv2d(64, 64, 1, bias=False)
    costs = [*count_products(nn.Conv2d(64, 64, 3, padding=1, bias=False)), *count_products(depthwise, mix)]
    print("3. 3x3: {:,} weights, {:,} products; depthwise and then 1x1: {:,} weights, {:,} products".format(*costs))
    values = draw_checkerboard(kernel, stride)
    worst = max(padding, *steps, *groups, *compare_transposed(x, weight, stride), *compare_pooling(x)[0])
    fields = compare_fields()
    check(worst < 1e-12, f"two things that should be equal differ by {worst:.0e}")
    check(wrong == 0 and all(said == seen for said, seen, _ in fields.values()), "a layer is not what the formulas say")
    return {"largest_difference": worst, "layers_tried": tried, "saving": costs[1] / costs[3], "checkerboard_values": values[0]}


if __name__ == "__main__":
    run(main)
