"""The search for settings."""

from __future__ import annotations

import json
import math
import shutil
import signal
from pathlib import Path

import pytest
import yaml

from recbole_recfound.cli import main
from recbole_recfound.data import MultiTaskLoader
from recbole_recfound.errors import ConfigError, DataError, TrainingError
from recbole_recfound.runtime.signals import Interrupted
from recbole_recfound.study import tune as module
from recbole_recfound.study.space import read_space
from recbole_recfound.study.tune import tune
from tests.small_iak import small_base

pytest.importorskip("optuna")


def _file(tmp_path, text):
    path = tmp_path / "hyper.test"
    path.write_text(text)
    return path


def test_the_syntax_is_recboles(tmp_path):
    text = """
learning_rate loguniform -8, 0
embedding_size choice [32, 64]   # a comment
loss_args.temperature uniform 0.05,0.2
train_batch_size quniform 512,2048,512
mlp_hidden_size choice [[64,64],[128]]
"""
    by_key = {one.key: one for one in read_space(_file(tmp_path, text))}
    assert list(by_key) == [
        "learning_rate",
        "embedding_size",
        "loss_args.temperature",
        "train_batch_size",
        "mlp_hidden_size",
    ]
    assert by_key["learning_rate"].low == pytest.approx(math.exp(-8)) and by_key["learning_rate"].high == 1.0
    assert by_key["mlp_hidden_size"].values == ([64, 64], [128])
    assert by_key["train_batch_size"].examples() == [512, 2048]
    put = by_key["loss_args.temperature"].put({"loss_args": {"pair_temperature": 0.1}}, 0.07)
    assert put == {"loss_args": {"pair_temperature": 0.1, "temperature": 0.07}}


def test_recboles_own_file_is_read_alike(tmp_path):
    hyper = pytest.importorskip("hyperopt")
    from recbole.trainer import HyperTuning

    path = _file(tmp_path, "learning_rate loguniform -8,0\nembedding_size choice [32,64]\n")
    theirs = HyperTuning._build_space_from_file(str(path))
    assert set(theirs) == {one.key for one in read_space(path)}
    rate = hyper.pyll.stochastic.sample(theirs["learning_rate"])
    assert math.exp(-8) <= rate <= 1.0


def test_all_wrong_lines_are_named_at_once(tmp_path):
    lines = ["a choice 3", "b normal 0,1", "c uniform 2,1", "d quniform 0,1", "d choice [1]", "d choice [2]"]
    text = "\n".join([*lines, "x choice __import__('os')"])
    with pytest.raises(ConfigError) as error:
        read_space(_file(tmp_path, text))
    lines = error.value.problems
    assert [line.rsplit("hyper.test:", 1)[1][0] for line in lines] == ["1", "2", "3", "4", "6", "7"]
    with pytest.raises(ConfigError, match="no line such as"):
        read_space(_file(tmp_path, "# nothing\n"))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_space(tmp_path / "none")


def _quadratic(monkeypatch, tmp_path, fails=()):
    """Replace runs by a function of the learning rate, which is best at .01."""
    calls = []

    def run(request, saved, watch):
        rate = request.settings["learning_rate"]
        calls.append(rate)
        if len(calls) in fails:
            kinds = {"kill": KeyboardInterrupt, "refused": ConfigError, "diverges": TrainingError}
            raise kinds[fails[len(calls)]]("stopped")
        score = 1.0 - abs(math.log10(rate) + 2)
        for step in (1, 2):
            watch(step, score * step / 2)
        return {"best_valid_score": score, "test_result": {"ndcg@10": score / 2}, "run_dir": str(tmp_path)}

    monkeypatch.setattr(module, "execute", run)
    return calls


SPACE = "learning_rate loguniform -9,-1\ndropout choice [0.1,0.2]\n"


