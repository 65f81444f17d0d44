"""Training of a bank of kernels, with optimiser state, batch size, early stopping and guard of each domain."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from tqdm import tqdm

from recbole_recfound.errors import TrainingError
from recbole_recfound.evaluation.domains import DomainScorer
from recbole_recfound.model.iak import IAK, Losses
from recbole_recfound.model.kernel import Kernels
from recbole_recfound.runtime.exchange import Share, broadcast, sum_gradients, total
from recbole_recfound.runtime.ranks import world
from recbole_recfound.runtime.signals import Interrupted, finishing_steps, received
from recbole_recfound.runtime.time_plan import TimePlan
from recbole_recfound.sampler.domain_batches import DomainBatchSampler
from recbole_recfound.trainer.checkpoint import CheckpointStore
from recbole_recfound.trainer.domain_adam import DomainAdam
from recbole_recfound.trainer.kernel_state import checkpoint_of, restore

WARM_UP = 0.25
"""Part of the planned steps over which beta rises to its value."""
SAVE_SECONDS = 30.0
"""Least time between two checkpoints of the schedule; epochs of kernels can be short."""


@dataclass(frozen=True)
class KernelTraining:
    """Hyper-parameters of one training of kernels; see `IAKOptions` and the settings of RecBole's names."""

    epochs: int
    learning_rate: float
    beta: float
    lambda_c: float
    lambda_kd: float
    schedule: str
    stopping_step: int
    least_steps: int
    cold: str


@dataclass
class TrainingSummary:
    """Result of a training.

    Attributes:
        seconds: of training and validation.
        epochs: number of epochs started.
        converged: every domain stopped early.
        history: one record per step: `step`, `matching`, `compression`, `kl`, `beta`.
        steps: int64 [D], steps of each domain of the first type.
        best_epoch: for each type, the epoch of each domain's best kernel; 0 = the base, -1 = the initial kernel.
    """

    seconds: float = 0.0
    epochs: int = 0
    converged: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    steps: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    best_epoch: list[np.ndarray] = field(default_factory=list)


