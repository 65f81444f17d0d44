"""RecFound without atomic files: all tasks come from JSON-lines records, and nothing is ranked for users."""

import numpy as np
import torch

from recbole_recfound.backbone import Backbone
from recbole_recfound.config.configurator import Config
from recbole_recfound.data import RECORD, Collator
from recbole_recfound.data.records.files import TaskFiles, add_record_tasks
from recbole_recfound.data.task import RecordPairExample, Task
from recbole_recfound.data.task_tests import collect_tests
from recbole_recfound.data.text import Catalogue, PromptTemplate, TokenTable
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.recfound import ModelInputs, RecFound
from recbole_recfound.system.recfound.build import (
    PROMPT,
    Built,
    build_adapted,
    build_loader,
    check_built,
    check_settings,
    chosen_tasks,
)
from recbole_recfound.system.recfound.options import task_settings

CENTRE_TEXTS = 256
"""Texts whose mean is the centre of all vectors."""


class NoInteractions:
    """What RecBole's models ask of a data set, when there are neither users nor items."""

    def num(self, field: str) -> int:
        """Only the padding."""
        return 1


def build_on_files(config: Config, files: TaskFiles, backbone: Backbone, device: torch.device) -> Built:
    """Build tasks, adapter, model and loader from the training files alone.

    Args:
        config: the run's config.
        files: its `task_files`, checked.
        backbone: frozen language model, adapted in place.
        device: where to train.

    Raises:
        ConfigError: no training file, or settings that need items.
    """
    joined = add_record_tasks({}, files, config["seed"], task_settings(config, sequences=False))
    tasks = chosen_tasks(config, joined)
    if not tasks:
        why = (
            "every record of the training files is asked in validation or test files"
            if files.parts["train"]
            else "there is no training file"
        )
        raise ConfigError(f"task_files: dataset: none trains from files alone, and {why}")
    if config["prompts"]:
        raise ConfigError("prompts: all tasks come from task_files, whose records bring their own prompts")
    check_settings(config, backbone, PROMPT, ranks=False)
    catalogue = Catalogue([], [], [], 0)
    collator = Collator(
        catalogue,
        backbone.tokenizer,
        {RECORD: PromptTemplate(RECORD, "{{ prompt }}", ("prompt",), backbone.tokenizer)},
        np.zeros(0, dtype=np.int64),
        config["max_item_tokens"],
        config["max_prompt_tokens"],
        config["MAX_ITEM_LIST_LENGTH"],
        config["generative_pass_tokens"],
        backbone.context,
    )
    adapted = build_adapted(config, backbone, tasks)
    tokens = TokenTable(np.zeros(0, dtype=np.int32), np.zeros(2, dtype=np.int64))
    rows = np.array([-1], dtype=np.int64)
    inputs = ModelInputs(
        adapted, collator, tokens, rows, tuple(tasks), device, PROMPT, backbone.fingerprint, ranks=False
    )
    model = RecFound(config, NoInteractions(), inputs).to(device)
    check_built(model, adapted, tasks, device)
    model.text_mean = _centre(model, tasks)
    loader = build_loader(config, tasks, collator)
    tests = collect_tests(tasks, None, files, config["task_test_examples"], config["seed"])
    return Built(model, loader, tasks, files.untrained(joined), catalogue, tests, ranks=False)


@torch.no_grad()
def _centre(model: RecFound, tasks: dict[str, Task]) -> torch.Tensor:
    """Mean vector [d] of some positives under the plain backbone; zero without an embedding task."""
    texts: dict[tuple[str, str], None] = {}
    for task in tasks.values():
        if isinstance(task.example(0), RecordPairExample):
            chosen = range(0, len(task), max(1, len(task) // CENTRE_TEXTS))
            texts |= dict.fromkeys(task.example(index).positive for index in chosen)
    if not texts:
        return model.text_mean
    collator = model.inputs.collator
    table = TokenTable.of([text for _, text in texts][:CENTRE_TEXTS], collator.tokenizer, collator.max_prompt_tokens)
    return model.eval().text_tower.encode_table(table, None, collator.tokenizer.pad_token_id, model.device).mean(0)
