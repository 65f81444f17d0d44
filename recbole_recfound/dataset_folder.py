"""Finds the atomic files of a data set and checks that the columns a run needs are there, before RecBole would try to download."""

from __future__ import annotations

from pathlib import Path

from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.property_files import recbole_dir

NO_DATASET = "none"
"""Name of the data set that has no atomic files: every task comes from JSON-lines files."""


def find_dataset(dataset: str, data_path: str, explicit: bool, benchmark_filename: list[str] | None = None) -> Path:
    """The folder of a data set's atomic files: `data_path/dataset`, or RecBole's own copy of its example `ml-100k`.

    Args:
        dataset: the data set's name, which its folder and files carry.
        data_path: the folder that holds the data sets' folders.
        explicit: whether the user named `data_path`; then a copy of ml-100k in it goes before RecBole's.
        benchmark_filename: the parts of a data set that comes split (`dataset.PART.inter`), else None.

    Raises:
        DataError: an interaction file is missing.
    """
    names = [f"{dataset}.{part}.inter" for part in benchmark_filename or []] or [f"{dataset}.inter"]
    folder = Path(data_path) / dataset
    bundled = recbole_dir() / "dataset_example" / dataset
    candidates = [folder, bundled] if explicit else [bundled, folder]
    for candidate in candidates:
        if all((candidate / name).is_file() for name in names):
            return candidate
    missing = next(folder / name for name in names if not (folder / name).is_file())
    advice = f"put the atomic files into {folder}, or name the folder above it with --data_path"
    if (Path(data_path) / names[0]).is_file():
        advice = f"--data_path names the folder above the data set's own: --data_path={Path(data_path).resolve().parent}"
    raise DataError(f"data set {dataset!r} not found: {missing} does not exist; {advice}")


def check_columns(folder: Path, dataset: str, config) -> None:
    """Refuses interaction files that lack the user, item or time column, or a column that `load_col` names.

    Args:
        folder: where the atomic files lie.
        dataset: the data set's name.
        config: gives the names of the fields, `load_col`, `eval_args`, `field_separator` and `benchmark_filename`.

    Raises:
        ConfigError: `load_col` leaves out a column that the run needs.
        DataError: a column is missing; names the file and what it has.
    """
    wanted = {config["USER_ID_FIELD"]: "USER_ID_FIELD", config["ITEM_ID_FIELD"]: "ITEM_ID_FIELD"}
    if config["eval_args"].get("order") == "TO":
        wanted[config["TIME_FIELD"]] = "TIME_FIELD, for the split by time (eval_args order TO)"
    loaded = (config["load_col"] or {}).get("inter")
    unloaded = [] if loaded is None else [f"{field} ({reason})" for field, reason in wanted.items() if field not in loaded]
    if unloaded:
        raise ConfigError(f"load_col: inter does not name {', '.join(unloaded)}")
    for field in loaded or []:
        wanted.setdefault(field, "load_col")
    parts = config["benchmark_filename"]
    for name in [f"{dataset}.{part}.inter" for part in parts or []] or [f"{dataset}.inter"]:
        present = columns_of(folder / name, config)
        for field, reason in wanted.items():
            if field not in present and not (parts and reason.startswith("TIME_FIELD")):
                raise DataError(f"{folder / name}:1: no column {field!r} ({reason}); it has {', '.join(present)}")


def columns_of(path: Path, config) -> list[str]:
    """Names of the columns of an atomic file.

    Args:
        path: the file.
        config: gives `field_separator` and `encoding`.
    """
    with open(path, encoding=config["encoding"] or "utf-8") as file:
        header = file.readline().rstrip("\n").split(config["field_separator"])
    return [column.split(":")[0] for column in header]
