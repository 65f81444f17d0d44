"""8-bit products: as numbers that torch trains with, and as integers in a graph.

Every row of a matrix and every token's state has a scale of its own: its largest absolute value over 127. So zeros stay
zeros, and a score depends neither on padding nor on the rows that share its batch.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional as F

LEVELS = 127
"""Largest integer: of 8 bits with a sign, and as many below zero as above."""
SMALLEST_SCALE = 1e-12
"""Of a row of zeros."""
ZERO_POINT = 128
"""What stands for 0 among integers of 8 bits without a sign, which onnxruntime multiplies fastest."""
Module = TypeVar("Module", bound=nn.Module)


def scales_of(rows: torch.Tensor) -> torch.Tensor:
    """Return the value of one level in each row, [n].

    Args:
        rows: [n, d].
    """
    return (rows.detach().abs().amax(1) / LEVELS).clamp(min=SMALLEST_SCALE)


def rounded(states: torch.Tensor) -> torch.Tensor:
    """Round every row to its 255 values; gradients pass as if nothing were rounded.

    Args:
        states: [..., d].
    """
    rows = states.flatten(0, -2)
    scales = scales_of(rows)
    zeros = torch.zeros_like(scales, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(rows, scales, zeros, 0, -LEVELS, LEVELS).view_as(states)


class RoundedLinear(nn.Linear):
    """A linear map without a bias that rounds states and weights while `rounds` is set."""

    rounds = False

    @classmethod
    def of(cls, linear: nn.Linear) -> RoundedLinear:
        """Return a map with the weights of another.

        Args:
            linear: has no bias.
        """
        found = cls(linear.in_features, linear.out_features, bias=False, device="meta")
        found.weight = linear.weight
        return found

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map states [..., in] to [..., out]."""
        if not self.rounds:
            return super().forward(input)
        return F.linear(rounded(input), rounded(self.weight))


class RoundedEmbedding(nn.Embedding):
    """A table that rounds its rows while `rounds` is set."""

    rounds = False

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the rows of ids."""
        found = super().forward(input)
        return rounded(found) if self.rounds else found


class IntegerLinear(nn.Module):
    """The same map for a graph, by a product of integers; torch cannot run it.

    Args:
        linear: the map.
    """

    zero: torch.Tensor
    weight: torch.Tensor
    scales: torch.Tensor

    def __init__(self, linear: RoundedLinear) -> None:
        super().__init__()
        weight, scales = _integers(linear.weight)
        self.register_buffer("weight", weight.T.contiguous())
        self.register_buffer("scales", scales)
        self.register_buffer("zero", torch.tensor(ZERO_POINT, dtype=torch.uint8))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map states [..., in] to [..., out]."""
        rows = states.flatten(0, -2)
        scales = scales_of(rows)
        integers = torch.onnx.ops.symbolic(
            "QuantizeLinear",
            (rows, scales, self.zero.expand(rows.shape[0])),
            {"axis": 0},
            dtype=torch.uint8,
            shape=rows.shape,
        )
        products = torch.onnx.ops.symbolic(
            "MatMulInteger",
            (integers, self.weight, self.zero),
            dtype=torch.int32,
            shape=(rows.shape[0], self.weight.shape[1]),
        )
        return (products.float() * scales.unsqueeze(1) * self.scales).unflatten(0, states.shape[:-1])


class IntegerEmbedding(nn.Module):
    """The same table for a graph, in integers.

    Args:
        embedding: the table.
    """

    weight: torch.Tensor
    scales: torch.Tensor

    def __init__(self, embedding: RoundedEmbedding) -> None:
        super().__init__()
        weight, scales = _integers(embedding.weight)
        self.register_buffer("weight", weight)
        self.register_buffer("scales", scales)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the rows of ids."""
        return self.weight[ids].float() * self.scales[ids].unsqueeze(-1)


def _integers(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a matrix as integers, int8 [n, d], and the scales of its rows."""
    scales = scales_of(weight)
    return (rounded(weight.detach()) / scales.unsqueeze(1)).round().to(torch.int8), scales


def with_rounding(module: Module) -> Module:
    """Let every linear map without a bias be one that can round.

    Args:
        module: changed in place.

    Returns:
        The same module.
    """
    for own in list(module.modules()):
        for name, child in own.named_children():
            if type(child) is nn.Linear and child.bias is None:
                setattr(own, name, RoundedLinear.of(child))
    return module


def set_rounding(module: nn.Module, rounds: bool) -> None:
    """Begin or end to round.

    Args:
        module: changed in place.
        rounds: whether to round.
    """
    for own in module.modules():
        if isinstance(own, RoundedLinear | RoundedEmbedding):
            own.rounds = rounds


def as_integers(module: Module) -> Module:
    """Return a copy that multiplies integers, for a graph.

    Args:
        module: stays as it is.
    """
    found = copy.deepcopy(module)
    for own in list(found.modules()):
        for name, child in own.named_children():
            if isinstance(child, RoundedLinear):
                setattr(own, name, IntegerLinear(child))
            elif isinstance(child, RoundedEmbedding):
                setattr(own, name, IntegerEmbedding(child))
    return found
