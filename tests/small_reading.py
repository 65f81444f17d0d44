"""Models that read segments, with trained parts at random."""

import torch

from recbole_recfound.model.trained import trained_parameters


@torch.no_grad()
def randomise(model, spread=1.0):
    """Draw prompts, adapters and heads, and the centre (with a deviation of `spread`) and scale of the states."""
    generator = torch.Generator().manual_seed(3)
    for weight in trained_parameters(model).values():
        weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    model.center.copy_(spread * torch.randn(model.center.shape, generator=generator))
    model.spread.copy_(0.5 + torch.rand(model.spread.shape, generator=generator))
