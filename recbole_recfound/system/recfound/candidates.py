"""Best, last and merged checkpoint of a training: which one is kept, by validation or by probes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from recbole_recfound.config.configurator import Config
from recbole_recfound.config.options import MergeOptions
from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.evaluation.by_user import kept_ranking
from recbole_recfound.evaluation.report.table import PROBE_LOSS
from recbole_recfound.merge.hook import MERGED, MergeOutcome, Scored, choose, merge_last
from recbole_recfound.model.trained import load_trained, trained_parameters
from recbole_recfound.runtime.exchange import broadcast
from recbole_recfound.trainer.recfound import RecFoundTrainer


class Candidates:
    """The checkpoints of a finished training, loaded into its model one after the other and scored.

    Args:
        config: of the run.
        trainer: whose training is over.
        splits: data of the ranking; None: nothing is ranked.
    """

    def __init__(self, config: Config, trainer: RecFoundTrainer, splits: Splits | None) -> None:
        self.config = config
        self.trainer = trainer
        self.store = trainer.store
        self.splits = splits

    def choose(self) -> MergeOutcome:
        """Merge, score all candidates, and leave the chosen one in the model."""
        return self._by_ranking(self.splits) if self.splits is not None else self._by_probes()

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put trained tensors into the model, and encode item texts with them.

        Args:
            tensors: of a checkpoint, by name.
        """
        load_trained(trained_parameters(self.trainer.model), tensors)
        self.trainer.refresh_items()

    def score(self, data: Any) -> dict[str, float]:
        """Return the metrics of the model as it is.

        Args:
            data: RecBole's loader of an evaluation.
        """
        with self.trainer.accelerator.autocast():
            return {name: float(value) for name, value in self.trainer.evaluate(data, load_best_model=False).items()}

    def _by_ranking(self, splits: Splits) -> MergeOutcome:
        """Compare best single, last and merged checkpoint, each with item texts encoded by its own weights."""
        trainer = self.trainer
        merged, outcome = self._merged()
        candidates = {"best": self.store.load(trainer.best_step, trainer.device).trained}
        # The same object twice is scored once.
        alike = trainer.best_step == trainer.step
        candidates["last"] = candidates["best"] if alike else self.store.load(trainer.step, trainer.device).trained
        if merged is not None:
            candidates[MERGED] = merged

        return choose(
            candidates,
            outcome,
            self.load,
            lambda: self._score_users(splits.valid_data)._replace(losses=self._relative_losses()),
            lambda: self._score_users(splits.test_data),
            self.config["valid_metric"].lower(),
            trainer.valid_metric_bigger,
        )

    def _by_probes(self) -> MergeOutcome:
        """Compare last and merged checkpoint without a ranking: by mean probe loss relative to the untrained model."""
        merged, outcome = self._merged()
        candidates = {"last": self.store.load(self.trainer.step, self.trainer.device).trained}
        if merged is not None:
            candidates[MERGED] = merged

        def probe() -> Scored:
            losses = self._relative_losses()
            return Scored({PROBE_LOSS: float(np.mean([np.mean(found) for found in losses.values()]))}, losses=losses)

        load = partial(load_trained, trained_parameters(self.trainer.model))
        return choose(candidates, outcome, load, probe, lambda: Scored({}), PROBE_LOSS, bigger=False)

    def _score_users(self, data: Any) -> Scored:
        """Return the metrics of the model as it is, and the one that chooses of each user."""
        with kept_ranking(self.trainer) as kept:
            metrics = self.score(data)
        # The main process has scored; all choose alike.
        return Scored(metrics, broadcast(kept.by_user(self.config, data)))

    def _relative_losses(self) -> dict[str, list[float]]:
        """Return the loss of each example of the probes over the mean loss of the untrained model, of each task."""
        trainer = self.trainer
        found = broadcast(trainer.probes.examples(trainer.model, list(trainer.untrained)))
        return {name: [loss / max(trainer.untrained[name], 1e-8) for loss in losses] for name, losses in found.items()}

    def _merged(self) -> tuple[dict[str, torch.Tensor] | None, MergeOutcome]:
        merging, further = MergeOptions.read(self.config)
        return merge_last(
            self.store,
            merging.last,
            self.config["merge_method"],
            merging.density,
            self.trainer.device,
            merging.sparsify,
            **further,
        )
