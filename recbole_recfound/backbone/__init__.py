"""The frozen language model: loading, depth and pooling."""

from recbole_recfound.backbone.bundled import BUNDLED
from recbole_recfound.backbone.depth import (
    Decoder,
    check_bidirectional,
    decode,
    decoder_of,
    embedding_norm,
    first_layers,
    last_layers,
)
from recbole_recfound.backbone.head import head_of, logits_of
from recbole_recfound.backbone.load import Backbone, load_backbone
from recbole_recfound.backbone.pooling import mean_pool
from recbole_recfound.runtime.precision import full_precision

__all__ = [
    "BUNDLED",
    "Backbone",
    "Decoder",
    "check_bidirectional",
    "decode",
    "decoder_of",
    "embedding_norm",
    "first_layers",
    "full_precision",
    "head_of",
    "last_layers",
    "load_backbone",
    "logits_of",
    "mean_pool",
]
