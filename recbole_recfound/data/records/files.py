"""Tasks from JSON-lines files, alone or beside the examples built from atomic files."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np

from recbole_recfound.data.records.disk_rows import DiskRows
from recbole_recfound.data.records.questions import Questions
from recbole_recfound.data.records.records import MOST_CHOICES, EmbeddingRecord, GenerativeRecord, RecordFile
from recbole_recfound.data.task import (
    GENERATIVE,
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
    """The checked files of a run by their use: `train`, `valid`, `test`."""

    parts: dict[str, list[RecordFile]] = field(default_factory=dict)

    @classmethod
    def open(cls, given: Sequence[str] | Mapping[str, Sequence[str]], skip_bad_rows: bool) -> "TaskFiles":
        """Check all files; what validation or test files ask is left out of the training files.

        Args:
            given: files to train on, or lists of files under `train`, `valid` and `test`.
            skip_bad_rows: see `RecordFile`.

        Raises:
            ConfigError: another part than these three, or the same file twice.
            DataError: see `RecordFile`.
        """
        wanted = by_part(given)
        if unknown := set(wanted) - set(PARTS):
            raise ConfigError(f"task_files: unknown part '{sorted(unknown)[0]}', use {', '.join(PARTS)}")
        paths = [Path(path).resolve() for path in paths_in(given)]
        if len(set(paths)) < len(paths):
            twice = next(path for path in paths if paths.count(path) > 1)
            raise ConfigError(f"task_files: {twice} is given twice")
        parts: dict[str, list[RecordFile]] = {}
        held_out = Questions()
        for part in reversed(PARTS):
            # Test first: validation may not ask what the test asks, training may ask neither.
            parts[part] = [RecordFile(path, skip_bad_rows, held_out) for path in wanted.get(part, [])]
            if part != "train":
                held_out = _asked([file for files in parts.values() for file in files])
                for file in parts[part]:
                    _check_answers(file)
        return cls(parts)

    def count(self, part: str, name: str) -> int:
        """Examples of one task in one part."""
        return sum(file.size(name) for file in self.parts.get(part, []))

    def example(self, part: str, name: str, index: int) -> Example:
        """One of these, with all of its negatives."""
        for file in self.parts[part]:
            if index < file.size(name):
                return example_of(file, name, index, None, 0)
            index -= file.size(name)
        raise IndexError(f"{part} has fewer examples of {name}")

    def tasks(self, part: str) -> list[str]:
        """Tasks with records in one part, in the order of the task table."""
        return [name for name in TASKS if any(file.size(name) for file in self.parts.get(part, []))]

    def untrained(self, trained: Container[str]) -> dict[str, str]:
        """Tasks of validation or test files that nothing is trained on, each with the reason."""
        held_out = dict.fromkeys(name for part in PARTS[1:] for name in self.tasks(part))
        why = "no training file has records of it that validation or test files do not ask: it is neither trained nor tested"
        return {name: why for name in held_out if name not in trained}

    def notes(self) -> list[str]:
        """What was skipped or left out, one line each."""
        lines = []
        for file in (file for part in PARTS for file in self.parts.get(part, [])):
            if file.bad:
                lines.append(f"{file.path}: {file.bad} bad lines skipped")
                lines += [f"{file.path}:{number}: {reason}" for number, reason in file.skipped]
                if file.bad > len(file.skipped):
                    lines.append(f"{file.path}: only the first {len(file.skipped)} of them are listed")
            if file.excluded:
                lines.append(f"{file.path}: {file.excluded} records left out, validation or test files ask the same")
        return lines


def _asked(files: Sequence[RecordFile]) -> Questions:
    fingerprints = DiskRows(np.uint64)
    for file in files:
        for block in file.fingerprints():
            fingerprints.extend(block)
    return Questions(fingerprints)


def by_part(given: Sequence[str] | Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Paths by part: a bare list is for training, a single path needs no list."""
    parts = given if isinstance(given, Mapping) else {"train": given}
    return {
        part: [paths] if isinstance(paths, str) else [str(path) for path in paths or []]
        for part, paths in parts.items()
    }


def paths_in(given: Sequence[str] | Mapping[str, Sequence[str]]) -> list[str]:
    """All paths that `task_files` names."""
    return [path for paths in by_part(given).values() for path in paths]


class RecordTask(Task):
    """One task from the training records of any number of files.

    Args:
        name: of the task.
        files: where its records stand.
        seed: of the run; decides which of a record's negatives are used.
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
        targets = len(self.built) * self.built.targets_per_example + len(self.records)
        return targets / len(self)

    @property
    def choices(self) -> tuple[str, ...]:
        parts = (self.built.choices, self.records.choices)
        return tuple(sorted({*parts[0], *parts[1]})) if all(parts) else ()

    def test_examples(self, held_out: HeldOut) -> tuple[list[Example], int]:
        """Those of the part built from atomic files; test files go before them."""
        return self.built.test_examples(held_out)

    def example(self, index: int) -> Example:
        return self.built.example(index) if index < len(self.built) else self.records.example(index - len(self.built))


def example_of(file: RecordFile, name: str, index: int, rng: np.random.Generator | None, negatives: int) -> Example:
    """One record as an example.

    Args:
        file: where it stands.
        name: its task.
        index: which of the file's examples of this task.
        rng: draws `negatives` of the record's negatives; None takes all of them (evaluation).
        negatives: how many.
    """
    record, place = file.read(name, index)
    if isinstance(record, GenerativeRecord):
        return GenerativeExample({"prompt": ("prompt", record.prompt)}, record.answer)
    return _pair_example(record, place, rng, negatives)


def _check_answers(file: RecordFile) -> None:
    """Refuse a right answer that cannot be read."""
    for name in file.tasks:
        for index in range(file.size(name) if TASKS[name].kind == GENERATIVE else 0):
            answer = file.read(name, index)[0].answer
            if not TASKS[name].parses(answer):
                raise DataError(
                    f"{file.path}:{file.line(name, index)}: key 'text': no answer of {name}: '{answer[:60]}'"
                )


def _pair_example(
    record: EmbeddingRecord, place: int, rng: np.random.Generator | None, count: int
) -> RecordPairExample:
    chosen = record.negatives
    if rng is not None and len(chosen) > count:
        chosen = tuple(chosen[number] for number in np.sort(rng.choice(len(chosen), count, replace=False)))
    return RecordPairExample(record.query, record.positives[place], chosen, record.positives)


def add_record_tasks(tasks: Mapping[str, Task], files: TaskFiles, seed: int, settings: TaskSettings) -> dict[str, Task]:
    """Put the tasks of the training files beside those built from atomic files; a task in both has the examples of both.

    Raises:
        ConfigError: a task of the files has fewer than two training examples.
    """
    joined = dict(tasks)
    for name in files.tasks("train"):
        records = RecordTask(name, files.parts["train"], seed, settings)
        if name not in joined and len(records) < 2:
            raise ConfigError(f"task_files: {name} has one training record, two are the least")
        joined[name] = MixedTask(joined[name], records) if name in joined else records
    return {name: joined[name] for name in TASKS if name in joined}
