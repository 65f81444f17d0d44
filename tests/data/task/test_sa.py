"""SA on a data set small enough to check by hand."""

from tests.data.task.hand_made import build, training_data

HISTORIES = [[0, 1, 2, 3], [1, 2, 0]]
RATINGS = [5, 3.5, 1, 5, 3.5, 1, 5]


def test_sa_asks_for_the_rating():
    task, _ = build("SA", training_data(HISTORIES, RATINGS), history_titles=2)
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
