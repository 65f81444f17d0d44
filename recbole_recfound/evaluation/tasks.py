"""Tests of the tasks: generated answers and embedding tasks, on examples excluded from training."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from tqdm import tqdm

from recbole_recfound.data import Collator
from recbole_recfound.data.task import EMBEDDING, TASKS, GenerativeExample, PairExample, RecordPairExample
from recbole_recfound.data.task.answers import LETTERS, NO_YES, parse_yes_no
from recbole_recfound.data.task.examples import Example
from recbole_recfound.data.task.metrics import LetterRecall
from recbole_recfound.data.task_tests import TaskTest, TestOptions
from recbole_recfound.evaluation.generative import score_answers
from recbole_recfound.evaluation.ranked_pairs import mean_gain, popularity_metrics, rank_examples
from recbole_recfound.evaluation.task_time import TaskTime
from recbole_recfound.evaluation.task_vectors import TaskVectors
from recbole_recfound.model.generation import Generator, trie_of
from recbole_recfound.model.recfound import RecFound

FEW = 64
"""Largest number of choices for which the best constant answer is reported."""


def run_tests(
    model: RecFound,
    collator: Collator,
    generator: Generator,
    tests: Mapping[str, TaskTest],
    settings: Mapping[str, Any],
    seconds_left: Callable[[], float],
) -> dict[str, dict[str, Any]]:
    """Test a model on every task.

    Args:
        model: RecFound.
        collator: of its data.
        generator: writes its answers.
        tests: see `collect_tests`.
        settings: `test_args`, `metric_decimal_place` and `show_progress`.
        seconds_left: time limit: a test has fewer examples where they would exceed it, and one in any case. What an
            example takes is measured for each form of tests (pairs, closed answers, free text).

    Returns:
        By task: `metrics`, `examples`, `available`, `source`; for embedding tasks `candidates`, the fewest that an
        answer was ranked among; for generated answers `invalid`, how many could not be read, and where there are few
        choices `constant`, the metrics of the best single answer to all examples; where candidates are items,
        `popularity`, the metrics of the most popular one. A task without test examples has only a `note`.
    """
    found: dict[str, dict[str, Any]] = {}
    options = TestOptions.of(settings["test_args"], "test_args")
    vectors = TaskVectors(model, collator)
    writer = _Remembering(generator)

    def examine(test: TaskTest) -> dict[str, Any]:
        if TASKS[test.task].kind == EMBEDDING:
            pairs = cast(Sequence[PairExample | RecordPairExample], test.examples)
            metrics, fewest = rank_examples(vectors, test.task, pairs, settings, test.others)
            result = {"metrics": metrics, "candidates": fewest}
        else:
            result = answer(collator, writer, test, settings)
            if 0 < len(test.choices) <= FEW:
                result["constant"] = best_constant(test, settings)
        if guessed := popularity_guess(test, settings):
            result["popularity"] = guessed
        return result | {"examples": len(test.examples), "available": test.available, "source": test.source}

    # Choices take one or two steps, free text takes many.
    ordered = sorted(tests.values(), key=lambda test: not test.choices)
    pace = TaskTime(options, [test for test in ordered if test.examples], seconds_left)
    with tqdm(ordered, desc="testing tasks", disable=not settings["show_progress"], dynamic_ncols=True) as bar:
        for test in bar:
            bar.set_postfix_str(f"{test.task}: {len(test.examples)} examples")
            found[test.task] = pace.examined(test, examine) if test.examples else {"note": test.note}
    return found


class _Remembering:
    """A generator that writes each answer of a task once, for a test that is repeated on more of its examples.

    Args:
        generator: writes them.
    """

    def __init__(self, generator: Generator) -> None:
        self.generator, self.tokenizer, self.device = generator, generator.tokenizer, generator.device
        self.found: dict[tuple[Any, ...], Any] = {}

    def answers(self, prompts: Sequence[np.ndarray], tasks: Sequence[str], most: int, trie: Any) -> list[str]:
        """Return the answers; see `Generator.answers`."""
        return self._all(prompts, tasks, lambda new, of: self.generator.answers(new, of, most, trie))

    def margins(self, prompts: Sequence[np.ndarray], tasks: Sequence[str], yes: int, no: int) -> np.ndarray:
        """Return log p(yes) - log p(no) of each prompt; see `Generator.margins`."""
        return np.array(self._all(prompts, tasks, lambda new, of: self.generator.margins(new, of, yes, no)))

    def _all(self, prompts: Sequence[np.ndarray], tasks: Sequence[str], ask: Callable[..., Any]) -> list[Any]:
        keys = [(task, prompt.tobytes()) for task, prompt in zip(tasks, prompts, strict=True)]
        new = [place for place, key in enumerate(keys) if key not in self.found]
        if new:
            asked = ask([prompts[place] for place in new], [tasks[place] for place in new])
            self.found |= {keys[place]: value for place, value in zip(new, asked, strict=True)}
        return [self.found[key] for key in keys]


def best_constant(test: TaskTest, settings: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of the best constant answer, which needs no reading of the prompt.

    Args:
        test: a task whose answers are among `choices`.
        settings: `test_args` and `metric_decimal_place`.
    """
    found = [score_texts(test, [choice] * len(test.examples), settings)["metrics"] for choice in test.choices]
    return max(found, key=lambda metrics: next(iter(metrics.values())))


