"""Interactions as arrays, and the attributes of users and items that statistics are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Log:
    """Interactions.

    Attributes:
        users: int64 [n], user ids; 0 for an unknown user.
        items: int64 [n], item ids.
        times: float64 [n], comparable; seconds where the data have a clock.
        values: float64 [n], 0 to 1: the label or the scaled rating; NaN where there is none.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: np.ndarray | slice) -> Log:
        """Return some rows.

        Args:
            rows: indices, or a slice.
        """
        return Log(self.users[rows], self.items[rows], self.times[rows], self.values[rows])

    def followed_by(self, other: Log) -> Log:
        """Return the rows of both."""
        names = ("users", "items", "times", "values")
        return replace(self, **{name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in names})


@dataclass(frozen=True)
class Attribute:
    """A column that divides users or items into groups.

    Attributes:
        name: in words.
        groups: name of each group.
        indptr, values: the groups of each id in compressed rows: those of id i are `values[indptr[i]:indptr[i + 1]]`.
    """

    name: str
    groups: tuple[str, ...]
    indptr: np.ndarray
    values: np.ndarray

    def expand(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return one entry for each group of each id.

        Args:
            ids: int64 [n].

        Returns:
            Place in `ids` and group, both int64 [m].
        """
        lengths = np.diff(self.indptr)[ids]
        place = np.repeat(np.arange(len(ids)), lengths)
        within = np.arange(len(place)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return place, self.values[self.indptr[ids][place] + within]

    def with_ids(self, ids: Sequence[int], names: Sequence[Sequence[str]]) -> Attribute:
        """Return the attribute with the groups of further ids, or other groups of known ones.

        Args:
            ids: known ones, and those behind them in their order.
            names: groups of each id; unknown ones are left out.
        """
        index = {group: number for number, group in enumerate(self.groups)}
        rows = np.split(self.values, self.indptr[1:-1])
        for number, own in zip(ids, names, strict=True):
            rows[number : number + 1] = [np.array([index[name] for name in own if name in index], dtype=np.int64)]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        return replace(self, indptr=np.concatenate([[0], np.cumsum(lengths)]), values=np.concatenate(rows))

    def first(self, ids: np.ndarray) -> np.ndarray:
        """Return the first group of each id, -1 where it has none."""
        some = np.diff(self.indptr)[ids] > 0
        found = np.full(len(ids), -1, dtype=np.int64)
        found[some] = self.values[self.indptr[ids[some]]]
        return found
