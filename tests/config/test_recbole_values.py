"""Values of RecBole's own keys that RecBole ignores, or meets with a traceback that names no key."""

import pytest

from recbole_recfound.config.configurator import Config
from recbole_recfound.config.settings import settings_of
from recbole_recfound.errors import ConfigError

SAMPLED = "such as {distribution: uniform, sample_num: 3}"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"eval_args": {"split": {"TS": [0.8, 0.1, 0.1]}}}, "split TS is by time: order must be TO"),
        ({"eval_args": {"mode": {"vaild": "uni20", "test": "full"}}}, "mode has no part 'vaild', only valid and test"),
        ({"train_neg_sample_args": {"uniform": 3}}, f"has no part 'uniform', only distribution, .*{SAMPLED}"),
        ({"train_neg_sample_args": {"distribution": "unifrom"}}, "distribution: got 'unifrom', expected one of"),
        ({"train_neg_sample_args": {"sample_num": 0}}, "sample_num: got 0, expected a whole number, at least 1"),
        ({"train_neg_sample_args": {"dynamic": 5}}, "dynamic: got 5, expected True"),
        ({"threshold": {"rating": "4"}}, "expected one column and a number, such as {rating: 4}"),
        ({"threshold": {"rating": True}}, "expected one column and a number"),
        ({"threshold": {"rating": 4, "dwell": 20}}, "expected one column and a number"),
        ({"threshold": {}}, "expected one column and a number"),
        ({"threshold": 4}, "expected a mapping"),
        ({"alias_of_user_id": {"gender": 1}}, "expected a list of text"),
        ({"alias_of_item_id": [1]}, "expected a list of text"),
        ({"discretization": ["dwell"]}, "expected a mapping"),
        ({"discretization": {"dwell": "LD"}}, "dwell: expected {method: ED, bucket: 5}"),
        ({"discretization": {"dwell": {"method": "XX"}}}, "dwell: expected {method: ED, bucket: 5}"),
        ({"discretization": {"dwell": {"method": "ED"}}}, "dwell: expected {method: ED, bucket: 5}"),
        ({"numerical_features": {"age": 1}}, "expected a list of text"),
        ({"normalize_field": [3]}, "expected a list of text"),
        ({"preload_weight": ["item_id"]}, "expected a mapping of text"),
        ({"unload_col": ["device"]}, "expected a mapping"),
        ({"unused_col": "device"}, "expected a mapping"),
        ({"val_interval": ["rating"]}, "expected a mapping"),
    ],
    ids=str,
)  # fmt: skip
def test_one_line_names_the_key(settings, said):
    with pytest.raises(ConfigError, match=f"^{next(iter(settings))}: got .*({said.replace('{', '[{]')})"):
        settings_of(None, settings, "DeepFM")


@pytest.mark.parametrize(
    ("settings", "key", "value"),
    [
        ({"alias_of_user_id": "gender"}, "alias_of_user_id", ["gender"]),
        ({"numerical_features": "age"}, "numerical_features", ["age"]),
        ({"threshold": {"rating": 3.5}}, "threshold", {"rating": 3.5}),
        ({"eval_args": {"mode": {"test": "uni5"}}}, "eval_args", {"mode": {"test": "uni5"}}),
        ({"discretization": {"age": {"method": "LD"}}}, "discretization", {"age": {"method": "LD"}}),
    ],
)
def test_values_that_are_taken(settings, key, value):
    assert settings_of(None, settings, "DeepFM")[key] == value


@pytest.mark.parametrize("model", ["BPR", "SASRec", "DeepFM", "RecFound", "M6Rec"])
def test_without_an_order_the_split_is_random(model, tiny_path):
    """RecBole replaces `eval_args` as a whole, whatever the defaults of the model say."""
    given = {"data_path": str(tiny_path), "threshold": {"rating": 4}}
    given["eval_args"] = {
        "split": {"RS": [0.8, 0.1, 0.1]},
        **({"mode": "labeled"} if model in ("DeepFM", "M6Rec") else {}),
    }
    config = Config(model, "tiny", config_dict=given)
    assert config["eval_args"]["order"] == "RO"
