"""Checks of stage 05's exercises. `answers` is the module under check: the reader's file, or the solutions."""

import math
import unicodedata

import torch
import torch.nn.functional as F
from exercises.checking import expect, names_used
from torch import nn


def test_read_with_resets(answers):
    """Hint: before each step, h = h * ~starts[:, t, None]: True counts as 1, False as 0.

    힌트: 스텝마다 먼저 h = h * ~starts[:, t, None]. True는 1로, False는 0으로 곱해진다.
    """
    one = torch.ones(1, 1)
    got = answers.read_with_resets(torch.ones(1, 3, 1), torch.tensor([[False, False, True]]), one, one, torch.zeros(1))
    first = torch.tanh(torch.tensor(1.0))
    right = torch.stack([first, torch.tanh(1 + first), first]).view(1, 3, 1)
    expect(got, right, call="read_with_resets([1, 1, 1], a start at the third, weights 1, bias 0)")
    torch.manual_seed(0)
    rnn = nn.RNN(3, 4, batch_first=True)
    w_ih, w_hh, b_ih, b_hh = (parameter.detach() for parameter in rnn.parameters())
    x, starts = torch.randn(2, 9, 3), torch.zeros(2, 9, dtype=torch.bool)
    starts[0, [0, 4, 5]], starts[1, 7] = True, True
    with torch.no_grad():
        rows = [[rnn(part)[0] for part in row.split(sizes)] for row, sizes in zip(x, ([4, 1, 4], [7, 2]), strict=True)]
    right = torch.stack([torch.cat(row) for row in rows])
    got = answers.read_with_resets(x, starts, w_ih, w_hh, b_ih + b_hh)
    expect(got, right, call="read_with_resets(two rows, starts at 0, 4, 5 and at 7)")


def test_jamo(answers):
    """Hint: divmod(ord(syllable) - 0xAC00, 28) gives everything but the final, and the final.

    힌트: divmod(ord(음절) - 0xAC00, 28)은 종성을 뺀 나머지와 종성을 준다.
    """
    expect(answers.jamo("강"), [(0, 0, 21)], call='jamo("강")')
    expect(answers.jamo(""), [], call='jamo("")')
    text = "가나다각힣쇠뜨기참새미꾸라지왕오색나비"
    right = []
    for syllable in text:
        first, vowel, *last = map(ord, unicodedata.normalize("NFD", syllable))
        right.append((first - 0x1100, vowel - 0x1161, last[0] - 0x11A7 if last else 0))
    expect(answers.jamo(text), right, call=f'jamo("{text}")')
    used = names_used(answers.jamo) & {"unicodedata", "normalize", "decomposition"}
    expect(", ".join(sorted(used)) or "nothing", "nothing", call="what jamo uses and should do without")


def test_state_jacobian(answers):
    """Hint: one step's Jacobian is (1 - h²)[:, None] * w_hh, h being the state after the step. Later steps stand on the left.

    힌트: 한 스텝의 야코비안은 (1 - h²)[:, None] * w_hh이고, h는 스텝 뒤의 상태다. 나중 스텝이 왼쪽에 온다.
    """
    got = answers.state_jacobian(torch.tensor([[0.3], [0.5]]), torch.tensor([[2.0]]))
    expect(got, torch.tensor([[1.5]]), call="state_jacobian([[0.3], [0.5]], [[2]])")
    expect(answers.state_jacobian(torch.zeros(1, 3), torch.ones(3, 3)), torch.eye(3), call="state_jacobian(no step)")
    torch.manual_seed(1)
    rnn = nn.RNN(2, 4)
    x, first = torch.randn(6, 2), torch.randn(1, 4)
    right = torch.autograd.functional.jacobian(lambda h: rnn(x, h)[1][0], first)[:, 0]
    with torch.no_grad():
        states = torch.cat([first, rnn(x, first)[0]])
    got = answers.state_jacobian(states, rnn.weight_hh_l0.detach())
    expect(got, right, call="state_jacobian(the 7 states of a network of 4 units)")


def test_orthonormal_columns(answers):
    """Hint: what a column v has in common with the columns q so far is q @ (q.T @ v).

    힌트: 열 v가 지금까지의 열 q와 공유하는 부분은 q @ (q.T @ v)이다.
    """
    matrix = torch.tensor([[3.0, 1.0], [4.0, 0.0]], dtype=torch.float64)
    right = torch.tensor([[0.6, 0.8], [0.8, -0.6]], dtype=torch.float64)
    expect(answers.orthonormal_columns(matrix), right, call="orthonormal_columns([[3, 1], [4, 0]])")
    torch.manual_seed(0)
    matrix = torch.randn(7, 7, dtype=torch.float64)
    before = matrix.clone()
    q, r = torch.linalg.qr(matrix)
    expect(answers.orthonormal_columns(matrix), q * r.diagonal().sign(), call="orthonormal_columns(random numbers, 7 by 7)")
    expect(matrix, before, call="the matrix afterwards")
    used = names_used(answers.orthonormal_columns) & {"qr", "orthogonal_", "orthogonal", "householder_product"}
    expect(", ".join(sorted(used)) or "nothing", "nothing", call="what orthonormal_columns uses and should do without")


