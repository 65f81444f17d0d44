"""RecFound with items held out of training: one table, two rankings."""

import json
from pathlib import Path

import pytest

from recbole_recfound import load_recfound, run_recfound
from recbole_recfound.serving.baselines import load_baselines
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
        "baseline_args": {"GRU4Rec": {"epochs": 1}},
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
    _recommends_nothing_again(found["run_dir"], tiny_path / "tiny" / "tiny.inter")


def _recommends_nothing_again(run_dir, interactions):
    """No item that a user has had is recommended, held out of training or not, by the run and by its baselines."""
    had: dict[str, set[str]] = {}
    for line in interactions.read_text().splitlines()[1:]:
        user, item, *_ = line.split("\t")
        had.setdefault(user, set()).add(item)
    for served in (load_recfound(run_dir), *load_baselines(run_dir)[0].values()):
        users = served.known_users()
        for user, items in zip(users, served.recommend_batch(users=users, k=10_000), strict=True):
            assert items and not had[user] & {token for token, *_ in items}
