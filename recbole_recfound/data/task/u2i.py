"""U2I: a user's past items to the next item."""

from dataclasses import dataclass

import numpy as np

from recbole_recfound.data.task.base import HELD_OUT, Unsupported, register_task
from recbole_recfound.data.task.embedding import EmbeddingTask
from recbole_recfound.data.task.examples import Example, PairExample, SequenceExample
from recbole_recfound.data.task.settings import EmbeddingOptions, TaskSettings
from recbole_recfound.data.task.source import HeldOut, TrainingData
from recbole_recfound.runtime.options import option


@dataclass(frozen=True)
class UserToItemOptions(EmbeddingOptions):
    """Options of U2I with `history: prompt`; elsewhere every position of a history stands against the catalogue.

    Attributes:
        hard_negatives: hard negatives per example, with `history: prompt` only, as the next two.
        history_titles: most recent items of a history that is read as a prompt.
    """

    history_titles: int = option(5, minimum=1)


@register_task("U2I")
class UserToItem(EmbeddingTask):
    """Predict a user's next item from the past items."""

    id = 0
    title = "user behaviours to item"
    record = "Emb_user"
    Options = UserToItemOptions
    options: UserToItemOptions
    prompt = "Items a user chose, oldest first. Which item comes next?\n{{ history }}"
    slots = ("history",)
    test = HELD_OUT

    def __init__(self, source: TrainingData, settings: TaskSettings) -> None:
        super().__init__(source, settings)
        self.eligible = np.flatnonzero(source.lengths >= 2)
        # Example (user, position): every position after a user's first has one target.
        self.ends = np.cumsum(source.lengths[self.eligible] - 1)
        if len(self.eligible) == 0:
            raise Unsupported("no user has two training interactions")

    def __len__(self) -> int:
        return len(self.eligible) if self.settings.sequences else int(self.ends[-1])

    @property
    def targets_per_example(self) -> float:
        """Targets of one example: those of a whole sequence, or one."""
        return float(self.ends[-1] / len(self.eligible)) if self.settings.sequences else 1.0

    def example(self, index: int) -> Example:
        """Return a whole sequence, or the history before one target."""
        if self.settings.sequences:
            user = self.eligible[index]
            return SequenceExample(self.source.users[user], tuple(self.source.history(user).tolist()))
        number = int(np.searchsorted(self.ends, index, side="right"))
        history = self.source.history(self.eligible[number])
        position = index - (self.ends[number - 1] if number else 0) + 1
        past = history[max(0, position - self.options.history_titles) : position]
        known = history[position : position + 1] if self.settings.repeatable else np.unique(history)
        negatives = self.negatives(self.draw(index), history[position], known)
        return PairExample(tuple(past.tolist()), int(history[position]), negatives, tuple(known.tolist()))

    def test_examples(self, held_out: HeldOut) -> tuple[list[Example], int]:
        """Return histories with their test item, and the number of test items."""
        examples: list[Example] = []
        held_out = held_out.only(self._ranked(held_out))
        targets, available = held_out.drawn(self.spec.id, 1, self.settings.tested(self.spec.name))
        for target in targets.tolist():
            user = held_out.user[target]
            past = held_out.data.items[held_out.data.indptr[user] : target]
            history = held_out.data.history(user)
            known = held_out.data.items[[target]] if self.settings.repeatable else np.unique(history)
            never = np.union1d(known, self.source.unlisted)
            others = self.candidates(self.source.draw(self.spec.id, target, 4), never)
            examples.append(
                PairExample(tuple(past.tolist()), int(held_out.data.items[target]), others, tuple(known.tolist()))
            )
        return examples, available

    def _ranked(self, held_out: HeldOut) -> np.ndarray:
        """Return whether each test item is new to its user and has a wrong candidate beside it."""
        data, places = held_out.data, held_out.places
        pool = np.setdiff1d(self.source.candidates, self.source.unlisted)
        if self.settings.repeatable:
            return np.full(len(places), len(pool) > 1)
        return ~data.repeated[places] & (data.unseen(pool)[held_out.user[places]] > 0)
