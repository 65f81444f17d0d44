"""Order in which packs are trained on: batches of examples of about the same length, in a new order each epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from recbole_recfound.model.m6rec import Example, batches_of

BUCKET = 16
"""Batches among which examples are sorted by length, so that rows of a batch have little padding."""


class PackOrder:
    """Batches without end, from any place in their order on.

    Args:
        examples: of the first epoch, one at least.
        redraw: returns the examples of a later epoch; None: those of the first.
        size: targets of a batch.
        seed: of the order.

    Attributes:
        examples: of the first epoch.
        batches: of the present epoch.
        epoch: epochs before the present one.
        position: batches of the present epoch that were given.
    """

    def __init__(
        self, examples: list[Example], redraw: Callable[[int], list[Example]] | None, size: int, seed: int
    ) -> None:
        self.examples, self._redraw, self._size = examples, redraw, size
        self._begin(0, np.random.default_rng([seed, 0x6EC]), 0)
        self._steps = len(self.batches)

    def __len__(self) -> int:
        """Return the steps of the first epoch; others may have a few more or fewer, since a pack is never divided."""
        return self._steps

    def next(self) -> list[Example]:
        """Return the next batch."""
        if self.position == len(self.batches):
            self._begin(self.epoch + 1, self._generator, 0)
        self.position += 1
        return self.batches[self.position - 1]

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the order, as JSON values."""
        return {"epoch": self.epoch, "position": self.position, "generator": self._before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at a place in the order.

        Args:
            state: what `state_dict` returned.
        """
        generator = np.random.default_rng()
        generator.bit_generator.state = state["generator"]
        self._begin(state["epoch"], generator, state["position"])

    def _begin(self, epoch: int, generator: np.random.Generator, position: int) -> None:
        """Draw the order of an epoch.

        Args:
            epoch: epochs before this one.
            generator: as the epoch before has left it.
            position: batches to leave out.
        """
        self.epoch, self.position, self._generator = epoch, position, generator
        self._before = generator.bit_generator.state
        self.batches = self._batches_of(self._redraw(epoch) if epoch and self._redraw else self.examples)

    def _batches_of(self, examples: list[Example]) -> list[list[Example]]:
        order = self._generator.permutation(len(examples))
        batches: list[list[Example]] = []
        per_bucket = max(1, BUCKET * self._size * len(examples) // sum(map(len, examples)))
        for start in range(0, len(order), per_bucket):
            bucket = sorted(order[start : start + per_bucket], key=lambda number: _length(examples[number]))
            batches += batches_of((examples[number] for number in bucket), self._size)
        return [batches[number] for number in self._generator.permutation(len(batches))]


def _length(example: Example) -> tuple[int, int]:
    """Return what examples of one batch should have in common: the length of the source and the number of targets."""
    return len(example.pack.source.segments), len(example)
