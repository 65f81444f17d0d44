"""Texts of interactions as segments: a table of strings, and arrays of their indices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from recbole_recfound.data.behaviour.log import Attribute, Log
from recbole_recfound.data.behaviour.statistics import Statistic, Statistics
from recbole_recfound.data.behaviour.words import age_phrase, ages, phrase, rating_word
from recbole_recfound.data.text.fields import readable

QUESTION = "Will the user like it? Answer:"
NEXT = "The user now chooses:"
CATALOGUE = "An item of the catalogue:"
UNDESCRIBED = "no description"
"""Text and title of an item that has none; its id would say nothing."""
PROFILE, TIME, PAST, CANDIDATE, END, FIRST_STATISTIC = range(6)
"""Kinds of segments; every statistic is a kind of its own."""


class SegmentTable:
    """Strings by index; equal strings have one index."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._index: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.texts)

    def add(self, text: str) -> int:
        """Return the index of a string."""
        if text not in self._index:
            self._index[text] = len(self.texts)
            self.texts.append(text)
        return self._index[text]

    def of_codes(self, codes: np.ndarray, words: Callable[[int], str]) -> np.ndarray:
        """Return the index of the string of each code.

        Args:
            codes: int64, any shape.
            words: returns the string of a code; called once for each different code.
        """
        distinct, inverse = np.unique(codes, return_inverse=True)
        return np.array([self.add(words(int(code))) for code in distinct], dtype=np.int64)[inverse].reshape(codes.shape)


@dataclass(frozen=True)
class Source:
    """The user side.

    Attributes:
        segments: int64 [S], oldest behaviour first.
        kinds: int64 [S], kind of each segment.
    """

    segments: np.ndarray
    kinds: np.ndarray


@dataclass(frozen=True)
class Pack:
    """One source with the candidates that share it.

    Attributes:
        source: the user side.
        targets: int64 [T, W], segments of each candidate.
        target_kinds: int64 [W], kind of each segment of a candidate.
    """

    source: Source
    targets: np.ndarray
    target_kinds: np.ndarray


