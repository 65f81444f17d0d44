"""Broken lines and ignored keys of a file of records, and the problems of several files."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from recbole_recfound.errors import DataError

MOST_LISTED = 100
"""Broken lines of one file that are listed; all of them are counted."""
MOST_KEYS = 20
"""Ignored keys of one file that are named; all of them are counted."""


class BrokenLines:
    """Broken lines of one file.

    Args:
        path: of the file.

    Attributes:
        listed: (line, reason) of the first `MOST_LISTED`.
        count: number of all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listed: list[tuple[int, str]] = []
        self.count = 0

    def add(self, number: int, reason: str) -> None:
        """Count one line.

        Args:
            number: of the line, from 1.
            reason: the offending key and what is expected.
        """
        self.count += 1
        if len(self.listed) < MOST_LISTED:
            self.listed.append((number, reason))

    def lines(self) -> list[str]:
        """Return `file:line: reason` of those listed, and one line with the number of the others."""
        lines = [f"{self.path}:{number}: {reason}" for number, reason in self.listed]
        if more := self.count - len(self.listed):
            lines.append(f"{self.path}: {more:,} more broken lines, {self.count:,} in all")
        return lines


class IgnoredKeys:
    """Keys of one file that records do not have."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._others = 0

    def add(self, keys: Iterable[str]) -> None:
        """Count the ignored keys of one record."""
        for key in keys:
            if key in self._counts or len(self._counts) < MOST_KEYS:
                self._counts[key] = self._counts.get(key, 0) + 1
            else:
                self._others += 1

    def note(self) -> str:
        """Return one line with the keys and their counts, or an empty text if there are none."""
        if not self._counts:
            return ""
        named = [
            f"{key} ({count:,}{'; negatives are read from neg' if key.lower().startswith('neg') else ''})"
            for key, count in self._counts.items()
        ]
        others = [f"further keys ({self._others:,})"] if self._others else []
        return f"keys that records do not have were ignored: {', '.join(named + others)}"


class Problems:
    """Problems of several files, reported together.

    Attributes:
        lines: one for each problem, or for many of one file.
        count: number of problems.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count = 0

    def add(self, lines: Sequence[str], count: int) -> None:
        """Add the problems of one file.

        Args:
            lines: as they are printed.
            count: number of problems.
        """
        self.lines += lines
        self.count += count

    def check(self, hint: str = "") -> None:
        """Raise the problems, if there are any.

        Args:
            hint: what to do.

        Raises:
            DataError: all problems.
        """
        if self.lines:
            raise DataError(self.lines, self.count, hint)


def no_record(path: Path, broken: int) -> str:
    """Return the message about a file without records.

    Args:
        path: of the file.
        broken: number of its broken lines.
    """
    return f"{path}:1: no record in this file" + (f" ({broken:,} bad lines)" if broken else "")
