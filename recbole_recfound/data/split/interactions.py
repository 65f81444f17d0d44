"""Interactions and histories of built parts of a data set, those before a user's first target included."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from recbole.data.dataset import Dataset

from recbole_recfound.data.split.histories import Histories


def pairs_of(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return users and items of the rows of a built part, int64 [n] each."""
    return dataset.inter_feat[dataset.uid_field].numpy(), dataset.inter_feat[dataset.iid_field].numpy()


def histories_before(parts: Sequence[Dataset], num_users: int) -> list[Histories]:
    """Return each user's items before the second part, before the third, ..., and after the last one.

    Args:
        parts: built, of one split.
        num_users: number of user ids, the padding id 0 included.
    """
    nothing = np.zeros(0, dtype=np.int64)
    known = Histories.from_pairs(nothing, nothing, num_users)
    found: list[Histories] = []
    for part in parts:
        users, items = pairs_of(part)
        # A user whose first target is in this part has items before it, which no part has as targets.
        first, before = _before_first(part)
        new = known.lengths[first] == 0
        known = known.followed_by(first[new], before[new])
        if found:
            found[-1] = known
        known = known.followed_by(users, items)
        found.append(known)
    return found


def interactions_of(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return all interactions of a built training set or of a whole data set, chronologically for each user.

    A sequential data set has no row for the interactions before a user's first target: they are in that row's sequence.

    Args:
        dataset: its first part, or all of it.

    Returns:
        Users and items, int64 [n] each.
    """
    users, items = pairs_of(dataset)
    first, before = _before_first(dataset)
    return np.concatenate([first, users]), np.concatenate([before, items])


def _before_first(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return users and items, int64 [n] each, of the sequence of each user's first row; nothing without sequences."""
    length_field = dataset.config["ITEM_LIST_LENGTH_FIELD"]
    if length_field not in dataset.inter_feat:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    firsts, first_rows = np.unique(pairs_of(dataset)[0], return_index=True)
    sequences = dataset.inter_feat[dataset.iid_field + dataset.config["LIST_SUFFIX"]].numpy()[first_rows]
    lengths = dataset.inter_feat[length_field].numpy()[first_rows]
    before = np.arange(sequences.shape[1]) < lengths[:, None]
    return np.repeat(firsts, lengths), sequences[before]
