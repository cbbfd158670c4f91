"""BERT: pretraining by filling in blanks · BERT: 빈칸 채우기로 하는 사전 학습

Hide words of a text and have a network guess them from both sides: no labels are needed, and whoever guesses well has understood
something of the language. BERT is the encoder of a Transformer, trained like that.
글에서 낱말을 가리고 양쪽 문맥으로 맞히게 한다. 레이블은 필요 없고, 잘 맞히려면 언어를 조금은 알아야 한다. 트랜스포머의
인코더를 이렇게 사전 학습한 것이 BERT다.

You will
  1. build the encoder by hand, equal to utils/networks/bert.py, which holds published weights, and see it look both ways
  2. meet the error everyone meets with BERT: a text that is too long
  3. mask tokens by the rule of 80, 10 and 10 percent, and count
  4. pretrain on opinions in English and Korean, and hold it against two ways of counting
  5. take the loss at all words instead, see what its number is worth, and have blanks filled in

Before     06_advanced/transformer.py
Run        python -m study run bert   (about 41 s on one CPU core, after importing torch)
You see    loss at hidden words: word frequencies 4.21, two neighbours 1.36, BERT 1.20; it has grammar, and no taste
Try next   --share 0.5: half of all words to guess in training. First guess what that does to the loss at 15 %
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets.opinions import vocabulary, write_opinions
from utils.device import pick_device
from utils.lesson import check, run
from utils.networks.bert import BertConfig, MaskedLanguageModel
from utils.wordpiece import SPECIAL, WordPiece

MASK, LONGEST = SPECIAL.index("[MASK]"), 40  # special tokens have the first ids, padding has 0
BLANKS = (
    "the guards [MASK] kind.", "the soup was [MASK] and the fish was fresh.", "although the bus was late, [MASK] taxi was fast.",
    "국[MASK] 싱거웠다.", "영화는 지루했[MASK] 책은 재미있었다.", "방은 깨끗했고 침대는 아늑했다. [MASK]는 행복했다.",
)  # fmt: skip


# %% 1. The encoder
class Block(nn.Module):
    """Attention to all real tokens, on both sides; then a network for each token. Each is added, and normalised after the sum."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-12) for _ in range(2))

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])  # (batch, heads, targets, sources)
        weights = scores.masked_fill(~real[:, None, None], -math.inf).softmax(dim=3)  # no causal mask: nothing is "later"
        x = self.norm1(x + self.out((weights @ v).transpose(1, 2).flatten(2)))  # (batch, steps, width)
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Encoder(nn.Module):
    """From tokens with blanks to logits for what belongs there."""

    def __init__(self, tokens: int, width: int, layers: int, heads: int, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.words, self.places = nn.Embedding(tokens, width), nn.Embedding(LONGEST, width)
        self.segments, self.norm = nn.Embedding(2, width), nn.LayerNorm(width, eps=1e-12)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.transform, self.last_norm = nn.Linear(width, width), nn.LayerNorm(width, eps=1e-12)
        self.bias = nn.Parameter(torch.zeros(tokens))
        for matrix in (parameter for parameter in self.parameters() if parameter.dim() == 2):
            nn.init.normal_(matrix, std=1 / math.sqrt(width))  # BERT's 0.02 is made for widths near 768

    def encode(self, ids: Tensor, real: Tensor, segments: Tensor | None = None) -> Tensor:
        """Return what the encoder makes of each token: (batch, steps, width)."""
        places = self.places(torch.arange(ids.shape[1], device=ids.device))  # (steps, width)
        x = self.norm(self.words(ids) + places + self.segments(torch.zeros_like(ids) if segments is None else segments))
        for block in self.blocks:
            x = block(x, real)
        return x

    def forward(self, ids: Tensor, real: Tensor, where: Tensor, segments: Tensor | None = None) -> Tensor:
        """Return logits (n, tokens) for the n places where `where` (batch, steps) is True."""
        x = self.last_norm(F.gelu(self.transform(self.encode(ids, real, segments)[where])))  # (n, width)
        return x @ self.words.weight.T + self.bias  # the embeddings once more: a guess is near the word that it means


def published_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give an Encoder's weights the names that published weights of BERT have."""
    renamed = {
        "words": "bert.embeddings.word_embeddings", "places": "bert.embeddings.position_embeddings",
        "segments": "bert.embeddings.token_type_embeddings", "norm": "bert.embeddings.LayerNorm", "blocks": "bert.encoder.layer",
        "transform": "cls.predictions.transform.dense", "last_norm": "cls.predictions.transform.LayerNorm",
        "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value", "out": "attention.output.dense",
        "norm1": "attention.output.LayerNorm", "up": "intermediate.dense", "down": "output.dense", "norm2": "output.LayerNorm",
    }  # fmt: skip
    names = {name: ".".join(renamed.get(part, part) for part in name.split(".")) for name in state}
    return {"cls.predictions.bias" if name == "bias" else names[name]: value for name, value in state.items()}


@torch.no_grad()
def look_around(ids: Tensor, tokens: int, seed: int) -> dict[str, float]:
    """Return how far outputs move when something else changes, and how far off utils/networks/bert.py is."""
    model, theirs = Encoder(tokens, 32, 2, 4, seed), MaskedLanguageModel(BertConfig(tokens, 32, 2, 4, 128, LONGEST)).eval()
    theirs.load_state_dict(theirs.state_dict() | published_names(model.state_dict()))  # theirs has a pooler, too
    real, segments = ids != 0, (torch.arange(ids.shape[1]) >= 5).long().expand_as(ids)
    off = (model(ids, real, real, segments) - theirs(ids, real, segments, where=real)).abs().max().item()
    one = ids[:1, : int(real[0].sum())]
    every, changed, padded, filled = one > 0, one.clone(), F.pad(one, (0, 3)), F.pad(one, (0, 3), value=7)
    changed[0, -2] = one[0, 1]  # another last word, before [SEP]
    out = model.encode(one, every)
    found = {
        "last word changed": (model.encode(changed, every) - out)[0, 0],  # seen from [CLS], the first token
        "second segment": (model.encode(one, every, segments[:1, : one.shape[1]]) - out)[0, 0],
        "order turned round": model.encode(one.flip(1), every).flip(1) - out,
        "padding changed": (model.encode(padded, padded > 0) - model.encode(filled, padded > 0))[0, 0],
    }
    found = {name: moved.abs().max().item() for name, moved in found.items()} | {"off": off}
    print("1. outputs move by: " + ", ".join(f"{name} {moved:.2g}" for name, moved in found.items()) + " from the finished one")
    return found


# %% 2. The error everyone meets
def meet_error(tokens: int) -> str:
    """Return PyTorch's answer to a text that is longer than the table of places."""
    ids = torch.ones(1, LONGEST + 1, dtype=torch.int64)
    try:
        Encoder(tokens, 32, 1, 4, seed=0).encode(ids, ids > 0)
    except IndexError as error:
        message = str(error)
    print(f'2. "{message}"\n   read: {LONGEST + 1} tokens, but places for {LONGEST}: cut the text (a GPU: "device-side assert")')
    return message


# %% 3. Blanks
def mask_tokens(ids: Tensor, share: float, tokens: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Choose tokens to be guessed, none of them special; return inputs and choice, (texts, steps) both.

    Of those, 80 % become [MASK], 10 % some other word, and 10 % stay: later uses show no [MASK], so the network must not learn
    that words which are there are never asked for, nor that they are always right.
    """
    chosen = (torch.rand(ids.shape, generator=generator) < share) & (ids >= len(SPECIAL))
    lot = torch.rand(ids.shape, generator=generator)
    others = torch.randint(len(SPECIAL), tokens, ids.shape, generator=generator)
    return ids.where(~chosen | (lot >= 0.9), others.where(lot >= 0.8, torch.tensor(MASK))), chosen


# %% 4. What counting knows
def count_baselines(shown: tuple[Tensor, Tensor], asked: tuple[Tensor, Tensor, Tensor], tokens: int) -> dict[str, float]:
    """Count in `shown` (inputs, ids); return losses for `asked` (inputs, ids, choice) of words alone and of both neighbours."""
    frequencies = torch.bincount(shown[1][shown[1] >= len(SPECIAL)], minlength=tokens) + 0.1
    frequencies = frequencies / frequencies.sum()  # (tokens,)
    row, step = asked[2].nonzero(as_tuple=True)
    answers, guess = asked[1][row, step], -frequencies.log()
    for side in (-1, 1):  # by Bayes, as if the neighbours were independent of each other
        near, word = (shown[0][:, :-1], shown[1][:, 1:]) if side < 0 else (shown[0][:, 1:], shown[1][:, :-1])
        pairs = torch.zeros(tokens, tokens).index_put_((near.flatten(), word.flatten()), torch.ones(()), accumulate=True)
        pairs += 2 * frequencies  # as if each had been seen two times more, beside any word
        guess = guess + (pairs / pairs.sum(dim=1, keepdim=True)).log()[asked[0][row, step + side]]  # (n, tokens)
    rare = frequencies.log().expand(len(answers), -1)
    return {"unigram": F.nll_loss(rare, answers).item(), "neighbours": F.cross_entropy(guess, answers).item()}


# %% 5. Pretraining, with the loss where words were chosen, and at all words
def pretrain(model: Encoder, data: Tensor, steps: int, share: float, lr: float, seed: int, everywhere: bool = False) -> None:
    """Take steps of AdamW on 64 texts of about one length each; `everywhere` takes the loss at all words."""
    generator, device = torch.Generator().manual_seed(seed), model.bias.device
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    order = (data > 0).sum(dim=1).argsort()  # by length: batches of one length have little padding
    for _ in range(steps):
        batch = order[int(torch.randint(len(order) - 63, (), generator=generator)) :][:64]
        ids = data[batch, : int((data[batch] > 0).sum(dim=1).max())]  # (64, steps)
        inputs, chosen = mask_tokens(ids, share, len(model.bias), generator)
        where = (ids >= len(SPECIAL)) if everywhere else chosen
        logits = model(inputs.to(device), (ids > 0).to(device), where.to(device))  # (n, tokens)
        loss = F.cross_entropy(logits, ids[where].to(device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def measure(model: Encoder, inputs: Tensor, ids: Tensor, chosen: Tensor) -> tuple[float, float]:
    """Return loss and accuracy at the chosen places."""
    logits = model(*(part.to(model.bias.device) for part in (inputs, ids > 0, chosen))).cpu()
    return F.cross_entropy(logits, ids[chosen]).item(), (logits.argmax(dim=1) == ids[chosen]).float().mean().item()


@torch.no_grad()
def fill_in(model: Encoder, tokenizer: WordPiece, texts: tuple[str, ...]) -> list[list[str]]:
    """Return the four likeliest tokens for the blank of each text, and print them."""
    found = []
    for text in texts:
        ids = torch.tensor([tokenizer.encode(text.replace("[MASK]", " [MASK] "))], device=model.bias.device)
        likely = model(ids, ids > 0, ids == MASK)[0].softmax(dim=0).topk(4)
        found.append([tokenizer.vocabulary[i] for i in likely.indices.tolist()])
        print(f"   {text}  " + ", ".join(f"{w} {p:.2f}" for w, p in zip(found[-1], likely.values.tolist(), strict=True)))
    return found


# %% All of it, in order
def main(
    texts: int = 20_000, steps: int = 1000, share: float = 0.15, width: int = 64, lr: float = 0.005,
    device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Build BERT's encoder, and pretrain it by filling in blanks.

    Args:
        texts: To learn from; 1,000 others are to measure with.
        steps: Steps of pretraining, on 64 texts each.
        share: Of the words that are chosen to be guessed, 0 to 1.
        width: Numbers for each token, a multiple of four heads.
        lr: The highest learning rate.
        device: auto, cpu, cuda or mps.
        seed: Of texts, masks and weights.
    """
    check(min(steps, width) > 0 == width % 4 and texts >= 64, "needed are --steps 1, --texts 64, and a --width of 4, 8, 12, ...")
    check(0 < share < 1, f"--share {share}: more than 0 and less than 1, to guess something from something")
    where, tokenizer = pick_device(device), WordPiece(vocabulary(), uncased=False)  # uncased would take Korean apart
    tokens, written = len(tokenizer.vocabulary), [opinion.text for opinion in write_opinions(texts, seed)]
    unseen = sorted({opinion.text for opinion in write_opinions(1000, seed + 2 * 10**6)} - set(written))
    data, held_out = tokenizer.batch(written)[0], tokenizer.batch(unseen)[0]  # (texts, steps)
    print(f"   {texts:,} texts of {tokens} tokens: {written[1]} {written[0]}")
    results = {"off": look_around(data[:8], tokens, seed)["off"]}
    meet_error(tokens)
    draw = torch.Generator().manual_seed(seed + 1)
    inputs, chosen = mask_tokens(held_out, 0.15, tokens, draw)  # the same whatever --share
    results["hidden"] = (inputs == MASK).sum().item() / chosen.sum().item()
    print(f"3. {chosen.sum()} to guess, {results['hidden']:.2f} hidden:", tokenizer.text(inputs[0][inputs[0] > 0].tolist()))
    losses = count_baselines((mask_tokens(data, 0.15, tokens, draw)[0], data), (inputs, held_out, chosen), tokens)
    print("4. loss at chosen words: frequencies {unigram:.3f}, both neighbours counted {neighbours:.3f}".format(**losses))
    for name, places in (("loss_everywhere", "all"), ("loss", "chosen")):
        model = Encoder(tokens, width, 2, 4, seed).to(where)
        pretrain(model, data, steps, share, lr, seed, everywhere=(places == "all"))
        losses[name], accuracy = measure(model, inputs, held_out, chosen)
        at_all = measure(model, inputs, held_out, held_out >= len(SPECIAL))[0]
        print(f"5. trained at {places} words: loss {losses[name]:.3f} at chosen ones, {at_all:.3f} at all, most of them copied")
        results |= {name: losses[name], f"{name}_at_all_words": at_all, "accuracy": accuracy}
    fill_in(model, tokenizer, BLANKS)
    results |= {"baseline": losses["unigram"], "neighbours": losses["neighbours"]}
    check(losses["loss"] < 0.6 * losses["unigram"], "the network hardly guesses better than word frequencies: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
