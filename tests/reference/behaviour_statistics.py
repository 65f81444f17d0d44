"""Statistics of behaviours row by row: each is about the rows that stand strictly before it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np


@dataclass
class Row:
    """An interaction; infinite in time: a request after all of them. A value that is NaN is none."""

    user: int
    item: int
    time: float
    value: float = math.nan


def drawn(values, prior, strength):
    """Mean of values and of `strength` times the prior."""
    values = list(values)
    return (sum(values) + strength * prior) / (len(values) + strength)


def popularity(rows, row):
    """Decile of an item among those chosen before the last snapshot, 0 where nobody has chosen it."""
    times = sorted(other.time for other in rows if other.time < math.inf)
    sizes = [1]
    while sizes[-1] < len(times):
        sizes.append(max(sizes[-1] + 1, int(1.1 * sizes[-1])))
    snapshots = [math.inf]
    for size in sizes:  # after so many rows, and those of the same time
        if size < len(times):
            snapshots += [time for time in times if time > times[size - 1]][:1]
    count = sum(other.item == row.item and other.time < row.time for other in rows)
    if count == 0:
        return 0
    last = max(time for time in snapshots if time <= row.time)
    counts = Counter(other.item for other in rows if other.time < last)
    edges = [np.quantile(list(counts.values()), tenth / 10) if counts else math.inf for tenth in range(1, 10)]
    return 1 + sum(count > edge for edge in edges)


def statistics_of(rows, attributes, genres):
    """Return kind, subject and value of all statistics of each row.

    Args:
        rows: in any order.
        attributes: by name, the group of each user.
        genres: those of each item.
    """
    any_rated = any(not math.isnan(row.value) for row in rows)
    found = {}
    for place in sorted(range(len(rows)), key=lambda place: rows[place].time):
        row, own = rows[place], genres[rows[place].item]
        before = [other for other in rows if other.time < row.time]
        by_user = [other for other in before if other.user == row.user]
        same_genre = [sum(genre in genres[other.item] for other in by_user) for genre in own]
        found[place] = [
            ("popularity", "item", popularity(rows, row)),
            ("count", "item", sum(other.item == row.item for other in before)),
            ("count", "user", len(by_user)),
            ("count", "genre", max(same_genre, default=0)),
        ]
        if any_rated:
            rated = [other for other in before if not math.isnan(other.value)]
            found[place] += _of_ratings(row, rated, attributes, genres)
    return [found[place] for place in range(len(rows))]


def _of_ratings(row, rated, attributes, genres):
    """Return the statistics of values, and keep in the row what is left of its own."""
    of_item = [other for other in rated if other.item == row.item]
    of_user = [other for other in rated if other.user == row.user]
    mean = drawn((other.value for other in rated), 0.5, 20)
    rough = drawn((other.over_mean for other in of_item), 0, 5)
    lenient = drawn((other.over_rough for other in of_user), 0, 5)
    item = drawn((other.over_lenient for other in of_item), 0, 5)
    user = drawn((other.over_item for other in of_user), 0, 5)
    row.over_mean = row.value - mean
    row.over_rough = row.value - mean - rough
    row.over_lenient = row.value - mean - lenient
    row.over_item = row.value - mean - item
    row.rest = row.value - mean - item - user

    def taste(others, strength):
        of_genre = [
            drawn((other.rest for other in others if genre in genres[other.item]), 0, strength)
            for genre in genres[row.item]
        ]
        return sum(of_genre) / len(of_genre) if of_genre else 0

    alike = {
        name: [other for other in rated if group[other.user] == group[row.user]] for name, group in attributes.items()
    }
    return [
        ("level", "item", mean + item),
        ("level", "user", mean + user),
        *(
            ("difference", name, drawn((other.rest for other in others if other.item == row.item), 0, 10))
            for name, others in alike.items()
        ),
        ("taste", "user", taste(of_user, 5)),
        *(("taste", name, taste(others, 20)) for name, others in alike.items()),
    ]
