"""Merging checkpoints, tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import sparsify as sparsification
from .checks import State, check_compatible
from .dare_ties import dare_ties
from .linear import linear
from .slerp import slerp
from .ties import ties

METHODS = ("linear", "slerp", "ties", "dare_ties")
SPARSIFICATIONS = ("magnitude", "random")

#: These work on differences from the base and prune them themselves.
_DELTA_METHODS = ("ties", "dare_ties")


def merge(
    state_dicts: Sequence[State],
    method: str,
    base: State | None = None,
    weights: Sequence[float] | None = None,
    t: float | None = None,
    density: float = 1.0,
    sparsify: str | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Merge the trained tensors of several models into one set (RecFound Model Merge).

    Args:
        state_dicts: at least two models with the same tensors.
        method: "linear" (weighted mean), "slerp" (arc between two models), "ties" or "dare_ties" (sign election).
        base: the common starting point; needed by ties, dare_ties and every sparsification.
        weights: one per model, not negative, scaled to sum to one; equal when None. Not for slerp.
        t: position on slerp's arc, 0 to 1; .5 when None. For slerp only.
        density: share of each delta to keep, in (0, 1].
        sparsify: "magnitude" or "random" sparsification of the deltas before linear or slerp.
        seed: of random sparsification.

    Returns:
        A new state dict; every tensor keeps the dtype and device it has in the first model.

    Raises:
        ValueError: naming the key for tensors that differ in shape or are missing or not finite; an unknown method or
            sparsification; an argument that is missing, out of range or not for this method.
    """
    _check_arguments(state_dicts, method, base, weights, t, density, sparsify)
    check_compatible([*state_dicts, base] if base is not None else state_dicts)
    shares = _shares(weights, len(state_dicts))
    generators: dict[torch.device, torch.Generator] = {}
    merged = {}
    # Sorted, so that random masks do not depend on the order of a dict.
    for key in sorted(state_dicts[0]):
        original = state_dicts[0][key]
        device, dtype = original.device, torch.promote_types(original.dtype, torch.float32)
        tensors = [state[key].to(device, dtype) for state in state_dicts]
        start = base[key].to(device, dtype) if base is not None else None
        if device not in generators:
            generators[device] = torch.Generator(device=device).manual_seed(seed)
        if sparsify is not None:
            tensors = [start + _sparsified(tensor - start, sparsify, density, generators[device]) for tensor in tensors]
        result = _merge_tensor(method, tensors, start, shares, 0.5 if t is None else t, density, generators[device])
        merged[key] = result.to(original.dtype)
    return merged


def _merge_tensor(
    method: str,
    tensors: list[Tensor],
    start: Tensor | None,
    shares: list[float],
    t: float,
    density: float,
    generator: torch.Generator,
) -> Tensor:
    if method == "linear":
        return linear(tensors, shares)
    if method == "slerp":
        return slerp(*tensors, t)
    deltas = [tensor - start for tensor in tensors]
    if method == "ties":
        return start + ties(deltas, shares, density)
    return start + dare_ties(deltas, shares, density, generator)


def _sparsified(delta: Tensor, name: str, density: float, generator: torch.Generator) -> Tensor:
    if name == "magnitude":
        return sparsification.magnitude(delta, density)
    return sparsification.random(delta, density, generator)


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    weights = [1.0] * count if weights is None else [float(weight) for weight in weights]
    return [weight / sum(weights) for weight in weights]


def _check_arguments(
    state_dicts: Sequence[State],
    method: str,
    base: State | None,
    weights: Sequence[float] | None,
    t: float | None,
    density: float,
    sparsify: str | None,
) -> None:
    if method not in METHODS:
        raise ValueError(f"unknown merge method {method!r}: use one of {', '.join(METHODS)}")
    if len(state_dicts) < 2 or (method == "slerp" and len(state_dicts) != 2):
        wanted = "two" if method == "slerp" else "two or more"
        raise ValueError(f"{method} merges {wanted} models, not {len(state_dicts)}")
    if sparsify is not None and sparsify not in SPARSIFICATIONS:
        raise ValueError(f"unknown sparsification {sparsify!r}: use one of {', '.join(SPARSIFICATIONS)}")
    if sparsify is not None and method in _DELTA_METHODS:
        raise ValueError(f"{method} prunes by itself: leave sparsify out")
    if base is None and (sparsify is not None or method in _DELTA_METHODS):
        raise ValueError(f"{sparsify or method} works on differences from a base: give the base")
    if not 0 < density <= 1:
        raise ValueError(f"density must be in (0, 1], not {density}")
    if density < 1 and sparsify is None and method not in _DELTA_METHODS:
        raise ValueError(f"{method} does not prune: a density of {density} needs sparsify")
    _check_weights(method, weights, t, len(state_dicts))


def _check_weights(method: str, weights: Sequence[float] | None, t: float | None, count: int) -> None:
    if method == "slerp":
        if weights is not None:
            raise ValueError("slerp takes t instead of weights")
        if t is not None and not 0 <= t <= 1:
            raise ValueError(f"t must be in [0, 1], not {t}")
        return
    if t is not None:
        raise ValueError(f"t is for slerp, {method} takes weights")
    if weights is not None:
        if len(weights) != count:
            raise ValueError(f"{count} models need as many weights, not {len(weights)}")
        if not (all(weight >= 0 for weight in weights) and 0 < sum(weights) < float("inf")):
            raise ValueError(f"weights must not be negative and not all zero, not {list(weights)}")
