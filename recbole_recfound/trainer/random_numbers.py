"""States of all random numbers of a process as tensors: those of Python, NumPy and torch."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping

import numpy as np
import torch

from recbole_recfound.model.gradient_cache import random_state, set_random_state

HOST = "host"
"""States of Python's and NumPy's global generators, which RecBole's samplers draw from."""


def random_numbers(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states of all generators, on the host.

    Args:
        device: of the training, whose generator is one of them.
    """
    state = np.random.get_state(legacy=False)
    state["state"]["key"] = state["state"]["key"].tolist()
    text = json.dumps([random.getstate(), state])
    found = {HOST: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)}
    return found | {str(index): state for index, state in enumerate(random_state(device))}


def set_random_numbers(tensors: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Restore what `random_numbers` returned.

    Args:
        tensors: by name.
        device: for which `random_numbers` was called.
    """
    (version, words, gauss), state = json.loads(tensors[HOST].numpy().tobytes())
    random.setstate((version, tuple(words), gauss))
    state["state"]["key"] = np.array(state["state"]["key"], dtype=np.uint32)
    np.random.set_state(state)
    set_random_state([tensors[str(index)] for index in range(len(tensors) - 1)], device)
