"""A task, a scheduler, a merge method, a metric and a system from files outside the package: examples/add_a_*.py."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

EXAMPLE = Path("examples") / "add_a_task.py"


def run(*words, cwd: Path, package: Path) -> subprocess.CompletedProcess:
    # Another process: what is registered here would be known to all tests that follow.
    environment = os.environ | {"PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


def digests(folder: Path) -> dict[str, str]:
    """Digest of every file of the package."""
    files = sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def finished(checkout, small_run, tmp_path):
    """The folder of a run whose settings come from the example's YAML file and one more."""
    before = digests(checkout / "recbole_recfound")
    shutil.copy(checkout / EXAMPLE, tmp_path / "strange.py")
    small = small_run | {"dataset": "tiny", "max_steps": 6, "task_test_examples": 4, "item_args": {"text_fields": None}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(dict(small)))
    files = f"--config_files={(checkout / EXAMPLE).with_suffix('.yaml')} small.yaml"
    result = run("strange.py", files, cwd=tmp_path, package=checkout)
    assert result.returncode == 0, result.stderr
    assert digests(checkout / "recbole_recfound") == before
    (folder,) = (tmp_path / "runs").iterdir()
    return folder


def test_a_run_uses_all_four(finished):
    results = json.loads((finished / "results.json").read_text())
    tasks = {task["name"]: task for task in results["tasks"]}
    assert set(tasks) == {"U2I", "SR", "YR"} and tasks["YR"]["title"] == "release year"
    assert tasks["YR"]["seen"] > 0 and np.isfinite(tasks["YR"]["final_loss"])
    assert tasks["YR"]["test"]["examples"] == 4 and set(tasks["YR"]["test"]["metrics"]) == {"within_a_decade"}
    assert results["rows"][-1]["task_metrics"]["YR"] == tasks["YR"]["test"]["metrics"]

    (first, *_) = json.loads((finished / "trainer_state" / "history.json").read_text())
    sizes = {name: np.sqrt(tasks[name]["size"]) for name in ("SR", "YR")}
    assert {name: first["weights"][name] for name in sizes} == pytest.approx(
        {name: size / sum(sizes.values()) for name, size in sizes.items()}
    )

    assert results["merge"]["method"] == "median" and results["merge"]["steps"] == [2, 4, 6]
    assert set(results["merge"]["test"]) == {"best", "last", "merged"}

    # A row of TMoLE's table behind those of the paper's tasks and the spare.
    names = json.loads((finished / "adapter" / "adapter_config.json").read_text())["task_names"]
    assert names[12:] == ["AG", "spare", "YR"]
    trained = [load_file(finished / "trainer_state" / f"step-{step:07d}" / "trained.safetensors") for step in (0, 6)]
    (table,) = (name for name in trained[0] if "task_table" in name)
    rows = (trained[0][table] != trained[1][table]).any(1)
    assert rows[14] and not rows[13], "the row of YR is trained, the spare is not"
    assert torch.isfinite(trained[1][table]).all()


def test_a_misspelt_name_is_refused_before_anything_is_loaded(checkout, tmp_path):
    shutil.copy(checkout / EXAMPLE, tmp_path / "strange.py")
    wrong = ["--tasks=[U2I,YQ,YR]", "--scheduler=squareroot", "--data_path=/nowhere", "--backbone=/nowhere"]
    result = run("strange.py", *wrong, "--use_gpu=False", cwd=tmp_path, package=checkout)
    # Packages that are only installed, such as bitsandbytes, may say something before.
    assert result.returncode == 2 and "error: 2 problems in the settings\n" in result.stderr
    assert "unknown task 'YQ'" in result.stderr and "did you mean square_root?" in result.stderr


def test_files_a_stranger_edits(checkout, tmp_path):
    """Inside the package as well: one new file each, no existing file edited."""
    package = tmp_path / "source" / "recbole_recfound"
    shutil.copytree(checkout / "recbole_recfound", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(checkout / "properties", package.parent / "properties")
    before = digests(package)
    text = (checkout / EXAMPLE).read_text()
    head, rest = text.split("\n\n\n@ANSWER_METRICS", 1)
    parts = ("@ANSWER_METRICS" + rest).split("\n\n\n")
    task, (scheduler, merge) = parts[:-3], parts[-3:-1]
    new = {"data/task/yr.py": task, "sampler/square_root.py": [scheduler], "merge/median.py": [merge]}
    for name, code in new.items():
        (package / name).write_text("\n\n\n".join([head, *code]) + "\n")
    edited = {name for name, digest in before.items() if digests(package)[name] != digest}
    assert not edited and set(digests(package)) - set(before) == set(new)
    look = (
        "from recbole_recfound.runtime.registry import *; import recbole_recfound as r; print(r.__file__); "
        "print('YR' in TASKS, 'square_root' in SCHEDULERS, 'median' in MERGE_METHODS); "
        "print('within_a_decade' in ANSWER_METRICS)"
    )
    told = run("-c", look, cwd=tmp_path, package=package.parent)
    assert told.stdout.split() == [str(package / "__init__.py"), *["True"] * 4], told.stderr


def test_a_system_from_another_file_runs_from_a_yaml_file(checkout, tiny_path, tmp_path):
    before = digests(checkout / "recbole_recfound")
    code = """
import json, pathlib, add_a_system
from recbole_recfound import run_recfound
result = run_recfound(config_file_list=["add_a_system.yaml", "small.yaml"])
pathlib.Path("result.json").write_text(json.dumps(result))
"""
    for name in ("add_a_system.py", "add_a_system.yaml", "RecentPop.yaml"):
        shutil.copy(checkout / "examples" / name, tmp_path)
    (tmp_path / "small.yaml").write_text(
        f"dataset: tiny\ndata_path: {tiny_path}\nshow_progress: False\nuse_gpu: False\n"
    )
    done = run("-c", code, cwd=tmp_path, package=f"{checkout}{os.pathsep}{tmp_path}")
    assert done.returncode == 0, done.stderr
    assert digests(checkout / "recbole_recfound") == before
    result = json.loads((tmp_path / "result.json").read_text())
    folder = tmp_path / result["run_dir"]
    results = json.loads((folder / "results.json").read_text())
    assert results["system"] == "RecentPop" and results["recent_parts"] == [0.1, 1.0]
    assert (folder / "report.html").is_file()
    rows = {row["model"]: row for row in results["rows"]}
    assert list(rows) == ["Pop", "RecentPop 10%", "RecentPop 100%"]
    own = [row for name, row in rows.items() if name != "Pop"]
    best = max(own, key=lambda row: row["valid_metrics"]["ndcg@10"])
    assert result["test_result"] == best["metrics"] and own[0]["metrics"] != own[1]["metrics"]


def test_keys_of_a_system_from_another_file_are_checked_like_ours(checkout, tmp_path):
    for name in ("add_a_system.py", "RecentPop.yaml"):
        shutil.copy(checkout / "examples" / name, tmp_path)
    wrong = ["--model=RecentPop", "--recent_parts=[0.5, 2]", "--recent_part=1"]
    done = run("add_a_system.py", *wrong, cwd=tmp_path, package=checkout)
    assert done.returncode == 2 and "recent_part: unknown setting; did you mean recent_parts?" in done.stderr
    assert "recent_parts: got [0.5, 2], expected a list of numbers, at most 1, above 0" in done.stderr
