"""Metrics of written texts, by examples made by hand and by a slow reference."""

import random
from itertools import combinations

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from recbole_recfound.data.writing.metrics import (
    distinct,
    feature_coverage_ratio,
    feature_diversity,
    feature_matching_ratio,
    mentioned,
    text_metrics,
    unique_sentence_ratio,
)
from recbole_recfound.data.writing.records import Writing
from recbole_recfound.evaluation.generative import score_answers

FEATURES = ["price", "room", "sea view"]
TEXTS = ["The price of the room", "a Sea View!", "the price of the room", "nothing, priceless"]


def test_features_are_whole_words():
    mentions = [mentioned(text, FEATURES) for text in TEXTS]
    assert mentions == [{"price", "room"}, {"sea view"}, {"price", "room"}, set()]


def _printable(rng):
    return "".join(rng.choice("abcXYZ019  .,;:!?'-_&()/$%#\"\t") for _ in range(rng.randrange(60)))


def test_scores_of_english_are_those_of_the_libraries():
    rng = random.Random(1)
    texts, references = ([_printable(rng) for _ in range(200)] for _ in range(2))
    plain = RougeScorer(["rougeL"])
    pairs = list(zip(references, texts, strict=True))
    rouge = sum(plain.score(*pair)["rougeL"].fmeasure for pair in pairs) / len(pairs)
    found = text_metrics([Writing("t", ("s",), text, "") for text in references], texts, [])
    assert found["rouge-l"] == rouge > 0
    assert found["bleu-4"] == sacrebleu.corpus_bleu(texts, [references]).score / 100 > 0


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        ("the battery lasts very long", "battery"),
        ("батарея держит очень долго", "батарея"),
        ("电池非常耐用而且便宜", "电池"),
        ("索尼 蓝牙耳机 黑色", "黑色"),
        ("電池がとても長持ちする", "電池"),
        ("แบตเตอรี่ทนมากและถูก", "แบตเตอรี่"),
        ("배터리가 아주 오래 갑니다", "아주"),
        ("बैटरी बहुत लंबे समय तक चलती है", "बैटरी"),
    ],
)
def test_equal_texts_have_the_best_score_in_every_script(text, feature):
    records = [Writing("explanation", ("s",), text, feature)]
    found = text_metrics(records, [text], records)
    assert {found[name] for name in ("rouge-1", "rouge-2", "rouge-l", "fmr", "fcr")} == {1.0}
    assert found["bleu-4"] == pytest.approx(1.0)
    answers = score_answers("AG", [text], [text], [text], [text])
    assert answers == {"rouge_l": 1.0, "bleu": 1.0}
    half = text_metrics(records, [text[: len(text) // 2]], records)
    assert 0 < half["rouge-l"] < 1


def test_by_hand():
    mentions = [mentioned(text, FEATURES) for text in TEXTS]
    assert feature_matching_ratio(["price", "room", "room", "price"], mentions) == 0.5
    assert feature_coverage_ratio([*FEATURES, "pool"], mentions) == 0.75
    assert feature_diversity(mentions) == pytest.approx(2 / 6)  # the first and the third text share two
    assert unique_sentence_ratio(["a b", "a  b", "a c"]) == pytest.approx(2 / 3)
    assert distinct(["a b a", "a b"], 1) == pytest.approx(2 / 5)
    assert distinct(["a b a", "a b"], 2) == pytest.approx(2 / 3)
    assert distinct(["a"], 2) == feature_diversity([frozenset("a")]) == 0.0


def test_diversity_equals_the_sum_over_pairs():
    draw = random.Random(0)
    mentions = [frozenset(draw.sample("abcdefgh", draw.randint(0, 5))) for _ in range(30)]
    shared = [len(first & second) for first, second in combinations(mentions, 2)]
    assert feature_diversity(mentions) == pytest.approx(sum(shared) / len(shared))


def test_features_are_those_of_all_records_of_the_task():
    """As in PETER, whose set of features is that of training, validation and test."""
    tested = [Writing("explanation", ("a",), "-", "plot"), Writing("explanation", ("b",), "-", "music")]
    trained = [Writing("explanation", ("c",), "-", feature) for feature in ("acting", "Pace", "plot")]
    others = [Writing("conversation", ("d",), "-", "the"), Writing("query", ("e",), "the acting")]
    found = text_metrics([*tested, others[1]], ["the plot and the acting", "acting", "-"], [*tested, *trained, *others])
    assert (found["fmr"], found["fcr"], found["div"]) == (0.5, 2 / 4, 1)


def test_the_targets_themselves_are_best():
    writings = [Writing("query", ("a",), f"one two three four {n}", "two" if n else "") for n in range(3)]
    found = text_metrics(writings, [writing.target for writing in writings], writings)
    assert all(found[name] == pytest.approx(1) for name in ("bleu-4", "rouge-1", "rouge-2", "rouge-l", "usr", "fmr"))
    alone = [Writing("design", ("a",), "b")]
    assert "fmr" not in text_metrics(alone, ["b"], writings)
