"""RecBole's own models of a run, asked by tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_recfound import load_recfound, run_recfound
from recbole_recfound.errors import ConfigError
from recbole_recfound.serving.baselines import load_baselines
from recbole_recfound.serving.request import Request

BASELINES = ("Pop", "ItemKNN", "EASE", "BPR", "SASRec")


@pytest.fixture(scope="module")
def run(tiny_path, tiny_backbone, tmp_path_factory):
    """A finished run with baselines."""
    settings = {
        "data_path": str(tiny_path),
        "backbone": str(tiny_backbone),
        "output_dir": str(tmp_path_factory.mktemp("runs")),
        "show_progress": False,
        "use_gpu": False,
        "time_budget": 0,
        "max_steps": 1,
        "tasks": ["U2I"],
        "task_test_examples": 0,
        "MAX_ITEM_LIST_LENGTH": 10,
        "user_inter_num_interval": "[4,inf)",
        "baselines": list(BASELINES),
        "baseline_args": {name: {"epochs": 1} for name in ("BPR", "SASRec")},
    }
    return Path(run_recfound("RecFound", "tiny", config_dict=settings)["run_dir"])


def test_every_baseline_is_loaded_as_it_was_tested(run):
    found, notes = load_baselines(run)
    assert set(found) == set(BASELINES) and not notes
    rows = {row["model"]: row for row in json.loads((run / "results.json").read_text())["rows"]}
    for name, loaded in found.items():
        assert loaded.evaluate().metrics == rows[name]["metrics"], name


def test_files_that_a_model_reads_are_compared_with_those_of_its_training(run, tiny_path, tmp_path, capsys):
    data = shutil.copytree(tiny_path, tmp_path / "data")
    (data / "tiny" / "tiny.user").unlink()  # which none of these reads
    load_baselines(run, data)
    assert "changed since" not in capsys.readouterr().err
    file = data / "tiny" / "tiny.inter"
    file.write_text(file.read_text() + "\n")
    found, _ = load_baselines(run, data)
    assert set(found) == set(BASELINES)
    assert capsys.readouterr().err.count("note: tiny.inter changed since") == len(BASELINES)


def test_histories_are_answered_by_those_that_can_read_them(run):
    found, _ = load_baselines(run)
    items = list(found["EASE"].item_ids)
    for name in ("Pop", "ItemKNN", "EASE", "SASRec"):
        best = found[name].recommend(items[:3], k=5)
        assert len(best) == 5 and not {token for token, *_ in best} & set(items[:3])
        user = found[name].known_users()[0]
        history = [found[name].tokens[item] for item in found[name]._history_of(found[name]._user_id(user))]
        assert found[name].recommend(user=user) == found[name].recommend(history)
    with pytest.raises(ConfigError, match="BPR reads no histories but users by their ids"):
        found["BPR"].recommend(items[:3])
    for name in ("SASRec", "EASE"):
        with pytest.raises(ConfigError, match="item_id: got an empty list"):
            found[name].recommend([])
        answers = found[name].recommend_each([Request(history=[]), Request(history=items[:3])])
        assert isinstance(answers[0], ConfigError) and len(answers[1]) == 10
    assert len(found["BPR"].recommend(user="1", k=3)) == 3
    with pytest.raises(ConfigError, match="BPR has no kernels"):
        found["BPR"].recommend(user="1", domains="F")


@pytest.mark.parametrize("name", ["EASE", "ItemKNN", "Pop"])
def test_scores_of_a_history_are_those_of_a_user_with_it(run, name):
    """RecBole's own scores of a training user, from the user's training items."""
    loaded = load_baselines(run)[0][name]
    train = loaded.splits.known_at_valid
    users = [1, 5, 9]
    batch = {loaded.data.uid_field: torch.tensor(users)}
    expected = loaded.model.full_sort_predict(Interaction(batch)).view(len(users), -1).float()
    for user, scores in zip(users, expected, strict=True):
        history = [loaded.tokens[item] for item in train.of(user)]
        wanted = [token for token in loaded.item_ids if token not in history]
        found = loaded.score([history] * len(wanted), wanted)
        ids = torch.tensor([loaded.item_ids[token] for token in wanted])
        if name == "Pop":  # RecBole divides by the largest count
            found = found / found.max() * scores[ids].max()
        torch.testing.assert_close(found, scores[ids], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["EASE", "ItemKNN", "SLIMElastic"])
def test_repeated_interactions_count_as_often_in_a_history_as_in_training(name, write_dataset, tmp_path):
    random = np.random.default_rng(3)
    rows = [[f"u{user}", f"i{random.integers(8)}", 1000 * step + user] for user in range(20) for step in range(12)]
    settings = {
        "data_path": str(write_dataset("often", inter=[["user_id:token", "item_id:token", "timestamp:float"], *rows])),
        "output_dir": str(tmp_path / "runs"),
        "show_progress": False,
        "use_gpu": False,
        "repeatable": True,
        "topk": [5],
        "valid_metric": "NDCG@5",
    }
    loaded = load_recfound(run_recfound(name, "often", config_dict=settings)["run_dir"])
    assert loaded.data.inter_matrix(form="csr").max() > 1
    items = list(loaded.item_ids)
    for user in (1, 5, 9):
        expected = loaded.model.full_sort_predict(Interaction({loaded.data.uid_field: torch.tensor([user])})).view(-1)
        history = [loaded.tokens[item] for item in loaded.splits.known_at_valid.of(user)]
        found = loaded.score([history] * len(items), items)
        ids = torch.tensor([loaded.item_ids[token] for token in items])
        torch.testing.assert_close(found, expected[ids].float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model", ["BPR", "SASRec", "DeepFM", "EASE"])
def test_a_run_of_one_of_recboles_models_is_asked_too(tiny_path, tmp_path, model):
    settings = _one_epoch(tiny_path, tmp_path)
    if model == "DeepFM":
        settings |= {"threshold": {"rating": 4}, "load_col": None}
        settings |= {"load_col": {"inter": ["user_id", "item_id", "rating"], "user": ["user_id", "gender"]}}
    result = run_recfound(model, "tiny", config_dict=settings)
    loaded = load_recfound(result["run_dir"])
    assert len(loaded.recommend(user="1", k=4)) == 4
    assert loaded.evaluate().metrics == result["test_result"]
    users, items = loaded.known_users()[:3], list(loaded.item_ids)[:3]
    scores = loaded.score(users, items)
    assert scores.shape == (3,) and np.isfinite(scores.numpy()).all()
    with pytest.raises(ConfigError, match="no language model"):
        load_recfound(result["run_dir"], backbone="x")
    with pytest.raises(ConfigError, match="only the language model of a run is exported"):
        loaded.export("U2I", "peft", tmp_path / "out")


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_users_and_items_without_interactions_are_not_recommended(tiny_path, tmp_path, model):
    """Their vectors are what they were drawn as: `.user` and `.item` name them, nobody has trained them."""
    inter = ["user_id", "item_id", "rating", "timestamp"]
    settings = {
        "data_path": str(tiny_path),
        "output_dir": str(tmp_path),
        "show_progress": False,
        "use_gpu": False,
        "epochs": 1,
        "filter_inter_by_user_or_item": False,
        "load_col": {"inter": inter, "user": ["user_id", "gender"], "item": ["item_id", "movie_title"]},
    }
    result = run_recfound(model, "tiny", config_dict=settings)
    loaded = load_recfound(result["run_dir"])
    rows = [line.split("\t") for line in (tiny_path / "tiny" / "tiny.inter").read_text().splitlines()[1:]]
    users, items = {row[0] for row in rows}, {row[1] for row in rows}
    assert set(loaded.known_users()) == users and len(loaded.known.users) > len(users)
    assert loaded.cold_items and not set(loaded.cold_items) & items
    best = loaded.recommend(user="1", k=10_000)
    assert {token for token, *_ in best} <= items
    cold = loaded.cold_items[:2]
    assert {token for token, *_ in loaded.recommend(user="1", candidates=cold)} == set(cold), "when they are named"
    without = next(user for user in loaded.known.users if user not in users)
    with pytest.raises(ConfigError, match=f"user_id: '{without}' has no interactions"):
        loaded.recommend(user=without)
    # The table is RecBole's: all items are ranked.
    assert loaded.evaluate().metrics == result["test_result"]


def test_what_only_a_language_model_does_is_refused_in_words(run):
    loaded = load_baselines(run)[0]["EASE"]
    for ask in (
        lambda: loaded.embed_user(["1"]),
        lambda: loaded.embed_items(["a film"]),
        lambda: loaded.generate("SR"),
        lambda: loaded.export("U2I", "peft", "out"),
        lambda: loaded.add_items([{"item_id": "new", "movie_title": "A Grand Day Out"}]),
        lambda: loaded.recommend(query="a film"),
    ):
        with pytest.raises(ConfigError, match="this model"):
            ask()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("SASRecCPR", "SASRecCPR also reads item_id of each interaction, which a request does not have"),
        ("GRU4RecCPR", "GRU4RecCPR also reads item_id of each interaction"),
        ("DIEN", "DIEN also reads neg_item_id_list of each interaction"),
    ],
)
def test_models_that_read_more_than_a_request_has_are_refused_in_words(model, message, tiny_path, tmp_path):
    loaded = _loaded(model, tiny_path, tmp_path)
    with pytest.raises(ConfigError, match=message):
        loaded.recommend(user="1", k=3)
    with pytest.raises(ConfigError, match=f"{model} (also reads|cannot score single items)"):
        loaded.score(["1"], ["50"])


def test_scores_of_a_model_that_returns_a_column_are_collected_and_served(tiny_path, tmp_path):
    loaded = _loaded("KD_DAGFM", tiny_path, tmp_path)
    assert 0 <= loaded.evaluate().metrics["gauc"] <= 1
    assert len(loaded.recommend(user="1", k=3)) == 3
    assert loaded.score(loaded.known_users()[:2], list(loaded.item_ids)[:2]).shape == (2,)


def _one_epoch(path, folder):
    return {
        "data_path": str(path),
        "output_dir": str(folder),
        "show_progress": False,
        "use_gpu": False,
        "epochs": 1,
        "user_inter_num_interval": "[4,inf)",
    }


def _loaded(model, path, folder):
    """Train one of RecBole's models for an epoch and load it."""
    settings = _one_epoch(path, folder)
    if not model.endswith("CPR"):
        settings |= {"threshold": {"rating": 4}, "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}}
        settings |= {"metrics": ["AUC", "LogLoss"], "valid_metric": "LogLoss"}
        settings |= {"eval_args": {"split": {"RS": [4, 3, 3]}, "group_by": "user", "order": "TO", "mode": "labeled"}}
    return load_recfound(run_recfound(model, "tiny", config_dict=settings)["run_dir"])
