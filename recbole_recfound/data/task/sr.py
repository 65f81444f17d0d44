"""SR: sequential recommendation."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from recbole_recfound.data.task.answers import LETTERS, parse_next_item
from recbole_recfound.data.task.base import register_task
from recbole_recfound.data.task.examples import Example, GenerativeExample
from recbole_recfound.data.task.interactions import InteractionTask
from recbole_recfound.data.task.metrics import LetterRecall
from recbole_recfound.data.task.negatives import draw_negatives
from recbole_recfound.data.task.settings import HistoryOptions, TaskSettings
from recbole_recfound.data.task.source import TrainingData
from recbole_recfound.runtime.options import option


@dataclass(frozen=True)
class SequentialRecommendationOptions(HistoryOptions):
    """Options of SR.

    Attributes:
        form: `letters` (the answer is the letter of a listed candidate) or `title` (the title of any item).
        candidates: lettered candidates, the target included.
    """

    form: str = option("letters", choices=("letters", "title"))
    candidates: int = option(20, minimum=2, maximum=len(LETTERS))


@register_task("SR")
class SequentialRecommendation(InteractionTask):
    """Name the next item of a history: by the letter of a listed candidate, or by its title."""

    id = 4
    title = "sequential recommendation"
    record = "Sequential_Recommendation"
    Options = SequentialRecommendationOptions
    options: SequentialRecommendationOptions
    prompt = (
        "A user chose these items, oldest first:\n{{ history }}\n\n"
        "Which of the following comes next?\n{{ candidates }}\nAnswer with one letter."
    )
    title_prompt = (
        "A user chose these items, oldest first:\n{{ history }}\n\nWhich item comes next? Answer with its title."
    )
    slots: tuple[str, ...] = ("history", "candidates")
    uncut = ("candidates",)
    metrics = (LetterRecall,)
    closed = True
    minimum = 2

    def __init__(self, source: TrainingData, settings: TaskSettings) -> None:
        super().__init__(source, settings)
        if self.titled:
            self.prompt, self.slots = self.title_prompt, ("history",)

    def suitable(self, positions: np.ndarray) -> np.ndarray:
        """Return the interactions that leave a wrong candidate; see `InteractionTask.suitable`."""
        if self.titled:
            return positions
        if self.settings.repeatable:
            return positions[: len(positions) if len(self.source.candidates) > 1 else 0]
        # A user who has every item leaves no wrong candidate.
        others = self.source.unseen(self.source.candidates)
        positions = positions[others[self.user[positions]] > 0]
        # The one old item among the candidates would be the answer.
        return positions[~self.source.repeated[positions]]

    @property
    def titled(self) -> bool:
        """Whether the answer is the title of an item, not a letter."""
        return self.options.form == "title"

    @property
    def choices(self) -> tuple[str, ...]:
        """The letters of all candidates, or the titles of all items that can be an answer."""
        if self.titled:
            catalogue = self.source.catalogue
            return tuple(dict.fromkeys(catalogue.title_of(row) for row in self.source.candidates.tolist()))
        return tuple(LETTERS[: self.options.candidates])

    def example(self, index: int) -> Example:
        """Return a history with its next item."""
        user, position, start = self.at(index)
        history = ("titles", tuple(self.source.items[start:position].tolist()))
        target, rng = int(self.source.items[position]), self.draw(index)
        if self.titled:
            return GenerativeExample({"history": history}, self.source.catalogue.title_of(target))
        known = np.array([target]) if self.settings.repeatable else self.source.history(user)
        negatives = draw_negatives(rng, self.options.candidates - 1, self.source.candidates, known)
        candidates = rng.permutation(np.array([target, *negatives])).tolist()
        slots = {"history": history, "candidates": ("lettered", tuple(candidates))}
        return GenerativeExample(slots, LETTERS[candidates.index(target)])

    @classmethod
    def parse(cls, text: str, choices: Collection[str]) -> str | None:
        """Parse a letter where candidates are lettered, else a title.

        See `Task.parse`.
        """
        return parse_next_item(text, choices)

    @classmethod
    def record_choices(cls, answers: Collection[str]) -> tuple[str, ...]:
        """Return all letters up to the last one (some may be no answer in training), or the sorted answers."""
        if set(answers) <= set(LETTERS):
            return tuple(LETTERS[: LETTERS.index(max(answers)) + 1])
        return super().record_choices(answers)
