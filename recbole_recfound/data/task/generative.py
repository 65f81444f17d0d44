"""Generative tasks from atomic files: SR, SA, IP, AVE, UP. Labels come from the data, never from imagination."""

import copy
import json
from abc import abstractmethod
from collections.abc import Mapping

import numpy as np

from recbole_recfound.data.task.base import (
    Example,
    GenerativeExample,
    Task,
    TaskOptions,
    Unsupported,
    builds,
    kept_for_test,
)
from recbole_recfound.data.task.negatives import draw_negatives
from recbole_recfound.data.task.source import HeldOut, TrainingData
from recbole_recfound.data.text.fields import readable

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class PositionTask(Task):
    """A task with one example per training interaction that has `minimum` earlier ones."""

    minimum = 1

    def __init__(self, source: TrainingData, options: TaskOptions) -> None:
        super().__init__(source, options)
        user = np.repeat(np.arange(len(source.users)), source.lengths)
        place = np.arange(len(source.items)) - source.indptr[user]
        self.positions = self.capped(np.flatnonzero(place >= self.minimum))
        self.user = user
        if len(self.positions) == 0:
            raise Unsupported(f"no user has more than {self.minimum} training interactions")

    def __len__(self) -> int:
        return len(self.positions)

    def test_examples(self, held_out: HeldOut) -> tuple[list[GenerativeExample], int]:
        """Some test interactions as examples: the same form, asked after everything the user did before."""
        asked = copy.copy(self)
        asked.source, asked.user = held_out.data, held_out.user
        asked.positions, available = held_out.drawn(self.spec.id, self.minimum, self.options.tested(self.spec.name))
        return [asked.example(index) for index in range(len(asked.positions))], available

    def at(self, index: int) -> tuple[int, int, int]:
        """User, target's place in the flat interactions, and first place of the history shown."""
        place = int(self.positions[index])
        user = int(self.user[place])
        return user, place, max(int(self.source.indptr[user]), place - self.options.history_titles)


@builds("SR")
class SequentialRecommendation(PositionTask):
    """Which item comes next? The answer is the letter of a listed candidate, or (`sr_form: title`) the item's title."""

    minimum = 2

    def __init__(self, source: TrainingData, options: TaskOptions) -> None:
        super().__init__(source, options)
        self.titled = options.sr_form == "title"
        if self.titled:
            return
        if not 2 <= options.candidates <= len(LETTERS):
            raise Unsupported(f"sr_candidates must be 2 to {len(LETTERS)}")
        # A user who has everything leaves no wrong candidate to choose from.
        others = source.catalogue.pool_size - np.asarray(source.seen.sum(1)).ravel()
        self.positions = self.positions[others[self.user[self.positions]] > 0]

    @property
    def template(self) -> str:
        return "SR_title" if self.titled else "SR"

    @property
    def slots(self) -> tuple[str, ...]:
        return ("history",) if self.titled else ("history", "candidates")

    @property
    def choices(self) -> tuple[str, ...]:
        if self.titled:
            catalogue = self.source.catalogue
            return tuple(dict.fromkeys(catalogue.title_of(row) for row in range(len(catalogue))))
        return tuple(LETTERS[: self.options.candidates])

    def example(self, index: int) -> Example:
        user, place, start = self.at(index)
        shown = ("titles", tuple(self.source.items[start:place].tolist()))
        target, rng = int(self.source.items[place]), self.draw(index)
        if self.titled:
            return GenerativeExample({"history": shown}, self.source.catalogue.title_of(target))
        known = self.source.history(user)
        negatives = draw_negatives(rng, self.options.candidates - 1, self.source.catalogue.pool_size, known)
        candidates = rng.permutation(np.array([target, *negatives])).tolist()
        slots = {"history": shown, "candidates": ("lettered", tuple(candidates))}
        return GenerativeExample(slots, LETTERS[candidates.index(target)])


@builds("SA")
class RatingPrediction(PositionTask):
    """What does the user think of this item? The rating the user gave, after a history of rated items."""

    note = "ratings as sentiment classes"
    max_classes = 10

    def __init__(self, source: TrainingData, options: TaskOptions) -> None:
        super().__init__(source, options)
        if source.ratings is None:
            raise Unsupported("the data set has no rating")
        self.classes = np.unique(source.ratings)
        if not 2 <= len(self.classes) <= self.max_classes:
            raise Unsupported(f"{len(self.classes)} distinct ratings, 2 to {self.max_classes} are needed")

    @property
    def slots(self) -> tuple[str, ...]:
        return ("history", "item", "ratings")

    @property
    def choices(self) -> tuple[str, ...]:
        return tuple(_number(value) for value in self.classes)

    def example(self, index: int) -> Example:
        _, place, start = self.at(index)
        shown = [
            (int(item), _number(rating))
            for item, rating in zip(self.source.items[start:place], self.source.ratings[start:place])
        ]
        slots = {
            "history": ("rated", tuple(shown)),
            "item": ("sentence", int(self.source.items[place])),
            "ratings": ("text", ", ".join(_number(value) for value in self.classes)),
        }
        return GenerativeExample(slots, _number(self.source.ratings[place]))


