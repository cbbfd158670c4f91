"""Checks of stage 06's exercises. `answers` is the module under check: the reader's file, or the solutions."""

import math

import torch
import torch.nn.functional as F
from exercises.checking import expect, names_used
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def test_attention_mask(answers):
    """Hint: subtract places from places, (targets, 1) and (sources,). Two comparisons of that, and one with the lengths.

    힌트: 자리에서 자리를 뺀다, (targets, 1)과 (sources,). 그 차를 두 번 비교하고, 길이와 한 번 비교한다.
    """
    lengths = torch.tensor([5, 2, 1])
    for window in (1, 2, 5, 9):
        call = f"attention_mask(lengths [5, 2, 1], 5 steps, window {window})"
        mask = answers.attention_mask(lengths, 5, window)
        expect((mask.shape, mask.dtype), (torch.Size([3, 1, 5, 5]), torch.bool), call=f"shape and dtype of {call}")
        for i, length in enumerate(lengths.tolist()):
            rows = [[target - window < source <= target for source in range(5)] for target in range(length)]
            expect(mask[i, 0, :length], torch.tensor(rows), call=f"{call}[{i}, 0, :{length}]")
        expect(mask.any(dim=3).all().item(), True, call=f"every row has something to look at in {call}")
    x = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    out = F.scaled_dot_product_attention(x, x, x, attn_mask=answers.attention_mask(lengths, 5, 1))
    expect(out[0], x[0], call="attention with a window of 1 gives every word itself")


def test_AdditiveMemory(answers):
    """Hint: key_layer(states) belongs into prepare. In forward, one query meets all keys: which axis does it lack?

    힌트: key_layer(states)는 prepare의 몫이다. forward에서는 쿼리 하나가 모든 키를 만난다. 쿼리에 없는 축은 무엇일까?
    """
    torch.manual_seed(0)
    memory = answers.AdditiveMemory(3, 4, 6)
    shapes = {name: tuple(parameter.shape) for name, parameter in memory.named_parameters()}
    expected = {"query_layer.weight": (6, 3), "key_layer.weight": (6, 4), "key_layer.bias": (6,), "v.weight": (1, 6)}
    expect(dict(sorted(shapes.items())), dict(sorted(expected.items())), call="the parameters of AdditiveMemory(3, 4, 6)")
    states, queries = torch.randn(2, 5, 4), torch.randn(3, 2, 3)
    real = torch.tensor([[True] * 5, [True, True, False, False, False]])
    calls = []
    memory.key_layer.register_forward_hook(lambda *_: calls.append(1))
    memory.prepare(states, real)
    for query in queries:
        scores = [[memory.v(torch.tanh(memory.query_layer(q) + key)) for key in F.linear(row, *memory.key_layer.parameters())]
                  for q, row in zip(query, states, strict=True)]  # fmt: skip
        weights = torch.stack([torch.cat(row) for row in scores]).masked_fill(~real, -math.inf).softmax(dim=1)
        average, got = memory(query)
        expect(got, weights, call="weights of memory(query)")
        expect(average, torch.einsum("bs,bsw->bw", weights, states), call="averages of memory(query)")
    expect(len(calls), 1, call="how often key_layer was called for three queries")
    memory.prepare(states[:1, :2], real[:1, :2])
    expect(memory(queries[0, :1])[1].shape, torch.Size([1, 2]), call="the weights' shape after another prepare")


def test_mean_distance(answers):
    """Hint: argmax, then the differences of neighbours. A pair with padding in it does not count, not even as zero.

    힌트: argmax를 구하고 이웃한 것끼리 뺀다. 패딩이 낀 쌍은 세지 않는다. 0으로 세지도 않는다.
    """
    looked = torch.tensor([[0, 1, 2, 3], [3, 0, 0, 2]])
    weights = F.one_hot(looked, 5).float() * 0.6 + 0.08
    everything = torch.ones(2, 4, dtype=torch.bool)
    expect(answers.mean_distance(weights, everything), 8 / 6, call="mean_distance(sources 0 1 2 3 and 3 0 0 2)")
    real = torch.tensor([[True, True, True, True], [True, True, False, False]])
    expect(answers.mean_distance(weights, real), 6 / 4, call="mean_distance(sources 0 1 2 3 and 3 0, then padding)")
    expect(answers.mean_distance(weights[:, :2], real[:, :2]), 2.0, call="mean_distance(sources 0 1 and 3 0)")


