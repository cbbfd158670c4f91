"""Word embeddings · 단어 임베딩

A word is known by its neighbours: vectors that predict which words stand near which come to lie so that words alike are close,
and one difference, such as from a country to its capital, is nearly the same vector everywhere.
낱말의 뜻은 이웃을 보면 안다. 곁에 어떤 낱말이 오는지 예측하도록 벡터를 학습하면 비슷한 낱말끼리 가까이 놓인다. 나라에서 수도로
가는 것 같은 한 가지 차이는 어디서나 거의 같은 벡터가 된다.

You will
  1. cut texts into words, thin out the frequent ones, and take windows
  2. write the loss of negative sampling and its gradient by hand, and hold both against PyTorch's
  3. train skip-gram (from a word its neighbours) and CBOW (from them the word); count as a baseline: PPMI and SVD
  4. ask every analogy of pairs that no sentence states, and see what is found without any arithmetic
  5. leave out the negatives: the lowest loss of all, and nothing learned; and ask for a word that is not there

Before     06_advanced/sentence_embeddings.py
Run        python -m study run word_embeddings   (about 24 s on one CPU core, after importing torch)
You see    of pairs no sentence states: skip-gram 0.90, in Korean 0.85; PPMI 0.45, 0.31, at width 300 0.98, 0.88; pairs.png
Try next   --steps 300: first guess which suffers more, skip-gram or CBOW, and whether it still beats counting
Theory     notes/en/07_nlp.md · notes/ko/07_nlp.md
Practise   python -m study check 07
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import datasets, paths
from utils.datasets.small_world import World, load_world, write_questions
from utils.device import pick_device
from utils.lesson import check, mention, run
from utils.plotting import label, save_figure
from utils.tracking import new_folder
from utils.word_windows import Corpus, neighbours, read_corpus


# %% 1. Words
def chance_to_stay(counts: Tensor, threshold: float) -> Tensor:
    """Return with which probability each word is kept in an epoch, as word2vec's code has it: frequent ones seldom."""
    return ((scarce := threshold * counts.sum() / counts).sqrt() + scarce).clamp(max=1)


def look_around(corpus: Corpus, places: Tensor, widths: Tensor, window: int) -> Tensor:
    """Return the words up to widths (n,) to the left and right of places (n,): (n, 2 · window), -1 where there is none."""
    offsets = torch.tensor([o for o in range(-window, window + 1) if o], device=places.device)
    there = places[:, None] + offsets  # (n, 2 · window)
    inside = there.clamp(0, len(corpus.ids) - 1)
    seen = (there == inside) & (offsets.abs() <= widths[:, None]) & (corpus.sentences[inside] == corpus.sentences[places, None])
    return corpus.ids[inside].masked_fill(~seen, -1)


