"""Checks of stage 03's exercises. `answers` is the module under check: the reader's file, or the solutions."""

import copy
import json
import math

import torch
import torch.nn.functional as F
from exercises.checking import expect, names_used
from torch import nn
from torch.export import Dim, export
from torch.utils.data import DistributedSampler


def test_log_sum_exp(answers):
    """Hint: log(e^a + e^b) = m + log(e^(a-m) + e^(b-m)) for every m. Which m keeps all of them small? And if that is -inf itself?

    힌트: log(e^a + e^b) = m + log(e^(a-m) + e^(b-m))는 m이 무엇이든 성립한다. 모두 작게 만드는 m은? 그 m이 -inf라면?
    """
    logits = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    expect(answers.log_sum_exp(logits), torch.tensor([0.693147, 2.313262]), call="log_sum_exp([[0, 0], [1, 2]])")
    logits = torch.tensor([[1000.0, 999.0], [-1000.0, -1000.0]])
    expect(
        answers.log_sum_exp(logits), torch.tensor([1000.313262, -999.306853]), call="log_sum_exp([[1000, 999], [-1000, -1000]])"
    )
    cube = 300 * torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    expect(answers.log_sum_exp(cube), torch.logsumexp(cube, dim=-1), call="log_sum_exp(logits of shape (2, 3, 4))")
    expect(answers.log_sum_exp(cube[0, 0]), torch.logsumexp(cube[0, 0], dim=-1), call="log_sum_exp(logits of shape (4,))")
    ruled_out = torch.tensor([[-torch.inf, 2.0], [-torch.inf, -torch.inf]])
    expect(answers.log_sum_exp(ruled_out), torch.tensor([2.0, -torch.inf]), call="log_sum_exp([[-inf, 2], [-inf, -inf]])")
    used = names_used(answers.log_sum_exp) & {"logsumexp", "log_softmax", "softmax", "logaddexp", "logcumsumexp", "cross_entropy"}
    expect(", ".join(sorted(used)) or "nothing", "nothing", call="what log_sum_exp uses and should do without")


def test_expected_calibration_error(answers):
    """Hint: (confidence * bins).long() says which bin. How much does a bin count, if its weight is its number of predictions / n?

    힌트: (confidence * bins).long()이 구간 번호다. 가중치가 예측 수 / n이라면 구간 하나는 얼마를 보태는가?
    """
    probabilities = torch.tensor([[0.75, 0.25]] * 4)
    got = answers.expected_calibration_error(probabilities, torch.tensor([0, 0, 1, 0]), 10)
    expect(got, 0.0, call="expected_calibration_error(75 % sure four times, right three times, 10 bins)")
    got = answers.expected_calibration_error(probabilities, torch.tensor([1, 1, 1, 1]), 10)
    expect(got, 0.75, call="expected_calibration_error(75 % sure four times, never right, 10 bins)")
    probabilities = torch.tensor([[0.0, 1.0, 0.0], [0.65, 0.25, 0.1], [0.25, 0.2, 0.55], [0.1, 0.05, 0.85]])
    labels, told = torch.tensor([1, 2, 2, 0]), "confidences 1, 0.65, 0.55, 0.85; right, wrong, right, wrong"
    for bins, off in ((10, 0 + 0.65 + 0.45 + 0.85), (2, 1.05), (1, 1.05)):  # in one bin the errors partly cancel
        got = answers.expected_calibration_error(probabilities, labels, bins)
        expect(got, off / 4, call=f"expected_calibration_error({told}; {bins} bins)")


def test_adam_path(answers):
    """Hint: after t steps from 0 both averages are too small by the factor 1 - βᵗ. Does the decay pass through them?

    힌트: 0에서 시작한 두 평균은 t스텝 뒤 1 - βᵗ배만큼 작다. 가중치 감쇠도 그 평균을 거치는가?
    """
    start = torch.tensor([1.0, -2.0])
    got = answers.adam_path(start, [torch.tensor([0.001, 500.0])], 0.1, 0.0)
    expect(got, [torch.tensor([0.9, -2.1])], call="adam_path([1, -2], [[0.001, 500]], lr 0.1, decay 0)", rtol=1e-3)
    got = answers.adam_path(start, [torch.zeros(2)] * 2, 0.1, 0.5)
    expect(got, [0.95 * start, 0.95**2 * start], call="adam_path([1, -2], two gradients of 0, lr 0.1, decay 0.5)")
    expect(start, torch.tensor([1.0, -2.0]), call="the start afterwards")
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(2, 3, generator=generator)
    gradients = [torch.randn(2, 3, generator=generator) for _ in range(5)]
    parameter = start.clone().requires_grad_()
    optimizer = torch.optim.AdamW([parameter], lr=0.05, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.3)
    path = []
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        path.append(parameter.detach().clone())
    expect(
        answers.adam_path(start, gradients, 0.05, 0.3), path, call="adam_path(5 gradients of shape (2, 3), lr 0.05, decay 0.3)"
    )
    used = names_used(answers.adam_path) & {"optim", "AdamW", "Adam"}
    expect(", ".join(sorted(used)) or "nothing", "nothing", call="what adam_path uses and should do without")


