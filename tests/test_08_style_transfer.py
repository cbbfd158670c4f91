"""Style transfer: the losses are what they are said to be, and a picture gets a style, not its colours alone."""

import pytest
import torch
from conftest import lesson

from utils import paths, perceptual
from utils.datasets.styles import StyleData
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def styles():
    return lesson("08_computer_vision/style_transfer")


@pytest.fixture(scope="module")
def network():
    return perceptual.random_features(seed=3, width=8)


@pytest.fixture(scope="module")
def disc():
    """A photograph to be: a bright disc on a dark ground, (1, 3, 48, 64)."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    inside = ((y - 24) ** 2 + (x - 32) ** 2 < 200).float()
    return torch.stack([0.2 + 0.6 * inside, 0.3 + 0.3 * inside, 0.5 - 0.2 * inside])[None]


@pytest.fixture(scope="module")
def stripes():
    """A painting: slanting stripes of two colours, (1, 3, 48, 48)."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    wave = (torch.sin(1.2 * (x + y)) > 0).float()
    return torch.stack([0.9 * wave, 0.6 - 0.3 * wave, 0.2 + 0.1 * wave])[None]


class TestLosses:
    def test_comparisons(self, styles):
        found = styles.compare(seed=4)
        assert found["gram"] < 1e-14 and found["losses"] < 1e-14 and found["gradients"] < 1e-8

    def test_gram_forgets_places_and_content_does_not(self, styles):
        maps = torch.rand(1, 4, 6, 7, generator=torch.Generator().manual_seed(0))
        order = torch.randperm(42, generator=torch.Generator().manual_seed(1))
        moved = maps.flatten(start_dim=2)[:, :, order].view(maps.shape)
        torch.testing.assert_close(styles.gram(moved), styles.gram(maps))
        torch.testing.assert_close(styles.gram(maps), torch.einsum("chw,dhw->cd", maps[0], maps[0]) / 42)
        assert styles.content_loss({"a": moved}, {"a": maps}) > 1

    def test_scales(self, styles):
        maps = torch.rand(1, 4, 6, 7, generator=torch.Generator().manual_seed(0))
        flat = torch.full_like(maps, maps.mean().item())
        torch.testing.assert_close(styles.content_loss({"a": flat}, {"a": maps}), torch.tensor(1.0))
        wanted = {"a": styles.gram(maps)}
        assert styles.style_loss({"a": 0 * maps}, wanted) == pytest.approx(1)
        larger = styles.style_loss({"a": 20 * maps}, {"a": styles.gram(10 * maps)})
        torch.testing.assert_close(larger, styles.style_loss({"a": 2 * maps}, wanted))

    def test_total_variation(self, styles):
        picture = torch.tensor([[0.0, 1.0], [0.0, 1.0]])[None, None]
        assert styles.total_variation(picture) == 1 and styles.total_variation(torch.ones(1, 3, 4, 4)) == 0


