"""From a run's folder to something that answers."""

from __future__ import annotations

from pathlib import Path

import yaml
from recbole.utils import init_seed

from recbole_recfound.base import read_base
from recbole_recfound.config import Config
from recbole_recfound.data.protocol import build_splits
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.build_iak import make_base
from recbole_recfound.run_folder import CONFIG, RESULTS
from recbole_recfound.serving.domains import load_iak
from recbole_recfound.serving.kernels import CHOSEN
from recbole_recfound.serving.recommender import Recommender


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
    if not (folder / "adapter").is_dir() or not (folder / RESULTS).is_file():
        raise ConfigError(f"{folder} is not a finished run of RecFound or IAK (it has neither {CHOSEN} nor adapter/ and {RESULTS})")
    return _load_ranking(folder)


def _load_ranking(folder: Path) -> Recommender:
    """RecFound with the weights of a run, on the data that it was trained on."""
    checkpoint = read_base(folder, False)
    told = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    settings = {**checkpoint.settings, "seed": checkpoint.seed, "show_progress": False, "data_path": str(Path(told["data_path"]).parent)}
    config = Config(checkpoint.model, checkpoint.dataset, None, settings, is_base=True)
    init_seed(checkpoint.seed, config["reproducibility"])
    splits = build_splits(config)
    return Recommender(make_base(splits, checkpoint), splits)
