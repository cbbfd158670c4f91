"""utils.pretrained: which weights are taken, that a wrong file is never read, and that features are the network's."""

import io
import os
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
import torch
from torch import nn

from utils import lesson, pretrained
from utils.lesson import LessonError
from utils.networks.efficientnet_lite import EfficientNetLite0, rename_published
from utils.pretrained import Backbone, load_backbone
from utils.weights import EFFICIENTNET_LITE0, sha256


class Trap:
    """What a hostile file holds: loading it makes a folder."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (os.mkdir, (str(self.trace),))


def published_names(network: EfficientNetLite0) -> dict[str, torch.Tensor]:
    """The inverse of rename_published, from the positions of the tensors."""
    layers, names = ["_conv_stem", "_bn0"], []
    for number in range(16):
        parts = ["_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
        layers += [f"_blocks.{number}.{part}" for part in ([] if number == 0 else ["_expand_conv", "_bn0"]) + parts]
    layers += ["_conv_head", "_bn1", "_fc"]
    for layer in layers:
        kinds = ["weight", "bias"] if layer == "_fc" else ["weight"]
        if "_bn" in layer:
            kinds = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
        names += [f"{layer}.{kind}" for kind in kinds]
    return dict(zip(names, network.state_dict().values(), strict=True))


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """A machine without weights and without a network."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(pretrained, "EFFICIENTNET_LITE0", replace(EFFICIENTNET_LITE0, package="a-package-that-nobody-has"))

    def unreachable(url, timeout):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    return tmp_path


def expect(monkeypatch, file) -> None:
    """Let this be the file that the package should hold."""
    published = replace(EFFICIENTNET_LITE0, package="some-weights", file=file.name, sha256=sha256(file))
    monkeypatch.setattr(pretrained, "EFFICIENTNET_LITE0", published)


@pytest.fixture
def package(nothing, installed, monkeypatch):
    """The same machine with a package of random EfficientNet weights: the file."""
    torch.manual_seed(0)
    file = installed("some-weights", "lite0.pth", b"")
    torch.save(published_names(EfficientNetLite0().eval()), file)
    expect(monkeypatch, file)
    return file


@pytest.fixture
def resnet(nothing, monkeypatch):
    """A file of random ResNet-18 weights, not in the cache yet: (network, file)."""
    from torchvision.models import resnet18

    torch.manual_seed(1)
    network = resnet18().eval()
    file = nothing / "resnet18.pth"
    torch.save(network.state_dict(), file)
    monkeypatch.setattr(pretrained, "RESNET18_SHA256", sha256(file)[:8])
    return network, file


def put_into_cache(file) -> None:
    target = pretrained.resnet18_file()
    target.parent.mkdir(parents=True)
    target.write_bytes(file.read_bytes())


class TestOrder:
    def test_without_any_weights_there_is_none(self, nothing, capsys):
        assert load_backbone("auto") is None
        assert load_backbone("own") is None
        assert load_backbone("auto", download=True) is None
        assert "Going on without ResNet-18" in capsys.readouterr().out

    def test_the_package_is_taken_where_the_cache_is_empty(self, package):
        assert load_backbone("auto").source.startswith("EfficientNet-Lite0, ImageNet-1k")
        assert load_backbone("auto", download=True).source.startswith("EfficientNet-Lite0")
        assert load_backbone("own") is None

    def test_the_official_weights_come_first(self, package, resnet):
        put_into_cache(resnet[1])
        assert load_backbone("auto").source.startswith("ResNet-18, ImageNet-1k")
        assert load_backbone("efficientnet_lite0").source.startswith("EfficientNet-Lite0")

    def test_by_name_or_not_at_all(self, nothing):
        with pytest.raises(LessonError, match="resnet18-f37072fd.pth could not be downloaded .no network"):
            load_backbone("resnet18")
        with pytest.raises(LessonError, match="study setup --extra models"):
            load_backbone("efficientnet_lite0")

    def test_what_was_taken_is_in_the_report(self, package, monkeypatch):
        monkeypatch.setattr(lesson, "_mentioned", {})
        backbone = load_backbone("auto")
        assert lesson._mentioned["data"] == [f"weights: {backbone.source}"]


