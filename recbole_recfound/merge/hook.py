"""Merging after training: score best, last and merged checkpoint on validation and keep one of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch

from recbole_recfound.merge.checks import check_same_base, pairwise_distances
from recbole_recfound.merge.merging import merge
from recbole_recfound.merge.method import MERGE_METHODS
from recbole_recfound.trainer.checkpoint import Checkpoint, CheckpointStore, base_fingerprint

Tensors = dict[str, torch.Tensor]
MERGED = "merged"
"""Name of the merged candidate."""
ERRORS = 2.0
"""Standard errors by which another candidate must lead on validation to be kept in place of the merged one: one because
the best of four or five equally good checkpoints is too good by about as much on the users that chose it (the expected
largest of five normal numbers is 1.16), one for chance."""


class Scored(NamedTuple):
    """Scores of a candidate on a part of the data.

    Attributes:
        metrics: means over the part.
        by_user: the metric that chooses, of each user; empty where the part has no ranking.
        losses: of each task: the loss of each held-out example over the mean loss of the untrained model.
    """

    metrics: dict[str, float]
    by_user: Sequence[float] = ()
    losses: Mapping[str, Sequence[float]] = MappingProxyType({})


class Lead(NamedTuple):
    """How far a candidate is ahead of the merged one on validation, paired over users or held-out examples.

    Attributes:
        difference: a mean; positive: better than the merged one.
        error: standard error of this mean.
    """

    difference: float
    error: float

    @property
    def clear(self) -> bool:
        """Whether the candidate is better by more than chance."""
        return self.difference > ERRORS * self.error

    @property
    def behind(self) -> bool:
        """Whether the candidate is worse by more than chance."""
        return self.difference < -ERRORS * self.error


@dataclass
class MergeOutcome:
    """Result of merging.

    Attributes:
        kept: `best`, `last` or `merged`, see `choose`.
        method: merge method.
        steps: steps of the merged checkpoints.
        distances: pairwise distances of the merged checkpoints, in the order of `steps`.
        reason: reason why nothing was merged, or "".
        valid: validation metrics of each candidate.
        test: test metrics of each candidate.
        leads: of the other candidates over the merged one, where validation ranks for users.
        task_leads: the same in the losses of held-out examples, each task counting alike.
        by_user: metric of each test user, of each candidate.
    """

    kept: str
    method: str
    steps: list[int]
    distances: list[list[float]] = field(default_factory=list)
    reason: str = ""
    valid: dict[str, dict[str, float]] = field(default_factory=dict)
    test: dict[str, dict[str, float]] = field(default_factory=dict)
    leads: dict[str, Lead] = field(default_factory=dict)
    task_leads: dict[str, Lead] = field(default_factory=dict)
    by_user: dict[str, Sequence[float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as in `results.json`."""
        found = {key: value for key, value in vars(self).items() if key != "by_user"}
        for kind in ("leads", "task_leads"):
            found[kind] = {name: lead._asdict() for name, lead in found[kind].items()}
        return found


def merge_last(
    store: CheckpointStore,
    count: int,
    method: str,
    density: float,
    device: torch.device,
    sparsify: str = "none",
    **further: Any,
) -> tuple[Tensors | None, MergeOutcome]:
    """Merge the last `count` distinct checkpoints of a run.

    Args:
        store: the run's checkpoints; step 0 is the common base.
        count: number of checkpoints.
        method: one of `MERGE_METHODS` (a method of two models merges the last two), or `none`.
        density: share of each delta that remains, for methods that prune and for a sparsification.
        device: device of the merged tensors.
        sparsify: one of `SPARSIFICATIONS`, applied before methods that do not prune; or `none`.
        further: options of the method itself.

    Returns:
        Merged tensors, or None with the reason in the outcome.
    """
    outcome = MergeOutcome(kept="best", method=method, steps=[])
    if method == "none":
        outcome.reason = "merging is off"
        return None, outcome
    merging = MERGE_METHODS[method]
    checkpoints = _distinct(store, merging.models or count, device)
    outcome.steps = [checkpoint.step for checkpoint in checkpoints]
    if len(checkpoints) < 2:
        outcome.reason = f"only {len(checkpoints)} distinct checkpoint(s): train longer or lower eval_interval"
        return None, outcome
    base = store.load(0, device).trained
    try:
        check_same_base([base_fingerprint(base), *(c.state["base"] for c in checkpoints if "base" in c.state)])
    except ValueError as error:
        outcome.reason = str(error)
        return None, outcome
    states = [checkpoint.trained for checkpoint in checkpoints]
    outcome.distances = pairwise_distances(states).tolist()
    options: dict[str, Any] = dict(further)
    sparsifies = sparsify != "none" and not merging.on_deltas
    if merging.on_deltas or sparsifies:
        options["base"] = base
    if "density" in merging.options or sparsifies:
        options["density"] = density
    if sparsifies:
        options["sparsify"] = sparsify
    return merge(states, method, **options), outcome


