"""Statistics of candidate, user and both, from the rows before a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recbole_recfound.data.behaviour.log import Attribute, Log
from recbole_recfound.data.behaviour.tally import Tally

STRENGTH = 5.0
"""Rows that the prior of a user's or an item's mean counts for."""
WIDE = 20.0
"""Likewise of a group of users or of a category."""
GROWTH = 1.1
"""Between two snapshots of the popularity of all items, the number of rows grows by this factor."""
DECILES = 10


@dataclass(frozen=True)
class Statistic:
    """One number about every row.

    Attributes:
        kind: `popularity`, `count`, `level`, `difference` or `taste`; decides the words.
        subject: what it is about, in words.
        values: float64 [n].
    """

    kind: str
    subject: str
    values: np.ndarray


class Statistics:
    """Counts and smoothed means over logged rows, each from strictly earlier rows alone.

    The level of an item is its mean value after the leniency of its users is taken out, so that an item is not good
    because lenient users came to it; that of a user likewise. Levels of groups are differences to both.

    Args:
        log: rows that count, such as those of the training part.
        user_attributes: columns of users that form groups.
        category: a column of items that forms groups, or None.
    """

    def __init__(self, log: Log, user_attributes: Sequence[Attribute] = (), category: Attribute | None = None) -> None:
        self.log, self.user_attributes, self.category = log, tuple(user_attributes), category
        self.rated = bool(np.isfinite(log.values).any()) if len(log) else False
        self._snapshots = _Snapshots.of(log.items, log.times)
        ones = np.ones(len(log))
        self._items = Tally.of(log.items, ones, log.times)
        self._users = Tally.of(log.users, ones, log.times)
        if category is not None:
            rows, groups = category.expand(log.items)
            self._choices = Tally.of(_pair(log.users[rows], groups), ones[rows], log.times[rows])
        if self.rated:
            self._fit_levels()

    def _fit_levels(self) -> None:
        """Take the leniency of users out of items and the level of items out of users, each row from earlier rows.

        A row without a value has levels of its own, from those that have one, and counts for none.
        """
        users, items, times, values = self.log.users, self.log.items, self.log.times, self.log.values
        self._overall = Tally.of(np.zeros(len(users), np.int64), values, times)
        mean = self._overall.mean(0.5, WIDE)
        rough = Tally.of(items, values - mean, times).mean(0.0, STRENGTH)
        lenient = Tally.of(users, values - mean - rough, times).mean(0.0, STRENGTH)
        self._item_level = Tally.of(items, values - mean - lenient, times)
        item_level = self._item_level.mean(0.0, STRENGTH)
        self._user_level = Tally.of(users, values - mean - item_level, times)
        rest = values - mean - item_level - self._user_level.mean(0.0, STRENGTH)
        self._of_group = [
            Tally.of(_pair(items, attribute.first(users)), rest, times) for attribute in self.user_attributes
        ]
        if self.category is not None:
            rows, groups = self.category.expand(items)
            self._of_taste = Tally.of(_pair(users[rows], groups), rest[rows], times[rows])
            self._of_group_taste = [
                Tally.of(_pair(attribute.first(users[rows]), groups), rest[rows], times[rows])
                for attribute in self.user_attributes
            ]

    def of_log(self) -> list[Statistic]:
        """Return the statistics of every logged row, from strictly earlier rows."""
        return self._all(self.log.users, self.log.items, True)

    def of_requests(self, users: np.ndarray, items: np.ndarray) -> list[Statistic]:
        """Return the statistics of pairs that are not logged, from all logged rows.

        Args:
            users: int64 [m].
            items: int64 [m].
        """
        return self._all(users, items, False)

    def _all(self, users: np.ndarray, items: np.ndarray, logged: bool) -> list[Statistic]:
        def counted(tally: Tally, keys: np.ndarray) -> np.ndarray:
            return tally.counts if logged else tally.of_keys(keys)[1]

        def mean(tally: Tally, keys: np.ndarray, prior: float, strength: float) -> np.ndarray:
            return tally.mean(prior, strength) if logged else tally.mean_of(keys, prior, strength)

        seen = counted(self._items, items)
        popularity = self._snapshots.deciles(seen, self.log.times if logged else None)
        found = [
            Statistic("popularity", "item", popularity),
            Statistic("count", "item", seen),
            Statistic("count", "user", counted(self._users, users)),
        ]
        if self.category is not None:
            rows, groups = self.category.expand(items)
            pairs = _pair(users[rows], groups)
            chosen = counted(self._choices, pairs)
            found.append(Statistic("count", self.category.name, _largest(rows, chosen, len(items))))
        if not self.rated:
            return found
        overall = mean(self._overall, np.zeros(len(items), np.int64), 0.5, WIDE)
        found += [
            Statistic("level", "item", overall + mean(self._item_level, items, 0.0, STRENGTH)),
            Statistic("level", "user", overall + mean(self._user_level, users, 0.0, STRENGTH)),
        ]
        for attribute, tally in zip(self.user_attributes, self._of_group, strict=True):
            keys = _pair(items, attribute.first(users))
            found.append(Statistic("difference", attribute.name, mean(tally, keys, 0.0, 2 * STRENGTH)))
        if self.category is not None:
            taste = _average(rows, mean(self._of_taste, pairs, 0.0, STRENGTH), len(items))
            found.append(Statistic("taste", "user", taste))
            for attribute, tally in zip(self.user_attributes, self._of_group_taste, strict=True):
                keys = _pair(attribute.first(users[rows]), groups)
                group = _average(rows, mean(tally, keys, 0.0, WIDE), len(items))
                found.append(Statistic("taste", attribute.name, group))
        return found


def _pair(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return one key for two ids."""
    return (first.astype(np.int64) + 1) * (1 << 31) + second + 1


