"""Accelerate's engine for the device and precision of a run."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, patch_environment

from recbole_recfound.data.batches import BatchOptions
from recbole_recfound.runtime.device import choose_precision, is_gpu
from recbole_recfound.runtime.ranks import world


def build_accelerator(config: Any) -> Accelerator:
    """Return accelerate's engine for the device and precision of a run.

    Args:
        config: `device`, `precision` and `batch_args`.
    """
    device = config["device"]
    if AcceleratorState._shared_state:
        # accelerate fixes precision and device at a process's first run for all later ones.
        AcceleratorState._reset_state(reset_partial_state=world() == 1)
    if is_gpu(device) and device.index is not None:
        # accelerate uses the current device.
        torch.accelerator.set_device_index(device.index)
    # Frozen weights are divided already (`shard_frozen`), the state of the optimiser will be (`DividedOptimizer`).
    with patch_environment(accelerate_use_fsdp="false", accelerate_use_deepspeed="false"):
        return Accelerator(
            mixed_precision=choose_precision(config["precision"], device),
            cpu=not is_gpu(device),
            gradient_accumulation_steps=BatchOptions.of(config["batch_args"], "batch_args").accumulation,
            # An expert that no row of a step has opened gets no gradient; buffers are computed alike on all processes.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)],
        )
