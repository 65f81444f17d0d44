"""Merging checkpoints of one run into one balanced model, and the checks that come first."""

from .checks import State, check_compatible, check_same_base, pairwise_distances
from .merging import METHODS, SPARSIFICATIONS, merge

__all__ = [
    "METHODS",
    "SPARSIFICATIONS",
    "State",
    "check_compatible",
    "check_same_base",
    "merge",
    "pairwise_distances",
]
