"""RecFound as a base: from its run's folder to a model, and histories for its training rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from peft import set_peft_model_state_dict
from recbole.data.interaction import Interaction
from safetensors import SafetensorError
from safetensors.torch import load_file

from recbole_recfound.data.split.histories import Histories
from recbole_recfound.data.split.history_dataset import history_fields
from recbole_recfound.data.split.protocol import Splits, build_splits, training_pairs
from recbole_recfound.errors import DataError
from recbole_recfound.model.recfound import RecFound
from recbole_recfound.runtime.device import choose_precision
from recbole_recfound.runtime.run_folder import RESULTS

LARGEST_DIFFERENCE, SMALLEST_COSINE = 1e-3, 0.98


def load_recfound_base(folder: Path, splits: Splits) -> RecFound:
    """Build RecFound and give it the weights of a run.

    Args:
        folder: the run's folder.
        splits: the data, with the run's settings.

    Raises:
        DataError: the weights do not fit, or give other item vectors than the run kept.
    """
    config, device = splits.config, splits.config["device"]
    model = RecFound(config, splits.train_set)
    model.refresh_items()  # the plain backbone's features, before the adapter has its weights
    try:
        set_peft_model_state_dict(model.backbone, load_file(folder / "adapter" / "adapter_model.safetensors"))
        own = dict(model.named_parameters())
        with torch.no_grad():
            for name, tensor in load_file(folder / "head.safetensors").items():
                own[name].copy_(tensor)
        kept = load_file(folder / "item_embeddings.safetensors")["item_embeddings"]
        trained = json.loads((folder / RESULTS).read_text(encoding="utf-8"))["run"]["precision"]
    except (OSError, KeyError, RuntimeError, ValueError, SafetensorError) as error:
        raise DataError(f"{folder}: a file is missing, damaged, or does not fit the run's settings ({error})") from None
    model.refresh_items()
    model.eval()
    found = model.item_vectors().float().cpu()
    exact = "bf16" not in (trained, choose_precision(config["precision"], device))
    if found.shape != kept.shape or not _same(found, kept, exact):
        raise DataError(f"{folder} gives other item vectors than it kept: data or backbone have changed")
    return model


def _same(found: torch.Tensor, kept: torch.Tensor, exact: bool) -> bool:
    """Whether item vectors are those that a run kept; those of a run in bf16 up to its rounding."""
    if exact:
        return bool((found - kept).abs().max() <= LARGEST_DIFFERENCE)
    alike = torch.nn.functional.cosine_similarity(found[1:], kept[1:], dim=1)
    return bool(alike.min() >= SMALLEST_COSINE)


class HistoryCollate:
    """Training rows with the histories before them, in the columns in which the evaluation loader gives them.

    Args:
        train_set: RecFound's data: interactions in the order of time, without histories.
    """

    def __init__(self, train_set) -> None:
        config = train_set.config
        self.rows = train_set.inter_feat
        self.longest: int = config["MAX_ITEM_LIST_LENGTH"]
        self.train_set = train_set
        self.histories = Histories.from_pairs(*training_pairs(train_set), train_set.user_num)
        self.users = self.rows[train_set.uid_field].numpy()
        order = np.argsort(self.users, kind="stable")
        self.before = np.empty(len(order), dtype=np.int64)
        self.before[order] = np.arange(len(order)) - self.histories.indptr[self.users[order]]

    def __call__(self, index: list[int]) -> Interaction:
        """RecBole's batch of some rows; `item_id_list` int64 [B, L], oldest first, padded with 0 on the right, and `item_length` [B]."""
        index = np.asarray(index)
        batch = self.rows[index]
        padded = self.histories.padded_before(self.users[index], self.before[index], self.longest)
        batch.update(history_fields(self.train_set, *padded))
        return batch


def _from_run(folder: Path, dataset) -> RecFound:
    return load_recfound_base(folder, build_splits(dataset.config))


class _HistoryLoader:
    """Training rows with the histories before them, as RecBole's loaders give rows."""

    def __init__(self, dataset) -> None:
        self._dataset, self.collate_fn = dataset, HistoryCollate(dataset)


RecFound.from_run = staticmethod(_from_run)
RecFound.training_loader = staticmethod(_HistoryLoader)
RecFound.training_rows = staticmethod(lambda dataset: HistoryCollate(dataset).before > 0)
