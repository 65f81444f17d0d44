"""Frozen weights divided among processes (FSDP2 of torch): each process keeps a part of every decoder layer."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from recbole_recfound.runtime.ranks import world


def shard_frozen(layers: nn.ModuleList, device: torch.device) -> None:
    """Divide the frozen weights of decoder layers among all processes; a layer gathers its own for its passes.

    What is trained stays whole on every process: it is small, and gradients, checkpoints and merging need it. From now
    on every process must make the same passes in the same order.

    Args:
        layers: decoder layers with their adapter, changed in place.
        device: of this process.
    """
    mesh = init_device_mesh(device.type, (world(),))
    for layer in layers:
        trained = {weight for weight in layer.parameters() if weight.requires_grad}
        fully_shard(layer, mesh=mesh, ignored_params=trained)
