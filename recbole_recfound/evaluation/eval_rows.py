"""All rows of an evaluation at once; any subset can be scored by any model through RecBole's evaluator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.interaction import Interaction
from torch.nn import functional as F

from recbole_recfound.errors import ConfigError

Batch = tuple[Interaction, Any, torch.Tensor | None, torch.Tensor | None]
SCORES_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class EvalRows:
    """All batches of a RecBole evaluation loader, concatenated.

    Attributes:
        interaction: N rows: users to rank for, or labelled clicks.
        ranking: whether all items are ranked for each row.
        masked: int64 [m, 2], (row, item) excluded from the ranking.
        positive: int64 [p, 2], (row, item) of the targets.
        num_items: number of items, including the padding id.
    """

    interaction: Interaction
    ranking: bool
    masked: torch.Tensor
    positive: torch.Tensor
    num_items: int

    def __len__(self) -> int:
        return len(self.interaction)

    @classmethod
    def of(cls, loader: Any) -> EvalRows:
        """Read a loader to its end.

        Raises:
            ConfigError: the loader ranks sampled candidates.
        """
        ranking = isinstance(loader, FullSortEvalDataLoader)
        parts, masked, positive, start = [], [], [], 0
        for interaction, mask, positive_u, positive_i in loader:
            if not ranking and mask is not None:
                raise ConfigError(
                    "eval_args: domains are scored by full ranking or on labelled rows (mode: full or labeled)"
                )
            parts.append(interaction)
            if mask is not None:
                masked.append(torch.stack([mask[0] + start, mask[1]], dim=1))
            if positive_u is not None:
                positive.append(torch.stack([positive_u + start, positive_i], dim=1))
            start += len(interaction)
        none = torch.zeros(0, 2, dtype=torch.long)
        return cls(
            _joined(parts), ranking, torch.cat([none, *masked]), torch.cat([none, *positive]), loader._dataset.item_num
        )

    def batches(self, index: torch.Tensor, smallest: int = 256) -> Iterator[Batch]:
        """Return some rows in the form of RecBole's loader.

        Args:
            index: int64 [n], rows in ascending order.
            smallest: minimum rows of a batch, for any number of items.
        """
        size = max(smallest, SCORES_AT_ONCE // self.num_items) if self.ranking else 8192
        for start in range(0, len(index), size):
            rows = index[start : start + size]
            if not self.ranking:
                yield self.interaction[rows], None, None, None
                continue
            place = torch.full((len(self),), -1, dtype=torch.long)
            place[rows] = torch.arange(len(rows))
            masked, positive = (pairs[place[pairs[:, 0]] >= 0] for pairs in (self.masked, self.positive))
            mask = (place[masked[:, 0]], masked[:, 1])
            yield self.interaction[rows], mask, place[positive[:, 0]], positive[:, 1]


def _joined(parts: list[Interaction]) -> Interaction:
    """Concatenate batches; histories of different lengths are right-padded with 0."""
    columns = {}
    for name in parts[0].columns:
        tensors = [part[name] for part in parts]
        if tensors[0].dim() == 2:
            width = max(tensor.shape[1] for tensor in tensors)
            tensors = [F.pad(tensor, (0, width - tensor.shape[1])) for tensor in tensors]
        columns[name] = torch.cat(tensors)
    return Interaction(columns)
