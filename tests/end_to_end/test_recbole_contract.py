"""RecBole's own tools train, evaluate and tune our models."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from recbole_recfound import run_recfound
from recbole_recfound.errors import ConfigError
from tests.small_iak import small_base

KEYS = {"best_valid_score", "valid_score_bigger", "best_valid_result", "test_result"}
PROTOCOL = {
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    "metrics": ["Recall", "NDCG", "MRR", "Hit"],
    "topk": [10],
    "valid_metric": "NDCG@10",
    "seed": 2020,
}
"""What RecBole's own files set otherwise than ours."""


@pytest.fixture
def settings(small_run, tmp_path, monkeypatch):
    """Settings of a small run for RecBole's own Config, which reads the command line."""
    monkeypatch.setattr(sys, "argv", ["recbole"])
    left_out = ("output_dir", "use_gpu")
    return (
        {key: value for key, value in small_run.items() if key not in left_out}
        | PROTOCOL
        | {
            "gpu_id": "",
            "checkpoint_dir": str(tmp_path / "saved"),
            "merge_method": "none",
            "max_steps": 4,
            "state": "INFO",
        }
    )


def test_importing_the_package_imports_neither_torch_nor_recboles_models():
    code = "import recbole_recfound, sys; print('torch' in sys.modules, 'recbole.model' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_run_recbole_gives_what_our_run_gives(settings, small_run, tmp_path):
    from recbole.quick_start import run_recbole

    logging.getLogger().handlers.clear()
    # RecBole's run draws random numbers between the model and its training.
    items = small_run["item_args"] | {"text_alone": 0.0}
    plain = {"dropout": 0.0, "item_args": items, "adapter_args": {"r": 2, "lora_dropout": 0.0}}
    theirs = run_recbole("RecFound", "tiny", config_dict=settings | plain)
    assert set(theirs) == KEYS
    ours = run_recfound("RecFound", "tiny", config_dict=small_run | {"merge_method": "none"} | plain)
    assert theirs["valid_score_bigger"] is ours["valid_score_bigger"] is True
    best = {name: float(value) for name, value in theirs["best_valid_result"].items()}
    assert theirs["best_valid_score"] == pytest.approx(best["ndcg@10"])
    # Both mask what the user had; our run reports the better of the best and the last checkpoint on the validation
    # part.
    assert best == pytest.approx({name: float(value) for name, value in ours["best_valid_result"].items()})
    assert {k: float(v) for k, v in theirs["test_result"].items()} == pytest.approx(ours["test_result"])
    log = next(Path("log").rglob("RecFound*.log")).read_text()
    assert "test result" in log and "RecFound" in log and "step 2" in log


def test_unsaved_models_are_evaluated_as_they_are(settings):
    from recbole.quick_start import run_recbole

    options = {"max_steps": 2, "metrics": ["NDCG", "ItemCoverage"]}
    result = run_recbole("RecFound", "tiny", config_dict=settings | options, saved=False)
    assert set(result["test_result"]) == {"ndcg@10", "itemcoverage@10"}
    assert set(result) == KEYS and not list(Path(settings["checkpoint_dir"]).rglob("*.safetensors"))


@pytest.mark.parametrize("form", ["positions", "prompt", "late"])
def test_histories_as_text(settings, form):
    from recbole.quick_start import run_recbole

    changes = {"history": form, "max_steps": 2}
    assert set(run_recbole("RecFound", "tiny", config_dict=settings | changes)) == KEYS


def test_parts_of_the_data_set_carry_the_history_before_them(settings):
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation

    config = Config("RecFound", "tiny", config_dict=settings)
    assert config["adapter"] == "tmole" and config["mask_history"] is True and type(config) is Config
    train, valid, test = data_preparation(config, create_dataset(config))
    parts = [part._dataset for part in (train, valid, test)]
    for data, before in ((valid, parts[:1]), (test, parts[:2])):
        rows = [
            (user, item)
            for part in before
            for user, item in zip(part.inter_feat["user_id"].tolist(), part.inter_feat["item_id"].tolist(), strict=True)
        ]
        seen = 0
        for interaction, *_ in data:
            columns = (interaction[name].tolist() for name in ("user_id", "item_id_list", "item_length"))
            for user, items, length in zip(*columns, strict=True):
                assert sorted(items[:length]) == sorted(item for other, item in rows if other == user)
                assert not any(items[length:])
                seen += 1
        assert seen == len(data._dataset)


def test_hyper_parameter_search(settings, tmp_path, monkeypatch):
    pytest.importorskip("hyperopt")
    from recbole.quick_start import objective_function
    from recbole.trainer import HyperTuning

    seen = []

    def objective(config_dict=None, config_file_list=None):
        merged = settings | {"model": "RecFound", "dataset": "tiny", "max_steps": 2} | config_dict
        seen.append(config_dict)
        return objective_function(merged, config_file_list, saved=True)

    tuning = HyperTuning(objective, algo="exhaustive", max_evals=2, space=_space())
    tuning.run()
    assert len(seen) == 2 and tuning.best_params in seen
    assert all(set(result) >= {"best_valid_score", "test_result"} for result in tuning.params2result.values())


def _space():
    from hyperopt import hp

    return {"learning_rate": hp.choice("learning_rate", [0.01, 0.001])}


