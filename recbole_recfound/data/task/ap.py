"""AP: answerability prediction."""

from recbole_recfound.data.task.base import register_task
from recbole_recfound.data.task.yes_no import YesNoTask


@register_task("AP")
class AnswerabilityPrediction(YesNoTask):
    """Decide whether a question can be answered from the given reviews."""

    id = 11
    title = "answerability prediction"
    record = "Answerability_Prediction"
