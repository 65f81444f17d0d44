"""Baselines of IAK: other ways to fine-tune a trained model for each domain, one copy per domain."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.domains import Collected, DomainScorer
from recbole_recfound.evaluation.results import not_converged
from recbole_recfound.model.pretrained import Attachment, Family, forget_cached
from recbole_recfound.runtime.time_plan import turn
from recbole_recfound.sampler.domain_batches import DomainBatchSampler
from recbole_recfound.trainer.kernels import KernelTraining

METHODS = ("frozen", "full", "head", "bitfit", "adapter", "lora", "scratch")
WHOLE_MODEL = ("full", "scratch")
"""Methods that train the whole model."""
LORA_RANK = 8


@dataclass(frozen=True)
class Recipe:
    """The base and sizes that all methods share.

    Attributes:
        base: trained model, never changed.
        family: its place, head and loss.
        width: d, the width at the place.
        bottleneck: of the adapter; IAK's own.
        fresh: makes an untrained model like the base.
    """

    base: nn.Module
    family: Family
    width: int
    bottleneck: int
    fresh: Callable[[], nn.Module]


class BottleneckAdapter(nn.Module):
    """h + relu(h W1 + b1) W2 + b2 (Houlsby et al. 2019), starting as the identity.

    Args:
        width: d.
        bottleneck: m.
    """

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Map [..., d] to [..., d]."""
        return h + self.up(self.down(h).relu())


class Adapted(nn.Module):
    """A frozen base with a module attached; has RecBole's `predict` and `full_sort_predict`.

    Args:
        base: frozen model.
        attachment: the place.
        module: maps [..., d] to [..., d].
    """

    base: AbstractRecommender

    def __init__(self, base: nn.Module, attachment: Attachment, module: nn.Module) -> None:
        super().__init__()
        self.base, self.attachment, self.module = base.requires_grad_(False).eval(), attachment, module

    def train(self, mode: bool = True) -> Adapted:
        """Switch the mode of the module; the base stays in eval."""
        super().train(mode)
        self.base.eval()
        return self

    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Return the base's predictions with the module attached."""
        with self.attachment.using(self.module):
            return self.base.predict(interaction)

    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        """Return the base's full-ranking scores with the module attached."""
        with self.attachment.using(self.module):
            return self.base.full_sort_predict(interaction)


def build_method(method: str, recipe: Recipe) -> tuple[nn.Module, Callable[[Any], torch.Tensor]]:
    """Build a model for one domain in which only the weights that the method trains require gradients.

    Args:
        method: one of `METHODS` but `frozen`.
        recipe: the base and sizes.

    Returns:
        The model, and its loss of a batch.

    Raises:
        ConfigError: the base has nothing that the method could train.
    """
    family = recipe.family
    if method == "adapter":
        adapter = BottleneckAdapter(recipe.width, recipe.bottleneck)
        adapted = Adapted(recipe.base, Attachment(recipe.base, family.place), adapter).to(
            next(recipe.base.parameters()).device
        )

        def loss(interaction: Any) -> torch.Tensor:
            with adapted.attachment.using(adapter):
                return family.loss(recipe.base, interaction)

        return adapted, loss
    if not family.differentiable:
        raise ConfigError(
            f"tuning_baselines: the base {type(recipe.base).__name__} has no gradients; only frozen and adapter can "
            "be used"
        )
    model: nn.Module = recipe.fresh() if method == "scratch" else copy.deepcopy(recipe.base)
    model.requires_grad_(method in WHOLE_MODEL)
    if method == "head":
        for name in family.head:
            model.get_submodule(name).requires_grad_(True)
    elif method == "bitfit":
        for name, weight in model.named_parameters():
            weight.requires_grad_(name.rpartition(".")[2].endswith("bias"))
    elif method == "lora":
        _inject_lora(model)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ConfigError(
            f"tuning_baselines: {type(recipe.base).__name__} has nothing that {method} could train; leave {method} out"
        )
    return model, lambda interaction: family.loss(model, interaction)


