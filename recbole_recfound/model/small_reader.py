"""A control, not RecFound: a small transformer over the same soft tokens as the LLM."""

import torch
from torch import nn

from recbole_recfound.backbone.packing import same_sequence

WIDTH, LAYERS, HEADS = 128, 2, 4


class SmallReader(nn.Module):
    """A transformer of SASRec's shape (causal self-attention, learned positions), trained from random weights.

    Args:
        width: of the soft tokens.
        length: items of the longest history.
        dropout: inside its layers.
    """

    def __init__(self, width: int, length: int, dropout: float) -> None:
        super().__init__()
        self.narrow = nn.Linear(width, WIDTH)
        self.positions = nn.Embedding(length, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.widen = nn.Linear(WIDTH, width)

    def forward(self, states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Read histories.

        Args:
            states: [R, W, width] soft tokens in packed rows.
            positions: [R, W] of the packing.

        Returns:
            [R, W, width]; each place has seen the earlier ones of its history.
        """
        hidden = ~same_sequence(positions).repeat_interleave(HEADS, dim=0)
        # The free end of a row may lie beyond the longest history.
        narrow = self.narrow(states) + self.positions(positions.clamp(max=self.positions.num_embeddings - 1))
        return self.widen(self.layers(narrow, mask=hidden))
