"""Validation of a data set's atomic files: columns, cells and encoding, each with file and line."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from recbole_recfound.atomic.read import header_kinds, not_in_encoding, wrong_cells
from recbole_recfound.atomic.times import LATEST
from recbole_recfound.errors import ConfigError, DataError

MOST_PROBLEMS = 20
"""Wrong rows that are named; the others are counted."""
TIMES = "a number: seconds, milliseconds, microseconds or nanoseconds since 1970, or one that grows with time"
BLOCK = 1 << 20
"""Bytes that are screened at once."""
_TIME = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_PLAIN_NUMBER = rb"\d{1,15}+(?:\.\d{0,15}+)?"


@dataclass(frozen=True)
class FileFormat:
    """Form of the atomic files of a data set.

    Attributes:
        required: column -> reason why interaction files must have it.
        load_col: columns that are read of each file, by suffix; None: all.
        separator: between cells.
        within: between the values of a cell of sequences.
        encoding: of the text; None: UTF-8.
        parts: names of the parts of a data set that comes split (`dataset.PART.inter`).
        time: column by which rows are ordered; None: at random, or as they stand in the file.
    """

    required: Mapping[str, str]
    load_col: Mapping[str, Sequence[str]] | None
    separator: str
    within: str
    encoding: str | None
    parts: Sequence[str] = ()
    time: str | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> FileFormat:
        """Read the form from settings with RecBole's names (`USER_ID_FIELD`, `load_col`, `eval_args`, ...)."""
        required = {settings["USER_ID_FIELD"]: "USER_ID_FIELD", settings["ITEM_ID_FIELD"]: "ITEM_ID_FIELD"}
        time = None
        parts = tuple(settings["benchmark_filename"] or ())
        if settings["eval_args"]["order"] == "TO":
            time = settings["TIME_FIELD"]
            if not parts:  # these are split already
                required[time] = "TIME_FIELD, for the split by time (eval_args order TO)"
        separators = settings["field_separator"], settings["seq_separator"]
        return cls(required, settings["load_col"], *separators, settings["encoding"], parts, time)


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
    load_col = form.load_col or {}
    if form.load_col is not None and "inter" not in load_col:
        raise ConfigError(f"load_col: got {dict(load_col)}, expected columns of inter too, or nothing: all columns")
    loaded = None if load_col.get("inter") == "*" else load_col.get("inter")
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
            if field not in present:
                raise DataError(f"{folder / name}:1: no column {field!r} ({reason}); it has {', '.join(present)}")
        filled = frozenset(field for field, reason in wanted.items() if reason != "load_col")
        read = frozenset(present if loaded is None else loaded)
        path, time = folder / name, form.time
        check_rows(path, form.separator, form.encoding, within=form.within, filled=filled, read=read, time=time)
    for suffix in {"user", "item"} & {suffix for suffix, columns in load_col.items() if columns != "*"}:
        path = folder / f"{dataset}.{suffix}"
        if not path.is_file():
            continue
        present = columns_of(path, form.separator, form.encoding)
        if unknown := sorted(set(load_col[suffix]) - set(present)):
            raise DataError(f"{path}:1: no column {unknown[0]!r} (load_col); it has {', '.join(present)}")


OF_ROWS = ("RATING_FIELD", "LABEL_FIELD", "threshold")
"""Settings that name columns of interactions, and no others of the same name."""


def check_numbers(folder: Path, dataset: str, form: FileFormat, numbers: Mapping[str, str]) -> None:
    """Refuse tokens in columns that are read as numbers: RecBole replaces tokens by ids, in the order of the file.

    Args:
        folder: of the atomic files.
        dataset: name of the data set.
        form: loaded columns, separator and encoding.
        numbers: column -> setting by which it is read as a number.

    Raises:
        DataError: names each such column, with its file.
    """
    problems = []
    of_items = {field: key for field, key in numbers.items() if key not in OF_ROWS}
    names = [(f"{dataset}.{part}.inter", "inter") for part in form.parts] or [(f"{dataset}.inter", "inter")]
    for name, suffix in [*names, (f"{dataset}.user", "user"), (f"{dataset}.item", "item")]:
        loaded = "*" if form.load_col is None else form.load_col.get(suffix, ())
        path = folder / name
        if not loaded or not path.is_file():
            continue
        kinds = _kinds_of(path, form.separator, form.encoding)
        problems += [
            f"{path}:1: {field} is typed {kinds[field]}, expected {field}:float ({key} reads numbers)"
            for field, key in (numbers if suffix == "inter" else of_items).items()
            if kinds.get(field, "").startswith("token") and (loaded == "*" or field in loaded)
        ]
    if problems:
        raise DataError(problems)


