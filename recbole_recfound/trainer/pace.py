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
EVENED_STEPS = 10
"""Steps within which a debt or a credit of generative tasks is made up for."""
CHECKPOINTS = 4
"""Checkpoints that a training of as many steps or more ends with, for merging."""


_STATE = ("seconds", "counts", "spent", "given", "quarter", "early")


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
    spent: dict[str, float] = field(default_factory=dict)
    given: dict[str, float] = field(default_factory=dict)
    quarter: int = 0
    early: list[int] = field(default_factory=list)
    _new: set[str] = field(default_factory=set)

    def add(self, part: str, seconds: float, count: int) -> None:
        """Count what a part of a step took; what examples cost is measured without the first step, which compiles.

        Args:
            part: `RANKING`, `PAIRS`, `GENERATING` or `STEPS`.
            seconds: of the part.
            count: its examples; 1 for the others.
        """
        self.spent[part] = self.spent.get(part, 0.0) + seconds
        self.given[part] = self.given.get(part, 0.0) + count
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

    def generative(self, waiting: int = 0) -> float:
        """Return the generative examples of a step that leave embedding tasks their share; `most` before any.

        Too much or too little that was spent before, because a pass came early or examples were longer than others, is
        made up for within some steps.

        Args:
            waiting: examples that have been drawn for the next pass: they are as good as paid.
        """
        steps = self.counts.get(STEPS, 0.0)
        if not (self.share and steps and GENERATING in self.given and {RANKING, PAIRS} & self.seconds.keys()):
            return self.most
        measured = bool(self.counts.get(GENERATING))  # else there was one pass, which may have compiled
        seconds, examples = (self.seconds, self.counts) if measured else (self.spent, self.given)
        cost = seconds[GENERATING] / examples[GENERATING]
        credit = self._allowed(self.spent) - self.spent[GENERATING] - waiting * cost
        affordable = (self._allowed(self.seconds) / steps + credit / EVENED_STEPS) / cost
        return min(self.most, max(LEAST_PACE, affordable))

    @property
    def small_pass(self) -> bool:
        """Whether the next pass over generative examples is the first or second: small, since their cost is unknown.

        The first one may compile. By its price a whole second one could wait for a long time.
        """
        return bool(self.share) and not self.counts.get(GENERATING)

    def described(self, step: float, left: float, validation: float, pace: float) -> str:
        """Return what the first steps say about the rest of the training.

        Args:
            step: mean seconds of a step.
            left: seconds of the training.
            validation: seconds of one.
            pace: generative examples of a step.
        """
        left = max(0.0, left)
        return (
            f"time plan: {step:.2f} s a step, {left:.0f} s left for some {left / step:.0f} steps and their validations "
            f"({validation:.1f} s each); {pace:.2g} of {self.most:g} generative examples a step leave "
            f"embedding tasks {100 * self.share:.0f}% of the time"
        )

    def _allowed(self, seconds: dict[str, float]) -> float:
        """Return the seconds of generative tasks beside which embedding tasks have their share of all.

        Args:
            seconds: of each part.
        """
        embedding = seconds.get(RANKING, 0.0) + seconds.get(PAIRS, 0.0)
        return embedding / self.share - embedding - seconds.get(STEPS, 0.0)

    def checkpoint_due(self, progress: float) -> bool:
        """Return whether a step is followed by a validation and a checkpoint: one is due in every quarter.

        Args:
            progress: of the training, 0 to 1.
        """
        quarter, self.quarter = self.quarter, int(CHECKPOINTS * progress + 1e-9)
        return self.quarter > quarter

    def keep_early(self, step: int) -> bool:
        """Return whether a step without a validation keeps a checkpoint all the same: one of the first three.

        A step may leap over quarters, and how many are to come is not known. With these, a training of four steps or
        more ends with four checkpoints, whatever its steps take.

        Args:
            step: that has been made.
        """
        kept = step < CHECKPOINTS
        if kept:
            self.early.append(step)
        return kept

    def superfluous(self, later: int) -> list[int]:
        """Return the early checkpoints, of one step each, that are not needed any more, oldest first.

        Args:
            later: number of the other checkpoints.
        """
        count = max(0, len(self.early) + min(later, CHECKPOINTS) - CHECKPOINTS)
        dropped, self.early = self.early[:count], self.early[count:]
        return dropped

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