def test_newton_schulz(answers):
    """Hint: X Xᵀ X in code is x @ x.T @ x. Which of the two sizes may differ, and does that product mind?

    힌트: X Xᵀ X는 코드로 x @ x.T @ x다. 행과 열의 수가 달라도 이 곱이 되는가?
    """
    matrix = torch.tensor([[3.0, 0.0], [0.0, 4.0]])  # divided by 5: singular values 0.6 and 0.8
    expect(answers.newton_schulz(matrix, 0), matrix / 5, call="newton_schulz([[3, 0], [0, 4]], 0 steps)")
    once = torch.diag(torch.tensor([1.5 * 0.6 - 0.5 * 0.6**3, 1.5 * 0.8 - 0.5 * 0.8**3]))
    expect(answers.newton_schulz(matrix, 1), once, call="newton_schulz([[3, 0], [0, 4]], 1 step)")
    expect(matrix, torch.tensor([[3.0, 0.0], [0.0, 4.0]]), call="the matrix afterwards")
    for shape in ((3, 6), (6, 3)):
        matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
        expect(answers.newton_schulz(matrix, 30), u @ vt, call=f"newton_schulz(a matrix of shape {shape}, 30 steps)")
    used = names_used(answers.newton_schulz) & {"svd", "svdvals", "qr", "eigh", "matrix_power"}
    expect(", ".join(sorted(used)) or "nothing", "nothing", call="what newton_schulz uses and should do without")


def test_trapezoid(answers):
    """Hint: three straight pieces. How many steps are left at a step of the last piece, and what share of `decay` is that?

    힌트: 직선 세 조각이다. 마지막 조각의 한 스텝에서 남은 스텝은 몇 개이고, `decay`의 몇 분의 몇인가?
    """
    expected = [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 1.5, 1.0, 0.5]
    for step, rate in enumerate(expected):
        got = answers.trapezoid(step, 10, 4, 4, 2.0)
        expect(got, rate, call=f"trapezoid({step}, steps=10, warm_up=4, decay=4, lr=2.0)")
    for step, rate in ((0, 1.0), (5, 1.0), (8, 1.0), (9, 0.5)):
        expect(answers.trapezoid(step, 10, 0, 2, 1.0), rate, call=f"trapezoid({step}, steps=10, warm_up=0, decay=2, lr=1.0)")
    for step, rate in ((0, 0.2), (4, 1.0), (9, 1.0)):
        expect(answers.trapezoid(step, 10, 5, 0, 1.0), rate, call=f"trapezoid({step}, steps=10, warm_up=5, decay=0, lr=1.0)")


def test_suggest_rate(answers):
    """Hint: keep the running mean, the lowest smoothed loss so far and its rate. What is 1 - memory ** step at step 1?

    힌트: 이동 평균, 지금까지 가장 낮은 평활 손실, 그때의 학습률을 기억하자. 첫 스텝에서 1 - memory ** step은 얼마인가?
    """
    rates = [0.1, 0.2, 0.4, 0.8, 1.6]
    got = answers.suggest_rate(rates, [3.0, 2.0, 1.0, 2.0, 9.0], 0.0)
    expect(got, 0.04, call="suggest_rate([0.1, 0.2, 0.4, 0.8, 1.6], [3, 2, 1, 2, 9], memory=0)")
    got = answers.suggest_rate(rates, [3.0, 2.0, 0.5, 1.0, 9.0], 0.5)  # smoothed 3, 2.33, 1.29, 1.13, 5.2
    expect(got, 0.08, call="suggest_rate([0.1, 0.2, 0.4, 0.8, 1.6], [3, 2, 0.5, 1, 9], memory=0.5)")
    got = answers.suggest_rate(rates, [3.0, 2.9, 2.8, 2.7, 9.0], 0.9)  # smoothed 3, 2.95, 2.89, 2.84; undivided 0.3 is lowest
    expect(got, 0.08, call="suggest_rate([0.1, 0.2, 0.4, 0.8, 1.6], [3, 2.9, 2.8, 2.7, 9], memory=0.9)")
    for broken in (math.nan, math.inf):
        got = answers.suggest_rate(rates, [3.0, 2.0, broken, 0.1, 0.1], 0.5)
        expect(got, 0.02, call=f"suggest_rate([0.1, 0.2, 0.4, 0.8, 1.6], [3, 2, {broken}, 0.1, 0.1], memory=0.5)")


