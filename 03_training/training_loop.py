"""The training loop · 학습 루프

Five lines do the learning: forward pass, loss, zero_grad, backward, step. Everything else in a training loop is there to find out
whether what was learned holds for new examples, and to stop in time.
학습은 다섯 줄이 한다. 순전파, 손실, zero_grad, backward, step이다. 학습 루프의 나머지는 배운 것이 새 예제에도 통하는지 알아내고
제때 멈추기 위한 것이다.

You will
  1. write the five lines, and reach a training loss of nearly 0 that tells nothing
  2. measure on examples kept apart: accuracy, recall, precision; and see what forgetting eval() and no_grad() does
  3. put it into one loop; watch a network overfit, stop it in time, and cure it
  4. run utils.training.fit, the same loop finished, and get the same numbers from it

Before     02_neural_networks/regularization.py, 03_training/data_loading.py
Run        python -m study run training_loop       (about 7 s on one CPU core, after importing torch)
You see    validation loss 0.18 when trained to the end, 0.14 when stopped, 0.08 when cured; fit with the same numbers; curves.png
Try next   --patience 1: stop at the first epoch that is no better. First guess which of the two that stop loses more; then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.batches import Batches
from utils.datasets import Images, Source, hold_out, mnist, nearest_mean_accuracy
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.seeding import seed_everything
from utils.training import classification_loss, fit

Examples = tuple[Tensor, Tensor]  # pictures (n, 1, 14, 14), labels (n,)


# %% 1. The five lines
def as_examples(data: Images) -> Examples:
    """Average every 2x2 pixels (n, 1, 28, 28), standardized by MNIST's mean and standard deviation."""
    return F.avg_pool2d((data.images.float() / 255 - 0.1307) / 0.3081, 2), data.labels


def new_network(seed: int, dropout: float = 0.2) -> nn.Module:
    """Draw a network (n, 1, 14, 14) → (n, 10) logits, with two layers that work differently in training: norm and dropout."""
    seed_everything(seed)  # also for the order of the examples and for dropout's masks
    norm = nn.BatchNorm1d(128)
    return nn.Sequential(nn.Flatten(), nn.Linear(196, 128), norm, nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, 10))


def five_lines(model: nn.Module, data: Examples, epochs: int) -> list[float]:
    """Train on batches of 32, in a new random order in every epoch; return the loss of every step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    losses = []
    for _ in range(epochs):
        for batch in torch.randperm(len(data[1])).split(32):
            logits = model(data[0][batch])  # (32, 10)
            loss = F.cross_entropy(logits, data[1][batch])
            optimizer.zero_grad()  # backward() adds to what is there
            loss.backward()
            optimizer.step()
            losses.append(loss.item())  # a number; the tensor would keep the graph of its step in memory
    return losses


# %% 2. Measuring
def count(predicted: Tensor, labels: Tensor, classes: int = 10) -> tuple[float, Tensor, Tensor]:
    """Return accuracy, and of every class (classes,) recall, how much of it was found, and precision, how much found is right."""
    table = (labels * classes + predicted).bincount(minlength=classes**2).view(classes, classes)  # (is, taken for)
    right = table.diagonal()
    return (right.sum() / len(labels)).item(), right / table.sum(dim=1), right / table.sum(dim=0).clamp(min=1)


def predict(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return logits (n, 10), computed as they are in use."""
    model.eval()  # no dropout; batch normalisation by what it remembers of training
    with torch.no_grad():  # nothing is kept for a backward pass that will not come
        logits = model(inputs)
    model.train()
    return logits


def evaluate(model: nn.Module, data: Examples) -> dict[str, float]:
    """Return mean cross-entropy and accuracy."""
    logits = predict(model, data[0])
    return {"loss": F.cross_entropy(logits, data[1]).item(), "accuracy": count(logits.argmax(dim=1), data[1])[0]}


