"""Arguments of decoder layers: which keys a state sees, and the name of the store of earlier keys."""

from __future__ import annotations

import inspect

import torch
from torch import nn


def additive_mask(allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return what is added to the logits of the attention, [B, 1, Q, K].

    Args:
        allowed: bool [B, Q, K], keys that each state sees.
        dtype: of the states.
    """
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill(~allowed, torch.finfo(dtype).min)[:, None]


def cache_argument(module: nn.Module) -> str:
    """Return the argument by which a layer or model takes earlier keys; transformers renamed it in 5.24.

    Args:
        module: decoder layer or causal language model.
    """
    return "cache" if "cache" in inspect.signature(module.forward).parameters else "past_key_values"
