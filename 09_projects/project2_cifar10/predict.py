"""What is in a photo of your own? · 내 사진에는 무엇이 있을까

    python -m study run cifar10/predict photo.jpg other.png

Any size; the square in the middle is what counts. For every photo there is a figure that shows the 32x32 pixels that the network
really sees, and where it looked for its answer. Training comes first: python -m study run cifar10
"""

from pathlib import Path

import torch
import tyro
from PIL import Image
from torch import Tensor, nn

from project2_cifar10.evaluate import load_network
from project2_cifar10.picture import image_from, to_rgb
from utils.batches import to_pixels
from utils.device import pick_device
from utils.evaluation import draw_probabilities, grad_cam, show_heat, show_image
from utils.lesson import check, mention, run
from utils.pictures import check_all_read, open_each
from utils.plotting import label, save_figure

UNSURE = 0.5  # below this probability the first answer is more likely wrong than right


def answer(network: nn.Module, image: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """What the network makes of one image.

    Args:
        network: In eval mode.
        image: (3, 32, 32) uint8.
        temperature: Divides the logits, so that what is said with 80 % certainty is right 80 % of the time.

    Returns:
        The probability of each class (classes,), and for each class where it spoke for it: (classes, 32, 32) in 0..1. On the CPU.
    """
    device = next(network.parameters()).device
    pixels = to_pixels(image.unsqueeze(0).to(device))  # (1, 3, 32, 32)
    with torch.no_grad():
        probabilities = (network(pixels)[0] / temperature).softmax(dim=0)
    every_class = torch.arange(len(probabilities), device=device)
    heat = grad_cam(network, network.last_maps, pixels.repeat(len(every_class), 1, 1, 1), every_class)
    return probabilities.cpu(), heat.cpu()


def undecided_between(probabilities: Tensor) -> float:
    """Among how many equally probable classes one would be as undecided: 1 is certain, the number of classes knows nothing.

    It is the exponential of the entropy, the perplexity of the answer.
    """
    return torch.special.entr(probabilities).sum().exp().item()


def in_words(probabilities: Tensor, classes: list[str]) -> str:
    """The three most probable classes, and how sure the network is."""
    top = probabilities.topk(min(3, len(classes)))
    named = ", ".join(f"{classes[i]} {share:.1%}" for share, i in zip(top.values.tolist(), top.indices.tolist(), strict=True))
    number = undecided_between(probabilities)
    if top.values[0] >= UNSURE:
        return f"{named}; as undecided as between {number:.1f} equally probable classes"
    return f"{named}; unsure, as undecided as between {number:.1f} equally probable classes: perhaps it is none of them"


def draw(photo: Image.Image, image: Tensor, probabilities: Tensor, heat: Tensor, classes: list[str]):
    """Draw the photo with its middle square, what the network sees of it, where it looked, and the probabilities."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    best = probabilities.argmax().item()
    figure, (first, second, third, last) = plt.subplots(1, 4, figsize=(14, 3.7), layout="constrained")
    shown = to_rgb(photo)
    shown.thumbnail((600, 600))
    first.imshow(shown)
    side = min(shown.size)
    corner = ((shown.width - side) // 2 - 0.5, (shown.height - side) // 2 - 0.5)
    first.add_patch(Rectangle(corner, side, side, fill=False, edgecolor="tab:orange", linewidth=2.5))
    first.set_title(label("your photo, and the square that counts", "내 사진과, 그중 쓰이는 정사각형"))
    first.axis("off")
    show_image(second, image)
    second.set_title(label("what the network sees: 32x32", "신경망이 보는 것: 32x32"))
    show_heat(third, image, heat[best])
    third.set_title(label(f"what spoke for “{classes[best]}”", f"“{classes[best]}”의 근거"))
    draw_probabilities(last, probabilities, classes)
    return figure


def main(pictures: tyro.conf.Positional[tuple[Path, ...]], model: Path | None = None, device: str = "auto") -> dict[str, float]:
    """Say what is in each of your photos.

    Args:
        pictures: Files: JPEG, PNG, WebP, GIF, BMP or TIFF.
        model: Another trained network than models/project2_cifar10/model.pt.
        device: auto, cpu, cuda or mps.
    """
    check(len(pictures) > 0, "name at least one picture: python -m study run cifar10/predict photo.jpg")
    network, about = load_network(model, pick_device(device))
    mention("data", f"trained on {about['source']}; {about['accuracy']:.2%} right on its test set")
    classes = about["classes"]
    results: dict[str, float] = {}
    failed: list[str] = []
    for number, path, photo, image in open_each(pictures, image_from, failed):
        probabilities, heat = answer(network, image, about["temperature"])
        print(f"{path}: {in_words(probabilities, classes)}")
        name = f"{number}_{path.stem}"
        save_figure(draw(photo, image, probabilities, heat, classes), __file__, f"predict_{name}")
        certainty, best = probabilities.max(dim=0)
        results |= {f"{name}_class": best.item(), f"{name}_probability": certainty.item()}
        results[f"{name}_undecided_between"] = undecided_between(probabilities)
    if results:
        print(f"\nIt knows {', '.join(classes)}, and nothing else. It has no answer for “none of these”:")
        print("whatever is in a picture, the probabilities of these classes add up to 100%.")
    check_all_read(failed, len(pictures))
    return results


if __name__ == "__main__":
    run(main)