def test_with_heads(answers):
    """Hint: one axis becomes two, then two axes change places. A view to the final shape at once gives the wrong numbers.

    힌트: 축 하나를 둘로 나눈 다음, 두 축의 자리를 바꾼다. 한 번에 view로 마지막 모양을 만들면 수가 틀린다.
    """
    x = torch.arange(24.0).view(1, 4, 6)
    got = answers.with_heads(x, 2)
    expect(got.shape, torch.Size([1, 2, 4, 3]), call="with_heads((1, 4, 6), 2).shape")
    expect(got[0, 0], x[0, :, :3], call="with_heads(x, 2)[0, 0]")
    expect(got[0, 1], x[0, :, 3:], call="with_heads(x, 2)[0, 1]")
    expect(answers.with_heads(x, 1)[0, 0], x[0], call="with_heads(x, 1)[0, 0]")
    expect(answers.with_heads(x, 6)[0, 4, :, 0], x[0, :, 4], call="with_heads(x, 6)[0, 4, :, 0]")


def test_merge_partial(answers):
    """Hint: softmax over the parts. Subtract the largest logarithm first; what is -inf minus -inf?

    힌트: 부분들에 대한 소프트맥스다. 가장 큰 로그를 먼저 뺀다. -inf에서 -inf를 빼면 무엇일까?
    """
    generator = torch.Generator().manual_seed(0)
    for factor in (1.0, 3000.0):
        scores = factor * torch.randn(2, 3, 7, generator=generator, dtype=torch.float64)
        scores[0, 0, :3] = -math.inf  # the first part has nothing for this target
        value = torch.randn(2, 7, 4, generator=generator, dtype=torch.float64)
        parts = []
        for start, end in ((0, 3), (3, 4), (4, 7)):
            part = scores[..., start:end]
            weights = part.softmax(dim=-1).nan_to_num()
            parts.append((weights @ value[:, start:end], part.logsumexp(dim=-1, keepdim=True)))
        got = answers.merge_partial(parts)
        expect(got, scores.softmax(dim=-1) @ value, call=f"merge_partial(three parts, scores of about {factor:g})")
    blank = (torch.full((2, 3, 4), math.nan, dtype=torch.float64), torch.full((2, 3, 1), -math.inf, dtype=torch.float64))
    expect(answers.merge_partial([*parts, blank]), got, call="merge_partial(a fourth part of nothing, whose output is NaN)")
    expect(answers.merge_partial([blank, blank]), torch.zeros_like(got), call="merge_partial(parts of nothing)")


