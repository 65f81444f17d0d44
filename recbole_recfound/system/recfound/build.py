"""From a run's settings and RecBole's built splits to a model and its training data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from recbole_recfound.backbone import Backbone
from recbole_recfound.config.configurator import Config
from recbole_recfound.data import Collator, MultiTaskLoader
from recbole_recfound.data.multi_task import MultiTaskData
from recbole_recfound.data.records.files import TaskFiles
from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.data.task import HeldOut, Task
from recbole_recfound.data.task_tests import TaskTest, collect_tests
from recbole_recfound.data.text import Catalogue
from recbole_recfound.data.text.options import ItemOptions
from recbole_recfound.model.parts import build_parts
from recbole_recfound.model.recfound import RecFound
from recbole_recfound.trainer.loader import build_loader


@dataclass(frozen=True)
class Built:
    """A model with what trains and tests it.

    Attributes:
        model: on its device, untrained.
        loader: multi-task batches.
        tests: test examples of each task.
    """

    model: RecFound
    loader: MultiTaskLoader
    tests: dict[str, TaskTest]

    @property
    def data(self) -> MultiTaskData:
        """Catalogue, tasks and collator."""
        assert self.model.parts.data is not None, "only a model that is loaded for serving has none"
        return self.model.parts.data

    @property
    def tasks(self) -> dict[str, Task]:
        """Tasks that were built."""
        return self.data.tasks

    @property
    def left_out(self) -> dict[str, str]:
        """Reason for each task that was not built."""
        return self.data.left_out

    @property
    def catalogue(self) -> Catalogue:
        """The items."""
        return self.data.catalogue

    @property
    def collator(self) -> Collator:
        """Makes batches of the tasks' examples."""
        return self.data.collator

    @property
    def ranks(self) -> bool:
        """Whether users' items are ranked."""
        return self.data.ranks


def build_recfound(
    config: Config, splits: Splits | None, backbone: Backbone | None = None, files: TaskFiles | None = None
) -> Built:
    """Build the model, the loader of its tasks and their tests.

    Args:
        config: settings of the run.
        splits: RecBole's built data sets; only their training part reaches the tasks. None: tasks come from
            `task_files` alone.
        backbone: frozen language model, adapted in place; None loads the one that the settings name.
        files: the run's `task_files`, checked; None checks them here.

    Raises:
        ConfigError: settings that do not fit the data or the backbone.
        DataError: a malformed data file.
        BackboneError: the backbone cannot be loaded or keeps attending causally.
    """
    train = splits.train_set if splits else None
    model = RecFound(config, train, parts=build_parts(config, train, backbone, files) if backbone or files else None)
    data = model.parts.data
    assert data is not None, "only a model that is loaded for serving has none"
    if splits and config["cold_items"]:
        new = np.concatenate([splits.dataset.cold, splits.dataset.cold_valid])
        model.item_table.held_out = torch.from_numpy(new).to(model.device)
    loader = build_loader(config, data, splits.valid_data._dataset if splits else None)
    held_out = None
    if splits:
        parts = (splits.train_set, splits.valid_set, splits.test_set)
        chosen = ItemOptions.of(config["item_args"], "item_args").candidates
        held_out = HeldOut.of(*parts, data.catalogue, config["seed"], chosen)
    counts = config["task_test_examples"]
    tests = collect_tests(data.tasks, held_out, data.files, counts, config["seed"], data.collator)
    return Built(model, loader, tests)
