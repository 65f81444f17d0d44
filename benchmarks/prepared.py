"""RecFound on a data set, ready to train: what several benchmarks measure parts of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from recbole.utils import init_seed

from recbole_recfound.config.configurator import Config
from recbole_recfound.data import StepBatch
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.model.recfound import RecFound
from recbole_recfound.runtime.time_plan import TimePlan
from recbole_recfound.trainer.loader import build_loader
from recbole_recfound.trainer.recfound import RecFoundTrainer


class Prepared:
    """Model, trainer and loader of a data set.

    Args:
        data: name of a data set that RecBole ships, or a folder of atomic files.
        folder: for checkpoints.
        settings: of the run.
        stage: context of a part of the work, by its name.
        plan: clock of the training; None: no limit.
    """

    def __init__(
        self,
        data: str,
        folder: str,
        settings: Mapping[str, Any],
        stage: Callable[[str], AbstractContextManager] = nullcontext,
        plan: TimePlan | None = None,
    ) -> None:
        path = Path(data)
        where = {"data_path": str(path.parent)} if path.is_dir() else {}
        self.name = path.name
        fixed = {"time_budget": 0, "checkpoint_dir": folder, "show_progress": False}
        with stage("read"):
            self.config = config = Config("RecFound", self.name, None, {**fixed, **where, **settings})
            init_seed(config["seed"], config["reproducibility"])
            self.splits = build_splits(config)
        with stage("build"):
            self.model = RecFound(config, self.splits.train_set)
            self.trainer = RecFoundTrainer(config, self.model, plan=plan)
            validated = self.splits.valid_data._dataset
            self.loader = self.trainer.loader = build_loader(config, self.model.parts.data, validated)
            self.trainer.probes = self.trainer._build_probes()
        with stage("texts"):
            self.trainer.refresh_items()
        self.device: torch.device = self.trainer.device

    def step(self, batch: StepBatch) -> None:
        """Make one optimiser step, without a probe.

        Args:
            batch: of the loader.
        """
        self.model.train()
        self.trainer._backward(batch)
        self.trainer._clip()
        self.trainer.optimizer.step()
        self.trainer.optimizer.zero_grad()


def precision_of(dtype: str) -> str:
    """Return RecFound's name of a precision.

    Args:
        dtype: torch's name.
    """
    return {"bfloat16": "bf16"}.get(dtype, dtype)
