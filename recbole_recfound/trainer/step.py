"""Gradients of one optimiser step: forward and backward of a batch, part by part."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from accelerate import Accelerator
from torch import nn

from recbole_recfound.adapter import check_gradients, record_layers
from recbole_recfound.data import StepBatch
from recbole_recfound.data.task import TASKS
from recbole_recfound.errors import TrainingError
from recbole_recfound.model.recfound import RecFound
from recbole_recfound.trainer.optimizer import trained_parameters


class StepGradients:
    """Add the gradients of batches to the parameters of a model.

    Args:
        model: RecFound.
        engine: the model as accelerate prepared it.
        accelerator: precision and accumulation.
        advice: returns the end of an error message: what to do where training diverges.
    """

    def __init__(self, model: RecFound, engine: nn.Module, accelerator: Accelerator, advice: Callable[[], str]) -> None:
        self.model, self.engine, self.accelerator, self.advice = model, engine, accelerator, advice
        self.trains_adapter = any(name.startswith("backbone.") for name in trained_parameters(model))
        # Forms of batches whose gradients have been checked.
        self.checked: set[type] = set()

    def add(self, batch: StepBatch, step: int) -> dict[str, float]:
        """Add a batch's gradients; for the first batch of each form, check that every adapted layer that ran gets one.

        Args:
            batch: examples of all tasks.
            step: number of the step, for error messages.

        Returns:
            Mean loss of each task.

        Raises:
            TrainingError: naming the layers without a gradient; a loss is NaN or infinite.
        """
        unseen = {type(part) for part in batch.parts if self.model.reads_backbone(part)} - self.checked
        if not unseen or not self.trains_adapter:
            return self._backward(batch, step)
        with record_layers(self.model.backbone) as layers:
            losses = self._backward(batch, step)
        check_gradients(self.model.backbone, layers)
        self.checked |= unseen
        return losses

    def _backward(self, batch: StepBatch, step: int) -> dict[str, float]:
        """Run forward and backward on one batch and return the mean loss of each task.

        Raises:
            TrainingError: a loss is NaN or infinite; no parameter has been touched by it.
        """
        sizes: dict[str, int] = {}
        for part in batch.parts:
            kind = TASKS[part.tasks[0]].kind
            sizes[kind] = sizes.get(kind, 0) + len(part)
        # Part by part, so that the activations of one are gone before the next: the gradient of the sum is the sum of
        # gradients.
        found: list[tuple[str, int, torch.Tensor]] = []
        for part in batch.parts:
            with self.accelerator.autocast():
                moved = StepBatch([part.to(self.accelerator.device)], batch.counts)
                loss = cast(torch.Tensor, sum(self.engine(moved)))
            found += [(name, part.tasks.count(name), mean) for name, mean in self.model.task_losses.items()]
            # Without an adapter, a part may hold nothing that learns.
            if loss.requires_grad:
                self.accelerator.backward(loss * (len(part) / sizes[TASKS[part.tasks[0]].kind]))
        sums: dict[str, float] = {}
        totals: dict[str, int] = {}
        # One read-back for all: every read-back stalls a GPU.
        for (name, count, _), mean in zip(found, torch.stack([mean for _, _, mean in found]).tolist(), strict=True):
            if not math.isfinite(mean):
                raise TrainingError(
                    f"loss of task {name} is {mean} in step {step} (batch {batch.counts}); {self.advice()}"
                )
            sums[name] = sums.get(name, 0.0) + mean * count
            totals[name] = totals.get(name, 0) + count
        return {name: total / totals[name] for name, total in sums.items()}
