"""Recommendations and scores of a finished run, by tokens."""

from __future__ import annotations

import functools
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.arguments import checked_count, checked_list
from recbole_recfound.serving.best import best_of
from recbole_recfound.serving.checks import checked_domains, checked_records, checked_texts
from recbole_recfound.serving.evaluate import Evaluation
from recbole_recfound.serving.request import Domains, Recommendation, Request, Rows

SCORES = 1 << 24
"""Scores computed at a time: 64 MiB, whatever the number of users and items."""
P = ParamSpec("P")
R = TypeVar("R")


def one_at_a_time(
    method: Callable[Concatenate[Any, P], R],
) -> Callable[Concatenate[Any, P], R]:
    """Answer a request without gradients, while no other thread reads or changes the model.

    Args:
        method: of a `Recommender`.
    """

    @functools.wraps(method)
    def answer(self: Recommender, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock, torch.no_grad():
            return method(self, *args, **kwargs)

    return answer


class Recommender(ABC):
    """A model that is queried by tokens, from any number of threads.

    Args:
        item_ids: item id of each token, 1 to the number of items.
        texts: text of each item id (index 0 is the padding).
        item_field, user_field: names of the columns, for messages.
        masks_history: leave out of recommendations what a history holds: all data but those whose users take an item
            again and again (`repeatable`).

    Attributes:
        tasks: those that rank, this one included, where there are several; see `of_task`.
    """

    def __init__(
        self, item_ids: dict[str, int], texts: list[str], item_field: str, user_field: str, masks_history: bool = True
    ) -> None:
        self.item_ids, self.texts = item_ids, texts
        self.tokens = ["", *item_ids]
        self.item_field, self.user_field = item_field, user_field
        self.masks_history = masks_history
        self.tasks: Mapping[str, Recommender] = {}
        self._lock = threading.RLock()

    def of_task(self, task: str) -> Recommender:
        """Return what ranks by another task of the run.

        Args:
            task: name of the task.

        Raises:
            ConfigError: no such task, or a run that ranks in one way alone.
        """
        if task not in self.tasks:
            known = f"expected one of {', '.join(self.tasks)}" if self.tasks else "but this run ranks in one way alone"
            raise ConfigError(f"task: got {task!r}, {known}")
        return self.tasks[task]

    @abstractmethod
    def evaluate(self, dataset: str | None = None, data_path: str | None = None) -> Evaluation:
        """Score the test part of a data set, split and masked by the settings of the run.

        Args:
            dataset: name of the data set; None: that of the run.
            data_path: where data sets lie; None: where they were for the run.

        Raises:
            ConfigError: the run cannot be scored on these data.
            DataError: they are missing or malformed.
        """

    def prepare(self) -> None:
        """Compute what the first requests would wait for, such as vectors of all items."""
        return None

    def generate(self, task: str, *, max_new_tokens: int | None = None, **fields: Any) -> str:
        """Generate the answer of a generative task.

        Args:
            task: name of the task.
            max_new_tokens: longest answer, in tokens; None: that of the run's settings.
            fields: slots of its prompt.

        Raises:
            ConfigError: this model generates nothing, or other slots than those of the prompt.
        """
        raise ConfigError("generate: this model has no generative tasks")

    def embed_user(self, history: Sequence[str] | Sequence[Sequence[str]]) -> torch.Tensor:
        """Embed one history of item tokens, or several.

        Args:
            history: item tokens, oldest first, or a list of such lists.

        Raises:
            ConfigError: this model has no vectors that are comparable with those of texts.
        """
        raise ConfigError("embed_user: this model gives scores, no vectors: ask score or recommend")

    def embed_items(self, texts: Sequence[str], task: str = "U2I") -> torch.Tensor:
        """Embed texts of items.

        Args:
            texts: one text per item.
            task: an embedding task of the run.

        Raises:
            ConfigError: this model reads no texts.
        """
        raise ConfigError("embed_items: this model reads no texts")

    def export(self, task: str, form: str, out: str | Path) -> Path:
        """Write one task in the format of another library; see `serving.export`.

        Args:
            task: name of a task of the run.
            form: `peft`, `merged`, `sentence-transformers`, `index` or `onnx`.
            out: folder to write; it must not exist.

        Returns:
            The folder.

        Raises:
            ConfigError: this model has no such form.
        """
        raise ConfigError("export: only the language model of a run is exported, and this model has none of its own")

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
        """Return the whole history of a user as item ids, oldest first, as the model reads it."""

    @abstractmethod
    def _had_by(self, user_id: int) -> np.ndarray:
        """Return all items that a user has had, as item ids."""

    @property
    def cold_items(self) -> list[str]:
        """Tokens of items without any interaction, which are not recommended unless `add_items` adds them."""
        return []

    @property
    def item_columns(self) -> list[str]:
        """Names of the columns that describe a new item to the model."""
        return []

    def add_items(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add items, which can be recommended at once; nothing is trained.

        Args:
            records: the id field and columns of `.item` for each item.

        Raises:
            ConfigError: a record without an id, a known token, or a model that does not read the text of items.
        """
        if checked_records(records):
            raise ConfigError("add_items: this model knows items by their ids, so that a new one has no vector")

    def _check_histories(self) -> None:
        """Raise where the model reads users by their ids, so that a history says nothing to it."""

    def _text_scores(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the scores of all items for free texts, float32 [B, num_items].

        Raises:
            ConfigError: the model reads no texts.
        """
        raise ConfigError("query: this model reads no texts: give a history of item tokens or user=TOKEN")

    def _best(self, rows: Rows, k: int, allowed: torch.Tensor, domains: Domains) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores and item ids of the best items, [B, k] each, on the host; -inf where there are fewer.

        Args:
            rows: users or histories.
            k: items for each row, at most the number of items.
            allowed: bool [B, num_items], or [1, num_items] for all rows.
            domains: of the rows.
        """
        scores = self._scores(rows, domains).float().cpu().masked_fill(~allowed, -torch.inf)
        if self.masks_history:
            for row, had in enumerate(rows.had):
                scores[row, torch.from_numpy(had)] = -torch.inf
        return best_of(scores, k)

    # Requests ---------------------------------------------------------------------------------------------------------

    def recommend(
        self,
        history: Iterable[str] | None = None,
        *,
        user: str | None = None,
        query: str | None = None,
        k: int = 10,
        exclude: Iterable[str] = (),
        candidates: Iterable[str] | None = None,
        domains: str | Mapping[str, str | None] | None = None,
    ) -> list[Recommendation]:
        """Recommend items to one user.

        Args:
            history: item tokens, oldest first.
            user: token of a known user, instead of a history.
            query: free text, instead of a history, for a run that was trained on queries (Q2I).
            k: most items returned; capped by the number of candidates.
            exclude: item tokens that are left out, besides those of the history where the run masks them.
            candidates: item tokens to choose from; None: all items.
            domains: for a run with kernels of domains, the user's domain, or domains by type.

        Returns:
            Item token, text and score of each item, best first.

        Raises:
            ConfigError: unknown tokens, not exactly one of `history`, `user` and `query`, or an empty list.
        """
        if sum(given is not None for given in (history, user, query)) != 1:
            raise ConfigError("recommend: give either a history of item tokens, user=TOKEN or query=TEXT")
        named: Domains = [domains] if isinstance(domains, str) else None
        if isinstance(domains, Mapping):
            named = {kind: [name] for kind, name in domains.items()}
        elif domains is not None and named is None:
            raise ConfigError(f"domains: got {domains!r}, expected a name, or names by type of domain")
        return self.recommend_batch(
            None if history is None else [history],
            users=None if user is None else [user],
            queries=None if query is None else [query],
            k=k,
            exclude=exclude,
            candidates=candidates,
            domains=named,
        )[0]

    @one_at_a_time
    def recommend_batch(
        self,
        histories: Iterable[Iterable[str]] | None = None,
        *,
        users: Iterable[str] | None = None,
        queries: Iterable[str] | None = None,
        k: int = 10,
        exclude: Iterable[str] = (),
        candidates: Iterable[str] | None = None,
        domains: Domains = None,
    ) -> list[list[Recommendation]]:
        """Recommend items to several users in one pass; see `recommend`.

        Args:
            histories: item tokens of each user, oldest first.
            users: tokens of known users, instead of histories.
            queries: free texts, instead of histories.
            k: most items returned for each row.
            exclude: item tokens that are left out of every row.
            candidates: item tokens to choose from; None: all items.
            domains: for a run with kernels of domains, the domain of each row, or a list for each type of domain.

        Raises:
            ConfigError: see `recommend`.
        """
        if sum(given is not None for given in (histories, users, queries)) != 1:
            raise ConfigError(
                "recommend: give either histories of item tokens, users=[TOKEN, ...] or queries=[TEXT, ...]"
            )
        allowed = self._allowed(exclude, candidates)
        k = min(checked_count("k", k), int(allowed.sum()))
        if queries is not None:
            return self._of_texts(checked_texts("query", queries), k, allowed[None])
        given: Iterable[Any] = (users or ()) if histories is None else histories
        rows = self._rows(given, by_user=histories is None)
        return self._of_rows(rows, k, allowed[None], domains)

    @one_at_a_time
    def recommend_each(self, requests: Sequence[Request]) -> list[list[Recommendation] | ConfigError]:
        """Answer requests with limits of their own in as few passes as possible; see `recommend`.

        Args:
            requests: in any mixture.

        Returns:
            For each, its items, or what is wrong with it.
        """
        answers: list[list[Recommendation] | ConfigError] = [[] for _ in requests]
        groups: dict[tuple[bool, tuple[str, ...] | None], list[tuple[int, int, torch.Tensor]]] = {}
        rows: dict[int, Rows] = {}
        for number, asked in enumerate(requests):
            try:
                if sum(given is not None for given in (asked.history, asked.user, asked.query)) != 1:
                    raise ConfigError("give either history, user or query")
                allowed = self._allowed(asked.exclude, asked.candidates)
                k = min(checked_count("k", asked.k), int(allowed.sum()))
                if asked.query is not None:
                    checked_texts("query", [asked.query])
                else:
                    given = [asked.user] if asked.history is None else [asked.history]
                    rows[number] = self._rows(given, by_user=asked.history is None)
            except ConfigError as error:
                answers[number] = error
                continue
            types = None if asked.domains is None else tuple(sorted(asked.domains))
            groups.setdefault((asked.query is None, types), []).append((number, k, allowed))
        for (by_rows, types), group in groups.items():
            numbers = [number for number, _, _ in group]
            most, allowed = max(k for _, k, _ in group), torch.stack([row for _, _, row in group])
            found: Sequence[list[Recommendation] | ConfigError]
            try:
                if by_rows:
                    domains = [requests[number].domains or {} for number in numbers]
                    named = {kind: [names[kind] for names in domains] for kind in types or ()}
                    together = Rows.joined([rows[number] for number in numbers])
                    found = self._of_rows(together, most, allowed, None if types is None else named)
                else:
                    found = self._of_texts([requests[number].query or "" for number in numbers], most, allowed)
            except ConfigError as error:
                found = [error] * len(group)
            for (number, k, _), answer in zip(group, found, strict=True):
                answers[number] = answer if isinstance(answer, ConfigError) else answer[:k]
        return answers

    def _allowed(self, exclude: Iterable[str], candidates: Iterable[str] | None) -> torch.Tensor:
        """Return which items may be recommended, bool [num_items]."""
        allowed = torch.ones(len(self.tokens), dtype=torch.bool)
        if candidates is not None:
            allowed.zero_()
            allowed[self._items(candidates)] = True
        allowed[0] = False
        allowed[self._items(exclude, allow_empty=True)] = False
        return allowed

    def _of_texts(self, texts: Sequence[str], k: int, allowed: torch.Tensor) -> list[list[Recommendation]]:
        found: list[list[Recommendation]] = []
        for part in self._parts(len(texts)):
            mask = allowed if len(allowed) == 1 else allowed[part]
            scores = self._text_scores(texts[part]).float().cpu().masked_fill(~mask, -torch.inf)
            found += self._named(*best_of(scores, k))
        return found

    def _of_rows(self, rows: Rows, k: int, allowed: torch.Tensor, domains: Domains) -> list[list[Recommendation]]:
        found: list[list[Recommendation]] = []
        domains = checked_domains(domains, len(rows))
        for part in self._parts(len(rows)):
            mask = allowed if len(allowed) == 1 else allowed[part]
            found += self._named(*self._best(rows.take(part), k, mask, _part_of(domains, part)))
        return found

    def _parts(self, rows: int) -> Iterator[slice]:
        """Divide rows so that their scores of all items take bounded memory."""
        size = max(1, SCORES // len(self.tokens))
        for start in range(0, rows, size):
            yield slice(start, min(start + size, rows))

    def _named(self, scores: torch.Tensor, items: torch.Tensor) -> list[list[Recommendation]]:
        """Return tokens, texts and scores of item ids [B, k]."""
        return [
            [
                (self.tokens[item], self.texts[item], score)
                for item, score in zip(ids, values, strict=True)
                if score > -torch.inf
            ]
            for ids, values in zip(items.tolist(), scores.tolist(), strict=True)
        ]

    @one_at_a_time
    def score(
        self, users_or_histories: Iterable[str] | Iterable[Iterable[str]], items: Iterable[str], domains: Domains = None
    ) -> torch.Tensor:
        """Score pairs of a user and an item.

        Args:
            users_or_histories: user tokens, or a history of item tokens for each row.
            items: one item token per row.
            domains: for a run with kernels of domains, the domain of each row, or a list for each type of domain.

        Returns:
            float32 [rows].

        Raises:
            ConfigError: unknown tokens, or lists of different length.
        """
        given = checked_list("users_or_histories", users_or_histories)
        by_user = all(isinstance(row, str) for row in given)
        rows, ids = self._rows(given, by_user), self._items(items)
        if len(rows) != len(ids):
            raise ConfigError(f"score: got {len(rows)} users and {len(ids)} items, expected one of each per row")
        return self._pair_scores(rows, ids, checked_domains(domains, len(rows))).float().cpu()

    # Tokens -----------------------------------------------------------------------------------------------------------

    def _rows(self, given: Iterable[Any], by_user: bool) -> Rows:
        if by_user:
            users = np.array([self._known_user(user) for user in checked_list(self.user_field, given)], dtype=np.int64)
            ids = users.tolist()
            return Rows([self._history_of(user) for user in ids], [self._had_by(user) for user in ids], users)
        self._check_histories()
        histories = [self._items(history, ordered=True) for history in checked_list("histories", given)]
        return Rows(histories, histories, np.zeros(len(histories), dtype=np.int64))

    def _known_user(self, user: str) -> int:
        user_id = self._user_id(user) if isinstance(user, str) else None
        if not user_id:
            hint = "" if isinstance(user, str) else " (tokens are text)"
            raise ConfigError(f"{self.user_field}: unknown token {user!r}{hint}")
        if not len(self._history_of(user_id)):
            raise ConfigError(f"{self.user_field}: {user!r} has no interactions: give a history of item tokens")
        return user_id

    def _items(self, tokens: Iterable[str], allow_empty: bool = False, ordered: bool = False) -> np.ndarray:
        """Return the item ids of tokens, int64 [n]."""
        tokens = checked_list(self.item_field, tokens, allow_empty, ordered)
        unknown = [token for token in tokens if not isinstance(token, str) or token not in self.item_ids]
        if unknown:
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            hint = "" if isinstance(unknown[0], str) else " (tokens are text)"
            raise ConfigError(f"{self.item_field}: unknown token {unknown[0]!r}{more}{hint}")
        return np.array([self.item_ids[token] for token in tokens], dtype=np.int64)


def _part_of(domains: Domains, part: slice) -> Domains:
    """Return the domains of some rows."""
    if isinstance(domains, Mapping):
        return {kind: names[part] for kind, names in domains.items()}
    return None if domains is None else domains[part]
