"""Items held out of training, to score a model on items that nobody has chosen yet."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def hold_out_items(dataset: Any) -> None:
    """Draw `cold_items` of a data set's items by seed, and drop all their interactions except the last ones of users.

    The last interaction of a user is the test row (`eval_args: {split: {LS: valid_and_test}}`), so that no history and
    no training or validation row has a cold item.

    Args:
        dataset: RecBole's, before it is split, rows in the order of time; gets `cold`, int64, ids of the items in
            ascending order.
    """
    config = dataset.config
    items = dataset.inter_feat[dataset.iid_field].to_numpy()
    users = dataset.inter_feat[dataset.uid_field].to_numpy()
    known = np.unique(items)
    count = max(1, round(config["cold_items"] * len(known)))
    dataset.cold = np.sort(np.random.default_rng([config["seed"], 0xC01D]).choice(known, count, replace=False))
    last = np.zeros(len(users), dtype=bool)
    by_user = np.argsort(users, kind="stable")
    last[by_user[np.append(np.diff(users[by_user]) > 0, True)]] = True
    dropped = np.isin(items, dataset.cold) & ~last
    dataset.inter_feat = dataset.inter_feat[~dropped].reset_index(drop=True)
    dataset.time_rank = dataset.time_rank[~dropped]
    dataset.left_out[f"cold_items: {config['cold_items']}"] = int(dropped.sum())


def keep_cold_targets(parts: list[Any]) -> None:
    """Leave the test rows with a cold item, and the training and validation rows without one.

    Args:
        parts: training, validation and test part, built by RecBole.
    """
    for part, wanted in zip(parts, (False, False, True), strict=True):
        cold = np.isin(part.inter_feat[part.iid_field].numpy(), part.cold)
        if not (cold == wanted).all():
            part.inter_feat = part.inter_feat[torch.from_numpy(np.flatnonzero(cold == wanted))]