def measure_wrongly(model: nn.Module, data: Examples) -> tuple[list[float], float, int]:
    """Measure five times without eval() and no_grad(); return accuracies, how far the model moved, bytes kept each time."""
    before, kept = model[2].running_mean.clone(), {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    accuracies = []
    for _ in range(5):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):  # keep sees what backward would need
            logits = model.train()(data[0])
        accuracies.append(count(logits.argmax(dim=1), data[1])[0])
    moved = ((model[2].running_mean - before).norm() / before.norm()).item()
    print(f"   without eval() it is {min(accuracies):.3f} to {max(accuracies):.3f}, and measuring moved the model by {moved:.0%}")
    print(f"   without no_grad() {sum(kept.values()) / 2**20:.1f} MB are kept for a backward pass that never comes")
    return accuracies, moved, sum(kept.values())


def meet_error(model: nn.Module, picture: Tensor) -> str:
    """Ask about a single picture (1, 1, 14, 14), eval() forgotten; return PyTorch's answer."""
    try:
        model.train()(picture)
    except ValueError as error:
        print(f'   "{error}"')
        print("   read: in training, batch normalisation takes a mean over the batch, and one picture is none: call eval()")
        return str(error)


# %% 3. The loop
def train(model: nn.Module, batches: Batches, validation: Examples, epochs: int, patience: int, clip_norm: float) -> tuple:
    """Train until the validation loss has had no new best for `patience` epochs; return the epochs' numbers, the best weights."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    history, best, best_weights = [], 0, {}
    for epoch in range(epochs):
        losses = []
        for inputs, labels in batches:  # the training examples: the only ones that change a weight
            loss = F.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)  # between backward and step: the next lesson
            optimizer.step()
            losses.append(loss.item())
        history.append({"train_loss": sum(losses) / len(losses), **evaluate(model, validation)})
        if epoch == 0 or history[-1]["loss"] < history[best]["loss"]:
            best, best_weights = epoch, copy.deepcopy(model.state_dict())  # without deepcopy they would go on changing
        elif epoch - best >= patience:
            break
    return history, best_weights


def distort(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, stretch, slant and move each picture (n, 1, 14, 14) a little, by chance: the same digits, never the same pixels."""
    maps = torch.eye(2, 3) + 0.07 * torch.randn(len(pictures), 2, 3, generator=generator)
    return F.grid_sample(pictures, F.affine_grid(maps, pictures.shape, align_corners=False), align_corners=False)


def overfit_and_cure(few: Examples, validation: Examples, epochs: int, patience: int, seeds: range) -> dict[str, list[tuple]]:
    """Train to the end; until validation says stop; so, on distorted pictures: by way, return (history, model) of every seed."""
    found = {}
    ways = {"to the end": (epochs, None), "early stopping": (patience, None), "and distortion": (patience, distort)}
    for name, (wait, transform) in ways.items():
        found[name] = []
        for seed in seeds:
            model = new_network(seed, dropout=0)
            batches = Batches(*few, batch_size=32, transform=transform, seed=seed)
            history, best_weights = train(model, batches, validation, epochs, wait, clip_norm=1.0)
            if wait < epochs:
                model.load_state_dict(best_weights)  # back to where it was best
            found[name].append((history, model))
        losses = [evaluate(model, validation)["loss"] for _, model in found[name]]
        lengths = [len(history) for history, _ in found[name]]
        print(f"3. {name:14} {min(lengths)} to {max(lengths)} epochs, validation loss {min(losses):.3f} to {max(losses):.3f}")
    return found


