"""From a run's folder to something that answers."""

from __future__ import annotations

from pathlib import Path

from recbole_recfound.errors import ConfigError
from recbole_recfound.serving.domains import DomainRecommender, load_iak
from recbole_recfound.serving.kernels import CHOSEN


def load_recfound(run_dir: str | Path) -> DomainRecommender:
    """Load a finished run.

    Args:
        run_dir: the folder of an IAK run.

    Raises:
        ConfigError: there is no such run, or it cannot be served.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    if not (folder / CHOSEN).is_file():
        raise ConfigError(f"{folder} is not a finished IAK run (it has no {CHOSEN})")
    return load_iak(folder)
