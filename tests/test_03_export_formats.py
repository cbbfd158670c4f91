"""Formats and runtimes: all of them answer alike, in 8 bits nearly; what a file may do is told. No time is asserted."""

import io
import os
import sys
import zipfile

import pytest
import torch
from conftest import lesson
from torch import nn

from utils import paths
from utils.datasets import mnist
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def formats():
    return lesson("03_training/export_formats")


@pytest.fixture(scope="module")
def digits():
    data = mnist("sample")
    return [(part.images.float() / 255, part.labels) for part in (data.train, data.test)]


@pytest.fixture(scope="module")
def network(formats, digits):
    """Narrow, and trained a little."""
    torch.manual_seed(1)
    network = formats.make_network(width=32)
    formats.train(network, *digits[0], steps=60, lr=3e-3, seed=1)
    return network


@pytest.fixture
def onnx():
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs python -m study setup --extra onnx")


class Surprise:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


class TestInt8:
    def test_is_pytorchs_own(self, formats, network, digits):
        off, lost = formats.compare_int8(network, digits[1][0])
        assert off < 5e-3  # both round; where x / scale ends in .5 they may round to different sides
        assert 1e-4 < lost < 0.1

    def test_by_hand(self, formats):
        layer = nn.Linear(2, 1)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[0.51, -1.275]]))  # a scale of 0.01
            layer.bias.fill_(0.5)
        ours = formats.Int8Linear(layer, levels=127)
        assert ours.numbers.tolist() == [[51, -127]] or ours.numbers.tolist() == [[51, -128]]
        x = torch.tensor([[1.27, 0.0]])  # a scale of 0.01, zero at level 0
        torch.testing.assert_close(ours(x), torch.tensor([[1.27 * 0.51 + 0.5]]))
        x = torch.tensor([[-1.0, 0.27]])  # zero at level 100
        torch.testing.assert_close(ours(x), torch.tensor([[-0.51 + ours.numbers[0, 1] * 0.01 * 0.27 + 0.5]]))
        x = torch.tensor([[0.634, 1.27]])  # 0 is a level though no input is 0, so the scale is 0.01 and 0.634 becomes 0.63
        torch.testing.assert_close(ours(x), torch.tensor([[0.51 * 0.63 + ours.numbers[0, 1] * 0.01 * 1.27 + 0.5]]))
        assert torch.equal(ours(torch.zeros(1, 2)), torch.tensor([[0.5]]))  # no division by nothing

    def test_levels_decide_the_error(self, formats, network, digits):
        with torch.no_grad():
            exact = network(digits[1][0])
            errors = [(formats.quantised(network, levels)(digits[1][0]) - exact).norm() for levels in (7, 31, 127)]
        assert errors[0] > 2 * errors[1] > 4 * errors[2] / 2

    def test_the_network_itself_stays(self, formats, network):
        small = formats.quantised(network, levels=127)
        assert [type(layer).__name__ for layer in small].count("Int8Linear") == 2
        assert isinstance(network[-1], nn.Linear) and small[0] is network[0]

    def test_another_network_is_told(self, formats, network):
        assert "numbers" in formats.meet_names(network)


class TestFiles:
    def test_plain_ones_answer_alike(self, formats, network, digits, tmp_path):
        written = formats.write_files(network, digits[1][0], tmp_path, compiled=False)
        assert {"eager", "torch.export", "torch int8"} <= set(written)
        with torch.no_grad():
            table = formats.measure({name: model for name, (model, _) in written.items()}, *digits[1], rounds=1)
        assert table["eager"]["off"] == table["eager"]["other"] == 0
        assert table["torch.export"]["off"] < 1e-5
        assert 0 < table["torch int8"]["off"] and table["torch int8"]["other"] < 0.02
        sizes = {name: file.stat().st_size for name, (_, file) in written.items()}
        weights = sum(p.numel() for p in network.parameters())
        assert 4 * weights < sizes["eager"] < 4 * weights + 10_000
        assert sizes["torch int8"] < 0.5 * sizes["eager"]

    def test_onnx_answers_alike(self, onnx, formats, network, digits, tmp_path):
        written = formats.write_onnx(network, digits[1][0], tmp_path)
        table = formats.measure(
            {"eager": network} | {name: model for name, (model, _) in written.items()},
            *(part[:100] for part in digits[1]),
            rounds=1,
        )
        assert table["ONNX"]["off"] < 1e-4 and 1e-4 < table["ONNX int8"]["off"]
        assert table["ONNX int8"]["other"] < 0.05
        assert {formats.kinds_inside(file) for _, file in written.values()} == {"nothing"}

    def test_without_onnx_in_one_line(self, formats, network, digits, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "onnx", None)
        assert formats.write_onnx(network, digits[1][0], tmp_path) == {}
        assert capsys.readouterr().out.strip().endswith("is not installed (python -m study setup --extra onnx)")

    def test_without_a_compiler_in_one_line(self, formats, network, tmp_path, monkeypatch, capsys):
        def fail(*arguments, **keywords):
            raise RuntimeError("Compiler: cl is not found.\nand a long traceback")

        monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", fail)
        assert formats.write_native(network, None, tmp_path) == {}
        assert capsys.readouterr().out.strip() == "without compiled ones: Compiler: cl is not found."

    @pytest.mark.slow  # a C++ compiler takes half a minute
    def test_compiled_ones_answer_alike(self, formats, network, digits, tmp_path):
        written = formats.write_files(network, digits[1][0], tmp_path, compiled=True)
        if "AOTInductor" not in written:
            pytest.skip("no C++ compiler")
        with torch.no_grad():
            table = formats.measure({name: model for name, (model, _) in written.items()}, *digits[1], rounds=1)
        assert table["AOTInductor"]["off"] < 1e-4 and table["torch.compile"]["off"] < 1e-4
        assert "machine code" in formats.kinds_inside(written["AOTInductor"][1])


