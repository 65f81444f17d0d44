"""Loading a finished run by its folder."""

from __future__ import annotations

from pathlib import Path

from recbole_recfound.errors import ConfigError
from recbole_recfound.model.pretrained import read_base
from recbole_recfound.model.pretrained.make import make_base
from recbole_recfound.serving.data import splits_of
from recbole_recfound.serving.recommender import Recommender


def load_ranking(folder: Path) -> Recommender:
    """Load a finished run of RecFound.

    Args:
        folder: the run folder.

    Raises:
        ConfigError: the run is not finished, or it ranks nothing.
        DataError: data or files are missing or damaged.
    """
    if not (folder / "adapter").is_dir():
        raise ConfigError(f"{folder} is not a finished run (it has no adapter/)")
    checkpoint = read_base(folder, False)
    splits = splits_of(folder, checkpoint, {"seed": checkpoint.seed})
    return Recommender(make_base(splits.train_set, checkpoint), splits)
