"""M6-Rec's trainer as a RecBole Trainer: packs of one user's rows, early stopping, a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.trainer import Trainer
from recbole.utils import EvaluatorType
from safetensors.torch import load_file
from tqdm import tqdm

from recbole_recfound.config.configurator import Config
from recbole_recfound.errors import DataError, TrainingError
from recbole_recfound.model.m6rec import Example
from recbole_recfound.model.reading.base import SegmentModel
from recbole_recfound.model.trained import load_trained, trained_parameters, trained_tensors
from recbole_recfound.runtime.tensor_files import save_tensors
from recbole_recfound.runtime.time_plan import TimePlan
from recbole_recfound.trainer.pack_order import PackOrder
from recbole_recfound.trainer.schedule import progress, rate_factor

MEASURED = 512
"""Validation rows that are scored before training, to plan its end."""
START_SHARE = 0.4
"""Largest part of the time left in which the start of the training is prepared."""


class M6RecTrainer(Trainer):
    """Train prompts, adapters and segment vectors on packs: one source with up to `targets` rows of its user.

    Args:
        config: settings of the run.
        model: M6Rec.
        plan: clock of the run; None: `time_budget` from now.
        deadline: a time of `time.monotonic()` at which training, and the test after it, end; None: that of the plan.

    Attributes:
        steps: optimiser steps done.
        best_step: step of the best validation.
        converged: whether early stopping ended the training, or all epochs were trained.
        cache_seconds: seconds of encoding the segments of training and validation.
        prepared: targets from which the last start of the training was made (see `SegmentModel.prepare`).
        prepare_seconds: seconds that this took.
        curve: step, mean loss since the last validation (None without a step), and validation score.
    """

    def __init__(
        self, config: Config, model: SegmentModel, plan: TimePlan | None = None, deadline: float | None = None
    ) -> None:
        self.saved_model_file: str  # set by RecBole
        self.best_valid_score: float
        self.best_valid_result: dict[str, float]
        model.use()
        super().__init__(config, model)
        self.validated_by: str = config["valid_metric"]
        self.plan = plan or TimePlan(config["time_budget"] or 0)
        self.deadline = self.plan.deadline() if deadline is None else deadline
        self.steps = self.best_step = 0
        self.converged = False
        self.curve: list[dict[str, float | None]] = []
        self.cache_seconds = self.prepare_seconds = self._validation_seconds = 0.0
        self.prepared, self._per_epoch = 0, 1

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        weights = list(trained_parameters(self.model).values())
        decay = self.config["weight_decay"]
        groups = [
            {"params": [weight for weight in weights if weight.dim() > 1], "weight_decay": decay},
            {"params": [weight for weight in weights if weight.dim() < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([group for group in groups if group["params"]], lr=self.config["learning_rate"])

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> tuple[float, dict[str, float]]:
        """Train until the first of `epochs`, the deadline and early stopping; the model then has its best weights.

        Args:
            train_data: RecBole's loader of the training rows.
            valid_data: RecBole's loader of the validation rows; None: no validation.
            verbose: log every validation.
            saved: write the best weights to `saved_model_file` (safetensors).
            show_progress: show a bar.
            callback_fn: called with step and score after every validation.

        Returns:
            Best validation score and the metrics it belongs to.

        Raises:
            TrainingError: a loss is not finite.
        """
        self.saved_model_file = str(Path(self.saved_model_file).with_suffix(".safetensors"))
        self.model.train()
        order = self._order_of(train_data._dataset.inter_feat)
        per_epoch = self._per_epoch = len(order)
        total, losses, stale = per_epoch * self.config["epochs"], [], 0
        interval = self.config["eval_interval"] or per_epoch
        begin = self._begin = time.monotonic()
        self._encode(order.examples, valid_data, show_progress)
        best = self._prepare(order, valid_data, verbose)
        with tqdm(total=total, desc="training", disable=not show_progress, dynamic_ncols=True) as bar:
            while (done := progress(self.steps, total, time.monotonic() - begin, self._seconds())) < 1.0:
                with self.plan.phase("training steps"):
                    losses.append(self._step(order.next(), done))
                bar.update()
                if valid_data is None or (self.steps % interval and self.steps < total):
                    continue
                score, result = self._validate(valid_data)
                if self._record(score, result, float(np.mean(losses)), verbose):
                    best = trained_tensors(self.model.saved_state())
                    stale = 0
                else:
                    stale += 1
                losses = []
                bar.set_postfix_str(f"{self.validated_by} {score:.4f}")
                if callback_fn:
                    callback_fn(self.steps, score)
                if stale > self.stopping_step:
                    self.converged = True
                    break
        self.converged |= self.steps >= total
        if valid_data is not None and (losses or not self.curve):  # without time for a step, the untrained model
            score, result = self._validate(valid_data)
            if self._record(score, result, float(np.mean(losses)) if losses else None, verbose):
                best = trained_tensors(self.model.saved_state())
        if valid_data is not None:
            load_trained(self.model.saved_state(), best)
        if saved:
            Path(self.saved_model_file).parent.mkdir(parents=True, exist_ok=True)
            save_tensors(self.model.saved_state(), Path(self.saved_model_file))
        return self.best_valid_score, self.best_valid_result

    @property
    def epochs_done(self) -> float:
        """Passes over the examples so far."""
        return self.steps / self._per_epoch

    def evaluate(
        self, eval_data: Any, load_best_model: bool = True, model_file: str | None = None, show_progress: bool = False
    ) -> dict[str, float]:
        """Score the model, as it is after `fit`, on held-out rows.

        Args:
            eval_data: RecBole's loader of validation or test rows.
            load_best_model: load `model_file`, if one is named; after `fit` the model has its best weights.
            model_file: weights that `fit` wrote.
            show_progress: show a bar.
        """
        if load_best_model and model_file:
            load_trained(self.model.saved_state(), load_file(model_file))
        return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)

    def _order_of(self, rows: Any) -> PackOrder:
        """Return the order of the batches of training rows."""
        examples = self.model.examples(rows)
        if not examples:
            raise DataError(f"{self.config['dataset']}: {self.model.task} finds no user with two training rows")
        redraw = partial(self.model.examples, rows) if self.model.redraws else None
        return PackOrder(examples, redraw, self.config["train_batch_size"], self.config["seed"])

    def _step(self, batch: list[Example], done: float) -> float:
        """Make one optimiser step and return the loss."""
        self.model.train()
        rate = self.config["learning_rate"] * rate_factor(self.steps, done, self.config["warmup_steps"])
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.model.loss_of(batch)
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss is {loss.item()} at step {self.steps + 1}: lower learning_rate")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained_parameters(self.model).values(), self.config["max_grad_norm"])
        self.optimizer.step()
        self.steps += 1
        return loss.item()

    def _prepare(self, order: PackOrder, valid_data: Any, verbose: bool) -> dict[str, torch.Tensor]:
        """Give the model the best of its starts, in a part of the time; return its trained tensors."""
        started = time.monotonic()
        seconds = START_SHARE * (self._seconds() - (started - self._begin))
        best = trained_tensors(self.model.saved_state())
        starts = self.model.prepare(order.batches, seconds)
        while True:
            with self.plan.phase("start of the training"):
                prepared = next(starts, None)
            if prepared is None:
                break
            self.prepared = prepared
            if valid_data is None or self._record(*self._validate(valid_data), None, verbose):
                best = trained_tensors(self.model.saved_state())
        load_trained(self.model.saved_state(), best)
        self.prepare_seconds = time.monotonic() - started
        return best

    def _encode(self, examples: list[Example], valid_data: Any, show_progress: bool) -> None:
        """Encode all segments of training and validation, and measure a part of a validation."""
        started = time.monotonic()
        held_out = [] if valid_data is None else [valid_data._dataset.inter_feat]
        with self.plan.phase("texts"):
            self.model.encode_segments(examples, *held_out, show_progress=show_progress)
        self.cache_seconds = time.monotonic() - started
        if (cache := self.model.cache).cut:
            self.logger.warning(
                f"text_args: max_tokens: {cache.cut} texts are longer than {cache.max_tokens} tokens and lose their end"
            )
        if valid_data is None or self.config["eval_type"] != EvaluatorType.VALUE:
            return
        self.model.eval()
        rows = held_out[0][: min(len(held_out[0]), MEASURED)]
        with torch.no_grad():
            for _ in range(2):  # the first one pays for what is done once
                started = time.monotonic()
                self.model.predict(rows.to(self.device))
        self._validation_seconds = (time.monotonic() - started) * len(held_out[0]) / len(rows)

    def _validate(self, valid_data: Any) -> tuple[float, dict[str, float]]:
        started = time.monotonic()
        with self.plan.phase("validation"):
            result = {name: float(value) for name, value in self.evaluate(valid_data, load_best_model=False).items()}
        self._validation_seconds = time.monotonic() - started
        return result[self.validated_by.lower()], result

    def _record(self, score: float, result: dict[str, float], loss: float | None, verbose: bool) -> bool:
        """Note a validation; return whether it is the best so far."""
        self.curve.append({"step": self.steps, "loss": loss, "score": score})
        if verbose:
            self.logger.info(f"step {self.steps}: loss {loss}, validation {result}")
        best = self.best_valid_score
        better = len(self.curve) == 1 or (score > best if self.valid_metric_bigger else score < best)
        if better:
            self.best_valid_score, self.best_valid_result, self.best_step = score, result, self.steps
        return better

    def _seconds(self) -> float:
        """Return the seconds that training may take: what is left behind it is one validation and the test."""
        if self.deadline is None:
            return float("inf")
        return max(0.0, self.deadline - self._begin - 2.5 * self._validation_seconds)
