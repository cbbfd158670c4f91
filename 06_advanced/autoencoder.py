"""Autoencoders · 오토인코더

A network that has to restore its input through a narrow middle must find out what pictures have in common. If it is linear, it
finds principal component analysis; what non-linear layers are worth is the difference to that, and it can be measured.
좁은 중간을 거쳐 입력을 되살려야 하는 신경망은 그림들의 공통점을 찾아낼 수밖에 없다. 선형이라면 찾아내는 것은 주성분 분석(PCA)과
똑같다. 그러니 비선형의 값어치는 PCA와의 차이이고, 그 차이는 잴 수 있다.

You will
  1. write PCA by the singular value decomposition, equal to scikit-learn's, and see a linear autoencoder arrive there
  2. meet the error everyone meets: pixels that are not between 0 and 1; and the loss that does not complain about them
  3. build a dense and a convolutional autoencoder, and compare them with PCA of equal width on new pictures, over seeds
  4. remove noise, and compare with the best linear filter there is
  5. see what a narrow middle forbids: to restore what is no digit

Before     04_cnn/conv_layers.py
Run        python -m study run autoencoder         (about 30 s on one CPU core, after importing torch)
You see    width 4: PCA's error 0.0109, dense 0.0095, convolutional 0.0093; width 32: PCA is six times better; restored.png
Try next   --noise 1 --seeds 1: twice the noise. First guess whether the autoencoder now beats the linear filter, then look
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Source, mnist
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

KOREAN = {"original": "원본", "PCA": "PCA", "dense": "전결합", "conv": "합성곱", "noisy": "잡음", "blur": "흐림",
          "linear": "선형", "autoencoder": "오토인코더"}  # fmt: skip


# %% 1. PCA, and the linear autoencoder
def pca(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean (pixels,) of x (n, pixels), its principal axes (axes, pixels) one per row, and the variance along each."""
    mean = x.mean(dim=0)
    _, singular, axes = torch.linalg.svd(x - mean, full_matrices=False)
    return mean, axes, singular**2 / len(x)


def project(x: Tensor, mean: Tensor, axes: Tensor) -> Tensor:
    """Restore x (n, pixels) from its coordinates on the axes (width, pixels)."""
    return (x - mean) @ axes.T @ axes + mean


def compare_pca(x: Tensor, width: int) -> float:
    """Return how far pictures restored by our PCA are from those restored by scikit-learn's, at most."""
    from sklearn.decomposition import PCA

    model = PCA(width, svd_solver="full").fit(x.numpy())
    expected = torch.from_numpy(model.inverse_transform(model.transform(x.numpy())))
    mean, axes, _ = pca(x)
    return (project(x, mean, axes[:width]) - expected).abs().max().item()


def train_linear(x: Tensor, width: int, iterations: int, seed: int) -> tuple[Tensor, Tensor]:
    """Fit an encoder and a decoder, (width, pixels) both, to centred x (n, pixels) from random weights, by L-BFGS."""
    start = torch.randn(2, width, x.shape[1], generator=torch.Generator().manual_seed(seed), dtype=x.dtype) / x.shape[1] ** 0.5
    encoder, decoder = both = [part.requires_grad_() for part in start]
    optimizer = torch.optim.LBFGS(both, max_iter=iterations, line_search_fn="strong_wolfe", tolerance_change=0)

    def loss_and_gradient() -> Tensor:
        optimizer.zero_grad()
        loss = F.mse_loss(x @ encoder.T @ decoder, x)
        loss.backward()
        return loss

    optimizer.step(loss_and_gradient)
    return encoder.detach(), decoder.detach()


def compare_linear(x: Tensor, width: int, iterations: int, seed: int) -> dict[str, float]:
    """Train a linear autoencoder; return how far its error is above PCA's, and the sine of the angle between the subspaces."""
    x = x - x.mean(dim=0)
    axes = pca(x)[1][:width]
    encoder, decoder = train_linear(x, width, iterations, seed)
    excess = (F.mse_loss(x @ encoder.T @ decoder, x) / F.mse_loss(x @ axes.T @ axes, x) - 1).item()
    own = torch.linalg.qr(decoder.T).Q.T  # (width, pixels): an orthonormal basis of what the decoder can draw
    sine = torch.linalg.matrix_norm(own - own @ axes.T @ axes, 2).item()
    alike = (F.normalize(decoder, dim=1) @ axes.T).abs().amax(dim=1)  # (width,): each row's cosine with the axis next to it
    print(f"1. linear autoencoder of width {width}: error {excess:.0e} above PCA's, the same subspace within {sine:.0e};")
    print(f"   but what it draws with are not PCA's axes: cosines with the nearest {', '.join(f'{one:.2f}' for one in alike)}")
    return {"linear_excess": excess, "linear_sine": sine}


