"""The user tower: histories to vectors by the LLM's layers under the route of U2I, one state per position."""

import torch
from peft import PeftModel
from torch import nn
from torch.nn import functional as F

from recbole_recfound.adapter import routing
from recbole_recfound.adapter.tmole.dropout import Dropout
from recbole_recfound.backbone import Decoder, decode, decoder_of, first_layers, full_precision
from recbole_recfound.model.small_reader import SmallReader

ROUTE = "U2I"


class UserTower(nn.Module):
    """Run histories through the backbone's first layers, causally, so that every position is an example.

    Args:
        adapted: the backbone with its adapter.
        depth: decoder layers to run; 0 bypasses the LLM's body (a control, not RecFound).
        dropout: on the soft tokens and on the final states.
        small: reads soft tokens where the LLM's body is bypassed (a control, not RecFound).
    """

    def __init__(self, adapted: PeftModel, depth: int, dropout: float = 0.2, small: SmallReader | None = None) -> None:
        super().__init__()
        decoder = decoder_of(adapted.get_base_model())
        width = decoder.config.hidden_size
        # In a list: the backbone is a module of the model already and must not be registered twice.
        self._backbone: list[tuple[PeftModel, Decoder | None]] = [
            (adapted, first_layers(decoder, depth) if depth else None)
        ]
        self.small = small
        self.dropout = Dropout(dropout)
        self.norm = nn.RMSNorm(width)
        self.project = nn.Linear(width, width)

    def over_items(self, soft_tokens: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Encode histories of soft tokens (`item` mode).

        Args:
            soft_tokens: [num_items, d].
            items: [B, L] item ids, padding 0 on the right (causal attention never looks there).

        Returns:
            [B, L, d], normalised; position l has seen items 0 to l.
        """
        adapted, decoder = self._backbone[0]
        states = self.dropout(soft_tokens[items])
        if decoder is not None:
            with routing(adapted, ROUTE):
                states = decode(decoder, states.to(decoder.dtype))
        elif self.small is not None:
            states = self.small(states)
        return self._finish(states)

    def over_text(self, token_ids: torch.Tensor, token_mask: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        """Encode histories as text; the state at the end of each title is returned (`positions` mode).

        Args:
            token_ids: [B, T].
            token_mask: [B, T].
            ends: [B, L] position of each title's last token.

        Returns:
            [B, L, d], normalised.
        """
        adapted, decoder = self._backbone[0]
        assert decoder is not None, "text needs layers"
        with routing(adapted, ROUTE):
            states = decode(decoder, decoder.embed_tokens(token_ids), token_mask)
        return self._finish(states.gather(1, ends.unsqueeze(-1).expand(-1, -1, states.shape[-1])))

    def _finish(self, states: torch.Tensor) -> torch.Tensor:
        states = self.dropout(self.norm(states.float()))
        if self.training:
            return F.normalize(self.project(states), dim=-1)
        with full_precision(states.device):
            return F.normalize(self.project(states.float()), dim=-1)
