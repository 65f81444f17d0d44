"""Checkpoints of a run: trained tensors for merging, and all that an exact resume needs. Safetensors and JSON only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from recbole_recfound.errors import DataError, cause_of
from recbole_recfound.runtime.file_digests import check_digests, remove_folder, whole_folder
from recbole_recfound.runtime.tensor_files import save_tensors, tensors_digest

TRAINED = "trained.safetensors"
RESUME = "resume.safetensors"
STATE = "state.json"
STEP, INTERRUPTED = "step-", "interrupted-"
"""Names of the folders: checkpoints of the schedule, and the one of a step at which the run was interrupted."""


@dataclass(frozen=True)
class Checkpoint:
    """One saved step.

    Attributes:
        step: optimiser steps done.
        trained: trained tensors by parameter name.
        resume: optimiser, buffers and random states, each as "group.name"; {} for one that cannot be resumed.
        state: numbers and histories.
    """

    step: int
    trained: dict[str, torch.Tensor]
    resume: dict[str, torch.Tensor]
    state: dict[str, Any]

    def group(self, name: str) -> dict[str, torch.Tensor]:
        """Return the tensors of one group of `resume`; {} if there is none.

        Args:
            name: of the group.
        """
        return {key.removeprefix(f"{name}."): value for key, value in self.resume.items() if key.startswith(f"{name}.")}

    def check_backbone(self, fingerprint: str, backbone: str, folder: Path) -> None:
        """Refuse to continue on another backbone.

        Args:
            fingerprint: of the backbone that is loaded.
            backbone: its name.
            folder: of the checkpoints.

        Raises:
            DataError: the checkpoint was written with another one.
        """
        if self.state["backbone"] != fingerprint:
            raise DataError(
                f"{folder}: the checkpoints belong to another backbone ({self.state['backbone']}) than {backbone} "
                f"({fingerprint}): start a new run (resume: '')"
            )


def base_fingerprint(state: Mapping[str, torch.Tensor]) -> str:
    """Hash the names, types and values of a base checkpoint (SHA-256), to be saved with everything trained from it."""
    return tensors_digest(state)


class CheckpointStore:
    """Checkpoints in a folder, one sub-folder per step, complete or absent, each with the digests of its files.

    The first, the best and the last `keep` stay. A checkpoint that cannot be written (a full disk) stays in memory, so
    that training and merging continue without it on disk.

    Args:
        folder: `trainer_state` of the run.
        keep: checkpoints kept besides the first and the best.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        self._in_memory: dict[int, Checkpoint] = {}
        self._written = False

    def save(self, checkpoint: Checkpoint, best_step: int) -> bool:
        """Write a checkpoint, then drop what is no longer needed.

        Args:
            checkpoint: the step to write.
            best_step: the best step so far, whose checkpoint is kept.

        Returns:
            Whether it is on disk.

        Raises:
            DataError: the first checkpoint cannot be written, or the folder has been deleted since then.
        """
        try:
            self._write(checkpoint, self.path_of(checkpoint.step))
            self._in_memory.pop(checkpoint.step, None)
        except OSError as error:
            why = f"{self.folder}: checkpoint of step {checkpoint.step} cannot be written ({cause_of(error)})"
            if not self._written or not self.folder.is_dir():
                raise DataError(why) from None
            if not self._in_memory:
                last = max(self._on_disk(STEP), default=0)
                print(f"note: {why}: training continues, step {last} is the last that can be resumed", flush=True)
            # The tensors of the optimiser are not copies: they change with the next step.
            self._in_memory[checkpoint.step] = replace(checkpoint, resume={})
        self._written = True
        self._prune(best_step)
        return checkpoint.step not in self._in_memory

    def follow(self, checkpoint: Checkpoint, written: bool) -> None:
        """Do what the main process has done with a checkpoint that all processes have.

        Args:
            checkpoint: the same step.
            written: whether it is on disk; else it stays in memory here as well.
        """
        self._in_memory.pop(checkpoint.step, None)
        if not written:
            self._in_memory[checkpoint.step] = replace(checkpoint, resume={})

    def remove(self, steps: Sequence[int]) -> None:
        """Remove checkpoints that are needed no more; some may be gone already.

        Args:
            steps: of the checkpoints.
        """
        for step in steps:
            self._in_memory.pop(step, None)
            remove_folder(self.path_of(step))

    def save_interrupted(self, checkpoint: Checkpoint) -> str:
        """Write the checkpoint of a step outside of the schedule: it can be resumed and is no candidate for merging.

        Returns:
            What was saved, as text.

        Raises:
            DataError: it cannot be written.
        """
        try:
            self._write(checkpoint, self.path_of(checkpoint.step, INTERRUPTED))
        except OSError as error:
            raise DataError(f"{self.folder}: step {checkpoint.step} cannot be written ({cause_of(error)})") from None
        return f"step {checkpoint.step} is saved"

    def steps(self) -> list[int]:
        """Return the saved steps, ascending; 0 is the model before the first step."""
        return sorted({*self._on_disk(STEP), *self._in_memory})

    def load(self, step: int, device: torch.device) -> Checkpoint:
        """Read one checkpoint.

        Args:
            step: optimiser steps done, one of `steps`.
            device: where the trained tensors are put; those of `resume` stay on the host.

        Raises:
            DataError: a file is missing or damaged.
        """
        if step in self._in_memory:
            return self._in_memory[step]
        return self.read(self.path_of(step), device)

    @staticmethod
    def read(folder: Path, device: torch.device) -> Checkpoint:
        """Read the checkpoint in a folder; see `load`.

        Args:
            folder: of one checkpoint, named as by `path_of`.
            device: where the trained tensors are put; those of `resume` stay on the host.
        """
        try:
            step = int(folder.name.rpartition("-")[2])
            check_digests(folder)
            trained = load_file(folder / TRAINED, device=str(device))
            # Random states are always on the host; the optimiser moves its own tensors.
            resume = load_file(folder / RESUME) if (folder / RESUME).is_file() else {}
            state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        except Exception as error:
            raise DataError(
                f"{folder}: the checkpoint is damaged ({cause_of(error)}). A resumed run continues from the one before "
                "it: --resume and the run folder"
            ) from None
        return Checkpoint(step, trained, resume, state)

    def newest(self, device: torch.device) -> Checkpoint | None:
        """Return the newest checkpoint that can be resumed; None for a run without one.

        Damaged checkpoints are removed with a note: nothing may read them later.

        Args:
            device: see `load`.
        """
        self._written = self.folder.is_dir()
        for path in self.folder.glob("*.partial"):
            shutil.rmtree(path)
        removed = []
        for path in sorted(self.folder.glob(f"{STEP}*")) + sorted(self.folder.glob(f"{INTERRUPTED}*")):
            try:
                check_digests(path)
            except DataError as error:
                remove_folder(path)
                removed.append(f"{path} is damaged and was removed ({error})")
        every = {step: self.path_of(step, kind) for kind in (INTERRUPTED, STEP) for step in self._on_disk(kind)}
        folders = {step: folder for step, folder in every.items() if (folder / RESUME).is_file()}
        if removed:
            place = f"step {max(folders)}" if folders else "the beginning"
            print(f"note: {'; '.join(removed)}: continuing from {place}", flush=True)
        return self.read(folders[max(folders)], device) if folders else None

    def clear(self) -> None:
        """Remove all checkpoints."""
        self._in_memory.clear()
        for kind in (STEP, INTERRUPTED):
            for step in self._on_disk(kind):
                remove_folder(self.path_of(step, kind))

    def path_of(self, step: int, kind: str = STEP) -> Path:
        """Return the folder of a step."""
        return self.folder / f"{kind}{step:07d}"

    def _write(self, checkpoint: Checkpoint, target: Path) -> None:
        """Write a checkpoint whole or not at all.

        Raises:
            OSError: it cannot be written; nothing of it stays.
        """
        if not self._written:  # a folder that was deleted since then is not created again
            self.folder.mkdir(parents=True, exist_ok=True)
        with whole_folder(target) as folder:
            save_tensors(checkpoint.trained, folder / TRAINED)
            if checkpoint.resume:
                save_tensors(checkpoint.resume, folder / RESUME)
            (folder / STATE).write_text(json.dumps(checkpoint.state), encoding="utf-8")

    def _on_disk(self, kind: str) -> list[int]:
        names = (path.name.removeprefix(kind) for path in self.folder.glob(f"{kind}*"))
        return [int(name) for name in names if name.isdecimal()]

    def _prune(self, best_step: int) -> None:
        """Keep the best, the last, and the last on disk; an interrupted step ends with the next one of the schedule."""
        steps = [step for step in self.steps() if step > 0]
        newest = max(self._on_disk(STEP), default=0)
        self.remove([step for step in steps[: -self.keep] if step not in (best_step, newest)])
        for step in self._on_disk(INTERRUPTED):
            if step <= newest:
                remove_folder(self.path_of(step, INTERRUPTED))
