"""M6-Rec's trainer as a RecBole Trainer: packs of one user's rows, early stopping, a time limit."""

from __future__ import annotations

import math
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
from recbole_recfound.runtime.signals import Interrupted, finishing_steps, received
from recbole_recfound.runtime.tensor_files import save_tensors
from recbole_recfound.runtime.time_plan import TimePlan, turn
from recbole_recfound.trainer.checkpoint import CheckpointStore
from recbole_recfound.trainer.pack_order import PackOrder
from recbole_recfound.trainer.pack_resume import checkpoint_of, restore
from recbole_recfound.trainer.schedule import progress, rate_factor

MEASURED = 512
"""Validation rows that are scored before training, to plan its end."""
TEXT_SHARE = 0.5
"""Largest part of the time left in which texts are encoded that training alone reads."""
START_SHARE = 0.4
"""Largest part of the time left in which the start of the training is prepared."""


class M6RecTrainer(Trainer):
    """Train prompts, adapters and segment vectors on packs: one source with up to `targets` rows of its user.

    Args:
        config: settings of the run.
        model: M6Rec.
        plan: clock of the run; None: `time_budget` from now.
        sharing: trainings that share the time that is left, this one included.
        store: where checkpoints go and a cut-off training continues; None: none are written.

    Attributes:
        steps: optimiser steps done.
        best_step: step of the best validation.
        stale: validations since then.
        best: trained tensors of the best validation; {} without a validation.
        losses: of the steps since the last validation.
        converged: whether early stopping ended the training, or all epochs were trained.
        began: a time of `time.monotonic()` at which training began, had it not been stopped in between.
        continued: such a time at which this process began it, or continued it.
        seconds_before: of the training until then, without texts.
        deadline: such a time at which training, and the test after it, end; None without a limit.
        cache_seconds: seconds of encoding the segments of training and validation.
        validation_seconds: seconds of the last validation, or an estimate.
        scorings: validations whose time is kept for what follows training: the last one, and the test with a half more.
        prepared: targets from which the last start of the training was made (see `SegmentModel.prepare`).
        prepare_seconds: seconds that this took.
        curve: step, mean loss since the last validation (None without a step), and validation score.
        order: of the batches; set by `fit`.
    """

    order: PackOrder

    def __init__(
        self,
        config: Config,
        model: SegmentModel,
        plan: TimePlan | None = None,
        sharing: int = 1,
        store: CheckpointStore | None = None,
    ) -> None:
        # Set by RecBole's Trainer.
        self.device: torch.device
        self.optimizer: torch.optim.Optimizer
        self.saved_model_file: str
        self.best_valid_score: float
        self.best_valid_result: dict[str, float]
        model.use()
        super().__init__(config, model)
        self.validated_by: str = config["valid_metric"]
        self.plan = plan or TimePlan(config["time_budget"] or 0)
        self.sharing, self.store = sharing, store
        self.began = self.continued = time.monotonic()
        self.seconds_before, self.deadline = 0.0, self.plan.deadline()
        self.steps = self.best_step = self.stale = 0
        self.best: dict[str, torch.Tensor] = {}
        self.losses: list[float] = []
        self.converged = False
        self.curve: list[dict[str, float | None]] = []
        self.cache_seconds = self.prepare_seconds = self.validation_seconds = 0.0
        self.prepared, self._per_epoch = 0, 1
        self.scorings = 2.5

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

        A training that was cut off continues from its newest checkpoint, which every validation writes.

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
            DataError: there is nothing to train on, or a checkpoint cannot be written or belongs to another backbone.
            Interrupted: by a signal; the step is saved where there is a store.
        """
        self.saved_model_file = str(Path(self.saved_model_file).with_suffix(".safetensors"))
        self.eval_collector.data_collect(train_data)  # metrics such as coverage and popularity count training rows
        self.model.train()
        order = self.order = self._order_of(train_data._dataset.inter_feat)
        per_epoch = self._per_epoch = len(order)
        total, interval = per_epoch * self.config["epochs"], self.config["eval_interval"] or per_epoch
        self._encode(order.examples, valid_data, show_progress)
        # Texts that the first of several trainings encodes serve them all: they take nothing of its own time.
        self.began = self.continued = time.monotonic()
        self.set_deadline()
        self._begin(valid_data, verbose)
        options = {"total": total, "initial": self.steps, "desc": "training", "dynamic_ncols": True}
        with finishing_steps(), tqdm(**options, disable=not show_progress) as bar:
            while self.stale <= self.stopping_step and (done := self._progress(total)) < 1.0:
                with self.plan.phase("training steps"):
                    self.losses.append(self._step(order.next(), done))
                bar.update()
                if self.steps % interval == 0 or self.steps >= total:
                    if valid_data is not None:
                        bar.set_postfix_str(self._check(valid_data, verbose, callback_fn))
                    self.losses = []
                    self._save()
                if number := received():
                    raise Interrupted(number, self._save_interrupted())
        self.converged = self.stale > self.stopping_step or self.steps >= total
        if valid_data is not None:
            if self.losses or not self.curve:  # without time for a step, the untrained model
                self._check(valid_data, verbose)
            load_trained(self.model.saved_state(), self.best)
        if saved:
            Path(self.saved_model_file).parent.mkdir(parents=True, exist_ok=True)
            save_tensors(self.model.saved_state(), Path(self.saved_model_file))
        return self.best_valid_score, self.best_valid_result

    def set_deadline(self) -> None:
        """Take this training's share of the time from `began` on, without what is kept for other tasks of the run."""
        ends = self.plan.deadline()
        self.deadline = turn(None if ends is None else ends - self.plan.kept(), self.sharing, self.began)

    @property
    def trained_seconds(self) -> float:
        """Seconds of the training so far, without its texts and without loading and encoding once more after a stop."""
        return self.seconds_before + time.monotonic() - self.continued

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

    def _begin(self, valid_data: Any, verbose: bool) -> None:
        """Continue from the newest checkpoint; without one, prepare the start of the training and save it."""
        checkpoint = self.store and self.store.newest(self.device)
        if checkpoint:
            restore(self, checkpoint)
        else:
            self._prepare(valid_data, verbose)
            self._save()

    def _save(self) -> None:
        if self.store is not None:
            with self.plan.phase("checkpoints"):
                self.store.save(checkpoint_of(self), self.steps)

    def _save_interrupted(self) -> str:
        return self.store.save_interrupted(checkpoint_of(self)) if self.store is not None else ""

    def _prepare(self, valid_data: Any, verbose: bool) -> None:
        """Give the model the best of its starts, in a part of the time."""
        started = time.monotonic()
        seconds = START_SHARE * (self._seconds() - (started - self.began))
        start = trained_tensors(self.model.saved_state())
        starts = self.model.prepare(self.order.batches, seconds)
        while True:
            with self.plan.phase("start of the training"):
                prepared = next(starts, None)
            if prepared is None:
                break
            self.prepared = prepared
            if valid_data is None:
                start = trained_tensors(self.model.saved_state())
            else:
                self._record(*self._validate(valid_data), None, verbose)
        load_trained(self.model.saved_state(), self.best or start)
        self.prepare_seconds = time.monotonic() - started

    def _encode(self, examples: list[Example], valid_data: Any, show_progress: bool) -> None:
        """Encode all segments of training and validation, and measure a part of a validation."""
        started = time.monotonic()
        held_out = [] if valid_data is None else [valid_data._dataset.inter_feat]
        ends = self.plan.deadline()
        seconds = math.inf if ends is None else TEXT_SHARE * max(0.0, ends - self.plan.kept() - started)
        with self.plan.phase("texts"):
            left = self.model.encode_segments(examples, *held_out, seconds=seconds, show_progress=show_progress)
        self.cache_seconds = time.monotonic() - started
        if left or self.cache_seconds > seconds:
            after = f"; {left:,} of training are left and encoded when a step reads them" * bool(left)
            print(
                f"note: the texts took {self.cache_seconds:.0f} s, and {TEXT_SHARE:.0%} of the time that is left are "
                f"{seconds:.0f} s (time_budget){after}. late_args: {{cache_file}} keeps them for the next run",
                flush=True,
            )
        if valid_data is None or self.config["eval_type"] != EvaluatorType.VALUE:
            return
        self.model.eval()
        rows = held_out[0][: min(len(held_out[0]), MEASURED)]
        with torch.no_grad():
            for _ in range(2):  # the first one pays for what is done once
                started = time.monotonic()
                self.model.predict(rows.to(self.device))
        self.validation_seconds = (time.monotonic() - started) * len(held_out[0]) / len(rows)

    def _validate(self, valid_data: Any) -> tuple[float, dict[str, float]]:
        started = time.monotonic()
        with self.plan.phase("validation"):
            result = {name: float(value) for name, value in self.evaluate(valid_data, load_best_model=False).items()}
        self.validation_seconds = time.monotonic() - started
        return result[self.validated_by.lower()], result

    def _check(self, valid_data: Any, verbose: bool, callback_fn: Callable[[int, float], None] | None = None) -> str:
        """Validate the steps since the last validation, and return the score as text."""
        score, result = self._validate(valid_data)
        better = self._record(score, result, float(np.mean(self.losses)) if self.losses else None, verbose)
        self.stale = 0 if better else self.stale + 1
        if callback_fn:
            callback_fn(self.steps, score)
        return f"{self.validated_by} {score:.4f}"

    def _record(self, score: float, result: dict[str, float], loss: float | None, verbose: bool) -> bool:
        """Note a validation, and keep the weights of the best; return whether it is the best so far."""
        self.curve.append({"step": self.steps, "loss": loss, "score": score})
        if verbose:
            self.logger.info(f"step {self.steps}: loss {loss}, validation {result}")
        best = self.best_valid_score
        first = len(self.curve) == 1 or math.isnan(best)  # of a part on which the metric says nothing
        better = first or (score > best if self.valid_metric_bigger else score < best)
        if better:
            self.best_valid_score, self.best_valid_result, self.best_step = score, result, self.steps
            self.best = trained_tensors(self.model.saved_state())
        return better

    def _progress(self, total: int) -> float:
        return progress(self.steps, total, time.monotonic() - self.began, self._seconds())

    def _seconds(self) -> float:
        """Return the seconds that training may take: what is left behind it is one validation and the test, or more."""
        if self.deadline is None:
            return float("inf")
        return max(0.0, self.deadline - self.began - self.scorings * self.validation_seconds)
