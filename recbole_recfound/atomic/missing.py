"""Missing values and scales of the columns of interactions, taken from training rows alone.

RecBole fills an empty cell with the mean of the whole column and scales a column by its range before the split, so that
held-out values change what is trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType, ModelType

UNFILLED = ":unfilled"
"""End of the name of a column with the cells of another one before they were filled; no field has a colon."""


def cells(interaction: Interaction, field: str) -> torch.Tensor:
    """Return the cells of a column of interactions that the file has; a missing number is NaN.

    Args:
        interaction: rows of a built data set, or a batch of them; has the column.
        field: name of the column.
    """
    return interaction[field + UNFILLED] if field + UNFILLED in interaction else interaction[field]


def fill_from_training(parts: Sequence[Any], keep_missing: bool = False) -> None:
    """Scale and fill the numeric columns of interactions with values of the first part.

    A column with missing values gets another one beside it, with the cells of the file (see `cells`).

    Args:
        parts: RecBole's built data sets, training first; their interactions are replaced.
        keep_missing: missing values stay NaN.
    """
    train = parts[0]
    config = train.config
    buckets = config["discretization"] or {}
    for field in list(train.inter_feat.columns):
        numeric = train.field2type.get(field) == FeatureType.FLOAT
        if field == config["LABEL_FIELD"]:  # what is predicted means the same in every part
            continue
        if not numeric or train.field2source.get(field) != FeatureSource.INTERACTION or field in buckets:
            continue
        known = _training_values(train, field)
        known = known[known.isfinite()]
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
        scaled = _is_scaled(config, field) and train.raw_ranges[field][0] < train.raw_ranges[field][1]
        if scaled:
            least, most = train.raw_ranges[field]
            train.raw_ranges[field] = (least + low * (most - least), least + high * (most - least))
            known = _scale(known, low, high)
        mean = None if keep_missing else float(known.mean()) if len(known) else 0.0
        scale = (low, high) if scaled else None
        if _needs_cells(parts, field, keep_missing):
            for part in parts:
                own = _scaled(_values(part, field), scale).to(part.inter_feat[field].dtype)
                part.inter_feat.update(Interaction({field + UNFILLED: own}))
        for part in parts:
            for column in (field, field + config["LIST_SUFFIX"]):
                if column in part.inter_feat:
                    _replace(part, column, scale, mean)


def _needs_cells(parts: Sequence[Any], field: str, keep_missing: bool) -> bool:
    """Return whether the column that models read does not have the cells of the file: filled ones, or pairs."""
    if parts[0].config["MODEL_TYPE"] == ModelType.DECISIONTREE:  # its models read every column
        return False
    filled = not keep_missing and any(bool(_values(part, field).isnan().any()) for part in parts)
    return filled or _paired(parts[0], field)


def _is_scaled(config: Any, field: str) -> bool:
    return bool(config["normalize_all"]) or field in (config["normalize_field"] or ())


def _values(train: Any, column: str) -> torch.Tensor:
    """Return the numbers of a column; numerical features are pairs of a number and 1."""
    values = train.inter_feat[column]
    return values[..., 0] if _paired(train, column) else values


def _paired(dataset: Any, column: str) -> bool:
    return column.removesuffix(dataset.config["LIST_SUFFIX"]) in (dataset.config["numerical_features"] or ())


def _training_values(train: Any, field: str) -> torch.Tensor:
    """Return a column's numbers in training, float64 [n].

    A sequential data set has no row for a user's first interaction: it stands in the first sequence.
    """
    values, length = _values(train, field), train.config["ITEM_LIST_LENGTH_FIELD"]
    listed = field + train.config["LIST_SUFFIX"]
    if listed in train.inter_feat and length in train.inter_feat:
        first = train.inter_feat[length] == 1
        values = torch.cat([values, _values(train, listed)[first][:, 0]])
    return values.double()


def _scale(values: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return (values - low) / (high - low) if high > low else torch.ones_like(values)


def _scaled(values: torch.Tensor, scale: tuple[float, float] | None) -> torch.Tensor:
    """Return values on the scale of training rows, float64; those that are not finite stay."""
    new = values.double()
    return new if scale is None else _scale(new, *scale).where(new.isfinite(), new)


def _replace(part: Any, column: str, scale: tuple[float, float] | None, mean: float | None) -> None:
    """Scale and fill one column of a part; padding of sequences stays 0."""
    whole = part.inter_feat[column]
    values = _values(part, column)
    new = _scaled(values, scale)
    if mean is not None:
        new = new.nan_to_num(nan=mean)
    if column.endswith(part.config["LIST_SUFFIX"]):
        lengths = part.inter_feat[part.config["ITEM_LIST_LENGTH_FIELD"]]
        new = new.where(torch.arange(new.shape[1]) < lengths[:, None], values.double())
    new = new.to(whole.dtype)
    if _paired(part, column):
        new = torch.stack([new, whole[..., 1]], dim=-1)
    part.inter_feat.update(Interaction({column: new}))
