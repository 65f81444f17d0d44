"""Full-ranking loader with one rule of masking for all kinds of models."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.sampler import RepeatableSampler, Sampler

from recbole_recfound.data.split.histories import Histories
from recbole_recfound.data.split.history_dataset import add_histories

SCORES = 1 << 22
"""Scores in a batch of RecBole's general models: 16 MB, and some 100 MB where a model scores pairs."""
MOST_SCORES = 1 << 27
"""Most scores in a batch of its sequential models and of ours."""


class FairEvalDataLoader(FullSortEvalDataLoader):
    """RecBole's full-ranking loader with `mask_history` for both general and sequential models.

    RecBole masks the user's history for general models and never for sequential ones, which changes scores by a factor
    of 1.2 to 6.3. Here all items of the user that are known at this phase are masked, including those before a
    truncated sequence, except the targets.

    Args:
        config: the run's settings; `mask_history` turns the mask on or off.
        dataset: built validation or test set.
        sampler: RecBole's sampler of this phase.
        known: each user's history before this phase.
        with_histories: whether batches carry the histories themselves, for our models: `item_id_list` int64 [B, L],
            right-padded with 0 and cut to the last `MAX_ITEM_LIST_LENGTH` items, and `item_length` int64 [B]. Batches
            are then `eval_batch_size` users. For RecBole's models these are scores, one or two users a batch, which
            takes most of a run: batches are `SCORES` scores, if that is more.
        masks: whether histories are masked; None: as `mask_history` says.
        share: rank of a process and number of processes; the loader has rows `rank`, `rank + processes`, ...
        among: int64, items that are ranked alone; None: all.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        sampler: Sampler | RepeatableSampler,
        *,
        known: Histories,
        with_histories: bool,
        masks: bool | None = None,
        share: tuple[int, int] = (0, 1),
        among: np.ndarray | None = None,
    ) -> None:
        self.first, self.every = share
        self.among = among
        self.known = known
        self.masks = config["mask_history"] if masks is None else masks
        self.with_histories = with_histories
        rows = copy.copy(dataset)
        if with_histories:
            rows.histories = None  # joined batch by batch: the padded histories of all users need much memory
        super().__init__(config, rows, sampler, shuffle=False)
        self._dataset = dataset

    def _init_batch_size_and_step(self) -> None:
        super()._init_batch_size_and_step()
        if self.with_histories:
            self.step = max(1, min(self.config["eval_batch_size"], MOST_SCORES // self._dataset.item_num))
        elif self.is_sequential:
            self.step = max(1, min(self.step, MOST_SCORES // self._dataset.item_num))
        else:
            self.step = max(self.step, SCORES // self._dataset.item_num)
        self.set_batch_size(self.step)

    def collate_fn(
        self, index: list[int]
    ) -> tuple[Interaction, tuple[Any, torch.Tensor] | None, torch.Tensor, torch.Tensor]:
        """Return RecBole's batch: interaction, (row, item) to mask or None, and rows and items of the targets."""
        interaction, _, positive_u, positive_i = super().collate_fn(index)
        users = interaction[self.uid_field].numpy()
        if self.with_histories:
            add_histories(interaction, self.known, self._dataset)
        masked: tuple[Any, torch.Tensor] | None = None
        if self.among is not None:
            others = np.setdiff1d(np.arange(self._dataset.item_num), self.among)
            masked = slice(None), torch.from_numpy(others)
        elif self.masks:
            masked = self._masked(users, positive_u.numpy(), positive_i.numpy())
        return interaction, masked, positive_u, positive_i

    def rows_of(self, users: torch.Tensor) -> Interaction:
        """Return what a model reads of some users, as the batches carry it.

        Args:
            users: int64 [B], each with one row in this part.
        """
        own = self._dataset.inter_feat[self.uid_field] if self.is_sequential else self.uid_list
        places = torch.zeros(self._dataset.user_num, dtype=torch.int64)
        places[own] = torch.arange(len(own))
        return self.collate_fn(places[users].tolist())[0]

    def unmasked(self) -> FairEvalDataLoader:
        """Return a loader of the same rows whose ranking holds the user's old items too."""
        return self._with(masks=False)

    def only(self, items: np.ndarray) -> FairEvalDataLoader:
        """Return a loader of the same rows that ranks some items alone.

        Args:
            items: int64 ids, of which no history has any.
        """
        return self._with(among=items)

    def share(self, rank: int, processes: int) -> FairEvalDataLoader:
        """Return a loader of the rows of one process.

        Args:
            rank: of the process.
            processes: their number.
        """
        return self._with(share=(rank, processes))

    def _with(self, **changed: Any) -> FairEvalDataLoader:
        options = {"masks": self.masks, "share": (self.first, self.every), "among": self.among, **changed}
        return FairEvalDataLoader(
            self.config,
            self._dataset,
            self._sampler,
            known=self.known,
            with_histories=self.with_histories,
            **options,
        )

    def __iter__(self) -> Iterator[Any]:
        if self.every == 1:
            return super().__iter__()
        rows = list(range(self.first, self.sample_size, self.every))
        chunks = (rows[start : start + self.step] for start in range(0, len(rows), self.step))
        return (self.collate_fn(chunk) for chunk in chunks)

    def __len__(self) -> int:
        return -(-len(range(self.first, self.sample_size, self.every)) // self.step)

    def _masked(
        self, users: np.ndarray, positive_u: np.ndarray, positive_i: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        row, item = self.known.flat(users)
        width = self._dataset.item_num
        keep = ~np.isin(row * width + item, positive_u * width + positive_i)
        return torch.from_numpy(row[keep]), torch.from_numpy(item[keep])
