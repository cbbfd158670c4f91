"""Checks of stage 02's exercises. `answers` is the module under check: the reader's file, or the solutions."""

import torch
from exercises.checking import expect, names_used
from torch import nn


def test_perceptron_step(answers):
    """Hint: multiply the score by the truth; what is its sign when both agree? And what is the very first score, from zeros?

    힌트: 점수에 정답을 곱하면 둘이 같은 편일 때 부호가 무엇인가? 가중치가 모두 0이면 첫 점수는 얼마인가?
    """
    example = torch.tensor([2.0, -1.0, 1.0])
    cases = (
        ([0.0, 0.0, 0.0], 1, [2.0, -1.0, 1.0]),  # exactly on the boundary is a mistake
        ([0.0, 0.0, 0.0], -1, [-2.0, 1.0, -1.0]),
        ([1.0, 0.0, 0.5], 1, [1.0, 0.0, 0.5]),  # right: nothing changes
        ([1.0, 0.0, 0.5], -1, [-1.0, 1.0, -0.5]),
        ([-1.0, 0.0, 0.5], 1, [1.0, -1.0, 1.5]),
        ([-1.0, 0.0, 0.5], -1, [-1.0, 0.0, 0.5]),
    )
    for start, truth, expected in cases:
        weights = torch.tensor(start)
        got = answers.perceptron_step(weights, example, truth)
        expect(got, torch.tensor(expected), call=f"perceptron_step({start}, [2, -1, 1], {truth})")
        expect(weights, torch.tensor(start), call=f"the weights {start} after perceptron_step(weights, [2, -1, 1], {truth})")
    expect(example, torch.tensor([2.0, -1.0, 1.0]), call="the example afterwards")


def test_mistake_bound(answers):
    """Hint: how long is u = direction / direction.norm()? Which example decides the margin, and which one decides R?

    힌트: u = direction / direction.norm()의 길이는 얼마인가? 마진을 정하는 예제는 어느 것이고, R을 정하는 예제는 어느 것인가?
    """
    x, labels = torch.tensor([[3.0, 4.0], [1.0, 0.0], [-2.0, 1.0]]), torch.tensor([1.0, 1.0, -1.0])
    for direction in ([1.0, 0.0], [10.0, 0.0], [0.1, 0.0]):  # R is 5, the margins along the first input are 3, 1, 2
        got = answers.mistake_bound(x, labels, torch.tensor(direction))
        expect(got, 25.0, call=f"mistake_bound([[3, 4], [1, 0], [-2, 1]], [1, 1, -1], direction {direction})")
    got = answers.mistake_bound(x, labels, torch.tensor([3.0, -1.0]))  # margins 5, 3, 7 over √10
    expect(got, 25 * 10 / 9, call="mistake_bound(the same, direction [3, -1])")
    for direction in ([-1.0, 0.0], [4.0, -3.0]):  # all on the wrong side; one exactly on the boundary
        got = answers.mistake_bound(x, labels, torch.tensor(direction))
        expect(got, float("inf"), call=f"mistake_bound(the same, direction {direction}), which does not separate")


def test_parity_network(answers):
    """Hint: let the units fire from one, from two and from three ones on. What must each add, so that 1 and 3 end above 0?

    힌트: 1이 한 개, 두 개, 세 개 이상일 때 켜지는 유닛을 하나씩 두자. 홀수일 때만 0보다 크려면 저마다 얼마를 더해야 하는가?
    """
    weight1, bias1, weight2, bias2 = answers.parity_network()
    shapes = [tuple(tensor.shape) for tensor in (weight1, bias1, weight2, bias2)]
    expect(shapes, [(3, 3), (3,), (3,), ()], call="the shapes of parity_network()")
    for x in torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3):
        h = (x @ weight1.T + bias1 > 0).float()
        yes = (h @ weight2 + bias2 > 0).item()
        expect(yes, x.sum().item() % 2 == 1, call=f"is the number of ones in {x.int().tolist()} odd?")


