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
    _, keys, *place = np.random.get_state()
    text = json.dumps([random.getstate(), [keys.tolist(), *place]])
    found = {HOST: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)}
    return found | {str(index): state for index, state in enumerate(random_state(device))}


def set_random_numbers(tensors: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Restore what `random_numbers` returned.

    Args:
        tensors: by name.
        device: for which `random_numbers` was called.
    """
    (version, state, gauss), (keys, *place) = json.loads(tensors[HOST].numpy().tobytes())
    random.setstate((version, tuple(state), gauss))
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), *place))
    set_random_state([tensors[str(index)] for index in range(len(tensors) - 1)], device)
