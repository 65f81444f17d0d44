"""Building of tasks: what the data does not support, caps, unknown names."""

import pytest

from recbole_recfound.data.task import build_tasks
from recbole_recfound.errors import ConfigError
from tests.data.task.hand_made import build, task_settings, training_data

HISTORIES = [[0, 1, 2, 3], [1, 2, 0]]


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("SR", training_data([[0, 1], [2, 3]]), "no user has more than 2 training interactions"),
        ("SA", training_data(HISTORIES), "no rating"),
        ("SA", training_data(HISTORIES, [3] * 7), "1 distinct ratings"),
        ("IP", training_data(HISTORIES, described=False), "no item has a title"),
        ("AVE", training_data(HISTORIES, described=False), "no item has a title"),
        ("QR", training_data(HISTORIES), "JSON-lines"),
        ("PM", training_data(HISTORIES), "JSON-lines"),
    ],
)
def test_unsupported_by_the_data(name, source, reason):
    task, given = build(name, source)
    assert task is None and reason in given


def test_examples_of_a_task_are_capped_in_order():
    many = training_data([[0, 1, 2]] * 40)
    task, _ = build("SR", many, max_examples=7)
    assert len(task) == 7 and sorted(task.positions) == task.positions.tolist()
    again, _ = build("SR", many, max_examples=7)
    assert again.positions.tolist() == task.positions.tolist()


def test_unknown_names_and_nothing_to_build():
    with pytest.raises(
        ConfigError, match=r"tasks: unknown task 'U2U' \(did you mean U2I\?\), 'nothing'; known: U2I, Q2I"
    ):
        build_tasks(["U2U", "U2I", "nothing"], training_data(), task_settings())
    with pytest.raises(ConfigError, match=r"none can be built: SA \(the data set has no rating\)"):
        build_tasks(["SA"], training_data(), task_settings())
