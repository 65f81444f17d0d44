"""Spherical merge of two models."""

from collections.abc import Sequence

import torch
from torch import Tensor

from recbole_recfound.merge.method import merge_method

#: Below this sine the arc is a straight line to rounding, and its formula divides by it.
_SMALLEST_SINE = 1e-6


@merge_method("slerp", models=2)
def slerp(tensors: Sequence[Tensor], t: float = 0.5) -> Tensor:
    """Return a point on the arc from one tensor to another, each taken as one long vector.

    Two fine-tuned models point in different directions; their mean is shorter than either, the arc's middle is not.
    Parallel and zero vectors have no arc and are joined by the straight line.

    Args:
        tensors: two tensors of one shape, the results at t = 0 and t = 1.
        t: 0 to 1.
    """
    first, second = tensors
    flat = first.flatten().double(), second.flatten().double()
    norms = flat[0].norm() * flat[1].norm()
    cosine = torch.dot(*flat) / norms if norms > 0 else torch.ones_like(norms)
    angle = torch.acos(cosine.clamp(-1, 1))
    sine = torch.sin(angle)
    if sine < _SMALLEST_SINE:
        return torch.lerp(first, second, t)
    merged = (torch.sin((1 - t) * angle) * flat[0] + torch.sin(t * angle) * flat[1]) / sine
    return merged.to(first.dtype).view(first.shape)
