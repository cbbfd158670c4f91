"""The variational autoencoder · 변분 오토인코더

If a picture's code is a small cloud instead of a point, and all clouds together have to look like a normal distribution, one can
draw a code from that distribution and have it decoded: a new picture. The price is counted in nats, and β says what it is worth.
그림의 코드가 점이 아니라 작은 구름이고 구름을 모두 모으면 정규 분포처럼 보이게 한다. 그러면 정규 분포에서 코드를 뽑아 디코딩해
새 그림을 얻을 수 있다. 그 값은 나트로 재고, 얼마나 치를지는 β가 정한다.

You will
  1. see why a drawn number has no gradient, hear PyTorch say so, and get one by reparameterisation
  2. compute the KL divergence in closed form, equal to torch.distributions' and to a Monte Carlo estimate
  3. train with several β, and measure the rate against the distortion; the β that nobody wanted makes all codes alike
  4. hold the restored pictures against PCA of equal width, and new ones against a normal distribution of pixels
  5. walk through the space of codes, and from one digit to another

Before     06_advanced/autoencoder.py
Run        python -m study run vae                 (about 30 s on one CPU core, after importing torch)
You see    restored with 13 % less error than PCA's; β 784: rate 0; new digits of precision 0.12, normal pixels 0.03; samples.png
Try next   --width 2 --betas 1: a code with two numbers. First guess whether its new digits get better or worse, then look
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import torch
import torch.nn.functional as F
from torch import Tensor, distributions, nn

from utils.datasets import Source, mnist
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.sample_quality import Judge, frechet_distance, gaussian_samples, precision_recall, train_judge

PIXELS = 784


# %% 1. A gradient through chance
def meet_error() -> str:
    """Ask for the gradient of a drawn number by the mean that it was drawn with; return PyTorch's answer."""
    mean = torch.zeros(3, requires_grad=True)
    try:
        return str(distributions.Normal(mean, 1.0).sample().square().sum().backward())
    except RuntimeError as error:
        print(f'1. "{error}"\n   read: drawing is no formula. Draw noise without parameters, and compute: mean + std * noise')
        return str(error)


