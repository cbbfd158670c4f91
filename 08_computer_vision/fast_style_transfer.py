"""Fast style transfer · 빠른 스타일 변환

Optimising pixels takes dozens of passes for every picture. A network that is trained with the very same losses learns to make
the picture in one: the work is done once, for one style.
픽셀을 최적화하려면 그림마다 수십 번씩 신경망을 돌려야 한다. 똑같은 손실로 신경망을 학습시키면 한 번에 그림을 만든다. 수고는
한 번만 들지만, 배운 스타일은 하나뿐이다.

You will
  1. build the network of Johnson et al.: residual blocks, no checkerboard, and the photograph added
  2. write instance norm, equal to PyTorch's, and see why style transfer wants it: contrast is style
  3. meet the error everyone meets: a picture that comes back larger than it went in
  4. train it without any target picture, with instance norm and with batch norm
  5. compare with optimisation, on a photograph that it has not seen: style, content, time

Before     08_computer_vision/style_transfer.py
Run        python -m study run fast_style_transfer  (about 35 s on one CPU core, after importing torch)
You see    style off by 0.86 → 0.31 (colours only 0.85), content by 1.06 (moved away 1.64); painted.png
           (features of study setup --extra models; with random ones 12.4 → 1.70, colours only 0.75, content 1.05 of 1.38)
Try next   --no-add-photo: the network's answer is the whole picture. First guess which distance grows; then look
Theory     notes/en/08_computer_vision.md · notes/ko/08_computer_vision.md
Practise   python -m study check 08
"""

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import perceptual
from utils.datasets import Source
from utils.datasets.styles import style_pictures
from utils.device import pick_device
from utils.lesson import check, run
from utils.perceptual import PerceptualNetwork, Weights
from utils.plotting import label, save_figure


# %% 1. The network
class InstanceNorm(nn.Module):
    """Give each channel of each picture mean 0 and variance 1 over its places, then a weight and a bias that are learned."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels, 1, 1)), nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)  # (n, channels, 1, 1); batch norm: (0, 2, 3)
        return (x - mean) * (variance + 1e-5).rsqrt() * self.weight + self.bias


NORMS = {"instance": InstanceNorm, "batch": nn.BatchNorm2d}


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that continues the picture by its mirror image: zeros would paint a frame around it."""
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, padding_mode="reflect")


