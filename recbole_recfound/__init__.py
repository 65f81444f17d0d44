"""recbole_recfound: one LLM for many recommendation tasks, as a plug-in of RecBole."""

from __future__ import annotations

from recbole_recfound import compat
from recbole_recfound.config.models import OUR_MODELS
from recbole_recfound.config.property_files import defaults_beside_recbole

__version__ = "0.1.0"
__all__ = ["__version__", "load_recfound", "run_recfound"]

compat.install(OUR_MODELS, defaults_beside_recbole)


def __getattr__(name: str):
    """Imports torch and RecBole only for those who train, not for `--help`."""
    if name == "run_recfound":
        from recbole_recfound.quick_start import run_recfound

        return run_recfound
    if name == "load_recfound":
        from recbole_recfound.serving import load_recfound

        return load_recfound
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
