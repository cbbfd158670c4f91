"""ViT or CNN: costs are counted rightly, shuffling shuffles, both learn, and a ViT knows places by its positions alone."""

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson
from torch import nn

from utils import paths
from utils.datasets.images import ImageData, Images
from utils.lesson import LessonError

CPU = torch.device("cpu")
KINDS = ("ViT", "CNN", "ViT with a stem")
ORDER = torch.tensor([5, 0, 15, 2, 7, 9, 1, 3, 14, 4, 6, 8, 10, 12, 11, 13])


@pytest.fixture(scope="module")
def compare():
    return lesson("06_advanced/vit_or_cnn")


@pytest.fixture(scope="module")
def bars():
    """Four classes that only positions tell apart: one of four rows is bright in the middle. To learn from, and new ones."""
    generator, labels = torch.Generator().manual_seed(0), torch.arange(320) % 4
    x = 0.3 * torch.randn(320, 3, 32, 32, generator=generator)
    for picture, row in zip(x, labels.tolist(), strict=True):
        picture[:, 8 * row : 8 * row + 8, 8:24] += 1.5
    return (x[:160], labels[:160]), (x[160:], labels[160:])


class TestCosts:
    def test_counter_formula_and_limits(self, compare):
        found = compare.compare_costs()
        assert found["unequal"] == pytest.approx(2_470_528 / 2_372_224)
        assert found["counted"] == 16 * 8 * 64**2  # without scores and mixing, which PyTorch computes in one operation
        assert found["counted_fused"] == 0

    def test_formulas(self, compare):
        assert compare.by_hand() == {"ViT": 2_425_472, "CNN": 2_470_528, "ViT with a stem": 2_372_224}

    def test_multiplications_are_those_that_layers_do(self, compare):
        """Counted a second way: each layer's output numbers times the weights that a number is made of, and attention's."""
        for kind in KINDS:
            total, model = 0, compare.build(kind, seed=0, where=CPU).eval()

            def add(layer, _, out):
                nonlocal total
                total += out.numel() * layer.weight[0].numel()

            for layer in model.modules():
                if isinstance(layer, (nn.Linear, nn.Conv2d)):
                    layer.register_forward_hook(add)
            model(torch.zeros(1, 3, 32, 32))
            blocks = sum(isinstance(part, compare.Block) for part in model.modules())
            assert total + blocks * 2 * 16 * 16 * 64 == compare.by_hand()[kind]

    def test_unequal_costs_are_noticed(self, compare, monkeypatch):
        dear = {"ViT": 2_425_472, "CNN": 4_470_528, "ViT with a stem": 2_372_224}
        monkeypatch.setattr(compare, "by_hand", lambda: dear)
        monkeypatch.setattr(compare, "build", lambda kind, seed: kind)
        monkeypatch.setattr(compare, "count", lambda kind, *shape: dear[kind])
        with pytest.raises(LessonError, match="equal costs"):
            compare.compare_costs()


class TestNetworks:
    @pytest.mark.parametrize("kind", KINDS)
    def test_answers_differ_and_pictures_do_not_see_one_another(self, compare, kind):
        model = compare.build(kind, seed=0, where=CPU).eval()
        pictures = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            logits = model(pictures)
            assert logits.shape == (6, 10) and logits.std(dim=0).min() > 1e-6
            torch.testing.assert_close(model(pictures[:1]), logits[:1], atol=1e-5, rtol=1e-4)

    def test_block_equals_pytorchs(self, compare):
        torch.manual_seed(0)
        ours = compare.Block(heads=4)
        theirs = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, activation=F.gelu, batch_first=True, norm_first=True)
        names = {"norm_1": theirs.norm1, "norm_2": theirs.norm2, "out": theirs.self_attn.out_proj}
        names |= {"mlp.0": theirs.linear1, "mlp.2": theirs.linear2}
        state = {f"{name}.{end}": getattr(part, end) for name, part in names.items() for end in ("weight", "bias")}
        state |= {"qkv.weight": theirs.self_attn.in_proj_weight, "qkv.bias": theirs.self_attn.in_proj_bias}
        ours.load_state_dict(state)
        x = torch.randn(3, 16, 64)
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)

    def test_seeds(self, compare):
        weights = [next(compare.build("CNN", seed=seed, where=CPU).parameters()) for seed in (0, 0, 1)]
        assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


class TestShuffling:
    def test_patches_go_where_they_should(self, compare):
        pictures = torch.arange(2.0 * 3 * 32 * 32).view(2, 3, 32, 32)
        mixed = compare.shuffle(pictures, ORDER)
        for place, source in enumerate(ORDER.tolist()):
            (row, column), (top, left) = divmod(place, 4), divmod(source, 4)
            expected = pictures[:, :, 8 * top : 8 * top + 8, 8 * left : 8 * left + 8]
            assert torch.equal(mixed[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8], expected)
        assert torch.equal(compare.shuffle(mixed, ORDER.argsort()), pictures)
        assert compare.shuffle(pictures, None) is pictures

    def test_a_bag_of_patches_does_not_notice(self, compare):
        found = compare.compare_shuffled(ORDER, seed=1)
        assert found["moved_bag"] < 1e-5 and found["moved_places"] > 0.01

    def test_exact_in_double_precision(self, compare):
        torch.manual_seed(0)
        model = compare.VisionTransformer(nn.Conv2d(3, 64, 8, stride=8), depth=4, positions=False).double()
        x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
        torch.testing.assert_close(model(compare.shuffle(x, ORDER)), model(x), atol=1e-13, rtol=0)


