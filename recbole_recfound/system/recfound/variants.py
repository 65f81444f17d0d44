"""Ablations and controls of RecFound: rows of the long table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_recfound.atomic.find import NO_DATASET
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.text.options import ItemOptions
from recbole_recfound.model.history import history_of
from recbole_recfound.model.options import (
    NO_ADAPTER,
    NO_BODY,
    NO_RECENT_ITEMS,
    PERMUTED_FACTORS,
    RANDOM_BODY,
    RANDOM_ITEM_TEXT,
    SMALL_READER,
)

ADAPTER_OFF = "control: adapter off"
NO_RECENT = "- recent items"
NO_FACTORS, OTHER_FACTORS = "- collaborative factors", "control: collaborative factors of other items"
VARIANTS: dict[str, dict[str, Any]] = {
    "- TMoLE (one shared LoRA)": {"adapter": "lora"},
    "- S2Sched (proportional)": {"scheduler": "proportional"},
    "- TMoLE - S2Sched (one LoRA, proportional)": {"adapter": "lora", "scheduler": "proportional"},
    "- all tasks but U2I": {"only_tasks": ["U2I"], "balanced_tasks": [], "test_args": {"rank_titles": 0}},
    "control: random body": {"control": RANDOM_BODY},
    ADAPTER_OFF: {"control": NO_ADAPTER},
    "control: LLM body bypassed": {"control": NO_BODY},
    "control: small transformer instead of the LLM": {"control": SMALL_READER, "tower_args": {"user_layers": None}},
    "control: random item text": {"control": RANDOM_ITEM_TEXT},
    NO_RECENT: {"control": NO_RECENT_ITEMS},
    NO_FACTORS: {"item_args": {"factors": 0}},
    OTHER_FACTORS: {"control": PERMUTED_FACTORS},
    "control: untrained": {"max_steps": 0},
}
IN_ITEM_MODE = {
    "control: LLM body bypassed",
    "control: small transformer instead of the LLM",
    "control: random item text",
}
"""Controls of soft tokens; where histories are read as text they mean nothing."""
OF_THE_TABLE = {ADAPTER_OFF, NO_RECENT, NO_FACTORS, OTHER_FACTORS}
"""Ablations of the item table, for modes that have one."""


def row_name(config: Config) -> str:
    """Return the name of a run's row: the model's own only where LLM layers with TMoLE read users and items have text.

    Args:
        config: settings of the run.
    """
    missing = [f"adapter: {config['adapter']}"] if config["adapter"] != "tmole" else []
    items = ItemOptions.of(config["item_args"], "item_args")
    file = Path(config["data_path"]) / f"{config['dataset']}.item"
    has_texts = items.read_file and (config["dataset"] == NO_DATASET or file.is_file())
    if not (items.use_text and has_texts):
        missing.append("no item text")
    if config["control"]:
        missing.append(f"control: {config['control']}")
    return ", ".join([config["model"], *missing])


def variants(config: Config) -> dict[str, dict[str, Any]]:
    """Return the settings that make each row; controls without a meaning in this history mode are left out."""
    mode = history_of(config)
    without = set() if mode.soft_tokens else IN_ITEM_MODE | (set() if mode.uses_item_table else OF_THE_TABLE)
    for name in VARIANTS:
        if name in without:
            print(f"left out, histories are read as text: {name}", flush=True)
    return {name: change for name, change in VARIANTS.items() if name not in without}