def test_early_stop(answers):
    """Hint: remember the epoch of the best loss. How many epochs without a new best lie between it and the present one?

    힌트: 손실이 가장 작았던 에포크를 기억하자. 그때부터 지금까지 나아지지 않은 에포크는 몇 개인가?
    """
    cases = (
        ([5.0, 4.0, 3.0, 2.0], 1, (3, 4)),
        ([5.0, 4.0, 4.5, 3.0], 1, (1, 3)),
        ([5.0, 4.0, 4.5, 3.0], 2, (3, 4)),
        ([5.0, 4.0, 4.0, 4.0, 1.0], 2, (1, 4)),  # as good as the best is no new best
        ([5.0, 4.0, 4.5, 4.2, 4.1, 1.0], 3, (1, 5)),  # getting better, and still worse than the best
        ([5.0, math.nan, math.nan, 1.0], 2, (0, 3)),
        ([5.0, math.nan, 1.0], 2, (2, 3)),
        ([5.0], 3, (0, 1)),
    )
    for losses, patience, expected in cases:
        expect(answers.early_stop(losses, patience), expected, call=f"early_stop({losses}, {patience})")


class _Counting(nn.Linear):
    """A layer that remembers how many examples each forward pass saw."""

    def __init__(self):
        super().__init__(4, 3)
        self.seen = []

    def forward(self, x):
        self.seen.append(len(x))
        return super().forward(x)


def test_accumulate(answers):
    """Hint: backward() adds. By what must the summed loss of each small batch be divided, so that all examples count the same?

    힌트: backward()는 더한다. 모든 예제의 몫이 같으려면 작은 배치마다 손실의 합을 무엇으로 나누어야 하는가?
    """
    torch.manual_seed(0)
    inputs, labels = torch.randn(10, 4), torch.randint(3, (10,))
    model = _Counting()
    for size in (10, 5, 4, 3, 1):
        reference = nn.Linear(4, 3)
        reference.load_state_dict(model.state_dict())
        loss = F.cross_entropy(reference(inputs), labels)
        loss.backward()
        model.weight.grad = torch.ones(3, 4)  # left over from something else
        model.seen.clear()
        got = answers.accumulate(model, inputs, labels, size)
        call = f"accumulate(model, 10 examples, size={size})"
        expect(got, loss.item(), call=call)
        expect(model.weight.grad, reference.weight.grad, call=f"weight.grad after {call}")
        expect(model.bias.grad, reference.bias.grad, call=f"bias.grad after {call}")
        expect(
            sorted(model.seen), sorted(len(part) for part in inputs.split(size)), call=f"examples of each forward pass in {call}"
        )


def test_pad_left(answers):
    """Hint: how long is the longest? The last len(sequence) places of a row are its own: which slice is that?

    힌트: 가장 긴 시퀀스의 길이는 얼마인가? 각 행의 마지막 len(sequence)자리가 진짜 값의 자리다. 슬라이스로는 어떻게 쓰는가?
    """
    a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0], [5.0, 6.0], [0.0, 7.0]])  # zeros may be real
    batch, mask = answers.pad_left([a, b])
    expected = torch.tensor([[[0.0, 0], [0, 0], [1, 2]], [[0, 0], [5, 6], [0, 7]]])
    expect(batch, expected, call="the batch of pad_left([[1, 2]], [[0, 0], [5, 6], [0, 7]])")
    expect(mask, torch.tensor([[False, False, True], [True] * 3]), call="its mask")
    batch, mask = answers.pad_left([a, -a])
    expect(batch, torch.stack([a, -a]), call="the batch of pad_left() of two that are equally long")
    expect(mask, torch.ones(2, 1, dtype=torch.bool), call="its mask, where nothing is padding")


