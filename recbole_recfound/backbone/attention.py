"""Arguments and windows of decoder layers: which keys a state sees, and the name of the store of earlier keys."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from recbole_recfound.errors import BackboneError

WINDOWS = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
"""Kinds of layers whose states see the last keys alone, and the setting with their number."""


def additive_mask(allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return what is added to the logits of the attention, [B, 1, Q, K].

    Args:
        allowed: bool [B, Q, K], keys that each state sees.
        dtype: of the states.
    """
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill(~allowed, torch.finfo(dtype).min)[:, None]


def shortest_window(config: Any) -> int | None:
    """Return the number of keys that states of the layers with the shortest window see; None without windows.

    Args:
        config: of the decoder; a model without `layer_types` has its window in every layer.
    """
    kinds = set(getattr(config, "layer_types", None) or WINDOWS)
    sizes = [getattr(config, setting, None) for kind, setting in WINDOWS.items() if kind in kinds]
    return min((size for size in sizes if size is not None), default=None)


def check_window(config: Any, length: int, remedy: str = "take shorter texts, fewer of them") -> None:
    """Check that no layer has a window, which masks that are made for every layer alike would leave out.

    Args:
        config: of the decoder.
        length: keys of a row, at most.
        remedy: what makes rows shorter.

    Raises:
        BackboneError: a layer has a window of fewer keys.
    """
    window = shortest_window(config)
    if window is not None and window < length:
        raise BackboneError(
            f"a {config.model_type} model has layers that see the last {window:,} states alone, but up to "
            f"{length:,} are read together: {remedy} or another backbone"
        )


def cache_argument(module: nn.Module) -> str:
    """Return the argument by which a layer or model takes earlier keys; transformers renamed it in 5.24.

    Args:
        module: decoder layer or causal language model.
    """
    return "cache" if "cache" in inspect.signature(module.forward).parameters else "past_key_values"
