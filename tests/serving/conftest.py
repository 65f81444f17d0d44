"""A finished run for the tests of serving."""

import pytest

from recbole_recfound import run_recfound
from tests.settings import SERVED


@pytest.fixture(scope="session")
def served_run(tiny_path, tiny_backbone, tmp_path_factory):
    """A run of a few steps that knows its users."""
    settings = SERVED | {
        "data_path": str(tiny_path),
        "backbone": str(tiny_backbone),
        "output_dir": str(tmp_path_factory.mktemp("served")),
    }
    return run_recfound("RecFound", "tiny", config_dict=settings)["run_dir"]