def test_rows_of_worker(answers):
    """Hint: divmod(count, workers) says how many rows everybody has, and how many are left. How many rows come before yours?

    힌트: divmod(count, workers)는 모두에게 돌아가는 행의 수와 남는 행의 수를 준다. 앞의 워커들은 모두 몇 행을 가져갔는가?
    """
    for count, workers, expected in (
        (10, 3, [range(0, 4), range(4, 7), range(7, 10)]),
        (8, 4, [range(0, 2), range(2, 4), range(4, 6), range(6, 8)]),
        (11, 4, [range(0, 3), range(3, 6), range(6, 9), range(9, 11)]),
        (2, 3, [range(0, 1), range(1, 2), range(2, 2)]),
        (5, 1, [range(0, 5)]),
    ):
        for worker, rows in enumerate(expected):
            got = answers.rows_of_worker(count, worker, workers)
            expect(isinstance(got, range), True, call=f"is rows_of_worker({count}, {worker}, {workers}) a range?")
            expect(list(got), list(rows), call=f"the rows in rows_of_worker({count}, {worker}, {workers})")


def test_prepare_honestly(answers):
    """Hint: what is measured on which rows? nanmean leaves gaps out; std() comes after filling; a single test row has no std.

    힌트: 무엇을 어느 행에서 재는가? nanmean은 빈 곳을 빼고 평균한다. std()는 채운 뒤에 잰다. 테스트 행이 하나면 표준편차가 없다.
    """
    nan = float("nan")
    train = torch.tensor([[1.0, 10.0], [3.0, nan], [nan, 30.0], [2.0, 20.0]])
    test = torch.tensor([[nan, 40.0]])
    before = train.clone(), test.clone()
    first, second = answers.prepare_honestly(train, test)
    s = (2 / 3) ** 0.5  # filled with 2: 1, 3, 2, 2; the standard deviation is √(2/3), that of the other column ten times as much
    expect(first, torch.tensor([[-1 / s, -1 / s], [1 / s, 0], [0, 1 / s], [0, 0]]), call="the training rows, prepared")
    expect(second, torch.tensor([[0.0, 2 / s]]), call="the test row [NaN, 40], prepared")
    for tensor, kept, name in zip((train, test), before, ("train", "test"), strict=True):
        expect(tensor, kept, call=f"{name} after prepare_honestly(train, test)")

    alone, _ = answers.prepare_honestly(train, test)
    beside, _ = answers.prepare_honestly(train, torch.full((50, 2), 1000.0))
    expect(beside, alone, call="the training rows, prepared beside other test rows")


def test_Standardizer(answers):
    """Hint: neither a parameter nor a plain attribute: what does nn.Module call a tensor that is remembered and does not learn?

    힌트: 파라미터도 아니고 그냥 속성도 아니다. 기억하되 학습하지 않는 텐서를 nn.Module은 무엇이라고 부르는가?
    """
    x = torch.tensor([[1.0, 10.0], [2.0, 30.0], [3.0, 50.0]])
    layer = answers.Standardizer(x)
    expect(layer(torch.tensor([[2.0, 50.0], [4.0, 30.0]])), torch.tensor([[0.0, 1.0], [2.0, 0.0]]), call="Standardizer(x)(...)")
    expect(sorted(layer.state_dict()), ["mean", "std"], call="the names in Standardizer(x).state_dict()")
    expect(len(list(layer.parameters())), 0, call="how many parameters Standardizer(x) has")
    other = answers.Standardizer(torch.randn(5, 2, generator=torch.Generator().manual_seed(0)))
    other.load_state_dict(layer.state_dict())
    expect(other(x), layer(x), call="another Standardizer after load_state_dict")
    expect(layer.double()(x.double()).dtype, torch.float64, call="the dtype of Standardizer(x).double()(x.double())")


def test_load_matching(answers):
    """Hint: state_dict() knows the model's names and shapes. Choose what fits; what does strict=False forgive?

    힌트: state_dict()가 모델의 이름과 모양을 알고 있다. 맞는 것만 고르자. strict=False는 무엇을 봐주는가?
    """
    torch.manual_seed(0)
    old = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 10)).state_dict()
    weights = {**old, "1.running_mean": torch.tensor([1.0, 2, 3, 4]), "from.elsewhere": torch.ones(2)}
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2), nn.Linear(2, 2, bias=False))
    head = model[2].weight.detach().clone()
    expect(answers.load_matching(model, weights), ["2.bias", "2.weight", "3.weight"], call="load_matching(model, weights)")
    expect(model[0].weight.detach(), old["0.weight"], call='model\'s "0.weight" afterwards')
    expect(model[1].running_mean, torch.tensor([1.0, 2, 3, 4]), call='model\'s "1.running_mean" afterwards')
    expect(model[2].weight.detach(), head, call='model\'s "2.weight" afterwards, whose shape does not fit')
    expect(answers.load_matching(model, model.state_dict()), [], call="load_matching(model, its own state dict)")


