"""The journal of a search: Optuna's file of trials, opened so that nothing a stopped process left stands in the way."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_recfound.errors import DataError

if TYPE_CHECKING:
    from optuna.storages import JournalStorage

JOURNAL = "trials.log"


def open_journal(folder: Path) -> JournalStorage:
    """Open the journal of a search, or begin it.

    Args:
        folder: of the search. This process holds its lock, so that no other one writes the journal.

    Raises:
        DataError: a line that is damaged stands before whole ones.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    # Optuna's own lock is a link to the path it is given: a relative one leads nowhere, and Optuna waits forever for a
    # lock that it cannot look at.
    path = folder.resolve() / JOURNAL
    for left in path.parent.glob(f"{JOURNAL}.lock*"):
        left.unlink()
    if path.exists():
        _cut_torn_end(path)
    return JournalStorage(JournalFileBackend(str(path)))


def _cut_torn_end(path: Path) -> None:
    """Cut a journal back to its last whole line: a full disk or a power failure ends it anywhere.

    Raises:
        DataError: names the first damaged line before it.
    """
    with path.open("rb") as file:
        lines = file.readlines()
    whole = [_is_whole(line) for line in lines]
    kept = max((number for number, good in enumerate(whole, start=1) if good), default=0)
    if not all(whole[:kept]):
        raise DataError(
            f"{path}:{whole.index(False) + 1}: damaged, expected a line of JSON: restore the file, or remove it to "
            "begin the search again"
        )
    if kept < len(lines):
        size = sum(map(len, lines[:kept]))
        print(f"note: {path}: damaged after line {kept}, where it is cut off", flush=True)
        os.truncate(path, size)


def _is_whole(line: bytes) -> bool:
    """Return whether a line is an entry of a journal with its end."""
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line.decode("utf-8")), dict)
    except ValueError:
        return False
