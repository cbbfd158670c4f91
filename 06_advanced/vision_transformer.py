"""Vision Transformer · 비전 트랜스포머(ViT)

Cut a picture into patches, take each patch for a word, and hand the sentence to a Transformer encoder: nothing in it is made for
pictures but the cutting. Written with torchvision's names it takes torchvision's weights and gives its numbers.
그림을 패치로 잘라 패치 하나를 단어 하나로 삼고, 그 문장을 트랜스포머 인코더에 넣는다. 그림을 위해 만든 것은 자르기뿐이다.
torchvision과 같은 이름으로 쓰면 그 가중치를 그대로 읽어 같은 수를 낸다.

You will
  1. cut pictures into patches in three ways that are equal, and in a fourth that only looks so
  2. write ViT: torchvision's vit_b_16 loads strictly; outputs and gradients are equal, once they can differ at all
  3. train a small one, and make the mistake after which every picture gets the same answer
  4. give it larger pictures: the error everyone meets, and positions that are stretched
  5. draw attention rollout, and test it: cover what was looked at most, least, or anything

Before     06_advanced/multi_head_attention.py, 06_advanced/transformer.py
Run        python -m study run vision_transformer   (about 38 s on one CPU core, after importing torch)
You see    numbers equal to torchvision's; 0.42 right, nearest mean 0.24; maps that look right (rollout.png), and a doubt
Try next   --scale 0.02: positions start as quiet as torchvision's. First guess what that costs in twelve epochs
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.batches import Batches
from utils.datasets import Source, cifar10, hold_out, nearest_mean_accuracy
from utils.device import pick_device
from utils.evaluation import show_heat, show_image
from utils.lesson import check, run
from utils.plotting import save_figure
from utils.training import classification_loss, evaluate, fit


# %% 1. Patches
def cut(pictures: Tensor, patch: int) -> Tensor:
    """Cut pictures (n, channels, h, w) into patches, row by row: (n, h/patch · w/patch, channels · patch · patch)."""
    n, channels, height, width = pictures.shape
    grid = pictures.view(n, channels, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(n, -1, channels * patch * patch)  # (n, rows, columns, channels, patch, patch)


def compare_patches(patch: int, width: int, seed: int) -> dict[str, float]:
    """Return how far three ways to embed patches are apart, and a view that forgets to permute from all of them."""
    torch.manual_seed(seed)
    pictures, conv = torch.randn(2, 3, 4 * patch, 6 * patch), nn.Conv2d(3, width, patch, stride=patch)
    patches = cut(pictures, patch), F.unfold(pictures, patch, stride=patch).transpose(1, 2), pictures.view(2, 24, -1)
    ours, unfolded, wrong = (F.linear(one, conv.weight.flatten(1), conv.bias) for one in patches)  # (2, 24, width)
    right = conv(pictures).flatten(2).transpose(1, 2)  # (2, width, 4, 6) → (2, 24, width)
    apart, view = max((one - right).abs().max().item() for one in (ours, unfolded)), (wrong - right).abs().max().item()
    print(f"1. cut, unfold and a strided convolution agree within {apart:.0e}; a view of the same shape is off by {view:.1f}")
    return {"patches": apart, "view": view}


# %% 2. The network, with torchvision's names
class EncoderBlock(nn.Module):
    """Look around, then think, each on normed input and added to what was there (pre-norm): (n, tokens, width) → the same."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)  # multi_head_attention.py builds it by hand
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, width))  # named 0 and 3

    def forward(self, x: Tensor, tell: bool) -> tuple[Tensor, Tensor | None]:  # and, to `tell`: who looked at whom
        normed = self.ln_1(x)
        looked, weights = self.self_attention(normed, normed, normed, need_weights=tell, average_attn_weights=False)
        x = x + looked
        return x + self.mlp(self.ln_2(x)), weights


