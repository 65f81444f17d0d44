"""Values of a numeric column as in the file, though RecBole has normalised them or keeps them in single precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recbole_recfound.errors import ConfigError

_MOST_PLACES = 22
"""Powers of ten up to this one are exact in double precision."""
_POWERS_OF_TEN = torch.tensor([float(f"1e{places}") for places in range(_MOST_PLACES + 1)], dtype=torch.float64)


def raw_range(dataset: Any, field: str) -> tuple[float, float] | None:
    """Return a column's minimum and maximum before normalisation (stored by our repair of RecBole), or None.

    Args:
        dataset: RecBole's data set.
        field: name of the column.

    Raises:
        ConfigError: RecBole has replaced the numbers by those of buckets.
    """
    if field in (dataset.config["discretization"] or {}):
        raise ConfigError(
            f"discretization: got {field}, whose numbers are needed, not their buckets; leave it out of discretization "
            "and numerical_features"
        )
    return getattr(dataset, "raw_ranges", {}).get(field)


def frame_numbers(dataset: Any, field: str) -> np.ndarray:
    """Return a numeric column of interactions that are no tensors yet, float64 [n].

    Args:
        dataset: RecBole's data set.
        field: name of the column; of `numerical_features` it holds pairs of the number and 1.

    Raises:
        ConfigError: as for `raw_range`.
    """
    raw_range(dataset, field)
    column = dataset.inter_feat[field]
    if column.dtype != object:
        return column.to_numpy(dtype=np.float64)
    return np.array(column.tolist(), dtype=np.float64)[:, 0]


def as_in_file(values: torch.Tensor, found: tuple[float, float] | None) -> torch.Tensor:
    """Undo the normalisation and the loss of precision, float64.

    Single precision makes 3.3 a little smaller and 0.7 of a range too: a value would fall below the edge of a bucket
    that it equals. A value becomes the decimal number it was in the file where its precision leaves no other of as few
    digits; the result differs from the value by no more than the precision of the column.

    Args:
        values: of the column, in the precision in which it is kept; [n, 2] for one of `numerical_features`, which
            RecBole keeps as pairs of the number and 1.
        found: from `raw_range`.
    """
    if values.dim() == 2:
        values = values[:, 0]
    numbers = values.double()
    if found is None:
        if values.dtype != torch.float32:
            return numbers
        following = torch.nextafter(values.abs(), torch.full_like(values, torch.inf))
        return _decimal(numbers, (following.double() - numbers.abs()) / 2)
    low, high = found
    # The range of training rows is applied after that of all rows: a value is rounded twice.
    error = torch.finfo(values.dtype).eps * (high - low) + torch.finfo(torch.float64).eps * max(abs(low), abs(high))
    numbers = low + numbers * (high - low)
    return _decimal(numbers, torch.full_like(numbers, error))


def _decimal(numbers: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    """Return the decimal number within `error` of each number; the number where there is none of few digits.

    Args:
        numbers: float64.
        error: of each number.
    """
    # Decimals of this many places (a multiple of ten for -1) are further apart than the error to both sides.
    places = -torch.log10(2 * error).nan_to_num().ceil().clamp(-_MOST_PLACES, _MOST_PLACES).long()
    scale = _POWERS_OF_TEN.to(numbers.device)[places.abs()]
    rounded = torch.where(places > 0, (numbers * scale).round() / scale, (numbers / scale).round() * scale)
    return rounded.where((rounded - numbers).abs() <= error, numbers)
