"""Resuming from the newest intact checkpoint, and replacing what was lost with damaged ones."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recbole_recfound.model.trained import trained_parameters, trained_tensors
from recbole_recfound.runtime.exchange import on_main
from recbole_recfound.trainer.checkpoint import Checkpoint, base_fingerprint

if TYPE_CHECKING:
    from recbole_recfound.trainer.recfound import RecFoundTrainer


def resume_newest(trainer: RecFoundTrainer) -> bool:
    """Continue from the newest intact checkpoint of a run; damaged ones are removed with a note.

    The untrained model, which merging needs, is written again where it was damaged; a damaged best checkpoint is
    replaced by the best of the others.

    Args:
        trainer: with its loader, untrained; changed in place.

    Returns:
        Whether there is one.
    """
    start = trained_tensors(trained_parameters(trainer.model))
    store, newest = trainer.store, []
    # The main process removes what is damaged; the others read what is left.
    on_main(lambda: newest.append(store.newest(trainer.device)))
    checkpoint = newest[0] if newest else store.newest(trainer.device)
    if checkpoint is None:
        return False
    trainer.restore(checkpoint)
    steps = on_main(store.steps)
    if 0 not in steps and base_fingerprint(start) == trainer.base:
        on_main(lambda: store.save(Checkpoint(0, start, {}, {}), trainer.best_step))
    if trainer.best_step and trainer.best_step not in steps:
        metric, bigger = trainer.valid_metric, trainer.valid_metric_bigger
        lost, record = trainer.best_step, best_of(trainer.history, steps, metric, bigger)
        trainer.best_step, trainer.best_valid_result = (record["step"], record["valid"]) if record else (0, {})
        worst = -math.inf if bigger else math.inf
        trainer.best_valid_score = record["valid"][metric] if record else worst
        print(f"note: the best step {lost} has no intact checkpoint: the best is now {trainer.best_step}", flush=True)
    return True


def best_of(
    history: Sequence[Mapping[str, Any]], steps: Collection[int], metric: str, bigger: bool
) -> Mapping[str, Any] | None:
    """Return the record of the best validated step whose checkpoint is there; None if there is none.

    Args:
        history: one record per step; `valid` holds the metrics of a validated one.
        steps: with a checkpoint.
        metric: that chooses.
        bigger: whether bigger values are better.
    """
    sign = 1 if bigger else -1
    validated = [record for record in history if "valid" in record and record["step"] in steps]
    return max(validated, key=lambda record: sign * record["valid"][metric], default=None)
