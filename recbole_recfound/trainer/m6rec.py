"""M6-Rec's trainer as a RecBole Trainer: packs of one user's rows, early stopping, a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.trainer import Trainer
from safetensors.torch import load_file
from tqdm import tqdm

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour import Pack
from recbole_recfound.data.behaviour.dataset import ROW
from recbole_recfound.errors import TrainingError
from recbole_recfound.model.m6rec import M6Rec, batches_of, saved_state
from recbole_recfound.model.trained import load_trained, trained_parameters, trained_tensors
from recbole_recfound.runtime.tensor_files import save_tensors
from recbole_recfound.runtime.time_plan import TimePlan
from recbole_recfound.trainer.schedule import progress, rate_factor

MEASURED = 512
"""Validation rows that are scored before training, to plan its end."""
PROBE_SHARE = 0.4
"""Largest part of the time left that the classifier is fitted in."""
BUCKET = 16
"""Batches among which packs are sorted by length, so that rows of a batch have little padding."""


class M6RecTrainer(Trainer):
    """Train prompts, adapters and segment vectors on packs: one source with up to `targets` rows of its user.

    Args:
        config: settings of the run.
        model: M6Rec.
        deadline: a time of `time.monotonic()` at which training, and the test after it, end; None: `time_budget` from
            now.

    Attributes:
        steps: optimiser steps done.
        best_step: step of the best validation.
        converged: whether early stopping ended the training, or all epochs were trained.
        cache_seconds: seconds of encoding the segments of training and validation.
        probed: training rows that the classifier was fitted on before training.
        probe_seconds: seconds that this took.
        curve: step, mean loss since the last validation (None without a step), and validation score.
    """

    def __init__(self, config: Config, model: M6Rec, deadline: float | None = None) -> None:
        self.saved_model_file: str  # set by RecBole
        self.best_valid_score: float
        self.best_valid_result: dict[str, float]
        super().__init__(config, model)
        self.deadline = TimePlan(config["time_budget"] or 0).deadline() if deadline is None else deadline
        self.steps = self.best_step = 0
        self.converged = False
        self.curve: list[dict[str, float | None]] = []
        self.cache_seconds = self.probe_seconds = self._validation_seconds = 0.0
        self.probed = 0

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
        rows = train_data._dataset.inter_feat
        packs = self.model.training_packs(rows[ROW].numpy())
        labels = rows[self.model.label_field].numpy()
        per_epoch = -(-len(rows) // self.config["train_batch_size"])
        total, losses, stale = per_epoch * self.config["epochs"], [], 0
        interval = self.config["eval_interval"] or per_epoch
        begin = self._begin = time.monotonic()
        self._prepare(train_data, valid_data, show_progress)
        self._probe(packs, labels)
        best = trained_tensors(saved_state(self.model))
        if valid_data is not None and self.probed:
            self._record(*self._validate(valid_data), None, verbose)
        with tqdm(total=total, desc="training", disable=not show_progress, dynamic_ncols=True) as bar:
            for batch in self._batches(packs):
                done = progress(self.steps, total, time.monotonic() - begin, self._seconds())
                if done >= 1.0:
                    break
                losses.append(self._step(batch, labels, done))
                bar.update()
                if valid_data is None or (self.steps % interval and self.steps < total):
                    continue
                score, result = self._validate(valid_data)
                if self._record(score, result, float(np.mean(losses)), verbose):
                    best = trained_tensors(saved_state(self.model))
                    stale = 0
                else:
                    stale += 1
                losses = []
                bar.set_postfix_str(f"{self.config['valid_metric']} {score:.4f}")
                if callback_fn:
                    callback_fn(self.steps, score)
                if stale > self.stopping_step:
                    self.converged = True
                    break
        self.converged |= self.steps >= total
        if valid_data is not None and (losses or not self.curve):  # without time for a step, the untrained model
            score, result = self._validate(valid_data)
            if self._record(score, result, float(np.mean(losses)) if losses else None, verbose):
                best = trained_tensors(saved_state(self.model))
        if valid_data is not None:
            load_trained(saved_state(self.model), best)
        if saved:
            Path(self.saved_model_file).parent.mkdir(parents=True, exist_ok=True)
            save_tensors(saved_state(self.model), Path(self.saved_model_file))
        return self.best_valid_score, self.best_valid_result

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
            load_trained(saved_state(self.model), load_file(model_file))
        return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)

    def _batches(self, packs: list[tuple[np.ndarray, Pack]]) -> Iterator[list[tuple[np.ndarray, Pack]]]:
        """Yield batches of packs without end, in a new order each epoch."""
        generator = np.random.default_rng([self.config["seed"], 0x6EC])
        size = self.config["train_batch_size"]
        while True:
            order = generator.permutation(len(packs))
            batches: list[list[tuple[np.ndarray, Pack]]] = []
            per_bucket = max(1, BUCKET * size // self.model.late.targets)
            for start in range(0, len(order), per_bucket):
                bucket = sorted(order[start : start + per_bucket], key=lambda number: len(packs[number][0]))
                batches += batches_of((packs[number] for number in bucket), size)
            yield from (batches[number] for number in generator.permutation(len(batches)))

    def _step(self, batch: list[tuple[np.ndarray, Pack]], labels: np.ndarray, done: float) -> float:
        """Make one optimiser step and return the loss."""
        self.model.train()
        rate = self.config["learning_rate"] * rate_factor(self.steps, done, self.config["warmup_steps"])
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.model.loss_of([pack for _, pack in batch], np.concatenate([labels[place] for place, _ in batch]))
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss is {loss.item()} at step {self.steps + 1}: lower learning_rate")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained_parameters(self.model).values(), self.config["max_grad_norm"])
        self.optimizer.step()
        self.steps += 1
        return loss.item()

    def _probe(self, packs: list[tuple[np.ndarray, Pack]], labels: np.ndarray) -> None:
        """Fit the classifier on `probe_rows` rows, or on those that a part of the time allows."""
        batches, count = [], 0
        for batch in self._batches(packs):
            if count >= min(self.model.prompt.probe_rows, len(labels)):
                break
            batches.append(batch)
            count += sum(len(place) for place, _ in batch)
        started = time.monotonic()
        seconds = PROBE_SHARE * (self._seconds() - (started - self._begin))
        targets = [np.concatenate([labels[place] for place, _ in batch]) for batch in batches]
        self.probed = self.model.fit_classifier([[pack for _, pack in batch] for batch in batches], targets, seconds)
        self.probe_seconds = time.monotonic() - started

    def _prepare(self, train_data: Any, valid_data: Any, show_progress: bool) -> None:
        """Encode all segments of training and validation, and measure a part of a validation."""
        started = time.monotonic()
        parts = [data._dataset.inter_feat for data in (train_data, valid_data) if data is not None]
        self.model.encode_segments(*parts, show_progress=show_progress)
        self.cache_seconds = time.monotonic() - started
        if (cache := self.model.cache).cut:
            self.logger.warning(
                f"text_args: max_tokens: {cache.cut} texts are longer than {cache.max_tokens} tokens and lose their end"
            )
        if valid_data is None:
            return
        self.model.eval()
        rows = parts[1][: min(len(parts[1]), MEASURED)]
        with torch.no_grad():
            for _ in range(2):  # the first one pays for what is done once
                started = time.monotonic()
                self.model.predict(rows.to(self.device))
        self._validation_seconds = (time.monotonic() - started) * len(parts[1]) / len(rows)

    def _validate(self, valid_data: Any) -> tuple[float, dict[str, float]]:
        started = time.monotonic()
        result = {name: float(value) for name, value in self.evaluate(valid_data, load_best_model=False).items()}
        self._validation_seconds = time.monotonic() - started
        return result[self.config["valid_metric"].lower()], result

    def _record(self, score: float, result: dict[str, float], loss: float | None, verbose: bool) -> bool:
        """Note a validation; return whether it is the best so far."""
        self.curve.append({"step": self.steps, "loss": loss, "score": score})
        if verbose:
            self.logger.info(f"step {self.steps}: loss {loss}, validation {result}")
        better = len(self.curve) == 1 or (score > self.best_valid_score) == self.valid_metric_bigger
        if better:
            self.best_valid_score, self.best_valid_result, self.best_step = score, result, self.steps
        return better

    def _seconds(self) -> float:
        """Return the seconds that training may take: what is left behind it is one validation and the test."""
        if self.deadline is None:
            return float("inf")
        return max(0.0, self.deadline - self._begin - 2.5 * self._validation_seconds)
