"""Collaborative factors from a dense singular value decomposition, and without some users, one term after the other."""

from __future__ import annotations

import numpy as np


def dense_factors(users, items, num_users, num_items, count, left_out=()):
    """Return factors [num_items, count] in which an item is the sum over its users that are not left out.

    The singular vectors and the scale are those of all users.
    """
    has = np.zeros((num_users, num_items))
    has[users, items] = 1.0
    of_users, of_items = has.sum(1), has.sum(0)
    normal = np.zeros_like(has)
    for user, item in np.argwhere(has):
        normal[user, item] = 1.0 / np.sqrt(of_users[user] * of_items[item])
    left, values, right = np.linalg.svd(normal, full_matrices=False)
    whole = (right[:count] * values[:count, None]).T
    scale = np.sqrt((whole[of_items > 0] ** 2).mean())

    factors = np.zeros((num_items, count))
    for item in range(num_items):
        others = [user for user in np.flatnonzero(has[:, item]) if user not in left_out]
        for user in others:
            factors[item] += left[user, :count] / np.sqrt(of_users[user] * len(others))
    return factors / scale
