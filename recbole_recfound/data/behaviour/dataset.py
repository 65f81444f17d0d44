"""A RecBole data set whose rows can be found again in one log of all parts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource, FeatureType

from recbole_recfound.atomic.times import in_seconds
from recbole_recfound.compat.raw_column import as_in_file, frame_numbers, raw_range
from recbole_recfound.data.behaviour.log import Log
from recbole_recfound.data.behaviour.read import SECONDS, read_log

ROW = "behaviour_row"
"""Column of a batch, int64 [B]: the place of a row in the log of all parts."""


class BehaviourDataset(Dataset):
    """RecBole's `Dataset` with a log of its interactions.

    Attributes:
        log: training, validation and test rows, one after the other; None before `build`.
        log_sizes: rows of each part.
        keeps_missing: an interaction without a rating has no rating (NaN), rather than the mean of others.
    """

    keeps_missing = True
    log: Log | None = None
    log_sizes: tuple[int, ...] = ()

    def _set_label_by_threshold(self) -> None:
        """Make labels as RecBole does, and keep the column that they are made of.

        RecBole drops it, since its models would read a row's own value; here only those of earlier rows are read.
        """
        graded = {
            field: self.inter_feat[field].copy()
            for field in self.config["threshold"] or {}
            if field in self.inter_feat and field != self.label_field
        }
        super()._set_label_by_threshold()
        for field, values in graded.items():
            self.set_field_property(field, FeatureType.FLOAT, FeatureSource.INTERACTION, 1)
            self.inter_feat[field] = values

    def _change_feat_format(self) -> None:
        """Make tensors of the columns as RecBole does, and keep the times in full beside its single precision."""
        frame = self.inter_feat
        if isinstance(frame, pd.DataFrame) and self.time_field in frame:
            self.set_field_property(SECONDS, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
            times = torch.tensor(frame_numbers(self, self.time_field))
            found = as_in_file(times, raw_range(self, self.time_field)).numpy()
            frame[SECONDS] = in_seconds(found).view(np.int64)  # RecBole keeps tokens as 64 bits
        super()._change_feat_format()

    def build(self) -> list[Dataset]:
        """Split as RecBole does, and number the rows of all parts."""
        parts = super().build()
        sizes = tuple(len(part.inter_feat) for part in parts)
        log = read_log(parts)
        starts = np.cumsum([0, *sizes])
        for part, start, size in zip(parts, starts[:-1], sizes, strict=True):
            part.inter_feat.interaction[ROW] = torch.arange(start, start + size)
            part.log, part.log_sizes = log, sizes
        return parts