def test_least_squares(answers):
    """Hint: the bias is the weight of a feature that is always 1. Where is the gradient 2 Xᵀ(Xw - y) / n zero?

    힌트: 편향은 늘 1인 특징의 가중치다. 기울기 2 Xᵀ(Xw - y) / n은 어디에서 0이 되는가?
    """
    x = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    y = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)  # the best line is 2.5 x + 0.5, off by 0.5, -1, 0.5
    got = answers.least_squares(x, y)
    expect(got, (torch.tensor([2.5], dtype=torch.float64), 0.5), call="least_squares([[0], [1], [2]], [1, 2, 6])")

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=generator, dtype=torch.float64) + 5
    y = x @ torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64) + 7 + torch.randn(40, generator=generator, dtype=torch.float64)
    columns = torch.cat([x, torch.ones(40, 1, dtype=torch.float64)], dim=1)
    best = torch.linalg.lstsq(columns, y.unsqueeze(1)).solution.squeeze(1)
    expect(answers.least_squares(x, y), (best[:3], best[3].item()), call="least_squares(40 noisy points, 3 features around 5)")

    used = names_used(answers.least_squares) & {"lstsq", "pinv"}
    expect(", ".join(sorted(used)) or "nothing", "nothing", call="what least_squares uses and should do without")


def test_largest_learning_rate(answers):
    """Hint: the second derivatives of the loss are 2 XᵀX / n. Which of its eigenvalues is the steepest direction's?

    힌트: 손실의 이계 미분은 2 XᵀX / n이다. 그 고윳값 가운데 가장 가파른 방향의 것은 무엇인가?
    """
    x = torch.tensor([[3.0, 0.0], [0.0, 1.0]], dtype=torch.float64)  # curvatures 9 and 1
    expect(answers.largest_learning_rate(x), 2 / 9, call="largest_learning_rate([[3, 0], [0, 1]])")
    x = torch.tensor([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [0.0, 1.0]], dtype=torch.float64)
    limit = answers.largest_learning_rate(x)
    expect(isinstance(limit, float), True, call="is largest_learning_rate(...) a Python float?")
    for share, runs_away in ((0.98, False), (1.02, True)):  # held against what gradient descent does
        weights = torch.tensor([1.0, 1.0], dtype=torch.float64)
        for _ in range(500):
            weights = weights - share * limit * 2 * x.T @ (x @ weights) / len(x)
        grown = weights.norm().item() > 2**0.5
        expect(grown, runs_away, call=f"does gradient descent run away at {share} · largest_learning_rate(x)?")


def test_tanh_network_gradients(answers):
    """Hint: go down in the order in which the numbers came up, backwards. h is tanh already, and tanh's slope is 1 - tanh².

    힌트: 올라온 순서를 거꾸로 따라 내려간다. h가 이미 tanh의 값이고, tanh의 미분은 1 - tanh²이다.
    """
    generator = torch.Generator().manual_seed(0)
    for batch, inputs, hidden, outputs in ((5, 3, 4, 2), (1, 2, 2, 3), (4, 4, 4, 4)):  # all 4: transposed, they still fit
        shapes = ((batch, inputs), (batch, outputs), (hidden, inputs), (outputs, hidden))
        x, target, weight1, weight2 = (torch.randn(shape, generator=generator) for shape in shapes)
        leaves = [weight1.clone().requires_grad_(), weight2.clone().requires_grad_()]
        loss = ((x @ leaves[0].T).tanh() @ leaves[1].T - target).square().mean()
        expected = torch.autograd.grad(loss, leaves)
        got = answers.tanh_network_gradients(x, target, weight1, weight2)
        expect(got, expected, call=f"tanh_network_gradients() of {batch} examples in a network {inputs} → {hidden} → {outputs}")


