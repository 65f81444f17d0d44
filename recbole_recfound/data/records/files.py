"""Tasks from JSON-lines files, alone or combined with examples built from atomic files."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np

from recbole_recfound.data.records.broken import Problems
from recbole_recfound.data.records.disk_rows import DiskRows
from recbole_recfound.data.records.excluded import RemainingTask, remaining_examples
from recbole_recfound.data.records.questions import Questions, QuestionSets, question_fingerprint
from recbole_recfound.data.records.records import MOST_CHOICES, EmbeddingRecord, GenerativeRecord, RecordFile
from recbole_recfound.data.task import (
    TASKS,
    EmbeddingOptions,
    Example,
    GenerativeExample,
    HeldOut,
    RecordPairExample,
    Task,
    TaskSettings,
)
from recbole_recfound.errors import ConfigError, DataError

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class TaskFiles:
    """Validated files of a run by part: `train`, `valid`, `test`.

    Attributes:
        parts: files of each part.
        excluded: number of examples of the data set, by task, whose questions validation or test files have.
    """

    parts: dict[str, list[RecordFile]] = field(default_factory=dict)
    excluded: dict[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, given: Sequence[str] | Mapping[str, Sequence[str]], skip_bad_rows: bool) -> "TaskFiles":
        """Validate all files; records with questions of validation or test files are excluded from training files.

        Questions are compared by their normal form, so that case, blanks and punctuation make no other question.

        Args:
            given: training files, or lists of files under `train`, `valid` and `test`.
            skip_bad_rows: leave out lines that are not records (they are counted, the first are listed) instead of
                refusing the files.

        Raises:
            ConfigError: an unknown part, or the same file twice.
            DataError: files that cannot be read or have no record, lines that are not records, answers of held-out
                files that their task cannot parse: all of them, with file:line and key.
        """
        wanted = by_part(given)
        if unknown := set(wanted) - set(PARTS):
            raise ConfigError(f"task_files: unknown part '{sorted(unknown)[0]}', use {', '.join(PARTS)}")
        paths = [Path(path).resolve() for path in paths_in(given)]
        if len(set(paths)) < len(paths):
            twice = next(path for path in paths if paths.count(path) > 1)
            raise ConfigError(f"task_files: {twice} is specified more than once")
        parts: dict[str, list[RecordFile]] = {}
        problems = Problems()
        held_out: QuestionSets | None = None
        for part in reversed(PARTS):
            # Test first: validation must not share questions with the test, training must share none with either.
            opened = (_open(path, held_out, part != "train", skip_bad_rows, problems) for path in wanted.get(part, []))
            parts[part] = [file for file in opened if file is not None]
            if part != "train" and any(parts.values()):
                files = [file for files in parts.values() for file in files]
                held_out = QuestionSets.of(block for file in files for block in file.questions())
        broken = any(file.broken.count for files in parts.values() for file in files)
        problems.check(
            "skip_bad_rows: true leaves out lines that are not records" if broken and not skip_bad_rows else ""
        )
        return cls(parts)

    def count(self, part: str, name: str) -> int:
        """Return the number of examples of one task in one part.

        Args:
            part: train, valid or test.
            name: of the task.
        """
        return sum(file.size(name) for file in self.parts.get(part, []))

    def example(self, part: str, name: str, index: int) -> Example:
        """Return one example of a task in a part, with all of its negatives.

        Args:
            part: train, valid or test.
            name: of the task.
            index: of the example, from 0.
        """
        for file in self.parts[part]:
            if index < file.size(name):
                return example_of(file, name, index, None, 0)
            index -= file.size(name)
        raise IndexError(f"{part} has fewer examples of {name}")

    def tasks(self, part: str) -> list[str]:
        """Return the tasks with records in one part, in the order of their ids."""
        return [name for name in TASKS if any(file.size(name) for file in self.parts.get(part, []))]

    def untrained(self, trained: Container[str]) -> dict[str, str]:
        """Return the tasks of validation or test files without training examples, each with the reason."""
        held_out = dict.fromkeys(name for part in PARTS[1:] for name in self.tasks(part))
        why = "no training record of it besides those of validation or test files: neither trained nor tested"
        return {name: why for name in held_out if name not in trained}

    def notes(self) -> list[str]:
        """Return notes about all files: skipped lines, ignored keys and excluded records."""
        return [
            *(note for part in PARTS for file in self.parts.get(part, []) for note in file.notes()),
            *self.excluded_notes(),
        ]

    def excluded_notes(self) -> list[str]:
        """Return a note for each task of which examples of the data set are excluded."""
        return [
            f"{name}: {count:,} examples of the data set excluded: their questions are in validation or test files"
            for name, count in self.excluded.items()
        ]

    def held_out_questions(self, name: str) -> Questions:
        """Return the questions of one task in validation and test files (`question_fingerprint`).

        Args:
            name: of the task.
        """
        found = DiskRows(np.uint64)
        for part in PARTS[1:]:
            for index in range(self.count(part, name)):
                example = self.example(part, name, index)
                asked = example.query[1] if isinstance(example, RecordPairExample) else _prompt_of(example)
                found.append(question_fingerprint(name, asked))
        return Questions(found)


def _open(
    path: str, without: QuestionSets | None, held_out: bool, skip_bad_rows: bool, problems: Problems
) -> RecordFile | None:
    """Return one validated file; add its problems to those of the others."""
    try:
        file = RecordFile(path, without, held_out)
    except DataError as error:
        problems.add(error.problems, error.count)
        return None
    problems.add(*file.problems(skip_bad_rows))
    return file


def by_part(given: Sequence[str] | Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return paths by part: a bare list is for training, a single path needs no list."""
    parts = given if isinstance(given, Mapping) else {"train": given}
    return {
        part: [paths] if isinstance(paths, str) else [str(path) for path in paths or []]
        for part, paths in parts.items()
    }


