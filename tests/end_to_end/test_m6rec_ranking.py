"""M6-Rec ranks all items: retrieval, and zeroshot without training."""

import json
from pathlib import Path
from unittest.mock import Mock

import pytest

from recbole_recfound import load_recfound, run_recfound
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.trainer.m6rec import M6RecTrainer
from tests.settings import Settings, clicks_of


@pytest.fixture(scope="module")
def settings(tiny_path, tiny_backbone):
    return clicks_of(tiny_path, tiny_backbone)


@pytest.fixture(scope="module")
def ranking(settings):
    """Settings of a run that ranks all items."""
    own = {key: value for key, value in settings.items() if key not in ("threshold", "eval_args", "load_col")}
    return Settings(own | {"m6rec_task": ["retrieval"], "retrieval_args": {"width": 8, "start_epochs": 3}})


def test_options_that_no_task_reads_are_named(ranking, tmp_path, capsys):
    options = {"output_dir": str(tmp_path), "epochs": 0, "late_args": {"targets": 3}, "zeroshot_args": {"alpha": 2.0}}
    options |= {"text_args": {"statistics": "online"}, "task_files": ["texts.jsonl"]}
    run_recfound("M6Rec", "tiny", config_dict=ranking | options, saved=False)
    notes = [line for line in capsys.readouterr().out.splitlines() if "which is not in m6rec_task" in line]
    assert notes == [
        "note: task_files: only the task generate reads this, which is not in m6rec_task",
        "note: late_args: targets: only the task ctr reads this, which is not in m6rec_task",
        "note: text_args: statistics: only the task ctr reads this, which is not in m6rec_task",
        "note: zeroshot_args: alpha: only the task zeroshot reads this, which is not in m6rec_task",
    ]


def test_options_of_trainings_are_named_where_nothing_is_trained(ranking, tmp_path, capsys):
    options = {"output_dir": str(tmp_path), "m6rec_task": ["zeroshot"], "test_users": 2, "retrieval_args": {}}
    options |= {"late_args": {"cache_file": str(tmp_path / "states")}, "option_args": {"tuning": ["lora"]}}
    options |= {"zeroshot_args": {"scores": ["mean"]}}
    run_recfound("M6Rec", "tiny", config_dict=ranking | options, saved=False)
    notes = {line.split(": only")[0]: line for line in capsys.readouterr().out.splitlines() if "in m6rec_task" in line}
    which = "only the tasks ctr, generate, retrieval read this, none of which is in m6rec_task"
    assert notes["note: option_args: prompts, bottleneck, tuning"].endswith(which)
    assert notes["note: late_args: joint_layers, cache_file"].endswith(which)
    assert not (tmp_path / "states").exists()


def test_retrieval_needs_a_user_with_two_training_rows(ranking, tmp_path, write_dataset):
    rows = [["user_id:token", "item_id:token", "timestamp:float"]]
    rows += [[user, item, time] for user in range(12) for time, item in enumerate((user, user + 1, user + 2))]
    data_path = write_dataset("short", inter=rows, item=[["item_id:token", "title:token_seq"], [0, "first"]])
    options = {"output_dir": str(tmp_path / "runs"), "data_path": str(data_path)}
    with pytest.raises(DataError, match="no user has two training rows"):
        run_recfound("M6Rec", "short", config_dict=ranking | options, baselines=["Pop"])


def _means_by_user(found):
    """Return the mean of each user's value by row: what paired tests read."""
    users = json.loads((Path(found["run_dir"]) / "by_user.json").read_text())
    return {name: sum(values) / len(users["users"]) for name, values in users["rows"].items()}


