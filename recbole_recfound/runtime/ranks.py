"""The processes of a run, as their launcher (`accelerate launch`, `torchrun`) names them in the environment."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


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
    return world() > 1 and _asked("ACCELERATE_USE_FSDP")


def asks_for_deepspeed() -> bool:
    """Return whether the launcher's file is one of DeepSpeed, whatever the number of processes."""
    return _asked("ACCELERATE_USE_DEEPSPEED")


def uses_deepspeed() -> bool:
    """Return whether the processes divide the optimiser's state (`accelerate launch` with DeepSpeed)."""
    return world() > 1 and asks_for_deepspeed()


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
