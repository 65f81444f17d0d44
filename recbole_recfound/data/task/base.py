"""Tasks: their definition (class attributes) and their examples from atomic files (instances).

A task's examples are numbered and deterministic: they can be made one at a time and in any order.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable
from typing import Any, ClassVar, TypeVar

import numpy as np

from recbole_recfound.data.task.answers import parse_text
from recbole_recfound.data.task.examples import Example
from recbole_recfound.data.task.metrics import AnswerMetric
from recbole_recfound.data.task.settings import GenerativeOptions, TaskOptions, TaskSettings
from recbole_recfound.data.task.source import HeldOut, TrainingData
from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime import registry

EMBEDDING = "embedding"
GENERATIVE = "generative"

HELD_OUT = "held-out interactions"
"""Test: interactions of RecBole's test split."""
KEPT = "items or users without training examples"
"""Test: items, users or queries that are excluded from training."""
RECORDS = "records"
"""Test: records of JSON-lines files only."""

NEEDS_RECORDS = "needs JSON-lines records"


class Unsupported(Exception):
    """The data cannot support a task; the message says what is missing."""


class Task(ABC):
    """One task, built from training interactions.

    Class attributes define the task. The methods of an instance give its examples.

    Args:
        source: training data.
        settings: settings of all tasks of the run.

    Attributes:
        name: short name for configurations and tables; set by `register_task`.
        id: number that enters the seeds of the task's draws: 0 to 12 for the tasks of the paper, else derived from the
            name.
        kind: `embedding` or `generative`; decides which experts are open.
        title: name for reports.
        record: its name in the published JSON-lines records; by default `name`.
        Options: dataclass of its options.
        prompt: default prompt template (jinja2; each slot stands alone, as in `{{ history }}`).
        slots: names of the slots its examples fill.
        uncut: slots that are never cut to fit a prompt: those with the candidates of an answer.
        metrics: metrics of its generated answers, the most important first.
        ranking_metric: RecBole's metric of its ranked candidates, for an embedding task.
        closed: whether the answer is one of few, so that generation is constrained to them.
        answers: the answers of a closed task that are the same for all data; () if they come from the data.
        test: `HELD_OUT`, `KEPT` or `RECORDS`: test examples without test files.
        from_atomic_files: whether it can be built from atomic files at all.
        reads_profiles: whether it needs the columns of the .user file.
        reads_ratings: whether its examples depend on the ratings of interactions.
        note: how it was built, for the report.
        spec: the registered class, for instances that join several sources.
    """

    name: ClassVar[str] = ""
    id: ClassVar[int] = -1
    kind: ClassVar[str]
    title: ClassVar[str] = ""
    record: ClassVar[str] = ""
    Options: ClassVar[type[TaskOptions]] = TaskOptions
    prompt: str = ""
    slots: tuple[str, ...] = ()
    uncut: ClassVar[tuple[str, ...]] = ()
    metrics: ClassVar[tuple[type[AnswerMetric], ...]] = ()
    ranking_metric: ClassVar[str] = "MRR"
    closed: ClassVar[bool] = False
    answers: ClassVar[tuple[str, ...]] = ()
    test: ClassVar[str] = RECORDS
    from_atomic_files: ClassVar[bool] = True
    reads_profiles: ClassVar[bool] = False
    reads_ratings: ClassVar[bool] = False
    note: str = ""
    spec: type[Task]

    def __init__(self, source: TrainingData, settings: TaskSettings) -> None:
        self.source = source
        self.settings = settings
        self.options = settings.options(self.spec.name)

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of training examples."""

    @abstractmethod
    def example(self, index: int) -> Example:
        """Return training example `index`; it depends on the data, the seed and the index alone."""

    @property
    def targets_per_example(self) -> float:
        """Supervised targets in one example (a sequence has many); the scheduler's sizes count targets."""
        return 1.0

    @property
    def choices(self) -> tuple[str, ...]:
        """All allowed answers of a closed task: generation is constrained to them."""
        return self.answers

    def test_examples(self, held_out: HeldOut) -> tuple[list[Example], int]:
        """Return test examples, none of which is a training example, and how many they were sampled from."""
        return [], 0

    @classmethod
    def parse(cls, text: str, choices: Collection[str]) -> Hashable | None:
        """Parse a generated answer.

        Args:
            text: the answer.
            choices: the task's classes, where its answers are classes.

        Returns:
            A comparable value, or None for an unparseable answer.
        """
        return parse_text(text)

    @classmethod
    def parses(cls, answer: str) -> bool:
        """Return whether a correct answer can be parsed; if not, every prediction for it would count as wrong."""
        return cls.parse(answer, [answer]) is not None

    @classmethod
    def record_choices(cls, answers: Collection[str]) -> tuple[str, ...]:
        """Return the allowed answers of a closed task, given the distinct answers of its training records."""
        return cls.answers or tuple(sorted(answers))

    def draw(self, index: int) -> np.random.Generator:
        """Return the generator of one example."""
        return self.source.draw(self.spec.id, index)


