"""U2I, I2I and Q2I on a data set small enough to check by hand."""

import numpy as np
import pytest

from recbole_recfound.data.task import HeldOut, PairExample, SequenceExample, TaskOptions, TrainingData, build_tasks
from recbole_recfound.data.task.negatives import nearest_titles
from recbole_recfound.data.text import Catalogue
from tests.data.task.hand_made import catalogue, training_data


def _task(name, source=None, **options):
    tasks, left_out = build_tasks([name], source or training_data(), TaskOptions(**options))
    assert not left_out
    return tasks[name]


def _all(task):
    return [task.example(index) for index in range(len(task))]


def test_u2i_sequences_are_whole_histories_of_two_or_more():
    task = _task("U2I", sequences=True)
    assert _all(task) == [SequenceExample("u0", (0, 1, 2)), SequenceExample("u1", (1, 2))]
    assert task.targets_per_example == 1.5


def test_u2i_prompts_have_one_target_each():
    examples = _all(_task("U2I", sequences=False, history_titles=1))
    assert [(e.query, e.positive, e.known) for e in examples] == [
        ((0,), 1, (0, 1, 2)),
        ((1,), 2, (0, 1, 2)),
        ((1,), 2, (1, 2)),
    ]
    assert examples[0].negatives[0] in (3, 4) and examples[2].negatives[0] in (0, 3, 4)
    assert [e.query for e in _all(_task("U2I", sequences=False, history_titles=9))] == [(0,), (0, 1), (1,)]


def test_i2i_pairs_and_their_order():
    # Together: 0-1 once, 0-2 once, 1-2 twice. Following within a window of one: 0 -> 1 once, 1 -> 2 twice.
    # Scores: (0, 1) = 2/sqrt(2), (0, 2) = 1/sqrt(2), (1, 0) = 1/sqrt(2), (1, 2) = 4/2, (2, 0) = 1/sqrt(2), (2, 1) = 2/2.
    task = _task("I2I", neighbour_window=1, neighbours=10)
    assert [(e.query, e.positive) for e in _all(task)] == [(0, 1), (0, 2), (1, 2), (1, 0), (2, 1), (2, 0)]
    assert sorted(task.example(0).known) == [0, 1, 2]
    best = _task("I2I", neighbour_window=1, neighbours=1)
    assert [(e.query, e.positive) for e in _all(best)] == [(0, 1), (1, 2), (2, 1)]


def test_i2i_window_reaches_further_but_not_into_the_next_user():
    source = training_data([[0, 1, 2], [3, 4]])
    pairs = {(e.query, e.positive) for e in _all(_task("I2I", source, neighbour_window=3))}
    assert pairs == {(a, b) for group in ((0, 1, 2), (3, 4)) for a in group for b in group if a != b}


def test_i2i_item_twice_in_a_history_is_no_pair_with_itself():
    pairs = [(e.query, e.positive) for e in _all(_task("I2I", training_data([[0, 0, 1], [2, 3]])))]
    assert all(a != b for a, b in pairs) and (0, 1) in pairs


def test_q2i_keywords_come_from_the_item():
    task = _task("Q2I")
    assert task.note == "keyword queries from the items' own fields"
    assert len(task) == 5
    for row, example in enumerate(_all(task)):
        values = task.source.catalogue.values[row]
        assert example.positive == row and example.known == (row,)
        assert set(example.query.split()) <= set(" ".join(values.values()).lower().split())
        assert len(example.query.split()) <= 3 and example.negatives[0] != row


def test_q2i_items_of_one_text_answer_each_others_queries():
    source = training_data()
    source.catalogue.values[3] = dict(source.catalogue.values[0])
    examples = _all(_task("Q2I", source, hard_negatives=3))
    assert examples[0].known == examples[3].known == (0, 3)
    assert not {0, 3} & {*examples[0].negatives, *examples[3].negatives}


def test_q2i_query_file_wins():
    task = _task(
        "Q2I", training_data(queries=[("space monster", 0), ("space monster", 1), ("heist", 2)]), hard_negatives=3
    )
    examples = _all(task)
    assert [(e.query, e.positive, e.known) for e in examples] == [
        ("space monster", 0, (0, 1)),
        ("space monster", 1, (0, 1)),
        ("heist", 2, (2,)),
    ]
    assert set(examples[0].negatives) == {2, 3, 4}
    assert task.note == "queries from the .query file"


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
    other = "Q2I" if name != "Q2I" else "U2I"
    built, left_out = build_tasks([name, other], source, TaskOptions())
    assert reason in left_out[name] and name not in built


