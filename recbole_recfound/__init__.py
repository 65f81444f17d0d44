"""recbole_recfound: one LLM for many recommendation tasks, as a plug-in of RecBole."""

from __future__ import annotations

from typing import Any

from recbole_recfound import compat
from recbole_recfound.compat.unpickling import trust_checkpoint
from recbole_recfound.config.models import OUR_MODELS
from recbole_recfound.config.property_files import defaults_beside_recbole

__version__ = "0.1.0"
__all__ = ["__version__", "load_recfound", "run_recfound", "trust_checkpoint"]

READING = {
    "recbole.data.dataset.dataset": "recbole_recfound.atomic.dataset:repair_dataset",
    "recbole.data.dataset.sequential_dataset": "recbole_recfound.atomic.dataset:repair_sequential_dataset",
}
"""Repairs of RecBole's reading of data: wherever RecBole reads, it reads as this package does."""

compat.install(OUR_MODELS, defaults_beside_recbole, READING)


def __getattr__(name: str) -> Any:
    """Import torch and RecBole when a function is first used, not for `--help`."""
    if name in ("run_recfound", "load_recfound"):
        from recbole_recfound import quick_start

        return getattr(quick_start, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
