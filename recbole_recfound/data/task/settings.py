"""Settings of the tasks of one run: the options of each task and what all tasks share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recbole_recfound.runtime.options import Options, option
from recbole_recfound.runtime.registry import TASKS


@dataclass(frozen=True)
class TaskOptions(Options):
    """Base of the options of a task; it has no options."""


@dataclass(frozen=True)
class EmbeddingOptions(TaskOptions):
    """Options of an embedding task.

    Attributes:
        hard_negatives: hard negatives per example.
        negative_source: `random` (items the user has not seen) or `title` (nearest titles).
    """

    hard_negatives: int = option(1, minimum=0)
    negative_source: str = option("random", choices=("random", "title"))


@dataclass(frozen=True)
class GenerativeOptions(TaskOptions):
    """Options of a generative task that is built from atomic files.

    Attributes:
        max_examples: training examples, sampled from all the data has.
    """

    max_examples: int = option(1500, minimum=2)


@dataclass(frozen=True)
class HistoryOptions(GenerativeOptions):
    """Options of a generative task whose prompt names the items of a history.

    Attributes:
        history_titles: most recent items named in the prompt.
    """

    history_titles: int = option(5, minimum=1)


@dataclass(frozen=True)
class TaskSettings:
    """Settings of all tasks of a run.

    Attributes:
        args: task -> option -> value; missing options take their defaults.
        sequences: U2I examples are whole sequences (every position is a target) instead of one target each.
        test_examples: test examples per task; with a mapping, tasks without an entry have none.
        repeatable: a user's old items are candidates like all others.
        cache: tables shared by the tasks of a run.
    """

    args: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sequences: bool = True
    test_examples: int | Mapping[str, int] = 0
    repeatable: bool = False
    cache: dict[str, Any] = field(default_factory=dict, compare=False)

    def options(self, name: str) -> TaskOptions:
        """Return the validated options of a task.

        Raises:
            ConfigError: an unknown option, or a value that does not fit.
        """
        return TASKS[name].Options.of(self.args.get(name, {}), f"task_args: {name}")

    def tested(self, name: str) -> int:
        """Return the largest number of test examples of a task."""
        return most_examples(self.test_examples, name)


def most_examples(counts: int | Mapping[str, int], name: str) -> int:
    """Return the largest number of test examples of one task under the setting `task_test_examples`.

    Args:
        counts: one number for all tasks, or a number by task.
        name: of the task.
    """
    return counts if isinstance(counts, int) else counts.get(name, 0)
