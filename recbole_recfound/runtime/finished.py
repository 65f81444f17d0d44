"""Reading of finished runs: every file is compared with the digest that the run wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.runtime.file_digests import damages, in_words, read_sealed
from recbole_recfound.runtime.run_folder import FORMAT, RESULTS

FOR_READERS = (".html", ".md")
"""Pages for people, which no program reads."""
MAY_BE_DELETED = ("histories.safetensors",)
"""Users' data, which may have to go: a run is loaded without them."""


def read_results(run_dir: str | Path) -> dict[str, Any]:
    """Read the results of a finished run.

    Args:
        run_dir: the run folder.

    Raises:
        ConfigError: no finished run, or one of another layout.
        DataError: its `results.json` is damaged.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    if not (folder / RESULTS).is_file():
        raise ConfigError(f"{folder} is not a finished run (it has no {RESULTS})")
    if (layout := _format_of(folder / RESULTS)) not in (None, FORMAT):
        raise ConfigError(f"{folder}: format {layout} of a run folder, expected {FORMAT}: run it again")
    try:
        return read_sealed(folder / RESULTS)
    except DataError as error:
        raise DataError(f"{folder}: {error}: restore it, or run again") from None


def _format_of(path: Path) -> int | None:
    """Return the format of results, None if they cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["format"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_run(run_dir: str | Path) -> dict[str, Any]:
    """Compare all files of a finished run with their digests; a page that has changed is a note.

    Args:
        run_dir: the run folder.

    Returns:
        Its results.

    Raises:
        ConfigError: see `read_results`.
        DataError: files are missing or damaged; names them.
    """
    results = read_results(run_dir)
    deleted = [name for name in MAY_BE_DELETED if not (Path(run_dir) / name).exists()]
    found = damages(Path(run_dir), {name: file for name, file in results["files"].items() if name not in deleted})
    pages = {name: found.pop(name) for name in list(found) if name.endswith(FOR_READERS)}
    if pages:
        print(f"note: {run_dir}: {in_words(pages)}", flush=True)
    if found:
        raise DataError(f"{run_dir}: {in_words(found)}: restore it, or run again")
    return results
