"""Training of the student: the teacher's relations first, then its scores and the labels of training rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import Ridge
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from recbole_recfound.data.padding import pad
from recbole_recfound.edge.options import DistilOptions
from recbole_recfound.edge.pruning import Pruner, sparsity_at
from recbole_recfound.edge.relation import Projections, captured, relation_heads, relation_loss
from recbole_recfound.edge.rounding import set_rounding
from recbole_recfound.edge.student import Student
from recbole_recfound.edge.tokens import PADDING
from recbole_recfound.errors import TrainingError
from recbole_recfound.trainer.schedule import progress, rate_factor

BATCH_TARGETS = 32
"""Targets of a step, at least."""
BATCH_TEXTS = 4
"""Texts of a step that learns relations."""
BUCKET = 16
"""Batches among which sources are sorted by length, so that a batch has little padding."""
RELATION_SHARE = 0.15
"""Part of the time in which relations are learned."""
ROUNDING = 0.5
"""Progress of the training on scores from which a student that is written in 8 bits is trained in their arithmetic."""
HEAD_SHARE = 0.25
"""Largest part of the time in which the head is fitted."""
HEAD_ROWS = 4096
"""Targets that the head is fitted on, at most."""
PENALTY_BEFORE, PENALTY = 0.3, 0.003
"""Of the squared weights of the head, for each row, before the training and behind it. Large weights of small
differences would not survive the first steps."""
SMALLEST_SPREAD = 0.2
"""Of a state of unit size: one that hardly varies in the beginning may vary more in training."""
HEAD_RATE = 0.1
"""Factor on the learning rate of the head, which is fitted before, and whose thousands of inputs add up."""
WARMUP = 20
"""Steps of linear warm-up."""
CLIP = 1.0
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Scored:
    """Token ids of one source with its targets, and what is to be learned.

    Attributes:
        source: ids of the student's vocabulary.
        targets: likewise, of each target.
        scores: float32 [n], the teacher's probabilities.
        labels: float32 [n], NaN where nothing is known.
    """

    source: list[int]
    targets: list[list[int]]
    scores: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Related:
    """Token ids of one text, and its queries, keys and values in the teacher.

    Attributes:
        source: ids of the student's vocabulary.
        target: likewise.
        projections: [T, width] each.
    """

    source: list[int]
    target: list[int]
    projections: Projections


@dataclass(frozen=True)
class Tensors:
    """A batch for the student.

    Attributes:
        sources: int64 [B, S].
        targets: int64 [N, T].
        source_of: int64 [N].
    """

    sources: torch.Tensor
    targets: torch.Tensor
    source_of: torch.Tensor

    @classmethod
    def of(cls, sources: Sequence[list[int]], targets: Sequence[Sequence[list[int]]]) -> Tensors:
        """Pad token ids.

        Args:
            sources: of each source.
            targets: of each source, its targets.
        """
        left = pad(sources, PADDING, multiple=8)[0]
        right = pad([target for own in targets for target in own], PADDING, multiple=8)[0]
        source_of = np.repeat(np.arange(len(sources)), [len(own) for own in targets])
        return cls(*map(torch.from_numpy, (left, right, source_of)))


def learn_relations(
    student: Student, examples: Sequence[Related], options: DistilOptions, seconds: float, bar: Any
) -> int:
    """Train the student's last layer to relate tokens as the teacher does.

    Args:
        student: changed in place.
        examples: texts with the teacher's projections.
        options: of the distillation.
        seconds: limit.
        bar: progress bar of 100 parts.

    Returns:
        Number of steps.
    """
    if not examples:
        return 0
    attention = student.layer(student.depth).self_attn
    widths = [states.shape[1] for states in examples[0].projections]
    heads = relation_heads([*widths, student.config.hidden_size])
    generator = np.random.default_rng([options.seed, 1])

    def batches() -> Iterator[list[Related]]:
        while True:
            order = generator.permutation(len(examples))
            for start in range(0, len(order), BATCH_TEXTS):
                yield [examples[place] for place in order[start : start + BATCH_TEXTS]]

    def loss_of(batch: list[Related], done: float) -> torch.Tensor:
        tensors = Tensors.of([one.source for one in batch], [[one.target] for one in batch])
        with captured(attention) as found:
            student(tensors.sources, tensors.targets, tensors.source_of, [student.depth])
        losses = []
        for row, one in enumerate(batch):
            # Shared layers have run before; the last two calls are those of the last layer: source and target.
            query, key, value = (
                torch.cat([calls[-2][row, : len(one.source)], calls[-1][row, : len(one.target)]]) for calls in found
            )
            losses.append(relation_loss(one.projections, (query, key, value), len(one.source), heads))
        return torch.stack(losses).mean()

    return _train(student, batches(), loss_of, options, seconds, bar, None)


@torch.no_grad()
def fit_head(
    student: Student, examples: Sequence[Scored], options: DistilOptions, seconds: float, bar: Any, penalty: float
) -> int:
    """Fit the head on the states of all exits: a ridge regression of the teacher's logits.

    Args:
        student: `head`, `center` and `spread` are set.
        examples: sources with their targets.
        options: of the distillation.
        seconds: limit.
        bar: progress bar of 100 parts.
        penalty: of the squared weights, for each row.

    Returns:
        Number of targets read.
    """
    begin, rows = time.monotonic(), 0
    states: list[list[torch.Tensor]] = []
    scores = []
    for batch in _batches(examples, options.seed):
        if rows >= min(HEAD_ROWS, sum(len(one.targets) for one in examples)):
            break
        tensors = Tensors.of([one.source for one in batch], [one.targets for one in batch])
        states.append(student.pooled(tensors.sources, tensors.targets, tensors.source_of))
        scores.append(np.concatenate([one.scores for one in batch]))
        rows += len(scores[-1])
        done = max((time.monotonic() - begin) / seconds, rows / HEAD_ROWS)
        bar.update(min(100, int(100 * done)) - bar.n)
        if done >= 1.0:
            break
    pooled = torch.cat([torch.cat(exit_) for exit_ in zip(*states, strict=True)])
    student.center.copy_(pooled.mean(0))
    student.spread.copy_(pooled.std(0).clamp(min=SMALLEST_SPREAD))
    expected = np.clip(np.concatenate(scores).astype(np.float64), 0.01, 0.99)
    logits = np.tile(np.log(expected / (1 - expected)), len(student.exits))
    fitted = Ridge(penalty * len(logits)).fit(student.read(pooled).numpy(), logits)
    weight = torch.from_numpy(fitted.coef_).float() / 2
    student.head.weight.copy_(torch.stack([-weight, weight]))
    student.head.bias.copy_(torch.tensor([-fitted.intercept_, fitted.intercept_]) / 2)
    return rows


def learn_scores(
    student: Student,
    examples: Sequence[Scored],
    options: DistilOptions,
    seconds: float,
    bar: Any,
    pruner: Pruner | None,
) -> int:
    """Train all exits on the teacher's scores and on labels, pruning on the way and rounding in the end.

    Args:
        student: changed in place.
        examples: sources with their targets.
        options: of the distillation.
        seconds: limit.
        bar: progress bar of 100 parts.
        pruner: of the student's matrices, if they are to be pruned.

    Returns:
        Number of steps.
    """
    weights = torch.tensor(options.weights)

    def loss_of(batch: list[Scored], done: float) -> torch.Tensor:
        tensors = Tensors.of([one.source for one in batch], [one.targets for one in batch])
        scores = torch.from_numpy(np.concatenate([one.scores for one in batch]))
        labels = torch.from_numpy(np.concatenate([one.labels for one in batch]))
        set_rounding(student, options.int8 and done >= ROUNDING)
        logits = student(tensors.sources, tensors.targets, tensors.source_of)
        return (weights * torch.stack([score_loss(exit, scores, labels) for exit in logits])).sum()

    return _train(student, _batches(examples, options.seed), loss_of, options, seconds, bar, pruner)


def score_loss(logits: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy with the teacher's probabilities, and with labels where they are known.

    Args:
        logits: [N, 2] of an exit.
        scores: [N], the teacher's probabilities.
        labels: [N], NaN where nothing is known; such a target has the teacher's probability alone.
    """
    expected = torch.where(labels.isnan(), scores, (scores + labels.nan_to_num()) / 2)
    return F.cross_entropy(logits, torch.stack([1 - expected, expected], dim=1))


