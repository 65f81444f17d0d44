"""A task that reads segments by late interaction."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from recbole.data.interaction import Interaction
from torch import nn
from tqdm import tqdm

from recbole_recfound.backbone import Decoder
from recbole_recfound.backbone.attention import check_window
from recbole_recfound.backbone.segments import ALL, LAST, SegmentCache, SegmentFile
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour.dataset import BehaviourDataset
from recbole_recfound.model.m6rec import Example, M6Rec, OptionNames
from recbole_recfound.model.m6rec_options import FINE_TUNING, LORA, OPTION_ADAPTER, LateOptions, PromptOptions
from recbole_recfound.model.segment_reader import SegmentReader

ENCODED = 256
"""Segments that are requested from the cache at a time."""
OWN_BACKBONE = (FINE_TUNING, LORA)
"""Ways of tuning that change what other tasks would read."""


class SegmentModel(M6Rec):
    """A task whose texts meet in the joint layers.

    The backbone is frozen. Trained are the soft prompts, the adapters beside the MLPs of the joint layers, a vector for
    each kind of segment, and what a task has of its own.

    Args:
        config: settings of the run: `option_args`, `late_args` and those of `M6Rec`.
        dataset: RecBole's built training set.
        beside: see `M6Rec`.

    Attributes:
        reader: lower and joint layers, shared by the tasks of a run.
        kinds: learned vector of each kind of segment, in units of `reader.scale`.
        states_file: `cache_file` of a training; None before `open_states`: a finished run is served without it.

    Raises:
        BackboneError: layers that cannot be run one by one, or that have a window shorter than what they read.
    """

    reads: ClassVar[OptionNames] = {
        "option_args": {"tuning", "prompts", "bottleneck"},
        "late_args": {"joint_layers", "states", "cache_megabytes", "cache_file"},
    }
    classes: ClassVar[int] = 0
    """Rows of the classifier among the prompts."""
    states: ClassVar[str] = LAST
    """States of a segment that are kept, where `late_args` does not say."""
    redraws: ClassVar[bool] = False
    """Whether every epoch has examples of its own."""

    def __init__(self, config: Config, dataset: BehaviourDataset, beside: M6Rec | None = None) -> None:
        prompt = PromptOptions.of(config["option_args"], "option_args")
        # These change the language model, which no other may then read.
        super().__init__(config, dataset, None if prompt.tuning[0] in OWN_BACKBONE else beside)
        self.prompt = prompt
        self.states_file: SegmentFile | None = None
        self.late = LateOptions.of(config["late_args"], "late_args")
        if self.shared.reader is None:
            self.shared.reader = SegmentReader(self.lm, self.late, self.text.max_tokens)
        self.reader: SegmentReader = self.shared.reader
        self.reader.add_task(self.option_set, self.prompt, self.classes)
        check_window(self.decoder.config, self.longest)
        self.width = self.reader.options.width
        self.kinds = nn.Embedding(self.texts.kinds, self.width)
        nn.init.zeros_(self.kinds.weight)

    @property
    def longest(self) -> int:
        """Most states that the joint layers read together."""
        segments = 1 + 2 * self.texts.behaviours + self.behind
        return self.reader.before[self.option_set] + segments * (self.text.max_tokens if self.form == ALL else 1)

    @property
    def behind(self) -> int:
        """Segments that are read behind a source."""
        return len(self.texts.target_kinds)

    @property
    def tuning(self) -> str:
        """What is trained."""
        return self.prompt.tuning[0]

    @property
    def option_set(self) -> str:
        """Name of the task's adapter in the reader."""
        return self.task if self.tuning == OPTION_ADAPTER else f"{self.task}_{self.tuning}"

    @property
    def changes_backbone(self) -> bool:
        """Whether training changes the weights of the language model, so that no other model may share it."""
        return self.tuning in OWN_BACKBONE

    @property
    def form(self) -> str:
        """States of a segment that are kept, see `SegmentCache`."""
        return self.late.states or self.states

    @property
    def cache(self) -> SegmentCache:
        """States of segments after the lower layers."""
        return self.reader.cache_of(self.form)

    @property
    def decoder(self) -> Decoder:
        """The decoder with its adapters."""
        return self.reader.decoder

    def open_states(self, first: SegmentModel | None = None) -> None:
        """Read `cache_file`, if one is named: one of another backbone is refused before anything is trained.

        Args:
            first: the first trained model of the run, which decides the form of the states in the file; None: this one.
        """
        if self.late.cache_file:
            shared = first.states_file if first else None
            self.states_file = shared or SegmentFile(Path(self.late.cache_file), self.form)
            self.states_file.open(self.cache)

    def use(self) -> None:
        """Read with this task's option set, of several."""
        self.reader.use(self.option_set)

    def train(self, mode: bool = True) -> SegmentModel:
        """Switch to training or evaluation, with this task's option set."""
        super().train(mode)
        self.use()
        return self

    @abstractmethod
    def requests(self, rows: Sequence[Interaction]) -> set[int]:
        """Return the segments that scoring rows needs.

        Args:
            rows: held-out parts.
        """

    @abstractmethod
    def prepare(self, batches: Sequence[Sequence[Example]], seconds: float) -> Iterator[int]:
        """Set the trained parts that start from something better than random numbers.

        Each start is yielded when the model has it, so that it can be validated; training begins from the best.

        Args:
            batches: of training examples.
            seconds: after which no further batch is read.

        Yields:
            Number of targets that a start was made from.
        """

    def encode_segments(
        self,
        examples: Sequence[Example],
        *held_out: Interaction,
        seconds: float = math.inf,
        show_progress: bool = False,
    ) -> int:
        """Compute the states of all segments that are needed, so that none is computed twice and each batch is short.

        Args:
            examples: for training.
            held_out: rows that are to be scored; their segments come first.
            seconds: after which no further segments of training alone are computed.
            show_progress: show a bar.

        Returns:
            Number of segments that are left, to be computed when a step reads them.
        """
        began = time.monotonic()
        if self.states_file is None:  # of a model without a run
            self.open_states()
        scored: set[Any] = self.requests(held_out)
        trained: set[Any] = set()
        for example in examples:
            trained.update(example.pack.source.segments.tolist(), example.pack.targets.reshape(-1).tolist())
        left = len(scored | trained)
        with tqdm(total=left, desc="texts", disable=not show_progress, dynamic_ncols=True) as bar:
            for part, limit in ((scored, math.inf), (trained - scored, seconds)):
                texts = sorted((self.texts.table.texts[segment] for segment in part), key=len)  # alike in tokens
                for start in range(0, len(texts), ENCODED):
                    if time.monotonic() - began > limit:
                        break
                    self.cache.get(texts[start : start + ENCODED])
                    bar.update(len(texts[start : start + ENCODED]))
                    left -= len(texts[start : start + ENCODED])
        self.save_states()  # a run that is killed has them again
        return left

    def save_states(self) -> None:
        """Write the states of the run's segments to `cache_file`, if one was opened."""
        if self.states_file:
            self.states_file.save()

    def saved_state(self) -> dict[str, torch.Tensor]:
        """Return all tensors that training decides, by name."""
        self.use()
        return super().saved_state()
