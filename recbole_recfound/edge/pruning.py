"""Gradual magnitude pruning (Zhu and Gupta, arXiv 1710.01878)."""

from __future__ import annotations

import torch
from torch import nn

RAMP = 0.7
"""Share of the training after which the final sparsity is reached."""


def sparsity_at(done: float, final: float) -> float:
    """Return the sparsity of a cubic schedule: fast while weights are plenty, slow at the end.

    Args:
        done: progress of the training, 0 to 1.
        final: sparsity that is reached at `RAMP`.
    """
    left = max(0.0, 1.0 - done / RAMP)
    return final * (1.0 - left**3)


def matrices_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the matrices of a model by name, each once: embeddings and linear maps."""
    return {name: weight for name, weight in model.named_parameters() if weight.dim() == 2}


class Pruner:
    """Zeros of matrices: the smallest weights of each, which stay zero through further steps.

    Args:
        matrices: by name, changed in place.
    """

    def __init__(self, matrices: dict[str, nn.Parameter]) -> None:
        self.matrices = matrices
        self._kept = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in matrices.items()}

    @torch.no_grad()
    def prune(self, sparsity: float) -> None:
        """Set the smallest weights of each matrix to 0, exactly `round(sparsity * size)` of them.

        A weight that is zero already is among the smallest; of equal ones the first is taken.

        Args:
            sparsity: share of zeros, not below that of the last call.
        """
        for name, weight in self.matrices.items():
            kept, zeros = self._kept[name], round(sparsity * weight.numel())
            if zeros > kept.numel() - int(kept.count_nonzero()):
                # Weights that are pruned already come before others that happen to be 0.
                sizes = weight.abs().masked_fill(~kept, -1.0).flatten()
                kept.view(-1)[sizes.argsort(stable=True)[:zeros]] = False
        self.keep()

    @torch.no_grad()
    def keep(self) -> None:
        """Set the pruned weights to 0 again, after an optimiser step."""
        for name, weight in self.matrices.items():
            weight.mul_(self._kept[name])
