"""The data of RecFound: catalogue, tasks and collator, made from settings and the training rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from recbole.data.dataset import Dataset
from transformers import PreTrainedTokenizerBase

from recbole_recfound.config.options import task_args
from recbole_recfound.data.batches import BatchOptions
from recbole_recfound.data.collate import RECORD, Collator
from recbole_recfound.data.history import HistoryCollator, HistorySource
from recbole_recfound.data.item_ids import ItemIds
from recbole_recfound.data.records.files import PARTS, RecordTask, TaskFiles, add_record_tasks
from recbole_recfound.data.task import (
    GENERATIVE,
    TASKS,
    GenerativeExample,
    RecordPairExample,
    Task,
    TaskSettings,
    TrainingData,
    build_tasks,
    record_only_tasks,
)
from recbole_recfound.data.task_tests import TestOptions
from recbole_recfound.data.text import (
    Catalogue,
    ItemTexts,
    PromptTemplate,
    TokenTable,
    build_catalogue,
    choose_fields,
    read_atomic,
)
from recbole_recfound.data.text.options import ItemOptions
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.runtime.ranks import world

USERS = "U2I"
"""The task whose items are ranked."""
CENTRE_TEXTS = 256
"""Texts whose mean is the centre of all vectors of a run on records alone."""


class HistoryMode(HistoryCollator, Protocol):
    """The history mode as `build_data` uses it (`model.history.History`)."""

    def __init__(self, source: HistorySource) -> None: ...


@dataclass(frozen=True)
class MultiTaskData:
    """The training data of RecFound.

    Attributes:
        catalogue: the items.
        item_ids: mapping of the two id spaces.
        tasks: tasks that were built.
        left_out: reason for each task that was not.
        files: JSON-lines files of further tasks.
        collator: makes batches of the tasks' examples.
        ranks: whether users' items are ranked: there are interactions, and U2I is trained.
        targets_per_row: next items to predict in a sequence, on average.
    """

    catalogue: Catalogue
    item_ids: ItemIds
    tasks: dict[str, Task]
    left_out: dict[str, str]
    files: TaskFiles
    collator: Collator
    ranks: bool
    targets_per_row: float = 1.0

    @property
    def history(self) -> HistoryCollator:
        """The history mode."""
        return self.collator.history

    def record_texts(self) -> TokenTable:
        """Return some positives of the records of embedding tasks, for centring vectors where there are no items."""
        texts: dict[tuple[str, str], None] = {}
        for task in self.tasks.values():
            if isinstance(task.example(0), RecordPairExample):
                chosen = range(0, len(task), max(1, len(task) // CENTRE_TEXTS))
                texts |= dict.fromkeys(cast(RecordPairExample, task.example(index)).positive for index in chosen)
        chosen_texts = [text for _, text in texts][:CENTRE_TEXTS]
        return TokenTable.of(chosen_texts, self.collator.tokenizer, self.collator.max_prompt_tokens)


def _options(task: Task) -> Any:
    """Return a task's options, of the class that the task names."""
    return task.options


def build_data(
    config: Any,
    train: Dataset,
    mode: type[HistoryMode],
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    files: TaskFiles | None = None,
) -> MultiTaskData:
    """Read the catalogue and build all tasks.

    Args:
        config: settings of the run.
        train: RecBole's built training part; no other row reaches the tasks.
        mode: class of the history mode.
        tokenizer: of the backbone.
        context: tokens the backbone can read.
        files: the run's `task_files`, checked; None checks them here.

    Raises:
        ConfigError: settings that do not fit the data.
        DataError: a malformed data file.
    """
    catalogue = catalogue_of(config, train)
    source = TrainingData.of(
        train,
        catalogue,
        config["seed"],
        _queries(config, catalogue),
        _profiles(config, train),
        ItemOptions.of(config["item_args"], "item_args").candidates,
    )
    settings = _task_settings(config, mode.sequences)
    tasks, left_out = build_tasks(config["tasks"], source, settings)
    if USERS in left_out:
        raise ConfigError(
            f"tasks: U2I cannot be built ({left_out[USERS]}), and without it nothing is ranked; leave it out of tasks"
        )
    files = files or TaskFiles.open(config["task_files"], config["skip_bad_rows"])
    joined = add_record_tasks(tasks, files, config["seed"], settings)
    left_out |= record_only_tasks()
    left_out = {name: why for name, why in left_out.items() if name not in joined} | files.untrained(joined)
    built_here, tasks = tasks, chosen_tasks(config, joined)
    ranks = USERS in built_here and USERS in tasks
    by_titles = ranks and "SR" in built_here and "SR" in tasks and _options(tasks["SR"]).form == "title"
    if TestOptions.of(config["test_args"], "test_args").rank_titles and not by_titles:
        raise ConfigError(
            "test_args: rank_titles needs the tasks U2I and SR of the data set, with task_args: {SR: {form: title}}"
        )
    item_ids = ItemIds.of(train, catalogue)
    collator = _collator(config, tokenizer, context, catalogue, tasks, files, item_ids, mode)
    # Windows have at most MAX_ITEM_LIST_LENGTH targets; users with one item have none and are no examples.
    targets = (
        np.minimum(source.lengths[source.lengths > 1] - 1, config["MAX_ITEM_LIST_LENGTH"]).mean() if ranks else 1.0
    )
    return MultiTaskData(catalogue, item_ids, tasks, left_out, files, collator, ranks, float(targets))


