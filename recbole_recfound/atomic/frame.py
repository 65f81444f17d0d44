"""Atomic files as tables for RecBole, every cell as it stands in the file."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_recfound.atomic.check import decoded_header
from recbole_recfound.atomic.read import header_kinds


def read_header(path: str | Path, separator: str, encoding: str | None) -> str:
    """Return the first line of an atomic file, as `name:type` cells.

    Args:
        path: the file.
        separator: between cells.
        encoding: of the text; None: UTF-8.

    Raises:
        DataError: a column without a known type, or twice.
    """
    path = Path(path)
    with open(path, "rb") as file:
        header = decoded_header(path, file.readline(), encoding)
    header_kinds(path, header, separator)
    return header


def read_frame(
    path: str | Path,
    *,
    delimiter: str,
    usecols: Sequence[str],
    dtype: Mapping[str, Any],
    encoding: str | None,
    **others: Any,
) -> pd.DataFrame:
    """Read columns of an atomic file, as `pandas.read_csv` does for RecBole.

    Ids such as `NA` and `None` stay text, and a quotation mark is a character like any other: it never joins two rows.
    An empty cell is a missing value, except in sequences.

    Args:
        path: the file.
        delimiter: between cells.
        usecols: `name:type` of the wanted columns.
        dtype: float64 for columns of numbers.
        encoding: of the text; None: UTF-8.
        others: further arguments of RecBole's call, not used.
    """
    header = read_header(path, delimiter, encoding).split(delimiter)
    places = sorted(header.index(column) for column in usecols)
    form: dict[str, Any] = {"sep": delimiter, "engine": "c", "lineterminator": "\n"}
    if len(delimiter) > 1:
        form = {"sep": re.escape(delimiter), "engine": "python"}
    frame = pd.read_csv(
        path,
        header=None,
        skiprows=1,
        names=list(range(len(header))),
        usecols=places,
        index_col=False,
        dtype=object,
        encoding=encoding or "utf-8",
        na_filter=False,
        quoting=csv.QUOTE_NONE,
        skip_blank_lines=True,
        **form,
    )
    last = len(header) - 1
    if last in places:
        frame[last] = [cell.removesuffix("\r") for cell in frame[last]]
    frame.columns = pd.Index([header[place] for place in places])
    for column in frame.columns:
        cells = frame[column].to_numpy(dtype=object)
        if dtype[column] is np.float64:
            frame[column] = np.where(cells == "", "nan", cells).astype(np.float64)
        elif not column.endswith("_seq"):
            frame[column] = pd.Series(np.where(cells == "", None, cells), dtype=object, index=frame.index)
    return frame
