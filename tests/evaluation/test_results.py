"""Rows of a table: what they say can be written and read again."""

import json

import numpy as np

from recbole_recfound.evaluation.results import Row
from recbole_recfound.study.seeds import summarise


def test_a_row_of_numpy_metrics_is_a_row_of_numbers():
    """Wins of several seeds are counted by comparing metrics, and numpy's comparisons make numpy's integers."""
    runs = {
        seed: [
            Row(name, {"gauc": np.float64(value)}, {"auc": np.float32(value)}, 1.0, 1.0, 3, True).to_json()
            for name, value in (("DeepFM", 0.5), ("M6Rec + DeepFM", 0.5 + seed / 10))
        ]
        for seed in (1, 2)
    }
    row = runs[1][1]
    assert all(type(value) is float for name in ("metrics", "valid_metrics") for value in row[name].values())
    summary = json.loads(json.dumps(summarise(runs)))
    assert summary[1]["metrics"]["gauc"]["wins"] == 2
