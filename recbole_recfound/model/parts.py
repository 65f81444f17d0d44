"""The parts of RecFound: backbone with adapter, history mode and token tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from recbole.data.dataset import Dataset

from recbole_recfound.adapter import build_adapter, check_adapter, without_adapter
from recbole_recfound.backbone import Backbone, check_bidirectional, decode, decoder_of, load_backbone
from recbole_recfound.backbone.attention import check_window
from recbole_recfound.backbone.head import check_logits, head_of
from recbole_recfound.backbone.load import check_end
from recbole_recfound.backbone.packing import check_packing
from recbole_recfound.backbone.shards import shard_frozen
from recbole_recfound.config.options import MergeOptions, adapter_args
from recbole_recfound.data.batches import BatchOptions
from recbole_recfound.data.collate import RECORD
from recbole_recfound.data.multi_task import USERS, MultiTaskData, build_data, build_record_data
from recbole_recfound.data.records.files import TaskFiles
from recbole_recfound.data.task import GENERATIVE, TASKS, task_table
from recbole_recfound.data.task_tests import TestOptions
from recbole_recfound.data.text import TokenTable
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.gradient_cache import random_state, set_random_state
from recbole_recfound.model.history import HISTORIES, History, history_of
from recbole_recfound.model.options import (
    CONTROLS,
    NO_ADAPTER,
    NO_BODY,
    NO_RECENT_ITEMS,
    RANDOM_BODY,
    SMALL_READER,
    TowerOptions,
)
from recbole_recfound.runtime.device import choose_precision
from recbole_recfound.runtime.ranks import shards
from recbole_recfound.runtime.registry import MERGE_METHODS


@dataclass(frozen=True)
class RecFoundParts:
    """The parts that RecFound is built from; none of them is trained by itself.

    Attributes:
        adapted: backbone with adapter.
        fingerprint: of the backbone; checkpoints belong to it.
        history: history mode.
        item_tokens: sentence of each item id (row 0 empty).
        tasks: names of the tasks trained.
        records: whether records of JSON-lines files are trained on.
        ranks: whether users' items are ranked; if not, nothing about users and items is trained.
        targets_per_row: next items to predict in a sequence, on average.
        data: tasks and collator, which the trainer reads; None in a model that is only served.
    """

    adapted: PeftModel
    fingerprint: str
    history: History
    item_tokens: TokenTable
    tasks: tuple[str, ...]
    records: bool = False
    ranks: bool = True
    targets_per_row: float = 1.0
    data: MultiTaskData | None = None

    @property
    def pad_id(self) -> int:
        """Token that fills the padding."""
        return self.history.source.texts.pad_id


def build_parts(
    config: Any, dataset: Dataset | None, backbone: Backbone | None = None, files: TaskFiles | None = None
) -> RecFoundParts:
    """Build catalogue, tasks and adapter.

    Args:
        config: settings of the run.
        dataset: RecBole's built training part; None: tasks come from `files` alone.
        backbone: frozen language model, adapted in place; None loads the one that the settings name.
        files: the run's `task_files`, checked; None checks them here.

    Raises:
        BackboneError: the backbone cannot be loaded.
        ConfigError: settings that do not fit the data or the backbone.
        DataError: a malformed data file.
    """
    # Before the backbone: broken records are reported within seconds.
    files = files or TaskFiles.open(config["task_files"], config["skip_bad_rows"])
    backbone = backbone or backbone_of(config)
    if dataset is None:
        mode = HISTORIES[RECORDS_MODE]
        data = build_record_data(config, mode, backbone.tokenizer, backbone.context, files)
    else:
        mode = history_of(config)
        data = build_data(config, dataset, mode, backbone.tokenizer, backbone.context, files)
    check_settings(config, backbone, mode, data.ranks)
    if any(TASKS[task].kind == GENERATIVE for task in data.tasks):
        check_end(backbone.name, backbone.tokenizer)
    collator = data.collator
    if TestOptions.of(config["test_args"], "test_args").rank_titles:
        # A title and its end are scored behind a prompt when the training is over.
        longest = 1 + int(collator.texts.titles.lengths.max())
        check_window(backbone.model.config, config["max_prompt_tokens"] + longest, "take a lower max_prompt_tokens")
    return RecFoundParts(
        build_adapted(config, backbone, data.tasks),
        backbone.fingerprint,
        cast(History, data.history),
        collator.texts.sentences_by(data.item_ids.index_of_id),
        tuple(data.tasks),
        RECORD in collator.templates,
        data.ranks,
        data.targets_per_row,
        data,
    )


RECORDS_MODE = "prompt"
"""Without interactions every embedding example is a pair."""


def backbone_of(config: Any) -> Backbone:
    """Load the backbone that the settings name; random states stay as they are.

    Raises:
        BackboneError: it cannot be loaded.
    """
    device = config["device"]
    state = random_state(device)
    bf16 = choose_precision(config["precision"], device) == "bf16"
    dtype = torch.bfloat16 if bf16 else torch.float32
    backbone = load_backbone(config["backbone"], device, dtype, config["backbone_bits"])
    set_random_state(state, device)
    return backbone


def check_settings(config: Any, backbone: Backbone, history: type[History], ranks: bool) -> None:
    """Refuse settings that make no model together, or not with this backbone.

    Args:
        config: the run's settings.
        backbone: LLM that the run trains.
        history: its history mode.
        ranks: whether U2I on a data set is trained, so that there are rankings.

    Raises:
        ConfigError: names them all.
    """
    problems = settings_problems(config, history, ranks)
    if config["max_prompt_tokens"] > backbone.context:
        problems.append(
            f"max_prompt_tokens: got {config['max_prompt_tokens']}, expected at most {backbone.context}, the "
            f"context of {backbone.name}"
        )
    if problems:
        raise ConfigError(problems)


def settings_problems(config: Any, history: type[History], ranks: bool) -> list[str]:
    """Return what is wrong with settings that are fine one by one and make no model together.

    Args:
        config: the run's settings.
        history: its history mode.
        ranks: whether U2I on a data set is trained, so that there are rankings.
    """
    control, problems = config["control"], []
    if control not in (None, *CONTROLS):
        problems.append(f"control: got {control!r}, expected one of {', '.join(CONTROLS)} or nothing")
    if control == RANDOM_BODY and not ranks:
        problems.append(f"control: {control} is one of rankings, and nothing is ranked without U2I on a data set")
    method = config["merge_method"]
    merging, _ = MergeOptions.read(config)
    if merging.sparsify != "none" and (method == "none" or MERGE_METHODS[method].on_deltas):
        problems.append(f"merge_args: sparsify is for linear and slerp; merge_method {method} leaves it unused")
    if not ranks and config["max_steps"] is None and not config["time_budget"]:
        problems.append(
            "max_steps: without a ranking there is no early stopping and this run would never end. Set it, or "
            "time_budget"
        )
    unread = config["task_args"].get(USERS, {})
    if history.sequences and ranks and unread:
        problems.append(
            f"task_args: {USERS}: {', '.join(unread)}: read with history: {RECORDS_MODE} only; with {history.name} "
            "every position is ranked against the catalogue: leave it out"
        )
    if not history.soft_tokens and control == NO_BODY:
        problems.append(f"control: {control} bypasses the LLM, which needs soft tokens (history: item)")
    if control == SMALL_READER:
        if not (history.soft_tokens and ranks):
            problems.append(f"control: {control} is one of rankings with soft tokens (history: item)")
        if TowerOptions.of(config["tower_args"], "tower_args").user_layers is not None:
            problems.append(
                f"control: {control} reads histories instead of LLM layers: leave tower_args: user_layers out"
            )
    if control == NO_RECENT_ITEMS and not (history.sequences and ranks):
        problems.append(f"control: {control} is one of rankings by the item table (history: item, positions, late)")
    if control == NO_ADAPTER and (not history.uses_item_table or not ranks):
        problems.append(
            f"control: {control} leaves nothing to train with history: prompt, or without U2I on a data set"
        )
    if shards() and BatchOptions.of(config["batch_args"], "batch_args").cache_chunk:
        problems.append(
            "batch_args: cache_chunk: got a number, expected 0 with FSDP: processes make other numbers of passes"
        )
    if config["backbone_bits"] and (shards() or control == RANDOM_BODY):
        other = "FSDP divides" if shards() else f"control: {RANDOM_BODY} replaces"
        problems.append(f"backbone_bits: {other} weights of 16 or 32 bits only")
    if shards() and history.segments:
        problems.append(
            f"history: {history.name} encodes texts when they are needed, so that processes make other numbers of "
            "passes, which FSDP cannot; run it without"
        )
    if shards() and control == RANDOM_BODY:
        problems.append(f"control: got {control}, which needs whole weights; run it without FSDP")
    return problems


def build_adapted(config: Any, backbone: Backbone, tasks: Collection[str]) -> PeftModel:
    """Put the configured adapter on the backbone.

    Args:
        config: settings of the run.
        backbone: frozen language model, adapted in place.
        tasks: names of the trained tasks.

    Raises:
        ConfigError: an option the adapter refuses.
    """
    linear = [name for name, module in backbone.model.named_modules() if isinstance(module, torch.nn.Linear)]
    # Without an adapter: a frozen LoRA whose B is zero.
    kind = "lora" if config["control"] == NO_ADAPTER else config["adapter"]
    arguments = adapter_args(config, kind)
    modules = arguments.get("target_modules", ())
    for wanted in [] if isinstance(modules, str) else modules:
        if not any(f".{name}".endswith(f".{wanted}") for name in linear):
            head = head_of(backbone.model)
            layers = [name for name in linear if backbone.model.get_submodule(name) is not head]
            known = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in layers))
            raise ConfigError(
                f"adapter_args: target_modules: backbone {backbone.name!r} has no linear layer {wanted!r}, only {known}"
            )
    try:
        adapted = build_adapter(backbone.model, kind, task_table(tasks), **arguments)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"adapter_args: {error}") from None
    if isinstance(head_of(adapted.get_base_model()), BaseTunerLayer):
        # Losses and margins read the head outside of the pass that a route holds for.
        raise ConfigError(
            "adapter_args: target_modules: got the head of the language model, expected maps of its layers: omit it"
        )
    if config["gradient_checkpointing"]:
        adapted.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if shards():
        shard_frozen(decoder_of(adapted.get_base_model()).layers, config["device"])
    return adapted


def check_built(adapted: PeftModel, tasks: Sequence[str], device: torch.device) -> None:
    """Reject an adapter that does not run, and a backbone that cannot attend to a whole row.

    Args:
        adapted: backbone with adapter, on `device`.
        tasks: names of the tasks trained.
        device: of the backbone.

    Raises:
        TrainingError: the adapter has no effect.
        BackboneError: attention stays causal, packed histories see each other, or generative tasks would be trained
            on other logits than those of the model.
    """
    base = adapted.get_base_model()
    decoder = decoder_of(base)
    ids = torch.arange(8, device=device).unsqueeze(0)
    with without_adapter(adapted):
        check_bidirectional(decoder, ids)
        check_packing(decoder, ids)
        if any(TASKS[task].kind == GENERATIVE for task in tasks):
            check_logits(base, ids)
    check_adapter(adapted, lambda: decode(decoder, decoder.embed_tokens(ids)), list(tasks))