def check_rows(
    path: Path,
    separator: str,
    encoding: str | None,
    *,
    within: str = " ",
    filled: Collection[str] = (),
    read: Collection[str] | None = None,
    time: str | None = None,
) -> None:
    """Reject rows that would be misread: a wrong number of cells, text in a numeric column, no id, no time.

    Blocks of lines without any problem are recognised by one regular expression; the others are read line by line. A
    file is read once per process and set of rules.

    Args:
        path: an atomic file.
        separator: between cells.
        encoding: of the file; None: UTF-8.
        within: between the values of a cell of sequences.
        filled: columns that must not be empty.
        read: columns that are read; None: all.
        time: column of times by which rows are ordered.

    Raises:
        DataError: names every wrong row, up to `MOST_PROBLEMS`.
    """
    stamp = path.stat()
    rules = _Rules(separator, within, encoding, frozenset(filled), None if read is None else frozenset(read), time)
    problems, count = _problems(path, rules, (stamp.st_mtime_ns, stamp.st_size))
    if problems:
        raise DataError(problems, count)


class _Rules(NamedTuple):
    """What `check_rows` demands of a file; see its arguments."""

    separator: str
    within: str
    encoding: str | None
    filled: frozenset[str]
    read: frozenset[str] | None
    time: str | None


@lru_cache(maxsize=64)
def _problems(path: Path, rules: _Rules, stamp: tuple[int, int]) -> tuple[tuple[str, ...], int]:
    """Return the first problems of a file and the number of all; see `check_rows`.

    Args:
        path: an atomic file.
        rules: what is demanded.
        stamp: of the file (size and time); a changed file is checked again.
    """
    found: list[str] = []
    count = 0
    for problem in _problems_of_rows(path, rules):
        count += 1
        if len(found) < MOST_PROBLEMS:
            found.append(problem)
    more = [f"{path}: {count - len(found):,} more"] if count > len(found) else []
    return (*found, *more), count


def _problems_of_rows(path: Path, rules: _Rules) -> Iterator[str]:
    separator, within, encoding, filled, read, time = rules
    # utf-8-sig begins any text with a mark.
    ends, between = (text.encode(encoding or "utf-8").removeprefix(codecs.BOM_UTF8) for text in (separator, within))
    with open(path, "rb") as file:
        header = decoded_header(path, file.readline(), encoding)
        kinds = header_kinds(path, header, separator)
        if time in kinds and kinds[time] != "float":
            yield f"{path}:1: {time} is typed {kinds[time]}, expected {time}:float ({TIMES})"
            return
        full = [(place, name) for place, name in enumerate(kinds) if name in filled and name != time]
        sequences: _Check = (partial(_no_numbers, separator=between), f"numbers with {within!r} between")
        known = {**_CHECKS, "float_seq": sequences}
        checks = [
            (place, name, known["time" if name == time else kind])
            for place, (name, kind) in enumerate(kinds.items())
            if (name == time or kind in known) and (read is None or name in read)
        ]
        checked = {name: kinds[name] for _, name, _ in checks}
        fine = _fine_lines(kinds, dict.fromkeys(name for _, name in full), checked, time, ends, between)
        blank = 0
        for number, line in _suspicious(file, fine, encoding):
            line = line.rstrip(b"\r\n")
            if not line:
                blank = blank or number
                continue
            if blank:
                yield f"{path}:{blank}: an empty line"
                blank = 0
            cells = line.split(ends)
            if len(cells) != len(kinds):
                yield str(wrong_cells(path, number, len(cells), len(kinds), separator))
                continue
            if not line.isascii() and not_decodable(line, encoding):
                yield str(not_in_encoding(path, number, encoding))
                continue
            for place, name in full:
                if not cells[place].strip():
                    yield f"{path}:{number}: {name} is empty"
            for place, name, (is_wrong, expected) in checks:
                if is_wrong(cells[place]):
                    text = cells[place].decode("utf-8", "backslashreplace")
                    state = "is empty" if not text.strip() else f"is {text!r}"
                    yield f"{path}:{number}: {name} {state}, expected {expected}"


