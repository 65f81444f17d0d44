"""Settings of the tasks of a run."""

from __future__ import annotations

from recbole_recfound.config.configurator import Config
from recbole_recfound.model.m6rec import TASKS
from recbole_recfound.model.m6rec_options import PromptOptions
from recbole_recfound.model.reading.base import SegmentModel

OF_THE_FIRST = ("metrics", "valid_metric", "eval_args")
"""Settings that a user writes for the first task; the others score by their defaults, on the same rows."""
ROWS = ("split", "order", "group_by")
"""Options of `eval_args` that decide which rows are held out."""


def parts_of(config: Config) -> list[tuple[str, str]]:
    """Return task and tuning of each trained model of a run; a task without training has one."""
    tunings = PromptOptions.of(config["option_args"], "option_args").tuning
    return [
        (task, tuning)
        for task in config["m6rec_task"]
        for tuning in (tunings if issubclass(TASKS[task], SegmentModel) else tunings[:1])
    ]


def of_part(config: Config, task: str, tuning: str) -> Config:
    """Return the settings of one model of a run.

    Args:
        config: of the run, which are those of its first model.
        task: one of `m6rec_task`.
        tuning: one of `option_args: {tuning}`.
    """
    if (task, tuning) == parts_of(config)[0]:
        return config
    given = dict(config.external_config_dict)
    given["option_args"] = {**(config["option_args"] or {}), "tuning": [tuning]}
    if task != config["m6rec_task"][0]:
        given = {key: value for key, value in given.items() if key not in OF_THE_FIRST}
        rows = {name: config["eval_args"][name] for name in ROWS}
        own = TASKS[task].own_settings(given).get("eval_args", {"mode": TASKS[task].modes[0]})
        given |= {"m6rec_task": [task], "eval_args": {**rows, "mode": own["mode"]}}
        given |= {key: config[key] for key in ("test_users", "cold_items")}
    return Config(config["model"], config["dataset"], None, given)
