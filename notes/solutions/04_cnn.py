"""Solutions of stage 04, to read after your own attempt."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def weight_gradient(x: Tensor, upstream: Tensor) -> Tensor:
    # weight[o, c, u, v] met x[b, c, i + u, j + v] in out[b, o, i, j]: its gradient is a sum over b, i and j. Such a sum of
    # shifted products is a convolution of x by upstream, where the batch plays the channels: it is what is summed over.
    return F.conv2d(x.transpose(0, 1), upstream.transpose(0, 1)).transpose(
        0, 1
    )  # (channels, outs, k, k) → (outs, channels, k, k)


def merge_kernels(first: Tensor, second: Tensor) -> Tensor:
    # Place u of the first and place v of the second together reach pixel u + v, so the weights of all such pairs add up: that is
    # the true convolution of the two, the one that turns a kernel. F.conv2d does not turn, hence the flip; the padding lets the
    # kernels overlap by as little as one number. The middle channels are summed over, the first's inputs play the batch.
    padding = second.shape[-1] - 1
    return F.conv2d(first.transpose(0, 1), second.flip(2, 3), padding=padding).transpose(0, 1)


def plan_sizes(size: int, layers: list[tuple[int, int, int, int]]) -> list[tuple[int, int]]:
    # `jump` is how far apart, in pixels of the picture, two neighbours lie that the next window looks at.
    seen, jump, plan = 1, 1, []
    for kernel, stride, padding, dilation in layers:
        span = dilation * (kernel - 1) + 1
        if span > size + 2 * padding:
            raise ValueError(f"a window of {span} does not fit into {size} + 2 · {padding}")
        size = (size + 2 * padding - span) // stride + 1
        seen += (span - 1) * jump
        jump *= stride
        plan.append((size, seen))
    return plan


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    # So many places need (places - 1) steps and one window. With stride 2 the two sides may differ, which no symmetric `padding`
    # of a layer can do: it needs F.pad first.
    places = -(-size // stride)
    total = max(0, (places - 1) * stride + dilation * (kernel - 1) + 1 - size)
    return total // 2, total - total // 2


def max_pool_backward(x: Tensor, upstream: Tensor, size: int) -> Tensor:
    # Every window becomes a row. Where its maximum stands several times, the running count is 1 up to the second of them.
    windows = x.unfold(2, size, size).unfold(3, size, size).flatten(start_dim=4)  # (batch, channels, rows, columns, size · size)
    is_largest = windows == windows.amax(dim=-1, keepdim=True)
    first = is_largest & (is_largest.cumsum(dim=-1) == 1)
    gradient = (first * upstream.unsqueeze(-1)).unflatten(-1, (size, size))  # (batch, channels, rows, columns, size, size)
    # A picture's row runs through the same row of neighbouring windows: (batch, channels, rows, size, columns, size).
    return gradient.transpose(3, 4).flatten(4, 5).flatten(2, 3)


def merge_statistics(counts: Tensor, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    # The variance of the whole is the mean variance within the parts, plus the variance of the parts' means among themselves. A
    # mean of the variances alone would forget the second: it is what single images in training mode suffer from, too.
    shares = (counts / counts.sum()).to(means.dtype).unsqueeze(1)  # (processes, 1)
    mean = (shares * means).sum(dim=0)
    return mean, (shares * (variances + (means - mean).square())).sum(dim=0)


def fold_into_linear(norm: nn.BatchNorm1d, linear: nn.Linear) -> nn.Linear:
    # norm(x) is factor · x + offset, feature by feature. W (factor · x + offset) + b = (W · factor) x + (W offset + b). With a
    # padded convolution in the linear layer's place this fails at the border: it pads with 0 what has been normalized, and a 0
    # that comes before the norm would have become the offset.
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()  # (ins,)
    offset = norm.bias - norm.running_mean * factor
    folded = nn.Linear(linear.in_features, linear.out_features, dtype=linear.weight.dtype, device=linear.weight.device)
    with torch.no_grad():
        folded.weight.copy_(linear.weight * factor)  # (outs, ins) · (ins,): column by column
        folded.bias.copy_(linear.weight @ offset + linear.bias)
    return folded


def auto_contrast(images: Tensor) -> Tensor:
    # amin over height and width keeps a number for each channel of each image. Where nothing differs, 0 / 0 would be nan: such a
    # channel is given the range 1 and the lowest number 0, which leaves it alone.
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)  # (n, channels, 1, 1)
    flat = low == high
    return (images - low.masked_fill(flat, 0)) / (high - low).masked_fill(flat, 1)


def flip_boxes(boxes: Tensor, which: Tensor, width: int) -> Tensor:
    # x becomes width - x, and what was the right edge is the left one now: the two change places.
    left, top, right, bottom = boxes.unbind(dim=2)  # (n, k) each
    mirrored = torch.stack([width - right, top, width - left, bottom], dim=2)
    return torch.where(which.view(-1, 1, 1), mirrored, boxes)


def mixed_cross_entropy(logits: Tensor, labels: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    # The shares differ from image to image, so they have to come before the mean: reduction="none" keeps the losses apart.
    own = F.cross_entropy(logits, labels, reduction="none")  # (n,)
    other = F.cross_entropy(logits, labels[partner], reduction="none")
    return (share * own + (1 - share) * other).mean()


def split_by_origin(origins: Tensor, share: float, generator: torch.Generator) -> Tensor:
    # Draw among originals, not among copies, and give every copy the fate of its original.
    different = origins.unique()
    order = torch.randperm(len(different), generator=generator)
    chosen = different[order[: round(share * len(different))]]
    return torch.isin(origins, chosen)


def paired_gain(with_it: list[float], without: list[float]) -> tuple[float, float]:
    # What both share, lucky images or an unlucky start, falls out of the difference; that is why it varies less than either.
    gains = torch.tensor(with_it, dtype=torch.float64) - torch.tensor(without, dtype=torch.float64)
    return gains.mean().item(), (gains.std() / len(gains) ** 0.5).item()
