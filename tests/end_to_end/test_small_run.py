"""Whole runs on a tiny random backbone: what is written, and that training does something."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.quick_start import run_recfound
from recbole_recfound.serving import load_recfound


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_path, tiny_backbone):
    """One finished run with a baseline."""
    settings = {
        "data_path": str(tiny_path),
        "backbone": str(tiny_backbone),
        "output_dir": str(tmp_path_factory.mktemp("runs")),
        "show_progress": False,
        "use_gpu": False,
        "precision": "float32",
        "time_budget": 0,
        "max_steps": 6,
        "eval_interval": 2,
        "probe_interval": 3,
        "probe_size": 2,
        "frozen_feature_layers": [3],
        "lora_r": 2,
        "embedding_batch": 4,
        "contrastive_batch": 2,
        "generative_chunk": 2,
        "max_generative_examples": 30,
        "sr_candidates": 4,
        "history_titles": 3,
        "task_test_examples": 3,
        "max_answer_tokens": 12,
        "weight_decay": 0.0,
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
    }
    return run_recfound("RecFound", "tiny", config_dict=settings, baselines=["Pop"])


def test_returns_recboles_four_and_the_table(finished):
    assert set(finished) == {
        "best_valid_score",
        "valid_score_bigger",
        "best_valid_result",
        "test_result",
        "comparison",
        "run_dir",
    }
    assert [row["model"] for row in finished["comparison"]] == ["Pop", "RecFound"]
    assert finished["test_result"] == finished["comparison"][-1]["metrics"]
    assert finished["best_valid_score"] == finished["best_valid_result"]["ndcg@10"]


def test_writes_the_run_folder(finished):
    folder = Path(finished["run_dir"])
    for name in (
        "config.yaml",
        "results.json",
        "report.html",
        "head.safetensors",
        "item_embeddings.safetensors",
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "trainer_state/step-0000006/state.json",
        f"{folder.name}.log",
    ):
        assert (folder / name).is_file(), name
    results = json.loads((folder / "results.json").read_text())
    for row in results["rows"]:
        assert {"model", "metrics", "valid_metrics", "train_seconds", "eval_seconds", "trainable_parameters"} <= set(
            row
        )
    assert {task["name"] for task in results["tasks"]} == {"U2I", "I2I", "Q2I", "SR", "SA", "IP", "AVE"}
    assert results["merge"]["steps"] == [2, 4, 6]
    assert set(results["merge"]["test"]) == {"best", "last", "merged"}
    assert len(results["examples"]) == 10
    vectors = load_file(folder / "item_embeddings.safetensors")["item_embeddings"]
    torch.testing.assert_close(vectors[1:].norm(dim=-1), torch.ones(len(vectors) - 1), atol=1e-4, rtol=0)


def test_report_is_one_page_without_network(finished):
    page = (Path(finished["run_dir"]) / "report.html").read_text(encoding="utf-8")
    links = (
        page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace("http://creativecommons.org", "")
    )
    assert "http://" not in links and "https://" not in links and "<script" not in page
    for heading in (
        "Comparison",
        "Loss per task",
        "Sampling ratios",
        "Router similarity",
        "Best single",
        "Ten recommend",
    ):
        assert heading in page
    assert page.count("<svg") >= 5


def test_every_trained_tensor_moved(finished):
    """An adapter or projection that silently does not learn is the classic lie of this field."""
    state = Path(finished["run_dir"]) / "trainer_state"
    before, after = (load_file(state / f"step-{step:07d}" / "trained.safetensors") for step in (0, 6))
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert not still


def test_what_is_loaded_is_what_was_tested(finished):
    """Hits of the loaded model on the test part, with the run's mask, are those of the table."""
    assert _hits(load_recfound(finished["run_dir"])) == pytest.approx(finished["test_result"]["hit@10"], abs=1e-4)


def _hits(loaded):
    hits = users = 0
    for interaction, history, rows, items in loaded.splits.test_data:
        scores = loaded.model.full_sort_predict(interaction.to(loaded.device)).view(len(interaction), -1).cpu()
        scores[:, 0] = -torch.inf
        scores[history] = -torch.inf
        best = scores.topk(10).indices
        hits += sum(int(item in best[row]) for row, item in zip(rows.tolist(), items))
        users += len(interaction)
    assert users > 20
    return hits / users


