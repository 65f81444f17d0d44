"""Item histories of all users as one flat array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbole_recfound.data.padding import pad_flat


@dataclass(frozen=True)
class Histories:
    """Item histories of all users in compressed rows.

    Args:
        indptr: int64 [num_users + 1]; the history of user u is `items[indptr[u]:indptr[u + 1]]`.
        items: int64 [num_interactions], each user's items oldest first.
    """

    indptr: np.ndarray
    items: np.ndarray

    @classmethod
    def from_pairs(cls, users: np.ndarray, items: np.ndarray, num_users: int) -> Histories:
        """Group interactions by user, in their order.

        Args:
            users: int64 [n], user ids below `num_users`.
            items: int64 [n], item ids.
            num_users: number of user ids, the padding id 0 included.
        """
        order = np.argsort(users, kind="stable")
        indptr = np.zeros(num_users + 1, dtype=np.int64)
        np.cumsum(np.bincount(users, minlength=num_users), out=indptr[1:])
        return cls(indptr, np.asarray(items, dtype=np.int64)[order])

    @property
    def lengths(self) -> np.ndarray:
        """int64 [num_users], length of each user's history."""
        return np.diff(self.indptr)

    def of(self, user: int) -> np.ndarray:
        """Return the items of one user, int64 [length], oldest first."""
        return self.items[self.indptr[user] : self.indptr[user + 1]]

    def followed_by(self, users: np.ndarray, items: np.ndarray) -> Histories:
        """Return the histories with later interactions appended.

        Args:
            users: int64 [n].
            items: int64 [n], in order for each user.
        """
        ours = np.repeat(np.arange(len(self.lengths)), self.lengths)
        return Histories.from_pairs(
            np.concatenate([ours, users]), np.concatenate([self.items, items]), len(self.lengths)
        )

    def flat(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return all items of several users.

        Args:
            users: int64 [B].

        Returns:
            Row of the batch (0 to B - 1) and item, both int64 [sum of lengths].
        """
        lengths = self.lengths[users]
        row = np.repeat(np.arange(len(users)), lengths)
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return row, self.items[self.indptr[users][row] + within]

    def padded(self, users: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the last items of several users, oldest first, padded with 0 on the right.

        Args:
            users: int64 [B].
            longest: most items of a row.

        Returns:
            Items int64 [B, L], where L is the longest row (at least 1), and lengths int64 [B].
        """
        lengths = np.minimum(self.lengths[users], longest)
        return pad_flat(self.items, self.indptr[users + 1] - lengths, lengths, fill=0)[0], lengths

    def padded_before(self, users: np.ndarray, counts: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """Pad like `padded`, from the first `counts` items of each history.

        Args:
            users: int64 [B].
            counts: int64 [B], items of each history that come before.
            longest: most items of a row.
        """
        lengths = np.minimum(counts, longest)
        return pad_flat(self.items, self.indptr[users] + counts - lengths, lengths, fill=0)[0], lengths
