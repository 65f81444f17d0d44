"""The choice of the device, made here alone, and the memory that a run takes there."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.ranks import local_rank, world

if TYPE_CHECKING:
    import torch

PEAK, PEAK_GPU = "peak_memory_gib", "peak_gpu_memory_gib"
"""Names of a run's largest memory, see `peak_memory`."""


def choose_device(use_gpu: bool | None, gpu_id: str | int | Sequence[int | str] | None) -> torch.device:
    """Return the device for every tensor of a run.

    `use_gpu` empty: a GPU if there is one. True: a GPU, or an error. False (or `gpu_id: ''`, as RecBole users write):
    none. `gpu_id` counts the GPUs that CUDA_VISIBLE_DEVICES leaves visible; of several ids, a single process takes the
    first. Of several processes each takes the GPU of its own number on its machine, and with `accelerate launch --cpu`
    none.

    Args:
        use_gpu: see above.
        gpu_id: number of the GPU, or several.

    Raises:
        ConfigError: a GPU is demanded and absent, or `gpu_id` is not one of the visible GPUs.
    """
    import torch

    demanded, ids = use_gpu, gpu_id
    if world() > 1:
        demanded = False if os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true") else use_gpu
        ids = gpu_id and local_rank()
    first = (
        str(ids[0] if isinstance(ids, (list, tuple)) and ids else "" if ids in (None, [], ()) else ids)
        .split(",")[0]
        .strip()
    )
    if demanded is False or (not first and not demanded):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        if demanded:
            raise ConfigError(
                "use_gpu: got True, but torch finds no CUDA device. Leave use_gpu empty or set it to False to run "
                "on the CPU"
            )
        return torch.device("cpu")
    if not first.isdecimal():
        raise ConfigError(f"gpu_id: {ids!r} is not the number of a GPU; set use_gpu: False to run without one")
    visible = torch.cuda.device_count()
    if int(first) >= visible:
        raise ConfigError(
            f"gpu_id: {first}, but only {visible} GPU(s) are visible: 0 to {visible - 1} (CUDA_VISIBLE_DEVICES counts)"
        )
    return torch.device("cuda", int(first))


def is_gpu(device: torch.device) -> bool:
    """Return whether a device is anything but the CPU."""
    return device.type != "cpu"


def choose_precision(setting: str | None, device: torch.device) -> str:
    """Resolve `precision` to accelerate's name, `bf16` or `no`.

    `auto` takes bf16 where the hardware multiplies it natively: recent CUDA devices, and processors with AVX-512 BF16
    or AMX. Elsewhere bf16 is emulated and slower than float32. The frozen backbone then has bf16 weights; what is
    trained stays float32.

    Args:
        setting: `auto`, `bf16`, or `float32` (also None).
        device: where the model runs.
    """
    import torch

    if setting != "auto":
        return "bf16" if setting == "bf16" else "no"
    if not is_gpu(device):
        return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "no"


def forget_peak_memory(device: torch.device) -> None:
    """Measure the largest memory of the tensors on a GPU from now on; that of the process counts from its start.

    Args:
        device: of the run.
    """
    import torch

    if is_gpu(device) and torch.cuda.is_initialized():  # before, there is nothing to forget, and an error
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_gib() -> float:
    """Return the largest resident memory of this process so far, in GiB."""
    import resource  # of Unix alone

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)  # bytes on macOS, KiB elsewhere


def peak_memory(device: torch.device) -> dict[str, float]:
    """Return the largest memory so far in GiB: resident memory of this process, and that of its tensors on a GPU.

    More than that of the tensors must be free on a GPU: the allocator's cache and CUDA itself come on top.

    Args:
        device: of the run.
    """
    import torch

    found = {PEAK: peak_memory_gib()}
    if is_gpu(device):
        found[PEAK_GPU] = torch.cuda.max_memory_allocated(device) / 2**30
    return found
