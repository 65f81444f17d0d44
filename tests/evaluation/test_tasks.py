"""The test of the tasks: what is asked, how yes is decided, how records are ranked."""

import itertools

import numpy as np
import pytest
import torch

from recbole_recfound.data import RECORD
from recbole_recfound.evaluation.tasks import TaskTest, best_threshold, collect_tests, rank_records, run_tests, score_texts
from recbole_recfound.generation import Generator
from recbole_recfound.task import GenerativeExample, HeldOut, RecordPairExample, TaskFiles, TaskOptions, TrainingData, build_tasks
from recbole_recfound.text import Catalogue, PromptTemplate
from tests.small_model import build_small, perturb
from tests.task.hand_made import training_data

SETTINGS = {"max_answer_tokens": 4, "bert_score_model": "", "metric_decimal_place": 4, "show_progress": False}


def _asked(prompt, answer):
    return GenerativeExample({"prompt": ("prompt", prompt)}, answer)


def _held_out():
    """Two users of the hand-made data, each with one more item: 3 after 0 1 2, 0 after 1 2 4."""
    source = training_data([[0, 1, 2, 3], [1, 2, 4, 0]], ratings=[5, 1, 5, 1, 5, 1, 5, 5])
    return HeldOut(source, np.array([3, 7]))


def test_what_is_asked_comes_from_the_held_out_rows():
    source = training_data([[0, 1, 2], [1, 2, 4]], ratings=[5, 1, 5, 5, 1, 5])
    tasks, _ = build_tasks(["SR", "SA", "U2I"], source, TaskOptions(candidates=3, eval_examples=10))
    tests = collect_tests(tasks, _held_out(), TaskFiles(), 10, seed=1)
    assert set(tests) == {"SR", "SA"} and all(test.source == "held-out rows" for test in tests.values())
    asked = {e.slots["history"][1]: e.slots["candidates"][1]["ABC".index(e.answer)] for e in tests["SR"].examples}
    assert asked == {(0, 1, 2): 3, (1, 2, 4): 0}
    assert sorted(e.answer for e in tests["SA"].examples) == ["1", "5"] and tests["SA"].choices == ("1", "5")
    assert collect_tests(tasks, _held_out(), TaskFiles(), 0, seed=1) == {}
    assert len(collect_tests(tasks, _held_out(), TaskFiles(), 1, seed=1)["SR"].examples) == 1


def test_items_of_the_test_are_in_no_training_example():
    values = [{"title": f"Film {row}", "year": str(1900 + row)} for row in range(41)]
    films = Catalogue([f"i{row}" for row in range(41)], ["title", "year"], values, 40, [{}] * 41)
    source = TrainingData(films, ["u"], np.array([0, 2]), np.array([0, 1]), None, [], 7)
    tasks, _ = build_tasks(["IP", "AVE"], source, TaskOptions(eval_examples=10))
    tested = [set(task.test_rows) for task in tasks.values()]
    assert tested[0] == tested[1] and len(tested[0]) == 2
    for task in tasks.values():
        assert not set(task.rows) & tested[0] and len(task) == 38
        assert task.test_examples(None) == [task.of_row(row) for row in task.test_rows]


def _slow_threshold(margins, wanted):
    """Best F1 over all sets of answers that a threshold can make."""
    best = 0.0
    for at in [*margins, min(margins) - 1]:
        said = margins > at
        best = max(best, 2 * (said & wanted).sum() / max(1, said.sum() + wanted.sum()))
    return best


@pytest.mark.parametrize("values", list(itertools.product([-1.0, 0.5, 2.0], repeat=4)))
def test_the_threshold_is_the_best_there_is(values):
    margins = np.array(values)
    for wanted in itertools.product([False, True], repeat=4):
        wanted = np.array(wanted)
        said = margins > best_threshold(margins, wanted)
        f1 = 2 * (said & wanted).sum() / max(1, said.sum() + wanted.sum())
        assert f1 == pytest.approx(_slow_threshold(margins, wanted)) if wanted.any() else best_threshold(margins, wanted) == 0.0


def test_answers_that_cannot_be_read_are_counted():
    test = TaskTest("PM", [_asked("a", "yes"), _asked("b", "no")], (), "test files", 2)
    assert score_texts(test, ["perhaps", "no"], SETTINGS) == {"metrics": {"f1_yes": 0.0}, "invalid": 1}
    titles = TaskTest("SR", [_asked("a", "Alien"), _asked("b", "Heat")], ("Alien", "Heat"), "held-out rows", 2)
    assert score_texts(titles, ["Alien", "Alien"], SETTINGS)["metrics"] == {"recall@1": 0.5}


