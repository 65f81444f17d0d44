"""Comparison of the ids of interactions with those of .item and .user, which only the same text joins."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_recfound.atomic.frame import read_frame, read_header
from recbole_recfound.errors import DataError

FEW = 0.5
"""Smaller shares of matching ids are pointed out, with examples."""


def _without_zeros(text: str) -> str:
    return text.lstrip("0") or "0"


FORMS: Mapping[str, Callable[[str], str]] = {
    "a decimal '.0'": lambda text: text.removesuffix(".0"),
    "blanks": str.strip,
    "quotation marks": lambda text: text.strip("\"'"),
    "leading zeros": _without_zeros,
    "upper and lower case": str.casefold,
}
"""Differences in the form of an id, and what removes them."""


@dataclass(frozen=True)
class IdMatch:
    """Ids of a file beside those of the interactions.

    Attributes:
        file: its name.
        kind: `items` or `users`.
        ids: number of ids of the interactions.
        missing: how many of them have no row in the file, or one without any value.
        unused: number of rows without an interaction.
        hint: what is noticed where many are missing; or empty.
    """

    file: str
    kind: str
    ids: int
    missing: int
    unused: int
    hint: str = ""

    def __str__(self) -> str:
        line = (
            f"{self.file}: {self.missing:,} of {self.ids:,} {self.kind} without text, {self.unused:,} texts without "
            "interactions"
        )
        return f"{line}; {self.hint}" if self.hint else line


def match_ids(
    path: Path, column: str, kind: str, tokens: Collection[str], separator: str = "\t", encoding: str | None = None
) -> IdMatch:
    """Compare the ids of a file with those of the interactions.

    Args:
        path: .item or .user.
        column: its column of ids.
        kind: `items` or `users`, for messages.
        tokens: ids of the interactions.
        separator: between cells.
        encoding: of the text; None: UTF-8.

    Raises:
        DataError: no such column, or no id in common; with examples and a probable cause.
    """
    header = read_header(path, separator, encoding).split(separator)
    cells = [cell for cell in header if cell.split(":")[0] == column]
    if not cells:
        names = ", ".join(cell.split(":")[0] for cell in header)
        raise DataError(f"{path}:1: no column {column!r}, which interactions name {kind} by; it has {names}")
    frame = read_frame(
        path, delimiter=separator, usecols=header, dtype=dict.fromkeys(header, object), encoding=encoding
    )
    frame = frame.dropna(subset=cells)
    rows = {str(cell) for cell in frame[cells[0]]}
    wanted = set(tokens)
    found = len(wanted & rows)
    hint = ""
    if found < FEW * len(wanted):
        examples = [", ".join(repr(text) for text in sorted(texts)[:3]) for texts in (wanted - rows, rows - wanted)]
        hint = f"such as {examples[0]} in interactions, beside {examples[1] or 'nothing else'} in {path.name}"
        hint += _cause(wanted, rows, found)
    if not found:
        raise DataError(f"{path}: none of the {len(wanted):,} {kind} of the interactions has a row in it, {hint}")
    described = wanted & {str(cell) for cell in frame[cells[0]][_described(frame.drop(columns=cells))]}
    return IdMatch(path.name, kind, len(wanted), len(wanted) - len(described), len(rows) - found, hint)


def _described(frame: pd.DataFrame) -> np.ndarray:
    """Return whether each row has a value, bool [rows]."""
    found = np.zeros(len(frame), dtype=bool)
    for column in frame.columns:
        found |= np.fromiter((bool(cell and cell.strip()) for cell in frame[column]), dtype=bool, count=len(frame))
    return found


def _cause(wanted: set[str], rows: set[str], found: int) -> str:
    """Return the difference of form that explains most of the missing ids, as a part of a sentence."""
    counts = {
        form: len({change(text) for text in wanted} & {change(text) for text in rows}) for form, change in FORMS.items()
    }
    best = max(counts, key=lambda form: counts[form])
    if counts[best] <= max(found, 1 if len(wanted) > 1 else 0):
        return ""
    return f": without {best} {counts[best]:,} of {len(wanted):,} would match; write ids in one form"
