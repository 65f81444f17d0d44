"""What holds for every registered task."""

import re
from dataclasses import fields, replace

import numpy as np
import pytest

from recbole_recfound.data.task import (
    EMBEDDING,
    GENERATIVE,
    HELD_OUT,
    KEPT,
    RECORDS,
    TASKS,
    HeldOut,
    PairExample,
    TaskSettings,
    task_table,
)
from recbole_recfound.data.task.answers import NO_YES
from recbole_recfound.errors import ConfigError
from tests.data.task.hand_made import examples_of, task_of, task_settings, training_data

every_task = pytest.mark.parametrize("name", TASKS)
from_atomic_files = pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.from_atomic_files])
ROWS = [[0, 1, 2, 3], [1, 2, 0], [3, 4, 1]]
RATINGS = [5, 3.5, 1, 5, 3.5, 1, 5, 5, 1, 3.5]


def source():
    data = training_data(ROWS, RATINGS)
    return type(data)(**(vars(data) | {"profiles": {"u0": {"age": "24"}, "u1": {"age": "30"}}}))


@every_task
def test_definition(name):
    task = TASKS[name]
    assert task.name == name and task.spec is task and task.title and task.record
    assert task.kind in (EMBEDDING, GENERATIVE) and task.test in (HELD_OUT, KEPT, RECORDS)
    assert task.from_atomic_files == (task.test != RECORDS)
    assert bool(task.metrics) == (task.kind == GENERATIVE)
    assert not task.answers or task.closed
    if task.from_atomic_files:
        assert set(re.findall(r"{{ (\w+) }}", task.prompt)) == set(task.slots) != set()


@from_atomic_files
def test_examples_are_deterministic_and_fill_the_prompt(name):
    tasks = [task_of(name, source(), candidates=3) for _ in range(2)]
    forwards = examples_of(tasks[0])
    assert [tasks[1].example(index) for index in reversed(range(len(forwards)))][::-1] == forwards
    for example in forwards:
        if TASKS[name].kind == GENERATIVE:
            assert set(example.slots) == set(tasks[0].slots)
            assert TASKS[name].parses(example.answer)
            assert not tasks[0].closed or example.answer in tasks[0].choices


@from_atomic_files
def test_no_test_example_is_a_training_example(name):
    held_out = HeldOut(
        training_data([[*row, 2 if index else 4] for index, row in enumerate(ROWS)]), np.array([4, 8, 12])
    )
    object.__setattr__(held_out.data, "ratings", np.array([5.0] * 13, dtype=np.float32))
    task = task_of(name, source(), test_examples=3, candidates=3)
    tested, available = task.test_examples(held_out)
    assert len(tested) <= min(3, available) or available == len(tested) == 0
    assert not [example for example in tested if example in examples_of(task)]
    assert TaskSettings().tested(name) == 0


@pytest.mark.parametrize("repeatable", [False, True])
@pytest.mark.parametrize("name", ["U2I", "I2I", "SR"])
def test_a_tested_answer_is_not_the_only_candidate(name, repeatable):
    """The first user has had every item after the test item, the second has not."""
    histories = [[0, 1, 2, 3], [0, 1, 2]]
    data = training_data(histories, candidates=range(5))
    held_out = HeldOut(training_data([[*histories[0], 4], [*histories[1], 4]]), np.array([4, 8]))
    task = TASKS[name](data, replace(task_settings(test_examples=9, neighbours=1), repeatable=repeatable))
    tested, available = task.test_examples(held_out)
    assert len(tested) == available == (2 if repeatable or name == "I2I" else 1)
    assert all(len(_candidates(example)) > 1 for example in tested)


def test_an_item_with_all_others_as_neighbours_is_not_tested():
    data = training_data([[0, 1, 2], [0, 1, 2], [3, 4]], candidates=[0, 1, 2, 3])
    held_out = HeldOut(training_data([[0, 1, 2], [0, 1, 2, 3], [3, 4]]), np.array([6]))
    assert task_of("I2I", data, test_examples=9, neighbours=1).test_examples(held_out)[1] == 1
    assert task_of("I2I", data, test_examples=9, neighbours=2).test_examples(held_out) == ([], 0)


def test_a_query_for_every_item_is_not_tested():
    every = [(f"film {number}", row) for number in range(40) for row in range(5)]
    task = task_of("Q2I", training_data(queries=every), test_examples=9)
    assert len(task.kept) == 10 and task.test_examples(None) == ([], 0)
    task = task_of("Q2I", training_data(queries=every[::5]), test_examples=9)
    assert task.test_examples(None)[1] == 2


def _candidates(example):
    """All candidates of an example."""
    if isinstance(example, PairExample):
        return [example.positive, *example.negatives]
    return example.slots["candidates"][1]


@every_task
def test_options_are_validated(name):
    task = TASKS[name]
    assert TaskSettings().options(name) == task.Options()
    with pytest.raises(ConfigError, match=f"task_args: {name}: unknown option colour; known: "):
        TaskSettings({name: {"colour": 1}}).options(name)
    for field in fields(task.Options):
        with pytest.raises(ConfigError, match=f"task_args: {name}: {field.name}: got .*, expected"):
            TaskSettings({name: {field.name: [None]}}).options(name)


@every_task
def test_answers_of_records(name):
    task = TASKS[name]
    if task.answers:
        assert task.record_choices({"anything"}) == task.answers and all(map(task.parses, task.answers))
    if task.answers == NO_YES:
        assert not task.parses("perhaps")


def test_ids_are_rows_of_the_table_and_parts_of_seeds():
    names = ["U2I", "Q2I", "I2I", "QR", "SR", "PRP", "SA", "AVE", "PM", "UP", "IP", "AP", "AG"]
    assert [TASKS[name].id for name in names] == list(range(13))
    assert list(TASKS)[:13] == names and list(task_table()) == [*names, "spare"]
    assert list(task_table().values()) == [EMBEDDING] * 3 + [GENERATIVE] * 10 + ["none"]
