"""Spherical merge of two models."""

import torch
from torch import Tensor

#: Below this sine the arc is a straight line to rounding, and its formula divides by it.
_SMALLEST_SINE = 1e-6


def slerp(first: Tensor, second: Tensor, t: float) -> Tensor:
    """Move along the arc from one tensor to another, each taken as one long vector.

    Two fine-tuned models point in different directions; their mean is shorter than either, the arc's middle is not.
    Parallel and zero vectors have no arc and are joined by the straight line.

    Args:
        first: result at t = 0.
        second: same shape; result at t = 1.
        t: 0 to 1.
    """
    flat = first.flatten().double(), second.flatten().double()
    norms = flat[0].norm() * flat[1].norm()
    cosine = torch.dot(*flat) / norms if norms > 0 else torch.ones_like(norms)
    angle = torch.acos(cosine.clamp(-1, 1))
    sine = torch.sin(angle)
    if sine < _SMALLEST_SINE:
        return torch.lerp(first, second, t)
    merged = (torch.sin((1 - t) * angle) * flat[0] + torch.sin(t * angle) * flat[1]) / sine
    return merged.to(first.dtype).view(first.shape)
