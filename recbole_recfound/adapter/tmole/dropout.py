"""Dropout that does not dominate an adapted layer on a CPU."""

import torch
from torch import nn


class Dropout(nn.Dropout):
    """`nn.Dropout`, with masks drawn four elements at a time on the CPU.

    torch draws a CPU mask element by element, which takes as long as the experts' own products: at width 576 a third of
    an adapted layer. Here a 64-bit draw decides four elements, which rounds p to a multiple of 2^-16. Other devices
    have a fused kernel and keep it.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Zero elements with probability p and rescale the others, in training mode only."""
        if not (self.training and self.p > 0 and x.is_cpu):
            return super().forward(x)
        dropped = max(1, round(self.p * 2**16))
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device).random_(-(2**63), None)
        lanes = words.view(torch.int16)[: x.numel()].view(x.shape)
        keep = (lanes >= dropped - 2**15).to(x.dtype)
        return x * keep.mul_(2**16 / (2**16 - dropped))
