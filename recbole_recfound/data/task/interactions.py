"""Generative tasks with one example per training interaction."""

import copy

import numpy as np

from recbole_recfound.data.task.base import HELD_OUT, GenerativeTask, Unsupported
from recbole_recfound.data.task.examples import Example
from recbole_recfound.data.task.settings import HistoryOptions, TaskSettings
from recbole_recfound.data.task.source import HeldOut, TrainingData


class InteractionTask(GenerativeTask):
    """A task with one example per training interaction that has at least `minimum` earlier ones.

    Its test examples are test interactions after the user's whole history.

    Args:
        source: training data.
        settings: settings of all tasks of the run.

    Raises:
        Unsupported: no user has enough interactions.
    """

    Options = HistoryOptions
    options: HistoryOptions
    test = HELD_OUT
    minimum = 1

    def __init__(self, source: TrainingData, settings: TaskSettings) -> None:
        super().__init__(source, settings)
        user = np.repeat(np.arange(len(source.users)), source.lengths)
        position = np.arange(len(source.items)) - source.indptr[user]
        self.user = user
        positions = np.flatnonzero(position >= self.minimum)
        if len(positions) == 0:
            raise Unsupported(f"no user has more than {self.minimum} training interactions")
        self.positions = self.capped(self.suitable(positions))

    def suitable(self, positions: np.ndarray) -> np.ndarray:
        """Return those of some interactions of `source` that an example can ask for; by default all.

        Args:
            positions: indices in the flat interactions, sorted.
        """
        return positions

    def __len__(self) -> int:
        return len(self.positions)

    def test_examples(self, held_out: HeldOut) -> tuple[list[Example], int]:
        """Return examples of sampled test interactions, and the number of suitable test interactions."""
        tested = copy.copy(self)
        tested.source, tested.user = held_out.data, held_out.user
        held_out = held_out.only(np.isin(held_out.places, tested.suitable(held_out.places)))
        count = self.settings.tested(self.spec.name)
        tested.positions, available = held_out.drawn(self.spec.id, self.minimum, count)
        return [tested.example(index) for index in range(len(tested.positions))], available

    def at(self, index: int) -> tuple[int, int, int]:
        """Return the user, the target's index in the flat interactions, and that of the prompt's first item."""
        target = int(self.positions[index])
        user = int(self.user[target])
        return user, target, max(int(self.source.indptr[user]), target - self.options.history_titles)
