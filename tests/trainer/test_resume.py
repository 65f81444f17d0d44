"""A run that was killed and goes on computes what it would have computed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_recfound.errors import ConfigError
from recbole_recfound.quick_start import run_recfound

# Dies between two checkpoints, in the middle of the eighth step.
KILLED = """
import json, os, signal, sys
from recbole_recfound.quick_start import run_recfound
from recbole_recfound.trainer.recfound import RecFoundTrainer

backward = RecFoundTrainer._backward

def dying(self, batch):
    if self.step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return backward(self, batch)

RecFoundTrainer._backward = dying
run_recfound("RecFound", "tiny", config_dict=json.loads(sys.argv[1]))
"""


def _history(run_dir):
    records = json.loads((Path(run_dir) / "trainer_state" / "history.json").read_text())
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def test_killed_and_continued_equals_uninterrupted(small_run, checkout):
    settings = small_run | {
        "max_steps": 12,
        "eval_interval": 3,
        "item_args": {"refresh_interval": 4},
        "resume": "auto",
        "adapter_args": {"lora_dropout": 0.1},
        "scheduler_args": {"warmup": 2},
        "loss_args": {"full_softmax_items": 10, "sampled_items": 30},
        "batch_args": {"cache_chunk": 2, "generative_chunk": 3, "contrastive": 3},
    }
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    died = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(settings)], env=environment, capture_output=True, text=True
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    (unfinished,) = Path(settings["output_dir"]).iterdir()
    assert not (unfinished / "results.json").exists()
    continued = run_recfound("RecFound", "tiny", config_dict=settings)
    assert continued["run_dir"] == str(unfinished)
    straight = run_recfound("RecFound", "tiny", config_dict=settings)
    assert straight["run_dir"] != str(unfinished), "a finished run is not gone on with"
    ours, theirs = _history(unfinished), _history(straight["run_dir"])
    assert [record["step"] for record in ours] == list(range(1, 13))
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == other, mine["step"]
    for key in ("test_result", "best_valid_result", "best_valid_score"):
        assert continued[key] == straight[key]
    merges = [json.loads((Path(run["run_dir"]) / "results.json").read_text())["merge"] for run in (continued, straight)]
    assert merges[0] == merges[1]
    with pytest.raises(ConfigError, match=r"resume: the run .* is finished \(it has results.json\)"):
        run_recfound("RecFound", "tiny", config_dict=settings | {"resume": str(unfinished)})
    with pytest.raises(ConfigError, match="is not a run with these settings"):
        run_recfound("RecFound", "tiny", config_dict=settings | {"resume": str(unfinished), "seed": 1})
