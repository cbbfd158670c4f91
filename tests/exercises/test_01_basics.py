"""Checks of stage 01's exercises. `answers` is the module under check: the reader's file, or the solutions."""

import ast
import inspect
import textwrap

import torch
from exercises.checking import expect
from torch import nn


def expect_without(function, *forbidden: str) -> None:
    """Expect that the function's source has no loop, and uses none of the `forbidden` names."""
    nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))))
    loops = any(isinstance(node, (ast.For, ast.While, ast.comprehension)) for node in nodes)
    expect("a loop" if loops else "no loop", "no loop", call=f"the source of {function.__name__}")
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}.intersection(forbidden)
    expect(", ".join(sorted(used)) or "nothing", "nothing", call=f"what {function.__name__} uses and should do without")


def test_standardize(answers):
    """Hint: mean(dim=0) has one number per column. Which shapes does the subtraction then bring together?

    힌트: mean(dim=0)은 열마다 수 하나를 준다. 빼기를 할 때 어떤 모양과 어떤 모양이 만나는가?
    """
    x = torch.tensor([[1.0, 100.0], [2.0, 300.0], [6.0, 500.0]])
    before = x.clone()
    expected = torch.tensor([[-2 / 7**0.5, -1.0], [-1 / 7**0.5, 0.0], [3 / 7**0.5, 1.0]])  # means 3, 300; deviations √7, 200
    expect(answers.standardize(x), expected, call="standardize([[1, 100], [2, 300], [6, 500]])")
    expect(x, before, call="x after standardize(x)")

    square = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)) * 5 + 2  # either dimension would broadcast
    columns = torch.stack([(column - column.mean()) / column.std() for column in square.T], dim=1)
    expect(answers.standardize(square), columns, call="standardize() of random numbers (4, 4)")


def test_accuracy(answers):
    """Hint: argmax needs to be told along which dimension the classes lie. True counts as 1 once it is a float.

    힌트: argmax에 클래스가 어느 차원에 놓여 있는지 알려 주어야 한다. True는 float로 바꾸면 1이다.
    """
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 9.0], [-3.0, -1.0, -2.0]])  # the largest: 0, 2, 1
    for labels, expected in (([0, 2, 1], 1.0), ([0, 2, 2], 2 / 3), ([1, 0, 0], 0.0)):
        got = answers.accuracy(logits, torch.tensor(labels))
        expect(got, expected, call=f"accuracy(logits whose largest are 0, 2, 1; labels {labels})")
    expect(answers.accuracy(torch.eye(2, 4), torch.tensor([0, 3])), 0.5, call="accuracy(torch.eye(2, 4), [0, 3])")
    wide, right = torch.tensor([[5.0, 4.0, 0.0], [9.0, -9.0, 0.0]]), torch.tensor([0, 0])  # the columns' largest mislead
    expect(answers.accuracy(wide, right), 1.0, call="accuracy([[5, 4, 0], [9, -9, 0]], [0, 0])")


def test_one_hot(answers):
    """Hint: which shapes must labels and torch.arange(classes) have, so that == asks every label about every class?

    힌트: == 가 모든 레이블을 모든 클래스와 비교하게 하려면 labels와 torch.arange(classes)는 어떤 모양이어야 하는가?
    """
    expected = torch.tensor([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]])
    expect(answers.one_hot(torch.tensor([2, 0, 2]), 4), expected, call="one_hot([2, 0, 2], classes=4)")
    expect(answers.one_hot(torch.tensor([1]), 2), torch.tensor([[0.0, 1.0]]), call="one_hot([1], classes=2)")
    expect_without(answers.one_hot, "one_hot")


def test_contiguous_strides(answers):
    """Hint: begin with the last dimension, whose stride is 1. How much does one step in the dimension before it skip?

    힌트: 마지막 차원의 스트라이드는 1이다. 거기서 시작해 보자. 그 앞 차원에서 한 칸 가면 메모리에서 몇 칸을 건너뛰는가?
    """
    for shape in ((2, 3), (5,), (2, 3, 4), (4, 1, 2, 6), ()):
        expect(answers.contiguous_strides(shape), torch.empty(shape).stride(), call=f"contiguous_strides({shape})")


def test_channels_first(answers):
    """Hint: reshape keeps the order of the numbers in memory. Which method moves dimensions, and what does it leave undone?

    힌트: reshape는 메모리에 놓인 수의 순서를 그대로 둔다. 차원의 자리를 옮기는 메서드는 무엇이고, 그 뒤에 무엇이 더 필요한가?
    """
    images = torch.arange(2 * 2 * 3 * 3, dtype=torch.uint8).view(2, 2, 3, 3)  # (batch, height, width, channels)
    before = images.clone()
    result = answers.channels_first(images)
    expect(result.shape, (2, 3, 2, 3), call="the shape of channels_first(images of shape (2, 2, 3, 3))")
    for channel in range(3):
        expect(result[:, channel], images[..., channel], call=f"channel {channel} of channels_first(images)")
    expect(result.is_contiguous(), True, call="channels_first(images).is_contiguous()")
    expect(images, before, call="images after channels_first(images)")