def test_MultiLayerPerceptron(answers):
    """Hint: itertools.pairwise([4, 8, 3]) gives (4, 8) and (8, 3). Which layer has no ReLU after it?

    힌트: itertools.pairwise([4, 8, 3])은 (4, 8)과 (8, 3)을 준다. 뒤에 ReLU가 없는 층은 어느 것인가?
    """
    for sizes in ([4, 3], [4, 8, 3], [4, 6, 7, 5, 2]):
        model = answers.MultiLayerPerceptron(sizes)
        expected = {}
        for i, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            expected |= {f"linears.{i}.weight": (outputs, inputs), f"linears.{i}.bias": (outputs,)}
        shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
        expect(shapes, expected, call=f"the parameters of MultiLayerPerceptron({sizes})")

        theirs = nn.Sequential()
        for linear in model.linears:
            theirs.extend([linear, nn.ReLU()])
        x = torch.randn(20, sizes[0], generator=torch.Generator().manual_seed(0))
        expect(model(x).detach(), theirs[:-1](x).detach(), call=f"MultiLayerPerceptron({sizes}) of 20 random rows")


def test_log_sigmoid(answers):
    """Hint: for negative x, ln(1 / (1 + e⁻ˣ)) = x - ln(1 + eˣ). Can one formula with |x| serve both sides?

    힌트: x가 음수이면 ln(1 / (1 + e⁻ˣ)) = x - ln(1 + eˣ)이다. |x|를 쓴 식 하나로 양쪽을 다 나타낼 수 있는가?
    """
    for numbers in ([0.0, 1.0, -1.0, 3.5], [-1000.0, 1000.0], [-100.0, 20.0, 90.0]):
        x = torch.tensor(numbers)
        before = x.clone()
        expect(answers.log_sigmoid(x), nn.functional.logsigmoid(x), call=f"log_sigmoid({numbers})", atol=0)
        expect(x, before, call="x after log_sigmoid(x)")
        leaf = torch.tensor([[number or 0.5] for number in numbers], requires_grad=True)  # at 0, |x| has no slope of its own
        (gradient,) = torch.autograd.grad(answers.log_sigmoid(leaf).sum(), leaf)
        expect(gradient, torch.sigmoid(-leaf).detach(), call=f"the gradient of log_sigmoid at {leaf.flatten().tolist()}")

    used = names_used(answers.log_sigmoid) & {"logsigmoid", "LogSigmoid", "softplus", "Softplus"}
    expect(", ".join(sorted(used)) or "nothing", "nothing", call="what log_sigmoid uses and should do without")


def test_dead_share(answers):
    """Hint: a unit is a column. It is dead if what enters is 0 or less in all rows: which dim disappears?

    힌트: 유닛 하나가 열 하나다. 모든 행에서 들어오는 수가 0 이하이면 죽은 유닛이다. 어느 dim이 사라져야 하는가?
    """
    rows = [[-1.0, 2.0, 0.0, -3.0], [-2.0, -1.0, 0.0, -1.0], [-0.5, -1.0, 0.0, 1e-3]]  # columns 0 and 2 are dead
    expect(answers.dead_share(torch.tensor(rows)), 0.5, call=f"dead_share({rows})")
    expect(answers.dead_share(torch.tensor([[1.0, -1.0, -1.0]])), 2 / 3, call="dead_share([[1, -1, -1]])")
    expect(answers.dead_share(torch.tensor([[-1.0, -1.0], [2.0, 1.0]])), 0.0, call="dead_share([[-1, -1], [2, 1]])")


def test_starting_bias(answers):
    """Hint: which x has exp(x) = p? Count each class first; bincount does it.

    힌트: exp(x) = p인 x는 무엇인가? 먼저 클래스마다 몇 개인지 센다. bincount가 그 일을 한다.
    """
    labels = torch.tensor([0, 2, 2, 1, 2, 2, 0, 2])
    shares = torch.tensor([2 / 8, 1 / 8, 5 / 8])
    bias = answers.starting_bias(labels, 3)
    expect(bias, shares.log(), call="starting_bias([0, 2, 2, 1, 2, 2, 0, 2], classes=3)")
    expect(bias.softmax(dim=0), shares, call="softmax of that bias")
    expect(answers.starting_bias(torch.arange(10), 10).exp(), torch.full((10,), 0.1), call="exp(starting_bias([0, …, 9], 10))")


