"""RecFound's trainer: RecBole's Trainer over multi-task steps, run by accelerate."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from recbole.trainer import Trainer
from recbole.utils import dict2str, early_stopping, init_seed
from tqdm import tqdm

from recbole_recfound.config.options import MergeOptions
from recbole_recfound.data import MultiTaskLoader, StepBatch
from recbole_recfound.data.batches import BatchOptions, Part
from recbole_recfound.data.multi_task import USERS
from recbole_recfound.data.task import GENERATIVE
from recbole_recfound.data.text.options import ItemOptions
from recbole_recfound.errors import TrainingError
from recbole_recfound.evaluation.shares import SharedEvaluator, share_of
from recbole_recfound.model.gradient_cache import random_state, set_random_state
from recbole_recfound.model.recfound import RecFound
from recbole_recfound.model.trained import load_trained, trained_parameters, trained_tensors
from recbole_recfound.runtime.device import is_gpu
from recbole_recfound.runtime.exchange import broadcast, gather, on_main
from recbole_recfound.runtime.ranks import is_main, shards, uses_deepspeed
from recbole_recfound.runtime.signals import Interrupted, finishing_steps, received
from recbole_recfound.runtime.time_plan import TimePlan
from recbole_recfound.trainer.accelerator import build_accelerator
from recbole_recfound.trainer.checkpoint import Checkpoint, CheckpointStore, base_fingerprint
from recbole_recfound.trainer.damaged import resume_newest
from recbole_recfound.trainer.loader import build_loader
from recbole_recfound.trainer.optimizer import build_optimizer
from recbole_recfound.trainer.pace import STEPS, Pace, account_of
from recbole_recfound.trainer.probes import ProbeOptions, Probes
from recbole_recfound.trainer.resume import checkpoint_of, restore, seed_process
from recbole_recfound.trainer.schedule import progress, rate_factor
from recbole_recfound.trainer.step import StepGradients
from recbole_recfound.trainer.zero import DividedOptimizer

_SMOOTH = 0.9
_INTERVAL = 100
"""Most steps between two validations where `eval_interval` gives no number."""
_MEASURED_STEPS = 10
"""Steps after which the log says what the plan comes to."""


class RecFoundTrainer(Trainer):
    """Train on the multi-task loader in optimiser steps, validate through RecBole's evaluator, resume exactly.

    Args:
        config: settings of the run, RecBole's Config or ours.
        model: RecFound, built from its data set.
        accelerator: one process or many; owns device, precision and accumulation. None builds one from the settings.
        store: where checkpoints go; None: a folder under `checkpoint_dir`.
        plan: the run's clock; None starts one of `time_budget` seconds.
    """

    def __init__(
        self,
        config: Any,
        model: RecFound,
        *,
        accelerator: Accelerator | None = None,
        store: CheckpointStore | None = None,
        plan: TimePlan | None = None,
    ) -> None:
        # Set by RecBole's Trainer.
        self.device: torch.device
        self.optimizer: torch.optim.Optimizer | DividedOptimizer
        self.evaluator: Any
        self.saved_model_file: str
        self.best_valid_score: float
        self.best_valid_result: dict[str, float]
        super().__init__(config, model)
        self.accelerator = accelerator = accelerator or build_accelerator(config)
        self.engine = model if shards() or uses_deepspeed() else accelerator.prepare(model)
        self.optimizer = (
            DividedOptimizer(self.optimizer, model) if uses_deepspeed() else accelerator.prepare(self.optimizer)
        )
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.store = store or CheckpointStore(
            Path(self.saved_model_file).with_suffix(""), MergeOptions.read(config)[0].last
        )
        self.plan = plan or TimePlan(config["time_budget"])
        # Longest seconds of one encoding of all items, of a validation, of the untrained probes and of a step: what
        # comes after the step that crosses the end, and that step itself.
        self.costs = {"refresh": 0.0, "validate": 0.0, "probe": 0.0, "step": 0.0}
        sizes = BatchOptions.of(config["batch_args"], "batch_args")
        self.pace = Pace(sizes.generative, sizes.embedding_share if self.plan.limited else 0.0)
        self.refresh_interval = ItemOptions.of(config["item_args"], "item_args").refresh_interval
        # Scorings of both parts after the training: of the best, the last and the merged checkpoint.
        self.scorings = 3
        self.step = 0
        self.best_step = 0
        self.stale = 0
        self.trained_seconds = self.text_seconds = 0.0
        self.step_seconds = 0.0
        self.smooth: dict[str, float] = {}
        self.history: list[dict[str, Any]] = []
        self.gradients = StepGradients(model, self.engine, accelerator, self._advice, self._timed)

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        settings = self.config
        return build_optimizer(
            self.model, settings["learner"], settings["adapter_rate"], settings["learning_rate"], self.weight_decay
        )

    # The loop --------------------------------------------------------------------------------------------------------

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> tuple[float, dict[str, float] | None]:
        """Train until the first of `max_steps`, the time budget and early stopping.

        Args:
            train_data: a `MultiTaskLoader`. For RecBole's loader of the training rows, which the tasks of the model are
                made from already, one is built and all random states are seeded first.
            valid_data: loader of the validation part; its rows are U2I's probe, and its ranking chooses the best
                checkpoint. None: neither.
            verbose: log every validation.
            saved: write checkpoints.
            show_progress: show a bar.
            callback_fn: called with step and score after every validation.

        Returns:
            Best validation score and the metrics it belongs to.

        Raises:
            TrainingError: a loss is not finite (the last good checkpoint stays), or the adapter has no effect.
        """
        if not isinstance(train_data, MultiTaskLoader):
            self.eval_collector.data_collect(train_data)
            init_seed(self.config["seed"], self.config["reproducibility"])
            train_data = build_loader(self.config, self.model.parts.data, valid_data and valid_data._dataset)
        self.loader = train_data
        self.probes = self._build_probes()
        self._begin(saved)
        if self.plan.limited and valid_data is not None:
            self._estimate_validation(valid_data)
        started = time.perf_counter() - self.trained_seconds
        self._plan_end()
        self._set_pace()
        options = {"total": self.config["max_steps"], "initial": self.step, "desc": "RecFound", "dynamic_ncols": True}
        with finishing_steps(), tqdm(**options, disable=not show_progress) as bar:
            while self._progress() < 1.0 and self.stale <= self.stopping_step:
                self._train_step()
                self.trained_seconds = broadcast(time.perf_counter() - started)
                bar.update()
                bar.set_postfix_str(self._postfix(), refresh=False)
                if self._due(self.refresh_interval) and not self.model.random_features:
                    self._refresh()
                # Decided before the validation, which may change the planned end: a finished training stays finished.
                over = self._progress() >= 1.0
                if self._validation_due() or over:
                    self._checkpoint(valid_data, verbose, saved, callback_fn)
                    self.trained_seconds = broadcast(time.perf_counter() - started)
                    self._plan_end()
                elif saved and self._planned() and self.pace.keep_early(self.step):
                    self._refuse_diverged()
                    self._save()
                if over:
                    break
                # A scheduler may signal any of the processes: all of them end with the same step.
                if number := next(filter(None, gather(received())), None):
                    raise Interrupted(number, saved and self._save_interrupted())
        if saved and broadcast(self.step in {*self.pace.early} or self.step not in {0, *self.store.steps()}):
            # A signal came after this step, and its training, continued, has no time left.
            self.pace.early = [step for step in self.pace.early if step != self.step]
            self._checkpoint(valid_data, verbose, saved, callback_fn)
        if not self.step and self.config["max_steps"] != 0:
            self.logger.warning(f"time_budget: {self.plan.seconds:.0f} s left no time to train; the model is untrained")
        return self.best_valid_score, self.best_valid_result

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | Path | None = None,
        show_progress: bool = False,
    ) -> dict[str, float]:
        """Evaluate as RecBole does, in the run's precision.

        Nothing is entered in the summary of wandb: of many candidates only the chosen one belongs there.

        Args:
            eval_data: RecBole's evaluation loader or ours.
            load_best_model: load the best checkpoint of this training first.
            model_file: folder of another checkpoint to load instead.
            show_progress: show a bar.

        Raises:
            DataError: the checkpoint cannot be read or belongs to other settings.
        """
        if load_best_model:
            self.load_checkpoint(Path(model_file) if model_file else None)
        logs, self.wandblogger.log_wandb = self.wandblogger.log_wandb, False
        share = share_of(eval_data)
        own, self.evaluator = self.evaluator, SharedEvaluator(self.evaluator, share is not eval_data)
        try:
            with self.accelerator.autocast():
                return super().evaluate(share, load_best_model=False, show_progress=show_progress)
        finally:
            self.wandblogger.log_wandb, self.evaluator = logs, own

    def load_checkpoint(self, folder: Path | None = None) -> None:
        """Give the model the weights of a checkpoint and encode item texts with them.

        Args:
            folder: of a checkpoint; None: the best one of this training.

        Raises:
            DataError: it cannot be read or belongs to other settings.
        """
        store = self.store
        checkpoint = store.read(folder, self.device) if folder else store.load(self.best_step, self.device)
        load_trained(trained_parameters(self.model), checkpoint.trained)
        self.refresh_items()

    def _estimate_validation(self, valid_data: Any) -> None:
        """Estimate the cost of a validation from one batch: the first one may come after the budget is spent."""
        state = random_state(self.device)
        interaction = next(iter(valid_data))[0].to(self.device)
        self.model.eval()
        seconds = []
        for _ in range(2):  # the first batch encodes the catalogue for all of them
            started = time.perf_counter()
            with torch.no_grad(), self.accelerator.autocast():
                self.model.full_sort_predict(interaction)
            seconds.append(time.perf_counter() - started)
        self.costs["validate"] = seconds[0] + seconds[1] * (len(valid_data) - 1)
        set_random_state(state, self.device)

    def _refresh(self) -> None:
        started = time.perf_counter()
        self.refresh_items()
        self.costs["refresh"] = max(self.costs["refresh"], time.perf_counter() - started)
        self._plan_end()

    def refresh_items(self) -> None:
        """Encode all item texts in the run's precision, as the model reads them in training and in scoring."""
        with self.plan.phase("texts of items"), self.accelerator.autocast():
            self.model.refresh_items()

    def _plan_end(self) -> None:
        """Reserve time to score the candidates (best, last, merged) on two parts, to probe, and to write the report.

        The best is often the last, which is then scored once; the time that is left over is the safety of this plan.
        """
        after = (
            self.scorings * (self.costs["refresh"] + 2 * self.costs["validate"])
            + self.costs["probe"]
            + self.costs["step"]
        )
        # What is left for training, with what it has had, and for all that comes after its candidates.
        both = self.trained_seconds + max(0.0, self.plan.remaining() - after)
        self.seconds_allowed = broadcast(max(self.trained_seconds, both - self.plan.kept(both)))

    def _planned(self) -> bool:
        """Return whether the time that is left says when the training is validated."""
        return self.plan.limited and not self.config["eval_interval"]

    def _validation_due(self) -> bool:
        """Return whether a step is followed by a validation; asked after every step."""
        due = self.pace.checkpoint_due(self._progress())
        interval = self.config["eval_interval"]
        # Also every hundred steps: where quarters are long, those that are merged are of the second half alone. A task
        # that is learnt late is lost in a mean with a checkpoint of the first quarter.
        return self._due(interval) if interval else due or self._due(_INTERVAL)

    def _due(self, interval: int) -> bool:
        return bool(interval) and self.step % interval == 0

    def _progress(self) -> float:
        return progress(self.step, self.config["max_steps"], self.trained_seconds, self.seconds_allowed)

    def _train_step(self) -> None:
        """Make one optimiser step and its probe, and update the scheduler and the pace."""
        before, started = self.plan.spent_on(STEPS), time.perf_counter()
        with self.plan.phase(STEPS):
            self._make_step()
        seconds = time.perf_counter() - started
        if STEPS in self.pace.counts:  # the first step compiles and allocates
            self.costs["step"] = max(self.costs["step"], seconds)
        self.pace.add(STEPS, self.plan.spent_on(STEPS) - before, 1)
        self.pace.end_step()
        self._set_pace()
        if self.plan.limited and self.step == _MEASURED_STEPS:
            self._plan_end()
            left = self.seconds_allowed - self.trained_seconds
            pace, step = self.loader.generative_pace, self.step_seconds / self.step
            self.logger.info(self.pace.described(step, left, self.costs["validate"], pace))

    def _set_pace(self) -> None:
        pace = self.pace.generative(len(self.loader.waiting.get(GENERATIVE, ())))
        self.loader.generative_pace, self.loader.small_pass = broadcast((pace, self.pace.small_pass))

    @contextmanager
    def _timed(self, part: Part) -> Iterator[None]:
        """Take the time of the work on a part of a batch, for the report and for the pace."""
        account = account_of(part, USERS)
        before = self.plan.spent_on(account)
        with self.plan.phase(account):
            yield
            if self.plan.limited and is_gpu(self.device):
                torch.accelerator.synchronize(self.device)
        self.pace.add(account, self.plan.spent_on(account) - before, len(part))

    def _make_step(self) -> None:
        factor = rate_factor(self.step, self._progress(), self.config["warmup_steps"])
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        self.model.train()
        started = time.perf_counter()
        accumulate = self.accelerator.gradient_accumulation_steps
        counts: dict[str, int] = {}
        sums: dict[str, float] = {}
        for _ in range(accumulate):
            batch = self.loader.next_batch()
            with self.accelerator.accumulate(self.engine):
                for name, loss in self._backward(batch).items():
                    sums[name] = sums.get(name, 0.0) + loss * batch.counts[name]
                if self.accelerator.sync_gradients:
                    self._clip()
                self.optimizer.step()
                self.optimizer.zero_grad()
            for name, count in batch.counts.items():
                counts[name] = counts.get(name, 0) + count
        self.step += 1
        late = broadcast(self.plan.limited and self.probes.too_long(self.step_seconds))
        found = self._probe(self.probes.due(self.step, late))
        self.step_seconds += time.perf_counter() - started
        self._record({name: total / counts[name] for name, total in sums.items()}, counts, found)

    def _backward(self, batch: StepBatch) -> dict[str, float]:
        """Add the gradients of one batch and return the mean loss of each task; see `StepGradients.add`."""
        self.model.task_weights = self.loader.scheduler.loss_weights()
        return self.gradients.add(batch, self.step + 1)

    def _clip(self) -> None:
        """Clip the gradients of a whole step.

        Raises:
            TrainingError: they are not finite; the parameters are still those of the step before.
        """
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config["max_grad_norm"])
        if norm is not None and not math.isfinite(norm):
            raise TrainingError(
                f"the gradient is {float(norm)} in step {self.step + 1} (loss {self._postfix()}); {self._advice()}"
            )

    def _probe(self, names: list[str]) -> dict[str, float]:
        """Measure probes and tell the scheduler.

        Raises:
            TrainingError: a probe loss is NaN or infinite.
        """
        found = broadcast(self.probes.measure(self.model, names))
        for name, loss in found.items():
            if not math.isfinite(loss):
                raise TrainingError(f"probe loss of task {name} is {loss} after step {self.step}; {self._advice()}")
        self.loader.scheduler.update(found)
        return found

    def _refuse_diverged(self) -> None:
        """Raise if any trained parameter is NaN or infinite, before it is evaluated or saved.

        Raises:
            TrainingError: naming one of them.
        """
        trained = trained_parameters(self.model)
        finite = torch.stack([weight.isfinite().all() for weight in trained.values()]).tolist()
        if not all(finite):
            raise TrainingError(
                f"{list(trained)[finite.index(False)]} is not finite after step {self.step}; {self._advice()}"
            )

    def _advice(self) -> str:
        return (
            f"the last good checkpoint is step {max(self.store.steps(), default=0)}. Start a new run with a lower "
            "learning_rate or adapter_rate, or with precision: float32"
        )

    def _record(self, losses: dict[str, float], counts: dict[str, int], probed: dict[str, float]) -> None:
        for name, loss in losses.items():
            self.smooth[name] = _SMOOTH * self.smooth.get(name, loss) + (1 - _SMOOTH) * loss
        self.history.append(
            {
                "step": self.step,
                "seconds": round(self.trained_seconds, 2),
                "losses": losses,
                "counts": counts,
                "probed": probed,
                "weights": self.loader.scheduler.weights(),
            }
        )
        for name, loss in losses.items():
            self.tensorboard.add_scalar(f"Loss/{name}", loss, self.step)
        self.wandblogger.log_metrics({**losses, "train_step": self.step}, head="train")

    def _postfix(self) -> str:
        shown = " ".join(f"{name} {loss:.3f}" for name, loss in self.smooth.items())
        left = self.seconds_allowed - self.trained_seconds
        return shown if left == float("inf") else f"{shown} | {max(0.0, left):.0f}s left"

    # Validation ------------------------------------------------------------------------------------------------------

    def _validate(self, valid_data: Any, verbose: bool, callback_fn: Callable[[int, float], None] | None) -> None:
        """Score on the validation part through RecBole's evaluator and keep the best."""
        if valid_data is None:
            return
        started = time.perf_counter()
        with self.plan.phase("validation"), self.accelerator.autocast():
            result = self.evaluate(valid_data, load_best_model=False)
        # The longest, since a busy machine stays busy; the first one replaces the estimate.
        before = self.costs["validate"] if any("valid" in record for record in self.history) else 0.0
        self.costs["validate"] = max(before, time.perf_counter() - started)
        score = result[self.valid_metric]
        self.best_valid_score, self.stale, _, improved = early_stopping(
            score, self.best_valid_score, self.stale, max_step=self.stopping_step, bigger=self.valid_metric_bigger
        )
        if improved:
            self.best_step, self.best_valid_result = self.step, result
        self.history[-1]["valid"] = {name: float(value) for name, value in result.items()}
        self.tensorboard.add_scalar("Vaild_score", score, self.step)
        self.wandblogger.log_metrics({**result, "valid_step": self.step}, head="valid")
        if verbose:
            best = " (best)" if improved else ""
            self.logger.info(f"step {self.step}, {self.trained_seconds:.0f}s: {dict2str(result)}{best}")
        if callback_fn:
            callback_fn(self.step, score)

    def _build_probes(self) -> Probes:
        batches = {name: self.loader.probe_batch(name).to(self.device) for name in self.loader.tasks}

        def losses(part: Any) -> torch.Tensor:
            with self.accelerator.autocast():
                return self.model.example_losses(part)

        return Probes(batches, losses, ProbeOptions.of(self.config["probe_args"], "probe_args").interval, self.device)

    @property
    def probe_share(self) -> float:
        """Probes' share of the time of all steps, including data, without validation and refreshes."""
        return self.probes.seconds / max(self.step_seconds, 1e-9)

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def _begin(self, saved: bool) -> None:
        """Start a new training (untrained losses first, base saved for merging) or resume from a checkpoint."""
        if resume_newest(self):
            return
        started = time.perf_counter()
        self.refresh_items()
        self.text_seconds = broadcast(time.perf_counter() - started)
        self.untrained = self._probe(list(self.probes.batches))
        # The untrained probe of all tasks is not part of a step's cost.
        self.costs["probe"], self.probes.seconds = self.probes.seconds, 0.0
        start = trained_tensors(trained_parameters(self.model))
        self.base = base_fingerprint(start)
        if saved:
            on_main(lambda: self.store.save(Checkpoint(0, start, {}, {}), 0))
        seed_process(self.config["seed"])

    def _checkpoint(
        self, valid_data: Any, verbose: bool, saved: bool, callback_fn: Callable[[int, float], None] | None
    ) -> None:
        """Validate the model, and save it."""
        self._refuse_diverged()
        self._validate(valid_data, verbose, callback_fn)
        if saved:
            self._save()

    def _save(self) -> None:
        with self.plan.phase("checkpoints"):
            checkpoint = checkpoint_of(self)
            written = on_main(lambda: self.store.save(checkpoint, self.best_step))
            if not is_main():
                self.store.follow(checkpoint, written)
            later = on_main(lambda: len({*self.store.steps()} - {0, *self.pace.early}))
            self.store.remove(self.pace.superfluous(later))  # by all: each process may have some in memory

    def _save_interrupted(self) -> str:
        checkpoint = checkpoint_of(self)
        return on_main(lambda: self.store.save_interrupted(checkpoint))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue exactly where a checkpoint was taken; see `resume.restore`."""
        restore(self, checkpoint)