class GenerativeTask(Task):
    """A task whose answer is generated text."""

    kind = GENERATIVE
    Options = GenerativeOptions
    options: GenerativeOptions

    def capped(self, candidates: np.ndarray) -> np.ndarray:
        """Sample at most `max_examples` of the possible examples once, in order."""
        if len(candidates) <= self.options.max_examples:
            return candidates
        rng = self.source.draw(self.spec.id, len(candidates), 2)
        return np.sort(rng.choice(candidates, self.options.max_examples, replace=False))


class RecordOnlyTask(Task):
    """A generative task that atomic files do not support: its examples are JSON-lines records."""

    kind = GENERATIVE
    from_atomic_files = False

    def __init__(self, source: TrainingData, settings: TaskSettings) -> None:
        raise Unsupported(NEEDS_RECORDS)

    def __len__(self) -> int:
        raise NotImplementedError(NEEDS_RECORDS)

    def example(self, index: int) -> Example:
        """Raise: not supported."""
        raise NotImplementedError(NEEDS_RECORDS)


TASKS: registry.Registry[type[Task]] = registry.TASKS
"""All tasks by name, in the order of their ids."""

TaskClass = TypeVar("TaskClass", bound=type[Task])


def register_task(name: str) -> Callable[[TaskClass], TaskClass]:
    """Return a decorator that registers a task.

    Args:
        name: short name for configurations and tables.

    Raises:
        ConfigError: the name, id or record name belongs to another task, or a generative task has no metric.
    """

    def register(cls: TaskClass) -> TaskClass:
        cls.spec = cls
        if "id" not in vars(cls):
            # Independent of the order of imports, and never an id of the paper's tasks.
            cls.id = 1000 + zlib.crc32(name.encode()) % 2**31
        cls.record = vars(cls).get("record", name)
        cls.title = vars(cls).get("title", name)
        if cls.kind == GENERATIVE and not cls.metrics:
            raise ConfigError(f"task {name}: metrics: got none, expected at least one for generated answers")
        for other in TASKS.values():
            if other.name != name and (other.id == cls.id or other.record == cls.record):
                raise ConfigError(f"task {name}: id {cls.id} or record {cls.record!r} belongs to {other.name}")
        TASKS.add(name, cls)
        return cls

    return register


def read_ratings(settings: Any) -> bool:
    """Return whether a task of a run reads ratings as numbers.

    Args:
        settings: of the run.
    """
    return any(TASKS[name].reads_ratings for name in settings["tasks"])


def task_table(trained: Collection[str] = ()) -> dict[str, str]:
    """Return the rows of TMoLE's task table: kinds by task name.

    The row numbers of the paper's tasks are their ids, followed by a spare that opens the shared experts only. Further
    tasks have a row only in runs that train them, so registering a task changes no other run.

    Args:
        trained: tasks of the run.
    """
    paper = {name: task.kind for name, task in TASKS.items() if task.id < PAPER_TASKS}
    further = {name: TASKS[name].kind for name in trained if name not in paper}
    return paper | {"spare": "none"} | further


PAPER_TASKS = 13
"""Number of tasks of RecFound (arXiv 2506.11999); their ids are 0 to 12."""
