"""PM: product matching."""

from recbole_recfound.data.task.base import register_task
from recbole_recfound.data.task.yes_no import YesNoTask


@register_task("PM")
class ProductMatching(YesNoTask):
    """Decide whether two descriptions are about the same product."""

    id = 8
    title = "product matching"
    record = "Product_Matching"
