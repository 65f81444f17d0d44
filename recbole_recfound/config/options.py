"""Arguments of tasks, schedulers and adapters and of merging from `*_args`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.options import Options, option, parameters_of
from recbole_recfound.runtime.registry import ADAPTERS, MERGE_METHODS, SCHEDULERS, SPARSIFICATIONS, TASKS, Registry


@dataclass(frozen=True)
class MergeOptions(Options):
    """Merging of checkpoints (`merge_args`), besides options of the method itself.

    Attributes:
        last: number of last distinct checkpoints that are merged.
        density: share of each delta that remains, for methods that prune and for `sparsify`.
        sparsify: sparsification of the deltas before methods that do not prune (linear, slerp): magnitude keeps the largest,
            random rescales the rest.
    """

    last: int = option(4, minimum=2)
    density: float = option(0.8, above=0, maximum=1)
    sparsify: str = option("none", choices=lambda: ("none", *SPARSIFICATIONS))

    @classmethod
    def read(cls, config: Any) -> tuple[MergeOptions, dict[str, Any]]:
        """Return the options and those that belong to the merge method itself.

        Args:
            config: `merge_method` and `merge_args`.

        Raises:
            ConfigError: an option that neither merging nor the method has.
        """
        given, method = dict(config["merge_args"] or {}), config["merge_method"]
        own = MERGE_METHODS[method].options if method != "none" else {}
        further = {name: given.pop(name) for name in list(given) if name in own and name not in cls.names()}
        return cls.of(given, "merge_args"), further


ALL_TASKS = "*"
"""Key of `task_args` for options of every task that has them."""


def task_args(config: Any) -> dict[str, dict[str, Any]]:
    """Return task -> option -> value; options of `*` hold for every task that has them.

    Raises:
        ConfigError: an unknown task, or an option of `*` that no task has.
    """
    given = config["task_args"] or {}
    if problem := TASKS.unknown(name for name in given if name != ALL_TASKS):
        raise ConfigError(f"task_args: {problem}")
    common = given.get(ALL_TASKS) or {}
    options = {name: task.Options.names() for name, task in TASKS.items()}
    if unknown := [key for key in common if not any(key in names for names in options.values())]:
        raise ConfigError(f"task_args: {ALL_TASKS}: no task has an option {', '.join(unknown)}")
    return {
        name: {**{key: value for key, value in common.items() if key in names}, **(given.get(name) or {})}
        for name, names in options.items()
    }


def scheduler_args(config: Any) -> dict[str, Any]:
    """Return the arguments of the configured scheduler.

    Raises:
        ConfigError: an option that no scheduler has.
    """
    return _arguments(config["scheduler_args"] or {}, SCHEDULERS, config["scheduler"], "scheduler_args")


def adapter_args(config: Any, kind: str) -> dict[str, Any]:
    """Return the arguments of an adapter.

    Args:
        config: settings of the run.
        kind: name of the adapter.

    Raises:
        ConfigError: an option that no adapter has.
    """
    return _arguments(config["adapter_args"] or {}, ADAPTERS, kind, "adapter_args")


def _arguments(given: Mapping[str, Any], registry: Registry[Any], name: str, key: str) -> dict[str, Any]:
    """The options that an entry has; those that only another entry has are left out, so that entries can be swapped."""
    names = {entry: list(parameters_of(function)) for entry, function in registry.items()}
    if unknown := [option for option in given if not any(option in known for known in names.values())]:
        raise ConfigError(f"{key}: unknown option {', '.join(unknown)}; {name} has {', '.join(names[name]) or 'none'}")
    return {option: value for option, value in given.items() if option in names[name]}
