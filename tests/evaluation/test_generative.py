"""Metrics of answers on cases worked out by hand, through the parsers and RecBole's evaluator."""

import pytest
from recbole.evaluator.register import metric_information, metric_types, metrics_dict

from recbole_recfound.data.task import ANSWER_METRICS, TASKS, WRITTEN, AnswerMetric
from recbole_recfound.data.task.metrics import register_metrics
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.bert_score import check_bert_score
from recbole_recfound.evaluation.generative import score_answers


def _score(task, texts, references, labels=(), **options):
    predicted = [TASKS[task].parse(text, labels) for text in texts]
    wanted = [TASKS[task].parse(text, labels) for text in references]
    return score_answers(task, predicted, wanted, texts, references, **options)


def test_recbole_knows_them():
    metrics = ANSWER_METRICS.values()
    register_metrics(metrics)
    for metric in metrics:
        name = metric.__name__.lower()
        assert metrics_dict[name] is metric and name in metric_types and metric_information[name]
    assert {"f1_yes", "recall@1", "macro_f1", "micro_f1", "rouge_l", "bleu"} <= set(ANSWER_METRICS)


def test_a_metric_of_recbole_is_not_replaced():
    class Recall(AnswerMetric):
        metric_need = WRITTEN

    with pytest.raises(ConfigError, match="class Recall is a metric of RecBole"):
        register_metrics([Recall])


def test_f1_of_yes():
    # yes said at 1, 2, 5; wanted at 1, 3, 4: one hit of three said and three wanted.
    texts = ["yes", "Yes.", "no", "", "yes, they are"]
    assert _score("PM", texts, ["yes", "no", "yes", "yes", "no"]) == {"f1_yes": pytest.approx(1 / 3, abs=1e-4)}
    assert _score("PM", ["", "perhaps"], ["yes", "no"]) == {"f1_yes": 0.0}
    assert _score("AP", ["no"], ["no"]) == {"f1_yes": 0.0}


def test_recall_at_one():
    assert _score("SR", ["C", "(B) Alien", "c", "", "A"], ["C", "B", "C", "D", "B"]) == {"recall@1": 0.4}


def test_macro_f1_is_over_the_classes_that_are_wanted():
    labels = ("1", "2", "3", "3.5")
    # 1: said 1, wanted 2, hit 1 -> 2/3. 2: said 2, wanted 1, hit 1 -> 2/3. 3.5: unreadable -> 0. 3 is never wanted.
    texts, references = ["1", "2", "2", "no idea"], ["1", "1", "2", "3.5"]
    assert _score("SA", texts, references, labels) == {"macro_f1": pytest.approx((2 / 3 + 2 / 3) / 3, abs=1e-4)}
    assert _score("PRP", ["substitute"], ["also bought"], ("substitute", "also bought")) == {"macro_f1": 0.0}


def test_micro_f1_of_attributes():
    wanted = (
        '[{"attribute": "Brand", "value": "Acme", "source": "title"}, '
        '{"attribute": "year", "value": "1995", "source": "details"}]'
    )
    said = (
        'Here: [{"attribute": "brand", "value": "ACME ", "source": "title"}, '
        '{"attribute": "year", "value": 1995, "source": "title"}]'
    )
    # Two said, two wanted, one hit; the second answer is cut off: nothing said, two wanted. 2 * 1 / (2 + 2 + 2).
    assert _score("AVE", [said, wanted[:40]], [wanted, wanted]) == {"micro_f1": pytest.approx(1 / 3, abs=1e-4)}
    assert _score("AVE", ["[]"], ["[]"]) == {"micro_f1": 0.0}


def test_free_text():
    # "the cat sat" / "the cat ran away": common subsequence of 2 words, precision 2/3, recall 2/4.
    found = _score("AG", ["the cat sat", ""], ["the cat ran away", "yes"])
    assert found["rouge_l"] == pytest.approx((2 * (2 / 3) * 0.5 / (2 / 3 + 0.5)) / 2, abs=1e-4)
    same = "one two three four five"
    assert _score("IP", [same], [same]) == {"rouge_l": 1.0, "bleu": 1.0}
    assert _score("UP", [""], ["x"]) == {"rouge_l": 0.0, "bleu": 0.0}


@pytest.fixture
def tiny_bert(tmp_path):
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words), **shape)).save_pretrained(tmp_path)
    return tmp_path


def test_bert_score_with_a_local_model(tiny_bert):
    check_bert_score(str(tiny_bert))
    found = _score("QR", ["red shoe", ""], ["red shoe", "hat"], bert_score_model=str(tiny_bert))
    assert found == {"bert_score_f1": pytest.approx(0.5, abs=1e-3)}


def test_bert_score_is_refused_before_training(tmp_path):
    with pytest.raises(ConfigError, match="bert_score_model: .* has no config.json"):
        check_bert_score(str(tmp_path))
