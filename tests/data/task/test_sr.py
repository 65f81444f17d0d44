"""SR on a data set small enough to check by hand."""

import pytest

from recbole_recfound.data.task import TASKS
from recbole_recfound.data.task.answers import LETTERS
from recbole_recfound.errors import ConfigError
from tests.data.task.hand_made import build, training_data

HISTORIES = [[0, 1, 2, 3], [1, 2, 0]]


def test_sr_asks_for_the_letter_of_the_next_item():
    task, _ = build("SR", training_data(HISTORIES), candidates=3, history_titles=2)
    # A target needs two earlier items: 2 and 3 of the first user, 0 of the second.
    expected = [((0, 1), 2, {4}), ((1, 2), 3, {4}), ((1, 2), 0, {3, 4})]
    assert len(task) == 3
    for index, (shown, target, others) in enumerate(expected):
        example = task.example(index)
        assert example.slots["history"] == ("titles", shown)
        form, candidates = example.slots["candidates"]
        assert form == "lettered" and len(candidates) == min(3, 1 + len(others))
        assert candidates[LETTERS.index(example.answer)] == target
        assert set(candidates) - {target} <= others
        assert example == task.example(index)


def test_sr_right_answer_takes_every_place():
    task, _ = build("SR", training_data([[0, 1, 2]] * 60), candidates=3)
    answers = [task.example(index).answer for index in range(len(task))]
    assert {letter: answers.count(letter) > 8 for letter in "ABC"} == dict.fromkeys("ABC", True)


def test_sr_without_a_wrong_candidate():
    task, reason = build("SR", training_data([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]]))
    assert task is None and reason == "fewer than two training examples"


def test_examples_are_sampled_from_interactions_that_leave_a_wrong_candidate():
    """Most users have every item, and others choose one again and again."""
    source = training_data([[0, 1, 2, 3, 4]] * 80 + [[0, 1, 2, 2, 2, 2]] * 20)
    assert len(build("SR", source)[0]) == 20
    task, _ = build("SR", source, max_examples=20)
    assert len(task) == 20 and {int(source.items[position]) for position in task.positions} == {2}


def test_titles_as_answers():
    task, _ = build("SR", training_data(HISTORIES), form="title")
    assert task.slots == ("history",) and "candidates" not in task.prompt
    assert task.example(0).answer == "Heat" and set(task.example(0).slots) == {"history"}
    assert task.choices == ("Alien", "Aliens", "Heat", "Heat wave", "Big")  # nobody has Big fish in training


def test_letters_of_records_have_no_gaps():
    assert TASKS["SR"].record_choices({"B", "D"}) == ("A", "B", "C", "D")
    assert TASKS["SR"].record_choices({"Heat", "Big"}) == ("Big", "Heat")


@pytest.mark.parametrize("options", [{"candidates": 27}, {"candidates": 1}, {"form": "number"}])
def test_options_out_of_range(options):
    with pytest.raises(ConfigError, match=f"task_args: SR: {next(iter(options))}: got"):
        build("SR", training_data(HISTORIES), **options)
