"""Collaborative factors: what the training rows alone say of the items, as features beside their text."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

POWER_ITERATIONS = 7
"""Of the randomised SVD: scikit-learn's own choice for few components."""


def collaborative_factors(
    users: np.ndarray, items: np.ndarray, num_items: int, count: int, seed: int = 0
) -> torch.Tensor:
    """Return the leading right singular vectors of the degree-normalised interactions, times their singular values.

    The matrix has 1 / sqrt(d_u d_i) where user u has item i, with the degrees d counted over distinct pairs. All
    columns have one scale, by which an entry of an item with interactions has mean square 1: the leading columns stay
    the largest.

    Args:
        users: int64 [n], user id of each training row.
        items: int64 [n], item id of each training row.
        num_items: number of item ids, padding included.
        count: factors; where the data have fewer, the last columns are zero.
        seed: of the randomised SVD.

    Returns:
        float32 [num_items, count]; zeros for items without training rows.
    """
    factors = torch.zeros(num_items, count)
    matrix = sparse.csr_matrix((np.ones(len(users)), (users, items)), shape=(int(users.max(initial=0)) + 1, num_items))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    of_users, of_items = (np.asarray(matrix.sum(axis)).ravel() for axis in (1, 0))
    rank = min(count, int((of_users > 0).sum()), int((of_items > 0).sum()))
    if not rank:
        return factors
    scale = [sparse.diags(1.0 / np.sqrt(np.maximum(degrees, 1.0))) for degrees in (of_users, of_items)]
    _, values, vectors = randomized_svd(
        (scale[0] @ matrix @ scale[1]).tocsr(), n_components=rank, n_iter=POWER_ITERATIONS, random_state=seed
    )
    found = torch.from_numpy((vectors * values[:, None]).T.astype(np.float32))
    known = torch.from_numpy(of_items > 0)
    found[~known] = 0.0
    factors[:, :rank] = found / found[known].square().mean().sqrt().clamp(min=1e-12)
    return factors
