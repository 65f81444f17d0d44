"""Times of interactions: their exact order, whatever numbers a file holds, and their unit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import pandas as pd

LATEST = 3e20
"""Larger numbers are no times: the year 9999 in nanoseconds is 2.5e20."""
EARLIEST_CLOCK = 1e8
"""Smaller numbers (before March 1973 in seconds) are positions or years, not times of a clock."""
DIGITS_OF_CALENDAR = 14
"""Digits of YYYYMMDDHHMMSS."""


class TimeUnit(NamedTuple):
    """Unit of a column of times.

    Attributes:
        name: as in a message.
        per_second: units in a second; 0 where the numbers are not times of a clock.
    """

    name: str
    per_second: float


SECONDS = TimeUnit("seconds", 1.0)
POSITIONS = TimeUnit("positions", 0.0)
CALENDAR = TimeUnit("YYYYMMDDHHMMSS", 0.0)
_CLOCKS = ((1e11, SECONDS), (1e14, TimeUnit("milliseconds", 1e3)), (1e17, TimeUnit("microseconds", 1e6)))
_NANOSECONDS = TimeUnit("nanoseconds", 1e9)


def time_ranks(texts: Sequence[str]) -> np.ndarray:
    """Return the rank of each time, int64 [n]: equal times have equal ranks, and later ones larger ranks.

    RecBole keeps times in single precision, in which seconds of this century are 128 apart. Ranks are exact for all
    integers and decimals.

    Args:
        texts: cells of the file, each a number.

    Example:
        >>> time_ranks(["1600000030", "1600000000", "1600000030.0", "1600000000.5"]).tolist()
        [2, 0, 2, 1]
    """
    cells = np.asarray(texts, dtype=object)
    try:
        numbers = cells.astype(np.int64)
    except (ValueError, OverflowError):
        values = [Decimal(text.strip()) for text in texts]
        rank_of = {value: rank for rank, value in enumerate(sorted(set(values)))}
        return np.fromiter((rank_of[value] for value in values), dtype=np.int64, count=len(values))
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64)


def unit_of(earliest: float, latest: float) -> TimeUnit:
    """Recognise the unit of times by their size.

    Args:
        earliest: smallest time of the column.
        latest: largest.

    Example:
        >>> unit_of(8.7e8, 8.9e8).name, unit_of(1.6e12, 1.7e12).name, unit_of(1, 300).name
        ('seconds', 'milliseconds', 'positions')
    """
    if latest < EARLIEST_CLOCK:
        return POSITIONS
    if _is_calendar(earliest) and _is_calendar(latest):
        return CALENDAR
    return next((unit for limit, unit in _CLOCKS if latest < limit), _NANOSECONDS)


def in_seconds(times: np.ndarray) -> np.ndarray:
    """Return times of a clock in seconds, and other numbers as they are.

    Args:
        times: float64 [n], numbers of a file, in one unit; NaN where there is none.

    Returns:
        float64 [n]; of YYYYMMDDHHMMSS the seconds since 1970 in UTC, or the numbers where one of them is no such time.

    Example:
        >>> in_seconds(np.array([1.6e12, 1.6e12 + 3.6e6])).tolist(), in_seconds(np.array([1.0, 300.0])).tolist()
        ([1600000000.0, 1600003600.0], [1.0, 300.0])
        >>> in_seconds(np.array([20200913122640.0])).tolist()
        [1600000000.0]
    """
    known = times[np.isfinite(times)]
    if not len(known):
        return times
    unit = unit_of(float(known.min()), float(known.max()))
    if unit is CALENDAR:
        parsed = pd.to_datetime(pd.Series(times).map("{:.0f}".format), format="%Y%m%d%H%M%S", errors="coerce")
        wrong = parsed.isna() & np.isfinite(times)
        return times if wrong.any() else ((parsed - pd.Timestamp(0)) / pd.Timedelta(seconds=1)).to_numpy()
    return times / unit.per_second if unit.per_second else times


def _is_calendar(value: float) -> bool:
    text = f"{value:.0f}"
    if len(text) != DIGITS_OF_CALENDAR or text[:2] not in ("19", "20"):
        return False
    try:
        datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return False
    return True