def _batches(examples: Sequence[Scored], seed: int) -> Iterator[list[Scored]]:
    """Yield batches without end, in a new order each time."""
    generator = np.random.default_rng([seed, 2])
    while True:
        order = [examples[place] for place in generator.permutation(len(examples))]
        batches: list[list[Scored]] = []
        for start in range(0, len(order), BUCKET * 4):
            batch: list[Scored] = []
            for one in sorted(order[start : start + BUCKET * 4], key=lambda one: len(one.source)):
                batch.append(one)
                if sum(len(each.targets) for each in batch) >= BATCH_TARGETS:
                    batches.append(batch)
                    batch = []
            batches += [batch] if batch else []
        yield from (batches[place] for place in generator.permutation(len(batches)))


def _train(
    student: Student,
    batches: Iterator[Any],
    loss_of: Any,
    options: DistilOptions,
    seconds: float,
    bar: Any,
    pruner: Pruner | None,
) -> int:
    """Train until `seconds` or `options.steps`; return the number of steps."""
    student.train()
    head = {id(weight) for weight in student.head.parameters()}
    body = [weight for weight in student.parameters() if id(weight) not in head]
    optimizer = torch.optim.AdamW(
        [{"params": body, "factor": 1.0}, {"params": student.head.parameters(), "factor": HEAD_RATE}],
        weight_decay=WEIGHT_DECAY,
    )
    begin, step = time.monotonic(), 0
    for batch in batches:
        done = progress(step, options.steps, time.monotonic() - begin, seconds)
        bar.update(int(100 * done) - bar.n)
        if done >= 1.0:
            break
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * options.learning_rate * rate_factor(step, done, WARMUP)
        loss = loss_of(batch, done)
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss is {loss.item()} at step {step + 1}: lower learning_rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), CLIP)
        optimizer.step()
        if pruner is not None:
            pruner.prune(sparsity_at(done, options.sparsity))
        step += 1
        bar.set_postfix_str(f"loss {loss.item():.4f}", refresh=False)
    if pruner is not None:
        pruner.prune(options.sparsity)
    student.eval()
    return step


