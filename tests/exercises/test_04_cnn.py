"""Checks of stage 04's exercises. `answers` is the module under check: the reader's file, or the solutions."""

import copy

import pytest
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
    used = names_used(answers.weight_gradient) & {"backward", "autograd", "vjp", "conv2d_weight", "range", "unfold"}
    expect(", ".join(sorted(used)) or "nothing", "nothing", call="what weight_gradient uses and should do without")
    generator = torch.Generator().manual_seed(0)
    for batch, channels, outs, k in ((2, 3, 4, 3), (5, 1, 2, 1), (3, 2, 1, 4)):
        x = torch.randn(batch, channels, 7, 9, generator=generator)
        weight = torch.randn(outs, channels, k, k, generator=generator, requires_grad=True)
        out = F.conv2d(x, weight)
        upstream = torch.randn(out.shape, generator=generator)
        (expected,) = torch.autograd.grad(out, weight, upstream)
        call = f"weight_gradient(x {tuple(x.shape)}, upstream {tuple(upstream.shape)})"
        with torch.inference_mode():  # autograd has nothing to go by here, under whatever name
            expect(answers.weight_gradient(x, upstream), expected, call=call, atol=1e-4)


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
    used = names_used(answers.max_pool_backward) & {"autograd", "backward", "vjp", "enable_grad"}
    expect(", ".join(sorted(used)) or "nothing", "nothing", call="what max_pool_backward uses and should do without")
    generator = torch.Generator().manual_seed(0)
    for shape, size in (((2, 3, 6, 9), 3), ((1, 2, 4, 4), 2), ((2, 1, 3, 5), 1)):
        x = torch.randn(shape, generator=generator).relu().requires_grad_()  # relu: ties at 0
        out = F.max_pool2d(x, size)
        upstream = torch.randn(out.shape, generator=generator)
        (expected,) = torch.autograd.grad(out, x, upstream)
        with torch.inference_mode():  # autograd has nothing to go by here, under whatever name
            got = answers.max_pool_backward(x.detach(), upstream, size)
        expect(got, expected, call=f"max_pool_backward(x {shape}, size {size})")


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


