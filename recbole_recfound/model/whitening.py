"""Whitening of text features: texts that differ in little have few features that tell, which others drown out."""

from __future__ import annotations

import torch

RIDGE = 0.1
"""Of the mean variance, added to that of every direction: those that hardly vary are noise.

Neighbours of a user's items by whitened text rank the next item about equally well for ridges from .001 to .3; without
whitening they are a tenth worse on amazon-industrial."""


def whitening(features: torch.Tensor) -> torch.Tensor:
    """Return the matrix [f, f] that makes features uncorrelated, with mean square 1.

    It is the inverse square root of their covariance with a ridge (ZCA): the only symmetric one, so that it does not
    depend on signs or on an order of directions, which differ between machines.

    Args:
        features: [n, f], centred.
    """
    rows = features.double()
    covariance = rows.T @ rows / max(len(rows), 1)
    mean = covariance.diagonal().mean().clamp(min=1e-12)
    variances, directions = torch.linalg.eigh(covariance)
    variances = variances.clamp(min=0.0)
    scale = (variances + RIDGE * mean).rsqrt()
    # Directions of no variance stay empty; the others share the mean square of 1.
    scale = scale / (variances * scale.square()).mean().sqrt().clamp(min=1e-12)
    return ((directions * scale) @ directions.T).to(features.dtype)
