"""The direct way from a history to the user vector, beside the LLM: its last items, as they stand in the ranking."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from recbole_recfound.backbone import full_precision

SHARE, KEPT = 2.0, 0.6
"""Where the two weights start: the mean's length beside the LLM's vector, and what an item keeps one place later."""
PACE = 3.0
"""How fast the two numbers move at the learning rate of matrices. At 1 they stay where they start; at 10 they fit the
training histories of sparse data, whose items the ids know by heart (amazon-industrial loses .005 on validation)."""


class RecentItems(nn.Module):
    """Add a weighted mean of the history's item vectors to the vector that the LLM gives of it.

    u_l = normalize(h_l + g normalize(sum over j <= l of a^(l - j) v_j)), with h of the LLM, v the vectors that users
    are ranked against, and two learned numbers, g > 0 and 0 < a < 1. What resembles the last items, by text, factors or
    ids, is ranked high from the first step on; the LLM learns what has to be added.

    Args:
        on: False leaves the vectors of the LLM as they are (a control).
    """

    def __init__(self, on: bool = True) -> None:
        super().__init__()
        start = torch.tensor([SHARE, KEPT])
        # Of softplus and sigmoid.
        self.weights = nn.Parameter(torch.stack([start[0].expm1().log(), start[1].logit()]) / PACE) if on else None

    def forward(
        self, users: torch.Tensor, vectors: torch.Tensor, items: torch.Tensor, wanted: torch.Tensor
    ) -> torch.Tensor:
        """Return the user vectors, [N, d], normalised.

        Args:
            users: [N, d] of the LLM, normalised, at the N positions wanted, row by row.
            vectors: [num_items, d] item vectors, normalised.
            items: [B, L] item ids, oldest first, padding 0 on the right.
            wanted: [B, L] bool.
        """
        if self.weights is None:
            return users
        share, kept = F.softplus(PACE * self.weights[0]), F.logsigmoid(PACE * self.weights[1])
        rows, places = wanted.nonzero(as_tuple=True)
        age = places[:, None] - torch.arange(items.shape[1], device=items.device)
        weights = ((kept * age.clamp(min=0)).exp() * (age >= 0)).masked_fill(items[rows] == 0, 0.0)
        # One sum for each row that has several positions, rather than a copy of its items for each of them.
        spread = torch.zeros(*items.shape, items.shape[1], device=items.device, dtype=weights.dtype)
        spread = spread.index_put((rows, places), weights)
        with full_precision(items.device):
            means = (spread @ vectors[items].float())[rows, places]
        return F.normalize(users + share * F.normalize(means, dim=-1), dim=-1)