def reparameterize(mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from normal distributions so that the gradient passes: noise, times the standard deviation, plus the mean."""
    return mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=generator).to(mean)


def compare_gradients(draws: int, seed: int) -> dict[str, float]:
    """Estimate the gradient 2m of E[z²], z normal around m = 1.5, in two ways; return means and spreads of single draws."""
    generator, m = torch.Generator().manual_seed(seed), torch.full((draws,), 1.5, requires_grad=True)
    z = reparameterize(m, torch.zeros(draws), generator)
    through = torch.autograd.grad(z.square().sum(), m)[0]
    score = z.detach().square() * (z.detach() - m.detach())  # z² · d ln p(z) / dm: no gradient through z is needed
    found = {"through": through.mean(), "through_spread": through.std(), "score": score.mean(), "score_spread": score.std()}
    print("   the gradient is 3. Estimates: " + ", ".join(f"{name} {value:.2f}" for name, value in found.items()))
    return {name: value.item() for name, value in found.items()}


# %% 2. KL divergence
def kl_from_standard(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) of each number, in nats; shapes as given."""
    return (mean**2 + log_variance.exp() - log_variance - 1) / 2


def compare_kl(seed: int) -> dict[str, float]:
    """Return how far our KL is from torch.distributions', at most, and from an average over draws, in its standard errors."""
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance = torch.randn(2, 50, generator=generator, dtype=torch.float64)
    ours, standard = kl_from_standard(mean, log_variance), distributions.Normal(torch.zeros_like(mean), 1.0)
    own = distributions.Normal(mean, (log_variance / 2).exp())
    exact = (ours - distributions.kl_divergence(own, standard)).abs().max().item()
    z = reparameterize(mean.expand(20_000, -1), log_variance.expand(20_000, -1), generator)
    ratios = own.log_prob(z) - standard.log_prob(z)  # (20000, 50); the mean of ln q(z) / p(z) under q is the KL
    errors = ((ratios.mean(dim=0) - ours) / (ratios.std(dim=0) / 20_000**0.5)).square().mean().sqrt().item()
    print(f"2. KL: equal to torch.distributions within {exact:.0e}; Monte Carlo is off by {errors:.2f} of its standard errors")
    return {"kl_difference": exact, "kl_monte_carlo": errors}


# %% 3. The model
class VAE(nn.Module):
    """Pictures (n, 1, 28, 28) in 0..1 → means and logarithms of variances (n, width) of their codes; codes → logits of pixels."""

    def __init__(self, width: int, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        down = [nn.Flatten(), nn.Linear(PIXELS, 256), nn.GELU(), nn.Linear(256, 128), nn.GELU(), nn.Linear(128, 2 * width)]
        up = [nn.Linear(width, 128), nn.GELU(), nn.Linear(128, 256), nn.GELU(), nn.Linear(256, PIXELS)]
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up, nn.Unflatten(1, (1, 28, 28)))
        self.width = width

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder(x).chunk(2, dim=1)

    @torch.no_grad()
    def draw(self, codes: Tensor) -> Tensor:
        """Pictures (n, 1, 28, 28) in 0..1 of codes (n, width): the probability of each pixel, not a draw of it."""
        return self.decoder(codes).sigmoid()


def bound(model: VAE, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The two parts of the negative ELBO of pictures x, in nats: distortion (n,), and rate by number of the code (n, width)."""
    mean, log_variance = model.encode(x)
    logits = model.decoder(reparameterize(mean, log_variance, generator))
    distortion = F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(dim=1)  # a sum over the pixels
    return distortion, kl_from_standard(mean, log_variance)


def train(model: VAE, images: Tensor, beta: float, steps: int, lr: float, seed: int) -> list[float]:
    """Take steps of AdamW on 64 pictures each, of images (n, 1, 28, 28) in 0..1; return the losses, per pixel."""
    generator, losses = torch.Generator().manual_seed(seed), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        x = images[torch.randint(len(images), (64,), generator=generator).to(images.device)]
        distortion, rate = bound(model, x, generator)
        loss = (distortion + beta * rate.sum(dim=1)).mean() / PIXELS
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


# %% 4. Measuring it
@torch.no_grad()
def measure(model: VAE, test: Tensor, seed: int) -> dict[str, float]:
    """Distortion and rate in nats, how many numbers of the code are used, and the mean squared error of restored pictures."""
    distortion, rate = bound(model, test, torch.Generator().manual_seed(seed))  # one draw for each picture
    error = F.mse_loss(model.draw(model.encode(test)[0]), test)  # from the middle of the cloud
    used = (rate.mean(dim=0) > 0.05).sum()
    found = {"distortion": distortion.mean(), "rate": rate.sum(dim=1).mean(), "used": used, "error": error}
    return {name: value.item() for name, value in found.items()}


def nats_without_code(known: Tensor, test: Tensor) -> float:
    """The distortion of test pictures where every picture is drawn as the mean of the known ones: what a code has to beat."""
    mean = known.mean(dim=0).clamp(1e-3, 1 - 1e-3).expand_as(test)
    return F.binary_cross_entropy(mean, test, reduction="none").flatten(1).sum(dim=1).mean().item()


def pca_error(known: Tensor, test: Tensor, width: int) -> float:
    """The mean squared error of test pictures restored from `width` principal components, pixels kept in 0..1."""
    known, test = known.flatten(1), test.flatten(1)
    mean = known.mean(dim=0)
    axes = torch.linalg.svd(known - mean, full_matrices=False).Vh[:width]
    return F.mse_loss(((test - mean) @ axes.T @ axes + mean).clamp(0, 1), test).item()


def draw_codes(model: VAE, count: int, seed: int, device) -> Tensor:
    """New pictures (count, 1, 28, 28) from codes of the standard normal distribution."""
    return model.draw(torch.randn(count, model.width, generator=torch.Generator().manual_seed(seed)).to(device))


def judge_samples(judge: Judge, real: Tensor, fakes: dict[str, Tensor]) -> dict[str, tuple[float, float, float]]:
    """Fréchet distance, precision and recall of each kind of pictures, against as many real ones."""
    reference, found = judge.features(real), {}
    for name, pictures in fakes.items():
        features = judge.features(pictures)
        found[name] = (frechet_distance(reference, features), *precision_recall(reference, features))
        print(f"   {name:26} Fréchet {found[name][0]:7.2f}   precision {found[name][1]:.2f}   recall {found[name][2]:.2f}")
    return found


# %% 5. Walks
@torch.no_grad()
def walk(model: VAE, test: Tensor, rows: int, columns: int) -> Tensor:
    """Vary one number of the code at a time from -2.5 to 2.5, those with the highest rate: (rows, columns, 28, 28)."""
    best = kl_from_standard(*model.encode(test)).mean(dim=0).argsort(descending=True)[:rows]
    codes = torch.zeros(len(best), columns, model.width, device=test.device)
    for row, number in zip(codes, best, strict=True):
        row[:, number] = torch.linspace(-2.5, 2.5, columns)
    return model.draw(codes.flatten(0, 1)).view(len(best), columns, 28, 28)


@torch.no_grad()
def interpolate(model: VAE, start: Tensor, end: Tensor, columns: int) -> Tensor:
    """Go straight from the code of each start picture (n, 1, 28, 28) to that of its end: (n, columns, 28, 28)."""
    a, b = (model.encode(x)[0][:, None] for x in (start, end))  # (n, 1, width)
    share = torch.linspace(0, 1, columns, device=a.device)[:, None]  # (columns, 1)
    return model.draw(((1 - share) * a + share * b).flatten(0, 1)).view(len(start), columns, 28, 28)


# %% All of it, in order
def show(grid: Tensor, name: str, titles: tuple[str, ...] = ()) -> None:
    """Draw pictures (rows, columns, 28, 28) side by side, a title beside each row."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(0.6 * grid.shape[1], 0.6 * len(grid)), layout="constrained")
    axis.imshow(grid.permute(0, 2, 1, 3).reshape(28 * len(grid), -1).cpu().numpy(), cmap="gray_r", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=range(14, 28 * len(titles), 28), yticklabels=titles)
    save_figure(figure, __file__, name)


def main(
    width: int = 4, betas: tuple[float, ...] = (0.25, 1.0, 4.0, 784.0), steps: int = 700, seeds: int = 3, lr: float = 0.003,
    source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Build a variational autoencoder, and measure what it restores and what it draws.

    Args:
        width: Numbers in a code.
        betas: Weights of the rate; 1, which is the ELBO, is always among them.
        steps: Steps of each training, on 64 pictures each.
        seeds: Networks with β = 1; of each other β one.
        lr: The highest learning rate.
        source: Pictures from: auto (MNIST if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    check(0 < width < 64 and min(steps, seeds) > 0 and lr > 0, "needed: --width 1 to 63, --steps 1, --seeds 1, --lr above 0")
    check(min(betas, default=1) >= 0, "--betas must not be negative")
    where, data = pick_device(device), mnist(source)
    known, test = (part.float().to(where) / 255 for part in (data.train.images, data.test.images[:1000]))
    meet_error()
    results = compare_gradients(10_000, seed) | compare_kl(seed)
    results |= {"pca_error": pca_error(known[:10_000], test, width), "nats_without_code": nats_without_code(known, test)}
    chosen, errors = None, []
    fakes = {"new real ones (the floor)": test, "normal pixels": gaussian_samples(known[:10_000].cpu(), len(test), seed)}
    print(f"3. width {width}: PCA's error {results['pca_error']:.4f}; without a code {results['nats_without_code']:.1f} nats")
    for beta in sorted({1.0, *betas}):
        for one in range(seed, seed + (seeds if beta == 1 else 1)):
            model = VAE(width, one).to(where)
            train(model, known, beta, steps, lr, one)
            found = measure(model, test, one)
            print(f"   β {beta:5g}: " + ", ".join(f"{name} {value:.4g}" for name, value in found.items()))
            results |= {f"{name}_beta_{beta:g}": value for name, value in found.items()} if one == seed else {}
            fakes[f"β {beta:g}, seed {one}"] = draw_codes(model, len(test), one, where)
            chosen, errors = (model, [*errors, found["error"]]) if beta == 1 else (chosen, errors)
    print("4. pictures against as many real ones:")
    judged = judge_samples(train_judge(data.train, seed), known[: len(test)], fakes)
    ours = [judged[f"β 1, seed {one}"][0] for one in range(seed, seed + seeds)]
    results |= {"error": sum(errors) / seeds, "frechet": sum(ours) / seeds, "frechet_normal": judged["normal pixels"][0]}
    results |= {"precision": judged[f"β 1, seed {seed}"][1], "precision_normal": judged["normal pixels"][1]}
    titles = (label("real", "진짜"), label("normal pixels", "정규 분포의 픽셀"), *list(fakes)[2:])
    show(torch.stack([x[:12].cpu().squeeze(1) for x in fakes.values()]), "samples", titles)
    show(walk(chosen, test, 6, 12), "walk")
    show(interpolate(chosen, test[:6], test[6:12], 12), "interpolation")
    nats = results["distortion_beta_1"] + results["rate_beta_1"]
    check(nats < 0.95 * results["nats_without_code"], f"{nats:.0f} nats are hardly fewer than without a code: more --steps?")
    check(results["error"] < results["pca_error"], f"an error of {results['error']:.4f}; PCA is better: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
