"""A task that is trained and scored by RecBole's evaluator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, ClassVar

from recbole.utils import init_seed

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import Splits, further_tests
from recbole_recfound.evaluation.results import Metrics, Row
from recbole_recfound.model.m6rec import M6Rec
from recbole_recfound.model.reading.base import SegmentModel
from recbole_recfound.model.trained import trained_parameters
from recbole_recfound.system.m6rec.load import save_m6rec
from recbole_recfound.system.m6rec.work import Work
from recbole_recfound.system.run import Job, Run
from recbole_recfound.trainer.m6rec import M6RecTrainer


class TrainedTask(Work):
    """Train the option set of the task, test, save; see `Work` for the arguments.

    Attributes:
        deadline: a time of `time.monotonic()` at which training, and the test after it, end; None: that of the run.
        trainer: None before the row is computed.
    """

    model: SegmentModel
    trainer_class: ClassVar[type[M6RecTrainer]] = M6RecTrainer

    def __init__(self, run: Run, config: Config, splits: Splits, model: M6Rec, name: str) -> None:
        super().__init__(run, config, splits, model, name)
        self.deadline: float | None = None
        self.trainer: M6RecTrainer | None = None

    def jobs(self) -> Iterator[Job]:
        """Yield the row of the task."""
        yield Job(self.name, self._train_and_test, resumable=False, alone=True)

    def _test(self, trainer: M6RecTrainer) -> tuple[Metrics, dict[str, Any]]:
        """Return the test metrics, and details of the row."""
        metrics = trainer.evaluate(self.splits.test_data, load_best_model=False)
        others = {
            name: {metric: float(value) for metric, value in trainer.evaluate(loader, False).items()}
            for name, loader in further_tests(self.splits).items()
        }
        return {name: float(value) for name, value in metrics.items()}, others

    def _train_and_test(self) -> Row:
        config, splits, model = self.config, self.splits, self.model
        init_seed(config["seed"], config["reproducibility"])  # others have drawn in between
        begin = time.monotonic()
        trainer = self.trainer = self.trainer_class(config, model, self.run.plan, self.deadline)
        _, valid = trainer.fit(
            splits.train_data,
            splits.valid_data,
            saved=False,
            show_progress=config["show_progress"],
            callback_fn=self.run.watch,
        )
        trained = time.monotonic()
        with self.run.plan.phase("test"):
            metrics, others = self._test(trainer)
        scored = time.monotonic()
        if self.run.saved:
            save_m6rec(self.run.folder.path, config, model, splits)
        model.reader.save_states()
        cache = model.cache
        return Row(
            model=self.name,
            metrics=metrics,
            valid_metrics=valid,
            train_seconds=trained - begin,
            eval_seconds=scored - trained,
            trainable_parameters=sum(weight.numel() for weight in trained_parameters(model).values()),
            converged=trainer.converged,
            note="" if trainer.converged else f"not converged: stopped after {trainer.epochs_done:.1f} epochs",
            details={
                **others,
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
