"""Quantization: rounding errors as small as they can be, bits packed as the published format has them, integers as PyTorch's."""

import pytest
import torch
from conftest import lesson
from torch import nn

from utils import gguf, paths
from utils.lesson import LessonError
from utils.weights import SMOLLM2


@pytest.fixture(scope="module")
def quantization():
    return lesson("06_advanced/quantization")


@pytest.fixture(scope="module")
def numbers():
    return torch.randn(48, 64, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.01, 30, 48)[:, None]


class TestRounding:
    @pytest.mark.parametrize("bits", [8, 6, 4, 2])
    def test_symmetric(self, quantization, numbers, bits):
        most = 2 ** (bits - 1) - 1
        found, scale = quantization.absmax(numbers, bits)
        assert found.dtype == torch.int8 and scale.shape == (48, 1)
        assert (found.abs().amax(dim=1) == most).all()  # the whole range is used
        assert ((found * scale - numbers).abs() <= scale / 2 * 1.001).all()

    @pytest.mark.parametrize("bits", [8, 4, 2])
    def test_affine(self, quantization, numbers, bits):
        x = numbers + 100  # far from 0: only the range counts
        found, scale, least = quantization.affine(x, bits)
        assert found.dtype == torch.uint8 and (found.amin(dim=1) == 0).all() and (found.amax(dim=1) == 2**bits - 1).all()
        assert ((found * scale + least - x).abs() <= scale / 2 * 1.01 + 1e-5).all()

    def test_nothing_but_zeros(self, quantization):
        zeros = torch.zeros(2, 64)
        assert not quantization.restored(zeros, 8, 32).any() and not quantization.restored(zeros, 4, 32, symmetric=False).any()
        assert not quantization.unpack_q4_1(quantization.pack_q4_1(zeros)).any()

    def test_outlier(self, quantization):
        found = quantization.one_outlier(seed=3)
        assert found["symmetric"] < 0.015 and found["beside an outlier"] > 10 * found["beside an outlier, blocks of 32"]
        assert found["after ReLU, affine"] < 0.6 * found["after ReLU, symmetric"]  # half of the symmetric numbers lie idle

    def test_table(self, quantization, numbers):
        found = quantization.error_table(torch.randn(16, 1024, generator=torch.Generator().manual_seed(1)))
        for size in (16, 32, 64, 256, 1024):
            errors = [found[bits, size] for bits in (8, 6, 4, 3, 2)]
            assert errors == sorted(errors)
            assert 3.5 < found[6, size] / found[8, size] < 4.6  # two bits, four times
        assert found[4, 16] < found[4, 32] < found[4, 64] < found[4, 256] < found[4, 1024]
        assert (paths.outputs("quantization") / "errors.png").exists()


class TestPacking:
    def test_as_the_reader_reads_it(self, quantization, numbers):
        blocks = quantization.pack_q4_1(numbers)
        assert blocks.shape == (96, 20) and blocks.dtype == torch.uint8
        assert torch.equal(quantization.unpack_q4_1(blocks), gguf.KINDS[3].read(blocks))
        found = quantization.unpack_q4_1(blocks).view(numbers.shape)
        spread = numbers.view(-1, 32).amax(dim=1) - numbers.view(-1, 32).amin(dim=1)
        worst = (found - numbers).abs().view(-1, 32).amax(dim=1)
        assert (worst <= spread / 30 * 1.05).all()  # half a step of sixteen, and the float16 of scale and minimum

    def test_places(self, quantization):
        x = torch.arange(32.0)[None] % 16
        x[0, 16] = 7.0
        block = quantization.pack_q4_1(x)[0]
        assert block[:4].view(torch.float16).tolist() == [1.0, 0.0]
        assert block[4] == 0 | 7 << 4 and block[5] == 1 | 1 << 4 and block[19] == 15 | 15 << 4

    def test_as_gguf_packs(self, quantization, numbers):
        package = pytest.importorskip("gguf")
        theirs = package.quants.quantize(numbers.numpy(), package.GGMLQuantizationType.Q4_1).reshape(-1, 20)
        ours = quantization.pack_q4_1(numbers)
        for blocks in (ours, torch.from_numpy(theirs)):
            found = quantization.unpack_q4_1(blocks).view(numbers.shape)
            assert quantization.relative_error(numbers, found) < 0.09
        assert torch.equal(ours[:, :4], torch.from_numpy(theirs)[:, :4])  # the same scales and minima

    @pytest.mark.skipif(SMOLLM2.packaged() is None, reason="needs the weights package: python -m study setup --extra models")
    def test_published(self, quantization):
        found = quantization.read_published()
        assert found["published_off"] == 0 and found["published_32"] < 0.15 < 0.3 < found["published_one"]

    def test_without_published(self, quantization, monkeypatch, capsys):
        monkeypatch.setattr("utils.weights.Published.packaged", lambda self: None)
        assert quantization.read_published() == {} and capsys.readouterr().out.count("\n") == 1


