"""GradCache: contrastive batches larger than memory, with the gradient of the whole batch.

A contrastive loss needs all representations at once, but their graphs do not have to live at once. Represent in chunks
without a graph, take the loss's gradient on the representations, then replay each chunk with a graph and the same
random state and push its slice of the gradient through (Gao et al. 2021, arXiv 2101.06983).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


def represent(encode: Callable[[slice], torch.Tensor], rows: int, chunk: int, device: torch.device) -> torch.Tensor:
    """Encode `rows` rows in chunks; backward replays them one at a time.

    Args:
        encode: maps a slice of rows to their representations [n, d]; called twice per chunk.
        rows: number of rows.
        chunk: rows per chunk; 0 encodes everything at once with an ordinary graph.
        device: whose random state dropout reads.

    Returns:
        [rows, d]; its gradient reaches the parameters that `encode` uses when `backward` runs.
    """
    if chunk <= 0 or rows <= chunk or not torch.is_grad_enabled():
        return encode(slice(0, rows))
    precision = _precision(device)
    slices = [slice(start, min(start + chunk, rows)) for start in range(0, rows, chunk)]
    states, pieces = [], []
    with torch.no_grad():
        for piece in slices:
            states.append(random_state(device))
            pieces.append(encode(piece))
    representations = torch.cat(pieces).requires_grad_()

    def replay(gradient: torch.Tensor) -> None:
        for piece, state in zip(slices, states, strict=True):
            # Backward runs outside of the forward's autocast: the same numbers need the same precision.
            with as_random(state, device), torch.enable_grad(), torch.autocast(**precision):
                again = encode(piece)
            if again.requires_grad:
                again.backward(gradient[piece])

    representations.register_hook(replay)
    return representations


def _precision(device: torch.device) -> dict[str, Any]:
    """Return the arguments of `torch.autocast` that reproduce its current state."""
    kind = device.type
    return {"device_type": kind, "dtype": torch.get_autocast_dtype(kind), "enabled": torch.is_autocast_enabled(kind)}


def random_state(device: torch.device) -> list[torch.Tensor]:
    """Random state of the host and, if it is another one, of `device`."""
    states = [torch.get_rng_state()]
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is not None and device.type == accelerator.type:
        states.append(torch.get_device_module(device).get_rng_state(device))
    return states


def set_random_state(states: list[torch.Tensor], device: torch.device) -> None:
    """Restore what `random_state` returned.

    Args:
        states: of the host and, where there is a second one, of `device`.
        device: for which `random_state` was called.
    """
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.get_device_module(device).set_rng_state(states[1], device)


@contextmanager
def as_random(states: list[torch.Tensor], device: torch.device) -> Iterator[None]:
    """Run a block under an earlier random state, then restore the current one.

    Args:
        states: what `random_state` returned earlier.
        device: for which `random_state` was called.
    """
    now = random_state(device)
    set_random_state(states, device)
    try:
        yield
    finally:
        set_random_state(now, device)
