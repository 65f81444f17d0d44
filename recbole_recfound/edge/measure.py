"""Size, quality, speed and agreement of a student and its graphs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.metrics import log_loss, roc_auc_score

from recbole_recfound.edge.distil import Scored, Tensors
from recbole_recfound.edge.rounding import set_rounding
from recbole_recfound.edge.student import Student

CHUNK = 16
"""Targets that torch scores at a time."""
TOP = 10
EPSILON = 1e-15
"""Probabilities are kept this far from 0 and 1, as in RecBole's LogLoss."""


def sizes_of(student: Student) -> dict[str, int]:
    """Return the number of parameters, of those that are not zero, and of the weights and zeros of matrices.

    Args:
        student: shared parameters count once.
    """
    matrices = student.matrices().values()
    return {
        "parameters": sum(weight.numel() for weight in student.parameters()),
        "nonzero": sum(int(weight.count_nonzero()) for weight in student.parameters()),
        "matrix_weights": sum(weight.numel() for weight in matrices),
        "matrix_zeros": sum(weight.numel() - int(weight.count_nonzero()) for weight in matrices),
    }


@torch.no_grad()
def student_scores(student: Student, examples: Sequence[Scored], rounds: bool = False) -> dict[int, np.ndarray]:
    """Return the probabilities of all targets at each exit, by example and target.

    Args:
        student: in eval.
        examples: sources with their targets.
        rounds: compute as a graph of 8 bits does.
    """
    set_rounding(student, rounds)
    order = sorted(range(len(examples)), key=lambda place: len(examples[place].source))
    starts = np.cumsum([0, *(len(one.targets) for one in examples)])
    found = {layer: np.empty(starts[-1], dtype=np.float32) for layer in student.exits}
    for part in _chunks(order, [len(one.targets) for one in examples]):
        batch = [examples[place] for place in part]
        tensors = Tensors.of([one.source for one in batch], [one.targets for one in batch])
        rows = np.concatenate([np.arange(starts[place], starts[place + 1]) for place in part])
        logits = student(tensors.sources, tensors.targets, tensors.source_of)
        for layer, own in zip(student.exits, logits, strict=True):
            found[layer][rows] = own.softmax(-1)[:, 1].numpy()
    return found


def _chunks(order: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    part: list[int] = []
    for place in order:
        part.append(place)
        if sum(sizes[each] for each in part) >= CHUNK:
            yield part
            part = []
    if part:
        yield part


def quality(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return AUC and LogLoss by RecBole's formulas; AUC is NaN where all labels are equal.

    Args:
        scores: [n] probabilities.
        labels: [n], 0 or 1.
    """
    safe = np.clip(scores.astype(np.float64), EPSILON, 1 - EPSILON)
    both = len(np.unique(labels)) == 2
    return {
        "auc": float(roc_auc_score(labels, scores)) if both else float("nan"),
        "logloss": float(log_loss(labels, safe, labels=[0, 1])),
    }


def agreement(scores: np.ndarray, expected: np.ndarray, sizes: Sequence[int]) -> dict[str, float]:
    """Compare scores of the same requests.

    Args:
        scores: [n] by request and candidate.
        expected: [n].
        sizes: candidates of each request.

    Returns:
        Largest and mean difference, share of requests with the same ten best items, and mean share of these in common.
    """
    bounds = np.cumsum(sizes)[:-1]
    common = [
        len({*np.argsort(-own, kind="stable")[:TOP]} & {*np.argsort(-other, kind="stable")[:TOP]}) / min(TOP, len(own))
        for own, other in zip(np.split(scores, bounds), np.split(expected, bounds), strict=True)
    ]
    difference = np.abs(scores - expected)
    return {
        "largest_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "same_top": float(np.mean([share == 1.0 for share in common])),
        "common_top": float(np.mean(common)),
    }


def milliseconds(requests: dict[Any, Callable[[], Any]], rounds: int) -> dict[Any, float]:
    """Return the median time of each request, measured in turn.

    Args:
        requests: by name; each is called once before.
        rounds: number of measured calls of each.
    """
    for request in requests.values():
        request()
    seconds: dict[Any, list[float]] = {name: [] for name in requests}
    for _ in range(rounds):
        for name, request in requests.items():
            begin = time.perf_counter()
            request()
            seconds[name].append(time.perf_counter() - begin)
    return {name: 1000 * statistics.median(each) for name, each in seconds.items()}
