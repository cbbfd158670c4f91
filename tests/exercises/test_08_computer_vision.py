"""Checks of stage 08's exercises. `answers` is the module under check: the reader's file, or the solutions."""

import torch
import torch.nn.functional as F
from exercises.checking import expect, names_used
from torch import nn
from torchvision import ops


def _boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = 60 * torch.rand(count, 2, generator=generator)
    return torch.cat([corners, corners + 1 + 40 * torch.rand(count, 2, generator=generator)], dim=1)


def test_unletterbox(answers):
    """Hint: go back in reverse order: first take the margin off, then divide by the scale. Only one of the margins is not 0.

    힌트: 거꾸로 되돌아간다. 먼저 여백을 빼고, 그다음 배율로 나눈다. 여백은 한쪽 방향에만 있다.
    """
    boxes = torch.tensor([[0.0, 40, 320, 280], [80, 100, 160, 160]])
    got = answers.unletterbox(boxes, 320, 640, 480)  # scaled by 1/2 to 320x240, 40 pixels above and below
    expect(got, torch.tensor([[0.0, 0, 640, 480], [160, 120, 320, 240]]), call="unletterbox(two boxes, side 320, 640x480)")
    got = answers.unletterbox(torch.tensor([[30.0, 10, 60, 90]]), 100, 25, 50)  # enlarged, and upright: margins left and right
    expect(got, torch.tensor([[2.5, 5.0, 17.5, 45.0]]), call="unletterbox(a box, side 100, 25x50)")
    got = answers.unletterbox(torch.tensor([[-10.0, 20, 350, 300]]), 320, 640, 480)
    expect(got, torch.tensor([[0.0, 0, 640, 480]]), call="unletterbox(a box that reaches into the margins)")
    expect(answers.unletterbox(torch.zeros(0, 4), 320, 640, 480), torch.zeros(0, 4), call="unletterbox(no boxes)")


def test_pairwise_giou(answers):
    """Hint: as for IoU, ours[:, None] against theirs; the box round both takes the smaller starts and the larger ends.

    힌트: IoU처럼 ours[:, None]과 theirs를 맞댄다. 둘을 감싸는 박스는 시작은 작은 쪽, 끝은 큰 쪽이다.
    """
    ours, theirs = _boxes(7, seed=0), _boxes(5, seed=1)
    got = answers.pairwise_giou(ours, theirs)
    expect(got, ops.generalized_box_iou(ours, theirs), call="pairwise_giou(7 boxes, 5 boxes)")
    one, other = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[30.0, 0, 40, 10]])
    expect(answers.pairwise_giou(one, other), torch.tensor([[-0.5]]), call="pairwise_giou(two squares of 10, 20 apart)")
    expect(answers.pairwise_giou(one, one), torch.tensor([[1.0]]), call="pairwise_giou(a box, itself)")


def test_merge_boxes(answers):
    """Hint: the loop of NMS; before the dropped boxes go, take their mean with weights scores / scores.sum(). A merged box drops
    nothing itself: overlaps are measured with the best box as it was found.

    힌트: NMS의 반복 그대로다. 버릴 박스를 보내기 전에 점수를 점수의 합으로 나눈 가중치로 평균을 낸다. 겹침은 합친 박스가 아니라
    처음 찾은 가장 좋은 박스로 잰다.
    """
    boxes = torch.tensor([[0.0, 0, 10, 10], [30, 30, 40, 40], [2, 0, 12, 10], [0, 0, 10, 12]])
    scores = torch.tensor([0.6, 0.9, 0.2, 0.4])
    got = answers.merge_boxes(boxes, scores, 0.5)
    expect(got[1], torch.tensor([0.9, 0.6]), call="merge_boxes(two objects, found once and three times)[1]")
    expected = torch.tensor([[30.0, 30, 40, 40], [0.4 / 1.2, 0, 10 + 0.4 / 1.2, 10 + 0.8 / 1.2]])
    expect(got[0], expected, call="merge_boxes(two objects, found once and three times)[0]")
    boxes, scores = _boxes(60, seed=2), torch.rand(60, generator=torch.Generator().manual_seed(0)) + 0.01
    kept = ops.nms(boxes, scores, 0.3)
    got = answers.merge_boxes(boxes, scores, 0.3)
    expect(got[1], scores[kept], call="merge_boxes(60 boxes)[1], the scores that nms keeps")
    owner = (ops.box_iou(boxes, boxes[kept]) > 0.3).int().argmax(dim=1)  # the first, hence best, that overlaps enough
    expected = torch.stack(
        [(scores[owner == i, None] * boxes[owner == i]).sum(0) / scores[owner == i].sum() for i in range(len(kept))]
    )
    expect(got[0], expected, call="merge_boxes(60 boxes)[0]", rtol=1e-3, atol=1e-3)
    expect(answers.merge_boxes(boxes[:0], scores[:0], 0.3), (boxes[:0], scores[:0]), call="merge_boxes(no boxes)")


