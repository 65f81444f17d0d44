"""Files for accelerate; an optimiser that DeepSpeed divides makes the steps of one process, and resumes as it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from recbole_recfound.quick_start import run_recfound
from tests.two_processes import launch

pytest.importorskip("deepspeed", reason="the extra `deepspeed` is not installed")
DIVIDED = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "1"}


@pytest.fixture
def settings(small_run):
    """Without what each process draws for itself; few examples, so that some steps have no generative task."""
    further = {
        "dropout": 0.0,
        "item_args": {"text_alone": 0.0},
        "adapter_args": {"lora_dropout": 0.0},
        "task_args": {"I2I": {"hard_negatives": 2}},
        "batch_args": {"embedding": 1, "contrastive": 2, "generative": 1, "accumulation": 2},
        "scheduler_args": {"warmup": 2},
        "weight_decay": 0.1,
        "max_steps": 10,
        "eval_interval": 3,
        "resume": "auto",
        "baselines": [],
    }
    return dict(small_run | further)


def _run(checkout, folder, settings, *die_at, **variables):
    folder.mkdir(exist_ok=True)
    (folder / "jobs.json").write_text(json.dumps({"run": ("RecFound", "tiny", settings)}))
    arguments = ("-m", "tests.two_processes", str(folder / "jobs.json"), str(folder), *die_at)
    return launch(checkout, *arguments, **variables)


def _two_and_one(settings, checkout, folder):
    """A run of two processes with DeepSpeed, and one of a single process without."""
    done = _run(checkout, folder / "two", settings, **DIVIDED)
    assert done.returncode == 0, done.stderr[-12000:]
    one = run_recfound("RecFound", "tiny", config_dict=settings | {"output_dir": str(folder / "one")})
    return torch.load(folder / "two" / "run.pt", weights_only=False), one


def _history(run):
    return json.loads((Path(run["run_dir"]) / "trainer_state" / "history.json").read_text())


def _compare(run, other):
    """Two runs have made the same steps to the same weights."""
    for mine, theirs in zip(_history(run), _history(other), strict=True):
        assert mine["counts"] == theirs["counts"] and mine["weights"] == pytest.approx(theirs["weights"], abs=1e-3)
        assert mine["losses"] == pytest.approx(theirs["losses"], rel=1e-6)
    assert run["test_result"] == pytest.approx(other["test_result"], abs=1e-4)
    files = [sorted(Path(found["run_dir"], "trainer_state").glob("step-*")) for found in (run, other)]
    assert [file.name for file in files[0]] == [file.name for file in files[1]]
    for kind in ("trained", "resume"):
        mine, theirs = (load_file(file[-1] / f"{kind}.safetensors") for file in files)
        names = {name for name in mine if not name.startswith("random")}
        assert names == {name for name in theirs if not name.startswith("random")}, "state of the optimiser is whole"
        for name in names:
            assert torch.allclose(mine[name], theirs[name], rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("further", [{}, {"learner": "sgd", "max_grad_norm": 100.0}], ids=["adamw", "sgd, no clipping"])
def test_two_processes_equal_one(further, settings, checkout, tmp_path):
    """AdamW hides a wrong factor of the gradients."""
    _compare(*_two_and_one(settings | further, checkout, tmp_path))


def test_frozen_weights_of_another_type(settings, checkout, tmp_path):
    """DeepSpeed refuses weights of several types in one engine; both runs round."""
    settings |= {"precision": "bf16", "scheduler_args": {"warmup": 20}, "max_steps": 4}
    for mine, theirs in zip(*map(_history, _two_and_one(settings, checkout, tmp_path)), strict=True):
        assert mine["losses"] == pytest.approx(theirs["losses"], rel=1e-2)


@pytest.mark.parametrize("first", [DIVIDED, {}], ids=["divided first", "whole first"])
def test_a_checkpoint_knows_nothing_of_the_division(first, settings, checkout, tmp_path):
    died = _run(checkout, tmp_path / "died", settings, "7", "SIGKILL", **first)
    assert died.returncode != 0 and "SIGKILL" in died.stderr
    (unfinished,) = (tmp_path / "runs").iterdir()
    done = _run(checkout, tmp_path / "resumed", settings, **({} if first else DIVIDED))
    assert done.returncode == 0, done.stderr[-12000:]
    resumed = torch.load(tmp_path / "resumed" / "run.pt", weights_only=False)
    assert resumed["run_dir"] == str(unfinished)
    _compare(resumed, run_recfound("RecFound", "tiny", config_dict=settings | {"output_dir": str(tmp_path / "one")}))


@pytest.mark.parametrize("file", ["ddp", "fsdp2", "deepspeed"])
def test_our_files_for_accelerate(file, settings, checkout, tmp_path):
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings | {"max_steps": 2}))
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
    command += [checkout / "properties/accelerate" / f"{file}.yaml", checkout / "run_recfound.py"]
    command += ["--model=RecFound", "--dataset=tiny", f"--config_files={tmp_path / 'settings.yaml'}"]
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-12000:]
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "results.json").read_text())["run"]["processes"] == 2
