"""recbole_recfound: one LLM for many recommendation tasks, as a plug-in of RecBole."""

from __future__ import annotations

from recbole_recfound import compat

__version__ = "0.1.0"
__all__ = ["__version__", "run_recfound"]

compat.install()


def __getattr__(name: str):
    """Imports torch and RecBole only for those who train, not for `--help`."""
    if name == "run_recfound":
        from recbole_recfound.quick_start import run_recfound

        return run_recfound
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
