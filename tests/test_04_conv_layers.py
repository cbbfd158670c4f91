"""Convolution: three ways are one, a convolution is a shared dense layer that moves with its picture, and kernels are learned."""

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson

from utils.lesson import LessonError


@pytest.fixture(scope="module")
def conv():
    return lesson("04_cnn/conv_layers")


@pytest.fixture(scope="module")
def grey(conv):
    return conv.load_photo("china")[1]


class TestThreeWays:
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
    def test_are_equal(self, conv, dtype, tolerance):
        difference, ratio = conv.compare_ways(dtype, size=8, seed=3)
        assert 0 <= difference < tolerance
        assert ratio > 0

    @pytest.mark.parametrize("size", [1, 2, 5])
    def test_with_kernels_of_other_sizes_and_pictures_that_are_no_squares(self, conv, size):
        generator = torch.Generator().manual_seed(size)
        x = torch.randn(2, 3, 6, 9, generator=generator, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(4, 3, size, size, generator=generator, dtype=torch.float64, requires_grad=True)
        expected = F.conv2d(x, weight)
        torch.testing.assert_close(conv.by_loops(x, weight), expected)
        torch.testing.assert_close(conv.by_unfold(x, weight), expected)
        upstream = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
        gradients = torch.autograd.grad(expected, (x, weight), upstream)
        torch.testing.assert_close(conv.gradients_by_loops(x, weight, upstream), gradients)


class TestConventions:
    def test_conv2d_is_cross_correlation(self, conv, grey):
        signal = pytest.importorskip("scipy.signal")
        kernel, piece = conv.kernels("emboss"), grey[:, :, :40, :50]
        correlated = torch.from_numpy(signal.correlate2d(piece[0, 0].numpy(), kernel[0, 0].numpy(), mode="valid"))
        convolved = torch.from_numpy(signal.convolve2d(piece[0, 0].numpy(), kernel[0, 0].numpy(), mode="valid"))
        torch.testing.assert_close(F.conv2d(piece, kernel)[0, 0], correlated)
        torch.testing.assert_close(F.conv2d(piece, kernel.flip(2, 3))[0, 0], convolved)
        assert (correlated - convolved).abs().max() > 0.05  # unless the kernel is its own mirror image, they differ

    def test_an_impulse_shows_the_kernel_turned_and_a_photo_with_colours_last_is_refused(self, conv):
        answer, message = conv.meet_conventions(torch.rand(1, 3, 20, 30))
        assert torch.equal(answer, conv.kernels("emboss")[0, 0].flip(0, 1))
        assert "expected input[1, 20, 30, 3] to have 3 channels, but got 20" in message


class TestDense:
    def test_a_convolution_is_a_sparse_shared_dense_layer(self, conv):
        small, dense, matrix = conv.compare_with_dense()
        assert (small, dense) == (448, 44_251_200)
        assert dense == sum(p.numel() for p in torch.nn.Linear(3072, 14400, device="meta").parameters())
        assert (matrix != 0).sum() == 36 * 9
        picture = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        expected = F.conv2d(picture, torch.arange(1.0, 10).view(1, 1, 3, 3)).flatten()
        torch.testing.assert_close(matrix @ picture.flatten(), expected)


class TestMoving:
    def test_only_padding_with_zeros_shows(self, conv, grey):
        piece = grey[:, :, :40, :40]
        circular = conv.compare_moving(piece, "circular", rows=10, layers=2, seed=1)
        zeros = conv.compare_moving(piece, "zeros", rows=10, layers=2, seed=1)
        assert circular.max() < 1e-12
        wrong = (zeros > 1e-9).nonzero().flatten().tolist()
        assert wrong == [
            0,
            1,
            8,
            9,
            10,
            11,
            38,
            39,
        ]  # two layers see two rows over the edge: where it is, and where it came to lie
        assert zeros.max() > 0.01


class TestKernels:
    def test_do_what_their_names_say(self, conv):
        ramp = torch.arange(10.0).expand(10, 10).view(1, 1, 10, 10)  # brighter to the right, by 1 a pixel
        plain = torch.ones(1, 1, 10, 10)
        for name in ("blur", "sharpen", "emboss"):
            torch.testing.assert_close(F.conv2d(plain, conv.kernels(name)), torch.ones(1, 1, 8, 8))
        for name in ("Laplacian", "Sobel x", "Sobel y"):
            assert F.conv2d(plain, conv.kernels(name)).abs().max() == 0
        assert torch.equal(F.conv2d(ramp, conv.kernels("Sobel x")), torch.full((1, 1, 8, 8), 8.0))
        assert F.conv2d(ramp, conv.kernels("Sobel y")).abs().max() == 0
        assert F.conv2d(ramp.mT, conv.kernels("Sobel y")).min() == 8
        noise = torch.rand(1, 1, 50, 50, generator=torch.Generator().manual_seed(0))
        assert F.conv2d(noise, conv.kernels("blur")).std() < 0.5 * noise.std()
        assert F.conv2d(noise, conv.kernels("sharpen")).std() > 2 * noise.std()

    @pytest.mark.parametrize(("name", "shape"), [("china", (427, 640)), ("flower", (427, 640)), ("grace_hopper", (600, 512))])
    def test_photos(self, conv, name, shape):
        photo, grey = conv.load_photo(name)
        assert photo.shape == (1, 3, *shape) and grey.shape == (1, 1, *shape)
        assert 0 <= photo.min() and photo.max() <= 1
        expected = 0.299 * photo[:, 0] + 0.587 * photo[:, 1] + 0.114 * photo[:, 2]
        torch.testing.assert_close(grey[:, 0], expected)

    def test_figure_shows_the_answers(self, conv, grey):
        photo, grey = torch.rand(1, 3, 30, 40), torch.rand(1, 1, 30, 40)
        answers = conv.draw_kernels(photo, grey)
        assert answers.shape == (6, 28, 38)
        torch.testing.assert_close(answers[4:5], F.conv2d(grey, conv.kernels("Sobel x"))[0])


class TestLearning:
    def test_squares_are_of_the_picture(self, conv):
        picture = torch.arange(30.0 * 40).view(1, 1, 30, 40)
        squares = conv.cut(picture, 50, seed=0)
        assert squares.shape == (50, 1, 24, 24)
        corners = squares[:, 0, 0, 0].long()
        rows, columns = corners // 40, corners % 40
        assert rows.min() >= 0 and rows.max() == 6 and columns.max() >= 14 and len(corners.unique()) > 30
        assert torch.equal(squares[7, 0], picture[0, 0, rows[7] : rows[7] + 24, columns[7] : columns[7] + 24])

    def test_a_hidden_kernel_is_found(self, conv):
        generator = torch.Generator().manual_seed(2)
        inputs = torch.rand(8, 1, 24, 24, generator=generator) - 0.5
        hidden = conv.kernels("Sobel x", "emboss")
        path = conv.learn(inputs, F.conv2d(inputs, hidden), size=3, steps=120, lr=0.1, seed=2)
        assert path.shape == (121, 2, 1, 3, 3)
        assert (path[0] - hidden).abs().max() > 1
        assert (path[-1] - hidden).abs().max() < 0.05

    def test_main_finds_kernels_and_knows_another_photo(self, conv):
        results = conv.main(photo="china", size=3, steps=150, lr=0.1, seed=1)
        assert results["error"] < 0.002 * results["baseline_error"]
        assert results["weights_off_noise"] < 0.05 < results["weights_off_photo"] < 2  # a photo teaches slowly
        assert results["difference"] < 1e-5
        assert (results["rows_off_circular"], results["rows_off_zeros"]) == (0, 12)

    def test_check_notices_kernels_that_do_not_learn(self, conv, monkeypatch):
        monkeypatch.setattr(conv, "compare_ways", lambda dtype, size, seed: (0.0, 1.0))  # takes long, and is tested above
        monkeypatch.setattr(conv, "draw_kernels", lambda photo, grey: None)
        with pytest.raises(LessonError, match="more --steps"):
            conv.main(photo="china", size=3, steps=3, lr=0.1, seed=0)

    def test_check_notices_a_size_without_a_middle(self, conv):
        with pytest.raises(LessonError, match="--size 4"):
            conv.main(photo="china", size=4, steps=3, lr=0.1, seed=0)