class TestTransfer:
    def goals(self, styles, network, disc, stripes):
        return (
            styles.describe(network, disc, [network.content], "content"),
            styles.describe(network, stripes, network.style, "style"),
        )

    @pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
    def test_style_arrives_and_content_stays(self, styles, network, disc, stripes, optimizer):
        goals = self.goals(styles, network, disc, stripes)
        picture, losses = styles.transfer(network, disc, *goals, 10.0, 40, smooth=1.0, optimizer=optimizer, lr=0.05)
        assert picture.shape == disc.shape and 0 <= picture.min() and picture.max() <= 1 and not picture.requires_grad
        assert len(losses) == 40 and min(losses) < 0.2 * losses[0]
        found = styles.judge(network, disc, stripes, picture)
        assert found["style"] < 0.5 * min(found["photograph"], found["colours"])
        assert found["content"] < found["other"]

    def test_weight_turns_the_balance(self, styles, network, disc, stripes):
        goals, found = self.goals(styles, network, disc, stripes), []
        for weight in (0.001, 30.0):
            picture, _ = styles.transfer(network, disc, *goals, weight, 25, smooth=0.0)
            found.append(styles.judge(network, disc, stripes, picture))
        assert found[0]["content"] < 0.3 * found[1]["content"] and found[1]["style"] < 0.5 * found[0]["style"]

    def test_smoothing(self, styles, network, disc, stripes):
        goals = self.goals(styles, network, disc, stripes)
        rough = [
            styles.total_variation(styles.transfer(network, disc, *goals, 10.0, 15, smooth=s)[0]).item() for s in (0.0, 30.0)
        ]
        assert rough[1] < 0.8 * rough[0]

    def test_layers_by_themselves(self, styles, network, disc, stripes, monkeypatch):
        asked, transfer = [], styles.transfer
        monkeypatch.setattr(
            styles, "transfer", lambda *given, **more: asked.append(([*given[2]], [*given[3]])) or transfer(*given, **more)
        )
        rows = styles.see_layers(network, disc, stripes, evaluations=2, seed=0)
        assert [len(row) for row in rows] == [3, 3] and rows[0][0][1].shape == disc.shape
        assert asked[::2] == [(["random1_2"], []), (["random3_2"], []), (["random5_2"], [])]
        assert [len(style) for _, style in asked[1::2]] == [1, 3, 5]

    def test_coarse_to_fine(self, styles, network, disc, stripes, monkeypatch):
        started, transfer = [], styles.transfer
        monkeypatch.setattr(
            styles, "transfer", lambda network, start, *rest: started.append(start) or transfer(network, start, *rest)
        )
        large = [torch.nn.functional.interpolate(one, scale_factor=2) for one in (disc, stripes)]
        assert styles.paint(network, *large, weight=10.0, evaluations=3).shape == (1, 3, 96, 128)
        assert [tuple(start.shape[2:]) for start in started] == [(48, 64), (96, 128)]
        assert not torch.allclose(started[1], large[0], atol=0.02)  # the second begins with what the first found

    def test_error_is_the_one_that_is_told(self, styles):
        assert styles.meet_error() == "can't optimize a non-leaf Tensor"


class TestMain:
    @pytest.fixture
    def quick(self, styles, network, disc, stripes, monkeypatch):
        larger = [torch.nn.functional.interpolate(255 * one, scale_factor=2)[0].byte() for one in (disc, stripes)]
        data = StyleData({"disc": larger[0]}, {"two stripes": larger[1]}, "drawn", is_real=False)
        monkeypatch.setattr(styles, "style_pictures", lambda source, size: data)
        monkeypatch.setattr(styles, "load_perceptual", lambda weights, device, seed: network)
        monkeypatch.setattr(styles, "see_layers", lambda network, content, *_: [[("tested above", content)]])
        return styles

    def test_whole(self, quick):
        results = quick.main(weight=100.0, evaluations=25, size=96, weights="random", source="sample", device="cpu", seed=0)
        assert results["two_stripes_style"] < 0.5 * results["two_stripes_colours"]
        for name in ("layers", "optimizers", "balance", "pictures"):
            assert (paths.outputs("style_transfer") / f"{name}.png").exists()

    def test_check_notices_a_picture_that_stays(self, quick, monkeypatch):
        monkeypatch.setattr(quick, "transfer", lambda network, start, *_, **__: (start, [1.0]))
        with pytest.raises(LessonError, match="more --evaluations"):
            quick.main(weight=10.0, evaluations=2, size=96, weights="random", source="sample", device="cpu", seed=0)

    @pytest.mark.parametrize("wrong", [{"evaluations": 0}, {"size": 63}, {"weight": 0.0}])
    def test_wrong_flags(self, styles, wrong):
        flags = {
            "weight": 10.0,
            "evaluations": 5,
            "size": 96,
            "weights": "random",
            "source": "sample",
            "device": "cpu",
            "seed": 0,
        }
        with pytest.raises(LessonError, match="--evaluations"):
            styles.main(**flags | wrong)
