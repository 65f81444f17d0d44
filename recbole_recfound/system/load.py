"""Loading a finished run: the system that wrote the folder decides how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.evaluation.results import FORMAT
from recbole_recfound.runtime.run_folder import RESULTS
from recbole_recfound.system.registry import get_system


def load_run(run_dir: str | Path, **options: Any) -> Any:
    """Load a finished run for serving.

    Args:
        run_dir: the run folder; its `results.json` names the system.
        options: passed on to the system's `load`.

    Raises:
        ConfigError: no finished run, one of another layout, or one that cannot be served.
        DataError: data or files are missing or damaged.
    """
    folder = Path(run_dir)
    return get_system(read_results(folder)["system"]).load(folder, **options)


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
    try:
        results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        layout = results["system"] and results["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / RESULTS} cannot be read ({type(error).__name__}: {error})") from None
    if layout != FORMAT:
        raise ConfigError(f"{folder}: format {layout} of a run folder, expected {FORMAT}: run it again")
    return results
