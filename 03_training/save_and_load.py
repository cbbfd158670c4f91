"""Saving and loading · 저장과 불러오기

A network is its numbers by name, and they go into a file. To use it, that is all; to go on training as if nothing had happened,
the optimizer, the schedule, the random generators and the examples still to come belong into the file as well.
신경망은 이름 붙은 수들이고, 그것이 파일에 들어간다. 사용하려면 그것으로 충분하다. 하지만 아무 일 없었던 듯이 학습을 이어 가려면
옵티마이저, 학습률 스케줄, 난수 생성기, 아직 쓰지 않은 예제의 순서까지 파일에 담아야 한다.

You will
  1. look into a state dict: parameters and buffers, and what is not in it
  2. keep the best network and the last, and fall into the trap of a dictionary that goes on changing
  3. stop in the middle, go on in a new network, and end bit-identical; leave one thing out and see it differ
  4. fill the disk in the middle of saving, and keep the old file whole

Before     03_training/data_loading.py
Run        python -m study run save_and_load      (about 5 s on one CPU core, after importing torch)
You see    a resumed run 0 away from the first, 0.03 and more with anything left out; 90 % right, nearest mean 83 %; resume.png
Try next   --stop 133, just at the end of an epoch. First guess whether leaving out the data order still matters; then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import copy
import errno
import io
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Images, Source, mnist, nearest_mean_accuracy
from utils.lesson import check, run
from utils.plotting import label, save_figure


# %% 1. A network, and its state
class Network(nn.Module):
    """A small classifier of pictures (batch, 1, 28, 28) that has what makes saving interesting: buffers, and chance."""

    def __init__(self, classes: int = 10):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images.float() / 255))  # (batch, classes)


def look_inside(model: nn.Module) -> dict[str, str]:
    """Return what each tensor of the state dict is: a parameter, which learns, or a buffer, which is only remembered."""
    parameters = dict(model.named_parameters())
    kinds = {name: "parameter" if name in parameters else "buffer" for name in model.state_dict()}
    print("1. " + "\n   ".join(f"{name} {tuple(tensor.shape)} {kinds[name]}" for name, tensor in model.state_dict().items()))
    return kinds


# %% 2. Training, the best and the last
class Training:
    """A training run that can be stopped after any step: everything that decides how it goes on is one of its attributes."""

    def __init__(self, data: Images, steps: int, seed: int, lr: float = 0.003):
        torch.manual_seed(seed)  # the global generator: for the weights, and for dropout
        self.data, self.model = data, Network()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=lr)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=steps)
        self.generator = torch.Generator().manual_seed(seed)  # for the order of the examples
        self.to_come = torch.empty(0, dtype=torch.int64)  # of this epoch

    def step(self) -> float:
        """Learn from the next 64 examples; return the loss."""
        if not len(self.to_come):
            self.to_come = torch.randperm(len(self.data), generator=self.generator)
        rows, self.to_come = self.to_come[:64], self.to_come[64:]
        loss = F.cross_entropy(self.model(self.data.images[rows]), self.data.labels[rows])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return loss.item()

    def state(self) -> dict:
        """Everything that a run needs to go on, in tensors and plain Python values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "random numbers": torch.get_rng_state(),
            "data order": {"generator": self.generator.get_state(), "to_come": self.to_come},
        }

    def restore(self, state: dict) -> None:
        """Put back what `state` holds."""
        for name in state.keys() & {"model", "optimizer", "scheduler"}:
            getattr(self, name).load_state_dict(state[name])
        if "random numbers" in state:
            torch.set_rng_state(state["random numbers"])
        if "data order" in state:
            self.generator.set_state(state["data order"]["generator"])
            self.to_come = state["data order"]["to_come"]


@torch.no_grad()
def evaluate(model: nn.Module, data: Images) -> tuple[float, float]:
    """Return the mean cross entropy, and the share of pictures that are right, in eval mode."""
    logits = model.eval()(data.images)
    model.train()
    return F.cross_entropy(logits, data.labels).item(), (logits.argmax(dim=1) == data.labels).float().mean().item()


def keep_best(training: Training, validation: Images, steps: int, every: int) -> tuple[dict, dict, bool]:
    """Train; return the state dict of the lowest validation loss, the last, and whether one kept without a copy is the last."""
    lowest = math.inf  # the loss: of 239 pictures one is 0.4 % of accuracy, and many steps would be equally good
    for step in range(1, steps + 1):
        training.step()
        if step % every == 0 and (loss := evaluate(training.model, validation)[0]) < lowest:
            lowest = loss
            best = copy.deepcopy(training.model.state_dict())
            careless = training.model.state_dict()  # the same memory as the network's: every further step writes into it
    last = training.model.state_dict()
    return best, last, all(torch.equal(careless[name], last[name]) for name in last)


