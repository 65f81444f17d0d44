"""The right answer of an embedding example among others: by hand, and against pair by pair."""

import contextlib

import numpy as np
import pytest
import torch

from recbole_recfound.data.task import RecordPairExample
from recbole_recfound.evaluation.ranked_pairs import rank_examples
from recbole_recfound.evaluation.task_vectors import TaskVectors
from tests.small_model import build_small, perturb

SETTINGS = {"metric_decimal_place": 4}


class _Vectors:
    """A model whose text vectors are given; counts what it encodes."""

    def __init__(self, vectors):
        self.vectors, self.encoded = vectors, []

    def texts(self, texts, task):
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
    mrr = rank_examples(model, "Q2I", examples, SETTINGS)
    assert mrr == ({"mrr@20": pytest.approx((1 + 1 / 3 + 1) / 3, abs=1e-4)}, 2)
    assert len(model.encoded) == len(set(model.encoded)) == 5
    ndcg = rank_examples(model, "I2I", examples, SETTINGS)
    assert ndcg == ({"ndcg@20": pytest.approx((1 + 1 / np.log2(4) + 1) / 3, abs=1e-4)}, 2)


@pytest.mark.parametrize("name", ["q", "good", "bad"])
def test_a_score_that_is_no_number_is_no_hit(name):
    """Whether of the target or of another candidate: a model that answers NaN is no better than any other."""
    vectors = {"q": [1.0, 0.0], "good": [0.6, 0.8], "bad": [0.0, 1.0]} | {name: [float("nan"), 0.0]}
    example = RecordPairExample(("Q:", "q"), ("", "good"), (("", "bad"),), (("", "good"),))
    found = rank_examples(_Vectors(vectors), "Q2I", [example], SETTINGS)
    assert found == ({"mrr@20": 0.5}, 2)


def test_a_record_without_negatives_is_ranked_against_the_others():
    vectors = {"q": [1.0, 0.0], "good": [0.6, 0.8], "best": [1.0, 0.0], "bad": [0.0, 1.0]}
    query, texts = ("Q:", "q"), {name: ("", name) for name in vectors}
    examples = [RecordPairExample(query, texts[name], (), (texts[name],)) for name in ("good", "best", "bad")]
    found = rank_examples(_Vectors(vectors), "Q2I", examples, SETTINGS, [e.positive for e in examples])
    assert found == ({"mrr@20": pytest.approx((1 / 2 + 1 + 1 / 3) / 3, abs=1e-4)}, 3)
    many = {"q": [1.0, 0.0]} | {f"t{n}": [1.0, 0.0] for n in range(40)}
    tied = [RecordPairExample(query, ("", f"t{n}"), (), (("", f"t{n}"),)) for n in range(40)]
    others = [e.positive for e in tied]
    assert rank_examples(_Vectors(many), "Q2I", tied, SETTINGS, others) == (
        {"mrr@20": pytest.approx(1 / 20, abs=1e-4)},
        20,
    ), "19 rivals, all as good"
    one = rank_examples(_Vectors(many), "Q2I", tied[:1], SETTINGS, others)
    assert one == ({"mrr@20": pytest.approx(1 / 20, abs=1e-4)}, 20), "as many rivals, however few examples are asked"
    own = [RecordPairExample(query, ("", "t0"), tuple(others[1:]), (("", "t0"),))]
    assert rank_examples(_Vectors(many), "Q2I", own, SETTINGS, others)[1] == 20, "and no more"


@pytest.mark.parametrize("mode", [{"history": name} for name in ("item", "positions", "prompt", "late")])
def test_held_out_pairs_are_ranked_as_one_by_one(small_run, mode):
    """All examples at once, whatever their lengths, give what each gives by itself."""
    small = build_small(small_run | mode, tasks=["U2I", "I2I", "Q2I"], task_test_examples=6)
    perturb(small.model)
    small.model.refresh_items()
    model, tests = small.model.eval(), small.built.tests
    assert set(tests) == {"U2I", "I2I", "Q2I"}
    # Items that only .item knows would all be the padding.
    iids = model.parts.data.item_ids.id_of_index
    vectors = TaskVectors(model, model.parts.data.collator)
    assert all(iids[[e.positive, *e.negatives]].all() for e in tests["U2I"].examples)
    with (
        pytest.raises(ValueError, match="no vector in the item table")
        if mode["history"] != "prompt"
        else contextlib.nullcontext()
    ):
        vectors.items("U2I", [int(np.flatnonzero(iids == 0)[0])])
    for task, test in tests.items():
        values = []
        for example in test.examples:
            query = vectors.queries(task, [example.query])
            right, *others = vectors.items(task, [example.positive, *example.negatives]) @ query[0]
            values.append(1 + sum(bool(other >= right) for other in others))
        gain = [1 / rank if task != "I2I" else 1 / np.log2(1 + rank) for rank in values]
        found = rank_examples(vectors, task, test.examples, SETTINGS)
        assert found == ({"ndcg@20" if task == "I2I" else "mrr@20": pytest.approx(np.mean(gain), abs=2e-4)}, 20)
        assert all(19 == len(e.negatives) and not {e.positive, *e.known} & {*e.negatives} for e in test.examples)
