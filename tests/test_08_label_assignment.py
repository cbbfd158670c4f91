"""Label assignment: each rule on small examples and against a slow second computation, and a detector that learns by each."""

import itertools

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def rules():
    return lesson("08_computer_vision/label_assignment")


@pytest.fixture(scope="module")
def said():
    """What an untrained network might say about a picture: logits (256, 2) and boxes (256, 4)."""
    generator = torch.Generator().manual_seed(0)
    corner = 50 * torch.rand(256, 2, generator=generator)
    boxes = torch.cat([corner, corner + 5 + 20 * torch.rand(256, 2, generator=generator)], dim=1)
    return torch.randn(256, 2, generator=generator), boxes


@pytest.fixture(scope="module")
def few(rules):
    """Forty scenes."""
    return rules.load(40, "train", seed=5, device=torch.device("cpu"))


BOXES = torch.tensor([[2.0, 3, 31, 27], [20, 20, 45, 61], [6, 8, 16, 19], [50, 5, 61, 12]])
LABELS = torch.tensor([0, 1, 1, 0])


def owner_slowly(rule, boxes):
    """The rules that ask no network, cell by cell."""
    owner = []
    for y, x in itertools.product(range(2, 64, 4), repeat=2):
        wanted = []
        for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
            inside = x1 < x < x2 and y1 < y < y2
            near = abs(x - middle_x) < 6 and abs(y - middle_y) < 6
            own = (x - 2) // 4 == middle_x // 4 and (y - 2) // 4 == middle_y // 4
            if {"centre": own, "inside": inside, "radius": inside and near}[rule]:
                wanted.append(((x2 - x1) * (y2 - y1), i))
        owner.append(min(wanted)[1] if wanted else -1)
    return owner


class TestRules:
    def test_cells(self, rules):
        points = rules.middles("cpu")
        assert points.shape == (256, 2) and points[0].tolist() == [2, 2] and points[1].tolist() == [6, 2]

    @pytest.mark.parametrize("rule", ["centre", "inside", "radius"])
    def test_against_a_slow_computation(self, rules, said, rule):
        assert rules.assign(rule, BOXES, LABELS, *said).tolist() == owner_slowly(rule, BOXES)

    def test_the_smaller_object_gets_the_cell(self, rules, said):
        boxes = torch.tensor([[0.0, 0, 40, 40], [12, 12, 28, 28]])
        for order in ([0, 1], [1, 0]):
            owner = rules.assign("inside", boxes[order], LABELS[order], *said)
            cells = (owner == order.index(1)).nonzero()[:, 0].tolist()
            assert cells == [16 * row + column for row in range(3, 7) for column in range(3, 7)]

    def test_dynamic_takes_more_cells_the_better_the_boxes(self, rules):
        logits = torch.zeros(256, 2)
        points, truth = rules.middles("cpu"), torch.tensor([[8.0, 8, 40, 40]])
        bad = torch.cat([points - 1, points + 1], dim=1)  # an IoU of 4 / 1024 each
        owner = rules.assign("dynamic", truth, LABELS[:1], logits, bad)
        assert (owner == 0).sum() == 1
        good = truth.expand(256, 4)
        owner = rules.assign("dynamic", truth, LABELS[:1], logits, good)
        assert (owner == 0).sum() == 10
        logits[100] = torch.tensor([9.0, -9.0])  # row 6, column 4: inside, and sure of the class
        assert rules.assign("dynamic", truth, LABELS[:1], logits, bad)[100] == 0
        logits[0] = torch.tensor([20.0, -20.0])  # surer, but outside
        assert rules.assign("dynamic", truth, LABELS[:1], logits, bad)[[0, 100]].tolist() == [-1, 0]

    def test_dynamic_against_a_slow_computation(self, rules, said):
        from torchvision.ops import box_iou

        logits, found = said
        chosen, cost = rules.choose("dynamic", BOXES, LABELS, logits, found)
        iou, points = box_iou(BOXES, found), rules.middles("cpu")
        for i, (x1, y1, x2, y2) in enumerate(BOXES.tolist()):
            inside = [k for k, (x, y) in enumerate(points.tolist()) if x1 < x < x2 and y1 < y < y2]
            probability = logits.sigmoid()
            right, wrong = probability[:, LABELS[i]], probability[:, 1 - LABELS[i]]
            price = -right.log() - (1 - wrong).log() - 3 * iou[i].clamp(min=1e-8).log()
            torch.testing.assert_close(cost[i, inside], price[inside], rtol=1e-3, atol=1e-3)
            count = max(int(sum(sorted(iou[i, inside].tolist())[-10:])), 1)
            best = sorted(inside, key=lambda k: price[k].item())[:count]
            assert chosen[i].nonzero()[:, 0].tolist() == sorted(best)

    def test_one_to_one_is_the_cheapest_of_all(self, rules, said):
        cost = rules.choose("one-to-one", BOXES, LABELS, *said)[1]
        owner = rules.assign("one-to-one", BOXES, LABELS, *said)
        assert sorted(owner[owner >= 0].tolist()) == [0, 1, 2, 3]
        ours = sum(cost[owner[k], k].item() for k in range(256) if owner[k] >= 0)
        few = cost.topk(4, dim=1, largest=False).indices.unique().tolist()  # the best pairs lie among the four best of each
        best = min(sum(cost[i, k].item() for i, k in enumerate(cells)) for cells in itertools.permutations(few, 4))
        assert ours == pytest.approx(best)

    def test_one_to_one_gives_twins_a_cell_each(self, rules, said):
        owner = rules.assign("one-to-one", BOXES[[0, 0]], LABELS[[0, 0]], *said)
        assert sorted(owner[owner >= 0].tolist()) == [0, 1]

    @pytest.mark.parametrize("rule", ["centre", "inside", "radius", "dynamic", "one-to-one"])
    def test_empty_pictures(self, rules, said, rule):
        assert (rules.assign(rule, torch.zeros(0, 4), torch.zeros(0).long(), *said) == -1).all()


