"""Paired tests over users: does a row of the table differ from another by more than chance?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import permutation_test

from recbole_recfound.runtime.run_folder import USERS

RESAMPLES = 9_999
"""Random flips of signs: the smallest p value, two-sided, is .0002."""
BATCH_VALUES = 20_000_000
LEVEL = 0.05
NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Paired:
    """A row of the table against another one, over the same users.

    Attributes:
        difference: mean over users.
        low, high: its 95% interval over users, by the normal approximation.
        p: two-sided p value of a paired permutation test.
        p_holm: p corrected for all comparisons of the table.
    """

    difference: float
    low: float
    high: float
    p: float
    p_holm: float

    @property
    def significant(self) -> bool:
        """Whether it stands at 5% after the correction."""
        return self.p_holm < LEVEL

    def to_json(self) -> dict[str, float]:
        """Return all numbers."""
        return asdict(self)


def compare_rows(values: Mapping[str, Sequence[float]], reference: str, seed: int = 0) -> dict[str, Paired]:
    """Compare every row with one of them.

    Args:
        values: row -> metric of each user, all in the same order; rows without values are left out.
        reference: the row that all others are compared with.
        seed: of the permutations.

    Returns:
        Row -> comparison, of every row but the reference; empty if the reference has no values.

    Raises:
        ValueError: rows with different numbers of users.
    """
    base = np.asarray(values.get(reference, ()), dtype=np.float64)
    others = {name: np.asarray(found, dtype=np.float64) for name, found in values.items() if name != reference}
    others = {name: found for name, found in others.items() if len(found)}
    if len(base) < 2:
        return {}
    if wrong := [name for name, found in others.items() if len(found) != len(base)]:
        raise ValueError(f"{wrong[0]} has {len(others[wrong[0]])} users, {reference} has {len(base)}")
    differences = {name: found - base for name, found in others.items()}
    raw = [_p_value(difference, seed) for difference in differences.values()]
    compared = {}
    for (name, difference), p, corrected in zip(differences.items(), raw, holm(raw), strict=True):
        mean, error = float(difference.mean()), float(difference.std(ddof=1) / len(difference) ** 0.5)
        compared[name] = Paired(mean, mean - NORMAL_95 * error, mean + NORMAL_95 * error, p, corrected)
    return compared


def _p_value(difference: np.ndarray, seed: int) -> float:
    """Return the two-sided p value of the hypothesis that signs of the differences are random."""
    changed = difference[difference != 0.0]  # a flipped zero changes nothing
    if len(changed) < 2:
        return 1.0  # of one difference, either sign is as far from 0
    found = permutation_test(
        (changed,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, BATCH_VALUES // len(changed)),
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def read_users(run_dir: str | Path) -> dict[str, Any]:
    """Read the metric of each test user that a run has written.

    Args:
        run_dir: of a finished run.

    Returns:
        `metric`, `users` (their ids) and `rows` (name -> value of each user); no rows where nothing is ranked.
    """
    path = Path(run_dir) / USERS
    nothing = {"metric": "", "users": [], "rows": {}}
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else nothing


def mean_over_seeds(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return the metric of each user, as a mean over the seeds that test the user, of the rows that all seeds have.

    Seeds may hold out other users. Every row has a value for the same ones, so that rows stay paired.

    Args:
        runs: what `read_users` returned for each seed.
    """
    found: dict[str, list[float]] = {}
    if not all(run.get("users") for run in runs):  # nothing is ranked, or a study of before users had ids
        return found
    _, place = np.unique([user for run in runs for user in run["users"]], return_inverse=True)
    for name in runs[0]["rows"]:
        if all(len(run["rows"].get(name, ())) == len(run["users"]) for run in runs):
            values = np.concatenate([run["rows"][name] for run in runs])
            found[name] = (np.bincount(place, values) / np.bincount(place)).tolist()
    return found


def paired_lines(compared: Mapping[str, Paired], reference: str, metric: str, users: int) -> str:
    """Write the comparisons as Markdown; empty without any.

    Args:
        compared: from `compare_rows`.
        reference: the row that all others were compared with.
        metric: that was compared.
        users: their number.
    """
    if not compared:
        return ""
    lines = [
        f"\n\nOver {users:,} test users, {metric} minus that of {reference} (paired permutation test, Holm corrected):"
        "\n",
        "| model | difference | 95% interval | p | p (Holm) | |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name, one in compared.items():
        said = "differs" if one.significant else "may be chance"
        interval = f"{one.low:+.4f} to {one.high:+.4f}"
        lines.append(f"| {name} | {one.difference:+.4f} | {interval} | {one.p:.4f} | {one.p_holm:.4f} | {said} |")
    return "\n".join(lines)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number (Holm 1979): the chance of any false finding stays below the level.

    Args:
        p_values: of all tests, in any order.
    """
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values)[order] * factors))
    return corrected.tolist()