class KernelTrainer:
    """Train the kernels of a model; no parameter of the base is optimised.

    Args:
        model: IAK.
        sampler: gives the rows of each step; domains are those of the first type, and one more, if there are further
            types, of the rows that have no domain of the first.
        collate: RecBole's `collate_fn` of the training loader.
        scorer: validation.
        options: see `KernelTraining`.
        device: where the model is.
        deadline: a time of `time.monotonic()` after which no epoch begins.
        store: checkpoints, from which a training that was cut off continues; None: none are written.
        plan: clock of the run, whose accounts checkpoints hold; None: one of this training alone.
    """

    def __init__(
        self,
        model: IAK,
        sampler: DomainBatchSampler,
        collate: Callable[[list[int]], Any],
        scorer: DomainScorer,
        options: KernelTraining,
        device: torch.device,
        deadline: float | None = None,
        store: CheckpointStore | None = None,
        plan: TimePlan | None = None,
    ) -> None:
        self.model, self.sampler, self.scorer, self.options = model, sampler, scorer, options
        self.device, self.deadline = device, deadline
        self.collate, self.store, self.plan = collate, store, plan or TimePlan(0)
        self.planned = max(1, options.epochs * sampler.steps_per_epoch())
        self.optimizers = {phase: self._optimizers(phase) for phase in ("encoder", "decoder")}
        self.fitted = TrainingSummary(steps=np.zeros(model.banks[0].num_domains, dtype=np.int64))
        # The epoch that is being made, and its steps that are done.
        self.epoch, self.position, self.phase = 1, 0, "joint"
        # Domains that have had a training row, of each type.
        self.trained: list[np.ndarray] = [np.zeros(bank.num_domains, dtype=bool) for bank in model.banks]

    def _optimizers(self, phase: str) -> list[DomainAdam]:
        """Build one optimiser per bank; only domains of the first type have learning-rate factors."""
        found = []
        for number, bank in enumerate(self.model.banks):
            factors = torch.ones(bank.num_domains, device=self.device)
            if number == 0:
                factors = torch.as_tensor(
                    self.sampler.rate_factors[: bank.num_domains], dtype=torch.float32, device=self.device
                )
            found.append(DomainAdam(bank.group_of(phase), self.options.learning_rate, factors))
        return found

    def fit(self, base_scores: list[np.ndarray], show_progress: bool = False, warm: bool = False) -> TrainingSummary:
        """Train until every domain has stopped, the epochs are over, or time is up; keep each domain's best kernel.

        Args:
            base_scores: validation scores of the base, [D] for each type: what a kernel must beat.
            show_progress: a bar over the steps.
            warm: whether the kernels have been trained before and remain where they are already better than the base.

        Raises:
            TrainingError: a loss is not finite.
            Interrupted: by a signal; the step is saved where there is a store.
        """
        self._begin(base_scores, warm)
        if self.store and (checkpoint := self.store.newest(self.device)):
            restore(self, checkpoint)
        bar = tqdm(
            total=self.planned,
            initial=len(self.fitted.history),
            desc="IAK",
            disable=not show_progress,
            dynamic_ncols=True,
        )
        with finishing_steps() if self.store else nullcontext(), bar:
            while self.epoch <= self.options.epochs:
                if not self.position:
                    if all(stopped.all() for stopped in self.stopped) or self._late():
                        break
                    self.phase = self._phase(self.epoch)
                with self.plan.phase("training steps"):
                    self._train_epoch(bar)
                if self.phase != "encoder":  # it leaves the base's vectors unchanged
                    with self.plan.phase("validation"):
                        self._validate()
                self.epoch, self.position = self.epoch + 1, 0
                self._save()
                self._end_if_asked()
        self._restore(self.kept)
        with self.plan.phase("validation"):
            self._guard(self.best_epoch)
        self._cold_start(self.best_epoch)
        self.fitted.converged = bool(all(stopped.all() for stopped in self.stopped))
        self.fitted.best_epoch, self.fitted.epochs = self.best_epoch, self.epoch - 1
        self.fitted.seconds = self.seconds()
        return self.fitted

    def _begin(self, base_scores: list[np.ndarray], warm: bool) -> None:
        """Set the state before the first epoch."""
        self.began = self.saved = time.monotonic()
        self.best = [np.where(np.isnan(scores), np.inf, scores) for scores in base_scores]
        self.kept = [[weight.detach().clone() for weight in bank.parameters()] for bank in self.model.banks]
        self.best_epoch = [np.zeros(len(scores), dtype=np.int64) for scores in self.best]
        if warm:
            with self.plan.phase("validation"):
                collected = self.scorer.collect(self.model, "valid")
                found = [self.scorer.valid_scores(collected, number) for number in range(len(self.best))]
            for number, (scores, first) in enumerate(zip(self.best, found, strict=True)):
                self.best_epoch[number][first > scores] = -1
                self.best[number] = np.fmax(scores, first)
        self.stale = [np.zeros(len(scores), dtype=np.int64) for scores in self.best]
        self.stopped = [np.zeros(len(scores), dtype=bool) for scores in self.best]
        self.stopped[0] |= self.sampler.stopped[: len(self.stopped[0])]

    def seconds(self) -> float:
        """Seconds of this training, those before an interruption included."""
        return time.monotonic() - self.began

    def _validate(self) -> None:
        """Keep the kernels of the domains that have become better, and stop those that have not for long."""
        collected = self.scorer.collect(self.model, "valid")
        for number, bank in enumerate(self.model.banks):
            scores = broadcast(self.scorer.valid_scores(collected, number))
            better = (scores > self.best[number]) & self.trained[number]
            self._keep(bank, self.kept[number], np.flatnonzero(better))
            self.best[number] = np.where(better, scores, self.best[number])
            self.best_epoch[number][better] = self.epoch
            self.stale[number] = np.where(better, 0, self.stale[number] + 1)
            self._stop(number, self.stale[number] >= self.options.stopping_step)

    def _save(self) -> None:
        if self.store and time.monotonic() - self.saved >= SAVE_SECONDS:
            with self.plan.phase("checkpoints"):
                self.store.save(checkpoint_of(self), 0)
            self.saved = time.monotonic()

    def _end_if_asked(self) -> None:
        """End after a signal, behind what is complete."""
        if self.store and (number := received()):
            raise Interrupted(number, self.store.save_interrupted(checkpoint_of(self)))

    def _late(self) -> bool:
        """Return whether another epoch would probably end after the deadline; the first always begins."""
        if self.deadline is None or self.epoch == 1:
            return False
        return broadcast(time.monotonic() + self.seconds() / (self.epoch - 1) > self.deadline)

    def _phase(self, epoch: int) -> str:
        """Return `joint`, or `encoder` for the first half of the epochs (or of the time) and `decoder` after it."""
        if self.options.schedule == "joint":
            return "joint"
        half = None if self.deadline is None else (self.began + self.deadline) / 2
        in_time = half is None or epoch == 1 or broadcast(time.monotonic() < half)
        return "encoder" if epoch <= self.options.epochs // 2 and in_time else "decoder"

    # Steps -----------------------------------------------------------------------------------------------------------

    def _train_epoch(self, bar: tqdm) -> None:
        """Make the steps of an epoch from `position` on."""
        self.model.train()
        self.sampler.epoch = self.epoch - 1
        for rows in list(self.sampler)[self.position :]:
            self._step(self.collate(rows).to(self.device), self.phase)
            self.position += 1
            bar.update()
            self._end_if_asked()

    def _step(self, interaction: Interaction, phase: str) -> None:
        record = self.fitted.history
        beta = self.options.beta * min(1.0, (len(record) + 1) / (WARM_UP * self.planned))
        losses = self._losses(interaction)
        if phase == "encoder":
            loss = losses.compression + beta * losses.kl
        else:
            loss = losses.matching + self.options.lambda_c * losses.compression + beta * losses.kl
            loss = loss + self.options.lambda_kd * losses.distill
        if not torch.isfinite(total(loss.detach())):
            raise TrainingError(
                f"IAK's loss is {loss.item()} at step {len(record) + 1}; a smaller learning_rate may help"
            )
        if loss.requires_grad or world() == 1:
            loss.backward()
        sum_gradients(self.model.banks.parameters())
        phases = ("encoder", "decoder") if phase == "joint" else (phase,)
        domain = self.model.domain_of(interaction)
        for number, bank in enumerate(self.model.banks):
            self._move(number, bank, domain[:, number], phases)
        parts = total(torch.stack([part.detach() for part in losses]))
        values = dict(zip(losses._fields, parts.tolist(), strict=True))
        record.append({"step": len(record) + 1, "beta": beta, **values})

    def _losses(self, interaction: Interaction) -> Losses:
        """Return the parts of the loss of a batch; of several processes, this one's summands of their means."""
        if world() == 1:
            return self.model.losses(interaction)
        share = Share.of(len(interaction))
        for kernels in self.model.banks:
            for bank in kernels.places:
                bank.share = share
        mine = self.model.losses(interaction[share.index])
        return Losses(*(part * (share.count / share.rows) for part in mine))

    def _move(self, number: int, bank: Kernels, domain: torch.Tensor, phases: tuple[str, ...]) -> None:
        """Make one optimiser step of the domains that have rows in the batch and have not stopped."""
        counts = torch.bincount(domain[domain >= 0], minlength=bank.num_domains)
        going = torch.as_tensor(~self.stopped[number], device=counts.device)
        domains = torch.nonzero((counts > 0) & going).squeeze(1)
        for phase in phases:
            self.optimizers[phase][number].step(domains, counts[domains] / len(domain))
        bank.zero_grad(set_to_none=True)
        self.trained[number][(counts > 0).cpu().numpy()] = True
        if number == 0:
            self.fitted.steps[domains.cpu().numpy()] += 1

    # Per domain ------------------------------------------------------------------------------------------------------

    def _stop(self, number: int, stale: np.ndarray) -> None:
        """Stop stale domains; those of the first type make their least number of steps before.

        With several types the rows of a stopped domain are still drawn, since kernels of another type learn from them.
        """
        if number == 0:
            stale = stale & (self.fitted.steps >= self.options.least_steps)
            if len(self.model.banks) == 1:
                self.sampler.stop(np.flatnonzero(stale))
        self.stopped[number] |= stale

    @torch.no_grad()
    def _keep(self, bank: Kernels, kept: list[torch.Tensor], domains: np.ndarray) -> None:
        index = torch.from_numpy(domains).to(self.device)
        for weight, copy in zip(bank.parameters(), kept, strict=True):
            copy[index] = weight[index]

    @torch.no_grad()
    def _restore(self, kept: list[list[torch.Tensor]]) -> None:
        for bank, copies in zip(self.model.banks, kept, strict=True):
            for weight, copy in zip(bank.parameters(), copies, strict=True):
                weight.copy_(copy)

    def _guard(self, epochs: list[np.ndarray]) -> None:
        """Enable only kernels that improve their domain's validation score."""
        for bank, found in zip(self.model.banks, epochs, strict=True):
            bank.enable(torch.from_numpy(found != 0))
        if len(self.model.banks) == 1:
            return  # the selected kernels are already better than the base
        settled = False
        while not settled:  # the effect of one bank may depend on others that are disabled
            settled = True
            for number, bank in enumerate(self.model.banks):
                on = bank.enabled.clone()
                scores = []
                for enabled in (on, torch.zeros_like(on)):
                    bank.enable(enabled)
                    collected = self.scorer.collect(self.model, "valid")
                    scores.append(broadcast(self.scorer.valid_scores(collected, number)))
                bank.enable(on & torch.from_numpy(scores[0] > scores[1]).to(on.device))
                settled = settled and torch.equal(bank.enabled, on)

    def _cold_start(self, epochs: list[np.ndarray]) -> None:
        """Disable domains without training rows or give them the mean kernel, unless their warm start is better."""
        for bank, seen, found in zip(self.model.banks, self.trained, epochs, strict=True):
            cold = torch.from_numpy(~seen & (found == 0)).to(self.device)
            trained = torch.nonzero(bank.enabled & ~cold).squeeze(1)
            if self.options.cold == "mean" and len(trained) and cold.any():
                bank.set_mean_of(trained, torch.nonzero(cold).squeeze(1))
                bank.enable(bank.enabled | cold)
