"""A process of several that is killed ends all of them, and the run resumes exactly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from recbole_recfound.quick_start import run_recfound
from tests.small_iak import small_base
from tests.two_processes import launch


def _history(run):
    return json.loads((Path(run["run_dir"]) / "trainer_state" / "history.json").read_text())


def _settings(small_run, folder):
    further = {
        "max_steps": 12,
        "eval_interval": 3,
        "resume": "auto",
        "output_dir": str(folder / "runs"),
        "adapter_args": {"lora_dropout": 0.1},
        "scheduler_args": {"warmup": 2},
        "loss_args": {"full_softmax_items": 10, "sampled_items": 30},
    }
    return dict(small_run | further)


def _run(checkout, folder, settings, *die_at, model="RecFound"):
    folder.mkdir(exist_ok=True)
    (folder / "jobs.json").write_text(json.dumps({"run": (model, "tiny", settings)}))
    return launch(checkout, "-m", "tests.two_processes", str(folder / "jobs.json"), str(folder), *die_at)


def test_killed_and_resumed_equals_uninterrupted(small_run, checkout, tmp_path):
    settings = _settings(small_run, tmp_path)
    died = _run(checkout, tmp_path / "died", settings, "7", "SIGKILL")
    assert died.returncode != 0 and "SIGKILL" in died.stderr
    (unfinished,) = (tmp_path / "runs").iterdir()
    assert not (unfinished / "results.json").exists()
    runs = {}
    for name in ("resumed", "straight"):
        done = _run(checkout, tmp_path / name, settings)
        assert done.returncode == 0, done.stderr[-3000:]
        runs[name] = torch.load(tmp_path / name / "run.pt", weights_only=False)
    assert runs["resumed"]["run_dir"] == str(unfinished) != runs["straight"]["run_dir"]
    for mine, other in zip(*map(_history, runs.values()), strict=True):
        assert mine["counts"] == other["counts"] and mine["weights"] == pytest.approx(other["weights"], abs=1e-6)
        assert mine["losses"] == pytest.approx(other["losses"], rel=1e-6), "each process has its own dropout back"
    assert runs["resumed"]["test_result"] == pytest.approx(runs["straight"]["test_result"], abs=1e-4)


def test_kernels_of_a_killed_process_are_trained_again(small_run, checkout, tmp_path):
    """Finished rows and the base stay; the row that was cut off begins again and ends as if nothing had happened."""
    names = ("data_path", "output_dir", "show_progress", "use_gpu")
    settings = {name: small_run[name] for name in names} | small_base("BPR", epochs=2) | {"resume": "auto"}
    settings |= {"time_budget": 0, "epochs": 2, "train_batch_size": 33, "domain": ["gender"]}
    settings |= {"tuning_baselines": ["frozen", "adapter"], "iak_args": {"least_steps": 4}}
    died = _run(checkout, tmp_path / "died", settings, "3", "SIGKILL", model="IAK")
    assert died.returncode != 0 and "SIGKILL" in died.stderr
    (unfinished,) = (tmp_path / "runs").iterdir()
    base = (unfinished / "base" / "base.safetensors").read_bytes()
    done = _run(checkout, tmp_path / "resumed", settings, model="IAK")
    assert done.returncode == 0, done.stderr[-3000:]
    resumed = torch.load(tmp_path / "resumed" / "run.pt", weights_only=False)
    assert resumed["run_dir"] == str(unfinished) and (unfinished / "base" / "base.safetensors").read_bytes() == base
    straight = run_recfound("IAK", "tiny", config_dict=settings | {"resume": ""})
    for mine, other in zip(resumed["comparison"], straight["comparison"], strict=True):
        assert mine["model"] == other["model"] and mine["metrics"] == pytest.approx(other["metrics"], abs=1e-4)


def test_a_signal_to_one_process_ends_all_with_the_same_step(small_run, checkout, tmp_path):
    """Schedulers signal a process of a job, or all, at moments of their own."""
    settings = _settings(small_run, tmp_path)
    ended = _run(checkout, tmp_path / "ended", settings, "7", "SIGTERM")
    assert ended.returncode != 0
    for process in (0, 1):
        assert f"process {process}: interrupted by SIGTERM; step 8 is saved; run folder" in ended.stderr, ended.stderr
    assert ended.stderr.count("; 143\n") == 2
    (unfinished,) = (tmp_path / "runs").iterdir()
    done = _run(checkout, tmp_path / "resumed", settings)
    assert done.returncode == 0, done.stderr[-3000:]
    resumed = torch.load(tmp_path / "resumed" / "run.pt", weights_only=False)
    assert resumed["run_dir"] == str(unfinished) and [row["step"] for row in _history(resumed)] == list(range(1, 13))


def test_another_number_of_processes_trains_on_the_same_batches(small_run, checkout, tmp_path):
    settings = _settings(small_run, tmp_path) | {
        "dropout": 0.0,
        "item_args": {"text_alone": 0.0},
        "adapter_args": {"r": 2},
        "loss_args": {},
    }
    assert _run(checkout, tmp_path / "died", settings, "7", "SIGKILL").returncode != 0
    (unfinished,) = (tmp_path / "runs").iterdir()
    resumed = run_recfound("RecFound", "tiny", config_dict=settings)
    assert resumed["run_dir"] == str(unfinished)
    straight = run_recfound("RecFound", "tiny", config_dict=settings | {"resume": ""})
    for mine, other in zip(_history(resumed), _history(straight), strict=True):
        assert mine["counts"] == other["counts"], mine["step"]
        assert mine["losses"] == pytest.approx(other["losses"], rel=1e-5), mine["step"]


def test_an_error_ends_all_with_one_line(checkout, tmp_path):
    done = launch(checkout, str(checkout / "run_recfound.py"), "--model=RecFound", f"--data_path={tmp_path}")
    assert done.returncode != 0
    assert done.stderr.count("error: ") == 1 and "not found" in done.stderr
