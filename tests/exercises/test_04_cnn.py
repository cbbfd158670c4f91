"""Checks of stage 04's exercises. `answers` is the module under check: the reader's file, or the solutions."""

import copy

import torch
import torch.nn.functional as F
from exercises.checking import Wrong, expect, names_used
from torch import nn


def test_weight_gradient(answers):
    """Hint: a weight met every example and every place. conv2d sums over channels and places: who must play the channels?

    힌트: 가중치 하나는 모든 예제, 모든 자리와 곱해졌다. conv2d는 채널과 자리에 대해 더한다. 그러면 채널 역할은 누가 해야 하는가?
    """
    ones = torch.ones(1, 1, 3, 3)
    got = answers.weight_gradient(ones, torch.ones(1, 1, 2, 2))
    expect(got, torch.full((1, 1, 2, 2), 4.0), call="weight_gradient(ones of 3x3, ones of 2x2)")
    generator = torch.Generator().manual_seed(0)
    for batch, channels, outs, k in ((2, 3, 4, 3), (5, 1, 2, 1), (3, 2, 1, 4)):
        x = torch.randn(batch, channels, 7, 9, generator=generator)
        weight = torch.randn(outs, channels, k, k, generator=generator, requires_grad=True)
        out = F.conv2d(x, weight)
        upstream = torch.randn(out.shape, generator=generator)
        (expected,) = torch.autograd.grad(out, weight, upstream)
        call = f"weight_gradient(x {tuple(x.shape)}, upstream {tuple(upstream.shape)})"
        expect(answers.weight_gradient(x, upstream), expected, call=call, atol=1e-4)
    used = names_used(answers.weight_gradient) & {"grad", "backward", "autograd", "conv2d_weight", "range", "vjp", "unfold"}
    expect(", ".join(sorted(used)) or "nothing", "nothing", call="what weight_gradient uses and should do without")


def test_merge_kernels(answers):
    """Hint: place u of one kernel and place v of the other reach pixel u + v. That is convolution, and F.conv2d turns no kernel.

    힌트: 한 커널의 자리 u와 다른 커널의 자리 v는 픽셀 u + v에 닿는다. 이것이 진짜 합성곱인데, F.conv2d는 커널을 뒤집지 않는다.
    """
    step = torch.tensor([[[[1.0, 2.0]] * 2]])  # (1, 1, 2, 2)
    got = answers.merge_kernels(step, torch.tensor([[[[1.0, 0.0], [0.0, 10.0]]]]))
    expected = torch.tensor([[[[1.0, 2.0, 0.0], [1.0, 12.0, 20.0], [0.0, 10.0, 20.0]]]])
    expect(got, expected, call="merge_kernels([[1, 2], [1, 2]], [[1, 0], [0, 10]])")
    generator = torch.Generator().manual_seed(0)
    for middle, ins, outs, k, l2 in ((1, 1, 1, 3, 5), (4, 3, 2, 3, 2), (2, 3, 4, 1, 3)):
        first = torch.randn(middle, ins, k, k, generator=generator, dtype=torch.float64)
        second = torch.randn(outs, middle, l2, l2, generator=generator, dtype=torch.float64)
        merged = answers.merge_kernels(first, second)
        call = f"merge_kernels({tuple(first.shape)}, {tuple(second.shape)})"
        if not isinstance(merged, torch.Tensor) or merged.shape != (outs, ins, k + l2 - 1, k + l2 - 1):
            expect(merged, torch.zeros(outs, ins, k + l2 - 1, k + l2 - 1, dtype=torch.float64), call=call)
        x = torch.randn(2, ins, 10, 11, generator=generator, dtype=torch.float64)
        expect(F.conv2d(x, merged), F.conv2d(F.conv2d(x, first), second), call=f"conv2d with {call}")


def test_plan_sizes(answers):
    """Hint: keep two numbers, pixels seen and the distance of neighbours in pixels. Which of them does a stride change, and when?

    힌트: 본 픽셀의 수와, 이웃한 두 수가 픽셀로 얼마나 떨어져 있는지를 들고 다니자. 스트라이드는 어느 것을, 언제 바꾸는가?
    """
    expect(answers.plan_sizes(28, [(3, 1, 1, 1), (3, 1, 1, 1)]), [(28, 3), (28, 5)], call="plan_sizes(28, two of (3, 1, 1, 1))")
    layers = [(7, 2, 3, 1), (3, 2, 1, 1), (3, 1, 1, 1)]
    expect(answers.plan_sizes(224, layers), [(112, 7), (56, 11), (56, 19)], call=f"plan_sizes(224, {layers})")
    layers = [(3, 1, 1, 1), (3, 1, 2, 2), (3, 1, 4, 4)]
    expect(answers.plan_sizes(20, layers), [(20, 3), (20, 7), (20, 15)], call=f"plan_sizes(20, {layers})")
    expect(answers.plan_sizes(7, [(2, 2, 0, 1)]), [(3, 2)], call="plan_sizes(7, [(2, 2, 0, 1)])")
    expect(answers.plan_sizes(5, []), [], call="plan_sizes(5, [])")
    expect(answers.plan_sizes(3, [(5, 1, 1, 1)]), [(1, 5)], call="plan_sizes(3, [(5, 1, 1, 1)])")
    for size, layers in ((4, [(5, 1, 0, 1)]), (8, [(3, 2, 0, 1), (2, 2, 0, 1), (3, 3, 0, 2)])):
        try:
            got = answers.plan_sizes(size, layers)
        except ValueError:
            continue
        raise Wrong(f"plan_sizes({size}, {layers}): expected a ValueError, got {got}")


