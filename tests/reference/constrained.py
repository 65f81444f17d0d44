"""Constrained greedy decoding the slow way: one row, one token, one look at all texts at a time."""

from collections.abc import Sequence

import torch
from peft import PeftModel

from recbole_recfound.adapter import routing


def allowed_tokens(written: Sequence[int], texts: Sequence[Sequence[int]], end: int) -> set[int]:
    """Return the tokens that may follow `written`: the next of every text it begins; after a whole text, the end."""
    ended = [[*text, end] for text in texts]
    following = {
        text[len(written)] for text in ended if len(text) > len(written) and text[: len(written)] == list(written)
    }
    return following or {end}


@torch.no_grad()
def constrained_greedy(
    model: PeftModel, prompt: Sequence[int], task: str, texts: Sequence[Sequence[int]], end: int
) -> list[int]:
    """The best allowed token at a time, the whole row anew for each."""
    model.eval()
    written: list[int] = []
    while True:
        ids = torch.tensor([[*prompt, *written]])
        with routing(model, task):
            scores = model.get_base_model()(ids).logits[0, -1]
        best = max(allowed_tokens(written, texts, end), key=lambda token: scores[token].item())
        if best == end:
            return written
        written.append(best)
