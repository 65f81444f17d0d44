"""Validation probes for the scheduler: a small fixed sample of each task, one task at a time, in turn."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from recbole_recfound.data import StepBatch
from recbole_recfound.model.gradient_cache import as_random, random_state
from recbole_recfound.runtime.options import Options, option

_SHARE = 0.02
"""Part of the time of all steps that probes may take under a time limit."""


@dataclass(frozen=True)
class ProbeOptions(Options):
    """Validation probes of the scheduler (`probe_args`).

    Attributes:
        interval: steps within which every task is probed at least once.
        size: examples in a probe.
        share: share of a task's examples set aside for its probe.
    """

    interval: int = option(63, minimum=1)
    size: int = option(4, minimum=1)
    share: float = option(0.05, above=0, below=1)


class Probes:
    """Measure task losses without training on them.

    Args:
        batches: the probe of each task, on the model's device.
        losses: maps a batch to the loss of each example (the model's `example_losses`, under the run's precision).
        interval: every task is probed at least once in this many updates.
        device: whose random state must stay as it was.
    """

    def __init__(
        self,
        batches: Mapping[str, StepBatch],
        losses: Callable[[Any], torch.Tensor],
        interval: int,
        device: torch.device,
    ) -> None:
        self.batches = dict(batches)
        self.losses = losses
        self.period = max(1, interval // max(1, len(self.batches)))
        # An interval shorter than the number of tasks needs several probes in one update.
        self.at_once = -(-len(self.batches) // max(1, interval))
        self.device = device
        self.seconds = 0.0
        self.turn = 0
        self._last: dict[str, float] = {}

    def due(self, step: int, late: bool = False) -> list[str]:
        """Return the tasks to probe after `step` updates; they take turns.

        Args:
            step: number of the step, from 1.
            late: probes would take too much time: none is due, and the turn stays with the task.
        """
        if step % self.period or late:
            return []
        names, self.turn = self._next(), (self.turn + self.at_once) % max(1, len(self.batches))
        return names

    def too_long(self, step_seconds: float) -> bool:
        """Return whether the next probes, if they take as long as they last did, bring all probes above their share.

        Args:
            step_seconds: seconds of all steps so far, their probes included.
        """
        coming = sum(self._last.get(name, 0.0) for name in self._next())
        return self.seconds + coming > _SHARE * (step_seconds + coming)

    def _next(self) -> list[str]:
        names = list(self.batches)
        return [names[(self.turn + offset) % len(names)] for offset in range(self.at_once)]

    def measure(self, model: torch.nn.Module, names: list[str]) -> dict[str, float]:
        """Compute the mean probe loss of each named task; see `examples`."""
        return {name: sum(losses) / len(losses) for name, losses in self.examples(model, names).items()}

    @torch.no_grad()
    def examples(self, model: torch.nn.Module, names: list[str]) -> dict[str, list[float]]:
        """Compute the loss of each example of the named tasks, without dropout, leaving the random state unchanged.

        Args:
            model: the model that is probed; it returns to its mode of training or eval.
            names: tasks to probe.
        """
        if not names:
            return {}
        started = time.perf_counter()
        was_training = model.training
        model.eval()
        with as_random(random_state(self.device), self.device):
            found = {name: self._losses(name) for name in names}
        model.train(was_training)
        self.seconds += time.perf_counter() - started
        return found

    def _losses(self, name: str) -> list[float]:
        started = time.perf_counter()
        losses: list[float] = torch.cat([self.losses(part) for part in self.batches[name].parts]).tolist()
        self._last[name] = time.perf_counter() - started
        return losses
