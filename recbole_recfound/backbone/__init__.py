"""The frozen language model under everything: loading, depth, pooling."""

from recbole_recfound.backbone.bundled import BUNDLED
from recbole_recfound.backbone.depth import check_bidirectional, decode, first_layers
from recbole_recfound.backbone.load import Backbone, load_backbone
from recbole_recfound.backbone.pooling import mean_pool
from recbole_recfound.runtime.precision import full_precision

__all__ = [
    "BUNDLED",
    "Backbone",
    "check_bidirectional",
    "decode",
    "first_layers",
    "full_precision",
    "load_backbone",
    "mean_pool",
]