def test_retrieval_beside_models_with_ids(ranking, tmp_path):
    options = {"output_dir": str(tmp_path), "cold_items": 0.2}
    found = run_recfound("M6Rec", "tiny", config_dict=ranking | options, baselines=["Pop", "TextKNN"])
    rows = {row["model"]: row for row in found["comparison"]}
    assert list(rows) == ["Pop", "TextKNN", "M6Rec"]
    assert all(set(row["unseen"]) == set(row["metrics"]) for row in rows.values())
    assert rows["Pop"]["metrics"]["recall@10"] == 0  # nobody has chosen a cold item
    assert _means_by_user(found) == {
        name: pytest.approx(row["metrics"]["ndcg@10"], abs=6e-5) for name, row in rows.items()
    }
    model = load_recfound(found["run_dir"])
    assert dict(model.evaluate().metrics) == pytest.approx(found["test_result"])
    user = model.known_users()[0]
    by_user = model.recommend(user=user, k=4)
    assert len(by_user) == 4
    history = [token for token, *_ in by_user[:2]]
    best = model.recommend(history=history, k=3)
    assert len(best) == 3 and not {token for token, *_ in best} & set(history)


def test_metrics_that_count_training_rows(ranking, tmp_path):
    """A loaded run is scored by another way."""
    names = ["NDCG", "ItemCoverage", "AveragePopularity", "ShannonEntropy", "GiniIndex", "TailPercentage"]
    options = {"output_dir": str(tmp_path), "metrics": names, "valid_metric": "AveragePopularity@10"}
    found = run_recfound("M6Rec", "tiny", config_dict=ranking | options, baselines=["Pop"])
    assert set(found["test_result"]) == {f"{name.lower()}@10" for name in names}
    evaluated = load_recfound(found["run_dir"]).evaluate().metrics
    assert dict(evaluated) == pytest.approx(found["test_result"], abs=1e-4)


