"""Checks of stage 06's exercises. `answers` is the module under check: the reader's file, or the solutions."""

import copy
import math

import torch
import torch.nn.functional as F
from exercises.checking import expect, names_used
from torch import distributions, nn
from torch.utils.flop_counter import FlopCounterMode


def test_TiedAutoencoder(answers):
    """Hint: one nn.Parameter, used as it is in one direction and as .T in the other. No copy: autograd adds both gradients up.

    힌트: nn.Parameter 하나를 한쪽에서는 그대로, 다른 쪽에서는 .T로 쓴다. 복사하지 않는다. 두 기울기는 autograd가 더한다.
    """
    torch.manual_seed(0)
    model = answers.TiedAutoencoder(400, 50)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    expected = {"bias": (400,), "code_bias": (50,), "weight": (50, 400)}
    expect(dict(sorted(shapes.items())), expected, call="the parameters of TiedAutoencoder(400, 50)")
    expect(model.weight.std().item(), 0.05, call="the standard deviation of weight at the start", rtol=0.05)
    expect((model.bias.abs().sum() + model.code_bias.abs().sum()).item(), 0.0, call="the sum of both biases at the start")
    model, x = answers.TiedAutoencoder(5, 2), torch.randn(3, 5)
    nn.init.normal_(model.bias)
    nn.init.normal_(model.code_bias)
    weight = model.weight.detach().clone().requires_grad_()
    codes = torch.tanh(x @ weight.T + model.code_bias)
    restored = codes @ weight + model.bias
    expect(model.encode(x), codes, call="TiedAutoencoder(5, 2).encode(x)")
    expect(model(x), restored, call="TiedAutoencoder(5, 2)(x)")
    (model(x) - x).square().mean().backward()
    (restored - x).square().mean().backward()
    expect(model.weight.grad, weight.grad, call="the gradient of weight, which both directions share")


def test_mahalanobis_scores(answers):
    """Hint: torch.linalg.solve(C, b) is C^-1 b without an inverse. (x - mean) has examples in rows; solve wants them in columns.

    힌트: torch.linalg.solve(C, b)는 역행렬 없이 C^-1 b를 구한다. (x - mean)은 예제가 행인데 solve는 열을 바란다.
    """
    known = torch.tensor([[2.0, 1.0], [-2.0, 1.0], [0.0, 2.0], [0.0, 0.0]])  # variances 2 and 0.5 around (0, 1)
    x = torch.tensor([[2.0, 1.0], [0.0, 3.0], [0.0, 1.0]])
    got = answers.mahalanobis_scores(known, x, 0.0)
    expect(got, torch.tensor([2.0, 8.0, 0.0]), call="mahalanobis_scores(points with variances 2 and 0.5, x, ridge 0)")
    generator = torch.Generator().manual_seed(0)
    known = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    known = torch.cat([known, known[:, :1]], dim=1)  # the last column is the first: without a ridge nothing can be solved
    x = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    inverse = torch.linalg.inv(known.T.cov(correction=0) + 0.1 * torch.eye(5, dtype=torch.float64))
    centred = x - known.mean(dim=0)
    expected = torch.einsum("ni,ij,nj->n", centred, inverse, centred)
    expect(answers.mahalanobis_scores(known, x, 0.1), expected, call="mahalanobis_scores(30 points, two columns alike, x, 0.1)")


def test_kl_between_normals(answers):
    """Hint: start from ln of the ratio of densities and take its mean under the first. Only differences of log-variances remain.

    힌트: 밀도의 비에 로그를 취하고 첫째 분포에서 평균을 낸다. 로그 분산은 차이만 남는다.
    """
    generator = torch.Generator().manual_seed(0)
    a, b, c, d = torch.randn(4, 3, 5, generator=generator, dtype=torch.float64)
    first, second = (distributions.Normal(mean, (one / 2).exp()) for mean, one in ((a, b), (c, d)))
    expected = distributions.kl_divergence(first, second).sum(dim=1)
    expect(answers.kl_between_normals(a, b, c, d), expected, call="kl_between_normals(random)")
    expect(answers.kl_between_normals(c, d, a, b), distributions.kl_divergence(second, first).sum(dim=1), call="... exchanged")
    expect(answers.kl_between_normals(a, b, a, b), torch.zeros(3, dtype=torch.float64), call="kl_between_normals(two equal ones)")
    large = torch.full((1, 2), 60.0)
    got = answers.kl_between_normals(0 * large, large, 0 * large, large + 1)
    expect(got, torch.tensor([math.exp(-1)]), call="kl_between_normals(log-variances 60 and 61, whose variances are huge)")


