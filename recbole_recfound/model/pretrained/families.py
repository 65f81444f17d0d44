"""Families of models: where each keeps the vector just before its prediction head or its product with the items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType
from torch import nn

from recbole_recfound.errors import ConfigError

Items = Callable[[AbstractRecommender], torch.Tensor]
Loss = Callable[[AbstractRecommender, Any], torch.Tensor]


def _own_loss(base: AbstractRecommender, interaction: Interaction) -> torch.Tensor:
    """Return the base's loss as a scalar: RecBole sums the parts of a tuple, and LightGCN's has one dimension."""
    loss = base.calculate_loss(interaction)
    total = cast(torch.Tensor, sum(loss)) if isinstance(loss, tuple) else loss
    return total.mean()


def _embedded_items(base: AbstractRecommender) -> torch.Tensor:
    return base.item_embedding.weight


def _propagated_items(base: AbstractRecommender) -> torch.Tensor:
    return base.forward()[1]


@dataclass(frozen=True)
class Family:
    """Properties of a model that fine-tuning needs.

    Attributes:
        place: where the last representation is, in the form that `layer` of `kernel_args` takes (see `Attachment`).
        head: sub-modules behind that place, for the baseline `head`.
        items: for models that rank, the item vectors [num_items, d] which that representation meets; None for click
            models.
        loss: the base's own loss of a batch, a mean over its rows.
        differentiable: whether that loss reaches the base's own parameters; kernels do not need it.
    """

    place: str
    head: tuple[str, ...] = ()
    items: Items | None = None
    loss: Loss = _own_loss
    differentiable: bool = True


FAMILIES: dict[str, Family] = {
    "DeepFM": Family("input:deep_predict_layer", ("deep_predict_layer",)),
    "DCNV2": Family("input:predict_layer", ("predict_layer",)),
    "AutoInt": Family("input:deep_predict_layer", ("deep_predict_layer", "attn_fc")),
    "BPR": Family("method:get_user_embedding", ("item_embedding",), _embedded_items),
    "LightGCN": Family("method:forward[0]", ("item_embedding",), _propagated_items),
    "SASRec": Family("method:gather_indexes", ("item_embedding",), _embedded_items),
    "GRU4Rec": Family("method:gather_indexes", ("dense",), _embedded_items),
}
"""Models whose place is known and tested; models of this package add themselves."""


def family_of(model: str, base: nn.Module, layer: str | None = None) -> Family:
    """Return the family of a model; unlisted models get the default of their kind.

    Args:
        model: the model's name.
        base: the model.
        layer: the user's `layer` of `kernel_args`, instead of the family's place.

    Raises:
        ConfigError: nothing is known about the model and no layer is named.
    """
    family = FAMILIES.get(model) or _by_kind(base)
    if family is None:
        if layer is None:
            raise ConfigError(
                f"kernel_args: layer: no default place is known for {model}; name one (--list_layers shows them)"
            )
        family = Family(layer)
    return replace(family, place=layer) if layer else family


def _by_kind(base: nn.Module) -> Family | None:
    """Guess a place: sequential models return the user's vector from `forward`, click models end in a linear map."""
    kind = getattr(base, "type", None)
    embedded = isinstance(getattr(base, "item_embedding", None), nn.Embedding)
    if kind == ModelType.SEQUENTIAL and embedded:
        return Family("method:forward", (), _embedded_items)
    if kind == ModelType.CONTEXT:
        ends = [
            name for name, module in base.named_modules() if isinstance(module, nn.Linear) and module.out_features == 1
        ]
        return Family(f"input:{ends[-1]}", (ends[-1],)) if ends else None
    return None
