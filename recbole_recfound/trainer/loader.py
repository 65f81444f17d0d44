"""The multi-task loader of a run, with its scheduler and the validation probe of U2I."""

from __future__ import annotations

from typing import Any

import numpy as np
from recbole.data.dataset import Dataset

from recbole_recfound.config.options import scheduler_args
from recbole_recfound.data import MultiTaskLoader, StepBatch, scheduler_groups, scheduler_sizes
from recbole_recfound.data.batches import BatchOptions
from recbole_recfound.data.multi_task import USERS, MultiTaskData
from recbole_recfound.data.split.protocol import held_out
from recbole_recfound.errors import ConfigError
from recbole_recfound.sampler import build_scheduler
from recbole_recfound.trainer.probes import ProbeOptions


def build_loader(config: Any, data: MultiTaskData, valid: Dataset | None = None) -> MultiTaskLoader:
    """Put the configured scheduler over the examples of all tasks.

    Args:
        config: settings of the run.
        data: tasks and collator.
        valid: validation part with histories (`RecFoundDataset`), which gives U2I its probe; tasks without a probe of
            this kind set examples aside for one.

    Raises:
        ConfigError: `balanced_tasks` names a task without a few answers.
    """
    tasks = data.tasks
    probe = validation_probe(config, data, valid) if data.ranks and valid is not None else None
    for name in config["balanced_tasks"]:
        if name not in tasks or not tasks[name].choices:
            known = ", ".join(name for name, task in tasks.items() if task.choices)
            raise ConfigError(
                f"balanced_tasks: {name} is not trained or has no few answers; those that are: {known or 'none'}"
            )
    scheduler = build_scheduler(
        config["scheduler"], scheduler_sizes(tasks), scheduler_groups(tasks), **scheduler_args(config)
    )
    batches = BatchOptions.of(config["batch_args"], "batch_args")
    probing = ProbeOptions.of(config["probe_args"], "probe_args")
    return MultiTaskLoader(
        tasks,
        data.collator,
        scheduler,
        {"embedding": batches.embedding, "generative": batches.generative},
        probe_share=probing.share,
        probe_size=probing.size,
        contrastive_batch=batches.contrastive,
        generative_chunk=batches.generative_chunk,
        sequence_targets=batches.sequence_targets,
        seed=config["seed"],
        balanced=config["balanced_tasks"],
        fixed_probes={} if probe is None else {USERS: probe},
    )


def validation_probe(config: Any, data: MultiTaskData, valid: Dataset) -> StepBatch | None:
    """Collate U2I's probe: some users' training histories and validation items. Only the scheduler reads its loss.

    None where no user of the validation part has a history.

    Args:
        config: settings of the run.
        data: tasks and collator.
        valid: validation part with histories.
    """
    size = ProbeOptions.of(config["probe_args"], "probe_args").size
    pairs, known = held_out(valid), valid.histories
    pairs = pairs[known.lengths[pairs[:, 0]] > 0]
    if not len(pairs):
        return None
    chosen = np.random.default_rng([config["seed"], 0xA11]).permutation(len(pairs))[: 4 * size]
    options: Any = data.tasks[USERS].options  # those of U2I
    longest = config["MAX_ITEM_LIST_LENGTH"] if data.history.sequences else options.history_titles
    histories = [data.item_ids.to_catalogue(known.of(user))[-longest:] for user, _ in pairs[chosen]]
    answers = data.item_ids.to_catalogue(pairs[chosen, 1])
    part = data.collator.held_out([USERS] * len(chosen), histories, answers)
    return StepBatch([part], {USERS: len(chosen)})
