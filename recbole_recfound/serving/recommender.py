"""Recommendations and scores of a finished run, by tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recbole_recfound.errors import ConfigError

Recommendation = tuple[str, str, float]
"""Item token, text and score."""
Domains = Sequence[str | None] | Mapping[str, Sequence[str | None]] | None
"""Domains of rows: names of the first type of domain, or names by type (as typed in `domain`)."""


@dataclass(frozen=True)
class Rows:
    """Users or histories of a request.

    Attributes:
        histories: item ids of each row, oldest first.
        users: user id of each row; 0 where a history was given.
    """

    histories: list[np.ndarray]
    users: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    def take(self, row: int) -> Rows:
        """Return one row."""
        return Rows([self.histories[row]], self.users[[row]])


class Recommender(ABC):
    """A model that is queried by tokens.

    Args:
        item_ids: item id of each token, 1 to the number of items.
        texts: text of each item id (index 0 is the padding).
        item_field, user_field: names of the columns, for messages.
        masks_history: leave out of recommendations what a history holds.
    """

    def __init__(
        self, item_ids: dict[str, int], texts: list[str], item_field: str, user_field: str, masks_history: bool = True
    ) -> None:
        self.item_ids, self.texts = item_ids, texts
        self.tokens = ["", *item_ids]
        self.item_field, self.user_field = item_field, user_field
        self.masks_history = masks_history

    # What a model answers ---------------------------------------------------------------------------------------------

    @abstractmethod
    def _scores(self, rows: Rows, domains: Domains) -> torch.Tensor:
        """Return the scores of all items, float32 [B, num_items]."""

    @abstractmethod
    def _pair_scores(self, rows: Rows, items: np.ndarray, domains: Domains) -> torch.Tensor:
        """Return the score of one item id per row, float32 [B]."""

    @abstractmethod
    def _user_id(self, user: str) -> int | None:
        """Return a user's id, None for an unknown user."""

    @abstractmethod
    def known_users(self) -> list[str]:
        """Return the tokens of all users whose histories are known.

        Raises:
            ConfigError: the run keeps no histories, and its data set cannot be read.
        """

    @abstractmethod
    def _history_of(self, user_id: int) -> np.ndarray:
        """Return the whole history of a user as item ids, oldest first."""

    def _check_histories(self) -> None:
        """Raise where the model reads users by their ids, so that a history says nothing to it."""

    # Requests ---------------------------------------------------------------------------------------------------------

    def recommend(
        self,
        history: Sequence[str] | None = None,
        *,
        user: str | None = None,
        k: int = 10,
        exclude: Collection[str] = (),
        candidates: Collection[str] | None = None,
        domains: str | Mapping[str, str | None] | None = None,
    ) -> list[Recommendation]:
        """Recommend items to one user.

        Args:
            history: item tokens, oldest first.
            user: token of a known user, instead of a history.
            k: most items returned; capped by the number of candidates.
            exclude: item tokens that are left out, besides those of the history where the run masks them.
            candidates: item tokens to choose from; None: all items.
            domains: for IAK, the user's domain, or domains by type.

        Returns:
            Item token, text and score of each item, best first.

        Raises:
            ConfigError: unknown tokens, neither or both of `history` and `user`, or an empty list.
        """
        if (history is None) == (user is None):
            raise ConfigError("recommend: give either a history of item tokens or user=TOKEN")
        named: Domains = [domains] if isinstance(domains, str) else None
        if isinstance(domains, Mapping):
            named = {kind: [name] for kind, name in domains.items()}
        histories, users = None if history is None else [history], None if user is None else [user]
        return self.recommend_batch(histories, users=users, k=k, exclude=exclude, candidates=candidates, domains=named)[
            0
        ]

    @torch.no_grad()
    def recommend_batch(
        self,
        histories: Sequence[Sequence[str]] | None = None,
        *,
        users: Sequence[str] | None = None,
        k: int = 10,
        exclude: Collection[str] = (),
        candidates: Collection[str] | None = None,
        domains: Domains = None,
    ) -> list[list[Recommendation]]:
        """Recommend items to several users in one pass; see `recommend`.

        Args:
            histories: item tokens of each user, oldest first.
            users: tokens of known users, instead of histories.
            k: most items returned for each row.
            exclude: item tokens that are left out of every row.
            candidates: item tokens to choose from; None: all items.
            domains: for IAK, the domain of each row, or a list for each type of domain.

        Raises:
            ConfigError: see `recommend`.
        """
        if k < 1:
            raise ConfigError(f"recommend: k: got {k}, expected at least 1")
        if (histories is None) == (users is None):
            raise ConfigError("recommend: give either histories of item tokens or users=[TOKEN, ...]")
        rows = self._rows(histories or users or [], by_user=histories is None)
        allowed = torch.ones(len(self.tokens), dtype=torch.bool)
        if candidates is not None:
            allowed.zero_()
            allowed[self._items(list(candidates))] = True
        allowed[0] = False
        if len(exclude):
            allowed[self._items(list(exclude))] = False
        scores = self._scores(rows, domains).float().cpu().masked_fill(~allowed, -torch.inf)
        if self.masks_history:
            for row, history in enumerate(rows.histories):
                scores[row, torch.from_numpy(history)] = -torch.inf
        best = scores.topk(min(k, int(allowed.sum())), dim=1)
        return [
            [
                (self.tokens[item], self.texts[item], score)
                for item, score in zip(items, values, strict=True)
                if score > -torch.inf
            ]
            for items, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    @torch.no_grad()
    def score(
        self, users_or_histories: Sequence[str] | Sequence[Sequence[str]], items: Sequence[str], domains: Domains = None
    ) -> torch.Tensor:
        """Score pairs of a user and an item.

        Args:
            users_or_histories: user tokens, or a history of item tokens for each row.
            items: one item token per row.
            domains: for IAK, the domain of each row, or a list for each type of domain.

        Returns:
            float32 [rows].

        Raises:
            ConfigError: unknown tokens, or lists of different length.
        """
        by_user = isinstance(users_or_histories, str) or all(isinstance(row, str) for row in users_or_histories)
        rows, ids = self._rows(users_or_histories, by_user), self._items(items)
        if len(rows) != len(ids):
            raise ConfigError(f"score: got {len(rows)} users and {len(ids)} items, expected one of each per row")
        return self._pair_scores(rows, ids, domains).float().cpu()

    # Tokens -----------------------------------------------------------------------------------------------------------

    def _rows(self, given: Sequence[Any], by_user: bool) -> Rows:
        if by_user:
            users = np.array([self._known_user(user) for user in self._list(self.user_field, given)], dtype=np.int64)
            return Rows([self._history_of(user) for user in users.tolist()], users)
        self._check_histories()
        if not len(given):
            raise ConfigError(f"{self.item_field}: got no history, expected one per row")
        histories = [self._items(history, allow_empty=True) for history in given]
        return Rows(histories, np.zeros(len(histories), dtype=np.int64))

    def _known_user(self, user: str) -> int:
        user_id = self._user_id(user)
        if not user_id:
            hint = "" if isinstance(user, str) else " (tokens are text)"
            raise ConfigError(f"{self.user_field}: unknown token {user!r}{hint}")
        return user_id

    def _items(self, tokens: Sequence[str], allow_empty: bool = False) -> np.ndarray:
        """Return the item ids of tokens, int64 [n]."""
        tokens = self._list(self.item_field, tokens, allow_empty)
        unknown = [token for token in tokens if token not in self.item_ids]
        if unknown:
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            hint = "" if isinstance(unknown[0], str) else " (tokens are text)"
            raise ConfigError(f"{self.item_field}: unknown token {unknown[0]!r}{more}{hint}")
        return np.array([self.item_ids[token] for token in tokens], dtype=np.int64)

    def _list(self, field: str, tokens: Sequence[str], allow_empty: bool = False) -> Sequence[str]:
        if isinstance(tokens, str):
            raise ConfigError(f"{field}: got {tokens!r}, expected a list of tokens, as in [{tokens!r}]")
        if not len(tokens) and not allow_empty:
            raise ConfigError(f"{field}: got an empty list, expected at least one token")
        return tokens
