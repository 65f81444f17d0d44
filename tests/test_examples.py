"""The examples run from the command line, with the tiny backbone where they train."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from recbole_recfound.quick_start import run_recfound

TINY = (
    "backbone",
    "max_steps",
    "eval_interval",
    "probe_args",
    "adapter_args",
    "batch_args",
    "max_prompt_tokens",
    "test_args",
)


def run(*words, cwd: Path, package: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def quick(small_run, tmp_path) -> Path:
    """A file of settings that make a run of RecFound take seconds."""
    path = tmp_path / "quick.yaml"
    settings = {key: small_run[key] for key in TINY} | {"use_gpu": False, "show_progress": False}
    path.write_text(yaml.safe_dump(settings))
    return path


def test_own_data(checkout, quick, tmp_path):
    printed = run(checkout / "examples" / "own_data.py", quick, cwd=tmp_path, package=checkout)
    (value,) = re.findall(r"NDCG@10 on the test part: (\S+)", printed)
    # One item of four has the user's colour, and what the user had is left out.
    assert 0 < float(value) <= 1 and (tmp_path / "my_data" / "shop" / "shop.inter").is_file()


def test_load_and_recommend(checkout, small_run, tmp_path):
    result = run_recfound("RecFound", "tiny", config_dict=small_run | {"max_steps": 2, "task_test_examples": 0})
    script = checkout / "examples" / "load_and_recommend.py"
    lines = run(script, Path(result["run_dir"]).resolve(), cwd=tmp_path, package=checkout).splitlines()
    listed = [line for line in lines if re.match(r"-?\d\.\d{3}  \S+  ", line)]
    scores = [float(line.split()[0]) for line in listed]
    assert len(scores) == 5 and scores == sorted(scores, reverse=True)
    assert "vector of a text: (1, " in lines[-1]


def test_iak_on_a_checkpoint(checkout, tmp_path):
    (tmp_path / "quick.yaml").write_text("epochs: 1\nuse_gpu: False\nshow_progress: False\ntrain_batch_size: 8192\n")
    run(checkout / "examples" / "iak_on_a_checkpoint.py", "quick.yaml", cwd=tmp_path, package=checkout)
    (folder,) = (tmp_path / "runs").glob("IAK-*")
    assert (folder / "results.json").is_file()


def test_every_example_has_a_test(checkout):
    """Those that add something are tested in end_to_end/test_stranger.py."""
    text = Path(__file__).read_text() + (Path(__file__).parent / "end_to_end" / "test_stranger.py").read_text()
    assert all(path.name in text for path in (checkout / "examples").glob("*.py"))
