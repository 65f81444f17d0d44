"""M6-Rec (arXiv 2205.08084): a frozen language model that reads users and items as text, with no item ids."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, TypeVar, cast

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import EvaluatorType, InputType, ModelType

from recbole_recfound.backbone import Backbone, load_backbone
from recbole_recfound.backbone.load import check_end
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour import BehaviourTexts, Log, Pack
from recbole_recfound.data.behaviour.dataset import BehaviourDataset
from recbole_recfound.data.behaviour.options import ONLINE, TextOptions
from recbole_recfound.data.behaviour.read import build_texts
from recbole_recfound.data.behaviour.segments import UNDESCRIBED
from recbole_recfound.data.split.protocol import kinds_of_modes
from recbole_recfound.data.text import plain_tokens
from recbole_recfound.data.text.catalogue import Catalogue
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.segment_reader import SegmentReader
from recbole_recfound.model.trained import trained_parameters
from recbole_recfound.runtime import registry
from recbole_recfound.runtime.registry import Registry

E = TypeVar("E")
TaskClass: TypeAlias = "type[M6Rec]"
OptionNames: TypeAlias = Mapping[str, Collection[str]]
"""Names of options, by setting."""

TASKS: Registry[type[M6Rec]] = registry.READING_TASKS
"""Tasks by name."""


def register_task(name: str) -> Callable[[type[M6Rec]], type[M6Rec]]:
    """Return a decorator that registers a class as the model of a task."""
    return TASKS.register(name)


@dataclass(frozen=True)
class Example:
    """A pack with what is to be predicted.

    Attributes:
        pack: a source with T targets.
        answers: int64 [T], label or item of each target.
    """

    pack: Pack
    answers: np.ndarray

    def __len__(self) -> int:
        return len(self.answers)


@dataclass
class Shared:
    """What the models of a run share.

    Attributes:
        lm: the language model, which has the adapters of all tasks.
        reader: reads segments with it; None before the first task that does.
    """

    lm: Backbone
    reader: SegmentReader | None = None


class M6Rec(AbstractRecommender):
    """A model that reads users and items as text; `M6Rec(config, dataset)` is one of the task in `m6rec_task`.

    Args:
        config: settings of the run: `m6rec_task`, `backbone`, `text_args`, `item_args` and those of the task.
        dataset: RecBole's built training set.
        beside: the model of another task of the run, with which the backbone and the states of segments are shared.

    Attributes:
        task: name of the task.
        texts: segments of users, items and statistics.
        log: interactions of all parts.
        known_rows: the first rows of the log, which are known; requests are about the others.

    Raises:
        ConfigError: options that do not fit the data or the backbone.
        DataError: .item or .user is malformed.
        BackboneError: the backbone cannot be loaded.
    """

    task: ClassVar[str]
    type = ModelType.CONTEXT
    input_type = InputType.POINTWISE
    reads_instead: ClassVar[dict[str, str]] = {
        key: "learning_rate, weight_decay" for key in ("learner", "clip_grad_norm", "enable_amp", "enable_scaler")
    }
    """RecBole's training keys that this model does not read -> the keys to use."""
    modes: ClassVar[tuple[str, ...]]
    """Modes of `eval_args`, without their numbers, by which the task can be scored, the default first."""
    reads: ClassVar[OptionNames] = {}
    """Options that the task reads and not every other does, by setting."""
    texts_are: ClassVar[str] = "texts of items and users"
    """What `read_texts` returns."""
    behaviours: ClassVar[int] = 8
    """Interactions of a source, where `text_args` does not say."""

    def __new__(cls, config: Config, *args: Any, **kwargs: Any) -> M6Rec:
        """Return an object of the class of the task, as `pathlib.Path` returns one of the system."""
        return super().__new__(cls.of_settings(config) if cls is M6Rec else cls)

    @property
    def changes_backbone(self) -> bool:
        """Whether training changes the weights of the language model, so that no other model may share it."""
        return False

    @classmethod
    def of_settings(cls, settings: Any) -> TaskClass:
        """Return the class of the first task.

        Args:
            settings: with `m6rec_task`, or without for the default.

        Raises:
            ConfigError: no such task.
        """
        names = settings["m6rec_task"] if "m6rec_task" in settings else None
        names = [names] if isinstance(names, str) else names
        return TASKS[names[0] if names else DEFAULT_TASK]

    @staticmethod
    def reads_ratings(settings: Any) -> bool:
        """Return whether ratings are read as numbers: where there are any, they are part of what is known of a user.

        Args:
            settings: of the run.
        """
        return True

    @classmethod
    def own_settings(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of the task that differ from those of its type of model.

        Args:
            given: the user's settings.
        """
        return {}

    @classmethod
    def check(cls, config: Config) -> None:
        """Refuse settings that the task cannot use.

        Args:
            config: settings of the task.

        Raises:
            ConfigError: another kind of evaluation.
        """
        wanted = EvaluatorType.VALUE if cls.type == ModelType.CONTEXT else EvaluatorType.RANKING
        used = set(config["eval_args"]["mode"].values())
        if config["eval_type"] != wanted or not kinds_of_modes(config) <= set(cls.modes):
            raise ConfigError(
                f"m6rec_task: {cls.task} is scored with eval_args: {{mode: {' or '.join(cls.modes)}}} and "
                f"metrics: [{', '.join(METRICS[cls.type])}], got mode {', '.join(sorted(used))} and metrics "
                f"{config['metrics']}"
            )

    def __init__(self, config: Config, dataset: BehaviourDataset, beside: M6Rec | None = None) -> None:
        super().__init__()
        self.device: torch.device = config["device"]
        self.user_field, self.item_field, self.label_field = dataset.uid_field, dataset.iid_field, config["LABEL_FIELD"]
        self.history_fields = dataset.iid_field + config["LIST_SUFFIX"], config["ITEM_LIST_LENGTH_FIELD"]
        self.text = TextOptions.of(config["text_args"], "text_args")
        self.log = cast(Log, dataset.log)
        # Held-out rows are no part of what is known: their users and items are requests.
        self.known_rows = len(self.log) if self.text.statistics == ONLINE else dataset.log_sizes[0]
        known = self.log.take(slice(0, self.known_rows))
        self.texts: BehaviourTexts = build_texts(config, dataset, known, self.behaviours)
        self.shared: Shared = beside.shared if beside else Shared(load_backbone(config["backbone"], self.device))
        check_end(config["backbone"], self.lm.tokenizer)

    @property
    def lm(self) -> Backbone:
        """The language model."""
        return self.shared.lm

    @property
    def option_set(self) -> str:
        """Name of the trained parts of this task, of several."""
        return self.task

    @property
    def online(self) -> bool:
        """Whether texts count held-out rows before a request, which no other model of a table gets."""
        return self.text.statistics == ONLINE and "statistics" in self.reads.get("text_args", ())

    def cut_texts(self) -> tuple[int, int]:
        """Return the number of texts of items and users that are longer than `max_tokens`, and of all of them."""
        texts = self.read_texts()
        return sum(len(ids) > self.text.max_tokens for ids in plain_tokens(texts, self.lm.tokenizer)), len(texts)

    def read_texts(self) -> list[str]:
        """Return the texts of items and users that are cut to `max_tokens`."""
        segments = np.union1d(self.texts.items, self.texts.profiles)
        return [self.texts.table.texts[segment] for segment in segments]

    def add_items(self, ids: Sequence[int], items: Catalogue) -> None:
        """Add items, which are scored by their texts like any other.

        Args:
            ids: of each item: that of an item that nobody has chosen, or the next one.
            items: rows with the columns of the run's items.
        """
        self.texts.add_items(ids, [items.text_of(row) or UNDESCRIBED for row in range(len(items))], items.values)

    def use(self) -> None:
        """Read with this task's trained parts, of several."""

    def saved_state(self) -> dict[str, torch.Tensor]:
        """Return all tensors that training decides, by name."""
        return dict(trained_parameters(self))

    @abstractmethod
    def examples(self, rows: Interaction, epoch: int = 0) -> list[Example]:
        """Return the examples of training rows.

        Args:
            rows: training rows.
            epoch: decides what is drawn at random.
        """

    @abstractmethod
    def loss_of(self, examples: Sequence[Example]) -> torch.Tensor:
        """Return the loss of a batch.

        Args:
            examples: of `examples`.
        """

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor:
        """Return the loss of a batch of training rows.

        Args:
            interaction: RecBole's batch.
        """
        return self.loss_of(self.examples(interaction))


DEFAULT_TASK = "ctr"
METRICS = {ModelType.CONTEXT: ("AUC", "LogLoss"), ModelType.GENERAL: ("Recall", "NDCG")}
"""Metrics of labelled rows and of rankings."""


def batches_of(examples: Iterable[E], size: int, count: Callable[[E], int] = len) -> Iterator[list[E]]:  # type: ignore[assignment]
    """Yield examples together until they have `size` targets.

    Args:
        examples: in the order of the batches.
        size: targets of a batch, at least; the last one may have fewer.
        count: targets of an example.
    """
    batch: list[E] = []
    for example in examples:
        batch.append(example)
        if sum(map(count, batch)) >= size:
            yield batch
            batch = []
    if batch:
        yield batch
