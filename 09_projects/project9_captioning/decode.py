"""Writing a caption: the likeliest token each time (a beam of 1), or the likeliest of several that are gone on with.

07_nlp/beam_search.py builds the search by hand and shows what it finds and what it misses.
"""

import math

import torch
from torch import Tensor

from project9_captioning.model import Captioner
from project9_captioning.words import END, STARTS, UNKNOWN
from utils.lesson import check
from utils.networks.translator import PAD


@torch.no_grad()
def write_captions(model: Captioner, images: Tensor, language: str, beam: int = 1, alpha: float = 0.7) -> tuple[Tensor, Tensor]:
    """Describe pictures. What is no word (padding, unknown, another start) is never written.

    Args:
        model: In eval mode.
        images: (batch, 3, side, side) uint8, on the model's device.
        language: "en" or "ko".
        beam: How many beginnings are gone on with.
        alpha: The score of a caption is its log-probability divided by its length to this power.

    Returns:
        Tokens (batch, steps), the language's start first, after END only END; the log-probability of each caption (batch,).

    Raises:
        LessonError: The beam is below 1.
    """
    check(beam > 0, "--beam must be above 0")
    batch, device = len(images), images.device
    reading = model.read(images).select(torch.arange(batch, device=device).repeat_interleave(beam))  # batch · beam rows
    written = torch.full((batch * beam, 1), STARTS[language], device=device)
    scores = torch.full((batch, beam), -math.inf, device=device)
    scores[:, 0] = 0  # all begin alike: one is enough, or the beam would hold the same caption many times
    ended = torch.zeros(batch * beam, dtype=torch.bool, device=device)
    never = torch.tensor([PAD, UNKNOWN, *STARTS.values()], device=device)
    for _ in range(model.longest):
        logits = model.write(written[:, -1:], reading)[:, -1].float().index_fill(1, never, -math.inf)
        logs = logits.log_softmax(dim=1)  # (batch · beam, tokens)
        over = torch.full_like(logs, -math.inf)
        over[:, END] = 0  # what has ended stays as it is, at no cost, and competes with what goes on
        logs = torch.where(ended[:, None], over, logs)
        totals = (scores.flatten()[:, None] + logs).view(batch, -1)  # (batch, beam · tokens)
        scores, best = totals.topk(beam)
        rows = (best // logs.shape[1] + torch.arange(batch, device=device)[:, None] * beam).flatten()  # which were gone on with
        if beam > 1:
            reading = reading.select(rows)
        written = torch.cat([written[rows], (best % logs.shape[1]).view(-1, 1)], dim=1)
        ended = written[:, -1] == END
        if ended.all():
            break
    lengths = (written[:, 1:] != END).sum(dim=1).view(batch, beam) + 1
    chosen = (scores / lengths**alpha).argmax(dim=1)
    every = torch.arange(batch, device=device)
    return written.view(batch, beam, -1)[every, chosen], scores[every, chosen]
