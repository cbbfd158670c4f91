"""Losses for rare things · 드문 것을 찾기 위한 손실 함수

One pixel in a hundred belongs to what is looked for. Cross entropy learns that, too, and says how sure it is; weights, focal loss
and Dice move the answers, and what comes out is no probability any more. A threshold moves the answers as well.
찾는 것은 픽셀 백 개 가운데 하나다. 교차 엔트로피도 그것을 배우고, 얼마나 확실한지까지 말한다. 가중치, 포컬 손실, Dice는 답을
옮기지만 그러고 나면 출력은 더 이상 확률이 아니다. 답은 문턱값으로도 옮길 수 있다.

You will
  1. write out four losses, equal to PyTorch's, to torchvision's and to counting pixels
  2. meet the error everyone meets, and the same mistake without a message
  3. see what false alarms in a picture without anything teach: by Dice the less, the more there are
  4. train with each loss, over seeds, to find wires a pixel or two thick; and choose a threshold for each
  5. hold claims against the truth, and turn the claims of a weighted network back into probabilities

Before     08_computer_vision/image_segmentation.py, 04_cnn/calibration.py
Run        python -m study run segmentation_losses      (about 50 s on one CPU core, after importing torch)
You see    IoU 0.30 by cross entropy, 0.36 with its threshold chosen; Dice 0.32, 87 % sure where 54 % are right; thresholds.png
Try next   --steps 300 --seeds 1: first guess whether cross entropy at 0.5 catches up with Dice; then look at "dice by picture"
Theory     notes/en/08_computer_vision.md · notes/ko/08_computer_vision.md
Practise   python -m study check 08
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import draw_scenes
from utils.datasets.boxes import Masked
from utils.datasets.scenes import Split
from utils.device import pick_device
from utils.lesson import check, run
from utils.mask_augmentation import crop_and_zoom
from utils.plotting import label, save_figure

Loss = Callable[[Tensor, Tensor], Tensor]  # of logits (n, h, w) and masks (n, h, w) that are 0 or 1
WEIGHT = 50.0  # of a pixel of wire
THRESHOLDS = torch.arange(1, 100) / 100
MEASURES = "IoU at 0.5", "IoU, chosen", "threshold", "claimed", "true", "claimed share"


# %% 1. Losses
def cross_entropy(logits: Tensor, masks: Tensor, weight: float = 1.0) -> Tensor:
    """-log of the probability of what is there; each pixel of the rare class counts `weight` times."""
    return -(weight * masks * F.logsigmoid(logits) + (1 - masks) * F.logsigmoid(-logits)).mean()


def focal(logits: Tensor, masks: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Cross entropy, less where the answer is right already (Lin et al., 2017); the classes weigh alpha and 1 - alpha."""
    signed = torch.where(masks > 0, logits, -logits)  # the logit of what is there
    return -(torch.where(masks > 0, alpha, 1 - alpha) * (-signed).sigmoid() ** gamma * F.logsigmoid(signed)).mean()


def dice(logits: Tensor, masks: Tensor, by_picture: bool = False, smooth: float = 1.0) -> Tensor:
    """1 - 2 |A ∩ B| / (|A| + |B|), with probabilities for sets (Milletari et al., 2016); of the batch or of each picture."""
    over, p = (1, 2) if by_picture else (0, 1, 2), logits.sigmoid()
    both, sizes = (p * masks).sum(over), (p + masks).sum(over)
    return (1 - (2 * both + smooth) / (sizes + smooth)).mean()  # smooth: without it, nothing and nothing is 0 / 0


LOSSES: dict[str, Loss] = {
    "cross entropy": cross_entropy,
    "weighted": lambda logits, masks: cross_entropy(logits, masks, WEIGHT),
    "focal": focal,
    "dice": dice,
    "dice by picture": lambda logits, masks: dice(logits, masks, by_picture=True),
    "sum": lambda logits, masks: cross_entropy(logits, masks) + dice(logits, masks),
}


def compare(seed: int) -> dict[str, float]:
    """Return how far the losses are from PyTorch's and torchvision's, and Dice from counting pixels."""
    from torchvision.ops import sigmoid_focal_loss

    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(4, 16, 20, generator=generator, dtype=torch.float64)
    masks = (torch.rand(logits.shape, generator=generator) < 0.1).double()
    found, there = ({*where.flatten().nonzero()[:, 0].tolist()} for where in (logits > 0, masks > 0))
    theirs = F.binary_cross_entropy_with_logits
    pairs = {
        "cross entropy": (cross_entropy(logits, masks), theirs(logits, masks)),
        "weighted": (cross_entropy(logits, masks, WEIGHT), theirs(logits, masks, pos_weight=torch.tensor(WEIGHT))),
        "focal": (focal(logits, masks), sigmoid_focal_loss(logits, masks, reduction="mean")),
        "focal, gamma 0": (2 * focal(logits, masks, gamma=0.0, alpha=0.5), theirs(logits, masks)),
        "dice": (dice(1e9 * logits, masks, smooth=0.0), 1 - 2 * len(found & there) / (len(found) + len(there))),
    }
    off = {name: abs(float(ours) - float(right)) for name, (ours, right) in pairs.items()}
    print("1. off by: " + ", ".join(f"{name} {number:.0e}" for name, number in off.items()))
    return off