def test_same_padding(answers):
    """Hint: how far does the last window reach, if there are that many places? What is missing is the padding.

    힌트: 자리가 그만큼 있으려면 마지막 창은 어디까지 닿는가? 모자라는 만큼이 패딩이다.
    """
    cases = {
        (28, 3, 1, 1): (1, 1),
        (224, 3, 2, 1): (0, 1),  # PyTorch's padding=1 would have put it in front
        (225, 3, 2, 1): (1, 1),
        (28, 4, 1, 1): (1, 2),
        (10, 3, 1, 2): (2, 2),
        (10, 1, 1, 1): (0, 0),
        (10, 1, 2, 1): (0, 0),  # nothing is missing, and no padding is negative
        (9, 5, 3, 1): (1, 1),
        (7, 2, 2, 3): (1, 2),
    }
    for settings, expected in cases.items():
        got = answers.same_padding(*settings)
        expect(got, expected, call="same_padding(size {}, kernel {}, stride {}, dilation {})".format(*settings))


def test_max_pool_backward(answers):
    """Hint: x.unfold twice shows the windows. Which place of a window gets the number, and how do windows become a picture again?

    힌트: x.unfold를 두 번 하면 창이 보인다. 창의 어느 자리가 값을 받고, 창들은 어떻게 다시 그림이 되는가?
    """
    x = torch.tensor([[[[1.0, 5.0, 2.0, 2.0], [3.0, 4.0, 2.0, 2.0]]]])
    got = answers.max_pool_backward(x, torch.tensor([[[[10.0, 20.0]]]]), 2)
    expected = torch.tensor([[[[0.0, 10.0, 20.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]])
    expect(got, expected, call="max_pool_backward([[1, 5, 2, 2], [3, 4, 2, 2]], [[10, 20]], 2)")
    generator = torch.Generator().manual_seed(0)
    for shape, size in (((2, 3, 6, 9), 3), ((1, 2, 4, 4), 2), ((2, 1, 3, 5), 1)):
        x = torch.randn(shape, generator=generator).relu().requires_grad_()  # relu: ties at 0
        out = F.max_pool2d(x, size)
        upstream = torch.randn(out.shape, generator=generator)
        (expected,) = torch.autograd.grad(out, x, upstream)
        expect(answers.max_pool_backward(x.detach(), upstream, size), expected, call=f"max_pool_backward(x {shape}, size {size})")
    used = names_used(answers.max_pool_backward) & {"autograd", "grad", "backward", "vjp", "enable_grad"}
    expect(", ".join(sorted(used)) or "nothing", "nothing", call="what max_pool_backward uses and should do without")


def test_merge_statistics(answers):
    """Hint: the variance of the whole has two sources: inside the parts, and between the parts' means.

    힌트: 전체의 분산은 두 군데에서 온다. 각 부분의 안, 그리고 부분들의 평균 사이다.
    """
    got = answers.merge_statistics(torch.tensor([2, 2]), torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [1.0]]))
    expect(got, (torch.tensor([2.0]), torch.tensor([5.0])), call="merge_statistics([2, 2], means 0 and 4, variances 1 and 1)")
    got = answers.merge_statistics(torch.tensor([3, 1]), torch.tensor([[0.0], [4.0]]), torch.zeros(2, 1))
    expect(got, (torch.tensor([1.0]), torch.tensor([3.0])), call="merge_statistics([3, 1], means 0 and 4, variances 0)")
    x = 3 * torch.randn(20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + torch.arange(5)
    parts = x.split([7, 1, 12])
    counts = torch.tensor([len(part) for part in parts])
    means = torch.stack([part.mean(dim=0) for part in parts])
    variances = torch.stack([part.var(dim=0, correction=0) for part in parts])
    got = answers.merge_statistics(counts, means, variances)
    expect(got, (x.mean(dim=0), x.var(dim=0, correction=0)), call="merge_statistics(parts of 7, 1 and 12 rows of 5 channels)")


def test_fold_into_linear(answers):
    """Hint: in eval mode the norm is factor · x + offset. Put that into W x + b, and collect what multiplies x.

    힌트: 평가 모드의 정규화는 배율 · x + 이동이다. 이것을 W x + b에 넣고 x에 곱해지는 것을 모아 보자.
    """
    torch.manual_seed(0)
    for features, outs in ((3, 2), (6, 6)):
        norm, linear = nn.BatchNorm1d(features, eps=0.1), nn.Linear(features, outs)
        for tensor, low, high in (
            (norm.weight, -2, 2),
            (norm.bias, -1, 1),
            (norm.running_mean, 1, 3),
            (norm.running_var, 0.1, 4),
        ):
            nn.init.uniform_(tensor, low, high)
        before = copy.deepcopy({**norm.state_dict(), **linear.state_dict()})
        x = torch.randn(5, features)
        folded = answers.fold_into_linear(norm, linear)
        if type(folded) is not nn.Linear:
            raise Wrong(f"fold_into_linear: expected an nn.Linear, got {type(folded).__name__}")
        expected = linear(norm.eval()(x)).detach()
        expect(folded(x), expected, call=f"fold_into_linear(norm, linear from {features} to {outs})(x)")
        expect({**norm.state_dict(), **linear.state_dict()}, before, call="norm and linear afterwards")
