"""The time of the tests of the tasks: as many examples of each as there is time for."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from recbole_recfound.data.task import EMBEDDING, TASKS
from recbole_recfound.data.task_tests import TaskTest, TestOptions
from recbole_recfound.runtime.exchange import broadcast

SAMPLE = 4
"""Examples by which the time of the others is estimated."""


class TaskTime:
    """Divides the time that is left among tests: one after the other has as many examples as its part allows.

    Args:
        options: say how many examples are asked, for the time they take.
        tests: in their order.
        seconds_left: for all of them.
    """

    def __init__(self, options: TestOptions, tests: Sequence[TaskTest], seconds_left: Callable[[], float]) -> None:
        self.options, self.waiting, self.seconds_left = options, list(tests), seconds_left
        self.seconds: dict[str, float] = {}  # of an example, by form

    def examined(self, test: TaskTest, examine: Callable[[TaskTest], dict[str, Any]]) -> dict[str, Any]:
        """Return what a test finds on as many of its examples as there is time for, at least on one.

        Where the form is new, on one example and then on a few first: one alone may encode a catalogue, and many
        together take less.

        Args:
            test: the next one.
            examine: asks all examples of a test.
        """
        self.waiting.pop(0)
        result: dict[str, Any] = {}
        count, whole = 0, len(test.examples)
        while count < whole:
            size = max(1, min(whole, self._affordable(test)))
            if count == 1:
                size = min(whole, SAMPLE) if self._fits(test, SAMPLE) else min(size, SAMPLE)
            if size < whole and size < 2 * count:  # not worth scoring the others again
                break
            part = shortened(test, size)
            started = time.monotonic()
            result = examine(part)
            new = part.asked(self.options)
            if form_of(test) != EMBEDDING:  # answers are remembered
                new *= (size - count) / size
            self.seconds[form_of(test)] = broadcast((time.monotonic() - started) / new)
            count = size
        return result

    def _affordable(self, test: TaskTest) -> int:
        """Return for how many examples there is time: an equal part, or what tests of known forms leave of all."""
        left = broadcast(self.seconds_left())
        if math.isinf(left):
            return len(test.examples)
        if form_of(test) not in self.seconds:
            return 1
        allowed = left / (1 + len(self.waiting))
        if all(form_of(other) in self.seconds for other in self.waiting):
            allowed = max(allowed, left - sum(self._whole(other) for other in self.waiting))
        return int(len(test.examples) * allowed / max(self._whole(test), 1e-9))

    def _fits(self, test: TaskTest, count: int) -> bool:
        return broadcast(self.seconds_left()) > count / len(test.examples) * self._whole(test)

    def _whole(self, test: TaskTest) -> float:
        return self.seconds[form_of(test)] * test.asked(self.options)


def form_of(test: TaskTest) -> str:
    """Return what decides how long an example of a test takes: pairs, closed answers or free text.

    Args:
        test: of one task.
    """
    if TASKS[test.task].kind == EMBEDDING:
        return EMBEDDING
    return "closed answers" if test.choices else "free text"


def shortened(test: TaskTest, count: int) -> TaskTest:
    """Return a test with the first examples, which are in random order, and a threshold's part in proportion.

    Args:
        test: of one task.
        count: of examples.
    """
    valid = math.ceil(count / len(test.examples) * len(test.valid))
    return replace(test, examples=test.examples[:count], valid=test.valid[:valid])
