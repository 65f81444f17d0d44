"""The text tower: texts to vectors with the first layers of the LLM, each text under the route of its task."""

from collections.abc import Sequence

import torch
from peft import PeftModel

from recbole_recfound.adapter import routing, without_adapter
from recbole_recfound.backbone import decode, decoder_of, first_layers, mean_pool
from recbole_recfound.data.padding import pad_tokens, rounded_up
from recbole_recfound.data.text import TokenTable


class TextTower:
    """Encode texts by bidirectional attention and the mean over the text tokens (RecFound section 4).

    Args:
        adapted: the backbone with its adapter.
        depth: number of decoder layers to run.
    """

    def __init__(self, adapted: PeftModel, depth: int) -> None:
        self.adapted = adapted
        self.depth = depth
        self.decoder = first_layers(decoder_of(adapted.get_base_model()), depth)

    def encode(
        self, ids: torch.Tensor, mask: torch.Tensor, text: torch.Tensor, tasks: Sequence[str] | str
    ) -> torch.Tensor:
        """Encode one batch.

        Args:
            ids: [B, T] tokens.
            mask: [B, T] real tokens.
            text: [B, T] tokens to pool.
            tasks: one route for all rows, or one per row.

        Returns:
            [B, d] float32, not normalised.
        """
        with routing(self.adapted, tasks):
            states = decode(self.decoder, self.decoder.embed_tokens(ids), mask, causal=False)
        return mean_pool(states, text)

    @torch.no_grad()
    def encode_table(
        self, tokens: TokenTable, task: str | None, pad_id: int, device: torch.device, batch_tokens: int = 4096
    ) -> torch.Tensor:
        """Encode every text of a table once, longest first, so that little is spent on padding.

        Args:
            tokens: texts; an empty one gives zeros.
            task: route for all texts; None runs the plain backbone without its adapter.
            pad_id: written into the padding.
            device: of the model.
            batch_tokens: padded tokens per batch.

        Returns:
            [texts, d] float32 on `device`.
        """
        order = (-tokens.lengths).argsort(kind="stable")
        width = self.decoder.config.hidden_size
        vectors = torch.zeros(len(tokens), width, dtype=torch.float32, device=device)
        start, filled = 0, int((tokens.lengths > 0).sum())
        while start < filled:
            longest = rounded_up(int(tokens.lengths[order[start]]))
            size = max(1, batch_tokens // longest)
            rows = order[start : min(start + size, filled)]
            ids, mask = (
                torch.from_numpy(part).to(device) for part in pad_tokens([tokens[row] for row in rows], pad_id)
            )
            vectors[torch.from_numpy(rows).to(device)] = self._encode_rows(ids, mask, task)
            start += size
        return vectors

    def _encode_rows(self, ids: torch.Tensor, mask: torch.Tensor, task: str | None) -> torch.Tensor:
        if task is not None:
            return self.encode(ids, mask, mask, task)
        with without_adapter(self.adapted):
            return mean_pool(decode(self.decoder, self.decoder.embed_tokens(ids), mask, causal=False), mask)