def _fine_lines(
    kinds: Collection[str],
    filled: Collection[str],
    numbers: Mapping[str, str],
    time: str | None,
    separator: bytes,
    within: bytes,
) -> re.Pattern[bytes]:
    """Return an expression for lines without any problem. It may miss some, such as numbers with an exponent or a sign.

    Args:
        kinds: all columns.
        filled: columns that must not be empty.
        numbers: columns whose numbers are checked, with their kinds.
        time: the column of times, which must have one.
        separator: between cells.
        within: between the values of a cell of sequences.
    """
    first = re.escape(separator[:1])  # no cell of such a line has it, so that a longer separator needs no care
    text = rb"[^%b\r\n]*+" % first
    several = rb"(?:%b(?:%b%b)*+)?+" % (_PLAIN_NUMBER, re.escape(within), _PLAIN_NUMBER)

    def cell(name: str) -> bytes:
        if numbers.get(name) == "float_seq":
            return several
        if name in numbers:
            return _PLAIN_NUMBER if name == time or name in filled else rb"(?:%b)?+" % _PLAIN_NUMBER
        return rb"[^\s%b]%b" % (first, text) if name in filled else text

    return re.compile(rb"(?:(?!\r?\n)%b\r?\n)*+" % re.escape(separator).join(map(cell, kinds)))


def _suspicious(file: BinaryIO, fine: re.Pattern[bytes], encoding: str | None) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of the lines of all blocks that may have a problem, and the first line of the others."""
    number = 2
    while lines := file.readlines(BLOCK):
        block = b"".join(lines)
        if not block.endswith(b"\n"):
            block += b"\n"
        clean = fine.fullmatch(block) and (block.isascii() or not not_decodable(block, encoding))
        yield from enumerate(lines[:1] if clean else lines, start=number)
        number += len(lines)


def _no_number(cell: bytes) -> bool:
    try:
        return b"_" in cell or math.isinf(float(cell or b"nan"))
    except ValueError:
        return True


def _no_numbers(cell: bytes, separator: bytes) -> bool:
    return any(_no_number(value) for value in cell.split(separator))


def _no_time(cell: bytes) -> bool:
    return not (_TIME.fullmatch(cell.strip()) and abs(float(cell)) <= LATEST)


_Check = tuple[Callable[[bytes], bool], str]
"""What finds a wrong cell, and what was expected instead."""
_CHECKS: dict[str, _Check] = {
    "float": (_no_number, "a number"),
    "time": (_no_time, TIMES),
}


def not_decodable(line: bytes, encoding: str | None) -> bool:
    """Return whether a line is not text in an encoding (None: UTF-8).

    Args:
        line: of a file.
        encoding: name of the encoding.
    """
    try:
        line.decode(encoding or "utf-8")
    except UnicodeDecodeError:
        return True
    return False


def columns_of(path: Path, separator: str, encoding: str | None) -> list[str]:
    """Return the names of the columns of an atomic file.

    Args:
        path: the file.
        separator: between cells.
        encoding: of the text; None: UTF-8.
    """
    return list(_kinds_of(path, separator, encoding))


def _kinds_of(path: Path, separator: str, encoding: str | None) -> dict[str, str]:
    """Return the type of each column of an atomic file; see `columns_of`."""
    with open(path, "rb") as file:
        return header_kinds(path, decoded_header(path, file.readline(), encoding), separator)


def decoded_header(path: Path, line: bytes, encoding: str | None) -> str:
    """Return the first line of an atomic file, without a byte order mark.

    Args:
        path: the file, for messages.
        line: its first line.
        encoding: of the text; None: UTF-8.

    Raises:
        DataError: the line is not in the encoding.
    """
    line = line.rstrip(b"\r\n")
    if not_decodable(line, encoding):
        raise not_in_encoding(path, 1, encoding)
    return line.decode(encoding or "utf-8").removeprefix("\ufeff")
