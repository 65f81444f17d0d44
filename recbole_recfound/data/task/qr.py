"""QR: query rewriting."""

from recbole_recfound.data.task.base import RecordOnlyTask, register_task
from recbole_recfound.data.task.metrics import BLEU, RougeL


@register_task("QR")
class QueryRewriting(RecordOnlyTask):
    """Rewrite a search query, as in the records."""

    id = 3
    title = "query rewriting"
    record = "Query_Rewriting"
    metrics = (RougeL, BLEU)
