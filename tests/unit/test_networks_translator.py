"""utils.networks.translator: PyTorch's layers, with its cache and without, blind to what comes later and to padding."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from utils.lesson import LessonError
from utils.networks.translator import PAD, SPECIAL, START, Translator


@pytest.fixture
def model():
    """A network whose parts all matter: large weights, norms that are not 1."""
    network = Translator(tokens=30, width=24, heads=3, layers=2, dropout=0.3, max_length=40, seed=0).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(1)
    source, target = (torch.randint(3, 30, (4, steps), generator=generator) for steps in (9, 7))
    source[0, 5:], source[2, 2:], target[:, 0] = PAD, PAD, START
    return source, target


def pytorchs(model: Translator) -> nn.Transformer:
    """nn.Transformer with the same weights; it has a norm at the end of each side, as ours."""
    width, layers = model.width, len(model.encoder)
    theirs = nn.Transformer(width, 3, layers, layers, 4 * width, 0.0, batch_first=True, norm_first=True).eval()
    names = {"qkv.": "self_attn.in_proj_", "out.": "self_attn.out_proj.", "up.": "linear1.", "down.": "linear2."}
    for ours, side, last in ((model.encoder, theirs.encoder, model.read_norm), (model.decoder, theirs.decoder, model.write_norm)):
        side.norm.load_state_dict(last.state_dict())
        for mine, other in zip(ours, side.layers, strict=True):
            weights = {}
            for name, weight in mine.state_dict().items():
                if name.startswith("norms."):
                    number = int(name.split(".")[1])
                    weights[f"norm{number + 1}.{name.split('.')[2]}"] = weight
                elif name.startswith("cross_out."):
                    weights[name.replace("cross_out.", "multihead_attn.out_proj.")] = weight
                elif not name.startswith(("query.", "memory.")):
                    key = next(prefix for prefix in names if name.startswith(prefix))
                    weights[name.replace(key, names[key])] = weight
            for kind in ("weight", "bias") if mine.query is not None else ():
                both = [getattr(mine.query, kind), getattr(mine.memory, kind)]
                weights[f"multihead_attn.in_proj_{kind}"] = torch.cat(both).detach()
            other.load_state_dict(weights)
    return theirs


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_is_pytorchs_transformer(model, pair):
    source, target = pair
    theirs, padding = pytorchs(model), source == PAD
    later = torch.ones(7, 7, dtype=torch.bool).triu(1)
    out = theirs(model.embed(source), model.embed(target), tgt_mask=later,
                 src_key_padding_mask=padding, memory_key_padding_mask=padding)  # fmt: skip
    torch.testing.assert_close(model(source, target), F.linear(out, model.embedding.weight), rtol=1e-4, atol=1e-4)


def test_looks_neither_ahead_nor_at_padding(model, pair):
    source, target = pair
    logits, changed = model(source, target), target.clone()
    changed[:, 4:] = 3 + (changed[:, 4:] - 2) % 27
    torch.testing.assert_close(model(source, changed)[:, :4], logits[:, :4])
    assert (model(source, changed)[:, 4:] - logits[:, 4:]).abs().max() > 0.1
    torch.testing.assert_close(model(F.pad(source, (0, 5), value=PAD), target), logits)
    torch.testing.assert_close(model(source[2:3, :2], target[2:3]), logits[2:3])  # alone, without any padding


def test_cache_changes_nothing(model, pair):
    source, target = pair
    whole, reading = model(source, target), model.read(source)
    assert reading.length == 0
    parts = [model.write(part, reading) for part in target.split([1, 3, 1, 2], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    assert reading.length == 7


def test_selected_rows_go_on_as_they_would(model, pair):
    source, target = pair
    reading, rows = model.read(source), torch.tensor([2, 0, 2])
    assert model.read(source).select(rows).past is None
    model.write(target[:, :4], reading)
    picked = model.write(target[rows, 4:], reading.select(rows))
    torch.testing.assert_close(picked, model.write(target[:, 4:], reading)[rows])


def test_order_of_the_source_counts(model, pair):
    source, target = pair
    assert (model(source[3:].flip(1), target[3:]) - model(source[3:], target[3:])).abs().max() > 0.01


def test_begins_near_even_chances_and_drops_only_in_training(pair):
    source, target = pair
    model = Translator(tokens=30, width=64, heads=4, layers=2, dropout=0.3, seed=0)
    assert not torch.equal(model(source, target), model(source, target))
    model.eval()
    assert torch.equal(model(source, target), model(source, target))
    assert F.cross_entropy(model(source, target[:, :]).flatten(0, 1), target.flatten()).item() < 6
    assert len(SPECIAL) == 3
    again = Translator(tokens=30, width=64, heads=4, layers=2, dropout=0.3, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_what_cannot_be(model):
    with pytest.raises(LessonError, match="at most 40"):
        model.read(torch.full((1, 41), 5))
    with pytest.raises(LessonError, match="cut into 5 heads"):
        Translator(tokens=30, width=24, heads=5, layers=1)
