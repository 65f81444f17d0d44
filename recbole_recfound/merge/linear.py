"""Linear merge: the weighted mean."""

from collections.abc import Sequence

from torch import Tensor


def linear(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Weighted mean of K tensors of one shape ("model soup").

    Args:
        tensors: K tensors.
        weights: K weights that sum to one.
    """
    return sum(weight * tensor for weight, tensor in zip(weights, tensors, strict=True))
