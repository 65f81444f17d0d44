"""Settings of a run in tests: joining them merges `*_args` option by option, as configuration files do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_recfound.config.settings import merged


class Settings(dict):
    """A dict whose `|` keeps the options that the right side does not name."""

    def __or__(self, other: Mapping[str, Any]) -> Settings:
        return Settings(merged(self, other))

    def __ror__(self, other: Mapping[str, Any]) -> Settings:
        return Settings(merged(other, self))

    def __ior__(self, other: Mapping[str, Any]) -> Settings:
        return self | other


SERVED = Settings(
    {
        "show_progress": False,
        "use_gpu": False,
        "precision": "float32",
        "time_budget": 0,
        "max_steps": 2,
        "tasks": ["U2I", "SR"],
        "task_args": {"SR": {"candidates": 4}},
        "task_test_examples": 0,
        "MAX_ITEM_LIST_LENGTH": 10,
        "save_histories": True,
    }
)
"""A run of a few steps that knows its users."""

CLICK_READING = Settings(
    {
        "threshold": {"rating": 4},
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "labeled"},
        "late_args": {"targets": 8},
        "text_args": {"behaviours": 2},
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "train_batch_size": 64,
        "eval_interval": 4,
    }
)
"""Clicks of the tiny data set, split by time, for M6-Rec."""

READING = Settings(
    {
        "use_gpu": False,
        "show_progress": False,
        "time_budget": 0,
        "late_args": {"joint_layers": 2},
        "option_args": {"prompts": 4, "bottleneck": 4},
        "epochs": 2,
        "learning_rate": 0.01,
    }
)
"""A run of a model that reads segments of text."""


def clicks_of(data_path: Path, backbone: Path) -> Settings:
    """Return the settings of a run of M6-Rec on clicks of the tiny data set."""
    return READING | CLICK_READING | {"data_path": str(data_path), "backbone": str(backbone)}
