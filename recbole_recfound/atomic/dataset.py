"""RecBole's `Dataset` with rows as in the file, an exact order of time, and nothing learned from held-out values.

RecBole reads `NA` as a missing id, keeps times in single precision, and fills and scales columns with the values of all
rows. These repairs hold for every data set that RecBole makes in this process, its own models' included.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.utils import FeatureSource

from recbole_recfound.atomic.check import FileFormat, check_rows
from recbole_recfound.atomic.cold import hold_out_items, keep_cold_targets
from recbole_recfound.atomic.frame import read_frame, read_header
from recbole_recfound.atomic.missing import fill_from_training
from recbole_recfound.atomic.sampled import keep_users
from recbole_recfound.atomic.times import time_ranks
from recbole_recfound.compat.raw_column import frame_numbers
from recbole_recfound.compat.repairs import Place, rewrite_places
from recbole_recfound.errors import DataError, in_one_line

DATASET = "recbole.data.dataset.dataset"
ROUNDED = "recbole"
"""Value of `order_ties` for the order of RecBole itself, which rounds times to single precision before it sorts."""
PLACES = [
    Place(
        DATASET,
        "Dataset._load_feat",
        "head = f.readline()[:-1]",
        "head = self.read_header(filepath, field_separator, encoding)",
    ),
    Place(DATASET, "Dataset._load_feat", "df = pd.read_csv(", "df = self.read_frame("),
    # pandas 3: `frame[column]` is a copy, so filling it in place fills nothing
    Place(
        DATASET,
        "Dataset._load_feat",
        'df[field].fillna(value="", inplace=True)',
        'df[field] = df[field].fillna(value="")',
    ),
    Place(
        DATASET,
        "Dataset._remove_duplication",
        "by=[self.time_field], ascending=True, inplace=True",
        'by=[self.time_field], ascending=True, inplace=True, kind="stable"',
    ),
    Place(
        DATASET,
        "Dataset.time_based_split",
        "all_times = self.inter_feat[self.time_field].numpy()",
        "all_times = self.time_rank",
    ),
    Place(DATASET, "Dataset.time_based_split", "100 * (1 - ratios[-1]))", '100 * (1 - ratios[-1]), method="lower")'),
    Place(
        DATASET,
        "Dataset.time_based_split",
        "times = grouped_inter_feat[self.time_field].numpy()",
        "times = self.time_rank[grouped_index]",
    ),
]


def repair_dataset(module: ModuleType) -> None:
    """Repair RecBole's class `Dataset`.

    Args:
        module: `recbole.data.dataset.dataset`.
    """
    original = module.Dataset
    rewrite_places(module, PLACES)
    original.read_frame, original.read_header = staticmethod(read_frame), staticmethod(read_header)
    original._load_feat = _checked(original._load_feat)
    original._load_inter_feat = _with_ranks(original._load_inter_feat)
    original._remove_duplication = _by_exact_time(original._remove_duplication)
    for name, keys in FILTERS.items():
        setattr(original, name, _counting(getattr(original, name), keys))
    original._reset_index = _keeping_ranks(original._reset_index)
    original._set_label_by_threshold = _of_known_values(original._set_label_by_threshold)
    original._change_feat_format = _sorted_by_time(original._change_feat_format)
    original.build = _filled_from_training(original.build)


def repair_sequential_dataset(module: ModuleType) -> None:
    """Repair RecBole's class `SequentialDataset`.

    Args:
        module: `recbole.data.dataset.sequential_dataset`.
    """
    module.SequentialDataset._change_feat_format = _with_target_ranks(module.SequentialDataset._change_feat_format)


def _checked(load_feat: Callable) -> Callable:
    @wraps(load_feat)
    def load(self: Any, filepath: str, source: Any) -> pd.DataFrame | None:
        """Refuse malformed rows, and remember the exact times of interactions."""
        config, path = self.config, Path(filepath)
        separator, encoding = config["field_separator"], config["encoding"]
        columns, unloaded = self._get_load_and_unload_col(source)
        if columns == set():
            return None
        header = [cell.split(":")[0] for cell in read_header(path, separator, encoding).split(separator)]
        read = [name for name in header if (columns is None or name in columns) and name not in (unloaded or ())]
        inter = source is FeatureSource.INTERACTION
        time = FileFormat.of(config).time if inter and self.time_field in read else None
        ids = {FeatureSource.USER: [self.uid_field], FeatureSource.ITEM: [self.iid_field]}.get(source, [])
        filled = [self.uid_field, self.iid_field, self.label_field] if inter else ids
        check_rows(path, separator, encoding, within=config["seq_separator"], filled=filled, read=read, time=time)
        with in_one_line(str(path), DataError):
            frame = load_feat(self, filepath, source)
        if frame is not None and inter and time is not None:
            cell = f"{time}:float"
            texts = read_frame(path, delimiter=separator, usecols=[cell], dtype={cell: object}, encoding=encoding)[cell]
            self.read_ranks.append(time_ranks(texts.tolist()))
            self.time_range = (float(frame[time].min()), float(frame[time].max()))
        return frame

    return load


def _with_ranks(load_inter_feat: Callable) -> Callable:
    @wraps(load_inter_feat)
    def load(self: Any, token: str, dataset_path: str) -> None:
        """Read interactions, and rank their times: `time_rank` int64 [rows], None where rows are not ordered."""
        self.read_ranks, self.time_range, self.left_out = [], None, {}
        load_inter_feat(self, token, dataset_path)
        if self.inter_feat is None:
            raise DataError(f"{token}: no column of .inter is read (load_col, unload_col)")
        complete = sum(map(len, self.read_ranks)) == len(self.inter_feat)
        self.time_rank = np.concatenate(self.read_ranks) if self.read_ranks and complete else None
        del self.read_ranks

    return load


def _by_exact_time(remove_duplication: Callable) -> Callable:
    @wraps(remove_duplication)
    def remove(self: Any) -> None:
        """Remove repeated interactions after an exact sort; RecBole's own stable sort then changes nothing."""
        if self.config["rm_dup_inter"] is not None and self.time_rank is not None:
            order = np.argsort(self.time_rank[self.inter_feat.index], kind="stable")
            self.inter_feat = self.inter_feat.iloc[order]
        remove_duplication(self)

    return remove


