"""The item table: one soft token and one target vector per item, made from its text and, if asked, its id."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from recbole_recfound.adapter.tmole.dropout import Dropout


class ItemTable(nn.Module):
    """Items as the user tower reads and ranks them.

    Args:
        num_items: RecBole's item number, row 0 is padding.
        feature_size: width of the text features.
        hidden_size: width d of the backbone.
        token_norm: norm of a soft token, the mean norm of the backbone's token embeddings.
        use_text: text features take part.
        use_item_id: a learned vector per item takes part.
        id_scale: size of the id vectors beside the text's.
        dropout: on the text features, in training.
    """

    def __init__(
        self,
        num_items: int,
        feature_size: int,
        hidden_size: int,
        token_norm: float,
        use_text: bool = True,
        use_item_id: bool = True,
        id_scale: float = 0.02,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if not (use_text or use_item_id):
            raise ValueError("an item needs its text, its id, or both")
        self.token_norm = token_norm
        self.id_scale = id_scale
        self.dropout = Dropout(dropout)
        # Standardised text features by item; computed by the model, refreshed as its text side learns.
        self.register_buffer("features", torch.zeros(num_items, feature_size), persistent=False)
        self.register_buffer("mean", torch.zeros(feature_size), persistent=False)
        self.register_buffer("deviation", torch.ones(feature_size), persistent=False)
        self.read_text = nn.Linear(feature_size, hidden_size) if use_text else None
        self.rank_text = nn.Linear(feature_size, hidden_size) if use_text else None
        self.read_id = nn.Embedding(num_items, hidden_size) if use_item_id else None
        self.rank_id = nn.Embedding(num_items, hidden_size) if use_item_id else None
        for linear in filter(None, (self.read_text, self.rank_text)):
            nn.init.normal_(linear.weight, std=1.0 / math.sqrt(feature_size))
            nn.init.zeros_(linear.bias)

    def set_scale(self, features: torch.Tensor) -> None:
        """Take mean and deviation from the untrained features; they stay, so that refreshed features only drift.

        Without centring all texts point the same way.
        """
        self.mean = features[1:].mean(0)
        self.deviation = features[1:].std(0).clamp(min=1e-6)

    def set_features(self, features: torch.Tensor) -> None:
        """Replace the text features [num_items, feature_size]; row 0 stays padding."""
        self.features = (features - self.mean) / self.deviation
        self.features[0] = 0.0

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return soft tokens [num_items, d] of norm `token_norm` and target vectors [num_items, d] of norm 1."""
        tokens = self._combine(self.read_text, self.read_id)
        targets = self._combine(self.rank_text, self.rank_id)
        return F.normalize(tokens, dim=-1) * self.token_norm, F.normalize(targets, dim=-1)

    def _combine(self, text: nn.Linear | None, ids: nn.Embedding | None) -> torch.Tensor:
        parts = []
        if text is not None:
            parts.append(text(self.dropout(self.features)))
        if ids is not None:
            parts.append(ids.weight * self.id_scale)
        return sum(parts[1:], start=parts[0])
