"""M6-Rec from one command to recommendations."""

import json
import shutil
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from recbole.utils import case_study

from recbole_recfound import load_recfound, run_recfound
from recbole_recfound.cli import main
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.system.execute import execute
from recbole_recfound.system.request import Request
from recbole_recfound.trainer.m6rec import M6RecTrainer
from tests.settings import Settings, clicks_of


@pytest.fixture(scope="module")
def settings(tiny_path, tiny_backbone):
    return clicks_of(tiny_path, tiny_backbone)


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    """A finished run with a baseline."""
    folder = tmp_path_factory.mktemp("m6rec")
    options = {"output_dir": str(folder), "baseline_args": {"DeepFM": {"epochs": 2}}}
    return run_recfound("M6Rec", "tiny", config_dict=settings | options, baselines=["DeepFM"])


def test_one_table_with_the_baselines(finished):
    results = json.loads((Path(finished["run_dir"]) / "results.json").read_text())
    assert (results["system"], [row["model"] for row in results["rows"]]) == ("M6Rec", ["DeepFM", "M6Rec"])
    row = results["rows"][1]
    assert all(set(each["metrics"]) == {"auc", "logloss", "gauc"} for each in results["rows"])
    assert 0 < row["metrics"]["auc"] < 1
    assert row["task"] == "ctr" and row["best_step"] in [point["step"] for point in row["curve"]]
    best = max(row["curve"], key=lambda point: point["score"])
    assert row["valid_metrics"]["auc"] == finished["best_valid_score"] == best["score"]
    assert finished["test_result"] == row["metrics"]
    assert row["curve"][0] == {"step": 0, "loss": None, "score": row["curve"][0]["score"]}
    assert row["start"]["targets"] > 0
    assert row["segments"]["hits"] > row["segments"]["misses"] > 0
    for name in ("report.html", "README.md", "config.yaml", "ctr.options.safetensors", "m6rec.json"):
        assert (Path(finished["run_dir"]) / name).stat().st_size > 0


def test_the_same_seed_gives_the_same_numbers(finished, settings, tmp_path):
    again = run_recfound("M6Rec", "tiny", config_dict=settings | {"output_dir": str(tmp_path)}, saved=False)
    assert again["test_result"] == finished["test_result"]
    left = {path.name for path in Path(again["run_dir"]).iterdir()}
    assert not left & {"ctr.options.safetensors", "m6rec.json"}


def test_a_loaded_run_scores_as_the_run_did(finished):
    model = load_recfound(finished["run_dir"])
    assert dict(model.evaluate().metrics) == pytest.approx(finished["test_result"])
    user = model.known_users()[0]
    best = model.recommend(user=user, k=5)
    assert len(best) == 5 and [score for *_, score in best] == sorted((score for *_, score in best), reverse=True)
    assert model.score([user], [best[0][0]])[0] == pytest.approx(best[0][2], abs=1e-5)
    with pytest.raises(ConfigError, match="full_sort_topk: .* not NegSampleEvalDataLoader .*recommend"):
        case_study.full_sort_topk([1], model.model, model.splits.test_data, k=3)
    history = [token for token, *_ in best[:2]]
    of_history = model.recommend(history=history, k=3)
    assert len(of_history) == 3 and not {token for token, *_ in of_history} & set(history)


def test_texts_of_training_that_had_no_time_are_encoded_when_they_are_read(settings, tmp_path, monkeypatch, capsys):
    """With the numbers of a run that had the time; validation and test have their texts in any case."""
    options = settings | {"output_dir": str(tmp_path), "time_budget": 1000, "epochs": 1}
    whole = run_recfound("M6Rec", "tiny", config_dict=options)
    assert "note: the texts took" not in capsys.readouterr().out
    monkeypatch.setattr("recbole_recfound.trainer.m6rec.TEXT_SHARE", 0.0)
    cut = run_recfound("M6Rec", "tiny", config_dict=options)
    assert "of training are left and encoded when a step reads them" in capsys.readouterr().out
    assert cut["test_result"] == pytest.approx(whole["test_result"], abs=1e-3)
    steps = [
        json.loads((Path(run["run_dir"]) / "results.json").read_text())["rows"][0]["steps"] for run in (cut, whole)
    ]
    assert steps[0] == steps[1] > 0


