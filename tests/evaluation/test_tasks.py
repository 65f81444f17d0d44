"""The test of the tasks: what is asked, how yes is decided, how records are ranked."""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from recbole_recfound.data import RECORD
from recbole_recfound.data.records.files import TaskFiles, add_record_tasks
from recbole_recfound.data.task import (
    GenerativeExample,
    HeldOut,
    RecordPairExample,
    TrainingData,
    build_tasks,
)
from recbole_recfound.data.task_tests import TaskTest, collect_tests
from recbole_recfound.data.text import Catalogue, PromptTemplate, plain_tokens
from recbole_recfound.evaluation.report.table import task_lines
from recbole_recfound.evaluation.tasks import answer, best_threshold, run_tests, score_texts
from recbole_recfound.model.generation import Generator
from tests.data.task.hand_made import task_settings, training_data
from tests.small_model import build_small, perturb

SETTINGS = {
    "test_args": {"max_answer_tokens": 4, "bert_score_model": ""},
    "metric_decimal_place": 4,
    "show_progress": False,
}


def _asked(prompt, answer):
    return GenerativeExample({"prompt": ("prompt", prompt)}, answer)


def _held_out():
    """Two users of the hand-made data, each with one more item: 3 after 0 1 2, 0 after 1 2 4."""
    source = training_data([[0, 1, 2, 3], [1, 2, 4, 0]], ratings=[5, 1, 5, 1, 5, 1, 5, 5])
    return HeldOut(source, np.array([3, 7]))


def test_what_is_asked_comes_from_the_held_out_rows():
    source = training_data([[0, 1, 2], [1, 2, 4]], ratings=[5, 1, 5, 5, 1, 5])
    tasks, _ = build_tasks(["SR", "SA", "U2I"], source, task_settings(candidates=3, test_examples=10))
    tests = collect_tests(tasks, _held_out(), TaskFiles(), 10, seed=1)
    assert set(tests) == {"SR", "SA", "U2I"} and all(test.source == "held-out rows" for test in tests.values())
    asked = {e.slots["history"][1]: e.slots["candidates"][1]["ABC".index(e.answer)] for e in tests["SR"].examples}
    assert asked == {(0, 1, 2): 3, (1, 2, 4): 0}
    assert sorted(e.answer for e in tests["SA"].examples) == ["1", "5"] and tests["SA"].choices == ("1", "5")
    none = collect_tests(tasks, _held_out(), TaskFiles(), 0, seed=1)
    assert {test.note for test in none.values()} == {"not tested: task_test_examples is 0 for it"}
    some, _ = build_tasks(["SR", "SA"], source, task_settings(candidates=3, test_examples={"SR": 1}))
    drawn = collect_tests(some, _held_out(), TaskFiles(), {"SR": 1}, seed=1)
    assert drawn["SA"].note and not drawn["SA"].examples
    assert not drawn["SR"].note and len(drawn["SR"].examples) == 1 and drawn["SR"].available == 2


def test_a_task_without_test_examples_has_a_reason(small_run, tmp_path):
    """In the results, and in the table: cold items, a small catalogue, records without a test file."""
    source = training_data([[0, 1, 2], [1, 2, 4]], ratings=[5, 1, 5, 5, 1, 5])
    path = tmp_path / "train.jsonl"
    path.write_text("".join(f'{{"text": ["Same? {n}", "yes"], "task": "Product_Matching"}}\n' for n in range(2)))
    built, _ = build_tasks(
        ["SR", "SA", "U2I", "I2I", "IP", "AVE"], source, task_settings(candidates=3, test_examples=9)
    )
    files = TaskFiles.open([str(path)], False)
    tasks = add_record_tasks(built, files, 1, task_settings())
    cold = HeldOut(_held_out().data, np.zeros(0, dtype=np.int64))
    tests = collect_tests(tasks, cold, files, 9, seed=1)
    assert set(tests) == set(tasks) == {"SR", "SA", "U2I", "I2I", "IP", "AVE", "PM"}
    assert not any(test.examples for test in tests.values())
    small = build_small(small_run, tasks=["U2I", "SR"])
    generator = Generator(small.model.backbone, small.built.collator.tokenizer, small.device)
    found = run_tests(small.model, small.built.collator, generator, tests, SETTINGS, lambda: math.inf)
    lines = task_lines([{"name": name, "test": found[name]} for name in tasks])
    assert len(lines) == len(tasks) and all("not tested: " in line for line in lines)
    because = {line.split(":")[0]: line for line in lines}
    assert all("cold_items" in because[name] for name in ("SR", "SA", "U2I", "I2I"))
    assert all("5% of items" in because[name] for name in ("IP", "AVE"))
    assert "no records of it in a test file" in because["PM"]
    tested = collect_tests({name: tasks[name] for name in ("U2I", "PM")}, _held_out(), files, 9, seed=1)
    found = run_tests(small.model, small.built.collator, generator, tested, SETTINGS, lambda: -3.0)
    assert "metrics" in found["U2I"] and "no records of it in a test file" in found["PM"]["note"]