def distil(
    student: Student, related: Sequence[Related], scored: Sequence[Scored], options: DistilOptions, show_progress: bool
) -> dict[str, Any]:
    """Train the student in the time that the options allow.

    The head is fitted before its training, so that gradients know what to improve, and once more behind it, when the
    pruned matrices stand.

    Args:
        student: changed in place.
        related: texts with relations of the teacher.
        scored: sources with scores of the teacher.
        options: of the distillation.
        show_progress: show bars.

    Returns:
        Steps and seconds of all parts.
    """
    begin = time.monotonic()
    layout: dict[str, Any] = {"total": 100, "disable": not show_progress, "dynamic_ncols": True}
    with tqdm(desc="relations", **layout) as bar:
        relation_steps = learn_relations(student, related, options, RELATION_SHARE * options.seconds, bar)
    middle = time.monotonic()
    with tqdm(desc="head", **layout) as bar:
        fit_head(student, scored, options, HEAD_SHARE * options.seconds, bar, PENALTY_BEFORE)
    fitted = time.monotonic()
    pruner = Pruner(student.matrices()) if options.sparsity else None
    with tqdm(desc="scores", **layout) as bar:
        score_steps = learn_scores(
            student, scored, options, options.seconds - (fitted - begin) - (fitted - middle), bar, pruner
        )
    ended = time.monotonic()
    if not score_steps:
        print(
            f"note: seconds: {options.seconds:g} s were over before a step on the scores: this student has learned "
            "nothing from them but its head. Give more",
            flush=True,
        )
    set_rounding(student, options.int8)
    with tqdm(desc="head", **layout) as bar:
        head_rows = fit_head(student, scored, options, HEAD_SHARE * options.seconds, bar, PENALTY)
    rows = sum(len(one.targets) for one in scored)
    return {
        "head": {"rows": head_rows, "seconds": fitted - middle + time.monotonic() - ended},
        "relations": {"texts": len(related), "steps": relation_steps, "seconds": middle - begin},
        "scores": {"rows": rows, "steps": score_steps, "seconds": ended - fitted},
    }
