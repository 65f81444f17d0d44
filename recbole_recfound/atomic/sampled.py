"""A sample of the users that a model is scored on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def keep_users(parts: list[Any]) -> None:
    """Leave the validation and test rows of `test_users` users, drawn by seed among those of the test part.

    With `cold_items` the validation part stays whole: other users choose a model there than those who test it.

    Args:
        parts: training, validation and test part, built by RecBole.
    """
    config, field = parts[0].config, parts[0].uid_field
    users = np.unique(parts[2].inter_feat[field].numpy())
    count = min(config["test_users"], len(users))
    kept = np.random.default_rng([config["seed"], 0x5A3]).choice(users, count, replace=False)
    for part in parts[2:] if config["cold_items"] else parts[1:]:
        rows = np.isin(part.inter_feat[field].numpy(), kept)
        part.inter_feat = part.inter_feat[torch.from_numpy(np.flatnonzero(rows))]
