"""Items held out of training: no part that a model learns from has any, for every kind of model."""

import numpy as np
import pytest
import torch
from recbole.trainer import Trainer

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import (
    build_splits,
    check_same_rows,
    further_tests,
    held_out,
    training_pairs,
)
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.report.table import format_table, protocol_line


def splits_of(model, path, **settings):
    given = {"data_path": str(path), "show_progress": False, "use_gpu": False, "cold_items": 0.2, **settings}
    return build_splits(Config(model, "tiny", config_dict=given))


@pytest.mark.parametrize("model", ["BPR", "SASRec", "RecFound", "TextKNN"])
@pytest.mark.parametrize("ties", ["file", "shuffle"])
def test_a_cold_item_is_nowhere_but_in_the_test(write_dataset, model, ties):
    rng = np.random.default_rng(5)
    rows = [
        [f"u{user}", f"i{item}", step // 3] for user in range(40) for step, item in enumerate(rng.permutation(30)[:9])
    ]
    names = [[f"i{item}", f"item {item}"] for item in range(30)]
    path = write_dataset(
        "tiny",
        inter=[["user_id:token", "item_id:token", "timestamp:float"], *rows],
        item=[["item_id:token", "title:token_seq"], *names],
    )
    splits = splits_of(model, path, order_ties=ties)
    cold = splits.dataset.cold
    whole = splits_of(model, path, order_ties=ties, cold_items=0)
    known = np.union1d(whole.known_at_test.items, held_out(whole.test_set)[:, 1])
    assert len(cold) == round(0.2 * len(known))
    assert not np.isin(training_pairs(splits.train_set)[1], cold).any()
    assert not np.isin(held_out(splits.valid_set)[:, 1], cold).any()
    assert not np.isin(splits.known_at_test.items, cold).any()
    names = splits.dataset.iid_field + splits.config["LIST_SUFFIX"]
    for part in (splits.train_set, splits.valid_set, splits.test_set):
        if names in part.inter_feat:  # of a sequential model
            assert not np.isin(part.inter_feat[names].numpy(), cold).any()
    # Exactly the users whose last item is cold are tested, on that item.
    expected = [pair for pair in held_out(whole.test_set).tolist() if pair[1] in cold]
    assert held_out(splits.test_set).tolist() == expected != []
    assert splits.test_set.item_num == whole.test_set.item_num


def test_every_model_has_the_same_items_and_rows(tiny_path):
    reference = splits_of("RecFound", tiny_path)
    for model in ("BPR", "SASRec"):
        other = splits_of(model, tiny_path)
        check_same_rows(reference, other)
        assert np.array_equal(reference.dataset.cold, other.dataset.cold)
    other = splits_of("BPR", tiny_path, seed=2021)
    assert not np.array_equal(reference.dataset.cold, other.dataset.cold)


def test_the_ranking_among_unseen_items_by_hand(tiny_path):
    splits = splits_of("BPR", tiny_path, topk=[3], metrics=["Recall"], valid_metric="Recall@3")
    table = torch.rand(splits.dataset.user_num, splits.dataset.item_num, generator=torch.Generator().manual_seed(1))

    class Fixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scores = torch.nn.Parameter(table.clone())

        def full_sort_predict(self, interaction):
            return self.scores[interaction[splits.dataset.uid_field]].clone()

    (name, loader), *others = further_tests(splits).items()
    assert (name, others) == ("unseen", [])
    found = Trainer(splits.config, Fixed()).evaluate(loader, load_best_model=False)
    cold = splits.dataset.cold
    hits = [
        sum(table[user, other] > table[user, item] for other in cold) < 3 for user, item in held_out(splits.test_set)
    ]
    assert found["recall@3"] == pytest.approx(np.mean(hits), abs=1e-4) and 0 < np.mean(hits) < 1


def test_the_table_and_its_first_line_say_so(tiny_path):
    row = {"model": "A", "metrics": {"recall@10": 0.1}, "train_seconds": 1, "eval_seconds": 1}
    row |= {"trainable_parameters": 1, "unseen": {"ndcg@10": 0.2, "recall@10": 0.3}}
    header, _, line = format_table([row]).splitlines()
    assert "recall@10 unseen" in header and "0.3000" in line and "ndcg" not in header
    from recbole_recfound.data.split.protocol import Protocol

    splits = splits_of("BPR", tiny_path)
    assert "20% of the items held out" in protocol_line(Protocol.of(splits.config, splits).to_json())


@pytest.mark.parametrize(
    "arguments",
    [
        {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user", "mode": "full"},
        {"split": {"LS": "valid_and_test"}, "order": "RO", "group_by": "user", "mode": "full"},
        {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni100"},
    ],
)
def test_other_splits_are_refused(tiny_path, arguments):
    with pytest.raises(ConfigError, match="cold_items: needs eval_args"):
        splits_of("BPR", tiny_path, eval_args=arguments)
