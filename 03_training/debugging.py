"""Debugging a network that does not learn · 학습하지 않는 신경망 디버깅

A wrong training program seldom stops with an error: it runs, and learns less, or nothing. What is wrong shows in a handful of
numbers, measured in the order in which data flows: what goes in, what comes out, what flows back, what moves.
잘못된 학습 프로그램은 오류를 내며 멈추는 일이 드물다. 그냥 돌면서 덜 배우거나 아무것도 배우지 못한다. 무엇이 잘못인지는 숫자 몇
개에 드러난다. 들어가는 것, 나오는 것, 거꾸로 흐르는 것, 움직이는 것을 데이터가 흐르는 순서대로 재면 된다.

You will
  1. write a training function that works, and a watch that looks into it through hooks
  2. measure symptoms: the first loss, one batch learned by heart, gradients, dead units, the size of a step
  3. write one routine that names a bug by its symptoms, and try it on thirteen bugs of one line each
  4. meet the error that everyone meets, and be glad of it: the other bugs say nothing

Before     03_training/training_loop.py
Run        python -m study run debugging           (about 12 s on one CPU core, after importing torch)
You see    thirteen bugs without an error message, seven with more than half right; inputs.png, symptoms.png
Try next   --batch-size 10: as many examples as classes. First guess which bug is no longer found, then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import inspect
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Source, hold_out, mnist, nearest_mean_accuracy
from utils.lesson import check, run
from utils.plotting import label, save_figure

Examples = tuple[Tensor, Tensor]  # pictures (n, 1, 14, 14) from 0 to 255, labels (n,)
GRADIENT, ZEROS, EXTRA, MOVED, SIZE = range(5)  # what a watch notes of every parameter in every step


# %% 1. A training function that works, and a watch
class Watch:
    """Looks at a training run through hooks, and changes nothing in it."""

    def attach(self, model: nn.Sequential) -> None:
        """Have hooks called when the first layer gets its inputs, when the ReLU has answered, and when a gradient arrives."""
        self.inputs, self.answers, self.losses, self.dead, self.steps, self.gradients = [], [], [], [], [], {}
        model[0].register_forward_pre_hook(lambda layer, inputs: self.inputs.append(inputs[0]))
        model[2].register_forward_hook(lambda layer, inputs, outputs: self.dead.append((outputs == 0).all(dim=0)))
        self.parameters = dict(model.named_parameters())
        for name, parameter in self.parameters.items():  # called before the gradient is added to .grad
            parameter.register_hook(lambda gradient, name=name: self.gradients.update({name: gradient}))
        self.before = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def note(self, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Look at the loss and, after optimizer.step(), at every parameter."""
        self.answers.append((logits.detach(), labels))
        self.losses.append(loss.item())
        rows = []
        for name, parameter in self.parameters.items():
            before, weights = self.before[name], parameter.detach().clone()
            gradient = self.gradients.get(name, torch.full_like(weights, torch.nan))  # nan: none has arrived
            grad = gradient if parameter.grad is None else parameter.grad  # what the optimizer had to go by
            zeros, extra = (gradient.nan_to_num() == 0).float().mean(), (grad - gradient).norm() / gradient.norm()
            rows.append((gradient.norm(), zeros, extra, (weights - before).norm(), before.norm()))
            self.before[name] = weights
        self.steps.append(torch.tensor(rows))  # (parameters, 5)