def test_lstm_backward(answers):
    """Hint: c is reached from h and from the next step: add both. The sigmoid's derivative is s(1 - s), that of tanh is 1 - g².

    힌트: c에는 h에서 오는 길과 다음 스텝에서 오는 길이 있으니 둘을 더한다. 시그모이드의 미분은 s(1 - s), tanh의 미분은 1 - g²다.
    """
    torch.manual_seed(0)
    for batch, hidden in ((1, 1), (3, 4)):
        before = torch.randn(batch, 4 * hidden, dtype=torch.float64, requires_grad=True)
        c_before = torch.randn(batch, hidden, dtype=torch.float64, requires_grad=True)
        i, f, g, o = before.chunk(4, dim=1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c = f * c_before + i * g
        h = o * c.tanh()
        upstream_h, upstream_c = torch.randn(2, batch, hidden, dtype=torch.float64)
        right = torch.autograd.grad((h * upstream_h).sum() + (c * upstream_c).sum(), (before, c_before))
        values = [value.detach() for value in (c_before, c, i, f, g, o)]
        call = f"lstm_backward(..., batch {batch}, hidden {hidden})"
        expect(
            answers.lstm_backward(upstream_h, torch.zeros_like(upstream_c), *values)[1].shape == c_before.shape, True, call=call
        )
        with torch.inference_mode():  # autograd has nothing to go by here, under whatever name
            expect(answers.lstm_backward(upstream_h, upstream_c, *values), right, call=call)
    used = names_used(answers.lstm_backward) & {"backward", "autograd"}
    expect(", ".join(sorted(used)) or "nothing", "nothing", call="what lstm_backward uses and should do without")


def test_open_forget_gates(answers):
    """Hint: model.modules() finds the LSTMs, named_parameters() their biases; the forget gate has the second quarter.

    힌트: model.modules()로 LSTM을, named_parameters()로 그 편향을 찾는다. 망각 게이트는 네 토막 가운데 둘째다.
    """
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {"deep": nn.Sequential(nn.LSTM(3, 5, num_layers=2, bidirectional=True)), "flat": nn.LSTM(2, 4), "gru": nn.GRU(3, 5)}
    )
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    expect(
        answers.open_forget_gates(model, 1.5), 24, call="open_forget_gates(an LSTM of 5, two layers, both ways; one of 4; a GRU)"
    )
    for name, parameter in model.named_parameters():
        after, expected = parameter.detach(), before[name].clone()
        if "bias" in name and "gru" not in name:
            hidden = len(expected) // 4
            expected[hidden : 2 * hidden] = 0.0 if "_hh_" in name else 1.5
        expect(after, expected, call=f"{name} after open_forget_gates(model, 1.5)")
        expect(parameter.requires_grad, True, call=f"{name}.requires_grad afterwards")
    expect(answers.open_forget_gates(nn.Linear(2, 2), 1.0), 0, call="open_forget_gates(a linear layer)")


def test_flag_sequences(answers):
    """Hint: draw the class first; 2 · class - 1 is the flag. Every random function takes generator=.

    힌트: 클래스를 먼저 뽑자. 2 · class - 1이 깃발이다. 무작위 함수는 모두 generator=를 받는다.
    """
    x, labels = answers.flag_sequences(4000, 5, torch.Generator().manual_seed(0))
    call = "flag_sequences(4000, 5, generator)"
    expect((tuple(x.shape), tuple(labels.shape)), ((4000, 5, 1), (4000,)), call=f"the shapes of {call}")
    expect((x.dtype, labels.dtype), (torch.float32, torch.int64), call=f"the dtypes of {call}")
    expect(x[:, 0, 0], 2.0 * labels - 1, call=f"the first step of {call}")
    expect(0.45 < labels.float().mean().item() < 0.55, True, call=f"about half the classes of {call} are 1")
    noise = x[:, 1:]
    expect(
        abs(noise.mean().item()) < 0.05 and 0.95 < noise.std().item() < 1.05, True, call=f"mean 0, standard deviation 1 in {call}"
    )
    told = (noise.flatten(1) * (2.0 * labels - 1)[:, None]).mean().abs().item()
    expect(told < 0.05, True, call=f"the noise of {call} says nothing about the class")
    again = answers.flag_sequences(4000, 5, torch.Generator().manual_seed(0))
    expect(torch.equal(again[0], x) and torch.equal(again[1], labels), True, call="the same for the same generator")
    other = answers.flag_sequences(4000, 5, torch.Generator().manual_seed(1))
    expect(torch.equal(other[0], x), False, call="the same for another generator")
    expect(tuple(answers.flag_sequences(3, 2, torch.Generator())[0].shape), (3, 2, 1), call="the shape of flag_sequences(3, 2)")


