"""Exercises · 연습문제: generative models, attention, and the architectures built on it

Put your code where it says TODO, then:  python -m study check 06
Stuck?  python -m study hint attention_mask
"""

import math  # noqa: F401  (for your code)
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: F401
from torch import Tensor, nn


class TiedAutoencoder(nn.Module):
    """An autoencoder with half the weights: what encodes, turned round, decodes.

    The code is tanh(x W^T + b), and what is restored is code W + c. W is (width, inputs), drawn from a normal distribution of
    standard deviation inputs^-0.5; b and c start at zero.
    """

    def __init__(self, inputs: int, width: int):
        super().__init__()
        raise NotImplementedError  # TODO: three parameters: self.weight, self.code_bias, self.bias

    def encode(self, x: Tensor) -> Tensor:
        """(batch, inputs) → (batch, width)."""
        raise NotImplementedError  # TODO

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs) → (batch, inputs), restored."""
        raise NotImplementedError  # TODO


def mahalanobis_scores(known: Tensor, x: Tensor, ridge: float) -> Tensor:
    """Score how strange examples are by their distance to the mean, in units of how known examples spread in that direction.

    The score is (x - mean) (C + ridge · 1)^-1 (x - mean)^T, with C the covariance of `known`, divided by its number of examples.

    Args:
        known: Normal examples (n, d).
        x: Examples to score (m, d).
        ridge: Added to the diagonal; above 0, so that directions in which nothing ever varied do not count without end.

    Returns:
        (m,), the higher, the stranger.
    """
    raise NotImplementedError  # TODO


def kl_between_normals(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(other_mean, other_variance)) for codes with independent numbers, in nats.

    Args:
        mean: (batch, width), and so the other three.
        log_variance: Natural logarithms.
        other_mean: Of the second distribution.
        other_log_variance: Likewise.

    Returns:
        (batch,): summed over the numbers of a code.
    """
    raise NotImplementedError  # TODO


def importance_weighted_bound(log_joint: Tensor, log_posterior: Tensor) -> Tensor:
    """A tighter bound of ln p(x) than the ELBO, from several draws for each picture (Burda, Grosse and Salakhutdinov, 2015).

    ln of the mean over k draws z from q(z|x) of p(x, z) / q(z|x). Logarithms go down to minus several thousand, so p itself
    would be 0 in float32.

    Args:
        log_joint: ln p(x, z) = ln p(x|z) + ln p(z) of each draw, (k, batch).
        log_posterior: ln q(z|x), (k, batch).

    Returns:
        (batch,), in nats. With k = 1 it is one draw's ELBO.
    """
    raise NotImplementedError  # TODO


