"""Building the tasks that the data supports."""

from collections.abc import Sequence

from recbole_recfound.data.task.base import NEEDS_RECORDS, TASKS, Task, Unsupported
from recbole_recfound.data.task.settings import TaskSettings
from recbole_recfound.data.task.source import TrainingData
from recbole_recfound.errors import ConfigError


def build_tasks(
    names: Sequence[str], source: TrainingData, settings: TaskSettings
) -> tuple[dict[str, Task], dict[str, str]]:
    """Build tasks from atomic files.

    Args:
        names: tasks to build.
        source: training data.
        settings: settings of all tasks.

    Returns:
        Built tasks by name, and the reason for each that the data does not support.

    Raises:
        ConfigError: an unknown name or option, or no task can be built.
    """
    if unknown := TASKS.unknown(names):
        raise ConfigError(f"tasks: {unknown}")
    tasks: dict[str, Task] = {}
    left_out: dict[str, str] = {}
    for name in names:
        try:
            task = TASKS[name](source, settings)
            if len(task) < 2:
                raise Unsupported("fewer than two training examples")
            tasks[name] = task
        except Unsupported as reason:
            left_out[name] = str(reason)
    if not tasks:
        raise ConfigError("tasks: none can be built: " + "; ".join(f"{k} ({v})" for k, v in left_out.items()))
    return tasks, left_out


def record_only_tasks() -> dict[str, str]:
    """Return the tasks that atomic files never support, with the reason."""
    return {name: NEEDS_RECORDS for name, task in TASKS.items() if not task.from_atomic_files}
