"""Which lines of an atomic file are wrong, cell by cell with Python's own conversions."""

import math
from collections.abc import Collection, Mapping
from itertools import pairwise

from recbole_recfound.atomic.times import LATEST


def wrong_lines(data: bytes, kinds: Mapping[str, str], filled: Collection[str], time: str | None) -> set[int]:
    """Return the numbers of wrong lines of tab-separated rows; the header, line 1, is not part of `data`.

    Of several empty lines behind each other the first one is named.

    Args:
        data: the rows.
        kinds: column -> type.
        filled: columns that must not be empty.
        time: column of times.
    """
    lines = [line.rstrip(b"\r") for line in data.split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    return {
        number
        for number, (before, line) in enumerate(pairwise([b"x", *lines]), start=2)
        if (before if not line else not _is_right(line, kinds, filled, time))
    }


def _is_right(line: bytes, kinds: Mapping[str, str], filled: Collection[str], time: str | None) -> bool:
    try:
        cells = line.decode().split("\t")
    except UnicodeDecodeError:
        return False
    if len(cells) != len(kinds):
        return False
    return all(
        _is_number(cell, name == time)
        if kind == "float"
        else all(_is_number(value, False) for value in cell.split(" "))
        if kind == "float_seq"
        else bool(cell.strip(" \t\f\v\r")) or name not in filled
        for cell, (name, kind) in zip(cells, kinds.items(), strict=True)
    )


def _is_number(cell: str, is_time: bool) -> bool:
    if "_" in cell or not cell.isascii():
        return False
    if not cell:
        return not is_time
    try:
        value = float(cell)
    except ValueError:
        return False
    return not math.isinf(value) and (not is_time or abs(value) <= LATEST)
