"""M6-Rec as a system: one frozen backbone, and an option set and a row for each task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from recbole.utils import EvaluatorType, init_seed

from recbole_recfound.atomic.find import NO_DATASET
from recbole_recfound.backbone.load import load_configuration
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour.options import ONLINE, ONLINE_ROW, TextOptions
from recbole_recfound.data.split.comparison import check_same_rows
from recbole_recfound.data.split.protocol import Splits, build_splits, check_labels, with_side_files
from recbole_recfound.data.text.options import ItemOptions
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.results import Row
from recbole_recfound.model.m6rec import TASKS, M6Rec
from recbole_recfound.model.m6rec_options import LateOptions, PromptOptions
from recbole_recfound.model.reading.base import SegmentModel
from recbole_recfound.model.trained import trained_parameters
from recbole_recfound.runtime.exchange import on_main
from recbole_recfound.runtime.whole_file import check_file
from recbole_recfound.system.base import System
from recbole_recfound.system.blending import blended, check_blend
from recbole_recfound.system.m6rec.generate import GenerateTask
from recbole_recfound.system.m6rec.load import TENSORS, load_m6rec, save_document
from recbole_recfound.system.m6rec.tasks import of_part, parts_of
from recbole_recfound.system.m6rec.trained import TrainedTask
from recbole_recfound.system.m6rec.work import Work
from recbole_recfound.system.m6rec.zeroshot import ZeroShotTask
from recbole_recfound.system.registry import register_system
from recbole_recfound.system.run import Job, Run

CLICKS = "ctr"
BLENDED = (CLICKS, "retrieval")
"""Tasks whose scores are added to those of a baseline."""
WORKS: dict[str, type[Work]] = {"generate": GenerateTask, "zeroshot": ZeroShotTask}
"""How the rows of a task are computed, where RecBole's evaluator does not score a trained model."""


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
        self.works: list[Work] = []
        for task, tuning in parts_of(self.config):
            config = of_part(self.config, task, tuning)
            splits = run.splits if not self.works else self._beside(config, run.splits)
            init_seed(config["seed"], config["reproducibility"])
            beside = next((work.model for work in self.works if not work.model.changes_backbone), None)
            model = M6Rec(config, splits.train_set, beside=beside)
            self.works.append(WORKS.get(task, TrainedTask)(run, config, splits, model, self._row_name(model)))
        for trained in self.trained:
            trained.model.open_states(self.trained[0].model)
        for unread in _unread(self.config):
            print(f"note: {unread}", flush=True)
        for what, cut, texts in dict.fromkeys((work.model.texts_are, *work.model.cut_texts()) for work in self.works):
            if cut:
                print(
                    f"note: text_args: max_tokens: {cut:,} of {texts:,} {what} are longer than "
                    f"{self.works[0].model.text.max_tokens} tokens and lose their end",
                    flush=True,
                )

    def _beside(self, config: Config, first: Splits) -> Splits:
        """Return the data of a further task: the same rows, with the loaders of its own evaluation."""
        init_seed(config["seed"], config["reproducibility"])  # a random order is that of the first
        splits = build_splits(config)
        _check_kind(config, splits)
        check_same_rows(first, splits)
        return splits

    @classmethod
    def validated_by(cls, config: Config) -> str | None:
        """Return the validation metric of the first task; see `System.validated_by`."""
        return WORKS.get(config["m6rec_task"][0], TrainedTask).validated_by(config)

    @classmethod
    def check(cls, config: Config) -> None:
        """Refuse settings that a task cannot use."""
        if config["dataset"] == NO_DATASET:
            raise ConfigError(f"dataset: got none, but {cls.name} needs interactions")
        if not config["m6rec_task"]:
            raise ConfigError(f"m6rec_task: got none, expected names among {', '.join(TASKS)}")
        for task, tuning in parts_of(config):
            TASKS[task].check(of_part(config, task, tuning))
        names = config["m6rec_task"]
        if len(set(names)) < len(names):
            raise ConfigError(f"m6rec_task: got {', '.join(names)}, expected each name once")
        check_blend(config)
        if config["blend"] and names[0] not in BLENDED:
            raise ConfigError(f"blend: the first m6rec_task is {names[0]}, expected {' or '.join(BLENDED)}")
        online = TextOptions.of(config["text_args"], "text_args").statistics == ONLINE
        if config["blend"] and online and names[0] == CLICKS:
            raise ConfigError(
                "blend: text_args: {statistics: online} reads held-out rows, which the baselines do not get"
            )
        late = LateOptions.of(config["late_args"], "late_args")
        if late.cache_file:
            check_file(Path(late.cache_file), "late_args: cache_file")
        layers = load_configuration(config["backbone"]).num_hidden_layers
        if late.joint_layers >= layers:
            raise ConfigError(
                f"late_args: joint_layers: got {late.joint_layers}, expected less than the {layers} layers of "
                f"{config['backbone']}"
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
        """Yield the rows of each task; trained tasks share the time that is left."""
        for number, trained in enumerate(self.trained):
            trained.sharing = len(self.trained) - number
        for work in self.works:
            work.reserve(1 / len(self.works))
        for work in self.works:
            yield from work.jobs()
            self.run.watch = None  # the first row's validations alone are those that choose
        if self.config["blend"]:
            first = self.trained[0]
            scorer = first.scorer()
            for name in self.config["blend"]:
                yield from blended(self.run, self.run.rows[first.name], scorer, name)
        if self.run.saved:
            on_main(self._save_document)

    def _save_document(self) -> None:
        assert self.run.splits is not None
        tasks = [(work.config, work.model) for work in self.works]
        save_document(self.run.folder.path, tasks, self.run.splits)

    @property
    def trained(self) -> list[TrainedTask]:
        """The tasks that are trained."""
        return [work for work in self.works if isinstance(work, TrainedTask)]

    def choose(self, rows: Sequence[Row]) -> Row:
        """Return the first row of the first task."""
        return next(row for row in rows if row.model.startswith(self.works[0].name))

    def _row_name(self, model: M6Rec) -> str:
        several = len(self.config["m6rec_task"]) > 1 or model.task in WORKS
        name = f"{self.name} {model.task}" if several else self.name
        tunings = PromptOptions.of(self.config["option_args"], "option_args").tuning
        if isinstance(model, SegmentModel) and len(tunings) > 1:
            name = f"{name} {model.tuning}"
        return f"{name}, {ONLINE_ROW}" if model.online else name

    def details(self) -> dict[str, Any]:
        """Return facts for the report."""
        facts: dict[str, Any] = {"device": str(self.works[0].model.device), "backbone": self.config["backbone"]}
        if not self.trained:
            return {"run": facts}
        first = self.trained[0].model
        first.use()
        own = sum(weight.numel() for weight in trained_parameters(first).values())
        every = sum(weight.numel() for name, weight in first.named_parameters() if not _of_another(name, first))
        found = [self.run.rows[work.name].details for work in self.trained]
        steps = sum(details["steps"] for details in found)
        written = [task for details in found for task in details.get("written", ())]
        run = {**facts, "share_of_trained_parameters": own / every, "steps": steps}
        segments = found[0]["segments"]
        run["segments_encoded"] = segments["misses"]
        run["share_of_segments_found"] = segments["hits"] / max(1, segments["hits"] + segments["misses"])
        return {"run": run, **({"tasks": written} if written else {})}

    def lines(self, results: dict[str, Any]) -> Iterable[str]:
        """Return a line on the trained parameters of each training, and one on the cache."""
        if not self.trained:
            return
        rows = [self.run.rows[work.name] for work in self.trained]
        whole = rows[0].trainable_parameters / results["run"]["share_of_trained_parameters"]
        shares = [f"{100 * row.trainable_parameters / whole:.2f}% of the parameters of {row.model}" for row in rows]
        run = results["run"]
        yield f"trained: {', '.join(shares)}"
        yield (
            f"{run['segments_encoded']:,} segments encoded, {run['share_of_segments_found']:.1%} of all requests "
            "found theirs"
        )

    def discard(self) -> None:
        """Remove the trained tensors."""
        for path in self.run.folder.path.glob(f"*.{TENSORS}"):
            path.unlink()

    @classmethod
    def load(cls, folder: Path, **options: Any) -> Any:
        """Load a finished run for serving; it needs the data set."""
        return load_m6rec(folder, **options)


def _unread(config: Config) -> Iterator[str]:
    """Yield a line for the options of the user that no task of the run reads."""
    if config["task_files"] and "generate" not in config["m6rec_task"]:
        yield "task_files: only the task generate reads this, which is not in m6rec_task"
    unread: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for key in sorted({key for task in TASKS.values() for key in task.reads}):
        for option in config[key] or {}:
            readers = tuple(sorted(name for name, task in TASKS.items() if option in task.reads.get(key, ())))
            if readers and not set(readers).intersection(config["m6rec_task"]):
                unread.setdefault((key, readers), []).append(option)
    for (key, readers), options in unread.items():
        only = f"task {readers[0]} reads this, which is not"
        if len(readers) > 1:
            only = f"tasks {', '.join(readers)} read this, none of which is"
        yield f"{key}: {', '.join(options)}: only the {only} in m6rec_task"


def _of_another(name: str, model: SegmentModel) -> bool:
    """Return whether a parameter belongs to the option set of another task."""
    parts = name.split(".")
    return any(part.startswith("option_") for part in parts) and model.option_set not in parts


def _check_kind(config: Config, splits: Splits) -> None:
    """Refuse data without labels for a task that is scored on labelled rows."""
    if config["eval_type"] == EvaluatorType.VALUE:
        check_labels(splits)