class BehaviourTexts:
    """Source and target segments of interactions and requests.

    Args:
        known: rows that statistics and histories of requests come from, such as the training rows.
        item_texts: text of each item id.
        profiles: text of each user id; "" for none.
        user_attributes: columns of users that form groups.
        category: a column of items that forms groups, or None.
        behaviours: most interactions in a source.
        clock: whether times are seconds.
    """

    def __init__(
        self,
        known: Log,
        item_texts: Sequence[str],
        profiles: Sequence[str],
        user_attributes: Sequence[Attribute] = (),
        category: Attribute | None = None,
        behaviours: int = 8,
        clock: bool = True,
    ) -> None:
        self.known, self.behaviours, self.clock = known, behaviours, clock
        self.statistics = Statistics(known, user_attributes, category)
        self.table = SegmentTable()
        self.items = np.array([self.table.add(text) for text in item_texts], dtype=np.int64)
        self.profiles = np.array([self.table.add(f"User: {text or 'unknown'}") for text in profiles], dtype=np.int64)
        self.end, self.next, self.catalogue = map(self.table.add, (QUESTION, NEXT, CATALOGUE))
        order = np.lexsort((np.arange(len(known)), known.times, known.users))
        self._by_user = known.take(order)
        self._latest = known.times.max(initial=0.0)
        self._starts = np.searchsorted(self._by_user.users, np.arange(len(profiles) + 1))

    @cached_property
    def of_known(self) -> np.ndarray:
        """Target segments of all known rows, int64 [n, W], each from strictly earlier rows."""
        return self._targets(self.known.items, self.statistics.of_log())

    @property
    def kinds(self) -> int:
        """Number of kinds of segments."""
        return FIRST_STATISTIC + self.of_known.shape[1] - 2

    @property
    def target_kinds(self) -> np.ndarray:
        """Kind of each segment of a target, int64 [W]: item, statistics, end."""
        return np.concatenate([[CANDIDATE], np.arange(FIRST_STATISTIC, self.kinds), [END]])

    def add_items(self, ids: Sequence[int], texts: Sequence[str], values: Sequence[Mapping[str, str]]) -> None:
        """Add items of which nothing is known but their text, or give other texts to known ones.

        Args:
            ids: known ones, and those behind them in their order.
            texts: of each item.
            values: columns of each item.
        """
        self.items = np.concatenate([self.items, np.zeros(max(0, max(ids, default=0) + 1 - len(self.items)), np.int64)])
        self.items[list(ids)] = [self.table.add(text) for text in texts]
        if (category := self.statistics.category) is not None:
            words = [
                sorted({word for name, text in own.items() if readable(name) == category.name for word in text.split()})
                for own in values
            ]
            self.statistics.category = category.with_ids(ids, words)

    def of_requests(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the target segments of pairs that are not known, int64 [m, W], from all known rows.

        Args:
            users: int64 [m], 0 for an unknown user.
            items: int64 [m].
        """
        return self._targets(items, self.statistics.of_requests(users, items))

    def _targets(self, items: np.ndarray, statistics: Sequence[Statistic]) -> np.ndarray:
        said = [self.table.of_codes(*phrase(statistic)) for statistic in statistics]
        return np.stack([self.items[items], *said, np.full(len(items), self.end)], axis=1)

    def source(self, user: int, time: float = np.inf) -> Source:
        """Return the source of a known user: profile and last behaviours strictly before a time.

        Args:
            user: id.
            time: of the first candidate; infinite: after all known rows.
        """
        start, end = self._starts[user], self._starts[user + 1]
        end = start + np.searchsorted(self._by_user.times[start:end], time, side="left")
        rows = self._by_user.take(slice(max(start, end - self.behaviours), end))
        return self._source(user, rows.items, min(time, self._latest) - rows.times, rows.values)

    def source_of_history(self, history: np.ndarray) -> Source:
        """Return the source of a user of whom only a history is known.

        Args:
            history: int64 [n] item ids, oldest first.
        """
        recent = history[len(history) - min(len(history), self.behaviours) :]
        return self._source(0, recent, None, np.full(len(recent), np.nan))

    def source_of_choices(self, user: int, items: np.ndarray) -> Source:
        """Return the source of a user and chosen items, whose times are not said.

        Args:
            user: id, 0 for an unknown user.
            items: int64 [n] item ids, oldest first.
        """
        recent = items[len(items) - min(len(items), self.behaviours) :]
        kinds = np.full(len(recent) + 1, PAST)
        kinds[0] = PROFILE
        return Source(np.concatenate([self.profiles[[user]], self.items[recent]]), kinds)

    def _source(self, user: int, items: np.ndarray, seconds: np.ndarray | None, values: np.ndarray) -> Source:
        segments, kinds = [int(self.profiles[user])], [PROFILE]
        codes = ages(seconds) if self.clock and seconds is not None else np.full(len(items), -1)
        for item, code, value in zip(items, codes, values, strict=True):
            when = f"{age_phrase(int(code))}, " if code >= 0 else ""
            segments += [self.table.add(f"{when}the user {rating_word(value)}:"), int(self.items[item])]
            kinds += [TIME, PAST]
        return Source(np.array(segments, dtype=np.int64), np.array(kinds, dtype=np.int64))

    def packs(self, users: np.ndarray, times: np.ndarray, size: int) -> list[np.ndarray]:
        """Divide rows into packs of one user, in the order of time.

        Args:
            users: int64 [n].
            times: [n].
            size: most rows of a pack.

        Returns:
            Row indices of each pack, by user and time.
        """
        order = np.lexsort((np.arange(len(users)), times, users))
        bounds = np.flatnonzero(np.diff(users[order], prepend=-1, append=-1))
        return [
            order[start : min(start + size, last)]
            for begin, last in pairwise(bounds)
            for start in range(begin, last, size)
        ]
