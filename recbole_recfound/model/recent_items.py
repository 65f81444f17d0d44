"""The direct way from a history to the user vector, beside the LLM: its last items, as they stand in the ranking."""

from __future__ import annotations

from typing import cast

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
        """Return the user vectors at several positions of each history, [N, d], normalised.

        Args:
            users: [N, d] of the LLM, normalised, at the N positions wanted, row by row.
            vectors: [n, d] item vectors, normalised, the padding first.
            items: [B, L] places among them, oldest first, padding 0 on the right.
            wanted: [B, L] bool.
        """
        if self.weights is None:
            return users
        places = torch.arange(items.shape[1], device=items.device)
        weights = self._weights(places[:, None] - places, (items > 0)[:, None])
        with full_precision(items.device):
            means = (weights @ vectors[items].float())[wanted]
        return self._added(users, means)

    def of_whole(
        self, users: torch.Tensor, vectors: torch.Tensor, items: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """Return the user vectors behind the last item of each history, [B, d], normalised.

        Args:
            users: [B, d] of the LLM, normalised.
            vectors: [num_items, d] item vectors, normalised.
            items: [B, L] item ids, oldest first, padding 0 on the right.
            lengths: [B] real items per row; 0 gives the vector of the LLM.
        """
        if self.weights is None:
            return users
        ages = lengths[:, None] - 1 - torch.arange(items.shape[1], device=items.device)
        weights = self._weights(ages, items > 0)
        with full_precision(items.device):
            means = (weights[:, None] @ vectors[items].float())[:, 0]
        return self._added(users, means)

    def _weights(self, ages: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Return the weight of items by age, 0 for later ones and the padding; the shapes broadcast."""
        kept = F.logsigmoid(PACE * cast(torch.Tensor, self.weights)[1])
        return (kept * ages.clamp(min=0)).exp() * ((ages >= 0) & real)

    def _added(self, users: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
        share = F.softplus(PACE * cast(torch.Tensor, self.weights)[0])
        return F.normalize(users + share * F.normalize(means, dim=-1), dim=-1)
