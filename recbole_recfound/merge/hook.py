"""Merging after training: score best, last and merged checkpoint on validation and keep the best of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from recbole_recfound.merge.checks import check_same_base, pairwise_distances
from recbole_recfound.merge.merging import merge
from recbole_recfound.merge.method import MERGE_METHODS
from recbole_recfound.trainer.checkpoint import Checkpoint, CheckpointStore, base_fingerprint

Tensors = dict[str, torch.Tensor]


@dataclass
class MergeOutcome:
    """Result of merging.

    Attributes:
        kept: `best`, `last` or `merged`: the candidate with the best validation score.
        method: merge method.
        steps: steps of the merged checkpoints.
        distances: pairwise distances of the merged checkpoints, in the order of `steps`.
        reason: reason why nothing was merged, or "".
        valid: validation metrics of each candidate.
        test: test metrics of each candidate.
        by_user: metric of each test user, of each candidate.
    """

    kept: str
    method: str
    steps: list[int]
    distances: list[list[float]] = field(default_factory=list)
    reason: str = ""
    valid: dict[str, dict[str, float]] = field(default_factory=dict)
    test: dict[str, dict[str, float]] = field(default_factory=dict)
    by_user: dict[str, Sequence[float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as in `results.json`."""
        return {key: value for key, value in vars(self).items() if key != "by_user"}


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
    validate: Callable[[], dict[str, float]],
    test: Callable[[], dict[str, float]],
    metric: str,
    bigger: bool = True,
    users: Callable[[], Sequence[float]] = tuple,
) -> MergeOutcome:
    """Score every candidate and load the best on validation into the model.

    Test metrics are reported for all candidates and never used to choose.

    Args:
        candidates: name -> trained tensors; ties go to the first. One object under two names is scored once.
        outcome: completed and returned.
        load: loads tensors into the model.
        validate: returns the validation metrics of the model.
        test: returns its test metrics.
        metric: validation metric for the choice.
        bigger: whether bigger values are better.
        users: returns the metric of each user in the test before.
    """
    sign = 1.0 if bigger else -1.0
    names: dict[int, str] = {}
    for name, tensors in candidates.items():
        scored = names.setdefault(id(tensors), name)
        if scored == name:
            load(tensors)
            outcome.valid[name], outcome.test[name], outcome.by_user[name] = validate(), test(), users()
        outcome.valid[name], outcome.test[name] = dict(outcome.valid[scored]), dict(outcome.test[scored])
        outcome.by_user[name] = outcome.by_user[scored]
    outcome.kept = max(candidates, key=lambda name: sign * outcome.valid[name][metric])
    load(candidates[outcome.kept])
    return outcome