def test_importance_weighted_bound(answers):
    """Hint: torch.logsumexp over the draws; a mean is a sum divided by k, and dividing is subtracting a logarithm.

    힌트: 뽑은 것들에 torch.logsumexp를 쓴다. 평균은 합을 k로 나눈 것이고, 로그에서 나눗셈은 뺄셈이다.
    """
    generator = torch.Generator().manual_seed(0)
    joint, posterior = torch.randn(2, 7, 4, generator=generator, dtype=torch.float64)
    expected = (joint - posterior).exp().mean(dim=0).log()
    expect(answers.importance_weighted_bound(joint, posterior), expected, call="importance_weighted_bound(7 draws, 4 pictures)")
    got = answers.importance_weighted_bound(joint - 5000, posterior)
    expect(got, expected - 5000, call="importance_weighted_bound(log_joint about -5000)")
    got = answers.importance_weighted_bound(joint[:1], posterior[:1])
    expect(got, joint[0] - posterior[0], call="importance_weighted_bound(one draw)")


def test_hinge_losses(answers):
    """Hint: relu(1 - real) is 0 for real ones at 1 or above. The generator's loss has no relu.

    힌트: 진짜의 출력이 1 이상이면 relu(1 - real)은 0이다. 생성자의 손실에는 relu가 없다.
    """
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 2.0])
    got = answers.hinge_losses(real, fake)
    expect(got[0], torch.tensor((0 + 0.5 + 2 + 0 + 1 + 3) / 3), call="hinge_losses([2, 0.5, -1], [-3, 0, 2])[0]")
    expect(got[1], torch.tensor(1 / 3), call="hinge_losses([2, 0.5, -1], [-3, 0, 2])[1]")
    expect(answers.hinge_losses(real + 3, fake - 3)[0], torch.tensor(0.0), call="the discriminator's loss where nothing is wrong")


def test_play_once(answers):
    """Hint: the discriminator gets fake.detach(), the generator's loss fake itself, through the discriminator after its step.

    힌트: 판별자에는 fake.detach()를 준다. 생성자의 손실은 fake 그대로, 한 걸음 나아간 판별자를 거쳐 구한다.
    """
    torch.manual_seed(0)
    start = nn.Sequential(nn.Linear(3, 5), nn.Tanh()), nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))
    real, noise = torch.randn(2, 7, 5), torch.randn(2, 7, 3)
    results = []
    for play in (answers.play_once, _play_once):
        generator, discriminator = copy.deepcopy(start)
        runs = []
        generator.register_forward_hook(lambda *_, runs=runs: runs.append(1))
        optimizers = [torch.optim.SGD(net.parameters(), lr, momentum=0.9) for net, lr in ((generator, 0.2), (discriminator, 0.1))]
        for one in range(2):  # twice: what the first time left behind would show
            play(generator, discriminator, *optimizers, real[one], noise[one])
        results.append((generator, discriminator, len(runs)))
    (generator, discriminator, runs), expected = results
    expect(runs, 2, call="how often the generator ran in two calls of play_once")
    for name, index in (("discriminator", 1), ("generator", 0)):
        for (key, got), right in zip(results[0][index].named_parameters(), expected[index].parameters(), strict=True):
            expect(got.detach(), right.detach(), call=f"{key} of the {name} after two calls of play_once")
    left = [key for key, weight in discriminator.named_parameters() if weight.grad is not None]
    expect(left, [], call="the discriminator's parameters with a gradient afterwards")


def _play_once(generator, discriminator, generator_step, discriminator_step, real, noise) -> None:
    fake = generator(noise)
    weights = list(discriminator.parameters())
    loss = (1 - discriminator(real)).relu().mean() + (1 + discriminator(fake.detach())).relu().mean()
    for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
        weight.grad = gradient
    discriminator_step.step()
    weights = list(generator.parameters())
    for weight, gradient in zip(weights, torch.autograd.grad(-discriminator(fake).mean(), weights), strict=True):
        weight.grad = gradient
    generator_step.step()
    discriminator_step.zero_grad()


