"""Settings that all rows of a table share: the data, their split and their evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_recfound.config.known import argument_lists, known_rules

if TYPE_CHECKING:
    from recbole.config.configurator import Config

ALSO_SHARED = (
    "mask_history",
    "score_unmasked",
    "order_ties",
    "cold_items",
    "test_users",
    "trust_checkpoint",
    "seed",
    "reproducibility",
    "use_gpu",
    "gpu_id",
    "worker",
    "state",
    "show_progress",
    "encoding",
    "tail_ratio",
)
"""Shared settings besides RecBole's own lists of data and evaluation settings."""

INPUTS = (
    "numerical_features",
    "discretization",
    "entity_kg_num_interval",
    "relation_kg_num_interval",
    "kg_reverse_r",
)
"""What models read of the same data: shared as well, but a row may have its own."""

NOT_SHARED = {"MAX_ITEM_LIST_LENGTH", "repeatable", "eval_batch_size", "valid_metric_bigger"}
"""Entries of RecBole's lists that belong to a model, not to the protocol."""


def shared_keys() -> set[str]:
    """Return the names of all shared settings."""
    lists = argument_lists()
    of_recbole = {*lists["dataset_arguments"], *lists["evaluation_arguments"]}
    return (of_recbole - NOT_SHARED) | {*ALSO_SHARED, *INPUTS}


def shared_settings(config: Config) -> dict[str, Any]:
    """Return the shared settings of a run, in a form that a new `Config` takes."""
    settings = without_empty({key: config[key] for key in shared_keys() if key in config})
    settings["data_path"] = str(Path(config["data_path"]).parent)
    return settings


def repeats_of(values: Mapping[str, Any]) -> bool:
    """Return whether the settings of a run rank old and new items alike because its user has set `repeatable`.

    RecBole itself sets `repeatable` for sequential models; the user's own switches `mask_history` off.

    Args:
        values: of a run's `config.yaml`.
    """
    return bool(values.get("repeatable")) and not values.get("mask_history")


def without_empty(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without empty values where these are not allowed."""
    rules = known_rules()
    return {key: value for key, value in settings.items() if value is not None or rules[key].nullable}
