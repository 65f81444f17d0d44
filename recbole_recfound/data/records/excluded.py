"""Examples built from atomic files without those whose question is in a validation or test file."""

import re
from typing import Any

import numpy as np

from recbole_recfound.data.records.questions import Questions, question_fingerprint
from recbole_recfound.data.task import Example, GenerativeExample, HeldOut, PairExample, Task
from recbole_recfound.data.task.answers import LETTERS
from recbole_recfound.data.text import Catalogue


class RemainingTask(Task):
    """A built task without the examples that a held-out file asks for.

    Args:
        built: the whole task.
        remaining: indices of the examples that remain.
    """

    def __init__(self, built: Task, remaining: np.ndarray) -> None:
        self.spec, self.source, self.settings, self.options = built.spec, built.source, built.settings, built.options
        self.prompt, self.slots, self.note = built.prompt, built.slots, built.note
        self.built, self.remaining = built, remaining

    def __len__(self) -> int:
        return len(self.remaining)

    @property
    def choices(self) -> tuple[str, ...]:
        """Answers of the whole task."""
        return self.built.choices

    def test_examples(self, held_out: HeldOut) -> tuple[list[Example], int]:
        """Return those of the whole task."""
        return self.built.test_examples(held_out)

    def example(self, index: int) -> Example:
        """Return training example `index` of those that remain."""
        return self.built.example(int(self.remaining[index]))


def remaining_examples(task: Task, asked: Questions) -> np.ndarray:
    """Return the indices of the examples whose question no held-out record asks.

    Args:
        task: built from atomic files.
        asked: `question_fingerprint` of held-out records of this task.
    """
    name, catalogue = task.spec.name, task.source.catalogue
    texts = (question_texts(task.example(index), task.prompt, catalogue) for index in range(len(task)))
    found = (any(question_fingerprint(name, text) in asked for text in each) for each in texts)
    return np.flatnonzero(~np.fromiter(found, dtype=bool))


def question_texts(example: Example, prompt: str, catalogue: Catalogue) -> list[str]:
    """Return the texts by which a record would ask the question of a built example.

    Args:
        example: of a task; a sequence of items has no text, and no question either.
        prompt: template of the task.
        catalogue: texts of the items.

    Returns:
        The filled prompt and, of an embedding task, the query alone, whose instruction a record may word otherwise.
    """
    if isinstance(example, GenerativeExample):
        return [_filled(prompt, {name: _text(*slot, catalogue) for name, slot in example.slots.items()})]
    if not isinstance(example, PairExample):
        return []
    query = example.query
    form = {str: "text", int: "sentence", tuple: "titles"}[type(query)]
    text = _text(form, query, catalogue)
    return [text, _filled(prompt, dict.fromkeys(("query", "item", "history"), text))]


def _filled(prompt: str, texts: dict[str, str]) -> str:
    return re.sub(r"{{ (\w+) }}", lambda slot: texts[slot[1]], prompt)


def _text(form: str, value: Any, catalogue: Catalogue) -> str:
    """Return one slot as text; see `GenerativeExample`."""
    if form == "title":
        return catalogue.title_of(value)
    if form == "sentence":
        return catalogue.sentence_of(value)
    if form == "titles":
        return "\n".join(catalogue.title_of(row) for row in value)
    if form == "rated":
        return "\n".join(f"{catalogue.title_of(row)}: {rating}" for row, rating in value)
    if form == "lettered":
        return "\n".join(f"{LETTERS[index]}. {catalogue.title_of(row)}" for index, row in enumerate(value))
    return value