class RecordedTask(Task):
    """A task with one example per item or user that has what it needs; some of them are kept for the test."""

    needs = ""

    def __init__(self, source: TrainingData, options: TaskOptions) -> None:
        super().__init__(source, options)
        kept = kept_for_test(source, options, self.population)
        suitable = np.array([row for row in range(self.population) if self.suits(row)], dtype=np.int64)
        self.rows = self.capped(np.setdiff1d(suitable, self.alike(kept))).tolist()
        self.test_rows = kept[np.isin(kept, suitable)].tolist()
        if not self.rows:
            raise Unsupported(self.needs)

    @property
    def population(self) -> int:
        """Items (or users) there are."""
        return self.source.catalogue.pool_size

    def alike(self, rows: np.ndarray) -> np.ndarray:
        """These and whatever has the same title, hence the same question."""
        return self.source.catalogue.same_title(rows)

    @abstractmethod
    def suits(self, row: int) -> bool:
        """Whether the item (or user) can be an example."""

    @abstractmethod
    def of_row(self, row: int) -> GenerativeExample:
        """The example of one item (or user)."""

    def __len__(self) -> int:
        return len(self.rows)

    def example(self, index: int) -> Example:
        return self.of_row(self.rows[index])

    def test_examples(self, held_out: HeldOut) -> tuple[list[GenerativeExample], int]:
        """Examples of the items (or users) that were kept from training."""
        asked = self.test_rows[: self.options.tested(self.spec.name)]
        return [self.of_row(row) for row in asked], len(self.test_rows)


@builds("IP")
class ItemProfile(RecordedTask):
    """Describe the item: its recorded fields as sentences, from its title."""

    needs = "no item has a title and further fields"
    long_words = 40

    @property
    def slots(self) -> tuple[str, ...]:
        return ("item",)

    def suits(self, row: int) -> bool:
        return bool(self.source.catalogue.values[row].get(self.source.catalogue.title) and self._facts(row))

    def of_row(self, row: int) -> GenerativeExample:
        return GenerativeExample({"item": ("title", row)}, _sentences(self._facts(row)))

    def _facts(self, row: int) -> dict[str, str]:
        long = {
            name: " ".join(value.split()[: self.long_words]).rstrip(".")
            for name, value in self.source.catalogue.long_values[row].items()
        }
        return _details(self.source, row) | long


@builds("AVE")
class AttributeExtraction(RecordedTask):
    """Find attribute values in the item's text: JSON list of attribute, value and the source it stands in.

    Where a value also stands in the title or a description, that is its source. Otherwise the short fields are read out
    without their names (source `details`) and the model says which value belongs to which attribute.
    """

    needs = "no item has a title and further fields"
    long_words = 60

    @property
    def slots(self) -> tuple[str, ...]:
        return ("text",)

    def suits(self, row: int) -> bool:
        return bool(self.source.catalogue.values[row].get(self.source.catalogue.title) and _details(self.source, row))

    def of_row(self, row: int) -> GenerativeExample:
        catalogue, details = self.source.catalogue, _details(self.source, row)
        texts = {"title": catalogue.title_of(row)}
        for name, value in catalogue.long_values[row].items():
            texts[readable(name)] = " ".join(value.split()[: self.long_words])
        source_of = {name: _source_of(value, texts) for name, value in details.items()}
        unnamed = [value for name, value in details.items() if source_of[name] is None]
        if unnamed:
            texts["details"] = " ".join(unnamed)
        answer = [
            {"attribute": readable(name), "value": value, "source": source_of[name] or "details"}
            for name, value in details.items()
        ]
        text = "\n".join(f"{name}: {value}" for name, value in texts.items())
        return GenerativeExample({"text": ("text", text)}, json.dumps(answer, ensure_ascii=False))


@builds("UP")
class UserProfile(RecordedTask):
    """Describe the user: the recorded fields as sentences, from what the user chose."""

    needs = "no .user file with text columns"

    @property
    def slots(self) -> tuple[str, ...]:
        return ("history",)

    @property
    def population(self) -> int:
        return len(self.source.users)

    def alike(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def suits(self, row: int) -> bool:
        return bool(self.source.profiles.get(self.source.users[row]))

    def of_row(self, row: int) -> GenerativeExample:
        shown = self.source.history(row)[-self.options.history_titles :]
        profile = self.source.profiles[self.source.users[row]]
        return GenerativeExample({"history": ("titles", tuple(shown.tolist()))}, _sentences(profile))


def _details(source: TrainingData, row: int) -> dict[str, str]:
    """The item's short fields besides its title."""
    catalogue = source.catalogue
    return {name: value for name, value in catalogue.values[row].items() if name != catalogue.title}


def _sentences(fields: Mapping[str, str]) -> str:
    return " ".join(f"{readable(name).capitalize()}: {value}." for name, value in fields.items())


def _source_of(value: str, texts: dict[str, str]) -> str | None:
    return next((name for name, text in texts.items() if value.lower() in text.lower()), None)


def _number(value: float) -> str:
    """4.0 -> '4', 3.5 -> '3.5'."""
    return f"{float(value):g}"
