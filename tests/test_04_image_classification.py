"""Image classification: the network learns, each recipe differs in what it says, and the mistakes cost what the lesson says."""

import dataclasses

import pytest
import torch
from conftest import lesson

from utils.datasets import Images, cifar10, hold_out, mnist
from utils.lesson import LessonError
from utils.training import classification_loss, fit


@pytest.fixture(scope="module")
def classification():
    return lesson("04_cnn/image_classification")


@pytest.fixture(scope="module")
def digits():
    """Digits to learn from, and digits held out."""
    rest, held_out = hold_out(mnist("sample").train, 300)
    return [rest, held_out]


@pytest.fixture(scope="module")
def trained(classification, digits):
    """A network that can read most digits, its losses, and the share right."""
    return classification.train(classification.RECIPES["everything"]._replace(lr=0.1), digits, images=2400, seed=0)


def parameters(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


class TestNetwork:
    def test_reads_pictures_of_both_sizes(self, classification):
        assert classification.Network(3)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
        assert classification.Network(1)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
        assert classification.dense(1, 28)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)

    @pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
    def test_rivals_are_of_the_same_size(self, classification, channels, size):
        sizes = {name: parameters(recipe.build(channels, size)) for name, recipe in classification.RECIPES.items()}
        assert max(sizes.values()) < 1.03 * min(sizes.values()), sizes

    def test_recipes_take_one_thing_away(self, classification):
        def layers(name: str, kind: type) -> int:
            return sum(isinstance(module, kind) for module in classification.RECIPES[name].build(3, 32).modules())

        conv, norm = torch.nn.Conv2d, torch.nn.BatchNorm2d
        assert [layers("everything", kind) for kind in (conv, norm)] == [7, 7]
        assert [layers("no batch norm", kind) for kind in (conv, norm)] == [7, 0]
        assert [layers("half as deep", kind) for kind in (conv, norm)] == [4, 4]
        assert layers("dense", conv) == 0

    def test_logits_may_be_negative(self, classification):
        torch.manual_seed(0)
        assert (classification.Network(3)(torch.randn(64, 3, 32, 32)) < 0).any()

    def test_places_are_all_alike(self, classification):
        """Moved by 8 pixels, far from the edge, a picture gets the same answer."""
        torch.manual_seed(0)
        network, x = classification.Network(3).eval(), torch.zeros(2, 3, 128, 128)
        x[0, :, 56:64, 56:64] = torch.randn(3, 8, 8)
        x[1] = x[0].roll((8, 8), dims=(1, 2))
        torch.testing.assert_close(*network(x), atol=1e-4, rtol=1e-4)

    def test_error_is_the_one_that_is_told(self, classification):
        assert "2x144 and 256x10" in classification.meet_error()


