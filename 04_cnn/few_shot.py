"""Learning from few examples · 소수 예제 학습

How many pictures of a class a network needs depends on what it can see already. With good features a few may do, and then the
simplest classifier is hard to beat; training more of the network pays once there is enough to train it on.
클래스마다 사진이 몇 장 필요한지는 신경망이 이미 무엇을 볼 줄 아느냐에 달렸다. 특징이 좋으면 몇 장으로도 되고, 그때는 가장
단순한 분류기를 이기기 어렵다. 신경망을 더 많이 학습하는 것은 학습할 사진이 충분할 때 값을 한다.

You will
  1. classify without training, by the nearest class mean in feature space, and find that this is a linear layer
  2. fit a linear probe, which is logistic regression, equal to scikit-learn's
  3. draw the few-shot curve: 5, 20 and 100 pictures of each class, four ways to learn, several draws each
  4. report the luckiest draw, as is done too often, and see by how much that is wrong
  5. look at what the features see: a picture's nearest neighbours by features and by pixels

Before     04_cnn/transfer_learning.py
Run        python -m study run few_shot               (about 40 s on one CPU core, after importing torch)
You see    67 % right with 5 pictures of each class by the nearest mean, 78 % with 100 by fine-tuning; curve.png, neighbours.png
Try next   --counts 1 2 3: one, two, three pictures of each class. First guess how far 1 is from a coin, then look
Theory     notes/en/04_cnn.md · notes/ko/04_cnn.md
Practise   python -m study check 04
"""

import copy
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Images, Source, hymenoptera
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.pretrained import Backbone, Weights, load_backbone, pretrain_backbone


# %% 1. No training at all: the nearest class mean
def class_means(features: Tensor, labels: Tensor) -> Tensor:
    """Average the features (n, width) of each class: (classes, width)."""
    return torch.stack([features[labels == c].mean(dim=0) for c in range(int(labels.max()) + 1)])


def nearest_mean(means: Tensor, queries: Tensor) -> Tensor:
    """Return for each query (m, width) the class whose mean is nearest: (m,)."""
    return torch.cdist(queries, means).argmin(dim=1)


def as_linear_layer(means: Tensor) -> nn.Linear:
    """The same rule as weights and biases: |x - m|² = |x|² - 2 x·m + |m|², and |x|² is the same for every class."""
    layer = nn.Linear(*means.T.shape)
    layer.weight, layer.bias = nn.Parameter(2 * means), nn.Parameter(-means.square().sum(dim=1))
    return layer


def meet_error(images: Tensor) -> str:
    """Ask for distances between pictures as they are stored; return PyTorch's answer."""
    try:
        torch.cdist(images[:1].flatten(1), images[:1].flatten(1))
    except RuntimeError as error:
        message = str(error).splitlines()[0]
        print(f'   "{message}"\n   read: pictures are bytes from 0 to 255, distances need real numbers: .float() first')
        return message


# %% 2. The linear probe
def probe(features: Tensor, labels: Tensor, penalty: float = 0.001) -> nn.Linear:
    """Fit a linear layer by cross entropy plus penalty / 2 · |weights|², to the end: L-BFGS needs no learning rate."""
    layer = nn.Linear(features.shape[1], int(labels.max()) + 1).to(features.device)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=200, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def loss_and_gradient() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(layer(features), labels) + penalty / 2 * layer.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(loss_and_gradient)
    return layer


def compare_probe(features: Tensor, labels: Tensor, queries: Tensor, penalty: float = 0.001) -> float:
    """Return how far the probe's probabilities for `queries` are from those of scikit-learn's logistic regression, at most."""
    from sklearn.linear_model import LogisticRegression

    # For two classes scikit-learn has one row of weights where softmax has two of half the size: half the penalty.
    model = LogisticRegression(C=2 / (penalty * len(labels)), tol=1e-8, max_iter=2000).fit(features.cpu(), labels.cpu())
    ours = probe(features, labels, penalty)(queries).softmax(dim=1).detach().cpu()
    return (ours - torch.from_numpy(model.predict_proba(queries.cpu()))).abs().max().item()


