"""The user tower: histories to vectors by the LLM's layers under the route of U2I, in packed rows."""

import torch
from peft import PeftModel
from torch import nn
from torch.nn import functional as F

from recbole_recfound.adapter import routing
from recbole_recfound.adapter.tmole.dropout import Dropout
from recbole_recfound.backbone import Decoder, decode, decoder_of, first_layers, full_precision, last_layers
from recbole_recfound.backbone.packing import Packing
from recbole_recfound.model.small_reader import SmallReader

ROUTE = "U2I"


class UserTower(nn.Module):
    """Run histories through layers of the backbone, causally, so that every position is an example.

    Args:
        adapted: the backbone with its adapter.
        depth: decoder layers to run; 0 bypasses the LLM's body (a control, not RecFound).
        dropout: on the soft tokens and on the final states.
        small: reads soft tokens where the LLM's body is bypassed (a control, not RecFound).
        last: run the last layers instead of the first ones.
    """

    def __init__(
        self,
        adapted: PeftModel,
        depth: int,
        dropout: float = 0.2,
        small: SmallReader | None = None,
        last: bool = False,
    ) -> None:
        super().__init__()
        decoder = decoder_of(adapted.get_base_model())
        width = decoder.config.hidden_size
        # In a list: the backbone is a module of the model already and must not be registered twice.
        self._backbone: list[tuple[PeftModel, Decoder | None]] = [
            (adapted, (last_layers if last else first_layers)(decoder, depth) if depth else None)
        ]
        self.small = small
        self.dropout = Dropout(dropout)
        self.norm = nn.RMSNorm(width)
        self.project = nn.Linear(width, width)

    def over_items(self, soft_tokens: torch.Tensor, items: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Encode histories of soft tokens (`item` mode).

        Args:
            soft_tokens: [n, d], the padding first.
            items: [B, L] places among them, padding 0 on the right. A row of padding reads one padding item.
            wanted: [B, L] bool, positions whose states are returned.

        Returns:
            [N, d], normalised, row by row; position l has seen items 0 to l of its row.
        """
        packing = Packing.of((items > 0).sum(1).clamp(min=1))
        return self._over(self.dropout(soft_tokens[packing.pack(items)]), packing, items.shape[1], wanted)

    def over_segments(self, states: torch.Tensor, items: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Encode histories of states that lower layers of the backbone gave (`late` mode); see `over_items`.

        Args:
            states: [n, d].
            items: [B, L] row of `states` of each item, padding 0 on the right.
            wanted: [B, L] bool, positions whose states are returned.
        """
        packing = Packing.of((items > 0).sum(1).clamp(min=1))
        return self._over(states[packing.pack(items)], packing, items.shape[1], wanted)

    def _over(self, states: torch.Tensor, packing: Packing, width: int, wanted: torch.Tensor) -> torch.Tensor:
        """Run packed rows [R, W, d] and return the states of the places wanted, bool [B, `width`]."""
        adapted, decoder = self._backbone[0]
        if decoder is not None:
            with routing(adapted, ROUTE):
                states = decode(decoder, states.to(decoder.dtype), positions=packing.positions)
        elif self.small is not None:
            states = self.small(states, packing.positions)
        return self._finish(states.flatten(0, 1)[packing.places(width)[wanted]])

    def over_text(
        self, token_ids: torch.Tensor, token_mask: torch.Tensor, ends: torch.Tensor, wanted: torch.Tensor
    ) -> torch.Tensor:
        """Encode histories as text; the state at the end of each title is returned (`positions` mode).

        Args:
            token_ids: [B, T], padding on the right.
            token_mask: [B, T].
            ends: [B, L] position of each title's last token.
            wanted: [B, L] bool, titles whose states are returned.

        Returns:
            [N, d], normalised, row by row.
        """
        adapted, decoder = self._backbone[0]
        assert decoder is not None, "text needs layers"
        packing = Packing.of(token_mask.sum(1).clamp(min=1))
        with routing(adapted, ROUTE):
            tokens = decoder.embed_tokens(packing.pack(token_ids))
            states = decode(decoder, tokens, positions=packing.positions)
        return self._finish(states.flatten(0, 1)[packing.places(token_ids.shape[1]).gather(1, ends)[wanted]])

    def _finish(self, states: torch.Tensor) -> torch.Tensor:
        states = self.dropout(self.norm(states.float()))
        if self.training:
            return F.normalize(self.project(states), dim=-1)
        with full_precision(states.device):
            return F.normalize(self.project(states.float()), dim=-1)
