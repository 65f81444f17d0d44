"""Merging of checkpoints of one run into one balanced model, and the checks before it."""

from recbole_recfound.merge.checks import State, check_compatible, check_same_base, pairwise_distances
from recbole_recfound.merge.merging import merge
from recbole_recfound.merge.method import MERGE_METHODS, SPARSIFICATIONS, MergeMethod, merge_method

__all__ = [
    "MERGE_METHODS",
    "SPARSIFICATIONS",
    "MergeMethod",
    "State",
    "check_compatible",
    "check_same_base",
    "merge",
    "merge_method",
    "pairwise_distances",
]
