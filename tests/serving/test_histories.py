"""Histories of known users are whole, whatever a run left out of its parts."""

import numpy as np
import pytest

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.serving.histories import UserHistories


@pytest.fixture
def in_file(tiny_path):
    """Items of each user by time, equal times in the order of the file."""
    rows = [line.split("\t") for line in (tiny_path / "tiny" / "tiny.inter").read_text().splitlines()[1:]]
    histories: dict[str, list[str]] = {}
    for user, item, _, _ in sorted(rows, key=lambda row: float(row[3])):
        histories.setdefault(user, []).append(item)
    return histories


def _histories(tiny_path, model, **changes):
    """Splits, and the items of each user as tokens."""
    own = {} if model in ("BPR", "SASRec") else {"backbone": "none"}
    splits = build_splits(Config(model, "tiny", None, {"data_path": str(tiny_path), **own, **changes}))
    found = UserHistories.of(splits)
    tokens = splits.dataset.field2id_token["item_id"]
    read, had = (
        {user: [str(tokens[item]) for item in histories.of(row)] for user, row in found.users.items()}
        for histories in (found.histories, found.had)
    )
    return splits, read, had


ALL_BY_TIME = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": None, "mode": "full"}
"""Some users have no row in the training part: their first items are in the sequences of other parts alone."""


@pytest.mark.parametrize("changes", [{}, {"test_users": 3}, {"eval_args": ALL_BY_TIME}], ids=str)
@pytest.mark.parametrize("model", ["BPR", "SASRec", "RecFound"])
def test_all_items_of_all_users(tiny_path, in_file, model, changes):
    assert _histories(tiny_path, model, **changes)[1] == in_file


@pytest.mark.parametrize("more", [{}, {"test_users": 3}], ids=str)
@pytest.mark.parametrize("model", ["SASRec", "RecFound"])
def test_with_items_held_out_all_that_the_run_has_read(tiny_path, in_file, model, more):
    """Rows of the held-out items themselves are no part of the run, unless they are targets."""
    splits, found, _ = _histories(tiny_path, model, cold_items=0.2, **more)
    dataset = splits.dataset
    new = set(map(str, dataset.id2token("item_id", np.concatenate([dataset.cold, dataset.cold_valid]))))
    for user, items in in_file.items():
        assert [item for item in found[user] if item not in new] == [item for item in items if item not in new]
        assert set(found[user]) <= set(items)


@pytest.mark.parametrize("changes", [{}, {"cold_items": 0.2}, {"cold_items": 0.2, "test_users": 3}], ids=str)
@pytest.mark.parametrize("model", ["BPR", "SASRec", "RecFound"])
def test_no_item_of_the_data_set_that_a_user_has_had_is_forgotten(tiny_path, in_file, model, changes):
    """Rows that `cold_items` drops are read by no model, but their items are not recommended either."""
    assert _histories(tiny_path, model, **changes)[2] == in_file


@pytest.mark.parametrize("kind", ["RS", "TS"])
def test_a_first_item_without_a_training_row_is_known(tiny_path, kind):
    """It is in the sequence that a sequential model reads, so that evaluation leaves it out as an old item."""
    arguments = {**ALL_BY_TIME, "split": {kind: [0.8, 0.1, 0.1]}}
    splits, *_ = _histories(tiny_path, "SASRec", eval_args=arguments)
    trained = set(splits.train_set.inter_feat["user_id"].tolist())
    rows = splits.test_set.inter_feat
    new = [number for number, user in enumerate(rows["user_id"].tolist()) if user not in trained]
    assert len(new) > 3
    for number in new:
        read = rows["item_id_list"][number][: int(rows["item_length"][number])]
        assert int(read[0]) in splits.known_at_test.of(int(rows["user_id"][number]))