def test_a_search_finds_the_best_and_goes_on_where_it_was(monkeypatch, tmp_path, capsys, tiny_path, tiny_backbone):
    calls = _quadratic(monkeypatch, tmp_path)
    settings = {"output_dir": str(tmp_path), "data_path": str(tiny_path), "backbone": str(tiny_backbone)}
    found = tune(_file(tmp_path, SPACE), 6, "RecFound", "tiny", None, settings)
    assert len(calls) == found["trials"] == 6
    again = tune(_file(tmp_path, SPACE), 12, "RecFound", "tiny", None, settings)
    assert len(calls) == 12 and again["folder"] == found["folder"] and again["score"] >= found["score"]
    folder = Path(found["folder"])
    best = yaml.safe_load((folder / "best.yaml").read_text())
    assert best == again["best"] and again["score"] == pytest.approx(1 - abs(math.log10(best["learning_rate"]) + 2))
    trials = json.loads((folder / "results.json").read_text())["trials"]
    scored = [one["score"] for one in trials if one["state"] == "COMPLETE"]
    assert len(trials) == 12 and scored == sorted(scored, reverse=True) and scored[0] == again["score"]
    table = (folder / "table.md").read_text()
    assert f"ndcg@10 {again['score'] / 2:.4f}" in table and "<svg" in (folder / "search.svg").read_text()
    assert "[12/12] learning_rate=" in capsys.readouterr().out
    tune(_file(tmp_path, SPACE), 6, "RecFound", "tiny", None, settings | {"max_steps": 3})
    assert len(calls) == 18, "other settings are another search"


def test_trials_that_are_worse_than_the_median_are_pruned(monkeypatch, tmp_path, tiny_path, tiny_backbone):
    calls = _quadratic(monkeypatch, tmp_path)
    settings = {"output_dir": str(tmp_path), "data_path": str(tiny_path), "backbone": str(tiny_backbone)}
    found = tune(_file(tmp_path, SPACE), 16, "RecFound", "tiny", None, settings)
    states = [one["state"] for one in json.loads((Path(found["folder"]) / "results.json").read_text())["trials"]]
    assert states.count("PRUNED") > 0 and len(calls) == 16


def test_a_killed_trial_is_tried_again_and_a_diverged_one_is_not(monkeypatch, tmp_path, tiny_path, tiny_backbone):
    calls = _quadratic(monkeypatch, tmp_path, {1: "refused", 2: "diverges", 3: "kill"})
    settings = {"output_dir": str(tmp_path), "data_path": str(tiny_path), "backbone": str(tiny_backbone)}
    with pytest.raises(KeyboardInterrupt):
        tune(_file(tmp_path, SPACE), 5, "RecFound", "tiny", None, settings)
    found = tune(_file(tmp_path, SPACE), 5, "RecFound", "tiny", None, settings)
    assert calls[3] == calls[2], "the values of the killed one"
    states = [one["state"] for one in json.loads((Path(found["folder"]) / "results.json").read_text())["trials"]]
    assert len(calls) == 6 and sorted(states).count("FAIL") == 3


def test_a_lock_that_a_killed_search_left_is_removed(monkeypatch, tmp_path, tiny_path, tiny_backbone):
    """Optuna's lock is a link to the path that it was given: here one that leads nowhere."""
    calls = _quadratic(monkeypatch, tmp_path)
    settings = {"output_dir": "runs", "data_path": str(tiny_path), "backbone": str(tiny_backbone)}
    journal = Path(tune(_file(tmp_path, SPACE), 1, "RecFound", "tiny", None, settings)["folder"]) / "trials.log"
    lock = Path(f"{journal}.lock")
    lock.symlink_to(journal)
    assert tune(_file(tmp_path, SPACE), 2, "RecFound", "tiny", None, settings)["trials"] == len(calls) == 2
    assert not lock.is_symlink()