def test_count_multiplications(answers):
    """Hint: register_forward_hook on each Conv2d and Linear sees what comes out; weight[0] is the kernel of one output channel.

    힌트: Conv2d와 Linear마다 register_forward_hook을 걸면 출력이 보인다. weight[0]이 출력 채널 하나의 커널이다.
    """
    got = answers.count_multiplications(nn.Linear(5, 3), torch.ones(2, 5))
    expect(got, 30, call="count_multiplications(Linear(5, 3), 2 examples)")
    got = answers.count_multiplications(nn.Conv2d(1, 2, 3), torch.ones(1, 1, 4, 4))
    expect(got, 72, call="count_multiplications(Conv2d(1, 2, 3), a picture of 4x4)")
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip
    x = torch.ones(3, 4, 12, 10)
    with FlopCounterMode(display=False) as counter:
        model(x)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    call = "count_multiplications(a network with groups, 3 pictures)"
    expect(answers.count_multiplications(model.eval(), x), counter.get_total_flops() // 2, call=call)
    expect(model.training, False, call="model.training after count_multiplications(a model in eval mode)")
    expect(sum(len(module._forward_hooks) for module in model.modules()), 0, call="hooks that count_multiplications left")
    expect(dict(model.state_dict()), before, call="the model afterwards")
    used = names_used(answers.count_multiplications) & {"FlopCounterMode"}
    expect(", ".join(sorted(used)) or "nothing", "nothing", call="what count_multiplications uses and should do without")


def test_load_what_fits(answers):
    """Hint: removeprefix, then keep what model.state_dict() has by the same name and shape; load_state_dict(..., strict=False).

    힌트: removeprefix로 이름을 다듬고, 이름과 모양이 model.state_dict()와 같은 것만 남긴다. load_state_dict(..., strict=False).
    """
    torch.manual_seed(0)
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 1000))
    nn.init.uniform_(other[1].running_mean)
    for prefix in ("", "module."):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 10), nn.Linear(2, 2))
        head = model[2].weight.detach().clone()
        saved = {f"{prefix}{name}": tensor for name, tensor in other.state_dict().items()} | {"unknown": torch.ones(2)}
        names = list(saved)
        call = f"load_what_fits(10 classes, a state dict of 1,000 with names like {prefix}0.weight)"
        expect(answers.load_what_fits(model, saved), ["2.bias", "2.weight", "3.bias", "3.weight"], call=call)
        expect(list(saved), names, call="the names in saved afterwards")
        expect(model[0].weight.detach(), other[0].weight.detach(), call=f"0.weight after {call}")
        expect(model[1].running_mean, other[1].running_mean, call=f"1.running_mean after {call}")
        expect(model[2].weight.detach(), head, call=f"2.weight after {call}")


def test_stochastic_depth(answers):
    """Hint: one random number per example, of shape (batch, 1, 1, ...); what stays is divided by 1 - rate.

    힌트: 예제마다 무작위 수를 하나씩, 모양은 (batch, 1, 1, ...). 남는 것은 1 - rate로 나눈다.
    """
    branch = torch.arange(1.0, 4 * 2 * 3 * 3 * 500 + 1).view(2000, 2, 3, 3)
    got = answers.stochastic_depth(branch, 0.25, False, torch.Generator().manual_seed(0))
    expect(got, branch, call="stochastic_depth(branch, 0.25, training=False)")
    got = answers.stochastic_depth(branch, 0.0, True, torch.Generator().manual_seed(0))
    expect(got, branch, call="stochastic_depth(branch, 0, training=True)")
    got = answers.stochastic_depth(branch, 1.0, True, torch.Generator().manual_seed(0))
    expect(got, torch.zeros_like(branch), call="stochastic_depth(branch, 1, training=True)")
    got = answers.stochastic_depth(branch, 0.25, True, torch.Generator().manual_seed(0))
    expect(tuple(got.shape), tuple(branch.shape), call="the shape of stochastic_depth(2,000 examples, 0.25, training=True)")
    stays = got[:, 0, 0, 0] > 0
    right = branch * stays.view(-1, 1, 1, 1) / 0.75
    expect(got, right, call="stochastic_depth(branch, 0.25, training=True): an example keeps all of its branch or nothing")
    share = stays.float().mean().item()
    expect(0.7 < share < 0.8, True, call=f"about three quarters of the examples keep their branch; {share:.2f} do")
    again = answers.stochastic_depth(branch, 0.25, True, torch.Generator().manual_seed(0))
    expect(torch.equal(again, got), True, call="the same for the same generator")
    flat = answers.stochastic_depth(torch.ones(6, 5), 0.5, True, torch.Generator().manual_seed(1))
    expect(tuple(flat.shape), (6, 5), call="the shape of stochastic_depth(branch of (6, 5), 0.5, training=True)")
