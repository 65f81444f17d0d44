"""The multi-task loader: the scheduler allocates examples, cursors draw them, the collator makes tensors."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from recbole_recfound.data.batches import StepBatch
from recbole_recfound.data.collate import Collator
from recbole_recfound.data.records.disk_rows import BLOCK, DiskRows
from recbole_recfound.data.records.files import MixedTask
from recbole_recfound.data.shuffle import Shuffle, Stretch
from recbole_recfound.data.task import (
    EMBEDDING,
    GENERATIVE,
    GenerativeExample,
    PairExample,
    RecordPairExample,
    SequenceExample,
    Task,
)


class Cursor:
    """Cursor over a task's training examples, in a new random order each round: new examples before repeated ones.

    The order of a round depends on the seed, the task, the group and the round only, so a position is one integer.

    Args:
        groups: examples that take turns, group by group, each group in rounds of its own; one group: no turns.
        key: of the order.
    """

    def __init__(self, groups: Sequence[np.ndarray | Stretch], key: tuple[int, ...]) -> None:
        self.groups = groups
        self.key = key
        self.drawn = 0
        self._sizes = np.array([len(group) for group in groups])
        self._rounds: dict[int, tuple[int, Shuffle]] = {}

    def take(self, count: int) -> list[tuple[int, int]]:
        """Return the next `count` examples as (example index, draw number)."""
        numbers = np.arange(self.drawn, self.drawn + count)
        places, groups = np.divmod(numbers, len(self.groups))
        turns, places = np.divmod(places, self._sizes[groups])
        taken = np.empty(count, dtype=np.int64)
        for group, turn in sorted(set(zip(groups.tolist(), turns.tolist(), strict=True))):
            here = (groups == group) & (turns == turn)
            taken[here] = self.groups[group][self._order(group, turn)[places[here]]]
        self.drawn += count
        return list(zip(taken.tolist(), numbers.tolist(), strict=True))

    def _order(self, group: int, turn: int) -> Shuffle:
        if group not in self._rounds or self._rounds[group][0] != turn:
            # The first group's key is that of a task without groups.
            key = [*self.key, turn, group] if group else [*self.key, turn]
            self._rounds[group] = (turn, Shuffle(len(self.groups[group]), key))
        return self._rounds[group][1]


class MultiTaskLoader:
    """Endless iterator of one `StepBatch` per optimiser step; the trainer decides when to stop.

    Args:
        tasks: built tasks.
        collator: makes tensors.
        scheduler: anything with `allocate(batch_sizes) -> counts` (`sampler`).
        batch_sizes: examples per step of each group, `embedding` and `generative`.
        probe_share: share of each task's examples set aside for probes before training.
        probe_size: examples in a probe.
        seed: of the order and of the windows.
        contrastive_batch: buffer pairs of a task until this many are available; they are each other's negatives.
        generative_chunk: buffer generative examples until this many are available, then run one forward pass (small
            batches waste a full-depth pass).
        sequence_targets: supervised targets that count as one example of a sequence task, so that a step trains on as
            many targets whether histories are long or short.
        balanced: tasks whose few answers (`Task.choices`) are drawn in turn.
        fixed_probes: given probes (U2I's comes from the validation part); their tasks train on all examples.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        collator: Collator,
        scheduler: Any,
        batch_sizes: Mapping[str, int],
        probe_share: float,
        probe_size: int,
        seed: int,
        contrastive_batch: int = 1,
        generative_chunk: int = 1,
        sequence_targets: int = 1,
        balanced: Collection[str] = (),
        fixed_probes: Mapping[str, StepBatch] | None = None,
    ) -> None:
        self.tasks = dict(tasks)
        self.collator = collator
        self.scheduler = scheduler
        kinds = {task.spec.kind for task in tasks.values()}
        self.batch_sizes = {kind: size for kind, size in batch_sizes.items() if kind in kinds}
        self.seed = seed
        self.fixed_probes = dict(fixed_probes or {})
        # Histories drawn per allocated example.
        self.bundle = {
            name: max(1, round(sequence_targets / task.targets_per_example))
            if isinstance(task.example(0), SequenceExample)
            else 1
            for name, task in tasks.items()
        }
        # Tasks whose examples are buffered: the tasks of each buffer, its threshold, and its content.
        self.waits: dict[str, tuple[list[str], int]] = {}
        self.waiting: dict[str, list[tuple[str, int, int]]] = {}
        self.records_from: dict[str, int] = {}
        self.cursors: dict[str, Cursor] = {}
        self.probes: dict[str, np.ndarray] = {}
        for name, task in self.tasks.items():
            share = 0.0 if name in self.fixed_probes else probe_share
            train, probe = set_aside(len(task), share, (seed, task.spec.id))
            alike = name in balanced and task.choices
            groups: Sequence[np.ndarray | Stretch] = _by_answer(task, train) if alike else [train]
            self.cursors[name] = Cursor(groups, (seed, task.spec.id))
            self.probes[name] = probe[np.arange(min(probe_size, len(probe)))]
            if isinstance(task.example(0), (PairExample, RecordPairExample)):
                self.waits[name] = ([name], contrastive_batch)
            elif task.spec.kind == GENERATIVE:
                self.waits.setdefault(GENERATIVE, ([], generative_chunk))[0].append(name)
            if isinstance(task, MixedTask) and name not in self.waits and task.spec.kind == EMBEDDING:
                # Sequences are trained at once; the records after them are buffered as other pairs are.
                self.records_from[name] = len(task.built)
                self.waits[f"{name} records"] = ([], contrastive_batch)
        self.waiting = {key: [] for key in self.waits}
        self.generative_pace = float(self.batch_sizes.get(GENERATIVE, 0))
        """Generative examples of a step; the trainer lowers it where they take too much time."""
        self.small_pass = False
        """Whether generative examples wait for no chunk; the trainer says so before it knows what a pass takes."""
        self.owed = 0.0

    def __iter__(self) -> Iterator[StepBatch]:
        while True:
            yield self.next_batch()

    def next_batch(self) -> StepBatch:
        """Draw indices first, then build and collate only what was drawn."""
        drawn: dict[str, list[tuple[int, int]]] = {}
        while not drawn:
            counts = self.scheduler.allocate(self._sizes())
            drawn = {
                name: self.cursors[name].take(count * self.bundle[name]) for name, count in counts.items() if count
            }
            for name, first in self.records_from.items():
                pairs = drawn.pop(name, [])
                self.waiting[f"{name} records"] += [(name, *pair) for pair in pairs if pair[0] >= first]
                if sequences := [pair for pair in pairs if pair[0] < first]:
                    drawn[name] = sequences
            for key, (names, enough) in self.waits.items():
                self.waiting[key] += [(name, *pair) for name in names for pair in drawn.pop(name, [])]
                if len(self.waiting[key]) >= (1 if key == GENERATIVE and self.small_pass else enough):
                    for name, index, draw in self.waiting[key]:
                        drawn.setdefault(name, []).append((index, draw))
                    self.waiting[key] = []
        return self.collate(drawn)

    def _sizes(self) -> dict[str, int]:
        """Return the examples of each group in the next step; fractions of the pace are carried over."""
        if GENERATIVE not in self.batch_sizes:
            return self.batch_sizes
        self.owed += self.generative_pace
        whole = int(self.owed + 1e-9)
        self.owed -= whole
        return {**self.batch_sizes, GENERATIVE: whole}

    def collate(self, drawn: Mapping[str, list[tuple[int, int]]]) -> StepBatch:
        """Collate (example index, draw number) pairs of several tasks, grouped by form and, for prompts, by length."""
        forms: dict[type, list[tuple[str, object, np.random.Generator]]] = {}
        for name, pairs in drawn.items():
            task = self.tasks[name]
            for index, number in pairs:
                example = task.example(index)
                rng = np.random.default_rng([self.seed, task.spec.id, number, 1])
                forms.setdefault(type(example), []).append((name, example, rng))
        parts = [part for members in forms.values() for part in self.collator(*zip(*members, strict=True))]
        return StepBatch(parts, {name: len(pairs) for name, pairs in drawn.items()})

    def probe_batch(self, name: str) -> StepBatch:
        """Collate the fixed probe of one task; windows are fixed too."""
        if name in self.fixed_probes:
            return self.fixed_probes[name]
        return self.collate({name: [(int(index), number) for number, index in enumerate(self.probes[name])]})

    def trained(self, name: str) -> int:
        """Return how many examples of a task have been in a batch, with repetitions; buffered ones do not count."""
        return self.cursors[name].drawn - sum(drawn[0] == name for group in self.waiting.values() for drawn in group)

    def distinct(self, name: str) -> int:
        """Return how many distinct examples of a task have been in a batch."""
        cursor, trained = self.cursors[name], self.trained(name)
        turns, extra = divmod(trained, len(cursor.groups))
        return sum(min(turns + (place < extra), len(group)) for place, group in enumerate(cursor.groups))

    def step_alone(self, name: str) -> int:
        """Return the examples of a task in one step of a run that trains this task alone."""
        drawn = self.batch_sizes[self.tasks[name].spec.kind] * self.bundle[name]
        enough = next((enough for names, enough in self.waits.values() if name in names), 1)
        return drawn * -(-enough // drawn)

    def state_dict(self) -> dict[str, Any]:
        """Return positions and the scheduler's state, from which the same batches can be drawn again."""
        drawn = {name: cursor.drawn for name, cursor in self.cursors.items()}
        waiting = {key: list(waiting) for key, waiting in self.waiting.items()}
        pace = [self.generative_pace, self.owed]
        return {"drawn": drawn, "waiting": waiting, "pace": pace, "scheduler": self.scheduler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        for name, cursor in self.cursors.items():
            cursor.drawn = state["drawn"][name]
        self.waiting = {key: [tuple(drawn) for drawn in waiting] for key, waiting in state["waiting"].items()}
        self.generative_pace, self.owed = state["pace"]
        self.scheduler.load_state_dict(state["scheduler"])


def _by_answer(task: Task, indices: Stretch) -> list[np.ndarray]:
    """Group examples by answer; every example is read once."""
    rows = DiskRows(np.int64)
    for start in range(0, len(indices), BLOCK):
        rows.extend(indices[np.arange(start, min(start + BLOCK, len(indices)))])
    ordered = rows.mapped()
    ordered.sort()  # so that files are read from their beginning to their end
    groups: dict[str, DiskRows] = {}
    for index in map(int, ordered):
        # Stripped, as in `choices`.
        answer = cast(GenerativeExample, task.example(index)).answer.strip()
        if answer not in groups:
            groups[answer] = DiskRows(np.int64)
        groups[answer].append(index)
    return [groups[answer].mapped() for answer in sorted(groups)]


def set_aside(size: int, share: float, key: tuple[int, ...]) -> tuple[Stretch, Stretch]:
    """Split examples into a training part and a probe part, each in random order.

    Args:
        size: how many examples, two at least.
        share: of the probe part, which has one example at least; 0: all are trained on.
        key: of the order.
    """
    order = Shuffle(size, [*key, 0x5E7])
    count = min(max(1, round(size * share)), size - 1) if share else 0
    return Stretch(order, count, size), Stretch(order, 0, count)


def scheduler_sizes(tasks: Mapping[str, Task]) -> dict[str, int]:
    """Return the training targets per task, which the schedulers use as a task's size."""
    return {name: max(1, round(len(task) * task.targets_per_example)) for name, task in tasks.items()}


def scheduler_groups(tasks: Mapping[str, Task]) -> dict[str, str]:
    """Group (`embedding` or `generative`) of each task."""
    return {name: task.spec.kind for name, task in tasks.items()}