def _keeping_ranks(reset_index: Callable) -> Callable:
    @wraps(reset_index)
    def reset(self: Any) -> None:
        """Renumber the rows that the filters left, and keep their times."""
        if self.time_rank is not None:
            self.time_rank = self.time_rank[self.inter_feat.index]
        reset_index(self)

    return reset


FILTERS = {
    "_filter_nan_user_or_item": (),
    "_remove_duplication": ("rm_dup_inter",),
    "_filter_by_field_value": ("val_interval",),
    "_filter_inter_by_user_or_item": ("filter_inter_by_user_or_item",),
    "_filter_by_inter_num": ("user_inter_num_interval", "item_inter_num_interval"),
}
"""RecBole's filters of interactions, in their order, and the settings that turn them on."""


def _counting(filter_rows: Callable, keys: tuple[str, ...]) -> Callable:
    @wraps(filter_rows)
    def counted(self: Any) -> None:
        """Count the interactions that a filter leaves out (`left_out`); refuse one that leaves none."""
        before = len(self.inter_feat)
        filter_rows(self)
        name = " and ".join(f"{key}: {self.config[key]}" for key in keys if self.config[key] is not None)
        if self.inter_feat.empty:
            raise DataError(f"{self.dataset_name}: {name} leaves none of {before:,} interactions")
        if dropped := before - len(self.inter_feat):
            self.left_out[name] = dropped

    return counted