# %% 2. The loss
class Word2Vec(nn.Module):
    """Two vectors for each word: one as what is given, one as what is asked for. The place after the last word is padding."""

    def __init__(self, words: int, width: int, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.inputs, self.outputs = nn.EmbeddingBag(words + 1, width, mode="mean", padding_idx=words), nn.Embedding(words, width)
        nn.init.uniform_(self.inputs.weight, -0.5 / width, 0.5 / width)
        nn.init.zeros_(self.outputs.weight)

    def forward(self, given: Tensor, asked: Tensor) -> Tensor:
        """Score asked (n, 1 + negatives) by the mean vector of given (n, words): (n, 1 + negatives)."""
        return torch.einsum("nd,nkd->nk", self.inputs(given), self.outputs(asked))


def negative_sampling_loss(scores: Tensor) -> Tensor:
    """The first of each row of scores (n, 1 + negatives) is right, the others are noise: tell which (Mikolov et al., 2013)."""
    return -(F.logsigmoid(scores[:, 0]) + F.logsigmoid(-scores[:, 1:]).sum(dim=1)).mean()


def compare_by_hand(seed: int) -> dict[str, float]:
    """Return how far loss, both gradients and the mean of a bag by hand are from PyTorch's."""
    torch.manual_seed(seed)
    model, given, asked = Word2Vec(50, 8, seed).double(), torch.randint(50, (32, 6)), torch.randint(50, (32, 6))
    given[torch.rand(32, 6) < 0.4], given[:, 0] = 50, torch.arange(32)  # padding, and in each bag at least one word
    nn.init.normal_(model.outputs.weight)
    scores, labels = model(given, asked), torch.eye(6, dtype=torch.float64)[:1].expand(32, 6)
    loss = negative_sampling_loss(scores)
    loss.backward()
    with torch.no_grad():
        theirs = F.binary_cross_entropy_with_logits(scores, labels, reduction="sum") / 32
        real = (given != 50)[..., None].double()  # (32, 6, 1)
        means = (model.inputs.weight[given] * real).sum(dim=1) / real.sum(dim=1)  # (32, 8)
        error = (scores.sigmoid() - labels) / 32  # dL/ds: all there is to derive
        parts = (error[..., None] * means[:, None]).flatten(0, 1)  # (32 · 6, 8)
        outputs = torch.zeros_like(model.outputs.weight).index_add_(0, asked.flatten(), parts)
        share = (error[..., None] * model.outputs.weight[asked]).sum(dim=1) / real.sum(dim=1)  # of each word in the bag
        inputs = torch.zeros_like(model.inputs.weight).index_add_(0, given.flatten(), (share[:, None] * real).flatten(0, 1))
        found = {"loss_off": (loss - theirs).abs().item(), "bag_off": (means - model.inputs(given)).abs().max().item()}
        errors = inputs - model.inputs.weight.grad, outputs - model.outputs.weight.grad
        found["gradient_off"] = max(error.abs().max().item() for error in errors)
    print("2. by hand and by PyTorch: " + ", ".join(f"{name} by {off:.1g}" for name, off in found.items()))
    return found


# %% 3. Training
def train(
    corpus: Corpus, cbow: bool, steps: int, width: int, window: int, negatives: int, lr: float, seed: int, device: torch.device
) -> tuple[Tensor, float]:
    """Take steps of Adam on 256 windows each; return the input vectors (words, width) and the loss of the last step."""
    generator, model = torch.Generator().manual_seed(seed), Word2Vec(len(corpus.words), width, seed).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    noise, stay = corpus.counts.pow(0.75).cumsum(0), chance_to_stay(corpus.counts, 1e-3)
    for step in range(steps):
        if step % 200 == 0:  # thin out before windows are taken: those that stay move together
            kept = torch.rand(len(corpus.ids), generator=generator) < stay[corpus.ids]
            thinned = corpus._replace(ids=corpus.ids[kept].to(device), sentences=corpus.sentences[kept].to(device))
        places = torch.randint(len(thinned.ids), (256,), generator=generator).to(device)
        widths = torch.randint(1, window + 1, (256,), generator=generator).to(device)  # near words are taken more often
        around = look_around(thinned, places, widths, window)  # (256, 2 · window)
        rows, columns = (around >= 0).nonzero(as_tuple=True)
        given, right = thinned.ids[places[rows], None], around[rows, columns]  # skip-gram: from the middle every neighbour
        if cbow:  # from all the neighbours together the middle
            some = (around >= 0).any(dim=1)
            given, right = around[some].masked_fill(around[some] < 0, len(corpus.words)), thinned.ids[places[some]]
        drawn = torch.rand(len(right), negatives, generator=generator, dtype=torch.float64) * noise[-1]
        wrong = torch.searchsorted(noise, drawn).clamp(max=len(noise) - 1).to(device)
        loss = negative_sampling_loss(model(given, torch.cat([right[:, None], wrong], dim=1)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.inputs.weight[:-1].detach().cpu(), loss.item()


def count(corpus: Corpus, window: int, width: int, seed: int) -> Tensor:
    """The baseline: how much oftener than by chance words meet (positive PMI), as its first singular vectors: (words, width)."""
    size, (left, right, distances) = len(corpus.words), neighbours(corpus, window)
    reached = (window + 1 - distances) / window  # by this share of the widths that training draws
    sums = (left * size + right).bincount(reached, minlength=size**2).view(size, size)
    sums = sums + sums.T
    noise = sums.sum(dim=0).pow(0.75)
    pmi = (sums / sums.sum(dim=1, keepdim=True) / (noise / noise.sum())).log().clamp(min=0)  # log 0 becomes 0, too
    torch.manual_seed(seed)
    vectors, values, _ = torch.svd_lowrank(pmi, q=min(width, size), niter=4)
    return vectors * values.sqrt()


# %% 4. Questions
def answer(vectors: Tensor, questions: Tensor) -> dict[str, float]:
    """Return which share is right by cosine: of b - a + c, of c alone, and of b - a + c if the answer may be a, b or c, too."""
    units = F.normalize(vectors, dim=1)
    a, b, c, right = questions.T
    cosines = {"": (units[b] - units[a] + units[c]) @ units.T, "_alone": units[c] @ units.T}  # (questions, words)
    found = {name: row.scatter(1, questions[:, :3], -2.0).argmax(dim=1) for name, row in cosines.items()}
    found["_all_words"] = cosines[""].argmax(dim=1)
    return {name: (answers == right).float().mean().item() for name, answers in found.items()}


def compare_neighbours(vectors: Tensor, words: list[str], world: World) -> tuple[float, float]:
    """Of things, actions and qualities, return how many are nearest to one of their own group, and what chance would find."""
    numbers = {word: i for i, word in enumerate(words)}
    known = [(numbers[form], group) for stem, group in world.groups.items() for form in world.forms[stem] if form in numbers]
    places, groups = zip(*known, strict=True)
    same = torch.tensor([[one == other for other in groups] for one in groups]).fill_diagonal_(False)  # (words, words)
    units = F.normalize(vectors[list(places)], dim=1)
    nearest = (units @ units.T).fill_diagonal_(-2).argmax(dim=1)
    return same[range(len(same)), nearest].float().mean().item(), same.sum().item() / (len(same) * (len(same) - 1))


# %% 5. Mistakes
def leave_out_negatives(corpus: Corpus, questions: Tensor, seed: int, device: torch.device) -> dict[str, float]:
    """Train with true neighbours only, for 300 steps, and with noise; return last losses and shares of right answers."""
    found = {}
    for name, negatives in (("none", 0), ("five", 5)):
        table, loss = train(corpus, False, 300, 64, 4, negatives, 0.02, seed, device)
        found |= {f"negatives_{name}_loss": loss, f"negatives_{name}_right": (right := answer(table, questions)[""])}
        print(f"5. 300 steps, negatives: {name}: loss {loss:.2g}, questions right {right:.2f}")
    return found


def ask_for_unknown(corpus: Corpus) -> str:
    """Look up the vector of a word that was not learned; return the message."""
    table, numbers = nn.Embedding(len(corpus.words), 4), {word: i for i, word in enumerate(corpus.words)}
    try:
        table(torch.tensor(numbers.get("pytorch", len(numbers))))  # the CPU says what is wrong; a GPU stops in some later line
    except IndexError as error:
        print(f'5. "{error}"\n   read: a number that is no row of the table; what was not learned has no vector')
        return str(error)
    return ""


# %% All of it, in order
def draw_pairs(tables: dict[str, Tensor], words: list[str], pairs: list[tuple[str, str]]) -> None:
    """Draw pairs as lines in the plane where they differ most (PCA), and write the last table for TensorBoard's projector."""
    import matplotlib.pyplot as plt
    from torch.utils.tensorboard import SummaryWriter

    known = [word for pair in pairs if set(pair) <= set(words) for word in pair]
    figure, axes = plt.subplots(1, len(tables), figsize=(11, 4.5), layout="constrained")
    for axis, (name, table) in zip(axes, tables.items(), strict=True):
        points = F.normalize(table[[words.index(word) for word in known]], dim=1)
        points = points - points.mean(dim=0)  # (2 · pairs, width)
        flat = points @ torch.linalg.svd(points, full_matrices=False).Vh[:2].T  # (2 · pairs, 2)
        axis.plot(*flat.view(-1, 2, 2).permute(2, 1, 0), color="0.7")  # a line from the one to the other
        for place, word in zip(flat.tolist(), known, strict=True):
            axis.annotate(word, place, fontsize=8, ha="center")
        axis.set(title=name, xticks=[], yticks=[])
    save_figure(figure, __file__, "pairs")
    with SummaryWriter(str(folder := new_folder(paths.outputs("word_embeddings") / "tensorboard"))) as writer:
        writer.add_embedding(table, metadata=words)
    mention("written", f"{paths.short(folder)}  (t-SNE while you watch: tensorboard --logdir outputs, then PROJECTOR)")


def main(
    source: datasets.Source = "sample", sentences: int = 12_000, steps: int = 1200, width: int = 64, window: int = 4,
    negatives: int = 5, lr: float = 0.02, device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Learn vectors of words from what stands around them.

    Args:
        source: "sample" for sentences of our own, "real" for IMDb and NSMC.
        sentences: How many sentences of our own in each language.
        steps: Steps of training for each model, on 256 windows each.
        width: Numbers in a vector.
        window: The largest distance of words that are neighbours.
        negatives: Words of noise for each true neighbour.
        lr: Learning rate at the start; it falls to a twentieth.
        device: auto, cpu, cuda or mps.
        seed: Of the sentences, the initial weights and all that is drawn.
    """
    check(min(steps, width, window, negatives, lr) > 0, "--steps, --width, --window, --negatives, --lr: all have to be above 0")
    where, results = pick_device(device), {}
    for language in ("en", "ko"):
        world = load_world(language, source, sentences, seed)
        corpus = read_corpus(world.sentences, seldom=3, most=6000)
        questions, wide = write_questions(corpus.words, world.stated, world.held_out), count(corpus, window, 300, seed)
        print(f"1. {language}: {len(corpus.ids):,} words, {len(corpus.words):,} different")
        results |= compare_by_hand(seed) if language == "en" else {}
        tables, found = {"counts": wide[:, :width], "wide": wide}, {"chance": 1 / (len(corpus.words) - 3)}
        for name, cbow in (("cbow", True), ("skipgram", False)):
            tables[name], _ = train(corpus, cbow, steps, width, window, negatives, lr, seed, where)
        print(f"4. of {len(questions)} questions right; by c alone; if a, b, c may be answers; neighbours of one group")
        for name, table in tables.items():
            found |= {name + way: share for way, share in answer(table, questions).items()}
            if world.groups:
                found[f"{name}_neighbours"], found["chance_neighbours"] = compare_neighbours(table, corpus.words, world)
            print(f"   {name:8}" + " ".join(f"{share:6.3f}" for key, share in found.items() if key.startswith(name)))
        if language == label("en", "ko"):
            draw_pairs({name: tables[name] for name in ("counts", "skipgram")}, corpus.words, next(iter(world.held_out.values())))
        results |= {f"{language}_{name}": share for name, share in found.items()}
        results |= leave_out_negatives(corpus, questions, seed, where) if language == "en" else {}
        rivals = ["chance", "skipgram_alone"] + ["counts"] * bool(world.groups)  # real text: counting may win, and is told
        baseline = max(found[name] for name in rivals)
        check(found["skipgram"] > baseline, f"{language}: skip-gram is no better than counting: more --steps?")
    ask_for_unknown(corpus)
    return results


if __name__ == "__main__":
    run(main)
