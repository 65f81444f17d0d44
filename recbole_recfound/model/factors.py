"""Collaborative factors: what the training rows alone say of the items, as features beside their text."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

POWER_ITERATIONS = 7
"""Of the randomised SVD: scikit-learn's own choice for few components."""
NOTHING = 1e-4
"""Share of the largest singular value up to which another one is rounding; users are divided by its square."""


@dataclass(frozen=True)
class CollaborativeFactors:
    """Factors of the items, and what it takes to leave some users out of them.

    Attributes:
        values: float32 [num_items, k]; zeros for items without training rows.
        squares: float32 [k], squares of the singular values; 0 for a column that the data do not fill.
        degrees: float32 [num_items], distinct users of each item.
        order: int64 [num_items], the item whose factors an item has instead of its own (a control); None: its own.
    """

    values: torch.Tensor
    squares: torch.Tensor
    degrees: torch.Tensor
    order: torch.Tensor | None = None

    def __call__(self) -> torch.Tensor:
        """Return the factors as the items have them, [num_items, k]."""
        return self.values if self.order is None else self.values[self.order]

    def to(self, device: torch.device) -> CollaborativeFactors:
        """Copy on another device."""
        order = None if self.order is None else self.order.to(device)
        return CollaborativeFactors(self.values.to(device), self.squares.to(device), self.degrees.to(device), order)

    def permuted(self, order: torch.Tensor) -> CollaborativeFactors:
        """Return the same, with the factors of `order[i]` for item i."""
        return replace(self, order=order)

    def without(self, rows: torch.Tensor, wanted: torch.Tensor | None = None) -> torch.Tensor:
        """Return the factors that the items would have without the users of a training batch.

        A model that learns to predict a choice from factors which hold that very choice trusts them too much, most of
        all where an item has few users. With singular vectors u of the users, an item's factors are the sum of
        u / sqrt(d_u d_i) over its users; a user's vector is the sum of v_j / (s^2 sqrt(d_u d_j)) over the items j, with
        factors v. The terms of these users are taken out, and d_i counts the others; the singular vectors stay. An item
        that nobody else has is left with zeros, as a new one.

        Args:
            rows: int64 [B, L], the items of each user, repeats allowed, 0 = padding. Of a long history a window stands
                for the whole: the mean over its items for that over all of them.
            wanted: int64 [n], different items whose factors are returned; None: all.

        Returns:
            float32 [n, k].
        """
        count, users = len(self.values), len(rows)
        places = torch.arange(users, device=rows.device)[:, None] * count + rows
        pairs = places[rows > 0].unique()
        user, item = pairs // count, pairs % count
        shares = self.degrees[item].clamp(min=1.0).rsqrt()[:, None]
        sums = self.values.new_zeros(users, self.values.shape[1]).index_add(0, user, self.values[item] * shares)
        means = sums / user.bincount(minlength=users).clamp(min=1)[:, None]
        of_users = torch.where(self.squares > 0, means / self.squares, 0.0)  # u / sqrt(d_u)
        others = (self.degrees - item.bincount(minlength=count)).clamp(min=0.0)
        scale = (self.degrees / others.clamp(min=1.0)).sqrt() * (others > 0)
        own = torch.arange(count, device=rows.device) if wanted is None else wanted
        if self.order is not None:
            own = self.order[own]
        place = own.new_full((count,), -1)
        place[own] = torch.arange(len(own), device=rows.device)
        changed = place[item] >= 0
        terms = (of_users[user] * shares)[changed]
        return self.values[own].index_add(0, place[item][changed], -terms) * scale[own][:, None]


def collaborative_factors(
    users: np.ndarray, items: np.ndarray, num_items: int, count: int, seed: int = 0
) -> CollaborativeFactors:
    """Return the leading right singular vectors of the degree-normalised interactions, times their singular values.

    The matrix has 1 / sqrt(d_u d_i) where user u has item i, with the degrees d counted over distinct pairs. All
    columns have one scale, by which an entry of an item with interactions has mean square 1: the leading columns stay
    the largest.

    Args:
        users: int64 [n], user id of each training row.
        items: int64 [n], item id of each training row.
        num_items: number of item ids, padding included.
        count: factors; where the data have fewer, for few users or because users are alike, the last columns are zero.
        seed: of the randomised SVD.
    """
    factors, squares = torch.zeros(num_items, count), torch.zeros(count)
    matrix = sparse.csr_matrix((np.ones(len(users)), (users, items)), shape=(int(users.max(initial=0)) + 1, num_items))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    of_users, of_items = (np.asarray(matrix.sum(axis)).ravel() for axis in (1, 0))
    rank = min(count, int((of_users > 0).sum()), int((of_items > 0).sum()))
    degrees = torch.from_numpy(of_items.astype(np.float32))
    if not rank:
        return CollaborativeFactors(factors, squares, degrees)
    scale = [sparse.diags(1.0 / np.sqrt(np.maximum(each, 1.0))) for each in (of_users, of_items)]
    _, values, vectors = randomized_svd(
        (scale[0] @ matrix @ scale[1]).tocsr(), n_components=rank, n_iter=POWER_ITERATIONS, random_state=seed
    )
    values[values <= NOTHING * values.max()] = 0.0
    found = torch.from_numpy((vectors * values[:, None]).T.astype(np.float32))
    known = degrees > 0
    found[~known] = 0.0
    factors[:, :rank] = found / found[known].square().mean().sqrt().clamp(min=1e-12)
    squares[:rank] = torch.from_numpy(values.astype(np.float32)).square()
    return CollaborativeFactors(factors, squares, degrees)