def test_best_threshold(answers):
    """Hint: F1 is 2 · hits / (believed + count). scores >= cuts[:, None] says for all cuts at once what is believed.

    힌트: F1은 2 · 맞은 수 / (믿은 수 + 물체 수)다. scores >= cuts[:, None]이면 모든 문턱값에서 무엇을 믿는지 한 번에 나온다.
    """
    scores, right = torch.tensor([0.5, 0.9, 0.2, 0.75]), torch.tensor([True, True, False, False])
    expect(answers.best_threshold(scores, right, 2), (0.5, 4 / 5), call="best_threshold([0.5, 0.9, 0.2, 0.75], [T, T, F, F], 2)")
    got = answers.best_threshold(torch.tensor([0.5, 0.5, 0.25]), torch.tensor([True, False, True]), 3)
    expect(got, (0.25, 4 / 6), call="best_threshold([0.5, 0.5, 0.25], [T, F, T], 3), where two are equal")
    expect(answers.best_threshold(scores, right & False, 5)[1], 0.0, call="best_threshold(nothing is right)[1]")
    generator = torch.Generator().manual_seed(1)
    scores = torch.randint(1, 40, (300,), generator=generator) / 64
    right = torch.rand(300, generator=generator) < scores
    f1 = {}
    for cut in sorted(set(scores.tolist()), reverse=True):
        believed = [hit for score, hit in zip(scores.tolist(), right.tolist(), strict=True) if score >= cut]
        f1[cut] = 2 * sum(believed) / (len(believed) + 150)
    best = max(f1, key=f1.get)
    expect(answers.best_threshold(scores, right, 150), (best, f1[best]), call="best_threshold(300 boxes, 150 objects)")


def test_boxes_from_bins(answers):
    """Hint: softmax over the last dimension, times torch.arange(k), summed: strides. Subtract two sides, add the other two.

    힌트: 마지막 차원에 softmax를 취하고 torch.arange(k)와 곱해 더하면 stride 단위 거리다. 두 변은 빼고 두 변은 더한다.
    """
    logits = torch.full((1, 4, 6), -30.0)
    for side, bin_ in enumerate((1, 2, 3, 5)):
        logits[0, side, bin_] = 30
    centres = torch.tensor([[20.0, 44.0]])
    call = "boxes_from_bins(sure of bins 1, 2, 3, 5; centre (20, 44), stride 8)"
    expect(answers.boxes_from_bins(logits.clone(), centres.clone(), 8), torch.tensor([[12.0, 28.0, 44.0, 84.0]]), call=call)
    expect(
        answers.boxes_from_bins(torch.zeros(1, 4, 6), centres.clone(), 8),
        torch.tensor([[0.0, 24.0, 40.0, 64.0]]),
        call="boxes_from_bins(all of 6 bins alike; centre (20, 44), stride 8)",
    )
    generator = torch.Generator().manual_seed(0)
    logits, centres = torch.randn(5, 4, 9, generator=generator), 100 * torch.rand(5, 2, generator=generator)
    distances = torch.stack([sum(k * p for k, p in enumerate(side.T)) for side in logits.softmax(dim=2).transpose(0, 1)], dim=1)
    expected = torch.cat([centres - 16 * distances[:, :2], centres + 16 * distances[:, 2:]], dim=1)
    expect(answers.boxes_from_bins(logits.clone(), centres.clone(), 16), expected, call="boxes_from_bins(randn(5, 4, 9), .., 16)")


