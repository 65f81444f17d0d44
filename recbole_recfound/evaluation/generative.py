"""Metrics of generated answers, as classes of RecBole's evaluator.

They read four lists from the evaluator's data: `gen.predicted` and `gen.wanted` (what `task.answers` read in the answers, None
where it could read nothing) and `gen.texts` and `gen.references` (the answers as written).
"""

from collections.abc import Sequence

import sacrebleu
from recbole.evaluator import register
from recbole.evaluator.base_metric import AbstractMetric
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.evaluator import Evaluator
from recbole.utils import EvaluatorType
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import f1_score


class AnswerMetric(AbstractMetric):
    """A metric of answers; `key` names it in results."""

    metric_type = EvaluatorType.VALUE
    smaller = False
    key = ""

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float]:
        """RecBole's call: the metric by name, rounded as RecBole rounds."""
        return {self.key: round(float(self.score(dataobject)), self.decimal_place)}

    def score(self, data: DataStruct) -> float:
        """The metric's value, 0 to 1."""
        raise NotImplementedError


class YesF1(AnswerMetric):
    """F1 of "yes"; an unreadable answer is a "no" that was wrong where "yes" was wanted."""

    metric_need = ["gen.predicted", "gen.wanted"]
    key = "f1_yes"

    def score(self, data: DataStruct) -> float:
        said = [answer == "yes" for answer in data["gen.predicted"]]
        wanted = [answer == "yes" for answer in data["gen.wanted"]]
        return f1_score(wanted, said, zero_division=0)


class LetterRecall(AnswerMetric):
    """Recall@1: share of answers that are the right letter."""

    metric_need = ["gen.predicted", "gen.wanted"]
    key = "recall@1"

    def score(self, data: DataStruct) -> float:
        pairs = list(zip(data["gen.predicted"], data["gen.wanted"]))
        return sum(said == wanted for said, wanted in pairs) / len(pairs)


class MacroF1(AnswerMetric):
    """Mean F1 of the classes that are wanted at least once; an unreadable answer belongs to none of them."""

    metric_need = ["gen.predicted", "gen.wanted"]
    key = "macro_f1"

    def score(self, data: DataStruct) -> float:
        wanted = list(data["gen.wanted"])
        number = {label: place for place, label in enumerate(sorted(set(wanted)))}
        said = [number.get(label, len(number)) for label in data["gen.predicted"]]
        classes = list(number.values())
        return f1_score([number[label] for label in wanted], said, labels=classes, average="macro", zero_division=0)


class AttributeF1(AnswerMetric):
    """Micro F1 over (attribute, value, source) triples; an unreadable answer has none."""

    metric_need = ["gen.predicted", "gen.wanted"]
    key = "micro_f1"

    def score(self, data: DataStruct) -> float:
        pairs = [(said or frozenset(), wanted) for said, wanted in zip(data["gen.predicted"], data["gen.wanted"])]
        hits = sum(len(said & wanted) for said, wanted in pairs)
        total = sum(len(said) + len(wanted) for said, wanted in pairs)
        return 2 * hits / total if total else 0.0


class RougeL(AnswerMetric):
    """Mean ROUGE-L F1 by rouge-score, without stemming; its words are made of the letters a to z and digits."""

    metric_need = ["gen.texts", "gen.references"]
    key = "rouge_l"

    def score(self, data: DataStruct) -> float:
        scorer = RougeScorer(["rougeL"])
        pairs = list(zip(data["gen.references"], data["gen.texts"]))
        return sum(scorer.score(reference, text)["rougeL"].fmeasure for reference, text in pairs) / len(pairs)


class BLEU(AnswerMetric):
    """Corpus BLEU by sacrebleu with its default settings, divided by 100."""

    metric_need = ["gen.texts", "gen.references"]
    key = "bleu"

    def score(self, data: DataStruct) -> float:
        return sacrebleu.corpus_bleu(list(data["gen.texts"]), [list(data["gen.references"])]).score / 100


class BERTScore(AnswerMetric):
    """Mean BERTScore F1 by bert-score with the model in the folder `bert_score_model`; all its layers, not rescaled."""

    metric_need = ["gen.texts", "gen.references"]
    key = "bert_score_f1"

    def __init__(self, config) -> None:
        super().__init__(config)
        self.folder = config["bert_score_model"]

    def score(self, data: DataStruct) -> float:
        from recbole_recfound.evaluation.bert_score import bert_score_f1

        return bert_score_f1(self.folder, data["gen.texts"], data["gen.references"])


METRICS = (YesF1, LetterRecall, MacroF1, AttributeF1, RougeL, BLEU, BERTScore)
TASK_METRICS: dict[str, tuple[type[AnswerMetric], ...]] = {
    "SR": (LetterRecall,),
    "SA": (MacroF1,),
    "PRP": (MacroF1,),
    "AVE": (AttributeF1,),
    "PM": (YesF1,),
    "AP": (YesF1,),
    **{name: (RougeL, BLEU) for name in ("QR", "AG", "UP", "IP")},
}


def register_metrics() -> None:
    """Make our metrics known to RecBole's evaluator; a second time changes nothing."""
    for metric in METRICS:
        name = metric.__name__.lower()
        register.metrics_dict[name] = metric
        register.metric_types[name] = metric.metric_type
        register.metric_information[name] = metric.metric_need


def score_answers(
    task: str,
    predicted: Sequence[object],
    wanted: Sequence[object],
    texts: Sequence[str],
    references: Sequence[str],
    bert_score_model: str = "",
    decimals: int = 4,
) -> dict[str, float]:
    """The metrics of one task through RecBole's evaluator.

    Args:
        task: its name.
        predicted: what could be read in each answer, None where nothing could.
        wanted: the same of the right answers, never None.
        texts: the answers as written.
        references: the right answers as written.
        bert_score_model: folder of a model; then free text is scored by BERTScore instead of ROUGE-L and BLEU.
        decimals: digits kept.
    """
    register_metrics()
    chosen = TASK_METRICS[task]
    if bert_score_model and RougeL in chosen:
        chosen = (BERTScore,)
    data = DataStruct()
    lists = {"gen.predicted": predicted, "gen.wanted": wanted, "gen.texts": texts, "gen.references": references}
    for name, values in lists.items():
        data.set(name, values)
    names = [metric.__name__ for metric in chosen]
    settings = {"metrics": names, "metric_decimal_place": decimals, "bert_score_model": bert_score_model}
    return {name: float(value) for name, value in Evaluator(settings).evaluate(data).items()}
