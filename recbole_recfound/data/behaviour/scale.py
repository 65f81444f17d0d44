"""Ratings of any scale as numbers from 0 to 1, each by the ratings before it."""

from __future__ import annotations

import math

import numpy as np

SCALES = ((0, 1), (1, 5), (0, 5), (1, 10), (0, 10), (0, 100))
"""Usual scales, in the order in which they are tried: ratings that are all 1 are likes."""
SLACK = 1e-6
"""Share of a scale by which a rating may lie outside, for its single precision."""


def scaled(ratings: np.ndarray, times: np.ndarray, training: int) -> np.ndarray:
    """Return ratings as numbers from 0 to 1, float64 [n]; NaN stays NaN.

    The scale of a rating is the first usual one that holds the training ratings of its time and before, or 0 to a power
    of ten: no later rating changes it, whatever it is. One outside that scale has its end.

    Args:
        ratings: float64 [n], NaN for none.
        times: [n], comparable.
        training: the first rows, which decide.
    """
    order = np.argsort(times[:training], kind="stable")
    seen = ratings[:training][order]
    low = np.minimum.accumulate(np.concatenate([[np.inf], np.nan_to_num(seen, nan=np.inf)]))
    high = np.maximum.accumulate(np.concatenate([[-np.inf], np.nan_to_num(seen, nan=-np.inf)]))
    before = np.searchsorted(times[:training][order], times, side="right")
    extremes, index = np.unique(np.stack([low, high], axis=1), axis=0, return_inverse=True)
    bottom, top = np.array([rating_scale(*each) for each in extremes])[index.reshape(-1)[before]].T
    return np.clip((ratings - bottom) / (top - bottom), 0, 1)


def rating_scale(low: float, high: float) -> tuple[float, float]:
    """Return the ends of the scale of ratings.

    Args:
        low: the lowest one; infinite without any.
        high: the highest one; -infinite without any.
    """
    for bottom, top in SCALES:
        slack = SLACK * (top - bottom)
        if low >= bottom - slack and high <= top + slack:
            return bottom, top
    end = 10.0 ** math.ceil(math.log10(max(-low, high)))
    return -end if low < 0 else 0.0, end
