"""Rows of numbers on disk, for memory that does not grow with their number."""

import errno
import tempfile
from typing import Any, BinaryIO

import numpy as np

from recbole_recfound.errors import DataError

BLOCK = 1024
"""Rows that are in memory at once; as few need no file."""


class DiskRows:
    """Rows of one kind: appended one by one, then read as an array.

    More than a block of them are written to an unnamed file in the temporary folder (TMPDIR), deleted with the array.

    Args:
        kind: numpy's type of a row.
    """

    def __init__(self, kind: np.dtype | type) -> None:
        self._block = np.empty(BLOCK, dtype=kind)
        self._filled = 0
        self._written = 0
        self._file: BinaryIO | None = None

    def append(self, row: Any) -> None:
        """Add one row. Raises DataError: the temporary folder takes no more."""
        if self._filled == BLOCK:
            self._write()
        self._block[self._filled] = row
        self._filled += 1

    def extend(self, rows: np.ndarray) -> None:
        """Add an array of rows. Raises DataError: the temporary folder takes no more."""
        while len(rows):
            if self._filled == BLOCK:
                self._write()
            fitting = rows[: BLOCK - self._filled]
            self._block[self._filled : self._filled + len(fitting)] = fitting
            self._filled += len(fitting)
            rows = rows[len(fitting) :]

    def mapped(self) -> np.ndarray:
        """Return all rows in order, writable; must be the last call, since nothing can be added afterwards.

        Raises:
            DataError: the temporary folder is full.
        """
        if self._file is None:
            return self._block[: self._filled].copy()
        self._write()
        try:
            # Closing flushes the buffer and frees a descriptor: the map has its own.
            with self._file as file:
                file.flush()
                rows = np.memmap(file, dtype=self._block.dtype, mode="r+", shape=(self._written,))
        except OSError as error:
            raise _no_room(error) from None
        # Reading single rows of a plain array is several times faster than of numpy's class for maps.
        return rows.view(np.ndarray)

    def _write(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()
            self._file.write(self._block[: self._filled].tobytes())
        except OSError as error:
            raise _no_room(error) from None
        self._written += self._filled
        self._filled = 0


def _no_room(error: OSError) -> DataError:
    reason = error.strerror or error
    many = error.errno in (errno.EMFILE, errno.ENFILE)
    hint = "Raise the limit of open files (ulimit -n), or use fewer files" if many else "Set TMPDIR to a larger folder"
    return DataError(f"the index of records cannot be written to the temporary folder ({reason}). {hint}")
