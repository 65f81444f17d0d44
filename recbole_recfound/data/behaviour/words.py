"""Sentences about statistics, times and behaviours, from small vocabularies: equal numbers give equal texts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recbole_recfound.data.behaviour.statistics import Statistic

FURTHEST = 25
"""Largest difference in a sentence, in hundredths."""
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


def phrase(statistic: Statistic) -> tuple[np.ndarray, Callable[[int], str]]:
    """Return a code of each row and the sentence of a code. The number stands last.

    Args:
        statistic: about n rows.
    """
    code, words = _FORMS[statistic.kind]
    return code(statistic.values), lambda number: words(statistic.subject, number)


def _power_of_two(values: np.ndarray) -> np.ndarray:
    """Return 0 for 0, 1 for 1, 2 for 2 and 3, 3 for 4 to 7, ..."""
    return np.floor(np.log2(np.maximum(values, 0.5)) + 1).astype(np.int64)


def _count(subject: str, code: int) -> str:
    count = 0 if code == 0 else 1 << (code - 1)
    about = f"at least {count}" if count > 1 else str(count)
    sentences = {"item": "Times anybody chose it:", "user": "Items this user has chosen:"}
    return f"{sentences.get(subject, f'Times this user chose the same {subject}:')} {about}"


def _decile(subject: str, code: int) -> str:
    return "Popularity: nobody has chosen it yet" if code == 0 else f"Popularity: among the top {10 * (11 - code)}%"


def _hundredths(values: np.ndarray) -> np.ndarray:
    return np.rint(100 * np.clip(values, 0, 1)).astype(np.int64)


def _level(subject: str, code: int) -> str:
    sentences = {"item": "Rating by all users:", "user": "Ratings that this user usually gives:"}
    return f"{sentences[subject]} {code}"


def _signed(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(100 * values, -FURTHEST, FURTHEST)).astype(np.int64)


def _change(code: int) -> str:
    return "as others" if code == 0 else f"{'higher' if code > 0 else 'lower'} by {abs(code)}"


def _difference(subject: str, code: int) -> str:
    return f"Users of the same {subject} rate it {_change(code)}"


def _taste(subject: str, code: int) -> str:
    who = "This user rates" if subject == "user" else f"Users of the same {subject} rate"
    return f"{who} such items {_change(code)}"


_FORMS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[str, int], str]]] = {
    "popularity": (lambda values: values.astype(np.int64), _decile),
    "count": (_power_of_two, _count),
    "level": (_hundredths, _level),
    "difference": (_signed, _difference),
    "taste": (_signed, _taste),
}


def ages(seconds: np.ndarray) -> np.ndarray:
    """Return a code of how long ago something was; see `age_phrase`.

    Args:
        seconds: [n], at least 0.
    """
    minutes, hours, days = seconds / MINUTE, seconds / HOUR, seconds / DAY
    unit = np.select([minutes < 60, hours < 24, days < 30, days < 365], [0, 1, 2, 3], 4)
    amount = np.select(
        [unit == 0, unit == 1, unit == 2, unit == 3], [5 * np.floor(minutes / 5), hours, days, days / 30], days / 365
    )
    return (unit * 100 + np.minimum(np.floor(amount), 99)).astype(np.int64)


def age_phrase(code: int) -> str:
    """Return how long ago something was, such as `19 hours ago`.

    Args:
        code: of `ages`.
    """
    unit, amount = divmod(code, 100)
    if unit == 0 and amount == 0:
        return "just now"
    noun = ("minute", "hour", "day", "month", "year")[unit]
    return f"{amount} {noun}{'' if amount == 1 else 's'} ago"


def rating_word(value: float) -> str:
    """Return what a user thought of an item.

    Args:
        value: 0 to 1, or NaN.
    """
    if not np.isfinite(value):
        return "chose"
    # (0.7 - 0.3) / 0.5 is a little less than four fifths.
    return ("hated", "disliked", "found fair", "liked", "loved")[min(4, int(round(value * 5, 6)))]
