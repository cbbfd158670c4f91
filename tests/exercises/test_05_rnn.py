"""Checks of stage 05's exercises. `answers` is the module under check: the reader's file, or the solutions."""

import math

import torch
import torch.nn.functional as F
from exercises.checking import expect, names_used


def test_mase(answers):
    """Hint: past[period:] beside past[:-period] are all pairs of a value and the one a season before it.

    힌트: past[period:]와 past[:-period]를 나란히 놓으면 값과 한 계절 전의 값이 모두 짝지어진다.
    """
    past = torch.tensor([1.0, 3.0, 2.0, 6.0])
    forecasts, targets = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 5.0]])
    expect(answers.mase(forecasts, targets, past, 1), 2 / (7 / 3), call="mase([[1, 2]], [[2, 5]], past [1, 3, 2, 6], period 1)")
    expect(answers.mase(forecasts, targets, past, 2), 1.0, call="mase([[1, 2]], [[2, 5]], past [1, 3, 2, 6], period 2)")
    expect(answers.mase(targets, targets, past, 3), 0.0, call="mase(the targets themselves)")


def test_forecast_recursively(answers):
    """Hint: torch.cat puts a forecast behind the window; the last `lags` values are the next one.

    힌트: torch.cat으로 예측을 구간 뒤에 붙이면, 마지막 `lags`개가 다음 구간이다.
    """
    window = torch.tensor([[1.0, 2.0], [5.0, 5.0]])
    got = answers.forecast_recursively(lambda w: w[:, 0] + w[:, 1], window, 4)
    expect(got, torch.tensor([[3.0, 5, 8, 13], [10, 15, 25, 40]]), call="forecast_recursively(sum of both, [[1, 2], [5, 5]], 4)")
    expect(window, torch.tensor([[1.0, 2.0], [5.0, 5.0]]), call="the window afterwards")
    seen = []
    answers.forecast_recursively(lambda w: seen.append(tuple(w.shape)) or w[:, -1], torch.zeros(3, 5), 3)
    expect(seen, [(3, 5)] * 3, call="the shapes that the model is given, with a window of (3, 5)")
    got = answers.forecast_recursively(lambda w: w[:, -1] + 1, torch.zeros(2, 3), 1)
    expect(got, torch.ones(2, 1), call="forecast_recursively(last + 1, zeros of (2, 3), 1)")


def test_standardize_as_you_go(answers):
    """Hint: x[:t] are the values before x[t]. What is the standard deviation of one value, or of three equal ones?

    힌트: x[:t]가 x[t] 앞의 값들이다. 값 하나의 표준편차는? 같은 값 세 개의 표준편차는?
    """
    got = answers.standardize_as_you_go(torch.tensor([1.0, 3.0, 4.0, 2.0]))
    std = (14 / 3 - 0) ** 0.5 / 2**0.5  # of 1, 3, 4: the mean is 8/3, the squares add up to 14/3
    expect(got, torch.tensor([0.0, 0.0, 2 / 2**0.5, (2 - 8 / 3) / std]), call="standardize_as_you_go([1, 3, 4, 2])")
    got = answers.standardize_as_you_go(torch.tensor([5.0, 5.0, 5.0, 7.0, 5.0]))
    expect(got, torch.tensor([0.0, 0, 0, 0, -0.5]), call="standardize_as_you_go([5, 5, 5, 7, 5])")
    x = torch.randn(50, generator=torch.Generator().manual_seed(0))
    other = torch.cat([x[:30], 100 + x[30:]])
    ours, theirs = (answers.standardize_as_you_go(one)[:30] for one in (x, other))
    expect(theirs, ours, call="the first 30 of standardize_as_you_go, with another future")
    expect(answers.standardize_as_you_go(torch.tensor([2.0])), torch.zeros(1), call="standardize_as_you_go([2])")


