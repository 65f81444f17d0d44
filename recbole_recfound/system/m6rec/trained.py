"""A task that is trained and scored by RecBole's evaluator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

from recbole.utils import EvaluatorType, init_seed

from recbole_recfound.baseline.blend import Scorer
from recbole_recfound.baseline.click_blend import ClickScorer
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.evaluation.by_user import kept_ranking
from recbole_recfound.evaluation.clicks import with_gauc
from recbole_recfound.evaluation.drawn_ties import further_rankings
from recbole_recfound.evaluation.results import Metrics, Row, not_converged
from recbole_recfound.model.m6rec import M6Rec
from recbole_recfound.model.reading.base import SegmentModel
from recbole_recfound.model.trained import trained_parameters
from recbole_recfound.runtime.exchange import on_main
from recbole_recfound.runtime.file_digests import file_digest
from recbole_recfound.system.blending import scorer_of
from recbole_recfound.system.m6rec.load import load_tensors_of, save_tensors_of
from recbole_recfound.system.m6rec.work import Work
from recbole_recfound.system.run import Job, Run
from recbole_recfound.trainer.checkpoint import CheckpointStore
from recbole_recfound.trainer.m6rec import M6RecTrainer

KEPT = 2
"""Checkpoints of a training: the newest, and the one before it."""


class TrainedTask(Work):
    """Train the option set of the task, test, save; see `Work` for the arguments.

    Attributes:
        sharing: trainings that share the time that is left, this one included.
        clicks: whether labelled rows are scored, and no rankings.
    """

    model: SegmentModel
    trainer_class: ClassVar[type[M6RecTrainer]] = M6RecTrainer

    def __init__(self, run: Run, config: Config, splits: Splits, model: M6Rec, name: str) -> None:
        super().__init__(run, config, splits, model, name)
        self.sharing = 1
        self.clicks = splits.config["eval_type"] == EvaluatorType.VALUE

    def jobs(self) -> Iterator[Job]:
        """Yield the row of the task; a finished task needs its checkpoints no more."""
        yield Job(self.name, self._train_and_test, alone=True)
        on_main(self._store().clear)

    def _store(self) -> CheckpointStore:
        return CheckpointStore(self.run.folder.trainer_state / self.model.option_set, KEPT)

    def scorer(self) -> Scorer | ClickScorer:
        """Return the trained model as a blend reads it: with the weights of its file, also where its row was kept."""
        load_tensors_of(self.run.folder.path, self.model)
        return scorer_of(self.splits, self.model.eval())

    def _test(self, trainer: M6RecTrainer) -> tuple[Metrics, list[float], dict[str, Any]]:
        """Return the test metrics, the one that chooses of each user, and details of the row."""
        score = partial(trainer.evaluate, load_best_model=False)
        with with_gauc(trainer, self.splits.test_set), kept_ranking(trainer) as kept:
            metrics = score(self.splits.test_data)
        others = further_rankings(trainer, self.splits, score)
        return metrics, self.comparable(kept), others

    def _train_and_test(self) -> Row:
        config, splits, model = self.config, self.splits, self.model
        init_seed(config["seed"], config["reproducibility"])  # others have drawn in between
        trainer = self.trainer_class(config, model, self.run.plan, self.sharing, self._store())
        if (
            splits is self.run.splits
        ):  # the first task is blended: validation and test rows, of rankings with each baseline
            trainer.scorings += 2 * (min(len(config["blend"]), 1) if self.clicks else len(config["blend"]))
        _, valid = trainer.fit(
            splits.train_data,
            splits.valid_data,
            saved=False,
            show_progress=config["show_progress"],
            callback_fn=self.run.watch,
        )
        trained, seconds = time.monotonic(), trainer.cache_seconds + trainer.trained_seconds
        with self.run.plan.phase("test"):
            metrics, by_user, others = self._test(trainer)
        scored = time.monotonic()
        file = save_tensors_of(self.run.folder.path, model)
        model.save_states()
        cache = model.cache
        return Row(
            model=self.name,
            metrics=metrics,
            valid_metrics=valid,
            train_seconds=seconds,
            eval_seconds=scored - trained,
            trainable_parameters=sum(weight.numel() for weight in trained_parameters(model).values()),
            converged=trainer.converged,
            note="" if trainer.converged else not_converged(round(trainer.epochs_done, 1)),
            by_user=by_user,
            details={
                **others,
                **self.other_mode(),
                "files": {file.name: file_digest(file)},
                "task": model.task,
                "steps": trainer.steps,
                "best_step": trainer.best_step,
                "curve": trainer.curve,
                "start": {"targets": trainer.prepared, "seconds": trainer.prepare_seconds},
                "segments": {
                    "cached": len(cache),
                    "hits": cache.hits,
                    "misses": cache.misses,
                    "seconds": trainer.cache_seconds,
                },
            },
        )