class LowRank(nn.Module):
    """W + B A of rank `LORA_RANK` (LoRA, Hu et al. 2021), which starts as W.

    A parametrization rather than PEFT's layers: many of RecBole's models read `embedding.weight` itself, which passes a
    layer by that adds to the output of the module.

    Args:
        weight: W [n, m].
    """

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.A = nn.Parameter(weight.new_empty(LORA_RANK, columns))
        self.B = nn.Parameter(weight.new_zeros(rows, LORA_RANK))
        nn.init.kaiming_uniform_(self.A, a=5**0.5)  # as in PEFT

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return W + B A."""
        return weight + self.B @ self.A


def _inject_lora(model: nn.Module) -> None:
    """Add LoRA to every linear map, or to the embeddings of models that have none."""
    for kind in (nn.Linear, nn.Embedding):
        targets = [module for module in model.modules() if type(module) is kind]
        for module in targets:
            parametrize.register_parametrization(module, "weight", LowRank(module.weight))
        if targets:
            return


@dataclass(frozen=True)
class DomainTraining:
    """Result of the training of one domain's model.

    Attributes:
        better: whether an epoch was better than the base on validation; the model is that of the best epoch then.
        epochs: number of epochs trained.
        converged: whether early stopping ended the training.
    """

    better: bool
    epochs: int
    converged: bool


@dataclass(frozen=True)
class FineTuner:
    """Fine-tune one model per domain of the first type, under the conditions of IAK's kernels.

    Every method has IAK's epochs, batch sizes, least steps, early stopping per domain and guard: where validation does
    not improve on the base, the domain keeps the base. `scratch` has no base to keep.

    Attributes:
        recipe: the base and sizes.
        sampler: sizes of the domains' batches (its order is not advanced).
        collate: training rows to a batch.
        scorer: validation and test.
        options: epochs, learning rate, patience.
        deadline: a time of `time.monotonic()`; the time until then is divided among the domains.
    """

    recipe: Recipe
    sampler: DomainBatchSampler
    collate: Callable[[list[int]], Any]
    scorer: DomainScorer
    options: KernelTraining
    deadline: float | None = None

    def run(self, method: str, show_progress: bool = False) -> dict[str, Any]:
        """Train and test all domains' models of one method.

        Args:
            method: one of `METHODS`.
            show_progress: a bar over the domains.

        Returns:
            The row: `metrics`, `weighted`, `domains`, `users`, `valid_metrics`, `trainable_parameters` (of all
            domains), `parameters_per_domain`, `train_seconds`, `eval_seconds`, `checkpoint_bytes`, `converged` (in all
            domains; `frozen` trains nothing), `note`.

        Raises:
            ConfigError: the base has nothing that the method could train.
        """
        started, scoring = time.monotonic(), 0.0
        scorer, base = self.scorer, self.recipe.base
        found = {phase: _Patchwork(scorer.collect(base, phase)) for phase in ("valid", "test")}
        base_scores = scorer.valid_scores(found["valid"].whole, 0)
        trained = [] if method == "frozen" else [d for d, rows in enumerate(self.sampler.rows) if len(rows)]
        sizes: list[int] = [0]
        trainings: list[DomainTraining] = []
        for done, domain in enumerate(tqdm(trained, desc=method, disable=not show_progress, dynamic_ncols=True)):
            model, loss = build_method(method, self.recipe)
            sizes.append(sum(weight.numel() for weight in model.parameters() if weight.requires_grad))
            index = {phase: torch.nonzero(scorer.domain[phase][:, 0] == domain).squeeze(1) for phase in found}
            start = -np.inf if method == "scratch" else base_scores[domain]
            rate = self.options.learning_rate * float(self.sampler.rate_factors[domain])
            training = self._fit(
                model, loss, rate, domain, index["valid"], start, turn(self.deadline, len(trained) - done)
            )
            trainings.append(training)
            if training.better or method == "scratch":
                begin = time.monotonic()
                for phase, rows in index.items():
                    if len(rows):
                        found[phase].put(rows, scorer.collect(model, phase, rows))
                scoring += time.monotonic() - begin
        seconds = time.monotonic() - started - scoring
        begin = time.monotonic()
        return {
            **scorer.summary(found["test"].whole, "test"),
            "model": method,
            "valid_metrics": scorer.metrics(found["valid"].whole, "valid"),
            "train_seconds": 0.0 if method == "frozen" else seconds,
            "eval_seconds": scoring + time.monotonic() - begin,
            "trainable_parameters": sum(sizes),
            "parameters_per_domain": max(sizes),
            "checkpoint_bytes": 4 * sum(sizes),
            "converged": all(training.converged for training in trainings),
            "note": self._note(method, trainings),
        }

    def _note(self, method: str, trainings: list[DomainTraining]) -> str:
        if not trainings:
            return ""
        better = f"better than the base in {sum(each.better for each in trainings)} of {len(trainings)} domains"
        remark = "one model per domain" if method == "scratch" else better
        ended = [training.epochs for training in trainings if not training.converged]
        if not ended:
            return remark
        late = "; cut off by the time budget" if min(ended) < self.options.epochs else ""
        return f"{remark}; {not_converged(max(ended))}{late}"

    def _fit(
        self,
        model: nn.Module,
        loss: Callable[[Any], torch.Tensor],
        rate: float,
        domain: int,
        valid: torch.Tensor,
        best: float,
        late: float | None,
    ) -> DomainTraining:
        """Train one domain's model and leave it at its best epoch, if one is better than `best` on validation."""
        options, batches = self.options, self.sampler.only(domain)
        # Any sequence can be a data set: torch needs `__getitem__` and `__len__` only.
        rows = cast("Dataset[int]", range(batches.size))
        loader = DataLoader(rows, batch_sampler=batches, collate_fn=self.collate)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.Adam(weights, lr=rate)
        kept, stale, steps, epochs, converged = None, 0, 0, 0, False
        while epochs < options.epochs and not converged:
            if late is not None and time.monotonic() > late:
                break
            model.train()
            for interaction in loader:
                optimizer.zero_grad()
                loss(interaction.to(weights[0].device)).backward()
                optimizer.step()
                steps += 1
            score, stale, epochs = self._score(model, valid), stale + 1, epochs + 1
            if score > best:
                best, stale = score, 0
                kept = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
            converged = stale >= options.stopping_step and steps >= options.least_steps
        if kept is not None:
            model.load_state_dict(kept)
            forget_cached(model)
        return DomainTraining(kept is not None, epochs, converged)

    def _score(self, model: nn.Module, valid: torch.Tensor) -> float:
        """Return the validation score of one domain's rows, higher is better; -inf where it is undefined."""
        if not len(valid):
            return float("-inf")
        scorer = self.scorer
        score = scorer.score_of(
            scorer.part_metrics(scorer.collect(model, "valid", valid), "valid", valid, scorer.selected_by)
        )
        return float("-inf") if np.isnan(score) else score


class _Patchwork:
    """The base's scores, with the rows of some domains replaced by the scores of their own models."""

    def __init__(self, whole: Collected) -> None:
        self.whole = {key: values.clone() for key, values in whole.items()}

    def put(self, rows: torch.Tensor, part: Collected) -> None:
        """Replace the scores of some rows.

        Args:
            rows: int64 [n], rows of the phase to replace.
            part: their new scores, one entry per row of `rows`.
        """
        for key, values in part.items():
            self.whole[key][rows] = values.to(self.whole[key].dtype)
