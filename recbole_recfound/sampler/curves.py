"""Loss curves of all tasks and the slopes of their latest values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

#: Losses relative to the untrained one are cut here: beyond, sums of them would overflow.
LARGEST = 1e30


class LossCurves:
    """Latest values of every task's probe loss, relative to its untrained loss (RecFound S2Sched).

    Args:
        num_tasks: number of tasks.
        history: H, how many values of each task are kept.

    Attributes:
        updates: number of updates so far, not counting the first call.
        latest: [tasks] last relative loss, NaN for tasks never seen.
    """

    def __init__(self, num_tasks: int, history: int) -> None:
        self.updates = -1
        self.untrained = np.full(num_tasks, np.nan)
        self.latest = np.full(num_tasks, np.nan)
        # Right-aligned, newest last, NaN for missing values, so that a resumed run has the same layout.
        self._steps = np.full((num_tasks, history), np.nan)
        self._values = np.full((num_tasks, history), np.nan)

    def add(self, losses: Mapping[int, float]) -> None:
        """Record the losses of one update by task index; a task's first one is its untrained loss."""
        self.updates += 1
        for task, loss in losses.items():
            if np.isnan(self.untrained[task]):
                self.untrained[task] = max(loss, 1e-8)
            else:
                self._append(task, min(max(loss / float(self.untrained[task]), -LARGEST), LARGEST))

    def slopes(self) -> np.ndarray:
        """Return slopes per update [tasks] of the least-squares line through each task's values; 0 below two values."""
        return least_squares_slopes(self._steps, self._values)

    def state_dict(self) -> dict[str, Any]:
        """Return the state, JSON-serialisable."""
        seen = ~np.isnan(self._steps)
        return {
            "updates": self.updates,
            "untrained": _to_list(self.untrained),
            "steps": [row[kept].astype(int).tolist() for row, kept in zip(self._steps, seen, strict=True)],
            "values": [row[kept].tolist() for row, kept in zip(self._values, seen, strict=True)],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from `state_dict()`."""
        num_tasks, history = self._steps.shape
        LossCurves.__init__(self, num_tasks, history)
        self.updates = state["updates"]
        self.untrained = np.array(state["untrained"], dtype=float)
        for task, (steps, values) in enumerate(zip(state["steps"], state["values"], strict=True)):
            if steps:
                self._steps[task, -len(steps) :] = steps
                self._values[task, -len(values) :] = values
                self.latest[task] = values[-1]

    def _append(self, task: int, value: float) -> None:
        for row, new in ((self._steps[task], self.updates), (self._values[task], value)):
            row[:-1] = row[1:]
            row[-1] = new
        self.latest[task] = value


def least_squares_slopes(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the slopes of the least-squares lines through the points of each row.

    Args:
        steps: [rows, H] abscissae, NaN where a row has no point.
        values: [rows, H].

    Returns:
        [rows]; 0 for rows with fewer than two points, and for slopes within the rounding of their values: the scores
        compare slopes with each other, so that the noise of flat curves would count like convergence.
    """
    seen = ~np.isnan(steps)
    count = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    x = np.where(seen, steps, 0.0)
    y = np.where(seen, values, 0.0)
    x = np.where(seen, x - x.sum(axis=1, keepdims=True) / count, 0.0)
    rounding = count[:, 0] * np.finfo(float).eps * np.abs(y).max(axis=1) * np.abs(x).sum(axis=1)
    y = np.where(seen, y - y.sum(axis=1, keepdims=True) / count, 0.0)
    spread, product = (x * x).sum(axis=1), (x * y).sum(axis=1)
    return np.divide(product, spread, out=np.zeros(len(x)), where=(spread > 0) & (np.abs(product) > rounding))


def _to_list(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
