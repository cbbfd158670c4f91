"""Checks of stage 08's exercises on fast style transfer. `answers` is the module under check: the reader's, or the solutions."""

import torch
from exercises.checking import expect
from torch import nn


def test_ConditionalInstanceNorm(answers):
    """Hint: shares @ weight is (n, channels): one weight for each channel of each picture. F.instance_norm does the rest.

    힌트: shares @ weight는 (n, channels)이고, 그림마다 채널마다 가중치 하나씩이다. 나머지는 F.instance_norm이 한다.
    """
    torch.manual_seed(0)
    layer, x = answers.ConditionalInstanceNorm(3, 4), 2 + 5 * torch.randn(2, 4, 6, 6)
    shapes = {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}
    expected = {"bias": (3, 4), "weight": (3, 4)}
    expect(dict(sorted(shapes.items())), expected, call="the parameters of ConditionalInstanceNorm(3, 4)")
    plain, first = nn.InstanceNorm2d(4)(x), torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    expect(layer(x, first), plain, call="ConditionalInstanceNorm(3, 4)(x, shares) at the start", atol=1e-5)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    weight, bias = layer.weight.detach(), layer.bias.detach()
    one = plain[:1] * weight[0].view(1, 4, 1, 1) + bias[0].view(1, 4, 1, 1)
    other = plain[1:] * weight[2].view(1, 4, 1, 1) + bias[2].view(1, 4, 1, 1)
    expect(layer(x, first), torch.cat([one, other]), call="... with the first style, and with the third", atol=1e-5)
    half = torch.tensor([[0.5, 0.0, 0.5]]).expand(2, 3)
    mixed_weight, mixed_bias = ((value[0] + value[2]).view(1, 4, 1, 1) / 2 for value in (weight, bias))
    expect(layer(x, half), plain * mixed_weight + mixed_bias, call="... with half of the first and half of the third", atol=1e-5)


def test_paint_any_size(answers):
    """Hint: -height % multiple says how many rows are missing. F.pad(x, (0, right, 0, below), mode="reflect") adds them.

    힌트: -height % multiple은 모자라는 행의 수다. F.pad(x, (0, right, 0, below), mode="reflect")로 덧붙인다.
    """
    sizes = []

    def painter(x):
        sizes.append(tuple(x.shape))
        return x.flip(3)  # what was added at the right is now at the left: cutting it off there would be seen

    x = torch.arange(2 * 3 * 6 * 9.0).view(2, 3, 6, 9)
    painted = answers.paint_any_size(painter, x, 4)
    expect(sizes, [(2, 3, 8, 12)], call="the shapes that a painter is given for pictures (2, 3, 6, 9)")
    mirrored = torch.cat([x[..., 5:8], x.flip(3)[..., :6]], dim=3)  # 5, 6, 7, then 8, 7, ... 3
    expect(painted, mirrored, call="paint_any_size(a painter that turns pictures round, pictures (2, 3, 6, 9), 4)")
    sizes.clear()
    expect(answers.paint_any_size(painter, x, 3), x.flip(3), call="paint_any_size(..., 3), whose sizes are multiples already")
    expect(sizes, [(2, 3, 6, 9)], call="the shapes that a painter is given then")
