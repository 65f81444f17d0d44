"""Reading bases: pickles only when trusted, our own folders, and what does not fit."""

import json
import sys
from pathlib import Path

import pytest
import torch
from recbole.config import Config as RecBoleConfig
from recbole.trainer import Trainer
from recbole.utils import init_seed

from recbole_recfound.baseline.recbole import fit
from recbole_recfound.cli import main
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.model.pretrained import base_hash, read_base, write_base
from recbole_recfound.model.pretrained.base_config import base_of
from recbole_recfound.model.pretrained.make import make_base
from recbole_recfound.quick_start import load_recfound, run_recfound
from recbole_recfound.runtime.file_digests import whole_folder
from recbole_recfound.system.iak.system import IAKSystem
from recbole_recfound.system.request import Request
from tests.small_iak import OPTIONS


def iak_config(dataset, settings):
    """The base's settings and its checkpoint, as a run makes them."""
    return base_of(IAKSystem.configure(Request.of("IAK", dataset, None, settings)))


def alone(model):
    """Settings of a small model as RecBole takes them."""
    return {key: value for key, value in OPTIONS[model].items() if key != "base_args"} | OPTIONS[model]["base_args"]


@pytest.fixture
def trained(tiny_path, tmp_path):
    """A checkpoint of RecBole's own trainer: (path, model)."""

    def train(model, **changes):
        settings = {
            "data_path": str(tiny_path),
            "show_progress": False,
            "use_gpu": False,
            "epochs": 1,
            "checkpoint_dir": "saved",
        }
        config = Config(model, "tiny", config_dict=settings | alone(model) | changes)
        init_seed(config["seed"], config["reproducibility"])
        _, base = fit(config, build_splits(config), state=tmp_path / "state")
        (path,) = (tmp_path / "saved").glob(f"{model}-*.pth")
        return path, base, config

    return train


@pytest.mark.parametrize("model", ["DCNV2", "SASRec", "LightGCN"])
def test_a_recbole_checkpoint_gives_the_same_model_again(model, trained, tiny_path):
    path, base, _ = trained(model)
    with pytest.raises(ConfigError, match="is a pickle, .*--trust_checkpoint"):
        read_base(path, trust=False)
    config, checkpoint = iak_config(
        "tiny",
        {
            "base_checkpoint": str(path),
            "trust_checkpoint": True,
            "domain": "gender",
            "data_path": str(tiny_path),
            "show_progress": False,
            "use_gpu": False,
        },
    )
    assert (checkpoint.model, checkpoint.seed, config["model"]) == (model, 2020, model)
    assert all(config[key] == value for key, value in alone(model).items())
    init_seed(checkpoint.seed, config["reproducibility"])
    again = make_base(build_splits(config).train_set, checkpoint)
    assert base_hash(again, model) == base_hash(base, model)
    with torch.no_grad():
        next(again.parameters()).view(-1)[0] += 1e-6
    assert base_hash(again, model) != base_hash(base, model)


def test_a_base_is_kept_without_pickles(trained, tmp_path):
    _, base, config = trained("DeepFM")
    training = {"converged": False, "note": "not converged: stopped after 1 epochs"}
    (tmp_path / "run").mkdir()
    with whole_folder(tmp_path / "run" / "base") as partial:
        write_base(partial, base, config, 7, None, {"ids": "1", "rows": "2"}, training)
    names = {path.name for path in (tmp_path / "run" / "base").iterdir()}
    assert names == {"base.json", "base.safetensors", "digests.json"}
    for path in (tmp_path / "run", tmp_path / "run" / "base"):
        read = read_base(path, trust=False)
        assert (read.model, read.dataset, read.seed, read.kept) == ("DeepFM", "tiny", 7, True)
        assert read.training == training
        assert all(torch.equal(read.weights[name], tensor) for name, tensor in base.state_dict().items())
    (tmp_path / "run" / "base" / "base.safetensors").write_bytes(b"broken")
    with pytest.raises(DataError, match="the base is damaged"):
        read_base(tmp_path / "run", trust=False)


@pytest.mark.parametrize(("key", "value"), [("MAX_ITEM_LIST_LENGTH", 7), ("eval_batch_size", 33)])
def test_what_is_typed_reaches_the_base(key, value, tiny_path):
    """IAK has the base's value: one that was typed must not be lost on the way."""
    settings = {"data_path": str(tiny_path), "base_model": "GRU4Rec", "domain": "age:30"}
    for given in ({key: value}, {"base_args": {key: value}}, {key: 5, "base_args": {key: value}}):
        config = IAKSystem.configure(Request.of("IAK", "tiny", None, settings | given))
        base, _ = base_of(config)
        assert base[key] == config[key] == value