class TestPictures:
    def test_prepared_pictures_forget_brightness_and_contrast(self, classification, digits):
        images = digits[0].images[:20]
        x = classification.prepare(images)
        assert x.mean(dim=(1, 2, 3)).abs().max() < 1e-4
        torch.testing.assert_close(x.std(dim=(1, 2, 3)), torch.ones(20))
        torch.testing.assert_close(classification.prepare(images // 2 * 2), classification.prepare(images // 2 + 20))
        assert classification.prepare(torch.full((1, 3, 4, 4), 7)).abs().max() == 0

    def test_moved_pictures_keep_their_edge(self, classification):
        pixels = torch.arange(2 * 3 * 16, dtype=torch.uint8).view(2, 3, 4, 4)
        moved = classification.move(Images(pixels, torch.tensor([4, 5])), by=1)
        assert moved.images.dtype == torch.uint8 and moved.labels.tolist() == [4, 5]
        assert torch.equal(moved.images[:, :, 1:, 1:], pixels[:, :, :-1, :-1])
        assert torch.equal(moved.images[:, :, 0, 1:], pixels[:, :, 0, :-1])
        assert torch.equal(moved.images[:, :, 1:, 0], pixels[:, :, :-1, 0])
        assert torch.equal(classification.move(Images(pixels, torch.tensor([4, 5])), by=0).images, pixels)

    def test_disorder_is_the_same_for_all(self, classification):
        pixels = torch.arange(2 * 3 * 16, dtype=torch.uint8).view(2, 3, 4, 4)
        mixed = classification.shuffle_pixels(Images(pixels, torch.tensor([4, 5])))
        assert mixed.labels.tolist() == [4, 5]
        order = mixed.images[0, 0].flatten().tolist()
        assert order != list(range(16)) and sorted(order) == list(range(16))
        for picture, channel in ((0, 1), (1, 2)):
            assert torch.equal(mixed.images[picture, channel], pixels[picture, channel].flatten()[order].view(4, 4))


class TestTraining:
    def test_learns(self, trained):
        _, losses, (right,) = trained
        assert len(losses) == 75
        assert sum(losses[-10:]) < 0.2 * sum(losses[:10])
        assert right > 0.9

    def test_model_comes_in_eval_mode_and_with_its_accuracy(self, classification, digits, trained):
        model, _, (right,) = trained
        assert not model.training
        assert classification.accuracy(model, digits[1]) == right
        with torch.no_grad():
            one_by_one = [model(classification.prepare(image[None])).argmax().item() for image in digits[1].images]
        assert (torch.tensor(one_by_one) == digits[1].labels).float().mean().item() == pytest.approx(right, abs=0.007)

    def test_schedule_and_constant_rate_see_the_same_pictures(self, classification, digits):
        recipe = classification.RECIPES["everything"]._replace(lr=0.1)
        runs = [classification.train(recipe._replace(schedule=on), digits, images=160, seed=3)[1] for on in (True, True, False)]
        assert runs[0] == runs[1]
        assert runs[0][0] == runs[2][0]  # before the first step nothing differs
        assert runs[0][2:] != runs[2][2:]

    def test_loop_is_the_one_of_utils(self, classification, digits):
        """The same start and the same pictures give `utils.training.fit` the same losses."""
        recipe, steps = classification.RECIPES["everything"]._replace(lr=0.1), 8
        torch.manual_seed(5)
        model, generator = classification.Network(1).to(memory_format=torch.channels_last), torch.Generator().manual_seed(5)
        chosen = [torch.randint(len(digits[0]), (32,), generator=generator) for _ in range(steps)]
        batches = [(classification.prepare(digits[0].images[batch]), digits[0].labels[batch]) for batch in chosen]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps, cycle_momentum=False)
        history = fit(model, batches, optimizer, classification_loss, epochs=1, scheduler=schedule)
        assert classification.train(recipe, digits, images=32 * steps, seed=5)[1] == pytest.approx(history.losses, rel=1e-5)

    def test_rate_really_follows_the_cycle(self, classification, digits, monkeypatch):
        rates, step = [], torch.optim.SGD.step

        def note(self, *rest):
            rates.append(self.param_groups[0]["lr"])
            return step(self, *rest)

        monkeypatch.setattr(torch.optim.SGD, "step", note)
        recipe = classification.RECIPES["everything"]._replace(lr=0.1)
        classification.train(recipe, digits, images=320, seed=0)
        assert rates[0] == pytest.approx(0.004) and max(rates) == pytest.approx(0.1) and rates[-1] < 1e-4
        rates.clear()
        classification.train(recipe._replace(schedule=False), digits, images=320, seed=0)
        assert rates == pytest.approx([0.1] * 10)

    def test_shuffled_pixels_are_learned_and_tested_shuffled(self, classification, digits):
        recipe = classification.RECIPES["shuffled pixels"]._replace(lr=0.1)
        model, losses, (right,) = classification.train(recipe, digits, images=960, seed=0)
        assert losses[0] != classification.train(recipe._replace(shuffled=False), digits, images=32, seed=0)[1][0]
        assert classification.accuracy(model, classification.shuffle_pixels(digits[1])) == right > 0.6
        assert classification.accuracy(model, digits[1]) < right - 0.2

    def test_rates_are_chosen_by_what_is_held_out(self, classification, monkeypatch):
        best = dict(zip(classification.RECIPES, (0.02, 0.05, 0.1, 0.2, 0.4, 0.02), strict=True))
        names = {recipe._replace(lr=0): name for name, recipe in classification.RECIPES.items()}
        monkeypatch.setattr(classification, "RATES", (0.02, 0.05, 0.1, 0.2, 0.4))
        monkeypatch.setattr(classification, "train", lambda one, *_: (None, [], [-abs(one.lr - best[names[one._replace(lr=0)]])]))
        chosen = classification.choose_rates([], images=320, seed=0)
        assert {name: recipe.lr for name, recipe in chosen.items()} == best


class TestComparison:
    def test_says_what_lies_within_the_spread(self, classification, monkeypatch, capsys):
        shares = {0.1: (0.7, 0.5), 0.2: (0.65, 0.45), 0.3: (0.2, 0.2)}  # by rate, and by seed
        recipes = {name: classification.Recipe(lr) for name, lr in (("everything", 0.1), ("like it", 0.2), ("worse", 0.3))}
        monkeypatch.setattr(
            classification,
            "train",
            lambda one, parts, images, seed: (torch.nn.Linear(1, 1), [1.0], [shares[one.lr][seed], 0.01 * (seed + 1)]),
        )
        found = classification.compare_recipes(recipes, [], images=64, seeds=range(2))
        for name, recipe in recipes.items():
            right, moved = found[name][0].tolist()
            assert right == pytest.approx(shares[recipe.lr]) and moved == pytest.approx([0.01, 0.02])
        everything, like_it, worse = capsys.readouterr().out.splitlines()[1:]
        assert "0.600 ± 0.100  0.015" in everything and "+" not in everything
        assert "-0.050, within the spread" in like_it
        assert worse.rstrip().endswith("-0.400")

    def test_training_mode_is_no_way_to_measure(self, classification, digits, trained):
        model, _, (right,) = trained
        before = {name: value.clone() for name, value in model.state_dict().items()}
        mixed, by_class = classification.forget_eval(model, digits[1])
        assert mixed == pytest.approx(right, abs=0.08)
        assert by_class < mixed - 0.04  # here a batch still has eight of the ten classes
        assert not model.training
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class TestMain:
    def test_classifies_pictures(self, classification, monkeypatch):
        def fewer(source):
            data = cifar10(source)
            return dataclasses.replace(data, test=data.test[:300])

        monkeypatch.setattr(classification, "cifar10", fewer)
        results = classification.main(
            data="cifar10",
            images=2240,
            ablation_images=160,
            seeds=1,
            shift=4,
            search=False,
            source="sample",
            device="cpu",
            seed=0,
        )
        assert results["accuracy"] > max(results["baseline_accuracy"], 0.1) + 0.15
        assert results["eval_forgotten_by_class"] < results["accuracy"] - 0.04  # here a batch has three classes
        names = {name.replace(" ", "_") for name in classification.RECIPES}
        assert set(results) > {f"{what}_{name}" for name in names for what in ("mean", "moved")}

    @pytest.mark.real_data("mnist")
    def test_classifies_real_digits(self, classification, monkeypatch):
        def fewer(source):
            data = mnist(source)
            return dataclasses.replace(data, train=data.train[:10_000], test=data.test[:1000])

        monkeypatch.setattr(classification, "mnist", fewer)
        results = classification.main(
            data="mnist", images=3200, ablation_images=320, seeds=1, shift=4, search=False, source="real", device="cpu", seed=0
        )
        assert results["accuracy"] > 0.93 > results["baseline_accuracy"]

    @pytest.mark.slow  # ten seconds of training, to see the differences
    def test_ingredients_matter(self, classification):
        found = self.compare(classification, "sample")
        (everything, moved), (dense, dense_moved) = found["everything"], found["dense"]
        for worse in ("no batch norm", "shuffled pixels", "dense"):
            assert found[worse][0] < everything - 0.1
        assert everything > 0.45
        assert moved > 1.5 * dense_moved and moved / everything > dense_moved / dense

    @pytest.mark.slow  # the same, and real CIFAR-10 has to be decoded
    @pytest.mark.real_data("cifar10")
    def test_ingredients_matter_on_real_pictures(self, classification):
        found = self.compare(classification, "real")
        for worse in ("no batch norm", "shuffled pixels", "dense"):
            assert found[worse][0] < found["everything"][0] - 0.03
        assert found["everything"][1] > found["dense"][1] + 0.05

    @staticmethod
    def compare(classification, source: str) -> dict[str, list[float]]:
        """One network by each of four recipes: which share of 500 pictures is right, and of the same ones moved."""
        data = cifar10(source)
        names = ("everything", "no batch norm", "shuffled pixels", "dense")
        recipes = {name: classification.RECIPES[name] for name in names}
        _, test = hold_out(data.test, 500)
        parts = [data.train, test, classification.move(test, 4)]
        found = classification.compare_recipes(recipes, parts, images=6400, seeds=range(1))
        return {name: shares.flatten().tolist() for name, (shares, _) in found.items()}

    def test_check_notices_a_network_that_did_not_learn(self, classification):
        with pytest.raises(LessonError, match="more --images"):
            classification.main(
                data="mnist",
                images=160,
                ablation_images=160,
                seeds=1,
                shift=4,
                search=False,
                source="sample",
                device="cpu",
                seed=0,
            )

    @pytest.mark.parametrize("wrong", [{"images": 100}, {"ablation_images": 0}, {"seeds": 0}])
    def test_check_notices_numbers_that_make_no_sense(self, classification, wrong):
        arguments = {"images": 160, "ablation_images": 160, "seeds": 1, "source": "sample"} | wrong
        with pytest.raises(LessonError, match="needed are"):
            classification.main(**arguments)