# %% 2. The error everyone meets
def meet_error(seed: int) -> tuple[str, float, float]:
    """Forget to take the channel away; return PyTorch's answer, and what Dice says with the mistake and without."""
    masks = (torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(seed)) < 0.05).float()
    logits = 16 * masks[:, None] - 8  # (4, 1, 32, 32), as it comes out of a network; and all of it is right
    try:
        F.binary_cross_entropy_with_logits(logits, masks)
    except ValueError as error:
        message = str(error)
    wrong, right = dice(logits, masks).item(), dice(logits[:, 0], masks).item()
    print(f'2. "{message}"\n   read: the channel is still there. No message: Dice is {wrong:.2f} instead of {right:.2f}')
    return message, wrong, right


# %% 3. False alarms
def weigh_false_alarm(loss_of: Loss, alarms: int) -> float:
    """Call `alarms` pixels wire in a picture without any, and as many in one with a wire; return the ratio of the gradients."""
    masks = torch.zeros(2, 64, 64, dtype=torch.float64)
    masks[1, 30] = 1
    logits = torch.where(masks > 0, 3.0, -6.0).double()
    logits[:, :10].view(2, -1)[:, :alarms] = 3  # p = 0.95, and wrong
    logits.requires_grad_()
    empty, other = torch.autograd.grad(loss_of(logits, masks), logits)[0][:, 0, 0].tolist()
    return empty / other


# %% 4. Wires, a network, training
def draw_wires(count: int, split: Split, seed: int) -> Masked:
    """Draw scenes of 64x64 pixels, and over every second one two thin, bright wires, some hardly to be seen."""
    generator = torch.Generator().manual_seed(1000 * seed + ("train", "validation", "test").index(split))
    images, masks = draw_scenes(count, seed, 64, split).images.float(), torch.zeros(count, 64, 64, dtype=torch.uint8)
    pixels, t = torch.cartesian_prod(torch.arange(64.0), torch.arange(64.0)), torch.linspace(0, 1, 80)[:, None]  # (4096, 2)
    for image, mask in zip(images[1::2], masks[1::2], strict=True):
        for a, b, c in 64 * torch.rand(2, 3, 2, generator=generator):
            curve = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c  # (80, 2), from a to c, bent towards b
            distance = torch.cdist(pixels, curve).amin(dim=1).view(64, 64)
            image += (1.3 - distance).clamp(0, 1) * (30 + 110 * torch.rand((), generator=generator))
            mask[distance < 0.8] = 1
    return Masked(images.clamp(max=255).to(torch.uint8), masks)


class Network(nn.Module):
    """A small U-Net: pictures (n, 3, h, w), 0 to 255 → logits (n, h, w)."""

    def __init__(self):
        super().__init__()
        convolve = (nn.Conv2d(*shape, 3, padding=1, bias=False) for shape in ((3, 8), (8, 16), (16, 32), (48, 16), (24, 8)))
        self.layers = nn.ModuleList(nn.Sequential(one, nn.BatchNorm2d(one.out_channels), nn.ReLU()) for one in convolve)
        self.classify = nn.Conv2d(8, 1, 1)
        nn.init.constant_(self.classify.bias, -4.6)  # begin at 1 %, so that nobody has to unlearn 50 % first

    def forward(self, x: Tensor) -> Tensor:
        top, middle, bottom, up, last = self.layers
        whole = top(x / 64 - 2)  # (n, 8, 64, 64)
        half = middle(F.max_pool2d(whole, 2))  # (n, 16, 32, 32)
        x = F.interpolate(bottom(F.max_pool2d(half, 2)), scale_factor=2, mode="bilinear")
        x = F.interpolate(up(torch.cat([half, x], dim=1)), scale_factor=2, mode="bilinear")
        return self.classify(last(torch.cat([whole, x], dim=1)))[:, 0]


