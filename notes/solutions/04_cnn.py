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


def convolution_matrix(kernel: Tensor, size: int) -> Tensor:
    # Output pixel (i, j) gives kernel[a, b] to input pixel (i + a - k//2, j + b - k//2), if there is one: what lies outside is
    # padding, a zero, and has no column.
    k = len(kernel)
    matrix = torch.zeros(size, size, size, size, dtype=kernel.dtype)  # from (row, column) to (row, column)
    for i in range(size):
        for j in range(size):
            for a in range(k):
                for b in range(k):
                    row, column = i + a - k // 2, j + b - k // 2
                    if 0 <= row < size and 0 <= column < size:
                        matrix[i, j, row, column] = kernel[a, b]
    return matrix.view(size**2, size**2)


def macro_f1(confusion: Tensor) -> float:
    # The harmonic mean of TP/(TP+FP) and TP/(TP+FN) is 2·TP / ((TP+FP) + (TP+FN)): column sum plus row sum. Written like this
    # there is no 0/0 except for the classes that are to be left out.
    both = confusion.sum(dim=0) + confusion.sum(dim=1)
    there = both > 0
    return (2 * confusion.diagonal()[there] / both[there]).mean().item()


def adaptive_calibration_error(confidence: Tensor, right: Tensor, bins: int) -> float:
    # tensor_split gives the first parts one more. (chunk does not: 10 in 4 chunks are 3, 3, 3, 1.) Weighting a bin's distance by
    # its number of answers undoes the division in its means.
    order = confidence.argsort()
    pairs = zip(confidence[order].tensor_split(bins), right[order].float().tensor_split(bins), strict=True)
    return sum((sure.sum() - hits.sum()).abs().item() for sure, hits in pairs) / len(confidence)


def output_shapes(model: nn.Module, x: Tensor) -> dict[str, tuple[int, ...]]:
    # The hook gets the module, not its name: the name has to be bound when the hook is made (name=name), or all hooks would see
    # the last one. `finally` also runs when the model raises.
    shapes, handles = {}, []
    for name, module in model.named_modules():
        if not list(module.children()):

            def keep(module: nn.Module, given: tuple, output: Tensor, name: str = name) -> None:
                shapes[name] = tuple(output.shape)

            handles.append(module.register_forward_hook(keep))
    try:
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


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


class OnFrozen(nn.Module):
    # requires_grad_(False) takes care of the weights. Batch norms look at the mode instead, and fit() calls model.train() before
    # every epoch: so train() itself has to put the backbone back. eval() needs nothing of its own, it calls train(False).
    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.backbone, self.head = backbone.requires_grad_(False), head
        self.train()

    def train(self, mode: bool = True) -> "OnFrozen":
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def parameter_groups(stages: nn.Sequential, head: nn.Module, lr: float, share: float, fall: float) -> list[dict]:
    # enumerate over the reversed stages counts the depth, and a stage that is left out has been counted all the same. The lists
    # are made at once: a generator would be empty after the test whether there is anything in it.
    rates = [lr, *(lr * share * fall**depth for depth in range(len(stages)))]
    groups = []
    for part, rate in zip([head, *reversed(stages)], rates, strict=True):
        trained = [parameter for parameter in part.parameters() if parameter.requires_grad]
        if trained:
            groups.append({"params": trained, "lr": rate})
    return groups


def neighbour_vote(pool: Tensor, labels: Tensor, queries: Tensor, k: int) -> Tensor:
    # The cosine is the product of unit vectors, so one matrix product has all similarities. Classes that no neighbour has start
    # at -inf and stay there: with 0 they would win against a sum of negative votes.
    similarity, nearest = (F.normalize(queries, dim=1) @ F.normalize(pool, dim=1).T).topk(k, dim=1)  # (m, k) each
    classes = int(labels.max()) + 1
    votes = torch.zeros(len(queries), classes).scatter_add(1, labels[nearest], similarity)
    voted = torch.zeros(len(queries), classes).scatter(1, labels[nearest], 1.0)
    return votes.masked_fill(voted == 0, -torch.inf).argmax(dim=1)


def draw_episode(
    labels: Tensor, ways: int, shots: int, queries: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    # One permutation of a class's examples, cut in two, is what keeps support and queries apart. torch.unique gives the classes
    # that there are: they need not be 0 to n - 1.
    found, counts = labels.unique(return_counts=True)
    enough = found[counts >= shots + queries]
    classes = enough[torch.randperm(len(enough), generator=generator)[:ways]]
    rows = []
    for number in classes:
        members = (labels == number).nonzero().flatten()
        rows.append(members[torch.randperm(len(members), generator=generator)[: shots + queries]])
    drawn = torch.stack(rows)  # (ways, shots + queries)
    return classes, drawn[:, :shots], drawn[:, shots:]