# %% 3. Going on, bit-identical
def resume(data: Images, steps: int, stop: int, seed: int, path: Path) -> tuple[dict[str, float], dict[str, list]]:
    """Run to the end, and again from a file that was saved at `stop`, with all of it and with one thing left out.

    Returns:
        By what was left out: how far the weights end from those of the run that was not stopped, and the losses after `stop`.
    """
    first = Training(data, steps, seed)
    for _ in range(stop):
        first.step()
    save(path, first.state())
    losses = {"not stopped": [first.step() for _ in range(stop, steps)]}
    end = nn.utils.parameters_to_vector(first.model.parameters())
    away = {}
    for left_out in ("nothing", *first.state()):
        state = torch.load(path, weights_only=True)
        state.pop(left_out, None)
        second = Training(data, steps, seed + 1)  # as in a new process: another network, another order
        second.restore(state)
        losses[left_out] = [second.step() for _ in range(stop, steps)]
        away[left_out] = (nn.utils.parameters_to_vector(second.model.parameters()) - end).abs().max().item()
        print(f"{'  ' if len(away) > 1 else '3.'} left out {left_out + ',':15} the weights end {away[left_out]:.1e} away")
    return away, losses


# %% 4. A full disk
class SmallDisk(io.FileIO):
    """A file on a disk that has room for 10,000 bytes, and then says what a full disk says."""

    def write(self, data) -> int:
        if self.tell() + len(data) > 10_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def save(path: Path, state: dict, opener: Callable = open) -> None:
    """Write all of `state` to `path`, or leave what was there: write beside it, then rename, which is done at once."""
    beside = path.with_name(path.name + ".tmp")
    try:
        with opener(beside, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())  # on the disk, not only on its way there
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def fill_disk(path: Path, state: dict) -> tuple[str, bool, bool]:
    """Save twice onto a full disk; return what it says, and whether the file from before is whole: written over, by `save`."""
    whole = []
    for way in ("over", "by save"):
        save(path, {"from": "before"})
        try:
            if way == "by save":
                save(path, state, opener=SmallDisk)
            with SmallDisk(path, "wb") as file:
                torch.save(state, file)
        except (OSError, RuntimeError) as error:  # torch's zip writer turns the first into the second
            message = str(error.__context__ or error)
        try:
            whole.append(torch.load(path, weights_only=True) == {"from": "before"})
        except Exception:  # out of half a file comes nearly anything
            whole.append(False)
    print(f'4. "{message}"; is the file from before whole? Written over {whole[0]}, written beside and renamed {whole[1]}')
    return message, whole[0], whole[1]


def draw_figure(losses: dict[str, list[float]], stop: int) -> None:
    """Draw how far each resumed run's loss is from that of the run that was not stopped, step by step."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
    first = torch.tensor(losses["not stopped"])
    for name, values in losses.items():
        if name != "not stopped":
            axis.plot(range(stop, stop + len(first)), (torch.tensor(values) - first).abs(), label=name)
    axis.set_yscale("symlog", linthresh=1e-4)  # logarithmic, and with a place for 0
    axis.set(xlabel=label("step", "스텝"), ylabel=label("difference of the loss", "손실의 차이"))
    figure.legend(title=label("left out", "빠뜨린 것"), loc="outside right upper")
    save_figure(figure, __file__, "resume")


# %% All of it, in order
def main(steps: int = 300, stop: int = 130, every: int = 10, source: Source = "auto", seed: int = 0) -> dict[str, float]:
    """Save a network, save a whole training run, and find out what a file must hold to go on exactly.

    Args:
        steps: Steps of training, each on 64 pictures.
        stop: After how many of them the run is stopped and saved.
        every: Steps between looks at the validation pictures.
        source: "real" MNIST, the "sample" without it, or "auto".
        seed: Seed of the weights, the order, and dropout.
    """
    check(0 < stop < steps and 0 < every <= steps, f"--stop {stop} --every {every}: between 0 and --steps {steps}")
    data = mnist(source)
    held_out = len(data.train) // 6  # the last ones: of the sample's writers, mostly other ones than before
    rest, validation = data.train[:-held_out], data.train[-held_out:]
    look_inside(Network())
    training = Training(rest, steps, seed)
    best, last, changed = keep_best(training, validation, steps, every)
    scores, model = {}, Network()
    for name, weights in (("best", best), ("last", last)):
        model.load_state_dict(weights)
        _, scores[name] = evaluate(model, data.test)
    print(f"2. right on the test: the best on validation {scores['best']:.1%}, the last {scores['last']:.1%}")
    print(f"   a best state dict that was kept without a copy has become the last one: {changed}")
    with tempfile.TemporaryDirectory() as folder:
        away, losses = resume(rest, steps, stop, seed, Path(folder) / "last.pt")
        fill_disk(Path(folder) / "last.pt", training.state())
    draw_figure(losses, stop)
    check(away["nothing"] == 0, "the run that went on from the file ends with other weights")

    baseline = nearest_mean_accuracy(rest, data.test)
    check(scores["best"] > max(0.1, baseline), f"{scores['best']:.3f} are right, {baseline:.3f} by the nearest mean")
    results = {"accuracy": scores["best"], "accuracy_last": scores["last"], "baseline_accuracy": baseline}
    return results | {f"away_without_{name.replace(' ', '_')}": value for name, value in away.items()}


if __name__ == "__main__":
    run(main)
