"""The history mode that the settings of a run name."""

from __future__ import annotations

from typing import Any

from recbole_recfound.runtime.device import is_gpu

AUTO, ON_GPU, ON_CPU = "auto", "positions", "item"


def history_name(config: Any) -> str:
    """Return the name of the history mode; `auto` is `positions` on a GPU and `item` elsewhere.

    Args:
        config: `history` and `device`.
    """
    name = config["history"]
    if name != AUTO:
        return name
    return ON_GPU if is_gpu(config["device"]) else ON_CPU
