"""Search for a data set's atomic files, before RecBole tries to download them."""

from __future__ import annotations

from pathlib import Path

from recbole_recfound.errors import DataError
from recbole_recfound.runtime.locations import recbole_dir

NO_DATASET = "none"
"""Name of the data set that has no atomic files: every task comes from JSON-lines files."""


def find_dataset(dataset: str, data_path: str, explicit: bool, benchmark_filename: list[str] | None = None) -> Path:
    """Return the folder of a data set's atomic files: `data_path/dataset`, or RecBole's copy of `ml-100k`.

    Args:
        dataset: the data set's name, also that of its folder and files.
        data_path: the folder that holds the data sets' folders.
        explicit: whether the user named `data_path`; then RecBole's copy of ml-100k does not take its place.
        benchmark_filename: the parts of a data set that comes split (`dataset.PART.inter`), else None.

    Raises:
        DataError: an interaction file is missing.
    """
    names = [f"{dataset}.{part}.inter" for part in benchmark_filename or []] or [f"{dataset}.inter"]
    folder = Path(data_path) / dataset
    bundled = recbole_dir() / "dataset_example" / dataset
    candidates = [folder] if explicit else [bundled, folder]
    for candidate in candidates:
        if all((candidate / name).is_file() for name in names):
            return candidate
    missing = next(folder / name for name in names if not (folder / name).is_file())
    advice = f"put the atomic files into {folder}, or name the folder above it with --data_path"
    if (Path(data_path) / names[0]).is_file():
        advice = (
            f"--data_path names the folder above the data set's own: --data_path={Path(data_path).resolve().parent}"
        )
    raise DataError(f"data set {dataset!r} not found: {missing} does not exist; {advice}")