def paths_in(given: Sequence[str] | Mapping[str, Sequence[str]]) -> list[str]:
    """Return all paths of `task_files`."""
    return [path for paths in by_part(given).values() for path in paths]


class RecordTask(Task):
    """One task from the training records of any number of files.

    Args:
        name: name of the task.
        files: files with its records.
        seed: seed of the run; decides which of a record's negatives are used.
        settings: of all tasks; `hard_negatives` applies to records too.
    """

    slots = ("prompt",)

    def __init__(self, name: str, files: Sequence[RecordFile], seed: int, settings: TaskSettings) -> None:
        self.spec = TASKS[name]
        self.seed, self.settings, self.options = seed, settings, settings.options(name)
        self.files = [file for file in files if file.size(name)]
        self.ends = list(accumulate(file.size(name) for file in self.files))
        self.note = "from " + ", ".join(file.path.name for file in self.files)

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    @property
    def choices(self) -> tuple[str, ...]:
        """Answers of a closed task; () for an open one, however few answers the training files have."""
        if not self.spec.closed or self.spec.answers:
            return self.spec.answers
        by_file = [file.choices.get(self.spec.name) for file in self.files]
        answers: set[str] = set().union(*filter(None, by_file))
        if None in by_file or len(answers) > MOST_CHOICES:
            return ()
        return self.spec.record_choices(answers)

    def example(self, index: int) -> Example:
        """Return training example `index`, with `hard_negatives` of its negatives."""
        number = int(np.searchsorted(self.ends, index, side="right"))
        within = index - (self.ends[number - 1] if number else 0)
        rng = np.random.default_rng([self.seed, self.spec.id, index])
        negatives = self.options.hard_negatives if isinstance(self.options, EmbeddingOptions) else 0
        return example_of(self.files[number], self.spec.name, within, rng, negatives)


