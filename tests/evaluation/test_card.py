"""The model card of a run."""

import re

import yaml
from huggingface_hub import ModelCard

from recbole_recfound.evaluation.report.card import render_card

ROW = {
    "model": "Ours",
    "metrics": {"ndcg@10": 0.0984},
    "valid_metrics": {"ndcg@10": 0.1},
    "train_seconds": 1.0,
    "eval_seconds": 1.0,
    "trainable_parameters": 5,
}
RESULTS = {
    "system": "Ours",
    "model": "Ours",
    "dataset": "ml-100k",
    "protocol": {
        "dataset": "ml-100k",
        "split": "{'LS': 'valid_and_test'}",
        "order": "TO",
        "mode": "full",
        "mask_history": True,
        "users": 943,
        "items": 1682,
        "seed": 1,
        "valid_metric": "NDCG@10",
    },
    "rows": [{**ROW, "model": "Pop", "metrics": {"ndcg@10": 0.04}}, ROW],
    "tasks": [
        {
            "name": "SR",
            "title": "sequential",
            "test": {"metrics": {"recall@1": 0.25}, "examples": 4, "available": 4, "source": "held-out users"},
        }
    ],
    "versions": {"torch": "2.13.0"},
    "seed": 1,
    "run": {"backbone": "/somewhere/on/this/machine/tiny", "backbone_licence": "apache-2.0"},
}


def test_the_hub_reads_the_metrics_and_the_licence():
    text = render_card(RESULTS, "Ours")
    card = ModelCard(text)
    assert card.data.license == "apache-2.0" and card.data.base_model == "tiny" and card.data.datasets == ["ml-100k"]
    found = {(result.dataset_name, result.metric_type): result.metric_value for result in card.data.eval_results}
    assert found == {("ml-100k", "ndcg@10"): 0.0984, ("ml-100k, SR", "recall@1"): 0.25}
    header = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, re.S)[1])
    assert header["model-index"][0]["name"] == "Ours on ml-100k"
    assert "/somewhere" not in text and "load_recfound" in text and "torch 2.13.0" in text and "Pop" in text


def test_a_run_without_a_language_model():
    text = render_card({**RESULTS, "run": {}, "tasks": []}, "Ours")
    assert "adapter of" not in text and ModelCard(text).data.license == "unknown"
