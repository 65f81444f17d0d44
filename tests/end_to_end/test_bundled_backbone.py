"""One run of the command with the real bundled backbone on real data, from another folder, scaled down to a minute."""

import json
import os
import subprocess
import sys
from pathlib import Path

from recbole_recfound.runtime.locations import recbole_dir


def test_run_recfound_trains_the_bundled_backbone(checkout: Path, tmp_path: Path):
    users = 150
    write_subset(tmp_path / "data" / "ml-small", users)
    command = [
        sys.executable,
        str(checkout / "run_recfound.py"),
        "--model=RecFound",
        "--dataset=ml-small",
        f"--data_path={tmp_path / 'data'}",
        "--baselines=Pop",
        "--time_budget=300",
        "--max_steps",
        "24",
        "--eval_interval=8",
        "--batch_args={embedding: 8, generative_chunk: 4, contrastive: 4}",
        "--probe_args={size: 2, interval: 24}",
        "--tower_args={feature_layers: []}",
        "--task_args={'*': {history_titles: 3}, SR: {candidates: 5}}",
        "--MAX_ITEM_LIST_LENGTH=30",
        "--use_gpu=False",
        "--item_args={refresh_interval: 0}",
        "--tasks=U2I,I2I,SR,SA",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=600, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    folder = next((tmp_path / "runs").glob("RecFound-ml-small-*"))
    results = json.loads((folder / "results.json").read_text())
    assert results["protocol"]["users"] == users
    assert [row["model"] for row in results["rows"]] == ["Pop", "RecFound"]
    assert results["run"]["backbone"] == "smollm2-135m-instruct" and results["run"]["steps"] == 24
    # A short training already lowers the loss on held-out items and on prompts the model has not seen.
    final = {task["name"]: task["final_loss"] / task["untrained_loss"] for task in results["tasks"]}
    assert set(final) == {"U2I", "I2I", "SR", "SA"}
    assert final["U2I"] < 1 and final["SR"] < 1, final
    assert "RecFound" in done.stdout and "ndcg@10" in done.stdout


def write_subset(folder: Path, users: int) -> None:
    """The first users of ml-100k with all their ratings, and all films."""
    folder.mkdir(parents=True)
    source = recbole_dir() / "dataset_example" / "ml-100k"
    header, *rows = (source / "ml-100k.inter").read_text().splitlines()
    kept = [row for row in rows if int(row.split("\t")[0]) <= users]
    (folder / f"{folder.name}.inter").write_text("\n".join([header, *kept]) + "\n")
    (folder / f"{folder.name}.item").write_bytes((source / "ml-100k.item").read_bytes())
