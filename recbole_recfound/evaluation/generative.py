"""Scoring of generated answers by RecBole's evaluator."""

from collections.abc import Mapping, Sequence
from typing import Any

from recbole.evaluator.collector import DataStruct
from recbole.evaluator.evaluator import Evaluator

from recbole_recfound.data.task import TASKS
from recbole_recfound.data.task.metrics import ANSWER_METRICS, TEXT_METRICS, WRITTEN, AnswerMetric, register_metrics
from recbole_recfound.evaluation.bert_score import bert_score_f1


@ANSWER_METRICS.register("bert_score_f1")
class BERTScore(AnswerMetric):
    """Mean BERTScore F1 by bert-score with the model in the folder `bert_score_model`; all its layers, not rescaled."""

    metric_need = WRITTEN

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.folder = config["bert_score_model"]

    def score(self, data: DataStruct) -> float:
        """Return the value, 0 to 1."""
        return bert_score_f1(self.folder, data["gen.texts"], data["gen.references"])


def score_answers(
    task: str,
    predicted: Sequence[object],
    wanted: Sequence[object],
    texts: Sequence[str],
    references: Sequence[str],
    bert_score_model: str = "",
    decimals: int = 4,
) -> dict[str, float]:
    """Return the metrics of one task, computed by RecBole's evaluator.

    Args:
        task: its name.
        predicted: parsed answers; None for an unparseable one.
        wanted: parsed references, never None.
        texts: answers as written.
        references: references as written.
        bert_score_model: folder of a model; then free text is scored by BERTScore instead of ROUGE-L and BLEU.
        decimals: digits of the rounded values.
    """
    chosen = TASKS[task].metrics
    if bert_score_model and set(chosen) & set(TEXT_METRICS):
        chosen = (*(metric for metric in chosen if metric not in TEXT_METRICS), BERTScore)
    register_metrics(chosen)
    data = DataStruct()
    lists = {"gen.predicted": predicted, "gen.wanted": wanted, "gen.texts": texts, "gen.references": references}
    for name, values in lists.items():
        data.set(name, values)
    names = [metric.__name__ for metric in chosen]
    settings = {"metrics": names, "metric_decimal_place": decimals, "bert_score_model": bert_score_model}
    return {name: float(value) for name, value in Evaluator(settings).evaluate(data).items()}