def test_interpolated_slopes(answers):
    """Hint: share needs three more axes. detach, requires_grad_, then autograd.grad of a sum with create_graph=True; flatten(1).

    힌트: share에는 축이 셋 더 필요하다. detach, requires_grad_, 그다음 합에 대해 create_graph=True로 autograd.grad. flatten(1).
    """
    torch.manual_seed(0)
    weight = torch.randn(2, 4, 4, requires_grad=True)
    real, fake = torch.randn(2, 3, 2, 4, 4)
    fake.requires_grad_()
    share = torch.tensor([0.0, 1.0, 0.25])

    def critic(x: torch.Tensor) -> torch.Tensor:
        return (weight * x.square()).sum(dim=(1, 2, 3)) / 2  # its gradient is weight * x

    got = answers.interpolated_slopes(critic, real, fake, share)
    at = torch.stack([fake[0], real[1], 0.25 * real[2] + 0.75 * fake[2]]).detach()
    right = (weight * at).flatten(1).norm(dim=1)
    expect(got.shape, torch.Size([3]), call="interpolated_slopes(3 pictures).shape")
    expect(got.detach(), right.detach(), call="interpolated_slopes(critic, real, fake, share [0, 1, 0.25])")
    if not got.requires_grad:
        expect(got.requires_grad, True, call="interpolated_slopes(...).requires_grad")
    gradients = torch.autograd.grad(got.sum(), (weight, fake), allow_unused=True)
    expect(gradients[0], torch.autograd.grad(right.sum(), weight)[0], call="the gradient of their sum by the critic's weight")
    expect(gradients[1], None, call="the gradient of their sum by the fakes")


def test_jump_back(answers):
    """Hint: DDPM's step back, with the share that is left between the two times, left[t] / left[earlier], in alpha's place.

    힌트: DDPM의 한 스텝 되돌아가기에서, alpha 자리에 두 시점 사이에 남는 비율 left[t] / left[earlier]를 넣는다.
    """
    left = torch.tensor([1.0, 0.9, 0.6, 0.3, 0.05], dtype=torch.float64)
    start, now = torch.tensor([0.5, -1.0], dtype=torch.float64), torch.tensor([0.1, 1.2], dtype=torch.float64)
    for t, earlier in ((4, 3), (4, 1), (3, 1), (2, 1)):
        a, b, ratio = left[earlier], left[t], left[t] / left[earlier]
        precision = 1 / (1 - a) + ratio / (1 - ratio)  # Bayes for two normal distributions: precisions add up
        mean = (a.sqrt() * start / (1 - a) + ratio.sqrt() * now / (1 - ratio)) / precision
        got = answers.jump_back(start, now, left, t, earlier)
        expect(
            got, (mean, 1 / precision), call=f"jump_back([0.5, -1], [0.1, 1.2], left, t={t}, earlier={earlier}), left[t]={b:g}"
        )
    got = answers.jump_back(start, now, left, 4, 0)
    expect(got, (start, torch.zeros((), dtype=torch.float64)), call="jump_back(start, now, left, t=4, earlier=0)")


def test_split_velocity(answers):
    """Hint: (noisy, velocity) is (clean, noise) turned by an angle whose cosine is √share. Turn back; nothing is divided.

    힌트: (noisy, velocity)는 (clean, noise)를 코사인이 √share인 각도만큼 돌린 것이다. 되돌리면 된다. 나눗셈은 없다.
    """
    generator = torch.Generator().manual_seed(0)
    for count, channels in ((4, 1), (3, 3)):
        clean, noise = torch.randn(2, count, channels, 3, 3, generator=generator)
        share = torch.tensor([0.0, 0.3, 0.8, 1.0])[:count]
        a, b = share.sqrt().view(-1, 1, 1, 1), (1 - share).sqrt().view(-1, 1, 1, 1)
        got = answers.split_velocity(a * clean + b * noise, a * noise - b * clean, share)
        expect(got, (clean, noise), call=f"split_velocity(noisy ({count}, {channels}, 3, 3), velocity, {share.tolist()})")


def test_find_noise(answers):
    """Hint: for t from 0 to T - 1, guess the noise, take it away to get the picture, and mix both anew as left[t + 1] says.

    힌트: t를 0에서 T - 1까지 올리며 잡음을 추측하고, 그것을 빼서 그림을 얻고, left[t + 1]의 비율로 다시 섞는다.
    """
    left = torch.linspace(1, 0.01, 21, dtype=torch.float64)
    pictures = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = []

    def denoiser(x, t):
        seen.append(t)
        return 0.3 * x + 0.01 * t

    got, x = answers.find_noise(denoiser, pictures, left), pictures
    expect([int(t) for t in seen], list(range(20)), call="the times at which find_noise asks")
    for t in range(20):
        guess = 0.3 * x + 0.01 * t
        x = (left[t + 1] / left[t]).sqrt() * (x - (1 - left[t]).sqrt() * guess) + (1 - left[t + 1]).sqrt() * guess
    expect(got, x, call="find_noise(denoiser, pictures (3, 1, 2, 2), left of 20 steps)")
    got = answers.find_noise(lambda x, t: torch.zeros_like(x), pictures, left)
    expect(got, 0.1 * pictures, call="find_noise with a denoiser that sees no noise")


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
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 1000), nn.Linear(5, 2, bias=False))
    nn.init.uniform_(other[1].running_mean)
    for prefix in ("", "module."):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 10), nn.Linear(2, 5))  # the last one turned
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


