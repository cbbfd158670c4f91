"""Which digit is in a picture of your own? · 내 사진 속 숫자 읽기

    python -m study run mnist/predict photo.png other.jpg

Any size, dark ink on bright paper or the reverse, one digit in each picture. For every picture there is a figure that shows what
the network really sees, which is where most wrong answers come from. Training comes first: python -m study run mnist
"""

from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image, ImageOps
from torch import Tensor

from project1_mnist.evaluate import load_network
from project1_mnist.model import Net
from project1_mnist.picture import digit_from, reduce_to, to_grey
from utils.device import pick_device
from utils.evaluation import draw_probabilities
from utils.lesson import check, mention, run
from utils.pictures import check_all_read, open_each
from utils.plotting import label, save_figure


@torch.no_grad()
def probabilities_of(network: Net, pixels: Tensor) -> Tensor:
    """Turn pixels (1, 1, 28, 28) in 0..1 into the probability (classes,) of each digit, on the CPU."""
    device = next(network.parameters()).device
    return network(pixels.to(device)).softmax(dim=1)[0].cpu()


def for_display(picture: Image.Image, longest: int = 600) -> np.ndarray:
    """A picture as matplotlib draws it: upright, small, (height, width, 4) or for 16 bits (height, width)."""
    if picture.mode.startswith("I"):
        return reduce_to(to_grey(picture), longest).numpy()
    upright = ImageOps.exif_transpose(picture).convert("RGBA")
    upright.thumbnail((longest, longest))
    return np.asarray(upright)


def draw(picture: Image.Image, pixels: Tensor, probabilities: Tensor, classes: list[str]):
    """Draw the picture, what the network sees of it, and the probabilities; return the figure."""
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
    left.imshow(for_display(picture), cmap="gray")
    left.set(title=label("your picture", "내 사진"), facecolor="silver")  # silver: shows where a picture is transparent
    middle.imshow(pixels[0, 0].numpy(), cmap="gray", vmin=0, vmax=1)
    middle.set_title(label("what the network sees", "신경망이 보는 것"))
    for axis in (left, middle):
        axis.set(xticks=[], yticks=[])
    draw_probabilities(right, probabilities, classes)
    return figure


def main(pictures: tyro.conf.Positional[tuple[Path, ...]], model: Path | None = None, device: str = "auto") -> dict[str, float]:
    """Read the digit in each of your pictures.

    Args:
        pictures: Files with one digit each: PNG, JPEG, WebP, GIF, BMP or TIFF.
        model: Another trained network than models/project1_mnist/model.pt.
        device: auto, cpu, cuda or mps.
    """
    check(len(pictures) > 0, "name at least one picture: python -m study run mnist/predict photo.png")
    network, about = load_network(model, pick_device(device))
    mention("data", f"trained on {about['source']}; {about['accuracy']:.2%} right on its test set")
    classes = about["classes"]
    results: dict[str, float] = {}
    failed: list[str] = []
    for number, path, picture, pixels in open_each(pictures, digit_from, failed):
        probabilities = probabilities_of(network, pixels)
        (first, second), (best, runner_up) = (top.tolist() for top in probabilities.topk(2))
        print(f"{path}: {classes[best]} ({first:.1%}), or else {classes[runner_up]} ({second:.1%})")
        name = f"{number}_{path.stem}"
        save_figure(draw(picture, pixels, probabilities, classes), __file__, f"predict_{name}")
        results |= {f"{name}_digit": best, f"{name}_probability": first, f"{name}_runner_up": runner_up}
    check_all_read(failed, len(pictures))
    return results


if __name__ == "__main__":
    run(main)
