"""Full text, which late interaction is measured against: all layers over one source and one candidate in a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import nn

from recbole_recfound.data.behaviour import Pack
from recbole_recfound.data.padding import WIDTH_STEP, pad
from recbole_recfound.data.text.tokens import plain_tokens
from recbole_recfound.model.reading.ctr import ClickModel


@dataclass(frozen=True)
class Pairs:
    """Sources with one candidate each, as tokens, padded on the right.

    Attributes:
        ids: int64 [B, T] tokens, source first.
        kinds: int64 [B, T] kind of each token's segment.
        segments: int64 [B, T] number of each token's segment in its row, -1 on the padding.
        targets: bool [B, T], tokens of the candidate.
    """

    ids: torch.Tensor
    kinds: torch.Tensor
    segments: torch.Tensor
    targets: torch.Tensor

    @property
    def sources(self) -> torch.Tensor:
        """Return which tokens are those of the source, bool [B, T]."""
        return ~self.targets & (self.segments >= 0)

    @property
    def seen(self) -> torch.Tensor:
        """Return which tokens each token sees, bool [B, T, T]: the source is bidirectional, the candidate causal."""
        length = self.ids.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=self.ids.device).tril()
        source = self.sources
        of_target = causal & (self.segments >= 0)[:, None, :] & ~source[:, :, None]
        return (source[:, None, :] & source[:, :, None]) | of_target


class FullText(ClickModel):
    """The click model whose lower layers read source and candidate together.

    Trained are the parts of late interaction, in the same layers. The lower layers compute no gradient: nothing in them
    is trained.
    """

    rows = 8
    """Pairs that run through the layers together."""

    def pooled(self, packs: Sequence[Pack]) -> torch.Tensor:
        """Return the mean state of each segment of the candidates, float32 [N, K, d], by pack and target.

        Args:
            packs: sources with their targets.
        """
        self.use()
        pairs = [(pack, target) for pack in packs for target in pack.targets]
        return torch.cat([self._read(pairs[start : start + self.rows]) for start in range(0, len(pairs), self.rows)])

    def tokens(self, pack: Pack) -> tuple[int, int]:
        """Return how many tokens the source and all candidates of a pack have."""
        targets = [len(ids) for target in pack.targets for ids in self._texts(target)]
        return sum(map(len, self._texts(pack.source.segments))), sum(targets)

    def pairs(self, rows: Sequence[tuple[Pack, np.ndarray]]) -> Pairs:
        """Lay out pairs.

        Args:
            rows: packs, each with the segments of one of its targets.
        """
        ids, kinds, segments, targets = [], [], [], []
        for pack, target in rows:
            texts = self._texts(np.concatenate([pack.source.segments, target]))
            sizes = [len(text) for text in texts]
            ids.append(np.concatenate(texts))
            kinds.append(np.repeat(np.concatenate([pack.source.kinds, pack.target_kinds]), sizes))
            segments.append(np.repeat(np.arange(len(texts)), sizes))
            targets.append(segments[-1] >= len(pack.source.segments))
        arrays = [pad(rows, fill, multiple=WIDTH_STEP)[0] for rows, fill in ((ids, 0), (kinds, 0), (segments, -1))]
        arrays.append(pad(targets, 0, multiple=WIDTH_STEP)[0] == 1)
        return Pairs(*(torch.from_numpy(array).to(self.device) for array in arrays))

    def _texts(self, segments: np.ndarray) -> list[np.ndarray]:
        """Return the tokens of segments."""
        known = self.__dict__.setdefault("_known", {})
        for segment in dict.fromkeys(segments.tolist()):
            if segment not in known:
                (ids,) = plain_tokens([self.texts.table.texts[segment]], self.cache.tokenizer)
                known[segment] = np.array(ids[: self.cache.max_tokens], dtype=np.int64)
        return [known[segment] for segment in segments.tolist()]

    def below(self, pairs: Pairs) -> torch.Tensor:
        """Return the states [B, T, d] after the lower layers.

        Args:
            pairs: tokens.
        """
        places = torch.arange(pairs.ids.shape[1], device=self.device)[None]
        return self.run(self.decoder.embed_tokens(pairs.ids), pairs.seen, places, slice(self.reader.depth))

    def _read(self, rows: Sequence[tuple[Pack, np.ndarray]]) -> torch.Tensor:
        pairs = self.pairs(rows)
        with torch.no_grad():
            states = self.below(pairs)
        prompts = self.reader.options.prompts()
        count = len(prompts)
        inputs = torch.cat(
            [prompts.expand(len(rows), -1, -1), states.float() + self.reader.scale * self.kinds(pairs.kinds)], dim=1
        )
        # Prompts are a part of the source.
        seen = nn.functional.pad(pairs.seen, (count, 0, count, 0), value=True)
        seen[:, :count, count:] = pairs.sources[:, None, :]
        places = torch.arange(inputs.shape[1], device=self.device)[None]
        states = self.run(inputs.to(states.dtype), seen, places, slice(self.reader.depth, None))[:, count:]
        kinds = torch.where(pairs.targets, pairs.kinds, -1)
        own = (kinds[:, None, :] == torch.unique(kinds[kinds >= 0])[None, :, None]).float()  # [B, K, T]
        return own @ self.decoder.norm(states).float() / own.sum(2, keepdim=True)

    def run(self, states: torch.Tensor, seen: torch.Tensor, places: torch.Tensor, layers: slice) -> torch.Tensor:
        """Run some layers.

        Args:
            states: [B, T, d].
            seen: bool [B, T, T].
            places: int64 [1 or B, T].
            layers: of the decoder.
        """
        mask = torch.zeros(seen.shape, dtype=states.dtype, device=self.device)
        mask = mask.masked_fill(~seen, torch.finfo(states.dtype).min)[:, None]
        rotary = cast(nn.Module, self.decoder.rotary_emb)(states, places)
        for layer in list(self.decoder.layers)[layers]:
            states = layer(states, attention_mask=mask, position_ids=places, position_embeddings=rotary)
        return states
