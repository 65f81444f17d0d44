"""Scores per domain: RecBole's own numbers, cut by domain."""

import numpy as np
import pytest
import torch
from recbole.trainer import Trainer
from sklearn.metrics import log_loss, roc_auc_score

from recbole_recfound.errors import ConfigError
from tests.small_iak import build_small_iak


@pytest.mark.parametrize("model", ["DeepFM", "BPR", "SASRec"])
@pytest.mark.parametrize("mask", [True, False])
def test_the_whole_is_what_recboles_trainer_says(model, mask, tiny_path):
    small = build_small_iak(model, tiny_path, mask_history=mask)
    for phase, loader in (("valid", small.splits.valid_data), ("test", small.splits.test_data)):
        theirs = Trainer(small.config, small.plug.base).evaluate(loader, load_best_model=False)
        ours = small.scorer.metrics(small.scorer.collect(small.plug.base, phase), phase)
        assert {name: ours[name] for name in theirs} == dict(theirs)


def test_click_metrics_of_a_domain_are_those_of_its_rows(tiny_path):
    small = build_small_iak("DeepFM", tiny_path)
    told = small.scorer.summary(small.scorer.collect(small.plug.base, "test"), "test")
    rows, domain = small.scorer.rows["test"].interaction, small.scorer.domain["test"][:, 0]
    with torch.no_grad():
        scores = small.plug.base.eval().predict(rows)
    weights, values = [], []
    for number, name in enumerate(small.domains[0].names):
        own = domain == number
        labels, said = rows["label"][own].numpy(), scores[own].numpy().astype(float)
        found = told["domains"]["gender"][name]
        assert found["rows"] == int(own.sum())
        assert all(round(value, 4) == value for value in found.values())
        assert found["auc"] == pytest.approx(roc_auc_score(labels, said), abs=1e-4)
        assert found["logloss"] == pytest.approx(log_loss(labels, said), abs=1e-4)
        weights.append(found["rows"])
        values.append((roc_auc_score(labels, said), log_loss(labels, said)))
    for metric, exact in zip(("auc", "logloss"), np.average(values, axis=0, weights=weights), strict=True):
        assert told["weighted"][metric] == pytest.approx(exact, abs=1e-7), "a mean of values that are not rounded"


def test_ranking_metrics_of_a_domain_are_those_of_its_users(tiny_path):
    small = build_small_iak("GRU4Rec", tiny_path)
    scorer = small.scorer
    whole = scorer.collect(small.plug.base, "test")
    parts = scorer.by_domain(whole, "test", 0)
    for number, found in enumerate(parts):
        index = torch.nonzero(scorer.domain["test"][:, 0] == number).squeeze(1)
        alone = scorer.collect(small.plug.base, "test", index)
        assert all(torch.equal(alone[key], whole[key][index]) for key in whole), "rows are scored alike in any company"
        assert scorer.part_metrics(alone, "test", index) == found
    counts = torch.bincount(scorer.domain["test"][:, 0]).numpy()
    everyone = scorer.metrics(whole, "test")["recall@10"]
    assert np.average([found["recall@10"] for found in parts], weights=counts) == pytest.approx(everyone, abs=1e-4)


def test_a_domain_with_one_kind_of_label_has_no_auc(tiny_path):
    small = build_small_iak("DeepFM", tiny_path)
    rows = small.scorer.rows["valid"].interaction
    rows["label"][small.scorer.domain["valid"][:, 0] == 0] = 1.0
    collected = small.scorer.collect(small.plug.base, "valid")
    female, male = small.scorer.by_domain(collected, "valid", 0)
    assert "auc" not in female and "gauc" not in female and "logloss" in female and "auc" in male


def test_ratings_have_no_gauc(tiny_path):
    values = {"LABEL_FIELD": "rating", "threshold": None, "normalize_field": ["rating"], "metrics": ["RMSE", "MAE"]}
    own = {"valid_metric": "RMSE", "mlp_hidden_size": [16, 16]}
    small = build_small_iak("DeepFM", tiny_path, valid_metric="RMSE", base_args=own, **values)
    collected = small.scorer.collect(small.plug.base, "test")
    assert len(collected["data.label"].unique()) > 2
    assert set(small.scorer.metrics(collected, "test")) == {"rmse", "mae"}


def test_a_single_click_has_a_log_loss(tiny_path):
    small = build_small_iak("DeepFM", tiny_path)
    row = torch.tensor([3])
    alone = small.scorer.collect(small.plug.base, "test", row)
    label, score = alone["data.label"].item(), alone["rec.score"].item()
    assert small.scorer.part_metrics(alone, "test", row) == {
        "logloss": pytest.approx(-np.log(score if label else 1 - score), abs=1e-4)
    }


def test_what_guards_a_domain(tiny_path):
    clicks = build_small_iak("DeepFM", tiny_path).scorer
    assert clicks.selected_by == "logloss"
    assert clicks.score_of({"logloss": 0.2}) > clicks.score_of({"logloss": 0.3}) and np.isnan(clicks.score_of({}))
    assert build_small_iak("SASRec", tiny_path).scorer.selected_by == "ndcg@10"
    assert build_small_iak("DeepFM", tiny_path, valid_metric="AUC").scorer.selected_by == "auc"
    for model, metric, message in [
        ("DeepFM", "MRR@10", "got MRR@10, expected one of metrics"),
        ("SASRec", "NDCG@20", "got NDCG@20, expected a length among topk"),
        ("SASRec", "NDCG", "got NDCG, expected the length of its list"),
        ("DeepFM", "AUC@10", "got AUC@10, expected the length of its list"),
    ]:
        with pytest.raises(ConfigError, match=f"valid_metric: {message}"):
            build_small_iak(model, tiny_path, valid_metric=metric)


def test_users_seen_and_new_are_told_apart_in_later_periods(tiny_path):
    later = {"split": {"RS": [0.7, 0.1, 0.2]}, "order": "TO", "group_by": None, "mode": "labeled"}
    small = build_small_iak("DeepFM", tiny_path, domain=["timestamp:quantile:3"], eval_args=later)
    told = small.scorer.summary(small.scorer.collect(small.plug.base, "test"), "test")
    known = set(small.splits.train_set.inter_feat["user_id"].tolist())
    rows = small.splits.test_set.inter_feat
    seen = sum(user in known for user in rows["user_id"].tolist())
    assert 0 < seen < len(rows)
    assert (told["users"]["seen"]["rows"], told["users"]["new"]["rows"]) == (seen, len(rows) - seen)
    assert rows["timestamp"].min() >= small.splits.train_set.inter_feat["timestamp"].max()
    assert set(told["domains"]["timestamp:quantile:3"]) == {small.domains[0].names[2]}, (
        "later rows lie in the last period"
    )
