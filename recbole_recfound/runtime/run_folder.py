"""The folder of a run: its files, and the choice of an unfinished run to resume."""

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from recbole_recfound.errors import ConfigError, DataError, cause_of
from recbole_recfound.runtime.file_digests import changed_names, digests_in, file_digest, read_sealed, sealed
from recbole_recfound.runtime.lock import LOCK, OWNER, FolderLock, owner_of
from recbole_recfound.runtime.ranks import is_main
from recbole_recfound.runtime.whole_file import whole_file

CONFIG = "config.yaml"
RESULTS = "results.json"
FORMAT = 5
"""Version of the layout of a run folder; written to `results.json`. Since 2 it holds the digests of all files; since 3
the numbers of recent items, the whitening of texts, and a file of tensors for each task of M6-Rec; since 4 the pace of
checkpoints, the time of kernels, and texts of M6-Rec with exact times; since 5 another choice of the title among the
columns of .item, and new items out of the histories that mask a ranking."""
STATE_FORMAT = 2
"""Version of the checkpoints of unfinished runs; since 2 they hold the seconds of texts apart from those of steps."""
CARD = "README.md"
SPENT = "spent.json"
"""Seconds of each part of a run that is not finished."""
USERS = "by_user.json"
"""The metric that chooses checkpoints, of each test user by ascending id, for each row."""
# Keys that change how a run is carried out but not its results: they do not change its identity.
_CIRCUMSTANCES = {
    "resume",
    "output_dir",
    "time_budget",
    "show_progress",
    "data_path",
    "checkpoint_dir",
    "device",
    "gpu_id",
    "trust_checkpoint",
}
_CIRCUMSTANTIAL_OPTIONS = {"late_args": {"cache_file"}}
"""Options of settings that likewise change no result."""


def digests_of(files: Mapping[str, Path]) -> dict[str, str]:
    """Hash the content of each named file, block by block; names without a file are left out.

    A file is read once per process, unless it changes.
    """
    stamps = {name: file.stat() for name, file in files.items() if file.is_file()}
    return {name: _digest_of(files[name], stamp.st_mtime_ns, stamp.st_size) for name, stamp in stamps.items()}


@lru_cache(maxsize=1024)
def _digest_of(file: Path, *stamp: int) -> str:
    return file_digest(file)[:16]


