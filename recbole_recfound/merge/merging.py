"""Merging of checkpoints, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from recbole_recfound.merge.checks import State, check_compatible
from recbole_recfound.merge.method import MERGE_METHODS, SPARSIFICATIONS, MergeMethod, sparsified


def merge(
    state_dicts: Sequence[State],
    method: str,
    base: State | None = None,
    weights: Sequence[float] | None = None,
    t: float | None = None,
    density: float = 1.0,
    sparsify: str | None = None,
    seed: int = 0,
    **options: Any,
) -> dict[str, Tensor]:
    """Return the trained tensors of several models merged into one set (RecFound Model Merge).

    Args:
        state_dicts: at least two models with the same tensors.
        method: one of `MERGE_METHODS`: "linear" (weighted mean), "slerp" (arc between two models), "ties" or
            "dare_ties" (sign election).
        base: the common starting point; required by methods on deltas (ties, dare_ties) and by every sparsification.
        weights: one per model, not negative, scaled to sum to one; equal when None. Not for slerp.
        t: position on slerp's arc, 0 to 1; .5 when None. For slerp only.
        density: share of each delta that remains, in (0, 1].
        sparsify: one of `SPARSIFICATIONS`, applied to the deltas before linear or slerp; None applies none.
        seed: seed of random sparsification.
        options: further options of the method.

    Returns:
        A new state dict; every tensor has the dtype and device of the first model's.

    Raises:
        ConfigError: unknown method.
        ValueError: tensors that differ in shape, are missing or not finite (with their key); an unknown sparsification;
        an
            argument that is missing, out of range or not for this method.
    """
    merging = MERGE_METHODS[method]
    _check_arguments(state_dicts, method, base, weights, t, density, sparsify, options)
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
        if sparsify is not None and start is not None:
            tensors = [start + sparsified(tensor - start, sparsify, density, generators[device]) for tensor in tensors]
        given = {"weights": shares, "generator": generators[device], "density": density, **options}
        if t is not None:
            given["t"] = t
        merged[key] = _merge_tensor(merging, tensors, start, given).to(original.dtype)
    return merged


def _merge_tensor(
    merging: MergeMethod, tensors: list[Tensor], start: Tensor | None, given: Mapping[str, Any]
) -> Tensor:
    if not merging.on_deltas:
        return merging(tensors, **given)
    assert start is not None  # see _check_arguments
    return start + merging([tensor - start for tensor in tensors], **given)


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
    options: Mapping[str, Any],
) -> None:
    merging = MERGE_METHODS[method]
    count = len(state_dicts)
    if count < 2 or merging.models not in (None, count):
        expected = {2: "two"}.get(merging.models, merging.models) if merging.models else "two or more"
        raise ValueError(f"{method} merges {expected} models, not {count}")
    if sparsify is not None and (unknown := SPARSIFICATIONS.unknown([sparsify])):
        raise ValueError(unknown)
    if sparsify is not None and merging.on_deltas:
        raise ValueError(f"{method} prunes by itself: leave sparsify out")
    if base is None and (sparsify is not None or merging.on_deltas):
        raise ValueError(f"{sparsify or method} works on differences from a base: give the base")
    if not 0 < density <= 1:
        raise ValueError(f"density must be in (0, 1], not {density}")
    if density < 1 and sparsify is None and "density" not in merging.options:
        raise ValueError(f"{method} does not prune: a density of {density} needs sparsify")
    if wrong := [name for name in options if name not in merging.options]:
        raise ValueError(f"{method} has no option {', '.join(wrong)}; known: {', '.join(merging.options) or 'none'}")
    if t is not None and "t" not in merging.options:
        raise ValueError(f"t is for slerp, {method} takes weights")
    if t is not None and not 0 <= t <= 1:
        raise ValueError(f"t must be in [0, 1], not {t}")
    if weights is not None:
        _check_weights(method, merging, weights, count)


def _check_weights(method: str, merging: MergeMethod, weights: Sequence[float], count: int) -> None:
    if not merging.weighted:
        raise ValueError(f"{method} takes {' and '.join(merging.options) or 'nothing'} instead of weights")
    if len(weights) != count:
        raise ValueError(f"{count} models need as many weights, not {len(weights)}")
    if not (all(weight >= 0 for weight in weights) and 0 < sum(weights) < float("inf")):
        raise ValueError(f"weights must not be negative and not all zero, not {list(weights)}")
