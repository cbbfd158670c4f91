"""Exercises · 연습문제: text, from code points to translation and summaries

Put your code where it says TODO, then:  python -m study check 07
Stuck?  python -m study hint initial_consonants
"""

from collections.abc import Callable, Sequence

import torch  # noqa: F401  (for your code)
from torch import Tensor


def initial_consonants(text: str) -> str:
    """Reduce Hangul to the first consonant of each syllable, as people type it to search a list of names: 한글 3호 → ㅎㄱ 3ㅎ.

    Everything else stays as it is. The text may be in NFD. Consonants are those on a keyboard, from U+3131 to U+314E:
    ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ
    """
    raise NotImplementedError  # TODO


def token_batches(lengths: list[int], most: int) -> list[list[int]]:
    """Group texts such that no batch takes more than `most` places with its padding: short texts get large batches.

    Texts are taken by length, the shortest first, of equals in the order given; each batch takes as many of them as fit. A text
    that is longer than `most` gets a batch of its own.

    Args:
        lengths: Tokens of each text.
        most: Texts of a batch times the longest of them may not be more.

    Returns:
        Batches of places in `lengths`.
    """
    raise NotImplementedError  # TODO


def wordpiece_pair(words: dict[tuple[str, ...], int]) -> tuple[str, str]:
    """Find the pair of tokens that training a WordPiece vocabulary joins next.

    BPE asks how often a pair stands together; WordPiece by how much more often than its parts would by chance: the highest
    count(pair) / (count(first) · count(second)). Of equals the first one by alphabet.

    Args:
        words: Words as tokens, and how often each occurs in the texts.
    """
    raise NotImplementedError  # TODO


def bm25_scores(counts: Tensor, query: Tensor, k: float = 1.2, b: float = 0.75) -> Tensor:
    """Score documents for a query by BM25 (Robertson et al., 1994), which search engines use where this lesson has cosines.

    Each term of the query adds weight · n (k + 1) / (n + k (1 - b + b · length / mean length)), with n its count in the document,
    lengths in terms, and weight = ln(1 + (N - d + 0.5) / (d + 0.5)) where d of the N documents have it. A term that stands twice
    in the query counts twice.

    Args:
        counts: (documents, terms), no document empty.
        query: (terms,) counts.
        k: How soon further occurrences stop counting; 0: at once.
        b: How much long documents are held back; 0: not at all.

    Returns:
        (documents,).
    """
    raise NotImplementedError  # TODO


