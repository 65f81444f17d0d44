"""I2I on a data set small enough to check by hand."""

from tests.data.task.hand_made import examples_of, task_of, training_data


def test_i2i_pairs_and_their_order():
    # Together: 0-1 once, 0-2 once, 1-2 twice. Following within a window of one: 0 -> 1 once, 1 -> 2 twice.
    # Scores: (0, 1) = 2/sqrt(2), (0, 2) = 1/sqrt(2), (1, 0) = 1/sqrt(2), (1, 2) = 4/2, (2, 0) = 1/sqrt(2), (2, 1) =
    # 2/2.
    task = task_of("I2I", window=1, neighbours=10)
    assert [(e.query, e.positive) for e in examples_of(task)] == [(0, 1), (0, 2), (1, 2), (1, 0), (2, 1), (2, 0)]
    assert sorted(task.example(0).known) == [0, 1, 2]
    best = task_of("I2I", window=1, neighbours=1)
    assert [(e.query, e.positive) for e in examples_of(best)] == [(0, 1), (1, 2), (2, 1)]


def test_i2i_window_reaches_further_but_not_into_the_next_user():
    source = training_data([[0, 1, 2], [3, 4]])
    pairs = {(e.query, e.positive) for e in examples_of(task_of("I2I", source, window=3))}
    assert pairs == {(a, b) for group in ((0, 1, 2), (3, 4)) for a in group for b in group if a != b}


def test_i2i_item_twice_in_a_history_is_no_pair_with_itself():
    pairs = [(e.query, e.positive) for e in examples_of(task_of("I2I", training_data([[0, 0, 1], [2, 3]])))]
    assert all(a != b for a, b in pairs) and (0, 1) in pairs
