"""Names that numpy 1.24 and 2.0 removed and RecBole uses at run time."""

from __future__ import annotations

import numpy as np

ALIASES = {
    "bool": np.bool_,
    "int": np.int_,
    "float": np.float64,
    "complex": np.complex128,
    "object": np.object_,
    "str": np.str_,
    "long": np.int_,
    "unicode": np.str_,
}


def set_numpy_aliases() -> None:
    """Add the missing names to numpy, as every RecBole `Config` does on old numpy; existing names are unchanged.

    RecBole's metrics and layers use them without a `Config` too, for instance when a checkpoint is evaluated in a new
    process.
    """
    for name, kind in ALIASES.items():
        if name not in vars(np):  # not hasattr: numpy 1 answers it with an error that names the removal
            setattr(np, name, kind)
