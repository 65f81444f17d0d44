"""DARE with TIES: random sparsification, then sign election."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .sparsify import random
from .ties import merge_agreeing


def dare_ties(deltas: Sequence[Tensor], weights: Sequence[float], density: float, generator: torch.Generator) -> Tensor:
    """Merge deltas by TIES after dropping entries at random and rescaling the rest (DARE, arXiv 2311.03099).

    Args:
        deltas: K differences from the common base, of one shape.
        weights: K weights that sum to one.
        density: chance of an entry to be kept, in (0, 1].
        generator: source of randomness, on the deltas' device.
    """
    return merge_agreeing([random(delta, density, generator) for delta in deltas], weights)