# %% 2. The error everyone meets
def meet_error(images: Tensor) -> tuple[str, float]:
    """Ask for the cross entropy of pictures (n, 1, h, w) uint8; return PyTorch's answer, and what the loss with logits says."""
    targets = images.float()
    silent = F.binary_cross_entropy_with_logits(100 * torch.ones_like(targets), targets).item()
    try:
        return str(F.binary_cross_entropy(0.5 * torch.ones_like(targets), targets)), silent
    except RuntimeError as error:
        print(f'2. "{error}"\n   read: pixels from 0 to 255; divide by 255. With logits, no message: a "loss" of {silent:,.0f}')
        return str(error), silent


# %% 3. Dense and convolutional
class Autoencoder(nn.Module):
    """Pictures (n, 1, 28, 28) in 0..1 → codes (n, width) → pictures (n, 1, 28, 28) in 0..1."""

    def __init__(self, width: int, kind: str, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        if kind == "dense":
            down = [nn.Flatten(), nn.Linear(784, 256), nn.ELU(), nn.Linear(256, 128), nn.ELU(), nn.Linear(128, width)]
            up = [nn.Linear(width, 128), nn.ELU(), nn.Linear(128, 256), nn.ELU(), nn.Linear(256, 784)]
            up += [nn.Unflatten(1, (1, 28, 28))]
        else:
            down = [nn.Conv2d(1, 8, 3, 2, 1), nn.ELU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ELU()]  # 28 → 14 → 7
            down += [nn.Conv2d(16, 16, 3, 2, 1), nn.ELU(), nn.Flatten(), nn.Linear(256, width)]  # 7 → 4
            up = [nn.Linear(width, 256), nn.ELU(), nn.Unflatten(1, (16, 4, 4)), nn.ConvTranspose2d(16, 16, 3, 2, 1), nn.ELU()]
            up += [nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ELU(), nn.ConvTranspose2d(8, 1, 4, 2, 1)]  # 7 → 14 → 28
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


def train(model: Autoencoder, images: Tensor, steps: int, lr: float, seed: int, noise: float = 0.0) -> list[float]:
    """Take steps of AdamW on 64 pictures each, of images (n, 1, 28, 28) in 0..1, to which noise is added before they go in."""
    generator, losses = torch.Generator().manual_seed(seed), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        x = images[torch.randint(len(images), (64,), generator=generator).to(images.device)]
        grain = noise * torch.randn(x.shape, generator=generator).to(x.device)
        loss = F.mse_loss(model(x + grain), x)  # what is to be restored is the clean picture
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def restore(model: Autoencoder, images: Tensor) -> Tensor:
    """Return what comes out for images (n, 1, 28, 28)."""
    return torch.cat([model(x) for x in images.split(500)])


# %% 4. Denoising
def blur(x: Tensor, spread: float) -> Tensor:
    """Filter pictures (n, 1, h, w) with a Gaussian of this standard deviation in pixels."""
    kernel = (-(torch.arange(-6.0, 7.0, device=x.device) ** 2) / (2 * spread**2)).softmax(dim=0)  # it sums to 1
    return F.conv2d(F.conv2d(x, kernel.view(1, 1, 1, 13), padding=(0, 6)), kernel.view(1, 1, 13, 1), padding=(6, 0))


def best_linear(noisy: Tensor, mean: Tensor, axes: Tensor, variance: Tensor, noise: float) -> Tensor:
    """Wiener's filter of pictures (n, pixels): along each axis keep the share of the variance that is not noise."""
    kept = variance / (variance + noise**2)  # (axes,)
    return (noisy - mean) @ axes.T * kept @ axes + mean


def denoise(known: Tensor, test: Tensor, fitted: tuple, width: int, noise: float, steps: int, seed: int) -> tuple[dict, dict]:
    """Train a denoising autoencoder on `known`; return errors on `test` by method, and eight pictures of each."""
    model = Autoencoder(width, "conv", seed).to(known.device)
    train(model, known, steps, 0.01, seed, noise)
    generator, some = torch.Generator().manual_seed(seed + 1), known[:500]
    noisy, practice = (x + noise * torch.randn(x.shape, generator=generator).to(x.device) for x in (test, some))
    spread = min(
        (0.5, 1.0, 1.5, 2.0, 3.0), key=lambda one: F.mse_loss(blur(practice, one), some)
    )  # not chosen on the test pictures
    pictures = {"noisy": noisy, "blur": blur(noisy, spread)}
    pictures["linear"] = best_linear(noisy.flatten(1), *fitted, noise).view_as(test)
    pictures["autoencoder"] = restore(model, noisy)
    errors = {name: F.mse_loss(x.clamp(0, 1), test).item() for name, x in pictures.items()}
    print(f"4. noise of {noise:g}: " + ", ".join(f"{name} {error:.4f}" for name, error in errors.items()))
    return errors, pictures | {"original": test}


# %% 5. What a narrow middle forbids
def restore_shuffled(model: Autoencoder, test: Tensor, seed: int) -> tuple[float, float]:
    """Restore digits, and digits with their pixels shuffled: errors, in units of the pictures' variance."""
    order = torch.randperm(784, generator=torch.Generator().manual_seed(seed)).to(test.device)
    shuffled = test.flatten(1)[:, order].view_as(test)
    digits, others = (F.mse_loss(restore(model, x), x).item() / test.var(dim=0).mean().item() for x in (test, shuffled))
    print(f"5. share that is lost of digits: {digits:.2f}; of the same pixels, shuffled: {others:.2f}")
    return digits, others


# %% All of it, in order
def draw(rows: dict[str, Tensor], name: str) -> None:
    """Draw rows of the first twelve pictures (n, 1, 28, 28) of each kind."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(rows), 1, figsize=(10, 0.95 * len(rows)), layout="constrained")
    for axis, (kind, pictures) in zip(axes, rows.items(), strict=True):
        axis.imshow(torch.cat(list(pictures[:12, 0].cpu()), dim=1).numpy(), cmap="gray_r", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(label(kind, KOREAN[kind]), rotation=0, ha="right", va="center")
    save_figure(figure, __file__, name)


def main(
    width: int = 4, steps: int = 400, seeds: int = 3, noise: float = 0.5, source: Source = "auto", device: str = "auto",
    seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Build autoencoders, and hold them against PCA of the same width.

    Args:
        width: Numbers in a code.
        steps: Steps of each training, on 64 pictures each.
        seeds: Networks of each kind.
        noise: Standard deviation of the noise that is to be removed; white is 1.
        source: Pictures from: auto (MNIST if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    check(
        0 < width < 64 and min(steps, seeds) > 0 and noise > 0, "needed: --width 1 to 63, --steps 1, --seeds 1, --noise above 0"
    )
    where, data = pick_device(device), mnist(source)
    known, test = (part.float().to(where) / 255 for part in (data.train.images, data.test.images[:2000]))
    few = known[:500].flatten(1).double().cpu()
    results = {"pca_difference": compare_pca(few, width)} | compare_linear(few, 4, 250, seed)
    meet_error(data.test.images[:2])
    mean, axes, _ = fitted = pca(known[:10_000].flatten(1))
    rows = {"original": test}
    for size, kinds, count in ((8 * width, ("conv",), 1), (width, ("dense", "conv"), seeds)):
        rows["PCA"] = (
            project(test.flatten(1), mean, axes[:size]).view_as(test).clamp(0, 1)
        )  # to its advantage: pixels are in 0..1
        results[f"pca_{size}"] = F.mse_loss(rows["PCA"], test).item()
        print(f"3. width {size}: errors of PCA {results[f'pca_{size}']:.4f}")
        for kind in kinds:
            errors = []
            for one in range(seed, seed + count):
                model = Autoencoder(size, kind, one).to(where)
                train(model, known, steps, 0.003 if kind == "dense" else 0.01, one)
                rows[kind] = restore(model, test)
                errors.append(F.mse_loss(rows[kind], test).item())
            results[f"{kind}_{size}"] = sum(errors) / count
            print(f"   {kind:5} " + ", ".join(f"{error:.4f}" for error in errors))
    draw({name: rows[name] for name in ("original", "PCA", "dense", "conv")}, "restored")
    errors, pictures = denoise(known, test, fitted, 8 * width, noise, steps, seed)
    results |= {f"denoised_{name}": error for name, error in errors.items()}
    draw(pictures, "denoised")
    results["lost_digits"], results["lost_shuffled"] = restore_shuffled(model, test, seed)
    ratio = results[f"dense_{width}"] / results[f"pca_{width}"]
    check(ratio < 0.95, f"the dense autoencoder's error is {ratio:.2f} of PCA's: more --steps, or a smaller --width?")
    return results


if __name__ == "__main__":
    run(main)