def test_convolution_matrix(answers):
    """Hint: output pixel (i, j) gives kernel[a, b] to input pixel (i + a - k//2, j + b - k//2). What if that lies outside?

    힌트: 출력 픽셀 (i, j)는 입력 픽셀 (i + a - k//2, j + b - k//2)에 kernel[a, b]를 준다. 그 픽셀이 이미지 밖이면?
    """
    kernel = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    expected = torch.tensor([[5.0, 6.0, 8.0, 9.0], [4.0, 5.0, 7.0, 8.0], [2.0, 3.0, 5.0, 6.0], [1.0, 2.0, 4.0, 5.0]])
    got = answers.convolution_matrix(kernel, 2)
    expect(got, expected, call="convolution_matrix([[1, 2, 3], [4, 5, 6], [7, 8, 9]], size=2)")
    expect(answers.convolution_matrix(torch.tensor([[3.0]]), 2), 3 * torch.eye(4), call="convolution_matrix([[3]], size=2)")
    generator = torch.Generator().manual_seed(0)
    for k, size in ((3, 5), (5, 4), (5, 7)):
        kernel, x = torch.randn(k, k, generator=generator), torch.randn(1, 1, size, size, generator=generator)
        got = answers.convolution_matrix(kernel, size)
        expect(tuple(got.shape), (size**2, size**2), call=f"convolution_matrix(a {k}x{k} kernel, size={size}).shape")
        right = F.conv2d(x, kernel[None, None], padding=k // 2).flatten()
        expect(got @ x.flatten(), right, call=f"convolution_matrix(a {k}x{k} kernel, size={size}) @ a picture", atol=1e-5)
    used = names_used(answers.convolution_matrix) & {"F", "functional", "conv2d", "Conv2d", "unfold", "Unfold", "fold"}
    expect(", ".join(sorted(used)) or "nothing", "nothing", call="what convolution_matrix uses and should do without")


def test_macro_f1(answers):
    """Hint: 2 · right / (how many there are + how many were answered), class by class. Both are sums of the matrix.

    힌트: 클래스마다 2 · 맞힌 수 / (실제로 있는 수 + 그렇게 답한 수)다. 둘 다 행렬의 합이다.
    """
    expect(answers.macro_f1(torch.eye(3, dtype=torch.int64)), 1.0, call="macro_f1(nothing but right answers)")
    confusion = torch.tensor([[8, 2], [0, 90]])
    expect(answers.macro_f1(confusion), (16 / 18 + 180 / 182) / 2, call="macro_f1([[8, 2], [0, 90]])")
    confusion = torch.tensor([[6, 4], [0, 0]])  # the second class was answered and never there
    expect(answers.macro_f1(confusion), (12 / 16 + 0) / 2, call="macro_f1([[6, 4], [0, 0]])")
    confusion = torch.tensor([[5, 0, 1], [0, 0, 0], [2, 0, 4]])
    expect(answers.macro_f1(confusion), (10 / 13 + 8 / 11) / 2, call="macro_f1([[5, 0, 1], [0, 0, 0], [2, 0, 4]])")
    confusion = torch.randint(0, 30, (6, 6), generator=torch.Generator().manual_seed(0))
    precision, recall = confusion.diagonal() / confusion.sum(dim=0), confusion.diagonal() / confusion.sum(dim=1)
    right = (2 * precision * recall / (precision + recall)).mean().item()
    expect(answers.macro_f1(confusion), right, call="macro_f1(a matrix of shape (6, 6))")


def test_adaptive_calibration_error(answers):
    """Hint: argsort, then torch.tensor_split. A bin's distance times its number of answers is |sum of confidences - right ones|.

    힌트: argsort를 한 다음 torch.tensor_split. 구간의 차이에 답의 수를 곱하면 |확신도의 합 - 맞힌 수|다.
    """
    confidence, right = torch.tensor([0.9, 0.6, 0.8, 0.7]), torch.tensor([True, False, True, True])
    got = answers.adaptive_calibration_error(confidence, right, 2)
    expect(got, (0.3 + 0.3) / 4, call="adaptive_calibration_error([.9, .6, .8, .7], [right, wrong, right, right], 2 bins)")
    got = answers.adaptive_calibration_error(confidence, right, 1)
    expect(got, 0.0, call="the same in 1 bin", atol=1e-6)
    got = answers.adaptive_calibration_error(confidence, right, 4)
    expect(got, (0.6 + 0.3 + 0.2 + 0.1) / 4, call="the same in 4 bins")
    confidence, right = torch.arange(1, 11) / 20, torch.tensor([False, True] * 5)
    sizes, start, off = (3, 3, 2, 2), 0, 0.0
    for size in sizes:
        part = slice(start, start + size)
        off += abs(confidence[part].sum().item() - right[part].sum().item())
        start += size
    got = answers.adaptive_calibration_error(confidence, right, 4)
    expect(got, off / 10, call="adaptive_calibration_error(10 answers, 4 bins: of 3, 3, 2 and 2)")


def test_output_shapes(answers):
    """Hint: model.named_modules(), register_forward_hook, and try ... finally to remove the hooks. Which name does a hook see?

    힌트: model.named_modules(), register_forward_hook, 그리고 훅을 떼는 try ... finally. 훅이 보는 이름은 어느 것인가?
    """
    block = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    model = nn.Sequential(block, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 4 * 4, 5))
    right = {"0.0": (2, 8, 8, 8), "0.1": (2, 8, 8, 8), "0.2": (2, 8, 8, 8), "1": (2, 8, 4, 4), "2": (2, 128), "3": (2, 5)}
    for training in (True, False):
        model.train(training)
        got = answers.output_shapes(model, torch.zeros(2, 3, 8, 8))
        expect(got, right, call="output_shapes(six layers, two of them nested deeper, (2, 3, 8, 8))")
        expect(list(got), list(right), call="list(output_shapes(...)), the order of the names")
        expect(model.training, training, call="model.training afterwards")
    with pytest.raises(RuntimeError):
        answers.output_shapes(model, torch.zeros(2, 4, 8, 8))
    left = sum(len(module._forward_hooks) for module in model.modules())
    expect(left, 0, call="hooks that are left after the model raised an error")