def test_quality_focal_loss(answers):
    """Hint: F.binary_cross_entropy_with_logits takes scores between 0 and 1, and reduction="none". Weigh, sum, divide.

    힌트: F.binary_cross_entropy_with_logits는 0과 1 사이의 점수도 받는다. reduction="none"으로 구해 가중하고, 더하고, 나눈다.
    """
    generator = torch.Generator().manual_seed(0)
    logits, scores = torch.randn(6, 3, generator=generator), torch.zeros(6, 3)
    scores[[1, 4, 4], [0, 2, 1]] = torch.tensor([0.9, 0.6, 0.25])

    def right(power: float) -> torch.Tensor:
        p = logits.double().sigmoid()
        entropy = -(scores * p.log() + (1 - scores) * (1 - p).log())
        return ((p - scores).abs() ** power * entropy).sum().float() / 1.75

    for power in (0.0, 2.0, 1.5):
        call = f"quality_focal_loss(logits (6, 3), scores that sum to 1.75, {power:g})"
        expect(answers.quality_focal_loss(logits.clone(), scores.clone(), power), right(power), call=call)
    expect(answers.quality_focal_loss(logits.clone(), scores.clone()), right(2.0), call="quality_focal_loss(logits, scores)")
    nothing = (logits.sigmoid() ** 2 * F.softplus(logits)).sum()
    expect(answers.quality_focal_loss(logits.clone(), torch.zeros(6, 3)), nothing, call="quality_focal_loss(logits, all zeros)")
    sure = answers.quality_focal_loss(torch.tensor([[200.0, -200.0]]), torch.tensor([[0.0, 1.0]]))
    expect(sure, torch.tensor(400.0), call="quality_focal_loss([[200, -200]], [[0, 1]])")
    x, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    answers.quality_focal_loss(x, scores.clone()).backward()
    entropy = F.binary_cross_entropy_with_logits(theirs, scores, reduction="none")
    (((theirs.sigmoid() - scores) ** 2 * entropy).sum() / 1.75).backward()
    expect(x.grad, theirs.grad, call="the gradient of quality_focal_loss by its logits")


def test_cells_by_centre(answers):
    """Hint: boxes[:, None] against centres: (m, cells). Where a cell may not answer, let the area be infinite; then min(dim=0).

    힌트: boxes[:, None]과 centres를 견주면 (m, cells)가 된다. 맡을 수 없는 칸은 넓이를 무한대로 두고 min(dim=0)을 쓴다.
    """
    y, x = torch.meshgrid(torch.arange(4), torch.arange(5), indexing="ij")
    centres = (torch.stack([x, y], dim=-1).view(-1, 2) + 0.5) * 8
    boxes = torch.tensor([[0.0, 0.0, 40.0, 32.0], [4.0, 4.0, 20.0, 12.0], [28.0, 20.0, 36.0, 32.0]])

    def right(boxes: torch.Tensor, reach: float) -> torch.Tensor:
        owners = []
        for cx, cy in centres.tolist():
            may = []
            for row, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
                near = abs(cx - (x1 + x2) / 2) <= reach and abs(cy - (y1 + y2) / 2) <= reach
                if x1 <= cx <= x2 and y1 <= cy <= y2 and near:
                    may.append(((x2 - x1) * (y2 - y1), row))
            owners.append(min(may)[1] if may else -1)
        return torch.tensor(owners)

    for reach in (100.0, 12.0, 4.0):
        call = f"cells_by_centre(three boxes, a grid of 4x5 cells of 8 px, {reach:g})"
        expect(answers.cells_by_centre(boxes.clone(), centres.clone(), reach), right(boxes, reach), call=call)
    twice = torch.tensor([[0.0, 0.0, 24.0, 24.0], [8.0, 0.0, 32.0, 24.0]])
    expect(
        answers.cells_by_centre(twice.clone(), centres.clone(), 100.0),
        right(twice, 100.0),
        call="cells_by_centre(two of one area)",
    )
    expect(
        answers.cells_by_centre(torch.zeros(0, 4), centres.clone(), 8.0),
        torch.full((20,), -1),
        call="cells_by_centre(no boxes)",
    )


