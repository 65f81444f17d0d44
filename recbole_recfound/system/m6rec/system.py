"""M6-Rec as a system: one frozen backbone, and an option set and a row for each task."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from recbole.utils import EvaluatorType, init_seed

from recbole_recfound.atomic.find import NO_DATASET
from recbole_recfound.backbone.load import load_configuration
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour.options import ONLINE, TextOptions
from recbole_recfound.data.split.protocol import (
    Splits,
    build_splits,
    check_labels,
    check_same_rows,
    further_tests,
    with_side_files,
)
from recbole_recfound.data.text.options import ItemOptions
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.results import Row
from recbole_recfound.model.m6rec import TASKS, M6Rec
from recbole_recfound.model.m6rec_options import LateOptions
from recbole_recfound.model.reading.base import SegmentModel
from recbole_recfound.model.trained import trained_parameters
from recbole_recfound.runtime.time_plan import turn
from recbole_recfound.system.base import System
from recbole_recfound.system.m6rec.load import DOCUMENT, TRAINED, load_m6rec, save_m6rec
from recbole_recfound.system.m6rec.tasks import of_task
from recbole_recfound.system.registry import register_system
from recbole_recfound.system.run import Job, Run
from recbole_recfound.trainer.m6rec import M6RecTrainer


@dataclass(frozen=True)
class Part:
    """One task of a run.

    Attributes:
        config: settings of the task.
        splits: the data, with the loaders of its evaluation.
        model: the model of the task.
    """

    config: Config
    splits: Splits
    model: SegmentModel


@register_system("M6Rec")
class M6RecSystem(System):
    """M6-Rec's run: train the options of each task, test.

    Raises:
        ConfigError, DataError, BackboneError: settings, data and backbone do not fit together.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        assert run.splits is not None
        self.config = run.config
        self.parts: list[Part] = []
        self.trainers: dict[str, M6RecTrainer] = {}
        for task in self.config["m6rec_task"]:
            config = of_task(self.config, task)
            splits = run.splits if not self.parts else self._beside(config, run.splits)
            init_seed(config["seed"], config["reproducibility"])
            beside = self.parts[0].model if self.parts else None
            model = M6Rec(config, splits.train_set, beside=beside)
            assert isinstance(model, SegmentModel)
            self.parts.append(Part(config, splits, model))

    def _beside(self, config: Config, first: Splits) -> Splits:
        """Return the data of a further task: the same rows, with the loaders of its own evaluation."""
        splits = build_splits(config)
        _check_kind(config, splits)
        check_same_rows(first, splits)
        return splits

    @classmethod
    def check(cls, config: Config) -> None:
        """Refuse settings that a task cannot use."""
        if config["dataset"] == NO_DATASET:
            raise ConfigError(f"dataset: got none, but {cls.name} needs interactions")
        if not config["m6rec_task"]:
            raise ConfigError(f"m6rec_task: got none, expected names among {', '.join(TASKS)}")
        for task in config["m6rec_task"]:
            TASKS[task].check(of_task(config, task))
        layers = load_configuration(config["backbone"]).num_hidden_layers
        joint = LateOptions.of(config["late_args"], "late_args").joint_layers
        if joint >= layers:
            raise ConfigError(
                f"late_args: joint_layers: got {joint}, expected less than the {layers} layers of {config['backbone']}"
            )

    @classmethod
    def open_data(cls, config: Config) -> Splits | None:
        """Read and split the data set; refuse one that a task cannot use."""
        splits = super().open_data(config)
        assert splits is not None
        _check_kind(config, splits)
        return splits

    @classmethod
    def with_side_files(cls, splits: Splits) -> Splits:
        """Refuse a data set without texts of items; see `System.with_side_files`."""
        options = ItemOptions.of(splits.config["item_args"], "item_args")
        path = Path(splits.config["data_path"]) / f"{splits.config['dataset']}.item"
        if not options.read_file or not path.is_file():
            raise ConfigError(f"{path}: not found or not read, but texts are all that {cls.name} knows of an item")
        return with_side_files(splits, options.id_field, strict=True)

    def rows(self) -> Iterator[Job]:
        """Yield the row of each task."""
        for part in self.parts:
            yield Job(self._row_name(part), partial(self._train_and_test, part), resumable=False, alone=True)

    def choose(self, rows: Sequence[Row]) -> Row:
        """Return the row of the first task."""
        return next(row for row in rows if row.model == self._row_name(self.parts[0]))

    def _row_name(self, part: Part) -> str:
        online = TextOptions.of(self.config["text_args"], "text_args").statistics == ONLINE
        name = f"{self.name} {part.model.task}" if len(self.parts) > 1 else self.name
        return f"{name}, online statistics" if online and part.model.reads_statistics else name

    def _train_and_test(self, part: Part) -> Row:
        """Train, test and save."""
        config, splits, model = part.config, part.splits, part.model
        init_seed(config["seed"], config["reproducibility"])  # others have drawn in between
        begin = time.monotonic()
        left = len(self.parts) - len(self.trainers)
        trainer = M6RecTrainer(config, model, self.run.plan, turn(self.run.plan.deadline(), left))
        self.trainers[model.task] = trainer
        _, valid = trainer.fit(
            splits.train_data,
            splits.valid_data,
            saved=False,
            show_progress=config["show_progress"],
            callback_fn=self.run.watch,
        )
        trained = time.monotonic()
        with self.run.plan.phase("test"):
            metrics = trainer.evaluate(splits.test_data, load_best_model=False)
            others = {
                name: {metric: float(value) for metric, value in trainer.evaluate(loader, False).items()}
                for name, loader in further_tests(splits).items()
            }
        scored = time.monotonic()
        folder = self.run.folder.path
        if file := model.late.cache_file:
            model.cache.save(Path(file))
        if self.run.saved:
            save_m6rec(folder, [(each.config, each.model) for each in self.parts[: len(self.trainers)]], splits)
        cache = model.cache
        return Row(
            model=self._row_name(part),
            metrics={name: float(value) for name, value in metrics.items()},
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

    def details(self) -> dict[str, Any]:
        """Return facts for the report."""
        first = self.parts[0].model
        trained, every = 0, 0
        for number, part in enumerate(self.parts):
            part.model.use()
            own = sum(weight.numel() for weight in trained_parameters(part.model).values())
            trained += own
            every += own if number else sum(weight.numel() for weight in part.model.parameters())
        return {
            "run": {
                "device": str(first.device),
                "backbone": self.config["backbone"],
                "share_of_trained_parameters": trained / every,
                "steps": sum(trainer.steps for trainer in self.trainers.values()),
            }
        }

    def lines(self, results: dict[str, Any]) -> Iterable[str]:
        """Return a line on the trained parameters and the cache."""
        cache, share = self.parts[0].model.cache, results["run"]["share_of_trained_parameters"]
        rate = cache.hits / max(1, cache.hits + cache.misses)
        yield (
            f"{100 * share:.2f}% of the parameters trained; {len(cache):,} segments encoded once, {100 * rate:.1f}% of "
            "all requests found them"
        )

    def discard(self) -> None:
        """Remove the trained tensors."""
        for name in (TRAINED, DOCUMENT):
            (self.run.folder.path / name).unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path, **options: Any) -> Any:
        """Load a finished run for serving; it needs the data set."""
        return load_m6rec(folder, **options)


def _check_kind(config: Config, splits: Splits) -> None:
    """Refuse data without labels for a task that is scored on labelled rows."""
    if config["eval_type"] == EvaluatorType.VALUE:
        check_labels(splits)
