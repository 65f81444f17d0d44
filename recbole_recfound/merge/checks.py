"""Checks of checkpoints before they are merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

#: Names and values of every trained tensor of one checkpoint.
State = Mapping[str, Tensor]


def check_compatible(states: Sequence[State]) -> None:
    """Raise unless all states have the same keys and shapes and finite floating-point values.

    Raises:
        ValueError: naming the key that differs, or the one that holds NaN, infinity or integers.
    """
    first = states[0]
    for index, state in enumerate(states):
        if different := sorted(set(first) ^ set(state)):
            raise ValueError(f"model {index} has other tensors than model 0: {', '.join(different[:5])}")
        for key, tensor in state.items():
            if tensor.shape != first[key].shape:
                raise ValueError(
                    f"{key} is {tuple(tensor.shape)} in model {index} and {tuple(first[key].shape)} in model 0"
                )
            if not tensor.is_floating_point():
                raise ValueError(f"{key} of model {index} holds {tensor.dtype}, which has no mean")
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{key} of model {index} holds NaN or infinite values")


def pairwise_distances(states: Sequence[State]) -> Tensor:
    """Return Euclidean distances [K, K] float64 between models, each taken as one long vector."""
    check_compatible(states)
    device = next(iter(states[0].values())).device
    squares = torch.zeros(len(states), len(states), dtype=torch.float64, device=device)
    for key in states[0]:
        stacked = torch.stack([state[key].to(device, torch.float64).flatten() for state in states])
        for index, row in enumerate(stacked):
            squares[index] += (stacked - row).square().sum(dim=1)
    return squares.sqrt()


def check_same_base(fingerprints: Sequence[str]) -> None:
    """Raise unless all models were trained from one base: the difference of unrelated initial weights is noise.

    Args:
        fingerprints: `base_fingerprint` of each model's base.

    Raises:
        ValueError: two bases differ.
    """
    for index, fingerprint in enumerate(fingerprints):
        if fingerprint != fingerprints[0]:
            raise ValueError(f"model {index} was trained from another base than model 0: they cannot be merged")
