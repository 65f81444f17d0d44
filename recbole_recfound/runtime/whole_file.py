"""Files that are written whole or not at all, and checks that they can be."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from recbole_recfound.errors import ConfigError, cause_of

ABANDONED = 24 * 3600
"""Seconds without a change after which a partial file or folder is one that a killed process has left."""


def partial_beside(path: Path) -> Path:
    """Return a name beside a path that no other process and no other thread writes to.

    Partial files and folders of the same path that nothing has changed for a day are removed. Younger ones may belong
    to a process that still writes, here or on another machine with the same disk.

    Args:
        path: of the complete file or folder. `tempfile` would give it permissions for its owner alone.
    """
    for other in path.parent.glob(f"{glob.escape(path.name)}.*-*.partial"):
        with suppress(OSError):  # another process has removed or renamed it
            if time.time() - _changed(other) > ABANDONED:
                shutil.rmtree(other) if other.is_dir() else other.unlink()
    return path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")


def _changed(path: Path) -> float:
    """Return the time of the last change of a file, or of anything in a folder."""
    return max(each.lstat().st_mtime for each in (path, *path.rglob("*")))


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file whole or not at all: what fails on the way, such as a full disk, leaves nothing behind.

    Args:
        path: replaced at the end of the block.

    Yields:
        The path to write to, beside it.
    """
    partial = partial_beside(path)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_file(path: Path, key: str) -> None:
    """Refuse a file that cannot be written, before anything expensive.

    Args:
        path: of the file.
        key: setting that names it, for errors.

    Raises:
        ConfigError: a folder of this name, or no folder that it can be written to.
    """
    if path.is_dir():
        raise ConfigError(f"{key}: {path} is a folder, expected a file")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{key}: there is no folder {path.absolute().parent}")
    check_folder(path.absolute().parent, key)


def check_folder(folder: Path, key: str) -> None:
    """Refuse a folder in which nothing can be written; one that does not exist is one that cannot be created.

    Args:
        folder: perhaps below others that do not exist.
        key: setting that names it, for errors.

    Raises:
        ConfigError: it cannot be written.
    """
    existing = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    try:
        with TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ConfigError(f"{key}: {existing} cannot be written: {error.strerror or cause_of(error)}") from None
