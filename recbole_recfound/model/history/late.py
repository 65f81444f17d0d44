"""Late interaction: the text of each item alone through the frozen lower layers, histories through the last ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import PeftModel

from recbole_recfound.adapter import plain_weights, without_adapter
from recbole_recfound.backbone import decoder_of, first_layers, full_precision
from recbole_recfound.backbone.depth import check_division
from recbole_recfound.backbone.segments import SegmentCache
from recbole_recfound.data.batches import SequenceBatch
from recbole_recfound.data.history import HistorySource, Indices
from recbole_recfound.model.history.base import HistoryModel, SequenceHistory, last_places, register_history


@register_history("late")
class LateInteraction(SequenceHistory):
    """One state per item of the history: that of its sentence's last token after the lower layers (M6-Rec, section 5).

    The lower layers run without the adapter, so that a state depends on the text of its item alone and is computed once
    for all users. The adapter takes part in the last layers, which read the states of a history in its order.
    """

    segments = True
    user_layers = 3
    text_layers = 8

    def __init__(self, source: HistorySource) -> None:
        super().__init__(source)
        self._cache: SegmentCache | None = None

    def collate(self, tasks: list[str], rows: Sequence[Indices]) -> SequenceBatch:
        """Collate sequences of item ids.

        See `History.collate`.
        """
        return self.source.sequences(tasks, rows)

    def states(
        self, model: HistoryModel, soft_tokens: torch.Tensor, part: SequenceBatch, places: torch.Tensor
    ) -> torch.Tensor:
        """Run the last layers over the states of the items.

        See `SequenceHistory.states`.
        """
        return self._read(model, part.items, part.targets > 0)

    def last_states(self, model: HistoryModel, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return the state at the last item of each history.

        See `SequenceHistory.last_states`.
        """
        return self._read(model, items, last_places(items, lengths))

    def _read(self, model: HistoryModel, items: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        # The padding is the first row, which a user without a history reads.
        padded = torch.cat([items.new_zeros(1), items.flatten()])
        distinct, rows = torch.unique(padded, return_inverse=True)
        texts = self.source.texts
        sentences = texts.sentences_by(self.source.item_ids.to_catalogue(distinct.cpu().numpy()))
        tokens = [tuple(sentences[row].tolist()) or (texts.pad_id,) for row in range(len(sentences))]
        states = self._segments(model).get(tokens)
        return model.user_tower.over_segments(torch.cat(states), rows[1:].view(items.shape), wanted)

    def _segments(self, model: HistoryModel) -> SegmentCache:
        """Return the states of items; the first call makes their cache."""
        if self._cache is None:
            adapted, device = model.backbone, model.device
            decoder = decoder_of(adapted.get_base_model())
            depth = len(decoder.layers) - model.user_depth
            cache = SegmentCache(
                decoder,
                None,
                depth,
                max_tokens=self.source.texts.max_tokens,
                fingerprint=model.parts.fingerprint,
                weights=plain_weights(first_layers(decoder, depth)),
                plain=lambda: _plain(adapted, device),
            )
            with _plain(adapted, device):
                check_division(decoder, depth, torch.arange(8, device=device)[None])
            self._cache = cache
        return self._cache


@contextmanager
def _plain(adapted: PeftModel, device: torch.device) -> Iterator[None]:
    """Run the backbone as it is without an adapter and outside of training, whatever the caller does."""
    training = adapted.training
    adapted.eval()
    try:
        with without_adapter(adapted), full_precision(device):
            yield
    finally:
        adapted.train(training)
