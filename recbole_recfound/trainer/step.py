"""Gradients of one optimiser step: forward and backward of a batch, part by part."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import cast

import torch
from accelerate import Accelerator
from torch import nn

from recbole_recfound.adapter import check_gradients, record_layers
from recbole_recfound.data import StepBatch
from recbole_recfound.data.batches import Part
from recbole_recfound.data.task import TASKS
from recbole_recfound.errors import TrainingError
from recbole_recfound.model.recfound import RecFound
from recbole_recfound.model.trained import trained_parameters
from recbole_recfound.runtime.exchange import Share, complete_gradients, sum_gradients, total
from recbole_recfound.runtime.ranks import world


class StepGradients:
    """Add the gradients of batches to the parameters of a model.

    Args:
        model: RecFound.
        engine: the model as accelerate prepared it.
        accelerator: precision and accumulation.
        advice: returns the end of an error message: what to do where training diverges.
        timed: takes the time of the work on a part of a batch.
    """

    def __init__(
        self,
        model: RecFound,
        engine: nn.Module,
        accelerator: Accelerator,
        advice: Callable[[], str],
        timed: Callable[[Part], AbstractContextManager[None]],
    ) -> None:
        self.model, self.engine, self.accelerator, self.advice, self.timed = model, engine, accelerator, advice, timed
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
        if world() == 1 or self.accelerator.sync_gradients:  # before, a process knows its own rows' gradients only
            check_gradients(self.model.backbone, layers)
            self.checked |= unseen
        return losses

    def _backward(self, batch: StepBatch, step: int) -> dict[str, float]:
        """Run forward and backward on one batch, or on this process's share of it, and return each task's mean loss.

        Raises:
            TrainingError: a loss is NaN or infinite; no parameter has been touched by it.
        """
        sizes: dict[str, int] = {}
        for part in batch.parts:
            kind = TASKS[part.tasks[0]].kind
            sizes[kind] = sizes.get(kind, 0) + len(part)
        # Part by part, so that the activations of one are gone before the next: the gradient of the sum is the sum of
        # gradients. Processes exchange gradients once, after the last part.
        found: list[tuple[str, int, torch.Tensor]] = []
        with self.accelerator.no_sync(self.engine):
            for part in batch.parts:
                with self.timed(part):
                    found += self._add_part(part, batch.counts, sizes[TASKS[part.tasks[0]].kind])
        if world() > 1 and self.accelerator.sync_gradients:
            self._average()
        # One read-back for all: every read-back stalls a GPU.
        totals = {task: 0 for part in batch.parts for task in part.tasks}
        sums = dict.fromkeys(totals, 0.0)
        means = torch.stack([mean for _, _, mean in found]).tolist() if found else []
        for (name, count, _), mean in zip(found, means, strict=True):
            sums[name] += mean * count
            totals[name] += count
        if world() > 1:
            both = torch.tensor([[sums[name], totals[name]] for name in totals], dtype=torch.float64)
            rows = total(both.to(self.accelerator.device)).tolist()
            sums = {name: row[0] for name, row in zip(totals, rows, strict=True)}
            totals = {name: int(row[1]) for name, row in zip(totals, rows, strict=True)}
        for name, loss in sums.items():
            if not math.isfinite(loss):
                raise TrainingError(
                    f"loss of task {name} is {loss} in step {step} (batch {batch.counts}); {self.advice()}"
                )
        return {name: loss / totals[name] for name, loss in sums.items()}

    def _add_part(self, part: Part, counts: dict[str, int], size: int) -> list[tuple[str, int, torch.Tensor]]:
        """Run forward and backward on one part of a batch.

        Args:
            part: examples of one form.
            counts: examples of each task in the batch.
            size: examples of this kind in the batch.

        Returns:
            Each task with its examples on this process and their mean loss.
        """
        share = Share.of(len(part))
        mine = part.share(share.rank, share.world) if share.world > 1 else part
        with self.accelerator.autocast():
            loss = cast(torch.Tensor, sum(self.engine(StepBatch([mine.to(self.accelerator.device)], counts))))
        # Without an adapter, a part may hold nothing that learns.
        if loss.requires_grad:
            # Averaged over the processes, this is the part's share of the mean over the whole batch.
            self.accelerator.backward(loss * (share.world * share.count / size))
        losses = self.model.task_losses if share.count else {}
        return [(name, mine.tasks.count(name), mean) for name, mean in losses.items()]

    def _average(self) -> None:
        """Average the gradients that the processes have added up."""
        if self.engine is self.model:  # no wrapper knows the trained weights
            sum_gradients(trained_parameters(self.model).values(), 1 / world())
            return
        complete_gradients(self.model.parameters())
        (nothing,) = self.engine(StepBatch([], {}))
        self.accelerator.backward(nothing)
