"""AG: answer generation."""

from recbole_recfound.data.task.base import RecordOnlyTask, register_task
from recbole_recfound.data.task.metrics import BLEU, RougeL


@register_task("AG")
class AnswerGeneration(RecordOnlyTask):
    """Answer a question about a product in free text."""

    id = 12
    title = "answer generation"
    record = "Answer_Generation"
    metrics = (RougeL, BLEU)