def test_online_statistics_are_a_row_of_their_own(settings, tmp_path):
    options = {"output_dir": str(tmp_path), "text_args": {"statistics": "online"}, "epochs": 1}
    found = run_recfound("M6Rec", "tiny", config_dict=settings | options, saved=False)
    assert [row["model"] for row in found["comparison"]] == ["M6Rec, online statistics"]


def test_the_time_budget_is_kept(settings, tmp_path):
    options = {"output_dir": str(tmp_path), "time_budget": 1, "epochs": 1000, "stopping_step": 1000}
    found = run_recfound("M6Rec", "tiny", config_dict=settings | options, saved=False)
    assert "not converged" in found["comparison"][0]["note"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"late_args": {"joint_layers": 3}}, "joint_layers: got 3"),
        ({"late_args": {"states": "first"}}, "states"),
        ({"late_args": {"cache_file": "/proc/self/states"}}, "cache_file: /proc/self cannot be written"),
        ({"late_args": {"cache_file": "/proc"}}, "cache_file: /proc is a folder"),
        ({"zeroshot_args": {"scores": ["mean", "mean"]}}, "scores: got"),
        ({"generate_args": {"from_items": ["design", "design"]}}, "from_items: got"),
        ({"option_args": {"prompts": 1}}, "prompts"),
        ({"text_args": {"category": "colour"}}, "category: got colour"),
        ({"text_args": {"user_fields": ["height"]}}, "user_fields: got height"),
        ({"text_args": {"statistics": "future"}}, "statistics"),
        ({"threshold": None}, "no column 'label'"),
        ({"threshold": {"rating": 6}}, "got only rows with the label 0 in the training part"),
        ({"eval_args": {"mode": "full"}, "metrics": ["NDCG"], "valid_metric": "NDCG@10"}, "mode: labeled"),
        ({"item_args": {"read_file": False}}, "texts are all"),
        ({"m6rec_task": ["chat"]}, "chat"),
        ({"baselines": ["BPR"]}, "BPR ranks items"),
        (
            {"blend": ["DeepFM"], "baselines": ["DeepFM"], "m6rec_task": ["generate"], "eval_args": {"mode": "full"}},
            "the first m6rec_task is generate, expected ctr or retrieval",
        ),
        ({"blend": ["DeepFM"]}, "blend: DeepFM is not among the baselines"),
    ],
)
def test_refusals_before_anything_is_trained(settings, tmp_path, wrong, words):
    options = settings | {"output_dir": str(tmp_path / "runs")} | wrong
    if wrong.get("eval_args"):
        options["eval_args"] = settings["eval_args"] | wrong["eval_args"]
    with pytest.raises((ConfigError, DataError), match=words):
        run_recfound("M6Rec", "tiny", config_dict=options)
    assert not (tmp_path / "runs").exists()


def test_states_of_another_backbone_are_refused_before_anything_is_trained(settings, tmp_path):
    options = {"output_dir": str(tmp_path / "runs"), "epochs": 1}
    options["late_args"] = {"cache_file": str(tmp_path / "states")}
    run_recfound("M6Rec", "tiny", config_dict=settings | options)
    assert len(list((tmp_path / "runs").iterdir())) == 1
    other = options | {"text_args": {"max_tokens": 20}}
    with pytest.raises(DataError, match="states of another backbone, or of other"):
        run_recfound("M6Rec", "tiny", config_dict=settings | other, baselines=["DeepFM"])
    assert not [path for path in (tmp_path / "runs").glob("*/rows/*")][1:], "no baseline was trained"


def test_cut_texts_are_said_before_anything_is_trained(settings, tmp_path, capsys):
    options = {"output_dir": str(tmp_path / "runs"), "epochs": 1, "text_args": {"max_tokens": 20}}
    run_recfound("M6Rec", "tiny", config_dict=settings | options, saved=False)
    said = capsys.readouterr().out
    note = said.index("texts of items and users are longer than 20 tokens and lose their end")
    assert note < said.index("M6Rec ...")