def test_a_blend_continues_with_the_weights_of_the_run(ranking, tmp_path, monkeypatch):
    """New items, ranked by M6-Rec, TextKNN and both together."""
    # Without a likeness of texts to start from M6-Rec is weak enough for validation to prefer the blend.
    weak = {"retrieval_args": {"width": 8, "start_epochs": 0}, "epochs": 1}
    options = ranking | weak | {"output_dir": str(tmp_path), "cold_items": 0.2, "blend": ["TextKNN"]}
    named = {"baselines": ["Pop", "TextKNN"]}
    with monkeypatch.context() as patch:
        patch.setattr("recbole_recfound.system.m6rec.system.blended", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_recfound("M6Rec", "tiny", config_dict=options, **named)
    found = run_recfound("M6Rec", "tiny", config_dict=options | {"resume": "auto"}, **named)
    rows = {row["model"]: row for row in found["comparison"]}
    assert list(rows)[:3] == ["Pop", "TextKNN", "M6Rec"] and found["test_result"] == rows["M6Rec"]["metrics"]
    blended = rows["M6Rec + TextKNN"]
    assert blended["valid_metrics"]["ndcg@10"] > rows["M6Rec"]["valid_metrics"]["ndcg@10"]
    kept = []
    fit = M6RecTrainer.fit
    monkeypatch.setattr(
        M6RecTrainer, "fit", lambda self, *args, **given: kept.append(self.scorings) or fit(self, *args, **given)
    )
    whole = run_recfound("M6Rec", "tiny", config_dict=options, **named)
    assert kept == [4.5]  # validations: the last, one and a half for the test, and both once more for the blend
    again = {row["model"]: row for row in whole["comparison"]}["M6Rec + TextKNN"]
    assert again["metrics"] == blended["metrics"] and again["note"] == blended["note"]
    assert dict(load_recfound(found["run_dir"]).evaluate().metrics) == pytest.approx(found["test_result"])


def test_ranking_without_training(ranking, tmp_path, capsys):
    """Every row ranks the same candidates of the same users."""
    arguments = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni20"}
    options = {"output_dir": str(tmp_path), "m6rec_task": ["zeroshot"], "test_users": 5, "epochs": 0}
    found = run_recfound("M6Rec", "tiny", config_dict=ranking | options | {"eval_args": arguments}, baselines=["Pop"])
    names = [row["model"] for row in found["comparison"]]
    assert names == ["Pop", *(f"M6Rec zeroshot {score}" for score in ("mean", "sum", "ghost", "pmi"))]
    assert found["test_result"] == found["comparison"][1]["metrics"]
    results = json.loads((Path(found["run_dir"]) / "results.json").read_text())
    assert results["protocol"]["users"] == 5
    assert _means_by_user(found) == {
        row["model"]: pytest.approx(row["metrics"]["ndcg@10"], abs=6e-5) for row in found["comparison"]
    }
    model = load_recfound(found["run_dir"])
    assert dict(model.evaluate().metrics) == pytest.approx(found["test_result"])
    best = model.recommend(user=model.known_users()[0], k=3)
    assert len(best) == 3 and best[0][2] >= best[1][2] >= best[2][2]
    hurried = options | {"eval_args": arguments, "time_budget": 0.05}
    again = run_recfound("M6Rec", "tiny", config_dict=ranking | hurried)
    assert [row["metrics"] for row in again["comparison"]] == [row["metrics"] for row in found["comparison"][1:]]
    said = capsys.readouterr().out
    assert said.count("minutes for 5 test users") == 1 and "would fit" in said


def test_rankings_among_other_candidates_are_other_columns(ranking, tmp_path, capsys):
    arguments = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni20"}
    options = {"output_dir": str(tmp_path), "m6rec_task": ["zeroshot", "retrieval"], "epochs": 0, "test_users": 5}
    options |= {"eval_args": arguments, "zeroshot_args": {"scores": ["mean"]}}
    found = run_recfound("M6Rec", "tiny", config_dict=ranking | options)
    sampled, full = found["comparison"]
    assert "mode" not in sampled and full["mode"] == "full" and set(sampled["metrics"]) == set(full["metrics"])
    assert list(_means_by_user(found)) == [sampled["model"]], "values of another ranking are not paired with these"
    header, _, *rows = (
        next(table for table in capsys.readouterr().out.split("\n\n") if "ndcg@10 (full)" in table)
        .split("model ")[1]
        .splitlines()
    )
    assert "ndcg@10 " in header and [row.count("*") for row in rows[:2]] == [len(full["metrics"])] * 2


def test_an_item_of_the_data_that_nobody_has_chosen_keeps_its_id(ranking, tmp_path):
    """A data set that also reads `.item` has ids for such items; a new text replaces the old one."""
    options = {"output_dir": str(tmp_path), "epochs": 0, "m6rec_task": ["retrieval", "zeroshot"], "test_users": 4}
    options["load_col"] = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id"]}
    run = load_recfound(run_recfound("M6Rec", "tiny", config_dict=ranking | options)["run_dir"])
    size, cold = len(run.tokens), run.cold_items
    token = next(token for token in cold if token in run.item_ids)
    other = next(each for each in cold if each in run.item_ids and each != token)
    run.add_items([{"item_id": other, "movie_title": "Another text"}])
    with pytest.raises(ConfigError, match="items were added"):
        run.evaluate()
    cold = run.cold_items
    run.add_items([{"item_id": token, "movie_title": "A Grand Day Out"}, {"item_id": "new", "movie_title": "Babe"}])
    for each in run.tasks.values():
        assert len(each.tokens) == size + 1 and each.tokens.count(token) == 1
        answer = {item: text for item, text, _ in each.recommend(["50"], k=size)}
        assert answer[token].startswith("A Grand Day Out") and answer["new"] == "Babe"
        assert len(answer) == size - len(cold)
    twin = "A Grand Day Out" + run.texts[run.item_ids[token]].removeprefix("A Grand Day Out")
    product = run.embed_user(["50"]) @ run.embed_items([twin, "Babe"]).T
    assert run.score([["50"], ["50"]], [token, "new"]).tolist() == pytest.approx(product[0].tolist(), abs=1e-4)
