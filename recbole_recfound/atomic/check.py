"""Validation of a data set's atomic files: columns, cells and encoding, each with file and line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from recbole_recfound.atomic.read import header_kinds, not_in_encoding, wrong_cells
from recbole_recfound.errors import ConfigError, DataError


@dataclass(frozen=True)
class FileFormat:
    """Form of the atomic files of a data set.

    Attributes:
        required: column -> reason why interaction files must have it.
        load_col: columns that are read of each file, by suffix; None: all.
        separator: between cells.
        encoding: of the text; None: UTF-8.
        parts: names of the parts of a data set that comes split (`dataset.PART.inter`).
    """

    required: Mapping[str, str]
    load_col: Mapping[str, Sequence[str]] | None
    separator: str
    encoding: str | None
    parts: Sequence[str] = ()

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> FileFormat:
        """Read the form from settings with RecBole's names (`USER_ID_FIELD`, `load_col`, `eval_args`, ...)."""
        required = {settings["USER_ID_FIELD"]: "USER_ID_FIELD", settings["ITEM_ID_FIELD"]: "ITEM_ID_FIELD"}
        if settings["eval_args"].get("order") == "TO":
            required[settings["TIME_FIELD"]] = "TIME_FIELD, for the split by time (eval_args order TO)"
        parts = tuple(settings["benchmark_filename"] or ())
        return cls(required, settings["load_col"], settings["field_separator"], settings["encoding"], parts)


def check_columns(folder: Path, dataset: str, form: FileFormat) -> None:
    """Refuse interaction files that lack a required column or one of `load_col`, and malformed rows.

    Args:
        folder: of the atomic files.
        dataset: name of the data set.
        form: required and loaded columns, separator and encoding.

    Raises:
        ConfigError: `load_col` leaves out a required column.
        DataError: a column is missing, or a row is malformed; with file and line.
    """
    wanted = dict(form.required)
    loaded = (form.load_col or {}).get("inter")
    unloaded = (
        [] if loaded is None else [f"{field} ({reason})" for field, reason in wanted.items() if field not in loaded]
    )
    if unloaded:
        raise ConfigError(f"load_col: inter does not name {', '.join(unloaded)}")
    for field in loaded or []:
        wanted.setdefault(field, "load_col")
    for name in [f"{dataset}.{part}.inter" for part in form.parts] or [f"{dataset}.inter"]:
        present = columns_of(folder / name, form.separator, form.encoding)
        for field, reason in wanted.items():
            if field not in present and not (form.parts and reason.startswith("TIME_FIELD")):
                raise DataError(f"{folder / name}:1: no column {field!r} ({reason}); it has {', '.join(present)}")
        filled = frozenset(field for field, reason in wanted.items() if reason != "load_col")
        read = frozenset(present if loaded is None else loaded)
        stamp = (folder / name).stat()
        _check_rows(
            folder / name,
            form.separator,
            form.encoding,
            filled,
            read,
            (stamp.st_mtime_ns, stamp.st_size),
        )
    load_col = form.load_col or {}
    for suffix in set(load_col) & {"user", "item"}:
        path = folder / f"{dataset}.{suffix}"
        if not path.is_file():
            continue
        present = columns_of(path, form.separator, form.encoding)
        if unknown := sorted(set(load_col[suffix]) - set(present)):
            raise DataError(f"{path}:1: no column {unknown[0]!r} (load_col); it has {', '.join(present)}")


@lru_cache(maxsize=64)
def _check_rows(
    path: Path,
    separator: str,
    encoding: str | None,
    filled: frozenset[str],
    read: frozenset[str],
    stamp: tuple[int, int],
) -> None:
    """Reject rows that RecBole would misread: a wrong number of cells, text in a numeric column, no id or time.

    Every file is read once per process, one line in memory at a time.

    Args:
        path: an interaction file.
        separator: between cells.
        encoding: of the file; None: UTF-8.
        filled: columns that must not be empty.
        read: columns that are read.
        stamp: of the file (size and time); a changed file is checked again.
    """
    ends = separator.encode()
    with open(path, "rb") as file:
        kinds = header_kinds(path, file.readline().decode(encoding or "utf-8-sig").rstrip("\r\n"), separator)
        full = [(place, name) for place, name in enumerate(kinds) if name in filled]
        floats = [(place, name) for place, (name, kind) in enumerate(kinds.items()) if kind == "float" and name in read]
        blank = 0
        for number, line in enumerate(file, start=2):
            line = line.rstrip(b"\r\n")
            if not line:
                blank = blank or number
                continue
            cells = line.split(ends)
            if blank:
                raise DataError(f"{path}:{blank}: an empty line")
            if len(cells) != len(kinds):
                raise wrong_cells(path, number, len(cells), len(kinds), separator)
            for place, name in full:
                if not cells[place].strip():
                    raise DataError(f"{path}:{number}: {name} is empty")
            for place, name in floats:
                try:
                    float(cells[place] or b"nan")
                except ValueError:
                    text = cells[place].decode("utf-8", "backslashreplace")
                    raise DataError(f"{path}:{number}: {name} is {text!r}, expected a number") from None
            if not line.isascii():
                _decoded(line, encoding, path, number)


def _decoded(line: bytes, encoding: str | None, path: Path, number: int) -> str:
    try:
        return line.decode(encoding or "utf-8")
    except UnicodeDecodeError:
        raise not_in_encoding(path, number, encoding) from None


def columns_of(path: Path, separator: str, encoding: str | None) -> list[str]:
    """Return the names of the columns of an atomic file.

    Args:
        path: the file.
        separator: between cells.
        encoding: of the text; None: UTF-8.
    """
    with open(path, "rb") as file:
        header = _decoded(file.readline().rstrip(b"\r\n"), encoding, path, 1).split(separator)
    return [column.split(":")[0] for column in header]
