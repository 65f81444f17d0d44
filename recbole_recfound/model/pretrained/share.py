"""The split of training rows between base and kernels: rows that the base was trained on teach a kernel little."""

from __future__ import annotations

import numpy as np
from recbole.data.dataset import Dataset
from recbole.utils import ModelType

from recbole_recfound.compat.raw_column import as_in_file, raw_range
from recbole_recfound.errors import ConfigError

BY_BATCHES = (ModelType.CONTEXT, ModelType.SEQUENTIAL)
"""Kinds of models that see training rows through batches alone; others keep graphs or counts of all of them."""


def rows_of_base(train_set: Dataset, share: float | None, seed: int) -> np.ndarray:
    """Return the training rows of the base: the earliest if the split is by time, else a random sample.

    Args:
        train_set: RecBole's built training set.
        share: `base_share` of `iak_args`; None: all rows, and the kernels learn from the same.
        seed: of the split.

    Returns:
        bool [N].

    Raises:
        ConfigError: the model keeps more of the training rows than batches, or no rows are left for one of the two.
    """
    config, rows = train_set.config, len(train_set)
    if share is None:
        return np.ones(rows, dtype=bool)
    if config["MODEL_TYPE"] not in BY_BATCHES:
        raise ConfigError(
            f"iak_args: base_share: {config['model']} reads all training rows at once. Only click and sequential "
            "models can be trained on a share"
        )
    count = round(share * rows)
    if not 0 < count < rows:
        raise ConfigError(
            f"iak_args: base_share: {share} of {rows} training rows leaves none for the base or for the kernels"
        )
    if config["eval_args"]["order"] == "TO":
        time = config["TIME_FIELD"]
        times = as_in_file(train_set.inter_feat[time], raw_range(train_set, time))
        order = np.argsort(times.numpy(), kind="stable")
    else:
        order = np.random.default_rng([seed, 0x5A4E]).permutation(rows)
    chosen = np.zeros(rows, dtype=bool)
    chosen[order[:count]] = True
    return chosen
