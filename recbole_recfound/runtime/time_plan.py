"""The time plan of a run: its limit, what is kept for which part, and where the seconds went."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ELASTIC_SHARE = 1 / 3
"""What parts that can be shortened may take of the time that training could have without them."""
PREPARATION = "data and backbone"
"""What comes before the first row of the table."""


class TimePlan:
    """Seconds of a run: a limit for the whole, parts that training must leave, and the time that each part took.

    Args:
        seconds: for the whole run; 0 = no limit.
        clock: monotonic clock, another one in tests.

    Attributes:
        reserved: seconds kept for the parts after training, by name.
        elastic: those of them that can be shortened, so that a slow machine trains too.
        most: seconds that a part before the training may take at most, by name.
        within: what is kept of the training for a part of it, in words.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = float(seconds)
        self.clock = clock
        self.start = clock()
        self.reserved: dict[str, float] = {}
        self.elastic: set[str] = set()
        self.most: dict[str, float] = {}
        self.within = ""
        self._spent: dict[str, float] = {}
        self._before: dict[str, float] = {}
        self._running: list[str] = []
        self._between = PREPARATION
        self._since = self.start

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self.seconds > 0

    def elapsed(self) -> float:
        """Return the seconds since the run began."""
        return self.clock() - self.start

    def deadline(self, share: float = 1.0) -> float | None:
        """Return the time at which `share` of the limit is spent; None without a limit."""
        return self.start + share * self.seconds if self.limited else None

    def remaining(self) -> float:
        """Return the seconds left: infinity without a limit, never negative."""
        return max(0.0, self.seconds - self.elapsed()) if self.limited else float("inf")

    # Accounts --------------------------------------------------------------------------------------------------------

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the seconds of a block for one part of the run; those of a block inside it count for that one alone.

        Args:
            name: of the part, as the report shows it.
        """
        self._switch()
        self._running.append(name)
        self._between = "other"
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

    def _switch(self) -> None:
        now = self.clock()
        name = self._running[-1] if self._running else self._between
        if now > self._since:
            self._spent[name] = self._spent.get(name, 0.0) + now - self._since
        self._since = now

    def spent_on(self, name: str) -> float:
        """Return the seconds of one part so far.

        Args:
            name: of the part.
        """
        return self.spent().get(name, 0.0)

    def spent(self) -> dict[str, float]:
        """Return the seconds of each part so far, in the order in which they first ran; their sum is `elapsed`."""
        self._switch()
        return dict(self._spent)

    def resume(self, spent: dict[str, float]) -> None:
        """Count what the run took before it was cut off: the limit is on the whole run.

        Of several accounts of that time (of the run folder, of checkpoints) the longest counts.

        Args:
            spent: what `spent` returned then.
        """
        before, more = self._before, sum(spent.values()) - sum(self._before.values())
        if more <= 0:
            return
        self.start -= more
        names = {**spent, **self._spent}
        self._spent = {
            name: spent.get(name, 0.0) + self._spent.get(name, 0.0) - before.get(name, 0.0) for name in names
        }
        self._before = dict(spent)

    # The plan --------------------------------------------------------------------------------------------------------

    def kept(self, both: float = math.inf) -> float:
        """Return the seconds that training must leave for what comes after it, besides what it plans for itself.

        Args:
            both: seconds for training and these parts; elastic ones have a share of them at most.
        """
        elastic = sum(seconds for name, seconds in self.reserved.items() if name in self.elastic)
        fixed = sum(self.reserved.values()) - elastic
        return fixed + min(elastic, ELASTIC_SHARE * max(0.0, both - fixed))

    def described(self) -> str:
        """Return the plan as one line."""
        if not self.limited:
            return "time plan: no limit (time_budget: 0)"
        parts = [f"{name} at most {seconds:.0f} s" for name, seconds in self.most.items()]
        parts += [f"{name} {seconds:.0f} s" for name, seconds in self.reserved.items() if seconds]
        both = max(0.0, self.seconds - sum(self.most.values()) - self.elapsed())
        training = f"training ({self.within})" if self.within else "training"
        parts.append(
            f"{self.elapsed():.0f} s are spent, {max(0.0, both - self.kept(both)):.0f} s or more for texts, "
            f"{training}, its validations and the choice of weights"
        )
        return f"time plan: {self.seconds:.0f} s for the whole run: {', '.join(parts)}"


def turn(deadline: float | None, left: int, now: float | None = None) -> float | None:
    """Return the deadline of the first of `left` trainings, so that each of them gets the same time.

    Args:
        deadline: a time of `time.monotonic()`; None: no limit.
        left: number of trainings that have not started, including this one.
        now: another time than the present, in tests.
    """
    if deadline is None:
        return None
    now = time.monotonic() if now is None else now
    return now + max(0.0, deadline - now) / left
