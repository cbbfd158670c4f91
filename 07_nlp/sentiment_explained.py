"""Which words decided · 무엇을 보고 판단했나

Every method that colours words by importance gives a picture that looks right. Whether it tells what the network went by can be
measured: take the words away, and see whether the verdict falls; or ask about texts of which one knows what decides.
중요한 낱말에 색을 칠해 주는 방법은 많고, 그림은 모두 그럴듯해 보인다. 신경망이 정말 그것을 보고 판단했는지는 재 볼 수 있다. 그
낱말을 빼면 판단이 무너지는지 보거나, 무엇이 판단을 가르는지 이미 아는 글로 물어본다.

You will
  1. train an LSTM with attention on reviews whose grammar knows which words decide
  2. score words by attention, gradient times input, integrated gradients, and by leaving them out
  3. see that integrated gradients add up to the verdict, and meet the gradient that is None
  4. measure how often the top word is one that decides, against chance, and in clauses that do not count
  5. take words away, the most important first, and watch the verdict: the deletion curve

Before     07_nlp/sentiment_analysis.py
Run        python -m study run sentiment_explained   (about 15 s on one CPU core, after importing torch)
You see    top word decides: chance 0.19, gradient 0.38, attention 0.54, left out 0.81, integrated 0.82 to 0.85; words.png
Try next   --points 20: half as many points on the way. First guess what becomes of the sums, and what of the table
Theory     notes/en/07_nlp.md · notes/ko/07_nlp.md
Practise   python -m study check 07
"""

import warnings
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets.written_reviews import Explained, write_explained
from utils.device import pick_device
from utils.lesson import check, mention, run
from utils.networks.attentive_lstm import AttentiveLstm
from utils.plotting import korean_font, label, save_figure
from utils.subwords import Subwords, words

Batch = tuple[Tensor, Tensor]  # parts (batch, words, parts), and which words are real (batch, words)
KOREAN = {
    "attention": "어텐션",
    "gradient": "기울기 x 입력",
    "integrated": "적분 기울기",
    "left out": "하나씩 빼기",
    "random": "무작위",
}
LONGEST = 60


# %% 1. A network that reads
def train(
    model: AttentiveLstm, subwords: Subwords, texts: list[str], labels: Tensor, steps: int, lr: float, seed: int
) -> list[float]:
    """Take steps of AdamW on 64 reviews each; return the losses."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.2)
    device, losses = model.head.weight.device, []
    for chosen, ids, real in islice(subwords.draw_batches(subwords.encode(texts, LONGEST), 64, seed), steps):
        loss = F.binary_cross_entropy_with_logits(model(ids.to(device), real.to(device)), labels[chosen].float().to(device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


# %% 2. Four ways to score words. Each returns (batch, words): how much a word speaks for what was decided
@torch.no_grad()
def by_attention(model: AttentiveLstm, batch: Batch) -> Tensor:
    """How much the network takes of the state at each word. (That state has read the other words, too.)"""
    return model.read(model.words(batch[0]), batch[1])[1]


def gradient(model: AttentiveLstm, x: Tensor, real: Tensor) -> Tensor:
    """Return how the verdict changes with each number of word vectors (batch, words, width)."""
    x = x.detach().requires_grad_()
    with torch.backends.cudnn.flags(enabled=False):  # cuDNN's LSTM has gradients in training mode only
        return torch.autograd.grad(model.read(x, real)[0].sum(), x)[0]


def by_gradient(model: AttentiveLstm, batch: Batch) -> Tensor:
    """Gradient times input: what the words would add if the network were linear."""
    x = model.words(batch[0]).detach()
    return (gradient(model, x, batch[1]) * x).sum(dim=2) * decision(model, batch)[:, None]


def by_integrated_gradients(model: AttentiveLstm, batch: Batch, points: int = 40) -> Tensor:
    """Words times the mean gradient on the way from nothing (vectors of zeros) to them (Sundararajan et al., 2017)."""
    x = model.words(batch[0]).detach()
    mean = sum(gradient(model, (i + 0.5) / points * x, batch[1]) for i in range(points)) / points
    return (mean * x).sum(dim=2) * decision(model, batch)[:, None]


@torch.no_grad()
def by_leaving_out(model: AttentiveLstm, batch: Batch) -> Tensor:
    """How far the verdict moves when the review is read without the word (also called occlusion)."""
    ids, real = batch
    scores = torch.zeros(real.shape, device=ids.device)
    for place in range(real.shape[1]):
        gone = torch.zeros_like(real)
        gone[:, place] = True
        scores[:, place] = model(ids, real) - model(*without(batch, gone))
    return scores * decision(model, batch)[:, None]


METHODS = {"attention": by_attention, "gradient": by_gradient, "integrated": by_integrated_gradients, "left out": by_leaving_out}


@torch.no_grad()
def decision(model: AttentiveLstm, batch: Batch) -> Tensor:
    """Return 1 where the network takes a review for praise, -1 where it does not."""
    return torch.where(model(*batch) > 0, 1.0, -1.0)


def without(batch: Batch, gone: Tensor) -> Batch:
    """Take the words `gone` (batch, words) out, and move the others together; where none would stay, the first does."""
    ids, real = batch
    keep = real & ~gone
    keep[:, 0] |= ~keep.any(dim=1)
    order = (~keep).int().argsort(dim=1, stable=True)  # what is kept comes first, in its old order
    places, counts = torch.arange(ids.shape[1], device=ids.device), keep.sum(dim=1, keepdim=True)
    return ids.gather(1, order[..., None].expand_as(ids)), places < counts


# %% 3. What adds up, and what is None
@torch.no_grad()
def add_up(model: AttentiveLstm, batch: Batch, scores: Tensor) -> float:
    """Return by what share the scores' sum misses the verdict minus that on nothing: the median over reviews."""
    x = model.words(batch[0])
    total = (model.read(x, batch[1])[0] - model.read(torch.zeros_like(x), batch[1])[0]) * decision(model, batch)
    return (((scores * batch[1]).sum(dim=1) - total) / total).abs().median().item()


