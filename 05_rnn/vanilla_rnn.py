"""The recurrent network · 순환 신경망

A recurrent network reads a sequence step by step and keeps a state: what it has read so far, in a few numbers. Each step uses the
same weights, so a sequence may be as long as it likes, and the gradient of a weight is a sum over all steps.
순환 신경망은 시퀀스를 한 스텝씩 읽으며 상태를 이어 간다. 상태는 지금까지 읽은 것을 수 몇 개에 담은 것이다. 모든 스텝이 같은
가중치를 쓰므로 시퀀스가 아무리 길어도 되고, 가중치의 기울기는 모든 스텝에 걸친 합이 된다.

You will
  1. write the cell and the loop over a sequence, equal to nn.RNN
  2. write backpropagation through time, equal to autograd
  3. meet the error everyone meets with a long sequence, and see what cutting the gradient costs
  4. train a network that spells names letter by letter, and beat counting
  5. let it invent names, at three temperatures
  6. forget to shift the targets: the best loss of all, and nothing learned

Before     02_neural_networks/mlp.py
Run        python -m study run vanilla_rnn         (about 15 s on one CPU core, after importing torch)
You see    1.82 nats a letter on names it never saw, counting pairs 2.36, triples 2.00; billington, dunesborough; letters.png
Try next   --language ko: 54 pieces of Hangul in place of 26 letters. First guess whether a piece costs more nats; then look
Theory     notes/en/05_rnn.md · notes/ko/05_rnn.md
Practise   python -m study check 05
"""

import unicodedata
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.lesson import check, run
from utils.paths import ROOT
from utils.plotting import label, save_figure

Language = Literal["en", "ko"]
BOUNDARY, NOTHING = 0, -100  # before the first letter and after the last; behind that, where cross_entropy does not look


