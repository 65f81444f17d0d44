"""Options of tasks, schedulers and adapters from the keys of a configuration.

The only place that knows which flat key sets which option.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from recbole_recfound.runtime.options import parameters_of
from recbole_recfound.runtime.registry import ADAPTERS, SCHEDULERS, TASKS

TASK_KEYS = {
    "history_titles": "history_titles",
    "form": "sr_form",
    "candidates": "sr_candidates",
    "hard_negatives": "hard_negatives",
    "negative_source": "negative_source",
    "neighbours": "item_neighbours",
    "window": "neighbour_window",
    "max_examples": "max_generative_examples",
}
"""Option of a task -> key."""
SCHEDULER_KEYS = {"history": "s2sched_history", "warmup": "s2sched_warmup", "tau": "s2sched_tau"}
"""Parameter of a scheduler -> key."""
ADAPTER_KEYS = {
    "r": "lora_r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "target_modules": "target_modules",
    "experts_per_group": "experts_per_group",
}
"""Parameter of an adapter -> key."""


def task_args(config: Any) -> dict[str, dict[str, Any]]:
    """Return task -> option -> value, for every option of a registered task that has a key."""
    return {
        name: {item.name: config[TASK_KEYS[item.name]] for item in fields(task.Options) if item.name in TASK_KEYS}
        for name, task in TASKS.items()
    }


def scheduler_args(config: Any) -> dict[str, Any]:
    """Return the arguments of the configured scheduler, for every parameter that has a key."""
    return _by_parameter(config, SCHEDULERS[config["scheduler"]], SCHEDULER_KEYS)


def adapter_args(config: Any, kind: str) -> dict[str, Any]:
    """Return the arguments of an adapter, for every parameter that has a key.

    Args:
        config: the run's config.
        kind: name of the adapter.
    """
    args = _by_parameter(config, ADAPTERS[kind], ADAPTER_KEYS)
    if "target_modules" in args:
        args["target_modules"] = list(args["target_modules"])
    return args


def _by_parameter(config: Any, function: Any, keys: Mapping[str, str]) -> dict[str, Any]:
    return {name: config[keys[name]] for name in parameters_of(function) if name in keys}
