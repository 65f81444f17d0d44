"""Options of RecFound's model: `tower_args`, `loss_args`, and its controls."""

from __future__ import annotations

from dataclasses import dataclass

from recbole_recfound.runtime.options import Options, option

RANDOM_BODY, NO_ADAPTER, NO_BODY = "random_body", "no_adapter", "no_body"
SMALL_READER, RANDOM_ITEM_TEXT, PERMUTED_FACTORS = "small_reader", "random_item_text", "permuted_factors"
NO_RECENT_ITEMS = "no_recent_items"
CONTROLS = (RANDOM_BODY, NO_ADAPTER, NO_BODY, SMALL_READER, RANDOM_ITEM_TEXT, PERMUTED_FACTORS, NO_RECENT_ITEMS)
"""Values of `control`: what is replaced to see whether it matters.

random_body: the LLM's layers have random weights. no_adapter: the adapter stays at its start. no_body: histories bypass
the LLM's layers. small_reader: a small transformer with random weights reads histories instead. random_item_text:
random vectors instead of text features. permuted_factors: every item has the collaborative factors of another one.
no_recent_items: the last items of a history reach the user vector through the LLM alone.
"""


@dataclass(frozen=True)
class TowerOptions(Options):
    """Depth of the towers (`tower_args`).

    Attributes:
        user_layers: LLM layers that read a history: the last ones in the mode `late`, else the first. None: 2 with soft
            tokens, 3 in the mode `late`, else all.
        text_layers: LLM layers that encode item texts and queries. None: 8 with soft tokens and in the mode `late`,
            else all.
        feature_layers: further layers of the plain backbone whose pooled states describe an item; encoded once.
    """

    user_layers: int | None = option(None, minimum=1)
    text_layers: int | None = option(None, minimum=1)
    feature_layers: list[int] = option([], minimum=1)


@dataclass(frozen=True)
class LossOptions(Options):
    """Softmax of the losses (`loss_args`).

    Attributes:
        temperature: of the softmax over the catalogue.
        pair_temperature: of InfoNCE (I2I, Q2I, prompts, records).
        full_softmax_items: largest catalogue with the full softmax; larger ones get a sampled one.
        sampled_items: items drawn per step for the sampled softmax.
    """

    temperature: float = option(0.07, above=0)
    pair_temperature: float = option(0.05, above=0)
    full_softmax_items: int = option(50_000, minimum=0)
    sampled_items: int = option(8192, minimum=1)
