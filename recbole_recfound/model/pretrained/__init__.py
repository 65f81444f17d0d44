"""The trained recommender that is fine-tuned: its checkpoint, and the place in it where kernels are attached."""

from recbole_recfound.model.pretrained.attach import Attachment, forget_cached, probe
from recbole_recfound.model.pretrained.checkpoint import BaseCheckpoint, base_hash, read_base, write_base
from recbole_recfound.model.pretrained.families import Family, family_of
from recbole_recfound.model.pretrained.layers import layer_table
from recbole_recfound.model.pretrained.share import rows_of_base

__all__ = [
    "Attachment",
    "BaseCheckpoint",
    "Family",
    "base_hash",
    "family_of",
    "forget_cached",
    "layer_table",
    "probe",
    "read_base",
    "rows_of_base",
    "write_base",
]
