"""Folders of the YAML files: this package's and RecBole's."""

from __future__ import annotations

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from recbole_recfound.errors import ConfigError


def properties_dir() -> Path:
    """Return this package's `properties/`: inside the package if installed, beside it in a checkout."""
    installed = Path(str(files("recbole_recfound"))) / "properties"
    checkout = Path(__file__).resolve().parents[2] / "properties"
    for folder in (installed, checkout):
        if (folder / "overall.yaml").is_file():
            return folder
    raise ConfigError(
        f"properties/overall.yaml is missing beside and inside {installed.parent}: install recbole_recfound again"
    )


def recbole_dir() -> Path:
    """Return RecBole's package folder without importing RecBole."""
    spec = find_spec("recbole")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("RecBole is not installed: pip install recbole==1.2.1")
    return Path(next(iter(spec.submodule_search_locations)))
