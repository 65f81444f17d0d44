"""Models of a plug-in under the names by which RecBole looks them up.

RecBole's `get_model`, `get_trainer`, `create_dataset` and `Config` know no models but RecBole's: they import
`recbole.model.*.<name>`, read `recbole.trainer.<Name>Trainer` and `recbole.data.dataset.<Name>Dataset`, and open a file
of defaults inside RecBole. All four get ours here, and import them on their first lookup.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple

from recbole_recfound.compat.importing import Repair

ALIAS = "recbole.model.general_recommender."


class Plugin(NamedTuple):
    """Modules of one model, each imported when RecBole looks its class up by name.

    Attributes:
        model: module of the class `<Name>`.
        trainer: module of `<Name>Trainer`; None: RecBole's trainer of the model's type.
        dataset: module of `<Name>Dataset`; None: RecBole's data set of the model's type.
    """

    model: str
    trainer: str | None = None
    dataset: str | None = None


class AliasFinder(MetaPathFinder, Loader):
    """Module that provides `recbole.model.general_recommender.<name>` for the models of a plug-in.

    Args:
        plugins: by the name of the model's class.
    """

    def __init__(self, plugins: Mapping[str, Plugin]) -> None:
        self.plugins = plugins

    def _plugin(self, fullname: str) -> Plugin | None:
        name = fullname.removeprefix(ALIAS)
        matching = [plugin for key, plugin in self.plugins.items() if key.lower() == name]
        return matching[0] if fullname.startswith(ALIAS) and matching else None

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of an alias, or None.

        Args:
            fullname: module that is imported.
            path: search path of its package.
            target: module that is reloaded.
        """
        return ModuleSpec(fullname, self) if self._plugin(fullname) else None

    def exec_module(self, module: ModuleType) -> None:
        """Let the alias look its names up in the plug-in's module."""
        plugin = self._plugin(module.__name__)
        if plugin is not None:
            vars(module)["__getattr__"] = lambda name: getattr(importlib.import_module(plugin.model), name)


def plugin_repairs(
    plugins: Mapping[str, Plugin], defaults: Callable[[str], Mapping[str, Any]]
) -> dict[str, list[Repair]]:
    """Return what must happen to RecBole's modules when they are imported.

    Args:
        plugins: by the name of the model's class.
        defaults: gives the default settings of one of these models.
    """
    trainers = {f"{name}Trainer": plugin.trainer for name, plugin in plugins.items() if plugin.trainer}
    datasets = {f"{name}Dataset": plugin.dataset for name, plugin in plugins.items() if plugin.dataset}

    def attributes(modules: Mapping[str, str]) -> Repair:
        @contextmanager
        def repair(module: ModuleType) -> Iterator[None]:
            yield
            vars(module)["__getattr__"] = _lookup(module, modules)

        return repair

    @contextmanager
    def of_config(module: ModuleType) -> Iterator[None]:
        yield
        original = module.Config._load_internal_config_dict

        def with_defaults(self: Any, model: str, model_class: type, dataset: str) -> None:
            original(self, model, model_class, dataset)
            # What RecBole then saves tells who has ordered the rows: without this package it has no such key.
            self.internal_config_dict.setdefault("order_ties", "file")
            if model in plugins and not getattr(self, "reads_plugin_files", False):
                self.internal_config_dict.update(defaults(model))

        module.Config._load_internal_config_dict = with_defaults

    return {
        "recbole.trainer": [attributes(trainers)],
        "recbole.data.dataset": [attributes(datasets)],
        "recbole.config.configurator": [of_config],
    }


def _lookup(module: ModuleType, modules: Mapping[str, str]) -> Callable[[str], Any]:
    def lookup(name: str) -> Any:
        if name in modules:
            return getattr(importlib.import_module(modules[name]), name)
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    return lookup


def add_aliases(plugins: Mapping[str, Plugin]) -> None:
    """Make the models importable under RecBole's package."""
    sys.meta_path.insert(0, AliasFinder(plugins))
