"""Linear merge: the weighted mean."""

from collections.abc import Sequence

from torch import Tensor

from recbole_recfound.merge.method import merge_method


@merge_method("linear")
def linear(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted mean of K tensors of one shape ("model soup").

    Args:
        tensors: K tensors.
        weights: K weights that sum to one.
    """
    return sum(weight * tensor for weight, tensor in zip(weights, tensors, strict=True))  # type: ignore[return-value]  # K >= 2
