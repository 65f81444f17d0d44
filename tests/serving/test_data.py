"""The data of a loaded run are those that it was trained on."""

import shutil
from pathlib import Path

import pytest

from recbole_recfound import load_recfound
from recbole_recfound.errors import DataError


def _without_last_rows(source: Path, folder: Path) -> None:
    """Write a copy of the tiny data set in which each user's last two rows are missing."""
    shutil.copytree(source / "tiny", folder)
    file = folder / "tiny.inter"
    head, *rows = file.read_text().splitlines()
    users = head.split("\t").index("user_id:token")
    time = head.split("\t").index("timestamp:float")
    of_user: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: float(row.split("\t")[time])):
        of_user.setdefault(row.split("\t")[users], []).append(row)
    left = {row for own in of_user.values() for row in own[:-2]}
    file.write_text("\n".join([head, *(row for row in rows if row in left)]) + "\n")


def test_data_that_have_changed_since_the_training_are_not_evaluated(served_run, tiny_path, tmp_path):
    """The last rows of its users are training rows of the run then."""
    _without_last_rows(tiny_path, tmp_path / "data" / "tiny")
    with pytest.raises(DataError, match="was trained (with other ids|on another split) than tiny has now"):
        load_recfound(served_run).evaluate(data_path=str(tmp_path / "data"))
    with pytest.raises(DataError, match="was trained (with other ids|on another split) than tiny has now"):
        load_recfound(served_run, data_path=str(tmp_path / "data")).evaluate()
    moved = shutil.copytree(tiny_path, tmp_path / "moved")
    run = load_recfound(served_run)
    assert run.evaluate(data_path=str(moved)).metrics == run.evaluate().metrics


def test_users_of_data_in_another_order_are_refused(served_run, tiny_path, tmp_path):
    """Numbers of items follow the order of the file."""
    folder = shutil.copytree(served_run, tmp_path / "run", ignore=shutil.ignore_patterns("histories.safetensors"))
    data = shutil.copytree(tiny_path, tmp_path / "data")
    head, *rows = (data / "tiny" / "tiny.inter").read_text().splitlines()
    (data / "tiny" / "tiny.inter").write_text("\n".join([head, *reversed(rows)]) + "\n")
    with pytest.raises(DataError, match="in another order than .* was trained on: pass a history"):
        load_recfound(folder, data_path=str(data)).recommend(user="1")
    assert load_recfound(folder, data_path=str(tiny_path)).recommend(user="1")


def test_data_of_another_name_are_evaluated(served_run, tiny_path, tmp_path):
    _without_last_rows(tiny_path, tmp_path / "other")
    for suffix in ("inter", "item", "user"):
        (tmp_path / "other" / f"tiny.{suffix}").rename(tmp_path / "other" / f"other.{suffix}")
    found = load_recfound(served_run).evaluate("other", str(tmp_path))
    assert found.protocol["dataset"] == "other" and found.metrics