class _Vectors:
    """A model whose text vectors are given; counts what it encodes."""

    def __init__(self, vectors):
        self.vectors, self.encoded = vectors, []

    def encode_texts(self, texts, task):
        self.encoded += texts
        return torch.tensor([self.vectors[text] for _, text in texts])


def test_ranking_of_records_by_hand():
    vectors = {"q": [1.0, 0.0], "good": [0.6, 0.8], "best": [1.0, 0.0], "tie": [0.6, 0.8], "bad": [0.0, 1.0]}
    model = _Vectors(vectors)
    query, texts = ("Q:", "q"), {name: ("", name) for name in vectors}
    # Rank 1 of one; rank 3 behind `best` and the tie; another right answer is no rival: rank 1.
    examples = [
        RecordPairExample(query, texts["best"], (texts["bad"],), (texts["best"],)),
        RecordPairExample(query, texts["good"], (texts["best"], texts["tie"], texts["bad"]), (texts["good"],)),
        RecordPairExample(query, texts["good"], (texts["best"], texts["bad"]), (texts["good"], texts["best"])),
    ]
    mrr = rank_records(model, TaskTest("Q2I", examples, (), "test files", 3), SETTINGS)
    assert mrr == {"mrr@20": pytest.approx((1 + 1 / 3 + 1) / 3, abs=1e-4)}
    assert len(model.encoded) == len(set(model.encoded)) == 5
    ndcg = rank_records(model, TaskTest("I2I", examples, (), "test files", 3), SETTINGS)
    assert ndcg == {"ndcg@20": pytest.approx((1 + 1 / np.log2(4) + 1) / 3, abs=1e-4)}


def test_a_record_without_negatives_is_ranked_against_the_others():
    vectors = {"q": [1.0, 0.0], "good": [0.6, 0.8], "best": [1.0, 0.0], "bad": [0.0, 1.0]}
    query, texts = ("Q:", "q"), {name: ("", name) for name in vectors}
    examples = [RecordPairExample(query, texts[name], (), (texts[name],)) for name in ("good", "best", "bad")]
    test = TaskTest("Q2I", examples, (), "test files", 3)
    assert rank_records(_Vectors(vectors), test, SETTINGS) == {"mrr@20": pytest.approx((1 / 2 + 1 + 1 / 3) / 3, abs=1e-4)}
    many = {"q": [1.0, 0.0]} | {f"t{n}": [1.0, 0.0] for n in range(40)}
    tied = [RecordPairExample(query, ("", f"t{n}"), (), (("", f"t{n}"),)) for n in range(40)]
    found = rank_records(_Vectors(many), TaskTest("Q2I", tied, (), "test files", 40), SETTINGS)
    assert found == {"mrr@20": pytest.approx(1 / 20, abs=1e-4)}, "19 rivals, all as good"


def test_a_model_is_tested_on_every_form(small_run):
    small = build_small(small_run, tasks=["U2I", "SR", "IP"])
    perturb(small.model)
    small.model.refresh_items()
    collator = small.model.inputs.collator
    collator.templates[RECORD] = PromptTemplate(RECORD, "{{ prompt }}", ("prompt",), collator.tokenizer)
    generator = Generator(small.model.backbone, collator.tokenizer, small.device)
    pairs = [RecordPairExample(("Q:", f"query {n}"), ("", f"text {n}"), (("", "text x"),), (("", f"text {n}"),)) for n in range(3)]
    rows = [_asked("Same? A B", "yes"), _asked("Same? C D and more", "no"), _asked("Same? E", "no")]
    tests = small.built.tests | {
        "PM": TaskTest("PM", rows, ("no", "yes"), "test files", 3, valid=rows),
        "Q2I": TaskTest("Q2I", pairs, (), "test files", 3),
    }
    found = run_tests(small.model, generator, tests, SETTINGS, lambda: 1.0)
    assert set(found) == {"SR", "IP", "PM", "Q2I"}
    assert set(found["PM"]["metrics"]) == {"f1_yes", "f1_yes_argmax"} and found["PM"]["valid_examples"] == 3
    # The threshold was chosen on the very examples that are asked: it must be at least as good as the likelier answer.
    assert found["PM"]["metrics"]["f1_yes"] >= found["PM"]["metrics"]["f1_yes_argmax"]
    assert found["SR"]["invalid"] == 0 and found["SR"]["examples"] == 2 and set(found["IP"]["metrics"]) == {"rouge_l", "bleu"}
    assert 0 < found["Q2I"]["metrics"]["mrr@20"] <= 1
    late = run_tests(small.model, generator, tests, SETTINGS, lambda: 0.0)
    assert all(set(result) == {"note"} for result in late.values())
