"""Tasks: what the model is trained on, built from training rows alone."""

from recbole_recfound.data.task import embedding, generative  # noqa: F401  (registers the builders)
from recbole_recfound.data.task.base import (
    BUILDERS,
    NEEDS_RECORDS,
    Example,
    GenerativeExample,
    PairExample,
    RecordPairExample,
    SequenceExample,
    Task,
    TaskOptions,
    build_tasks,
)
from recbole_recfound.data.task.source import HeldOut, TrainingData
from recbole_recfound.data.task.spec import EMBEDDING, GENERATIVE, RANKED, TASKS, TaskSpec

__all__ = [
    "BUILDERS",
    "EMBEDDING",
    "GENERATIVE",
    "NEEDS_RECORDS",
    "RANKED",
    "TASKS",
    "Example",
    "GenerativeExample",
    "HeldOut",
    "PairExample",
    "RecordPairExample",
    "SequenceExample",
    "Task",
    "TaskOptions",
    "TaskSpec",
    "TrainingData",
    "build_tasks",
]
