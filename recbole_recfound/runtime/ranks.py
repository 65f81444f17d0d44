"""The processes of a run, as their launcher (`accelerate launch`, `torchrun`) names them in the environment."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from accelerate.utils import DeepSpeedPlugin, is_deepspeed_available

from recbole_recfound.errors import ConfigError, cause_of

_FSDP, _DEEPSPEED = "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"
"""Switches that `accelerate launch` sets for its own file."""


def world() -> int:
    """Return how many processes train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ.get("RANK", 0)) if world() > 1 else 0


def local_rank() -> int:
    """Return the number of this process on its machine, which is also the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", rank())) if world() > 1 else 0


def shards() -> bool:
    """Return whether the processes divide the frozen weights (`accelerate launch` with FSDP)."""
    return world() > 1 and _asked(_FSDP)


def uses_deepspeed() -> bool:
    """Return whether the processes divide the optimiser's state (`accelerate launch` with DeepSpeed)."""
    return world() > 1 and _asked(_DEEPSPEED)


def check_deepspeed() -> None:
    """Refuse what DeepSpeed is asked for and does not do here.

    Raises:
        ConfigError: it is not installed; another stage than 1, or offloading; its own file cannot be read.
    """
    if not _asked(_DEEPSPEED):
        return
    if not is_deepspeed_available():
        raise ConfigError("accelerate: DeepSpeed is not installed: pip install 'recbole_recfound[deepspeed]'")
    try:
        asked = DeepSpeedPlugin()
    except (ValueError, OSError) as error:
        raise ConfigError(f"accelerate: the file of DeepSpeed cannot be used ({cause_of(error)})") from None
    offloads = {asked.offload_optimizer_device, asked.offload_param_device} - {None, "none"}
    if asked.zero_stage != 1 or offloads:
        further = f" and offloading to {sorted(offloads)[0]}" if offloads else ""
        raise ConfigError(
            f"accelerate: got DeepSpeed with zero_stage {asked.zero_stage}{further}, expected stage 1 without "
            "offloading (properties/accelerate/deepspeed.yaml). Frozen weights are divided by fsdp2.yaml"
        )


def _asked(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true")


def is_main() -> bool:
    """Return whether this process writes, prints and decides for all."""
    return rank() == 0


@contextmanager
def main_speaks() -> Iterator[None]:
    """Let only the main process print and log inside the block."""
    if is_main():
        yield
        return
    earlier = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            yield
    finally:
        logging.disable(earlier)
