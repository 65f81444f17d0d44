"""The direct way from a history to the user vector, beside the LLM: its last items, as they stand in the ranking."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from recbole_recfound.backbone import full_precision
from recbole_recfound.backbone.packing import Packing, same_sequence

SHARE, KEPT = 2.0, 0.6
"""Where the two weights start: the mean's length beside the LLM's vector, and what an item keeps one place later."""
PACE = 3.0
"""How fast the two numbers move at the learning rate of matrices. At 1 they stay where they start; at 10 they fit the
training histories of sparse data, whose items the ids know by heart (amazon-industrial loses .005 on validation)."""

BLOCK = 64
"""Places whose items are weighted by one product."""


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
            items: [B, L] places among them, oldest first, padding 0 on the right and nowhere else.
            wanted: [B, L] bool.
        """
        if self.weights is None:
            return users
        # Side by side in full rows: of short histories beside a long one most places are padding.
        packing = Packing.of((items > 0).sum(1).clamp(min=1))
        packed = packing.pack(items)
        with full_precision(items.device):
            sums = self._sums(F.embedding(packed, vectors).float() * (packed > 0)[..., None], packing.positions)
        return self._added(users, sums.flatten(0, 1)[packing.places(items.shape[1])[wanted]])

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

    def _sums(self, vectors: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return at each place the weighted sum of its sequence so far, [R, W, d], at a cost linear in W.

        The sum within a block of places is a product with a matrix; what comes before is the sum at the end of the
        block before, one number times which each place adds.

        Args:
            vectors: [R, W, d] packed, zeros where nothing lies.
            positions: [R, W] of the `Packing`.
        """
        rows, width, size = vectors.shape
        block = min(BLOCK, width)
        blocks = -(-width // block)
        vectors = F.pad(vectors, (0, 0, 0, blocks * block - width)).view(rows * blocks, block, size)
        positions = F.pad(positions, (0, blocks * block - width)).view(rows * blocks, block)
        places = torch.arange(block, device=positions.device)
        decay = self._weights(places[:, None] - places, torch.ones_like(places, dtype=torch.bool))
        within = ((decay * same_sequence(positions)) @ vectors).view(rows, blocks, block, size)
        # What a place keeps of the block before: nothing if its sequence begins in its own.
        kept = self._weights(places + 1, positions > places).view(rows, blocks, block, 1)
        sums = [within[:, 0]]
        for number in range(1, blocks):
            sums.append(within[:, number] + kept[:, number] * sums[-1][:, -1:])
        return torch.cat(sums, dim=1)[:, :width]

    def _weights(self, ages: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Return the weight of items by age, 0 for later ones and the padding; the shapes broadcast."""
        kept = F.logsigmoid(PACE * cast(torch.Tensor, self.weights)[1])
        return (kept * ages.clamp(min=0)).exp() * ((ages >= 0) & real)

    def _added(self, users: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
        share = F.softplus(PACE * cast(torch.Tensor, self.weights)[0])
        return F.normalize(users + share * F.normalize(means, dim=-1), dim=-1)