def ask_for_nothing(model: AttentiveLstm, batch: Batch) -> str:
    """Read .grad of word vectors that were computed, not given; return the warning that comes with None."""
    x = model.words(batch[0])
    with warnings.catch_warnings(record=True) as caught, torch.backends.cudnn.flags(enabled=False):
        warnings.simplefilter("always")
        model.read(x, batch[1])[0].sum().backward()
        nothing = x.grad
    model.zero_grad()
    return f"{nothing}: {str(caught[-1].message).partition(' Its ')[0]}"


# %% 4. Is it a word that decides?
def point(scores: Tensor, real: Tensor, reviews: list[Explained]) -> dict[str, float]:
    """Return how often the top word counts in the grammar; and, of reviews with a contrast, stands where it does not count."""
    top = scores.masked_fill(~real, -torch.inf).argmax(dim=1).tolist()
    roles = [review.roles[i] for review, i in zip(reviews, top, strict=True)]
    against = [role for role, review in zip(roles, reviews, strict=True) if "conceded" in review.roles]
    return {"counts": roles.count("counts") / len(roles), "conceded": against.count("conceded") / max(1, len(against))}


# %% 5. Taking words away
@torch.no_grad()
def delete(model: AttentiveLstm, batch: Batch, scores: Tensor, most: int) -> list[float]:
    """Return the mean probability of the first verdict when 0, 1, ... `most` words are gone, those with the top scores first."""
    decided, ranks = decision(model, batch), scores.masked_fill(~batch[1], -torch.inf).argsort(1, descending=True).argsort(1)
    return [torch.sigmoid(model(*without(batch, ranks < gone)) * decided).mean().item() for gone in range(most + 1)]


