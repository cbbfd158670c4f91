"""Exercises · 연습문제: networks for pictures, and what to do with few of them

Put your code where it says TODO, then:  python -m study check 04
Stuck?  python -m study hint weight_gradient
"""

import torch
import torch.nn.functional as F  # noqa: F401  (for your code)
from torch import Tensor, nn


def weight_gradient(x: Tensor, upstream: Tensor) -> Tensor:
    """Return the gradient of a convolution's weight, by one call of F.conv2d. Without autograd and without loops.

    The convolution was out = F.conv2d(x, weight), without padding, stride 1.

    Args:
        x: (batch, channels, height, width) float.
        upstream: The derivative of the loss by out, (batch, outs, height - k + 1, width - k + 1).

    Returns:
        (outs, channels, k, k).
    """
    raise NotImplementedError  # TODO


def merge_kernels(first: Tensor, second: Tensor) -> Tensor:
    """Return the one weight that does what two convolutions in a row do: F.conv2d(F.conv2d(x, first), second).

    Args:
        first: (middle, ins, k, k) float.
        second: (outs, middle, l, l) float.

    Returns:
        (outs, ins, k + l - 1, k + l - 1).
    """
    raise NotImplementedError  # TODO


def plan_sizes(size: int, layers: list[tuple[int, int, int, int]]) -> list[tuple[int, int]]:
    """Work out, for layer after layer, how large its output is and how much of the picture one of its numbers has seen.

    Args:
        size: Height (and width) of the picture.
        layers: (kernel, stride, padding, dilation) of each layer.

    Returns:
        For every layer its output's height, and the height of its receptive field in pixels of the picture. What a number sees
        of the padding counts as seen.

    Raises:
        ValueError: A window is larger than what it slides over, padding included.
    """
    raise NotImplementedError  # TODO


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return how much to pad before and behind, as TensorFlow's "SAME" does, whose weights PyTorch users often meet.

    The output shall have ceil(size / stride) places. Of all that make it so, take the smallest sum of both paddings, at least 0;
    and if it is odd, the one more comes behind.

    Args:
        size: Height or width of the input.
        kernel: Of the kernel, in the same direction.
        stride: At least 1.
        dilation: At least 1.
    """
    raise NotImplementedError  # TODO


def max_pool_backward(x: Tensor, upstream: Tensor, size: int) -> Tensor:
    """Return the gradient of F.max_pool2d(x, size) with respect to x. Without autograd.

    The windows do not overlap; of several equal maxima in a window the first one gets all, in reading order.

    Args:
        x: (batch, channels, height, width) float; height and width are multiples of size.
        upstream: The derivative of the loss by the output, (batch, channels, height / size, width / size).
        size: Height, width and stride of the window.

    Returns:
        As x.
    """
    raise NotImplementedError  # TODO


def merge_statistics(counts: Tensor, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of a batch of which several processes have a part each, without seeing the batch.

    That is what nn.SyncBatchNorm sends round. All variances are divided by the count, not by the count less one.

    Args:
        counts: (processes,) int64, how many numbers of each channel a process has; at least 1.
        means: (processes, channels) float, of its part.
        variances: (processes, channels) float, of its part.

    Returns:
        (channels,) and (channels,), of the whole.
    """
    raise NotImplementedError  # TODO


def fold_into_linear(norm: nn.BatchNorm1d, linear: nn.Linear) -> nn.Linear:
    """Return one linear layer that computes linear(norm(x)) in eval mode: here the norm comes before, not behind.

    Args:
        norm: With weight, bias and running statistics; it stays as it is.
        linear: With a bias; it stays as it is.
    """
    raise NotImplementedError  # TODO


def convolution_matrix(kernel: Tensor, size: int) -> Tensor:
    """Return the matrix that does to a flattened picture what the convolution with one kernel does. Without torch.nn.functional.

    The convolution has stride 1 and as much padding with zeros as keeps the picture's size. Like PyTorch's it does not turn the
    kernel round: kernel[0, 0] meets the pixel above and to the left.

    Args:
        kernel: (k, k) float, k odd.
        size: Width and height of the picture.

    Returns:
        (size², size²) float: the row of an output pixel holds the weights that it gives to all input pixels.
    """
    raise NotImplementedError  # TODO


def macro_f1(confusion: Tensor) -> float:
    """Return the mean over the classes of F1, the harmonic mean of a class's precision and recall.

    Every class counts alike, however rare. A class that neither occurs nor is ever answered is left out; one that occurs or is
    answered, but never rightly, has an F1 of 0.

    Args:
        confusion: (classes, classes) int64; row i, column j is how many pictures of class i were taken for class j. Not all 0.

    Returns:
        A Python float.
    """
    raise NotImplementedError  # TODO


def adaptive_calibration_error(confidence: Tensor, right: Tensor, bins: int) -> float:
    """Return the calibration error with bins that hold equally many answers, instead of being equally wide.

    Sort the answers by confidence and cut them into bins, as equal in number as can be; where it does not come out even, the
    first bins have one more. Take the distance between each bin's mean confidence and its share of right answers, and average
    these distances, each weighted by the number of answers in its bin.

    Args:
        confidence: (n,) float, no two alike.
        right: (n,) bool.
        bins: 1 to n.

    Returns:
        A Python float from 0 to 1.
    """
    raise NotImplementedError  # TODO


def output_shapes(model: nn.Module, x: Tensor) -> dict[str, tuple[int, ...]]:
    """Return the shape of what each layer puts out, by the layer's name, in the order in which they are called.

    Layers are the modules that have no modules inside. The model is called once, with x, and stays as it was: in its mode, and
    without any hooks of yours, even if the call fails.

    Args:
        model: Each of its layers puts out one tensor, and is called once.
        x: What the model takes.
    """
    raise NotImplementedError  # TODO