def test_fold_norm(answers):
    """Hint: write linear(weight * z + bias) out and sort by z. What multiplies z is the new weight, the rest the new bias.

    힌트: linear(weight * z + bias)를 풀어 써서 z로 묶는다. z에 곱하는 것이 새 weight, 나머지가 새 bias다.
    """
    for bias, dtype in ((True, torch.float32), (False, torch.float64)):
        torch.manual_seed(0)
        norm, linear = nn.LayerNorm(6, dtype=dtype), nn.Linear(6, 4, bias=bias, dtype=dtype)
        for parameter in norm.parameters():
            nn.init.normal_(parameter)
        before = {name: tensor.clone() for name, tensor in (norm.state_dict() | linear.state_dict(prefix="linear.")).items()}
        x = 3 + 2 * torch.randn(5, 2, 6, dtype=dtype)
        call = f"fold_norm(LayerNorm(6), Linear(6, 4, bias={bias})) in {dtype}"
        folded = answers.fold_norm(norm, linear)
        expect(isinstance(folded, nn.Linear), True, call=f"{call} is an nn.Linear")
        expect(folded.bias is not None, True, call=f"{call} has a bias")
        expect(folded(F.layer_norm(x, (6,))).detach(), linear(norm(x)).detach(), call=f"{call} of standardised vectors")
        after = norm.state_dict() | linear.state_dict(prefix="linear.")
        expect(dict(after), before, call="norm and linear afterwards")


def test_prefix_mask(answers):
    """Hint: a source may be looked at if it is not later than the target, or if it is in the question. Two comparisons, one "or".

    힌트: 타깃보다 늦지 않거나 질문에 든 소스는 볼 수 있다. 비교 두 번과 "또는" 한 번이다.
    """
    prefixes = torch.tensor([0, 2, 4, 1])
    mask = answers.prefix_mask(prefixes, 4)
    call = "prefix_mask([0, 2, 4, 1], 4 steps)"
    expect((mask.shape, mask.dtype), (torch.Size([4, 1, 4, 4]), torch.bool), call=f"shape and dtype of {call}")
    for i, prefix in enumerate(prefixes.tolist()):
        rows = [[source <= target or source < prefix for source in range(4)] for target in range(4)]
        expect(mask[i, 0], torch.tensor(rows), call=f"{call}[{i}, 0]")


def test_wave_shift(answers):
    """Hint: sin(a + b) = sin a cos b + cos a sin b. Each sine is mixed with its own cosine only: four diagonal blocks.

    힌트: sin(a + b) = sin a cos b + cos a sin b. 사인 하나는 제 코사인하고만 섞인다. 대각 블록 네 개다.
    """
    for distance, width in ((1, 2), (3, 8), (-7, 8), (0, 6)):
        turns = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        angles = torch.arange(-20, 60, dtype=torch.float64)[:, None] * turns
        positions = torch.cat([angles.sin(), angles.cos()], dim=1)  # of the places -20 to 59
        call = f"wave_shift({distance}, {width})"
        matrix = answers.wave_shift(distance, width)
        expect((tuple(matrix.shape), matrix.dtype), ((width, width), torch.float64), call=f"shape and dtype of {call}")
        moved = positions[10:60] @ matrix.T
        expect(moved, positions[10 + distance : 60 + distance], call=f"{call} @ positions of the places -10 to 39")


def test_linear_bias(answers):
    """Hint: number the targets sources - targets ... sources - 1. The slopes are (heads, 1, 1), the distances (targets, sources).

    힌트: 타깃의 번호는 sources - targets부터 sources - 1까지다. 기울기는 (heads, 1, 1), 거리는 (targets, sources)다.
    """
    for heads, targets, sources in ((1, 3, 3), (4, 2, 5), (8, 1, 4)):
        call = f"linear_bias({heads} heads, {targets} targets, {sources} sources)"
        got = answers.linear_bias(heads, targets, sources)
        expected = torch.empty(heads, targets, sources)
        for h in range(heads):
            for t in range(targets):
                for s in range(sources):
                    back = sources - targets + t - s
                    expected[h, t, s] = -back * 2 ** (-8 * (h + 1) / heads) if back >= 0 else -math.inf
        expect(got, expected, call=call)


