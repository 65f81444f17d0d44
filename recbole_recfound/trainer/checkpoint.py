"""Checkpoints of a run: trained tensors for merging, and all that an exact resume needs. Safetensors and JSON only."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from recbole_recfound.errors import DataError

TRAINED = "trained.safetensors"
RESUME = "resume.safetensors"
STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """One saved step.

    Attributes:
        step: optimiser steps done.
        trained: trained tensors by parameter name.
        resume: optimiser, buffers and random states; {} in a checkpoint kept for merging only.
        state: numbers and histories.
    """

    step: int
    trained: dict[str, torch.Tensor]
    resume: dict[str, torch.Tensor]
    state: dict[str, Any]


def base_fingerprint(state: Mapping[str, torch.Tensor]) -> str:
    """Hash the names, types and values of a base checkpoint (SHA-256), to be saved with everything trained from it."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().contiguous().cpu()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class CheckpointStore:
    """Checkpoints in a folder, one sub-folder per step, complete or absent.

    The newest and the best can be resumed from; the last `keep` stay as candidates for merging.

    Args:
        folder: `trainer_state` of the run.
        keep: checkpoints kept besides the first and the best.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, checkpoint: Checkpoint, best_step: int) -> None:
        """Write a checkpoint beside the others, rename it into place, then drop what is no longer needed.

        Args:
            checkpoint: the step to write.
            best_step: the best step so far, whose checkpoint is kept whole.
        """
        target = self.path_of(checkpoint.step)
        partial = target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(_contiguous(checkpoint.trained), partial / TRAINED)
        if checkpoint.resume:
            save_file(_contiguous(checkpoint.resume), partial / RESUME)
        (partial / STATE).write_text(json.dumps(checkpoint.state))
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        self._prune(best_step)

    def steps(self) -> list[int]:
        """Return the saved steps, ascending; 0 is the model before training."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name[5:]) for path in self.folder.glob("step-*") if path.name[5:].isdigit())

    def load(self, step: int, device: torch.device) -> Checkpoint:
        """Read one checkpoint.

        Args:
            step: optimiser steps done, one of `steps`.
            device: where the trained tensors are put; those of `resume` stay on the host.

        Raises:
            DataError: a file is missing or damaged.
        """
        return self.read(self.path_of(step), device)

    @staticmethod
    def read(folder: Path, device: torch.device) -> Checkpoint:
        """Read the checkpoint in a folder; see `load`.

        Args:
            folder: of one checkpoint, named as by `path_of`.
            device: where the trained tensors are put; those of `resume` stay on the host.
        """
        try:
            step = int(folder.name.removeprefix("step-"))
            trained = load_file(folder / TRAINED, device=str(device))
            # Random states are always on the host; the optimiser moves its own tensors.
            resume = load_file(folder / RESUME) if (folder / RESUME).is_file() else {}
            state = json.loads((folder / STATE).read_text())
        except Exception as error:
            raise DataError(f"{folder}: checkpoint cannot be read ({error}). Delete the folder to continue") from None
        return Checkpoint(step, trained, resume, state)

    def clear(self) -> None:
        """Remove all checkpoints."""
        for step in self.steps():
            shutil.rmtree(self.path_of(step))

    def path_of(self, step: int) -> Path:
        """Return the folder of a step."""
        return self.folder / f"step-{step:07d}"

    def _prune(self, best_step: int) -> None:
        steps = [step for step in self.steps() if step > 0]
        recent = steps[-self.keep :]
        for step in steps:
            if step not in recent and step != best_step:
                shutil.rmtree(self.path_of(step))
            elif step not in (steps[-1], best_step):
                (self.path_of(step) / RESUME).unlink(missing_ok=True)


def trained_tensors(parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy the trained parameters, detached."""
    return {name: weight.detach().clone() for name, weight in parameters.items()}


@torch.no_grad()
def load_trained(parameters: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy saved tensors into the parameters.

    Args:
        parameters: trained parameters by name, changed in place.
        tensors: saved values by the same names.

    Raises:
        DataError: names or shapes differ.
    """
    missing = set(parameters) ^ set(tensors)
    if missing:
        raise DataError(f"checkpoint and model differ in '{sorted(missing)[0]}': it belongs to other settings")
    for name, weight in parameters.items():
        if weight.shape != tensors[name].shape:
            raise DataError(f"checkpoint has '{name}' as {tuple(tensors[name].shape)}, the model {tuple(weight.shape)}")
        weight.copy_(tensors[name])


def _contiguous(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
