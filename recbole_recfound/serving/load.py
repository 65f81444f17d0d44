"""From a run's folder to something that answers."""

from __future__ import annotations

from pathlib import Path

from recbole_recfound.errors import ConfigError
from recbole_recfound.model.pretrained import read_base
from recbole_recfound.serving.data import splits_of
from recbole_recfound.serving.domains import load_iak
from recbole_recfound.serving.kernels import CHOSEN
from recbole_recfound.serving.recommender import Recommender
from recbole_recfound.system.iak.build import make_base


def load_recfound(run_dir: str | Path) -> Recommender:
    """Load a finished run.

    Args:
        run_dir: the folder of a RecFound run, or of an IAK run (then a `DomainRecommender`).

    Raises:
        ConfigError: there is no such run, or it cannot be served.
        DataError: data or files are missing or damaged.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    if (folder / CHOSEN).is_file():
        return load_iak(folder)
    if not (folder / "adapter").is_dir():
        raise ConfigError(f"{folder} is not a finished run of RecFound or IAK (it has neither {CHOSEN} nor adapter/)")
    checkpoint = read_base(folder, False)
    splits = splits_of(folder, checkpoint, {"seed": checkpoint.seed})
    return Recommender(make_base(splits, checkpoint), splits)
