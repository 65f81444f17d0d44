"""TIES-Merging: trim, elect a sign, average those that agree."""

from collections.abc import Sequence

import torch
from peft.utils.merge_utils import calculate_majority_sign_mask, reshape_weight_task_tensors
from torch import Tensor

from recbole_recfound.merge.method import merge_method
from recbole_recfound.merge.sparsify import magnitude


@merge_method("ties")
def ties(deltas: Sequence[Tensor], weights: Sequence[float], density: float = 1.0) -> Tensor:
    """Return deltas merged by TIES (arXiv 2306.01708), each trimmed to its largest entries.

    Args:
        deltas: K differences from the common base, of one shape.
        weights: K weights that sum to one.
        density: share of entries that remain, in (0, 1].
    """
    return merge_agreeing([magnitude(delta, density) for delta in deltas], weights)


def merge_agreeing(deltas: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted mean of the deltas with the elected sign of each entry, that of the larger weighted total.

    Zeros do not vote, nor do deltas of weight zero. PEFT's `disjoint_merge` divides by the number of deltas that agree,
    which leaves their range where weights differ; here the weights of those that agree are what is divided by.

    Args:
        deltas: K trimmed deltas of one shape.
        weights: K weights that sum to one.
    """
    stacked = torch.stack(list(deltas))
    given = torch.tensor(weights, dtype=stacked.dtype, device=stacked.device)
    shares = reshape_weight_task_tensors(stacked, given).expand_as(stacked)
    agreeing = calculate_majority_sign_mask(stacked * shares, method="total") & (stacked * shares != 0)
    total = (shares * agreeing).sum(0)
    return (stacked * shares * agreeing).sum(0) / torch.where(total > 0, total, 1.0)
