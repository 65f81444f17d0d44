"""Options of a distillation (`recfound distill`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.options import Options, option

LINEAR, PRINTED = "linear", "printed"
"""Weights of the exits' losses: 2k / (L (L + 1)), which grows with depth, and 2k / (k (k + 1)) as M6-Rec prints it."""
HEAD_SIZE = 32
"""Entries of an attention head of the student."""


@dataclass(frozen=True)
class DistilOptions(Options):
    """The student and its training.

    Attributes:
        layers: number L of transformer layers.
        width: of the hidden states, a multiple of 32.
        share_layers: use the parameters of one layer for all layers.
        embedding_size: width of the token embeddings, which a matrix takes to `width`.
        exits: layers after which the student can answer; the last one is `layers`. None: 1, 2, 4, ... and the last.
        exit_weights: weights of the exits' losses, `linear` or `printed`.
        sparsity: share of zeros in every matrix but the head.
        int8: write 8-bit weights.
        seconds: of the training; infinite: `steps`, which must be given, end it, and the same seed gives the same
            student. Reading the teacher before it and measuring the result after it come on top.
        examples: training rows whose scores by the teacher are learned; a third as many for histories of items alone.
        relation_texts: texts whose relations in the teacher are learned, at most.
        relation_layer: layer of the teacher whose relations are learned, from 1. None: the last one.
        steps: optimiser steps of each of both parts, at most. None: as many as the time allows.
        learning_rate: at its highest.
        compared: histories on which graphs are compared with the trained student.
        seed: of the student, and of the order and choice of examples.
    """

    layers: int = option(4, minimum=1)
    width: int = option(128, minimum=HEAD_SIZE)
    share_layers: bool = option(False)
    embedding_size: int = option(128, minimum=1)
    exits: list[int] | None = option(None, minimum=1)
    exit_weights: str = option(LINEAR, choices=(LINEAR, PRINTED))
    sparsity: float = option(0.0, minimum=0.0, below=1.0)
    int8: bool = option(False)
    seconds: float = option(300.0, above=0.0, infinite=True)
    examples: int = option(8000, minimum=1)
    relation_texts: int = option(128, minimum=0)
    relation_layer: int | None = option(None, minimum=1)
    steps: int | None = option(None, minimum=1)
    learning_rate: float = option(0.0005, above=0.0)
    compared: int = option(24, minimum=1)
    seed: int = option(2020, minimum=0, maximum=(1 << 32) - 1)

    def __post_init__(self) -> None:
        """Compare exits with layers and the width with the heads."""
        super().__post_init__()
        problems = []
        if math.isinf(self.seconds) and self.steps is None:
            problems.append(
                f"seconds: got {self.seconds}, expected a number of seconds, or steps that end the training"
            )
        if self.width % HEAD_SIZE:
            problems.append(f"width: got {self.width}, expected a multiple of {HEAD_SIZE}")
        exits = self.exit_layers
        if beyond := [layer for layer in exits if layer > self.layers]:
            problems.append(f"exits: got {_listed(beyond)}, beyond the {self.layers} layers")
        elif len(set(exits)) < len(exits) or not exits:
            problems.append(f"exits: got {_listed(exits) or 'none'}, expected different layers")
        elif exits[-1] < self.layers:
            problems.append(
                f"exits: the last one is {exits[-1]}, so that layers above it answer nothing: layers: {exits[-1]}"
            )
        if problems:
            raise ConfigError(problems)

    @property
    def exit_layers(self) -> list[int]:
        """Layers of the exits, ascending."""
        if self.exits is not None:
            return sorted(self.exits)
        doubled = [1 << power for power in range(self.layers.bit_length()) if 1 << power < self.layers]
        return [*doubled, self.layers]

    @property
    def weights(self) -> list[float]:
        """Weight of each exit's loss."""
        layers = self.layers
        if self.exit_weights == LINEAR:
            return [2 * k / (layers * (layers + 1)) for k in self.exit_layers]
        return [2 * k / (k * (k + 1)) for k in self.exit_layers]


def _listed(layers: list[int]) -> str:
    return ", ".join(map(str, layers))
