"""The files that a run reads."""

import pytest

from recbole_recfound.errors import DataError
from recbole_recfound.quick_start import run_recfound
from recbole_recfound.system import run as module


def test_data_that_change_between_baselines_stop_the_run(data_that_change, tmp_path):
    """Each baseline reads them again; its row is not saved beside those of the other data."""
    data_that_change(module)
    settings = {"data_path": "data", "output_dir": "runs", "epochs": 1, "use_gpu": False, "show_progress": False}
    with pytest.raises(DataError, match=r"^tiny\.item changed since this run began: restore it and call again"):
        run_recfound("BPR", "tiny", config_dict=settings | {"baselines": ["Pop", "EASE"]})
    assert [path.name for path in (tmp_path / "runs").glob("*/rows/*")] == ["Pop.json"]
