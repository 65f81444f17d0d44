"""The state of a training on packs as a checkpoint, and back: weights, best weights, optimiser, order, random state."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from recbole_recfound.model.trained import load_trained, trained_tensors
from recbole_recfound.trainer.checkpoint import Checkpoint
from recbole_recfound.trainer.optimizer import load_optimizer_tensors, optimizer_tensors
from recbole_recfound.trainer.random_numbers import random_numbers, set_random_numbers

if TYPE_CHECKING:
    from recbole_recfound.trainer.m6rec import M6RecTrainer

NUMBERS = (
    "prepared",
    "cache_seconds",
    "prepare_seconds",
    "validation_seconds",
    "curve",
    "losses",
    "stale",
    "best_step",
    "best_valid_score",
    "best_valid_result",
)
"""Attributes of the trainer that are JSON values."""


def checkpoint_of(trainer: M6RecTrainer) -> Checkpoint:
    """Return everything that an exact resume of a training needs."""
    resume = {f"optimizer.{key}": value for key, value in optimizer_tensors(trainer.optimizer).items()}
    resume |= {f"best.{name}": value for name, value in trainer.best.items()}
    resume |= {f"random.{name}": value for name, value in random_numbers(trainer.device).items()}
    state = {
        "backbone": trainer.model.lm.fingerprint,
        "order": trainer.order.state_dict(),
        "began": trainer.began - trainer.plan.start,
        "seconds": trainer.trained_seconds,
        "spent": trainer.plan.spent(),
        **{name: getattr(trainer, name) for name in NUMBERS},
    }
    return Checkpoint(trainer.steps, trained_tensors(trainer.model.saved_state()), resume, state)


def restore(trainer: M6RecTrainer, checkpoint: Checkpoint) -> None:
    """Continue exactly where a checkpoint was taken; the time that was used then counts.

    Args:
        trainer: of the same settings, with its order; changed in place.
        checkpoint: what `checkpoint_of` returned.

    Raises:
        DataError: it belongs to another backbone or to other settings.
    """
    model, state = trainer.model, checkpoint.state
    assert trainer.store is not None, "it has this checkpoint"
    checkpoint.check_backbone(model.lm.fingerprint, trainer.config["backbone"], trainer.store.folder)
    load_trained(model.saved_state(), checkpoint.trained)
    load_optimizer_tensors(trainer.optimizer, checkpoint.group("optimizer"))
    trainer.best = {name: value.to(trainer.device) for name, value in checkpoint.group("best").items()}
    trainer.steps = checkpoint.step
    trainer.order.load_state_dict(state["order"])
    for name in NUMBERS:
        setattr(trainer, name, state[name])
    trainer.plan.resume(state["spent"])
    trainer.began = trainer.plan.start + state["began"]
    trainer.seconds_before, trainer.continued = state["seconds"], time.monotonic()
    trainer.set_deadline()
    set_random_numbers(checkpoint.group("random"), trainer.device)