class MixedTask(Task):
    """Examples built from atomic files, followed by those of records of the same task."""

    def __init__(self, built: Task, records: RecordTask) -> None:
        self.spec, self.settings, self.options = built.spec, built.settings, built.options
        self.prompt, self.slots = built.prompt, built.slots
        self.built, self.records = built, records
        self.note = "; ".join(filter(None, (built.note, records.note)))

    def __len__(self) -> int:
        return len(self.built) + len(self.records)

    @property
    def targets_per_example(self) -> float:
        """Mean number of targets of built examples and records."""
        targets = len(self.built) * self.built.targets_per_example + len(self.records)
        return targets / len(self)

    @property
    def choices(self) -> tuple[str, ...]:
        """Answers of both parts, if both are closed."""
        parts = (self.built.choices, self.records.choices)
        return tuple(sorted({*parts[0], *parts[1]})) if all(parts) else ()

    def test_examples(self, held_out: HeldOut) -> tuple[list[Example], int]:
        """Return those of the part that is built from atomic files; test files take precedence."""
        return self.built.test_examples(held_out)

    def example(self, index: int) -> Example:
        """Return training example `index`: a built one, or behind these a record."""
        return self.built.example(index) if index < len(self.built) else self.records.example(index - len(self.built))


def example_of(file: RecordFile, name: str, index: int, rng: np.random.Generator | None, negatives: int) -> Example:
    """Return one record as an example.

    Args:
        file: file of the record.
        name: name of the task.
        index: index among the file's examples of this task.
        rng: samples `negatives` of the record's negatives; None takes all of them (evaluation).
        negatives: number of negatives.
    """
    record, place = file.read(name, index)
    if isinstance(record, GenerativeRecord):
        return GenerativeExample({"prompt": ("prompt", record.prompt)}, record.answer)
    return _pair_example(record, place, rng, negatives)


def _pair_example(
    record: EmbeddingRecord, place: int, rng: np.random.Generator | None, count: int
) -> RecordPairExample:
    chosen = record.negatives
    if rng is not None and len(chosen) > count:
        chosen = tuple(chosen[number] for number in np.sort(rng.choice(len(chosen), count, replace=False)))
    return RecordPairExample(record.query, record.positives[place], chosen, record.positives)


def _prompt_of(example: Example) -> str:
    """Return the prompt of a generative record."""
    assert isinstance(example, GenerativeExample)
    return example.slots["prompt"][1]


def without_held_out(tasks: Mapping[str, Task], files: TaskFiles) -> dict[str, Task]:
    """Return built tasks without the examples whose questions validation or test files have; they are counted.

    Args:
        tasks: tasks built from atomic files.
        files: validated files, whose `excluded` is filled.
    """
    left = dict(tasks)
    for name, task in tasks.items():
        asked = files.held_out_questions(name)
        if not len(asked):
            continue
        remaining = remaining_examples(task, asked)
        if len(remaining) == len(task):
            continue
        files.excluded[name] = len(task) - len(remaining)
        left[name] = RemainingTask(task, remaining)
        # Two are trained and probed; one is enough beside training records.
        if len(remaining) < (1 if files.count("train", name) else 2):
            del left[name]
    return left


def add_record_tasks(tasks: Mapping[str, Task], files: TaskFiles, seed: int, settings: TaskSettings) -> dict[str, Task]:
    """Return the tasks of atomic files and of training files; a task in both has the examples of both.

    Examples of atomic files whose questions validation or test files have are excluded, like records.

    Args:
        tasks: tasks built from atomic files.
        files: validated files.
        seed: seed of the run.
        settings: settings of all tasks.

    Raises:
        ConfigError: a task of the files has fewer than two training examples.
    """
    joined = without_held_out(tasks, files)
    for name in files.tasks("train"):
        records = RecordTask(name, files.parts["train"], seed, settings)
        if name not in joined and len(records) < 2:
            raise ConfigError(f"task_files: {name} has one training record, expected at least two")
        joined[name] = MixedTask(joined[name], records) if name in joined else records
    return {name: joined[name] for name in TASKS if name in joined}
