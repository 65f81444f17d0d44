"""Item table: one vector per item, from its text, its neighbours and its id; a soft token and a ranking target."""

from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from recbole_recfound.adapter.tmole.dropout import Dropout
from recbole_recfound.model.factors import CollaborativeFactors
from recbole_recfound.model.whitening import whitening


class ItemTable(nn.Module):
    """Soft tokens and ranking vectors of the items.

    Both share the same vectors: what training teaches about an item as a target also applies to it in a history, and
    on ml-100k the user tower learned faster than with two tables.

    Args:
        num_items: RecBole's number of items; row 0 is padding.
        feature_size: width of the plain backbone's text features.
        moved_size: number of leading features whose change by training is added; 0: none.
        factor_size: number of collaborative factors, see `set_factors`; 0: none.
        hidden_size: width d of the backbone.
        token_norm: norm of a soft token, the mean norm of the backbone's token embeddings.
        use_text: use text features.
        use_id: use a learned vector per item.
        id_scale: initial size of an id vector's entries, where the text's are about 1.
        dropout: on the text features, in training.
        text_alone: share of the items that have neither id nor factors in a batch of the training.
    """

    def __init__(
        self,
        num_items: int,
        feature_size: int,
        hidden_size: int,
        token_norm: float,
        use_text: bool = True,
        use_id: bool = True,
        id_scale: float = 0.02,
        dropout: float = 0.2,
        moved_size: int = 0,
        factor_size: int = 0,
        text_alone: float = 0.0,
    ) -> None:
        super().__init__()
        self.features: torch.Tensor
        if not (use_text or use_id):
            raise ValueError("an item needs its text, its id, or both")
        self.token_norm = token_norm
        self.dropout, self.text_alone = Dropout(dropout), text_alone if use_text else 0.0
        self.moved_size = moved_size if use_text else 0
        text_size = (feature_size if use_text else 0) + self.moved_size
        self.statistics: dict[str, torch.Tensor] = {}
        """Mean, deviation and whitening of the features: what the vector of a new item needs."""
        self.fixed: torch.Tensor | None = None
        """Vectors [num_items, d] of a model that is only served; nothing is computed from features then."""
        self.held_out: torch.Tensor | None = None
        """Items that training must not take for candidates (`cold_items`), int64 [C]."""
        self.factors: CollaborativeFactors | None = None
        # Whitened text features by item, how far training has moved them, and collaborative factors.
        self.register_buffer("features", torch.zeros(num_items, text_size + factor_size), persistent=False)
        self.text_size, self.use_text = text_size, use_text
        self.text = nn.Linear(text_size + factor_size, hidden_size) if text_size + factor_size else None
        self.ids = nn.Embedding(num_items, hidden_size) if use_id else None
        if self.text is not None:
            # A rotation, as far as the widths allow: items are as near to each other as their features are.
            plain = text_size - self.moved_size
            size = plain + factor_size
            with torch.no_grad():
                start = nn.init.orthogonal_(torch.empty(hidden_size, size), gain=max(1.0, hidden_size / size) ** 0.5)
                self.text.weight[:, :plain] = start[:, :plain]
                self.text.weight[:, text_size:] = start[:, plain:]
            # The change enters with weights that start at zero, so that the first update changes no vector.
            nn.init.zeros_(self.text.weight[:, plain:text_size])
            nn.init.zeros_(self.text.bias)
        if self.ids is not None:
            nn.init.normal_(self.ids.weight, std=id_scale)

    def set_factors(self, factors: CollaborativeFactors) -> None:
        """Set the collaborative factors, `factor_size` of each item."""
        self.factors = factors
        self.features[:, self.text_size :] = factors()

    def set_features(self, features: torch.Tensor, trained: torch.Tensor | None = None) -> None:
        """Set the text features, centred (otherwise all texts point the same way) and whitened; row 0 remains padding.

        Training moves all texts together far more than relative to each other. Both versions are standardised on their
        own, which removes the common part; the change is not whitened.

        Args:
            features: [num_items, feature_size] of the plain backbone.
            trained: [num_items, moved_size] the leading ones as the trained text side gives them; None: not moved.
        """
        if self.use_text:
            if not self.statistics:  # those of the plain backbone's features, which never change
                mean, deviation = features[1:].mean(0), _deviation(features)
                whitened = whitening((features[1:] - mean) / deviation)
                self.statistics = {"feature_mean": mean, "feature_deviation": deviation, "feature_whitening": whitened}
            if trained is not None:
                self.statistics |= {"trained_mean": trained[1:].mean(0), "trained_deviation": _deviation(trained)}
            self.features[:, : self.text_size] = self._standardised(features, trained)
        self.features[0] = 0.0

    def _standardised(self, features: torch.Tensor, trained: torch.Tensor | None) -> torch.Tensor:
        known = self.statistics
        standardised = (features - known["feature_mean"]) / known["feature_deviation"]
        parts = [standardised @ known["feature_whitening"]]
        if self.moved_size:
            plain = standardised[:, : self.moved_size]
            moved = torch.zeros_like(plain)
            if trained is not None:
                moved = (trained - known["trained_mean"]) / known["trained_deviation"] - plain
            parts.append(moved)
        return torch.cat(parts, dim=1)

    def vectors_of(self, features: torch.Tensor, trained: torch.Tensor | None = None) -> torch.Tensor:
        """Return the vectors [n, d], norm 1, of items outside the table, from their text alone: no id, no factors.

        Args:
            features: [n, feature_size] of the plain backbone.
            trained: [n, moved_size], where the table has been moved by training; else None.

        Raises:
            ValueError: the table does not use text features.
        """
        if self.text is None or not self.use_text:
            raise ValueError("the item table has no text features")
        known = self._standardised(features, trained)
        return F.normalize(self.text(F.pad(known, (0, self.features.shape[1] - self.text_size))), dim=-1)

    def forward(
        self, rows: torch.Tensor | None = None, wanted: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return soft tokens [n, d] of norm `token_norm` and target vectors [n, d] of norm 1.

        Args:
            rows: int64 [B, L], items of the users of a training batch, who are left out of the factors; None: none are.
            wanted: int64 [n], different item ids; None: all.
        """
        if self.fixed is not None:
            vectors = self.fixed if wanted is None else self.fixed[wanted]
            return vectors * self.token_norm, vectors
        features, ids = self.features, None if self.ids is None else self.ids.weight
        if wanted is not None:
            features, ids = features[wanted], None if ids is None else F.embedding(wanted, ids)
        text, factors = features.split([self.text_size, features.shape[1] - self.text_size], dim=1)
        leaves_out = self.training and self.factors is not None and rows is not None
        hides = self.training and self.text_alone > 0 and (ids is not None or factors.shape[1] > 0)
        if leaves_out or hides:
            if leaves_out:
                factors = self._factors_without(cast(torch.Tensor, rows), wanted)
            if hides:
                known = torch.rand(len(features), 1, device=features.device) >= self.text_alone
                factors, ids = factors * known, None if ids is None else ids * known
            features = torch.cat([text, factors], dim=1)
        parts = [] if self.text is None else [self.text(self.dropout(features))]
        if ids is not None:
            parts.append(ids)
        vectors = F.normalize(sum(parts[1:], start=parts[0]), dim=-1)
        return vectors * self.token_norm, vectors

    def _factors_without(self, rows: torch.Tensor, wanted: torch.Tensor | None) -> torch.Tensor:
        self.factors = cast(CollaborativeFactors, self.factors).to(rows.device)
        return self.factors.without(rows, wanted)


def _deviation(features: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation [f] of every feature over the items [num_items, f] without the padding in row 0."""
    return features[1:].std(0).nan_to_num(0.0).clamp(min=1e-6)
