"""Solutions of stage 06, to read after your own attempt."""

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TiedAutoencoder(nn.Module):
    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, inputs) / inputs**0.5)
        self.code_bias, self.bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(inputs))

    def encode(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.weight.T + self.code_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.encode(x) @ self.weight + self.bias  # one parameter, used twice: autograd adds both gradients


def mahalanobis_scores(known: Tensor, x: Tensor, ridge: float) -> Tensor:
    mean = known.mean(dim=0)
    covariance = (known - mean).T @ (known - mean) / len(known)  # (d, d)
    covariance += ridge * torch.eye(len(mean), dtype=x.dtype, device=x.device)
    centred = x - mean  # (m, d)
    return (centred * torch.linalg.solve(covariance, centred.T).T).sum(dim=1)  # no inverse: solving is more exact


def kl_between_normals(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    apart = (mean - other_mean) ** 2 / other_log_variance.exp()
    difference = log_variance - other_log_variance
    return (apart + difference.exp() - difference - 1).sum(dim=1) / 2


def importance_weighted_bound(log_joint: Tensor, log_posterior: Tensor) -> Tensor:
    return torch.logsumexp(log_joint - log_posterior, dim=0) - math.log(len(log_joint))


def hinge_losses(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    # The margin stops the discriminator from growing for pictures that it tells apart anyway. The generator gets no margin:
    # with a relu of its own it would be left without a gradient as soon as its fakes pass for real.
    return (1 - real).relu().mean() + (1 + fake).relu().mean(), -fake.mean()


def play_once(
    generator: nn.Module, discriminator: nn.Module, generator_step: torch.optim.Optimizer,
    discriminator_step: torch.optim.Optimizer, real: Tensor, noise: Tensor,
) -> None:  # fmt: skip
    # One graph of the generator serves both: cut off for the discriminator, whole for the generator's own loss, which goes
    # through the discriminator as it is after its step.
    fake = generator(noise)
    discriminator_step.zero_grad()
    hinge_losses(discriminator(real), discriminator(fake.detach()))[0].backward()
    discriminator_step.step()
    generator_step.zero_grad()
    outputs = discriminator(fake)
    hinge_losses(outputs, outputs)[1].backward()
    generator_step.step()
    discriminator_step.zero_grad()  # the generator's loss passed through the discriminator, and left gradients there


def interpolated_slopes(critic: nn.Module, real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    # Each picture's output depends on that picture alone, so the gradient of the sum holds the gradients of all. With a batch
    # norm in the critic this would be wrong, which is why WGAN-GP forbids it.
    share = share.view(-1, 1, 1, 1)
    at = (share * real + (1 - share) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(at).sum(), at, create_graph=True)
    return gradient.flatten(1).norm(dim=1)


def jump_back(start: Tensor, now: Tensor, left: Tensor, t: int, earlier: int) -> tuple[Tensor, Tensor]:
    # Between the two times the process does what one step does: it keeps a share, and fills up with noise. So one formula serves
    # for a step and for a jump; nothing in its derivation says that the times are neighbours.
    kept = left[t] / left[earlier]
    from_start = left[earlier].sqrt() * (1 - kept) / (1 - left[t])
    from_now = kept.sqrt() * (1 - left[earlier]) / (1 - left[t])
    return from_start * start + from_now * now, (1 - kept) * (1 - left[earlier]) / (1 - left[t])


def split_velocity(noisy: Tensor, velocity: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    # A rotation is undone by its transpose. Nothing is divided, so the picture can be read even where only noise is left, where
    # a guess of the noise says nothing about it: that is why networks for few steps guess velocities.
    cosine, sine = share.sqrt().view(-1, 1, 1, 1), (1 - share).sqrt().view(-1, 1, 1, 1)
    return cosine * noisy - sine * velocity, sine * noisy + cosine * velocity


def find_noise(denoiser: Callable[[Tensor, int], Tensor], pictures: Tensor, left: Tensor) -> Tensor:
    # The step of DDIM does not care about its direction. It is exact only for small steps: on the way back, the denoiser is asked
    # where this step ends, not where it begins.
    x = pictures
    for t in range(len(left) - 1):
        noise = denoiser(x, t)
        clean = (x - (1 - left[t]).sqrt() * noise) / left[t].sqrt()
        x = left[t + 1].sqrt() * clean + (1 - left[t + 1]).sqrt() * noise
    return x


def attention_mask(lengths: Tensor, steps: int, window: int) -> Tensor:
    # How far back each source lies from each target decides on order and window; the lengths decide on padding. In a row of
    # padding the window may have moved past the last word: there we let the word see itself, so that no softmax is of nothing.
    place = torch.arange(steps, device=lengths.device)
    back = place[:, None] - place  # (targets, sources)
    real = place < lengths[:, None]  # (batch, sources)
    mask = (back >= 0) & (back < window) & real[:, None]  # (batch, targets, sources)
    return (mask | (back == 0) & ~real[:, :, None])[:, None]


class AdditiveMemory(nn.Module):
    # The states' half of the score is the same for every query. Projecting it once saves a decoder of T steps T - 1 of the
    # larger one of its two matrix products.
    def __init__(self, query_width: int, state_width: int, width: int):
        super().__init__()
        self.query_layer = nn.Linear(query_width, width, bias=False)
        self.key_layer = nn.Linear(state_width, width)
        self.v = nn.Linear(width, 1, bias=False)

    def prepare(self, states: Tensor, real: Tensor) -> None:
        self.states, self.real = states, real
        self.keys = self.key_layer(states)  # (batch, sources, width)

    def forward(self, query: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.v(torch.tanh(self.query_layer(query)[:, None] + self.keys)).squeeze(2)  # (batch, sources)
        weights = scores.masked_fill(~self.real, -math.inf).softmax(dim=1)
        return (weights[:, None] @ self.states).squeeze(1), weights


def mean_distance(weights: Tensor, real: Tensor) -> float:
    # A pair counts where its second target is real: padding is at the end, so the first one is then real, too.
    jumps = weights.argmax(dim=2).diff(dim=1).abs()  # (batch, targets - 1)
    return jumps[real[:, 1:]].double().mean().item()


def with_heads(x: Tensor, heads: int) -> Tensor:
    # Cut the last axis, then move the heads in front. A view to (batch, heads, steps, ...) at once has the right shape, too, and
    # cuts the steps into pieces instead: head 0 would get the first steps.
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def merge_partial(parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    # Each part's share in the whole is the softmax over the parts of their logarithms. The largest one is subtracted first, so
    # that e to the power of a thousand is never computed; where all are -inf there is nothing to subtract.
    sums = torch.stack([part[1] for part in parts])  # (parts, ..., targets, 1)
    top = sums.amax(dim=0)
    shares = (sums - top.masked_fill(top == -math.inf, 0.0)).exp()
    total = shares.sum(dim=0)
    outputs = torch.stack([part[0] for part in parts]).masked_fill(sums == -math.inf, 0.0)  # whatever stands there, perhaps NaN
    return (shares * outputs).sum(dim=0) / (total + (total == 0))


def count_multiplications(model: nn.Module, x: Tensor) -> int:
    counts = []

    def count(module: nn.Module, _, out: Tensor) -> None:
        counts.append(out.numel() * module.weight[0].numel())

    hooks = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return sum(counts)


def load_what_fits(model: nn.Module, saved: dict[str, Tensor]) -> list[str]:
    own = model.state_dict()
    found = {name.removeprefix("module."): tensor for name, tensor in saved.items()}
    fitting = {name: tensor for name, tensor in found.items() if name in own and tensor.shape == own[name].shape}
    model.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting.keys())


def stochastic_depth(branch: Tensor, rate: float, training: bool, generator: torch.Generator) -> Tensor:
    if not training or rate == 0:
        return branch
    if rate == 1:
        return torch.zeros_like(branch)
    stays = torch.rand(len(branch), *[1] * (branch.dim() - 1), generator=generator) >= rate
    return branch * stays / (1 - rate)


def fold_norm(norm: nn.LayerNorm, linear: nn.Linear) -> nn.Linear:
    # W (g * z + b) + c = (W * g) z + (W b + c): the scale goes into the columns, the shift becomes a bias.
    folded = nn.Linear(linear.in_features, linear.out_features, dtype=linear.weight.dtype, device=linear.weight.device)
    with torch.no_grad():
        folded.weight.copy_(linear.weight * norm.weight)
        folded.bias.copy_(F.linear(norm.bias, linear.weight, linear.bias))
    return folded


def prefix_mask(prefixes: Tensor, steps: int) -> Tensor:
    # A source may be looked at if it is not later, or if both are in the question. "The source is in the question" is enough for
    # the second case: an answer's word is later than all of the question anyway.
    place = torch.arange(steps, device=prefixes.device)
    earlier = place <= place[:, None]  # (targets, sources)
    asked = place < prefixes[:, None]  # (batch, sources)
    return (earlier | asked[:, None])[:, None]


def wave_shift(distance: int, width: int) -> Tensor:
    # sin(a + b) = sin a cos b + cos a sin b and cos(a + b) = cos a cos b - sin a sin b: each pair is rotated by its own angle.
    angle = distance * 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    cos, sin = angle.cos().diag(), angle.sin().diag()
    return torch.cat([torch.cat([cos, sin], dim=1), torch.cat([-sin, cos], dim=1)])


def linear_bias(heads: int, targets: int, sources: int) -> Tensor:
    # Targets are numbered from the end: with a cache, the one new word stands behind all that has been read.
    target = torch.arange(sources - targets, sources)
    back = target[:, None] - torch.arange(sources)  # (targets, sources), negative where the source comes later
    slope = 2.0 ** (-8 * torch.arange(1, heads + 1) / heads)
    return (-slope[:, None, None] * back).masked_fill(back < 0, -math.inf)


def answer_confidence(logits: Tensor, answers: Tensor, ignore: int) -> Tensor:
    # Logarithms are added and e taken at the end. gather needs a valid index even where nothing counts: any will do there.
    real = answers != ignore
    log_p = logits.log_softmax(dim=2).gather(2, answers.masked_fill(~real, 0)[:, :, None]).squeeze(2)  # (batch, targets)
    return log_p.masked_fill(~real, 0.0).sum(dim=1).exp()


def whole_words(tokens: list[str], chosen: list[bool]) -> list[bool]:
    # Give each token the number of its word: it grows wherever a token does not continue one.
    words, number = [], -1
    for token in tokens:
        number += not token.startswith("##")
        words.append(number)
    hit = {word for word, was_chosen in zip(words, chosen, strict=True) if was_chosen}
    return [word in hit for word in words]


def hardest_negatives(vectors: Tensor, classes: Tensor) -> Tensor:
    # All cosines at once; those of one's own class, oneself among them, are put out of reach before the largest is taken.
    cosines = vectors @ vectors.T  # (n, n)
    return cosines.masked_fill(classes[:, None] == classes, -2).argmax(dim=1)


def gpt_parameters(symbols: int, context: int, width: int, layers: int) -> int:
    # Matrices of a block: 3 + 1 for attention, 4 + 4 for the network, in units of width²; biases 3 + 1 + 4 + 1; norms 2 · 2.
    block = 12 * width**2 + 13 * width
    return (symbols + context) * width + layers * block + 2 * width


def mask_after_cache(seen: int, steps: int) -> Tensor:
    # The last rows of the triangle for all tokens. A triangle of (steps, seen + steps) would begin in the upper left corner: the
    # first new token would see one key.
    return torch.ones(seen + steps, seen + steps, dtype=torch.bool).tril()[seen:]


def penalise_repetition(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    # gather and scatter meet a token that was written twice twice, and write the same number both times.
    found = logits.gather(1, ids)  # (batch, steps)
    return logits.scatter(1, ids, torch.where(found > 0, found / penalty, found * penalty))


def rotate_interleaved(x: Tensor, places: Tensor, theta: float) -> Tensor:
    d = x.shape[-1]
    frequencies = theta ** (-torch.arange(0, d, 2, device=x.device, dtype=torch.float64) / d)  # (d / 2,)
    angles = places.to(torch.float64)[:, None] * frequencies  # (steps, d / 2)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., 0::2], x[..., 1::2]
    return torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1).flatten(-2)


def cache_megabytes(layers: int, kv_heads: int, head_width: int, tokens: int, conversations: int, bits: int) -> float:
    numbers = 2 * layers * kv_heads * head_width * tokens * conversations  # a key and a value
    return numbers * bits / 8 / 1e6


def pack_signed_4_bits(numbers: Tensor) -> Tensor:
    halves = (numbers & 15).to(torch.uint8)  # two's complement: the lower 4 bits of -1 are 1111
    return halves[:, 0::2] | halves[:, 1::2] << 4


def unpack_signed_4_bits(packed: Tensor) -> Tensor:
    halves = torch.stack([packed & 15, packed >> 4], dim=2).flatten(1).to(torch.int8)  # 0 to 15, in order
    return torch.where(halves > 7, halves - 16, halves)


@torch.no_grad()
def occlusion_map(model: nn.Module, pictures: Tensor, patch: int) -> Tensor:
    # The class is chosen once, on the whole pictures; otherwise the map would compare the probabilities of different classes.
    whole = model(pictures).softmax(dim=1)
    best, rows, columns = whole.argmax(dim=1, keepdim=True), pictures.shape[2] // patch, pictures.shape[3] // patch
    found = pictures.new_zeros(len(pictures), rows, columns)
    for row in range(rows):
        for column in range(columns):
            covered = pictures.clone()
            covered[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = 0
            found[:, row, column] = (whole - model(covered).softmax(dim=1)).gather(1, best)[:, 0]
    return found


def keep_patches(tokens: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    # A random order for every picture, its beginning, sorted. What is left out costs nothing in the encoder: that is the point.
    n, count, width = tokens.shape
    kept = max(1, int(share * (count - 1)))
    chosen = torch.rand(n, count - 1, generator=generator).argsort(dim=1)[:, :kept].sort(dim=1).values.to(tokens.device)
    patches = tokens[:, 1:].gather(1, chosen.unsqueeze(2).expand(n, kept, width))
    return torch.cat([tokens[:, :1], patches], dim=1), chosen


def clip_loss(pictures: Tensor, sentences: Tensor, temperature: float) -> Tensor:
    # Rows ask for sentences, columns for pictures; the right answer is on the diagonal both times.
    logits = F.normalize(pictures, dim=1) @ F.normalize(sentences, dim=1).T / temperature  # (n, n)
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def align_and_spread(one: Tensor, two: Tensor, t: float = 2.0) -> tuple[float, float]:
    # On the unit sphere |a - b|² = 2 - 2 a·b. pdist gives each pair once, and no picture with itself.
    one, two = F.normalize(one, dim=1), F.normalize(two, dim=1)
    aligned = (one - two).square().sum(dim=1).mean()
    spread = torch.pdist(one).square().mul(-t).exp().mean().log()
    return aligned.item(), spread.item()


def layer_rates(names: list[str], layers: int, lr: float, decay: float) -> dict[str, float]:
    # Count how far below the head a parameter lies; its rate is multiplied by `decay` as often.
    rates = {}
    for name in names:
        if name.startswith("bert.embeddings."):
            below = layers + 1
        elif name.startswith("bert.encoder.layer."):
            below = layers - int(name.split(".")[3])
        else:
            below = 0
        rates[name] = lr * decay**below
    return rates


def scramble_inside(pictures: Tensor, conv: nn.Conv2d, order: Tensor) -> tuple[Tensor, nn.Conv2d]:
    # unfold lists a patch's numbers channel by channel, so the pixels stand in the last but one axis after this unflatten.
    (patch, _), channels = conv.kernel_size, pictures.shape[1]
    patches = F.unfold(pictures, patch, stride=patch).unflatten(1, (channels, -1))[:, :, order].flatten(1, 2)
    follower = copy.deepcopy(conv)
    with torch.no_grad():  # a sum does not ask for the order of its terms, if weights move with their pixels
        follower.weight.copy_(conv.weight.flatten(2)[:, :, order].view_as(conv.weight))
    return F.fold(patches, pictures.shape[2:], patch, stride=patch), follower
