"""SR, SA, IP and AVE on a data set small enough to check by hand; the registry."""

import json

import pytest

from recbole_recfound.data.task import EMBEDDING, GENERATIVE, TASKS, TaskOptions, build_tasks
from recbole_recfound.data.task.base import BUILDERS
from recbole_recfound.data.task.generative import LETTERS
from recbole_recfound.errors import ConfigError
from tests.data.task.hand_made import training_data

HISTORIES = [[0, 1, 2, 3], [1, 2, 0]]
RATINGS = [5, 3.5, 1, 5, 3.5, 1, 5]


def _build(name, source, **options):
    tasks, left_out = build_tasks([name, "U2I"], source, TaskOptions(**options))
    return tasks.get(name), left_out.get(name)


def test_sr_asks_for_the_letter_of_the_next_item():
    task, _ = _build("SR", training_data(HISTORIES), candidates=3, history_titles=2)
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
    task, _ = _build("SR", training_data([[0, 1, 2]] * 60), candidates=3)
    answers = [task.example(index).answer for index in range(len(task))]
    assert {letter: answers.count(letter) > 8 for letter in "ABC"} == dict.fromkeys("ABC", True)


def test_sr_without_a_wrong_candidate():
    task, reason = _build("SR", training_data([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]]))
    assert task is None and reason == "fewer than two training examples"


def test_sa_asks_for_the_rating():
    task, _ = _build("SA", training_data(HISTORIES, RATINGS), history_titles=2)
    assert task.note == "ratings as sentiment classes"
    examples = [task.example(index) for index in range(len(task))]
    assert [(e.slots["history"][1], e.slots["item"], e.answer) for e in examples] == [
        (((0, "5"),), ("sentence", 1), "3.5"),
        (((0, "5"), (1, "3.5")), ("sentence", 2), "1"),
        (((1, "3.5"), (2, "1")), ("sentence", 3), "5"),
        (((1, "3.5"),), ("sentence", 2), "1"),
        (((1, "3.5"), (2, "1")), ("sentence", 0), "5"),
    ]
    assert all(e.slots["ratings"] == ("text", "1, 3.5, 5") for e in examples)


def test_ip_describes_an_item_by_its_fields():
    task, _ = _build("IP", training_data())
    assert len(task) == 5
    words = "Alien was made. " * 40
    plot = " ".join(words.split()[:40]).rstrip(".")
    assert task.example(0).slots == {"item": ("title", 0)}
    assert task.example(0).answer == f"Year: 1979. Plot: {plot}."
    assert task.example(2).answer == "Year: 1995."


def test_ave_answers_with_attributes_and_their_source():
    source = training_data()
    source.catalogue.values[3]["title"] = "Heat wave of 2009"
    task, _ = _build("AVE", source)
    assert task.example(2).slots == {"text": ("text", "title: Heat\ndetails: 1995")}
    assert json.loads(task.example(2).answer) == [{"attribute": "year", "value": "1995", "source": "details"}]
    assert task.example(3).slots == {"text": ("text", "title: Heat wave of 2009")}
    assert json.loads(task.example(3).answer) == [{"attribute": "year", "value": "2009", "source": "title"}]


def test_items_without_a_title_are_no_examples():
    source = training_data()
    del source.catalogue.values[2]["title"]
    for name in ("IP", "AVE"):
        assert 2 not in _build(name, source)[0].rows


@pytest.mark.parametrize(
    ("name", "source", "options", "reason"),
    [
        ("SR", training_data([[0, 1], [2, 3]]), {}, "no user has more than 2 training interactions"),
        ("SR", training_data(HISTORIES), {"candidates": 27}, "sr_candidates must be 2 to 26"),
        ("SA", training_data(HISTORIES), {}, "no rating"),
        ("SA", training_data(HISTORIES, [3] * 7), {}, "1 distinct ratings"),
        ("IP", training_data(HISTORIES, described=False), {}, "no item has a title"),
        ("AVE", training_data(HISTORIES, described=False), {}, "no item has a title"),
        ("QR", training_data(HISTORIES), {}, "JSON-lines"),
    ],
)
def test_what_the_data_cannot_support(name, source, options, reason):
    task, found = _build(name, source, **options)
    assert task is None and reason in found


def test_examples_of_a_task_are_capped_in_order():
    many = training_data([[0, 1, 2]] * 40)
    task, _ = _build("SR", many, max_generative=7)
    assert len(task) == 7 and sorted(task.positions) == task.positions.tolist()
    again, _ = _build("SR", many, max_generative=7)
    assert again.positions.tolist() == task.positions.tolist()


def test_registry():
    assert [spec.id for spec in TASKS.values()] == list(range(13))
    assert list(TASKS)[:3] == ["U2I", "Q2I", "I2I"]
    assert [spec.kind for spec in TASKS.values()] == [EMBEDDING] * 3 + [GENERATIVE] * 10
    for name, builder in BUILDERS.items():
        assert builder.spec is TASKS[name]
    with pytest.raises(ConfigError, match="unknown task 'U2U'"):
        build_tasks(["U2U"], training_data(), TaskOptions())
    with pytest.raises(ConfigError, match=r"none can be built: SA \(the data set has no rating\)"):
        build_tasks(["SA"], training_data(), TaskOptions())
