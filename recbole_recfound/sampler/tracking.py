"""Base of schedulers that follow the convergence of each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from recbole_recfound.sampler.convergence import GroupConvergence
from recbole_recfound.sampler.curves import LossCurves, least_squares_slopes
from recbole_recfound.sampler.scheduler import Scheduler


class ConvergenceScheduler(Scheduler):
    """Track the loss curves and, after warm-up, the convergence of each group of tasks.

    Between two probes a task counts with its last loss, so tasks may be probed in turn.

    Args:
        task_sizes: training examples of each task.
        task_groups: the group of each task.
        history: H, values in a slope and slopes in a window; at least two.
        warmup: updates before the scores count. May be longer than the history.
        tau: temperature of the divergence factor.

    Raises:
        ValueError: see `Scheduler`, or a setting out of range.
    """

    bounds: ClassVar[dict[str, dict[str, float]]] = {
        "history": {"minimum": 2},
        "warmup": {"minimum": 0},
        "tau": {"above": 0},
    }

    def __init__(
        self,
        task_sizes: Mapping[str, int],
        task_groups: Mapping[str, str],
        history: int = 64,
        warmup: int = 32,
        tau: float = 1.0,
    ) -> None:
        super().__init__(task_sizes, task_groups)
        if history < 2 or warmup < 0 or not tau > 0:
            raise ValueError(f"history >= 2, warmup >= 0, tau > 0 are needed, not {history}, {warmup}, {tau}")
        self.settings = {"history": history, "warmup": warmup, "tau": tau}
        self.curves = LossCurves(len(self.tasks), history)
        self.watched = self.watched_groups()
        self.convergence = {
            name: GroupConvergence(len(members), history, tau) for name, members in self.watched.items()
        }
        # The largest loss of each watched group at the last `history` updates, newest last.
        self._worst = np.full((len(self.watched), history), np.nan)

    @property
    def warm(self) -> bool:
        """Whether warm-up is over."""
        return self.curves.updates > self.settings["warmup"]

    def update(self, losses: Mapping[str, float]) -> None:
        """Record the probe losses of one update; the first call has the untrained ones. Tasks may be missing.

        Raises:
            ValueError: an unknown task, or a loss that is NaN or infinite.
        """
        super().update(losses)
        self.curves.add({self.tasks.index(task): float(loss) for task, loss in losses.items()})
        if self.curves.updates < 1:
            return
        worst = [self._largest(members) for members in self.watched.values()]
        self._worst = np.concatenate([self._worst[:, 1:], np.array(worst)[:, None]], axis=1)
        if self.warm:
            slopes = self.curves.slopes()
            worst_slopes = least_squares_slopes(self._worst_steps(), self._worst)
            for (name, members), worst_slope in zip(self.watched.items(), worst_slopes, strict=True):
                self.convergence[name].add(slopes[members], worst_slope)

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to resume exactly; JSON-serialisable."""
        return super().state_dict() | {
            "settings": dict(self.settings),
            "curves": self.curves.state_dict(),
            "worst": [row[~np.isnan(row)].tolist() for row in self._worst],
            "convergence": {name: group.state_dict() for name, group in self.convergence.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from `state_dict()`.

        Raises:
            ValueError: the state is of a scheduler with other tasks, groups or settings.
        """
        if state["settings"] != self.settings or set(state["convergence"]) != set(self.convergence):
            raise ValueError(f"the saved scheduler has other settings: {state['settings']}, not {self.settings}")
        super().load_state_dict(state)
        self.curves.load_state_dict(state["curves"])
        self._worst[:] = np.nan
        for row, values in zip(self._worst, state["worst"], strict=True):
            row[len(row) - len(values) :] = values
        for name, group in self.convergence.items():
            group.load_state_dict(state["convergence"][name])

    def watched_groups(self) -> dict[str, list[int]]:
        """Return the groups within which convergence is compared: the sampling groups by default."""
        return self.groups

    def _largest(self, members: list[int]) -> float:
        latest = self.curves.latest[members]
        return np.nan if np.isnan(latest).all() else np.nanmax(latest)

    def _worst_steps(self) -> np.ndarray:
        # A group has a largest loss from the first value of any of its tasks on, at every update.
        steps = np.arange(self._worst.shape[1], dtype=float)
        return np.where(np.isnan(self._worst), np.nan, steps)