# %% 3. The curve
def train(backbone: Backbone, few: Images, head: nn.Linear | None, steps: int, seed: int) -> nn.Sequential:
    """Fine-tune from a `head` that is good already, in small steps; without one, train everything from scratch."""
    stages, x = copy.deepcopy(backbone.stages), backbone.prepare(few.images)
    frozen, rate, fall = (0, 0.003, 1.0) if head is None else (len(stages) // 2, 0.001, 0.5)
    torch.manual_seed(seed)
    if head is None:
        head = nn.Linear(backbone.width, int(few.labels.max()) + 1).to(x.device)
        for module in (module for module in stages.modules() if hasattr(module, "reset_parameters")):
            module.reset_parameters()
            module.momentum = 0.1  # of batch norms: few steps leave no time for slow averages
    below, above = stages[:frozen].requires_grad_(False).eval(), stages[frozen:]
    parts, rates = [head, *reversed(above)], [rate, *(rate * fall**k for k in range(len(above)))]
    groups = [{"params": part.parameters(), "lr": lr} for part, lr in zip(parts, rates, strict=True)]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=steps)
    with torch.no_grad():  # what is frozen is computed once, for every picture and its mirror image
        both = torch.stack([torch.cat([below(part) for part in view.split(16)]) for view in (x, x.flip(-1))])  # (2, n, ...)
    above.train(frozen == 0)
    for _ in range(steps):
        batch, flip = (torch.randint(high, (16,)).to(x.device) for high in (len(few), 2))
        loss = F.cross_entropy(head(above(both[flip, batch])), few.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return nn.Sequential(stages, head).eval()


@torch.no_grad()
def predict(network: nn.Module, x: Tensor) -> Tensor:
    """The most likely class of each input (m, ...), 16 at a time: (m,)."""
    return torch.cat([network(part).argmax(dim=1) for part in x.split(16)])


def draw_few(labels: Tensor, count: int, seed: int) -> Tensor:
    """Choose `count` examples of every class by chance; return their indices."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).to(labels.device)
    return torch.cat([order[labels[order] == c][:count] for c in range(int(labels.max()) + 1)])


def measure_curve(
    backbone: Backbone, data: Images, pool: Tensor, test: Images, queries: Tensor,
    counts: tuple[int, ...], draws: int, steps: int, scratch: bool, seed: int,
) -> dict[str, Tensor]:  # fmt: skip
    """Learn from pictures whose features are `pool`, test on `queries`; return for each way its accuracies (counts, draws)."""
    x, pixels = backbone.prepare(test.images), test.images.float().flatten(1)
    ways = ["pixels", "nearest mean", "linear probe", "fine-tuning", *["from scratch"] * scratch]
    found = {way: torch.zeros(len(counts), draws) for way in ways}
    for (i, count), k in itertools.product(enumerate(counts), range(draws)):
        chosen = draw_few(data.labels, count, seed + k)
        few, features = data[chosen], pool[chosen]
        size = features.norm(dim=1).mean()  # divided by it, features of every network suit the same penalty
        head = probe(features / size, few.labels)
        head.weight.data /= size
        answers = {
            "pixels": nearest_mean(class_means(few.images.float().flatten(1), few.labels), pixels),
            "nearest mean": nearest_mean(class_means(F.normalize(features), few.labels), F.normalize(queries)),
            "linear probe": predict(head, queries),
            "fine-tuning": predict(train(backbone, few, copy.deepcopy(head), steps, seed + k), x),
        }
        if scratch:
            answers["from scratch"] = predict(train(backbone, few, None, steps, seed + k), x)
        for way, answer in answers.items():
            found[way][i, k] = (answer == test.labels).float().mean()
    return found


def draw_curve(found: dict[str, Tensor], counts: tuple[int, ...]) -> None:
    """Draw the mean of the draws over the number of pictures, and every draw as a dot."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4.4), layout="constrained")
    for k, (way, accuracies) in enumerate(found.items()):
        (line,) = axis.plot(counts, accuracies.mean(dim=1).numpy(), "o-", label=way)
        axis.plot([c * 1.04 ** (k - 2) for c in counts], accuracies.numpy(), ".", color=line.get_color(), alpha=0.5)
    axis.set(xscale="log", xticks=counts, xticklabels=counts, xlabel=label("pictures of each class", "클래스마다 사진 수"))
    axis.set(ylabel="accuracy", title=label("test; dots: draws, lines: their means", "테스트. 점은 추첨 하나, 선은 평균"))
    axis.minorticks_off()
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))  # beside the axes: inside it would hide dots
    save_figure(figure, __file__, "curve")


# %% 5. What the features see
def neighbours(pool: Tensor, queries: Tensor, count: int) -> Tensor:
    """The `count` most similar rows of pool (n, width) for each query (m, width), by cosine, best first: indices (m, count)."""
    return (F.normalize(queries, dim=1) @ F.normalize(pool, dim=1).T).topk(count, dim=1).indices


