"""M6-Rec as a system: one row for each task."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from recbole.utils import EvaluatorType, init_seed

from recbole_recfound.atomic.find import NO_DATASET
from recbole_recfound.backbone.load import load_configuration
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour.options import ONLINE, TextOptions
from recbole_recfound.data.split.protocol import Splits, check_labels, with_side_files
from recbole_recfound.data.text.options import ItemOptions
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.results import Row
from recbole_recfound.model.m6rec import M6Rec
from recbole_recfound.model.m6rec_options import LateOptions
from recbole_recfound.model.trained import trained_parameters
from recbole_recfound.system.base import System
from recbole_recfound.system.m6rec.load import DOCUMENT, TRAINED, load_m6rec, save_m6rec
from recbole_recfound.system.registry import register_system
from recbole_recfound.system.run import Job, Run
from recbole_recfound.trainer.m6rec import M6RecTrainer


@register_system("M6Rec")
class M6RecSystem(System):
    """M6-Rec's run: train the options of the task, test.

    Raises:
        ConfigError, DataError, BackboneError: settings, data and backbone do not fit together.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        assert run.splits is not None
        self.config, self.splits = run.config, run.splits
        init_seed(self.config["seed"], self.config["reproducibility"])
        self.model = M6Rec(self.config, self.splits.train_set)
        self.trainer = M6RecTrainer(self.config, self.model, run.plan.deadline())

    @classmethod
    def check(cls, config: Config) -> None:
        """Refuse settings that the task cannot use."""
        if config["dataset"] == NO_DATASET:
            raise ConfigError(f"dataset: got none, but {cls.name} needs interactions")
        if config["eval_type"] != EvaluatorType.VALUE or set(config["eval_args"]["mode"].values()) != {"labeled"}:
            raise ConfigError(
                "m6rec_task: ctr is scored on labelled rows: use eval_args: {mode: labeled} and metrics: [AUC, LogLoss]"
            )
        layers = load_configuration(config["backbone"]).num_hidden_layers
        joint = LateOptions.of(config["late_args"], "late_args").joint_layers
        if joint >= layers:
            raise ConfigError(
                f"late_args: joint_layers: got {joint}, expected less than the {layers} layers of {config['backbone']}"
            )

    @classmethod
    def open_data(cls, config: Config) -> Splits | None:
        """Read and split the data set; refuse one without labels."""
        splits = super().open_data(config)
        assert splits is not None
        check_labels(splits)
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
        """Yield the row of the task."""
        yield Job(self._row_name(), self._train_and_test, resumable=False, alone=True)

    def _row_name(self) -> str:
        online = TextOptions.of(self.config["text_args"], "text_args").statistics == ONLINE
        return f"{self.name}, online statistics" if online else self.name

    def _train_and_test(self) -> Row:
        """Train, test and save."""
        config, trainer, splits = self.config, self.trainer, self.splits
        init_seed(config["seed"], config["reproducibility"])  # baselines have drawn in between
        begin = time.monotonic()
        _, valid = trainer.fit(
            splits.train_data,
            splits.valid_data,
            saved=False,
            show_progress=config["show_progress"],
            callback_fn=self.run.watch,
        )
        trained = time.monotonic()
        metrics = trainer.evaluate(splits.test_data, load_best_model=False)
        scored = time.monotonic()
        folder = self.run.folder.path
        if file := self.model.late.cache_file:
            self.model.cache.save(Path(file))
        if self.run.saved:
            save_m6rec(folder, self.model, config, splits)
        weights = trained_parameters(self.model).values()
        cache = self.model.cache
        epochs = trainer.steps * config["train_batch_size"] / len(splits.train_set)
        return Row(
            model=self._row_name(),
            metrics={name: float(value) for name, value in metrics.items()},
            valid_metrics=valid,
            train_seconds=trained - begin,
            eval_seconds=scored - trained,
            trainable_parameters=sum(weight.numel() for weight in weights),
            converged=trainer.converged,
            note="" if trainer.converged else f"not converged: stopped after {epochs:.1f} epochs",
            details={
                "task": "ctr",
                "steps": trainer.steps,
                "best_step": trainer.best_step,
                "curve": trainer.curve,
                "probe": {"rows": trainer.probed, "seconds": trainer.probe_seconds},
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
        every = sum(weight.numel() for weight in self.model.parameters())
        return {
            "run": {
                "device": str(self.model.device),
                "backbone": self.config["backbone"],
                "share_of_trained_parameters": sum(w.numel() for w in trained_parameters(self.model).values()) / every,
                "steps": self.trainer.steps,
            }
        }

    def lines(self, results: dict[str, Any]) -> Iterable[str]:
        """Return a line on the trained parameters and the cache."""
        cache, share = self.model.cache, results["run"]["share_of_trained_parameters"]
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
