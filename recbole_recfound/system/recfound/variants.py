"""Ablations and controls of RecFound: rows of the long table."""

from __future__ import annotations

from typing import Any

from recbole_recfound.config.configurator import Config
from recbole_recfound.model.history import history_of

ADAPTER_OFF = "control: adapter off"
VARIANTS: dict[str, dict[str, Any]] = {
    "- TMoLE (one shared LoRA)": {"adapter": "lora"},
    "- S2Sched (proportional)": {"scheduler": "proportional"},
    "- TMoLE - S2Sched (one LoRA, proportional)": {"adapter": "lora", "scheduler": "proportional"},
    "- all tasks but U2I": {"only_tasks": ["U2I"], "balanced_tasks": [], "generative_candidates": 0},
    "control: random body": {"body": "random"},
    ADAPTER_OFF: {"adapter": "none"},
    "control: LLM body bypassed": {"backbone_layers": 0, "user_tower": "llm"},
    "control: small transformer instead of the LLM": {"backbone_layers": None, "user_tower": "small"},
    "control: random item text": {"item_features": "random"},
    "control: untrained": {"max_steps": 0},
}
IN_ITEM_MODE = {
    "control: LLM body bypassed",
    "control: small transformer instead of the LLM",
    "control: random item text",
}
"""Controls of soft tokens; where histories are read as text they mean nothing."""


def variants(config: Config) -> dict[str, dict[str, Any]]:
    """Return the changes of settings that make each row; controls that mean nothing in this history mode are left out."""
    mode = history_of(config)
    without = set() if mode.soft_tokens else IN_ITEM_MODE | (set() if mode.uses_item_table else {ADAPTER_OFF})
    for name in VARIANTS:
        if name in without:
            print(f"left out, histories are read as text: {name}", flush=True)
    return {name: change for name, change in VARIANTS.items() if name not in without}
