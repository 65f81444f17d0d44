"""Columns that a run reads as numbers must be typed as numbers."""

import pytest

from recbole_recfound.config.configurator import Config
from recbole_recfound.errors import DataError

RATED = ["user_id:token", "item_id:token", "timestamp:float", "rating:token", "label:token", "device:token"]
RATED_NAMES = [column.partition(":")[0] for column in RATED]
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


def test_columns_of_items_with_the_name_of_one_of_interactions(write_dataset):
    """`PG-13` of a film is no rating by a user."""
    inter = [RATED[:3], *(row[:3] for row in ROWS)]
    items = [["item_id:token", "rating:token"], *([f"i{item}", "PG-13"] for item in range(13))]
    path = write_dataset("shop", inter=inter, item=items)
    loaded = {"inter": RATED_NAMES[:3], "item": ["item_id", "rating"]}
    assert _config(path, "M6Rec", m6rec_task=["retrieval"], load_col=loaded)["load_col"] == loaded


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("BPR", {}),
        ("DMF", {}),
        ("BPR", {"normalize_field": ["age"], **AGES}),
        ("RecFound", {"tasks": ["U2I"]}),
        ("BPR", {"val_interval": {"rating": ["3", "4"]}}),
        ("M6Rec", {"m6rec_task": ["retrieval"], "RATING_FIELD": None}),
        ("FM", {"threshold": {"timestamp": 60}}),
    ],
)
def test_tokens_that_no_model_reads_as_numbers(shop, model, settings):
    assert _config(shop, model, **settings)["model"] == model