def _distinct(store: CheckpointStore, count: int, device: torch.device) -> list[Checkpoint]:
    """Return the last `count` checkpoints that differ from one another, oldest first."""
    distinct: list[Checkpoint] = []
    for step in reversed([step for step in store.steps() if step > 0]):
        checkpoint = store.load(step, device)
        if not any(_equal(checkpoint.trained, other.trained) for other in distinct):
            distinct.append(checkpoint)
        if len(distinct) == count:
            break
    return distinct[::-1]


def _equal(first: Tensors, second: Tensors) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def choose(
    candidates: Mapping[str, Tensors],
    outcome: MergeOutcome,
    load: Callable[[Tensors], None],
    validate: Callable[[], Scored],
    test: Callable[[], Scored],
    metric: str,
    bigger: bool = True,
) -> MergeOutcome:
    """Score every candidate on validation and load the one that is kept into the model.

    The merged candidate is kept unless another one is better by more than `ERRORS` standard errors of their difference:
    a mean of checkpoints varies less than any of them. They are compared by the metric, over the users of validation;
    and one that is not worse there, by the losses of held-out examples of all tasks: a mean with checkpoints that had
    not learnt a task may not have learnt it either. Without a merged candidate, or without either, the best score is
    kept.

    Test metrics are reported for all candidates and never used to choose.

    Args:
        candidates: name -> trained tensors; ties go to the first. One object under two names is scored once.
        outcome: completed and returned.
        load: loads tensors into the model.
        validate: scores the model on validation.
        test: scores it on the test part.
        metric: validation metric for the choice.
        bigger: whether bigger values are better.
    """
    names: dict[int, str] = {}
    scored: dict[str, Scored] = {}
    for name, tensors in candidates.items():
        same = names.setdefault(id(tensors), name)
        if same == name:
            load(tensors)
            scored[name], (outcome.test[name], outcome.by_user[name]) = validate(), test()[:2]
        scored[name] = scored[same]
        outcome.valid[name], outcome.test[name] = dict(scored[same].metrics), dict(outcome.test[same])
        outcome.by_user[name] = outcome.by_user[same]
    sign = 1.0 if bigger else -1.0
    if MERGED in scored:
        merged = scored[MERGED]
        others = {name: found for name, found in scored.items() if name != MERGED}
        if len(merged.by_user) > 1:
            outcome.leads = {
                name: _lead([sign * np.subtract(found.by_user, merged.by_user)]) for name, found in others.items()
            }
        compared = [task for task, losses in merged.losses.items() if len(losses) > 1]
        if compared:
            outcome.task_leads = {
                name: _lead([_smaller(found.losses[task], merged.losses[task]) for task in compared])
                for name, found in others.items()
            }
    best = max(candidates, key=lambda name: sign * outcome.valid[name][metric])
    outcome.kept = _kept(best, outcome.leads, outcome.task_leads)
    load(candidates[outcome.kept])
    return outcome


def _kept(best: str, leads: Mapping[str, Lead], task_leads: Mapping[str, Lead]) -> str:
    """Return the candidate that is kept.

    Args:
        best: candidate with the best validation metric.
        leads: of the others over the merged one in this metric; empty if unknown.
        task_leads: in the losses of all tasks; empty if unknown.
    """
    if not (leads or task_leads):
        return best
    if clear := [name for name, lead in leads.items() if lead.clear]:
        return best if best in clear else max(clear, key=lambda name: leads[name].difference)
    ahead = [name for name, lead in task_leads.items() if lead.clear and not (name in leads and leads[name].behind)]
    return max(ahead, key=lambda name: task_leads[name].difference, default=MERGED)


def _smaller(losses: Sequence[float], merged: Sequence[float]) -> np.ndarray:
    """Return by how much each loss is smaller than that of the merged candidate, as a share of the largest mean.

    The untrained model's mean is 1: between losses that are next to nothing, and above an untrained loss that is, there
    is no large difference.
    """
    return np.subtract(merged, losses) / max(1.0, float(np.mean(losses)), float(np.mean(merged)))


def _lead(differences: Sequence[np.ndarray]) -> Lead:
    """Return the lead of a candidate.

    Args:
        differences: of each group of users or examples: by how much the candidate is better for each. All groups
            count alike.
    """
    errors = [group.std(ddof=1) / np.sqrt(len(group)) for group in differences]
    return Lead(
        float(np.mean([group.mean() for group in differences])), float(np.linalg.norm(errors) / len(differences))
    )
