"""Models that learn from drawn negatives get some, or one line says so before anything is trained."""

import pytest

from recbole_recfound.baseline.recbole import check_baseline_settings
from recbole_recfound.config.configurator import Config
from recbole_recfound.errors import ConfigError

NOTHING = {"train_neg_sample_args": None}
SAID = "train_neg_sample_args: got nothing, but {} learns from drawn negatives, expected such as {{distribution: unif"


def _config(path, model, **settings):
    return Config(model, "tiny", config_dict={"data_path": str(path), "show_progress": False, **settings})


@pytest.mark.parametrize("model", ["BPR", "LightGCN", "FPMC", "NeuMF", "CKE"])
def test_without_negatives(tiny_path, model):
    with pytest.raises(ConfigError) as error:
        _config(tiny_path, model, **NOTHING)
    assert str(error.value).startswith(SAID.format(model))


@pytest.mark.parametrize("model", ["SASRec", "SINE"])
def test_a_sequential_model_that_learns_from_pairs(tiny_path, model):
    with pytest.raises(ConfigError, match=f"{model} learns from drawn negatives"):
        _config(tiny_path, model, loss_type="BPR", **NOTHING)


@pytest.mark.parametrize("given", [{"distribution": "none"}, {"distribution": "none", "sample_num": "none"}])
def test_none_is_nothing(tiny_path, given):
    with pytest.raises(ConfigError, match="BPR learns from drawn negatives"):
        _config(tiny_path, "BPR", train_neg_sample_args=given)
    assert _config(tiny_path, "EASE", train_neg_sample_args=given)["train_neg_sample_args"]["distribution"] == "none"


def test_none_of_a_distribution(tiny_path):
    given = {"distribution": "uniform", "sample_num": "none"}
    with pytest.raises(ConfigError, match="train_neg_sample_args: .*sample_num: got 'none', expected a whole number"):
        _config(tiny_path, "BPR", train_neg_sample_args=given)


def test_baselines_without_negatives(tiny_path):
    config = _config(tiny_path, "EASE", baselines=["BPR"], baseline_args={"BPR": NOTHING})
    with pytest.raises(ConfigError, match="BPR learns from drawn negatives"):
        check_baseline_settings(["BPR"], config)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("EASE", {}),
        ("SASRec", {}),
        ("MultiVAE", {}),
        ("SINE", {}),
        ("DeepFM", {"threshold": {"rating": 4}}),
        ("NeuMF", {"threshold": {"rating": 4}}),
        ("NeuMF", {"LABEL_FIELD": "rating", "load_col": None}),
        ("RecFound", {}),
    ],
)
def test_models_that_need_none(tiny_path, model, settings):
    assert _config(tiny_path, model, **NOTHING, **settings)["train_neg_sample_args"]["distribution"] == "none"