@pytest.mark.parametrize("mode", ["item", "text"])
def test_a_run_recommends(small_run, mode):
    result = run_recfound("RecFound", "tiny", config_dict=small_run | {"history_mode": mode, "max_steps": 2})
    loaded = load_recfound(result["run_dir"])
    data = loaded.splits.train_set
    users = [str(token) for token in data.field2id_token["user_id"][1:4]]
    best = loaded.recommend(users, k=5)
    for user, pairs in zip(users, best):
        number = int(data.token2id("user_id", user))
        had = {str(data.id2token("item_id", int(item))) for item in loaded.histories.of(number)}
        assert (
            len(pairs) == 5
            and not had & {item for item, _ in pairs}
            and [value for _, value in pairs] == sorted((v for _, v in pairs), reverse=True)
        )
        scores = loaded.score([user] * 5, [item for item, _ in pairs])
        torch.testing.assert_close(scores, torch.tensor([value for _, value in pairs]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("control", [{"body": "random"}, {"item_features": "random"}, {"user_tower": "small"}], ids=str)
def test_controls_are_loaded_as_they_were(small_run, control, tmp_path_factory, monkeypatch):
    """What is drawn is drawn the same again; and from another folder."""
    result = run_recfound("RecFound", "tiny", config_dict=small_run | control | {"max_steps": 2, "output_dir": "here"})
    folder = Path(result["run_dir"]).resolve()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    torch.manual_seed(99)
    assert _hits(load_recfound(folder)) == pytest.approx(result["test_result"]["hit@10"], abs=1e-4)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda run: run.recommend(["nobody"]), "user_id 'nobody' is not in the data set"),
        (lambda run: run.recommend(["[PAD]"]), r"user_id '\[PAD\]' is not in the data set"),
        (lambda run: run.recommend([1]), r"user_id 1 is not in the data set \(tokens are text\)"),
        (lambda run: run.recommend("12"), r"user_id: a list of tokens is wanted, as in \['12'\]"),
        (lambda run: run.recommend([]), "user_id: no token is given"),
        (lambda run: run.recommend(["1"], k=0), "k is 0, at least 1 item"),
        (lambda run: run.score(["1", "2"], ["1"]), "2 users and 1 items, one of each is a row"),
    ],
)
def test_what_cannot_be_asked(finished, ask, message):
    with pytest.raises(ConfigError, match=message):
        ask(load_recfound(finished["run_dir"]))


def test_damaged_runs_are_told(finished, tmp_path):
    for name, text, error, message in (
        ("results.json", "{", DataError, "a file is missing, damaged"),
        ("head.safetensors", "x", DataError, "a file is missing, damaged"),
        ("config.yaml", "a: [", DataError, "config.yaml cannot be read"),
        ("results.json", None, ConfigError, "the run is not finished"),
        ("adapter", None, ConfigError, "not a finished run of RecFound or IAK"),
    ):
        folder = tmp_path / f"{name}-{text is None}"
        shutil.copytree(finished["run_dir"], folder)
        if text is not None:
            (folder / name).write_text(text)
        elif name == "adapter":
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink()
        with pytest.raises(error, match=message):
            load_recfound(folder)


@pytest.mark.parametrize(
    "mode", [{"history_mode": "text", "text_form": "positions"}, {"history_mode": "text", "text_form": "prompt"}]
)
def test_text_modes_run(small_run, mode):
    result = run_recfound("RecFound", "tiny", config_dict=small_run | mode | {"max_steps": 2})
    assert 0 <= result["test_result"]["ndcg@10"] <= 1


@pytest.mark.parametrize(
    "control",
    [
        {"adapter": "lora"},
        {"adapter": "none"},
        {"scheduler": "proportional"},
        {"scheduler": "coba"},
        {"merge_method": "none"},
        {"tasks": ["U2I"]},
        {"backbone_layers": 0},
        {"user_tower": "small"},
        {"body": "random"},
        {"item_features": "random"},
        {"use_item_text": False},
    ],
    ids=str,
)
def test_ablations_and_controls_run(small_run, control):
    result = run_recfound("RecFound", "tiny", config_dict=small_run | control | {"max_steps": 2})
    assert 0 <= result["test_result"]["ndcg@10"] <= 1


def test_recboles_own_model_runs_through_the_same_call(small_run):
    keys = ("data_path", "output_dir", "show_progress", "use_gpu")
    result = run_recfound("BPR", "tiny", config_dict={key: small_run[key] for key in keys} | {"epochs": 1})
    assert result["comparison"][0]["model"] == "BPR"


def test_bf16_runs_and_keeps_vectors_in_full(small_run):
    """bf16 weights under autocast, as on processors with AMX and on GPUs; scores stay float32."""
    result = run_recfound(
        "RecFound", "tiny", config_dict=small_run | {"precision": "bf16", "gradient_cache_chunk": 1, "max_steps": 2}
    )
    vectors = load_file(Path(result["run_dir"]) / "item_embeddings.safetensors")["item_embeddings"]
    assert vectors.dtype == torch.float32 and not torch.equal(vectors, vectors.bfloat16().float())
    assert json.loads((Path(result["run_dir"]) / "results.json").read_text())["run"]["precision"] == "bf16"


def test_progress_bars_show_the_losses_of_the_tasks(small_run, capfd):
    run_recfound(
        "RecFound", "tiny", config_dict=small_run | {"show_progress": True, "tasks": ["U2I", "SR"], "max_steps": 3}
    )
    told = capfd.readouterr().err
    assert re.search(r"RecFound: +\d+%.*U2I \d+\.\d+.*SR \d+\.\d+", told) and "testing tasks" in told


def test_tensorboard_has_losses_and_validations(small_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_recfound("RecFound", "tiny", config_dict=small_run | {"tasks": ["U2I", "SR"], "max_steps": 4})
    (folder,) = (tmp_path / "log_tensorboard").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    assert {"Loss/U2I", "Loss/SR", "Vaild_score"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("Vaild_score")] == [2, 4]
