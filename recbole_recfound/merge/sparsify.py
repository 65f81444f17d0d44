"""Sparsification of deltas before merging, which reduces interference between redundant changes."""

import math

import torch
from torch import Tensor

from recbole_recfound.merge.method import SPARSIFICATIONS


@SPARSIFICATIONS.register("magnitude")
def magnitude(delta: Tensor, density: float) -> Tensor:
    """Return a delta with its largest entries; the rest is zero (TIES-Merging's trim).

    Args:
        delta: difference from the base, any shape.
        density: share that remains, in (0, 1]; rounded up, so that a single number (a temperature, say) remains.
    """
    kept = math.ceil(density * delta.numel() - 1e-6)
    if kept >= delta.numel():
        return delta
    flat = delta.flatten()
    indices = flat.abs().topk(kept).indices
    return torch.zeros_like(flat).index_copy(0, indices, flat[indices]).view(delta.shape)


@SPARSIFICATIONS.register("random")
def random(delta: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """Return a delta with entries dropped at random and the rest rescaled, which preserves the expectation (DARE).

    Args:
        delta: difference from the base, any shape; a single number is never dropped.
        density: probability of an entry to remain, in (0, 1].
        generator: random generator on delta's device.
    """
    if density == 1 or delta.numel() == 1:
        return delta
    mask = torch.bernoulli(torch.full_like(delta, density), generator=generator)
    return delta * mask / density