class Residual(nn.Module):
    """Two convolutions whose result is added to what came in: what shall stay needs no weights."""

    def __init__(self, channels: int, norm: str):
        super().__init__()
        first, second = (convolution(channels, channels, 3) for _ in range(2))
        self.layers = nn.Sequential(first, NORMS[norm](channels), nn.ReLU(), second, NORMS[norm](channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Painter(nn.Module):
    """Pictures (n, 3, height, width) of 0..1 to painted ones of the same size, a multiple of 4.

    Before the sigmoid, the photograph is added: the network has to say only what changes, and cannot wash it away so easily.
    """

    def __init__(self, width: int, norm: str, blocks: int = 3, add_photo: bool = True):
        super().__init__()

        def layer(inputs: int, outputs: int, size: int, stride: int = 1) -> list[nn.Module]:
            return [convolution(inputs, outputs, size, stride), NORMS[norm](outputs), nn.ReLU()]

        down = layer(3, width, 7) + layer(width, 2 * width, 3, 2) + layer(2 * width, 3 * width, 3, 2)
        middle = [Residual(3 * width, norm) for _ in range(blocks)]  # at a quarter of the size: cheap, and seeing far
        # Nearest neighbours, then a convolution: a transposed convolution would leave a checkerboard (04_cnn/conv_arithmetic.py).
        grow = nn.Upsample(scale_factor=2)  # it has no weights: one serves twice
        up = [grow, *layer(3 * width, 2 * width, 3), grow, *layer(2 * width, width, 3)]
        self.layers, self.add_photo = nn.Sequential(*down, *middle, *up, convolution(width, 3, 7)), add_photo

    def forward(self, x: Tensor) -> Tensor:
        change = self.layers(2 * x - 1)
        return torch.sigmoid(torch.logit(x, eps=0.02) + change if self.add_photo else change)  # logit undoes the sigmoid


# %% 2. Contrast
def try_norms(seed: int) -> dict[str, float]:
    """Return how far our instance norm is from PyTorch's, and how each norm's answer moves when one picture of a batch fades."""
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    found = {"off": (InstanceNorm(4)(x) - nn.InstanceNorm2d(4, affine=True)(x)).abs().max().item()}
    faded = torch.cat([0.5 * x[:1] + 1, x[1:]])
    for name, norm in NORMS.items():
        found[f"moved_{name}"] = (norm(4)(faded)[0] - norm(4)(x)[0]).abs().mean().item()
    moved = ", ".join(f"{found[f'moved_{name}']:.5f} ({name})" for name in NORMS)
    print(f"2. instance norm is PyTorch's within {found['off']:.0e}; a paler picture moves the answer by {moved}")
    return found


# %% 3. The error everyone meets
def meet_error() -> str:
    """Paint a photograph whose height is no multiple of 4; return PyTorch's answer."""
    try:
        return str(Painter(4, "instance", blocks=1)(torch.zeros(1, 3, 62, 64)))
    except RuntimeError as error:
        print(f'3. "{error}"\n   read: halved twice, 62 is 31, then 16; doubled twice, 64. Cut pictures to multiples of 4')
        return str(error)


# %% 4. Training
def cut(photographs: list[Tensor], count: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw square patches from photographs (3, height, width), as they are to half as large: (count, 3, size, size)."""
    patches = []
    for _ in range(count):
        photo = photographs[torch.randint(len(photographs), (), generator=generator)]
        larger, top, left, mirrored = torch.rand(4, generator=generator).tolist()
        side = round(size * (1 + larger))
        patch = photo[:, round(top * (photo.shape[1] - side)) :, round(left * (photo.shape[2] - side)) :][None, :, :side, :side]
        patch = F.interpolate(patch, size=(size, size), mode="bilinear", antialias=True)
        patches.append(patch.flip(3) if mirrored < 0.5 else patch)
    return torch.cat(patches)


def loss_of(network: PerceptualNetwork, painted: Tensor, photos: Tensor, grams: dict[str, Tensor], weight: float) -> Tensor:
    """Content, style and total variation of painted pictures: the loss of the lesson before."""
    with torch.no_grad():
        wanted = network(photos, (network.content,))
    maps = network(painted, {network.content, *network.style})
    rough = painted.diff(dim=3).square().mean() + painted.diff(dim=2).square().mean()
    return perceptual.content_loss(maps, wanted) + weight * perceptual.style_loss(maps, grams) + 3 * rough


def train(
    painter: Painter, network: PerceptualNetwork, photographs: list[Tensor], grams: dict[str, Tensor], steps: int, weight: float,
    size: int = 96, batch: int = 2, lr: float = 0.01, seed: int = 0,
) -> list[float]:  # fmt: skip
    """Teach a painter one style: patches in, the loss of optimisation out. Return the loss of each step."""
    generator, history = torch.Generator().manual_seed(seed), []
    optimizer = torch.optim.Adam(painter.train().parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        photos = cut(photographs, batch, size, generator)
        optimizer.zero_grad()
        loss = loss_of(network, painter(photos), photos, grams, weight)
        loss.backward()
        optimizer.step()
        schedule.step()
        history.append(loss.item())
    painter.eval()
    return history


# %% 5. Against optimisation
def optimise(network: PerceptualNetwork, photos: Tensor, grams: dict[str, Tensor], weight: float, evaluations: int) -> Tensor:
    """Change the pixels of pictures (n, 3, height, width) by L-BFGS: the lesson before."""
    painted = photos.clone().requires_grad_()
    stepper = torch.optim.LBFGS([painted], max_iter=evaluations, max_eval=evaluations, line_search_fn="strong_wolfe")

    def evaluate() -> Tensor:
        stepper.zero_grad()
        loss = loss_of(network, painted, photos, grams, weight) + 10 * (painted - painted.clamp(0, 1)).square().mean()
        loss.backward()
        return loss

    stepper.step(evaluate)
    return painted.detach().clamp(0, 1)


def judge(network: PerceptualNetwork, picture: Tensor, photo: Tensor, painting: Tensor) -> dict[str, float]:
    """Return distances: in style, by layers not optimised; in content; and in content of the picture moved by half its width."""
    places = {"content": picture, "elsewhere": picture.roll(picture.shape[3] // 2, dims=3)}  # painted alike, out of place
    far = {name: perceptual.content_distance(network, one, photo) for name, one in places.items()}
    return far | {"style": perceptual.style_distance(network, picture, painting, network.unseen)}


# %% All of it, in order
def draw(pictures: list[Tensor]) -> None:
    """Draw six pictures (1, 3, height, width): the photograph, its colours matched, what was painted, and the painting."""
    import matplotlib.pyplot as plt

    english = ("photograph", "colours only", "batch norm", "instance norm", "optimised", "painting")
    korean = ("사진", "색만", "배치 정규화", "인스턴스 정규화", "최적화", "그림")
    figure, axes = plt.subplots(2, 3, figsize=(9.5, 4.7), layout="constrained")
    for axis, picture, title, translated in zip(axes.flat, pictures, english, korean, strict=True):
        axis.imshow(picture[0].permute(1, 2, 0).cpu().numpy())
        axis.set(title=label(title, translated), xticks=[], yticks=[])
    save_figure(figure, __file__, "painted")


def main(
    style: str = "mosaic", steps: int = 160, weight: float = 10.0, evaluations: int = 40, add_photo: bool = True,
    weights: Weights = "auto", source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Train networks that paint in one style, with instance norm and with batch norm, and compare them with optimisation.

    Args:
        style: Which of the styles: "mosaic" or "brush strokes" of the sample, "mosaic" or "udnie" of the real pictures.
        steps: Of each training, on two patches each.
        weight: Of the style, where the content has 1.
        evaluations: Of the network, in the optimisation.
        add_photo: Add the photograph to what the network says; otherwise its answer is the whole picture.
        weights: The network whose features are used; auto takes what is on this machine, and downloads nothing.
        source: Styles from: auto (PyTorch's examples if they are there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: Of weights and patches.
    """
    check(steps >= 6 and evaluations > 0 and weight > 0, "--steps 6 and --evaluations 1 are the least, and --weight above 0")
    where, data = pick_device(device), style_pictures(source, 256)
    check(style in data.styles, f"--style {style}: there are {', '.join(data.styles)}")
    network, painting = perceptual.load_perceptual(weights, where, seed), data.styles[style].to(where)[None] / 255
    photographs = [one[0].to(where) for one in perceptual.packaged_photographs(320)[1:]]  # the first is never trained on
    photo = perceptual.packaged_photographs(256)[0].to(where)[:, :, :256, :380]
    grams, results, painted = perceptual.grams_of(network, painting, network.style), try_norms(seed), {}
    meet_error()
    for norm in ("batch", "instance"):
        torch.manual_seed(seed)
        painter = Painter(16, norm, add_photo=add_photo).to(where)
        history = train(painter, network, photographs, grams, steps, weight, seed=seed)
        results[f"loss_{norm}"] = sum(history[-steps // 6 :]) / len(history[-steps // 6 :])
        print(f"4. {norm:8} norm: loss {history[0]:.2f} → {results[f'loss_{norm}']:.2f} in {steps} steps")
        start = time.perf_counter()
        with torch.no_grad():
            painted[norm] = painter(photo).cpu()  # which waits until it is done
        between = time.perf_counter()
    painted["optimised"] = optimise(network, photo, grams, weight, evaluations).cpu()
    results["times_faster"] = (time.perf_counter() - between) / (between - start)
    pictures = {"photograph": photo, "colours": perceptual.match_colours(photo, painting)} | painted
    for name, picture in pictures.items():
        far = judge(network, picture.to(where), photo, painting)
        results |= {f"{key}_{name}": value for key, value in far.items()}
        print("5. {:10}: off the style {style:.3f}; off the content {content:.2f}, elsewhere {elsewhere:.2f}".format(name, **far))
    print(f"   optimising takes {results['times_faster']:.0f} times as long as painting, without the training")
    draw([*pictures.values(), painting])
    rival = min(results["style_photograph"], results["style_colours"])
    if not network.trained:  # to such features style is hardly more than colours, and one thing is much like another
        print(
            "   judged by an untrained network: held against the photograph only (study setup --extra models gets a trained one)"
        )
        rival = results["style_photograph"]
    ratio, kept = results["style_instance"] / rival, results["content_instance"] / results["elsewhere_instance"]
    enough = ratio < 0.6 and kept < (0.75 if network.trained else 1)
    check(enough, f"style {ratio:.2f} of the photograph's, content {kept:.2f} of elsewhere: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
