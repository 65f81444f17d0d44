"""Tests of the tasks: examples that are excluded from training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recbole_recfound.data.collate import Collator
from recbole_recfound.data.records.files import MixedTask, RecordTask, TaskFiles
from recbole_recfound.data.records.records import Text
from recbole_recfound.data.task import (
    EMBEDDING,
    HELD_OUT,
    KEPT,
    RECORDS,
    Example,
    GenerativeExample,
    HeldOut,
    RecordPairExample,
    Task,
)
from recbole_recfound.data.task.kept import KEPT_SHARE
from recbole_recfound.data.task.settings import most_examples
from recbole_recfound.runtime.options import Options, option

OTHERS = 256
"""Records whose right answers are the others that an embedding task's right answer is ranked among."""

NONE_SUITABLE = {
    HELD_OUT: "no suitable test interaction (items without training interactions, as under cold_items, are not tested)",
    KEPT: f"no suitable one among the {KEPT_SHARE:.0%} of items, users or queries that are excluded from training",
    RECORDS: "no records of it in a test file",
}
"""Why a task has no test examples, by their origin (`Task.test`)."""


@dataclass(frozen=True)
class TestOptions(Options):
    """Generation and scoring in the test of the tasks (`test_args`).

    Attributes:
        max_answer_tokens: length of a generated answer, or that of the longest right answer of its test if that is
            longer; answers in training are never cut.
        beams: beams of the generation; 1 is greedy.
        rank_titles: adds a row that ranks this many best items by the likelihood of their titles (task_args: {SR:
            {form: title}}). 0: no such row; on a CPU it takes minutes on top of time_budget.
        best_checkpoint: also test the tasks with the best single checkpoint where another candidate was chosen.
        bert_score_model: folder of a model that scores free text by BERTScore F1 instead of ROUGE-L and BLEU.
    """

    __test__ = False  # not a test class of pytest

    max_answer_tokens: int = option(96, minimum=2)
    beams: int = option(1, minimum=1)
    rank_titles: int = option(0, minimum=0)
    best_checkpoint: bool = option(False)
    bert_score_model: str = option("")


@dataclass(frozen=True)
class TaskTest:
    """The test of one task.

    Attributes:
        task: its name.
        examples: test examples, in random order; [] if there are none.
        choices: all possible answers of a closed task, or ().
        source: origin of the examples.
        available: number of examples from which `examples` were sampled.
        valid: examples of validation files, in random order; they choose the threshold of a yes.
        others: targets of other records of the test files, as candidates of embedding tasks.
        popularity: [catalogue] training interactions per item, for examples with candidates; None for records.
        longest_answer: tokens of the longest right answer and its end, at most what the backbone reads behind a prompt.
        note: why there are no examples.
    """

    task: str
    examples: list[Example]
    choices: tuple[str, ...]
    source: str
    available: int
    valid: list[Example] = field(default_factory=list)
    others: list[Text] = field(default_factory=list)
    popularity: np.ndarray | None = None
    longest_answer: int = 0
    note: str = ""

    def asked(self, options: TestOptions) -> float:
        """Return how many examples are asked, for the time they take.

        Where answers are written to a higher limit than `max_answer_tokens`, an example counts as many times as the
        limit is higher; a longer prompt costs little beside a longer answer.

        Args:
            options: of `test_args`.
        """
        count = len(self.examples) + len(self.valid)
        return count if self.choices else count * self.answer_limit(options) / options.max_answer_tokens

    def answer_limit(self, options: TestOptions) -> int:
        """Return the most tokens of a generated answer and its end.

        Args:
            options: of `test_args`.
        """
        return max(options.max_answer_tokens, self.longest_answer)


def collect_tests(
    tasks: Mapping[str, Task],
    held_out: HeldOut | None,
    files: TaskFiles,
    counts: int | Mapping[str, int],
    seed: int,
    collator: Collator | None = None,
) -> dict[str, TaskTest]:
    """Collect the test of every task: test files if there are any, else held-out atomic data, else why there is none.

    Args:
        tasks: built tasks.
        held_out: test interactions; None without atomic files.
        files: with their test part.
        counts: maximum number of examples, of every task or by task; 0 tests nothing.
        seed: of the sampling.
        collator: counts the tokens of right answers; None leaves the limit to `max_answer_tokens`.
    """
    tests = {}
    for name, task in tasks.items():
        count = most_examples(counts, name)
        rng = np.random.default_rng([seed, task.spec.id, 0x7E57])
        examples, source, choices = _drawn(rng, files, "test", name, count), "test files", task.choices
        available = files.count("test", name)
        popularity = None
        if count and not examples and held_out is not None:
            # The answers of the part that was built; records of the same task may have others.
            choices = task.built.choices if isinstance(task, MixedTask) else choices
            examples, available = task.test_examples(held_out)
            source = "held-out rows"
            built = task.built if isinstance(task, MixedTask) else task
            popularity = built.source.popularity if examples else None
        if not examples:
            tests[name] = TaskTest(name, [], (), "", 0, note=f"not tested: {_reason(task, held_out, count)}")
            continue
        valid = _drawn(rng, files, "valid", name, count)
        # The same for any number of test examples.
        others = np.random.default_rng([seed, task.spec.id, 0x07E5])
        records = _drawn(others, files, "test", name, OTHERS) if task.spec.kind == EMBEDDING else []
        positives = [record.positive for record in records if isinstance(record, RecordPairExample)]
        longest = _longest_answer(examples, collator) if collator else 0
        tests[name] = TaskTest(name, examples, choices, source, available, valid, positives, popularity, longest)
    return tests


def _longest_answer(examples: Sequence[Example], collator: Collator) -> int:
    """Return the tokens of the longest answer and its end, as far as the backbone reads them behind a prompt."""
    answers = (example.answer for example in examples if isinstance(example, GenerativeExample))
    longest = max((len(collator.text_tokens(answer)) + 1 for answer in answers), default=0)
    return min(longest, collator.history.source.max_tokens - collator.max_prompt_tokens)


def _reason(task: Task, held_out: HeldOut | None, count: int) -> str:
    """Return why a task has no test examples."""
    if not count:
        return "task_test_examples is 0 for it"
    return NONE_SUITABLE[RECORDS if held_out is None or isinstance(task, RecordTask) else task.spec.test]


def _drawn(rng: np.random.Generator, files: TaskFiles, part: str, name: str, count: int) -> list[Example]:
    """Sample examples of a part's files, in random order; only these are read."""
    available = files.count(part, name)
    # `choice` needs memory for the sample only.
    chosen = rng.choice(available, size=min(count, available), replace=False)
    return [files.example(part, name, int(index)) for index in chosen]
