"""PRP: product relation prediction."""

from collections.abc import Collection

from recbole_recfound.data.task.answers import parse_label
from recbole_recfound.data.task.base import RecordOnlyTask, register_task
from recbole_recfound.data.task.metrics import MacroF1


@register_task("PRP")
class ProductRelationPrediction(RecordOnlyTask):
    """Name the relation of two products, one of a few classes."""

    id = 5
    title = "product relation prediction"
    record = "Product_Relation_Prediction"
    metrics = (MacroF1,)
    closed = True

    @classmethod
    def parse(cls, text: str, choices: Collection[str]) -> str | None:
        """Parse one of the classes.

        See `Task.parse`.
        """
        return parse_label(text, choices)