def test_auto_contrast(answers):
    """Hint: amin and amax over two dimensions, with keepdim. What is 0 / 0, and what may stand there instead?

    힌트: 두 차원에 대한 amin과 amax, 그리고 keepdim. 0 / 0은 무엇이 되고, 그 자리에 무엇을 두면 되는가?
    """
    image = torch.tensor([[0.2, 0.4], [0.6, 0.3]])
    expect(
        answers.auto_contrast(image.view(1, 1, 2, 2)),
        torch.tensor([[0.0, 0.5], [1.0, 0.25]]).view(1, 1, 2, 2),
        call="auto_contrast([[[[0.2, 0.4], [0.6, 0.3]]]])",
    )
    flat = torch.tensor([0.7, 0.0]).view(1, 2, 1, 1).expand(1, 2, 3, 3)
    expect(answers.auto_contrast(flat), flat.clone(), call="auto_contrast(channels of nothing but 0.7 and 0)")
    images = torch.rand(4, 3, 5, 6, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2
    before = images.clone()
    got = answers.auto_contrast(images)
    expect(images, before, call="the images afterwards")
    expected = torch.stack([torch.stack([(c - c.min()) / (c.max() - c.min()) for c in image]) for image in images])
    expect(got, expected, call="auto_contrast(4 images of 3 channels)", atol=1e-5)


def test_flip_boxes(answers):
    """Hint: x becomes width - x. Which of the two is the left edge then?

    힌트: x는 width - x가 된다. 그러면 둘 가운데 어느 쪽이 왼쪽 변인가?
    """
    boxes = torch.tensor([[[0.0, 1.0, 4.0, 5.0]], [[2.0, 0.0, 3.0, 9.0]]])
    before = boxes.clone()
    got = answers.flip_boxes(boxes, torch.tensor([True, False]), 10)
    expected = torch.tensor([[[6.0, 1.0, 10.0, 5.0]], [[2.0, 0.0, 3.0, 9.0]]])
    expect(got, expected, call="flip_boxes([[[0, 1, 4, 5]], [[2, 0, 3, 9]]], [True, False], width 10)")
    expect(boxes, before, call="the boxes afterwards")
    corners = torch.rand(5, 3, 2, 2, generator=torch.Generator().manual_seed(0)).sort(dim=2).values * 32
    boxes = corners.flatten(2)  # left, top, right, bottom
    which = torch.tensor([True, False, True, True, False])
    once = answers.flip_boxes(boxes, which, 32)
    expect(bool((once[..., 0] <= once[..., 2]).all()), True, call="whether left is never larger than right")
    expect(answers.flip_boxes(once, which, 32), boxes, call="flip_boxes(flip_boxes(boxes))", atol=1e-4)


def test_mixed_cross_entropy(answers):
    """Hint: cross_entropy twice, with reduction="none". Where do the shares belong, before the mean or after it?

    힌트: reduction="none"으로 cross_entropy를 두 번. share는 평균하기 전에 곱하는가, 평균한 뒤에 곱하는가?
    """
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=generator)
    labels, partner = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([3, 3, 0, 2, 1, 5])
    for name, share in (("1", torch.ones(6)), ("0", torch.zeros(6)), ("between", torch.rand(6, generator=generator))):
        one_hot = F.one_hot(labels, 4).float()
        targets = share.view(-1, 1) * one_hot + (1 - share.view(-1, 1)) * one_hot[partner]
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        got, expected = answers.mixed_cross_entropy(ours, labels, partner, share), F.cross_entropy(theirs, targets)
        expect(got, expected, call=f"mixed_cross_entropy(6 images, shares {name})")
        got.backward()
        expected.backward()
        expect(ours.grad, theirs.grad, call=f"the gradient of the logits, shares {name}", atol=1e-5)
    used = names_used(answers.mixed_cross_entropy) & {"one_hot", "eye", "scatter", "scatter_"}
    expect(", ".join(sorted(used)) or "nothing", "nothing", call="what mixed_cross_entropy uses and should do without")


def test_split_by_origin(answers):
    """Hint: which origins are there, each once? Draw among those; torch.isin brings the copies along.

    힌트: 서로 다른 원본에는 무엇이 있는가? 그 가운데에서 뽑고, 사본은 torch.isin으로 데려온다.
    """
    origins = torch.tensor([5, 5, 5, 9, 2, 2, 7, 9])
    state = torch.get_rng_state()
    counts = dict.fromkeys([2, 5, 7, 9], 0)
    for seed in range(200):
        test = answers.split_by_origin(origins, 0.5, torch.Generator().manual_seed(seed))
        expect((test.dtype, tuple(test.shape)), (torch.bool, (8,)), call="dtype and shape of split_by_origin(8 images)")
        chosen, kept = set(origins[test].tolist()), set(origins[~test].tolist())
        expect(sorted(chosen & kept), [], call="origins on both sides of split_by_origin([5, 5, 5, 9, 2, 2, 7, 9], 0.5)")
        expect(len(chosen), 2, call="how many of the 4 origins split_by_origin(..., share=0.5) chooses")
        for origin in chosen:
            counts[origin] += 1
    fair = all(60 <= count <= 140 for count in counts.values())
    expect(fair, True, call=f"whether every origin is as likely as another (chosen in 200 draws: {counts})")
    twice = [answers.split_by_origin(origins, 0.5, torch.Generator().manual_seed(3)) for _ in range(2)]
    expect(twice[0], twice[1], call="split_by_origin with the same generator seed again")
    expect(torch.equal(state, torch.get_rng_state()), True, call="whether the global generator was left alone")
    for share, count in ((0.0, 0), (1.0, 8)):
        test = answers.split_by_origin(origins, share, torch.Generator().manual_seed(0))
        expect(int(test.sum()), count, call=f"test images of split_by_origin(8 images, share={share})")


