"""Transfer learning · 전이 학습

A network that has learned to see need not learn it again for every question: its last layer is made new, the rest is kept, either
frozen or trained on in small steps. With a few hundred pictures that is the difference between guessing and knowing.
보는 법을 한번 배운 신경망은 문제가 바뀔 때마다 처음부터 배울 필요가 없다. 마지막 층만 새로 만들고 나머지는 그대로 얼려 두거나
작은 보폭으로 조금만 더 학습한다. 사진이 수백 장뿐일 때 찍기와 알아보기의 차이가 여기서 난다.

You will
  1. take a pretrained network apart, and meet the error that everyone meets at its last layer
  2. freeze it and compute its features once, which trains the same head as going through it in every step
  3. see what requires_grad_(False) does not freeze: the statistics of batch norms
  4. compare learning from scratch, feature extraction and fine-tuning on the same pictures and batches, over seeds
  5. commit two more mistakes: another normalisation than the network learned with, and one large learning rate for everything

Before     04_cnn/image_classification.py
Run        python -m study run transfer_learning      (about 30 s on one CPU core, after importing torch)
You see    59 % right from scratch, 70 % with frozen features, 73 % fine-tuned, 52 % with one large rate for all; ways.png
Try next   --pictures 244: four times as many. First guess which of the three ways gains most, then look
Theory     notes/en/04_cnn.md · notes/ko/04_cnn.md
Practise   python -m study check 04
"""

import copy
import time
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Images, Source, hymenoptera, nearest_mean_accuracy
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.pretrained import Backbone, Weights, load_backbone, pretrain_backbone
from utils.training import evaluate

WAYS = {  # how much of the network is frozen, and the head's learning rate (chosen by cross-validation on training pictures)
    "from scratch": (0.0, 0.003),
    "feature extraction": (1.0, 0.03),
    "fine-tuning": (0.5, 0.01),
    "one large rate": (0.5, 0.01),
}


# %% 1. A network without its last layer
def meet_error(backbone: Backbone, classes: int) -> str:
    """Load the pretrained last layer into one for other classes; return PyTorch's answer."""
    head = nn.Linear(backbone.width, classes)
    try:
        head.load_state_dict(backbone.classifier.state_dict())
    except RuntimeError as error:
        message = str(error).splitlines()[1].strip()
        print(f'1. "{message}"')
        print(
            "   read: the file answers for other classes than mine. Only the last layer knows classes, so only that is made new"
        )
        return message


# %% 2. Frozen: the same head, for a fraction of the time
def freeze(stages: nn.Module) -> nn.Module:
    """Keep a part of a network as it is: its weights, and the running statistics of its batch norms."""
    stages.requires_grad_(False)  # the weights; autograd need not remember anything for them
    return stages.eval()  # the statistics are no weights: in training mode every forward pass changes them


@torch.no_grad()
def activations(stages: nn.Module, x: Tensor, batch_size: int = 16) -> Tensor:
    """What comes out of frozen stages, for all pictures: computed once, it serves every step."""
    return torch.cat([stages(batch) for batch in x.split(batch_size)])


