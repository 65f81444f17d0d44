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

PENALTY = 1.0
"""Half of it, times the squared weight, is added to the mean loss of standardised states."""
ITERATIONS = 100
"""Most iterations of the solver."""
LEAST_SPREAD = 1e-6
"""Smallest standard deviation that an entry is divided by."""


@dataclass(frozen=True)
class Probe:
    """`log(p / (1 - p)) = sum(weight * (states - center) / spread)`.

    Attributes:
        center: [K, d].
        spread: [K, d], standard deviations.
        weight: [K, d].
    """

    center: torch.Tensor
    spread: torch.Tensor
    weight: torch.Tensor


def fit_probe(states: torch.Tensor, labels: np.ndarray) -> Probe | None:
    """Fit a logistic regression.

    Args:
        states: float32 [n, K, d]; standardised in place.
        labels: [n], 0 or 1.

    Returns:
        The probe, or None where there is only one class or nothing to tell the classes apart.
    """
    if len(np.unique(labels)) < 2:
        return None
    center, spread = states.mean(0), states.std(0, correction=0).clamp(min=LEAST_SPREAD)
    states.sub_(center).div_(spread)
    fitted = LogisticRegression(C=1 / (PENALTY * len(states)), max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a start for training, not its end
        fitted.fit(states.flatten(1).cpu().numpy(), labels)
    weight = torch.from_numpy(fitted.coef_[0]).to(states).view_as(center)
    size = weight.square().sum()
    if not size:
        return None
    # A classifier of prompts has no bias: the centre is moved along the weight instead, which gives the same logits.
    return Probe(center - float(fitted.intercept_[0]) * spread * weight / size, spread, weight)
