"""Schedulers: how many examples of each task are in a batch. S2Sched and alternatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_recfound.sampler.coba import CoBa
from recbole_recfound.sampler.proportional import Proportional
from recbole_recfound.sampler.s2sched import S2Sched
from recbole_recfound.sampler.scheduler import SCHEDULERS, Scheduler
from recbole_recfound.sampler.uniform import Uniform

__all__ = ["SCHEDULERS", "CoBa", "Proportional", "S2Sched", "Scheduler", "Uniform", "build_scheduler"]


def build_scheduler(
    name: str, task_sizes: Mapping[str, int], task_groups: Mapping[str, str], **options: Any
) -> Scheduler:
    """Return a scheduler.

    Args:
        name: one of `SCHEDULERS`.
        task_sizes: training examples of each task.
        task_groups: the group of each task.
        options: further parameters of the scheduler's constructor.

    Raises:
        ConfigError: unknown name.
        ValueError: wrong sizes, groups or options.
        TypeError: an option the scheduler does not have.
    """
    return SCHEDULERS[name](task_sizes, task_groups, **options)
