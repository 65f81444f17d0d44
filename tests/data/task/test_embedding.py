"""What the embedding tasks share: what the data cannot support, negatives, test examples."""

import numpy as np
import pytest

from recbole_recfound.data.task import HeldOut, PairExample
from recbole_recfound.data.task.negatives import nearest_titles
from tests.data.task.hand_made import build, catalogue, examples_of, task_of, training_data


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("U2I", training_data([[0], [1]]), "no user has two training interactions"),
        ("I2I", training_data([[0], [1]]), "no two items share a user"),
        ("Q2I", training_data(described=False), "no .query file and no item has text"),
        ("U2I", training_data([[0, 1], [1]]), "fewer than two training examples"),
    ],
)
def test_what_the_data_cannot_support(name, source, reason):
    task, given = build(name, source)
    assert task is None and reason in given


def test_nearest_titles_share_words():
    near = nearest_titles(catalogue(), np.arange(5), count=2)
    assert near.shape == (5, 2)
    assert near[2, 0] == 3 and near[3, 0] == 2  # Heat and Heat wave
    assert all(row not in near[row] for row in range(5))
    assert nearest_titles(catalogue(), np.arange(5), count=50).shape == (5, 4)


def test_nearest_titles_of_twins():
    twins = catalogue()
    for values in twins.values:
        values["title"] = "The same"
    near = nearest_titles(twins, np.arange(5), count=2)
    assert near.shape == (5, 2) and all(row not in near[row] for row in range(5))


def test_negatives_from_titles_when_there_are_enough():
    source = training_data([[2, 0], [4, 2]])
    examples = examples_of(task_of("U2I", source, sequences=False, negative_source="title", hard_negatives=1))
    assert {e.positive: e.negatives for e in examples}[2] in {(0,), (1,), (3,)}
    near = np.setdiff1d(nearest_titles(source.catalogue, source.candidates)[2], [4, 2])
    assert set({e.positive: e.negatives for e in examples}[2]) <= set(near.tolist())


def test_examples_do_not_depend_on_what_was_asked_before():
    for name in ("U2I", "I2I", "Q2I"):
        forwards = examples_of(task_of(name, sequences=False))
        task = task_of(name, sequences=False)
        assert [task.example(index) for index in reversed(range(len(task)))][::-1] == forwards
        assert isinstance(forwards[0], PairExample)


def test_what_is_asked_in_the_test():
    """Two users of the hand-made data, each with one more item: 3 after 0 1 2, 0 after 1 2 4."""
    source = training_data([[0, 1, 2], [1, 2, 4]], candidates=[0, 1, 2, 4])
    held_out = HeldOut(training_data([[0, 1, 2, 3], [1, 2, 4, 0]]), np.array([3, 7]))
    asked, available = task_of("U2I", source, test_examples=9).test_examples(held_out)
    # Nobody has 3 in the training part: it is no candidate, and the second user has had all others.
    assert [(e.query, e.positive, e.known) for e in asked] == [((0, 1, 2), 3, (0, 1, 2, 3))]
    assert [e.negatives for e in asked] == [(4,)] and available == 1
    asked, available = task_of("I2I", source, test_examples=9, neighbours=1).test_examples(held_out)
    assert sorted((e.query, e.positive) for e in asked) == [(2, 3), (4, 0)] and available == 2
    for example in asked:
        assert {0, 1, 2, 4} == {*example.known, *example.negatives} - {3} and example.positive in example.known
    # 4 and 0 share a user now: what was trained on is not asked.
    known = training_data([[0, 1, 2, 4], [1, 2, 4]], candidates=range(6))
    held_out = HeldOut(training_data([[0, 1, 2, 4, 3], [1, 2, 4, 0]]), np.array([4, 8]))
    assert [(e.query, e.positive) for e in task_of("I2I", known, test_examples=9).test_examples(held_out)[0]] == [
        (4, 3)
    ]
    assert len(task_of("U2I", known, test_examples={"U2I": 1}).test_examples(held_out)[0]) == 1
    assert task_of("U2I", source, test_examples={"SR": 1}).test_examples(held_out)[0] == []
