"""Base of all schedulers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from recbole_recfound.runtime import registry
from recbole_recfound.sampler.allocation import allocate


class Scheduler(ABC):
    """Decide how many examples of each task are in a batch.

    The groups (embedding and generative tasks) have fixed shares of the batch: a scheduler only divides within them. A
    subclass defines `shares` and is registered with `SCHEDULERS.register`.

    Args:
        task_sizes: training examples of each task.
        task_groups: the group of each task.

    Raises:
        ValueError: no tasks, a task without size or group, or a size below one.
    """

    def __init__(self, task_sizes: Mapping[str, int], task_groups: Mapping[str, str]) -> None:
        if not task_sizes or set(task_sizes) != set(task_groups):
            raise ValueError(f"tasks need a size and a group each: {sorted(task_sizes)} and {sorted(task_groups)}")
        for task, size in task_sizes.items():
            if not size >= 1:
                raise ValueError(f"task {task} has {size} training examples: at least one is needed")
        self.tasks = list(task_sizes)
        self.sizes = np.array([float(size) for size in task_sizes.values()])
        self.groups: dict[str, list[int]] = {}
        for index, task in enumerate(self.tasks):
            self.groups.setdefault(task_groups[task], []).append(index)
        self._carried = np.zeros(len(self.tasks))

    def update(self, losses: Mapping[str, float]) -> None:
        """Record probe losses; the first call has the untrained ones. Tasks may be missing.

        Raises:
            ValueError: an unknown task, or a loss that is NaN or infinite.
        """
        for task, loss in losses.items():
            if task not in self.tasks:
                raise ValueError(f"unknown task {task!r}: the scheduler has {', '.join(self.tasks)}")
            if not math.isfinite(loss):
                raise ValueError(f"the probe loss of task {task} is {float(loss)}")

    def weights(self) -> dict[str, float]:
        """Return the sampling share of each task; sums to one within each group."""
        return dict(zip(self.tasks, self.shares().tolist(), strict=True))

    def loss_weights(self) -> dict[str, float]:
        """Return the factor on each task's loss; 1 unless the scheduler weighs losses instead of examples."""
        return dict.fromkeys(self.tasks, 1.0)

    def allocate(self, batch_sizes: Mapping[str, int]) -> dict[str, int]:
        """Return the number of examples of each task in the next batch.

        Fractions are carried over, so that a task with a share of .05 is sampled in batches of eight too.

        Args:
            batch_sizes: examples per group; groups that are left out get none.

        Returns:
            Counts that sum to the size of each group exactly.

        Raises:
            ValueError: an unknown group or a negative size.
        """
        counts = np.zeros(len(self.tasks), dtype=np.int64)
        shares = self.shares()
        for group, size in batch_sizes.items():
            if group not in self.groups:
                raise ValueError(f"unknown group {group!r}: the scheduler has {', '.join(self.groups)}")
            if size < 0:
                raise ValueError(f"the batch size of group {group} is {size}")
            members = self.groups[group]
            counts[members], self._carried[members] = allocate(shares[members], size, self._carried[members])
        return dict(zip(self.tasks, counts.tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to resume exactly; JSON-serialisable."""
        return {"tasks": self.tasks, "carried": self._carried.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from `state_dict()`.

        Raises:
            ValueError: the state is of a scheduler with other tasks or settings.
        """
        if state["tasks"] != self.tasks:
            raise ValueError(f"the saved scheduler has other tasks: {state['tasks']}, not {self.tasks}")
        self._carried = np.array(state["carried"], dtype=float)

    @abstractmethod
    def shares(self) -> np.ndarray:
        """Return sampling shares [tasks] in the order of `self.tasks`: positive, summing to one within each group."""

    def within_groups(self, values: np.ndarray) -> np.ndarray:
        """Return positive values [tasks] scaled to sum to one within each group."""
        shares = np.empty_like(values)
        for members in self.groups.values():
            shares[members] = values[members] / values[members].sum()
        return shares


SCHEDULERS: registry.Registry[type[Scheduler]] = registry.SCHEDULERS
"""All schedulers by name; options are the parameters of the constructor besides `task_sizes` and `task_groups`."""
