"""Blends of click models: averages of logits, with a weight from validation alone."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from recbole_recfound import run_recfound
from recbole_recfound.baseline.blend import WEIGHTS
from recbole_recfound.baseline.click_blend import ClickScorer, blend_clicks
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import build_splits
from tests.small_iak import CLICKS

BY_TIME = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "group_by": "none", "mode": "labeled"}


@pytest.fixture(params=["AUC", "LogLoss"])
def splits(request, tiny_path):
    quick = {"show_progress": False, "use_gpu": False, "data_path": str(tiny_path), "metric_decimal_place": 8}
    rules = CLICKS | {"eval_args": BY_TIME, "metrics": ["AUC", "LogLoss"], "valid_metric": request.param}
    return build_splits(Config("DeepFM", "tiny", config_dict=quick | rules))


class _Planted:
    """A click model whose logits are a table of users and items."""

    def __init__(self, table):
        self.table, self.asked = table, 0

    def predict(self, interaction):
        self.asked += len(interaction)
        return torch.sigmoid(self.table[interaction["user_id"], interaction["item_id"]])


def _rows(part):
    return [part.inter_feat[name] for name in ("user_id", "item_id", "label")]


@pytest.fixture
def models(splits):
    """Two noisy models, each right about some users."""
    rng = torch.Generator().manual_seed(3)
    size = splits.train_set.user_num, splits.train_set.item_num
    first, second = (torch.randn(size, generator=rng) for _ in range(2))
    for part in (splits.valid_set, splits.test_set):
        users, items, labels = _rows(part)
        first[users, items] += (2 * labels - 1) * (users % 2)
        second[users, items] += (2 * labels - 1) * (users % 3 > 0)
    return _Planted(first), _Planted(second)


def test_the_weight_of_the_best_validation_score(splits, models):
    first, second = models
    found = blend_clicks(ClickScorer(splits, first), ClickScorer(splits, second))

    def scored(part, weight):
        users, items, labels = _rows(part)
        logits = (first.table + weight * second.table)[users, items].double() / (1 + weight)
        labels, likely = labels.numpy(), torch.sigmoid(logits).numpy()
        return {"auc": roc_auc_score(labels, likely), "logloss": log_loss(labels, likely)}

    metric, sign = splits.config["valid_metric"].lower(), 1 if splits.config["valid_metric"] == "AUC" else -1
    valid = {weight: scored(splits.valid_set, weight) for weight in (0.0, *WEIGHTS)}
    assert found.weight == max(valid, key=lambda weight: sign * valid[weight][metric]) != 0
    assert {name: found.valid[name] for name in ("auc", "logloss")} == pytest.approx(valid[found.weight], abs=1e-5)
    tested = {name: found.test[name] for name in ("auc", "logloss")}
    assert tested == pytest.approx(scored(splits.test_set, found.weight), abs=1e-5)
    assert 0 < found.test["gauc"] < 1
    rows = len(splits.valid_set) + len(splits.test_set)
    assert (first.asked, second.asked) == (rows, rows), "each row is scored once, whatever the weights"


def test_what_helps_on_the_test_part_alone_is_not_chosen(splits, models):
    first, second = models
    for part, at_first, at_second in ((splits.valid_set, 5.0, -5.0), (splits.test_set, 0.0, 5.0)):
        users, items, labels = _rows(part)
        first.table[users, items] = at_first * (2 * labels - 1)
        second.table[users, items] = at_second * (2 * labels - 1)
    assert blend_clicks(ClickScorer(splits, first), ClickScorer(splits, second)) is None


def test_a_sure_model_stays_finite(splits, models):
    """A probability that float32 rounds to one."""
    first, _ = models
    users, items, labels = _rows(splits.valid_set)
    first.table[users, items] = 100.0 * (2 * labels - 1)
    logits = ClickScorer(splits, first).logits("valid").numpy()
    assert np.isfinite(logits).all() and np.array_equal(logits > 0, labels.numpy() > 0)


def test_a_run_of_m6rec_with_a_blend(tiny_path, tiny_backbone, tmp_path, capsys):
    settings = CLICKS | {
        "eval_args": BY_TIME,
        "data_path": str(tiny_path),
        "output_dir": str(tmp_path),
        "backbone": str(tiny_backbone),
        "use_gpu": False,
        "show_progress": False,
        "time_budget": 0,
        "epochs": 1,
        "late_args": {"joint_layers": 2, "targets": 8},
        "option_args": {"prompts": 4, "bottleneck": 4},
        "baselines": ["DeepFM", "AutoInt"],
        "baseline_args": {name: {"epochs": 3, "learning_rate": 0.01} for name in ("DeepFM", "AutoInt")},
        "blend": ["AutoInt", "DeepFM"],
    }
    result = run_recfound("M6Rec", "tiny", config_dict=settings)
    rows = {row["model"]: row for row in result["comparison"]}
    assert list(rows)[:3] == ["DeepFM", "AutoInt", "M6Rec"] and result["test_result"] == rows["M6Rec"]["metrics"]
    printed = capsys.readouterr().out
    for name in ("DeepFM", "M6Rec"):
        assert (f"{name} + AutoInt" in rows) != (f"{name} + AutoInt: validation prefers {name} alone" in printed)
        if joined := rows.get(f"{name} + AutoInt"):
            assert joined["valid_metrics"]["auc"] > rows[name]["valid_metrics"]["auc"]
            assert set(joined["metrics"]) == {"auc", "logloss", "gauc"}
    assert not {"DeepFM + AutoInt", "AutoInt + DeepFM"} <= rows.keys(), "the same pair"