class TestTraining:
    def test_a_cnn_learns_what_only_places_tell(self, compare, bars, monkeypatch):
        monkeypatch.setattr(compare, "augment", lambda pictures, generator: pictures)
        found = compare.learn("CNN", *bars, steps=18, lr=0.01, seeds=range(1), order=ORDER, shuffled=False)
        assert found.shape == (1, 3) and found[0, 0] > 0.7 and found[0, 1] < found[0, 0] - 0.2
        assert 0 < found[0, 2] < 2

    def test_so_does_a_vit_also_of_shuffled_pictures(self, compare, bars, monkeypatch):
        """What was learned from shuffled pictures is known of shuffled pictures, not of whole ones."""
        monkeypatch.setattr(compare, "augment", lambda pictures, generator: pictures)
        found = compare.learn("ViT", *bars, steps=18, lr=0.003, seeds=range(1), order=ORDER, shuffled=True)
        assert found[0, 1] > 0.8 and found[0, 0] < found[0, 1] - 0.2

    def test_without_positions_it_cannot(self, compare, bars, monkeypatch):
        monkeypatch.setattr(compare, "augment", lambda pictures, generator: pictures)
        torch.manual_seed(0)
        model = compare.VisionTransformer(nn.Conv2d(3, 64, 8, stride=8), depth=4, positions=False)
        compare.train(model, bars[0], steps=15, lr=0.003, seed=0, order=None)
        assert compare.accuracy(model, bars[1]) < 0.45

    def test_augment(self, compare):
        x = torch.arange(2.0 * 3 * 32 * 32).view(2, 3, 32, 32).repeat(20, 1, 1, 1)
        out = compare.augment(x, torch.Generator().manual_seed(3))
        assert out.shape == x.shape
        unlike = [index for index in range(0, 40, 2) if not torch.equal(out[index], out[0])]
        assert 2 < len(unlike) < 18 and torch.equal(out[unlike[0]], out[0].flip(2))


class TestMain:
    FLAGS = {"sizes": (30, 60), "steps": 2, "networks": 1, "others": 1, "source": "sample", "device": "cpu", "seed": 0}

    @pytest.fixture
    def quick(self, compare, monkeypatch):
        """The lesson on noise, of which nothing can be learned."""
        generator = torch.Generator().manual_seed(0)
        noise = [torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8) for n in (1060, 200)]
        book = ImageData(*(Images(part, torch.arange(len(part)) % 10) for part in noise), ["?"] * 10, "noise", is_real=False)
        monkeypatch.setattr(compare, "cifar10", lambda source: book)
        return compare

    def test_check_notices_networks_that_do_not_learn(self, quick):
        with pytest.raises(LessonError, match="more --steps"):
            quick.main(**{**self.FLAGS, "sizes": (60,)}, choose=False)
        assert (paths.outputs("vit_or_cnn") / "curves.png").exists()

    def test_each_gets_the_rate_that_is_best_on_held_out_pictures(self, quick, monkeypatch):
        """`learn` is told the best rate of each kind; main must find it, by training pictures only, and then use it."""
        best, used = {"ViT": 0.001, "CNN": 0.03, "ViT with a stem": 0.01}, []

        def learn(kind, known, test, steps, lr, seeds, order, shuffled):
            used.append((kind, len(known[0]), len(test[0]), lr, len(seeds), shuffled))
            return torch.tensor([[0.9 if lr == best[kind] else 0.5, 0.4, 0.01]] * len(seeds))

        monkeypatch.setattr(quick, "learn", learn)
        results = quick.main(**{**self.FLAGS, "networks": 3}, choose=True)
        assert [row[2] for row in used[:12]] == [1000] * 12  # four rates for each of three, on what was held out
        assert {row[3] == best[row[0]] for row in used[12:]} == {True} and {row[2] for row in used[12:]} == {200}
        kinds = [("ViT", 30), ("CNN", 30), *((kind, 60) for kind in KINDS), ("ViT", 60), ("CNN", 60)]
        assert sorted(row[:2] for row in used[12:]) == sorted(kinds)
        assert [row[4] for row in used[12:] if row[1] == 60 and not row[5]] == [3, 3, 1]
        assert results["ViT_60"] == pytest.approx(0.9) and results["CNN_all_shuffled"] == pytest.approx(0.4)

    @pytest.mark.parametrize("flags", [{"steps": 0}, {"networks": 0}, {"others": 0}, {"sizes": (0, 10)}, {"sizes": ()}])
    def test_wrong_flags(self, compare, flags):
        with pytest.raises(LessonError, match="needed are at least"):
            compare.main(**{**self.FLAGS, **flags}, choose=False)

    def test_too_many_pictures(self, quick):
        with pytest.raises(LessonError, match="there are 60 training pictures"):
            quick.main(**{**self.FLAGS, "sizes": (61,)}, choose=False)

    @pytest.mark.slow  # the default run: 50 s
    def test_keeps_its_promise(self, compare):
        flags = {"sizes": (250, 1000, 4000), "steps": 180, "networks": 3, "others": 1}
        results = compare.main(**flags, choose=False, source="sample", device="cpu", seed=0)
        assert results["CNN_4000"] > results["ViT_with_a_stem_4000"] > results["ViT_4000"] > results["baseline"] + 0.03
        assert results["ViT_test_shuffled"] < results["ViT_4000"] - 0.05

    @pytest.mark.slow  # as above, with fewer networks: 25 s
    @pytest.mark.real_data("cifar10")
    def test_learns_cifar10(self, compare):
        flags = {"sizes": (4000,), "steps": 180, "networks": 1, "others": 1}
        results = compare.main(**flags, choose=False, source="real", device="cpu", seed=0)
        assert min(results["CNN_4000"], results["ViT_4000"]) > results["baseline"] + 0.03