def test_read_curve(answers):
    """Hint: json.loads makes a dict of a line. What does a dict do with a key that comes twice? How is one sorted by its keys?

    힌트: json.loads는 한 줄을 dict로 바꾼다. 같은 키가 두 번 나오면 dict는 어떻게 하는가? 키 순서로는 어떻게 정렬하는가?
    """
    points = [("a", 0, 3.0), ("b", 0, 9.0), ("a", 10, 2.0), ("a", 20, 1.5), ("a", 10, 2.5), ("a", 5, 4.0)]
    lines = [json.dumps({"settings": {"lr": 0.1}}), *(json.dumps({"name": n, "step": s, "value": v}) for n, s, v in points)]
    expect(answers.read_curve(lines, "a"), {0: 3.0, 5: 4.0, 10: 2.5, 20: 1.5}, call='read_curve(lines, "a")')
    expect(list(answers.read_curve(lines, "a")), [0, 5, 10, 20], call='the steps of read_curve(lines, "a"), in order')
    expect(answers.read_curve(lines, "b"), {0: 9.0}, call='read_curve(lines, "b")')
    expect(answers.read_curve(lines, "c"), {}, call='read_curve(lines, "c")')


def test_best_setting(answers):
    """Hint: which runs belong together? Those that are alike in everything but the seed, in whatever order their names stand.

    힌트: 어떤 실행끼리 묶이는가? 시드만 다르고 나머지가 모두 같은 실행이다. 이름이 적힌 순서는 상관없다.
    """
    runs = [
        ({"lr": 0.1, "hidden": 8, "seed": 0}, 0.90),
        ({"lr": 0.1, "hidden": 8, "seed": 1}, 0.70),
        ({"lr": 0.2, "hidden": 8, "seed": 0}, 0.84),
        ({"seed": 1, "hidden": 8, "lr": 0.2}, 0.80),
        ({"lr": 0.2, "hidden": 64, "seed": 0}, 0.99),  # only once
    ]
    copy = json.loads(json.dumps(runs))
    expect(answers.best_setting(runs), {"lr": 0.2, "hidden": 8}, call="best_setting(runs): 0.80 and 0.82, and 0.99 only once")
    expect([list(run) for run in runs], copy, call="the runs afterwards")
    runs.append(({"lr": 0.2, "hidden": 64, "seed": 1}, 0.50))
    expect(answers.best_setting(runs), {"lr": 0.2, "hidden": 8}, call="best_setting(runs): means 0.80, 0.82 and 0.745")
    try:
        got = answers.best_setting(runs[:1])
    except ValueError:
        got = "ValueError"
    expect(got, "ValueError", call="best_setting of a single run")


def _batches(sizes: list[int], features: int, classes: int):
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(n, features, generator=generator), torch.randint(classes, (n,), generator=generator)) for n in sizes]


def test_mend_training(answers):
    """Hint: follow one batch. What does cross_entropy want to be given? When is a gradient cleared? Which weights may move?

    힌트: 배치 하나를 따라가 보자. cross_entropy에는 무엇을 넣는가? 기울기는 언제 비우는가? 어떤 가중치가 움직여야 하는가?
    """
    batches = _batches([8, 8, 8], features=4, classes=3)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    reference, losses = copy.deepcopy(model), []
    start = copy.deepcopy(model.state_dict())
    for inputs, labels in batches:
        loss = F.cross_entropy(reference(inputs), labels)
        gradients = torch.autograd.grad(loss, list(reference.parameters()))
        losses.append(loss.item())
        with torch.no_grad():
            for parameter, gradient in zip(reference.parameters(), gradients, strict=True):
                parameter -= 0.5 * gradient
    got = answers.mend_training(model, batches, 0.5)
    expect(got, losses, call="mend_training(a small network, 3 batches, lr 0.5)")
    for name, weights in reference.state_dict().items():
        moved = not torch.equal(model.state_dict()[name], start[name])
        expect(moved, True, call=f"has {name} moved?")
        expect(model.state_dict()[name], weights, call=f"{name} after mend_training(a small network, 3 batches, lr 0.5)")


