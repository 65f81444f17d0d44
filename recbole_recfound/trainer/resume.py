"""The state of a training as a checkpoint, and back: weights, optimiser, order of the data, random state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from recbole_recfound.errors import TrainingError
from recbole_recfound.model.recfound import RecFound
from recbole_recfound.model.trained import load_trained, trained_parameters, trained_tensors
from recbole_recfound.runtime.exchange import gather
from recbole_recfound.runtime.ranks import rank, world
from recbole_recfound.trainer.checkpoint import Checkpoint
from recbole_recfound.trainer.optimizer import load_optimizer_tensors, optimizer_tensors
from recbole_recfound.trainer.random_numbers import random_numbers, set_random_numbers

if TYPE_CHECKING:
    from recbole_recfound.trainer.recfound import RecFoundTrainer


def checkpoint_of(trainer: RecFoundTrainer) -> Checkpoint:
    """Return everything that an exact resume of a training needs."""
    resume = {f"optimizer.{key}": value for key, value in optimizer_tensors(trainer.optimizer).items()}
    resume |= {f"buffer.{key}": value for key, value in _buffers(trainer.model).items()}
    for number, states in enumerate(gather(random_numbers(trainer.device))):
        resume |= {f"{_random_of(number)}.{name}": state for name, state in states.items()}
    best = trainer.best_valid_result
    state = {
        "backbone": trainer.model.parts.fingerprint,
        "base": trainer.base,
        "loader": trainer.loader.state_dict(),
        "history": trainer.history,
        "smooth": trainer.smooth,
        "untrained": trainer.untrained,
        "best": [float(trainer.best_valid_score), trainer.best_step, trainer.stale],
        "best_valid_result": best and {k: float(v) for k, v in best.items()},
        "seconds": [trainer.trained_seconds, trainer.text_seconds, trainer.step_seconds, trainer.probes.seconds],
        "probe_turn": trainer.probes.turn,
        "spent": trainer.plan.spent(),
        "pace": trainer.pace.state_dict(),
        "costs": trainer.costs,
    }
    return Checkpoint(trainer.step, trained_tensors(trained_parameters(trainer.model)), resume, state)


def restore(trainer: RecFoundTrainer, checkpoint: Checkpoint) -> None:
    """Continue exactly where a checkpoint was taken: weights, optimiser, order of the data, random state.

    Args:
        trainer: of the same settings, with its loader; changed in place.
        checkpoint: what `checkpoint_of` returned.

    Raises:
        TrainingError: the checkpoint is that of the untrained model.
        DataError: it belongs to another backbone or to other settings.
    """
    if not checkpoint.resume:
        raise TrainingError(f"checkpoint of step {checkpoint.step} is the untrained model and cannot be resumed")
    checkpoint.check_backbone(trainer.model.parts.fingerprint, trainer.config["backbone"], trainer.store.folder)
    trainer.refresh_items()
    load_trained(trained_parameters(trainer.model), checkpoint.trained)
    load_optimizer_tensors(trainer.optimizer, checkpoint.group("optimizer"))
    buffers = checkpoint.group("buffer")
    for name, buffer in _buffers(trainer.model).items():
        buffer.copy_(buffers[name])
    if states := checkpoint.group(_random_of(rank())):
        set_random_numbers(states, trainer.device)
    else:  # more processes than before: batches are the same, divided otherwise, and dropout draws other masks
        seed_process(trainer.config["seed"] + checkpoint.step * world())
    state = checkpoint.state
    trainer.step, trainer.base = checkpoint.step, state["base"]
    trainer.loader.load_state_dict(state["loader"])
    trainer.history, trainer.smooth, trainer.untrained = state["history"], state["smooth"], state["untrained"]
    trainer.best_valid_score, trainer.best_step, trainer.stale = state["best"]
    trainer.best_valid_result = state["best_valid_result"]
    trainer.trained_seconds, trainer.text_seconds, trainer.step_seconds, trainer.probes.seconds = state["seconds"]
    trainer.probes.turn = state["probe_turn"]
    trainer.costs = state["costs"]
    trainer.plan.resume(state["spent"])
    trainer.pace.load_state_dict(state["pace"])


def seed_process(seed: int) -> None:
    """Seed the dropout of a process, so that processes draw different masks; the main process keeps its state.

    Args:
        seed: of the run.
    """
    if rank():
        torch.manual_seed(seed + rank())


def _random_of(number: int) -> str:
    """Return the group of a process's random states in a checkpoint."""
    return f"random{number or ''}"


def _buffers(model: RecFound) -> dict[str, torch.Tensor]:
    """Return cached results of earlier weights that the model still uses."""
    return {"item_features": model.item_table.features}
