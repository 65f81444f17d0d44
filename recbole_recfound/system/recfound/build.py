"""From a config and RecBole's built splits to a model and its training data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel

from recbole_recfound.adapter import build_adapter, check_adapter, without_adapter
from recbole_recfound.backbone import Backbone, check_bidirectional, decode
from recbole_recfound.config.configurator import Config
from recbole_recfound.data import RECORD, Collator, MultiTaskLoader, StepBatch, scheduler_groups, scheduler_sizes
from recbole_recfound.data.records.files import MixedTask, RecordTask, TaskFiles, add_record_tasks
from recbole_recfound.data.split.protocol import Splits, held_out
from recbole_recfound.data.task import (
    GENERATIVE,
    TASKS,
    HeldOut,
    Task,
    TrainingData,
    build_tasks,
    record_only_tasks,
    task_table,
)
from recbole_recfound.data.task_tests import TaskTest, collect_tests
from recbole_recfound.data.text import (
    Catalogue,
    PromptTemplate,
    TokenTable,
    build_catalogue,
    choose_fields,
    read_atomic,
)
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.merge import MERGE_METHODS
from recbole_recfound.model.recfound import ModelInputs, RecFound
from recbole_recfound.sampler import build_scheduler
from recbole_recfound.system.recfound.options import adapter_args, scheduler_args, task_settings

ITEM, POSITIONS, PROMPT = "item", "positions", "prompt"


@dataclass(frozen=True)
class Built:
    """A model with what trains it.

    Attributes:
        model: on its device, untrained.
        loader: multi-task batches.
        tasks: tasks that were built.
        left_out: reason for each task that was not.
        catalogue: the items.
        tests: what each task is asked in the test.
        ranks: whether users' items are ranked: there are interactions, and U2I is trained.
    """

    model: RecFound
    loader: MultiTaskLoader
    tasks: dict[str, Task]
    left_out: dict[str, str]
    catalogue: Catalogue
    tests: dict[str, TaskTest]
    ranks: bool


def history_mode(config: Config) -> str:
    """How histories enter the LLM: `item`, `positions` or `prompt`."""
    return ITEM if config["history_mode"] == ITEM else config["text_form"]


def build_recfound(
    config: Config, splits: Splits, backbone: Backbone, device: torch.device, files: TaskFiles | None = None
) -> Built:
    """Build catalogue, tasks, adapter, model and loader.

    Args:
        config: the run's config.
        splits: RecBole's built data sets; only their training part reaches the tasks.
        backbone: frozen language model, adapted in place.
        device: where to train.
        files: the run's `task_files`, checked; None checks them here.

    Raises:
        ConfigError: settings that do not fit the data or the backbone.
        DataError: a malformed data file.
    """
    mode = history_mode(config)
    catalogue = catalogue_of(config, splits)
    source = TrainingData.of(
        splits.train_set, catalogue, config["seed"], _queries(config, catalogue), _profiles(config, splits)
    )
    settings = task_settings(config, sequences=mode != PROMPT)
    tasks, left_out = build_tasks(config["tasks"], source, settings)
    if "U2I" in left_out:
        raise ConfigError(
            f"tasks: U2I cannot be built ({left_out['U2I']}), and without it nothing is ranked; leave it out of tasks"
        )
    files = files or TaskFiles.open(config["task_files"], config["skip_bad_rows"])
    joined = add_record_tasks(tasks, files, config["seed"], settings)
    left_out |= record_only_tasks()
    left_out = {name: why for name, why in left_out.items() if name not in joined} | files.untrained(joined)
    built_here, tasks = tasks, chosen_tasks(config, joined)
    ranks = "U2I" in built_here and "U2I" in tasks
    by_titles = ranks and config["sr_form"] == "title" and "SR" in built_here and "SR" in tasks
    if config["generative_candidates"] and not by_titles:
        raise ConfigError(
            "generative_candidates: a ranking by titles needs the tasks U2I and SR of the data set, with sr_form: title"
        )
    check_settings(config, backbone, mode, ranks)
    row_of_iid, iid_of_row = item_rows(splits, catalogue)
    collator = _collator(config, backbone, catalogue, tasks, iid_of_row, mode)
    adapted = build_adapted(config, backbone, tasks)
    tokens = _reordered(collator.sentences, row_of_iid)
    # Windows have at most MAX_ITEM_LIST_LENGTH targets; users with one item have none and are no examples.
    targets = (
        np.minimum(source.lengths[source.lengths > 1] - 1, config["MAX_ITEM_LIST_LENGTH"]).mean() if ranks else 1.0
    )
    inputs = ModelInputs(
        adapted, collator, tokens, row_of_iid, tuple(tasks), device, mode, backbone.fingerprint, float(targets), ranks
    )
    model = RecFound(config, splits.train_set, inputs).to(device)
    check_built(model, adapted, tasks, device)
    if config["adapter"] == "none":
        # B is zero: an adapter that never learns is the frozen backbone.
        adapted.requires_grad_(False)
    probes = {"U2I": validation_probe(config, splits, collator, row_of_iid, tasks["U2I"])} if ranks else {}
    loader = build_loader(config, tasks, collator, probes)
    held_out = HeldOut.of(splits.train_set, splits.valid_set, splits.test_set, catalogue, config["seed"])
    tests = collect_tests(tasks, held_out, files, config["task_test_examples"], config["seed"])
    return Built(model, loader, tasks, left_out, catalogue, tests, ranks)


def chosen_tasks(config: Config, tasks: Mapping[str, Task]) -> dict[str, Task]:
    """Those that `only_tasks` names, or all.

    Raises:
        ConfigError: one of them is not there.
    """
    only = config["only_tasks"]
    if absent := [name for name in only if name not in tasks]:
        raise ConfigError(
            f"only_tasks: {absent[0]} is not among the tasks that data and files give: {', '.join(tasks)}"
        )
    return {name: task for name, task in tasks.items() if not only or name in only}


def catalogue_of(config: Config, splits: Splits) -> Catalogue:
    """Read .item beside the interactions, if there is one."""
    path = Path(config["data_path"]) / f"{config['dataset']}.item"
    train = splits.train_set
    tokens = train.id2token(train.iid_field, train.inter_feat[train.iid_field].numpy())
    known = train.id2token(train.iid_field, np.arange(1, train.item_num))
    return build_catalogue(
        path if path.is_file() else None,
        train.iid_field,
        map(str, tokens),
        map(str, known),
        config["item_text_fields"],
        config["field_separator"],
        config["encoding"],
    )


def item_rows(splits: Splits, catalogue: Catalogue) -> tuple[np.ndarray, np.ndarray]:
    """Catalogue row of each RecBole item id (-1 for padding), and item id of each row (0 where RecBole has none)."""
    train = splits.train_set
    tokens = train.id2token(train.iid_field, np.arange(train.item_num))
    row_of_iid = np.array([-1, *(catalogue.row_of[str(token)] for token in tokens[1:])], dtype=np.int64)
    iid_of_row = np.zeros(len(catalogue), dtype=np.int64)
    iid_of_row[row_of_iid[1:]] = np.arange(1, train.item_num)
    return row_of_iid, iid_of_row


def _queries(config: Config, catalogue: Catalogue) -> list[tuple[str, int]]:
    """Rows of an optional `<dataset>.query` file: a text column and the item it asks for."""
    path = Path(config["data_path"]) / f"{config['dataset']}.query"
    if not path.is_file():
        return []
    table, item = read_atomic(path, config["field_separator"], config["encoding"]), config["ITEM_ID_FIELD"]
    texts = [name for name in table.kinds if name != item]
    if item not in table.kinds or len(texts) != 1:
        raise DataError(f"{path}:1: needs two columns, {item}:token and one of query text, as in query:token_seq")
    rows = []
    for line, (text, token) in enumerate(zip(table.column(texts[0]), table.column(item)), start=2):
        if token not in catalogue.row_of:
            raise DataError(f"{path}:{line}: item '{token}' is neither in .item nor in the interactions")
        if not text.strip():
            raise DataError(f"{path}:{line}: the query of item '{token}' is empty")
        rows.append((text, catalogue.row_of[token]))
    return rows


def _profiles(config: Config, splits: Splits) -> dict[str, dict[str, str]]:
    """Return short text columns of an optional .user file by user token, where a task reads them."""
    path = Path(config["data_path"]) / f"{config['dataset']}.user"
    if not any(TASKS[name].reads_profiles for name in config["tasks"]) or not path.is_file():
        return {}
    key = splits.train_set.uid_field
    table = read_atomic(path, config["field_separator"], config["encoding"])
    fields = choose_fields(table, key, None, "user fields")
    return {
        user: {name: row[name].strip() for name in fields if row[name].strip()}
        for user, row in table.by_key(key).items()
    }


def _collator(
    config: Config,
    backbone: Backbone,
    catalogue: Catalogue,
    tasks: Mapping[str, Task],
    iid_of_row: np.ndarray,
    mode: str,
) -> Collator:
    for name in config["prompts"]:
        if isinstance(tasks.get(name), RecordTask):
            raise ConfigError(f"prompts: {name} comes from task_files, whose records bring their own prompts")
    templates = {
        name: PromptTemplate(
            name,
            config["prompts"].get(name, task.prompt),
            task.slots,
            backbone.tokenizer,
            chat=task.spec.kind == GENERATIVE,
            uncut=task.spec.uncut,
        )
        for name, task in tasks.items()
        if not isinstance(task, RecordTask)
    }
    if any(isinstance(task, (RecordTask, MixedTask)) for task in tasks.values()):
        templates[RECORD] = PromptTemplate(RECORD, "{{ prompt }}", ("prompt",), backbone.tokenizer)
    collator = Collator(
        catalogue,
        backbone.tokenizer,
        templates,
        iid_of_row,
        config["max_item_tokens"],
        config["max_prompt_tokens"],
        config["MAX_ITEM_LIST_LENGTH"],
        config["generative_pass_tokens"],
        backbone.context,
        history_as_text=mode == POSITIONS,
    )
    _check_lengths(collator, tasks)
    return collator


def _check_lengths(collator: Collator, tasks: Mapping[str, Task]) -> None:
    """Refuse prompts without room for data: their fixed text and their choices are never cut."""
    most = collator.max_prompt_tokens
    for name, template in collator.templates.items():
        needed = template.fixed_length
        if name in tasks and tasks[name].choices:
            needed = max(needed, len(collator.prompt(name, tasks[name].example(0))) - 1)
        if needed >= most:
            raise ConfigError(
                f"max_prompt_tokens: {most} leaves no room for data in the prompt of {name}, whose fixed text and choices alone have"
                f" {needed} tokens"
            )


def check_settings(config: Config, backbone: Backbone, mode: str, ranks: bool) -> None:
    """Refuse settings that are fine one by one and make no model together.

    Raises:
        ConfigError: naming them.
    """
    if config["body"] == "random" and not ranks:
        raise ConfigError("body: random is a control of rankings, and nothing is ranked without U2I on a data set")
    method = config["merge_method"]
    if config["merge_sparsify"] != "none" and (method == "none" or MERGE_METHODS[method].on_deltas):
        raise ConfigError(f"merge_sparsify: is for linear and slerp; merge_method {method} leaves it unused")
    if not ranks and config["max_steps"] is None and not config["time_budget"]:
        raise ConfigError(
            "max_steps: without a ranking there is no early stopping, so this run would never end; set it, or time_budget"
        )
    if mode != ITEM and config["backbone_layers"] == 0:
        raise ConfigError("backbone_layers: 0 bypasses the LLM, which needs soft tokens (history_mode: item)")
    if config["user_tower"] == "small" and not (mode == ITEM and ranks and config["backbone_layers"] is None):
        raise ConfigError(
            "user_tower: small is a control of rankings with soft tokens (history_mode: item), where no LLM layers (backbone_layers) "
            "read a history"
        )
    if config["adapter"] == "none" and (mode == PROMPT or not ranks):
        raise ConfigError("adapter: none leaves nothing to train with text_form: prompt, or without U2I on a data set")
    if not (config["use_item_text"] or config["use_item_id"]):
        raise ConfigError("use_item_id: False, but use_item_text is False too: an item needs its text, its id, or both")
    if config["max_prompt_tokens"] > backbone.context:
        raise ConfigError(
            f"max_prompt_tokens: {config['max_prompt_tokens']}, but {backbone.name} reads {backbone.context} tokens at most"
        )


def build_adapted(config: Config, backbone: Backbone, tasks: Iterable[str]) -> PeftModel:
    """Put the configured adapter on the backbone.

    Args:
        config: the run's config.
        backbone: frozen language model, adapted in place.
        tasks: names of the trained tasks.

    Raises:
        ConfigError: an option the adapter refuses.
    """
    linear = [name for name, module in backbone.model.named_modules() if isinstance(module, torch.nn.Linear)]
    for wanted in config["target_modules"]:
        if not any(f".{name}".endswith(f".{wanted}") for name in linear):
            known = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in linear))
            raise ConfigError(
                f"target_modules: backbone '{backbone.name}' has no linear layer {wanted!r}, it has {known}"
            )
    # `none` is a frozen LoRA whose B is zero.
    kind = "lora" if config["adapter"] == "none" else config["adapter"]
    try:
        adapted = build_adapter(backbone.model, kind, task_table(tasks), **adapter_args(config, kind))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"adapter: {error}") from None
    if config["gradient_checkpointing"]:
        adapted.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return adapted


def check_built(model: RecFound, adapted: PeftModel, tasks: Mapping[str, Task], device: torch.device) -> None:
    """Refuse to train an adapter that does not run, or to embed with a backbone that cannot read a whole row.

    Raises:
        TrainingError: the adapter is silent.
        BackboneError: attention stays causal.
    """
    decoder = adapted.get_base_model().base_model
    ids = torch.arange(8, device=device).unsqueeze(0)
    with without_adapter(adapted):
        check_bidirectional(decoder, ids)
    check_adapter(adapted, lambda: decode(decoder, decoder.embed_tokens(ids)), list(tasks))


def _reordered(table: TokenTable, rows: np.ndarray) -> TokenTable:
    """Texts by RecBole's item id; padding (row -1) is empty."""
    texts = [table[row] if row >= 0 else table.flat[:0] for row in rows]
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    return TokenTable(np.concatenate(texts), offsets)