def _sorted_by_time(change_feat_format: Callable) -> Callable:
    @wraps(change_feat_format)
    def change(self: Any) -> None:
        """Order the rows by exact time before RecBole rounds it; all of RecBole's own sorts are stable."""
        if isinstance(self.inter_feat, pd.DataFrame) and self.time_rank is not None:
            _sort(self)
        change_feat_format(self)

    return change


def _sort(dataset: Any) -> None:
    """Sort interactions by time (within the parts of a data set that comes split) and count equal times."""
    rank = dataset.time_rank[dataset.inter_feat.index]  # a knowledge graph drops further rows without renumbering
    if dataset.config["order_ties"] == ROUNDED:
        times = frame_numbers(dataset, dataset.time_field).astype(np.float32)
        rank = np.unique(times, return_inverse=True)[1]
    part = np.zeros(len(rank), dtype=np.int64)
    if dataset.benchmark_filename_list is not None:
        part = np.repeat(np.arange(len(dataset.file_size_list)), dataset.file_size_list)
    keys: tuple[np.ndarray, ...] = (rank, part)
    if dataset.config["order_ties"] == "shuffle":
        keys = (np.random.default_rng([dataset.config["seed"], 0x71E5]).permutation(len(rank)), *keys)
    order = np.lexsort(keys)
    dataset.inter_feat = dataset.inter_feat.iloc[order].reset_index(drop=True)
    dataset.time_rank = rank[order]
    if dataset.config["cold_items"]:
        hold_out_items(dataset)
    rank = dataset.time_rank
    users = dataset.inter_feat[dataset.uid_field].to_numpy()
    by_user = np.argsort(users, kind="stable")
    same_user = users[by_user][1:] == users[by_user][:-1]
    tied = same_user & (rank[by_user][1:] == rank[by_user][:-1])
    dataset.target_ranks = rank[by_user[1:][same_user]]
    shared = np.zeros(len(rank), dtype=bool)
    shared[by_user[1:][tied]] = shared[by_user[:-1][tied]] = True
    dataset.tied_neighbours, dataset.inter_count = int(tied.sum()), len(rank)
    items = dataset.inter_feat[dataset.iid_field].to_numpy()
    dataset.tied_rows = np.unique(users[shared] * dataset.item_num + items[shared])


def _of_known_values(set_label: Callable) -> Callable:
    @wraps(set_label)
    def labelled(self: Any) -> None:
        """Refuse to make labels of missing values."""
        for field in self.config["threshold"] or {}:
            missing = int(self.inter_feat[field].isna().sum()) if field in self.inter_feat else 0
            if missing:
                raise DataError(
                    f"threshold: {missing:,} interactions have no {field}, so they are neither positive nor negative. "
                    f"Leave them out with val_interval: {{{field}: '[0,inf)'}}"
                )
        set_label(self)

    return labelled


def _with_target_ranks(change_feat_format: Callable) -> Callable:
    @wraps(change_feat_format)
    def change(self: Any) -> None:
        """Keep the time of each target: every interaction of a user but the first is one.

        RecBole makes targets user by user, and sorts them by the rounded time where it splits by time. The sort is
        stable, so that they stay in the order of the exact time.
        """
        change_feat_format(self)
        if self.time_rank is None or self.benchmark_filename_list is not None:
            return
        self.time_rank = self.target_ranks
        if self.config["eval_args"]["order"] == "TO":
            order = np.argsort(self.time_rank, kind="stable")
            self.inter_feat, self.time_rank = self.inter_feat[torch.from_numpy(order)], self.time_rank[order]

    return change


def _filled_from_training(build: Callable) -> Callable:
    @wraps(build)
    def filled(self: Any) -> list[Any]:
        """Split, then fill and scale the columns of interactions with the values of the training part."""
        parts = build(self)
        if self.config["cold_items"]:
            keep_cold_targets(parts)
        if self.config["test_users"] and len(parts) == 3:
            keep_users(parts)
        fill_from_training(parts, keep_missing=getattr(self, "keeps_missing", False))
        return parts

    return filled
