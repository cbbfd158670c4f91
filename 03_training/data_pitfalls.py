"""Data pitfalls · 데이터의 함정

Two mistakes that raise no error. The test set helps to prepare the training data, and the result looks better than it is. The
examples come sorted by class, and the network forgets each class while it learns the next.
오류 없이 결과만 망치는 실수가 둘 있다. 테스트 데이터가 학습 데이터의 준비에 끼어들면 결과가 실제보다 좋아 보인다. 예제가
클래스 순서로 오면 신경망은 다음 클래스를 배우는 동안 앞의 것을 잊는다.

You will
  1. choose features with the test set in sight, and predict the toss of a coin
  2. standardize in four ways, and see which mistake costs nothing and which one everything
  3. train on examples that come sorted by class
  4. shuffle a stream with a buffer, and see how large it must be

Before     03_training/data_loading.py
Run        python -m study run data_pitfalls      (about 5 s on one CPU core, after importing torch)
You see    96 % of coins predicted out of noise; digits 19 % right after training on sorted ones, shuffled 89 %; pitfalls.png
Try next   --examples 200: five times the examples, and still only coins. First guess what the leak then pretends; then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Images, Source, hold_out, mnist
from utils.lesson import check, mention, run
from utils.plotting import label, save_figure


# %% 1. A leak that matters: choosing features
def nearest_mean(x: Tensor, y: Tensor, x_new: Tensor) -> Tensor:
    """Answer for each row of x_new (m, features) with the class of (x, y) whose mean is nearest: (m,)."""
    means = torch.stack([x[y == c].mean(dim=0) for c in range(int(y.max()) + 1)])  # (classes, features)
    return torch.cdist(x_new, means).argmin(dim=1)


def most_different(x: Tensor, y: Tensor, keep: int) -> Tensor:
    """Return the `keep` features (indices) whose means in the two classes lie furthest apart."""
    return (x[y == 0].mean(dim=0) - x[y == 1].mean(dim=0)).abs().topk(keep).indices


def toss_coins(examples: int, features: int, keep: int, seed: int) -> tuple[float, float]:
    """Predict coins from noise; return the test accuracy with features chosen on all examples, and on the training ones only.

    No feature knows anything about any coin, so the truth is 0.5.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(examples, features, generator=generator)
    y = torch.arange(examples) % 2  # as many heads as tails; the first half trains, the second is the test
    half = examples // 2
    accuracies = []
    for seen in (examples, half):
        chosen = most_different(x[:seen], y[:seen], keep)
        answers = nearest_mean(x[:half, chosen], y[:half], x[half:, chosen])
        accuracies.append((answers == y[half:]).double().mean().item())
    return accuracies[0], accuracies[1]


# %% 2. Leaks that matter less, and one that is none
def standardize(x: Tensor, by: Tensor) -> Tensor:
    """Shift and scale every feature so that on the rows of `by` it has mean 0 and standard deviation 1."""
    return (x - by.mean(dim=0)) / by.std(dim=0)


