"""Processes that are killed at random and at named places: the run continues and ends as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recbole_recfound.runtime.finished import check_run
from tests.settings import READING as TEXTS
from tests.small_iak import small_base

PROGRAM = """
import importlib, json, os, signal, sys
kind, settings, place, count = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], int(sys.argv[4])
from recbole_recfound.trainer import kernels
kernels.SAVE_SECONDS = 0.0
if place:
    module, _, name = place.partition(":")
    owner = importlib.import_module(module)
    *parents, last = name.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    real, calls = getattr(owner, last), []
    def dying(*arguments, **options):
        calls.append(1)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    setattr(owner, last, dying)
if kind == "compare":
    from recbole_recfound.system.recfound import variants
    variants.VARIANTS = {"- TMoLE (one shared LoRA)": {"adapter": "lora"}}
    from recbole_recfound.study.compare import compare
    rows = compare("tiny", None, settings)["rows"]
else:
    from recbole_recfound.quick_start import run_recfound
    result = run_recfound(kind, "tiny", config_dict=settings)
    rows = result["comparison"]
    print("RUN", result["run_dir"])
print("METRICS", json.dumps([[row["model"], row["metrics"], row["valid_metrics"]] for row in rows], sort_keys=True))
"""

FOLDER, CHECKPOINT = "recbole_recfound.runtime.run_folder", "recbole_recfound.trainer.checkpoint"
COMMON = [
    f"{FOLDER}:FolderLock",
    f"{FOLDER}:write_text",
    f"{FOLDER}:RunFolder.row",
    "recbole_recfound.system.execute:write_text",
    "recbole_recfound.system.execute:finish",
    "recbole_recfound.baseline.recbole:save_baseline",
]
TRAINING = [
    f"{CHECKPOINT}:save_tensors",
    f"{CHECKPOINT}:CheckpointStore.save",
    f"{CHECKPOINT}:CheckpointStore._prune",
    "recbole_recfound.runtime.file_digests:write_digests",
    "recbole_recfound.data.loader:MultiTaskLoader.next_batch",
    "recbole_recfound.model.saved:save_tensors",
]
KERNELS = [
    "recbole_recfound.system.iak.system:save_base",
    "recbole_recfound.model.pretrained.checkpoint:save_tensors",
    "recbole_recfound.model.kernel.files:save_tensors",
    "recbole_recfound.system.iak.system:write_text",
    "recbole_recfound.trainer.kernels:KernelTrainer._step",
    f"{CHECKPOINT}:save_tensors",
    f"{CHECKPOINT}:CheckpointStore.save",
    f"{CHECKPOINT}:CheckpointStore.clear",
]
READING = [
    f"{CHECKPOINT}:save_tensors",
    f"{CHECKPOINT}:CheckpointStore.save",
    f"{CHECKPOINT}:CheckpointStore.clear",
    "recbole_recfound.runtime.file_digests:write_digests",
    "recbole_recfound.trainer.m6rec:M6RecTrainer._step",
    "recbole_recfound.system.m6rec.load:save_tensors",
    "recbole_recfound.system.m6rec.load:write_text",
]
PLACES = {
    "RecFound": COMMON + TRAINING,
    "IAK": COMMON + KERNELS,
    "M6Rec": COMMON + READING,
    "compare": COMMON + TRAINING,
}
AT_RANDOM = 20
"""Processes of each kind that are killed at random."""
ROWS = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "full"}
CALLS = (1, 3)
"""The call of a place at which the process dies; where there are fewer calls, it ends alive."""


def _settings(kind, small_settings, output_dir):
    settings = small_settings | {"output_dir": str(output_dir), "resume": "auto", "baselines": ["Pop", "BPR"]}
    settings |= {"baseline_args": {"BPR": {"epochs": 2}}}
    if kind == "IAK":
        names = ("data_path", "output_dir", "show_progress", "use_gpu", "resume", "baselines", "baseline_args")
        settings = {name: settings[name] for name in names} | small_base("BPR", epochs=2)
        settings |= {"time_budget": 0, "epochs": 3, "train_batch_size": 32, "domain": ["gender"]}
        return settings | {"tuning_baselines": ["frozen", "full"], "iak_args": {"least_steps": 4, "beta": [1e-4, 1e-2]}}
    if kind == "M6Rec":
        names = ("data_path", "backbone", "output_dir", "resume", "baselines", "baseline_args")
        settings = TEXTS | {name: settings[name] for name in names} | {"m6rec_task": ["retrieval", "ctr"]}
        settings |= {"eval_args": ROWS, "threshold": {"rating": 4}, "train_batch_size": 64, "eval_interval": 4}
        return settings | {"retrieval_args": {"width": 8, "start_epochs": 3}}
    settings |= {"max_steps": 8, "eval_interval": 2, "task_test_examples": 2}
    return settings | ({"tasks": ["U2I", "SR"]} if kind == "RecFound" else {"only_tasks": ["U2I"], "max_steps": 4})


class _Program:
    """One kind of run, in processes of its own."""

    def __init__(self, kind, small_settings, folder, checkout):
        self.kind, self.checkout = kind, checkout
        self.settings = {name: _settings(kind, small_settings, folder / name) for name in ("straight", "killed")}
        self.folder = folder

    def start(self, name="killed", place="", count=0, number=0):
        settings = dict(self.settings[name])
        if name == "killed":
            settings["output_dir"] += str(number)
        environment = os.environ | {"PYTHONPATH": str(self.checkout), "OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-c", PROGRAM, self.kind, json.dumps(settings), place, str(count)]
        return subprocess.Popen(
            words, env=environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def end(self, process):
        out, error = process.communicate(timeout=600)
        assert process.returncode == 0, error
        for line in out.splitlines():
            if line.startswith("RUN "):
                assert check_run(line.removeprefix("RUN "))
        folders = list(Path(self.folder).rglob("*.partial"))
        assert not folders
        return next(line for line in out.splitlines() if line.startswith("METRICS"))


class _Killed:
    """The two tests of a kind of run; a class each, so that kinds can be tested side by side."""

    kind: str

    @pytest.fixture(scope="class")
    def program(self, small_settings, tmp_path_factory, checkout):
        program = _Program(self.kind, small_settings, tmp_path_factory.mktemp("kills"), checkout)
        began = time.monotonic()
        program.expected = program.end(program.start("straight"))
        program.seconds = time.monotonic() - began
        return program

    def test_at_named_places(self, program):
        killed = 0
        for number, (place, count) in enumerate((place, count) for place in PLACES[self.kind] for count in CALLS):
            process = program.start(place=place, count=count, number=number)
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
            assert process.returncode in (0, -signal.SIGKILL), (place, count)
            assert program.end(program.start(number=number)) == program.expected, (place, count)
        print(f"{self.kind}: {killed} kills at named places")
        assert killed > len(PLACES[self.kind])

    def test_at_random(self, program):
        chance, killed, number = random.Random(0), 0, 100
        while killed < AT_RANDOM and number < 100 + 3 * AT_RANDOM:
            number += 1
            process, began = program.start(number=number), time.monotonic()
            try:
                process.wait(timeout=chance.uniform(0.2, 1.0) * program.seconds)
                program.seconds = time.monotonic() - began  # other programs may have ended
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
            assert program.end(program.start(number=number)) == program.expected, number
        print(f"{self.kind}: {killed} of {number - 100} processes were killed at random")
        assert killed == AT_RANDOM


class TestRecFound(_Killed):
    kind = "RecFound"


class TestIAK(_Killed):
    kind = "IAK"


class TestM6Rec(_Killed):
    kind = "M6Rec"


class TestCompare(_Killed):
    kind = "compare"