class TestDetector:
    def test_boxes_hold_their_cells(self, rules):
        torch.manual_seed(0)
        logits, boxes = rules.Detector()(torch.randn(2, 3, 64, 64))
        assert logits.shape == (2, 256, 2) and boxes.shape == (2, 256, 4)
        points = rules.middles("cpu")
        assert (boxes[..., :2] < points).all() and (boxes[..., 2:] > points).all()
        assert logits.sigmoid().mean() < 0.05

    def test_loss(self, rules, said):
        logits, found = said
        owner = rules.assign("inside", BOXES, LABELS, *said)
        perfect = torch.full((1, 256, 2), -20.0)
        boxes = found.clone()
        for k, i in enumerate(owner.tolist()):
            if i >= 0:
                perfect[0, k, LABELS[i]], boxes[k] = 20.0, BOXES[i]
        assert rules.detection_loss("inside", perfect, boxes[None], [BOXES], [LABELS]) < 1e-5
        wrong = rules.detection_loss("inside", perfect.flip(2), boxes[None], [BOXES], [LABELS])
        assert wrong == pytest.approx(40, rel=1e-3)  # for each cell that answers, two classes that are 20 off
        shifted = rules.detection_loss("inside", perfect, boxes[None] + 64, [BOXES], [LABELS])
        assert 2 < shifted < 4  # a GIoU loss between 1 and 2, twice
        nothing = rules.detection_loss("inside", perfect[:, :1].expand(1, 256, 2), found[None], [BOXES[:0]], [LABELS[:0]])
        assert nothing.isfinite()

    def test_each_picture_is_judged_by_its_own_answers(self, rules, said):
        logits, found = (torch.stack([part, part.flip(0)]) for part in said)
        truths = [BOXES[:2], BOXES[2:]], [LABELS[:2], LABELS[2:]]
        total, cells = 0.0, 0
        for i, (boxes, labels) in enumerate(zip(*truths, strict=True)):
            count = (rules.assign("dynamic", boxes, labels, logits[i], found[i]) >= 0).sum().item()
            total += count * rules.detection_loss("dynamic", logits[i : i + 1], found[i : i + 1], [boxes], [labels]).item()
            cells += count
        assert rules.detection_loss("dynamic", logits, found, *truths).item() == pytest.approx(total / cells, rel=1e-5)

    def test_classes_and_sides_are_learned(self, rules):
        torch.manual_seed(0)
        network = rules.Detector()
        rules.detection_loss("radius", *network(torch.randn(1, 3, 64, 64)), [BOXES], [LABELS]).backward()
        assert (network.head[-1].bias.grad != 0).all()  # two classes, then four sides

    def test_learns(self, rules, few):
        network = rules.train(few, "radius", steps=30, seed=1)
        assert network.training  # and for judging it is not: else a picture's boxes would depend on the others of its batch
        assert rules.judge(network, few)[0] > 0.2 and not network.training

    def test_judge(self, rules, monkeypatch):
        """Two objects that overlap and one alone; the detector finds the one alone three times, and one of the others."""
        boxes = torch.tensor([[0.0, 0, 20, 20], [10, 0, 30, 20], [40, 40, 60, 60]])
        data = rules.Examples(torch.zeros(1, 3, 64, 64), [boxes], [torch.tensor([0, 0, 1])])
        found = rules.Found(boxes[[2, 2, 2, 0]] + torch.tensor([0.0, 1, 2, 0])[:, None], torch.tensor([0.9, 0.8, 0.3, 0.2]),
                            torch.tensor([1, 1, 1, 0]))  # fmt: skip
        once = rules.Found(*(part[[0, 3]] for part in found))
        monkeypatch.setattr(rules, "detect", lambda network, images, suppress: [once if suppress else found])
        with_it, without, further, alone, overlapping = rules.judge(None, data).tolist()
        assert with_it == without == pytest.approx((1 + 51 / 101) / 2)  # duplicates that come later do no harm here
        assert further == 0.5  # one with at least half of 0.9, for two objects found
        assert alone == 1 and overlapping == 0.5

    def test_counts(self, rules):
        data = rules.Examples(
            torch.zeros(1, 3, 64, 64), [torch.tensor([[0.0, 0, 16, 16], [8, 0, 24, 16]])], [torch.tensor([0, 1])]
        )
        found = rules.count_cells(data)
        assert found["inside_cells"] == 12 and found["inside_twice"] == pytest.approx(8 / 24)
        assert found["centre_cells"] == 1 and found["centre_twice"] == 0

    def test_error_is_the_one_that_is_told(self, rules, few):
        torch.manual_seed(0)
        assert rules.meet_error(rules.Detector(), few).startswith("Can't call numpy() on Tensor that requires grad")


