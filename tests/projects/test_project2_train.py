"""Project 2 learns, resumes, and saves what it says."""

import contextlib
import functools
import os
import subprocess
import sys

import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F

from project2_cifar10 import train
from project2_cifar10.model import make_model
from utils import checkpoint, datasets, device, paths
from utils.batches import to_pixels
from utils.datasets import ImageData, Images
from utils.evaluation import plain_batches
from utils.lesson import LessonError

CPU = torch.device("cpu")
SOURCE = "sample: stripes"

# Everything that matters is said here: a reader who edits the presets keeps a green suite.
RECIPE = {
    "model": "small",
    "epochs": 3,
    "batch_size": 50,
    "lr": 0.24,
    "head_lr": 6.0,
    "decay": 5e-7,
    "sizes": (16, 32),
    "shift": 1,
    "cutout": 0,
}
main = functools.partial(
    train.main,
    source="sample",
    preset="default",
    model=None,
    epochs=None,
    batch_size=None,
    lr=None,
    images=None,
    seed=0,
    device="cpu",
    tta=False,
    resume=False,
    figures=False,
)


def stripes(count: int, seed: int) -> Images:
    """Lying stripes, standing stripes and chequers, in any two colours, of any width, beginning anywhere, under noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    width = torch.randint(3, 6, (count, 1, 1), generator=generator)
    row, column = (torch.randint(0, 12, (count, 1, 1), generator=generator) + torch.arange(32) for _ in range(2))
    lying, standing = (row // width % 2).transpose(1, 2), column // width % 2  # (count, 32, 1), (count, 1, 32)
    kinds = torch.stack([lying.expand(-1, 32, 32), standing.expand(-1, 32, 32), (lying + standing) % 2])
    one, other = torch.randint(60, 196, (2, count, 3, 1, 1), generator=generator)
    images = torch.where(kinds[labels, range(count)].unsqueeze(1) == 0, one, other)  # (count, 3, 32, 32)
    noise = torch.randint(-50, 51, images.shape, generator=generator)
    return Images((images + noise).to(torch.uint8), labels)


@pytest.fixture(scope="module")
def pages() -> ImageData:
    return ImageData(stripes(420, seed=0), stripes(150, seed=1), ["lying", "standing", "chequers"], SOURCE, is_real=False)


@pytest.fixture(autouse=True)
def _small(pages, monkeypatch):
    """What main loads, and its presets, are small."""
    monkeypatch.setattr(datasets, "cifar10", lambda *_, **__: pages)
    monkeypatch.setattr(train, "SAMPLE_PRESETS", {"default": RECIPE})


@pytest.fixture(scope="module")
def trained(tmp_path_factory, pages):
    """One training run for all tests that only look: its results, and the folder that it wrote to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_WORK_DIR", str(tmp_path_factory.mktemp("work")))
        patch.setattr(datasets, "cifar10", lambda *_, **__: pages)
        patch.setattr(train, "SAMPLE_PRESETS", {"default": RECIPE})
        return main(), paths.models("project2_cifar10")


