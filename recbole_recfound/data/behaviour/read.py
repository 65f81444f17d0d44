"""From RecBole's built data set to logs, groups and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import Dataset

from recbole_recfound.atomic.read import is_not_finite, read_atomic
from recbole_recfound.atomic.times import EARLIEST_CLOCK
from recbole_recfound.compat.raw_column import as_in_file, raw_range
from recbole_recfound.data.behaviour.log import Attribute, Log
from recbole_recfound.data.behaviour.options import TextOptions
from recbole_recfound.data.behaviour.scale import scaled
from recbole_recfound.data.behaviour.segments import UNDESCRIBED, BehaviourTexts
from recbole_recfound.data.multi_task import catalogue_of
from recbole_recfound.data.text.catalogue import Catalogue
from recbole_recfound.data.text.fields import readable
from recbole_recfound.errors import ConfigError

MANY = 100
"""A column of .user with more different values that are no numbers describes a user, not a group of users."""
FEW = 30
"""Numbers with more different values are divided into groups of neighbouring values."""
BUCKETS = 6


SECONDS = "behaviour_seconds"
"""Column of interactions: the bits of a time in double precision, in seconds where the data have a clock."""


def read_log(parts: Sequence[Dataset]) -> Log:
    """Return the interactions of parts of a data set, one part after the other.

    Args:
        parts: built by RecBole; the first is the training part.
    """
    first = parts[0]
    config = first.config

    def column(name: str) -> torch.Tensor:
        return torch.cat([part.inter_feat[name] for part in parts])

    def numbers(name: str) -> np.ndarray:
        return as_in_file(column(name), raw_range(first, name)).numpy()

    users, items = column(first.uid_field).numpy(), column(first.iid_field).numpy()
    label = config["LABEL_FIELD"]
    graded = [field for field in (config["RATING_FIELD"], *(config["threshold"] or {})) if field in first.inter_feat]
    if SECONDS in first.inter_feat:
        times = column(SECONDS).numpy().view(np.float64)
    else:
        times = np.arange(len(users), dtype=np.float64)
    if graded:
        values = scaled(numbers(graded[0]), times, len(first.inter_feat))
    elif label in first.inter_feat:
        values = numbers(label)
    else:
        values = np.full(len(users), np.nan)
    return Log(users, items, times, values)


def build_texts(config: Any, train: Dataset, known: Log, behaviours: int) -> BehaviourTexts:
    """Read .item and .user, and make the texts of a run.

    Args:
        config: settings of the run.
        train: RecBole's training part.
        known: rows that statistics and histories come from.
        behaviours: interactions in a source, where the settings do not say.

    Raises:
        ConfigError: a column that does not exist, or no text about items at all.
        DataError: malformed files.
    """
    options = TextOptions.of(config["text_args"], "text_args")
    catalogue = catalogue_of(config, train)
    if not catalogue.fields:
        raise ConfigError(
            f"{config['dataset']}.item has no text columns: texts are all that {config['model']} knows of an item"
        )
    tokens = [str(token) for token in train.field2id_token[train.iid_field]]
    rows = [catalogue.row_of[token] for token in tokens[1:]]
    sentences = [catalogue.text_of(row) for row in rows]
    if not any(sentences):
        raise ConfigError(
            f"{config['dataset']}.item: no item has a text in {', '.join(catalogue.fields)}: texts are all that "
            f"{config['model']} knows of an item"
        )
    profiles, attributes = _users(config, train, options.user_fields)
    return BehaviourTexts(
        known,
        ["nothing", *(sentence or UNDESCRIBED for sentence in sentences)],
        profiles,
        attributes,
        _category(catalogue, rows, options.category),
        behaviours if options.behaviours is None else options.behaviours,
        bool(len(known)) and float(np.nanmax(known.times, initial=0.0)) >= EARLIEST_CLOCK,
    )


def _users(config: Any, train: Dataset, wanted: Sequence[str] | None) -> tuple[list[str], list[Attribute]]:
    """Return the profile of each user id, and the columns of .user that form groups."""
    tokens = [str(token) for token in train.field2id_token[train.uid_field]]
    path = Path(config["data_path"]) / f"{config['dataset']}.user"
    if not path.is_file():
        if wanted:
            raise ConfigError(f"text_args: user_fields: got {', '.join(wanted)}, but there is no {path.name}")
        return [""] * len(tokens), []
    table = read_atomic(path, config["field_separator"], config["encoding"])
    key = train.uid_field
    if unknown := [name for name in wanted or () if name not in table.kinds]:
        known = ", ".join(name for name in table.kinds if name != key)
        raise ConfigError(f"text_args: user_fields: got {', '.join(unknown)}, expected columns of {path.name}: {known}")
    by_token = table.by_key(key)
    if wanted is None:
        wanted = [name for name in table.kinds if name != key and _forms_groups(table.column(name))]
    rows: list[Mapping[str, str]] = [{}, *(by_token.get(token, {}) for token in tokens[1:])]
    columns = {name: _given([row.get(name, "") for row in rows]) for name in wanted}
    profiles = [
        ", ".join(f"{readable(name)} {values[number]}" for name, values in columns.items() if values[number])
        for number in range(len(rows))
    ]
    return profiles, [_groups(name, values) for name, values in columns.items()]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _given(values: Sequence[str]) -> list[str]:
    """Return the values of a column, empty where one is missing: `nan` is where all are numbers, else it is a word."""
    values = [value.strip() for value in values]
    numeric = all(_is_number(value) for value in values if value)
    return ["" if numeric and is_not_finite(value) else value for value in values]


def _forms_groups(values: Sequence[str]) -> bool:
    given = set(filter(None, _given(values)))
    return bool(given) and (len(given) <= MANY or all(map(_is_number, given)))


def _groups(name: str, values: Sequence[str]) -> Attribute:
    """Return the groups that a column's values form; many numbers become intervals with equally many users."""
    given = sorted({value for value in values if value})
    if len(given) > FEW and all(map(_is_number, given)):
        known = np.array([float(value) for value in values if value])
        edges = np.unique(np.quantile(known, np.arange(1, BUCKETS) / BUCKETS))
        values = [str(np.searchsorted(edges, float(value), side="right")) if value else "" for value in values]
    return _attribute(name, [[value] if value else [] for value in values])


def _attribute(name: str, values: Sequence[Sequence[str]]) -> Attribute:
    groups = sorted({value for row in values for value in row})
    index = {group: number for number, group in enumerate(groups)}
    lengths = np.array([len(row) for row in values], dtype=np.int64)
    flat = np.array([index[value] for row in values for value in row], dtype=np.int64)
    return Attribute(readable(name), tuple(groups), np.concatenate([[0], np.cumsum(lengths)]), flat)


def _category(catalogue: Catalogue, rows: Sequence[int], wanted: str | None) -> Attribute | None:
    """Return the categories of each item id: the words of a column."""
    if wanted is not None and wanted not in catalogue.fields:
        known = ", ".join(catalogue.fields)
        raise ConfigError(f"text_args: category: got {wanted}, expected a text column of .item: {known}")
    for name in [wanted] if wanted else [field for field in catalogue.fields if field != catalogue.title]:
        words = [sorted(set(catalogue.values[row].get(name, "").split())) for row in rows]
        distinct = {word for row in words for word in row}
        # Most, since one slip of the pen makes a column of years no column of words.
        numbers = sum(map(_is_number, distinct))
        if wanted or (1 < len(distinct) <= MANY and 2 * numbers < len(distinct)):
            return _attribute(name, [[], *words])
    return None