class TestMain:
    def test_check_notices_detectors_that_do_not_learn(self, rules, few, monkeypatch):
        others = rules.Examples(few.images, [*few.boxes[1:], few.boxes[0]], [*few.labels[1:], few.labels[0]])
        monkeypatch.setattr(rules, "load", lambda count, split, seed, device: few if split == "train" else others)
        monkeypatch.setattr(rules, "judge", lambda network, data: torch.full((5,), 0.9))
        results = rules.main(steps=1, seeds=2, pictures=200, device="cpu", seed=0)
        assert results["baseline"] < 0.1 and results["dynamic_at_50"] == pytest.approx(0.9) and results["dynamic_spread"] == 0
        assert (paths.outputs("label_assignment") / "rules.png").exists()
        monkeypatch.setattr(rules, "judge", lambda network, data: torch.full((5,), 0.05))
        with pytest.raises(LessonError, match="more --steps"):
            rules.main(steps=1, seeds=1, pictures=200, device="cpu", seed=0)

    @pytest.mark.parametrize("wrong", [{"steps": 0}, {"seeds": 0}, {"pictures": 10}])
    def test_wrong_flags(self, rules, wrong):
        with pytest.raises(LessonError, match="at least"):
            rules.main(**{"steps": 64, "seeds": 1, "pictures": 1000, "device": "cpu", "seed": 0} | wrong)

    @pytest.mark.slow  # the claim itself: five detectors, 20 s
    def test_keeps_its_promise(self, rules):
        results = rules.main(steps=64, seeds=1, pictures=1000, device="cpu", seed=3)
        scores = {rule: results[f"{rule}_at_50"] for rule in rules.RULES}
        assert scores["inside"] < max(scores.values()) - 0.1
        assert min(scores["centre"], scores["radius"], scores["dynamic"]) > 0.35
        lost = {rule: scores[rule] - results[f"{rule}_without"] for rule in rules.RULES}
        assert lost["one-to-one"] < 0.1 < 0.15 < lost["radius"]
        assert results["one-to-one_duplicates"] < results["radius_duplicates"] < results["inside_duplicates"]
