"""Arguments of tasks, schedulers and adapters and of merging from `*_args`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recbole_recfound.config.option_classes import ALL
from recbole_recfound.runtime.options import Options, option, parameters_of
from recbole_recfound.runtime.registry import ADAPTERS, MERGE_METHODS, SCHEDULERS, SPARSIFICATIONS, TASKS


@dataclass(frozen=True)
class MergeOptions(Options):
    """Merging of checkpoints (`merge_args`), besides options of the method itself.

    Attributes:
        last: number of last distinct checkpoints that are merged.
        density: share of each delta that remains, for methods that prune and for `sparsify`.
        sparsify: sparsification of the deltas before methods that do not prune (linear, slerp): magnitude keeps the
            largest, random rescales the rest.
    """

    last: int = option(4, minimum=2)
    density: float = option(0.8, above=0, maximum=1)
    sparsify: str = option("none", choices=lambda: ("none", *SPARSIFICATIONS))

    @classmethod
    def read(cls, config: Any) -> tuple[MergeOptions, dict[str, Any]]:
        """Return the options and those that belong to the merge method itself.

        Args:
            config: `merge_method` and `merge_args`.
        """
        given, method = dict(config["merge_args"]), config["merge_method"]
        own = MERGE_METHODS[method].options if method != "none" else {}
        further = {name: given.pop(name) for name in list(given) if name in own and name not in cls.names()}
        return cls.of(given, "merge_args"), further


def task_args(config: Any) -> dict[str, dict[str, Any]]:
    """Return task -> option -> value; options of `*` hold for every task that has them."""
    given = config["task_args"]
    common = given.get(ALL, {})
    return {
        name: {key: value for key, value in (common | given.get(name, {})).items() if key in task.Options.names()}
        for name, task in TASKS.items()
    }


def scheduler_args(config: Any) -> dict[str, Any]:
    """Return the arguments of the configured scheduler."""
    return _own(config["scheduler_args"], SCHEDULERS[config["scheduler"]])


def adapter_args(config: Any, kind: str) -> dict[str, Any]:
    """Return the arguments of an adapter.

    Args:
        config: settings of the run.
        kind: name of the adapter.
    """
    return _own(config["adapter_args"], ADAPTERS[kind])


def _own(given: Mapping[str, Any], entry: Any) -> dict[str, Any]:
    """Return the options that an entry has; those of other entries are ignored, so that entries can be swapped."""
    names = parameters_of(entry)
    return {option: value for option, value in given.items() if option in names}
