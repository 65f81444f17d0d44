"""The state of a training of kernels as a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from recbole_recfound.trainer.checkpoint import Checkpoint
from recbole_recfound.trainer.random_numbers import random_numbers, set_random_numbers

if TYPE_CHECKING:
    from recbole_recfound.trainer.kernels import KernelTrainer

LISTS = ("best", "best_epoch", "stale", "stopped", "trained")
"""Attributes with an array [D] for each type of domain."""


def checkpoint_of(trainer: KernelTrainer) -> Checkpoint:
    """Return everything that an exact resume of a training needs."""
    trained = {f"{bank}.{place}": weight.detach() for bank, place, weight in _weights(trainer)}
    resume = {f"kept.{bank}.{place}": trainer.kept[bank][place] for bank, place, _ in _weights(trainer)}
    for phase, optimizers in trainer.optimizers.items():
        for bank, place, weight in _weights(trainer):
            moments = optimizers[bank].state.get(weight, {})
            resume |= {f"optimizer.{phase}.{bank}.{place}.{name}": value for name, value in moments.items()}
    resume |= {f"random.{name}": state for name, state in random_numbers(trainer.device).items()}
    fitted = trainer.fitted
    state = {
        "lists": {name: [array.tolist() for array in getattr(trainer, name)] for name in LISTS},
        "sampler": trainer.sampler.stopped.tolist(),
        "epoch": [trainer.epoch, trainer.position, trainer.phase],
        "fitted": [fitted.history, fitted.steps.tolist()],
        "seconds": trainer.seconds(),
        "spent": trainer.plan.spent(),
    }
    return Checkpoint(len(fitted.history), trained, resume, state)


@torch.no_grad()
def restore(trainer: KernelTrainer, checkpoint: Checkpoint) -> None:
    """Continue exactly where a checkpoint was taken.

    Args:
        trainer: of the same settings, ready for its first epoch; changed in place.
        checkpoint: what `checkpoint_of` returned.
    """
    state = checkpoint.state
    for bank, place, weight in _weights(trainer):
        weight.copy_(checkpoint.trained[f"{bank}.{place}"])
        trainer.kept[bank][place].copy_(checkpoint.resume[f"kept.{bank}.{place}"])
        for phase, optimizers in trainer.optimizers.items():
            moments = checkpoint.group(f"optimizer.{phase}.{bank}.{place}")
            if moments:
                optimizers[bank].state[weight] = {name: value.to(weight.device) for name, value in moments.items()}
    for name, values in state["lists"].items():
        kinds = [array.dtype for array in getattr(trainer, name)]
        setattr(trainer, name, [np.array(each, kind) for each, kind in zip(values, kinds, strict=True)])
    trainer.sampler.stopped = np.array(state["sampler"], dtype=bool)
    trainer.epoch, trainer.position, trainer.phase = state["epoch"]
    trainer.fitted.history, steps = state["fitted"]
    trainer.fitted.steps = np.array(steps, dtype=np.int64)
    trainer.began -= state["seconds"]
    set_random_numbers(checkpoint.group("random"), trainer.device)


def _weights(trainer: KernelTrainer) -> Iterator[tuple[int, int, torch.nn.Parameter]]:
    """Yield the parameters of all banks: number of the bank, place in the bank, parameter."""
    for number, bank in enumerate(trainer.model.banks):
        for place, weight in enumerate(bank.parameters()):
            yield number, place, weight
