"""RecBole's models as rows of the table."""

import time

import pytest
from recbole.trainer import Trainer

from recbole_recfound.baseline.recbole import (
    baseline_config,
    check_baseline_settings,
    check_baselines,
    check_package,
    run_baseline,
)
from recbole_recfound.config.configurator import Config
from recbole_recfound.config.models import get_model
from recbole_recfound.data.split.comparison import check_same_rows
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.errors import ConfigError, DataError, TrainingError
from recbole_recfound.quick_start import run_recfound

KEYS = {
    "model",
    "metrics",
    "valid_metrics",
    "train_seconds",
    "eval_seconds",
    "trainable_parameters",
    "converged",
    "by_user",
    "note",
}


def _config(path, dataset="tiny", **settings):
    return Config("BPR", dataset, config_dict={"data_path": path, "show_progress": False, **settings})


def test_recboles_defaults_under_our_protocol(tiny_path, tmp_path):
    config = _config(
        tiny_path,
        mask_history=False,
        seed=7,
        topk=[5],
        valid_metric="MRR@5",
        train_batch_size=17,
        MAX_ITEM_LIST_LENGTH=100,
    )
    theirs = baseline_config("SASRec", config, tmp_path / "saved")
    for key in (
        "mask_history",
        "seed",
        "topk",
        "valid_metric",
        "metrics",
        "eval_args",
        "load_col",
        "data_path",
        "device",
    ):
        assert theirs[key] == config[key], key
    assert theirs["train_batch_size"] == 2048 and theirs["MAX_ITEM_LIST_LENGTH"] == 50 and theirs["epochs"] == 300
    assert theirs["checkpoint_dir"] == str(tmp_path / "saved")


def test_settings_of_one_baseline(tiny_path):
    config = _config(tiny_path, baseline_args={"SASRec": {"n_layers": 1, "seed": 2020}})
    theirs = baseline_config("SASRec", config, "saved")
    assert (theirs["n_layers"], theirs["seed"]) == (1, 2020)
    with pytest.raises(ConfigError, match="baseline_args: SASRec: got seed, which all rows of a table share"):
        baseline_config("SASRec", _config(tiny_path, baseline_args={"SASRec": {"seed": 1}}), "saved")
    with pytest.raises(ConfigError, match="n_layer: unknown setting; did you mean n_layers"):
        baseline_config("SASRec", _config(tiny_path, baseline_args={"SASRec": {"n_layer": 1}}), "saved")


@pytest.mark.parametrize("name", ["Pop", "ItemKNN", "EASE"])
def test_models_without_gradients_train_once(name, tiny_path, tmp_path):
    config = _config(tiny_path)
    row = run_baseline(name, config, build_splits(config), tmp_path / "baselines")
    assert set(row.to_json()) == KEYS and row.model == name
    assert row.converged and not row.note and row.trainable_parameters == 0
    assert set(row.metrics) == set(row.valid_metrics) == {"recall@10", "ndcg@10", "mrr@10", "hit@10"}
    assert [path.name for path in (tmp_path / "baselines").iterdir()] == [name]
    assert not list(tmp_path.rglob("*.pth"))


def test_early_stopping_is_convergence_and_running_out_of_epochs_is_not(tiny_path, tmp_path):
    config = _config(tiny_path, baseline_args={"BPR": {"epochs": 300, "stopping_step": 1, "learning_rate": 1e-9}})
    reference = build_splits(config)
    config["baseline_args"] = {"BPR": {"epochs": 2}}
    row = run_baseline("BPR", config, reference, tmp_path)
    assert not row.converged and row.note == "not converged: stopped after 2 epochs"
    config["baseline_args"] = {"BPR": {"epochs": 60, "stopping_step": 0, "learning_rate": 0.05}}
    row = run_baseline("BPR", config, reference, tmp_path)
    assert row.converged and row.note == "" and row.trainable_parameters > 0


def test_epochs_are_counted_and_not_validations(tiny_path, tmp_path):
    config = _config(tiny_path, baseline_args={"BPR": {"epochs": 5, "eval_step": 2}})
    reference = build_splits(config)
    row = run_baseline("BPR", config, reference, tmp_path)
    assert row.note == "not converged: stopped after 5 epochs"
    row = run_baseline("BPR", config, reference, tmp_path, time.monotonic())
    assert row.note == "not converged: stopped after 2 epochs"