def test_best_possible_recall(answers):
    """Hint: ratio = sizes[:, None] / anchors is (n, k, 2). How bad are 3 and 1/3? The worse side decides, then the best anchor.

    힌트: ratio = sizes[:, None] / anchors는 (n, k, 2)다. 3과 1/3은 똑같이 나쁘다. 더 나쁜 변이 정한다.
    """
    sizes = torch.tensor([[10.0, 10.0], [40.0, 10.0], [41.0, 10.0], [2.0, 10.0], [90.0, 100.0]])
    anchors = torch.tensor([[10.0, 10.0]])
    expect(answers.best_possible_recall(sizes, anchors), 0.4, call="best_possible_recall(five boxes, one anchor of 10x10)")
    expect(answers.best_possible_recall(sizes, anchors, 5.0), 0.8, call="best_possible_recall(five boxes, 10x10, most=5)")
    anchors = torch.tensor([[10.0, 10.0], [100.0, 100.0], [3.0, 30.0]])
    expect(answers.best_possible_recall(sizes, anchors), 0.8, call="best_possible_recall(five boxes, three anchors)")
    generator = torch.Generator().manual_seed(0)
    sizes, anchors = (1 + 99 * torch.rand(n, 2, generator=generator) ** 2 for n in (500, 3))
    right = [any(1 / 3 <= w / a <= 3 and 1 / 3 <= h / b <= 3 for a, b in anchors.tolist()) for w, h in sizes.tolist()]
    expect(
        answers.best_possible_recall(sizes, anchors, 3.0), sum(right) / 500, call="best_possible_recall(500 boxes, 3 anchors, 3)"
    )


def test_bipartite_match(answers):
    """Hint: once for each truth: iou.argmax() over everything, divmod by the number of anchors, then close row and column.

    힌트: 정답 수만큼 되풀이한다. 전체에서 iou.argmax(), 앵커 수로 divmod, 그다음 그 행과 열을 닫는다.
    """
    iou = torch.tensor([[0.8, 0.7, 0.1], [0.9, 0.2, 0.1]])
    before = iou.clone()
    expect(answers.bipartite_match(iou), torch.tensor([1, 0]), call="bipartite_match([[0.8, 0.7, 0.1], [0.9, 0.2, 0.1]])")
    expect(torch.equal(iou, before), True, call="whether bipartite_match leaves its argument as it is")
    iou = torch.tensor([[0.5, 0.0, 0.0], [0.6, 0.0, 0.0], [0.4, 0.3, 0.0]])
    expect(answers.bipartite_match(iou), torch.tensor([2, 0, 1]), call="bipartite_match(three truths that want one anchor)")
    equal = torch.full((2, 3), 0.5)
    expect(answers.bipartite_match(equal), torch.tensor([0, 1]), call="bipartite_match(all equal)")
    expect(answers.bipartite_match(torch.zeros(0, 4)), torch.zeros(0, dtype=torch.int64), call="bipartite_match(no truth)")
    iou = torch.rand(6, 30, generator=torch.Generator().manual_seed(1))
    pairs = sorted((-iou[i, j].item(), i, j) for i in range(6) for j in range(30))
    found: dict[int, int] = {}
    for _, i, j in pairs:
        if i not in found and j not in found.values():
            found[i] = j
    expect(answers.bipartite_match(iou), torch.tensor([found[i] for i in range(6)]), call="bipartite_match(6 x 30 random)")


