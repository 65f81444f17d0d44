"""Several seeds: means, spread, paired differences, and going on after a stop."""

import json
import shutil
import statistics
from pathlib import Path

import pytest

from recbole_recfound.cli import main
from recbole_recfound.errors import DataError
from recbole_recfound.study import seeds as module
from recbole_recfound.study.seeds import run_seeds, seeds_table, summarise


def row(model, auc):
    return {"model": model, "metrics": {"auc": auc}, "train_seconds": 2.0, "trainable_parameters": 10}


def test_differences_are_paired_by_seed():
    runs = {
        1: [row("frozen", 0.5), row("IAK", 0.6)],
        2: [row("frozen", 0.7), row("IAK", 0.75), row("extra", 1.0)],
        3: [row("frozen", 0.6), row("IAK", 0.59)],
    }
    frozen, ours = summarise(runs)
    assert frozen["metrics"]["auc"]["difference"] == 0 and ours["model"] == "IAK"
    found = ours["metrics"]["auc"]
    differences = [0.1, 0.05, -0.01]
    assert found["mean"] == pytest.approx(statistics.fmean([0.6, 0.75, 0.59])) and found["wins"] == 2
    assert found["difference"] == pytest.approx(statistics.fmean(differences))
    assert found["difference_sd"] == pytest.approx(statistics.stdev(differences))
    assert "| IAK | 0.6467" in seeds_table([frozen, ours], 3) and "(2/3)" in seeds_table([frozen, ours], 3)


def test_less_is_better_where_recbole_says_so():
    runs = {seed: [row("frozen", 0), row("IAK", 0)] for seed in (1, 2)}
    for rows in runs.values():
        for made, value in zip(rows, (0.5, 0.4), strict=True):
            made["metrics"] = {"logloss": value, "weighted logloss": value, "auc": value}
    metrics = summarise(runs)[1]["metrics"]
    assert metrics["logloss"]["wins"] == metrics["weighted logloss"]["wins"] == 2 and metrics["auc"]["wins"] == 0


def test_metrics_that_the_first_row_has_not_have_no_difference():
    ranked = {"model": "ranked", "metrics": {"ndcg@10": 0.2}, "train_seconds": 1.0, "trainable_parameters": 1}
    sampled = {**ranked, "model": "sampled", "metrics": {"ndcg@10": 0.8}, "mode": "uni20"}
    rows = summarise({seed: [row("clicks", 0.5), ranked, sampled] for seed in (1, 2)})
    assert rows[1]["metrics"] == {"ndcg@10": {"mean": 0.2, "sd": 0.0}}
    assert rows[2]["metrics"] == {"ndcg@10 (uni20)": {"mean": 0.8, "sd": 0.0}}
    table = seeds_table(rows, 2)
    assert "| ndcg@10 | - clicks | ndcg@10 (uni20) |" in table and "| ranked | - | - | 0.2000 ± 0.0000 |  |" in table


def test_further_rankings_have_their_columns_of_the_table():
    """New items alone, old and new items: what such studies are about."""
    made = [row("Pop", 0.1), row("M6Rec", 0.2)]
    for own, value in zip(made, (0.0, 0.5), strict=True):
        own |= {"unseen": {"recall@10": value, "ndcg@10": value / 2}, "unmasked": {"ndcg@10": 0.1}}
    rows = summarise({seed: made for seed in (1, 2)})
    assert rows[1]["metrics"]["recall@10 unseen"]["difference"] == 0.5
    assert "recall@10 unseen" in seeds_table(rows, 2) and "ndcg@10 unmasked" in seeds_table(rows, 2)


def test_rows_without_a_ranking_have_the_first_metric_of_each_task():
    rows = {"model": "RecFound", "metrics": {}, "train_seconds": 1.0, "trainable_parameters": 1}
    rows["task_metrics"] = {"PM": {"f1_yes": 0.5, "f1_yes_argmax": 0.4}, "SA": {}}
    assert list(summarise({1: [rows], 2: [rows]})[0]["metrics"]) == ["PM f1_yes"]


