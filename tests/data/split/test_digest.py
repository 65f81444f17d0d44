"""A trained model is used with the data that it was trained on, and with no other."""

import random
import shutil

import pytest

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.digest import check_data, data_digest
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.errors import DataError
from recbole_recfound.quick_start import load_recfound, run_recfound
from tests.small_iak import small_base

HEADER = ["user_id:token", "item_id:token", "timestamp:float"]
ROWS = [[f"u{user}", f"i{(3 * user + step) % 11}", 60 * step] for user in range(9) for step in range(7)]


def _splits(path, model="BPR", **settings):
    return build_splits(Config(model, "shop", config_dict={"data_path": str(path), "show_progress": False, **settings}))


@pytest.fixture
def shop(write_dataset):
    """Return a writer of the data set `shop`."""
    return lambda rows: write_dataset("shop", inter=[HEADER, *rows])


@pytest.mark.parametrize("model", ["BPR", "SASRec", "RecFound"])
def test_the_same_files_have_the_same_digest(shop, model):
    path = shop(ROWS)
    splits = _splits(path, model)
    digest = data_digest(splits)
    assert data_digest(_splits(path, model)) == digest
    check_data(digest, splits, path)
    check_data(None, splits, path)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (ROWS[::-1], "with other ids than shop has now"),
        (random.Random(1).sample(ROWS, len(ROWS)), "with other ids than shop has now"),
        ([*ROWS, ["u9", "i1", 5]], "with other ids than shop has now"),
        (ROWS[:-1], "on another split than shop has now"),
        ([*ROWS, ["u8", "i1", 999]], "on another split than shop has now"),
        ([*ROWS[:-1], [*ROWS[-1][:2], 1]], "on another split than shop has now"),
    ],
)
def test_other_data_are_refused(shop, rows, said):
    digest = data_digest(_splits(shop(ROWS)))
    with pytest.raises(DataError, match=said):
        check_data(digest, _splits(shop(rows)), "run")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory, tiny_path):
    """A run of IAK on a copy of the data set `tiny`."""
    root = tmp_path_factory.mktemp("iak")
    shutil.copytree(tiny_path / "tiny", root / "tiny")
    settings = small_base("BPR", epochs=1) | {
        "data_path": str(root),
        "output_dir": str(root / "runs"),
        "domain": ["gender"],
        "show_progress": False,
        "use_gpu": False,
        "time_budget": 0,
        "epochs": 1,
        "iak_args": {"least_steps": 2},
    }
    return root, run_recfound("IAK", "tiny", config_dict=settings)["run_dir"]


def test_a_run_serves_no_other_ids(kernels):
    """The same rows in another order give other ids: today's users and items are not those of the kernels."""
    root, run = kernels
    file = root / "tiny" / "tiny.inter"
    text = file.read_text()
    assert load_recfound(run).recommend(user="1", k=3)
    header, *rows = text.splitlines()
    file.write_text("\n".join([header, *rows[::-1]]) + "\n")
    try:
        with pytest.raises(DataError, match="was trained with other ids than tiny has now"):
            load_recfound(run)
        with pytest.raises(DataError, match="was trained with other ids than tiny has now"):
            settings = {"base_checkpoint": run, "domain": ["gender"], "data_path": str(root), "use_gpu": False}
            run_recfound("IAK", "tiny", config_dict=settings)
    finally:
        file.write_text(text)