class _Spy(nn.Module):
    """Passes its input on, and notes whether autograd was on."""

    def __init__(self):
        super().__init__()
        self.autograd = []

    def forward(self, x):
        self.autograd.append(torch.is_grad_enabled())
        return x


def test_mend_accuracy(answers):
    """Hint: which dimension holds an example's logits? What is 1 of 1 worth beside 5 of 10? Who turns dropout off?

    힌트: 예제 하나의 로짓은 어느 차원에 놓이는가? 1개 중 1개와 10개 중 5개를 평균하면? 드롭아웃은 누가 끄는가?
    """
    identity = nn.Identity()  # the inputs are the logits
    logits = torch.tensor([[2.0, 1.0], [9.0, 8.0], [0.0, 1.0], [5.0, 6.0]])
    batches = [(logits[:3], torch.tensor([0, 0, 0])), (logits[3:], torch.tensor([1]))]  # 2 of 3, and 1 of 1
    told = "mend_accuracy(2 right of 3 in one batch, 1 of 1 in the other)"
    expect(answers.mend_accuracy(identity, batches), 0.75, call=told)

    batches = _batches([20, 20, 2], features=6, classes=4)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 4), _Spy())
    model(torch.cat([inputs for inputs, _ in batches]) * 3 + 1)  # so that what batch normalisation remembers is not trivial
    model[-1].autograd.clear()
    remembered = model[1].running_mean.clone()
    reference = copy.deepcopy(model).eval()
    right = sum((reference(inputs).argmax(dim=1) == labels).sum().item() for inputs, labels in batches)
    for training in (True, False):
        model.train(training)
        mode = "training" if training else "eval"
        told = f"mend_accuracy(a network with dropout and batch normalisation, in {mode} mode)"
        expect(answers.mend_accuracy(model, batches), right / 42, call=told)
        expect(model.training, training, call=f"is it in training mode afterwards, begun in {mode} mode?")
    expect(model[1].running_mean, remembered, call="what batch normalisation remembers, afterwards")
    expect(any(model[-1].autograd), False, call="was autograd on?")


def test_bytes_kept(answers):
    """Hint: the first hook gets every tensor that is kept. tensor.untyped_storage() is the memory behind it and all its views.

    힌트: 첫째 훅은 저장되는 텐서를 하나씩 받는다. tensor.untyped_storage()가 그 텐서와 모든 뷰의 메모리다.
    """
    x = torch.randn(100, generator=torch.Generator().manual_seed(0)).requires_grad_()
    cases = (
        ("x * 2", lambda x: x * 2, 0),  # the derivative is 2, whatever x is
        ("x.sin()", torch.sin, 0),  # keeps x, which does not count
        ("x.exp()", torch.exp, 400),  # keeps its result
        ("x.exp().exp().exp()", lambda x: x.exp().exp().exp(), 1200),
        ("x.exp().square()", lambda x: x.exp().square(), 400),  # both keep the same memory
        ("y @ y of views of x.exp()", lambda x: (lambda y: y.view(10, 10) @ y.view(10, 10).T)(x.exp()), 400),
        ("x.exp()[:10] * x.exp()[:10]", lambda x: x.exp()[:10] * x.exp()[:10], 800),  # a piece keeps the whole alive
        ("x.double().exp()", lambda x: x.double().exp(), 800),
    )
    for told, function, expected in cases:
        expect(answers.bytes_kept(function, x), expected, call=f"bytes_kept({told}, 100 float32 numbers)")


def test_checkpoint_backward(answers):
    """Hint: torch.set_rng_state(state), the block under torch.enable_grad(), torch.autograd.grad. And what was drawn before?

    힌트: torch.set_rng_state(state), torch.enable_grad() 안에서 block, 그리고 torch.autograd.grad. 그 전의 난수 상태는?
    """
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Dropout(0.5), nn.Linear(6, 3))
    x, gradient = torch.randn(5, 4), torch.randn(5, 3)
    state = torch.get_rng_state()
    leaf = x.clone().requires_grad_()
    expected = list(torch.autograd.grad(block(leaf), [leaf, *block.parameters()], gradient))
    torch.rand(7)  # something else draws before the backward pass
    now = torch.get_rng_state()
    with torch.no_grad():  # as inside a backward pass
        got = answers.checkpoint_backward(block, x, gradient, state)
    expect(got, expected, call="checkpoint_backward(a block with dropout, x, gradient, state)")
    expect(torch.equal(torch.get_rng_state(), now), True, call="do torch's random numbers go on as before?")
    untouched = x.grad is None and all(parameter.grad is None for parameter in block.parameters())
    expect(untouched and not x.requires_grad, True, call="are x and every .grad as they were?")
    used = names_used(answers.checkpoint_backward) & {"checkpoint"}
    expect(", ".join(sorted(used)) or "nothing", "nothing", call="what checkpoint_backward uses and should do without")