def train(loss_of: Loss, data: Masked, steps: int, lr: float, seed: int) -> Network:
    """Train a network on 8 pictures a step, mirrored or not."""
    torch.manual_seed(seed)  # the same weights and pictures for each loss
    generator, where = torch.Generator().manual_seed(seed), data.images.device
    network = Network().to(where, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        batch = torch.randint(len(data.images), (8,), generator=generator).to(where)
        images, masks = crop_and_zoom(data.images[batch].float(), data.masks[batch], (64, 64), 1.0, True, generator)
        loss = loss_of(network(images), masks.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


# %% 5. Thresholds and claims
@torch.no_grad()
def predict(network: Network, images: Tensor) -> Tensor:
    """Return the logits (n, h, w)."""
    return torch.cat([network(some.float()) for some in images.split(50)])


def iou_by_threshold(p: Tensor, masks: Tensor) -> Tensor:
    """IoU of the rare class at each of the THRESHOLDS, of probabilities p."""
    wire = masks > 0
    reached = torch.bucketize(p, THRESHOLDS.to(p.device), right=True)  # how many thresholds
    counts = torch.bincount((2 * reached + wire).flatten(), minlength=2 * len(THRESHOLDS) + 2).view(-1, 2).cpu()
    called = counts.flip(0).cumsum(dim=0).flip(0)[1:]  # (99, 2): pixels above each threshold, not of wire and of wire
    return called[:, 1] / (called[:, 0] + wire.sum().cpu())


def judge(held: Tensor, validation: Tensor, p: Tensor, masks: Tensor) -> list[float]:
    """Return for probabilities p what MEASURES names; the threshold is the best one for `held` and its masks."""
    best, found, called = iou_by_threshold(held, validation).argmax(), iou_by_threshold(p, masks), p > 0.5
    claims = p[called].mean(), masks[called].float().mean(), p.mean()
    return [found[len(THRESHOLDS) // 2].item(), found[best].item(), THRESHOLDS[best].item(), *(one.item() for one in claims)]


# %% All of it, in order
def draw(curves: dict[str, Tensor]) -> None:
    """Draw IoU at each threshold."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, curve in curves.items():
        axis.plot(THRESHOLDS, curve, label=name)
    axis.set(xlabel=label("threshold", "문턱값"), ylabel=label("IoU of wires", "전선의 IoU"), ylim=(0, None))
    axis.legend()
    save_figure(figure, __file__, "thresholds")


def main(steps: int = 100, seeds: int = 3, lr: float = 0.01, device: str = "auto", seed: int = 0) -> dict[str, float]:
    """Train with each loss to find wires a pixel or two thick, and compare answers and claims.

    Args:
        steps: Steps of each network.
        seeds: Networks with each loss.
        lr: The highest learning rate, the same for all.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    check(min(steps, seeds) > 0 and lr > 0, f"--steps {steps} --seeds {seeds} --lr {lr}: all have to be above 0")
    where = pick_device(device)
    compare(seed)
    meet_error(seed)
    for alarms in (20, 400):
        ratios = ", ".join(f"{name} {weigh_false_alarm(loss_of, alarms):.2g}" for name, loss_of in LOSSES.items())
        print(f"3. {alarms} false alarms, in a picture without a wire and in one with; ratio of the gradients: {ratios}")
    sizes: dict[Split, int] = {"train": 400, "validation": 150, "test": 300}
    known, validation, test = (Masked(*(one.to(where) for one in draw_wires(n, split, 0))) for split, n in sizes.items())
    share = test.masks.float().mean().item()
    grey = (part.images.float().mean(dim=1) / 255 for part in (validation, test))
    held, new = (3 * (one - F.avg_pool2d(one, 7, 1, padding=3)).clamp(0, 0.33) for one in grey)
    baseline = judge(held, validation.masks, new, test.masks)[1]
    print(f"4. {share:.1%} of the pixels are wire; what is brighter than around it has an IoU of {baseline:.3f}")
    print(f"   {steps} steps, mean ± standard deviation of {seeds} seeds: " + "; ".join(MEASURES))
    results, curves = {"baseline_iou": baseline, "share": share}, {}
    for name, loss_of in LOSSES.items():
        networks = [train(loss_of, known, steps, lr, one) for one in range(seed, seed + seeds)]
        logits = [[predict(network, part.images) for part in (validation, test)] for network in networks]
        curves[name] = torch.stack([iou_by_threshold(new.sigmoid(), test.masks) for _, new in logits]).mean(dim=0)
        shifts = {name: 0.0} | ({"weighted, taken back": -torch.tensor(WEIGHT).log()} if name == "weighted" else {})
        for way, shift in shifts.items():
            rows = [((held + shift).sigmoid(), validation.masks, (new + shift).sigmoid(), test.masks) for held, new in logits]
            by, mean = torch.std_mean(torch.tensor([judge(*row) for row in rows]), dim=0, correction=0)
            print(f"   {way:20} " + "  ".join(f"{m:.3f} ± {s:.3f}" for m, s in zip(mean, by, strict=True)))
            results |= {f"{way}: {measure}": m for measure, m in zip(MEASURES, mean.tolist(), strict=True)}
    draw(curves)
    check(results["cross entropy: IoU, chosen"] > baseline + 0.05, "brightness alone is nearly as good: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
