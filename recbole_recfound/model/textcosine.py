"""Items whose text resembles the user's items, by the plain backbone: what a language model knows without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from recbole_recfound.backbone import decode, decoder_of, load_backbone, mean_pool
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.padding import pad_tokens
from recbole_recfound.data.text import TokenTable
from recbole_recfound.data.text.options import ItemOptions
from recbole_recfound.model.textknn import TextNeighbours

TOKENS = 4096
"""Padded tokens of a batch."""


class TextCosine(TextNeighbours):
    """Texts by the mean of their tokens' last states; see `TextNeighbours` for the arguments."""

    @torch.no_grad()
    def vectors(self, sentences: Sequence[str], config: Config) -> Any:
        """Return the vectors of texts, float32 [n, d]; zeros for an empty text.

        Args:
            sentences: n texts.
            config: settings of the run, with `backbone`.
        """
        options = ItemOptions.of(config["item_args"], "item_args")
        backbone = load_backbone(config["backbone"], config["device"])
        decoder, tokens = decoder_of(backbone.model), TokenTable.of(sentences, backbone.tokenizer, options.max_tokens)
        found = np.zeros((len(tokens), decoder.config.hidden_size), dtype=np.float32)
        order = (-tokens.lengths).argsort(kind="stable")[: int((tokens.lengths > 0).sum())]  # alike in length
        with tqdm(total=len(order), desc="texts", disable=not config["show_progress"], dynamic_ncols=True) as bar:
            while len(order):
                rows = order[: max(1, TOKENS // int(tokens.lengths[order[0]]))]
                ids, mask = (
                    torch.from_numpy(part).to(config["device"])
                    for part in pad_tokens([tokens[row] for row in rows], backbone.tokenizer.pad_token_id)
                )
                states = decode(decoder, decoder.embed_tokens(ids), mask)
                found[rows] = F.normalize(mean_pool(states, mask), dim=-1).cpu().numpy()
                bar.update(len(rows))
                order = order[len(rows) :]
        return found