def compare_standardizing(examples: int, seed: int) -> dict[str, float]:
    """Classify wines by the nearest mean, after training on few; return the test accuracy, by how they were standardized."""
    from sklearn.datasets import load_wine

    wine = load_wine()  # 178 real wines, 13 measurements from 0.1 to 1,680, 3 cultivars
    mention("data", "wine (scikit-learn): 178 real wines, 13 measurements, 3 cultivars")
    x, y = torch.from_numpy(wine.data), torch.from_numpy(wine.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, test = order[:examples], order[examples:]
    by_cultivar = torch.empty_like(x)
    for c in range(3):  # as if each cultivar were delivered, and standardized, on a day of its own
        by_cultivar[test[y[test] == c]] = standardize(x[test[y[test] == c]], by=x[test[y[test] == c]])
    honest = standardize(x, by=x[train])
    versions = {
        "not at all": (x[train], x[test]),
        "by the training set": (honest[train], honest[test]),
        "by everything": (standardize(x, by=x)[train], standardize(x, by=x)[test]),
        "each delivery by itself": (honest[train], by_cultivar[test]),
    }
    return {name: (nearest_mean(a, y[train], b) == y[test]).double().mean().item() for name, (a, b) in versions.items()}


def spread(accuracies: list[float]) -> str:
    """Say the mean and the standard deviation of accuracies."""
    numbers = torch.tensor(accuracies)
    return f"{numbers.mean():.1%} ± {numbers.std():.1%}"


# %% 3. Sorted classes
def train(data: Images, orders: Iterable[Tensor], lr: float, seed: int) -> nn.Module:
    """Train a small network on pictures, 32 at a time, in the order (n,) that is given for each epoch."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for order in orders:
        for rows in order.split(32):
            loss = F.cross_entropy(model(data.images[rows].float() / 255), data.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@torch.no_grad()
def predict(model: nn.Module, data: Images) -> Tensor:
    """Return the predicted classes (n,)."""
    return model(data.images.float() / 255).argmax(dim=1)


# %% 4. A shuffle buffer
def shuffle(stream: Iterable[int], buffer: int, generator: torch.Generator) -> Iterator[int]:
    """Keep `buffer` examples of a stream, hand out one of them by chance, and put the next in its place."""
    kept = []
    for example in stream:
        if len(kept) < buffer:
            kept.append(example)
            continue
        place = int(torch.randint(buffer, (1,), generator=generator))
        yield kept[place]
        kept[place] = example
    yield from (kept[i] for i in torch.randperm(len(kept), generator=generator).tolist())


def compare_orders(data: Images, test: Images, buffers: list[int], epochs: int, lr: float, seed: int) -> dict[int, Tensor]:
    """Train on examples sorted by class and shuffled by a buffer; return what each network answers to `test`, (n,)."""
    by_class = data.labels.argsort(stable=True).tolist()  # as files in a folder for each class are listed
    answers = {}
    for buffer in buffers:
        generator = torch.Generator().manual_seed(seed)
        orders = (torch.tensor(list(shuffle(by_class, buffer, generator))) for _ in range(epochs))
        answers[buffer] = predict(train(data, orders, lr, seed), test)
    return answers


def draw_figure(leaked: list[float], honest: list[float], accuracies: dict[int, float], baseline: float) -> None:
    """Draw the accuracies on coins as histograms; then accuracy against the size of the shuffle buffer."""
    import matplotlib.pyplot as plt

    figure, (coins, buffers) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    bins = torch.linspace(0, 1, 21).numpy()
    for values, name in (
        (honest, label("features chosen on the training set", "학습 세트로 고른 특징")),
        (leaked, label("chosen on everything", "전체로 고른 특징")),
    ):
        coins.hist(values, bins, alpha=0.6, label=name)
    coins.axvline(0.5, color="black", linestyle="--")
    coins.set(xlabel=label("accuracy on coins", "동전 맞히기의 정확도"), ylabel=label("seeds", "시드"))
    coins.legend()
    buffers.plot(list(accuracies), list(accuracies.values()), "o-")
    buffers.axhline(baseline, color="grey", linestyle="--", label=label("nearest mean", "가장 가까운 평균"))
    buffers.set(xscale="log", ylim=(0, 1), xlabel=label("shuffle buffer", "셔플 버퍼"), ylabel=label("accuracy", "정확도"))
    buffers.legend()
    save_figure(figure, __file__, "pitfalls")


# %% All of it, in order
def main(
    examples: int = 40,
    features: int = 2000,
    draws: int = 100,
    epochs: int = 5,
    lr: float = 0.003,
    source: Source = "auto",
    seed: int = 0,
) -> dict[str, float]:
    """Let the test set leak, and sort the training set; measure what either does to the result.

    Args:
        examples: Coins, half of them for training.
        features: Random numbers that are known of every coin; 20 of them are chosen.
        draws: How often coins are tossed, and wines dealt out.
        epochs: Passes over the digits.
        lr: Adam's learning rate on them.
        source: "real" MNIST, the "sample" without it, or "auto".
        seed: Seed of everything that is drawn.
    """
    check(examples >= 8 and features >= 20 and draws > 1 and epochs > 0, "--examples from 8, --features from 20, --draws from 2")
    seeds = range(1000 * seed, 1000 * seed + draws)
    leaked, honest = zip(*(toss_coins(examples, features, 20, s) for s in seeds), strict=True)
    print(f"1. coins from noise, features chosen on everything {spread(leaked)}, on the training set {spread(honest)}")
    wines = [compare_standardizing(30, s) for s in seeds]
    accuracy = {name: [wine[name] for wine in wines] for name in wines[0]}
    for name, values in accuracy.items():
        print(f"{'2.' if name == 'not at all' else '  '} wines standardized {name}: {spread(values)}")

    data = mnist(source)
    train_set, _ = hold_out(data.train, max(0, len(data.train) - 1437), seed)  # as many as the sample has: the same time
    buffers = [1, 32, 128, 512, len(train_set)]
    answers = compare_orders(train_set, data.test, buffers, epochs, lr, seed)
    right = {buffer: (answer == data.test.labels).float().mean().item() for buffer, answer in answers.items()}
    said = answers[1].bincount(minlength=10)
    print(f"3. sorted by class: {right[1]:.1%} right; {said.max() / said.sum():.0%} of the answers are a {said.argmax()}")
    print("4. by size of the shuffle buffer: " + ", ".join(f"{buffer}: {share:.1%}" for buffer, share in right.items()))
    pixels, new = (part.images.flatten(1).float() for part in (train_set, data.test))
    baseline = (nearest_mean(pixels, train_set.labels, new) == data.test.labels).float().mean().item()
    draw_figure(leaked, honest, right, baseline)
    shuffled = right[buffers[-1]]
    check(shuffled > max(0.1, baseline), f"shuffled {shuffled:.3f} are right, by the nearest mean {baseline:.3f}: more --epochs?")
    results = {"accuracy": shuffled, "baseline_accuracy": baseline, "accuracy_sorted": right[1]}
    results |= {"coins_leaked": sum(leaked) / draws, "coins_honest": sum(honest) / draws}
    return results | {f"wine_{name.replace(' ', '_')}": sum(values) / draws for name, values in accuracy.items()}


if __name__ == "__main__":
    run(main)