def test_what_contradicts_the_checkpoint_is_refused(trained, tiny_path):
    path, _, _ = trained("DeepFM")
    settings = {
        "base_checkpoint": str(path),
        "trust_checkpoint": True,
        "domain": ["gender"],
        "data_path": str(tiny_path),
        "use_gpu": False,
    }
    with pytest.raises(ConfigError, match="threshold: .*base was trained with.*test it on rows it was trained on"):
        iak_config("tiny", settings | {"threshold": {"rating": 3}})
    with pytest.raises(ConfigError, match="eval_args"):
        iak_config(
            "tiny", settings | {"eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "mode": "labeled"}}
        )
    with pytest.raises(ConfigError, match="order_ties: got shuffle, but the base was trained with file: another split"):
        iak_config("tiny", settings | {"order_ties": "shuffle"})
    with pytest.raises(ConfigError, match="cold_items: .*another split"):
        iak_config("tiny", settings | {"cold_items": 0.2})
    assert iak_config("tiny", settings | {"cold_items": 0, "order_ties": "file"})[0]["model"] == "DeepFM"
    with pytest.raises(ConfigError, match="user_inter_num_interval: .*another split"):
        iak_config("tiny", settings | {"user_inter_num_interval": "[6,inf)"})
    same = {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "mode": "labeled"}}
    assert iak_config("tiny", settings | same)[0]["model"] == "DeepFM"
    with pytest.raises(ConfigError, match=r"base_model: got SASRec, but .* is a DeepFM; leave it out") as refused:
        iak_config("tiny", settings | {"base_model": "SASRec"})
    assert "\n" not in str(refused.value)
    assert iak_config("tiny", settings | {"base_model": "DeepFM"})[0]["model"] == "DeepFM"
    with pytest.raises(ConfigError, match="was trained on tiny: --dataset=tiny"):
        iak_config("ml-100k", {key: value for key, value in settings.items() if key != "data_path"})
    config, checkpoint = iak_config(
        "tiny", settings | {"load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}}
    )
    with pytest.raises(ConfigError, match="the data, load_col or filters are not those it was trained on"):
        make_base(build_splits(config).train_set, checkpoint)


def test_rows_of_a_model_that_recbole_alone_has_trained_have_its_order(monkeypatch, trained, tiny_path):
    """RecBole rounds times before it sorts, so that the exact order would test a base on rows of its training."""
    monkeypatch.setattr(sys, "argv", ["test"])
    settings = {"data_path": str(tiny_path), "checkpoint_dir": "saved", "use_gpu": False}
    assert RecBoleConfig("BPR", "tiny", config_dict=settings)["order_ties"] == "file"
    path, _, _ = trained("BPR")
    settings |= {"base_checkpoint": str(path), "trust_checkpoint": True, "domain": ["gender"]}
    assert iak_config("tiny", settings)[0]["order_ties"] == "file"
    saved = torch.load(path, weights_only=False)
    del saved["config"].final_config_dict["order_ties"]  # as without this package
    torch.save(saved, path)
    base, _ = iak_config("tiny", settings)
    assert base["order_ties"] == "recbole"
    assert build_splits(base).train_set.config["order_ties"] == "recbole"


def test_list_layers_loads_no_data(trained, capsys, monkeypatch):
    path, _, _ = trained("DeepFM")
    monkeypatch.setattr("recbole.data.dataset.dataset.Dataset.__init__", lambda *_: pytest.fail("data was loaded"))
    assert main(["run", "--model=IAK", f"--base_checkpoint={path}", "--trust_checkpoint", "--list_layers"]) == 0
    told = capsys.readouterr().out
    assert "deep_predict_layer" in told and "default: input:deep_predict_layer" in told and "mlp_layers" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "domain: name the field"),
        (["--domain=gender", "--base_checkpoint=nowhere.pth"], "nowhere.pth does not exist"),
        (["--domain=gender", "--base_checkpoint=file.pth"], "is a pickle"),
        (["--domain=gender", "--base_checkpoint=file.pth", "--trust_checkpoint"], "not a checkpoint of RecBole"),
        (["--domain=gender", "--base_checkpoint=."], "neither a RecBole .pth file"),
        (["--domain=gender,gender"], "specified more than once"),
        (
            ["--domain=gender", "--tuning_baselines=full,BPR"],
            "tuning_baselines: got ['full', 'BPR'], expected names among frozen, full",
        ),
        (
            ["--domain=gender", "--tuning_baselines=full", "--tuning_args={head: {learning_rate: 1}}"],
            "tuning_args: head",
        ),
        (
            ["--domain=gender", "--tuning_baselines=full", "--tuning_args={full: {epochs: 1}}"],
            "expected {learning_rate: number above 0}",
        ),
        (["--domain=gender", "--base_model=RecFound"], "name its folder with --base_checkpoint"),
        (["--domain=gender", "--base_model=Pop"], "Pop"),
        (["--domain=gender", "--iak_args={betta: 1}", "--threshold={rating: 4}"], "did you mean beta"),
        (["--domain=gender", "--iak_beta=1"], "iak_beta: renamed; write iak_args: {beta: ...}"),
        (["--domain=gender", "--kernel_args={combine: sum}"], "kernel_args: combine: got 'sum'"),
        (["--domain=colour", "--base_model=BPR"], "no field 'colour'"),
        (["--domain=gender"], "--threshold="),
        (["--domain=gender", "--base_model=BPR", "--tuning_baselines=bitfit"], "nothing that bitfit could train"),
        (["--domain=gender", "--base_model=BPR", "--iak_args={warm_start: nowhere}"], "nowhere"),
        (
            ["--domain=gender", "--base_model=BPR", "--valid_metric=NDCG@20"],
            "valid_metric: got NDCG@20, expected a length among topk",
        ),
        (
            ["--domain=gender", "--base_model=BPR", "--iak_args={beta: []}"],
            "iak_args: beta: got [], expected at least one number",
        ),
        (
            ["--domain=gender", "--base_model=BPR", "--eval_args={mode: uni100}"],
            "eval_args: domains are scored by full ranking",
        ),
        (
            ["--domain=timestamp:hour", "--base_model=BPR", "--control=permuted_domains"],
            "control: got permuted_domains with timestamp:hour",
        ),
        (["--list_layers"], "list_layers: name a checkpoint"),
    ],
)
def test_every_mistake_is_one_line_before_training(arguments, message, tiny_path, tmp_path, capsys, monkeypatch):
    (tmp_path / "file.pth").write_text(json.dumps("no pickle"))
    monkeypatch.setattr("recbole.trainer.Trainer.fit", lambda *_, **__: pytest.fail("training began"))
    common = [
        "run",
        "--model=IAK",
        "--dataset=tiny",
        f"--data_path={tiny_path}",
        "--show_progress=False",
        "--use_gpu=False",
    ]
    assert main([*common, *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and message in captured.err


@pytest.mark.parametrize("model", ["AutoInt", "BPR", "GRU4Rec"])
def test_a_checkpoint_is_tested_on_its_own_split_whatever_the_seed(model, trained, tiny_path, tmp_path):
    """With the split of another seed, the base would be tested on rows it was trained on."""
    split = {
        "split": {"RS": [0.8, 0.1, 0.1]},
        "order": "RO",
        "group_by": None,
        "mode": "labeled" if model == "AutoInt" else "full",
    }
    # A sequential model is always split by time, so no seed has a part in it.
    path, base, config = trained(model, seed=5, **({} if model == "GRU4Rec" else {"eval_args": split}))
    init_seed(5, config["reproducibility"])
    theirs = Trainer(config, base).evaluate(build_splits(config).test_data, load_best_model=False)
    settings = {
        "data_path": str(tiny_path),
        "show_progress": False,
        "use_gpu": False,
        "time_budget": 0,
        "output_dir": str(tmp_path / "runs"),
        "base_checkpoint": str(path),
        "trust_checkpoint": True,
        "domain": ["gender"],
        "seed": 77,
        "epochs": 1,
        "iak_args": {"least_steps": 0},
    }
    result = run_recfound("IAK", "tiny", config_dict=settings)
    frozen = result["comparison"][0]["metrics"]
    assert {name: frozen[name] for name in theirs} == dict(theirs)
    assert len(load_recfound(result["run_dir"]).score(["1", "2"], ["1", "2"], ["F", "M"])) == 2
    # The run's own settings name the base that it had, so that they can be run again.
    again = Request.of("IAK", "tiny", [str(Path(result["run_dir"]) / "config.yaml")], {"trust_checkpoint": True})
    assert again.settings["base_model"] == model
    assert base_of(IAKSystem.configure(again))[0]["model"] == model
