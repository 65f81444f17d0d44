"""The training of one of RecBole's models as a checkpoint after an epoch, and back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.trainer import Trainer
from recbole.utils import ModelType
from torch.utils.data import DataLoader

from recbole_recfound.errors import DataError
from recbole_recfound.runtime.tensor_files import tensors_digest
from recbole_recfound.trainer.checkpoint import Checkpoint, CheckpointStore
from recbole_recfound.trainer.optimizer import load_optimizer_tensors, optimizer_tensors
from recbole_recfound.trainer.random_numbers import random_numbers, set_random_numbers

WRITING_SHARE = 0.05
"""Part of the time of a training that writing its state may take."""

NUMBER, ARRAY, TENSOR, SPARSE = "number", "array", "tensor", "sparse"
"""Kinds of values that a module holds beside its parameters and buffers."""


class ResumableTraining:
    """A training with RecBole's loop that continues after its last saved epoch as if it had not been stopped.

    Trainers with a loop of their own (S3Rec, RaCT, NCL, decision trees), models that are fitted once, those that
    change sparse matrices (KGAT) and trainings in several processes are not saved and start again.

    Args:
        folder: gets the state; None: nothing is saved.
        trainer: RecBole's, with its model as built from the seed.
        loaders: of training and validation.
        began: a time of `time.monotonic()` at which the training began; changed where it continues.
    """

    def __init__(self, folder: Path | None, trainer: Any, loaders: Iterable[Any], began: float) -> None:
        self.store = None if folder is None else CheckpointStore(folder, 1)
        self.trainer = trainer
        self.began, self._written = began, time.monotonic()
        self._cost = 0.0
        self._best: dict[str, torch.Tensor] = {}
        self._generators = [generator for loader in loaders for generator in _generators(loader)]
        config = trainer.config
        own_loop = getattr(type(trainer), "fit", None) is not Trainer.fit
        if own_loop or config["MODEL_TYPE"] == ModelType.TRADITIONAL or not config["single_spec"]:
            self.store = None
        self._built = {name: _content(value) for name, _, value in self._values()} if self.store else {}

    @property
    def finished(self) -> bool:
        """Whether RecBole's loop has nothing left to train."""
        trainer = self.trainer
        return trainer.cur_step > trainer.stopping_step or trainer.start_epoch >= trainer.epochs

    def save(self, epoch: int) -> None:
        """Write the state after a validation, unless that has taken more than its part of the time.

        Args:
            epoch: the validated one, from 0.
        """
        if not self.store or self.trainer.best_valid_result is None:
            return
        if self.trainer.cur_step == 0:  # RecBole's early stopping has just found a new best one
            self._best = {name: value.detach().cpu().clone() for name, value in self.trainer.model.state_dict().items()}
        begin = time.monotonic()
        if begin - self._written < self._cost / WRITING_SHARE:
            return
        # What training has changed beside the weights.
        changed = [each for each in self._values() if self._built.get(each[0]) != _content(each[2])]
        if any(kind == SPARSE for _, kind, _ in changed):
            self.store = None
            return
        try:
            self.store.save(self._checkpoint(epoch, changed), epoch + 1)
        except DataError as error:
            self.store = None
            print(f"note: {error}: a training that is stopped begins again", flush=True)
        self._written = time.monotonic()
        self._cost = self._written - begin

    def restore(self) -> bool:
        """Continue where the newest checkpoint was taken.

        Returns:
            Whether there is one.
        """
        trainer = self.trainer
        checkpoint = self.store.newest(trainer.device) if self.store else None
        if checkpoint is None:
            return False
        state = checkpoint.state
        if (file := Path(state["file"])).parent.is_dir():
            trainer.saved_model_file = str(file)
        trainer.start_epoch = checkpoint.step
        trainer.cur_step, trainer.best_valid_score, trainer.best_valid_result = state["best"]
        self._best = checkpoint.group("best")
        trainer.model.load_state_dict(self._best)
        trainer._save_checkpoint(state["best_epoch"], verbose=False)  # the file that RecBole tests
        trainer.model.load_state_dict(checkpoint.trained)
        for name, optimizer in _optimizers(trainer).items():
            load_optimizer_tensors(optimizer, checkpoint.group(f"optimizer.{name}"))
        arrays = checkpoint.group("value")
        modules = dict(trainer.model.named_modules())
        for name, (kind, value) in state["values"].items():
            module, _, attribute = name.rpartition(".")
            built = getattr(modules[module], attribute, None)
            setattr(modules[module], attribute, _from_saved(kind, value, arrays.get(name), built))
        for number, generator in enumerate(self._generators):
            generator.set_state(checkpoint.resume[f"generator.{number}"])
        set_random_numbers(checkpoint.group("random"), trainer.device)
        self.began -= state["seconds"]
        return True

    def _checkpoint(self, epoch: int, changed: Iterable[tuple[str, str, Any]]) -> Checkpoint:
        trainer = self.trainer
        resume = {f"best.{name}": value.clone() for name, value in self._best.items()}
        for name, optimizer in _optimizers(trainer).items():
            resume |= {f"optimizer.{name}.{key}": value for key, value in optimizer_tensors(optimizer).items()}
        resume |= {f"random.{name}": value for name, value in random_numbers(trainer.device).items()}
        resume |= {f"generator.{number}": each.get_state() for number, each in enumerate(self._generators)}
        resume |= {
            f"value.{name}": torch.as_tensor(value).cpu().clone() for name, kind, value in changed if kind != NUMBER
        }
        result = {metric: float(value) for metric, value in trainer.best_valid_result.items()}
        state = {
            "best": [trainer.cur_step, float(trainer.best_valid_score), result],
            "file": trainer.saved_model_file,
            "best_epoch": epoch - trainer.cur_step * trainer.eval_step,
            "values": {name: [kind, value if kind == NUMBER else None] for name, kind, value in changed},
            "seconds": time.monotonic() - self.began,
        }
        weights = {name: value.detach().cpu().clone() for name, value in trainer.model.state_dict().items()}
        return Checkpoint(epoch + 1, weights, resume, state)

    def _values(self) -> Iterator[tuple[str, str, Any]]:
        """Yield name, kind and value of what the model's modules hold beside parameters and buffers.

        Training changes some of it: MultiVAE counts its steps, LDiffRec keeps its losses.
        """
        for name, module in self.trainer.model.named_modules():
            for attribute, value in vars(module).items():
                if attribute == "training":
                    continue
                if isinstance(value, bool | int | float):
                    yield f"{name}.{attribute}", NUMBER, value
                elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
                    yield f"{name}.{attribute}", ARRAY, value
                elif isinstance(value, torch.Tensor):
                    kind = TENSOR if value.layout == torch.strided else SPARSE
                    yield f"{name}.{attribute}", kind, value