def test_items_of_the_test_are_in_no_training_example():
    values = [{"title": f"Film {row}", "year": str(1900 + row)} for row in range(41)]
    films = Catalogue([f"i{row}" for row in range(41)], ["title", "year"], values, 40, [{}] * 41)
    source = TrainingData(films, ["u"], np.array([0, 2]), np.array([0, 1]), None, [], 7, np.arange(40))
    tasks, _ = build_tasks(["IP", "AVE"], source, task_settings(test_examples=10))
    tested = [set(task.test_rows) for task in tasks.values()]
    assert tested[0] == tested[1] and len(tested[0]) == 2
    for task in tasks.values():
        assert not set(task.rows) & tested[0] and len(task) == 38
        assert task.test_examples(None) == ([task.of_row(row) for row in task.test_rows], 2)


def _slow_threshold(margins, wanted):
    """Best F1 over all sets of answers that a threshold can make."""
    best = 0.0
    for at in [*margins, min(margins) - 1]:
        said = margins > at
        best = max(best, 2 * (said & wanted).sum() / max(1, said.sum() + wanted.sum()))
    return best


@pytest.mark.parametrize("values", list(itertools.product([-1.0, 0.5, 2.0], repeat=4)))
def test_the_threshold_is_the_best_there_is(values):
    margins = np.array(values)
    for wanted in itertools.product([False, True], repeat=4):
        wanted = np.array(wanted)
        said = margins > best_threshold(margins, wanted)
        f1 = 2 * (said & wanted).sum() / max(1, said.sum() + wanted.sum())
        assert (
            f1 == pytest.approx(_slow_threshold(margins, wanted))
            if wanted.any()
            else best_threshold(margins, wanted) == 0.0
        )


def test_answers_that_cannot_be_read_are_counted():
    test = TaskTest("PM", [_asked("a", "yes"), _asked("b", "no")], (), "test files", 2)
    assert score_texts(test, ["perhaps", "no"], SETTINGS) == {"metrics": {"f1_yes": 0.0}, "invalid": 1}
    titles = TaskTest("SR", [_asked("a", "Alien"), _asked("b", "Heat")], ("Alien", "Heat"), "held-out rows", 2)
    assert score_texts(titles, ["Alien", "Alien"], SETTINGS)["metrics"] == {"recall@1": 0.5}


class _PerfectWriter:
    """Writes every right answer, cut at the limit like a generated one."""

    def __init__(self, tokenizer, answers):
        self.tokenizer, self.written = tokenizer, answers

    def answers(self, prompts, tasks, max_new_tokens, trie):
        rows = plain_tokens(self.written, self.tokenizer)
        return [self.tokenizer.decode(row[: max_new_tokens - 1]) for row in rows]


