"""A task that writes texts: perplexity and metrics of texts, beside one text for all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.writing.metrics import text_metrics
from recbole_recfound.data.writing.records import Writing
from recbole_recfound.evaluation.report.table import PERPLEXITY
from recbole_recfound.evaluation.results import Metrics
from recbole_recfound.model.reading.generate import WRITTEN, GenerateModel
from recbole_recfound.system.m6rec.trained import TrainedTask
from recbole_recfound.trainer.m6rec import M6RecTrainer
from recbole_recfound.trainer.writing import WritingTrainer, perplexity

SHOWN = 3
"""Written texts of each task that the results keep."""


class GenerateTask(TrainedTask):
    """Train, and write the texts of the test records; see `Work` for the arguments."""

    model: GenerateModel
    trainer_class = WritingTrainer

    @classmethod
    def validated_by(cls, config: Config) -> str:
        """Return perplexity; see `Work.validated_by`."""
        return PERPLEXITY

    def other_mode(self) -> dict[str, str]:
        """Return nothing: texts are not ranked among candidates."""
        return {}

    def _test(self, trainer: M6RecTrainer) -> tuple[Metrics, list[float], dict[str, Any]]:
        """Return the test metrics of all records, none of users, those of one text for all, and results by task."""
        self.model.eval()
        losses = self.model.losses("test")
        writings, texts = self._written(trainer.deadline)
        tasks = [self._of_task(task, own, writings, texts) for task, own in losses.items()]
        metrics = {PERPLEXITY: perplexity(*losses.values()), **text_metrics(writings, texts, self._records)}
        constant = text_metrics(writings, [self._constant(writing.task) for writing in writings], self._records)
        return metrics, [], {"constant": constant, "written": tasks}

    def _written(self, deadline: float | None) -> tuple[list[Writing], list[str]]:
        """Write texts of test records in random order, some of each task at least, and as many as there is time for.

        Args:
            deadline: a time of `time.monotonic()`; None: no limit.

        Returns:
            These records in the order of the test, and their texts.
        """
        tested = self.model.writings.parts["test"]
        of_task: dict[str, list[int]] = {}
        for at in np.random.default_rng([self.config["seed"], 0x7E57]).permutation(len(tested)):
            of_task.setdefault(tested[at].task, []).append(int(at))
        found: dict[int, str] = {}
        slowest = 0.0
        for start in range(0, max(map(len, of_task.values()), default=0), WRITTEN):
            began = time.monotonic()
            if start and deadline is not None and began + slowest > deadline:
                break
            part = [at for own in of_task.values() for at in own[start : start + WRITTEN]]
            found |= zip(part, self.model.write([(tested[at].task, tested[at].source) for at in part]), strict=True)
            slowest = max(slowest, time.monotonic() - began)
        return [tested[at] for at in sorted(found)], [found[at] for at in sorted(found)]

    @property
    def _records(self) -> list[Writing]:
        """Examples of all parts."""
        return [writing for part in self.model.writings.parts.values() for writing in part]

    def _of_task(
        self, task: str, losses: torch.Tensor, writings: Sequence[Writing], texts: Sequence[str]
    ) -> dict[str, Any]:
        """Return the results of one task of records."""
        pairs = [(own, text) for own, text in zip(writings, texts, strict=True) if own.task == task]
        own, written = [each for each, _ in pairs], [text for _, text in pairs]
        same = text_metrics(own, [self._constant(task)] * len(own), self._records)
        available = sum(writing.task == task for writing in self.model.writings.parts["test"])
        return {
            "name": task,
            "title": "text-generation",
            "test": {
                "metrics": {PERPLEXITY: perplexity(losses), **text_metrics(own, written, self._records)},
                "examples": len(own),
                "available": available,
                "source": self.model.writings.origin[task],
                "constant": {"bleu-4": same["bleu-4"], **same},
                "texts": [
                    {"source": list(each.source), "target": each.target, "written": text}
                    for each, text in pairs[:SHOWN]
                ],
            },
        }

    def _constant(self, task: str) -> str:
        """Return the most frequent training target of a task, the first in order among equals."""
        counts = Counter(writing.target for writing in self.model.writings.parts["train"] if writing.task == task)
        return min(counts, key=lambda target: (-counts[target], target), default="")
