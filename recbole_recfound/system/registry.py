"""Names of systems."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from recbole_recfound import system as package
from recbole_recfound.config.known import add_model
from recbole_recfound.system.base import System
from recbole_recfound.system.recbole import recbole_system

SYSTEMS: dict[str, type[System]] = {}
S = TypeVar("S", bound=type[System])


def register_system(name: str, model: type | None = None, properties: Path | None = None) -> Callable[[S], S]:
    """Register a `System` under the name of its model; the class gets it as `name`.

    Args:
        name: of the model.
        model: class of RecBole's kind for a system from outside the package; None: `model/<name>.py` of the package.
        properties: YAML file with the keys of a system from outside the package; None: `properties/model/<name>.yaml`.
    """

    def register(cls: S) -> S:
        cls.name = name
        SYSTEMS[name] = cls
        add_model(name, model, properties)
        return cls

    return register


def get_system(model: str) -> type[System]:
    """Return the system of a model; every model without one of its own is one of RecBole's.

    Args:
        model: name as typed by the user.

    Raises:
        ConfigError: unknown model.
    """
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
    if model in SYSTEMS:
        return SYSTEMS[model]
    return recbole_system(model)