def _generators(loader: Any) -> Iterator[torch.Generator]:
    """Yield the generators by which a loader, and those that it holds, shuffle."""
    for value in vars(loader).values():
        if isinstance(value, torch.Generator):
            yield value
        elif isinstance(value, DataLoader):
            yield from _generators(value)


def _optimizers(trainer: Any) -> dict[str, torch.optim.Optimizer]:
    """Return the optimisers of a trainer by attribute; RecVAE puts two of its own in the place of RecBole's in turn."""
    found = {name: value for name, value in vars(trainer).items() if isinstance(value, torch.optim.Optimizer)}
    if len(found) > 1:
        del found["optimizer"]
    return found


def _content(value: Any) -> Any:
    """Return what tells a value of a module from a changed one: a number itself, of arrays and tensors a digest."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, torch.Tensor) and value.layout != torch.strided:
        value = value.to_sparse_coo().coalesce().values()  # its places are the graph's, which stays
    return tensors_digest({"value": torch.as_tensor(value)})


def _from_saved(kind: str, value: Any, saved: torch.Tensor | None, built: Any) -> Any:
    """Return a value of a module where the one of the model as built lies."""
    if kind == NUMBER:
        return value
    assert saved is not None, "arrays and tensors lie beside the weights"
    if kind != TENSOR:
        return saved.numpy()
    return saved.to(built.device) if isinstance(built, torch.Tensor) else saved
