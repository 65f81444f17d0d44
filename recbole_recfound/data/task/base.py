"""What a task is: numbered examples that can be made one at a time, in any order, always the same."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recbole_recfound.data.task.source import HeldOut, TrainingData
from recbole_recfound.data.task.spec import TASKS, TaskSpec
from recbole_recfound.errors import ConfigError


@dataclass(frozen=True)
class SequenceExample:
    """One user's catalogue rows, oldest first; every position after the first is a target."""

    user: str
    items: tuple[int, ...]


@dataclass(frozen=True)
class PairExample:
    """A query (text, an item, or a history of items) and the item that answers it.

    `known` are further rows that are right answers too: they are never used as negatives of this query.
    """

    query: str | int | tuple[int, ...]
    positive: int
    negatives: tuple[int, ...]
    known: tuple[int, ...] = ()


@dataclass(frozen=True)
class RecordPairExample:
    """A record's query and one of its positives, all as (instruction, text); `known` are all of its positives."""

    query: tuple[str, str]
    positive: tuple[str, str]
    negatives: tuple[tuple[str, str], ...]
    known: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class GenerativeExample:
    """Slots of a prompt and the answer.

    A slot is `("text", str)`, `("title", row)`, `("sentence", row)`, `("titles", rows)`, `("lettered", rows)` or
    `("prompt", str)` (a record's whole prompt): items stay row numbers until the collator fills in tokens made once.
    """

    slots: dict[str, tuple[str, Any]]
    answer: str


Example = SequenceExample | PairExample | RecordPairExample | GenerativeExample


class Unsupported(Exception):
    """The data cannot support a task; the message says what is missing."""


class Task(ABC):
    """One task built from training rows.

    Attributes:
        spec: its fixed description.
        note: how it was built, when the report should say so.
    """

    spec: TaskSpec
    note: str = ""

    def __init__(self, source: TrainingData, options: "TaskOptions") -> None:
        self.source = source
        self.options = options

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples."""

    @abstractmethod
    def example(self, index: int) -> Example:
        """Example `index`; the same for the same data and seed, whatever was asked before."""

    @property
    def targets_per_example(self) -> float:
        """Supervised targets in one example (a sequence has many); the scheduler's sizes count targets."""
        return 1.0

    @property
    def slots(self) -> tuple[str, ...]:
        """Slot names its prompt template may use."""
        return ()

    @property
    def template(self) -> str:
        """Name of its default prompt in properties/task/prompts.yaml."""
        return self.spec.name

    @property
    def choices(self) -> tuple[str, ...]:
        """The only answers there are, where there are few; generation is held to them."""
        return ()

    def test_examples(self, held_out: HeldOut) -> tuple[list[Example], int]:
        """Examples for the test, none of which was trained on, and how many there are to draw from; none where a test has to come
        from files.
        """
        return [], 0

    def capped(self, candidates: np.ndarray) -> np.ndarray:
        """At most `max_generative` of the possible examples, drawn once, in order."""
        if len(candidates) <= self.options.max_generative:
            return candidates
        rng = self.source.draw(self.spec.id, len(candidates), 2)
        return np.sort(rng.choice(candidates, self.options.max_generative, replace=False))

    def draw(self, index: int) -> np.random.Generator:
        """The generator of one example."""
        return self.source.draw(self.spec.id, index)


@dataclass(frozen=True)
class TaskOptions:
    """Settings of the builders (config keys of the same names).

    Attributes:
        sequences: U2I examples are whole sequences (every position) instead of one target each.
        history_titles: most recent items named in a text prompt.
        sr_form: what SR answers: `letters` of listed candidates, or the `title` of any item.
        candidates: lettered candidates of SR, the right one included.
        hard_negatives: negatives per embedding example.
        negative_source: `random` (unseen) or `title` (nearest titles).
        neighbours: I2I positives kept per item.
        neighbour_window: how many later items count as following.
        max_generative: examples of one generative task, drawn from all it could have.
        eval_examples: examples of one task in the test; by name, tasks without an entry have none.
        cache: tables shared by the tasks of a run.
    """

    sequences: bool = True
    history_titles: int = 10
    sr_form: str = "letters"
    candidates: int = 20
    hard_negatives: int = 1
    negative_source: str = "random"
    neighbours: int = 10
    neighbour_window: int = 3
    max_generative: int = 20_000
    eval_examples: int | Mapping[str, int] = 0
    cache: dict[str, Any] = field(default_factory=dict, compare=False)

    def tested(self, name: str) -> int:
        """Most test examples of one task."""
        return most_examples(self.eval_examples, name)


def most_examples(counts: int | Mapping[str, int], name: str) -> int:
    """Most test examples of one task, by the setting `task_test_examples`."""
    return counts if isinstance(counts, int) else counts.get(name, 0)


KEPT_SHARE = 0.05
"""At most this part of all items (users, queries) is kept from training for the test."""
TESTED_ON_KEPT = ("Q2I", "AVE", "UP", "IP")
"""Tasks whose test asks what was kept from training, not held-out interactions."""


def kept_for_test(source: TrainingData, options: TaskOptions, population: int) -> np.ndarray:
    """Items (or users, or queries) that nothing is trained on, in random order.

    Drawn before it is asked which task they suit, and for the largest test of all tasks: what one task is tested on, no other
    task is trained to write.

    Args:
        source: its seed decides the draw.
        options: `eval_examples`.
        population: how many there are.
    """
    most = max(options.tested(name) for name in TESTED_ON_KEPT)
    return source.draw(0x7E57, population).permutation(population)[: min(most, int(KEPT_SHARE * population))]


NEEDS_RECORDS = "needs JSON-lines records"
BUILDERS: dict[str, type[Task]] = {}


def builds(name: str) -> Callable[[type[Task]], type[Task]]:
    """Register a class as the builder of task `name` from atomic files."""

    def register(cls: type[Task]) -> type[Task]:
        cls.spec = TASKS[name]
        BUILDERS[name] = cls
        return cls

    return register


def build_tasks(
    names: Sequence[str], source: TrainingData, options: TaskOptions
) -> tuple[dict[str, Task], dict[str, str]]:
    """Build the tasks the data supports.

    Args:
        names: wanted tasks.
        source: training data.
        options: builder settings.

    Returns:
        Built tasks by name, and the reason for each that was left out.

    Raises:
        ConfigError: an unknown name, or nothing could be built.
    """
    tasks: dict[str, Task] = {}
    left_out: dict[str, str] = {}
    for name in names:
        if name not in TASKS:
            raise ConfigError(f"tasks: unknown task '{name}', known are {', '.join(TASKS)}")
        if name not in BUILDERS:
            left_out[name] = NEEDS_RECORDS
            continue
        try:
            task = BUILDERS[name](source, options)
            if len(task) < 2:
                raise Unsupported("fewer than two training examples")
            tasks[name] = task
        except Unsupported as reason:
            left_out[name] = str(reason)
    if not tasks:
        raise ConfigError("tasks: none can be built: " + "; ".join(f"{k} ({v})" for k, v in left_out.items()))
    return tasks, left_out
