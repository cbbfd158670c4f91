"""Checks of stage 02's exercises. `answers` is the module under check: the reader's file, or the solutions."""

import ast
import inspect
import textwrap

import torch
from exercises.checking import expect


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

    nodes = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(answers.least_squares))))
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)} & {"lstsq", "pinv"}
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
