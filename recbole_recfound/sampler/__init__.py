"""How many examples of each task go into a batch: S2Sched and the schedulers it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .s2sched import CoBa, S2Sched
from .scheduler import Proportional, Scheduler, Uniform

__all__ = ["SCHEDULERS", "CoBa", "Proportional", "S2Sched", "Scheduler", "Uniform", "build_scheduler"]

SCHEDULERS: dict[str, type[Scheduler]] = {
    "s2sched": S2Sched,
    "proportional": Proportional,
    "uniform": Uniform,
    "coba": CoBa,
}


def build_scheduler(
    name: str, task_sizes: Mapping[str, int], task_groups: Mapping[str, str], **options: Any
) -> Scheduler:
    """Build a scheduler by name.

    Args:
        name: one of `SCHEDULERS`.
        task_sizes: training examples of each task.
        task_groups: the group of each task.
        options: `history`, `warmup` and `tau` of the schedulers that watch losses.

    Raises:
        ValueError: unknown name, or wrong sizes, groups or options.
        TypeError: an option the scheduler does not have.
    """
    if name not in SCHEDULERS:
        raise ValueError(f"unknown scheduler {name!r}: use one of {', '.join(SCHEDULERS)}")
    return SCHEDULERS[name](task_sizes, task_groups, **options)
