"""Settings of the tasks of a run."""

from __future__ import annotations

from recbole_recfound.config.configurator import Config
from recbole_recfound.model.m6rec import TASKS

OF_THE_FIRST = ("metrics", "valid_metric", "eval_args")
"""Settings that a user writes for the first task; the others score by their defaults, on the same rows."""
ROWS = ("split", "order", "group_by")
"""Options of `eval_args` that decide which rows are held out."""


def of_task(config: Config, task: str) -> Config:
    """Return the settings of one task of a run.

    Args:
        config: of the run, which are those of its first task.
        task: one of `m6rec_task`.
    """
    first = config["m6rec_task"][0]
    if task == first:
        return config
    given = dict(config.external_config_dict)
    for key in OF_THE_FIRST:
        given.pop(key, None)
    rows = {name: config["eval_args"][name] for name in ROWS}
    changed = {**given, "m6rec_task": [task], "eval_args": {**rows, "mode": TASKS[task].modes[0]}}
    return Config(config["model"], config["dataset"], None, changed)
