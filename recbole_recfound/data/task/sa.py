"""SA: sentiment analysis, as the prediction of ratings."""

from collections.abc import Collection

import numpy as np

from recbole_recfound.data.task.answers import parse_label
from recbole_recfound.data.task.base import Unsupported, register_task
from recbole_recfound.data.task.examples import Example, GenerativeExample
from recbole_recfound.data.task.facts import number
from recbole_recfound.data.task.interactions import InteractionTask
from recbole_recfound.data.task.metrics import MacroF1
from recbole_recfound.data.task.settings import TaskSettings
from recbole_recfound.data.task.source import TrainingData


@register_task("SA")
class RatingPrediction(InteractionTask):
    """Predict the rating a user gave an item, from a history of rated items."""

    id = 6
    title = "sentiment analysis"
    record = "Sentiment_Analysis"
    prompt = (
        "A user rated items:\n{{ history }}\n\n"
        "How will the user rate this item? Answer with one of {{ ratings }}.\n{{ item }}"
    )
    slots = ("history", "item", "ratings")
    uncut = ("ratings",)
    metrics = (MacroF1,)
    closed = True
    reads_ratings = True
    note = "ratings as sentiment classes"
    max_classes = 10

    def __init__(self, source: TrainingData, settings: TaskSettings) -> None:
        super().__init__(source, settings)
        ratings = self._ratings()
        self.classes = np.unique(ratings[np.isfinite(ratings)])
        if not 2 <= len(self.classes) <= self.max_classes:
            raise Unsupported(f"{len(self.classes)} distinct ratings, 2 to {self.max_classes} are needed")
        if len(self.positions) == 0:
            raise Unsupported("no interaction after a user's first has a rating")

    def _ratings(self) -> np.ndarray:
        if self.source.ratings is None:
            raise Unsupported("the data set has no rating")
        return self.source.ratings

    def suitable(self, positions: np.ndarray) -> np.ndarray:
        """Return the interactions that have a rating; see `InteractionTask.suitable`."""
        return positions[np.isfinite(self._ratings()[positions])]

    @property
    def choices(self) -> tuple[str, ...]:
        """All ratings."""
        return tuple(number(value) for value in self.classes)

    def example(self, index: int) -> Example:
        """Return a history of rated items with the next item and its rating."""
        _, position, start = self.at(index)
        ratings = self._ratings()
        history = zip(self.source.items[start:position], ratings[start:position], strict=True)
        slots = {
            "history": ("rated", tuple((int(item), rating_text(rating)) for item, rating in history)),
            "item": ("sentence", int(self.source.items[position])),
            "ratings": ("text", ", ".join(self.choices)),
        }
        return GenerativeExample(slots, number(ratings[position]))

    @classmethod
    def parse(cls, text: str, choices: Collection[str]) -> str | None:
        """Parse one of the ratings (the classes, in records).

        See `Task.parse`.
        """
        return parse_label(text, choices)


def rating_text(rating: float) -> str:
    """Return a rating in a history; an interaction may have none."""
    return number(rating) if np.isfinite(rating) else "not rated"
