"""Data: from tasks to batches."""

from recbole_recfound.data.batches import GenerativeBatch, PairBatch, SequenceBatch, StepBatch
from recbole_recfound.data.collate import IGNORED, RECORD, Collator
from recbole_recfound.data.loader import MultiTaskLoader, scheduler_groups, scheduler_sizes

__all__ = [
    "IGNORED",
    "RECORD",
    "Collator",
    "GenerativeBatch",
    "MultiTaskLoader",
    "PairBatch",
    "SequenceBatch",
    "StepBatch",
    "scheduler_groups",
    "scheduler_sizes",
]
