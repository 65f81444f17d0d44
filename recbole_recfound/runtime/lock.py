"""The lock of a folder that one process writes."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.whole_file import whole_file

LOCK, OWNER = "run.lock", "owner.json"


class FolderInUse(ConfigError):
    """Another process is writing this folder."""


class FolderLock:
    """The right to write a folder, held until `release` or the end of the process, however it ends.

    The kernel's lock on `run.lock` decides. `owner.json` says who holds it, and decides alone on file systems without
    locks.

    Args:
        folder: an existing folder.
        about: further values of `owner.json`, such as what the folder is for.

    Raises:
        FolderInUse: another process, or this one, is writing it: names host and process.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder = folder
        self.about = about
        self._lock = FileLock(str(folder / LOCK))
        before = owner_of(folder)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise in_use(folder) from None
        except (OSError, NotImplementedError):
            if not os.access(folder, os.W_OK):
                raise
            if _alive(before):
                raise in_use(folder) from None
        if before.get("pid") and before.get("host") != socket.gethostname():
            print(f"note: {folder} was last written by process {before['pid']} on host {before['host']}", flush=True)
        self._write({"host": socket.gethostname(), "pid": os.getpid()})

    def release(self) -> None:
        """Let other processes write the folder."""
        if self._lock.is_locked and self.folder.is_dir():
            with suppress(OSError):  # a full disk: who reads the old one finds that this process has ended
                self._write({})
        self._lock.release()

    def _write(self, owner: dict[str, Any]) -> None:
        with whole_file(self.folder / OWNER) as partial:
            partial.write_text(json.dumps({**self.about, **owner}), encoding="utf-8")


def owner_of(folder: Path) -> dict[str, Any]:
    """Return who wrote a folder last: `host` and `pid` while it is held, and what else was noted; {} if unknown."""
    try:
        record = json.loads((folder / OWNER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def in_use(folder: Path) -> FolderInUse:
    """Return the error for a folder that another process writes."""
    owner = owner_of(folder)
    who = f"process {owner['pid']} on host {owner['host']}" if {"pid", "host"} <= owner.keys() else "another process"
    return FolderInUse(f"{folder} is being written by {who}: wait until it has ended, or start a new run")


def _alive(owner: dict[str, Any]) -> bool:
    """Return whether a process may still be running; one on another host may."""
    if not isinstance(owner.get("pid"), int):
        return False
    if owner.get("host") != socket.gethostname():
        return True
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
