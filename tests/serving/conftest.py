"""A finished run for the tests of serving."""

import pytest

from recbole_recfound import run_recfound
from tests.settings import Settings


@pytest.fixture(scope="session")
def served_run(tiny_path, tiny_backbone, tmp_path_factory):
    """A run of a few steps that knows its users."""
    settings = {
        "data_path": str(tiny_path),
        "backbone": str(tiny_backbone),
        "output_dir": str(tmp_path_factory.mktemp("served")),
        "show_progress": False,
        "use_gpu": False,
        "precision": "float32",
        "time_budget": 0,
        "max_steps": 2,
        "tasks": ["U2I", "SR"],
        "task_args": {"SR": {"candidates": 4}},
        "task_test_examples": 0,
        "MAX_ITEM_LIST_LENGTH": 10,
        "save_histories": True,
    }
    return run_recfound("RecFound", "tiny", config_dict=Settings(settings))["run_dir"]