def compare_neighbours(data: Images, pool: Tensor, test: Images, queries: Tensor) -> dict[str, float]:
    """Find every test picture's 5 neighbours by features and by pixels, draw some; return the shares that are of its class."""
    import matplotlib.pyplot as plt

    figure, axes, found = *plt.subplots(4, 12, figsize=(11, 4.2), layout="constrained"), {}
    small = [F.adaptive_avg_pool2d(part.images.float(), 32).flatten(1) for part in (data, test)]  # finer pixels do no better
    for side, (name, (known, new)) in enumerate({"features": (pool, queries), "pixels": small}.items()):
        nearest = neighbours(known - known.mean(dim=0), new - known.mean(dim=0), 5)  # (m, 5)
        same = data.labels[nearest] == test.labels.unsqueeze(1)
        found[f"neighbours_{name}"] = same.float().mean().item()
        for row, column in itertools.product(range(4), range(6)):
            cell, k = axes[row, 6 * side + column], column - 1
            cell.imshow((data.images[nearest[row, k]] if column else test.images[row]).permute(1, 2, 0).cpu().numpy())
            cell.set(xticks=[], yticks=[])
            cell.spines[:].set(color="black" if not column else "tab:green" if same[row, k] else "tab:red", linewidth=3)
        axes[0, 6 * side].set_title(label(f"by {name}", {"features": "특징으로", "pixels": "픽셀로"}[name]))
    save_figure(figure, __file__, "neighbours")
    print("5. of a test picture's 5 neighbours are of its class: " + ", ".join(f"by {k[11:]} {v:.0%}" for k, v in found.items()))
    return found


# %% All of it, in order
def main(
    counts: tuple[int, ...] = (5, 20, 100), draws: int = 5, steps: int = 100, scratch: bool = True,
    weights: Weights = "auto", source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Measure how much can be learned from few pictures, in four ways.

    Args:
        counts: Pictures of each class to learn from, rising.
        draws: How often they are drawn anew.
        steps: Training steps of fine-tuning and from scratch.
        scratch: Whether to train from scratch as well, which takes longest.
        weights: auto, resnet18, efficientnet_lite0, own: as in transfer_learning.
        source: Pictures from: auto (Hymenoptera if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    where = pick_device(device)
    backbone = load_backbone(weights, source == "real", where) or pretrain_backbone(device=where, seed=seed)
    data = hymenoptera(source, size=backbone.size)
    pool, test = (Images(part.images.to(where), part.labels.to(where)) for part in (data.train, data.test))
    most = int(pool.labels.bincount().min())
    check(counts and 1 <= min(counts) <= max(counts) <= most, f"--counts {counts}: needed are numbers from 1 to {most}")
    check(min(draws, steps) >= 1, "needed are at least --draws 1 --steps 1")
    meet_error(pool.images)
    features, queries = backbone.features(pool.images), backbone.features(test.images)
    some = draw_few(pool.labels, min(20, most), seed)
    means = class_means(F.normalize(features[some]), pool.labels[some])
    same = predict(as_linear_layer(means), F.normalize(queries)) == nearest_mean(means, F.normalize(queries))
    results = {"agreement_of_linear_layer": same.float().mean().item()}
    results["difference_of_probe"] = compare_probe(F.normalize(features[some]), pool.labels[some], F.normalize(queries))
    print("1. and 2. " + ", ".join(f"{name.replace('_', ' ')} {value:.2g}" for name, value in results.items()))
    found = measure_curve(backbone, pool, features, test, queries, counts, draws, steps, scratch, seed)
    print(f"3. accuracy on {len(test)} pictures, mean (lowest to highest) of {draws} draws of {' / '.join(map(str, counts))}")
    for way, accuracies in found.items():
        print(f"   {way:12} " + "   ".join(f"{row.mean():.3f} ({row.min():.3f} to {row.max():.3f})" for row in accuracies))
        names = [f"{way.replace(' ', '_').replace('-', '_')}_{count}" for count in counts]
        results |= dict(zip(names, accuracies.mean(dim=1).tolist(), strict=True))
    draw_curve(found, counts)
    luck = (found["linear probe"][0].max() - found["linear probe"][0].mean()).item()
    print(f"4. the probe's best draw of {counts[0]} is {luck:.3f} above the mean, which is what can be expected of a draw")
    results |= {"luck": luck, **compare_neighbours(pool, features, test, queries)}
    last = {way: accuracies[-1].mean().item() for way, accuracies in found.items()}
    limit, wrong = max(0.5, last.pop("pixels"), last.pop("from scratch", 0)), 1 - max(last.values())
    check(wrong < 0.85 * (1 - limit), f"with transfer {wrong:.1%} are wrong, without it {1 - limit:.1%}")
    return results


if __name__ == "__main__":
    run(main)