def test_average_gradients(answers):
    """Hint: multiply each mean by its own count, and it is a sum again. What is 0 · nan?

    힌트: 평균에 그 개수를 곱하면 다시 합이 된다. 0 · nan은 얼마인가?
    """
    one, two = torch.tensor([1.0, 10.0]), torch.tensor([4.0, 40.0])
    call = "average_gradients([[1, 10], [4, 40]], {})"
    expect(answers.average_gradients([one, two], [5, 5]), torch.tensor([2.5, 25.0]), call=call.format([5, 5]))
    expect(answers.average_gradients([one, two], [2, 1]), torch.tensor([2.0, 20.0]), call=call.format([2, 1]))
    nothing = torch.full((2,), float("nan"))
    got = answers.average_gradients([one, nothing, two], [3, 0, 1])
    expect(got, torch.tensor([1.75, 17.5]), call="average_gradients([[1, 10], [nan, nan], [4, 40]], [3, 0, 1])")

    x = torch.randn(11, 3, generator=torch.Generator().manual_seed(0))
    weights = torch.ones(3, requires_grad=True)

    def gradient(part: slice) -> torch.Tensor:
        return torch.autograd.grad((x[part] @ weights).square().mean(), weights)[0]

    got = answers.average_gradients([gradient(slice(0, 4)), gradient(slice(4, 11))], [4, 7])
    expect(got, gradient(slice(0, 11)), call="average_gradients(of 4 and of 7 examples), held against those of all 11")


def test_deal_out(answers):
    """Hint: how many are missing until the count can be divided? And what does order[1::3] give?

    힌트: 똑같이 나누려면 몇 개가 모자라는가? order[1::3]은 무엇을 주는가?
    """
    for count, processes, epoch, seed in ((6, 3, 0, 0), (10, 3, 0, 0), (10, 3, 4, 0), (7, 7, 1, 2), (9, 1, 2, 5)):
        samplers = [
            DistributedSampler(range(count), num_replicas=processes, rank=rank, shuffle=True, seed=seed)
            for rank in range(processes)
        ]
        for sampler in samplers:
            sampler.set_epoch(epoch)
        call = f"deal_out({count}, {processes}, epoch={epoch}, seed={seed}), held against DistributedSampler"
        expect(answers.deal_out(count, processes, epoch, seed), [list(sampler) for sampler in samplers], call=call)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    answers.deal_out(10, 3, 0, 0)
    expect(torch.equal(torch.get_rng_state(), before), True, call="is PyTorch's global generator as it was before deal_out?")


def test_say_without_python(answers):
    """Hint: amax with keepdim gives (rows, 1). A factor for each row, and torch.where instead of if.

    힌트: keepdim을 준 amax는 (rows, 1)이다. 행마다 곱할 수를 만들고, if 대신 torch.where를 쓴다.
    """
    x = torch.tensor([[1.0, -4.0], [0.5, 1.0], [0.0, 0.0], [-3.0, 3.0]])
    expected = torch.tensor([[0.5, -2.0], [0.5, 1.0], [0.0, 0.0], [-2.0, 2.0]])
    expect(answers.say_without_python(x, 2.0), expected, call="say_without_python([[1, -4], [0.5, 1], [0, 0], [-3, 3]], 2)")
    expect(x[0], torch.tensor([1.0, -4.0]), call="the first row of x afterwards")

    class Said(nn.Module):
        def forward(self, x):
            return answers.say_without_python(x, 2.0)

    try:
        program = export(Said(), (x[:2],), dynamic_shapes=({0: Dim("rows", min=1, max=64)},))
        found = program.module()(x)
    except Exception as error:  # whatever export says
        found = str(error).strip().splitlines()[0]
    expect(found, expected, call="say_without_python, exported with two rows and asked about these four")


