"""A control, not RecFound: a small transformer over the same soft tokens as the LLM."""

import torch
from torch import nn

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

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Read histories.

        Args:
            states: [B, L, width] soft tokens, padding on the right.

        Returns:
            [B, L, width]; position l has seen 0 to l.
        """
        length = states.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=states.device, dtype=states.dtype)
        narrow = self.narrow(states) + self.positions.weight[:length]
        return self.widen(self.layers(narrow, mask=mask, is_causal=True))
