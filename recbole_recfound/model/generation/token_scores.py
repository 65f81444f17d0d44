"""Log-likelihood of every token of many texts after one prompt, in few passes of one row each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import DynamicCache, PreTrainedModel

from recbole_recfound.backbone.attention import additive_mask, cache_argument, check_window

PASS_TOKENS = 1024
"""Tokens of texts in one pass."""


@torch.no_grad()
def token_log_likelihoods(
    model: PreTrainedModel | PeftModel, prompt: Sequence[int], texts: Sequence[Sequence[int]], **options: Any
) -> list[torch.Tensor]:
    """Return the log-probability of each token of each text, given the prompt and the tokens before it.

    The keys and values of the prompt are computed once. Texts stand behind each other in a row; each sees the prompt
    and itself, and starts at the position after the prompt.

    Args:
        model: causal language model, perhaps with an adapter, in eval.
        prompt: token ids, at least one.
        texts: token ids of each text, at least one.
        options: further arguments of the model, such as its route.

    Returns:
        float32 [tokens] of each text.

    Raises:
        BackboneError: a layer has a window shorter than the prompt with a text.
    """
    device = model.device
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    check_window(base.config, len(prompt) + max(map(len, texts)))
    # A cache that is made for the model drops keys beyond a window, counting those of all texts in a row.
    cache, name = DynamicCache(), cache_argument(base)
    ids = torch.tensor([list(prompt)], device=device)
    read = model(input_ids=ids, use_cache=True, logits_to_keep=1, **{name: cache}, **options)
    first = read.logits[0, -1].float().log_softmax(-1)
    found: list[torch.Tensor] = []
    for part in _parts(texts):
        lengths = torch.tensor([len(text) for text in part])
        ids = torch.tensor([token for text in part for token in text], device=device)
        owner = torch.repeat_interleave(torch.arange(len(part)), lengths).to(device)
        starts = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths).to(device)
        places = torch.arange(len(ids), device=device)
        own = (owner[:, None] == owner) & (places[:, None] >= places)
        seen = torch.cat([own.new_ones(len(ids), len(prompt)), own], dim=1)
        logits = model(
            input_ids=ids[None],
            attention_mask=additive_mask(seen[None], model.dtype),
            position_ids=(len(prompt) + places - starts)[None],
            use_cache=True,
            **{name: cache},
            **options,
        ).logits[0]
        cache.crop(-len(ids))
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