def build_record_data(
    config: Any, mode: type[HistoryMode], tokenizer: PreTrainedTokenizerBase, context: int, files: TaskFiles
) -> MultiTaskData:
    """Build tasks from the training files alone, without items and users.

    Args:
        config: settings of the run.
        mode: class of the history mode.
        tokenizer: of the backbone.
        context: tokens the backbone can read.
        files: the run's `task_files`, checked.

    Raises:
        ConfigError: no training file, or settings that need items.
    """
    joined = add_record_tasks({}, files, config["seed"], _task_settings(config, sequences=False))
    tasks = chosen_tasks(config, joined)
    if not tasks:
        why = (
            "every question of the training files is also in validation or test files"
            if files.parts["train"]
            else "there is no training file"
        )
        raise ConfigError(f"task_files: dataset: none trains from files alone, and {why}")
    if config["prompts"]:
        raise ConfigError("prompts: all tasks come from task_files, whose records bring their own prompts")
    catalogue, item_ids = Catalogue([], [], [], 0), ItemIds.empty()
    collator = _collator(config, tokenizer, context, catalogue, tasks, files, item_ids, mode)
    return MultiTaskData(catalogue, item_ids, tasks, files.untrained(joined), files, collator, ranks=False)


def chosen_tasks(config: Any, tasks: Mapping[str, Task]) -> dict[str, Task]:
    """Return the tasks that `only_tasks` names, or all.

    Args:
        config: `only_tasks`.
        tasks: all tasks by name.

    Raises:
        ConfigError: one of them is not there.
    """
    only = config["only_tasks"]
    if absent := [name for name in only if name not in tasks]:
        raise ConfigError(f"only_tasks: {absent[0]} is not among the tasks of data set and files: {', '.join(tasks)}")
    return {name: task for name, task in tasks.items() if not only or name in only}


def catalogue_of(config: Any, train: Dataset) -> Catalogue:
    """Read .item beside the interactions, if there is one.

    Args:
        config: settings of the run.
        train: RecBole's training part.
    """
    path = Path(config["data_path"]) / f"{config['dataset']}.item"
    tokens = train.id2token(train.iid_field, train.inter_feat[train.iid_field].numpy())
    known = train.id2token(train.iid_field, np.arange(1, train.item_num))
    options = ItemOptions.of(config["item_args"], "item_args")
    return build_catalogue(
        path if path.is_file() and options.read_file else None,
        options.id_field or train.iid_field,
        map(str, tokens),
        map(str, known),
        options.text_fields,
        config["field_separator"],
        config["encoding"],
    )