class TestWrongFiles:
    @pytest.mark.parametrize("damage", ["truncated", "hostile"])
    def test_nothing_in_it_is_read(self, package, damage, tmp_path):
        if damage == "truncated":
            package.write_bytes(package.read_bytes()[:1000])
        else:
            torch.save({"_fc.weight": Trap(tmp_path / "trace")}, package)
        with pytest.raises(LessonError, match="not the file that it should be .* nothing in it was read"):
            load_backbone("auto")
        assert not (tmp_path / "trace").exists()

    def test_even_with_the_right_checksum_no_code_runs(self, package, monkeypatch, tmp_path):
        torch.save({"_fc.weight": Trap(tmp_path / "trace")}, package)
        expect(monkeypatch, package)
        with pytest.raises(LessonError, match="refused"):
            load_backbone("efficientnet_lite0")
        assert not (tmp_path / "trace").exists()

    def test_damaged_cache_is_told(self, resnet):
        put_into_cache(resnet[1])
        pretrained.resnet18_file().write_bytes(b"half a file")
        with pytest.raises(LessonError, match="delete it"):
            load_backbone("auto")


class TestDownload:
    @pytest.fixture
    def server(self, resnet, monkeypatch):
        """A server that sends what `server.content` holds."""
        sent = type("Server", (), {"content": resnet[1].read_bytes()})

        class Response(io.BytesIO):
            def peek(self, count):
                return b""

        monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Response(sent.content))
        return sent

    @pytest.mark.parametrize(("weights", "download"), [("resnet18", False), ("auto", True)])
    def test_lands_in_torchs_cache(self, server, resnet, weights, download):
        backbone = load_backbone(weights, download=download)
        assert backbone.source.startswith("ResNet-18")
        assert pretrained.resnet18_file().read_bytes() == resnet[1].read_bytes()

    def test_another_file_is_thrown_away(self, server):
        server.content = b"<html>please log in</html>"
        with pytest.raises(LessonError, match="another file"):
            load_backbone("resnet18")
        assert not list(pretrained.resnet18_file().parent.iterdir())

    def test_auto_never_downloads_by_itself(self, server):
        assert load_backbone("auto") is None

    def test_connection_that_breaks(self, server, resnet, monkeypatch):
        class Breaks(io.BytesIO):
            def peek(self, count):
                return b""

            def read(self, count):
                raise ConnectionResetError("gone")

        monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Breaks())
        with pytest.raises(LessonError, match="could not be downloaded .gone"):
            load_backbone("resnet18")
        assert not list(pretrained.resnet18_file().parent.iterdir())


class TestBackbone:
    def test_features_are_the_networks(self, package):
        backbone = load_backbone("efficientnet_lite0")
        network = EfficientNetLite0().eval()
        network.load_state_dict(rename_published(torch.load(package, weights_only=True)))
        images = torch.randint(0, 256, (3, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = network.stages((images.float() - 127) / 128)
        found = backbone.features(images, batch_size=2)
        assert found.shape == (3, backbone.width) == (3, 1280)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    def test_resnets_stages_make_up_the_network(self, resnet):
        put_into_cache(resnet[1])
        backbone = load_backbone("resnet18")
        x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            logits = backbone.classifier(backbone.stages(x))
            torch.testing.assert_close(logits, resnet[0](x), rtol=1e-4, atol=1e-5)
        assert len(backbone.stages) == 6 and backbone.width == 512

    def test_prepare_normalises_and_resizes(self):
        identity = nn.Sequential(nn.Flatten())
        backbone = Backbone(identity, nn.Linear(3 * 4 * 4, 2), 4, (10.0, 20.0, 30.0), (1.0, 2.0, 5.0), "none")
        images = torch.tensor([12, 26, 45], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 8, 8)
        x = backbone.prepare(images)
        assert x.shape == (2, 3, 4, 4)
        torch.testing.assert_close(x[0, :, 0, 0], torch.tensor([2.0, 3.0, 3.0]))
        assert backbone.width == 48

    def test_features_leave_the_batch_norms_alone(self):
        norm = nn.BatchNorm2d(3)
        backbone = Backbone(nn.Sequential(norm, nn.Flatten()), nn.Linear(12, 2), 2, (0.0,) * 3, (1.0,) * 3, "none")
        norm.train()
        assert not backbone.features(torch.full((4, 3, 2, 2), 200, dtype=torch.uint8)).requires_grad
        assert not norm.running_mean.any()
