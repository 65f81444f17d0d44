"""Q2I on a data set small enough to check by hand."""

import numpy as np

from recbole_recfound.data.task import TrainingData
from recbole_recfound.data.text import Catalogue
from tests.data.task.hand_made import examples_of, task_of, training_data


def test_q2i_keywords_come_from_the_item():
    task = task_of("Q2I")
    assert task.note == "keyword queries from the items' own fields"
    assert len(task) == 5
    for row, example in enumerate(examples_of(task)):
        values = task.source.catalogue.values[row]
        assert example.positive == row and example.known == (row,)
        assert set(example.query.split()) <= set(" ".join(values.values()).lower().split())
        assert len(example.query.split()) <= 3 and example.negatives[0] != row


def test_q2i_items_of_one_text_answer_each_others_queries():
    source = training_data()
    source.catalogue.values[3] = {"title": "ALIEN ", "year": "1979"}  # another spelling of row 0
    examples = examples_of(task_of("Q2I", source, hard_negatives=3))
    assert examples[0].known == examples[3].known == (0, 3)
    assert not {0, 3} & {*examples[0].negatives, *examples[3].negatives}


def test_q2i_query_file_wins():
    task = task_of(
        "Q2I", training_data(queries=[("space monster", 0), ("space monster", 1), ("heist", 2)]), hard_negatives=3
    )
    examples = examples_of(task)
    assert [(e.query, e.positive, e.known) for e in examples] == [
        ("space monster", 0, (0, 1)),
        ("space monster", 1, (0, 1)),
        ("heist", 2, (2,)),
    ]
    assert set(examples[0].negatives) == {2, 3, 4}
    assert task.note == "queries from the .query file"


def test_queries_of_the_test_are_in_no_training_example():
    films = Catalogue(
        [f"i{n}" for n in range(41)], ["title"], [{"title": f"Film {n}"} for n in range(41)], 40, [{}] * 41
    )
    queries = [(f"query {n % 20}", n) for n in range(40)]
    for asked in ([], queries):
        source = TrainingData(films, ["u"], np.array([0, 2]), np.array([0, 1]), None, asked, 7, np.arange(40))
        task = task_of("Q2I", source, test_examples=9)
        kept, available = task.test_examples(None)
        assert len(kept) == available == 2
        for field in ("query", "positive") if asked else ("positive",):
            assert not {getattr(e, field) for e in kept} & {getattr(e, field) for e in examples_of(task)}
        assert len(task) == 38 and all(not {e.positive, *e.known} & {*e.negatives} for e in kept)
        assert len(task_of("Q2I", source)) == 40


def test_spellings_of_one_query_are_tested_or_trained_together():
    films = Catalogue(
        [f"i{n}" for n in range(81)], ["title"], [{"title": f"Film {n}"} for n in range(81)], 80, [{}] * 81
    )
    queries = [(f"red shoe {n}" if n < 40 else f"Red  SHOE {n - 40}", n) for n in range(80)]
    source = TrainingData(films, ["u"], np.array([0, 2]), np.array([0, 1]), None, queries, 7, np.arange(80))
    task = task_of("Q2I", source, test_examples=9)
    kept, available = task.test_examples(None)
    assert len(kept) == available == 4, "two queries in two spellings"
    assert not {e.query.split()[-1] for e in kept} & {e.query.split()[-1] for e in examples_of(task)}
    assert len(task) == 76 and all(set(e.known) == {e.positive, (e.positive + 40) % 80} for e in examples_of(task))
