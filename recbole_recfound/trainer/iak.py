"""IAK's trainer as a RecBole Trainer: the base first, where it is untrained, then the kernels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.trainer import Trainer
from recbole.utils import get_trainer

from recbole_recfound.config.configurator import Config
from recbole_recfound.config.settings import refuse
from recbole_recfound.data.split.protocol import training_part
from recbole_recfound.evaluation.domains import DomainScorer
from recbole_recfound.evaluation.report.table import smaller_is_better
from recbole_recfound.model.iak import IAK
from recbole_recfound.model.kernel.files import save_kernels
from recbole_recfound.model.kernel.options import IAKOptions
from recbole_recfound.model.pretrained import rows_of_base
from recbole_recfound.model.pretrained.base_config import base_of
from recbole_recfound.model.pretrained.make import training_loader, training_rows
from recbole_recfound.runtime.time_plan import TimePlan
from recbole_recfound.sampler.domain_batches import DomainBatchSampler
from recbole_recfound.trainer.checkpoint import CheckpointStore
from recbole_recfound.trainer.kernels import KernelTrainer, KernelTraining, TrainingSummary


class IAKTrainer(Trainer):
    """Train the kernels of a model for one value of beta; no parameter of the base is optimised.

    Args:
        config: settings of the run.
        model: IAK; where its base is untrained, `fit` trains it first.
        beta: weight of the KL; None: the first of `iak_args`.
        deadline: a time of `time.monotonic()` after which no epoch of the kernels begins; None: that of `plan`.
        store: checkpoints, from which a training that was cut off continues; None: none are written.
        plan: clock of the run; None: one of this training, with its `time_budget`.
    """

    def __init__(
        self,
        config: Config,
        model: IAK,
        beta: float | None = None,
        deadline: float | None = None,
        store: CheckpointStore | None = None,
        plan: TimePlan | None = None,
    ) -> None:
        self.saved_model_file: str  # set by RecBole
        super().__init__(config, model)
        self.options = IAKOptions.of(config["iak_args"], "iak_args")
        self.beta = self.options.betas[0] if beta is None else beta
        self.store, self.plan = store, plan or TimePlan(config["time_budget"] or 0)
        self.late = self.plan.deadline() if deadline is None else deadline
        self.summary: TrainingSummary | None = None
        self._train_data: Any = None

    def _check_one_training(self) -> None:
        """Refuse settings of several rows, which RecBole's quick start, one training of one model, does not read.

        Raises:
            ConfigError: naming them.
        """
        several = {
            "iak_args: beta": self.options.betas[1:],
            "iak_args: warm_start": self.options.warm_start,
            "tuning_baselines": self.config["tuning_baselines"],
        }
        refuse([f"{name}: only run_recfound reads it" for name, given in several.items() if given])

    def _build_optimizer(self, **kwargs: Any) -> None:
        """Return nothing: every domain has an optimiser state of its own (`DomainAdam`)."""

    @property
    def split_seed(self) -> int:
        """Seed with which the base's data were split."""
        checkpoint = base_of(self.config)[1]
        return self.config["seed"] if checkpoint is None else checkpoint.seed

    def seen_by_base(self, train_set: Any) -> np.ndarray:
        """Return which training rows the base has learned from, bool [N]."""
        checkpoint = base_of(self.config)[1]
        share = self.options.base_share if checkpoint is None else checkpoint.share
        return rows_of_base(train_set, share, self.split_seed)

    def rows_for_kernels(self, train_set: Any) -> np.ndarray:
        """Return which training rows the kernels learn from: those that the base has not seen, where there are any."""
        seen, rows = self.seen_by_base(train_set), training_rows(self.model.base, train_set)
        return rows if seen.all() else rows & ~seen

    def scorer(self, train_data: Any, **loaders: Any) -> DomainScorer:
        """Return a scorer of held-out rows by domain.

        Args:
            train_data: RecBole's loader of the training rows.
            loaders: evaluation loader of each phase, such as `valid` and `test`.
        """
        return DomainScorer(self.model.base, self.model.domains, train_data, loaders, self.config["valid_metric"])

    def batches(self, train_set: Any, first_type_only: bool = False) -> DomainBatchSampler:
        """Return the sampler of training rows by domain.

        Args:
            train_set: RecBole's built training set.
            first_type_only: leave out rows that have a domain of a further type alone (other ways of fine-tuning).
        """
        config, options, domains = self.config, self.options, self.model.domains
        rows = self.rows_for_kernels(train_set)
        if first_type_only:
            numbers, count = training_domains(domains[0], train_set, rows), len(domains[0])
        else:
            numbers, count = kernel_rows(domains, train_set, rows)
        return DomainBatchSampler(
            numbers,
            count,
            config["train_batch_size"],
            options.sampling,
            config["epochs"],
            options.least_steps,
            config["seed"],
            count - len(domains[0]),
        )

    def training(self, beta: float) -> KernelTraining:
        """Return the hyper-parameters of one training of kernels."""
        config, options = self.config, self.options
        return KernelTraining(
            config["epochs"],
            config["learning_rate"],
            beta,
            options.lambda_c,
            options.lambda_kd,
            options.schedule,
            config["stopping_step"],
            options.least_steps,
            options.cold,
        )

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
        scorer: DomainScorer | None = None,
        warm: bool = False,
    ) -> tuple[float, dict[str, float]]:
        """Train the base where it is untrained, then the kernels.

        Args:
            train_data: RecBole's loader of the training rows.
            valid_data: RecBole's loader of the validation rows.
            verbose: log the result.
            saved: write the kernels to `saved_model_file` (safetensors).
            show_progress: show a bar.
            callback_fn: called once at the end, with the epochs and the validation score.
            scorer: with the phase `valid`, where the caller has one already.
            warm: the kernels have been trained before.

        Returns:
            Best validation score and all validation metrics.

        Raises:
            ConfigError: settings of a run with several rows, without `scorer`.
            TrainingError: a loss is not finite.
        """
        if scorer is None:
            self._check_one_training()
        train_set, self._train_data = train_data._dataset, train_data
        if not self.model.base_trained:
            self._fit_base(train_data, valid_data, show_progress)
        scorer = scorer or self.scorer(train_data, valid=valid_data)
        with self.plan.phase("validation"):
            base_valid = scorer.collect(self.model.base, "valid")
            scores = [scorer.valid_scores(base_valid, number) for number in range(len(self.model.domains))]
        fitter = KernelTrainer(
            self.model,
            self.batches(train_set),
            collate_of(train_data),
            scorer,
            self.training(self.beta),
            self.device,
            self.late,
            self.store,
            self.plan,
        )
        self.sampler = fitter.sampler
        self.summary = fitter.fit(scores, show_progress, warm)
        with self.plan.phase("validation"):
            result = scorer.metrics(scorer.collect(self.model, "valid"), "valid")
        self.best_valid_result = result
        self.best_valid_score = result.get(self.config["valid_metric"].lower(), float("nan"))
        if saved:
            self.saved_model_file = str(Path(self.saved_model_file).with_suffix(".safetensors"))
            Path(self.saved_model_file).parent.mkdir(parents=True, exist_ok=True)
            save_kernels(self.model, Path(self.saved_model_file))
        if verbose:
            self.logger.info(f"kernels: {self.summary.epochs} epochs, {self.summary.seconds:.0f} s: {result}")
        if callback_fn:
            callback_fn(self.summary.epochs, self.best_valid_score)
        self.valid_metric_bigger = not smaller_is_better(self.config["valid_metric"])
        return self.best_valid_score, result

    def _fit_base(self, train_data: Any, valid_data: Any, show_progress: bool) -> None:
        """Train the base with RecBole's trainer, on the rows that are the base's, and freeze it again."""
        train_set, base = train_data._dataset, self.model.base
        config = train_set.config
        seen = self.seen_by_base(train_set)
        rows = train_data if seen.all() else training_part(train_data, seen)
        base.requires_grad_(True)
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, base)
        trainer.fit(rows, valid_data, saved=True, show_progress=show_progress)
        trainer.evaluate(valid_data, load_best_model=True, show_progress=False)
        self.model.forget_base()
        base.requires_grad_(False).eval()
        self.model.base_trained = True

    @torch.no_grad()
    def evaluate(
        self, eval_data: Any, load_best_model: bool = True, model_file: str | None = None, show_progress: bool = False
    ) -> dict[str, float]:
        """Score the model, as it is after `fit`, on held-out rows.

        Args:
            eval_data: RecBole's loader of validation or test rows.
            load_best_model: ignored; every domain already has its best kernel.
            model_file: ignored.
            show_progress: ignored.
        """
        if self._train_data is None:
            raise RuntimeError("call fit() first: metrics of rankings need counts of the training data")
        scorer = DomainScorer(self.model.base, self.model.domains, self._train_data, {"held_out": eval_data})
        return scorer.metrics(scorer.collect(self.model, "held_out"), "held_out")


