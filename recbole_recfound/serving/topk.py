"""The best items of all known users, written to a file in parts: the memory does not grow with the users."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.arguments import checked_count
from recbole_recfound.runtime.whole_file import check_file, whole_file
from recbole_recfound.serving.recommender import Recommender

CHUNK = 256
"""Users that are answered at a time."""
GROUP = 64
"""Chunks in a row group of Parquet: small groups make large files that are slow to read."""
COLUMNS = ("user", "rank", "item", "score")
Lines = list[tuple[str, int, str, float]]


def check_path(path: str | Path) -> None:
    """Refuse a file that `write_topk` cannot write, before anything is loaded.

    Raises:
        ConfigError: another kind of file, a folder that is missing or cannot be written, or a missing package.
    """
    path = Path(path)
    if path.suffix not in WRITERS:
        raise ConfigError(f"out: got {path.name}, expected a name that ends in {' or '.join(WRITERS)}")
    check_file(path, "out")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise ConfigError("out: Parquet needs the package pyarrow: pip install pyarrow")


def write_topk(recommender: Recommender, path: str | Path, k: int = 10, show_progress: bool = True) -> int:
    """Write the best items of every known user: user, rank from 1, item, score.

    The file is written beside its place and renamed when it is complete.

    Args:
        recommender: a loaded run that knows users.
        path: ends in `.csv` or `.parquet`; replaced if it exists.
        k: items for each user.
        show_progress: show a progress bar.

    Returns:
        Number of users.

    Raises:
        ConfigError: see `check_path`, or a run whose users are not known.
    """
    check_path(path)
    checked_count("k", k)
    path = Path(path)
    users = recommender.known_users()
    with (
        whole_file(path) as partial,
        WRITERS[path.suffix](partial) as write,
        tqdm(total=len(users), unit="user", disable=not show_progress, dynamic_ncols=True) as bar,
    ):
        for start in range(0, len(users), CHUNK):
            chunk = users[start : start + CHUNK]
            write(_lines(chunk, recommender, k))
            bar.update(len(chunk))
    return len(users)


def _lines(users: Sequence[str], recommender: Recommender, k: int) -> Lines:
    answers = zip(users, recommender.recommend_batch(users=users, k=k), strict=True)
    return [
        (user, rank, token, score) for user, items in answers for rank, (token, _, score) in enumerate(items, start=1)
    ]


@contextmanager
def _csv(path: Path) -> Iterator[Callable[[Lines], None]]:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        yield lambda lines: writer.writerows((*line, f"{score:.6g}") for *line, score in lines)


@contextmanager
def _parquet(path: Path) -> Iterator[Callable[[Lines], None]]:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    kinds = (pyarrow.string(), pyarrow.int32(), pyarrow.string(), pyarrow.float32())
    schema = pyarrow.schema(list(zip(COLUMNS, kinds, strict=True)))
    waiting: list[Lines] = []
    with ParquetWriter(path, schema) as writer:

        def flush() -> None:
            columns = list(zip(*(line for lines in waiting for line in lines), strict=True)) or [()] * len(COLUMNS)
            arrays = [pyarrow.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
            writer.write_table(pyarrow.table(arrays, schema))
            waiting.clear()

        def write(lines: Lines) -> None:
            waiting.append(lines)
            if len(waiting) == GROUP:
                flush()

        yield write
        flush()


WRITERS = {".csv": _csv, ".parquet": _parquet}
