"""Diagonal Gaussians."""

import torch


def gaussian_kl(
    mean: torch.Tensor, logvar: torch.Tensor, prior_mean: torch.Tensor, prior_logvar: torch.Tensor
) -> torch.Tensor:
    """Return KL( N(mean, exp(logvar)) || N(prior_mean, exp(prior_logvar)) ) in nats: IAK's information bound.

    Args:
        mean: [..., r].
        logvar: [..., r].
        prior_mean: broadcast against `mean`.
        prior_logvar: broadcast against `logvar`.

    Returns:
        [...], non-negative up to rounding.
    """
    ratio = logvar - prior_logvar
    distance = (mean - prior_mean).square() * (-prior_logvar).exp()
    return 0.5 * (ratio.exp() - 1 - ratio + distance).sum(-1)