def collate_of(train_data: Any) -> Callable[[list[int]], Any]:
    """Return what makes a batch of training rows: the base's own loader, or RecBole's."""
    train_set = train_data._dataset
    own = training_loader(train_set)
    return train_data.collate_fn if type(own) is type(train_data) else own.collate_fn


def training_domains(domains: Any, train_set: Any, rows: np.ndarray) -> np.ndarray:
    """Return the domain of each training row, int64 [N]; -1 for rows that are not drawn (`rows` False).

    Args:
        domains: one type of domain.
        train_set: the N training rows, a data set of RecBole.
        rows: bool [N], rows that may be drawn.
    """
    found = domains.of(train_set.inter_feat).numpy().copy()
    found[~rows] = -1
    return found


def kernel_rows(domains: Any, train_set: Any, rows: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the rows that the kernels of all types are trained on.

    Args:
        domains: one entry for each type.
        train_set: RecBole's built training set.
        rows: bool [N], rows that may be drawn.

    Returns:
        int64 [N], domain of the first type of each training row; rows without one that have a domain of another type
        get a number behind these; -1 for rows that are not drawn. And the number of numbers.
    """
    found, *further = (training_domains(one, train_set, rows) for one in domains)
    count = len(domains[0])
    if not further:
        return found, count
    found[(found < 0) & (np.max(further, axis=0) >= 0)] = count
    return found, count + 1