def test_a_right_answer_is_never_cut(small_run):
    small = build_small(small_run, tasks=["U2I", "SR"])
    collator = small.built.collator
    films = [
        {"title": f"Film {row}", "year": str(1900 + row)} | {f"fact {n}": f"value {n}" for n in range(5)}
        for row in range(41)
    ]
    films = Catalogue([f"i{row}" for row in range(41)], list(films[0]), films, 40, [{}] * 41)
    source = TrainingData(films, ["u"], np.array([0, 2]), np.array([0, 1]), None, [], 7, np.arange(40))
    tasks, _ = build_tasks(["AVE"], source, task_settings(test_examples=10))
    test = collect_tests(tasks, HeldOut(source, np.array([1])), TaskFiles(), 10, 1, collator)["AVE"]
    collator.templates["AVE"] = PromptTemplate("AVE", tasks["AVE"].prompt, ("text",), collator.tokenizer)
    writer = _PerfectWriter(collator.tokenizer, [example.answer for example in test.examples])
    assert answer(collator, writer, test, SETTINGS) == {"metrics": {"micro_f1": 1.0}, "invalid": 0}
    collator.history.source = replace(collator.history.source, max_tokens=collator.max_prompt_tokens + 7)
    assert collect_tests(tasks, HeldOut(source, np.array([1])), TaskFiles(), 10, 1, collator)["AVE"].longest_answer == 7


def test_a_model_is_tested_on_every_form(small_run):
    small = build_small(small_run, tasks=["U2I", "SR", "IP"])
    perturb(small.model)
    small.model.refresh_items()
    collator = small.model.parts.data.collator
    collator.templates[RECORD] = PromptTemplate(RECORD, "{{ prompt }}", ("prompt",), collator.tokenizer)
    generator = Generator(small.model.backbone, collator.tokenizer, small.device)
    pairs = [
        RecordPairExample(("Q:", f"query {n}"), ("", f"text {n}"), (("", "text x"),), (("", f"text {n}"),))
        for n in range(3)
    ]
    rows = [_asked("Same? A B", "yes"), _asked("Same? C D and more", "no"), _asked("Same? E", "no")]
    tests = small.built.tests | {
        "PM": TaskTest("PM", rows, ("no", "yes"), "test files", 3, valid=rows),
        "Q2I": TaskTest("Q2I", pairs, (), "test files", 3),
    }
    found = run_tests(small.model, small.built.collator, generator, tests, SETTINGS, lambda: math.inf)
    assert set(found) == {"U2I", "SR", "IP", "PM", "Q2I"}
    # Two of three are no: saying yes to all has F1 .5.
    assert found["PM"]["constant"] == {"f1_yes": 0.5} and "constant" not in found["IP"]
    assert set(found["PM"]["metrics"]) == {"f1_yes", "f1_yes_argmax"} and found["PM"]["valid_examples"] == 3
    # The threshold was chosen on the very examples that are asked: it must be at least as good as the likelier answer.
    assert found["PM"]["metrics"]["f1_yes"] >= found["PM"]["metrics"]["f1_yes_argmax"]
    # Chosen on examples of which all are yes, it must not know that most tested ones are no.
    other = {"PM": TaskTest("PM", rows, ("no", "yes"), "test files", 3, valid=[_asked("Same? F", "yes")])}
    trusting = run_tests(small.model, small.built.collator, generator, other, SETTINGS, lambda: math.inf)["PM"]
    assert trusting["valid_examples"] == 1 and trusting["threshold"] != found["PM"]["threshold"]
    assert (
        found["SR"]["invalid"] == 0
        and found["SR"]["examples"] == 2
        and set(found["IP"]["metrics"]) == {"rouge_l", "bleu"}
    )
    assert 0 < found["Q2I"]["metrics"]["mrr@20"] <= 1 and 0 < found["U2I"]["metrics"]["mrr@20"] <= 1