# %% 4. The finished loop
def compare_with_fit(few: Examples, validation: Examples, epochs: int, patience: int, seed: int) -> tuple[float, float]:
    """Run utils.training.fit beside our loop; return the largest differences of the epochs' numbers, and of the weights."""
    ours, theirs = new_network(seed), new_network(seed)
    seed_everything(seed)  # both start from the same random numbers
    history, _ = train(ours, Batches(*few, batch_size=32, seed=seed), validation, epochs, patience, clip_norm=1.0)
    seed_everything(seed)
    finished = fit(
        theirs, Batches(*few, batch_size=32, seed=seed), torch.optim.Adam(theirs.parameters(), lr=0.003), classification_loss,
        epochs=epochs, validate=lambda model: evaluate(model, validation), monitor="loss", patience=patience, clip_norm=1.0,
    )  # fmt: skip
    pairs = zip(history, finished.epochs, strict=True)
    numbers = max(abs(one[name] - other[name]) for one, other in pairs for name in one)
    weights = max((a - b).abs().max().item() for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    print(f"4. fit stopped after the same {len(history)} epochs; its numbers are {numbers:g} from ours, its weights {weights:g}")
    return numbers, weights


def draw_curves(found: dict[str, list[tuple]]) -> None:
    """Draw training and validation loss by epoch, of the first seed."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.3), sharey=True, layout="constrained")
    titles = label("trained on the same pictures", "같은 그림으로 학습"), label("on distorted pictures", "변형한 그림으로 학습")
    for axis, name, title in zip(axes, ("to the end", "and distortion"), titles, strict=True):
        history, _ = found[name][0]
        validated = [numbers["loss"] for numbers in history]
        axis.plot([numbers["train_loss"] for numbers in history], label=label("training", "학습"))
        axis.plot(validated, label=label("validation", "검증"))
        axis.plot(validated.index(min(validated)), min(validated), "k*", markersize=12, label=label("best", "가장 좋은 때"))
        axis.set(yscale="log", xlabel="epoch", ylabel="cross-entropy", title=title)
        axis.legend()
    save_figure(figure, __file__, "curves")


# %% All of it, in order
def main(
    examples: int = 300, epochs: int = 60, patience: int = 10, seeds: int = 3, source: Source = "auto", seed: int = 0
) -> dict[str, float]:
    """Build a training loop, watch a network overfit, stop it in time, cure it, and meet the finished loop.

    Args:
        examples: Digits to learn from.
        epochs: Passes over them, at most.
        patience: Epochs without a new best before the loop stops.
        seeds: Runs for every setting.
        source: Digits from: auto (MNIST if it is there, else the sample), real, sample.
        seed: The first seed.
    """
    check(min(examples / 32, epochs, patience, seeds) >= 1, "needed are 32 or more --examples, and one or more of the rest")
    data = mnist(source)
    rest, held_out = hold_out(data.train, 400)
    few, validation, test = as_examples(rest[:examples]), as_examples(held_out), as_examples(data.test)
    model = new_network(seed)
    losses = five_lines(model, few, epochs)
    print(f"1. {len(losses)} steps: the training loss fell from {losses[0]:.2f} to {losses[-1]:.4f}. What does that tell?")
    accuracy, recall, _ = count(predict(model, validation[0]).argmax(dim=1), validation[1])
    print(f"2. right: {evaluate(model, few)['accuracy']:.3f} of what it was trained on, {accuracy:.3f} of what was kept apart")
    print(f"   the digit that is found least often: {recall.argmin()}, {recall.min():.0%} of them")
    _, moved, kept = measure_wrongly(copy.deepcopy(model), validation)
    meet_error(model, test[0][:1])
    found = overfit_and_cure(few, validation, epochs, patience, range(seed, seed + seeds))
    draw_curves(found)
    numbers, weights = compare_with_fit(few, validation, min(epochs, 10), 1, seed)

    baseline = max(0.1, nearest_mean_accuracy(rest[:examples], data.test))
    results = {"baseline_accuracy": baseline}
    for name, trained in found.items():
        for key, part in (("loss", validation), ("accuracy", test)):  # the test set: the last look
            results[f"{key}_{name.replace(' ', '_')}"] = sum(evaluate(model, part)[key] for _, model in trained) / seeds
    results |= {"moved_without_eval": moved, "kept_without_no_grad": kept, "fit_numbers_off": numbers, "fit_weights_off": weights}
    results["accuracy"] = results["accuracy_and_distortion"]
    check(1 - results["accuracy"] < 0.8 * (1 - baseline), f"hardly better than the nearest mean, {baseline:.3f}: more --epochs?")
    return results


if __name__ == "__main__":
    run(main)
