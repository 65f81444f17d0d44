"""Each break of RecBole on today's packages, and that it is mended: what RecBole itself does is run."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from recbole.data.utils import create_dataset

from recbole_recfound.baseline.recbole import fit
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import build_splits

EIGHT = [[f"u{u}", f"i{(u + step) % 6}", 10 * u + step] for u in range(8) for step in range(5)]
INTER = [["user_id:token", "item_id:token", "timestamp:float"], *EIGHT]
ONE_EPOCH = {"epochs": 1, "show_progress": False, "MAX_ITEM_LIST_LENGTH": 10, "train_batch_size": 256}


@pytest.fixture
def films(write_dataset):
    """A data set whose items have empty cells in columns of every type."""
    item = [
        ["item_id:token", "brand:token", "price:float", "title:token_seq", "sizes:float_seq"],
        ["i0", "acme", 1.0, "a red car", "1 2 3"],
        ["i1", "", 3.0, "", "4"],
        ["i2", "acme", "", "a blue car", "5 6"],
        ["i3", "other", 2.0, "a b", "7"],
        ["i4", "other", 2.0, "a b", "8"],
        ["i5", "other", 2.0, "a b", "9"],
    ]
    return write_dataset("films", inter=INTER, item=item)


def _films(path, **settings):
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "brand", "price", "title", "sizes"]}
    return create_dataset(Config("BPR", "films", config_dict={"data_path": path, "load_col": columns, **settings}))


def test_empty_cells_are_filled(films):
    items = _films(films).item_feat
    assert items["brand"].isna().sum() == 0 and items["price"].isna().sum() == 0
    row = items["item_id"].tolist().index
    dataset = _films(films)
    without_brand = dataset.token2id("item_id", "i1")
    without_price = dataset.token2id("item_id", "i2")
    assert items["brand"][row(without_brand)] == 0
    assert items["price"][row(without_price)] == pytest.approx(2.0)


def test_sequences_of_words_and_numbers_are_read(films):
    dataset = _films(films)
    car = dataset.token2id("title", "car")
    titles = dict(zip(dataset.item_feat["item_id"], dataset.item_feat["title"], strict=True))
    assert titles[dataset.token2id("item_id", "i0")][-1] == car
    assert len(titles[dataset.token2id("item_id", "i1")]) == 0


def test_sequences_become_padded_tensors_without_a_warning(films, recwarn):
    dataset = _films(films)
    dataset.build()
    title = dataset.item_feat["title"]
    assert title.dtype == torch.int64 and title.shape == (dataset.item_num, 3)
    assert not torch.isnan(dataset.item_feat["price"]).any()
    assert not [
        warning for warning in recwarn if "not writable" in str(warning.message) or "Chained" in str(warning.category)
    ]


def test_normalising_sequences_of_numbers(films):
    sizes = np.concatenate(
        list(_films(films, normalize_field=["sizes"], filter_inter_by_user_or_item=False).item_feat["sizes"][1:])
    )
    assert sizes.min() == 0 and sizes.max() == 1


def test_token_sequences_of_interactions_presplit_by_the_user(write_dataset):
    header = ["user_id:token", "item_id_list:token_seq", "item_id:token"]
    rows = [["a", "x y", "z"], ["b", "y", "x"]]
    path = write_dataset("split", **{f"{part}.inter": [header, *rows] for part in ("train", "valid", "test")})
    config = {
        "data_path": path,
        "benchmark_filename": ["train", "valid", "test"],
        "alias_of_item_id": ["item_id_list"],
        "load_col": {"inter": ["user_id", "item_id_list", "item_id"]},
        "eval_args": {"order": "RO", "split": {"LS": "valid_and_test"}, "group_by": "user", "mode": "full"},
    }
    with pytest.raises(Exception, match="TO"):
        create_dataset(Config("GRU4Rec", "split", config_dict=config)).build()
    dataset = create_dataset(Config("GRU4Rec", "split", config_dict=config))
    assert dataset.inter_feat["item_length"].tolist() == [2, 1] * 3


@pytest.mark.parametrize("model", ["LightGCN", "NGCF", "GCMC", "SpectralCF"])
def test_graph_models_build_their_matrix(model, tiny_path):
    splits = build_splits(Config(model, "tiny", config_dict={"data_path": tiny_path}))
    from recbole_recfound.config.models import get_model

    assert get_model(model)(splits.config, splits.train_set) is not None


def test_metrics_that_collect_numbers_and_counters(tiny_path):
    metrics = ["ItemCoverage", "AveragePopularity", "TailPercentage"]
    settings = {**ONE_EPOCH, "data_path": tiny_path, "metrics": metrics, "valid_metric": "ItemCoverage@10"}
    config = Config("BPR", "tiny", config_dict=settings)
    assert 0 < fit(config, build_splits(config))[0].metrics["itemcoverage@10"] <= 1


def test_pop_counts_every_training_interaction(tiny_path):
    """Many interactions of one item stand in one batch."""
    settings = {"data_path": str(tiny_path), "train_batch_size": 64, "epochs": 1, "show_progress": False}
    config = Config("Pop", "tiny", config_dict=settings)
    splits = build_splits(config)
    _, model = fit(config, splits)
    counts = np.bincount(splits.train_set.inter_feat["item_id"].numpy(), minlength=splits.train_set.item_num)
    assert counts.max() > len(splits.train_data) and model.item_cnt[:, 0].tolist() == counts.tolist()


def test_a_checkpoint_is_read_in_a_new_process(tiny_path, tmp_path, checkout):
    config = Config(
        "BPR", "tiny", config_dict={**ONE_EPOCH, "data_path": tiny_path, "checkpoint_dir": tmp_path / "saved"}
    )
    fit(config, build_splits(config))
    (checkpoint,) = (tmp_path / "saved").glob("BPR-*.pth")
    code = f"""
import sys
sys.path.insert(0, {str(checkout)!r})
import recbole_recfound
from recbole.quick_start import load_data_and_model
try:
    load_data_and_model({str(checkpoint)!r})
except ValueError as error:
    print(error)
recbole_recfound.trust_checkpoint({str(checkpoint)!r})
config, model, dataset, train, valid, test = load_data_and_model({str(checkpoint)!r})
print(type(config).__module__, model.user_embedding.weight.shape[1], len(test) > 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    refused, loaded = done.stdout.splitlines()[-2:]
    assert "is a pickle, which can run any code when opened" in refused, done.stderr
    assert loaded == "recbole_recfound.config.configurator 64 True", done.stderr


def test_importing_a_sequential_model_leaves_autograd_alone():
    code = (
        "import recbole_recfound, torch; import recbole.model.sequential_recommender as models;"
        "assert models.SINE and not torch.is_anomaly_enabled()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