def weights(folder) -> dict[str, torch.Tensor]:
    return checkpoint.load(folder / "model.pt")["model"]


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class TestLearning:
    def test_knows_pictures_it_has_never_seen(self, trained):
        results, _ = trained
        assert results["accuracy"] >= 0.85 > 0.6 > results["baseline_accuracy"]
        assert results["mistakes"] == round(150 * (1 - results["accuracy"]))
        assert results["test_images"] == 150

    def test_check_notices_a_network_that_learned_nothing(self):
        with pytest.raises(LessonError, match="hardly better than the nearest mean"):
            main(epochs=1, lr=1e-6, images=100)

    @pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"epochs": 0}, {"batch_size": 0}, {"lr": -0.1}])
    def test_zero_is_refused_and_not_taken_for_the_default(self, wrong):
        with pytest.raises(LessonError, match="must be above 0"):
            main(**wrong)

    def test_more_images_than_there_are(self):
        with pytest.raises(LessonError, match="--images 9999: there are 404"):
            main(images=9999)

    def test_presets_for_real_data_are_refused_on_the_sample(self):
        with pytest.raises(LessonError, match="--preset long is for CIFAR-10"):
            main(preset="long")

    def test_interrupted_and_resumed_it_is_the_same_network(self, trained, press_ctrl_c):
        torch.rand(7)  # whatever was drawn before
        second_epoch = 13  # a step of it: pictures come the other way round, and larger
        with press_ctrl_c(train, "smoothed_loss", second_epoch), pytest.raises(KeyboardInterrupt, match="--resume"):
            main()
        main(resume=True)
        assert same(weights(paths.models("project2_cifar10")), weights(trained[1]))

    def test_resume_with_other_settings_is_refused(self, trained, monkeypatch):
        monkeypatch.setenv("STUDY_WORK_DIR", str(trained[1].parents[1]))
        with pytest.raises(LessonError, match=r"lr 0.24 \(now 0.1\)"):
            main(lr=0.1, resume=True)

    @pytest.mark.parametrize("name", ["resnet18", "wideresnet"])
    def test_other_networks_go_the_same_way(self, name, pages, monkeypatch):
        monkeypatch.setattr(train, "SAMPLE_PRESETS", {"default": {**RECIPE, "epochs": 1, "batch_size": 8, "sizes": (16,)}})
        few = ImageData(pages.train[:48], pages.test[:9], pages.classes, SOURCE, is_real=False)
        monkeypatch.setattr(datasets, "cifar10", lambda *_, **__: few)
        with pytest.raises(LessonError, match="hardly better"):  # after two steps; what counts is that all of it was done
            main(model=name, images=16)
        about = checkpoint.load(paths.models("project2_cifar10") / "model.pt")
        assert about["name"] == name
        checkpoint.load_model(paths.models("project2_cifar10") / "model.pt", make_model(name, classes=3))


class TestCheckpoint:
    def test_says_what_evaluation_and_the_page_need(self, trained, pages):
        results, folder = trained
        about = checkpoint.load(folder / "model.pt")
        network = make_model(about["name"], classes=len(about["classes"]))
        checkpoint.load_model(folder / "model.pt", network)
        network.eval()
        with torch.no_grad():
            answers = network(to_pixels(pages.test.images)).argmax(dim=1)
        assert (answers == pages.test.labels).float().mean().item() == pytest.approx(about["accuracy"], abs=0.01)
        assert about["accuracy"] == results["accuracy_without_tta"]
        assert about["source"] == SOURCE and about["classes"] == pages.classes and about["seed"] == 0

    def test_first_layer_is_whitening_and_stayed_so(self, trained):
        weight = weights(trained[1])["features.0.weight"]
        assert torch.equal(weight[:12], -weight[12:]) and weight.abs().max() > 0.5


