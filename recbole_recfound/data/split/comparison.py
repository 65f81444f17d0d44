"""Checks that two models hold out the same rows and rank them alike."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from recbole.utils import ModelType

from recbole_recfound.data.split.interactions import pairs_of
from recbole_recfound.data.split.protocol import Splits, held_out, kinds_of_modes
from recbole_recfound.errors import DataError

SHORTEST_FOR_SEQUENTIAL = 4
"""RecBole makes n - 1 sequences of n interactions before it holds two out; below 4 it holds out different rows."""

LAST_ROWS = "eval_args: {split: {LS: valid_and_test}}"


def check_same_rows(reference: Splits, other: Splits) -> None:
    """Reject a comparison of two models that do not have the same held-out items, or do not rank them alike.

    Args:
        reference: the splits of the first row of the table.
        other: the splits of another row.

    Raises:
        DataError: ids, items or held-out pairs differ, and says how many and what to do; or see `check_ranked_alike`.
    """
    name = other.config["model"]
    for column in (reference.dataset.uid_field, reference.dataset.iid_field):
        if not np.array_equal(reference.dataset.field2id_token[column], other.dataset.field2id_token[column]):
            raise DataError(
                f"{name}: its set of {column} differs from that of {reference.config['model']}. "
                + (_unlinked(reference, other) or "Use the same load_col and filters")
            )
    for phase, ours, theirs in (
        ("validation", reference.valid_set, other.valid_set),
        ("test", reference.test_set, other.test_set),
    ):
        expected, found = held_out(ours), held_out(theirs)
        if not np.array_equal(expected, found):
            same = len(set(map(tuple, expected)) & set(map(tuple, found)))
            raise DataError(
                f"{name}: its {phase} rows differ from those of {reference.config['model']}: {same} of "
                f"{len(expected)} are the same. Users with fewer than {SHORTEST_FOR_SEQUENTIAL} interactions cause "
                'this: set user_inter_num_interval: "[4,inf)"; or shares of rows, of which sequential models have one '
                f"less for each user: set {LAST_ROWS}"
            )
    check_ranked_alike(reference, {name: other.config["MODEL_TYPE"]})


def _unlinked(one: Splits, other: Splits) -> str:
    """Return why a model of a knowledge graph has fewer items than another model, or ""."""
    linked, whole = (one, other) if one.config["MODEL_TYPE"] == ModelType.KNOWLEDGE else (other, one)
    if linked.config["MODEL_TYPE"] != ModelType.KNOWLEDGE:
        return ""
    tokens, fewer = (set(splits.dataset.field2id_token[splits.dataset.iid_field][1:]) for splits in (whole, linked))
    if not (missing := sorted(map(str, tokens - fewer))):
        return ""
    return (
        f"RecBole drops the interactions of items without an entity in .link and .kg: {len(missing)} of {len(tokens)} "
        f"items, such as {missing[0]}. Link them, leave them out of .inter, or leave {linked.config['model']} out"
    )


def check_ranked_alike(reference: Splits, others: Mapping[str, ModelType]) -> None:
    """Reject models that are ranked row by row beside others that are ranked user by user, before any is trained.

    RecBole ranks once for each user, and for sequential models once for each held-out row: of a user with several of
    them, the same scores give other metrics.

    Args:
        reference: the splits of the first row of the table.
        others: type of each further model, by name.

    Raises:
        DataError: users have several held-out rows; says how many and what to do.
    """
    config = reference.config
    by_row = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    unlike = [name for name, kind in others.items() if (kind == ModelType.SEQUENTIAL) != by_row]
    if not unlike or kinds_of_modes(config) == {"labeled"}:
        return
    for phase, part in (("validation", reference.valid_set), ("test", reference.test_set)):
        if several := int((np.unique(held_out(part)[:, 0], return_counts=True)[1] > 1).sum()):
            raise DataError(
                f"{', '.join(unlike)}: {several} users have several {phase} rows. RecBole ranks once for each row of a "
                f"sequential model, and once for each user of another, so that metrics of {', '.join(unlike)} and "
                f"{config['model']} cannot be compared. Set {LAST_ROWS}, or take models of one kind"
            )


def check_short_histories(reference: Splits, names: list[str]) -> None:
    """Reject sequential models beside general ones on data where RecBole holds out different rows for them.

    Args:
        reference: the splits of a general model (ours are).
        names: the sequential models, for the message.

    Raises:
        DataError: users with 2 or 3 interactions are left after filtering.
    """
    # Of all rows: `test_users` and `cold_items` leave held-out rows of some users out of the parts.
    counts = np.bincount(pairs_of(reference.dataset)[0], minlength=reference.test_set.user_num)
    short = int(((counts > 1) & (counts < SHORTEST_FOR_SEQUENTIAL)).sum())
    if names and short:
        why = ", since cold_items leaves out others of theirs" if reference.config["cold_items"] else ""
        raise DataError(
            f"{short} of {int((counts > 0).sum())} users have 2 or 3 interactions{why}, of which RecBole holds out "
            "different "
            f'rows for sequential models ({", ".join(names)}). Set user_inter_num_interval: "[4,inf)" or leave these '
            "models out"
        )