class TestTable:
    def test_the_first_is_the_yardstick(self, formats, digits):
        pictures, labels = digits[1]

        def always(answer):
            return lambda x: torch.eye(10)[torch.full((len(x),), answer)]

        table = formats.measure({"three": always(3), "also": always(3), "five": always(5)}, pictures, labels, rounds=2)
        assert table["also"]["off"] == table["also"]["other"] == 0
        assert table["five"]["off"] == 1 and table["five"]["other"] == 1
        assert table["five"]["right"] == pytest.approx((labels == 5).float().mean().item())
        assert all(row["ms_1"] >= 0 and row["ms_32"] >= 0 for row in table.values())

    def test_what_may_run_is_found(self, formats, tmp_path):
        torch.save({"weights": torch.ones(2)}, tmp_path / "weights.pt")
        assert formats.kinds_inside(tmp_path / "weights.pt") == "pickle"
        with zipfile.ZipFile(tmp_path / "native.pt2", "w") as archive:
            archive.writestr("model/wrapper.so", b"\x7fELF")
        assert formats.kinds_inside(tmp_path / "native.pt2") == "machine code"
        with zipfile.ZipFile(tmp_path / "plain.pt2", "w") as archive:
            archive.writestr("model/weight_0", b"\x00" * 8)
        assert formats.kinds_inside(tmp_path / "plain.pt2") == "nothing"

    def test_a_pt2_can_carry_a_surprise(self, formats, tmp_path):
        """The notes say so: torch.export.load unpickles what the file's own list calls pickled."""
        file, changed, made, pickled = tmp_path / "a.pt2", tmp_path / "b.pt2", tmp_path / "made", io.BytesIO()
        torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), file)
        torch.save(Surprise(made), pickled)
        with zipfile.ZipFile(file) as old, zipfile.ZipFile(changed, "w") as new:
            if not any(name.endswith("weights_config.json") for name in old.namelist()):
                pytest.skip("this version of PyTorch lays the file out differently")
            for name in old.namelist():
                content = old.read(name).replace(b'"use_pickle": false', b'"use_pickle": true')
                new.writestr(name, pickled.getvalue() if name.endswith("/weight_0") else content)
        assert formats.kinds_inside(changed) == "pickle" and not made.exists()
        with pytest.raises(Exception):  # noqa: B017  afterwards, from somewhere inside
            torch.export.load(changed)
        assert made.is_dir()


class TestMain:
    def test_learns_and_all_agree(self, formats):
        flags = {"steps": 60, "width": 32, "lr": 3e-3, "compiled": False, "rounds": 1, "source": "sample", "seed": 0}
        results = formats.main(**flags)
        assert results["right_eager"] > results["baseline"] > 0.8
        assert results["off_torch_export"] < 1e-4 and results["other_torch_int8"] < 0.02
        assert (paths.models("export_formats") / "digits.pt2").exists()

    def test_check_notices_a_runtime_that_answers_otherwise(self, formats, monkeypatch):
        real = formats.write_files

        def wrong(network, pictures, folder, compiled):
            found = real(network, pictures, folder, compiled)
            model, file = found["torch.export"]
            return {"eager": found["eager"], "torch.export": (lambda x: model(x) + 1e-3, file)}

        monkeypatch.setattr(formats, "write_files", wrong)
        with pytest.raises(LessonError, match="torch.export answers otherwise"):
            formats.main(steps=60, width=32, lr=3e-3, compiled=False, rounds=1, source="sample", seed=0)

    @pytest.mark.parametrize("flags", [{"steps": 0}, {"width": 0}, {"lr": 0.0}, {"rounds": 0}])
    def test_flags_that_cannot_be(self, formats, flags):
        fine = {"steps": 1, "width": 8, "lr": 1e-3, "compiled": False, "rounds": 1, "source": "sample", "seed": 0}
        with pytest.raises(LessonError, match="all above 0"):
            formats.main(**fine | flags)
