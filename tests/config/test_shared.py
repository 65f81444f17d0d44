"""Tests of the settings that all rows of a table share."""

import re
from pathlib import Path

import pytest
import recbole

from recbole_recfound.baseline.recbole import baseline_config
from recbole_recfound.config.configurator import Config
from recbole_recfound.config.shared import NOT_SHARED, shared_keys
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.pretrained.base_config import base_of

READ = re.compile(r"""config(?:\[\s*|\.get\(\s*)["'](\w+)["']""")
OF_THE_MODEL = {
    *("CROP_ITEM_SEQ", "CROP_ITEM_SEQ_LEN", "INVERSE_ITEM_SEQ", "MASK_INDEX", "MASK_ITEM_SEQ", "NEG_ITEMS"),
    *("POS_ITEMS", "REORDER_ITEM_SEQ", "transform", "beta", "eta", "ft_ratio", "mask_ratio"),
    *("MODEL_INPUT_TYPE", "MODEL_TYPE", "model", "convert_token_to_onehot", "token_num_threshold"),
    *("train_batch_size", "train_neg_sample_args", "shuffle"),
}
"""What RecBole's data and evaluator read and a model decides."""
OF_THE_PROCESS = {
    *("device", "local_rank", "single_spec", "world_size"),
    *("checkpoint_dir", "dataloaders_save_path", "dataset_save_path", "save_dataloaders", "save_dataset"),
}
MADE_FROM_OTHERS = {"data_path", "dataset", "test_neg_sample_args", "valid_neg_sample_args"}
"""Given to every row in another way: path and name of the data, and the modes of `eval_args`."""


def test_all_that_recbole_reads_of_data_and_metrics_is_shared_or_a_models_own():
    package = Path(recbole.__file__).parent
    files = [file for room in ("data", "evaluator", "sampler") for file in (package / room).rglob("*.py")]
    read = {key for file in files for key in READ.findall(file.read_text(encoding="utf-8"))}
    assert len(read) > 60
    assert read - shared_keys() == (OF_THE_MODEL | OF_THE_PROCESS | MADE_FROM_OTHERS | NOT_SHARED) & read


@pytest.mark.parametrize(
    ("model", "baseline", "settings"),
    [
        ("DeepFM", "LR", {"discretization": {"timestamp": {"method": "ED", "bucket": 4}}}),
        ("DeepFM", "LR", {"numerical_features": ["timestamp"], "threshold": {"rating": 4}}),
        ("BPR", "EASE", {"tail_ratio": 0.5, "metrics": ["NDCG", "TailPercentage"]}),
        ("BPR", "CKE", {"entity_kg_num_interval": "[2,inf)", "kg_reverse_r": True}),
    ],
)
def test_baselines_read_the_same_data_with_the_same_metrics(tmp_path, model, baseline, settings):
    config = Config(model, "ml-100k", config_dict=settings)
    theirs = baseline_config(baseline, config, tmp_path)
    assert {key: theirs[key] for key in settings} == settings


@pytest.mark.parametrize("key", ["kg_reverse_r", "entity_kg_num_interval"])
def test_a_baseline_may_read_the_data_in_its_own_way(tmp_path, key):
    ours, own = {"kg_reverse_r": (False, True), "entity_kg_num_interval": ("[0,inf)", "[2,inf)")}[key]
    config = Config("BPR", "ml-100k", config_dict={key: ours, "baseline_args": {"CKE": {key: own}}})
    assert baseline_config("CKE", config, tmp_path)[key] == own
    assert baseline_config("KGNNLS", config, tmp_path)[key] == ours


def test_a_baseline_has_no_protocol_of_its_own(tmp_path):
    own = {"seed": 7, "metrics": ["MRR"], "learning_rate": 0.1, "show_progress": True}
    config = Config("BPR", "ml-100k", config_dict={"baseline_args": {"NeuMF": own}})
    with pytest.raises(ConfigError, match="baseline_args: NeuMF: got metrics, seed, which all rows of a table share"):
        baseline_config("NeuMF", config, tmp_path)


def test_the_base_of_kernels_reads_what_the_run_says():
    config = Config("IAK", "ml-100k", config_dict={"domain": ["gender"], "tail_ratio": 0.5, "threshold": {"rating": 4}})
    assert base_of(config)[0]["tail_ratio"] == 0.5