class VisionTransformer(nn.Module):
    """Pictures (n, 3, size, size) → logits (n, classes). Dosovitskiy et al., 2020, https://arxiv.org/abs/2010.11929."""

    def __init__(self, size: int, patch: int, depth: int, heads: int, width: int, hidden: int, classes: int, scale: float):
        super().__init__()
        self.conv_proj = nn.Conv2d(3, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))  # a word of its own, which gathers the answer
        self.encoder = nn.Module()  # nothing but the first half of torchvision's names
        self.encoder.pos_embedding = nn.Parameter(scale * torch.randn(1, (size // patch) ** 2 + 1, width))
        blocks = {f"encoder_layer_{i}": EncoderBlock(width, heads, hidden) for i in range(depth)}
        self.encoder.layers, self.encoder.ln = nn.ModuleDict(blocks), nn.LayerNorm(width, eps=1e-6)
        self.heads = nn.ModuleDict({"head": nn.Linear(width, classes)})

    def look(self, pictures: Tensor, tell: bool = True) -> tuple[Tensor, list[Tensor | None]]:
        """Return logits, and of each block who looked at whom, (n, heads, tokens, tokens)."""
        x, weights = self.conv_proj(pictures).flatten(2).transpose(1, 2), []  # (n, width, rows, columns) → (n, patches, width)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.encoder.pos_embedding
        for block in self.encoder.layers.values():
            x, looked = block(x, tell)
            weights.append(looked)
        return self.heads.head(self.encoder.ln(x)[:, 0]), weights

    def forward(self, pictures: Tensor) -> Tensor:
        return self.look(pictures, tell=False)[0]


def compare_with_torchvision(size: int, patch: int, depth: int, heads: int, width: int, hidden: int, seed: int) -> float:
    """Load torchvision's weights into ours; return the largest relative difference of logits and gradients."""
    from torchvision import models

    torch.manual_seed(seed)
    settings, found, pictures = (size, patch, depth, heads, width, hidden), [], torch.randn(1, 3, size, size)
    theirs, ours = models.VisionTransformer(*settings), VisionTransformer(*settings, classes=1000, scale=0.02)
    check(not theirs(pictures).any(), "torchvision's head no longer starts at 0")  # 0 = 0 would prove nothing, therefore:
    for name, parameter in theirs.named_parameters():
        if parameter.dim() == 1 or name in ("class_token", "heads.head.weight"):
            nn.init.normal_(parameter, mean=1.0 if ".ln" in name and "weight" in name else 0.0, std=0.1)
    ours.load_state_dict(theirs.state_dict())  # strict: every name and every shape must agree
    for model in (ours, theirs):
        names, parameters = zip(*sorted(model.named_parameters()), strict=True)
        logits = model(pictures)
        found.append([logits.detach(), *torch.autograd.grad(logits.square().mean(), parameters)])
    difference = max(((one - other).abs().max() / other.abs().max()).item() for one, other in zip(*found, strict=True))
    print(f"2. {len(names)} tensors of a ViT of {depth} blocks load; logits and all gradients within {difference:.0e}")
    return difference


# %% 3. A small one learns
def augment(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Move a batch by up to 4 pixels, and mirror a random half of it."""
    (top, left), mirrored = torch.randint(9, (2,), generator=generator), torch.rand(len(pictures), generator=generator) < 0.5
    moved = F.pad(pictures, [4] * 4, mode="reflect")[:, :, top : top + 32, left : left + 32]
    return torch.where(mirrored.view(-1, 1, 1, 1).to(moved.device), moved.flip(3), moved)


def train(model: nn.Module, data: tuple[Tensor, Tensor], epochs: int, lr: float, seed: int) -> None:
    """Train with AdamW on batches of 64, the rate rising, then falling to zero."""
    batches = Batches(*data, batch_size=64, drop_last=True, transform=augment, device=data[0].device, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * len(batches))
    fit(model, batches, optimizer, classification_loss, epochs=epochs, scheduler=schedule, clip_norm=1.0)


def accuracy(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    """The share of right answers."""
    return evaluate(model, Batches(*data, batch_size=500, shuffle=False, device=data[0].device))["accuracy"]


@torch.no_grad()
def forget_batch_first(model: VisionTransformer, pictures: Tensor) -> tuple[float, float]:
    """Return how much logits vary between pictures, as they should and with PyTorch's default, batch_first=False."""
    mixed = copy.deepcopy(model.eval())
    for block in mixed.encoder.layers.values():
        block.self_attention.batch_first = False  # pictures are taken for words: class tokens see class tokens, all alike
    right, wrong = (network(pictures).std(dim=0).mean().item() for network in (model, mixed))
    print(f"   logits vary by {right:.2f} between pictures; without batch_first=True by {wrong:.2f}, and no message")
    return right, wrong


# %% 4. Larger pictures
def stretch(positions: Tensor, side: int) -> Tensor:
    """Interpolate (1, 1 + old · old, width) for side x side patches: (1, 1 + side · side, width). The token keeps its own."""
    old = int((positions.shape[1] - 1) ** 0.5)
    grid = positions[:, 1:].transpose(1, 2).unflatten(2, (old, old))  # (1, width, old, old)
    grid = F.interpolate(grid, (side, side), mode="bicubic", align_corners=True)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def enlarge(model: VisionTransformer, data: tuple[Tensor, Tensor], size: int) -> tuple[str, float]:
    """Show the network pictures of size x size; return PyTorch's answer, and the accuracy with stretched positions."""
    pictures, model, message = F.interpolate(data[0], (size, size), mode="bilinear"), copy.deepcopy(model), ""
    try:
        model(pictures[:2])
    except RuntimeError as error:
        message = str(error)
        print(f'4. "{message}"\n   read: more patches than positions were learned for (one more is the class token\'s): stretch')
    model.encoder.pos_embedding = nn.Parameter(stretch(model.encoder.pos_embedding.detach(), size // model.conv_proj.stride[0]))
    right = accuracy(model, (pictures, data[1]))
    print(f"   {right:.3f} right on the same pictures, {size}x{size}")
    return message, right


# %% 5. Rollout
def rollout(weights: list[Tensor]) -> Tensor:
    """Follow attention through all blocks (Abnar and Zuidema, 2020): who is made of whom, (n, tokens, tokens); rows sum to 1."""
    same = total = torch.eye(weights[0].shape[-1], device=weights[0].device)
    for block in weights:  # (n, heads, tokens, tokens); half of what leaves it came in past the attention
        total = (block.mean(dim=1) + same) / 2 @ total  # the later block from the left
    return total


@torch.no_grad()
def look_at(model: VisionTransformer, pictures: Tensor) -> Tensor:
    """Return what the class token is made of, as shares of the patches, (n, rows, columns)."""
    shares = torch.cat([rollout(model.eval().look(part)[1])[:, 0, 1:] for part in pictures.split(250)])
    return (shares / shares.sum(dim=1, keepdim=True)).unflatten(1, (pictures.shape[2] // model.conv_proj.stride[0], -1))


def compare_covers(model: VisionTransformer, data: tuple[Tensor, Tensor], share: float) -> dict[str, float]:
    """Return accuracies with a share of the patches grey: those looked at most, least, or most in another picture."""
    maps, found = look_at(model, data[0]), {}
    for name, scores in {"most": maps, "least": -maps, "another": maps.roll(1, dims=0)}.items():
        ranks = scores.flatten(1).argsort(dim=1, descending=True).argsort(dim=1).view_as(scores)  # 0 is the highest score's
        kept = (ranks >= share * scores[0].numel()).unsqueeze(1).float()  # (n, 1, rows, columns)
        covered = data[0] * F.interpolate(kept, data[0].shape[2:])  # 0 is a picture's mean
        found[f"covered_{name}"] = accuracy(model, (covered, data[1]))
    print(f"5. right with {share:.0%} of the patches", ", ".join(f"{name} {right:.3f}" for name, right in found.items()))
    return found


def draw_rollout(images: Tensor, maps: Tensor) -> None:
    """Draw pictures (n, 3, h, w) of bytes above, and below them what the class token is made of, (n, rows, columns)."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(images), figsize=(1.5 * len(images), 3.3), layout="constrained")
    heat = F.interpolate(maps[:, None], images.shape[2:], mode="bilinear")[:, 0]
    for (above, below), image, one in zip(axes.T, images, heat / heat.amax(dim=(1, 2), keepdim=True), strict=True):
        show_image(above, image)
        show_heat(below, image, one)
    save_figure(figure, __file__, "rollout")


# %% All of it, in order
def main(epochs: int = 12, scale: float = 1.0, source: Source = "auto", device: str = "auto", seed: int = 0) -> dict[str, float]:
    """Build ViT, show it equal to torchvision's, train a small one, and look at what it looks at.

    Args:
        epochs: How often the network sees its 5,000 pictures.
        scale: Standard deviation of the positions at the start; torchvision has 0.02.
        source: Pictures from: auto (CIFAR-10 if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps; for the training.
        seed: Seed of everything that is drawn.
    """
    check(epochs > 0 and scale >= 0, f"--epochs {epochs} --scale {scale}: at least 1 epoch, and no less than 0")
    where, data = pick_device(device), cifar10(source)
    results = compare_patches(16, 64, seed)
    results["difference"] = compare_with_torchvision(224, 16, 12, 12, 768, 3072, seed)  # vit_b_16
    check(max(results["difference"], results["patches"]) < 1e-4, f"other numbers than torchvision's: {results}")
    parts = hold_out(data.train, 5000, seed)[1], hold_out(data.test, 2000, seed)[1]  # files may be sorted by class
    known, test = ((F.layer_norm(part.images.to(where).float(), (3, 32, 32)), part.labels.to(where)) for part in parts)
    results["baseline"] = max(parts[1].labels.bincount().max().item() / len(parts[1]), nearest_mean_accuracy(*parts))
    torch.manual_seed(seed)
    model = VisionTransformer(32, 8, depth=4, heads=4, width=64, hidden=128, classes=10, scale=scale).to(where)
    train(model, known, epochs, 0.002, seed)
    results["accuracy"] = accuracy(model, test)
    print(f"3. {results['accuracy']:.3f} right on pictures never seen, nearest mean {results['baseline']:.3f}")
    results["vary"], results["vary_mixed"] = forget_batch_first(model, test[0][:100])
    results |= {"larger": enlarge(model, test, 48)[1], **compare_covers(model, test, 0.25)}
    draw_rollout(parts[1].images[:8], look_at(model, test[0][:8]).cpu())
    right, needed = results["accuracy"], results["baseline"] + 0.08
    check(right > needed and results["vary"] > 0.1, f"{right:.1%} right, needed are {needed:.1%}: more --epochs?")
    return results


if __name__ == "__main__":
    run(main)
