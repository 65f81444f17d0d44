"""Allocation of whole examples by fractional shares, over many batches."""

import numpy as np


def allocate(weights: np.ndarray, batch_size: int, carried: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split a batch by weights, carrying the fractions over to the next batch.

    Each task gets at least its whole part and at most one more; the extra examples go to the tasks that would be the
    first to fall a whole example behind. With the largest-remainder rule instead, tasks drift by more than one example
    when weights change from batch to batch.

    Args:
        weights: [K] positive, summing to one.
        batch_size: number of examples.
        carried: [K] balance of earlier batches: positive for tasks with too few examples; sums to zero.

    Returns:
        Counts [K] (int64) that sum to batch_size, and the new carried fractions [K].
    """
    due = weights * batch_size + carried
    # The tolerance keeps 2.9999999 from losing its third example to rounding.
    counts = np.maximum(np.floor(due + 1e-9), 0).astype(np.int64)
    for _ in range(counts.sum() - batch_size):
        # Tasks that are ahead leave too little for the whole parts of the others: take from the smallest remainder.
        counts[np.where(counts > 0, due - counts, np.inf).argmin()] -= 1
    rest = due - counts
    until_behind = np.where(rest > 1e-9, (1 - rest) / weights, np.inf)
    counts[np.argsort(until_behind, kind="stable")[: batch_size - counts.sum()]] += 1
    return counts, due - counts
