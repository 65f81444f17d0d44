"""Names of models: ours first, then RecBole's own."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable

from recbole_recfound.compat.plugin import Plugin
from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.locations import recbole_dir

OUR_MODELS = {
    "RecFound": Plugin(
        "recbole_recfound.model.recfound",
        "recbole_recfound.trainer.recfound",
        "recbole_recfound.data.split.history_dataset",
    ),
    "IAK": Plugin("recbole_recfound.model.iak", "recbole_recfound.trainer.iak", "recbole_recfound.model.iak_dataset"),
}
"""Class name -> modules of model, trainer and data set, imported when they are looked up."""


def recbole_models() -> list[str]:
    """The names of RecBole's own models (each has a file of defaults)."""
    return sorted(path.stem for path in (recbole_dir() / "properties" / "model").glob("*.yaml"))


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the known name that looks most like `name`, or nothing."""
    by_lower = {word.lower(): word for word in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[found[0]]}?" if found else ""


def get_model(name: str) -> type:
    """Looks a model class up by name.

    Args:
        name: `RecFound` or another of ours, or one of RecBole's.

    Raises:
        ConfigError: there is no such model, or a package that RecBole's model needs is not installed.
    """
    if name in OUR_MODELS:
        return getattr(importlib.import_module(OUR_MODELS[name].model), name)
    theirs = recbole_models()
    if name not in theirs:
        raise ConfigError(f"model: there is no model {name!r}{nearest(name, [*OUR_MODELS, *theirs])}")
    from recbole.utils import get_model as recbole_model

    try:
        return recbole_model(name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"model: {name} of RecBole cannot be imported: {error}") from error