def test_masked_mean_and_max(answers):
    """Hint: a mask torch.arange(steps) < lengths[:, None], and torch.where: NaN · 0 is NaN. What must padding be for a maximum?

    힌트: 마스크는 torch.arange(steps) < lengths[:, None]. NaN에 0을 곱하면 NaN이니 torch.where를 쓰자.
    최댓값을 구할 때 패딩은 무엇이어야 할까?
    """
    states = torch.tensor([[[1.0, -4.0], [3.0, -2.0], [9.0, 9.0]], [[5.0, -1.0], [9.0, 9.0], [9.0, 9.0]]])
    right = torch.tensor([[2.0, -3.0], [5.0, -1.0]]), torch.tensor([[3.0, -2.0], [5.0, -1.0]])
    lengths = torch.tensor([2, 1])
    got = answers.masked_mean_and_max(states, lengths)
    expect(got, right, call="masked_mean_and_max([[[1, -4], [3, -2], [9, 9]], [[5, -1], [9, 9], [9, 9]]], [2, 1])")
    for filling in (torch.nan, torch.inf):
        filled = states.clone()
        filled[0, 2:], filled[1, 1:] = filling, filling
        expect(answers.masked_mean_and_max(filled, lengths), right, call=f"the same with {filling} as padding")
    x = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([7, 1, 4, 2, 6])
    parts = [row[:length] for row, length in zip(x, lengths.tolist(), strict=True)]
    right = torch.stack([part.mean(dim=0) for part in parts]), torch.stack([part.amax(dim=0) for part in parts])
    expect(answers.masked_mean_and_max(x, lengths), right, call="masked_mean_and_max(x of (5, 7, 3), [7, 1, 4, 2, 6])")


def test_spans(answers):
    """Hint: keep the span that is open. Everything but its own "I-" closes it, and so does the end of the tags.

    힌트: 열려 있는 구간을 기억하자. 같은 종류의 "I-"가 아니면 무엇이든 구간을 닫는다. 태그가 끝나도 닫힌다.
    """
    expect(answers.spans(["O", "B-OLD", "I-OLD", "O"]), [(1, 3, "OLD")], call='spans(["O", "B-OLD", "I-OLD", "O"])')
    got = answers.spans(["B-OLD", "B-OLD", "I-OLD", "B-NEW"])
    expect(got, [(0, 1, "OLD"), (1, 3, "OLD"), (3, 4, "NEW")], call='spans(["B-OLD", "B-OLD", "I-OLD", "B-NEW"])')
    got = answers.spans(["I-NEW", "I-NEW", "I-OLD", "O", "I-OLD"])
    right = [(0, 2, "NEW"), (2, 3, "OLD"), (4, 5, "OLD")]
    expect(got, right, call='spans(["I-NEW", "I-NEW", "I-OLD", "O", "I-OLD"])')
    expect(answers.spans(["O", "O"]), [], call='spans(["O", "O"])')
    expect(answers.spans([]), [], call="spans([])")


def test_beam_step(answers):
    """Hint: add, flatten the last two dimensions, topk. A place in the flat row is beginning · symbols + symbol.

    힌트: 더하고, 마지막 두 차원을 펼치고, topk. 펼친 줄에서의 위치는 시작 번호 · 기호 수 + 기호다.
    """
    scores = torch.tensor([[0.6, 0.4]]).log()
    log_p = torch.tensor([[[0.5, 0.3, 0.2], [0.9, 0.1, 0.0]]]).log()
    right = torch.tensor([[0.36, 0.30, 0.18]]).log(), torch.tensor([[1, 0, 0]]), torch.tensor([[0, 0, 1]])
    got = answers.beam_step(scores, log_p, 3)
    expect(got, right, call="beam_step(log [[.6, .4]], log [[[.5, .3, .2], [.9, .1, 0]]], 3)")
    generator = torch.Generator().manual_seed(0)
    scores, log_p = torch.randn(4, 5, generator=generator), torch.randn(4, 5, 7, generator=generator)
    for width in (1, 5, 35):
        rows = []
        for row, its in zip(scores.tolist(), log_p.tolist(), strict=True):
            every = [(row[b] + its[b][s], b, s) for b in range(5) for s in range(7)]
            rows.append(sorted(every, reverse=True)[:width])
        found = torch.tensor(rows, dtype=torch.float64)  # (batch, width, 3)
        right = found[:, :, 0].float(), found[:, :, 1].long(), found[:, :, 2].long()
        got = answers.beam_step(scores, log_p, width)
        expect(got, right, call=f"beam_step(scores of (4, 5), log_p of (4, 5, 7), {width})")


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