def test_task_aligned_assign(answers):
    """Hint: metric.topk(k, dim=1).indices says where each row is chosen; scatter_ makes a mask of it. Zeros are not chosen.

    힌트: metric.topk(k, dim=1).indices가 행마다 고를 자리다. scatter_로 마스크를 만든다. 0인 자리는 고르지 않는다.
    """
    scores = torch.tensor([[0.9, 0.5, 0.8, 0.1]])
    iou = torch.tensor([[0.5, 0.8, 0.9, 0.9]])
    inside = torch.tensor([[True, True, False, True]])
    expect(
        answers.task_aligned_assign(scores, iou, inside, k=1),
        torch.tensor([-1, 0, -1, -1]),
        call="task_aligned_assign(one truth, k=1)",
    )
    expect(
        answers.task_aligned_assign(scores, iou, inside, k=1, alpha=6.0, beta=1.0),
        torch.tensor([0, -1, -1, -1]),
        call="task_aligned_assign(one truth, k=1, alpha=6, beta=1)",
    )
    expect(
        answers.task_aligned_assign(scores, iou, inside, k=4),
        torch.tensor([0, 0, -1, 0]),
        call="task_aligned_assign(one truth, k=4)",
    )
    scores = torch.tensor([[0.9, 0.9, 0.1], [0.2, 0.9, 0.9]])
    iou = torch.tensor([[0.7, 0.6, 0.3], [0.8, 0.5, 0.9]])
    everywhere = torch.ones(2, 3, dtype=torch.bool)
    expect(
        answers.task_aligned_assign(scores, iou, everywhere, k=2),
        torch.tensor([1, 0, 1]),
        call="task_aligned_assign(two truths that chose the same cell, k=2)",
    )
    generator = torch.Generator().manual_seed(0)
    scores, iou = (torch.rand(5, 60, generator=generator) for _ in range(2))
    inside = torch.rand(5, 60, generator=generator) > 0.5
    owner = []
    chosen = [sorted(range(60), key=lambda j: -(scores[i, j] * iou[i, j] ** 6 * inside[i, j]).item())[:10] for i in range(5)]
    for j in range(60):
        wanted = [(iou[i, j].item(), i) for i in range(5) if inside[i, j] and j in chosen[i]]
        owner.append(max(wanted)[1] if wanted else -1)
    expect(answers.task_aligned_assign(scores, iou, inside), torch.tensor(owner), call="task_aligned_assign(5 x 60 random)")
    nobody = torch.zeros(0, 12)
    expect(
        answers.task_aligned_assign(nobody, nobody, nobody.bool()), torch.full((12,), -1), call="task_aligned_assign(no truth)"
    )


def test_predict_in_tiles(answers):
    """Hint: starts are [*range(0, side - size, stride), side - size]. Add up logits and, in a second tensor, how many tiles came.

    힌트: 시작 위치는 [*range(0, side - size, stride), side - size]다. 로짓을 더하면서 타일이 몇 번 왔는지도 다른 텐서에 센다.
    """
    picture = torch.rand(3, 20, 27, generator=torch.Generator().manual_seed(0))
    by_pixel = lambda tile: torch.cat([tile[:, :2] * 2, tile.sum(dim=1, keepdim=True)], dim=1)  # noqa: E731
    right = by_pixel(picture[None])[0]
    for size, stride in ((8, 8), (8, 5), (20, 3)):
        expect(
            answers.predict_in_tiles(by_pixel, picture.clone(), size, stride),
            right,
            call=f"predict_in_tiles(a function of each pixel, picture (3, 20, 27), {size}, {stride})",
        )
    shapes = []

    def number(tile: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(tile.shape))
        return torch.full((1, 1, 4, 4), float(len(shapes)))

    got = answers.predict_in_tiles(number, torch.zeros(3, 4, 10), 4, 4)
    expect(shapes, [(1, 3, 4, 4)] * 3, call="the shapes of the tiles of a picture (3, 4, 10), size 4, stride 4")
    expect(
        got[0, 0],
        torch.tensor([1.0, 1, 1, 1, 2, 2, 2.5, 2.5, 3, 3]),
        call="a row, where the three tiles answer 1, 2 and 3 (two columns are seen twice)",
    )


def test_boundary_iou(answers):
    """Hint: the band is mask & (the minimum around is 0). Pad with 0 first, then -F.max_pool2d(-x, 2 * distance + 1, stride=1).

    힌트: 띠는 mask & (주변의 최솟값이 0)이다. 먼저 0으로 패딩한 다음 -F.max_pool2d(-x, 2 * distance + 1, stride=1)을 쓴다.
    """
    square = torch.zeros(12, 12, dtype=torch.bool)
    square[2:10, 2:10] = True
    smaller = F.pad(torch.ones(6, 6), [3] * 4).bool()
    expect(answers.boundary_iou(square, square.clone(), 1), torch.tensor(1.0), call="boundary_iou(square, square, 1)")
    expect(answers.boundary_iou(smaller, square, 1), torch.tensor(0.0), call="boundary_iou(6x6 in 8x8, 8x8, 1)")
    expect(answers.boundary_iou(smaller, square, 2), torch.tensor(20 / 60), call="boundary_iou(6x6 in 8x8, 8x8, 2)")
    everything, half = torch.ones(6, 6).bool(), torch.ones(6, 6).bool()
    half[:, 3:] = False
    expect(answers.boundary_iou(everything, half, 1), torch.tensor(10 / 24), call="boundary_iou(all of 6x6, its left half, 1)")
    nothing = torch.zeros(6, 6).bool()
    expect(answers.boundary_iou(nothing, nothing, 1), torch.tensor(1.0), call="boundary_iou(nothing, nothing, 1)")


