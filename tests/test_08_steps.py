"""Training loops of stage 08: each step starts from gradients of 0. Adam hardly notices where they add up; losses tell little."""

import pytest
import torch
from conftest import lesson
from training_steps import check_gradients_do_not_add_up, numbers, pictures

from utils import perceptual
from utils.datasets.boxes import Boxed, DetectionData, Masked
from utils.datasets.scenes import draw_scenes

SIDE = 64


def scenes() -> Boxed:
    """Nine pictures of 64 pixels, one box in each."""
    boxes, labels = [torch.tensor([[8.0, 8, 40, 40]])] * 9, [torch.tensor([0])] * 9
    return Boxed([*numbers(256, 9, 3, SIDE, SIDE).byte()], boxes, labels)


def detect(module) -> None:
    data = DetectionData(scenes(), scenes(), scenes(), ["disc", "ring"], "drawn", is_real=False)
    module.train(module.Detector(2), data, steps=3, batch_size=2, lr=0.01, looks=1, seed=0)


def give_classes(module) -> None:
    recipe, masks = module.SimpleNamespace(widths=(4, 8), crop=(32, 32), lr=0.01, zoom=1.0, flip=False), numbers(3, 9, SIDE, SIDE)
    module.train(recipe, Masked(pictures(9, 3, SIDE, SIDE), masks.byte()), 3, True, 3, 0)


def find_wires(module) -> None:
    data = Masked(numbers(256, 9, 3, SIDE, SIDE).byte(), numbers(2, 9, SIDE, SIDE).byte())
    module.train(module.cross_entropy, data, 3, 0.01, 0)


def find_objects(module) -> None:
    some = draw_scenes(16, 0, SIDE, "train", module.THINGS)
    module.train(module.Network(4), some, some.masks.long().clamp(max=2), 2.5, 3, 0)


def change_pixels(module) -> None:
    network, picture = perceptual.random_features(seed=3, width=8), pictures(1, 3, 48, 48)
    wanted = module.describe(network, 1 - picture, [network.content], "content")
    module.transfer(network, picture, wanted, {}, 1.0, 3, optimizer="adam")


def learn_to_paint(module) -> None:
    network, photos = perceptual.random_features(seed=3, width=8), [*pictures(2, 3, 100, 100)]
    grams = perceptual.grams_of(network, photos[0][None], network.style)
    module.train(module.Painter(4, "instance", blocks=1), network, photos, grams, 3, 1.0, size=48)


def learn_to_decode(module) -> None:
    network = perceptual.random_features(seed=3, width=8)
    module.train(network, module.Decoder(network, 4), pictures(4, 3, 48, 48), pictures(4, 3, 48, 48), 3, 1.0, 0.002, 0)


TRAININGS = {
    "boxes_and_iou": lambda m: m.walk(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([[20.0, 20, 40, 40]]), "GIoU", 3),
    "object_detection": detect,
    "label_assignment": lambda m: m.train(m.Examples(pictures(9, 3, SIDE, SIDE), *scenes()[1:]), "radius", 3, 0),
    "box_augmentation": lambda m: m.train(m.Detector(4), scenes(), "nothing", 3, 0),
    "image_segmentation": give_classes,
    "segmentation_losses": find_wires,
    "instance_segmentation": find_objects,
    "style_transfer": change_pixels,
    "fast_style_transfer": learn_to_paint,
    "adaptive_instance_norm": learn_to_decode,
}


@pytest.mark.parametrize("name", TRAININGS)
def test_gradients_do_not_add_up(name):
    module = lesson(f"08_computer_vision/{name}")
    check_gradients_do_not_add_up(lambda: TRAININGS[name](module))