def test_answer_confidence(answers):
    """Hint: log_softmax, then gather along the last axis; add the logarithms, 0 where nothing counts. gather wants valid indices.

    힌트: log_softmax 다음에 마지막 축으로 gather. 로그를 더하되 세지 않을 곳은 0으로. gather의 인덱스는 유효해야 한다.
    """
    torch.manual_seed(0)
    logits = torch.randn(4, 5, 7)
    for ignore in (-100, 6):
        symbols = torch.randint(6, (4, 5))
        lengths = torch.tensor([5, 3, 1, 0])
        given = symbols.masked_fill(torch.arange(5) >= lengths[:, None], ignore)
        expected = torch.stack([
            math.prod((row.softmax(dim=1)[i, answer[i]] for i in range(length)), start=torch.tensor(1.0))
            for row, answer, length in zip(logits, symbols, lengths.tolist(), strict=True)
        ])  # fmt: skip
        got = answers.answer_confidence(logits, given, ignore)
        expect(got, expected, call=f"answer_confidence(answers of 5, 3, 1 and 0 symbols, ignore={ignore})")
    many = answers.answer_confidence(torch.full((1, 200, 2), -1e4), torch.zeros(1, 200, dtype=torch.int64), -100)
    expect(many, torch.tensor([0.5**200]), call="answer_confidence(200 coins)")


def test_whole_words(answers):
    """Hint: number the words: the number grows at every token without "##". Then ask which numbers were hit.

    힌트: 낱말에 번호를 매긴다. "##"이 없는 토큰에서 번호가 커진다. 그다음 어느 번호가 걸렸는지 본다.
    """
    tokens = ["[CLS]", "una", "##ffa", "##ble", "dogs", "bark", "##s", "[SEP]"]
    none = [False] * len(tokens)
    for hits, expected in (
        ((), ()),
        ((1,), (1, 2, 3)),
        ((2,), (1, 2, 3)),
        ((3, 4), (1, 2, 3, 4)),
        ((6,), (5, 6)),
        ((5,), (5, 6)),
    ):
        chosen = [i in hits for i in range(len(tokens))]
        got = answers.whole_words(tokens, chosen)
        expect(got, [i in expected for i in range(len(tokens))], call=f"whole_words({tokens}, chosen at {list(hits)})")
        expect(chosen, [i in hits for i in range(len(tokens))], call="the argument `chosen` afterwards")
    expect(answers.whole_words(tokens, none), none, call="whole_words(nothing chosen)")
    expect(answers.whole_words([], []), [], call="whole_words([], [])")


def test_hardest_negatives(answers):
    """Hint: the matrix of cosines, with everything of one's own class masked. A cosine is never below -1.

    힌트: 코사인 행렬에서 같은 클래스의 자리를 모두 가린다. 코사인은 -1보다 작을 수 없다.
    """
    angles = torch.tensor([0.0, 0.1, 0.3, 1.0, 3.1])
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    for classes, expected in (
        ([0, 0, 1, 1, 0], [2, 2, 1, 1, 3]),
        ([0, 1, 2, 3, 4], [1, 0, 1, 2, 3]),
        ([0, 0, 0, 0, 1], [4, 4, 4, 4, 3]),
    ):
        got = answers.hardest_negatives(vectors, torch.tensor(classes))
        expect(
            got,
            torch.tensor(expected),
            call=f"hardest_negatives(unit vectors at the angles {angles.tolist()}, classes {classes})",
        )
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    got = answers.hardest_negatives(opposite, torch.tensor([0, 1, 0]))
    expect(got, torch.tensor([1, 0, 1]), call="hardest_negatives(opposite vectors, classes [0, 1, 0])")


def test_gpt_parameters(answers):
    """Hint: a linear layer from a to b has a * b + b. Count one block in units of width² and of width, then everything else.

    힌트: a에서 b로 가는 선형층의 파라미터는 a * b + b개다. 블록 하나를 width²과 width 단위로 세고 나머지를 더한다.
    """
    expect(answers.gpt_parameters(1, 1, 1, 0), 4, call="gpt_parameters(1, 1, 1, 0 layers)")
    expect(answers.gpt_parameters(132, 96, 64, 2), 114_688, call="gpt_parameters(132, 96, 64, 2)")
    expect(answers.gpt_parameters(50257, 1024, 768, 12), 124_439_808, call="gpt_parameters of GPT-2")
    expect(answers.gpt_parameters(50257, 1024, 1600, 48), 1_557_611_200, call="gpt_parameters of GPT-2 XL")


def test_mask_after_cache(answers):
    """Hint: make the mask of all tokens, as if there were no cache. Which of its rows belong to the new ones?

    힌트: 캐시가 없다고 치고 전체 토큰의 마스크를 만든다. 그중 어느 행이 새 토큰의 것인가?
    """
    for seen, steps in ((0, 1), (0, 4), (3, 1), (3, 2), (5, 5)):
        expected = torch.tensor([[source <= seen + target for source in range(seen + steps)] for target in range(steps)])
        expect(answers.mask_after_cache(seen, steps), expected, call=f"mask_after_cache({seen}, {steps})")


