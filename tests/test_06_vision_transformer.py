"""Vision Transformer: equal to torchvision's, its positions stretch, its answers vary, rollout is what the paper defines."""

import pytest
import torch
from conftest import lesson
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings

from utils import paths
from utils.datasets import picture_book
from utils.datasets.images import ImageData
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def vit():
    return lesson("06_advanced/vision_transformer")


@pytest.fixture(scope="module")
def bars():
    """Four classes that only positions tell apart: one patch out of sixteen is bright, in one of the four corners."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(320) % 4
    x = 0.3 * torch.randn(320, 3, 32, 32, generator=generator)
    for picture, (row, column) in zip(x, [divmod(label, 2) for label in labels.tolist()], strict=True):
        picture[:, 24 * row : 24 * row + 8, 24 * column : 24 * column + 8] += 1.5
    return x, labels


@pytest.fixture(scope="module")
def trained(vit, bars):
    """A network that knows the bars; they must not be mirrored while it learns."""
    torch.manual_seed(0)
    model = vit.VisionTransformer(32, 8, depth=2, heads=2, width=32, hidden=48, classes=4, scale=1.0)
    original, vit.augment = vit.augment, lambda pictures, generator: pictures
    try:
        vit.train(model, bars, epochs=12, lr=0.003, seed=0)
    finally:
        vit.augment = original
    return model.eval()


class TestPatches:
    def test_three_ways_agree(self, vit):
        found = vit.compare_patches(patch=4, width=12, seed=1)
        assert found["patches"] < 1e-5 and found["view"] > 0.5

    def test_order(self, vit):
        pictures = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
        patches = vit.cut(pictures, 2)
        assert patches.shape == (2, 6, 12)
        for row in range(2):
            for column in range(3):
                expected = pictures[1, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten()
                assert torch.equal(patches[1, 3 * row + column], expected)


class TestEqualToTorchvision:
    def test_all_numbers(self, vit):
        assert vit.compare_with_torchvision(32, 8, depth=2, heads=4, width=32, hidden=40, seed=1) < 1e-4

    def test_names_shapes_of_the_large_one(self, vit):
        with torch.device("meta"):
            ours = vit.VisionTransformer(224, 16, 12, 12, 768, 3072, classes=1000, scale=0.02)
            theirs = models.vit_b_16(weights=None)
        found = [{name: tensor.shape for name, tensor in model.state_dict().items()} for model in (ours, theirs)]
        assert found[0] == found[1]
        assert sum(parameter.numel() for parameter in ours.parameters()) == 86_567_656

    @pytest.mark.slow  # 86 million weights twice, and their gradients: 7 s
    def test_numbers_of_the_large_one(self, vit):
        assert vit.compare_with_torchvision(224, 16, depth=12, heads=12, width=768, hidden=3072, seed=1) < 1e-4

    def test_comparison_notices_post_norm(self, vit, monkeypatch):
        """A block that norms what it looks at twice, and not what it thinks about, has the same names and shapes."""

        def forward(self, x, tell):
            normed = self.ln_1(x)
            x = x + self.self_attention(normed, normed, normed)[0]
            return x + self.mlp(x) + 0 * self.ln_2(x), None

        monkeypatch.setattr(vit.EncoderBlock, "forward", forward)
        assert vit.compare_with_torchvision(32, 8, depth=2, heads=4, width=32, hidden=40, seed=1) > 1e-2

    def test_comparison_notices_the_order_of_patches(self, vit, monkeypatch):
        look = vit.VisionTransformer.look
        monkeypatch.setattr(vit.VisionTransformer, "look", lambda self, x, tell=True: look(self, x.transpose(2, 3), tell))
        assert vit.compare_with_torchvision(32, 8, depth=1, heads=2, width=32, hidden=40, seed=1) > 1e-2

    def test_weights_are_told_without_changing_answers(self, vit, trained, bars):
        logits, weights = trained.look(bars[0][:5])
        torch.testing.assert_close(logits, trained(bars[0][:5]))
        assert [tuple(one.shape) for one in weights] == [(5, 2, 17, 17)] * 2
        torch.testing.assert_close(weights[0].sum(dim=3), torch.ones(5, 2, 17))


class TestLearning:
    def test_learns_what_only_positions_tell(self, vit, trained, bars):
        assert vit.accuracy(trained, bars) > 0.9

    def test_without_positions_it_cannot(self, vit, trained, bars):
        """Sixteen patches without positions are a bag: moving the bright one to another corner changes nothing."""
        with torch.no_grad():
            kept = trained.encoder.pos_embedding.clone()
            trained.encoder.pos_embedding.zero_()
            found = vit.accuracy(trained, bars)
            trained.encoder.pos_embedding.copy_(kept)
        assert found < 0.4

    def test_class_token_is_what_is_read(self, trained, bars):
        """Answers come from the class token alone: the head reads its place, after the last norm."""
        seen = []
        hook = trained.encoder.ln.register_forward_hook(lambda _, inputs, out: seen.append(out))
        logits = trained(bars[0][:3])
        hook.remove()
        torch.testing.assert_close(trained.heads.head(seen[0][:, 0]), logits)

    def test_pictures_do_not_see_one_another(self, trained, bars):
        with torch.no_grad():
            torch.testing.assert_close(trained(bars[0][:7])[:1], trained(bars[0][:1]))

    def test_batch_first_forgotten(self, vit, trained, bars):
        right, wrong = vit.forget_batch_first(trained, bars[0][:40])
        assert right > 0.5 and wrong < 1e-5
        assert all(block.self_attention.batch_first for block in trained.encoder.layers.values())  # the copy was broken

    def test_augment(self, vit):
        x = torch.arange(2.0 * 3 * 32 * 32).view(2, 3, 32, 32).repeat(20, 1, 1, 1)
        out = vit.augment(x, torch.Generator().manual_seed(3))
        assert out.shape == x.shape
        unlike = [index for index in range(0, 40, 2) if not torch.equal(out[index], out[0])]
        assert 2 < len(unlike) < 18 and torch.equal(out[unlike[0]], out[0].flip(2))


class TestLargerPictures:
    @pytest.mark.parametrize(("old", "new"), [(4, 6), (4, 3), (14, 24)])
    def test_stretching_equals_torchvisions(self, vit, old, new):
        positions = torch.randn(1, old * old + 1, 8, generator=torch.Generator().manual_seed(0))
        expected = interpolate_embeddings(new * 8, 8, {"encoder.pos_embedding": positions})["encoder.pos_embedding"]
        torch.testing.assert_close(vit.stretch(positions, new), expected)

    def test_same_size_changes_nothing(self, vit):
        positions = torch.randn(1, 17, 8, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(vit.stretch(positions, 4), positions)

    def test_a_larger_picture_of_the_same(self, vit, trained, bars):
        message, right = vit.enlarge(trained, bars, 48)
        assert message.startswith("The size of tensor a (37) must match the size of tensor b (17)")
        assert right > 0.5
        assert trained.encoder.pos_embedding.shape[1] == 17


class TestRollout:
    def test_is_the_sum_over_paths(self, vit):
        """Two blocks of one head: half stays, half goes where attention goes, in each."""
        generator = torch.Generator().manual_seed(0)
        one, two = torch.rand(2, 3, 2, 5, 5, generator=generator).softmax(dim=4)
        same, first, second = torch.eye(5), one.mean(dim=1), two.mean(dim=1)
        found = vit.rollout([one, two])
        torch.testing.assert_close(found, (same + first + second + second @ first) / 4)
        torch.testing.assert_close(found.sum(dim=2), torch.ones(3, 5))
        assert (found - vit.rollout([two, one])).abs().max() > 0.01  # the order counts

    def test_shares(self, vit, trained, bars):
        maps = vit.look_at(trained, bars[0][:20])
        assert maps.shape == (20, 4, 4)
        torch.testing.assert_close(maps.sum(dim=(1, 2)), torch.ones(20))
        assert (maps - maps.mean(dim=0)).abs().max() > 0.01  # it differs between pictures

    def test_covers(self, vit, trained, bars, monkeypatch):
        """With a map that is right by construction, covering it destroys the answer and covering the rest does not."""
        energy = bars[0].square().mean(dim=1).unflatten(1, (4, 8)).unflatten(3, (4, 8)).mean(dim=(2, 4))  # (n, 4, 4)
        monkeypatch.setattr(vit, "look_at", lambda model, pictures: energy)
        found = vit.compare_covers(trained, bars, share=0.25)
        assert found["covered_most"] < 0.5 and found["covered_least"] > 0.9
        assert found["covered_another"] > 0.6  # the next picture is bright in another corner


class TestMain:
    @pytest.fixture
    def quick(self, vit, monkeypatch):
        """The lesson on a thinner book, and without the large network, which has its own test."""
        train, test = picture_book.load(train=1300, test=300)
        book = ImageData(train, test, list(picture_book.CLASSES), "sample", is_real=False)
        monkeypatch.setattr(vit, "cifar10", lambda source: book)
        monkeypatch.setattr(vit, "compare_with_torchvision", lambda *_: 0.0)
        return vit

    def test_check_notices_a_network_that_does_not_learn(self, quick, monkeypatch):
        monkeypatch.setattr(quick, "train", lambda *_: None)
        with pytest.raises(LessonError, match="more --epochs"):
            quick.main(epochs=1, scale=1.0, source="sample", device="cpu", seed=0)
        assert (paths.outputs("vision_transformer") / "rollout.png").exists()

    def test_check_notices_other_numbers(self, quick, monkeypatch):
        monkeypatch.setattr(quick, "compare_with_torchvision", lambda *_: 1e-3)
        with pytest.raises(LessonError, match="other numbers"):
            quick.main(epochs=1, scale=1.0, source="sample", device="cpu", seed=0)

    @pytest.mark.parametrize("flags", [{"epochs": 0}, {"scale": -1.0}])
    def test_check_notices_wrong_flags(self, vit, flags):
        with pytest.raises(LessonError, match="at least 1 epoch"):
            vit.main(**{"epochs": 1, "scale": 1.0, "source": "sample", "device": "cpu", "seed": 0, **flags})

    @pytest.mark.slow  # the default run: 40 s
    def test_keeps_its_promise(self, vit):
        results = vit.main(epochs=12, scale=1.0, source="sample", device="cpu", seed=1)
        assert results["accuracy"] > results["baseline"] + 0.15
        assert results["vary_mixed"] < 1e-4 < results["vary"]

    @pytest.mark.slow  # as above
    @pytest.mark.real_data("cifar10")
    def test_learns_cifar10(self, vit):
        results = vit.main(epochs=12, scale=1.0, source="real", device="cpu", seed=0)
        assert results["accuracy"] > results["baseline"] + 0.1
