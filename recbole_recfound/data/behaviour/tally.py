"""Sums and counts by key over the rows before a row, vectorised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tally:
    """Sums and counts of logged values by key.

    Attributes:
        sums: float64 [n], for each logged row the sum over strictly earlier rows with the same key.
        counts: float64 [n], number of these rows that have a value.
        keys: int64 [K], sorted keys of all logged rows.
        totals: float64 [K], sum over all logged rows of a key.
        sizes: float64 [K], number of these rows that have a value.
    """

    sums: np.ndarray
    counts: np.ndarray
    keys: np.ndarray
    totals: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray, values: np.ndarray, times: np.ndarray) -> Tally:
        """Sum values by key. Rows of equal time do not count for each other, and rows without a value for none.

        Args:
            keys: int64 [n].
            values: float64 [n], NaN for none.
            times: [n], comparable.
        """
        order = np.lexsort((times, keys))
        key, time, value = keys[order], times[order], values[order]
        given = np.isfinite(value)
        before = np.concatenate([[0.0], np.cumsum(np.where(given, value, 0.0))])
        number = np.concatenate([[0.0], np.cumsum(given)])
        new_key = _changes(key)
        key_start = _start_of_run(new_key)
        time_start = _start_of_run(new_key | _changes(time))
        sums, counts = np.empty(len(keys)), np.empty(len(keys))
        sums[order] = before[time_start] - before[key_start]
        counts[order] = number[time_start] - number[key_start]
        starts = np.flatnonzero(new_key)
        ends = np.append(starts[1:], len(keys))
        return cls(sums, counts, key[starts], before[ends] - before[starts], number[ends] - number[starts])

    def mean(self, prior: np.ndarray | float, strength: float) -> np.ndarray:
        """Return the mean before each logged row, drawn towards a prior, float64 [n].

        Args:
            prior: mean without any row.
            strength: rows that the prior counts for.
        """
        return (self.sums + strength * prior) / (self.counts + strength)

    def mean_of(self, keys: np.ndarray, prior: np.ndarray | float, strength: float) -> np.ndarray:
        """Return the mean over all logged rows of each key, drawn towards a prior.

        Args:
            keys: int64 [m]; a key without rows has the prior.
            prior: mean without any row.
            strength: rows that the prior counts for.
        """
        totals, sizes = self.of_keys(keys)
        return (totals + strength * prior) / (sizes + strength)

    def of_keys(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sum and number of all logged rows of each key.

        Args:
            keys: int64 [m].
        """
        if not len(self.keys):
            return np.zeros(len(keys)), np.zeros(len(keys))
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        known = self.keys[place] == keys
        return np.where(known, self.totals[place], 0.0), np.where(known, self.sizes[place], 0.0)


def _changes(values: np.ndarray) -> np.ndarray:
    """Return where a value differs from the one before, True at the start."""
    return np.concatenate([np.ones(min(1, len(values)), dtype=bool), values[1:] != values[:-1]])


def _start_of_run(starts: np.ndarray) -> np.ndarray:
    """Return the index at which the run of each element starts."""
    return np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0)) if len(starts) else np.zeros(0, int)
