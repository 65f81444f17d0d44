"""Columns of interactions are filled and scaled by training rows."""

import numpy as np
import pytest

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import build_splits

HEADER = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({"threshold": {"rating": 4}}, "label"),
        ({"LABEL_FIELD": "rating", "metrics": ["RMSE"], "valid_metric": "RMSE"}, "rating"),
    ],
    ids=["threshold", "rating"],
)
def test_labels_mean_the_same_in_every_part(write_dataset, settings, label):
    """Training rows have one label alone, which is no scale for the others."""
    rows = [[f"u{user}", f"i{step}", 5 if step < 6 else 1 + step % 5, step] for user in range(8) for step in range(8)]
    settings |= {
        "data_path": str(write_dataset("rated", inter=[HEADER, *rows])),
        "normalize_all": True,
        "eval_args": {"split": {"RS": [6, 1, 1]}, "order": "TO", "group_by": "user", "mode": "labeled"},
    }
    splits = build_splits(Config("FM", "rated", None, {"metrics": ["LogLoss"], "valid_metric": "LogLoss", **settings}))
    found = [
        np.unique(part.inter_feat[label].numpy()) for part in (splits.train_set, splits.valid_set, splits.test_set)
    ]
    assert found[0].tolist() == [1.0] and found[1].tolist() != [1.0] and found[2].tolist() != [1.0]