class TestRecipe:
    def test_loss_is_cross_entropy_of_softened_targets(self, monkeypatch):
        monkeypatch.setattr(device, "has_bfloat16", lambda device: False)
        torch.manual_seed(0)
        network, pixels, labels = make_model("small").eval(), torch.rand(16, 3, 20, 20), torch.arange(16) % 10
        targets = torch.full((16, 10), 0.02)
        targets[range(16), labels] = 0.82
        expected = -(targets * network(pixels).log_softmax(dim=1)).sum(dim=1).mean()
        torch.testing.assert_close(train.smoothed_loss(network, (pixels, labels)), expected)

    def test_bfloat16_computes_nearly_the_same_gradient(self, monkeypatch):
        torch.manual_seed(0)
        network, (pixels, labels) = make_model("small"), vars(stripes(60, seed=3)).values()
        gradients = []
        for use_it in (False, True):
            monkeypatch.setattr(device, "has_bfloat16", lambda device, use_it=use_it: use_it)
            network.zero_grad()
            loss = train.smoothed_loss(network, (to_pixels(pixels), labels))
            assert loss.dtype == torch.float32
            loss.backward()
            gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.requires_grad]))
            assert gradients[-1].dtype == torch.float32
        assert not torch.equal(*gradients)
        assert F.cosine_similarity(*gradients, dim=0) > 0.95

    def test_each_parameter_has_its_rule(self):
        network = make_model("small")
        filters, others, head = train.make_optimizer(network, {**RECIPE, "lr": 0.2, "batch_size": 500}).param_groups
        known = {id(p) for group in (filters, others, head) for p in group["params"]}
        assert known == {id(p) for p in network.parameters() if p.requires_grad}
        assert filters["orthogonal"] and all(p.ndim == 4 for p in filters["params"]) and filters["lr"] == 0.2
        assert not others["orthogonal"] and all(p.ndim == 1 for p in others["params"])
        assert not head["orthogonal"] and head["params"] == [network.head.weight]
        for group in (others, head):
            assert group["lr"] * group["weight_decay"] == pytest.approx(5e-7 * 500)

    def test_learning_rates_fall_to_nothing(self):
        optimizer = train.make_optimizer(make_model("small"), {**RECIPE, "lr": 0.2})
        scheduler = train.fall(optimizer, steps=50)
        rates = []
        for _ in range(50):
            rates.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            scheduler.step()
        assert rates[0][0] == 0.2 and rates[25][0] == pytest.approx(0.1) and rates[49][0] == pytest.approx(0.2 / 50)
        assert all(rate[2] / rate[0] == pytest.approx(rates[0][2] / 0.2) for rate in rates)
        assert optimizer.param_groups[0]["lr"] == 0

    @pytest.mark.parametrize("presets", [train.PRESETS, train.SAMPLE_PRESETS], ids=["real", "sample"])
    def test_presets_can_be_run(self, presets, pages):
        for name, recipe in presets.items():
            assert set(recipe) == set(RECIPE), name
            assert list(recipe["sizes"]) == sorted(recipe["sizes"]) and recipe["sizes"][-1] <= 32, name
            assert recipe["cutout"] < recipe["sizes"][0] and recipe["shift"] < 8
            network, batches, optimizer, schedule = train.prepare(pages.train, 3, recipe, seed=0, device=CPU)
            assert batches.steps == recipe["epochs"] * len(batches)
            assert next(iter(batches))[0].shape[-1] == recipe["sizes"][0]
            assert schedule.get_last_lr()[0] == recipe["lr"] == optimizer.param_groups[0]["lr"]

    def test_validation_is_of_the_pictures_as_they_are(self, pages):
        seen = []
        network = make_model("small", classes=3)
        network.register_forward_pre_hook(lambda module, inputs: seen.append((inputs[0], module.training)))
        numbers = train.validation_numbers(network, plain_batches(pages.test, CPU, batch_size=150))
        assert set(numbers) == {"loss", "accuracy"}
        assert torch.equal(seen[0][0], to_pixels(pages.test.images)) and not seen[0][1]


class TestFigures:
    def test_learning_curves_are_drawn(self, monkeypatch):
        monkeypatch.setattr(train.evaluation, "draw_everything", lambda *_: None)
        with contextlib.suppress(LessonError):  # one epoch is hardly enough to learn
            main(figures=True, epochs=1, images=100)
        assert plt.imread(paths.outputs("project2_cifar10") / "learning_curves.png").std() > 0.01
        assert plt.get_fignums() == []
        assert list((paths.outputs("project2_cifar10") / "tensorboard").rglob("events*"))


@pytest.mark.slow  # draws the whole picture book and trains on it: a minute
def test_sample_is_learned(monkeypatch, tmp_path):
    monkeypatch.undo()  # the whole of the sample, not the part that the other tests share
    monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path))
    results = train.main(source="sample", preset="fast", figures=False, device="cpu")
    assert results["accuracy"] > results["baseline_accuracy"] + 0.15


@pytest.mark.slow  # torchrun starts two processes; each imports torch and draws the picture book
def test_two_processes_train_one_network(tmp_path):
    script = paths.ROOT / "09_projects" / "project2_cifar10" / "train.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    flags = ["--source", "sample", "--preset", "fast", "--epochs", "1", "--images", "1000", "--no-figures", "--device", "cpu"]
    importable = os.pathsep.join([str(paths.ROOT), str(script.parent.parent)])
    environment = {**os.environ, "PYTHONPATH": importable, "STUDY_WORK_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *flags], env=environment, capture_output=True, encoding="utf-8", timeout=280)
    assert "epoch 1/1" in done.stdout, done.stderr
    assert done.stdout.count("epoch 1/1") == 1  # one of them speaks
    state = checkpoint.load(tmp_path / "models" / "project2_cifar10" / "last.pt")
    assert len(state["history"]["losses"]) == state["batches"]["step"] > 0