def compare_once(backbone: Backbone, few: Images, steps: int, seed: int) -> tuple[float, float, float]:
    """Train a head through the frozen network, and on features computed once; return their difference and both times in s."""
    stages, x = freeze(copy.deepcopy(backbone.stages)), backbone.prepare(few.images)
    heads, seconds = [], []
    for once in (False, True):
        torch.manual_seed(seed)
        head, started = nn.Linear(backbone.width, 2).to(x.device), time.perf_counter()
        optimizer = torch.optim.SGD(head.parameters(), lr=0.01)
        inputs = activations(stages, x) if once else x
        for _ in range(steps):
            batch = torch.randint(len(few), (16,)).to(x.device)
            features = inputs[batch] if once else stages(inputs[batch])  # (16, width)
            loss = F.cross_entropy(head(features), few.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        heads.append(head.weight.detach())
        seconds.append(time.perf_counter() - started)
    difference = (heads[0] - heads[1]).abs().max().item()
    print(
        f"2. features in each of {steps} steps {seconds[0]:.1f} s, once {seconds[1]:.1f} s; the heads differ by {difference:.0e}"
    )
    return difference, *seconds


# %% 3. What requires_grad_(False) does not freeze
@torch.no_grad()
def forget_eval(backbone: Backbone, head: nn.Linear, few: Images, test: Images, batch_size: int) -> dict[str, float]:
    """Freeze weights only and let `few` pass in training mode; return what moved, and the accuracies of a head that was good."""
    stages = copy.deepcopy(backbone.stages).requires_grad_(False).train()
    for batch in backbone.prepare(few.images).split(batch_size):
        stages(batch)  # nobody trains anything here
    moved = {"weights": 0.0, "statistics": 0.0}
    for (name, now), before in zip(stages.state_dict().items(), backbone.stages.state_dict().values(), strict=True):
        kind = "statistics" if "running" in name else "weights"
        if now.is_floating_point():
            moved[kind] = max(moved[kind], ((now - before).norm() / before.norm().clamp(min=1e-12)).item())
    x = backbone.prepare(test.images)
    found = {"right": score(nn.Sequential(backbone.stages, head), x, test.labels)}
    found["moved"] = score(nn.Sequential(stages, head), x, test.labels)  # in eval mode, with the statistics that moved
    sorted_by_class = test.labels.sort(stable=True).indices
    logits = torch.cat([head(stages.train()(x[part])) for part in sorted_by_class.split(batch_size)])
    found["training_mode"] = (logits.argmax(dim=1) == test.labels[sorted_by_class]).float().mean().item()
    print(f"3. frozen without eval(): weights moved by {moved['weights']:.0%}, statistics by up to {moved['statistics']:.0%}")
    print(f"   the same head: in eval mode {found['right']:.3f}; with the statistics that moved {found['moved']:.3f};")
    print(f"   used in training mode, one class at a time: {found['training_mode']:.3f}")
    return {**moved, **found}


# %% 4. Three ways, on equal footing
def learning_rates(way: str, rate: float, stages: int) -> list[float]:
    """The rate of each trained stage, from the head backwards: what is nearer to the pictures is more general and moves less."""
    return [rate * 0.1 * 0.5**distance if way == "fine-tuning" else rate for distance in range(stages)]


def train(
    backbone: Backbone, few: Images, way: str, steps: int, batch_size: int, seed: int, rate: float | None = None
) -> tuple[nn.Sequential, Tensor, float]:
    """Train on `few` in one of the WAYS; return the network (prepared pictures to logits), every step's loss and the seconds."""
    stages, x, started = copy.deepcopy(backbone.stages), backbone.prepare(few.images), time.perf_counter()
    rate = WAYS[way][1] if rate is None else rate
    frozen = int(WAYS[way][0] * len(stages))
    torch.manual_seed(seed)  # for the new weights
    if way == "from scratch":
        for module in (module for module in stages.modules() if hasattr(module, "reset_parameters")):
            module.reset_parameters()
            module.momentum = 0.1  # of batch norms: some networks average over thousands of steps, and here are few
    below, above = freeze(stages[:frozen]), stages[frozen:]
    head = nn.Linear(backbone.width, 2).to(x.device)
    rates = [rate, *learning_rates(way, rate, len(above))]
    groups = [{"params": part.parameters(), "lr": lr} for part, lr in zip([head, *reversed(above)], rates, strict=True)]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=steps)
    both = torch.stack([activations(below, x), activations(below, x.flip(-1))])  # (2, n, ...): every picture and its mirror image
    above.train(way == "from scratch")  # a few pictures know less of means and variances than the statistics that are there
    generator, losses = torch.Generator().manual_seed(seed), []  # the same pictures in the same order, whatever the way
    for _ in range(steps):
        batch, flip = (torch.randint(high, (batch_size,), generator=generator).to(x.device) for high in (len(few), 2))
        loss = F.cross_entropy(head(above(both[flip, batch])), few.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return nn.Sequential(stages, head).eval(), torch.tensor(losses), time.perf_counter() - started


def score(network: nn.Module, x: Tensor, labels: Tensor) -> float:
    """Accuracy on prepared pictures (n, 3, size, size)."""
    return evaluate(network.eval(), zip(x.split(16), labels.split(16), strict=True))["accuracy"]


# %% 5. Two more mistakes
def normalise_otherwise(backbone: Backbone, right: nn.Sequential, few: Images, test: Images, steps: int, seed: int) -> tuple:
    """Scale pictures to 0..1, as many do; return the accuracies if only the user does so, and if training did so as well."""
    otherwise = replace(backbone, mean=(0.0,) * 3, std=(255.0,) * 3)
    x = otherwise.prepare(test.images)
    trained = train(otherwise, few, "feature extraction", steps, 16, seed)[0]
    found = score(right, x, test.labels), score(trained, x, test.labels)
    print(f"5. pictures scaled to 0..1 instead: accuracy {found[0]:.3f} in use only, {found[1]:.3f} in training as well")
    return found


def draw_figure(test: Images, classes: list[str], losses: dict[str, Tensor], shares: dict[str, list[float]], baseline: float):
    """Draw some pictures, the losses, (seeds, steps) for each way, and the accuracy of every seed."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(10, 5.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 2))
    for k, axis in enumerate(above.subplots(1, 8)):
        axis.imshow(test.images[k].permute(1, 2, 0).cpu().numpy())
        axis.set(title=classes[test.labels[k]], xticks=[], yticks=[])
    curves, dots = below.subplots(1, 2)
    for name, ones in losses.items():
        curves.plot(ones.mean(dim=0).unfold(0, 5, 1).mean(dim=1).numpy(), label=name)
        dots.plot(shares[name], [name] * len(ones), "o", alpha=0.6)
    dots.invert_yaxis()
    dots.axvline(baseline, color="grey", linestyle=":")
    curves.set(yscale="log", xlabel="step", ylabel="cross-entropy", title=label("training, mean of seeds", "학습, 시드의 평균"))
    dots.set(xlabel="accuracy", title=label("test, every seed; dotted: baseline", "테스트, 시드마다. 점선은 기준선"))
    curves.legend()
    save_figure(figure, __file__, "ways")


# %% All of it, in order
def main(
    pictures: int = 0, steps: int = 100, batch_size: int = 16, seeds: int = 5,
    weights: Weights = "auto", source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Learn to tell two classes apart from few pictures, with and without a pretrained network.

    Args:
        pictures: How many to learn from; 0 for 60 of the sample, and all of the real set.
        steps: Training steps of each run.
        batch_size: Pictures in a step.
        seeds: Runs for each way, each with its own choice of pictures.
        weights: auto (the first of these that is there), resnet18, efficientnet_lite0, own (a small network trained here).
        source: Pictures from: auto (Hymenoptera if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    where = pick_device(device)
    backbone = load_backbone(weights, source == "real", where) or pretrain_backbone(device=where, seed=seed)
    data = hymenoptera(source, size=backbone.size)
    pictures = pictures or (len(data.train) if data.is_real else 60)
    check(8 <= pictures <= len(data.train), f"--pictures {pictures}: needed are 8 to {len(data.train)}")
    check(min(steps / 10, batch_size / 2, seeds) >= 1, "needed are at least --steps 10 --batch-size 2 --seeds 1")
    orders = [torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed + i)) for i in range(seeds)]
    parts = (*(data.train[order[:pictures]] for order in orders), data.test)
    *few, test = (Images(part.images.to(where), part.labels.to(where)) for part in parts)
    print(f"   {backbone.source}: {len(backbone.stages)} stages, {backbone.width} features")
    meet_error(backbone, len(data.classes))
    difference, slow, fast = compare_once(backbone, few[0][:64], steps=20, seed=seed)
    x, shares, losses, results = backbone.prepare(test.images), {}, {}, {}
    baseline = max(0.5, sum(nearest_mean_accuracy(part, test) for part in few) / seeds)
    trained = {way: [train(backbone, part, way, steps, batch_size, seed + i) for i, part in enumerate(few)] for way in WAYS}
    right = trained["feature extraction"][0][0]
    trap = forget_eval(backbone, right[1], few[0], test, batch_size)
    print(f"4. {pictures} pictures, {steps} steps; accuracy on {len(test)} others (nearest mean of pixels: {baseline:.3f})")
    for way, runs in trained.items():
        shares[way] = [score(network, x, test.labels) for network, *_ in runs]
        losses[way], mean = torch.stack([run[1] for run in runs]), sum(shares[way]) / seeds
        print(f"   {way:18} {mean:.3f} ({min(shares[way]):.3f} to {max(shares[way]):.3f}), {runs[0][2]:.1f} s")
        results[f"accuracy_{way.replace(' ', '_').replace('-', '_')}"] = mean
    draw_figure(test, data.classes, losses, shares, baseline)
    in_use, throughout = normalise_otherwise(backbone, right, few[0], test, steps, seed)
    wrong = 1 - max(results["accuracy_feature_extraction"], results["accuracy_fine_tuning"])
    limit = 1 - max(baseline, results["accuracy_from_scratch"])
    check(wrong < 0.85 * limit, f"with transfer {wrong:.1%} are wrong, from scratch or by the simplest rule {limit:.1%}")
    results |= {"accuracy_eval_forgotten": trap["moved"], "accuracy_training_mode": trap["training_mode"]}
    results |= {"accuracy_normalised_otherwise": in_use, "accuracy_normalised_otherwise_throughout": throughout}
    return results | {"baseline_accuracy": baseline, "difference_once": difference, "speedup_once": slow / fast}


if __name__ == "__main__":
    run(main)
