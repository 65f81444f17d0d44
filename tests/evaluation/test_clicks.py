"""GAUC of labelled rows, for every model of a table."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.clicks import grouped_auc
from recbole_recfound.quick_start import run_recfound
from recbole_recfound.serving.recbole import score_test
from tests.small_iak import build_small_iak


def test_gauc_by_hand(tiny_path):
    config = build_small_iak("DeepFM", tiny_path).config
    users = torch.tensor([1, 1, 1, 2, 2, 3, 3, 3])
    labels = torch.tensor([1.0, 0, 0, 1, 1, 0, 1, 1])
    scores = torch.tensor([0.5, 0.7, 0.1, 0.2, 0.3, 0.4, 0.4, 0.9])
    # user 1: .5 (one of two pairs), user 2: one kind of label, user 3: (.5 + 1) / 2; weights 1 and 2
    assert grouped_auc(config, scores, labels, users) == {"gauc": pytest.approx((0.5 + 2 * 0.75) / 3, abs=1e-4)}
    assert grouped_auc(config, scores[3:5], labels[3:5], users[3:5]) == {}


def test_gauc_of_a_model_is_the_weighted_auc_of_users(tiny_path):
    small = build_small_iak("DeepFM", tiny_path)
    rows = small.splits.test_set.join(small.splits.test_set.inter_feat)
    with torch.no_grad():
        scores = small.model.eval().predict(rows).numpy()
    users, labels = rows["user_id"].numpy(), rows["label"].numpy()
    found, weights = [], []
    for user in np.unique(users):
        own = labels[users == user]
        if 0 < own.sum() < len(own):
            found.append(roc_auc_score(own, scores[users == user]))
            weights.append(own.sum())
    assert score_test(small.model, small.splits)["gauc"] == pytest.approx(np.average(found, weights=weights), abs=1e-4)


def test_gauc_is_not_asked_for_beside_auc(tiny_path):
    settings = {"data_path": str(tiny_path), "threshold": {"rating": 4}, "metrics": ["AUC", "GAUC"]}
    with pytest.raises(ConfigError, match=r"metrics: got AUC, GAUC, expected AUC: the test"):
        run_recfound("M6Rec", "tiny", config_dict=settings)