def auto_contrast(images: Tensor) -> Tensor:
    """Stretch every channel of every image so that its smallest number becomes 0 and its largest 1. Without loops.

    A channel whose numbers are all the same stays as it is.

    Args:
        images: (n, channels, height, width) float from 0 to 1; they stay as they are.

    Returns:
        (n, channels, height, width) float.
    """
    raise NotImplementedError  # TODO


def flip_boxes(boxes: Tensor, which: Tensor, width: int) -> Tensor:
    """Mirror bounding boxes together with their images: a label that says where must change when the image does. Without loops.

    Args:
        boxes: (n, k, 4) float, k boxes in each of n images: left, top, right, bottom in pixels, counted from the image's left and
            upper edge; the right edge of the image is at `width`. They stay as they are.
        which: (n,) bool, True where the image is mirrored left to right.
        width: Of every image.

    Returns:
        (n, k, 4) float, again left, top, right, bottom with left no larger than right.
    """
    raise NotImplementedError  # TODO


def mixed_cross_entropy(logits: Tensor, labels: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """Return the mean cross entropy of a batch that was mixed by mixup, from class numbers, without making targets of them.

    Image i keeps `share[i]` of itself and has 1 - share[i] of image number `partner[i]` laid over it; its target is mixed alike.
    No tensor of targets (n, classes) is needed: cross entropy is linear in the target.

    Args:
        logits: (n, classes) float, of the mixed images.
        labels: (n,) int64, of the images before mixing.
        partner: (n,) int64, numbers of images in the batch.
        share: (n,) float from 0 to 1.

    Returns:
        A scalar, from which the gradient flows back to the logits.
    """
    raise NotImplementedError  # TODO


def split_by_origin(origins: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Choose test images so that no copy of a training image is among them: all copies of an image go to the same side.

    Of the k different origins, round(share * k) are drawn by chance, each as likely as any other, whether it has one copy or a
    hundred. What is drawn comes from `generator` alone.

    Args:
        origins: (m,) int64: image i is a copy of the original number origins[i]; any numbers, in any order.
        share: Of the originals that go to the test set, from 0 to 1.
        generator: For the draw.

    Returns:
        (m,) bool, True for the test set.
    """
    raise NotImplementedError  # TODO


def paired_gain(with_it: list[float], without: list[float]) -> tuple[float, float]:
    """Return the mean gain over seeds and its standard error, comparing seed by seed.

    The i-th numbers of both lists come from the same seed: same images, same start. The standard error is the standard deviation
    of the gains (divided by their number minus one, before the root) over the root of their number.

    Args:
        with_it: An accuracy for each seed, at least two.
        without: As many.

    Returns:
        (mean gain, standard error), Python floats.
    """
    raise NotImplementedError  # TODO


class OnFrozen(nn.Module):
    """A head on a frozen backbone. It stays frozen whatever the training loop does: nn.Module.train is called on all of it.

    The backbone's weights get no gradient, and its batch norms neither use nor change statistics of a batch: not after
    `model.train()`, not after `model.eval()` and `model.train()` again. The head takes part in both as usual.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        raise NotImplementedError  # TODO

    def train(self, mode: bool = True) -> "OnFrozen":
        """Switch to training mode, or with mode=False to eval mode; return the model itself, as nn.Module.train does."""
        raise NotImplementedError  # TODO

    def forward(self, x: Tensor) -> Tensor:
        """From pictures to the head's logits."""
        raise NotImplementedError  # TODO


def parameter_groups(stages: nn.Sequential, head: nn.Module, lr: float, share: float, fall: float) -> list[dict]:
    """Return what an optimizer takes for discriminative learning rates: a list of {"params": [...], "lr": ...}, the head first.

    The head learns with lr, the last stage with lr · share, the stage before it with lr · share · fall, the one before that with
    lr · share · fall², and so on. A parameter that is frozen (requires_grad is False) is in no group. A stage without parameters
    to train has no group, but counts in the depth.

    Args:
        stages: From the pictures to the features, in this order.
        head: What comes after them.
        lr: The head's learning rate.
        share: The last stage's, as a share of it.
        fall: From a stage to the one before it.
    """
    raise NotImplementedError  # TODO


def neighbour_vote(pool: Tensor, labels: Tensor, queries: Tensor, k: int) -> Tensor:
    """Classify by the k nearest neighbours: each of them votes for its class with its cosine similarity to the query as weight.

    Args:
        pool: (n, width) float, features whose labels are known, none of them all zeros.
        labels: (n,) int64.
        queries: (m, width) float, none of them all zeros.
        k: 1 to n. A negative similarity is a vote against the class.

    Returns:
        (m,) int64: the class with the largest sum of votes, among those of the k neighbours.
    """
    raise NotImplementedError  # TODO


def draw_episode(
    labels: Tensor, ways: int, shots: int, queries: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Draw what few-shot methods are compared on: some classes, a few examples of each to learn from, and others to answer.

    Everything is drawn from `generator`, every choice being as likely as any other. Of classes with fewer than shots + queries
    examples none is drawn.

    Args:
        labels: (n,) int64, any class numbers.
        ways: How many classes.
        shots: Examples of each to learn from.
        queries: Other examples of each to answer.
        generator: For all random numbers.

    Returns:
        The classes (ways,) in random order, and indices into labels: support (ways, shots) and query (ways, queries), row i of
        class i. No index is in both.
    """
    raise NotImplementedError  # TODO