def test_leaky_columns(answers):
    """Hint: prepare a copy with another future and compare rows 0 ... day. NaN is not equal to itself.

    힌트: 미래가 다른 복사본도 준비해 0행부터 day행까지 비교하자. NaN은 자기 자신과도 같지 않다.
    """

    def prepare(x):
        before = torch.cat([torch.tensor([torch.nan]), x[:-1]])
        centred = F.avg_pool1d(x[None], 3, stride=1, padding=1)[0]
        return torch.stack([before, x, torch.arange(len(x)).float(), centred, x - x.mean(), before.nan_to_num().cumsum(0)], dim=1)

    x = torch.arange(20.0)
    expect(answers.leaky_columns(prepare, x, 12), [1, 3, 4], call="leaky_columns(yesterday, today, date, centred mean, ...)")
    expect(x, torch.arange(20.0), call="the series afterwards")
    tomorrow = lambda x: torch.cat([x[2:], x[:2]])[:, None]  # noqa: E731
    expect(answers.leaky_columns(tomorrow, x, 12), [0], call="leaky_columns(the day after tomorrow)")
    yesterday = lambda x: torch.cat([x[:1], x[:-1]])[:, None]  # noqa: E731
    expect(answers.leaky_columns(yesterday, x, 19), [], call="leaky_columns(yesterday, the last day)")
    only_today = lambda x: x[:, None]  # noqa: E731
    expect(answers.leaky_columns(only_today, x, 5), [0], call="leaky_columns(today)")


def test_causal_convolution(answers):
    """Hint: put (size - 1) * dilation zeros in front. Weight k then sees the slice that begins at k * dilation.

    힌트: 앞에 0을 (size - 1) * dilation개 놓자. 그러면 k번째 가중치가 보는 조각은 k * dilation에서 시작한다.
    """
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0, 5.0]]])
    got = answers.causal_convolution(x, torch.tensor([[[10.0, 1.0]]]), 2)
    expect(got, torch.tensor([[[1.0, 2.0, 13.0, 24.0, 35.0]]]), call="causal_convolution([1, 2, 3, 4, 5], [10, 1], dilation 2)")
    generator = torch.Generator().manual_seed(0)
    for channels, outputs, size, dilation in ((2, 3, 3, 1), (4, 2, 2, 4), (1, 1, 1, 3), (2, 2, 3, 8)):
        x = torch.randn(3, channels, 12, generator=generator)
        weight = torch.randn(outputs, channels, size, generator=generator)
        right = F.conv1d(F.pad(x, ((size - 1) * dilation, 0)), weight, dilation=dilation)
        call = f"causal_convolution(x of {tuple(x.shape)}, weight of {tuple(weight.shape)}, dilation {dilation})"
        expect(answers.causal_convolution(x, weight, dilation), right, call=call)
    used = names_used(answers.causal_convolution) & {"conv1d", "Conv1d", "conv2d", "convolution"}
    expect(", ".join(sorted(used)) or "nothing", "nothing", call="what causal_convolution uses and should do without")


def test_conformal_interval(answers):
    """Hint: sort the absolute errors; the k-th smallest stands at k - 1. math.inf is a float.

    힌트: 절대 오차를 정렬하면 k번째로 작은 것은 k - 1에 있다. math.inf는 float다.
    """
    forecasts, targets = torch.zeros(9), torch.tensor([3.0, -1.0, 2.0, -5.0, 4.0, 8.0, -7.0, 6.0, 9.0])
    new = torch.tensor([10.0, 20.0])
    for share, half in ((0.8, 8.0), (0.5, 5.0), (0.85, 9.0), (0.95, math.inf)):
        got = answers.conformal_interval(forecasts, targets, new, share)
        expect(got, (new - half, new + half), call=f"conformal_interval(nine errors of 1 ... 9 in size, [10, 20], {share})")
    generator = torch.Generator().manual_seed(0)
    forecasts, targets, new = (torch.randn(200, generator=generator) for _ in range(3))
    half = (forecasts - targets).abs().sort().values[math.ceil(201 * 0.9) - 1]
    got = answers.conformal_interval(forecasts, targets, new, 0.9)
    expect(got, (new - half, new + half), call="conformal_interval(200 forecasts, 200 targets, 200 new ones, 0.9)")