def build_loader(
    config: Config, tasks: Mapping[str, Task], collator: Collator, fixed_probes: Mapping[str, StepBatch] | None = None
) -> MultiTaskLoader:
    """The configured scheduler over the tasks' examples; a task without a fixed probe sets examples aside for one."""
    for name in config["balanced_tasks"]:
        if name not in tasks or not tasks[name].choices:
            known = ", ".join(name for name, task in tasks.items() if task.choices)
            raise ConfigError(
                f"balanced_tasks: {name} is not trained or has no few answers; those that are: {known or 'none'}"
            )
    scheduler = build_scheduler(
        config["scheduler"], scheduler_sizes(tasks), scheduler_groups(tasks), **scheduler_args(config)
    )
    return MultiTaskLoader(
        tasks,
        collator,
        scheduler,
        {"embedding": config["embedding_batch"], "generative": config["generative_batch"]},
        probe_share=config["probe_share"],
        probe_size=config["probe_size"],
        contrastive_batch=config["contrastive_batch"],
        generative_chunk=config["generative_chunk"],
        sequence_targets=config["sequence_targets"],
        seed=config["seed"],
        balanced=config["balanced_tasks"],
        fixed_probes=fixed_probes,
    )


def validation_probe(
    config: Config, splits: Splits, collator: Collator, row_of_iid: np.ndarray, task: Task
) -> StepBatch:
    """U2I's probe: training histories of a few users and their validation items; only the scheduler sees its loss."""
    pairs = held_out(splits.valid_set)
    pairs = pairs[splits.known_at_valid.lengths[pairs[:, 0]] > 0]
    chosen = np.random.default_rng([config["seed"], 0xA11]).permutation(len(pairs))[: 4 * config["probe_size"]]
    sequences = task.settings.sequences
    longest = config["MAX_ITEM_LIST_LENGTH"] if sequences else config["history_titles"]
    histories = [row_of_iid[splits.known_at_valid.of(user)][-longest:] for user, _ in pairs[chosen]]
    answers = row_of_iid[pairs[chosen, 1]]
    names = ["U2I"] * len(chosen)
    part = collator.validation(names, histories, answers, sequences=sequences)
    return StepBatch([part], {"U2I": len(chosen)})
