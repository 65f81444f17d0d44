"""Values of a numeric column as in the file, where RecBole has normalised it to 0 to 1."""

from typing import TypeVar

import numpy as np
import torch
from recbole.data.dataset import Dataset

Numbers = TypeVar("Numbers", np.ndarray, torch.Tensor)


def raw_range(dataset: Dataset, field: str) -> tuple[float, float] | None:
    """Return a column's minimum and maximum before normalisation (stored by our repair of RecBole), or None.

    Args:
        dataset: RecBole's data set.
        field: name of the column.
    """
    return getattr(dataset, "raw_ranges", {}).get(field)


def as_in_file(values: Numbers, found: tuple[float, float] | None) -> Numbers:
    """Undo the normalisation.

    Args:
        values: of the column, in double precision.
        found: from `raw_range`.
    """
    return values if found is None else found[0] + values * (found[1] - found[0])
