"""Approximate search among many item vectors, with faiss."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

EXACT_ITEMS = 200_000
"""Largest catalogue that is always searched exactly."""
RECALL = 0.95
"""Least share of the exact best items that an approximate search must find."""
MOST_PROBES = 0.25
"""Largest part of the index that one search may read; exact search is as fast then."""
LEAST_ROWS = 39
"""Vectors for each list, by which faiss finds its centres; with fewer it warns."""
SAMPLE = 256
DEPTH = 10
"""Best items by which the recall is measured."""
DEEPEST = 10 * DEPTH
"""Most items of an approximate search: the lists read for the recall of the ten best hold too few of the best 1,000."""


def approximates(items: int, k: int) -> bool:
    """Return whether a catalogue is searched approximately: it is large, `k` is small, and faiss is installed.

    Args:
        items: their number.
        k: most items returned.
    """
    return items > EXACT_ITEMS and k <= DEEPEST and find_spec("faiss") is not None


class ApproximateIndex:
    """Inner products of queries and items by faiss's inverted lists, with as many lists read as the recall needs.

    Args:
        vectors: float32 [items, d].
        sample: float32 [n, d] queries on which the recall is measured.

    Attributes:
        recall: share of the exact ten best items that a search of the sample finds.
        probes: lists that a search reads, of `lists`.
    """

    def __init__(self, vectors: torch.Tensor, sample: torch.Tensor) -> None:
        import faiss

        host = np.ascontiguousarray(vectors.float().cpu().numpy())
        queries = np.ascontiguousarray(sample[:SAMPLE].float().cpu().numpy())
        self.lists = max(1, min(int(len(host) ** 0.5), len(host) // LEAST_ROWS))
        kind = f"IVF{self.lists},Flat"
        self.index = cast(Any, faiss.index_factory(host.shape[1], kind, faiss.METRIC_INNER_PRODUCT))
        # faiss takes no more than 256 vectors a list.
        rows = np.random.default_rng(0).permutation(len(host))[: 64 * self.lists]
        self.index.train(host[np.sort(rows)])
        self.index.add(host)
        exact = (
            (torch.from_numpy(queries) @ torch.from_numpy(host).T).topk(min(DEPTH, len(host)), dim=1).indices.numpy()
        )
        self.probes = self.index.nprobe = 1
        self.recall = self._recall(queries, exact)
        while self.recall < RECALL and self.probes < self.lists:
            self.probes = self.index.nprobe = min(2 * self.probes, self.lists)
            self.recall = self._recall(queries, exact)

    def _recall(self, queries: np.ndarray, exact: np.ndarray) -> float:
        found = self.index.search(queries, exact.shape[1])[1]
        return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, exact, strict=True)]))

    @property
    def worthwhile(self) -> bool:
        """Whether it reads so little that it is faster than exact search."""
        return self.probes <= MOST_PROBES * self.lists

    def search(self, queries: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores and rows of the best items, [n, k] each; -1 where fewer were found.

        Args:
            queries: float32 [n, d].
            k: items for each query.
        """
        scores, rows = self.index.search(np.ascontiguousarray(queries.float().cpu().numpy()), k)
        return torch.from_numpy(scores), torch.from_numpy(rows)

    def write(self, path: Path) -> None:
        """Write it in faiss's own format.

        Args:
            path: of the file.
        """
        import faiss

        faiss.write_index(self.index, str(path))
