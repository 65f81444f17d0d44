"""Columns that a run reads as numbers must be typed as numbers."""

import pytest

from recbole_recfound.config.configurator import Config
from recbole_recfound.errors import DataError

RATED = ["user_id:token", "item_id:token", "timestamp:float", "rating:token", "label:token", "device:token"]
ROWS = [
    [f"u{user}", f"i{(user + 2 * step) % 13}", 60 * step, 5 - step % 5, step % 2, "tv"]
    for user in range(9)
    for step in range(6)
]
CLICKS = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user", "mode": "labeled"}


@pytest.fixture
def shop(write_dataset):
    """A data set whose numbers are typed as tokens."""
    users = [["user_id:token", "age:token"], *[[f"u{user}", 20 + user] for user in range(9)]]
    return write_dataset("shop", inter=[RATED, *ROWS], user=users)


def _config(path, model, **settings):
    return Config(model, "shop", config_dict={"data_path": str(path), "show_progress": False, **settings})


AGES = {"load_col": {"inter": "*", "user": "*"}}


@pytest.mark.parametrize(
    ("model", "settings", "file", "column", "key"),
    [
        ("DeepFM", {"threshold": {"rating": 4}}, "inter", "rating", "threshold"),
        ("BPR", {"threshold": {"device": 1}, **AGES}, "inter", "device", "threshold"),
        ("DeepFM", {}, "inter", "label", "LABEL_FIELD"),
        ("BPR", {"eval_args": CLICKS, "metrics": ["AUC"], "valid_metric": "AUC"}, "inter", "label", "LABEL_FIELD"),
        ("M6Rec", {"threshold": {"rating": 4}}, "inter", "rating", "threshold"),
        ("M6Rec", {"m6rec_task": ["retrieval"]}, "inter", "rating", "RATING_FIELD"),
        ("RecFound", {"tasks": ["U2I", "SA"]}, "inter", "rating", "RATING_FIELD"),
        ("DMF", {"inter_matrix_type": "rating"}, "inter", "rating", "RATING_FIELD"),
        ("BPR", {"val_interval": {"rating": "[3,inf)"}}, "inter", "rating", "val_interval"),
        ("BPR", {"normalize_field": ["age"], **AGES}, "user", "age", "normalize_field"),
        (
            "FM",
            {"numerical_features": ["age"], "threshold": {"timestamp": 60}, **AGES},
            "user",
            "age",
            "numerical_features",
        ),
    ],
)
def test_tokens_are_no_numbers(shop, model, settings, file, column, key):
    """RecBole would read the ids of the tokens: stars by the order in which they first stand in the file."""
    with pytest.raises(DataError) as error:
        _config(shop, model, **settings)
    (line,) = error.value.problems
    path = shop / "shop" / f"shop.{file}"
    assert line == f"{path}:1: {column} is typed token, expected {column}:float ({key} reads numbers)"


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("BPR", {}),
        ("DMF", {}),
        ("RecFound", {"tasks": ["U2I"]}),
        ("BPR", {"val_interval": {"rating": ["3", "4"]}}),
        ("M6Rec", {"m6rec_task": ["retrieval"], "RATING_FIELD": None}),
        ("FM", {"threshold": {"timestamp": 60}}),
    ],
)
def test_tokens_that_no_model_reads_as_numbers(shop, model, settings):
    assert _config(shop, model, **settings)["model"] == model
