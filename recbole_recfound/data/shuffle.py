"""Random orders in constant memory: each position is computed on demand."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np

ROUNDS = 6
WRITTEN_DOWN = 4096
"""Longest order stored as an array (32 kB). A Feistel network over fewer numbers is a poor shuffle: it has few distinct
rounds and reaches a small part of all orders."""


class Shuffle:
    """A random order of `range(size)` in constant memory.

    A number is written as two digits of base ceil(sqrt(size)), which a Feistel network mixes: each round adds a random
    function of one digit to the other, so that every round can be undone and the whole is a permutation. What falls
    outside of `size` is put through the network again until it falls inside ("cycle walking"). Black & Rogaway 2002,
    "Ciphers with Arbitrary Finite Domains", methods 2 and 3. Close to uniform, as a shuffle for training has to be, and
    no cipher.

    Args:
        size: number of values.
        key: of the order; equal keys give equal orders.
    """

    def __init__(self, size: int, key: Sequence[int]) -> None:
        self.size = size
        self._order: np.ndarray | None = None
        if size <= WRITTEN_DOWN:
            self._order = np.random.default_rng(key).permutation(size)
        else:
            self._keys = np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64)
            self._base = np.uint64(isqrt(size - 1) + 1)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """Return the values int64 [n] at `places` int64 [n], all below `size`."""
        if self._order is not None:
            return self._order[places]
        numbers = self._network(places.astype(np.uint64))
        while len(outside := np.flatnonzero(numbers >= self.size)):
            numbers[outside] = self._network(numbers[outside])
        return numbers.astype(np.int64)

    def _network(self, numbers: np.ndarray) -> np.ndarray:
        left, right = np.divmod(numbers, self._base)
        for key in self._keys:
            # Without the last bit the sum cannot overflow, which would put two numbers in one place.
            left, right = right, (left + (_mixed(right + key) >> np.uint64(1))) % self._base
        return left * self._base + right


@dataclass(frozen=True)
class Stretch:
    """The positions `start` to `stop` of an order, counted from 0."""

    order: Shuffle
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """Return the values int64 [n] at `places` int64 [n]."""
        return self.order[places + self.start]


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Mix every bit with every other: the last steps of splitmix64 (Steele, Lea & Flood 2014), uint64 [n]."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
