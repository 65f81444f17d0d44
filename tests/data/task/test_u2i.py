"""U2I on a data set small enough to check by hand."""

from recbole_recfound.data.task import SequenceExample
from tests.data.task.hand_made import examples_of, task_of


def test_u2i_sequences_are_whole_histories_of_two_or_more():
    task = task_of("U2I", sequences=True)
    assert examples_of(task) == [SequenceExample("u0", (0, 1, 2)), SequenceExample("u1", (1, 2))]
    assert task.targets_per_example == 1.5


def test_u2i_prompts_have_one_target_each():
    examples = examples_of(task_of("U2I", sequences=False, history_titles=1))
    assert [(e.query, e.positive, e.known) for e in examples] == [
        ((0,), 1, (0, 1, 2)),
        ((1,), 2, (0, 1, 2)),
        ((1,), 2, (1, 2)),
    ]
    assert examples[0].negatives[0] in (3, 4) and examples[2].negatives[0] in (0, 3, 4)
    assert [e.query for e in examples_of(task_of("U2I", sequences=False, history_titles=9))] == [(0,), (0, 1), (1,)]
