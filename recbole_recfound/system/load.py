"""Loading a finished run: the system that wrote the folder decides how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_recfound.runtime.finished import check_run
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
    return get_system(check_run(folder)["system"]).load(folder, **options)
