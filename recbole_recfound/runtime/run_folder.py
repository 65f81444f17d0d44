"""The folder of a run: its files, and the choice of an unfinished run to resume."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.ranks import is_main

CONFIG = "config.yaml"
RESULTS = "results.json"
CARD = "README.md"
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
}


def digests_of(files: Mapping[str, Path]) -> dict[str, str]:
    """Hash the content of each named file, block by block; names without a file are left out."""
    found = {}
    for name, file in files.items():
        if file.is_file():
            with file.open("rb") as opened:
                found[name] = hashlib.file_digest(opened, "sha256").hexdigest()[:16]
    return found


class RunFolder:
    """One run's folder.

    Args:
        path: the folder; created if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trainer_state = path / "trainer_state"
        self.rows = path / "rows"
        try:
            path.mkdir(parents=True, exist_ok=True)
            self.rows.mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigError(f"output_dir: {path} cannot be created: {error.strerror}") from None

    @classmethod
    def open(cls, model: str, dataset: str, settings: dict[str, Any], output_dir: str, resume: str) -> "RunFolder":
        """Create a new folder, or open the one to resume.

        Args:
            model: first part of the folder's name.
            dataset: second part of the folder's name.
            settings: everything the user can set, as resolved.
            output_dir: parent of all runs.
            resume: '' for a new run; 'auto' for the newest unfinished run with the same settings, or a new one; a
                folder.

        Raises:
            ConfigError: the named folder is not an unfinished run of these settings.
        """
        identity = identity_of(settings)
        if resume and resume != "auto":
            named = Path(resume)
            if _identity(named) != identity:
                raise ConfigError(f"resume: {named} is not a run with these settings (see its {CONFIG})")
            if (named / RESULTS).exists():
                raise ConfigError(f"resume: the run {named} is finished (it has {RESULTS})")
            return cls(named)
        if resume == "auto":
            unfinished = [path for path in Path(output_dir).glob(f"{model}-{dataset}-*") if _identity(path) == identity]
            unfinished = [path for path in unfinished if not (path / RESULTS).exists()]
            if unfinished:
                return cls(max(unfinished, key=lambda path: path.stat().st_mtime))
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        # The process id separates programs that start in the same second, a counter separates runs of one program.
        path = Path(output_dir) / f"{model}-{dataset}-{stamp}-{os.getpid()}"
        taken = (path.with_name(f"{path.name}-{number}") for number in count(2))
        folder = cls(path if not path.exists() else next(other for other in taken if not other.exists()))
        document = {"identity": identity, **settings}
        write_text(folder.path / CONFIG, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
        return folder

    @classmethod
    def joined(cls, path: Path) -> "RunFolder":
        """Return the folder that the main process has opened, for a process that does not write it."""
        folder = cls.__new__(cls)
        folder.path, folder.trainer_state, folder.rows = path, path / "trainer_state", path / "rows"
        return folder

    def log_to(self, verbose: bool = True) -> logging.Handler:
        """Send RecBole's and our log to the run's file (and, if `verbose`, to the screen)."""
        root = logging.getLogger()
        for earlier in list(root.handlers):
            if getattr(earlier, "recfound", False):
                root.removeHandler(earlier)
                earlier.close()
        root.setLevel(logging.INFO)
        file = logging.FileHandler(self.path / f"{self.path.name}.log", encoding="utf-8")
        handlers: list[logging.Handler] = [file, logging.StreamHandler()] if verbose else [file]
        for handler in handlers:
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
            vars(handler)["recfound"] = True
            root.addHandler(handler)
        return file

    def row(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return a row of the table: loaded if an earlier part of this run saved it, else computed and saved.

        Args:
            name: of the row.
            compute: gives the row.
        """
        key = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in name)
        path = self.rows / f"{key}.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
        row = compute()
        write_text(path, json.dumps(row, indent=1))
        return row


def identity_of(settings: dict[str, Any]) -> str:
    """Hash the settings that decide what a run computes."""
    kept = {key: value for key, value in settings.items() if key not in _CIRCUMSTANCES}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; of several processes the main one writes.

    Args:
        path: of the file.
        text: its content, written as UTF-8.
    """
    if not is_main():
        return
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _identity(folder: Path) -> str | None:
    path = folder / CONFIG
    return yaml.safe_load(path.read_text(encoding="utf-8")).get("identity") if path.is_file() else None
