"""What gates do · 게이트가 하는 일

Nobody tells a gate what to do. Taught to say how deep inside brackets a character is, an LSTM finds by itself that a cell has to
keep everything, to take in brackets only, and to add for one kind and subtract for the other.
게이트에 무엇을 하라고 말해 주는 사람은 없다. 글자가 괄호 몇 겹 안에 있는지 답하도록 가르치면 LSTM은 셀이 모든 것을 간직하고,
괄호만 받아들이고, 여는 괄호에는 더하고 닫는 괄호에는 빼야 한다는 것을 스스로 알아낸다.

You will
  1. draw strings with brackets, and find out how far one gets with the last six characters alone
  2. train an LSTM and a GRU to count
  3. read the trained LSTM's weights into a cell of your own, and look at every gate while it reads
  4. ask both for strings four times as long as those that they learned from

Before     05_rnn/lstm_gru.py
Run        python -m study run gates               (about 17 s on one CPU core, after importing torch)
You see    over 99 % of the depths right (last 6 characters alone: 49 %), a cell that counts; gates.png, lengths.png
Try next   --length 12: train on short strings. First guess what becomes of the unit that counts, then look
Theory     notes/en/05_rnn.md · notes/ko/05_rnn.md
Practise   python -m study check 05
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

CHARACTERS, DEEPEST = "abc()", 8
TEXT = "a(bc(a(b)((cab))c)a)bb(a((c)a(bc)b)a)c"  # to watch the gates on


# %% 1. How deep inside brackets?
def make_strings(count: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw strings, half letters and half brackets, never deeper than 8; return characters and depths, (count, length) each."""
    generator = torch.Generator().manual_seed(seed)
    letters = torch.randint(3, (length, count), generator=generator)
    brackets, coins = torch.rand(2, length, count, generator=generator) < 0.5
    depths = [torch.zeros(count, dtype=torch.int64)]
    for bracket, coin in zip(brackets, coins, strict=True):
        opens = (coin & (depths[-1] < DEEPEST)) | (depths[-1] == 0)
        depths.append(depths[-1] + bracket * torch.where(opens, 1, -1))
    depths = torch.stack(depths, dim=1)  # (count, length + 1)
    return torch.where(brackets, torch.where(depths.diff().T > 0, 3, 4), letters).T, depths[:, 1:]