class RunFolder:
    """One run's folder, which only this process writes until `close`.

    Args:
        path: the folder; created if it does not exist.
        identity: of the settings, see `identity_of`.

    Raises:
        ConfigError: it cannot be created or written, or another process is writing it.
    """

    _lock: FolderLock | None = None

    def __init__(self, path: Path, identity: str) -> None:
        self._name_parts(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(path, {"identity": identity})
            self.rows.mkdir(exist_ok=True)
            self._sweep()
            self._refuse_other_kinds()
        except OSError as error:
            self.close()
            raise ConfigError(f"output_dir: {path} cannot be written: {error.strerror or cause_of(error)}") from None

    @classmethod
    def open(cls, model: str, dataset: str, settings: dict[str, Any], output_dir: str, resume: str) -> "RunFolder":
        """Create a new folder, or open the one to resume.

        Args:
            model: first part of the folder's name.
            dataset: second part of the folder's name.
            settings: everything the user can set, as resolved.
            output_dir: parent of all runs.
            resume: '' for a new run; 'auto' for the newest unfinished run with the same settings that no other process
                is writing, or a new one; a folder.

        Raises:
            ConfigError: the named folder is not an unfinished run of these settings, or another process writes it.
        """
        identity = identity_of(settings)
        folder = None
        if resume and resume != "auto":
            folder = cls._named(Path(resume), settings)
        elif resume == "auto":
            folder = cls._newest(Path(output_dir).glob(f"{model}-{dataset}-*"), identity)
        if folder is None:
            folder = cls(_new_path(Path(output_dir), f"{model}-{dataset}"), identity)
        # Also of a resumed run: its settings are the same, and the file may have been damaged.
        document = {"identity": identity, **settings}
        write_text(folder.path / CONFIG, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
        return folder

    @staticmethod
    def finished(model: str, dataset: str, settings: Mapping[str, Any], output_dir: str) -> list[Path]:
        """Return the finished runs of the same settings and the same time, newest first.

        Args:
            model: first part of the folder's name.
            dataset: second part of the folder's name.
            settings: everything the user can set, as resolved.
            output_dir: parent of all runs.
        """
        identity = identity_of(settings)
        found = [path.parent for path in Path(output_dir).glob(f"{model}-{dataset}-*/{RESULTS}")]
        same = [path for path in found if owner_of(path).get("identity") == identity]
        same = [path for path in same if _document(path).get("time_budget") == settings["time_budget"]]
        return sorted(same, key=_modified, reverse=True)

    @classmethod
    def joined(cls, path: Path) -> "RunFolder":
        """Return the folder that the main process has opened, for a process that does not write it."""
        folder = cls.__new__(cls)
        folder._name_parts(path)
        return folder

    def _name_parts(self, path: Path) -> None:
        self.path = path
        self.trainer_state = path / "trainer_state"
        self.rows = path / "rows"
        self.tensorboard = path / "tensorboard"

    @classmethod
    def _named(cls, path: Path, settings: dict[str, Any]) -> "RunFolder":
        if not path.is_dir():
            raise ConfigError(f"resume: {path} is not a folder")
        identity, known = identity_of(settings), _identities(path)
        if identity not in known:
            files = _document(path).get("data_files")
            if isinstance(files, dict) and identity_of({**settings, "data_files": files}) in known:
                changed = ", ".join(changed_names(files, settings["data_files"]))
                raise ConfigError(
                    f"resume: {changed} changed since the run {path} began: restore it, or start a new run (resume: '')"
                )
            raise ConfigError(f"resume: {path} is not a run with these settings (see its {CONFIG})")
        if (path / RESULTS).exists():
            raise ConfigError(f"resume: the run {path} is finished (it has {RESULTS})")
        return cls(path, identity)

    @classmethod
    def _newest(cls, paths: Iterable[Path], identity: str) -> "RunFolder | None":
        """Open the newest unfinished run that no other process is writing and that can be written."""
        found = [path for path in paths if identity in _identities(path) and not (path / RESULTS).exists()]
        for path in sorted(found, key=_modified, reverse=True):
            try:
                folder = cls(path, identity)
            except ConfigError as error:
                print(f"note: resume: not this run: {error}", flush=True)
                continue
            if not (path / RESULTS).exists():  # finished in between
                return folder
            folder.close()
        return None

    def close(self) -> None:
        """Let other processes write the folder."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _sweep(self) -> None:
        """Remove what an interrupted process left half written."""
        for folder in (self.path, self.rows, self.path / "baselines"):
            for path in list(folder.glob("*.partial")):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _refuse_other_kinds(self) -> None:
        """Refuse a folder in which a file stands for a folder, or the reverse.

        Raises:
            OSError: names them.
        """
        wrong = [path for path in (self.trainer_state, self.tensorboard) if path.exists() and not path.is_dir()]
        wrong += [path for path in [self.path / CONFIG, *self.rows.iterdir()] if path.is_dir()]
        if wrong:
            names = ", ".join(path.relative_to(self.path).as_posix() for path in wrong)
            raise OSError(errno.EINVAL, f"a file instead of a folder, or the reverse: {names}")

    def digests(self) -> dict[str, dict[str, Any]]:
        """Return the digests of all files of a run that is complete, to be written to `results.json`.

        Checkpoints have digests of their own; logs are not read again.
        """
        log = self.path / f"{self.path.name}.log"
        apart = {log, self.path / LOCK, self.path / OWNER, self.path / RESULTS}
        files = [path for path in self.path.rglob("*") if path.is_file() and path not in apart]
        skipped = (self.trainer_state, self.tensorboard)
        return digests_in(self.path, [file for file in files if not any(map(file.is_relative_to, skipped))])

    def log_to(self, verbose: bool = True) -> logging.Handler:
        """Send RecBole's and our log to the run's file (and, if `verbose`, to the screen)."""
        root = logging.getLogger()
        for earlier in list(root.handlers):
            if getattr(earlier, "recfound", False):
                root.removeHandler(earlier)
                earlier.close()
        root.setLevel(logging.INFO)
        file = _LogFile(self.path / f"{self.path.name}.log", encoding="utf-8")
        handlers: list[logging.Handler] = [file, logging.StreamHandler()] if verbose else [file]
        for handler in handlers:
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
            vars(handler)["recfound"] = True
            root.addHandler(handler)
        return file

    def row(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return a row of the table: loaded if an earlier part of this run saved it, else computed and saved.

        A damaged row is computed again, and so is one whose `files` (path in the folder -> SHA-256) have changed.

        Args:
            name: of the row.
            compute: gives the row.
        """
        path = self._row_path(name)
        if path.is_file():
            try:
                return self._saved_row(path)
            except DataError as error:
                print(f"note: row {name}: {error}: it is computed again", flush=True)
        row = compute()
        write_text(path, json.dumps(sealed(row), indent=1))
        return row

    def keep_time(self, spent: Mapping[str, float]) -> None:
        """Write what the run took so far, for a later part of it.

        Args:
            spent: seconds of each part of the run.
        """
        write_text(self.path / SPENT, json.dumps(spent))

    def time_before(self) -> dict[str, float]:
        """Return what earlier parts of this run took; {} where nothing says so."""
        try:
            return {name: float(seconds) for name, seconds in json.loads((self.path / SPENT).read_bytes()).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def has_row(self, name: str) -> bool:
        """Return whether an earlier part of this run saved a row.

        Args:
            name: of the row.
        """
        return self._row_path(name).is_file()

    def forget(self, names: Iterable[str]) -> None:
        """Remove saved rows, which are computed again.

        Args:
            names: of rows; those that are not there are skipped.
        """
        for name in names:
            self._row_path(name).unlink(missing_ok=True)

    def _row_path(self, name: str) -> Path:
        key = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in name)
        return self.rows / f"{key}.json"

    def _saved_row(self, path: Path) -> dict[str, Any]:
        try:
            row = read_sealed(path)
        except DataError as error:
            raise DataError(f"{path.parent.name}/{error}") from None
        for name, digest in row.get("files", {}).items():
            if not (self.path / name).is_file() or file_digest(self.path / name) != digest:
                raise DataError(f"{name}: missing or changed")
        return row


class _LogFile(logging.FileHandler):
    """A log that says once that it cannot be written, and lets the run continue."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Print one note in place of a traceback for every record.

        Args:
            record: that could not be written, not used.
        """
        if not self.failed:
            self.failed = True
            print(f"note: {self.baseFilename} cannot be written; the run continues without it", flush=True)


def identity_of(settings: Mapping[str, Any]) -> str:
    """Hash the settings that decide what a run computes."""
    kept = {key: value for key, value in settings.items() if key not in _CIRCUMSTANCES} | {
        "format": [FORMAT, STATE_FORMAT]
    }
    for key, names in _CIRCUMSTANTIAL_OPTIONS.items():
        if isinstance(options := kept.get(key), Mapping):
            kept[key] = {name: value for name, value in options.items() if name not in names}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; of several processes the main one writes.

    Args:
        path: of the file.
        text: its content, written as UTF-8.
    """
    if not is_main():
        return
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _document(folder: Path) -> dict[str, Any]:
    """Return the settings that a run has written; {} where they cannot be read."""
    try:
        document = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return document if isinstance(document, dict) else {}


def _identities(folder: Path) -> set[str]:
    """Return what a folder says that it is, in two files, of which one may be damaged."""
    found = owner_of(folder).get("identity"), _document(folder).get("identity")
    return {identity for identity in found if isinstance(identity, str)}


def _modified(path: Path) -> float:
    return path.stat().st_mtime


def _new_path(output_dir: Path, name: str) -> Path:
    """Create a folder that no other process has.

    Args:
        output_dir: parent of all runs.
        name: first part of the folder's name; time and process follow.
    """
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    # The process id separates programs that start in the same second, a counter separates runs of one program.
    path = output_dir / f"{name}-{stamp}-{os.getpid()}"
    for number in count(1):
        own = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            own.mkdir(parents=True)
            return own
        except FileExistsError:
            if not own.exists():  # a file stands where a parent is to be
                raise ConfigError(f"output_dir: {output_dir} is not a folder") from None
        except OSError as error:
            raise ConfigError(f"output_dir: {own} cannot be created: {error.strerror}") from None
    raise AssertionError
