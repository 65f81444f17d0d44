"""Diagonal Gaussians."""

import torch


def gaussian_kl(
    mean: torch.Tensor, logvar: torch.Tensor, prior_mean: torch.Tensor, prior_logvar: torch.Tensor
) -> torch.Tensor:
    """KL( N(mean, exp(logvar)) || N(prior_mean, exp(prior_logvar)) ) in nats: IAK's bound on I(adapted; general knowledge).

    Args:
        mean, logvar: [..., r].
        prior_mean, prior_logvar: broadcast against them.

    Returns:
        [...], never negative but for rounding.
    """
    ratio = logvar - prior_logvar
    distance = (mean - prior_mean).square() * (-prior_logvar).exp()
    return 0.5 * (ratio.exp() - 1 - ratio + distance).sum(-1)
