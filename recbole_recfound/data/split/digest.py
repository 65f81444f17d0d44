"""Digests of what a model was trained on: its ids, and the rows of each part of the split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from recbole_recfound.data.split.interactions import interactions_of
from recbole_recfound.data.split.protocol import Splits, held_out
from recbole_recfound.errors import DataError


def data_digest(splits: Splits) -> dict[str, str]:
    """Return digests of a split data set.

    Args:
        splits: the data of a run.

    Returns:
        `ids`: of the tokens of all columns, in the order of their ids; `rows`: of the rows of each part, those of
        training in their order.
    """
    ids = hashlib.sha256()
    for field, tokens in sorted(splits.dataset.field2id_token.items()):
        ids.update("\n".join([field, *map(str, tokens), ""]).encode("utf-8", "surrogatepass"))
    rows = hashlib.sha256()
    users, items = interactions_of(splits.train_set)
    order = np.argsort(users, kind="stable")
    for part in (np.stack([users[order], items[order]], axis=1), held_out(splits.valid_set), held_out(splits.test_set)):
        rows.update(f"{part.shape}".encode())
        rows.update(np.ascontiguousarray(part, dtype="<i8").tobytes())
    return {"ids": ids.hexdigest()[:16], "rows": rows.hexdigest()[:16]}


def check_data(expected: Mapping[str, str] | None, splits: Splits, path: Path) -> None:
    """Refuse data that are not those of a trained model: its ids would mean other users and items.

    Args:
        expected: digests of the model's data; None: not known.
        splits: data that it is to be used with.
        path: of the model, for the message.

    Raises:
        DataError: ids or rows differ.
    """
    if expected is None:
        return
    found = data_digest(splits)
    if found["ids"] != expected["ids"]:
        raise DataError(
            f"{path} was trained with other ids than {splits.config['dataset']} has now: rows were added, removed or "
            "put into another order, or load_col or filters have changed. Use the files it was trained on, or train it "
            "again"
        )
    if found["rows"] != expected["rows"]:
        raise DataError(
            f"{path} was trained on another split than {splits.config['dataset']} has now, so it may have seen rows of "
            "today's test part: rows or settings have changed. Use the files it was trained on, or train it again"
        )
