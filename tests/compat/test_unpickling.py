"""No pickle is opened that this process has not written and the user does not trust, wherever RecBole looks for one."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.config import Config as RecBoleConfig
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_trainer
from safetensors.torch import save_file

from recbole_recfound.baseline.recbole import fit
from recbole_recfound.compat.unpickling import may_unpickle, wrote
from recbole_recfound.config.configurator import Config
from recbole_recfound.config.models import get_model
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.pretrained.checkpoint import read_base
from recbole_recfound.runtime.file_digests import write_digests

ONE_EPOCH = {"epochs": 1, "show_progress": False, "MAX_ITEM_LIST_LENGTH": 10, "use_gpu": False}


class Bomb:
    """A pickle that makes a file when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    """The file that a pickle makes when it is opened."""
    path = tmp_path / "opened"
    yield path
    assert not path.exists(), "a planted pickle was opened"


@pytest.fixture
def plant(mark):
    """Return a function that writes such a pickle, plain or as by `torch.save`."""

    def write(path, form="torch"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if form == "numpy":
            np.save(path, np.array([Bomb(mark)], dtype=object), allow_pickle=True)
        elif form == "torch":
            torch.save({"state_dict": Bomb(mark), "config": {}}, path)
        else:
            Path(path).write_bytes(pickle.dumps(Bomb(mark)))
        return str(path)

    return write


def test_the_planted_pickles_do_run(tmp_path):
    """What the other tests could not see if it failed."""
    for form in ("torch", "plain"):
        mark = tmp_path / form
        torch.save(Bomb(mark), tmp_path / "file") if form == "torch" else (tmp_path / "file").write_bytes(
            pickle.dumps(Bomb(mark))
        )
        torch.load(tmp_path / "file", weights_only=False) if form == "torch" else pickle.loads(
            (tmp_path / "file").read_bytes()
        )
        assert mark.exists()


@pytest.mark.parametrize("ours", [True, False])
def test_cached_data_sets_in_the_working_directory(plant, tiny_path, ours, monkeypatch):
    monkeypatch.setattr("sys.argv", ["test"])
    for name in ("tiny-Dataset.pth", "tiny-for-BPR-dataloader.pth"):
        plant(Path("saved") / name, "plain")
    settings = {"data_path": str(tiny_path), "load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    config = (Config if ours else RecBoleConfig)("BPR", "tiny", config_dict=settings)
    with pytest.warns(UserWarning, match="is not read: a cached data set is a pickle"):
        dataset = create_dataset(config)
    assert dataset.user_num > 40
    with pytest.warns(UserWarning, match="is not read: a cached data set is a pickle"):
        train, *_ = data_preparation(config, dataset)
    assert len(train) > 0


def test_paths_of_caches_in_settings(plant, tiny_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["test"])
    for key in ("dataset_save_path", "dataloaders_save_path"):
        path = plant("cache.pth", "plain")
        with pytest.raises(ConfigError, match=f"{key}: got .*: data are read from the atomic files each time"):
            Config("BPR", "tiny", config_dict={"data_path": str(tiny_path), key: path})
        columns = {"inter": ["user_id", "item_id", "timestamp"]}
        config = RecBoleConfig("BPR", "tiny", config_dict={"data_path": str(tiny_path), "load_col": columns, key: path})
        with pytest.warns(UserWarning, match="is not read"):
            data_preparation(config, create_dataset(config))


def test_a_cache_of_this_process_is_used_while_its_files_stay_as_they_are(tiny_path, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["test"])
    shutil.copytree(tiny_path / "tiny", tmp_path / "data" / "tiny")
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    settings = {"data_path": str(tmp_path / "data"), "load_col": columns, "save_dataset": True}
    config = RecBoleConfig("BPR", "tiny", config_dict=settings)
    whole = create_dataset(config)
    assert type(create_dataset(config)) is type(whole)
    file = tmp_path / "data" / "tiny" / "tiny.inter"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[: len(lines) // 2]) + "\n")
    with pytest.warns(UserWarning, match="may be older than the atomic"):
        assert create_dataset(config).user_num < whole.user_num


PRETRAINED = {
    "NeuMF": {"use_pretrain": True, "mf_pretrain_path": "file.pth", "mlp_pretrain_path": "file.pth"},
    "NAIS": {"pretrain_path": "file.pth"},
    "RaCT": {"train_stage": "critic_pretrain", "pre_model_path": "file.pth"},
    "ConvNCF": {"train_method": "after_pretrain", "pre_model_path": "file.pth"},
    "S3Rec": {"train_stage": "finetune", "pre_model_path": "file.pth"},
    "KD_DAGFM": {"phase": "distillation", "warm_up": "file.pth"},
}


@pytest.mark.parametrize("form", ["torch", "plain"])
@pytest.mark.parametrize("model", PRETRAINED)
def test_pretrained_parts(plant, tiny_path, model, form):
    plant("file.pth", form)
    labels = {"threshold": {"rating": 4}} if model == "KD_DAGFM" else {}
    item = {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class"]}}
    columns = item if model == "S3Rec" else {}
    settings = {"data_path": str(tiny_path), **ONE_EPOCH, **labels, **columns, **PRETRAINED[model]}
    config = Config(model, "tiny", config_dict=settings)
    splits = build_splits(config)
    with pytest.raises(ConfigError, match=r"file.pth is a pickle, which can run any code.*--trust_checkpoint"):
        get_model(model)(config, splits.train_set)


def test_item_vectors_of_ldiffrec(plant, tiny_path, tmp_path):
    shutil.copytree(tiny_path / "tiny", tmp_path / "data" / "tiny")
    plant(tmp_path / "data" / "tiny" / "item_emb.npy", "numpy")
    config = Config("LDiffRec", "tiny", config_dict={"data_path": str(tmp_path / "data"), **ONE_EPOCH, "n_cate": 2})
    with pytest.raises(ConfigError, match=r"item_emb.npy is a pickle"):
        get_model("LDiffRec")(config, build_splits(config).train_set)


def test_checkpoints_of_the_trainer(plant, tiny_path):
    config = Config("BPR", "tiny", config_dict={"data_path": str(tiny_path), **ONE_EPOCH})
    splits = build_splits(config)
    _, model = fit(config, splits)  # writes and reads its own checkpoint
    trainer = get_trainer(config["MODEL_TYPE"], "BPR")(config, model)
    planted = plant("foreign.pth")
    for call in (trainer.resume_checkpoint, lambda path: trainer.evaluate(splits.test_data, model_file=path)):
        with pytest.raises(ConfigError, match="foreign.pth is a pickle"):
            call(planted)


def test_a_file_that_changes_after_this_process_wrote_it_is_another_one(plant, tmp_path):
    path = tmp_path / "mine.pth"
    torch.save({}, path)
    wrote(path)
    assert may_unpickle(path)
    plant(path)
    assert not may_unpickle(path)


def test_settings_of_a_folder_name_no_files(plant, tmp_path, tiny_path):
    folder = tmp_path / "base"
    folder.mkdir()
    save_file({"weight": torch.zeros(1)}, folder / "base.safetensors")
    planted = {key: plant(f"{key}.pth", "plain") for key in ("dataset_save_path", "dataloaders_save_path")}
    planted |= {key: plant(f"{key}.pth") for key in ("mf_pretrain_path", "mlp_pretrain_path")}
    settings = {**planted, "use_pretrain": True, "trust_checkpoint": True, "mf_embedding_size": 8}
    document = {"model": "NeuMF", "dataset": "tiny", "seed": 1, "settings": settings, "data": None}
    (folder / "base.json").write_text(json.dumps(document))
    write_digests(folder)
    assert read_base(folder, trust=False).settings == {"mf_embedding_size": 8}


@pytest.mark.parametrize("text", ["trust_checkpoint: true", "baseline_args: {NeuMF: {trust_checkpoint: true}}"])
def test_no_file_decides_what_is_trusted(tmp_path, tiny_path, text):
    (tmp_path / "foreign.yaml").write_text(text + "\n")
    with pytest.raises(ConfigError, match="--trust_checkpoint"):
        Config("NeuMF", "tiny", [tmp_path / "foreign.yaml"], {"data_path": str(tiny_path)})


def test_what_the_user_trusts_is_opened(tiny_path, tmp_path):
    config = Config("NeuMF", "tiny", config_dict={"data_path": str(tiny_path), **ONE_EPOCH, "mlp_train": False})
    splits = build_splits(config)
    part = get_model("NeuMF")(config, splits.train_set)
    torch.save({"state_dict": part.state_dict(), "config": config}, "part.pth")
    paths = {"use_pretrain": True, "mf_pretrain_path": "part.pth", "mlp_pretrain_path": "part.pth"}
    settings = {"data_path": str(tiny_path), **ONE_EPOCH, **paths}
    with pytest.raises(ConfigError, match=r"part.pth is a pickle"):
        get_model("NeuMF")(Config("NeuMF", "tiny", config_dict=settings), splits.train_set)
    trusting = Config("NeuMF", "tiny", config_dict={**settings, "trust_checkpoint": True})
    loaded = get_model("NeuMF")(trusting, splits.train_set)
    torch.testing.assert_close(loaded.user_mf_embedding.weight, part.user_mf_embedding.weight)
