"""Convergence scores of a group of tasks (CoBa, arXiv 2410.06741, as used by RecFound S2Sched)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def relative_convergence_scores(slopes: np.ndarray) -> np.ndarray:
    """Return scores [K] that sum to one, larger for tasks that converge slowly, from slopes [K] (CoBa RCS)."""
    return softmax(len(slopes) * _relative(slopes, np.abs(slopes).sum()))


def absolute_convergence_scores(window: np.ndarray) -> np.ndarray:
    """Return scores that are smaller for tasks that diverge compared with their past (CoBa ACS).

    Args:
        window: [K, n] the last n slopes of each task, newest last.

    Returns:
        Scores [K] that sum to one.
    """
    return softmax(-window.shape[1] * _relative(window[:, -1], np.abs(window).sum(axis=1)))


def divergence_factor(slopes: np.ndarray, tau: float) -> float:
    """Return 1 while the worst task of the group improves steadily, towards 0 when it diverges (CoBa DF).

    Args:
        slopes: [N] slopes of the group's largest relative loss over the whole run, newest last.
        tau: temperature.
    """
    count = len(slopes)
    share = softmax(-tau * count * _relative(slopes, np.abs(slopes).sum()))[-1]
    return min(count * share, 1.0)


def softmax(values: np.ndarray) -> np.ndarray:
    """Return the softmax of a vector."""
    exponentials = np.exp(values - values.max())
    return exponentials / exponentials.sum()


class GroupConvergence:
    """State of one group: recent slopes of its tasks, and slopes of its worst task.

    Args:
        num_tasks: K.
        history: H, length of the windows.
        tau: temperature of the divergence factor.
    """

    def __init__(self, num_tasks: int, history: int, tau: float) -> None:
        self.history = history
        self.tau = tau
        self.window = np.zeros((num_tasks, 0))
        self._worst_slopes = np.zeros(64)
        self._count = 0

    @property
    def worst_slopes(self) -> np.ndarray:
        """[N] slopes of the group's largest loss, one per update since warm-up."""
        return self._worst_slopes[: self._count]

    def add(self, slopes: np.ndarray, worst_slope: float) -> None:
        """Record one update after warm-up: slopes [K] of the tasks and the slope of the group's largest loss.

        Args:
            slopes: [K] slopes of the tasks.
            worst_slope: slope of the group's largest loss.
        """
        self.window = np.concatenate([self.window, slopes[:, None]], axis=1)[:, -self.history :]
        if self._count == len(self._worst_slopes):
            self._worst_slopes = np.concatenate([self._worst_slopes, np.zeros(self._count)])
        self._worst_slopes[self._count] = worst_slope
        self._count += 1

    def mixed_scores(self) -> np.ndarray:
        """Return `DF * RCS + (1 - DF) * ACS` [K], summing to one."""
        factor = divergence_factor(self.worst_slopes, self.tau)
        relative = relative_convergence_scores(self.window[:, -1])
        return factor * relative + (1 - factor) * absolute_convergence_scores(self.window)

    def state_dict(self) -> dict[str, Any]:
        """Return the state, JSON-serialisable."""
        return {"window": self.window.tolist(), "worst_slopes": self.worst_slopes.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from `state_dict()`."""
        self.window = np.array(state["window"], dtype=float).reshape(len(self.window), -1)
        self._worst_slopes = np.array(state["worst_slopes"] + [0.0] * 64)
        self._count = len(state["worst_slopes"])


def _relative(values: np.ndarray, total: np.ndarray | float) -> np.ndarray:
    """Return values / total, and 0 where the total is 0: a flat history favours no task."""
    total = np.broadcast_to(total, values.shape)
    return np.divide(values, total, out=np.zeros(values.shape), where=total > 0)
