"""Metrics of single users add up to those of RecBole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_recfound import run_recfound
from recbole_recfound.evaluation.by_user import metric_by_user


def test_every_metric_of_ranked_lists():
    # Three rows, two of them of user 7: hits at places 1 and 3, at 2, and none; 2, 1 and 1 targets.
    ranking = torch.tensor([[1, 0, 1, 2], [0, 1, 0, 1], [0, 0, 0, 1]])
    users = np.array([9, 7, 7])
    assert metric_by_user(ranking, "Hit@3", [3], users) == [0.5, 1.0]
    assert metric_by_user(ranking, "Recall@2", [3], users) == [0.5, 0.5]
    assert metric_by_user(ranking, "MRR@3", [3], users) == [0.25, 1.0]
    assert metric_by_user(ranking, "Precision@3", [3], users) == pytest.approx([1 / 6, 2 / 3], abs=1e-6)
    log = np.log2
    ideal = 1 + 1 / log(3)
    expected = [(1 / log(3)) / 2, (1 + 1 / log(4)) / ideal]
    assert metric_by_user(ranking, "NDCG@3", [3], users) == pytest.approx(expected, abs=1e-6)
    for other in ("AUC", "ItemCoverage@3", "GAUC"):
        assert metric_by_user(ranking, other, [3], users) == []
    assert metric_by_user(None, "NDCG@3", [3], users) == []


@pytest.mark.parametrize("metric", ["NDCG@10", "Recall@5"])
def test_means_are_the_metrics_of_the_table(small_run, metric):
    baselines = ["Pop", "BPR", "SASRec"]
    settings = small_run | {
        "valid_metric": metric,
        "topk": [5, 10],
        "baselines": baselines,
        "baseline_args": {name: {"epochs": 1} for name in baselines},
        "user_inter_num_interval": "[4,inf)",
        "max_steps": 2,
    }
    result = run_recfound("RecFound", "tiny", config_dict=settings)
    users = json.loads((Path(result["run_dir"]) / "by_user.json").read_text())
    assert users["metric"] == metric and list(users["rows"]) == [*baselines, "RecFound"]
    for row in result["comparison"]:
        assert "by_user" not in row
        assert np.mean(users["rows"][row["model"]]) == pytest.approx(row["metrics"][metric.lower()], abs=6e-5)
    assert len({len(values) for values in users["rows"].values()}) == 1