def test_paired_gain(answers):
    """Hint: subtract first, seed by seed; then mean and standard deviation. Which of torch's defaults divides by n - 1?

    힌트: 먼저 시드마다 뺀 다음 평균과 표준편차를 구한다. torch에서 n - 1로 나누는 것은 어느 쪽인가?
    """
    expect(answers.paired_gain([0.5, 0.7], [0.4, 0.4]), (0.2, 0.1), call="paired_gain([0.5, 0.7], [0.4, 0.4])")
    expect(
        answers.paired_gain([0.30, 0.52, 0.71, 0.40], [0.28, 0.50, 0.69, 0.38]),
        (0.02, 0.0),
        call="paired_gain([0.30, 0.52, 0.71, 0.40], [0.28, 0.50, 0.69, 0.38])",
        atol=1e-6,
    )
    expect(answers.paired_gain([0.1, 0.2, 0.6], [0.3, 0.3, 0.3]), (0.0, 0.152753), call="paired_gain([0.1, 0.2, 0.6], [0.3] * 3)")


def test_OnFrozen(answers):
    """Hint: model.train() goes through all submodules. Override it: let it do that, and then put one of them back.

    힌트: model.train()은 하위 모듈을 모두 학습 모드로 바꾼다. 이 메서드를 재정의해 그렇게 하게 둔 다음 하나만 되돌린다.
    """
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(16, 2))
    reference = copy.deepcopy(backbone).eval()
    x, labels = torch.randn(8, 3, 4, 4), torch.arange(8) % 2
    model = answers.OnFrozen(backbone, head)
    expect(model.eval()(x), head(reference(x)), call="model.eval()(x)")
    returned = model.train()
    expect(returned is model, True, call="model.train() is model")
    expect((head.training, backbone.training), (True, False), call="(head.training, backbone.training) after model.train()")
    expect(backbone[1].training, False, call="the batch norm's .training after model.train()")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    expect(len(trained), 2, call="the number of parameters with requires_grad")
    optimizer = torch.optim.SGD(trained, lr=0.1)
    before = head[1].weight.detach().clone()
    F.cross_entropy(model(x), labels).backward()
    optimizer.step()
    expect(torch.equal(before, head[1].weight), False, call="the head's weights are the same after a step of training")
    for name, tensor in reference.state_dict().items():
        expect(backbone.state_dict()[name], tensor, call=f"the backbone's {name} after a step of training")
    model.eval()
    expect((head.training, backbone.training), (False, False), call="(head.training, backbone.training) after model.eval()")
    model.train(True)
    expect((head.training, backbone.training), (True, False), call="(head.training, backbone.training) after model.train(True)")


def test_parameter_groups(answers):
    """Hint: count the depth from the last stage on. Is anything left of a generator after you have looked whether it is empty?

    힌트: 깊이는 마지막 스테이지에서부터 센다. 제너레이터가 비었는지 들여다본 뒤에 그 안에 남아 있는 것이 있을까?
    """
    stages = nn.Sequential(
        nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5)), nn.Tanh(), nn.BatchNorm1d(5)
    )
    head = nn.Linear(5, 2)
    groups = answers.parameter_groups(stages, head, 0.1, 0.2, 0.5)
    call = "parameter_groups(Linear, Sequential, Tanh and BatchNorm1d, lr=0.1, share=0.2, fall=0.5)"
    expect([round(group["lr"], 6) for group in groups], [0.1, 0.02, 0.005, 0.0025], call=f"the rates of {call}")
    expect([len(list(group["params"])) for group in groups], [2, 2, 4, 2], call=f"the numbers of parameters of {call}")
    groups = answers.parameter_groups(stages, head, 0.1, 0.2, 0.5)
    same = [ours is theirs for ours, theirs in zip(groups[2]["params"], stages[1].parameters(), strict=True)]
    expect(same, [True] * 4, call="the third group holds the Sequential's own parameters")
    torch.optim.AdamW(groups)
    stages[0].requires_grad_(False)
    stages[1][0].bias.requires_grad_(False)
    groups = answers.parameter_groups(stages, head, 1.0, 0.5, 0.1)
    call = "with the first Linear and a bias frozen"
    expect([round(group["lr"], 6) for group in groups], [1.0, 0.5, 0.005], call=f"the rates {call}")
    expect([len(list(group["params"])) for group in groups], [2, 2, 3], call=f"the numbers of parameters {call}")


