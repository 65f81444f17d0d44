"""Three users and six films, small enough to check every example by hand."""

from dataclasses import fields
from typing import Any

import numpy as np

from recbole_recfound.data.task import TASKS, TaskSettings, TrainingData, build_tasks
from recbole_recfound.data.text import Catalogue

TITLES = ["Alien", "Aliens", "Heat", "Heat wave", "Big", "Big fish"]
YEARS = ["1979", "1986", "1995", "2009", "1988", "2003"]


def catalogue(size: int = 6, described: bool = True) -> Catalogue:
    """Films 0 to size - 1; the last one is known from held-out rows only."""
    values = [{"title": TITLES[row], "year": YEARS[row]} if described else {} for row in range(size)]
    long = [{"plot": f"{TITLES[row]} was made. " * 30} if row == 0 and described else {} for row in range(size)]
    return Catalogue([f"i{row}" for row in range(size)], ["title", "year"], values, size - 1, long)


def training_data(histories=None, ratings=None, queries=(), described=True, size=6, candidates=None) -> TrainingData:
    """Users u0, u1, ... with the given histories (default: 0 1 2 | 1 2 | 4)."""
    histories = [[0, 1, 2], [1, 2], [4]] if histories is None else histories
    return TrainingData(
        catalogue=catalogue(size, described),
        users=[f"u{index}" for index in range(len(histories))],
        indptr=np.cumsum([0, *map(len, histories)]),
        items=np.array([item for history in histories for item in history], dtype=np.int64),
        ratings=None if ratings is None else np.array(ratings, dtype=np.float32),
        queries=list(queries),
        seed=7,
        candidates=np.arange(size - 1) if candidates is None else np.array(candidates),
    )


def task_settings(sequences: bool = True, test_examples: int | dict[str, int] = 0, **options: Any) -> TaskSettings:
    """Settings in which every task that has an option takes its value."""
    known = {name: {field.name for field in fields(task.Options)} for name, task in TASKS.items()}
    assert set(options) <= set().union(*known.values())
    args = {name: {key: options[key] for key in names if key in options} for name, names in known.items()}
    return TaskSettings(args, sequences, test_examples)


def build(name: str, source: TrainingData | None = None, **options: Any):
    """A task, or None, and the reason why it cannot be built; U2I and Q2I are built beside it."""
    names = list(dict.fromkeys([name, "U2I", "Q2I"]))
    tasks, left_out = build_tasks(names, source or training_data(), task_settings(**options))
    return tasks.get(name), left_out.get(name)


def task_of(name: str, source: TrainingData | None = None, **options: Any):
    """A task that the data supports."""
    tasks, left_out = build_tasks([name], source or training_data(), task_settings(**options))
    assert not left_out
    return tasks[name]


def examples_of(task) -> list:
    """All training examples of a task."""
    return [task.example(index) for index in range(len(task))]