def simple_rule(known: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> float:
    """Answer the depth that was most frequent after the same last 6 characters, letters being all alike; return the accuracy."""
    places = 3 ** torch.arange(6)
    seen, asked = (F.pad((one[0] - 2).clamp(min=0), (5, 0)).unfold(1, 6, 1) @ places for one in (known, new))  # (count, length)
    counts = torch.zeros(3**6, DEEPEST + 1).index_put((seen, known[1]), torch.ones(()), accumulate=True)
    return (counts.argmax(dim=1)[asked] == new[1]).float().mean().item()


# %% 2. Counting
class Counter(nn.Module):
    """Strings (batch, steps) → logits of the depth after every character (batch, steps, 9)."""

    def __init__(self, cell: str, hidden: int, forget_bias: float, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.recurrent = getattr(nn, cell)(len(CHARACTERS), hidden, batch_first=True)
        self.head = nn.Linear(hidden, DEEPEST + 1)
        if cell == "LSTM":  # PyTorch has no option for it; in one of the two biases, because they are added
            self.recurrent.bias_ih_l0.data[hidden : 2 * hidden] += forget_bias

    def forward(self, characters: Tensor) -> Tensor:
        return self.head(self.recurrent(F.one_hot(characters, len(CHARACTERS)).float())[0])


def train(model: Counter, steps: int, length: int, lr: float, seed: int) -> list[float]:
    """Take steps of Adam on 64 new strings each; the learning rate rises to `lr` and falls to zero. Return the losses."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
    losses = []
    for step in range(steps):
        characters, depths = (part.to(model.head.weight.device) for part in make_strings(64, length, seed * 100_000 + step))
        loss = F.cross_entropy(model(characters).flatten(0, 1), depths.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def at_every_place(model: Counter, characters: Tensor, depths: Tensor) -> Tensor:
    """Return the share of strings whose depth is right, at every place: (length,)."""
    return (model(characters).argmax(dim=2) == depths).float().mean(dim=0)


# %% 3. The gates while they read
@torch.no_grad()
def watch(lstm: nn.LSTM, characters: Tensor) -> dict[str, Tensor]:
    """Read characters (batch, steps) with a cell by hand and the weights of `lstm`; keep all that happens inside.

    Returns:
        Gates i, f, o (0 to 1), the candidate g (-1 to 1), and the cell state c: (batch, steps, hidden) each.
    """
    weight_ih, weight_hh, bias_ih, bias_hh = lstm.all_weights[0]
    h = c = torch.zeros(len(characters), lstm.hidden_size, device=characters.device)
    seen = []
    for x in F.one_hot(characters, len(CHARACTERS)).float().unbind(1):  # (batch, 5)
        i, f, g, o = (x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh).chunk(4, dim=1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c = f * c + i * g
        h = o * c.tanh()
        seen.append((i, f, g, o, c))
    return {name: torch.stack(values, dim=1) for name, values in zip("ifgoc", zip(*seen, strict=True), strict=True)}


def find_counter(seen: dict[str, Tensor], characters: Tensor, depths: Tensor) -> dict[str, float]:
    """Find the unit whose cell state goes best with the depth (batch, steps), and say what its gates do.

    Returns:
        "unit", its number; "correlation" of its cell state with the depth; the mean "forget" gate; and the mean of what is added
        to the cell, i · g, at "letter", "open" and "close".
    """
    table = torch.cat([depths.flatten()[None], seen["c"].flatten(0, 1).T])  # (1 + hidden, batch · steps)
    correlations = table.corrcoef()[0, 1:].nan_to_num()
    unit = correlations.abs().argmax().item()
    added = (seen["i"] * seen["g"])[:, :, unit]  # (batch, steps)
    where = {"letter": characters < 3, "open": characters == 3, "close": characters == 4}
    found = {"unit": unit, "correlation": correlations[unit].item(), "forget": seen["f"][:, :, unit].mean().item()}
    return found | {kind: added[at].mean().item() for kind, at in where.items()}


def draw_gates(seen: dict[str, Tensor], unit: int, depths: Tensor) -> None:
    """Draw what happened in one unit while TEXT was read, a batch of one; depths are (1, steps)."""
    import matplotlib.pyplot as plt

    one = {name: values[0, :, unit].cpu() for name, values in seen.items()}  # (steps,) each
    rows = {
        label("forget f", "망각 f"): one["f"], label("input i", "입력 i"): one["i"], label("candidate g", "후보 g"): one["g"],
        label("added i · g", "더한 값 i · g"): one["i"] * one["g"], label("output o", "출력 o"): one["o"],
    }  # fmt: skip
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(11, 4.6), sharex=True, layout="constrained")
    picture = top.imshow(torch.stack(list(rows.values())).numpy(), aspect="auto", vmin=-1, vmax=1, cmap="coolwarm")
    figure.colorbar(picture, ax=[top, bottom])
    top.set_yticks(range(len(rows)), list(rows))
    bottom.step(range(len(TEXT)), depths[0].cpu(), where="mid", color="grey", label=label("depth", "깊이"))
    bottom.plot(one["c"], "o-", markersize=4, label=label("cell state c", "셀 상태 c"))
    bottom.set_xticks(range(len(TEXT)), TEXT, family="monospace")
    bottom.legend()
    save_figure(figure, __file__, "gates")


def draw_lengths(right: dict[str, Tensor], length: int) -> None:
    """Draw the accuracy at every place of the long strings (steps,), by cell."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for cell, curve in right.items():
        axis.plot(range(1, len(curve) + 1), curve.cpu(), label=cell)
    axis.axvline(length, color="grey", linestyle=":", label=label("as long as in training", "학습한 길이"))
    axis.set(xlabel=label("character", "몇 번째 글자"), ylabel=label("accuracy", "정확도"))
    axis.legend()
    save_figure(figure, __file__, "lengths")


# %% All of it, in order
def main(
    hidden: int = 16, steps: int = 600, length: int = 40, lr: float = 0.04, forget_bias: float = 0.0,
    device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Let an LSTM and a GRU count brackets, and watch the LSTM's gates.

    Args:
        hidden: Units of each network.
        steps: Optimizer steps, each on 64 new strings.
        length: Characters in each; they are tested on new ones as long, and on others four times as long.
        lr: Largest learning rate of Adam.
        forget_bias: Added to the bias of the LSTM's forget gate before training.
        device: auto, cpu, cuda or mps.
        seed: Seed of weights and strings.
    """
    check(min(hidden, steps) > 0 and length >= 8, "--hidden and --steps must be at least 1, --length at least 8")
    where, results, curves = pick_device(device), {}, {}
    known, new = (make_strings(count, length, seed + part) for count, part in ((2000, 10**9), (500, 2 * 10**9)))
    long = make_strings(200, 4 * length, seed + 3 * 10**9)
    baseline = simple_rule(known, new)
    print(f"1. from the last 6 characters alone the depth is right at {baseline:.1%} of the characters")
    for cell in ("GRU", "LSTM"):
        model = Counter(cell, hidden, forget_bias, seed).to(where)
        losses = train(model, steps, length, lr, seed)
        right = [at_every_place(model, *(part.to(where) for part in strings)) for strings in (new, long)]
        accuracy, curves[cell] = right[0].mean().item(), right[1]
        told = f"new strings {accuracy:.1%} right, four times as long {right[1].mean():.1%}"
        print(f"2. {cell:4} loss {losses[0]:.2f} → {losses[-1]:.3f}; {told}, their last quarter {right[1][-length:].mean():.1%}")
        learned = 1 - accuracy < 0.3 * (1 - baseline)
        check(learned, f"{cell}: {accuracy:.1%} right, by the last 6 characters alone {baseline:.1%}: more --steps?")
        results |= {f"{cell}_accuracy": accuracy, f"{cell}_accuracy_long": right[1].mean().item()}
    draw_lengths(curves, length)

    characters, depths = (part.to(where) for part in new)
    found = find_counter(watch(model.recurrent, characters), characters, depths)
    told = f"correlation {found['correlation']:.2f}; of what is in it, it keeps {found['forget']:.2f}"
    print(f"3. unit {found['unit']} of the LSTM goes with the depth, {told}")
    print(
        f"   and adds {found['open']:+.2f} at an opening bracket, {found['close']:+.2f} at a closing one, "
        + f"{found['letter']:+.2f} at a letter"
    )
    text = torch.tensor([[CHARACTERS.index(character) for character in TEXT]], device=where)
    draw_gates(watch(model.recurrent, text), found["unit"], ((text == 3).int() - (text == 4).int()).cumsum(dim=1))
    return results | {"baseline_accuracy": baseline} | {f"counter_{name}": value for name, value in found.items()}


if __name__ == "__main__":
    run(main)