def _queries(config: Any, catalogue: Catalogue) -> list[tuple[str, int]]:
    """Read the rows of an optional `<dataset>.query` file: a text column and its item."""
    path = Path(config["data_path"]) / f"{config['dataset']}.query"
    if not path.is_file():
        return []
    table, item = read_atomic(path, config["field_separator"], config["encoding"]), config["ITEM_ID_FIELD"]
    texts = [name for name in table.kinds if name != item]
    if item not in table.kinds or len(texts) != 1:
        raise DataError(f"{path}:1: needs two columns, {item}:token and one of query text, as in query:token_seq")
    rows = []
    for line, (text, token) in enumerate(zip(table.column(texts[0]), table.column(item), strict=True), start=2):
        if token not in catalogue.row_of:
            raise DataError(f"{path}:{line}: item '{token}' is neither in .item nor in the interactions")
        if not text.strip():
            raise DataError(f"{path}:{line}: the query of item '{token}' is empty")
        rows.append((text, catalogue.row_of[token]))
    return rows


def _profiles(config: Any, train: Dataset) -> dict[str, dict[str, str]]:
    """Return short text columns of an optional .user file by user token, where a task reads them."""
    path = Path(config["data_path"]) / f"{config['dataset']}.user"
    if not any(TASKS[name].reads_profiles for name in config["tasks"]) or not path.is_file():
        return {}
    key = train.uid_field
    table = read_atomic(path, config["field_separator"], config["encoding"])
    fields = choose_fields(table, key, None, "user fields")
    return {
        user: {name: row[name].strip() for name in fields if row[name].strip()}
        for user, row in table.by_key(key).items()
    }


def _task_settings(config: Any, sequences: bool) -> TaskSettings:
    return TaskSettings(task_args(config), sequences, config["task_test_examples"], bool(config["repeatable"]))


def _collator(
    config: Any,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    catalogue: Catalogue,
    tasks: Mapping[str, Task],
    files: TaskFiles,
    item_ids: ItemIds,
    mode: type[HistoryMode],
) -> Collator:
    for name in config["prompts"]:
        if isinstance(tasks.get(name), RecordTask):
            raise ConfigError(f"prompts: {name} comes from task_files, whose records bring their own prompts")
    templates = {
        name: PromptTemplate(
            name,
            config["prompts"].get(name, task.prompt),
            task.slots,
            tokenizer,
            chat=task.spec.kind == GENERATIVE,
            uncut=task.spec.uncut,
        )
        for name, task in tasks.items()
        if not isinstance(task, RecordTask)
    }
    if any(files.count(part, name) for part in PARTS for name in tasks):
        templates[RECORD] = PromptTemplate(RECORD, "{{ prompt }}", ("prompt",), tokenizer)
    collator = make_collator(
        config,
        tokenizer,
        context,
        ItemTexts.of(catalogue, tokenizer, ItemOptions.of(config["item_args"], "item_args").max_tokens),
        templates,
        item_ids,
        mode,
    )
    _check_lengths(collator, tasks)
    return collator


def make_collator(
    config: Any,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    texts: ItemTexts,
    templates: Mapping[str, PromptTemplate],
    item_ids: ItemIds,
    mode: type[HistoryMode],
) -> Collator:
    """Join token tables, templates and the history mode to a collator.

    Args:
        config: settings of the run.
        mode: class of the history mode.
        tokenizer: of the backbone.
        context: tokens the backbone can read.
        texts: of the items.
        templates: compiled prompts by task.
        item_ids: mapping of the two id spaces.
    """
    user_defaults: Any = TASKS[USERS].Options()  # those of U2I
    source = HistorySource(
        texts,
        item_ids,
        templates.get(USERS),
        config["max_prompt_tokens"],
        cast(int, task_args(config)[USERS].get("history_titles", user_defaults.history_titles)),
        config["MAX_ITEM_LIST_LENGTH"],
        context,
    )
    return Collator(
        texts,
        tokenizer,
        templates,
        mode(source),
        config["max_prompt_tokens"],
        BatchOptions.of(config["batch_args"], "batch_args").pass_tokens * world(),
    )


def _check_lengths(collator: Collator, tasks: Mapping[str, Task]) -> None:
    """Refuse prompts without room for data: their fixed text and their choices are never cut."""
    most = collator.max_prompt_tokens
    for name, template in collator.templates.items():
        needed = template.fixed_length
        if name in tasks and tasks[name].choices:
            example = cast(GenerativeExample, tasks[name].example(0))
            needed = max(needed, len(collator.prompt(name, example)) - 1)
        if needed >= most:
            raise ConfigError(
                f"max_prompt_tokens: {most} leaves no room for data in the prompt of {name}, whose fixed text and "
                f"choices alone have {needed} tokens"
            )
