"""Boxes are drawn where they are."""

import matplotlib.pyplot as plt
import torch

from utils.average_precision import Found
from utils.box_figures import compare_boxes, draw_boxes, training_curves
from utils.datasets.boxes import Boxed

IMAGE = torch.zeros(3, 20, 30, dtype=torch.uint8)
BOXES = torch.tensor([[1.0, 2.0, 11.0, 8.0]])


def test_draw_boxes():
    figure, axis = plt.subplots()
    draw_boxes(axis, IMAGE, BOXES, torch.tensor([1]), ["disc", "star"], torch.tensor([0.25]))
    (box,) = axis.patches
    assert (box.get_xy(), box.get_width(), box.get_height()) == ((1, 2), 10, 6)
    assert [text.get_text() for text in axis.texts] == ["star 0.25"]
    assert axis.get_xlim() == (0, 30) and axis.get_ylim() == (20, 0)
    plt.close(figure)


def test_compare_boxes():
    nothing = torch.zeros(0, 4), torch.zeros(0).long()
    truth = Boxed([IMAGE, IMAGE], [BOXES, nothing[0]], [torch.tensor([0]), nothing[1]])
    found = [Found(nothing[0], torch.zeros(0), nothing[1]), Found(BOXES, torch.tensor([0.5]), torch.tensor([1]))]
    figure = compare_boxes(truth, found, ["disc", "star"], torch.rand(2, 3, 4))
    texts = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert texts == [["disc"], [], [], ["star 0.50"], [], []]
    plt.close(figure)


def test_training_curves():
    figure = training_curves([3.0, 2.0, 1.0], {2: 0.1, 3: 0.4})
    assert figure.axes[1].lines[0].get_ydata().tolist() == [0.1, 0.4]
    plt.close(figure)
