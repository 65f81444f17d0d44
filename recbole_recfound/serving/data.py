"""The data of a finished run, rebuilt."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml
from recbole.utils import init_seed

from recbole_recfound.config.configurator import Config
from recbole_recfound.config.models import OUR_MODELS
from recbole_recfound.config.shared import repeats_of
from recbole_recfound.data.split.digest import check_data
from recbole_recfound.data.split.protocol import Splits, build_splits
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.model.pretrained import BaseCheckpoint
from recbole_recfound.runtime.file_digests import changed_names
from recbole_recfound.runtime.run_folder import CONFIG, digests_of


def splits_of(
    folder: Path,
    checkpoint: BaseCheckpoint,
    changes: Mapping[str, Any],
    data_path: str | None = None,
    dataset: str | None = None,
) -> Splits:
    """Build the data sets of a run, or others for it, with the settings of its model.

    Data with the name of the run's are those that it was trained on, wherever they lie. Users, items and rows must be
    the same; a note on stderr names files of them whose content has changed otherwise, such as texts and labels.

    Args:
        folder: of the run.
        checkpoint: of its model, or of the base; its digests of the data are checked.
        changes: settings of the run over those of the model.
        data_path: where data sets lie; None: where they were for the run.
        dataset: name of another data set; None: that of the run.

    Raises:
        DataError: the run's settings, or its data, are missing or damaged, or the data have changed since the training.
    """
    record = record_of(folder)
    dataset, data_path = dataset or record["dataset"], data_path or str(Path(record["data_path"]).parent)
    _refuse_paths({**record, **checkpoint.settings, "dataset": dataset})
    settings = {**checkpoint.settings, **changes, "show_progress": False, "data_path": data_path}
    if repeats_of(record):
        settings |= {"repeatable": True, "mask_history": False}
    config = Config(checkpoint.model, dataset, None, settings, is_base=True)
    init_seed(checkpoint.seed, config["reproducibility"])
    splits = build_splits(config)
    if dataset == checkpoint.dataset:
        check_data(checkpoint.data, splits, folder)
        tell_changes(record, folder, config)
    return splits


def record_of(folder: Path) -> dict[str, Any]:
    """Return the settings of a run as it wrote them, with `dataset` and `data_path` at least.

    Args:
        folder: of the run.

    Raises:
        DataError: they are missing or damaged.
    """
    try:
        record: dict[str, Any] = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
        Path(record["data_path"], record["dataset"])
        return record
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise DataError(f"{folder / CONFIG} cannot be read ({error})") from None


def tell_changes(record: Mapping[str, Any], folder: Path, config: Config) -> None:
    """Print a note that names the files of a run's data whose content is no longer that of the training.

    Args:
        record: of `record_of`.
        folder: of the run, for the note.
        config: settings under which the data were read again.
    """
    suffixes = None if config["load_col"] is None or config["model"] in OUR_MODELS else config["load_col"]
    data, begin = Path(config["data_path"]), f"{config['dataset']}."
    before = {
        name: digest
        for name, digest in (record.get("data_files") or {}).items()
        if name.startswith(begin) and _is_read(name, suffixes)
    }
    now = digests_of({name: data / name for name in before})
    if names := changed_names(before, now):
        changed = ", ".join(name if name in now else f"{name} (missing)" for name in names)
        print(
            f"note: {changed} changed since {folder.name} was trained: scores and metrics are of the files as they are",
            file=sys.stderr,
            flush=True,
        )


def _is_read(name: str, suffixes: Collection[str] | None) -> bool:
    return suffixes is None or name.rpartition(".")[2] in suffixes


FILE_NAMES = ("dataset", "benchmark_filename", "additional_feat_suffix")
"""Settings from which names of data files are made."""


def _refuse_paths(settings: Mapping[str, Any]) -> None:
    """Refuse a run whose settings would read files outside its folder of data.

    Raises:
        ConfigError: names the setting.
    """
    for key in FILE_NAMES:
        given = settings.get(key) or []
        for name in [given] if isinstance(given, str) else given:
            if name != Path(str(name)).name or "\\" in str(name):
                raise ConfigError(f"{key}: got {name!r}, expected a name without folders")
