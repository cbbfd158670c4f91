"""BERT: the encoder of a Transformer that reads in both directions, with the parameter names that published weights have.

    model, tokenizer = load_minilm(MINILM.find())
    vectors = embed(model, tokenizer, ["This is an example sentence", "Each sentence is converted"])
    vectors @ vectors.T     # cosine similarities

Devlin et al., 2018 (https://arxiv.org/abs/1810.04805). MiniLM-L6 is a small one (Wang et al., 2020, https://arxiv.org/abs/2002.10957),
trained further to embed sentences (Reimers and Gurevych, 2019, https://arxiv.org/abs/1908.10084).
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import paths
from utils.checkpoint import load_weights
from utils.lesson import LessonError, check, explain
from utils.wordpiece import WordPiece


@dataclass(frozen=True)
class BertConfig:
    """Sizes of a BERT; the names are those of its config.json, except `dropout`.

    Attributes:
        vocab_size: Tokens in the vocabulary.
        hidden_size: Numbers for each token, a multiple of the heads.
        num_hidden_layers: Layers.
        num_attention_heads: Heads in each.
        intermediate_size: Width of the feed-forward networks.
        max_position_embeddings: Tokens of the longest text.
        type_vocab_size: Segments.
        layer_norm_eps: Added to variances.
        dropout: In training.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    dropout: float = 0.1


MINILM_L6 = BertConfig(30_522, 384, 6, 12, 1536)


