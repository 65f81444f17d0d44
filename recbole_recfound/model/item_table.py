"""The item table: one vector per item, made from its text and, if asked, its id; read as a soft token and ranked against."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from recbole_recfound.adapter.tmole.dropout import Dropout


class ItemTable(nn.Module):
    """Items as the user tower reads and ranks them.

    Both take the same vectors: what an item's users teach about it as a target holds for it in a history, and on ml-100k
    the user tower learned faster than with two tables.

    Args:
        num_items: RecBole's item number, row 0 is padding.
        feature_size: width of the plain backbone's text features.
        moved_size: leading features of which the change by training takes part too; 0: none.
        hidden_size: width d of the backbone.
        token_norm: norm of a soft token, the mean norm of the backbone's token embeddings.
        use_text: text features take part.
        use_item_id: a learned vector per item takes part.
        id_scale: initial size of an id vector's entries, where the text's are about 1.
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
        moved_size: int = 0,
    ) -> None:
        super().__init__()
        if not (use_text or use_item_id):
            raise ValueError("an item needs its text, its id, or both")
        self.token_norm = token_norm
        self.dropout = Dropout(dropout)
        self.moved_size = moved_size
        width = feature_size + moved_size
        # Standardised text features by item, and how far training has moved them; set by the model.
        self.register_buffer("features", torch.zeros(num_items, width), persistent=False)
        self.register_buffer("mean", torch.zeros(feature_size), persistent=False)
        self.register_buffer("deviation", torch.ones(feature_size), persistent=False)
        self.text = nn.Linear(width, hidden_size) if use_text else None
        self.ids = nn.Embedding(num_items, hidden_size) if use_item_id else None
        if self.text is not None:
            nn.init.normal_(self.text.weight, std=1.0 / math.sqrt(feature_size))
            # The first time features move, nothing may jump: the change is read with weights that start at zero.
            nn.init.zeros_(self.text.weight[:, feature_size:])
            nn.init.zeros_(self.text.bias)
        if self.ids is not None:
            nn.init.normal_(self.ids.weight, std=id_scale)

    def set_scale(self, features: torch.Tensor) -> None:
        """Take mean and deviation from the plain backbone's features; without centring all texts point the same way."""
        self.mean = features[1:].mean(0)
        self.deviation = features[1:].std(0).clamp(min=1e-6)

    def set_features(self, features: torch.Tensor, trained: torch.Tensor | None = None) -> None:
        """Set the text features; row 0 stays padding.

        Args:
            features: [num_items, feature_size] of the plain backbone.
            trained: [num_items, moved_size] the leading ones as the trained text side gives them; None: not moved.
        """
        parts = [(features - self.mean) / self.deviation]
        if self.moved_size:
            plain = features[:, : self.moved_size]
            parts.append(((plain if trained is None else trained) - plain) / self.deviation[: self.moved_size])
        self.features = torch.cat(parts, dim=1)
        self.features[0] = 0.0

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return soft tokens [num_items, d] of norm `token_norm` and target vectors [num_items, d] of norm 1."""
        parts = []
        if self.text is not None:
            parts.append(self.text(self.dropout(self.features)))
        if self.ids is not None:
            parts.append(self.ids.weight)
        vectors = F.normalize(sum(parts[1:], start=parts[0]), dim=-1)
        return vectors * self.token_norm, vectors
