"""DARE with TIES: random sparsification, then sign election."""

from collections.abc import Sequence

import torch
from torch import Tensor

from recbole_recfound.merge.method import merge_method
from recbole_recfound.merge.sparsify import random
from recbole_recfound.merge.ties import merge_agreeing


@merge_method("dare_ties")
def dare_ties(
    deltas: Sequence[Tensor], weights: Sequence[float], generator: torch.Generator, density: float = 1.0
) -> Tensor:
    """Return deltas merged by TIES after DARE (arXiv 2311.03099): random dropping of entries, rescaling of the rest.

    Args:
        deltas: K differences from the common base, of one shape.
        weights: K weights that sum to one.
        generator: random generator on the deltas' device.
        density: probability of an entry to remain, in (0, 1].
    """
    return merge_agreeing([random(delta, density, generator) for delta in deltas], weights)