# %% All of it, in order
def draw(texts: list[str], tables: dict[str, Tensor], curves: dict[str, list[float]]) -> None:
    """Draw the words of texts, one row for each method: the redder, the more they speak for the verdict; and deletion curves."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(texts), figsize=(10, 1.9 * len(texts)), layout="constrained", squeeze=False)
    for i, (axis, text) in enumerate(zip(axes[:, 0], texts, strict=True)):
        rows = torch.stack([scores[i, : len(words(text))] for scores in tables.values()])
        rows = rows / rows.abs().amax(dim=1, keepdim=True).clamp(min=1e-9)
        axis.imshow(rows.numpy(), cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        axis.set_xticks(range(rows.shape[1]), words(text), fontfamily=[korean_font() or "DejaVu Sans", "DejaVu Sans"])
        axis.set_yticks(range(len(tables)), [label(name, KOREAN[name]) for name in tables])
    save_figure(figure, __file__, "words")
    figure, axis = plt.subplots(figsize=(6, 3.8), layout="constrained")
    for name, curve in curves.items():
        axis.plot(curve, "o-", label=label(name, KOREAN[name]))
    axis.set(xlabel=label("words taken away", "뺀 낱말 수"), ylabel=label("probability of the verdict", "처음 판단의 확률"))
    axis.legend()
    save_figure(figure, __file__, "deletion")


def main(
    steps: int = 400, width: int = 32, lr: float = 0.012, reviews: int = 300, points: int = 40,
    device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Score words by four methods, and measure which of them tell what the network went by.

    Args:
        steps: Steps of training, on 64 reviews each.
        width: Of word vectors and states.
        lr: The highest learning rate.
        reviews: Reviews to explain.
        points: On the way of integrated gradients.
        device: auto, cpu, cuda or mps.
        seed: Of texts and weights.
    """
    check(min(steps, width, reviews, points) > 0, "needed are at least --steps 1, --width 1, --reviews 1 and --points 1")
    where = pick_device(device)
    shown, asked = write_explained(4000, seed), write_explained(reviews, seed + 10**6)
    mention("data", f"sample: {len(shown):,} reviews from a grammar of our own, English and Korean; not real ones")
    texts, labels = [one.review.text for one in shown], torch.tensor([one.review.label for one in shown])
    subwords = Subwords(texts, least=2)
    model = AttentiveLstm(len(subwords), width, seed).to(where)
    train(model, subwords, texts, labels, steps, lr, seed)

    def batch_of(some: list[str]) -> Batch:
        ids, real = subwords.batch(subwords.encode(some, LONGEST))
        return ids.to(where), real.to(where)

    verdicts = (decision(model, batch_of([one.review.text for one in asked])) > 0).tolist()
    right = [one for one, verdict in zip(asked, verdicts, strict=True) if verdict == one.review.label]
    accuracy = len(right) / reviews
    print(f"1. {accuracy:.3f} of {reviews} reviews judged rightly; these are explained")
    check(accuracy > 0.75, "whoever cannot judge has nothing to explain: more --steps?")
    batch = batch_of([one.review.text for one in right])
    generator = torch.Generator().manual_seed(seed)
    scores = {name: method(model, batch) for name, method in METHODS.items() if name != "integrated"}
    scores["integrated"] = by_integrated_gradients(model, batch, points)
    scores["random"] = torch.rand(batch[1].shape, generator=generator).to(where)
    contrasts = [i for i, one in enumerate(right) if "conceded" in one.roles and (korean_font() or one.review.language == "en")]
    by_language = sorted(contrasts or [0], key=lambda i: right[i].review.language)
    pictured = [by_language[0], by_language[-1]]  # an English and a Korean one
    example = pictured[0]
    row = zip(right[example].words, scores["left out"][example].tolist(), strict=False)
    print("2. by leaving out: " + " ".join(f"{word} {score:+.1f}" for word, score in row))

    few, results = (batch[0][:20], batch[1][:20]), {"accuracy": accuracy}
    results["gradient_off"] = add_up(model, few, by_gradient(model, few))
    for name, count in (("integrated_off", points), ("integrated_finely_off", 10 * points)):
        results[name] = add_up(model, few, by_integrated_gradients(model, few, count))
    print("3. sums off by: " + ", ".join(f"{name} {value:.3f}" for name, value in results.items() if name.endswith("off")))
    print(f"   x.grad is {ask_for_nothing(model, batch)}\n   read: x was computed, not given; x.detach().requires_grad_() is")
    curves = {}
    print("4. top word:     counts  in a clause that does not   5. sure after taking away 1-4 words")
    for name, table in scores.items():
        found, curves[name] = point(table.cpu(), batch[1].cpu(), right), delete(model, batch, table, 6)
        key = name.replace(" ", "_")
        results |= {f"{key}_{what}": share for what, share in found.items()} | {f"{key}_sure": sum(curves[name][1:5]) / 4}
        print(f"   {name:12}{found['counts']:9.2f}{found['conceded']:16.2f}{results[f'{key}_sure']:30.2f}")
    texts = [right[i].review.text for i in pictured]
    draw(texts, {name: scores[name][pictured].cpu() for name in METHODS}, curves)
    margin = results["left_out_counts"] - results["random_counts"]
    check(margin > 0.2, f"words left out hit what decides only {margin:+.2f} more often than chance does: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
