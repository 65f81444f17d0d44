"""SA on a data set small enough to check by hand."""

import numpy as np

from tests.data.task.hand_made import build, task_of, training_data

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


def test_examples_are_sampled_from_rated_interactions():
    """One in ten is rated: of a sample of all interactions hardly any would be left."""
    ratings = [1 + number // 10 % 5 if number % 10 == 0 else np.nan for number in range(600)]
    source = training_data([[number % 5 for number in range(6)]] * 100, ratings)
    task = task_of("SA", source, max_examples=40)
    # 20 of the 60 rated ones stand first in a history.
    assert len(task_of("SA", source)) == 40 == len(task)
    few = task_of("SA", source, max_examples=10)
    assert len(few) == 10 and np.isfinite(source.ratings[few.positions]).all()


def test_other_ratings_have_other_words():
    ratings = [1000001, 1000002, 16777216, 0.1, 1000001, 1000002, 0.1]
    task = task_of("SA", training_data(HISTORIES, ratings))
    assert task.choices == ("0.1", "1000001", "1000002", "16777216")
