"""From a picture to what is in it: shrink, ask the network, throw double boxes out. The page, files and benchmarks use this.

finder = load_finder()                       # what `python -m study run detection` has trained
found = finder.find(picture)                 # (3, height, width) uint8
found.boxes, found.scores, found.labels      # best first, in the picture's own pixels
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from project5_realtime_detection.model import fused, load_network
from utils.average_precision import Found
from utils.batches import to_pixels
from utils.box_augmentation import letterbox, unletterbox
from utils.device import pick_device
from utils.lesson import check

Runtime = Literal["eager", "compiled", "exported", "onnx", "int8"]
MOST = 100  # boxes in one picture
CANDIDATES = 1000  # boxes that are looked at for doubles; the best ones


class Finder:
    """Finds things in pictures of any size.

    Attributes:
        classes: The name behind each label.
        source: What data it was trained on.
        side: Width and height of what the network sees.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], tuple[Tensor, Tensor]],
        classes: list[str],
        side: int,
        source: str,
        device: torch.device | str = "cpu",
    ):
        """Put a network, in whatever runtime, behind `find`.

        Args:
            forward: From pictures (1, 3, side, side) float32 in 0..1 on `device` to boxes (1, cells, 4) and scores (1, cells,
                classes), as `model.Detector` gives them.
            classes: The name behind each label.
            side: Width and height of what it sees.
            source: What data it was trained on.
            device: Where `forward` wants its pictures.
        """
        self.forward, self.classes, self.side, self.source, self.device = forward, classes, side, source, torch.device(device)

    @torch.inference_mode()
    def find(self, picture: Tensor, threshold: float = 0.3, overlap: float = 0.5) -> Found:
        """Find things in one picture.

        Args:
            picture: (3, height, width) uint8.
            threshold: The least score, 0..1.
            overlap: Of two boxes of the same class whose intersection over union is larger, the better one stays.

        Returns:
            On the CPU, best first, at most 100: boxes (n, 4) in pixels of `picture` and inside it, scores (n,), labels (n,).
        """
        height, width = picture.shape[1:]
        check(height > 0 and width > 0, "the picture is empty")
        square, factor, offset = letterbox(picture, self.side)
        boxes, scores = self.forward(to_pixels(square[None]).to(self.device))
        found = without_doubles(boxes[0].cpu(), scores[0].cpu(), threshold, overlap)
        boxes = unletterbox(found.boxes, factor, offset, width, height)
        inside = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)  # what lies in the grey round the picture has no area in it
        return Found(boxes[inside], found.scores[inside], found.labels[inside])


def without_doubles(boxes: Tensor, scores: Tensor, threshold: float, overlap: float) -> Found:
    """Each cell's best class, where its score is high enough, and of boxes round the same thing the best one.

    Args:
        boxes: (cells, 4).
        scores: (cells, classes).
        threshold: The least score.
        overlap: The largest intersection over union of two boxes of one class.
    """
    from torchvision.ops import batched_nms

    best, labels = scores.max(dim=1)
    candidates = (best >= threshold).nonzero()[:, 0]
    if len(candidates) > CANDIDATES:
        candidates = candidates[best[candidates].topk(CANDIDATES).indices]
    # Negative coordinates would lead batched_nms, which tells classes apart by moving their boxes, to mix them up.
    boxes, best, labels = boxes[candidates].clamp(min=0), best[candidates], labels[candidates]
    kept = batched_nms(boxes, best, labels, overlap)[:MOST]  # best first
    return Found(boxes[kept], best[kept], labels[kept])


def load_finder(file: Path | None = None, runtime: Runtime = "eager", device: str = "auto") -> Finder:
    """Load a trained network behind `find`.

    Args:
        file: What `train` has written; None is where it writes.
        runtime: "eager"; "compiled" (torch.compile; the first picture takes long); "exported", "onnx" or "int8": what
            `python -m study run detection/export` has written beside the file.
        device: "auto", "cpu", "cuda" or "mps"; "exported", "onnx" and "int8" compute on the CPU.

    Raises:
        LessonError: The file is not there, or it is another network's; the message says what to run first.
    """
    if runtime in ("exported", "onnx", "int8"):
        from project5_realtime_detection.export import load_exported

        return load_exported(file, runtime)
    place = pick_device(device)
    model, about = load_network(file, place)
    forward = fused(model).to(memory_format=torch.channels_last)
    if runtime == "compiled":
        forward = torch.compile(forward)
    return Finder(forward, about["classes"], about["side"], about["source"], place)
