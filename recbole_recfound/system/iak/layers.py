"""`--list_layers`: the sub-modules of a checkpoint, where kernels can be attached."""

from __future__ import annotations

from safetensors.torch import load_file

from recbole_recfound.errors import ConfigError
from recbole_recfound.model.pretrained import layer_table, read_base
from recbole_recfound.system.request import Request


def list_layers(request: Request) -> str:
    """Return a table of the sub-modules of `base_checkpoint`, without loading any data.

    Raises:
        ConfigError: no checkpoint is named, or it may not be opened.
    """
    settings = request.settings
    if not settings.get("base_checkpoint"):
        raise ConfigError("list_layers: name a checkpoint with --base_checkpoint=PATH")
    checkpoint = read_base(settings["base_checkpoint"], settings.get("trust_checkpoint", False))
    # A RecFound run: the parts around its backbone.
    weights = checkpoint.weights or load_file(checkpoint.path / "head.safetensors")
    return layer_table(checkpoint.model, weights)