def test_tversky_loss(answers):
    """Hint: with p the sigmoid, hits Σp·t, false alarms Σp(1 - t), misses Σ(1 - p)t; wrong / (hits + wrong), never divided by 0.

    힌트: p가 시그모이드일 때 맞힘 Σp·t, 거짓 경보 Σp(1 - t), 놓침 Σ(1 - p)t다. 틀림 / (맞힘 + 틀림)이고 0으로 나누지 않게 한다.
    """
    logits = 2 * torch.randn(3, 6, 7, generator=torch.Generator().manual_seed(0))
    masks = (logits.roll(1, dims=2) > 1).float()
    p = logits.sigmoid()
    dice = 1 - 2 * (p * masks).sum() / (p + masks).sum()
    expect(answers.tversky_loss(logits, masks, 0.5, 0.5), dice, call="tversky_loss(logits, masks, 1/2, 1/2), which is Dice")
    iou = 1 - (p * masks).sum() / (p + masks - p * masks).sum()
    expect(answers.tversky_loss(logits, masks, 1.0, 1.0), iou, call="tversky_loss(logits, masks, 1, 1), which is IoU")
    one = torch.tensor([[[0.0, 0, 0, 0]]])
    expect(
        answers.tversky_loss(one, torch.tensor([[[1.0, 0, 0, 0]]]), 0.2, 0.8),
        torch.tensor(1 - 0.5 / (0.5 + 0.2 * 1.5 + 0.8 * 0.5)),
        call="tversky_loss(zeros, one pixel of four, 0.2, 0.8)",
    )
    sure = torch.full((1, 2, 2), -200.0, requires_grad=True)
    loss = answers.tversky_loss(sure, torch.zeros(1, 2, 2), 0.5, 0.5)
    expect(loss, torch.tensor(0.0), call="tversky_loss(sure of nothing, nothing, 1/2, 1/2)")
    expect(torch.autograd.grad(loss, sure)[0], torch.zeros(1, 2, 2), call="its gradient")


def test_turn_boxes(answers):
    """Hint: follow one corner: what was on the right is on top now. Then ask which edge became the smaller number.

    힌트: 모서리 하나를 따라가 보자. 오른쪽에 있던 것이 이제 위에 있다. 그다음 어느 변이 작은 수가 되었는지 생각하자.
    """
    got = answers.turn_boxes(torch.tensor([[1.0, 2.0, 4.0, 3.0]]), 10)
    expect(got, torch.tensor([[2.0, 6.0, 3.0, 9.0]]), call="turn_boxes([[1, 2, 4, 3]], 10)")
    generator = torch.Generator().manual_seed(0)
    for height, width in ((20, 30), (30, 20)):
        pictures, boxes, expected = [], [], []
        for _ in range(5):
            top, left = (int(torch.randint(1, length - 9, (), generator=generator)) for length in (height, width))
            rows, columns = torch.randint(1, 8, (2,), generator=generator).tolist()
            picture = torch.zeros(1, height, width)
            picture[:, top : top + rows, left : left + columns] = 1
            pictures.append(picture)
            boxes.append([left, top, left + columns, top + rows])
            painted = torch.rot90(picture, 1, dims=(1, 2))[0].nonzero()
            (y1, x1), (y2, x2) = painted.amin(dim=0).tolist(), painted.amax(dim=0).tolist()
            expected.append([x1, y1, x2 + 1, y2 + 1])
        boxes, expected = torch.tensor(boxes, dtype=torch.float32), torch.tensor(expected, dtype=torch.float32)
        expect(answers.turn_boxes(boxes, width), expected, call=f"turn_boxes({boxes.tolist()}, {width})")
    expect(answers.turn_boxes(torch.zeros(0, 4), 10), torch.zeros(0, 4), call="turn_boxes(no boxes, 10)")