def test_calibrate(answers):
    """Hint: with bias 0, half the weight gives half the output. Divide by the measured std, then send x on through the layer.

    힌트: 편향이 0이면 가중치가 절반일 때 출력도 절반이다. 잰 표준편차로 나눈 다음 x를 그 층에 통과시켜 다음 층으로 보낸다.
    """
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 3)).eval()
    x = 5 * torch.randn(200, 6) + 1
    linears = [layer for layer in network if isinstance(layer, nn.Linear)]
    for layer in linears:
        nn.init.zeros_(layer.bias)
    before = [layer.weight.detach().clone() for layer in linears]
    parameters = list(network.parameters())
    answers.calibrate(network, x)
    h, number = x, 0
    with torch.no_grad():
        for layer in network:
            h = layer(h)
            if isinstance(layer, nn.Linear):
                number += 1
                expect(h.std().item(), 1.0, call=f"standard deviation after linear layer {number}, calibrated", rtol=1e-3)
    for number, (layer, old) in enumerate(zip(linears, before, strict=True), start=1):
        factor = layer.weight.detach() / old
        expect(factor, factor[0, 0].expand_as(factor), call=f"new weight / old weight of linear layer {number}", rtol=1e-3)
        expect(layer.bias.detach(), torch.zeros(len(old)), call=f"the bias of linear layer {number}")
    same = all(
        new is old and new.is_leaf and new.requires_grad for new, old in zip(network.parameters(), parameters, strict=True)
    )
    expect(same, True, call="are the parameters the same leaves as before, still to be trained?")


def test_parameter_groups(answers):
    """Hint: parameter.dim() counts dimensions. model.parameters() lists every parameter, the frozen ones too.

    힌트: parameter.dim()이 차원의 수다. model.parameters()는 얼린 것까지 모든 파라미터를 내준다.
    """
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3), nn.Linear(3, 2))
    model[4].requires_grad_(False)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = answers.parameter_groups(model, 0.05)
    expect(len(groups) if isinstance(groups, list) else groups, 2, call="the number of groups")
    told = [([names.get(id(parameter), "?") for parameter in group["params"]], group["weight_decay"]) for group in groups]
    expect(told[0], (["0.weight", "3.weight"], 0.05), call="what decays of conv, batch norm, linear, frozen linear; by 0.05")
    expect(told[1], (["0.bias", "1.weight", "1.bias", "3.bias"], 0.0), call="what does not decay")
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    expect([group["weight_decay"] for group in optimizer.param_groups], [0.05, 0.0], call="the groups in torch.optim.AdamW")


def test_EarlyStopping(answers):
    """Hint: keep count of the losses and of the number of the lowest. NaN < 1 is False, and 1 < NaN as well.

    힌트: 손실의 번호를 세고, 가장 낮았던 번호를 기억한다. NaN < 1은 거짓이고 1 < NaN도 거짓이다.
    """
    for patience, losses, expected, best, best_step in (
        (2, [1.0, 0.9, 0.95, 0.8, 0.85, 0.81], [False, False, False, False, False, True], 0.8, 3),
        (1, [1.0, 1.0], [False, True], 1.0, 0),
        (3, [2.0, 3.0, 3.0, 1.5, 3.0, 3.0, 3.0], [False] * 6 + [True], 1.5, 3),
        (2, [1.0, float("nan"), 0.5, float("nan"), float("nan")], [False, False, False, False, True], 0.5, 2),
    ):
        stopping = answers.EarlyStopping(patience)
        start = stopping.best, stopping.best_step
        expect(start, (float("inf"), -1), call=f"best and best_step of a new EarlyStopping({patience})")
        got = [stopping.should_stop(loss) for loss in losses]
        expect(got, expected, call=f"EarlyStopping({patience}).should_stop(…) for the losses {losses}")
        expect((stopping.best, stopping.best_step), (best, best_step), call=f"best and best_step after the losses {losses}")
