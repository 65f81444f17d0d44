"""The history mode that a run's settings name."""

from __future__ import annotations

from typing import Any

from recbole_recfound.runtime.device import is_gpu


def settled_history_mode(config: Any) -> str:
    """Return `history_mode` with `auto` replaced by its meaning on this device: `text` on a GPU, else `item`.

    Args:
        config: settings, with `device`.
    """
    mode = config["history_mode"]
    return mode if mode != "auto" else "text" if is_gpu(config["device"]) else "item"


def history_name(config: Any) -> str:
    """Return the name of the history mode, as modes register it: `item`, `positions` or `prompt`.

    Args:
        config: settings, with `device`.
    """
    mode = settled_history_mode(config)
    return config["text_form"] if mode == "text" else mode
