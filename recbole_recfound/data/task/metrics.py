"""Metrics of generated answers, as classes of RecBole's evaluator.

They read four lists of the evaluator's data: `gen.predicted` and `gen.wanted` (parsed answers and references; None for
an unparseable answer) and `gen.texts` and `gen.references` (the same as written).
"""

from collections.abc import Sequence

import sacrebleu
from recbole.evaluator import register
from recbole.evaluator.base_metric import AbstractMetric
from recbole.evaluator.collector import DataStruct
from recbole.utils import EvaluatorType
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import f1_score

from recbole_recfound.data.text.words import WordTokenizer, spaced
from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime import registry

PARSED = ("gen.predicted", "gen.wanted")
"""`metric_need` of metrics that compare parsed answers."""
WRITTEN = ("gen.texts", "gen.references")
"""`metric_need` of metrics that compare texts."""


class AnswerMetric(AbstractMetric):
    """A metric of answers, 0 to 1, bigger is better. `ANSWER_METRICS.register` sets `key`, its name in results.

    Attributes:
        metric_need: the lists it reads, `PARSED` or `WRITTEN`.
    """

    metric_type = EvaluatorType.VALUE
    smaller = False
    key = ""

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float]:
        """Return the metric by name, rounded as RecBole rounds (RecBole's interface)."""
        return {self.key: round(float(self.score(dataobject)), self.decimal_place)}

    def score(self, data: DataStruct) -> float:
        """Return the value, 0 to 1."""
        raise NotImplementedError


ANSWER_METRICS: registry.Registry[type[AnswerMetric]] = registry.ANSWER_METRICS
"""All metrics of answers by their name in results."""


@ANSWER_METRICS.register("f1_yes")
class YesF1(AnswerMetric):
    """F1 of "yes"; an unparseable answer counts as "no"."""

    metric_need = PARSED

    def score(self, data: DataStruct) -> float:
        """Return the value, 0 to 1."""
        predicted = [answer == "yes" for answer in data["gen.predicted"]]
        references = [answer == "yes" for answer in data["gen.wanted"]]
        return float(f1_score(references, predicted, zero_division=0))


@ANSWER_METRICS.register("recall@1")
class LetterRecall(AnswerMetric):
    """Recall@1: share of answers with the correct letter."""

    metric_need = PARSED

    def score(self, data: DataStruct) -> float:
        """Return the value, 0 to 1."""
        pairs = list(zip(data["gen.predicted"], data["gen.wanted"], strict=True))
        return sum(predicted == reference for predicted, reference in pairs) / len(pairs)


@ANSWER_METRICS.register("macro_f1")
class MacroF1(AnswerMetric):
    """Mean F1 of the classes that occur among the references; an unparseable answer belongs to none of them."""

    metric_need = PARSED

    def score(self, data: DataStruct) -> float:
        """Return the value, 0 to 1."""
        references = list(data["gen.wanted"])
        index = {label: at for at, label in enumerate(sorted(set(references)))}
        predicted = [index.get(label, len(index)) for label in data["gen.predicted"]]
        targets, classes = [index[label] for label in references], list(index.values())
        return float(f1_score(targets, predicted, labels=classes, average="macro", zero_division=0))


@ANSWER_METRICS.register("micro_f1")
class AttributeF1(AnswerMetric):
    """Micro F1 over (attribute, value, source) triples; an unparseable answer has none."""

    metric_need = PARSED

    def score(self, data: DataStruct) -> float:
        """Return the value, 0 to 1."""
        answers = zip(data["gen.predicted"], data["gen.wanted"], strict=True)
        pairs = [(predicted or frozenset(), reference) for predicted, reference in answers]
        hits = sum(len(predicted & reference) for predicted, reference in pairs)
        total = sum(len(predicted) + len(reference) for predicted, reference in pairs)
        return 2 * hits / total if total else 0.0


@ANSWER_METRICS.register("rouge_l")
class RougeL(AnswerMetric):
    """Mean ROUGE-L F1 by rouge-score, without stemming; words as of `WordTokenizer`."""

    metric_need = WRITTEN

    def score(self, data: DataStruct) -> float:
        """Return the value, 0 to 1."""
        scorer = RougeScorer(["rougeL"], tokenizer=WordTokenizer())
        pairs = list(zip(data["gen.references"], data["gen.texts"], strict=True))
        return sum(scorer.score(reference, text)["rougeL"].fmeasure for reference, text in pairs) / len(pairs)


@ANSWER_METRICS.register("bleu")
class BLEU(AnswerMetric):
    """Corpus BLEU of `corpus_bleu`."""

    metric_need = WRITTEN

    def score(self, data: DataStruct) -> float:
        """Return the value, 0 to 1."""
        return corpus_bleu(data["gen.texts"], data["gen.references"])


def corpus_bleu(texts: Sequence[str], references: Sequence[str]) -> float:
    """Return BLEU by sacrebleu with its default settings, 0 to 1; characters of scripts without blanks are words.

    Args:
        texts: n answers.
        references: n right ones.
    """
    return sacrebleu.corpus_bleu([*map(spaced, texts)], [[*map(spaced, references)]]).score / 100


TEXT_METRICS = (RougeL, BLEU)
"""Metrics of free text by its words."""


def register_metrics(metrics: Sequence[type[AnswerMetric]]) -> None:
    """Register metrics in RecBole's evaluator under the lower-case names of their classes.

    Raises:
        ConfigError: RecBole has another metric of this name.
    """
    for metric in metrics:
        name = metric.__name__.lower()
        known = register.metrics_dict.get(name, metric)
        if known is not metric and not issubclass(known, AnswerMetric):
            raise ConfigError(f"answer metric {metric.key}: class {metric.__name__} is a metric of RecBole, rename it")
        register.metrics_dict[name] = metric
        register.metric_types[name] = metric.metric_type
        register.metric_information[name] = metric.metric_need