def test_number_pieces(answers):
    """Hint: walk row by row. At a pixel without a number, a new piece begins: let its number flow to all that it can reach.

    힌트: 한 줄씩 훑자. 번호 없는 픽셀을 만나면 새 조각이다. 그 번호를 닿을 수 있는 픽셀로 모두 흘려보내자.
    """
    from scipy import ndimage

    rows = [[1, 0, 1], [1, 0, 1], [0, 1, 1]]
    expected = torch.tensor([[1, 0, 2], [1, 0, 2], [0, 2, 2]])
    expect(answers.number_pieces(torch.tensor(rows) > 0), expected, call=f"number_pieces({rows})")
    generator = torch.Generator().manual_seed(0)
    for height, width, share in ((6, 9, 0.5), (12, 5, 0.65), (1, 8, 0.6), (7, 1, 0.6), (4, 4, 1.1), (3, 4, -1.0), (20, 20, 0.6)):
        mask = torch.rand(height, width, generator=generator) < share
        expected = torch.from_numpy(ndimage.label(mask.numpy())[0]).long()
        expect(answers.number_pieces(mask), expected, call=f"number_pieces({mask.int().tolist()})")
    used = names_used(answers.number_pieces) & {"ndimage", "scipy", "label", "skimage", "cv2"}
    expect(", ".join(sorted(used)) or "nothing", "nothing", call="what number_pieces uses and should do without")


def test_panoptic_quality(answers):
    """Hint: two masks that cover more than half of one object cannot both exist. So who is right needs no matching, only a >.

    힌트: 한 물체를 절반 넘게 덮는 마스크가 둘일 수는 없다. 그러니 짝을 지을 필요 없이 > 하나로 끝난다.
    """
    for rows, expected in (
        ([[0.8, 0.0], [0.0, 0.6]], (0.7, 0.7, 1.0)),
        ([[0.8, 0.1], [0.0, 0.3], [0.1, 0.0]], (0.32, 0.8, 0.4)),
        ([[0.5]], (0.0, 0.0, 0.0)),  # above, not from a half on
        ([[0.9, 0.0, 0.0, 0.0]], (0.36, 0.9, 0.4)),
        ([[0.2, 0.3]], (0.0, 0.0, 0.0)),
    ):
        got = answers.panoptic_quality(torch.tensor(rows, dtype=torch.float64))
        expect(got, expected, call=f"panoptic_quality({rows})")
    expect(answers.panoptic_quality(torch.zeros(0, 3)), (0.0, 0.0, 0.0), call="panoptic_quality(nothing found, 3 objects)")
    expect(answers.panoptic_quality(torch.zeros(2, 0)), (0.0, 0.0, 0.0), call="panoptic_quality(2 found, no objects)")


def test_statistics_loss(answers):
    """Hint: torch.std_mean(x, dim=(2, 3), correction=0) gives deviations and means (n, channels), in this order.

    힌트: torch.std_mean(x, dim=(2, 3), correction=0)은 표준 편차와 평균 (n, channels)을 이 순서로 준다.
    """
    maps = torch.tensor([1.0, 3.0, 5.0, 5.0]).view(1, 2, 1, 2)  # means 2 and 5, deviations 1 and 0
    goal = torch.tensor([0.0, 0.0, 0.0, 4.0, 8.0, 6.0]).view(1, 2, 1, 3)  # means 0 and 6, variances 0 and 8/3
    expected = torch.tensor((4 + 1 + 1 + 8 / 3) / 2)
    expect(answers.statistics_loss(maps, goal), expected, call="statistics_loss(maps with two channels, a goal of another size)")
    generator = torch.Generator().manual_seed(0)
    x, goal = torch.randn(3, 4, 5, 6, generator=generator), torch.randn(1, 4, 7, 2, generator=generator)
    expect(answers.statistics_loss(goal, goal), torch.tensor(0.0), call="statistics_loss(goal, goal)")
    parts = [answers.statistics_loss(x[i : i + 1], goal) for i in range(3)]
    expect(answers.statistics_loss(x, goal), torch.stack(parts).mean(), call="statistics_loss(three pictures, goal)")
    x.requires_grad_()
    answers.statistics_loss(x, goal).backward()
    expect(x.grad is not None and bool(x.grad.abs().sum() > 0), True, call="whether a gradient reaches the maps")


