"""The best items of rows of scores, in one order whatever else is asked."""

from __future__ import annotations

import torch


def best_of(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best scores and their places, [B, k] each; of equal scores the first place comes first.

    `topk` alone chooses and orders equal scores as it happens, so that the answer for one row would depend on the rows
    and the `k` of its pass.

    Args:
        scores: float32 [B, n]; -inf for those that are left out, whose order is not defined.
        k: at most n.
    """
    values, places = scores.topk(k, dim=1)
    if not k:  # every candidate was excluded
        return values, places
    last = values[:, -1:]
    cut = (scores == last).sum(1) > (values == last).sum(1)  # some that equal the last one were not chosen
    split = (cut & (last[:, 0] > -torch.inf)).nonzero().flatten()
    if len(split):
        places[split] = scores[split].sort(dim=1, descending=True, stable=True).indices[:, :k]
    places = places.sort(dim=1).values
    order = scores.gather(1, places).sort(dim=1, descending=True, stable=True)
    return order.values, places.gather(1, order.indices)