def test_penalise_repetition(answers):
    """Hint: gather the logits of what was written, change them, and scatter them back. Logits may be negative.

    힌트: 이미 쓴 토큰의 로짓을 gather로 모아 바꾼 다음 scatter로 돌려놓는다. 로짓은 음수일 수 있다.
    """
    logits = torch.tensor([[2.0, -2.0, 0.5, 0.0], [2.0, -2.0, 0.5, 0.0]])
    ids = torch.tensor([[0, 1, 0], [2, 2, 2]])
    before = logits.clone()
    expected = torch.tensor([[1.0, -4.0, 0.5, 0.0], [2.0, -2.0, 0.25, 0.0]])
    expect(answers.penalise_repetition(logits, ids, 2.0), expected, call="penalise_repetition(logits, [[0, 1, 0], [2, 2, 2]], 2)")
    expect(logits, before, call="the logits that were handed over")
    expect(answers.penalise_repetition(logits, ids, 1.0), before, call="penalise_repetition with a penalty of 1")
    generator = torch.Generator().manual_seed(0)
    many, texts = torch.randn(6, 9, generator=generator), torch.randint(9, (6, 5), generator=generator)
    rows = []
    for row, text in zip(many.tolist(), texts.tolist(), strict=True):
        rows.append([x if i not in text else x / 1.3 if x > 0 else x * 1.3 for i, x in enumerate(row)])
    expect(answers.penalise_repetition(many, texts, 1.3), torch.tensor(rows), call="penalise_repetition of six random texts")