def test_checkpoints_go_to_the_checkpoint_folder_and_come_back(settings):
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    config = Config("RecFound", "tiny", config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    train, valid, test = data_preparation(config, create_dataset(config))
    model = get_model("RecFound")(config, train._dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], "RecFound")(config, model)
    trainer.fit(train, valid, verbose=False)
    result = trainer.evaluate(test)
    folder = trainer.store.path_of(trainer.best_step)
    assert folder.is_relative_to(config["checkpoint_dir"]) and (folder / "trained.safetensors").is_file()
    with torch.no_grad():
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight.zero_().add_(0.01)
    assert trainer.evaluate(test, load_best_model=False) != result
    assert trainer.evaluate(test) == trainer.evaluate(test, model_file=folder) == result


@pytest.fixture(autouse=True)
def _loggers():
    """RecBole's logger adds handlers to the root logger (where it has none), whose files are gone after a test."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(before):
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def iak_settings(tiny_path, tmp_path, monkeypatch):
    """Settings of a small IAK run for RecBole's own Config."""
    monkeypatch.setattr(sys, "argv", ["recbole"])
    return {
        "data_path": str(tiny_path),
        "checkpoint_dir": str(tmp_path / "saved"),
        "gpu_id": "",
        "show_progress": False,
        "domain": ["gender"],
        "epochs": 2,
        "train_batch_size": 32,
        "iak_args": {"least_steps": 4},
        "time_budget": 0,
    }


@pytest.mark.parametrize("base", ["DeepFM", "SASRec", "BPR"])
def test_run_recbole_trains_a_base_and_its_kernels(iak_settings, base):
    from recbole.quick_start import run_recbole

    found = run_recbole("IAK", "tiny", config_dict=iak_settings | small_base(base, epochs=1))
    assert set(found) == KEYS
    metric = "auc" if base == "DeepFM" else "ndcg@10"
    assert metric in found["test_result"] and metric in found["best_valid_result"]
    kernels = list(Path(iak_settings["checkpoint_dir"]).glob("IAK-*.safetensors"))
    assert len(kernels) == 1


def test_recboles_trainer_tests_iak_as_our_run_does(iak_settings, tmp_path):
    """The same base on the same split; kernels that were trained in the same way."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    ours = run_recfound(
        "IAK",
        "tiny",
        config_dict=iak_settings
        | small_base("DeepFM", epochs=1)
        | {"output_dir": str(tmp_path / "runs"), "use_gpu": False},
    )
    checkpoint = {"base_checkpoint": ours["run_dir"], "load_col": small_base("DeepFM")["load_col"]}
    config = Config("IAK", "tiny", config_dict=iak_settings | checkpoint)
    init_seed(config["seed"], config["reproducibility"])
    train, valid, test = data_preparation(config, create_dataset(config))
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, train._dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train, valid)
    theirs = trainer.evaluate(test)
    assert theirs == pytest.approx(
        {k: v for k, v in ours["test_result"].items() if not k.startswith("weighted")}, abs=1e-4
    )


def test_kernels_stand_on_the_base_as_it_was_trained(iak_settings):
    """Kernels of LightGCN adapt the rows of a table that the base keeps; before its training it is another."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer

    base = small_base("LightGCN", epochs=3)
    config = Config("IAK", "tiny", config_dict=iak_settings | base | {"iak_args": {"lambda_c": 0}})
    train, valid, test = data_preparation(config, create_dataset(config))
    model = get_model(config["model"])(config, train._dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train, valid)
    for bank in model.banks:
        bank.enable(torch.zeros(bank.num_domains, dtype=torch.bool))
    scorer = trainer.scorer(train, test=test)
    without, alone = (scorer.metrics(scorer.collect(each, "test"), "test") for each in (model, model.base))
    assert without == alone


def test_recboles_quick_start_refuses_what_only_a_run_of_several_rows_reads(iak_settings):
    from recbole.quick_start import run_recbole

    given = {"iak_args": {"beta": [1e-4, 0.1], "warm_start": "runs/before"}, "tuning_baselines": ["full"]}
    with pytest.raises(ConfigError) as caught:
        run_recbole("IAK", "tiny", config_dict=iak_settings | small_base("BPR", epochs=1) | given)
    assert caught.value.problems == [
        f"{name}: only run_recfound reads it" for name in ("iak_args: beta", "iak_args: warm_start", "tuning_baselines")
    ]


def test_recboles_tuning_searches_settings_of_iak(iak_settings, tmp_path):
    from recbole.quick_start import objective_function
    from recbole.trainer import HyperTuning

    (tmp_path / "params.test").write_text("learning_rate choice [0.001,0.01]")

    def objective(config_dict=None, config_file_list=None):
        return objective_function(
            iak_settings
            | small_base("DeepFM", epochs=1)
            | dict(config_dict or {})
            | {"model": "IAK", "dataset": "tiny"},
            config_file_list,
            saved=False,
        )

    tuning = HyperTuning(objective, algo="exhaustive", max_evals=2, params_file=str(tmp_path / "params.test"))
    tuning.run()
    assert tuning.best_params["learning_rate"] in (0.001, 0.01) and len(tuning.params2result) == 2
