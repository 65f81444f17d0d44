"""Full precision where rounding would change a ranking."""

from contextlib import AbstractContextManager

import torch


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Return a context without autocast on `device`.

    Scores of a ranking are cosines: rounded to bf16 they take a few hundred values, and items tie that do not.
    """
    return torch.autocast(device.type, enabled=False)
