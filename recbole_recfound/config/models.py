"""Names of models: ours first, then RecBole's own."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from recbole_recfound.compat.plugin import Plugin
from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.locations import properties_dir, recbole_dir

NEAR_KEY, NEAR_MODEL = 0.8, 0.6
"""Least similarity (difflib's ratio) of a key and of a model's name that an error message suggests."""


@cache
def recbole_models() -> tuple[str, ...]:
    """Return the names of RecBole's own models (each has a file of defaults)."""
    return tuple(sorted(path.stem for path in (recbole_dir() / "properties" / "model").glob("*.yaml")))


def _plugin(name: str) -> Plugin:
    """Return the modules of a model: `model/name.py`, and if present `trainer/name.py` and `model/name_dataset.py`."""
    package = Path(__file__).resolve().parents[1]
    files = (f"model/{name.lower()}", f"trainer/{name.lower()}", f"model/{name.lower()}_dataset")
    modules = [f"{package.name}.{file.replace('/', '.')}" for file in files]
    trainer, dataset = (
        module if (package / f"{file}.py").is_file() else None
        for module, file in zip(modules[1:], files[1:], strict=True)
    )
    return Plugin(modules[0], trainer, dataset)


WITHOUT_NEGATIVES = ("MacridVAE", "MultiDAE", "MultiVAE", "RaCT", "RecVAE")
"""RecBole's models that are declared to learn from pairs, and read no negatives."""
LABELS_OR_NEGATIVES = ("DIEN", "DIN", "DMF", "FISM", "NAIS", "NNCF", "NeuMF")
"""RecBole's models that learn labels of rows, and do not need drawn negatives where the data set has labels."""
PACKAGES = {"KGAT": "dgl", "KGIN": "torch_scatter", "MCCLK": "torch_scatter", "NCL": "faiss"}
"""Packages that RecBole's models import when they are built or trained, not with their module."""

OUR_MODELS: dict[str, Plugin] = {
    path.stem: _plugin(path.stem) for path in sorted((properties_dir() / "model").glob("*.yaml"), reverse=True)
}
"""Models with a file `properties/model/NAME.yaml`: class name -> modules, imported when they are looked up."""


def baseline_models() -> tuple[str, ...]:
    """Return the names of all models that a table can have as baselines: those that RecBole's trainer trains."""
    return (*recbole_models(), *(name for name, plugin in OUR_MODELS.items() if plugin.trainer is None))


class Registered(NamedTuple):
    """A model from outside the package.

    Attributes:
        cls: its class, where it is one of RecBole's kind.
        properties: YAML file of its own keys, with hints.
    """

    cls: type | None = None
    properties: Path | None = None


ALSO_KNOWN: dict[str, Registered] = {}
"""Models that are registered outside the package, by name; see `known.add_model`."""


def model_file(name: str) -> Path | None:
    """Return the YAML file of a model's own keys, or None for RecBole's models and those without one."""
    if name in ALSO_KNOWN:
        return ALSO_KNOWN[name].properties
    path = properties_dir() / "model" / f"{name}.yaml"
    return path if path.is_file() else None


def model_names() -> list[str]:
    """Return the names of all models."""
    return [*OUR_MODELS, *ALSO_KNOWN, *recbole_models()]


def nearest(name: str, known: Iterable[str], cutoff: float = NEAR_KEY) -> str:
    """Return the end of an error message with the known name that resembles `name`; "" if none does.

    Args:
        name: an unknown name.
        known: all known names.
        cutoff: least similarity, from 0 to 1.
    """
    by_lower = {word.lower(): word for word in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""


def unknown_model(name: str) -> str:
    """Return an error message about a model, or "" if it is known."""
    if name in OUR_MODELS or name in ALSO_KNOWN or name in recbole_models():
        return ""
    return f"model: unknown model {name!r}{nearest(name, model_names(), NEAR_MODEL)}"


class ModelNames:
    """Names of models in the form of a `runtime.registry.Registry`, for hints (`any RecBole model`).

    Args:
        noun: singular name for error messages.
        names: returns all names.
    """

    def __init__(self, noun: str, names: Callable[[], Iterable[str]]) -> None:
        self.noun, self._names = noun, names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def unknown(self, names: Iterable[str]) -> str:
        """Return one message about all unknown names, or "" if all are known."""
        wrong = [name for name in names if name not in self._names()]
        near = [f"{name!r}{_hint(name, self._names())}" for name in wrong]
        return f"unknown {self.noun} {', '.join(near)}" if wrong else ""


def _hint(name: str, names: Iterable[str]) -> str:
    """Return what may have been meant by an unknown name, as the end of a message."""
    own = name in OUR_MODELS or name in ALSO_KNOWN
    return f" (it has a run of its own, --model={name})" if own else nearest(name, names, NEAR_MODEL)


def get_model(name: str) -> type[Any]:
    """Return a model class.

    Args:
        name: one of our models or of RecBole's.

    Raises:
        ConfigError: unknown model, or a package that RecBole's model needs is not installed.
    """
    if name in OUR_MODELS:
        cls: type = getattr(importlib.import_module(OUR_MODELS[name].model), name)
        return cls
    registered = ALSO_KNOWN[name].cls if name in ALSO_KNOWN else None
    if registered is not None:
        return registered
    if name not in recbole_models():
        raise ConfigError(unknown_model(name) or f"model: {name} has no class in this package or RecBole")
    from recbole.utils import get_model as recbole_model

    try:
        return recbole_model(name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"model: {name} of RecBole cannot be imported: {error}") from error