def test_neighbour_vote(answers):
    """Hint: normalise, multiply, topk; scatter_add sums the votes of a class. What does a class have that nobody voted for?

    힌트: 정규화하고 곱하고 topk. scatter_add가 클래스별로 표를 더한다. 아무도 표를 주지 않은 클래스의 합은 얼마여야 할까?
    """
    pool = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, -0.8], [-9.0, 0.0]])
    labels = torch.tensor([2, 1, 1, 0])
    queries = torch.tensor([[5.0, 0.0]])
    for k, winner in ((1, 2), (2, 2), (3, 1), (4, 1)):  # similarities 1, 0.6, 0.6, -1
        got = answers.neighbour_vote(pool, labels, queries, k)
        expect(got, torch.tensor([winner]), call=f"neighbour_vote(similarities 1, 0.6, 0.6, -1 of the classes 2, 1, 1, 0; k={k})")
    got = answers.neighbour_vote(torch.tensor([[-1.0, 0.1], [-1.0, 0.0]]), torch.tensor([3, 1]), torch.tensor([[2.0, 0.0]]), 1)
    expect(got, torch.tensor([3]), call="neighbour_vote(similarities -0.995 and -1 of the classes 3 and 1; k=1)")
    generator = torch.Generator().manual_seed(0)
    pool, queries = torch.randn(40, 8, generator=generator), torch.randn(25, 8, generator=generator)
    labels = torch.randint(4, (40,), generator=generator)
    expected = []
    for query in queries:
        similarity = F.cosine_similarity(query, pool)
        votes = {}
        for i in similarity.topk(7).indices.tolist():
            votes[labels[i].item()] = votes.get(labels[i].item(), 0.0) + similarity[i].item()
        expected.append(max(votes, key=votes.get))
    got = answers.neighbour_vote(pool, labels, queries, 7)
    expect(got, torch.tensor(expected), call="neighbour_vote(40 known, 25 queries, 4 classes; k=7)")


def test_draw_episode(answers):
    """Hint: one torch.randperm of a class's examples, cut in two. Which classes have enough of them, and what are their numbers?

    힌트: 한 클래스의 예제를 torch.randperm으로 한 번 섞어 둘로 자른다. 예제가 넉넉한 클래스는 무엇이고, 그 번호는?
    """
    labels = torch.tensor([7] * 6 + [2] * 3 + [4] * 5 + [9] * 8)[torch.randperm(22, generator=torch.Generator().manual_seed(3))]
    drawn, orders = set(), set()
    for seed in range(30):
        call = f"draw_episode(6 of class 7, 3 of 2, 5 of 4, 8 of 9; 2 ways, 2 shots, 3 queries; seed {seed})"
        episode = answers.draw_episode(labels, 2, 2, 3, torch.Generator().manual_seed(seed))
        expect(isinstance(episode, tuple) and len(episode) == 3, True, call=f"{call} is a tuple of three")
        classes, support, query = episode
        expect((tuple(support.shape), tuple(query.shape)), ((2, 2), (2, 3)), call=f"the shapes of support and query in {call}")
        expect(labels[support], classes.view(2, 1).expand(2, 2), call=f"labels[support] of {call}")
        expect(labels[query], classes.view(2, 1).expand(2, 3), call=f"labels[query] of {call}")
        expect(len({*support.flatten().tolist(), *query.flatten().tolist()}), 10, call=f"different indices in {call}")
        expect(2 in classes.tolist(), False, call=f"the class with 3 examples is in {call}")
        again = answers.draw_episode(labels, 2, 2, 3, torch.Generator().manual_seed(seed))
        expect(torch.equal(again[1], support), True, call=f"the same support for the same seed in {call}")
        drawn |= set(support.flatten().tolist())
        orders.add(tuple(classes.tolist()))
    expect(sorted(drawn), sorted((labels != 2).nonzero().flatten().tolist()), call="what is in the support of 30 episodes")
    expect(len(orders), 6, call="how many pairs of classes, in either order, are in 30 episodes")
