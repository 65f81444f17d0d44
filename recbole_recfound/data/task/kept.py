"""Tasks whose test is about items, users or queries that have no training example."""

from abc import abstractmethod

import numpy as np

from recbole_recfound.data.task.base import KEPT, TASKS, GenerativeTask, Unsupported
from recbole_recfound.data.task.examples import Example, GenerativeExample
from recbole_recfound.data.task.settings import TaskSettings
from recbole_recfound.data.task.source import HeldOut, TrainingData

KEPT_SHARE = 0.05
"""Largest share of all items (users, queries) that is excluded from training for the test."""


def kept_for_test(source: TrainingData, settings: TaskSettings, population: np.ndarray) -> np.ndarray:
    """Return items (users, queries) without training examples, in random order.

    The draw does not depend on the task and covers the largest test of all tasks: no task is trained to write the test
    answers of another.

    Args:
        source: its seed decides the draw.
        settings: `test_examples` of all tasks.
        population: [n] items (users, queries).
    """
    most = max(settings.tested(name) for name, task in TASKS.items() if task.test == KEPT)
    count = min(most, int(KEPT_SHARE * len(population)))
    return population[source.draw(0x7E57, len(population)).permutation(len(population))[:count]]


class ItemTask(GenerativeTask):
    """A task with one example per suitable item; some items are excluded from training for the test.

    Args:
        source: training data.
        settings: settings of all tasks of the run.

    Attributes:
        needs: error message if no item is suitable.

    Raises:
        Unsupported: no item is suitable.
    """

    test = KEPT
    needs = "no item has what this task needs"

    def __init__(self, source: TrainingData, settings: TaskSettings) -> None:
        super().__init__(source, settings)
        kept = kept_for_test(source, settings, self.population)
        suitable = np.array([row for row in self.population.tolist() if self.suits(row)], dtype=np.int64)
        self.rows = self.capped(np.setdiff1d(suitable, self.same_prompt(kept))).tolist()
        self.test_rows = kept[np.isin(kept, suitable)].tolist()
        if not self.rows:
            raise Unsupported(self.needs)

    @property
    def population(self) -> np.ndarray:
        """Catalogue rows of the items (or numbers of the users) that examples are about."""
        return self.source.candidates

    def same_prompt(self, rows: np.ndarray) -> np.ndarray:
        """Return `rows` and all further rows with the same title, in any spelling, and therefore the same prompt."""
        return self.source.catalogue.same_title(rows)

    @abstractmethod
    def suits(self, row: int) -> bool:
        """Return whether the item (or user) has everything an example needs."""

    @abstractmethod
    def of_row(self, row: int) -> GenerativeExample:
        """Return the example of one item (or user)."""

    def __len__(self) -> int:
        return len(self.rows)

    def example(self, index: int) -> Example:
        """Return training example `index`."""
        return self.of_row(self.rows[index])

    def test_examples(self, held_out: HeldOut) -> tuple[list[Example], int]:
        """Return examples of the items (or users) that are excluded from training, and their number."""
        tested = self.test_rows[: self.settings.tested(self.spec.name)]
        return [self.of_row(row) for row in tested], len(self.test_rows)


class UserTask(ItemTask):
    """A task with one example per suitable user; some users are excluded from training for the test."""

    needs = "no user has what this task needs"

    @property
    def population(self) -> np.ndarray:
        """Numbers of all users."""
        return np.arange(len(self.source.users))

    def same_prompt(self, rows: np.ndarray) -> np.ndarray:
        """Return `rows`: users have no titles."""
        return rows
