"""The run's clock: time for training, and time reserved for what follows."""

import time
from collections.abc import Callable


class Budget:
    """The time limit of a run, in seconds.

    Args:
        seconds: for the whole run; 0 = no limit.
        clock: monotonic clock, another one in tests.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = float(seconds)
        self.clock = clock
        self.start = clock()
        self.reserved = 0.0
        """Seconds that training must leave besides what it plans for itself."""

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self.seconds > 0

    def elapsed(self) -> float:
        """Return the seconds since the run began."""
        return self.clock() - self.start

    def spend(self, seconds: float) -> None:
        """Count what the run took before it was cut off: the limit is on the whole run."""
        self.start -= seconds

    def deadline(self, share: float = 1.0) -> float | None:
        """Return the time at which `share` of the limit is spent; None without a limit."""
        return self.start + share * self.seconds if self.limited else None

    def remaining(self) -> float:
        """Return the seconds left: infinity without a limit, never negative."""
        return max(0.0, self.seconds - self.elapsed()) if self.limited else float("inf")


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