def _largest(rows: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Return the largest value of each row, 0 for a row without any."""
    found = np.zeros(count)
    np.maximum.at(found, rows, values)
    return found


def _average(rows: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Return the mean value of each row, 0 for a row without any."""
    return np.bincount(rows, values, count) / np.maximum(np.bincount(rows, minlength=count), 1)


@dataclass(frozen=True)
class _Snapshots:
    """Deciles of the popularity of items after growing numbers of rows.

    Attributes:
        times: [s], rows strictly before this time are counted in a snapshot.
        edges: float64 [s, 9], smallest count of each decile above the first, among items that have any.
    """

    times: np.ndarray
    edges: np.ndarray

    @classmethod
    def of(cls, items: np.ndarray, times: np.ndarray) -> _Snapshots:
        order = np.argsort(times, kind="stable")
        sizes = [1]
        while sizes[-1] < len(items):
            sizes.append(max(sizes[-1] + 1, int(sizes[-1] * GROWTH)))
        # A snapshot depends on the rows before it alone, so that later rows change none.
        # Rows of equal time count together, from the next time on.
        sorted_times = times[order]
        latest = sorted_times[[size - 1 for size in sizes if size < len(items)]]
        ends = np.searchsorted(sorted_times, latest, side="right")
        at = np.append(np.unique(sorted_times[ends[ends < len(items)]]), np.inf)
        edges = []
        for time in at:
            counts = np.bincount(items[order[: np.searchsorted(sorted_times, time)]])
            counts = counts[counts > 0]
            shares = np.arange(1, DECILES) / DECILES
            edges.append(np.quantile(counts, shares) if len(counts) else np.full(DECILES - 1, np.inf))
        return cls(at, np.array(edges))

    def deciles(self, counts: np.ndarray, times: np.ndarray | None) -> np.ndarray:
        """Return the decile of each count, 1 (least popular) to 10; 0 for items without any row.

        Args:
            counts: float64 [n].
            times: [n], the latest snapshot before or at each time is used; None: the last one.
        """
        place = np.full(len(counts), len(self.times) - 1)
        if times is not None:
            place = np.maximum(np.searchsorted(self.times, times, side="right") - 1, 0)
        found = 1 + (counts[:, None] > self.edges[place]).sum(axis=1)
        return np.where(counts > 0, found, 0).astype(np.float64)
