"""Log-likelihood of every token of many texts after one prompt, in few passes of one row each."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from transformers import PreTrainedModel

PASS_TOKENS = 1024
"""Tokens of texts in one pass."""


@torch.no_grad()
def token_log_likelihoods(
    model: PreTrainedModel, prompt: Sequence[int], texts: Sequence[Sequence[int]]
) -> list[torch.Tensor]:
    """Return the log-probability of each token of each text, given the prompt and the tokens before it.

    The keys and values of the prompt are computed once. Texts stand behind each other in a row; each sees the prompt
    and itself, and starts at the position after the prompt.

    Args:
        model: causal language model, in eval.
        prompt: token ids, at least one.
        texts: token ids of each text, at least one.

    Returns:
        float32 [tokens] of each text.
    """
    device = model.device
    read = model(input_ids=torch.tensor([prompt], device=device), use_cache=True, logits_to_keep=1)
    first = read.logits[0, -1].float().log_softmax(-1)
    # transformers 5.24 calls it `cache`, and warns of the name that older ones have.
    name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    cache, found = read[name], []
    for part in _parts(texts):
        lengths = torch.tensor([len(text) for text in part])
        ids = torch.tensor([token for text in part for token in text], device=device)
        owner = torch.repeat_interleave(torch.arange(len(part)), lengths).to(device)
        starts = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths).to(device)
        places = torch.arange(len(ids), device=device)
        own = (owner[:, None] == owner) & (places[:, None] >= places)
        seen = torch.cat([own.new_ones(len(ids), len(prompt)), own], dim=1)
        mask = torch.zeros(seen.shape, dtype=model.dtype, device=device).masked_fill(
            ~seen, torch.finfo(model.dtype).min
        )
        logits = model(
            input_ids=ids[None],
            attention_mask=mask[None, None],
            position_ids=(len(prompt) + places - starts)[None],
            use_cache=True,
            **{name: cache},
        ).logits[0]
        cast(Any, cache).crop(-len(ids))
        later = logits[:-1].float().log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        scores = torch.cat([first[ids[:1]], later])
        begins = places == starts
        scores[begins] = first[ids[begins]]
        found += scores.split(lengths.tolist())
    return found


def _parts(texts: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Yield texts together that have `PASS_TOKENS` tokens, or one that has more."""
    part: list[Sequence[int]] = []
    size = 0
    for text in texts:
        if part and size + len(text) > PASS_TOKENS:
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text)
    if part:
        yield part