@pytest.mark.parametrize("torn", ["cut", "zeros", "letters"])
def test_a_torn_end_of_the_journal_is_cut_off(monkeypatch, tmp_path, tiny_path, tiny_backbone, capsys, torn):
    calls = _quadratic(monkeypatch, tmp_path)
    settings = {"output_dir": str(tmp_path), "data_path": str(tiny_path), "backbone": str(tiny_backbone)}
    folder = Path(tune(_file(tmp_path, SPACE), 2, "RecFound", "tiny", None, settings)["folder"])
    good = (folder / "trials.log").read_bytes()
    ends = {"cut": good[:-9], "zeros": good + bytes(200), "letters": good + b'{"op_code":\xff\n\xff\n'}
    (folder / "trials.log").write_bytes(ends[torn])
    capsys.readouterr()
    tune(_file(tmp_path, SPACE), 3, "RecFound", "tiny", None, settings)
    lines = good.count(b"\n") - (torn == "cut")
    assert f"note: {folder / 'trials.log'}: damaged after line {lines}, where it is cut off" in capsys.readouterr().out
    assert len(calls) == (4 if torn == "cut" else 3), "the trial whose end was cut off is tried again"
    tune(_file(tmp_path, SPACE), 4, "RecFound", "tiny", None, settings)
    assert "damaged" not in capsys.readouterr().out


def test_damage_before_whole_lines_of_the_journal_is_named(monkeypatch, tmp_path, tiny_path, tiny_backbone):
    _quadratic(monkeypatch, tmp_path)
    settings = {"output_dir": str(tmp_path), "data_path": str(tiny_path), "backbone": str(tiny_backbone)}
    journal = Path(tune(_file(tmp_path, SPACE), 1, "RecFound", "tiny", None, settings)["folder"]) / "trials.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    damaged = b"".join([lines[0], b"\0" * 40 + b"\n", *lines[2:]])
    journal.write_bytes(damaged)
    with pytest.raises(DataError, match=r"trials\.log:2: damaged, expected a line of JSON"):
        tune(_file(tmp_path, SPACE), 2, "RecFound", "tiny", None, settings)
    assert journal.read_bytes() == damaged


