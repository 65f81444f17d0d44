"""Loss of each example of a batch, by form: sequences, pairs, prompts with answers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from recbole_recfound.adapter import routing
from recbole_recfound.backbone import decode, decoder_of, full_precision, logits_of
from recbole_recfound.data import PairBatch, SequenceBatch
from recbole_recfound.data.batches import Part
from recbole_recfound.model.gradient_cache import represent
from recbole_recfound.model.losses import answer_loss, info_nce
from recbole_recfound.runtime.exchange import gather_rows

if TYPE_CHECKING:
    from recbole_recfound.model.recfound import RecFound


def example_losses(model: RecFound, part: Part) -> torch.Tensor:
    """Return the loss of each example of one part, [B].

    Args:
        model: RecFound.
        part: examples of one form, on the model's device.
    """
    if isinstance(part, SequenceBatch):
        return model.history.losses(model, part)
    if isinstance(part, PairBatch):
        return _pair_losses(model, part)
    base = model.backbone.get_base_model()
    decoder = decoder_of(base)
    with routing(model.backbone, part.tasks):
        states = decode(decoder, decoder.embed_tokens(part.input_ids), part.attention_mask)
    return answer_loss(states, partial(logits_of, base), part.labels)


def _pair_losses(model: RecFound, part: PairBatch) -> torch.Tensor:
    queries = represent(
        lambda rows: model.unit_vectors(part.query_ids, part.query_mask, part.query_text, part.tasks, rows),
        len(part),
        model.chunk,
        model.device,
    )
    items = represent(
        lambda rows: model.unit_vectors(part.item_ids, part.item_mask, part.item_text, part.item_tasks, rows),
        len(part.item_tasks),
        model.chunk,
        model.device,
    )
    items = items.float()
    if len(items) < part.allowed.shape[1]:  # the other processes have encoded the other items
        items = gather_rows(items, part.allowed.shape[1])
    # A step of bf16 near a cosine of 1 is .08 of a logit.
    with full_precision(model.device):
        return info_nce(queries.float(), items, part.positive, part.allowed, model.pair_temperature)


def mean_by_task(tasks: list[str], losses: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the mean loss of each task of a batch, as tensors on its device (synchronised only when logged).

    Args:
        tasks: task of each example.
        losses: [B].
    """
    rows = {task: [i for i, name in enumerate(tasks) if name == task] for task in dict.fromkeys(tasks)}
    return {task: losses[index].mean() for task, index in rows.items()}