@pytest.mark.parametrize("left", [0.0, 10.0, 45.0, 120.0, 400.0])
@pytest.mark.parametrize(("closed", "free", "pairs"), [(0.1, 3.0, 0.05), (0.1, 0.1, 0.1), (2.0, 0.5, 4.0)])
def test_every_task_is_tested_and_the_time_is_kept(monkeypatch, left, closed, free, pairs):
    """The clock says what an example of each form takes; the first pass over pairs encodes a catalogue of 5 s."""
    now, encoded = [0.0], []

    def answered(collator, generator, test, settings):
        # Answers with a limit four times as long take four times as long.
        now[0] += (len(test.examples) + len(test.valid)) * (
            closed if test.choices else free * max(4, test.longest_answer) / 4
        )
        return {"metrics": {"f1_yes": 1.0}}

    def ranked(vectors, task, examples, settings, others):
        now[0] += len(examples) * pairs + 5.0 * (not encoded)
        encoded.append(task)
        return {"mrr@20": 1.0}, 3

    for name, replaced in (("answer", answered), ("rank_examples", ranked), ("TaskVectors", lambda *given: None)):
        monkeypatch.setattr(f"recbole_recfound.evaluation.tasks.{name}", replaced)
    monkeypatch.setattr("recbole_recfound.evaluation.task_time.time.monotonic", lambda: now[0])
    rows = [_asked(f"Same? {n}", "yes") for n in range(16)]
    found_pairs = [RecordPairExample(("", "q"), ("", "p"), (("", "x"),), (("", "p"),))] * 16
    forms = {
        "AVE": (rows, ()),
        "IP": (rows, ()),
        "SR": (rows, ("yes",)),
        "U2I": (found_pairs, ()),
        "I2I": (found_pairs, ()),
    }
    tests = {name: TaskTest(name, examples, choices, "", 16) for name, (examples, choices) in forms.items()}
    tests["SA"] = TaskTest("SA", rows, ("no", "yes"), "", 16, valid=rows[:8])
    tests["PM"] = TaskTest("PM", rows, (), "", 16, longest_answer=16)
    writer = SimpleNamespace(tokenizer=None, device=None)
    found = run_tests(None, None, writer, tests, SETTINGS, lambda: left - now[0])
    assert all(1 <= result["examples"] <= 16 for result in found.values()) and set(found) == set(tests)
    one_of_each = 5.0 + 2 * pairs + 3 * closed + (2 + 4) * free
    assert now[0] <= left + one_of_each
    everything = 5.0 + 32 * pairs + (16 + 16 + 8) * closed + (32 + 64) * free
    if left > 3 * everything:
        assert all(result["examples"] == 16 for result in found.values())


def test_one_dear_first_example_does_not_stand_for_all(monkeypatch):
    """Eight tests have fifteen seconds, and the first example of all loads something for two."""
    now, loaded = [0.0], []

    def answered(collator, generator, test, settings):
        now[0] += 0.01 * len(test.examples) + 2.0 * (not loaded)
        loaded.append(test.task)
        return {"metrics": {"f1_yes": 1.0}}

    monkeypatch.setattr("recbole_recfound.evaluation.tasks.answer", answered)
    monkeypatch.setattr("recbole_recfound.evaluation.tasks.TaskVectors", lambda *given: None)
    monkeypatch.setattr("recbole_recfound.evaluation.task_time.time.monotonic", lambda: now[0])
    rows = [_asked(f"Same? {n}", "yes") for n in range(100)]
    names = ("AVE", "IP", "SR", "SA", "PM", "QR", "UP", "AP")
    tests = {name: TaskTest(name, rows, (), "", 100) for name in names}
    writer = SimpleNamespace(tokenizer=None, device=None)
    found = run_tests(None, None, writer, tests, SETTINGS, lambda: 15.0 - now[0])
    assert all(result["examples"] == 100 for result in found.values())


@pytest.mark.parametrize("left", [math.inf, 1e6])
def test_every_example_is_asked_once(small_run, left):
    """Also where the first few are asked before the others, to see what they take."""
    small = build_small(small_run, tasks=["U2I", "SR", "IP"])
    generator, asked = Generator(small.model.backbone, small.built.collator.tokenizer, small.device), []
    real, generator.answers = (
        generator.answers,
        lambda prompts, *rest: asked.append(len(prompts)) or real(prompts, *rest),
    )
    found = run_tests(small.model, small.built.collator, generator, small.built.tests, SETTINGS, lambda: left)
    assert sum(asked) == sum(len(small.built.tests[name].examples) for name in ("SR", "IP"))
    assert left == 1e6 or asked == [len(small.built.tests[name].examples) for name in ("SR", "IP")]
    assert all(found[name]["examples"] == len(test.examples) for name, test in small.built.tests.items())