def hinge_losses(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """The hinge losses of a GAN (Lim and Ye, 2017), from the discriminator's outputs (n,) for real pictures and fakes.

    The discriminator wants real ones at 1 or above and fakes at -1 or below; what is there already costs nothing. The generator
    wants fakes as high as they can get.

    Returns:
        The discriminator's loss and the generator's, two scalars, means over the batch.
    """
    raise NotImplementedError  # TODO


def play_once(
    generator: nn.Module, discriminator: nn.Module, generator_step: torch.optim.Optimizer,
    discriminator_step: torch.optim.Optimizer, real: Tensor, noise: Tensor,
) -> None:  # fmt: skip
    """Take one step of the discriminator, then one of the generator, with `hinge_losses`.

    Both see the pictures that the generator drew from `noise` before either step. Afterwards the discriminator's parameters have
    no gradients (None) that the generator's loss left there. The generator runs once.

    Args:
        generator: noise (n, z) → pictures.
        discriminator: pictures → (n,).
        generator_step: Its optimizer.
        discriminator_step: Likewise.
        real: Real pictures.
        noise: (n, z).
    """
    raise NotImplementedError  # TODO


def interpolated_slopes(critic: nn.Module, real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """The length of the critic's gradient at points on the way from fakes to real pictures, for a gradient penalty.

    Args:
        critic: Pictures (n, channels, height, width) → (n,).
        real: Pictures.
        fake: Likewise, as many.
        share: (n,): 1 means at the real one, 0 at the fake.

    Returns:
        (n,), one length for each picture, over all its pixels; a loss made of it reaches the critic's weights, and a fake's
        generator is not reached.
    """
    raise NotImplementedError  # TODO


def jump_back(start: Tensor, now: Tensor, left: Tensor, t: int, earlier: int) -> tuple[Tensor, Tensor]:
    """Go back several steps at once: the distribution of x after `earlier` steps, given x at the start and after t steps.

    Args:
        start: (n,) x before any noise.
        now: (n,) x after t steps.
        left: (T + 1,) the share of the variance that is the data's after 0, 1, ... T steps; left[0] is 1.
        t: 1 to T.
        earlier: 0 to t - 1.

    Returns:
        Mean (n,), and variance (), both exact. For earlier = t - 1 they are DDPM's.
    """
    raise NotImplementedError  # TODO


def split_velocity(noisy: Tensor, velocity: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Read picture and noise out of a "velocity", which many networks guess instead of the noise (Salimans and Ho, 2022).

    With noisy = √share · clean + √(1 - share) · noise, velocity = √share · noise - √(1 - share) · clean.

    Args:
        noisy: (n, channels, height, width).
        velocity: Likewise.
        share: (n,), each in 0..1. At 0 and at 1, too, what is asked for is in the two.

    Returns:
        The clean pictures and the noise, both (n, channels, height, width).
    """
    raise NotImplementedError  # TODO


def find_noise(denoiser: Callable[[Tensor, int], Tensor], pictures: Tensor, left: Tensor) -> Tensor:
    """Go the way of DDIM without noise (eta 0) in the other direction: from pictures to the noise that they would come from.

    Each step keeps the guess of the noise, and of the picture, that the denoiser makes where the step begins.

    Args:
        denoiser: Called as denoiser(x, t) with t in 0..T - 1; returns its guess of the noise in x, which is there after t steps.
        pictures: (n, channels, height, width), after 0 steps.
        left: (T + 1,) the share of the variance that is the picture's; left[0] is 1.

    Returns:
        What is there after T steps, of the shape of the pictures.
    """
    raise NotImplementedError  # TODO


def attention_mask(lengths: Tensor, steps: int, window: int) -> Tensor:
    """Make the mask for sentences that are filled up to `steps` words and read from left to right.

    A word may look at itself and at the window - 1 words before it, at nothing that comes later, and at no padding.

    Args:
        lengths: (batch,) int64, of the sentences, at least 1.
        steps: Words of the longest, or more.
        window: At least 1.

    Returns:
        (batch, 1, steps, steps) bool for F.scaled_dot_product_attention of (batch, heads, steps, width): True may be looked at.
        What stands in the rows of padding is of no importance, as long as each has something to look at.
    """
    raise NotImplementedError  # TODO


class AdditiveMemory(nn.Module):
    """Bahdanau's attention as a decoder uses it: states are prepared once, and then looked up at every step.

    The score of a state for a query is v(tanh(query_layer(query) + key_layer(state))). All three layers are linear, from the
    widths of query and state to `width`, from there to 1; only key_layer has a bias.
    """

    def __init__(self, query_width: int, state_width: int, width: int):
        super().__init__()
        raise NotImplementedError  # TODO: self.query_layer, self.key_layer, self.v

    def prepare(self, states: Tensor, real: Tensor) -> None:
        """Keep what does not depend on the query: states (batch, sources, state_width), mask (batch, sources), True for words."""
        raise NotImplementedError  # TODO

    def forward(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Look up queries (batch, query_width): averages of the states (batch, state_width), weights (batch, sources)."""
        raise NotImplementedError  # TODO


def mean_distance(weights: Tensor, real: Tensor) -> float:
    """How far a decoder jumps: the mean distance between the words that two targets in a row look at most.

    Args:
        weights: (batch, targets, sources), at least two targets.
        real: (batch, targets) bool: False where a target is padding. Padding is at the end, and each row has two targets or more.

    Returns:
        The mean of |source of target i + 1 - source of target i| over all pairs of real neighbours in the batch.
    """
    raise NotImplementedError  # TODO


def with_heads(x: Tensor, heads: int) -> Tensor:
    """Cut (batch, steps, width) into heads: (batch, heads, steps, width / heads), head 0 the first numbers of every step."""
    raise NotImplementedError  # TODO


def merge_partial(parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Put attention together that was computed in parts, each over its own sources, as on several machines.

    Args:
        parts: Of each part its output (..., targets, width), which is the average over its own sources, and the logarithm of the
            sum of e to the power of its scores (..., targets, 1): -inf where a mask left nothing, and the output is then of no
            meaning, perhaps NaN. Scores may be in the thousands.

    Returns:
        (..., targets, width): what attention over all sources gives; zeros where no part has anything.
    """
    raise NotImplementedError  # TODO


def count_multiplications(model: nn.Module, x: Tensor) -> int:
    """Count how many numbers all convolutions and linear layers of a model multiply with a weight while it reads x.

    A number that comes out of such a layer took as many multiplications as its kernel (of one output channel), or its row of the
    matrix, has weights; groups make kernels smaller. Biases, norms and pooling do not count.

    Args:
        model: Any; left without hooks, and in the mode in which it was.
        x: What it reads, with a batch dimension; all examples count.

    Returns:
        The number of multiplications.
    """
    raise NotImplementedError  # TODO


def load_what_fits(model: nn.Module, saved: dict[str, Tensor]) -> list[str]:
    """Load somebody else's weights into a model as far as they fit.

    Names may begin with "module.", as nn.DataParallel writes them; that is taken off. Tensors whose name the model does not have,
    or whose shape is another one, are left out. `saved` stays as it is.

    Args:
        model: Gets the weights.
        saved: A state dict.

    Returns:
        The names of the model's tensors that were not loaded, sorted.
    """
    raise NotImplementedError  # TODO


def stochastic_depth(branch: Tensor, rate: float, training: bool, generator: torch.Generator) -> Tensor:
    """Switch a residual branch off for some examples of the batch (Huang et al., 2016).

    In training each example loses its whole branch with probability `rate`; what is left is scaled so that the expected value
    stays the same. In eval mode nothing happens.

    Args:
        branch: (batch, ...) what the branch answered.
        rate: From 0 to 1; with 1 nothing is left.
        training: The mode.
        generator: Draws; on the CPU, as the branch.

    Returns:
        As `branch`.
    """
    raise NotImplementedError  # TODO


def fold_norm(norm: nn.LayerNorm, linear: nn.Linear) -> nn.Linear:
    """Move what a layer norm has learned into the linear layer behind it, as one does before a Transformer is put to use.

    Args:
        norm: Of vectors of one width, with weight and bias. Stays as it is.
        linear: From that width to another, with or without bias. Stays as it is.

    Returns:
        A new layer with bias, of the same dtype: for every x (..., width) it makes of the *plain* standardised x (a layer norm
        without weight and bias) what linear(norm(x)) is.
    """
    raise NotImplementedError  # TODO


def prefix_mask(prefixes: Tensor, steps: int) -> Tensor:
    """Make the mask of a decoder without encoder, which first reads a question and then writes the answer behind it.

    All words of the question may look at one another, whichever comes first. A word of the answer may look at the question, at
    itself and at the answer's words before it. No word of the question looks at the answer.

    Args:
        prefixes: (batch,) int64, how many words each question has, 0 to `steps`.
        steps: Words of question and answer.

    Returns:
        (batch, 1, steps, steps) bool for F.scaled_dot_product_attention: True may be looked at.
    """
    raise NotImplementedError  # TODO


def wave_shift(distance: int, width: int) -> Tensor:
    """Find the matrix that moves sinusoidal positions by a distance.

    The position of place p is (sin(p w_0), ..., sin(p w_n), cos(p w_0), ..., cos(p w_n)) with w_i = 10000^(-2i / width), and
    width / 2 of each. One and the same matrix turns the position of *every* place p into that of place p + distance.

    Args:
        distance: May be negative.
        width: Even.

    Returns:
        (width, width) float64, to be multiplied from the left: wave_shift(distance, width) @ position.
    """
    raise NotImplementedError  # TODO


def linear_bias(heads: int, targets: int, sources: int) -> Tensor:
    """Make the float mask of ALiBi (Press et al., 2022): no positions at all, but what is far away scores lower.

    Head h = 1, 2, ..., `heads` takes 2^(-8 h / heads) off the score for every place that the source lies before the target.
    The last target stands at the same place as the last source, as when a text is written on with a cache: then there are fewer
    targets than sources. Sources that come later than the target are not to be looked at.

    Args:
        heads: At least 1.
        targets: At least 1, at most `sources`.
        sources: How many.

    Returns:
        (heads, targets, sources) float32, to be added to the scores.
    """
    raise NotImplementedError  # TODO


def answer_confidence(logits: Tensor, answers: Tensor, ignore: int) -> Tensor:
    """How probable a model finds whole answers, so that a program can hand on to a person what is uncertain.

    Args:
        logits: (batch, targets, symbols), as a decoder gives them that has been given the answer's symbols before each.
        answers: (batch, targets) int64; `ignore` where the answer is over, which may be a number that is no symbol.
        ignore: What stands there.

    Returns:
        (batch,): of each answer the probability of all its symbols together; 1 for an answer without symbols.
    """
    raise NotImplementedError  # TODO


def whole_words(tokens: list[str], chosen: list[bool]) -> list[bool]:
    """Mask whole words: where one piece of a word was chosen, choose all of its pieces.

    Half a word gives the other half away: "un", "##aff", [MASK] is no riddle. (Google's later BERTs were trained like this.)

    Args:
        tokens: Of one text, as WordPiece writes them: a piece that continues the word before it begins with "##".
        chosen: For each token; special tokens, as "[CLS]", were not chosen.

    Returns:
        For each token, True where any piece of its word was chosen.
    """
    raise NotImplementedError  # TODO


def hardest_negatives(vectors: Tensor, classes: Tensor) -> Tensor:
    """For each text find the most misleading other one: the nearest of those that are of another class.

    Args:
        vectors: (n, width) unit vectors.
        classes: (n,) int64, at least two different ones.

    Returns:
        (n,) int64: for each the place of its hardest negative; of several equally near ones the first.
    """
    raise NotImplementedError  # TODO


def gpt_parameters(symbols: int, context: int, width: int, layers: int) -> int:
    """Count the parameters of a GPT-2 without building it.

    Two embeddings; in every block two LayerNorms, queries, keys and values, the projection after attention, and two layers with
    4 * width numbers in between, all with biases; a last LayerNorm. The head shares the weight of the first embedding, and has
    no bias.

    Returns:
        Their number; a shared one counts once.
    """
    raise NotImplementedError  # TODO


def mask_after_cache(seen: int, steps: int) -> Tensor:
    """Make the mask for reading `steps` new tokens at once while keys and values of `seen` earlier ones are in the cache.

    A new token may look at all that is in the cache, at the new ones before it, and at itself.

    Args:
        seen: 0 or more.
        steps: At least 1.

    Returns:
        (steps, seen + steps) bool for F.scaled_dot_product_attention: True may be looked at.
    """
    raise NotImplementedError  # TODO


def penalise_repetition(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Make what was written already less likely (Keskar et al., 2019).

    The logit of every token that stands in the text is divided by the penalty where it is positive, and multiplied with it where
    it is negative: both make it smaller. How often the token was written does not matter.

    Args:
        logits: (batch, symbols); left as they are.
        ids: (batch, steps) int64, the texts so far.
        penalty: At least 1.

    Returns:
        (batch, symbols).
    """
    raise NotImplementedError  # TODO


def rotate_interleaved(x: Tensor, places: Tensor, theta: float) -> Tensor:
    """Turn vectors by their places, in the layout of llama.cpp: the pairs are numbers 0 and 1, 2 and 3, ...

    Args:
        x: (batch, heads, steps, d), d even.
        places: (steps,), of any kind of number.
        theta: Pair i turns by place · theta^(-2i/d) radians.

    Returns:
        As `x`.
    """
    raise NotImplementedError  # TODO


def cache_megabytes(layers: int, kv_heads: int, head_width: int, tokens: int, conversations: int, bits: int) -> float:
    """Tell how much memory the keys and values of conversations take, at the same time and of so many tokens each.

    Args:
        layers: Each layer keeps keys and values of its own.
        kv_heads: Heads of keys, and as many of values.
        head_width: Numbers in each.
        tokens: In every conversation.
        conversations: How many.
        bits: Of each number.

    Returns:
        Megabytes, of a million bytes each.
    """
    raise NotImplementedError  # TODO


def pack_signed_4_bits(numbers: Tensor) -> Tensor:
    """Put signed numbers of 4 bits side by side, two in a byte.

    Args:
        numbers: (rows, n) int8 from -8 to 7, n even.

    Returns:
        (rows, n / 2) uint8: number 2j in the lower half of byte j, the next in its upper half, in two's complement: -1 is 15.
    """
    raise NotImplementedError  # TODO


def unpack_signed_4_bits(packed: Tensor) -> Tensor:
    """Undo `pack_signed_4_bits`: (rows, m) uint8 to (rows, 2m) int8."""
    raise NotImplementedError  # TODO


def occlusion_map(model: nn.Module, pictures: Tensor, patch: int) -> Tensor:
    """Find out which patches an answer hangs on, by covering one at a time.

    Args:
        model: Pictures → logits (n, classes). It is asked in the mode in which it is, without gradients.
        pictures: (n, channels, height, width), where 0 is the mean; left as they are.
        patch: Height and width of a patch; divides both sides.

    Returns:
        (n, height / patch, width / patch): by how much the probability of the class that is the most likely for the whole picture
        falls when the patch is set to 0; negative where it rises.
    """
    raise NotImplementedError  # TODO


def keep_patches(tokens: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Leave out random patches of each picture, as masked autoencoders do (He et al., 2021): a ViT takes any number of tokens.

    Args:
        tokens: (n, 1 + patches, width), positions added already; the class token comes first and stays.
        share: Of the patches that stay, above 0 and at most 1; their number is rounded down, but is at least 1.
        generator: Draws, on the CPU; each picture gets patches of its own.

    Returns:
        tokens (n, 1 + kept, width), the kept patches in their old order; and which patches these are, (n, kept) int64 from 0.
    """
    raise NotImplementedError  # TODO


def clip_loss(pictures: Tensor, sentences: Tensor, temperature: float) -> Tensor:
    """Compute the loss of CLIP (Radford et al., 2021): each picture has to find its sentence, and each sentence its picture.

    Cosines over the temperature are the logits, among all of the batch; the loss is the mean of the cross entropies of both ways.
    Unlike in NT-Xent, pictures are not compared with pictures.

    Args:
        pictures: (n, width), of any length.
        sentences: (n, width), row i belongs to picture i.
        temperature: Above 0.

    Returns:
        A scalar.
    """
    raise NotImplementedError  # TODO


def align_and_spread(one: Tensor, two: Tensor, t: float = 2.0) -> tuple[float, float]:
    """Measure the two things that a contrastive loss wants (Wang and Isola, 2020).

    Args:
        one: Features (n, width) of n pictures in one view, n at least 2; of any length, they are normalised first.
        two: The same pictures in the other view.
        t: Sharpness of the second number.

    Returns:
        The mean squared distance of the two views of a picture (0 is best); and the logarithm of the mean of exp(-t · squared
        distance) over all pairs of different pictures in `one` (0 if all are in one point, the lower the more spread out).
    """
    raise NotImplementedError  # TODO


def layer_rates(names: list[str], layers: int, lr: float, decay: float) -> dict[str, float]:
    """Give each layer its own learning rate for fine-tuning: the deeper it lies, the smaller.

    What lies deep is general and should be kept; what lies near the new head has most to learn (Howard and Ruder, 2018).

    Args:
        names: Of parameters: "bert.embeddings.word_embeddings.weight", "bert.encoder.layer.5.output.dense.bias", "head.weight".
        layers: How many layers the encoder has; the one with the largest number lies on top.
        lr: The rate of the head, and of everything else that is neither embedding nor encoder layer (the pooler).
        decay: What a rate is multiplied by from one layer to the one below it: the top layer has lr * decay. The embeddings lie
            one below layer 0.

    Returns:
        For each name its rate.
    """
    raise NotImplementedError  # TODO


def scramble_inside(pictures: Tensor, conv: nn.Conv2d, order: Tensor) -> tuple[Tensor, nn.Conv2d]:
    """Put the pixels inside each patch in another order, and build a patch projection that does not notice.

    What no eye can read any more is as easy for a ViT as before: it learns its projection from nothing. A CNN needs neighbours.

    Args:
        pictures: (n, channels, height, width); patches divide both sides. They are left as they are.
        conv: The patch projection: `patch` x `patch` weights and as large a stride, with a bias. It is left as it is.
        order: (patch · patch,): pixel j of each new patch, counted row by row, is pixel order[j] of the old one, in all channels.

    Returns:
        The scrambled pictures, and a new nn.Conv2d that makes of them what `conv` makes of `pictures`.
    """
    raise NotImplementedError  # TODO
