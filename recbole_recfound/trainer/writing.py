"""Training of texts: validation by the loss of the validation records."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from recbole_recfound.config.configurator import Config
from recbole_recfound.evaluation.report.table import PERPLEXITY
from recbole_recfound.model.reading.generate import WRITTEN, GenerateModel
from recbole_recfound.runtime.time_plan import TimePlan
from recbole_recfound.trainer.checkpoint import CheckpointStore
from recbole_recfound.trainer.m6rec import M6RecTrainer

SHARE = 0.3
"""Most of the time of a training that is left for writing the texts of the test."""


def perplexity(*losses: torch.Tensor) -> float:
    """Return the exponential of the mean of losses.

    Args:
        losses: of tokens, [n] each.
    """
    return math.exp(float(torch.cat(losses).mean()))


class WritingTrainer(M6RecTrainer):
    """Train a writer; the best weights are those of the smallest perplexity. See `M6RecTrainer` for the arguments."""

    model: GenerateModel

    def __init__(
        self,
        config: Config,
        model: GenerateModel,
        plan: TimePlan | None = None,
        sharing: int = 1,
        store: CheckpointStore | None = None,
    ) -> None:
        super().__init__(config, model, plan, sharing, store)
        self.validated_by, self.valid_metric_bigger = PERPLEXITY, False
        self._writing_seconds = 0.0

    def evaluate(
        self, eval_data: Any, load_best_model: bool = True, model_file: str | None = None, show_progress: bool = False
    ) -> dict[str, float]:
        """Return the perplexity of the validation records; see `M6RecTrainer.evaluate`."""
        self.model.eval()
        return {PERPLEXITY: perplexity(*self.model.losses("valid").values())}

    def _encode(self, examples: list[Any], valid_data: Any, show_progress: bool) -> None:
        """Encode all sources, and measure how long the test will take."""
        super()._encode(examples, valid_data, show_progress)
        options, repeated = self.model.options, self.model.writings.repeated
        if self.model.cut:
            self.logger.warning(
                f"generate_args: max_tokens: {self.model.cut} targets are longer than {options.max_tokens} tokens and "
                "lose their end"
            )
        if repeated:
            self.logger.warning(
                f"task_files: {repeated} training records left out, whose sources validation or test have too"
            )
        if self.deadline is None:
            return
        tested = self.model.writings.parts["test"]
        started = time.monotonic()
        self.model.eval()
        sources = [self.model.source_of(writing.source) for writing in tested[:WRITTEN]]
        written = self.model.write_tokens(tested[0].task, sources) if tested else []
        # What is written after training may be as long as it can be.
        longer = options.max_tokens / max(1, *map(len, written)) if written else 0.0
        self._writing_seconds = (time.monotonic() - started) * longer * max(1.0, len(tested) / WRITTEN)

    def _seconds(self) -> float:
        """Return the seconds that training may take: behind it texts are written, fewer where all take too long."""
        if self.deadline is None:
            return super()._seconds()
        return max(0.0, super()._seconds() - min(self._writing_seconds, SHARE * (self.deadline - self.began)))
