"""Items held out of training, to score a model on items that nobody has chosen yet."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def hold_out_items(dataset: Any) -> None:
    """Draw `cold_items` of a data set's items by seed for the test and as many for validation, and drop their rows.

    The last interaction of a user is the test row and the one before it the validation row (`eval_args: {split: {LS:
    valid_and_test}}`). An item of the test keeps its rows that are a user's last. An item of validation keeps those
    that are a user's last but one, behind a row of a known item, unless an item of the test follows, and its last ones,
    which are not tested (see `keep_cold_targets`) and hold the places of the rows before them. So no training row, no
    history of a user who is tested and no history before a validation row has an item of either kind.

    Args:
        dataset: RecBole's, before it is split, rows in the order of time; gets `cold` and `cold_valid`, int64, ids of
            the items of the test and of validation, in ascending order, and `all_pairs`, int64 [n] each, users and
            items of all rows, those that are dropped included.
    """
    config = dataset.config
    items = dataset.inter_feat[dataset.iid_field].to_numpy()
    users = dataset.inter_feat[dataset.uid_field].to_numpy()
    dataset.all_pairs = users, items
    known = np.unique(items)
    count = max(1, round(config["cold_items"] * len(known)))
    rng = np.random.default_rng([config["seed"], 0xC01D])
    dataset.cold = np.sort(rng.choice(known, count, replace=False))
    others = np.setdiff1d(known, dataset.cold)
    dataset.cold_valid = np.sort(rng.choice(others, count, replace=False))
    kept = ~np.isin(items, dataset.cold) | (_from_the_end(users) == 0)
    # Among the rows that are left: the test items that went stood before the last row, so places have moved.
    place = np.full(len(users), -1)
    place[kept] = _from_the_end(users[kept])
    tested = np.unique(users[np.isin(items, dataset.cold) & kept])
    new = np.isin(items, dataset.cold_valid)
    has_history = np.unique(users[kept & ~new & (place > 1)])
    for_validation = (place == 1) & np.isin(users, has_history) & ~np.isin(users, tested)
    kept &= ~new | (place == 0) | for_validation
    dataset.inter_feat = dataset.inter_feat[kept].reset_index(drop=True)
    dataset.time_rank = dataset.time_rank[kept]
    dataset.left_out[f"cold_items: {config['cold_items']}"] = int((~kept).sum())


def _from_the_end(users: np.ndarray) -> np.ndarray:
    """Return how many rows of the same user follow each row, int64 [n]."""
    by_user = np.argsort(users, kind="stable")
    ends = np.cumsum(np.unique(users, return_counts=True)[1]) - 1
    after = np.empty(len(users), dtype=np.int64)
    after[by_user] = np.repeat(ends, np.diff(np.append(-1, ends))) - np.arange(len(users))
    return after


def keep_cold_targets(parts: list[Any]) -> None:
    """Leave the test rows with an item of the test, and the training and validation rows without one.

    Training rows have no item of validation either. Validation rows of other items stay: they belong to the histories
    of the test. Only those that `cold_for_validation` returns are scored.

    Args:
        parts: training, validation and test part, built by RecBole.
    """
    train, valid, test = (part.inter_feat[part.iid_field].numpy() for part in parts)
    cold, cold_valid = parts[0].cold, parts[0].cold_valid
    wanted = (~np.isin(train, np.concatenate([cold, cold_valid])), ~np.isin(valid, cold), np.isin(test, cold))
    for part, rows in zip(parts, wanted, strict=True):
        if not rows.all():
            part.inter_feat = part.inter_feat[torch.from_numpy(np.flatnonzero(rows))]


def cold_for_validation(valid: Any) -> Any:
    """Return the validation rows whose item training has not seen.

    Args:
        valid: validation part, built by RecBole.
    """
    rows = np.isin(valid.inter_feat[valid.iid_field].numpy(), valid.cold_valid)
    return valid.copy(valid.inter_feat[torch.from_numpy(np.flatnonzero(rows))])
