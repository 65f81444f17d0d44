"""Reading RecBole's .item, .user and .query files with their strings intact.

RecBole splits text on spaces into token ids and lets pandas turn `NA` and quotes into something else. A language model
needs the string itself, so these files are read directly, one line at a time.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from recbole_recfound.errors import DataError

KINDS = ("token", "token_seq", "float", "float_seq")


@dataclass(frozen=True)
class AtomicTable:
    """One atomic file: its typed columns and its rows as strings.

    Attributes:
        path: where it was read.
        kinds: column name -> `token`, `token_seq`, `float` or `float_seq`, in file order.
        rows: one tuple of strings per line, as long as `kinds`; a missing value is empty.
    """

    path: Path
    kinds: dict[str, str]
    rows: list[tuple[str, ...]]

    def column(self, name: str) -> list[str]:
        """Return all values of one column, in file order."""
        index = list(self.kinds).index(name)
        return [row[index] for row in self.rows]

    def by_key(self, name: str) -> dict[str, dict[str, str]]:
        """Return the rows as dicts, keyed by the column `name`; reject a repeated key with its line.

        Raises:
            DataError: the file has no such column, or two rows share a key.
        """
        if name not in self.kinds:
            raise DataError(f"{self.path}:1: no column '{name}'; it has {', '.join(self.kinds)}")
        index, names = list(self.kinds).index(name), list(self.kinds)
        table: dict[str, dict[str, str]] = {}
        for line, row in enumerate(self.rows, start=2):
            if row[index] in table:
                raise DataError(f"{self.path}:{line}: {name} '{row[index]}' appears twice; keep one row per {name}")
            table[row[index]] = dict(zip(names, row, strict=True))
        return table


def read_atomic(path: Path, separator: str = "\t", encoding: str | None = None) -> AtomicTable:
    """Read an atomic file.

    Text such as `nan` in a column of numbers is a missing value, as it is for RecBole.

    Args:
        path: the file.
        separator: between cells.
        encoding: of the text; None: UTF-8.

    Raises:
        DataError: not in that encoding, an empty file, a header cell without a known type, or a row with too many or
            too few cells; always with file:line.
    """
    lines = _lines(path, encoding)
    kinds = header_kinds(path, lines[0], separator)
    floats = [place for place, kind in enumerate(kinds.values()) if kind == "float"]
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split(separator)
        if len(cells) != len(kinds):
            raise wrong_cells(path, number, len(cells), len(kinds), separator)
        for place in floats:
            if is_not_finite(cells[place]):
                cells[place] = ""
        rows.append(tuple(cells))
    return AtomicTable(path, kinds, rows)


def is_not_finite(text: str) -> bool:
    """Return whether a text is read as a number without a value, such as `nan` and `-inf`.

    Args:
        text: of a cell.
    """
    try:
        return not math.isfinite(float(text))
    except ValueError:
        return False


def _lines(path: Path, encoding: str | None) -> list[str]:
    try:
        # Only \n ends a row: titles may contain other line separators of unicode.
        text = path.read_bytes().decode(encoding or "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise not_in_encoding(path, line, encoding) from None
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path}:1: empty file; its first line must name the columns, as in item_id:token")
    return lines


def header_kinds(path: Path, line: str, separator: str) -> dict[str, str]:
    """Return the columns of an atomic file and their types, in file order.

    Args:
        path: the atomic file, for messages.
        line: its first line.
        separator: between columns.

    Raises:
        DataError: a column without a known type, or a column twice.
    """
    kinds = {}
    for cell in line.split(separator):
        name, _, kind = cell.partition(":")
        if kind not in KINDS:
            if other := _other_separator(line, separator):
                raise DataError(
                    f"{path}:1: the columns are separated by {other!r}, not by {separator!r}; set field_separator or "
                    "convert the file"
                )
            raise DataError(f"{path}:1: column '{cell}' needs a type, one of {', '.join(KINDS)}, as in title:token_seq")
        if name in kinds:
            raise DataError(f"{path}:1: column '{name}' appears twice")
        kinds[name] = kind
    return kinds


def _other_separator(line: str, separator: str) -> str | None:
    """Return the separator under which every cell of a header has a type, if it is another one."""
    for other in ("\t", ",", ";", "|", " "):
        cells = line.split(other)
        if (
            other != separator
            and len(cells) > 1
            and all(cell.partition(":")[2].strip("\"'") in KINDS for cell in cells)
        ):
            return other
    return None


def wrong_cells(path: Path, number: int, found: int, wanted: int, separator: str) -> DataError:
    """Return the error for a row with the wrong number of cells.

    Args:
        path: the atomic file.
        number: line number, from 1.
        found: number of cells.
        wanted: number of columns.
        separator: between columns.
    """
    advice = f"a '{separator.encode('unicode_escape').decode()}' inside a text cell must be replaced"
    return DataError(f"{path}:{number}: {found} cells where the header has {wanted} ({advice})")


def not_in_encoding(path: Path, number: int, encoding: str | None) -> DataError:
    """Return the error for a row that is not text in the file's encoding.

    Args:
        path: the atomic file.
        number: line number, from 1.
        encoding: the setting; None: UTF-8.
    """
    name = (encoding or "utf-8").upper()
    return DataError(f"{path}:{number}: not {name}; convert the file, or name its encoding (encoding: latin-1)")