def test_nearest_titles_share_words():
    near = nearest_titles(catalogue(), count=2)
    assert near.shape == (5, 2)
    assert near[2, 0] == 3 and near[3, 0] == 2  # Heat and Heat wave
    assert all(row not in near[row] for row in range(5))
    assert nearest_titles(catalogue(), count=50).shape == (5, 4)


def test_nearest_titles_of_twins():
    twins = catalogue()
    for values in twins.values:
        values["title"] = "The same"
    near = nearest_titles(twins, count=2)
    assert near.shape == (5, 2) and all(row not in near[row] for row in range(5))


def test_negatives_from_titles_when_there_are_enough():
    source = training_data([[2, 0], [4, 2]])
    examples = _all(_task("U2I", source, sequences=False, negative_source="title", hard_negatives=1))
    assert {e.positive: e.negatives for e in examples}[2] in {(0,), (1,), (3,)}
    near = np.setdiff1d(nearest_titles(source.catalogue)[2], [4, 2])
    assert set({e.positive: e.negatives for e in examples}[2]) <= set(near.tolist())


def test_examples_do_not_depend_on_what_was_asked_before():
    for name in ("U2I", "I2I", "Q2I"):
        forwards = _all(_task(name, sequences=False))
        task = _task(name, sequences=False)
        assert [task.example(index) for index in reversed(range(len(task)))][::-1] == forwards
        assert isinstance(forwards[0], PairExample)


def test_what_is_asked_in_the_test():
    """Two users of the hand-made data, each with one more item: 3 after 0 1 2, 0 after 1 2 4."""
    source = training_data([[0, 1, 2], [1, 2, 4]])
    held_out = HeldOut(training_data([[0, 1, 2, 3], [1, 2, 4, 0]]), np.array([3, 7]))
    asked, available = _task("U2I", source, eval_examples=9).test_examples(held_out)
    assert [(e.query, e.positive, e.known) for e in asked] == [
        ((0, 1, 2), 3, (0, 1, 2, 3)),
        ((1, 2, 4), 0, (0, 1, 2, 4)),
    ]
    # Nobody has 3 in the training part: it is no rival, since a ranking of users' items has no place for it.
    assert [e.negatives for e in asked] == [(4,), ()] and available == 2
    asked, available = _task("I2I", source, eval_examples=9).test_examples(held_out)
    assert sorted((e.query, e.positive) for e in asked) == [(2, 3), (4, 0)] and available == 2
    for example in asked:
        assert {0, 1, 2, 4} == {*example.known, *example.negatives} - {3} and example.positive in example.known
    # 4 and 0 share a user now: what was trained on is not asked.
    known = training_data([[0, 1, 2, 4], [1, 2, 4]])
    held_out = HeldOut(training_data([[0, 1, 2, 4, 3], [1, 2, 4, 0]]), np.array([4, 8]))
    assert [(e.query, e.positive) for e in _task("I2I", known, eval_examples=9).test_examples(held_out)[0]] == [(4, 3)]
    assert len(_task("U2I", source, eval_examples={"U2I": 1}).test_examples(held_out)[0]) == 1
    assert _task("U2I", source, eval_examples={"SR": 1}).test_examples(held_out)[0] == []


def test_queries_of_the_test_are_in_no_training_example():
    films = Catalogue(
        [f"i{n}" for n in range(41)], ["title"], [{"title": f"Film {n}"} for n in range(41)], 40, [{}] * 41
    )
    queries = [(f"query {n % 20}", n) for n in range(40)]
    for asked in ([], queries):
        source = TrainingData(films, ["u"], np.array([0, 2]), np.array([0, 1]), None, asked, 7)
        task = _task("Q2I", source, eval_examples=9)
        kept, available = task.test_examples(None)
        assert len(kept) == available == 2
        for field in ("query", "positive") if asked else ("positive",):
            assert not {getattr(e, field) for e in kept} & {getattr(e, field) for e in _all(task)}
        assert len(task) == 38 and all(not {e.positive, *e.known} & {*e.negatives} for e in kept)
        assert len(_task("Q2I", source)) == 40