class TestNetwork:
    def test_only_matrices_are_changed(self, quantization):
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        found = quantization.quantised(model, 4, 32)
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name])
            assert torch.equal(found.state_dict()[name], tensor) == name.endswith("bias")
        assert len(found[2].weight.unique()) > 16 and len(quantization.quantised(model, 4, None)[2].weight.unique()) <= 15

    @pytest.mark.skipif(not hasattr(torch, "_int_mm"), reason="this PyTorch has no integer product")
    def test_integers_are_pytorchs(self, quantization):
        torch.manual_seed(0)
        layer, x = nn.Linear(64, 32), 5 * torch.randn(40, 64)
        found = quantization.compare_integers(layer, x)
        assert found["int_mm"] < 1e-6 and 0 < found["float"] < 0.02

    @pytest.mark.filterwarnings("ignore")
    def test_integers_are_about_those_of_dynamic_quantization(self, quantization):
        if "fbgemm" not in torch.backends.quantized.supported_engines:
            pytest.skip("PyTorch's dynamic quantization needs its fbgemm kernels")
        torch.manual_seed(0)
        layer, x = nn.Linear(64, 32), torch.randn(40, 64)
        theirs = torch.ao.quantization.quantize_dynamic(nn.Sequential(layer), {nn.Linear}, dtype=torch.qint8)(x)
        ours = quantization.Int8Linear(layer)(x)
        assert quantization.relative_error(theirs, ours) < 0.03  # theirs has one scale for the batch, and one for the matrix

    def test_mistakes(self, quantization):
        message, wrapped = quantization.meet_error()
        assert "does not require grad" in message and wrapped == -56


class TestMain:
    def test_measures(self, quantization):
        results = quantization.main(source="sample", steps=120, networks=1, lr=3e-3, device="cpu", seed=0)
        assert results["packed_off"] == 0 and results["int_mm_off"] < 1e-5
        assert abs(results["accuracy_8_32"] - results["accuracy_32_one"]) < 0.02
        assert results["loss_2_one"] > results["loss_2_32"] > results["loss_4_32"]
        assert results["accuracy_2_one"] < results["accuracy_2_32"]

    def test_check_notices_what_does_not_learn(self, quantization, monkeypatch):
        learned, judged, train, measure = [], [], quantization.train, quantization.measure
        monkeypatch.setattr(quantization, "train", lambda data, *rest: learned.append(data[0]) or train(data, *rest))
        monkeypatch.setattr(quantization, "measure", lambda model, data: judged.append(data[0]) or measure(model, data))
        with pytest.raises(LessonError, match="more --steps"):
            quantization.main(source="sample", steps=1, networks=1, lr=1e-3, device="cpu", seed=0)
        assert torch.cdist(judged[0], learned[0]).min() > 0.1, "measured on what it learned from"

    @pytest.mark.parametrize("wrong", [{"steps": 0}, {"networks": 0}, {"lr": 0.0}])
    def test_settings_that_cannot_be(self, quantization, wrong):
        with pytest.raises(LessonError, match="all above 0"):
            quantization.main(**{"source": "sample", "steps": 1, "networks": 1, "lr": 1e-3, "device": "cpu", "seed": 0} | wrong)
