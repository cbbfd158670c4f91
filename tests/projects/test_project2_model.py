"""Project 2's networks, its whitening, its optimizer and its batches, each held to what it promises."""

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from project2_cifar10 import data as pictures
from project2_cifar10 import model
from project2_cifar10.data import TrainingBatches, mean_and_std
from project2_cifar10.model import NETWORKS, Classifier, make_model
from project2_cifar10.whitening import covariance_of_patches, whiten_first_layer, whitening_filters
from utils.batches import to_pixels
from utils.checkpoint import load_model, save_model
from utils.datasets import Images
from utils.lesson import LessonError
from utils.muon import Muon, orthogonalize

CPU = torch.device("cpu")


def smooth_pictures(count: int, size: int = 12, seed: int = 0) -> Tensor:
    """Normalised pictures (count, 3, size, size) whose neighbouring pixels and whose colours resemble one another."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, size // 3, size // 3, generator=generator) + torch.randn(count, 1, 1, 1, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)
    return smooth + 0.1 * torch.randn(count, 3, size, size, generator=generator)


def numbered(count: int, size: int = 8) -> Images:
    """Pictures of random dots, no two alike; the label of each is its number."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    return Images(images, torch.arange(count))


@pytest.fixture(scope="module", params=NETWORKS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def network(name) -> Classifier:
    torch.manual_seed(0)
    return make_model(name, classes=7).eval()


class TestNetworks:
    def test_gives_raw_logits_for_every_size(self, network):
        for size in (20, 32, 36):
            assert network(torch.rand(2, 3, size, size)).shape == (2, 7)
        with torch.no_grad():
            logits = network(torch.rand(8, 3, 32, 32))
        assert logits.min() < 0 < logits.max() and not torch.allclose(logits.exp().sum(dim=1), torch.ones(8), atol=0.1)

    def test_last_maps_are_what_is_pooled(self, network):
        kept = []
        hook = network.last_maps.register_forward_hook(lambda _, __, output: kept.append(output))
        with torch.no_grad():
            logits = network(torch.rand(2, 3, 32, 32))
        hook.remove()
        assert kept[0].ndim == 4 and min(kept[0].shape[2:]) > 1
        torch.testing.assert_close(network.head(kept[0].flatten(2).max(dim=2).values) / kept[0].shape[1], logits)

    def test_normalises_its_input(self):
        classifier = make_model("small", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
        seen = []
        classifier.features.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        pixels = torch.rand(2, 3, 32, 32)
        classifier(pixels)
        for colour, (mean, std) in enumerate([(0.1, 0.4), (0.2, 0.5), (0.3, 0.6)]):
            torch.testing.assert_close(seen[0][:, colour], (pixels[:, colour] - mean) / std)

    def test_gradient_reaches_every_parameter_that_is_trained(self, network):
        network.train()
        network(torch.rand(8, 3, 32, 32)).logsumexp(dim=1).sum().backward()
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad.abs().max() > 0, name
            else:
                assert parameter.grad is None, name
        network.zero_grad()
        network.eval()

    def test_checkpoint_brings_everything_back(self, name, network, tmp_path):
        network.mean.fill_(0.25)  # the mean of other data
        save_model(tmp_path / "model.pt", network, name=name)
        again = make_model(name, classes=7)
        load_model(tmp_path / "model.pt", again)
        pixels = torch.rand(2, 3, 32, 32)
        assert torch.equal(again.eval()(pixels), network(pixels))

    def test_checkpoint_of_another_network_is_refused(self, tmp_path):
        save_model(tmp_path / "model.pt", make_model("wideresnet"))
        with pytest.raises(LessonError, match="of another model"):
            load_model(tmp_path / "model.pt", make_model("small"))

    def test_unknown_name_is_refused(self):
        with pytest.raises(LessonError, match="'vgg'; there are small, medium, wideresnet, resnet18"):
            make_model("vgg")

    def test_has_as_many_parameters_as_it_says(self, name, network):
        lines = [line.split() for line in model.__doc__.splitlines() if line.startswith("    ")]
        said = {words[0]: int(words[1].replace(",", "")) for words in lines}
        assert said.keys() == NETWORKS.keys()
        assert said[name] == sum(parameter.numel() for parameter in make_model(name).parameters())

    def test_wide_one_is_sixteen_deep_and_four_times_as_wide(self):
        kernels = [layer for layer in make_model("wideresnet").modules() if isinstance(layer, nn.Conv2d)]
        assert sum(layer.kernel_size == (3, 3) for layer in kernels) + 1 + 3 == 16 + 1  # the head, and a shortcut in each stage
        assert {layer.out_channels for layer in kernels} == {16, 64, 128, 256}

    def test_new_filters_hand_their_input_on(self):
        convolution = make_model("small").features[2][0]
        maps = torch.rand(1, 24, 9, 9)
        torch.testing.assert_close(convolution(maps)[:, :24], maps)


class TestWhitening:
    def test_covariance_of_patches_a_second_time(self):
        images = smooth_pictures(5, size=6)
        patches = [images[n, :, r : r + 2, c : c + 2].flatten() for n in range(5) for r in range(5) for c in range(5)]
        torch.testing.assert_close(covariance_of_patches(images), torch.stack(patches).double().T.cov())

    def test_patches_are_white_afterwards(self):
        images = smooth_pictures(500)
        before = covariance_of_patches(images)
        assert (before - torch.eye(12)).abs().max() > 0.5  # they were not
        white = nn.functional.conv2d(images, whitening_filters(images, floor=0.0))  # (500, 12, 11, 11)
        after = white.permute(1, 0, 2, 3).flatten(1).double().cov()
        torch.testing.assert_close(after, torch.eye(12, dtype=torch.float64), atol=1e-3, rtol=0)

    def test_what_hardly_varies_is_not_made_loud(self):
        images = smooth_pictures(200)
        images[:, 2] = images[:, 1] + 1e-5 * torch.randn(200, 12, 12, generator=torch.Generator().manual_seed(1))
        white = nn.functional.conv2d(images, whitening_filters(images, floor=5e-4)).permute(1, 0, 2, 3).flatten(1)
        deviations = white.std(dim=1).sort().values
        assert deviations[3] < 0.01 and deviations[4] > 0.9  # blue is green, but for noise, in each of the four places

    def test_first_layer_has_both_signs(self):
        convolution, images = nn.Conv2d(3, 24, kernel_size=2, bias=False), smooth_pictures(50)
        whiten_first_layer(convolution, images)
        assert torch.equal(convolution.weight[:12], -convolution.weight[12:])
        torch.testing.assert_close(convolution.weight[:12], whitening_filters(images))

    def test_first_layer_is_not_trained(self):
        first = make_model("small").features[0]
        assert not first.weight.requires_grad and first.bias is None


class TestMuon:
    def test_orthogonalize(self):
        u, _, vt = torch.linalg.svd(torch.randn(8, 20, generator=torch.Generator().manual_seed(0)), full_matrices=False)
        matrix = u @ torch.linspace(1, 3, 8).diag() @ vt
        for one, (left, right) in ((matrix, (u, vt)), (matrix.T, (vt.T, u.T))):
            result = orthogonalize(one, steps=5, dtype=torch.float32)
            core = left.T @ result @ right.T  # diagonal: the directions stayed, and the values are near 1
            torch.testing.assert_close(core, core.diag().diag(), atol=1e-4, rtol=0)
            assert 0.6 < core.diag().min() and core.diag().max() < 1.3

    def test_steps_a_second_time(self):
        """Three steps of three groups, beside the rule written out for one tensor at a time."""
        generator = torch.Generator().manual_seed(0)
        start = [torch.randn(4, 2, 3, 3, generator=generator), torch.randn(5, generator=generator)]
        gradients = [[torch.randn(p.shape, generator=generator) for p in start] for _ in range(3)]
        filters, bias = (nn.Parameter(p.clone()) for p in start)
        optimizer = Muon(
            [
                {"params": [filters], "lr": 0.2, "momentum": 0.6, "orthogonal": True},
                {"params": [bias], "lr": 0.1, "momentum": 0.9, "weight_decay": 0.05},
            ]
        )
        matrix, vector, velocity, plain = (
            start[0].flatten(1),
            start[1].clone(),
            torch.zeros(4, 18),
            nn.Parameter(start[1].clone()),
        )
        sgd = torch.optim.SGD([plain], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05)
        for gradient, gradient_of_bias in gradients:
            filters.grad, bias.grad, plain.grad = gradient.clone(), gradient_of_bias.clone(), gradient_of_bias.clone()
            optimizer.step()
            sgd.step()
            velocity = 0.6 * velocity + gradient.flatten(1)
            x = gradient.flatten(1) + 0.6 * velocity
            x = x / x.square().sum().sqrt()
            for _ in range(3):
                x = 3.4445 * x - 4.775 * (x @ x.T @ x) + 2.0315 * (x @ x.T @ x @ x.T @ x)
            matrix = matrix * math.sqrt(4) / matrix.square().sum().sqrt() - 0.2 * x
        torch.testing.assert_close(filters.flatten(1), matrix)
        torch.testing.assert_close(bias, plain)
        assert not torch.equal(bias, vector)

    @pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim has Muon from PyTorch 2.9 on")
    def test_first_step_goes_where_torchs_goes(self):
        """For a matrix, the update of torch.optim.Muon; it does not bring the weights back to a fixed length first."""
        generator = torch.Generator().manual_seed(0)
        start, gradient = torch.randn(6, 9, generator=generator), torch.randn(6, 9, generator=generator)
        start *= math.sqrt(6) / start.norm()
        ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        Muon([{"params": [ours], "lr": 0.1, "momentum": 0.95, "orthogonal": True}], steps=5).step()
        torch.optim.Muon([theirs], lr=0.1, momentum=0.95, nesterov=True, weight_decay=0.0, ns_steps=5).step()
        torch.testing.assert_close(ours, theirs, atol=4e-3, rtol=0)  # it rounds to bfloat16; the step itself is up to 0.08

    def test_state_is_saved_and_put_back(self):
        def made() -> tuple[nn.Parameter, Muon]:
            parameter = nn.Parameter(torch.linspace(-1, 1, 36).view(4, 1, 3, 3))
            return parameter, Muon([{"params": [parameter], "lr": 0.1, "orthogonal": True}])

        (one, first), (two, second) = made(), made()
        for step in range(4):
            if step == 2:
                second.load_state_dict(copy.deepcopy(first.state_dict()))
                two.data.copy_(one.data)
            for parameter, optimizer in ((one, first), (two, second))[: 1 if step < 2 else 2]:
                parameter.grad = torch.linspace(0, step + 1, 36).sin().view(4, 1, 3, 3)
                optimizer.step()
        assert torch.equal(one, two)


class TestAugmentation:
    def test_shift_moves_by_whole_pixels_with_a_mirrored_edge(self):
        images = numbered(400).images
        moved = pictures.shift(images, 2, torch.Generator().manual_seed(0))
        padded = nn.functional.pad(images.float(), (2, 2, 2, 2), mode="reflect").to(torch.uint8)
        places = list(itertools.product(range(5), repeat=2))
        windows = [padded[:, :, top : top + 8, left : left + 8] for top, left in places]
        is_at = torch.stack([(window == moved).flatten(1).all(dim=1) for window in windows])  # (25, 400)
        assert (is_at.sum(dim=0) == 1).all()  # each image has one of the 25 moves
        assert is_at.any(dim=1).all()  # and each move happens

    def test_cutout_greys_one_square(self):
        pixels = torch.ones(500, 3, 10, 10)
        cut = pictures.cut_out(pixels, 4, torch.Generator().manual_seed(0))
        assert ((cut == 0.5).flatten(1).sum(dim=1) == 3 * 16).all() and ((cut == 0.5) | (cut == 1)).all()
        for one in (cut[:, 0] == 0.5).nonzero().split(16):
            _, rows, columns = one.unbind(dim=1)
            assert rows.max() - rows.min() == 3 == columns.max() - columns.min()
        assert cut.min(dim=0).values.max() == 0.5  # it reaches every place

    def test_mirroring_a_half(self):
        images = numbered(300).images
        mirrored = pictures.mirror_half(images, torch.Generator().manual_seed(0))
        as_they_were = (mirrored == images).flatten(1).all(dim=1)
        assert (mirrored.flip(3) == images).flatten(1).all(dim=1).equal(~as_they_were)
        assert 100 < as_they_were.sum() < 200

    def test_smaller_pictures_have_the_same_mean(self):
        pixels = to_pixels(numbered(3, size=32).images)
        small = pictures.resize(pixels, 16)
        assert small.shape == (3, 3, 16, 16)
        torch.testing.assert_close(small.mean(dim=(2, 3)), pixels.mean(dim=(2, 3)), atol=0.01, rtol=0)
        assert pictures.resize(pixels, 32) is pixels

    def test_mean_and_std(self):
        images = numbered(20).images
        images[:, 1] //= 2
        means, deviations = mean_and_std(images)
        pixels = images.double() / 255
        assert means == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), rel=1e-6)
        assert deviations == pytest.approx(pixels.transpose(0, 1).flatten(1).std(dim=1, correction=0).tolist(), rel=1e-6)


