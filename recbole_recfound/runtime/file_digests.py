"""Digests of saved files: a file that has changed since it was written is detected when it is read."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import EEXIST, ENOTEMPTY
from pathlib import Path
from typing import Any

from recbole_recfound.errors import DataError
from recbole_recfound.runtime.whole_file import partial_beside

DIGESTS = "digests.json"
"""Digests of all files of a folder that is written at once, such as a checkpoint."""
SEAL = "sha256"
"""Key of a JSON document that holds the digest of the rest of it."""

Digests = Mapping[str, Mapping[str, Any]]
"""Size in bytes and SHA-256 of each file, by its path within the folder."""


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, read block by block."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests_in(folder: Path, files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Return size and digest of files.

    Args:
        folder: paths are relative to it.
        files: inside of the folder.
    """
    return {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": file_digest(file)}
        for file in sorted(files)
    }


def damages(folder: Path, digests: Digests) -> dict[str, str]:
    """Compare files with their digests.

    Args:
        folder: where the files lie.
        digests: of `digests_in`.

    Returns:
        What is wrong with each damaged file, by its path; {} if nothing is.
    """
    found = {}
    for name, written in digests.items():
        file = folder / name
        try:
            if (size := file.stat().st_size) != written["bytes"]:
                found[name] = f"{size:,} bytes, expected {written['bytes']:,}"
            elif file_digest(file) != written["sha256"]:
                found[name] = "its content has changed since it was written (SHA-256)"
        except OSError as error:
            found[name] = "missing" if isinstance(error, FileNotFoundError) else str(error.strerror)
    return found


def in_words(found: Mapping[str, str]) -> str:
    """Return the damages of `damages` as one line."""
    return "; ".join(f"{name}: {what}" for name, what in found.items())


def write_digests(folder: Path) -> None:
    """Write the digests of all files of a folder into the folder."""
    files = [path for path in folder.rglob("*") if path.is_file() and path != folder / DIGESTS]
    (folder / DIGESTS).write_text(json.dumps(sealed({"files": digests_in(folder, files)}), indent=1), encoding="utf-8")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Write a folder whole or not at all, with the digests of its files.

    Args:
        folder: replaced at the end of the block. Of several processes that write it at once the last one remains.

    Yields:
        The folder to write into, beside it.
    """
    partial = partial_beside(folder)
    partial.mkdir()
    try:
        yield partial
        write_digests(partial)
        while partial.exists():
            remove_folder(folder)
            try:
                partial.rename(folder)
            except OSError as error:
                if error.errno not in (EEXIST, ENOTEMPTY):  # these: another process has written it meanwhile
                    raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder, if there is one; when this is interrupted, nothing takes the rest for the folder."""
    if folder.is_dir():
        removed = partial_beside(folder)
        with suppress(FileNotFoundError):  # another process has removed it
            folder.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)


def check_digests(folder: Path) -> None:
    """Check the files of a folder that `write_digests` was called for.

    Args:
        folder: it must hold a list of digests.

    Raises:
        DataError: files are missing or have changed; the message is one line without the folder.
    """
    if not (folder / DIGESTS).is_file():
        raise DataError(f"{DIGESTS}: missing")
    if found := damages(folder, read_sealed(folder / DIGESTS)["files"]):
        raise DataError(in_words(found))


def changed_names(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the names of files that changed, were added or were removed.

    Args:
        before: digest of each file, by its name.
        now: likewise.
    """
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def is_intact(folder: Path) -> bool:
    """Return whether a folder is there with all its files as they were written."""
    try:
        check_digests(folder)
    except DataError:
        return False
    return True


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON document with its own digest."""
    content = {key: value for key, value in document.items() if key != SEAL}
    return {**content, SEAL: _digest_of(content)}


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a JSON document of `sealed`.

    Args:
        path: of the file.

    Returns:
        The document without its digest.

    Raises:
        DataError: the file cannot be read, or has changed since it was written.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        seal = document.pop(SEAL)
    except (OSError, ValueError, AttributeError, KeyError) as error:
        why = error.strerror if isinstance(error, OSError) else "no whole document with its digest"
        raise DataError(f"{path.name}: damaged ({why})") from None
    if seal != _digest_of(document):
        raise DataError(f"{path.name}: its content has changed since it was written (SHA-256)")
    return document


def _digest_of(document: Mapping[str, Any]) -> str:
    # What JSON makes of it, since that is what will be read: keys are text, tuples are lists.
    text = json.dumps(json.loads(json.dumps(document)), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