@pytest.mark.parametrize("end", ["scored", "refused", "pruned"])
def test_data_that_change_in_a_trial_stop_the_search(monkeypatch, tmp_path, tiny_path, tiny_backbone, end):
    """Such a trial has no score, and is neither pruned nor failed: it is tried again with the restored data."""
    import optuna

    calls = _quadratic(monkeypatch, tmp_path)
    shutil.copytree(tiny_path, tmp_path / "data")
    file, run = tmp_path / "data" / "tiny" / "tiny.inter", module.execute
    good = file.read_text()

    def execute(*given, **named):
        if len(calls) == 1:
            file.write_text(good[: len(good) // 2])
            if end != "scored":
                run(*given, **named)
                raise ConfigError("no") if end == "refused" else optuna.TrialPruned
        return run(*given, **named)

    monkeypatch.setattr(module, "execute", execute)
    settings = {"output_dir": str(tmp_path), "data_path": str(tmp_path / "data"), "backbone": str(tiny_backbone)}
    with pytest.raises(DataError, match=r"^tiny\.inter changed since this study began"):
        tune(_file(tmp_path, SPACE), 3, "RecFound", "tiny", None, settings)
    file.write_text(good)
    found = tune(_file(tmp_path, SPACE), 3, "RecFound", "tiny", None, settings)
    trials = json.loads((Path(found["folder"]) / "results.json").read_text())["trials"]
    assert [one["state"] for one in trials].count("COMPLETE") == 3 and len(calls) == 4 and calls[1] == calls[2]


def test_a_real_search(small_run, tmp_path, capsys):
    space = _file(tmp_path, "learning_rate choice [0.001,0.01]\nloss_args.temperature uniform 0.05,0.2\n")
    settings = small_run | {"max_steps": 2, "eval_interval": 1}
    found = tune(space, 2, "RecFound", "tiny", None, dict(settings))
    assert found["trials"] == 2 and set(found["best"]) == {"learning_rate", "loss_args.temperature"}
    assert "ndcg@10" in found["test_result"] and found["score"] > 0


def test_an_interrupted_trial_continues_where_it_was(small_run, tmp_path, monkeypatch):
    space = _file(tmp_path, "learning_rate choice [0.001]\n")
    settings = small_run | {"max_steps": 4, "eval_interval": 1, "only_tasks": ["U2I"], "task_test_examples": 0}
    real, made = MultiTaskLoader.next_batch, []

    def next_batch(self):
        made.append(1)
        if len(made) == 3:
            signal.raise_signal(signal.SIGTERM)
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(MultiTaskLoader, "next_batch", next_batch)
        with pytest.raises(Interrupted, match="step 3 is saved; the same command continues"):
            tune(space, 1, "RecFound", "tiny", None, dict(settings))
        found = tune(space, 1, "RecFound", "tiny", None, dict(settings))
    assert len(made) == 4
    straight = tune(space, 1, "RecFound", "tiny", None, settings | {"output_dir": str(tmp_path / "other")})
    assert found["score"] == straight["score"] and found["test_result"] == straight["test_result"]
    assert len(list(Path(found["folder"]).glob("trials/*"))) == 1


def test_a_trial_that_ended_before_its_score_was_saved_is_taken(small_run, tmp_path, capsys):
    space = _file(tmp_path, "learning_rate choice [0.001]\n")
    settings = small_run | {"max_steps": 1, "only_tasks": ["U2I"], "task_test_examples": 0}
    first = tune(space, 1, "RecFound", "tiny", None, dict(settings))
    journal = Path(first["folder"]) / "trials.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(line for line in lines[:-1]))
    again = tune(space, 1, "RecFound", "tiny", None, dict(settings))
    (run,) = Path(first["folder"]).glob("trials/*")
    assert f"taken from the finished run {run}" in capsys.readouterr().out
    assert again["trials"] == 2, "the one that was broken off is repeated"
    assert again["score"] == first["score"] and again["test_result"] == first["test_result"]


def test_trials_of_other_times_are_other_runs(tiny_path, tmp_path):
    """The time is no part of a run's identity."""
    settings = {"output_dir": str(tmp_path), "data_path": str(tiny_path), "epochs": 1}
    settings |= {"use_gpu": False, "show_progress": False}
    found = tune(_file(tmp_path, "time_budget choice [100,200]\n"), 4, "BPR", "tiny", None, settings)
    runs = [yaml.safe_load(path.read_text()) for path in Path(found["folder"]).glob("trials/*/config.yaml")]
    assert len({run["identity"] for run in runs}) == 1 and len(runs) == len({run["time_budget"] for run in runs})


def test_a_failed_trial_leaves_nothing_to_continue(small_run, tmp_path, monkeypatch):
    """The same values begin again."""
    real, made = MultiTaskLoader.next_batch, []

    def next_batch(self):
        made.append(1)
        if len(made) == 3:
            raise TrainingError("the loss is no number")
        return real(self)

    monkeypatch.setattr(MultiTaskLoader, "next_batch", next_batch)
    space = _file(tmp_path, "learning_rate choice [0.001]\n")
    settings = small_run | {"max_steps": 4, "eval_interval": 1, "only_tasks": ["U2I"], "task_test_examples": 0}
    with pytest.raises(TrainingError, match="no trial has a score"):
        tune(space, 1, "RecFound", "tiny", None, dict(settings))
    (run,) = Path(small_run["output_dir"]).glob("tune-*/trials/*")
    assert not (run / "spent.json").exists() and not list(run.rglob("*.safetensors"))
    tune(space, 2, "RecFound", "tiny", None, dict(settings))
    assert len(made) == 3 + 4


def test_kernels_are_chosen_by_their_own_metric(tiny_path, tmp_path):
    """The log loss, where the base is chosen by the AUC: the smaller, the better."""
    settings = small_base("DeepFM", epochs=1) | {"data_path": str(tiny_path), "output_dir": str(tmp_path)}
    settings |= {"domain": ["gender"], "epochs": 2, "train_batch_size": 32, "iak_args": {"least_steps": 4}}
    settings |= {"time_budget": 0, "show_progress": False, "tuning_baselines": [], "use_gpu": False}
    space = _file(tmp_path, "learning_rate choice [0.000001,0.01,0.05]\n")
    found = tune(space, 3, "IAK", "tiny", None, settings)
    results = json.loads((Path(found["folder"]) / "results.json").read_text())
    trials = results["trials"]
    assert results["metric"] == "LogLoss" and len({one["score"] for one in trials}) > 1
    runs = [json.loads(path.read_text()) for path in sorted(Path(found["folder"]).glob("trials/*/results.json"))]
    losses = [run["rows"][-1]["valid_metrics"]["logloss"] for run in runs]
    assert found["score"] == min(losses) == min(one["score"] for one in trials)


def test_records_alone_are_chosen_by_the_loss_of_the_probes(small_run, tmp_path):
    records = tmp_path / "records.jsonl"
    lines = [
        {"text": [f"Same? {number}", "yes" if number % 2 else "no"], "task": "Product_Matching"} for number in range(40)
    ]
    records.write_text("\n".join(map(json.dumps, lines)))
    space = _file(tmp_path, "learning_rate choice [0.001,0.01]\n")
    settings = {**small_run, "task_files": [str(records)], "max_steps": 2}
    found = tune(space, 2, "RecFound", "none", None, settings)
    results = json.loads((Path(found["folder"]) / "results.json").read_text())
    assert results["metric"] == "probe_loss" and found["score"] == min(one["score"] for one in results["trials"])


def test_what_trains_nothing_is_refused(tiny_path, tmp_path, tiny_backbone):
    settings = {"data_path": str(tiny_path), "backbone": str(tiny_backbone), "m6rec_task": ["zeroshot"]}
    with pytest.raises(ConfigError, match="trains nothing, so that no validation chooses"):
        tune(_file(tmp_path, "test_users choice [3,4]\n"), 2, "M6Rec", "tiny", None, settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epohcs choice [1]", "did you mean epochs"),
        ("learning_rate choice [-1]", "learning_rate"),
        ("dropout uniform 0,3", "dropout"),
    ],
)
def test_wrong_keys_and_values_are_refused_before_anything_is_trained(tmp_path, tiny_path, capsys, text, message):
    words = ["tune", f"--params={_file(tmp_path, text)}", "--dataset=tiny", f"--data_path={tiny_path}"]
    assert main(words) == 2 and message in capsys.readouterr().err


def test_values_that_the_model_refuses_end_the_search_before_it_begins(tmp_path, tiny_path, tiny_backbone):
    settings = {"data_path": str(tiny_path), "backbone": str(tiny_backbone), "threshold": {"rating": 4}}
    # settings that speak of the table's baselines are none of a trial's
    settings |= {"baselines": ["EASE"], "baseline_args": {"EASE": {"reg_weight": 2.0}}, "blend": ["EASE"]}
    with pytest.raises(ConfigError) as error:
        tune(_file(tmp_path, "late_args.joint_layers choice [1,3]\n"), 2, "M6Rec", "tiny", None, settings)
    assert len(error.value.problems) == 1 and "late_args: joint_layers: got 3" in error.value.problems[0]


def test_values_that_fit_some_of_the_others_are_searched(monkeypatch, tmp_path, tiny_path, tiny_backbone):
    """Options of a method or mode are right beside it alone, and the settings without the space may be wrong."""
    monkeypatch.setattr(
        module, "execute", lambda *_, **named: {"best_valid_score": 0.1, "test_result": {}, "run_dir": ""}
    )
    settings = {"output_dir": str(tmp_path), "data_path": str(tiny_path), "backbone": str(tiny_backbone)}
    space = "history choice ['prompt']\ntask_args.U2I.hard_negatives choice [1,2]\n"
    assert tune(_file(tmp_path, space), 2, "RecFound", "tiny", None, settings)["trials"] == 2


def test_mistakes_of_the_command(tmp_path, capsys):
    assert main(["tune"]) == 2 and "--params=FILE" in capsys.readouterr().err
    path = _file(tmp_path, SPACE)
    assert main(["tune", f"--params={path}", "--trials=many"]) == 2 and "whole number" in capsys.readouterr().err
    assert main(["tune", f"--params={path}", "--trials=²"]) == 2 and "whole number" in capsys.readouterr().err
    assert main(["tune", f"--params={path}", "--trials=0"]) == 2 and "at least 1" in capsys.readouterr().err