class Embeddings(nn.Module):
    """The sum of what a token is, where it stands, and to which of two segments it belongs."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, ids: Tensor, segments: Tensor | None) -> Tensor:
        longest = self.position_embeddings.num_embeddings
        check(ids.shape[1] <= longest, f"{ids.shape[1]} tokens are more than the {longest} that this network has places for")
        segments = torch.zeros_like(ids) if segments is None else segments
        places = self.position_embeddings.weight[: ids.shape[1]]  # (steps, hidden)
        return self.dropout(self.LayerNorm(self.word_embeddings(ids) + places + self.token_type_embeddings(segments)))


class SelfAttention(nn.Module):
    """Every token looks at all real tokens, on both sides."""

    def __init__(self, config: BertConfig):
        super().__init__()
        heads, width = config.num_attention_heads, config.hidden_size
        check(width % heads == 0, f"{width} numbers cannot be cut into {heads} heads of equal size")
        self.heads, self.dropout = heads, config.dropout
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (  # (batch, heads, steps, hidden / heads)
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0)
        return out.transpose(1, 2).flatten(2)  # (batch, steps, hidden)


class AddAndNorm(nn.Module):
    """A linear layer whose output is added to what the block was given; the norm comes after the sum."""

    def __init__(self, inputs: int, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(inputs, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(residual + self.dropout(self.dense(x)))


class Layer(nn.Module):
    """Self-attention, then a feed-forward network for each token by itself."""

    def __init__(self, config: BertConfig):
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.attention = nn.ModuleDict({"self": SelfAttention(config), "output": AddAndNorm(width, config)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = AddAndNorm(inner, config)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.attention["output"](self.attention["self"](x, mask), x)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)


class Bert(nn.Module):
    """Token ids to one vector for each token, which knows the whole text.

    Attributes:
        pooler: What the original puts on [CLS] before it classifies texts; `forward` does without.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))})
        self.pooler = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.hidden_size)})
        self.apply(start_small)

    def forward(self, ids: Tensor, real: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """Read texts.

        Args:
            ids: (batch, steps) int64.
            real: (batch, steps) bool, False for padding, which nobody may look at; without it all are real.
            segments: (batch, steps) of 0 and 1: the first or the second text of a pair; without it all are 0.

        Returns:
            (batch, steps, hidden_size). What stands at padding means nothing.

        Raises:
            LessonError: More steps than the network has positions.
        """
        x = self.embeddings(ids, segments)
        mask = None if real is None else real[:, None, None]  # (batch, heads, targets, sources), the first and last of them given
        for layer in self.encoder["layer"]:
            x = layer(x, mask)
        return x

    def pooled(self, states: Tensor) -> Tensor:
        """The vector of [CLS] after one more layer, from states (batch, steps, hidden_size): (batch, hidden_size)."""
        return torch.tanh(self.pooler["dense"](states[:, 0]))


class MaskedLanguageModel(nn.Module):
    """BERT as it is pretrained: logits for the token at every place. The names are those of published weights.

    The last matrix is the embedding matrix, transposed: the same numbers say what a token means and when to expect it.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.bert = Bert(config)
        width, norm = config.hidden_size, nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        transform = nn.ModuleDict({"dense": nn.Linear(width, width), "LayerNorm": norm}).apply(start_small)
        self.cls = nn.ModuleDict({"predictions": nn.ModuleDict({"transform": transform})})
        self.cls["predictions"].bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(
        self, ids: Tensor, real: Tensor | None = None, segments: Tensor | None = None, where: Tensor | None = None
    ) -> Tensor:
        """As `Bert.forward`, but returns logits (batch, steps, vocab_size), or (n, vocab_size) where `where` is True.

        In pretraining one place in seven is masked; the logits of all the others would be most of the work, and thrown away.
        """
        states = self.bert(ids, real, segments)
        states = states if where is None else states[where]
        head = self.cls["predictions"]
        states = head["transform"]["LayerNorm"](F.gelu(head["transform"]["dense"](states)))
        return F.linear(states, self.bert.embeddings.word_embeddings.weight, head.bias)


def start_small(module: nn.Module) -> None:
    """BERT's initial weights: normal with a standard deviation of 0.02, biases 0."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def mean_of_real(states: Tensor, real: Tensor) -> Tensor:
    """The mean vector of the real tokens of each text, from states (batch, steps, hidden): (batch, hidden)."""
    weights = real[:, :, None].to(states.dtype)  # (batch, steps, 1)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


@torch.no_grad()
def embed(model: Bert, tokenizer: WordPiece, texts: list[str], batch_size: int = 32) -> Tensor:
    """Turn texts into unit vectors (texts, hidden_size) on the model's device; the product of two is their cosine similarity.

    A vector is the mean over a text's tokens, [CLS] and [SEP] included, as MiniLM was trained. Of a text the first 256 count.
    The model is in its eval mode meanwhile, and afterwards in the mode in which it was.
    """
    check(len(texts) > 0, "there are no texts to embed")
    longest = min(256, model.config.max_position_embeddings)
    device, was_training = model.embeddings.word_embeddings.weight.device, model.training
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # texts of about one length together: less padding
    vectors = torch.empty(len(texts), model.config.hidden_size, device=device)
    model.eval()
    for start in range(0, len(texts), batch_size):
        some = order[start : start + batch_size]
        ids, real = (part.to(device) for part in tokenizer.batch([texts[i] for i in some], longest))
        vectors[some] = F.normalize(mean_of_real(model(ids, real), real), dim=1)
    model.train(was_training)
    return vectors


def load_minilm(file: Path) -> tuple[Bert, WordPiece]:
    """Read MiniLM-L6 and its tokenizer, in eval mode on the CPU.

    Args:
        file: model.safetensors; vocab.txt lies beside it.

    Raises:
        LessonError: One of the files is missing, truncated or of another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(file)
    except FileNotFoundError:
        raise LessonError(f"{paths.short(file)} does not exist") from None
    except OSError as error:
        raise LessonError(explain(error)) from None
    except SafetensorError:
        raise LessonError(f"{paths.short(file)} is truncated or no file of safetensors; it was left as it is") from None
    weights.pop("embeddings.position_ids", None)  # 0, 1, 2, ...: older files carry them along
    model = Bert(MINILM_L6)
    load_weights(model, weights, file)
    tokenizer = WordPiece.from_file(file.with_name("vocab.txt"))
    known = len(tokenizer.vocabulary)
    check(known == MINILM_L6.vocab_size, f"the vocabulary beside {paths.short(file)} has {known} tokens, not 30522")
    return model.eval(), tokenizer
