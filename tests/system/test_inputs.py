"""The files that a run reads."""

import shutil

import pytest

from recbole_recfound.errors import DataError
from recbole_recfound.quick_start import run_recfound
from recbole_recfound.system import run as module


def test_data_that_change_between_baselines_stop_the_run(tiny_path, tmp_path, monkeypatch):
    """Each baseline reads them again; its row is not saved beside those of the other data."""
    shutil.copytree(tiny_path, tmp_path / "data")
    file, theirs = tmp_path / "data" / "tiny" / "tiny.item", module.run_baseline

    def run_baseline(name, *given):
        if name == "EASE":
            file.write_text(file.read_text() + "9999\tA Film\t1995\tDrama\n")
        return theirs(name, *given)

    monkeypatch.setattr(module, "run_baseline", run_baseline)
    settings = {"data_path": "data", "output_dir": "runs", "epochs": 1, "use_gpu": False, "show_progress": False}
    with pytest.raises(DataError, match=r"^tiny\.item changed since this run began: restore it and call again"):
        run_recfound("BPR", "tiny", config_dict=settings | {"baselines": ["Pop", "EASE"]})
    assert [path.name for path in (tmp_path / "runs").glob("*/rows/*")] == ["Pop.json"]
