"""The best items of all known users, written to a file in parts: the memory does not grow with the users."""

from __future__ import annotations

import csv
from pathlib import Path

from tqdm import tqdm

from recbole_recfound.errors import ConfigError
from recbole_recfound.serving.recommender import Recommender

CHUNK = 256
"""Users that are answered at a time."""
COLUMNS = ("user", "rank", "item", "score")


def write_topk(recommender: Recommender, path: str | Path, k: int = 10, show_progress: bool = True) -> int:
    """Write the best items of every known user as CSV: user, rank from 1, item, score.

    The file is written beside its place and renamed when it is complete.

    Args:
        recommender: a loaded run that knows users.
        path: ends in `.csv`; replaced if it exists.
        k: items for each user.
        show_progress: show a progress bar.

    Returns:
        Number of users.

    Raises:
        ConfigError: another kind of file, or a run whose users are not known.
    """
    path = Path(path)
    if path.suffix != ".csv":
        raise ConfigError(f"out: got {path.name}, expected a name that ends in .csv")
    users = recommender.known_users()
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        with tqdm(total=len(users), unit="user", disable=not show_progress, dynamic_ncols=True) as bar:
            for start in range(0, len(users), CHUNK):
                chunk = users[start : start + CHUNK]
                for user, items in zip(chunk, recommender.recommend_batch(users=chunk, k=k), strict=True):
                    for rank, (token, _, score) in enumerate(items, start=1):
                        writer.writerow((user, rank, token, f"{score:.6g}"))
                bar.update(len(chunk))
    partial.replace(path)
    return len(users)
