"""Tasks: training examples for the model, built from training interactions alone. Each task has its own file.

To add a task, subclass one of the bases and register it with `register_task`; see examples/add_a_task.py.
"""

from recbole_recfound.data.task.base import (
    EMBEDDING,
    GENERATIVE,
    HELD_OUT,
    KEPT,
    NEEDS_RECORDS,
    RECORDS,
    TASKS,
    GenerativeTask,
    RecordOnlyTask,
    Task,
    Unsupported,
    read_ratings,
    register_task,
    task_table,
)
from recbole_recfound.data.task.build import build_tasks, record_only_tasks
from recbole_recfound.data.task.embedding import RANKED, EmbeddingTask
from recbole_recfound.data.task.examples import (
    Example,
    GenerativeExample,
    PairExample,
    RecordPairExample,
    SequenceExample,
)
from recbole_recfound.data.task.interactions import InteractionTask
from recbole_recfound.data.task.kept import ItemTask, UserTask
from recbole_recfound.data.task.metrics import ANSWER_METRICS, PARSED, WRITTEN, AnswerMetric
from recbole_recfound.data.task.settings import (
    EmbeddingOptions,
    GenerativeOptions,
    HistoryOptions,
    TaskOptions,
    TaskSettings,
)
from recbole_recfound.data.task.source import HeldOut, TrainingData

__all__ = [
    "ANSWER_METRICS",
    "EMBEDDING",
    "GENERATIVE",
    "HELD_OUT",
    "KEPT",
    "NEEDS_RECORDS",
    "PARSED",
    "RANKED",
    "RECORDS",
    "TASKS",
    "WRITTEN",
    "AnswerMetric",
    "EmbeddingOptions",
    "EmbeddingTask",
    "Example",
    "GenerativeExample",
    "GenerativeOptions",
    "GenerativeTask",
    "HeldOut",
    "HistoryOptions",
    "InteractionTask",
    "ItemTask",
    "PairExample",
    "RecordOnlyTask",
    "RecordPairExample",
    "SequenceExample",
    "Task",
    "TaskOptions",
    "TaskSettings",
    "TrainingData",
    "Unsupported",
    "UserTask",
    "build_tasks",
    "read_ratings",
    "record_only_tasks",
    "register_task",
    "task_table",
]
