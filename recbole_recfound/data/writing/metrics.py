"""Metrics of written texts: BLEU and ROUGE by their libraries, and those of PETER (arXiv 2105.11601)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rouge_score.rouge_scorer import RougeScorer

from recbole_recfound.data.records.normal import contains_words, normal_form
from recbole_recfound.data.task.metrics import corpus_bleu
from recbole_recfound.data.text.words import WordTokenizer, spaced
from recbole_recfound.data.writing.records import Writing

ROUGE = ("rouge1", "rouge2", "rougeL")


def text_metrics(writings: Sequence[Writing], texts: Sequence[str], records: Sequence[Writing]) -> dict[str, float]:
    """Return the metrics of texts; those of features only where records have features.

    bleu-4 and rouge-1, -2, -l (F1) are means of 0 to 1 as the package's other tasks compute them; dist-1 and dist-2
    are the share of different n-grams among all.

    Args:
        writings: n records, one at least.
        texts: n written texts.
        records: of all parts, training included, of which those of the same tasks have the features that are counted,
            as in PETER.
    """
    references = [writing.target for writing in writings]
    scorer = RougeScorer(list(ROUGE), tokenizer=WordTokenizer())
    scores = [scorer.score(wanted, text) for wanted, text in zip(references, texts, strict=True)]
    found = {"bleu-4": corpus_bleu(texts, references)}
    for name in ROUGE:
        found[f"rouge-{name[5:].lower()}"] = sum(score[name].fmeasure for score in scores) / len(scores)
    found |= {f"dist-{size}": distinct(texts, size) for size in (1, 2)}
    found["usr"] = unique_sentence_ratio(texts)
    with_feature = [(w.feature, text) for w, text in zip(writings, texts, strict=True) if w.feature]
    if with_feature:
        tasks = {writing.task for writing in writings if writing.feature}
        features = sorted({normal_form(each.feature) for each in records if each.feature and each.task in tasks})
        mentions = [mentioned(text, features) for _, text in with_feature]
        wanted = [normal_form(feature) for feature, _ in with_feature]
        found |= {
            "fmr": feature_matching_ratio(wanted, mentions),
            "fcr": feature_coverage_ratio(features, mentions),
            "div": feature_diversity(mentions),
        }
    return found


def mentioned(text: str, features: Sequence[str]) -> frozenset[str]:
    """Return the features whose words stand in a text one after the other.

    Args:
        text: as written.
        features: in normal form.
    """
    form = normal_form(text)
    return frozenset(feature for feature in features if contains_words(form, feature))


def distinct(texts: Sequence[str], size: int) -> float:
    """Return the share of different n-grams among all n-grams of texts, 0 without any.

    Args:
        texts: words are separated by blanks, or single characters of scripts without blanks.
        size: words of an n-gram.
    """
    grams = [
        tuple(words[start : start + size])
        for words in (spaced(text).split() for text in texts)
        for start in range(len(words) - size + 1)
    ]
    return len(set(grams)) / len(grams) if grams else 0.0


def unique_sentence_ratio(texts: Sequence[str]) -> float:
    """Return USR, the number of different texts over the number of all; equal words make equal texts."""
    return len({tuple(spaced(text).split()) for text in texts}) / len(texts)


def feature_matching_ratio(wanted: Sequence[str], mentions: Sequence[frozenset[str]]) -> float:
    """Return FMR, the share of texts that contain the feature of their record.

    Args:
        wanted: feature of each text.
        mentions: features that each text contains.
    """
    return sum(feature in own for feature, own in zip(wanted, mentions, strict=True)) / len(wanted)


def feature_coverage_ratio(features: Sequence[str], mentions: Sequence[frozenset[str]]) -> float:
    """Return FCR, the share of all different features that occur in any text.

    Args:
        features: all different features.
        mentions: features that each text contains.
    """
    return len(frozenset().union(*mentions) & set(features)) / len(features)


def feature_diversity(mentions: Sequence[frozenset[str]]) -> float:
    """Return DIV, the mean number of features that two texts share, over all pairs; lower is better.

    Args:
        mentions: features that each text contains.
    """
    pairs = len(mentions) * (len(mentions) - 1) // 2
    counts = Counter(feature for own in mentions for feature in own)  # a feature of c texts is shared by c (c - 1) / 2
    return sum(count * (count - 1) // 2 for count in counts.values()) / pairs if pairs else 0.0