def test_seeds_that_are_there_are_not_run_again(monkeypatch, tmp_path, capsys):
    asked = []

    def run(request):
        seed = request.settings["seed"]
        asked.append(seed)
        made = tmp_path / f"made-{len(asked)}"
        made.mkdir()
        users = {"frozen": [0.0, 0.5, 0.5, 1.0] * 10, "IAK": [0.2, 0.6, 0.7, 1.0 - seed / 10] * 10}
        (made / "by_user.json").write_text(
            json.dumps({"metric": "NDCG@10", "users": [*map(str, range(40))], "rows": users})
        )
        return {"comparison": [row("frozen", 0.5), row("IAK", 0.5 + seed / 100)], "run_dir": str(made)}

    monkeypatch.setattr(module, "execute", run)
    settings = {"output_dir": str(tmp_path), "epochs": 3}
    first = run_seeds([1, 2], "IAK", "tiny", None, settings)
    again = run_seeds([1, 2, 3], "IAK", "tiny", None, settings)
    over_users = again["rows"][1]["over_users"]
    assert over_users["difference"] == pytest.approx((0.2 + 0.1 + 0.2 - 0.2) / 4)
    assert 0 < over_users["p"] <= over_users["p_holm"] <= 1
    table = (Path(again["folder"]) / "table.md").read_text()
    assert "Over 40 test users, NDCG@10 minus that of frozen" in table and "| IAK | +0.0750 |" in table
    assert asked == [1, 2, 3] and again["folder"] == first["folder"]
    run_seeds([1, 2], "IAK", "tiny", None, settings | {"epochs": 4})
    assert asked == [1, 2, 3, 1, 2], "other settings are another study"
    run_seeds([1, 2], "IAK", "tiny", None, settings | {"time_budget": 9})
    assert asked == [1, 2, 3, 1, 2, 1, 2], "and so is another budget"
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "tiny.inter").write_text("other data")
    run_seeds([1, 2], "IAK", "tiny", None, settings | {"data_path": str(tmp_path)})
    assert len(asked) == 9, "and so are other data"


def test_data_that_change_between_seeds_stop_the_study(monkeypatch, tmp_path, tiny_path):
    """The seed's row is not saved among those of the other data; with the data restored the study continues."""
    asked = []
    shutil.copytree(tiny_path, tmp_path / "data")
    file = tmp_path / "data" / "tiny" / "tiny.inter"
    good = file.read_text()

    def run(request):
        asked.append(request.settings["seed"])
        if len(asked) == 2:
            file.write_text(good[: len(good) // 2])
        (tmp_path / "by_user.json").write_text(json.dumps({"metric": "NDCG@10", "users": ["1"], "rows": {"a": [0.5]}}))
        return {"comparison": [row("a", 0.5)], "run_dir": str(tmp_path)}

    monkeypatch.setattr(module, "execute", run)
    settings = {"output_dir": str(tmp_path / "runs"), "data_path": str(tmp_path / "data")}
    with pytest.raises(DataError, match=r"^tiny\.inter changed since this study began: restore it and call again, or"):
        run_seeds([1, 2], "BPR", "tiny", None, settings)
    file.write_text(good)
    run_seeds([1, 2], "BPR", "tiny", None, settings)
    assert asked == [1, 2, 2] and len(list((tmp_path / "runs").iterdir())) == 1


def test_a_run_that_ended_before_its_row_was_saved_is_taken(monkeypatch, tmp_path, tiny_path, capsys):
    settings = {"output_dir": str(tmp_path / "runs"), "data_path": str(tiny_path), "epochs": 1}
    settings |= {"use_gpu": False, "show_progress": False, "baselines": ["Pop"]}

    def stopped(run_dir):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "read_users", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_seeds([1, 2], "BPR", "tiny", None, settings)
    (run,) = (tmp_path / "runs").glob("seeds-*/runs/*")
    found = run_seeds([1, 2], "BPR", "tiny", None, settings)
    assert f"taken from the finished run {run}" in capsys.readouterr().out
    assert len(list((tmp_path / "runs").glob("seeds-*/runs/*"))) == 2
    assert found["runs"][1] == json.loads((run / "results.json").read_text())["rows"]


@pytest.mark.parametrize("damaged", [False, True])
def test_only_an_intact_run_of_the_same_seed_is_taken(monkeypatch, tmp_path, tiny_path, damaged):
    settings = {"output_dir": str(tmp_path / "runs"), "data_path": str(tiny_path), "epochs": 1}
    settings |= {"use_gpu": False, "show_progress": False}
    first = run_seeds([1, 2], "BPR", "tiny", None, settings)
    (Path(first["folder"]) / "rows" / "seed-2.json").unlink()
    if damaged:
        for run in Path(first["folder"]).glob("runs/*"):
            (run / "by_user.json").write_text("{}")
    again = run_seeds([1, 2], "BPR", "tiny", None, settings)
    assert len(list(Path(first["folder"]).glob("runs/*"))) == 2 + damaged
    assert [row["metrics"] for row in again["runs"][2]] == [row["metrics"] for row in first["runs"][2]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name at least two different ones"),
        (["--seeds=1"], "name at least two"),
        (["--seeds=1,1"], "name at least two"),
        (["--seeds=a,b"], "seeds: got 'a', expected a whole number"),
        (["--seeds=1,²"], "seeds: got '²', expected a whole number"),
        (["--seeds=1," + "9" * 5000], "expected a whole number"),
        (["--seeds=1,4294967296"], "seed: got 4294967296, expected a whole number, at least 0, at most 4294967295"),
        (["--seeds=1,2", "--seed=3"], "seed: is set by --seeds"),
        (["--seeds=1,2", "--epohcs=3"], "did you mean epochs"),
    ],
)
def test_mistakes(arguments, message, capsys):
    assert main(["seeds", *arguments]) == 2
    assert message in capsys.readouterr().err