def test_models_without_gradients_are_validated_whatever_the_interval(tiny_path, tmp_path):
    config = _config(tiny_path, baseline_args={"EASE": {"eval_step": 5}})
    assert run_baseline("EASE", config, build_splits(config), tmp_path).valid_metrics["ndcg@10"] > 0


@pytest.mark.parametrize(
    ("name", "own", "message"),
    [
        ("BPR", {"eval_step": 0}, "eval_step: got 0, expected"),
        ("RaCT", {}, "train_stage: got actor_pretrain for RaCT, which is pretrained without validation"),
        ("S3Rec", {"train_stage": "pretrain"}, "train_stage: got pretrain for S3Rec"),
    ],
)
def test_trainings_without_validation_are_refused_before_training(name, own, message, tiny_path, tmp_path):
    with pytest.raises(ConfigError, match=message):
        check_baseline_settings([name], _config(tiny_path, baseline_args={name: own}))
    settings = {"data_path": str(tiny_path), "output_dir": str(tmp_path / "runs"), "use_gpu": False, **own}
    with pytest.raises(ConfigError, match=message):
        run_recfound(name, "tiny", config_dict=settings)
    assert not (tmp_path / "runs").exists()


def test_a_validation_without_a_number_is_an_error_of_one_line(tiny_path, tmp_path, monkeypatch):
    config = _config(tiny_path, baseline_args={"BPR": {"epochs": 1}})
    monkeypatch.setattr(Trainer, "_valid_epoch", lambda *given, **options: (float("nan"), {}))
    with pytest.raises(TrainingError, match="BPR: no validation gave a NDCG@10 that is a number"):
        run_baseline("BPR", config, build_splits(config), tmp_path)


def test_the_time_of_a_model_that_its_construction_fits(tiny_path, tmp_path, monkeypatch):
    model, clock, late = get_model("EASE"), time.monotonic, []
    build = model.__init__
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 1000 * len(late))
    monkeypatch.setattr(model, "__init__", lambda self, *given: (late.append(1), build(self, *given))[1])
    config = _config(tiny_path)
    row = run_baseline("EASE", config, build_splits(config), tmp_path)
    assert 1000 <= row.train_seconds < 1500 and row.eval_seconds < 500


@pytest.mark.parametrize("cap", ["deadline", "baseline_time_budget"])
def test_a_wall_cap_ends_training_after_the_epoch_and_says_so(cap, tiny_path, tmp_path):
    config = _config(tiny_path, **({"baseline_time_budget": 1e-6} if cap == "baseline_time_budget" else {}))
    deadline = time.monotonic() if cap == "deadline" else None
    row = run_baseline("BPR", config, build_splits(config), tmp_path, deadline)
    assert not row.converged and row.note == "not converged: stopped after 1 epochs" and row.metrics


@pytest.mark.parametrize("name", ["BPR", "CFKG"])
def test_an_epoch_ends_with_the_time(name, knowledge_path, tmp_path, monkeypatch):
    """One epoch of a sequential model takes minutes on a busy machine: the limit does not wait for its end."""
    config = _config(str(knowledge_path), baseline_args={name: {"train_batch_size": 16}})
    model, batches = get_model(name), []
    loss = model.calculate_loss
    monkeypatch.setattr(model, "calculate_loss", lambda *given: (batches.append(1), loss(*given))[1])
    row = run_baseline(name, config, build_splits(config), tmp_path, time.monotonic())
    assert len(batches) == 1 and row.metrics and row.note == "not converged: stopped after 1 epochs"


def test_the_same_seed_gives_the_same_row(tiny_path, tmp_path):
    config = _config(tiny_path, baseline_args={"BPR": {"epochs": 2}})
    reference = build_splits(config)
    first, second = (run_baseline("BPR", config, reference, tmp_path).metrics for _ in range(2))
    assert first == second


def test_what_cannot_be_compared_is_refused_before_training(tiny_path, write_dataset):
    config = _config(tiny_path)
    reference = build_splits(config)
    check_baselines(["Pop", "SASRec", "LightGCN"], config, reference)
    with pytest.raises(ConfigError, match="baselines: DeepFM predicts clicks or ratings"):
        check_baselines(["Pop", "DeepFM"], config, reference)
    with pytest.raises(ConfigError, match="unknown model 'Popp'; did you mean Pop"):
        check_baselines(["Popp"], config, reference)
    with pytest.raises(ConfigError, match="baselines: Pop specified more than once"):
        check_baselines(["Pop", "SASRec", "Pop"], config, reference)
    with pytest.raises(ConfigError, match="baselines: got BPR, which is the model of the run itself. Leave it out"):
        check_baselines(["Pop", "BPR"], config, reference)
    config["baseline_args"] = {"BPR": {}}
    with pytest.raises(ConfigError, match="baseline_args: got BPR, expected names among the baselines: Pop"):
        check_baselines(["Pop"], config, reference)


