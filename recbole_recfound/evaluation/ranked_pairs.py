"""Ranking of an embedding example's target among candidates: MRR@20, NDCG@20 for item to item (RecFound)."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.evaluator import Evaluator

from recbole_recfound.backbone import full_precision
from recbole_recfound.data.records.records import Text
from recbole_recfound.data.task import RANKED, TASKS, PairExample, RecordPairExample
from recbole_recfound.evaluation.task_vectors import TaskVectors

MOST_DECIMALS = 15
"""Digits of values that are not rounded."""


def rank_examples(
    vectors: TaskVectors,
    task: str,
    examples: Sequence[PairExample | RecordPairExample],
    settings: Mapping[str, Any],
    others: Sequence[Text] = (),
) -> tuple[dict[str, float], int]:
    """Rank the target of each example among `RANKED` candidates; every distinct text is encoded once.

    Args:
        vectors: encodes queries and items.
        task: name of the embedding task, whose route is used.
        examples: all of one form.
        settings: `metric_decimal_place`.
        others: targets of other records, used if a record has few negatives.

    Returns:
        The metric, and the smallest number of candidates of an example.
    """
    if isinstance(examples[0], RecordPairExample):
        scores = _score_records(vectors, task, cast(Sequence[RecordPairExample], examples), others)
    else:
        scores = _score_items(vectors, task, cast(Sequence[PairExample], examples))
    return target_metrics(task, scores, settings), int((scores != float("-inf")).sum(1).min())


def popularity_metrics(
    task: str, examples: Sequence[PairExample], popularity: np.ndarray, settings: Mapping[str, Any]
) -> dict[str, float]:
    """Return the metrics of a ranking by popularity alone, which reads no query; their mean over all orders of ties.

    Args:
        task: name of the embedding task.
        examples: with catalogue rows as targets and candidates.
        popularity: [catalogue] training interactions per item.
        settings: `metric_decimal_place`.
    """
    # The gain of each rank, which RecBole's evaluator averages over the targets.
    gains = [_evaluated(task, torch.from_numpy(np.full((1, 1), rank)), MOST_DECIMALS) for rank in range(RANKED)]
    (name,) = gains[0]
    rows = [(e.positive, *e.negatives) for e in examples]
    return {name: mean_gain(rows, popularity, [gain[name] for gain in gains], settings)}


def mean_gain(
    rows: Sequence[Sequence[int]], popularity: np.ndarray, gains: Sequence[float], settings: Mapping[str, Any]
) -> float:
    """Return the gain of targets that are ranked by popularity, as a mean over all orders of equally popular ones.

    Args:
        rows: catalogue rows of each example's candidates, the target first.
        popularity: [catalogue] training interactions per item.
        gains: of a target at the first rank, the second, ...
        settings: `metric_decimal_place`.
    """
    total = np.concatenate([[0.0], np.cumsum(gains)])
    found = []
    for target, *others in rows:
        counts = popularity[others]
        better, equal = int((counts > popularity[target]).sum()), int((counts == popularity[target]).sum())
        first, last = np.minimum([better, better + equal + 1], len(gains))
        found.append((total[last] - total[first]) / (equal + 1))
    return round(float(np.mean(found)), settings["metric_decimal_place"] or 4)


def target_metrics(task: str, scores: torch.Tensor, settings: Mapping[str, Any]) -> dict[str, float]:
    """Return the metric of a task's ranked candidates.

    Args:
        task: name of the embedding task.
        scores: [B, candidates], the target first; -inf where there is no candidate.
        settings: `metric_decimal_place`.
    """
    # Among equal scores the target gets the worst rank, and so does a target whose score is NaN.
    rank = (~(scores[:, 1:] < scores[:, :1])).sum(1, keepdim=True)
    return _evaluated(task, rank, settings["metric_decimal_place"] or 4)


def _evaluated(task: str, rank: torch.Tensor, decimals: int) -> dict[str, float]:
    """Return the metric of targets at ranks [B, 1], from 0, by RecBole's evaluator."""
    # RecBole's format: whether each position of the list is a hit, and the number of targets.
    hits = rank == torch.arange(RANKED, device=rank.device)
    data = DataStruct()
    data.set("rec.topk", torch.cat([hits, torch.ones_like(rank, dtype=torch.bool)], 1).long().cpu())
    evaluator = Evaluator({"metrics": [TASKS[task].ranking_metric], "topk": [RANKED], "metric_decimal_place": decimals})
    return {key: float(value) for key, value in evaluator.evaluate(data).items()}


def _score_items(encoder: TaskVectors, task: str, examples: Sequence[PairExample]) -> torch.Tensor:
    """Score items, [B, candidates], the target first."""
    places, items = _numbered([(e.positive, *e.negatives) for e in examples])
    asked, queries = _numbered([(e.query,) for e in examples])
    vectors = encoder.queries(task, queries)
    return _scores(vectors[torch.from_numpy(asked[:, 0]).to(vectors.device)], encoder.items(task, items), places)


def _score_records(
    encoder: TaskVectors, task: str, examples: Sequence[RecordPairExample], others: Sequence[Text]
) -> torch.Tensor:
    """Score texts, [B, candidates], the target first; records with few negatives also get some of the others."""
    others = list(dict.fromkeys(others))
    negatives = [_negatives(e, others, np.random.default_rng([0x2E6, row])) for row, e in enumerate(examples)]
    places, texts = _numbered([(e.query, e.positive, *wrong) for e, wrong in zip(examples, negatives, strict=True)])
    vectors = encoder.texts(texts, task)
    return _scores(vectors[torch.from_numpy(places[:, 0]).to(vectors.device)], vectors, places[:, 1:])


def _numbered(rows: Sequence[Sequence[Any]]) -> tuple[np.ndarray, list[Any]]:
    """Index each row's members in the list of distinct ones: [B, longest], -1 after the end of a short row."""
    distinct = list(dict.fromkeys(member for row in rows for member in row))
    place = {member: number for number, member in enumerate(distinct)}
    places = np.full((len(rows), max(map(len, rows))), -1)
    for number, row in enumerate(rows):
        places[number, : len(row)] = [place[member] for member in row]
    return places, distinct


def _scores(queries: torch.Tensor, vectors: torch.Tensor, places: np.ndarray) -> torch.Tensor:
    """Multiply queries [B, d] with the vectors [n, d] at `places` [B, candidates]; -inf where there is none."""
    at = torch.from_numpy(places).to(vectors.device)
    with full_precision(vectors.device):
        scores = torch.einsum("bd,bcd->bc", queries, vectors[at.clamp(min=0)])
    return scores.masked_fill(at < 0, float("-inf"))


def _negatives(example: RecordPairExample, others: Sequence[Text], rng: np.random.Generator) -> list[Text]:
    """Return the candidates beside a record's positive, its own negatives first; further positives are excluded."""
    right = {example.positive, *example.known}
    own = [text for text in dict.fromkeys(example.negatives) if text not in right][: RANKED - 1]
    more = [text for text in others if text not in right and text not in own]
    return own + [more[place] for place in rng.permutation(len(more))[: RANKED - 1 - len(own)]]
