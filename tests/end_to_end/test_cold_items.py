"""RecFound with items held out of training: one table, two rankings."""

import json
from pathlib import Path

import pytest

from recbole_recfound import run_recfound
from tests.settings import SERVED


@pytest.mark.parametrize("history", ["item", "positions"])
def test_every_row_ranks_all_items_and_the_unseen_ones(tiny_path, tiny_backbone, tmp_path, history):
    settings = SERVED | {
        "data_path": str(tiny_path),
        "backbone": str(tiny_backbone),
        "output_dir": str(tmp_path),
        "tasks": ["U2I"],
        "history": history,
        "cold_items": 0.2,
    }
    found = run_recfound("RecFound", "tiny", config_dict=settings, baselines=["Pop", "TextKNN", "GRU4Rec"])
    rows = {row["model"]: row for row in found["comparison"]}
    assert list(rows) == ["Pop", "TextKNN", "GRU4Rec", "RecFound"]
    assert all(row["unseen"]["recall@10"] >= row["metrics"]["recall@10"] for row in rows.values())
    assert rows["Pop"]["metrics"]["recall@10"] == 0
    results = json.loads((Path(found["run_dir"]) / "results.json").read_text())
    assert results["protocol"]["cold_items"] == 0.2 and any(
        "cold_items" in name for name in results["protocol"]["left_out"]
    )
    (task,) = results["tasks"]  # the probe's targets are new items, and candidates of their own rows
    assert task["name"] == "U2I" and 0 < task["untrained_loss"] < 20
    assert "recall@10 unseen" in (Path(found["run_dir"]) / "report.html").read_text()