def test_short_users_and_sequential_baselines_are_refused_before_training(write_dataset):
    rows = [[f"u{user}", f"i{(user + step) % 6}", step] for user in range(6) for step in range(3)]
    path = write_dataset("short", inter=[["user_id:token", "item_id:token", "timestamp:float"], *rows])
    config = _config(path, "short")
    reference = build_splits(config)
    check_baselines(["Pop"], config, reference)
    with pytest.raises(DataError, match="6 of 6 users have 2 or 3 interactions"):
        check_baselines(["Pop", "GRU4Rec"], config, reference)


@pytest.mark.parametrize(
    ("mode", "repeatable", "refused"), [("uni20", False, True), ("uni20", True, False), ("full", False, False)]
)
def test_sampled_candidates_of_two_kinds_are_refused(tiny_path, mode, repeatable, refused):
    """RecBole draws those of sequential models among old items too."""
    arguments = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": mode}
    own = {"repeatable": True, "mask_history": False} if repeatable else {}
    config = _config(tiny_path, eval_args=arguments, **own)
    reference = build_splits(config)
    check_baselines(["Pop"], config, reference)
    if not refused:
        check_baselines(["GRU4Rec"], config, reference)
        return
    with pytest.raises(ConfigError, match=r"got GRU4Rec beside BPR, but of sampled candidates"):
        check_baselines(["Pop", "GRU4Rec"], config, reference)


def test_packages_of_baselines_are_looked_for_before_training(knowledge_path, monkeypatch):
    """RecBole imports them when it builds the model, after the baselines before it were trained."""
    config = _config(knowledge_path, baselines=["Pop", "KGAT"])
    monkeypatch.setattr("recbole_recfound.baseline.recbole.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="KGAT of RecBole needs the package dgl, which is not installed"):
        check_baseline_settings(["Pop", "KGAT"], config)
    monkeypatch.setattr("recbole_recfound.baseline.recbole.find_spec", lambda name: name)
    check_baseline_settings(["Pop", "KGAT"], config)


@pytest.mark.parametrize(
    ("model", "settings", "package"),
    [("NNCF", {"neigh_info_method": "louvain"}, "community"), ("LDiffRec", {"n_cate": 2}, "kmeans_pytorch")],
)
def test_packages_that_depend_on_settings(monkeypatch, model, settings, package):
    monkeypatch.setattr("recbole_recfound.baseline.recbole.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=f"{model} of RecBole needs the package {package}, which is not installed"):
        check_package(Config(model, "ml-100k", config_dict=settings))
    check_package(Config(model, "ml-100k", config_dict={"n_cate": 1, "neigh_info_method": "random"}))


def test_items_without_a_link_are_found_before_anything_is_trained(knowledge_path):
    reference = build_splits(Config("BPR", "tiny", config_dict={"data_path": knowledge_path, "show_progress": False}))
    check_baselines(["Pop", "CKE"], reference.config, reference)
    link = knowledge_path / "tiny" / "tiny.link"
    link.write_text("\n".join(link.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(DataError, match="RecBole drops .*: 1 of .*leave CKE out"):
        check_baselines(["Pop", "CKE"], reference.config, reference)


@pytest.mark.parametrize("names", [("BPR", "CKE"), ("CKE", "BPR")])
def test_items_without_a_link_are_named(knowledge_path, names):
    """RecBole drops their interactions for models of a knowledge graph alone."""
    link = knowledge_path / "tiny" / "tiny.link"
    header, *rows = link.read_text().splitlines()
    link.write_text("\n".join([header, *rows[1:]]) + "\n")
    item = rows[0].split("\t")[0]
    first, second = (
        build_splits(Config(name, "tiny", config_dict={"data_path": knowledge_path, "show_progress": False}))
        for name in names
    )
    said = rf"{names[1]}: its set of .* RecBole drops .*: 1 of \d+ items, such as {item}\. .*leave CKE out"
    with pytest.raises(DataError, match=said):
        check_same_rows(first, second)
