"""Learning rate and stopping point as functions of progress, counted in steps, in seconds, or both."""


def progress(step: int, max_steps: int | None, elapsed: float, seconds: float) -> float:
    """Return the completed share of the training, 0 to 1: by the nearer of the two limits.

    Args:
        step: optimiser steps done.
        max_steps: limit; None: none, 0: nothing is trained.
        elapsed: seconds trained.
        seconds: limit, infinity = none.
    """
    by_steps = 0.0 if max_steps is None else step / max_steps if max_steps else 1.0
    by_time = elapsed / seconds if seconds > 0 else 1.0
    return min(1.0, max(by_steps, by_time))


def rate_factor(step: int, done: float, warmup_steps: int) -> float:
    """Return linear warm-up over the first steps, then linear decay with progress (RecFound section 4).

    Args:
        step: optimiser steps done, so 0 for the first one.
        done: `progress`, 0 to 1.
        warmup_steps: steps until the full rate.

    Returns:
        Factor on the base learning rate, above 0 in the first step.
    """
    warm = min(1.0, (step + 1) / max(1, warmup_steps))
    return warm * (1.0 - done)