def negative_sampling_gradients(given: Tensor, right: Tensor, wrong: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Derive the loss of negative sampling by hand, without autograd.

    The loss of one row is -ln σ(given · right) - Σ ln σ(-given · wrong); the loss is the sum over the rows.

    Args:
        given: Vectors of what is given (n, d).
        right: Vectors of the true neighbours (n, d).
        wrong: Vectors of noise (n, k, d).

    Returns:
        The gradients of the loss by the three, in the same shapes.
    """
    raise NotImplementedError  # TODO


def multiply_analogy(vectors: Tensor, a: int, b: int, c: int) -> int:
    """Find d in a : b = c : d by products instead of sums (3CosMul: Levy and Goldberg, 2014).

    With every cosine moved from -1 … 1 to 0 … 1 by (1 + cosine) / 2, d is the word, but for a, b and c, with the largest
    cos(d, b) · cos(d, c) / (cos(d, a) + 0.001).

    Args:
        vectors: One row for each word (words, d), of any length.
        a: Row of a word, and so are b and c.
        b: What a becomes.
        c: What becomes d.

    Returns:
        The row of d.
    """
    raise NotImplementedError  # TODO


def fasttext_hash(text: str) -> int:
    """Hash a piece of a word as the program fastText does, so that its published vectors can be read.

    It is FNV-1a in 32 bits (start at 2166136261; for each byte of UTF-8: xor, then times 16777619), but each byte counts as a
    signed one: a byte of 128 or more is that byte minus 256, and written in 32 bits it sets the upper 24 as well. For English
    that is the usual hash; for Korean, of which every byte is 128 or more, it is another one.
    """
    raise NotImplementedError  # TODO


def mark_negation(words: list[str], negations: set[str]) -> list[str]:
    """Put "not_" before every word that follows a negation, up to the next sign, so that a bag of words can see it.

    A negation is left as it is, and so are signs; a second negation before a sign ends what the first one began (and so on).
    An old trick (Das and Chen, 2001): "salty" and "not_salty" become two words.

    Args:
        words: Of a text, in order. A sign is a word without any letter or digit: ",", "!!!".
        negations: Words that negate: {"not", "never", "nobody"}.

    Returns:
        As many words.
    """
    raise NotImplementedError  # TODO


def attentive_mean(states: Tensor, scores: Tensor, real: Tensor) -> Tensor:
    """Average the states of real words, the weights being the softmax of their scores; a text of no words gets zeros, not NaN.

    Args:
        states: (batch, words, width).
        scores: (batch, words), one for each word.
        real: (batch, words) bool, False for padding, which may stand anywhere.

    Returns:
        (batch, width).
    """
    raise NotImplementedError  # TODO


def sufficiency(judge: Callable[[list[str]], float], words: list[str], scores: list[float], keep: int) -> float:
    """Return how much of a verdict is lost if only the most important words are read (DeYoung et al., 2020).

    Args:
        judge: From words to a verdict.
        words: Of a text, in order.
        scores: Of each word; of equal ones, the earlier word counts as the more important.
        keep: How many words to keep, in their old order; all where there are fewer.

    Returns:
        The verdict on all words minus that on those kept: near 0 if these words are enough.
    """
    raise NotImplementedError  # TODO


def stupid_backoff(ids: Sequence[int], context: Sequence[int], symbol: int, factor: float = 0.4) -> float:
    """Score how well a symbol follows a context, as was done for two trillion words of the web (Brants et al., 2007).

    The score is the symbol's share of what came after the whole context, if it ever came after it; else `factor` times the score
    after the context without its first symbol. After the empty context it is the share of the symbol in the text. No discounts,
    no continuation counts, and no probabilities: the scores of all symbols do not sum to one.

    Args:
        ids: The text that is counted.
        context: The symbols before, the last one last; may be empty. What never occurs in the text is backed off from as well.
        symbol: The one to score.
        factor: What each step back costs.

    Returns:
        The score; 0 for a symbol that is not in the text.
    """
    raise NotImplementedError  # TODO


def cut_into_streams(ids: Tensor, streams: int, steps: int) -> tuple[Tensor, Tensor]:
    """Cut a text so that an LSTM can carry its state on: row b of each batch goes on where row b of the batch before it ended.

    The text is cut into `streams` pieces, which are read side by side; each begins where the one before it ends and is as long as
    n // streams symbols. Of each piece as many batches of `steps` symbols are read as there can be, if behind the last one there
    is a symbol more, which is only predicted. What is left over at the end of a piece, or of the text, is dropped.

    Args:
        ids: (n,) int64.
        streams: How many pieces, which is the batch size.
        steps: How many symbols are read at once.

    Returns:
        Inputs and targets, (batches, streams, steps) each: targets are what comes one symbol later.
    """
    raise NotImplementedError  # TODO


def bits_per_byte(losses: Tensor, text: str) -> float:
    """Turn the losses of any language model into a number that can be compared between tokenizers.

    Args:
        losses: (tokens,), in nats, one of each token of the text.
        text: What the tokens stand for.

    Returns:
        Bits for each byte of the text in UTF-8.
    """
    raise NotImplementedError  # TODO


def repeated_share(ids: Sequence[int], n: int) -> float:
    """Tell which share of the n-grams of a text have been there before, in the same text (seq-rep-n; Welleck et al., 2020).

    Args:
        ids: Any number of tokens.
        n: At least 1.

    Returns:
        1 - different n-grams / n-grams; 0 for a text that is shorter than n.
    """
    raise NotImplementedError  # TODO


def smoothed_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float, padding: int) -> Tensor:
    """Cross-entropy with label smoothing over the tokens that are no padding, from logarithms of probabilities alone.

    The target of a token is 1 - smoothing for itself, and smoothing spread evenly over all tokens of the vocabulary, itself too.

    Args:
        logits: (batch, steps, tokens).
        targets: (batch, steps) int64.
        smoothing: 0 up to 1.
        padding: The target that does not count; at least one does.

    Returns:
        A scalar: the mean over all targets that count, whichever sentence they are in.
    """
    raise NotImplementedError  # TODO


def clipped_matches(hypothesis: list[str], references: list[list[str]], n: int) -> tuple[int, int]:
    """Count what BLEU counts when there are several right translations.

    An n-gram of the hypothesis matches as often as it occurs in that reference which has it most often, and not more.

    Args:
        hypothesis: Words.
        references: Words of each right translation.
        n: Length of the n-grams.

    Returns:
        How many n-grams match, and how many the hypothesis has.
    """
    raise NotImplementedError  # TODO


def beam_step(scores: Tensor, log_probabilities: Tensor, ended: Tensor, end: int) -> tuple[Tensor, Tensor, Tensor]:
    """Take one step of beam search for a single sentence: of all ways to go on with all hypotheses, keep the best.

    A hypothesis that has ended goes on with `end` alone, at no cost. As many are kept as there were.

    Args:
        scores: (beam,), the log-probability of each hypothesis so far; -inf for one that is none.
        log_probabilities: (beam, tokens), of the next token of each.
        ended: (beam,) bool.
        end: The token that ends a sentence.

    Returns:
        Of the hypotheses kept, the best first: new scores (beam,), which old one each goes on (beam,), with which token (beam,).
    """
    raise NotImplementedError  # TODO


def personalized_pagerank(weights: Tensor, start: Tensor, damping: float) -> Tensor:
    """PageRank of a reader who does not jump just anywhere: for a summary that answers a question, he jumps to what resembles it.

    Following ties he goes from sentence j to sentence i with probability weights[i, j] / (sum of column j). With probability
    1 - damping, and always where a sentence has no ties, he jumps: to sentence i with probability start[i] / sum(start).

    Args:
        weights: (n, n) float64, symmetric, at least 0.
        start: (n,) float64, at least 0, and not all 0.
        damping: Between 0 and 1, and less than 1.

    Returns:
        (n,) ranks that sum to 1, exact within 1e-9: a linear system has to be solved, or enough steps taken.
    """
    raise NotImplementedError  # TODO


def pick_diverse(scores: Tensor, similar: Tensor, count: int, balance: float) -> list[int]:
    """Pick sentences that are good and unlike those picked before (maximal marginal relevance; Carbonell and Goldstein, 1998).

    Each next one is the highest in balance · score - (1 - balance) · (its greatest similarity to a picked one, 0 for the first).
    Of equals the earlier sentence wins.

    Args:
        scores: (n,) how good each sentence is.
        similar: (n, n) how much each resembles each.
        count: How many to pick; where there are fewer, all.
        balance: 0 to 1.

    Returns:
        The places, in the order in which they were picked.
    """
    raise NotImplementedError  # TODO


def skip_bigram_f1(candidate: list[str], reference: list[str], gap: int) -> float:
    """ROUGE-S: count pairs of words in their order, with up to `gap` other words between them (Lin, 2004).

    A pair that stands in a text several times counts as often; common is the smaller of both counts. Precision divides by the
    candidate's pairs, recall by the reference's. With gap 0 it is ROUGE-2.

    Args:
        candidate: Words of the summary to score.
        reference: Words of the other one.
        gap: At least 0.

    Returns:
        F1; 0 where nothing is common.
    """
    raise NotImplementedError  # TODO


def coverage_loss(attention: Tensor, real: Tensor) -> Tensor:
    """Punish a decoder for looking again where it has looked before, so that it does not repeat itself (See et al., 2017).

    The coverage of a source at step t is the sum of the attention that it got in steps 0 to t - 1. The loss of a step is the sum
    over the sources of the smaller one of its attention and its coverage.

    Args:
        attention: (batch, targets, sources), each row sums to 1.
        real: (batch, targets) bool, False for padding behind the summary.

    Returns:
        The mean over all real steps, a scalar.
    """
    raise NotImplementedError  # TODO