def test_parameters_by_operation(answers):
    """Hint: program.graph_signature.inputs_to_parameters maps the name of an input node to a name in program.state_dict.

    힌트: program.graph_signature.inputs_to_parameters는 입력 노드의 이름에서 program.state_dict의 이름을 알려 준다.
    """
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 5), nn.Linear(5, 2)
    ).eval()
    program = export(network, (torch.zeros(2, 1, 3, 3),))
    found = answers.parameters_by_operation(program)
    expected = {"aten.batch_norm.default": 8, "aten.conv2d.default": 40, "aten.linear.default": 37}
    found = dict(sorted(found.items())) if isinstance(found, dict) else found
    expect(found, expected, call="parameters_by_operation(a convolution, batch norm, ReLU and two linear layers)")


def test_quantize_per_channel(answers):
    """Hint: amax over dim=1 with keepdim is the largest weight of each output. Round before you convert to int8.

    힌트: keepdim을 준 dim=1의 amax가 출력마다 가장 큰 가중치다. int8로 바꾸기 전에 반올림한다.
    """
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.27, -0.5, 0.004], [0.0, 0.0, 0.0], [-12.7, 6.36, 0.0]]))
    found = answers.quantize_per_channel(layer)
    numbers = torch.tensor([[127, -50, 0], [0, 0, 0], [-127, 64, 0]], dtype=torch.int8)
    expected = numbers, torch.tensor([[0.01], [1.0], [0.1]])
    expect(found, expected, call="quantize_per_channel(weights [[1.27, -0.5, 0.004], [0, 0, 0], [-12.7, 6.36, 0]])")
    expect(found[1].requires_grad, False, call="... whether the scales ask for gradients")


def test_plan_batches(answers):
    """Hint: a question is taken at max(when the model is free, when it came). When does the model begin? When is it free again?

    힌트: 질문은 max(모델이 비는 때, 질문이 온 때)에 받는다. 모델은 언제 시작하고, 언제 다시 비는가?
    """
    told = "plan_batches(arrivals [0, 1, 2, 3, 4, 5], "
    arrivals = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    for most, wait, seconds, expected in (
        (1, 0.0, 2.5, [[0], [1], [2], [3], [4], [5]]),
        (8, 0.0, 0.5, [[0], [1], [2], [3], [4], [5]]),
        (8, 0.0, 2.5, [[0], [1, 2], [3, 4, 5]]),  # free at 2.5, then at 5
        (2, 0.0, 2.5, [[0], [1, 2], [3, 4], [5]]),
        (8, 2.0, 0.5, [[0, 1, 2], [3, 4, 5]]),
        (2, 9.0, 0.5, [[0, 1], [2, 3], [4, 5]]),  # full: nobody waits for the end of the 9 seconds
        (3, 1.5, 2.0, [[0, 1], [2, 3, 4], [5]]),  # begins at 1.5, free at 3.5, full at 4, free at 6
    ):
        got = answers.plan_batches(arrivals, most, wait, seconds)
        expect(got, expected, call=f"{told}most {most}, wait {wait}, seconds {seconds})")
    expect(answers.plan_batches([0.0, 10.0, 10.0], 8, 1.0, 0.5), [[0], [1, 2]], call="plan_batches([0, 10, 10], 8, 1, 0.5)")
    got = answers.plan_batches([0.0, 1.0, 2.0, 9.0], 2, 5.0, 1.0)  # begins at 1, free at 2, waits until 7; not 5, 6 and 11
    expect(got, [[0, 1], [2], [3]], call="plan_batches([0, 1, 2, 9], most 2, wait 5, seconds 1)")
    expect(answers.plan_batches([], 8, 1.0, 0.5), [], call="plan_batches([], 8, 1, 0.5)")


def test_open_loop_times(answers):
    """Hint: keep in mind when the server is free again. A question begins at the later one of two moments.

    힌트: 서버가 언제 다시 비는지 기억해 둔다. 질문은 두 순간 가운데 늦은 쪽에 시작된다.
    """
    expect(answers.open_loop_times([0.5, 0.5, 0.5], 1.0), [0.5, 0.5, 0.5], call="open_loop_times([0.5, 0.5, 0.5], 1)")
    got = answers.open_loop_times([0.1, 2.0, 0.1, 0.1, 0.1], 0.5)
    expect(got, [0.1, 2.0, 1.6, 1.2, 0.8], call="open_loop_times([0.1, 2, 0.1, 0.1, 0.1], 0.5)")
    expect(answers.open_loop_times([1.0] * 4, 0.5), [1.0, 1.5, 2.0, 2.5], call="open_loop_times([1, 1, 1, 1], 0.5)")
    expect(answers.open_loop_times([3.0, 1.0, 1.0], 10.0), [3.0, 1.0, 1.0], call="open_loop_times([3, 1, 1], 10)")