def test_gram_in_strips(answers):
    """Hint: add the products of all strips up, and count places; divide once, at the end. The strips can be walked through once.

    힌트: 띠마다 곱을 더해 가면서 자리의 수를 센다. 나누기는 끝에 한 번만 한다. 띠는 한 번만 훑을 수 있다.
    """
    maps = torch.randn(4, 9, 6, generator=torch.Generator().manual_seed(0))
    expected = torch.einsum("chw,dhw->cd", maps, maps) / 54
    expect(answers.gram_in_strips([maps]), expected, call="gram_in_strips([one strip])")
    call = "gram_in_strips(strips of height 5, 3 and 1)"
    expect(answers.gram_in_strips(iter(maps.split((5, 3, 1), dim=1))), expected, call=call, atol=1e-5)


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


def _with_style(places: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
    """Instance norm of places (1, channels, n), with a style's deviations as weight and its means as bias."""
    values = style.flatten(start_dim=2)[0]
    return F.instance_norm(places, weight=(values.var(dim=1, correction=0) + 1e-5).sqrt(), bias=values.mean(dim=1))


def test_adain_by_region(answers):
    """Hint: content[..., mask] is (1, channels, places inside). Take means and deviations over dim=2, and write the result back
    into result[..., mask]; then the same with ~mask.

    힌트: content[..., mask]는 (1, channels, 안쪽 자리 수)다. dim=2에서 평균과 표준 편차를 구하고, 결과는 result[..., mask]에
    넣는다. ~mask로 한 번 더 한다.
    """
    generator = torch.Generator().manual_seed(0)
    content, inside, outside = (torch.randn(1, 3, *size, generator=generator) for size in ((6, 8), (5, 5), (4, 9)))
    inside, outside = 3 + 2 * inside, 0.5 * outside - 1
    mask = torch.zeros(6, 8, dtype=torch.bool)
    mask[1:5, 2:5] = True
    content[..., mask] += 4  # the parts have means of their own
    expected = torch.empty_like(content)
    expected[..., mask] = _with_style(content[..., mask], inside)
    expected[..., ~mask] = _with_style(content[..., ~mask], outside)
    before = content.clone()
    got = answers.adain_by_region(content, mask, inside, outside)
    expect(got, expected, call="adain_by_region(content (1, 3, 6, 8), mask, two styles)", atol=1e-4)
    expect(content, before, call="the content itself, afterwards")
    got = answers.adain_by_region(content, ~mask, outside, inside)
    expect(got, expected, call="adain_by_region(content, ~mask, the styles exchanged)", atol=1e-4)
    got = answers.adain_by_region(torch.ones(1, 3, 6, 8), mask, inside, outside)
    flat = torch.where(mask, inside.mean(dim=(2, 3), keepdim=True), outside.mean(dim=(2, 3), keepdim=True))
    expect(got, flat, call="adain_by_region(content that is 1 everywhere, ...)", atol=1e-4)


def test_keep_colours(answers):
    """Hint: how much brighter the painted pixel is: ((painted - photo) * weights).sum(dim=1, keepdim=True). Add it to the photo.

    힌트: 그린 그림의 픽셀이 얼마나 더 밝은지 구한다. ((painted - photo) * weights).sum(dim=1, keepdim=True)를 사진에 더한다.
    """
    generator = torch.Generator().manual_seed(0)
    photo, painted = 0.4 + 0.2 * torch.rand(2, 2, 3, 4, 5, generator=generator)
    got = answers.keep_colours(painted, photo)
    red, green, blue = (painted - photo).unbind(dim=1)
    expected = photo + (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]
    expect(got, expected, call="keep_colours(painted, photo), (2, 3, 4, 5)", atol=1e-6)
    grey = painted.mean(dim=1, keepdim=True).expand_as(painted)
    expect(answers.keep_colours(grey, grey.flip(0)), grey, call="keep_colours(a grey picture, another grey one)", atol=1e-6)
    white = torch.ones(1, 3, 2, 2)
    blue = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    lighter = torch.tensor([0.886, 0.886, 1.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    expect(answers.keep_colours(white, blue), lighter, call="keep_colours(white, blue)", atol=1e-6)