@pytest.fixture(scope="module")
def ranking(settings):
    """Settings of a run that ranks all items."""
    own = {key: value for key, value in settings.items() if key not in ("threshold", "eval_args", "load_col")}
    return Settings(own | {"m6rec_task": ["retrieval"], "retrieval_args": {"width": 8, "start_epochs": 3}})


def test_options_that_no_task_reads_are_named(ranking, tmp_path, capsys):
    options = {"output_dir": str(tmp_path), "epochs": 0, "late_args": {"targets": 3}, "zeroshot_args": {"alpha": 2.0}}
    options["text_args"] = {"statistics": "online"}
    run_recfound("M6Rec", "tiny", config_dict=ranking | options, saved=False)
    notes = [line for line in capsys.readouterr().out.splitlines() if "which is not in m6rec_task" in line]
    assert notes == [
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


def test_files_that_have_changed_since_the_training_are_named(finished, tiny_path, tmp_path, capsys):
    """The same users, items and rows with other labels, and with columns less to read."""
    data = shutil.copytree(tiny_path, tmp_path / "data")
    assert dict(load_recfound(finished["run_dir"], data_path=str(data)).evaluate().metrics) == pytest.approx(
        finished["test_result"]
    )
    assert "changed since" not in capsys.readouterr().err
    file = data / "tiny" / "tiny.inter"
    head, *rows = (line.split("\t") for line in file.read_text().splitlines())
    place = head.index("rating:float")
    for row in rows:
        row[place] = str(6 - float(row[place]))
    file.write_text("".join("\t".join(row) + "\n" for row in [head, *rows]))
    other = load_recfound(finished["run_dir"], data_path=str(data)).evaluate().metrics
    assert dict(other) != pytest.approx(finished["test_result"])
    note = f"note: tiny.inter changed since {Path(finished['run_dir']).name} was trained: scores and metrics are of the"
    assert note in capsys.readouterr().err
    (data / "tiny" / "tiny.user").unlink()
    with pytest.raises(DataError, match="does not fit the texts of tiny as they are now .*: use the files it was"):
        load_recfound(finished["run_dir"], data_path=str(data))
    assert "note: tiny.inter, tiny.user (missing) changed since" in capsys.readouterr().err


def test_retrieval_needs_a_user_with_two_training_rows(ranking, tmp_path, write_dataset):
    rows = [["user_id:token", "item_id:token", "timestamp:float"]]
    rows += [[user, item, time] for user in range(12) for time, item in enumerate((user, user + 1, user + 2))]
    data_path = write_dataset("short", inter=rows, item=[["item_id:token", "title:token_seq"], [0, "first"]])
    options = {"output_dir": str(tmp_path / "runs"), "data_path": str(data_path)}
    with pytest.raises(DataError, match="no user has two training rows"):
        run_recfound("M6Rec", "short", config_dict=ranking | options, baselines=["Pop"])


def test_retrieval_beside_models_with_ids(ranking, tmp_path):
    options = {"output_dir": str(tmp_path), "cold_items": 0.2}
    found = run_recfound("M6Rec", "tiny", config_dict=ranking | options, baselines=["Pop", "TextKNN"])
    rows = {row["model"]: row for row in found["comparison"]}
    assert list(rows) == ["Pop", "TextKNN", "M6Rec"]
    assert all(set(row["unseen"]) == set(row["metrics"]) for row in rows.values())
    assert rows["Pop"]["metrics"]["recall@10"] == 0  # nobody has chosen a cold item
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
    model = load_recfound(found["run_dir"])
    assert dict(model.evaluate().metrics) == pytest.approx(found["test_result"])
    best = model.recommend(user=model.known_users()[0], k=3)
    assert len(best) == 3 and best[0][2] >= best[1][2] >= best[2][2]
    hurried = options | {"eval_args": arguments, "time_budget": 0.05}
    again = run_recfound("M6Rec", "tiny", config_dict=ranking | hurried)
    assert [row["metrics"] for row in again["comparison"]] == [row["metrics"] for row in found["comparison"][1:]]
    said = capsys.readouterr().out
    assert said.count("minutes for 5 test users") == 1 and "would fit" in said


@pytest.mark.parametrize("tasks", [["ctr", "zeroshot"], ["zeroshot", "ctr"]], ids=" ".join)
def test_a_training_leaves_time_for_a_task_that_is_not_trained(settings, tmp_path, monkeypatch, tasks):
    """And none for one that is done."""
    kept = []
    fit = M6RecTrainer.fit

    def watched(self, *args, **given):
        result = fit(self, *args, **given)
        kept.append((dict(self.plan.reserved), self.plan.deadline() - self.deadline))
        return result

    monkeypatch.setattr(M6RecTrainer, "fit", watched)
    options = {"output_dir": str(tmp_path), "m6rec_task": tasks, "time_budget": 300, "epochs": 1}
    options |= {"zeroshot_args": {"scores": ["mean"]}, "test_users": 4}
    if tasks[0] == "zeroshot":
        options |= {"eval_args": {**settings["eval_args"], "mode": "uni20"}}
    run_recfound("M6Rec", "tiny", config_dict=settings | options)
    ((reserved, left),) = kept
    if tasks[0] == "zeroshot":
        assert reserved == {} and left == pytest.approx(0)
        return
    assert list(reserved) == ["M6Rec zeroshot"] and 0 < reserved["M6Rec zeroshot"] <= 300 / 2
    assert left == pytest.approx(reserved["M6Rec zeroshot"])


@pytest.fixture(scope="module")
def both(settings, tmp_path_factory):
    """A finished run of two tasks, with its settings."""
    options = {"retrieval_args": {"width": 8}, "text_args": {"behaviours": 2}}
    options = settings | options | {"output_dir": str(tmp_path_factory.mktemp("both"))}
    return run_recfound("M6Rec", "tiny", config_dict=options | {"m6rec_task": ["ctr", "retrieval"]}), options


def test_new_items_are_recommended_at_once(both):
    """Of a model that reads texts alone an item is what its text says."""
    run = load_recfound(both[0]["run_dir"])
    retrieval, history = run.of_task("retrieval"), ["50", "7"]
    old = next(token for token, *_ in retrieval.recommend(history, k=1))
    columns = run.catalogue.values[run.catalogue.row_of[old]]
    cold = run.cold_items[0]
    expected = float(retrieval.score([history], [old]))
    run.add_items([{"item_id": "twin", **columns, "unknown": 1}, {"item_id": cold}])
    for each in run.tasks.values():
        assert cold not in each.cold_items and {"twin", cold} <= set(each.item_ids)
        assert len(each.tokens) == len(set(each.tokens)) == len(each.texts) == len(each.model.texts.items)
        found = each.recommend([*history, "twin"], k=len(each.tokens))
        assert cold in {token for token, *_ in found} and "twin" not in {token for token, *_ in found}
        assert torch.isfinite(torch.tensor([score for *_, score in found])).all()
        with pytest.raises(ConfigError, match="items were added"):
            each.evaluate()
    assert float(retrieval.score([history], ["twin"])) == pytest.approx(expected, abs=1e-4)
    assert {token for token, *_ in retrieval.recommend(history, k=2)} == {old, "twin"}
    text = run.catalogue.sentence_of(run.catalogue.row_of[old])
    product = retrieval.embed_user(history) @ retrieval.embed_items([text, "a film about fish"]).T
    assert product[0].tolist() == pytest.approx([expected, product[0, 1].item()], abs=1e-4)
    assert torch.equal(run.embed_user(history), retrieval.embed_user(history))
    for wrong, words in (
        ([{"item_id": "50"}], "'50' is known already"),
        ([{"item_id": "new", "colour": "red"}], "'new' has none of movie_title"),
        ([{"movie_title": "no id"}], "each record needs an id of its own"),
    ):
        with pytest.raises(ConfigError, match=words):
            run.add_items(wrong)
    with pytest.raises(ConfigError, match="not trained on queries"):
        run.recommend(query="fish")


def test_two_tasks_share_a_backbone(both):
    """One table, one folder; the first task has the numbers of a run of its own, whatever comes after it."""
    found, options = both
    first, second = found["comparison"]
    assert [first["model"], second["model"]] == ["M6Rec ctr", "M6Rec retrieval"]
    assert set(first["metrics"]) == {"auc", "logloss", "gauc"} and "ndcg@10" in second["metrics"]
    assert "mode" not in first and second["mode"] == "full"
    alone = run_recfound("M6Rec", "tiny", config_dict=options)
    assert alone["test_result"] == pytest.approx(first["metrics"], abs=1e-6)
    assert found["test_result"] == first["metrics"]
    model = load_recfound(found["run_dir"])
    assert dict(model.evaluate().metrics) == pytest.approx(first["metrics"])
    retrieval = model.of_task("retrieval")
    assert dict(retrieval.evaluate().metrics) == pytest.approx(second["metrics"])
    assert retrieval.model.lm is model.model.lm and retrieval.of_task("ctr") is model


def test_rankings_among_other_candidates_are_other_columns(ranking, tmp_path, capsys):
    arguments = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni20"}
    options = {"output_dir": str(tmp_path), "m6rec_task": ["zeroshot", "retrieval"], "epochs": 0, "test_users": 5}
    options |= {"eval_args": arguments, "zeroshot_args": {"scores": ["mean"]}}
    found = run_recfound("M6Rec", "tiny", config_dict=ranking | options)
    sampled, full = found["comparison"]
    assert "mode" not in sampled and full["mode"] == "full" and set(sampled["metrics"]) == set(full["metrics"])
    header, _, *rows = (
        next(table for table in capsys.readouterr().out.split("\n\n") if "ndcg@10 (full)" in table)
        .split("model ")[1]
        .splitlines()
    )
    assert "ndcg@10 " in header and [row.count("*") for row in rows[:2]] == [len(full["metrics"])] * 2


def test_validations_of_the_first_task_alone_are_watched(settings, tmp_path):
    seen = []
    options = {"output_dir": str(tmp_path), "m6rec_task": ["ctr", "retrieval"], "epochs": 1}
    request = Request.of("M6Rec", "tiny", None, settings | options, baselines=[])
    found = execute(request, saved=False, watch=lambda step, score: seen.append(score))
    curve = [point["score"] for point in found["comparison"][0]["curve"]]
    assert seen and set(seen) <= set(curve)


def test_two_tasks_have_one_server(both, capsys, monkeypatch):
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from recbole_recfound.cli import serve

    monkeypatch.setenv(serve.ENVIRONMENT, json.dumps([both[0]["run_dir"]]))
    model = load_recfound(both[0]["run_dir"])
    history = model.tokens[3:6]
    best = {name: model.of_task(name).recommend(history, k=4) for name in ("ctr", "retrieval", "ctr")}
    assert best["ctr"] == model.recommend(history, k=4) != best["retrieval"]
    with TestClient(serve.create_worker(), base_url="http://127.0.0.1") as client:
        assert client.get("/health").json()["tasks"] == ["ctr", "retrieval"]
        for task, expected in ((None, best["ctr"]), *best.items()):
            answer = client.post("/recommend", json={"history": history, "k": 4, "task": task})
            assert [item["item"] for item in answer.json()["items"]] == [token for token, *_ in expected]
        answer = client.post("/recommend", json={"history": history, "task": "zeroshot"})
        assert answer.status_code == 400 and answer.json()["error"].endswith("expected one of ctr, retrieval")
    main(["recommend", both[0]["run_dir"], "--history", ",".join(history), "--k", "4", "--task", "retrieval"])
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [
        row[0] for row in best["retrieval"]
    ]


@pytest.mark.filterwarnings("error:Already found a `peft_config`", "error:`is_gradient_checkpointing`")
def test_an_ablation_is_one_run(settings, tmp_path, capsys):
    """A row for each way of tuning; sharing a backbone with others changes no number, and nothing warns of PEFT."""
    tunings = ["fine-tuning", "lora", "adapter", "prompt", "option", "option-adapter"]
    options = settings | {"output_dir": str(tmp_path), "epochs": 1}
    found = run_recfound("M6Rec", "tiny", config_dict=options | {"option_args": {"tuning": tunings}})
    rows = {row["model"]: row for row in found["comparison"]}
    assert list(rows) == [f"M6Rec {tuning}" for tuning in tunings]
    served = load_recfound(found["run_dir"])  # the first one
    assert dict(served.evaluate().metrics) == pytest.approx(found["test_result"])
    counts = {tuning: rows[f"M6Rec {tuning}"]["trainable_parameters"] for tuning in tunings}
    assert counts["prompt"] == counts["option"] < counts["adapter"] < counts["option-adapter"] < counts["fine-tuning"]
    assert 0 <= counts["lora"] - counts["option-adapter"] < 448  # parameters of rank 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trained: ")]
    share = {part.split(" of the parameters of M6Rec ")[1]: part.split("%")[0] for part in line[9:].split(", ")}
    whole = json.loads((Path(found["run_dir"]) / "results.json").read_text())["run"]["share_of_trained_parameters"]
    assert share == {tuning: f"{100 * count * whole / counts['fine-tuning']:.2f}" for tuning, count in counts.items()}
    for tuning in ("option", "lora", "fine-tuning"):
        alone = run_recfound("M6Rec", "tiny", config_dict=options | {"option_args": {"tuning": [tuning]}})
        assert alone["test_result"] == pytest.approx(rows[f"M6Rec {tuning}"]["metrics"], abs=1e-6)
        assert dict(load_recfound(alone["run_dir"]).evaluate().metrics) == pytest.approx(alone["test_result"])


def test_texts_take_nothing_of_the_time_of_the_training_that_encodes_them(settings, tmp_path, monkeypatch):
    """The first of two ways of tuning encodes the texts of both."""
    encode, begin, encoded, shares = M6RecTrainer._encode, M6RecTrainer._begin, [], []

    def _encode(self, *arguments):
        encode(self, *arguments)
        encoded.append(time.monotonic())

    def _begin(self, *arguments):
        assert self.began >= encoded[-1]
        shares.append((self.deadline - self.began) / (self.plan.deadline() - self.began))
        begin(self, *arguments)

    monkeypatch.setattr(M6RecTrainer, "_encode", _encode)
    monkeypatch.setattr(M6RecTrainer, "_begin", _begin)
    options = settings | {"output_dir": str(tmp_path), "epochs": 1, "time_budget": 600}
    run_recfound("M6Rec", "tiny", config_dict=options | {"option_args": {"tuning": ["option", "prompt"]}}, saved=False)
    assert shares == pytest.approx([1 / 2, 1])


def test_another_backbone_is_refused(finished, tmp_path):
    from tests.tiny_backbone import write_tiny_backbone

    other = write_tiny_backbone(tmp_path / "other", seed=1)
    with pytest.raises(DataError, match="another backbone"):
        load_recfound(finished["run_dir"], backbone=str(other))


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


@pytest.mark.parametrize(
    "tasks", [["zeroshot", "ctr", "retrieval"], ["ctr", "zeroshot", "retrieval"], ["retrieval", "ctr"]]
)
def test_any_tasks_in_any_order_have_their_own_numbers(settings, tmp_path, tasks):
    """Each row is that of a run of its own, whatever was trained before it; the split is drawn at random."""
    own = {key: value for key, value in settings.items() if key != "eval_args"}
    options = Settings(own) | {"output_dir": str(tmp_path), "epochs": 1, "test_users": 0}
    options |= {"retrieval_args": {"width": 8, "start_epochs": 2}, "zeroshot_args": {"scores": ["sum"]}}
    rows = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "none"}
    modes = {"ctr": "labeled", "retrieval": "full", "zeroshot": "uni100"}

    def run(names):
        arguments = {**rows, "mode": modes[names[0]]}
        found = run_recfound("M6Rec", "tiny", config_dict=options | {"m6rec_task": names, "eval_args": arguments})
        return [row["metrics"] for row in found["comparison"]]

    for task, metrics in zip(tasks, run(tasks), strict=True):
        assert metrics == pytest.approx(run([task])[0], abs=1e-6), task
