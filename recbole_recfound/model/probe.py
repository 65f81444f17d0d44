"""A linear probe: a classifier of two classes, fitted on the states of a model that has not been trained yet.

Fine-tuning that starts from a fitted classifier trains faster than from a random one, and distorts the states less
(linear probing, then fine-tuning: arXiv 2202.10054).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

INVERSE_PENALTY = 0.01
"""scikit-learn's C, on standardised states."""
LEAST_SPREAD = 1e-6
"""Smallest standard deviation that an entry is divided by."""


@dataclass(frozen=True)
class Probe:
    """`log p / (1 - p) = weight . (states - center) / spread`.

    Attributes:
        center: [d].
        spread: [d], standard deviations.
        weight: [d].
    """

    center: torch.Tensor
    spread: torch.Tensor
    weight: torch.Tensor


def fit_probe(states: torch.Tensor, labels: np.ndarray) -> Probe | None:
    """Fit a logistic regression.

    Args:
        states: [n, d].
        labels: [n], 0 or 1.

    Returns:
        The probe, or None where there is only one class or nothing to tell the classes apart.
    """
    if len(np.unique(labels)) < 2:
        return None
    found = states.double().cpu().numpy()
    center, spread = found.mean(0), np.maximum(found.std(0), LEAST_SPREAD)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a start for training, not its end
        fitted = LogisticRegression(C=INVERSE_PENALTY, solver="lbfgs", max_iter=300).fit(
            (found - center) / spread, labels
        )
    weight, bias = fitted.coef_[0], fitted.intercept_[0]
    size = float(weight @ weight)
    if not size:
        return None
    # A classifier of prompts has no bias: the centre is moved along the weight instead, which gives the same logits.
    center = center - bias * spread * weight / size
    return Probe(*(torch.from_numpy(value).to(states) for value in (center, spread, weight)))
