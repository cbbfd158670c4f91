"""Files: what is in them, what they may do, and where their tensors go."""

import importlib.util
import pickle

import pytest
import torch
from conftest import lesson

from utils.device import pick_device
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def files():
    return lesson("03_training/checkpoint_files")


@pytest.fixture(scope="module")
def weights(files):
    torch.manual_seed(0)
    return files.Network(classes=10).state_dict()


@pytest.fixture
def checkpoint(weights, tmp_path):
    torch.save(weights, tmp_path / "digits.pt")
    return tmp_path / "digits.pt"


class TestZip:
    def test_a_tensor_is_found_byte_for_byte(self, files, weights, checkpoint):
        names, found = files.unzip(checkpoint, weights["body.1.weight"])
        assert "data.pkl" in names and found == "data/0"
        assert files.unzip(checkpoint, weights["head.bias"])[1] == "data/8"


class TestSurprise:
    def test_refused_and_allowed(self, files, tmp_path):
        message, refused_ran, allowed_ran = files.load_surprise(tmp_path)
        assert "mkdir" in message and "GLOBAL" in message
        assert not refused_ran and allowed_ran
        assert (tmp_path / "made_by_the_checkpoint").is_dir()

    def test_refusal_is_for_the_code_and_not_for_the_name(self, files, tmp_path):
        torch.save({"config": {"classes": 10}, "weights": torch.ones(2)}, tmp_path / "plain.pt")
        assert torch.load(tmp_path / "plain.pt", weights_only=True)["config"] == {"classes": 10}
        with open(tmp_path / "bare.pt", "wb") as file:
            pickle.dump(files.Surprise(tmp_path / "never"), file, protocol=2)  # as torch.save does
        with pytest.raises(pickle.UnpicklingError):
            torch.load(tmp_path / "bare.pt", weights_only=True)
        assert not (tmp_path / "never").exists()


class TestDevices:
    def test_map_location_decides(self, files, weights, checkpoint):
        message, places = files.move(checkpoint)
        assert places[:2] == ["cpu", "meta"]
        loaded = torch.load(files.as_from_a_gpu(checkpoint), map_location="cpu", weights_only=True)
        assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
        if torch.cuda.is_available():
            pytest.skip("there is a CUDA device: the file is loaded onto it without an error")
        assert "CUDA" in message

    def test_onto_the_device_that_is_here(self, files, checkpoint):
        device = pick_device("auto")
        if device.type == "cpu":
            pytest.skip("no CUDA or MPS device here")
        assert files.move(checkpoint)[1] == ["cpu", "meta", device.type]


class TestSafetensors:
    TENSORS = {
        "a": torch.arange(6, dtype=torch.float32).view(2, 3),
        "turned": torch.arange(6.0).view(2, 3).T,  # not contiguous
        "half": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
        "scalar": torch.tensor(7),
    }

    def test_bytes_by_hand(self, files, tmp_path):
        files.write_safetensors(tmp_path / "x", {"w": torch.tensor([1.0, 2.0])})
        content = (tmp_path / "x").read_bytes()
        header = b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
        length = -(-len(header) // 8) * 8
        assert content == length.to_bytes(8, "little") + header.ljust(length) + bytes.fromhex("0000803f00000040")

    def test_round_trip(self, files, tmp_path):
        files.write_safetensors(tmp_path / "x", self.TENSORS)
        back = files.read_safetensors(tmp_path / "x")
        assert list(back) == list(self.TENSORS)
        for name, tensor in self.TENSORS.items():
            assert back[name].dtype == tensor.dtype and torch.equal(back[name], tensor)
            back[name].zero_()  # writable

    def test_truncated_file_is_noticed(self, files, tmp_path):
        files.write_safetensors(tmp_path / "x", self.TENSORS)
        (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:-1])
        with pytest.raises(LessonError, match="scalar"):
            files.read_safetensors(tmp_path / "x")

    def test_real_package_agrees(self, files, tmp_path):
        if importlib.util.find_spec("safetensors") is None:
            pytest.skip("the package safetensors is not installed")
        assert files.compare_safetensors(tmp_path, {name: tensor.contiguous() for name, tensor in self.TENSORS.items()})


class TestHead:
    def test_strictness(self, files, weights):
        message, missing, loaded = files.transplant(weights)
        assert "size mismatch for head.weight" in message
        assert missing == ["head.weight", "head.bias"]
        assert loaded == 0

    def test_body_is_loaded_frozen_and_used(self, files, weights, monkeypatch):
        from utils.datasets import mnist

        data = mnist("sample")
        trained = []
        monkeypatch.setattr(files, "train", lambda network, *rest: trained.append((network, network.body.training)))
        for body in (weights, {}):
            files.learn_parity(body, data.train[:20], data.test, steps=1, lr=0.003, seed=1)
        (loaded, measures), (fresh, fresh_measures) = trained
        assert not measures and fresh_measures  # or a few pictures would overwrite what batch normalisation remembers
        assert not loaded.training and not fresh.training
        assert torch.equal(loaded.body[1].weight, weights["body.1.weight"])
        assert not any(parameter.requires_grad for parameter in loaded.body.parameters())
        assert not torch.equal(fresh.body[1].weight, weights["body.1.weight"])
        assert all(parameter.requires_grad for parameter in fresh.parameters())


class TestMain:
    def test_loaded_body_is_worth_something(self, files):
        results = files.main(steps=300, few=50, repeats=6, source="sample", seed=0)
        assert results["accuracy"] > results["baseline_accuracy"]
        assert results["accuracy"] > 0.86

    def test_check_notices_a_body_that_knows_nothing(self, files):
        with pytest.raises(LessonError, match="body"):
            files.main(steps=3, few=50, repeats=2, source="sample", seed=0)
