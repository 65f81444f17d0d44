"""Pace of a training under a time limit: how many generative examples a step has, and when it is validated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from recbole_recfound.data.batches import Part
from recbole_recfound.data.task import GENERATIVE, TASKS

RANKING, PAIRS, GENERATING, STEPS = "ranking", "pairs of texts", "generative tasks", "optimiser, data, probes"
"""Parts of the training as the report shows them."""
LEAST_PACE = 1 / 16
"""Generative examples of a step on the slowest machine: every task is trained."""
CHECKPOINTS = 4
"""Checkpoints that a training of as many steps or more ends with, for merging."""
CAUTION = 0.25
"""Share of the expected steps that is counted on: steps differ, and a machine may become slower."""


_STATE = ("seconds", "counts", "quarter", "validated", "before")


@dataclass
class Pace:
    """Keep a share of the training's time for embedding tasks, by the number of generative examples in a step.

    A pass over generative examples runs all layers of the LLM, one over histories a few: on a slow machine examples of
    the same number would take most of the time. Without a limit, or without one of the two, sizes stay as configured.

    Args:
        most: generative examples of a step as configured.
        share: part of the time that is kept for embedding tasks; 0: none.
    """

    most: float
    share: float
    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    quarter: int = 0
    validated: int = 0
    before: float = 0.0
    _new: set[str] = field(default_factory=set)

    def add(self, part: str, seconds: float, count: int) -> None:
        """Count what a part of a step took; the first step with such parts, which compiles and allocates, is left out.

        Args:
            part: `RANKING`, `PAIRS`, `GENERATING` or `STEPS`.
            seconds: of the part.
            count: its examples; 1 for the others.
        """
        if part in self.counts:
            self.seconds[part] += seconds
            self.counts[part] += count
        else:
            self._new.add(part)

    def end_step(self) -> None:
        """End a step: parts that it was the first to have are counted from now on."""
        for part in self._new:
            self.counts[part] = self.seconds[part] = 0.0
        self._new.clear()

    def generative(self) -> float:
        """Return the generative examples of a step that leave the others their share; `most` if unmeasured."""
        steps, examples = self.counts.get(STEPS, 0.0), self.counts.get(GENERATING, 0.0)
        if not (self.share and steps and examples and {RANKING, PAIRS} & self.seconds.keys()):
            return self.most
        embedding = (self.seconds.get(RANKING, 0.0) + self.seconds.get(PAIRS, 0.0)) / steps
        others = self.seconds[STEPS] / steps
        affordable = (embedding / self.share - embedding - others) / (self.seconds[GENERATING] / examples)
        return min(self.most, max(LEAST_PACE, affordable))

    def checkpoint_due(self, progress: float) -> bool:
        """Return whether a step is followed by a checkpoint, so that the training ends with four; asked after each.

        One is due in every quarter. In a training of few steps, of which one may leap over a quarter, further ones are:
        whenever a quarter of the steps that the last one lets expect are fewer than the checkpoints still needed.

        Args:
            progress: of the training, 0 to 1.
        """
        length, self.before = progress - self.before, progress
        quarter, self.quarter = self.quarter, int(CHECKPOINTS * progress + 1e-9)
        few = (1.0 - progress) * CAUTION < length * (CHECKPOINTS - 1 - self.validated)  # the last step has one
        due = self.quarter > quarter or few
        self.validated += due
        return due

    def next_step(self, progress: float) -> None:
        """Note where the next step begins: validations between steps are no part of their length.

        Args:
            progress: of the training, 0 to 1.
        """
        self.before = progress

    def state_dict(self) -> dict[str, Any]:
        """Return what an exact resume needs; JSON-serialisable."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        for name in _STATE:
            setattr(self, name, state[name])


def account_of(part: Part, ranks: str) -> str:
    """Return the account that a part of a batch is timed for.

    Args:
        part: examples of one form; of texts of several tasks the first one counts.
        ranks: the task whose items are ranked.
    """
    if TASKS[part.tasks[0]].kind == GENERATIVE:
        return GENERATING
    return RANKING if part.tasks[0] == ranks else PAIRS