def test_rotate_interleaved(answers):
    """Hint: x[..., 0::2] and x[..., 1::2] are the two halves of all pairs. How do they get back between one another?

    힌트: x[..., 0::2]와 x[..., 1::2]가 모든 쌍의 두 쪽이다. 돌린 다음 어떻게 다시 번갈아 끼울까?
    """
    generator = torch.Generator().manual_seed(0)
    for d, theta in ((2, 10_000.0), (8, 100.0)):
        x, places = torch.randn(2, 3, 5, d, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 4, 9, 30])
        frequencies = theta ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
        turns = torch.polar(torch.ones(5, d // 2, dtype=torch.float64), places[:, None] * frequencies)
        expected = torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turns).flatten(-2)
        call = f"rotate_interleaved(x (2, 3, 5, {d}), places 0 1 4 9 30, theta {theta:g})"
        got = answers.rotate_interleaved(x, places, theta)
        expect(got.shape, x.shape, call=f"shape of {call}")
        expect(got, expected, call=call)
        expect(got[:, :, 0], x[:, :, 0], call=f"place 0 of {call}")


def test_cache_megabytes(answers):
    """Hint: a key and a value. And eight bits are a byte.

    힌트: 키 하나와 값 하나다. 그리고 여덟 비트가 한 바이트다.
    """
    for arguments, expected in (
        ((1, 1, 1, 1, 1, 8), 2e-6),
        ((30, 3, 64, 2048, 1, 32), 94.37184),
        ((32, 8, 128, 8192, 16, 4), 4294.967296),
    ):
        names = ("layers", "kv_heads", "head_width", "tokens", "conversations", "bits")
        call = "cache_megabytes(" + ", ".join(f"{name}={value}" for name, value in zip(names, arguments, strict=True)) + ")"
        expect(answers.cache_megabytes(*arguments), expected, call=call)


def test_pack_signed_4_bits(answers):
    """Hint: & 15 keeps the lower four bits of any number, negative ones as well; << 4 moves them up, | joins the halves.

    힌트: & 15는 음수라도 아래 네 비트만 남긴다. << 4로 올리고 |로 두 쪽을 합친다.
    """
    got = answers.pack_signed_4_bits(torch.tensor([[1, 2, -1, 0], [-8, 7, 3, -5]], dtype=torch.int8))
    expected = torch.tensor([[0x21, 0x0F], [0x78, 0xB3]], dtype=torch.uint8)
    expect((got.dtype, got.shape), (torch.uint8, torch.Size([2, 2])), call="dtype and shape of pack_signed_4_bits(2 rows of 4)")
    expect(got, expected, call="pack_signed_4_bits([[1, 2, -1, 0], [-8, 7, 3, -5]])")


def test_unpack_signed_4_bits(answers):
    """Hint: take the halves apart into 0 to 15, put them in turn, and give those above 7 their sign: minus 16.

    힌트: 두 쪽을 0~15로 나누어 번갈아 놓고, 7보다 큰 것에는 16을 빼서 부호를 돌려준다.
    """
    every = torch.arange(256, dtype=torch.uint8)[None]
    got = answers.unpack_signed_4_bits(every)
    sign = [number - 16 if number > 7 else number for number in range(16)]
    expected = torch.tensor([[half for byte in range(256) for half in (sign[byte % 16], sign[byte // 16])]], dtype=torch.int8)
    expect((got.dtype, got.shape), (torch.int8, torch.Size([1, 512])), call="dtype and shape of unpack_signed_4_bits(256 bytes)")
    expect(got, expected, call="unpack_signed_4_bits(every byte from 0 to 255)")
    few = torch.tensor([[0x21, 0x0F], [0x78, 0xB3]], dtype=torch.uint8)
    rows = torch.tensor([[1, 2, -1, 0], [-8, 7, 3, -5]], dtype=torch.int8)
    expect(answers.unpack_signed_4_bits(few), rows, call="unpack_signed_4_bits([[0x21, 0x0F], [0x78, 0xB3]])")


def test_occlusion_map(answers):
    """Hint: ask for the whole pictures first, and remember which class was the best. Then clone, cover, ask again.

    힌트: 먼저 온전한 그림의 답을 구하고 어느 클래스가 으뜸이었는지 기억한다. 그다음 복제하고, 가리고, 다시 묻는다.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 12, 5))
    pictures = torch.randn(4, 3, 8, 12)
    kept, got = pictures.clone(), answers.occlusion_map(model, pictures, 4)
    expect(
        (tuple(got.shape), got.requires_grad), ((4, 2, 3), False), call="shape and requires_grad of occlusion_map(8x12, patch 4)"
    )
    whole = model(pictures).softmax(dim=1)
    for i, row, column in ((0, 0, 0), (1, 1, 2), (3, 0, 1)):
        covered = kept.clone()
        covered[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 0
        best = whole[i].argmax()
        right = (whole[i, best] - model(covered).softmax(dim=1)[i, best]).item()
        expect(got[i, row, column].item(), right, call=f"occlusion_map(pictures, 4)[{i}, {row}, {column}]")
    expect(pictures, kept, call="the pictures afterwards")
    expect(model.training, True, call="model.training after occlusion_map(a model in train mode)")


def test_keep_patches(answers):
    """Hint: argsort of random numbers is a random order of every row. Sort what you take of it, then gather.

    힌트: 무작위 수의 argsort는 행마다 무작위 순서다. 거기서 떼어 낸 것을 정렬한 다음 gather한다.
    """
    tokens = torch.arange(6.0 * 11 * 4).view(6, 11, 4)
    for share, count in ((0.25, 2), (1.0, 10), (0.01, 1), (0.5, 5)):
        call = f"keep_patches(10 patches, {share})"
        got, chosen = answers.keep_patches(tokens, share, torch.Generator().manual_seed(0))
        expect((tuple(got.shape), tuple(chosen.shape)), ((6, 1 + count, 4), (6, count)), call=f"shapes of {call}")
        expect(chosen.dtype, torch.int64, call=f"dtype of the second result of {call}")
        expect(got[:, 0], tokens[:, 0], call=f"class tokens of {call}")
        expect(bool((chosen.diff(dim=1) > 0).all()), True, call=f"the patches of {call} are in their old order, none twice")
        for i in range(6):
            expect(got[i, 1:], tokens[i, 1:][chosen[i]], call=f"patches of picture {i} in {call}")
    _, chosen = answers.keep_patches(torch.zeros(400, 11, 1), 0.5, torch.Generator().manual_seed(1))
    counts = chosen.flatten().bincount(minlength=10)
    expect(bool(((counts > 150) & (counts < 250)).all()), True, call="of 400 pictures, each patch stays in about half")
    expect(len({tuple(row) for row in chosen.tolist()}) > 100, True, call="each picture has patches of its own")
    again = answers.keep_patches(torch.zeros(400, 11, 1), 0.5, torch.Generator().manual_seed(1))[1]
    expect(torch.equal(again, chosen), True, call="the same for the same generator")


def test_clip_loss(answers):
    """Hint: one matrix of cosines serves both ways; its transpose is the second.

    힌트: 코사인 행렬 하나를 양쪽으로 쓴다. 전치하면 반대 방향이다.
    """
    generator = torch.Generator().manual_seed(0)
    pictures, sentences = 3 * torch.randn(2, 5, 7, generator=generator)
    for temperature in (1.0, 0.07):
        total = 0.0
        for ask, offered in ((pictures, sentences), (sentences, pictures)):
            for i in range(5):
                scores = [math.exp(F.cosine_similarity(ask[i], one, dim=0).item() / temperature) for one in offered]
                total -= math.log(scores[i] / sum(scores)) / 10
        got = answers.clip_loss(pictures, sentences, temperature)
        expect(got.item(), total, call=f"clip_loss(5 pictures, 5 sentences, {temperature})")
        expect(got.dim(), 0, call="the number of dimensions of the loss")
    x = torch.randn(3, 4, generator=generator, requires_grad=True)
    answers.clip_loss(x, sentences[:3, :4], 0.5).backward()
    expect(bool(x.grad.abs().sum() > 0), True, call="clip_loss(...) hands a gradient back")


def test_align_and_spread(answers):
    """Hint: normalise both. For the second number: which pairs does torch.pdist return, and which does it leave out?

    힌트: 둘 다 정규화한다. 둘째 수에는 torch.pdist가 어떤 쌍을 돌려주고 어떤 쌍을 빼는지 생각해 보자.
    """
    corners = torch.tensor([[2.0, 0], [0, 3], [-1, 0]])  # on the circle: distances² of 2, 4, 2
    got = answers.align_and_spread(corners, 5 * corners, 2.0)
    expect(got, (0.0, math.log((2 * math.exp(-4) + math.exp(-8)) / 3)), call="align_and_spread(three corners, the same)")
    got = answers.align_and_spread(corners, -corners, 0.5)
    expect(got, (4.0, math.log((2 * math.exp(-1) + math.exp(-2)) / 3)), call="align_and_spread(three corners, opposite, t=0.5)")
    one = torch.ones(4, 3)
    expect(answers.align_and_spread(one, one, 2.0), (0.0, 0.0), call="align_and_spread(four times the same point)", atol=1e-5)


def test_layer_rates(answers):
    """Hint: how many steps below the head does a parameter lie? The layer's number is the fourth part of its name, cut at dots.

    힌트: 파라미터가 헤드보다 몇 단 아래에 있는지 센다. 이름을 점으로 자르면 네 번째 조각이 층 번호다.
    """
    names = {
        "bert.embeddings.word_embeddings.weight": 3,
        "bert.embeddings.LayerNorm.bias": 3,
        "bert.encoder.layer.0.attention.self.query.weight": 2,
        "bert.encoder.layer.1.output.LayerNorm.weight": 1,
        "bert.pooler.dense.weight": 0,
        "head.weight": 0,
        "head.bias": 0,
    }
    for lr, decay in ((0.5, 0.5), (0.001, 0.9), (0.1, 1.0)):
        got = answers.layer_rates(list(names), 2, lr, decay)
        call = f"layer_rates([embeddings, layers 0 and 1, pooler, head], layers=2, lr={lr}, decay={decay})"
        expect(got, {name: lr * decay**below for name, below in names.items()}, call=call)
    deep = {f"bert.encoder.layer.{i}.output.dense.bias": 12 - i for i in (1, 9, 10, 11)}
    got = answers.layer_rates(list(deep), 12, 1.0, 0.5)
    expect(
        got, {name: 0.5**below for name, below in deep.items()}, call="layer_rates(layers 1, 9, 10 and 11 of 12, 12, 1.0, 0.5)"
    )
    expect(answers.layer_rates([], 2, 0.1, 0.5), {}, call="layer_rates([], 2, 0.1, 0.5)")


def test_scramble_inside(answers):
    """Hint: unfold, unflatten the numbers of a patch into channels and pixels, index, fold. The weights move as the pixels do.

    힌트: unfold하고, 패치의 수를 채널과 픽셀로 펴고, 인덱싱하고, fold한다. 가중치는 픽셀이 움직인 대로 움직인다.
    """
    torch.manual_seed(0)
    for channels, patch, height, width in ((3, 4, 8, 12), (1, 2, 6, 4)):
        pictures, order = torch.randn(2, channels, height, width), torch.randperm(patch * patch)
        conv = nn.Conv2d(channels, 5, patch, stride=patch)
        kept, weight = pictures.clone(), conv.weight.detach().clone()
        call = f"scramble_inside({height}x{width} pictures, patches of {patch}x{patch}, a random order)"
        got, follower = answers.scramble_inside(pictures, conv, order)
        expected = pictures.clone()
        for row in range(0, height, patch):
            for column in range(0, width, patch):
                old = pictures[:, :, row : row + patch, column : column + patch].reshape(2, channels, -1)
                expected[:, :, row : row + patch, column : column + patch] = old[:, :, order].view(2, channels, patch, patch)
        expect(got, expected, call=f"the pictures of {call}")
        expect(isinstance(follower, nn.Conv2d), True, call=f"is the second result of {call} an nn.Conv2d")
        expect(follower(expected).detach(), conv(pictures).detach(), call=f"the new projection of {call}", atol=1e-5)
        expect((pictures, conv.weight.detach()), (kept, weight), call=f"pictures and conv after {call}")
