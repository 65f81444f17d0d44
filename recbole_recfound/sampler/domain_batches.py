"""Dynamic batch-aware sampling (IAK): rows of each domain per step, and steps of each domain."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

SMALLEST, WIDEST = 16, 4
"""B_d lies in [SMALLEST, WIDEST * B]."""


def dynamic_batch_sizes(counts: Sequence[int] | np.ndarray, batch_size: int) -> np.ndarray:
    """Return B_d = clip( 2 ^ round(log2( B (N_d / median N) ^ 0.5 )) ) in [16, 4 B]: batches grow sublinearly.

    Args:
        counts: N_d, training rows of each domain; 0 is allowed and left out of the median.
        batch_size: B.

    Returns:
        int64 [D]; 0 for domains without rows.
    """
    rows = np.asarray(counts, dtype=np.float64)
    present = rows > 0
    sizes = np.zeros(len(rows), dtype=np.int64)
    if present.any():
        wanted = batch_size * np.sqrt(rows[present] / np.median(rows[present]))
        powers = 2 ** np.round(np.log2(wanted)).astype(np.int64).clip(min=0)
        sizes[present] = np.clip(powers, SMALLEST, WIDEST * batch_size)
    return sizes


class DomainBatchSampler(Sampler[list[int]]):
    """Batches of rows in which each domain present makes exactly one step.

    With `dynamic`, domain d takes B_d rows at a time and its learning rate is scaled by sqrt(B_d / B); an epoch shows
    every row once, and small domains further rows until they have their share of `least_steps`. Steps of different
    domains are spread evenly over the epoch and share batches. `fixed` takes B rows of every domain. `mixed` shuffles
    all rows and ignores domains.

    Args:
        domain: int64 [N], domain of each training row, -1 = none (never drawn).
        num_domains: D.
        batch_size: B.
        mode: `dynamic`, `fixed` or `mixed`.
        epochs: epochs planned, over which `least_steps` is spread.
        least_steps: steps that every domain with rows makes in all (`dynamic`).
        seed: of the order.
        apart: number of trailing groups that are rows without a domain; they are drawn B at a time.
    """

    def __init__(
        self,
        domain: np.ndarray,
        num_domains: int,
        batch_size: int,
        mode: str = "dynamic",
        epochs: int = 1,
        least_steps: int = 50,
        seed: int = 0,
        apart: int = 0,
    ) -> None:
        self.mode, self.batch_size, self.size = mode, batch_size, len(domain)
        self.rows = [np.flatnonzero(domain == number) for number in range(num_domains)]
        counts = np.array([len(rows) for rows in self.rows])
        present = counts > 0
        self.sizes = np.where(present, batch_size, 0)
        if mode == "dynamic":
            domains = num_domains - apart
            self.sizes[:domains] = dynamic_batch_sizes(counts[:domains], batch_size)
        self.steps = np.zeros(num_domains, dtype=np.int64)
        self.steps[present] = -(-counts[present] // self.sizes[present])
        if mode == "dynamic":
            self.steps[present] = np.maximum(self.steps[present], math.ceil(least_steps / max(1, epochs)))
        self.stopped = ~present
        self.epoch = 0
        self.seed = seed

    @property
    def rate_factors(self) -> np.ndarray:
        """float64 [D], lr_d / lr = sqrt(B_d / B); 1 where batches do not depend on the domain."""
        if self.mode != "dynamic":
            return np.ones(len(self.rows))
        return np.sqrt(np.maximum(self.sizes, 1) / self.batch_size)

    def stop(self, domains: np.ndarray) -> None:
        """Draw no further rows of these domains."""
        self.stopped[domains] = True

    def only(self, domain: int) -> DomainBatchSampler:
        """Return a sampler of one domain's batches alone, with the same sizes and steps, from the first epoch on."""
        alone = copy.copy(self)
        alone.stopped = np.ones(len(self.rows), dtype=bool)
        alone.stopped[domain] = not len(self.rows[domain])
        alone.epoch = 0
        return alone

    def steps_per_epoch(self) -> int:
        """Return the approximate number of batches per epoch, over all active domains."""
        active = np.flatnonzero(~self.stopped)
        if self.mode == "mixed":
            return -(-sum(len(self.rows[d]) for d in active) // self.batch_size)
        # How chunks pack depends a little on the draw: count those of an epoch that is never trained.
        return sum(1 for _ in self._packed(np.random.default_rng([self.seed, 0x57E9]), active))

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng([self.seed, self.epoch])
        self.epoch += 1
        active = np.flatnonzero(~self.stopped)
        if self.mode == "mixed":
            rows: np.ndarray | list[int] = []
            if len(active):
                rows = random.permutation(np.concatenate([self.rows[d] for d in active]))
            yield from (list(rows[start : start + self.batch_size]) for start in range(0, len(rows), self.batch_size))
            return
        yield from self._packed(random, active)

    def _packed(self, random: np.random.Generator, active: np.ndarray) -> Iterator[list[int]]:
        """Pack the chunks of all domains into batches, in epoch order, with at most one chunk of a domain per batch."""
        chunks = [(place, domain, rows) for domain in active for place, rows in self._chunks(random, domain)]
        chunks.sort(key=lambda chunk: chunk[0])
        batch: list[int] = []
        present: set[int] = set()
        for _, domain, rows in chunks:
            if domain in present or len(batch) + len(rows) > WIDEST * self.batch_size:
                if batch:
                    yield batch
                batch, present = [], set()
            batch.extend(rows.tolist())
            present.add(domain)
        if batch:
            yield batch

    def _chunks(self, random: np.random.Generator, domain: int) -> Iterator[tuple[float, np.ndarray]]:
        """Split a domain's rows into chunks of about B_d, each with its position in [0, 1)."""
        rows, steps, size = self.rows[domain], int(self.steps[domain]), int(self.sizes[domain])
        # Whole steps of rows drawn again only where the domain needs more steps than its rows fill.
        wanted = len(rows) if steps * size < len(rows) + size else steps * min(size, len(rows))
        passes = -(-wanted // len(rows))
        drawn = np.concatenate([random.permutation(rows) for _ in range(passes)])[:wanted]
        offset = random.random()
        for number, chunk in enumerate(np.array_split(drawn, steps)):
            yield (number + offset) / steps, chunk
