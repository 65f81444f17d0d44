"""RecFound's history mode `late` by loops and masks: blocks below without the adapter, causal above with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from recbole_recfound.adapter import routing, without_adapter
from recbole_recfound.backbone import decoder_of

HIDDEN = torch.finfo(torch.float32).min


def user_states(model, texts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the user's vector after each item of one history, [items, d], in one pass over the tokens of all items.

    Args:
        model: RecFound in eval.
        texts: tokens of each item's sentence, oldest first.
    """
    decoder = decoder_of(model.backbone.get_base_model())
    depth = len(decoder.layers) - model.user_depth
    item_of = [number for number, text in enumerate(texts) for _ in text]
    places = torch.tensor([[place for text in texts for place in range(len(text))]])
    mask = torch.full((1, 1, len(item_of), len(item_of)), HIDDEN)
    for query, item in enumerate(item_of):
        for key in range(query + 1):
            if item_of[key] == item:
                mask[0, 0, query, key] = 0
    with torch.no_grad(), without_adapter(model.backbone):
        states = decoder.embed_tokens(torch.tensor([[token for text in texts for token in text]]))
        states = _run(decoder, decoder.layers[:depth], states, mask, places)
    last = [len(item_of) - 1 - item_of[::-1].index(number) for number in range(len(texts))]
    states = states[:, last]
    causal = torch.full((len(texts), len(texts)), HIDDEN).triu(1)[None, None]
    with routing(model.backbone, "U2I"):
        states = _run(decoder, decoder.layers[depth:], states, causal, torch.arange(len(texts))[None])
    tower = model.user_tower
    return F.normalize(tower.project(tower.norm(decoder.norm(states)[0])), dim=-1)


def _run(decoder, layers, states, mask, places):
    rotary = decoder.rotary_emb(states, places)
    for layer in layers:
        states = layer(states, attention_mask=mask, position_ids=places, position_embeddings=rotary)
    return states
