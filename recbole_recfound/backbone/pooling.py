"""Pooling of token states into one vector per text."""

import torch


def mean_pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average the states under `mask` in float32.

    Args:
        states: [B, T, d] hidden states.
        mask: [B, T], 1 for the text tokens to average (instruction and padding are 0).

    Returns:
        [B, d] float32; a row without any text token gives zeros.
    """
    weight = mask.unsqueeze(-1).to(torch.float32)
    return (states.float() * weight).sum(1) / weight.sum(1).clamp(min=1.0)
