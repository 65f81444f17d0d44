"""Whitening of text features: texts that differ in little have few features that tell, which others drown out."""

from __future__ import annotations

import torch

RIDGE = 0.1
"""Of the mean variance, added to that of every direction: those that hardly vary are noise.

Neighbours of a user's items by whitened text rank the next item about equally well for ridges from .001 to .3; without
whitening they are a tenth worse on amazon-industrial."""

NOTHING = 1e-9
"""Of the largest variance: what is below is the error of rounding."""
ROWS = 1 << 16
"""Rows that are summed up at a time."""


def whitening(features: torch.Tensor) -> torch.Tensor:
    """Return the matrix [f, f] that makes features uncorrelated, with mean square 1.

    It is the inverse square root of their covariance with a ridge (ZCA): the only symmetric one, so that it does not
    depend on signs or on an order of directions, which differ between machines.

    Args:
        features: [n, f], centred.
    """
    covariance = torch.zeros(2 * features.shape[1:], dtype=torch.float64, device=features.device)
    for rows in features.split(ROWS):
        covariance.addmm_(rows.double().T, rows.double())
    covariance /= max(len(features), 1)
    mean = covariance.diagonal().mean().clamp(min=1e-12)
    variances, directions = torch.linalg.eigh(covariance)
    variances = variances.clamp(min=0.0)
    scale = (variances + RIDGE * mean).rsqrt()
    # Of a direction in which these items do not differ nothing is known: it would be the loudest of a new item's text.
    scale[variances <= NOTHING * variances.max()] = 0.0
    scale = scale / (variances * scale.square()).mean().sqrt().clamp(min=1e-12)
    return ((directions * scale) @ directions.T).to(features.dtype)