class TestBatches:
    def test_pictures_come_the_other_way_round_in_every_epoch(self):
        data = numbered(40)
        batches = TrainingBatches(data, 10, CPU, seed=0, epochs=3, sizes=(8,), shift=0)
        seen: list[dict[int, bool]] = []
        for _ in range(3):
            seen.append({})
            for pixels, labels in batches:
                images = (pixels * 255).round().to(torch.uint8)
                for image, label in zip(images, labels.tolist(), strict=True):
                    as_it_was = torch.equal(image, data.images[label])
                    assert as_it_was or torch.equal(image.flip(2), data.images[label])
                    seen[-1][label] = as_it_was
        assert all(len(epoch) == 40 for epoch in seen)
        assert seen[0] == seen[2] and all(seen[0][label] != seen[1][label] for label in range(40))
        assert 8 < sum(seen[0].values()) < 32

    def test_pictures_grow(self):
        batches = TrainingBatches(numbered(40), 10, CPU, seed=0, epochs=3, sizes=(4, 6, 8), shift=1)
        assert [pixels.shape[-1] for _ in range(3) for pixels, _ in batches] == [4] * 4 + [6] * 4 + [8] * 4
        thirds = TrainingBatches(numbered(40), 10, CPU, seed=0, epochs=1, sizes=(4, 8), shift=1)
        assert [pixels.shape[-1] for pixels, _ in thirds] == [4, 4, 8, 8]

    def test_whole_data_set_stays_as_it_was(self):
        data = numbered(40)
        before = data.images.clone()
        for _ in TrainingBatches(data, 10, CPU, seed=0, sizes=(8,), cutout=3):
            pass
        assert torch.equal(data.images, before)

    def test_resumed_they_go_on_in_their_place(self):
        def made() -> TrainingBatches:
            return TrainingBatches(numbered(40), 10, CPU, seed=3, epochs=2, sizes=(4, 8), shift=2, cutout=2)

        whole = [pixels for batches in [made()] for _ in range(2) for pixels, _ in batches]
        first, second, seen = made(), made(), []
        for count in (4, 3):  # an epoch, and three batches of the next
            for pixels, _ in itertools.islice(iter_of := iter(first), count):
                seen.append(pixels)
                state = first.state_dict()
        del iter_of
        second.load_state_dict(state)
        seen += [pixels for pixels, _ in second]
        assert len(seen) == len(whole) == 8
        assert all(torch.equal(a, b) for a, b in zip(seen, whole, strict=True))
