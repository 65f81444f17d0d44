"""Several tasks of M6-Rec in one run: one backbone, one table, one server."""

import json

import pytest
import torch

from recbole_recfound import load_recfound, run_recfound
from recbole_recfound.cli import main
from recbole_recfound.errors import ConfigError
from recbole_recfound.system.execute import execute
from recbole_recfound.system.request import Request
from recbole_recfound.trainer.m6rec import M6RecTrainer
from tests.settings import Settings, clicks_of


@pytest.fixture(scope="module")
def settings(tiny_path, tiny_backbone):
    return clicks_of(tiny_path, tiny_backbone)


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


def test_validations_of_the_first_task_alone_are_watched(settings, tmp_path):
    seen = []
    options = {"output_dir": str(tmp_path), "m6rec_task": ["ctr", "retrieval"], "epochs": 1}
    request = Request.of("M6Rec", "tiny", None, settings | options, baselines=[])
    found = execute(request, saved=False, watch=lambda step, score: seen.append(score))
    curve = [point["score"] for point in found["comparison"][0]["curve"]]
    assert seen and set(seen) <= set(curve)


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