# %% 1. The cell, and a whole sequence
def forward(x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    """Read x (batch, steps, inputs) from the state h (batch, hidden); return all states, h first: (batch, steps + 1, hidden)."""
    states = [h]
    for t in range(x.shape[1]):
        h = (x[:, t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh).tanh()  # the cell, by Elman: (batch, hidden)
        states.append(h)
    return torch.stack(states, dim=1)


# %% 2. Backpropagation through time
def backward(x: Tensor, states: Tensor, upstream: Tensor, w_ih: Tensor, w_hh: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return the gradients of x, of the first state, and of all weights; states are those that `forward` returned.

    upstream: what the loss, or a layer above, says about the state after each step, (batch, steps, hidden).
    """
    grad_x, from_later = torch.empty_like(x), torch.zeros_like(states[:, 0])
    grad_ih, grad_hh, grad_b = torch.zeros_like(w_ih), torch.zeros_like(w_hh), w_ih.new_zeros(len(w_ih))
    for t in reversed(range(x.shape[1])):
        grad_h = upstream[:, t] + from_later  # the loss sees this state, and later states have read it
        grad_a = grad_h * (1 - states[:, t + 1].square())  # through tanh, whose derivative is 1 - tanh²
        grad_ih += grad_a.T @ x[:, t]  # one weight for all steps: the gradients add up
        grad_hh += grad_a.T @ states[:, t]
        grad_b += grad_a.sum(dim=0)
        grad_x[:, t] = grad_a @ w_ih
        from_later = grad_a @ w_hh  # to the state before: (batch, hidden) @ (hidden, hidden)
    return grad_x, from_later, [grad_ih, grad_hh, grad_b, grad_b]


def compare_with_torch(steps: int, seed: int) -> tuple[float, float]:
    """Do forward and backward by hand and by nn.RNN and autograd, in float64; return the largest difference of each."""
    torch.manual_seed(seed)
    rnn = nn.RNN(5, 7, batch_first=True, dtype=torch.float64)
    weights = [parameter.detach() for parameter in rnn.parameters()]  # (7, 5), (7, 7), (7,), (7,)
    x, h, upstream = (torch.randn(*shape, dtype=torch.float64) for shape in ((3, steps, 5), (1, 3, 7), (3, steps, 7)))
    states = forward(x, h[0], *weights)
    grad_x, grad_h, grads = backward(x, states, upstream, *weights[:2])
    out, _ = rnn(x.requires_grad_(), h.requires_grad_())  # (3, steps, 7)
    theirs = torch.autograd.grad(out, [x, h, *rnn.parameters()], upstream)
    pairs = zip([grad_x, grad_h[None], *grads], theirs, strict=True)
    found = (states[:, 1:] - out).abs().max().item(), max((ours - other).abs().max().item() for ours, other in pairs)
    print(f"1. {steps} steps, by hand and by nn.RNN: the states differ by {found[0]:.0e}; 2. the gradients by {found[1]:.0e}")
    return found


# %% 3. Pieces of a long sequence
def gradient_in_pieces(rnn: nn.RNN, x: Tensor, upstream: Tensor, length: int, detach: bool = True) -> Tensor:
    """Read x (1, steps, inputs) in pieces, handing on the state but not the gradient; return all gradients in one row."""
    rnn.zero_grad()
    h = None
    for piece, up in zip(x.split(length, dim=1), upstream.split(length, dim=1), strict=True):
        out, h = rnn(piece, h)
        (out * up).sum().backward()
        h = h.detach() if detach else h  # the same numbers, without the graph that made them
    return torch.cat([parameter.grad.flatten() for parameter in rnn.parameters()])


def truncate(lengths: list[int], steps: int, seed: int) -> tuple[list[float], str]:
    """Return what share of the gradient pieces of these lengths miss, and PyTorch's answer to forgetting detach."""
    torch.manual_seed(seed)
    rnn, x, upstream = nn.RNN(8, 16, batch_first=True), torch.randn(1, steps, 8), torch.randn(1, steps, 16)
    whole = gradient_in_pieces(rnn, x, upstream, steps)
    off = [((gradient_in_pieces(rnn, x, upstream, k) - whole).norm() / whole.norm()).item() for k in lengths]
    try:
        gradient_in_pieces(rnn, x, upstream, lengths[0], detach=False)
    except RuntimeError as error:
        message = str(error)
    print(f'3. "{message.partition(" (")[0]}"')
    print("   read: the state still hangs on the last piece, whose graph is gone: h = h.detach() between pieces")
    print("   missing from the gradient: " + ", ".join(f"{k} steps {x:.0%}" for k, x in zip(lengths, off, strict=True)))
    return off, message


# %% 4. Names, letter by letter
def load_names(language: Language, seed: int) -> tuple[list[str], list[str], list[str]]:
    """Return names to learn from, to choose by, and for the last look. Hangul comes in its pieces (jamo): 강 is ᄀ, ᅡ, ᆼ."""
    text = (ROOT / "datasets" / "samples" / f"names_{language}.txt").read_text(encoding="utf-8")
    names = unicodedata.normalize("NFD", text.lower()).split()
    check(len(names) > 100, f"datasets/samples/names_{language}.txt holds {len(names)} names, not about 2,000: restore it")
    names = [names[i] for i in torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()]
    tenth = len(names) // 10
    return names[2 * tenth :], names[tenth : 2 * tenth], names[:tenth]


def encode(names: list[str], alphabet: str) -> tuple[Tensor, Tensor]:
    """Return inputs and targets, (names, steps) each: the target of a step is the input of the next; the last is BOUNDARY."""
    rows = [torch.tensor([*(alphabet.index(letter) + 1 for letter in name), BOUNDARY]) for name in names]
    targets = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=NOTHING)
    return F.pad(targets[:, :-1].clamp(min=BOUNDARY), (1, 0), value=BOUNDARY), targets


def ngram(learned: Tensor, unseen: Tensor, n: int, symbols: int) -> Tensor:
    """Return how likely each target in `unseen` is, given the n - 1 before it, by counting in `learned`: (names, steps).

    Smoothed: besides what was counted, three symbols are thought to have been seen in the proportions of the shorter count.
    """
    if n == 0:
        return torch.full(unseen.shape, 1 / symbols).masked_fill(unseen == NOTHING, torch.nan)  # NaN stays NaN
    digits = symbols ** torch.arange(n - 1, -1, -1)  # n symbols as one number
    here, there = (F.pad(part.clamp(min=0), (n - 1, 0)).unfold(1, n, 1) @ digits for part in (learned, unseen))
    counts = torch.bincount(here[learned != NOTHING], minlength=symbols**n)
    before = counts.view(-1, symbols).sum(dim=1)[there // symbols]  # how often those n - 1 came before anything at all
    return (counts[there] + 3 * ngram(learned, unseen, n - 1, symbols)) / (before + 3)


class LetterModel(nn.Module):
    """Letters (batch, steps) → logits of what follows each (batch, steps, symbols), and the last state (1, batch, hidden)."""

    def __init__(self, symbols: int, hidden: int):
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(symbols, 32), nn.RNN(32, hidden, batch_first=True)
        self.dropout, self.readout = nn.Dropout(0.1), nn.Linear(hidden, symbols)

    def forward(self, letters: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        states, h = self.rnn(self.dropout(self.embedding(letters)), h)  # (batch, steps, hidden); without h it begins at 0
        return self.readout(self.dropout(states)), h


def train(model: LetterModel, inputs: Tensor, targets: Tensor, steps: int, lr: float, seed: int) -> list[float]:
    """Take `steps` steps of AdamW, each on 64 names, and every name from a state of 0; return the losses."""
    generator, losses = torch.Generator().manual_seed(seed), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
    for _ in range(steps):
        batch = torch.randint(len(inputs), (64,), generator=generator)
        loss = F.cross_entropy(model(inputs[batch])[0].mT, targets[batch])  # mT: (64, symbols, steps)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    model.eval()
    return losses


@torch.no_grad()
def costs(model: LetterModel, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return what each target costs in nats, (names, steps); NaN behind the end of a name."""
    return F.cross_entropy(model(inputs)[0].mT, targets, reduction="none").masked_fill(targets == NOTHING, torch.nan)


# %% 5. Inventing names
@torch.no_grad()
def invent(model: LetterModel, alphabet: str, count: int, temperature: float, seed: int) -> list[str]:
    """Draw names letter by letter, each the next input; below temperature 1 the likely letters are drawn even more often."""
    generator, letters, h, drawn = torch.Generator().manual_seed(seed), torch.full((count, 1), BOUNDARY), None, []
    for _ in range(40):  # no name is longer
        logits, h = model(letters, h)  # (count, 1, symbols): one step, from the state before
        letters = torch.multinomial((logits[:, 0] / temperature).softmax(dim=1), 1, generator=generator)
        drawn.append(letters)
    rows = ["".join(f".{alphabet}"[i] for i in row) for row in torch.cat(drawn, dim=1).tolist()]
    return [unicodedata.normalize("NFC", row.partition(".")[0]) for row in rows]  # up to the first BOUNDARY


# %% All of it, in order
def draw_letters(curves: list[list[float]], places: dict[str, Tensor]) -> None:
    """Draw the losses of every step, targets shifted and not; and what a letter of an unseen name costs, by its place."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    for curve, name in zip(curves, (label("network", "신경망"), label("not shifted", "밀지 않음")), strict=True):
        left.plot(curve, linewidth=0.8, label=name)
    for name, found in places.items():
        right.plot(range(1, 13), found.nanmean(dim=0)[:12], "o-", label=f"{name}: {found.nanmean():.2f}")
    left.set(xlabel="step", ylabel=label("nats a letter", "글자당 nat"))
    right.set(xlabel=label("place in a name never seen", "처음 보는 이름에서의 자리"))
    left.legend()
    right.legend()
    save_figure(figure, __file__, "letters")


def main(language: Language = "en", hidden: int = 128, steps: int = 1000, lr: float = 0.01, seed: int = 0) -> dict[str, float]:
    """Build a recurrent network forwards and backwards, and let one learn to spell names.

    Args:
        language: Names to learn: en (towns and villages of England), ko (plants and animals in Korean).
        hidden: Numbers in the state.
        steps: Training steps, each on 64 names.
        lr: The largest learning rate.
        seed: Seed of the split, the initial weights, the batches and what is drawn.
    """
    check(hidden > 0 and steps > 3, f"--hidden {hidden} --steps {steps}: at least 1, and at least 4")
    differences = compare_with_torch(20, seed)
    check(max(differences) < 1e-10, "by hand and by PyTorch, the numbers are not the same")
    truncate([1, 2, 5, 10, 20], 100, seed)

    learn, choose, test = load_names(language, seed)
    alphabet = "".join(sorted(set("".join(learn + choose + test))))
    (inputs, targets), unseen, symbols = encode(learn, alphabet), encode(test, alphabet), len(alphabet) + 1
    torch.manual_seed(seed)
    model, copier = LetterModel(symbols, hidden), LetterModel(symbols, hidden)
    losses = train(model, inputs, targets, steps, lr, seed)
    places = {f"{n}-gram": -ngram(targets, unseen[1], n, symbols).log() for n in (1, 2, 3)}
    places[label("network", "신경망")] = costs(model, *unseen)
    one, two, three, loss = (found.nanmean().item() for found in places.values())
    print(f"4. {len(test)} unseen names, nats a letter: 1, 2, 3-gram {one:.2f}, {two:.2f}, {three:.2f}, network {loss:.2f}")
    known, new = {unicodedata.normalize("NFC", name) for name in learn}, {}
    for temperature in (0.5, 1.0, 1.5):
        new[temperature] = [name for name in invent(model, alphabet, 500, temperature, seed) if name and name not in known]
        print(f"5. temperature {temperature}: {len(new[temperature])} of 500 are new: {' '.join(new[temperature][:8])}")
    copied = train(copier, inputs, inputs.where(targets != NOTHING, NOTHING), steps // 4, lr, seed)
    copier_loss = costs(copier, *unseen).nanmean().item()
    print(f"6. not shifted: loss {copied[-1]:.4f}; but a next letter costs {copier_loss:.1f} nats: it says again what it reads")
    draw_letters([losses, copied], places)
    check(loss < two, f"{loss:.2f} nats a letter, counting pairs {two:.2f}: more --steps?")
    results = {"gradients_difference": differences[1], "loss": loss, "unigram": one, "bigram": two, "trigram": three}
    return results | {"new_names": len(new[1.0]), "copier_training_loss": copied[-1], "copier_loss": copier_loss}


if __name__ == "__main__":
    run(main)