def train(examples: Examples, steps: int, batch_size: int, seed: int, watch: Watch) -> Callable[[Tensor], Tensor]:
    """Train a network; return a function from pictures to logits. Every line of it can be got wrong."""
    torch.manual_seed(seed)
    pictures, labels = examples
    order = torch.randperm(len(labels))
    pictures, labels = pictures[order], labels[order]
    mean, std = pictures.mean(), pictures.std()
    model = nn.Sequential(nn.Flatten(), nn.Linear(196, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    watch.attach(model)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (batch_size,))
        logits = model((pictures[chosen] - mean) / std)  # (batch, 10)
        loss = F.cross_entropy(logits, labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        watch.note(logits, labels[chosen], loss)

    def predict(pictures: Tensor) -> Tensor:
        model.eval()
        with torch.no_grad():
            return model((pictures - mean) / std)

    return predict


# %% 2. The symptoms
def examine(train: Callable, examples: Examples, new: Examples, steps: int, batch_size: int, seed: int) -> tuple:
    """Train on one batch and on everything; return the symptoms by name, and both watches."""
    few = examples[0][:batch_size], examples[1][:batch_size]
    predict_few = train(few, steps, batch_size, seed, one := Watch())
    predict = train(examples, steps, batch_size, seed, everything := Watch())
    logits, numbers = predict(new[0]), torch.stack(everything.steps)  # numbers: (steps, parameters, 5)
    first, stride = numbers[0], numbers[..., MOVED].sum(dim=1) / numbers[..., GRADIENT].nansum(dim=1)
    symptoms = {
        "inputs' spread": everything.inputs[0].std(),
        "first loss": torch.tensor(everything.losses[0]),
        "batch loss": torch.tensor(one.losses[-20:]).mean(),  # when one batch has been learned by heart
        "learned": (one.answers[-1][0].argmax(dim=1) == one.answers[-1][1]).float().mean(),  # of that batch, as training sees it
        "known": (predict_few(few[0]).argmax(dim=1) == few[1]).float().mean(),  # of the same pictures
        "least logit": everything.answers[-1][0].min(),
        "row sums off 1": (everything.answers[-1][0].sum(dim=1) - 1).abs().max(),
        "twice differs": (predict(new[0]) - logits).abs().max(),
        "dead units": everything.dead[0].float().mean(),
        "zero gradient": first[0, ZEROS],  # of the first layer's weights
        "no gradient": first[:, GRADIENT].isnan().float().mean(),  # share of parameters
        "not moved": ((first[:, GRADIENT] > 1e-6) & (first[:, MOVED] == 0)).float().mean(),  # share of parameters
        "extra gradient": numbers[1, :, EXTRA].nan_to_num().max(),
        "update / weight": first[0, MOVED] / first[0, SIZE],
        "stride kept": stride[steps // 2] / stride[0],  # stride: how far a step goes for one unit of gradient
        "accuracy": (logits.argmax(dim=1) == new[1]).float().mean(),
    }
    return {name: symptom.item() for name, symptom in symptoms.items()}, one, everything


# %% 3. The diagnosis, and thirteen bugs
def diagnose(s: dict[str, float], batch_size: int, classes: int) -> str:
    """Name the bug by the symptoms s, or return "" where nothing is wrong. What stands first causes what stands below."""
    questions = {
        "inputs not scaled": s["inputs' spread"] > 5,  # what goes in
        "weights all zero": s["dead units"] == 1,  # what comes out
        "softmax before cross_entropy": s["row sums off 1"] < 1e-4,
        "ReLU after the logits": s["least logit"] >= 0,
        "softmax over the batch": abs(s["first loss"] - math.log(batch_size)) < abs(s["first loss"] - math.log(classes)),
        "graph cut": s["no gradient"] > 0,  # what flows back
        "parameters not in the optimizer": s["not moved"] > 0,  # what moves
        "no zero_grad": s["extra gradient"] > 0.1,
        "learning rate too large": s["update / weight"] > 0.3,
        "learning rate too small": s["update / weight"] < 1e-4,
        "schedule ends too early": s["stride kept"] < 0.1,
        "no eval": s["twice differs"] > 0,  # what is said afterwards
        "labels of other pictures": s["learned"] > s["known"] + 0.3,  # learned by heart, and it was something else
        "something else": s["batch loss"] > s["first loss"] / 2,  # one batch not learned by heart, for none of these reasons
    }
    return next((bug for bug, seen in questions.items() if seen), "")


BUGS = {  # name: a piece of a line in `train`, and what somebody wrote instead
    "inputs not scaled": ("mean, std = pictures.mean(), pictures.std()", "mean, std = 0.0, 1.0"),
    "labels of other pictures": ("labels[order]", "labels[torch.randperm(len(labels))]"),
    "weights all zero": ("nn.init.normal_(parameter, std=0.05)", "nn.init.zeros_(parameter)"),
    "ReLU after the logits": ("nn.Linear(64, 10))", "nn.Linear(64, 10), nn.ReLU())"),
    "softmax before cross_entropy": ("nn.Linear(64, 10))", "nn.Linear(64, 10), nn.Softmax(dim=1))"),
    "softmax over the batch": ("F.cross_entropy(logits,", "F.nll_loss(logits.log_softmax(dim=0),"),
    "graph cut": ("model((pictures[chosen] - mean) / std)", "model[4](model[:4]((pictures[chosen] - mean) / std).detach())"),
    "parameters not in the optimizer": ("SGD(model.parameters()", "SGD(model[4].parameters()"),
    "no zero_grad": ("optimizer.zero_grad()", "pass"),
    "learning rate too large": ("lr=0.1", "lr=10.0"),
    "learning rate too small": ("lr=0.1", "lr=1e-5"),
    "schedule ends too early": ("CosineAnnealingLR(optimizer, T_max=steps)", "ExponentialLR(optimizer, gamma=0.9)"),
    "no eval": ("model.eval()", "model.train()"),
}


def plant(right: str, wrong: str) -> Callable:
    """Return `train` with one line changed."""
    source, names = inspect.getsource(train), dict(globals())
    check(source.count(right) == 1, f"{right} should stand in train once, and does {source.count(right)} times")
    exec(source.replace(right, wrong), names)
    return names["train"]


def examine_all(examples: Examples, new: Examples, steps: int, batch_size: int, seed: int) -> dict[str, tuple]:
    """Examine the healthy function ("") and one with each bug; return by bug the diagnosis, the symptoms and two watches."""
    shown = ("first loss", "batch loss", "zero gradient", "update / weight", "accuracy")
    print(f"3. {'planted':31}" + "".join(f"{name:>16}" for name in shown) + "  diagnosis")
    found = {}
    for bug in ("", *BUGS):
        symptoms, *watches = examine(plant(*BUGS[bug]) if bug else train, examples, new, steps, batch_size, seed)
        found[bug] = diagnose(symptoms, batch_size, classes=10), symptoms, *watches
        told = "".join(f"{symptoms[name]:16.3g}" for name in shown)
        print(f"   {bug or 'nothing':31}{told}  {found[bug][0] or 'nothing'}")
    return found


def draw_figures(found: dict[str, tuple]) -> None:
    """Draw what three networks were given, then the losses with every bug."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 10, figsize=(11, 4.4), layout="constrained", subplot_kw={"xticks": [], "yticks": []})
    for line, bug in zip(axes, ("", "inputs not scaled", "labels of other pictures"), strict=True):
        inputs, labels = found[bug][3].inputs[0], found[bug][3].answers[0][1].tolist()
        line[0].set_ylabel(f"{bug or label('healthy', '정상')}\n{inputs.min():.1f} … {inputs.max():.1f}", fontsize=8)
        for axis, picture, digit in zip(line, inputs, labels, strict=False):
            axis.imshow(picture[0].numpy(), cmap="gray_r", vmin=-0.5, vmax=3)  # one scale for all: 255 is far outside
            axis.set_title(digit)
    save_figure(figure, __file__, "inputs")

    figure, axes = plt.subplots(2, 7, figsize=(15, 5), sharex=True, sharey=True, layout="constrained")
    for axis, (bug, (_, symptoms, one, everything)) in zip(axes.flat, found.items(), strict=True):
        axis.plot(everything.losses, linewidth=0.7, label=label("all examples", "예제 전체"))
        axis.plot(one.losses, linewidth=1, label=label("one batch", "배치 하나"))
        axis.axhline(math.log(10), color="black", linestyle=":", label="ln 10")
        axis.set_title(f"{bug or label('healthy', '정상')}\n{symptoms['accuracy']:.0%}", fontsize=9)
    axes[0, 0].legend(loc="upper right")
    axes[1, 0].set(xlabel=label("step", "스텝"), ylabel=label("loss", "손실"), ylim=(0, 4))
    save_figure(figure, __file__, "symptoms")


# %% 4. The error everyone meets
def meet_no_graph(examples: Examples) -> str:
    """Call backward() on a loss that no parameter stands behind; return PyTorch's answer."""
    try:
        plant("/ std)  # (batch, 10)", "/ std).detach()")(examples, 1, 32, 0, Watch())
    except RuntimeError as error:
        print(f'4. "{error}": the kind bug. Cut one layer earlier, nothing is said')
        return str(error)


# %% All of it, in order
def main(steps: int = 300, batch_size: int = 32, source: Source = "auto", seed: int = 0) -> dict[str, float]:
    """Measure what a healthy training shows, plant thirteen bugs, and name each by its symptoms.

    Args:
        steps: Steps of every training, on one batch and on all examples.
        batch_size: Examples in a batch.
        source: Digits from: auto (MNIST if it is there, else the sample), real, sample.
        seed: Seed of all initial weights and batches.
    """
    check(steps >= 40 and batch_size > 1, f"--steps {steps} --batch-size {batch_size}: at least 40 steps, and 2 in a batch")
    data = mnist(source)
    training, held_out = hold_out(data.train, len(data.train) // 5)
    examples, new, test = ((F.avg_pool2d(part.images.float(), 2), part.labels) for part in (training, held_out, data.test))
    found = examine_all(examples, new, steps, batch_size, seed)
    check(found[""][0] == "", f"the healthy function is said to have a bug: {found[''][0]}")
    for name, row in zip(found[""][3].parameters, found[""][3].steps[0], strict=True):
        print(f"   healthy {name:9} gradient {row[GRADIENT]:.3f}, update / weight {row[MOVED] / row[SIZE]:.3f}")
    draw_figures(found)
    meet_no_graph(examples)
    predicted = train(examples, steps, batch_size, seed, Watch())(test[0]).argmax(dim=1)
    accuracy = (predicted == test[1]).float().mean().item()
    baseline = max(nearest_mean_accuracy(training, data.test), data.test.labels.bincount().max().item() / len(data.test))
    check(accuracy > baseline, f"the healthy function has {accuracy:.1%} right, the simplest rule {baseline:.1%}: more --steps?")
    named = sum(diagnosis == bug for bug, (diagnosis, *_) in found.items() if bug)
    return {"named": named, "accuracy": accuracy, "baseline_accuracy": baseline, "batch_loss": found[""][1]["batch loss"]}


if __name__ == "__main__":
    run(main)
