"""What is asked of a finished run, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Recommendation = tuple[str, str, float]
"""Item token, text and score."""
Domains = Sequence[str | None] | Mapping[str, Sequence[str | None]] | None
"""Domains of rows: names of the first type of domain, or names by type (as typed in `domain`)."""


@dataclass(frozen=True)
class Rows:
    """Users or histories of a request.

    Attributes:
        histories: item ids of each row, oldest first, as the model reads them.
        had: item ids of each row that are left out of recommendations where histories are masked.
        users: user id of each row; 0 where a history was given.
    """

    histories: list[np.ndarray]
    had: list[np.ndarray]
    users: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    def take(self, part: slice) -> Rows:
        """Return some rows."""
        return Rows(self.histories[part], self.had[part], self.users[part])

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """Return the rows of all parts."""
        return cls(
            [row for part in parts for row in part.histories],
            [row for part in parts for row in part.had],
            np.concatenate([part.users for part in parts]),
        )


@dataclass(frozen=True)
class Request:
    """One request of many; see `Recommender.recommend` for the fields.

    Attributes:
        history: item tokens, oldest first.
        user: token of a known user.
        query: free text.
        k: most items returned.
        exclude: item tokens that are left out.
        candidates: item tokens to choose from; None: all items.
        domains: the user's domain of each type that is named.
    """

    history: Sequence[str] | None = None
    user: str | None = None
    query: str | None = None
    k: int = 10
    exclude: Sequence[str] = ()
    candidates: Sequence[str] | None = None
    domains: Mapping[str, str | None] | None = None