def test_pairwise_distances(answers):
    """Hint: a.unsqueeze(1) is (n, 1, features). What is its difference to b (m, features), and which dimension is summed?

    힌트: a.unsqueeze(1)은 (n, 1, features)이다. 여기서 b (m, features)를 빼면 어떤 모양이 되고, 어느 차원을 더해야 하는가?
    """
    a, b = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, -1.0]])
    expected = torch.tensor([[0.0, 3.0, 1.0], [5.0, 4.0, 34**0.5]])
    expect(answers.pairwise_distances(a, b), expected, call="pairwise_distances([[0, 0], [3, 4]], [[0, 0], [3, 0], [0, -1]])")
    expect(answers.pairwise_distances(b, a), expected.T, call="pairwise_distances with both turned round")
    expect_without(answers.pairwise_distances, "cdist", "pairwise_distance")


def test_numerical_gradient(answers):
    """Hint: a tensor of zeros with h in one place can be added to x and subtracted from it; x itself stays as it is.

    힌트: 한 자리만 h이고 나머지는 0인 텐서를 x에 더하고 빼 보자. x 자체는 바꾸지 않는다.
    """
    x = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64)
    before = x.clone()
    gradient = answers.numerical_gradient(lambda v: (v**2).sum() + v[0] * v[1], x)
    expect(gradient, torch.tensor([4.0, 5.0, -6.0], dtype=torch.float64), call="numerical_gradient(Σv² + v₀v₁, [1, 2, -3])")
    expect(x, before, call="x after numerical_gradient(f, x)")

    one = torch.ones(1, dtype=torch.float64)  # v³ tells both sides from one: 3 + h² = 3.01 for h = 0.1, one side gives 3.31
    gradient = answers.numerical_gradient(lambda v: (v**3).sum(), one, h=0.1)
    expect(gradient, torch.tensor([3.01], dtype=torch.float64), call="numerical_gradient(v³, [1], h=0.1)")


def test_gradient_step(answers):
    """Hint: backward() adds to .grad. The update goes into torch.no_grad(), and in place: what does w = w - ... do to w?

    힌트: backward()는 .grad에 더한다. 갱신은 torch.no_grad() 안에서 제자리로 한다. w = w - ... 는 원래 텐서를 바꾸는가?
    """
    w = torch.tensor([1.0, -2.0], requires_grad=True)
    b = torch.tensor(3.0, requires_grad=True)
    for step, expected in enumerate((0.8, 0.64, 0.512), start=1):  # the loss w² + b² shrinks every number by 1 - 2 · lr
        answers.gradient_step([w, b], w.square().sum() + b.square(), lr=0.1)
        expect(w.detach(), expected * torch.tensor([1.0, -2.0]), call=f"w = [1, -2] after {step} steps on w² + b², lr=0.1")
        expect(b.detach(), torch.tensor(3 * expected), call=f"b = 3 after {step} steps on w² + b², lr=0.1")
    for name, parameter in (("w", w), ("b", b)):
        leaf = parameter.is_leaf and parameter.requires_grad
        expect(leaf, True, call=f"{name}.is_leaf and {name}.requires_grad after three steps")


def test_freeze(answers):
    """Hint: named_parameters() gives (name, parameter); a parameter is trained if its requires_grad is True; numel() counts.

    힌트: named_parameters()는 (이름, 파라미터)를 준다. requires_grad가 True인 파라미터만 학습된다. 개수는 numel()로 센다.
    """
    model = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.Linear(3, 2), nn.ReLU()), nn.Linear(2, 5))
    model[2].bias.requires_grad_(False)  # somebody froze it before
    expect(answers.freeze(model, "0."), 8 + 10, call='freeze(layers 4 → 3 → 2 → 5, the last bias frozen before; "0.")')
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    expect(trained, ["1.0.weight", "1.0.bias", "2.weight"], call='what is still trained after freeze(model, "0.")')


def test_Linear(answers):
    """Hint: assign an nn.Parameter to self.weight. x @ self.weight.T works for any number of dimensions before the last.

    힌트: self.weight에 nn.Parameter를 대입한다. x @ self.weight.T는 마지막 차원 앞에 차원이 몇 개 있어도 된다.
    """
    layer = answers.Linear(3, 2)
    shapes = {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}
    expect(shapes, {"weight": (2, 3), "bias": (2,)}, call="the parameters of Linear(3, 2)")
    expect(layer.bias.detach(), torch.zeros(2), call="the bias of a new Linear(3, 2)")
    alike = torch.equal(layer.weight, answers.Linear(3, 2).weight) or torch.equal(layer.weight[0], layer.weight[1])
    expect(alike, False, call="are two new layers, or the rows of one, alike?")

    torch.manual_seed(0)
    theirs = nn.Linear(3, 2)
    layer.load_state_dict(theirs.state_dict())
    for shape in ((3,), (5, 3), (4, 5, 3)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        expect(layer(x).detach(), theirs(x).detach(), call=f"Linear(3, 2), with nn.Linear's numbers, of x {shape}")
    layer(x).square().sum().backward()
    theirs(x).square().sum().backward()
    expect(layer.weight.grad, theirs.weight.grad, call="the gradient of the weight")
