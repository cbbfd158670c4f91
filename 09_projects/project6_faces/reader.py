"""Who judges the faces: a network that reads off a face what it was asked to be, and features in which faces are compared.

A distance between sets of pictures means nothing without the name of the features in which it was measured:

    drawn faces     64 features of a network that reads the eight parameters that they were drawn with
    CelebA          64 features of a network that reads its five attributes
    others          the first principal components of EfficientNet-Lite0's features where its package is installed,
                    else the reader of drawn faces, for which photographs are a foreign country

The reader has never seen a generated face and shares nothing with the networks that make them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from project6_faces.data import pictures
from utils.datasets.faces import FaceData, faces
from utils.pretrained import load_backbone
from utils.weights import EFFICIENTNET_LITE0

FEATURES = 64
READER_STEPS = 260  # of 64 faces each
LITE0_SIZE, LITE0_FEATURES = 96, 32  # a fifth of the work of 224 pixels; components, as 80 test faces have to be more


class Reader(nn.Module):
    """Pictures (n, channels, 32, 32) in 0..1 → what they look like (n, wishes), in -1..1."""

    def __init__(self, channels: int, wishes: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),  # 16x16
            nn.Conv2d(16, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(),
            nn.Conv2d(24, 48, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(48), nn.ReLU(),  # 8x8
            nn.Conv2d(48, 64, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),  # 4x4
            nn.Flatten(), nn.Linear(64 * 16, FEATURES),
        )  # fmt: skip
        self.head = nn.Sequential(nn.BatchNorm1d(FEATURES), nn.ReLU(), nn.Linear(FEATURES, wishes))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images - 0.5))

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """(n, 64) on the CPU: what it looks at to decide."""
        return torch.cat([self.body(part.cpu() - 0.5) for part in images.split(500)])

    @torch.no_grad()
    def read(self, images: Tensor) -> Tensor:
        """(n, wishes) on the CPU."""
        return self.head(self.features(images))


@dataclass(frozen=True)
class Space:
    """Features in which faces are compared.

    Attributes:
        name: Belongs beside every distance.
        features: From pictures (n, channels, 32, 32) in 0..1 to (n, d).
        reader: Who reads attributes off a face; None where none is known.
    """

    name: str
    features: Callable[[Tensor], Tensor]
    reader: Reader | None


def train_reader(data: FaceData, steps: int = READER_STEPS, seed: int = 0) -> Reader:
    """Teach a network to read what is known of each training face: always the same for the same faces and seed.

    A little noise is added, so that it looks at more than single pixels. The global random generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        model = Reader(data.train.images.shape[1], len(data.attributes))
        optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
        for _ in range(steps):
            chosen = torch.randint(len(data.train), (64,))
            images = pictures(data.train.images[chosen])
            loss = F.mse_loss(model(images + 0.03 * torch.randn(images.shape)), data.train.wishes[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval().requires_grad_(False)


def space_for(data: FaceData) -> Space:
    """The features for a set of faces; the table at the top says which. Takes about ten seconds of one core.

    Each feature is divided by its deviation over training faces, so that none counts for more because it is larger.
    """
    reader = None
    if data.attributes:
        reader = train_reader(data)
        look, name = reader.features, f"{FEATURES} features of a network that reads {', '.join(data.attributes)}"
    elif EFFICIENTNET_LITE0.find():
        look, name = _lite0(data)
    else:
        stranger = train_reader(faces("drawn"))
        look, name = lambda images: stranger.features(colour(images)), f"{FEATURES} features of a network that reads drawn faces"
    deviation, mean = torch.std_mean(look(pictures(data.train.images[:2000])), dim=0)
    return Space(name, lambda images: (look(images) - mean) / deviation.clamp_min(1e-3), reader)


def _lite0(data: FaceData) -> tuple[Callable[[Tensor], Tensor], str]:
    """The features of a classifier of photographs, turned so that the first few differ most among these training faces."""
    backbone = load_backbone("efficientnet_lite0")
    small = replace(backbone, size=LITE0_SIZE)

    def look(images: Tensor) -> Tensor:
        return small.features(255 * colour(images)).cpu()

    known = look(pictures(data.train.images[:1000]))
    mean = known.mean(dim=0)
    _, _, directions = torch.linalg.svd(known - mean, full_matrices=False)
    name = f"{LITE0_FEATURES} principal components of EfficientNet-Lite0's features at {LITE0_SIZE} pixels, {backbone.source}"
    return lambda images: (look(images) - mean) @ directions[:LITE0_FEATURES].T, name


def colour(images: Tensor) -> Tensor:
    """Grey pictures with their one channel three times."""
    return images.expand(-1, 3, -1, -1)