def popularity_guess(test: TaskTest, settings: Mapping[str, Any]) -> dict[str, float] | None:
    """Return the metrics of choosing the most popular candidate, or None where candidates are no items.

    Of equally popular candidates each is first equally often.

    Args:
        test: of one task.
        settings: `metric_decimal_place`.
    """
    if test.popularity is None:
        return None
    if TASKS[test.task].kind == EMBEDDING:
        return popularity_metrics(test.task, cast(Sequence[PairExample], test.examples), test.popularity, settings)
    if LetterRecall not in TASKS[test.task].metrics:
        return None
    candidates = []
    for example in _generative(test.examples):
        listed = [list(rows) for form, rows in example.slots.values() if form == "lettered"]
        if not listed:
            return None
        target = listed[0].pop(LETTERS.index(example.answer))
        candidates.append([target, *listed[0]])
    return {LetterRecall.key: mean_gain(candidates, test.popularity, [1.0], settings)}


def answer(
    collator: Collator, generator: Generator | _Remembering, test: TaskTest, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Generate the answers of one task and score them; generation is constrained to the choices of closed tasks.

    With validation examples, yes or no is decided by a threshold chosen on them; `f1_yes_argmax` is the likelier
    answer's.

    Args:
        collator: makes the prompts.
        generator: writes the answers.
        test: examples of the task.
        settings: `test_args` and `metric_decimal_place`.
    """
    prompts = [collator.prompt(test.task, example) for example in _generative(test.examples)]
    if test.valid and tuple(sorted(test.choices)) == NO_YES:
        return _thresholded(collator, generator, test, prompts, settings)
    trie = trie_of(test.choices, generator.tokenizer, generator.device) if test.choices else None
    most = test.answer_limit(TestOptions.of(settings["test_args"], "test_args"))
    texts = generator.answers(prompts, [test.task] * len(prompts), most, trie)
    return score_texts(test, texts, settings)


def _thresholded(
    collator: Any,
    generator: Generator | _Remembering,
    test: TaskTest,
    prompts: Sequence[np.ndarray],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Answer yes where it is likelier than no by more than the margin that is best on the validation examples."""
    yes, no = (collator.text_tokens(word)[0] for word in ("yes", "no"))
    examples = _generative(test.valid)
    asked = [collator.prompt(test.task, example) for example in examples]
    valid, margins = (generator.margins(rows, [test.task] * len(rows), yes, no) for rows in (asked, prompts))
    threshold = best_threshold(valid, np.array([parse_yes_no(example.answer) == "yes" for example in examples]))
    decided = {at: ["yes" if margin > at else "no" for margin in margins] for at in (threshold, 0.0)}
    result = score_texts(test, decided[threshold], settings)
    plain = score_texts(test, decided[0.0], settings)["metrics"]
    result["metrics"] |= {f"{name}_argmax": value for name, value in plain.items()}
    return {**result, "threshold": threshold, "valid_examples": len(asked)}


def best_threshold(margins: np.ndarray, wanted: np.ndarray) -> float:
    """Return the margin of "yes" over "no" above which answering yes has the best F1.

    Args:
        margins: [n] log p(yes) - log p(no).
        wanted: [n] whether yes is correct; without any yes the threshold is 0.

    Returns:
        A value halfway between two margins; below all of them if answering yes always is best.
    """
    if not wanted.any():
        return 0.0
    order = np.argsort(-margins, kind="stable")
    hits, said = np.cumsum(wanted[order]), np.arange(1, len(order) + 1)
    ranked = margins[order]
    # A threshold cannot separate equal margins.
    parts = np.append(ranked[1:] < ranked[:-1], True)
    f1 = np.where(parts, 2 * hits / (said + wanted.sum()), -1.0)
    best = int(f1.argmax())
    return float((ranked[best] + ranked[best + 1]) / 2) if best + 1 < len(order) else float(ranked[-1] - 1.0)


def _generative(examples: Sequence[Example]) -> Sequence[GenerativeExample]:
    """Return the examples of a generative task with their type."""
    return cast(Sequence[GenerativeExample], examples)


def score_texts(test: TaskTest, texts: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Read and score answers, however they were made.

    Args:
        test: examples of the task.
        texts: the answer to each example, in their order.
        settings: `test_args` and `metric_decimal_place`.

    Returns:
        `metrics`, and `invalid`, how many answers could not be read.
    """
    references = [example.answer for example in _generative(test.examples)]
    labels = sorted({*test.choices, *references})
    parse = TASKS[test.task].parse
    said, wanted = ([parse(text, labels) for text in column] for column in (texts, references))
    metrics = score_answers(
        test.task,
        said,
        wanted,
        texts,
        references,
        TestOptions.of(settings["test_args"], "test_args").bert_score_model,
        settings["metric_decimal_place"] or 4,
    )
    return {"metrics": metrics, "invalid": sum(value is None for value in said)}
