"""Merged tensors, bit by bit.

The tensors hold small whole numbers and are merged with powers of two wherever the method allows it, so that float32 is
exact and a digest is the same on every machine. Only an arc is not: its result is rounded to bfloat16.
"""

import hashlib

import pytest
import torch

from recbole_recfound.merge import merge

SHAPES = {"adapter.A": (4, 6), "adapter.B": (6, 4), "temperature": (), "table": (5, 3)}
MERGES = {
    "linear": {"method": "linear"},
    "linear, weighted": {"method": "linear", "weights": [1, 1, 2, 4]},
    "linear, magnitude": {"method": "linear", "sparsify": "magnitude", "density": 0.5},
    "linear, random": {"method": "linear", "sparsify": "random", "density": 0.5, "seed": 3},
    "slerp": {"method": "slerp"},
    "slerp, a quarter": {"method": "slerp", "t": 0.25},
    "slerp, magnitude": {"method": "slerp", "sparsify": "magnitude", "density": 0.5},
    "slerp, random": {"method": "slerp", "sparsify": "random", "density": 0.5, "seed": 3},
    "ties": {"method": "ties", "density": 0.5},
    "ties, dense and weighted": {"method": "ties", "weights": [1, 1, 2, 4]},
    "dare_ties": {"method": "dare_ties", "density": 0.5, "seed": 3},
    "dare_ties, another seed": {"method": "dare_ties", "density": 0.5, "seed": 4},
}


def made(seed: int, most: int) -> dict[str, torch.Tensor]:
    """Whole numbers from -most to most, of other sizes within a tensor so that few are equal."""
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randint(-most, most + 1, shape, generator=generator).float() for key, shape in SHAPES.items()}


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of names, types, shapes and bytes in order of names."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("case", MERGES)
def test_digests(case, pins):
    options = dict(MERGES[case])
    slerp = options["method"] == "slerp"
    base = made(99, 512)
    states = [{key: base[key] + delta for key, delta in made(seed, 256).items()} for seed in range(2 if slerp else 4)]
    merged = merge(states, base=base, **options)
    assert set(merged) == set(SHAPES) and all(tensor.dtype == torch.float32 for tensor in merged.values())
    if slerp:
        merged = {key: tensor.bfloat16() for key, tensor in merged.items()}
    pins.check(f"merge, {case}", digest(merged))
