"""Late interaction: the joint layers over the states of a source and of the candidates that share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import nn

from recbole_recfound.backbone.depth import Decoder
from recbole_recfound.backbone.segments import SegmentCache
from recbole_recfound.data.behaviour import Pack

SOURCE, PADDING = -1, -2
"""Parts of a row besides its targets, which are 0, 1, 2, ..."""


@dataclass(frozen=True)
class JointBatch:
    """Packs as rows of token states.

    Attributes:
        states: [B, L, d], after the lower layers.
        kinds: int64 [B, L], kind of the segment of each state; 0 on the padding.
        parts: int64 [B, L], target of each state, SOURCE or PADDING.
        positions: int64 [B, L]; those of every target continue behind the source.
        last: int64 [N, 2], row and place of each target's last state, by row and target.
    """

    states: torch.Tensor
    kinds: torch.Tensor
    parts: torch.Tensor
    positions: torch.Tensor
    last: torch.Tensor

    @classmethod
    def of(
        cls, packs: Sequence[Pack], texts: Sequence[str], cache: SegmentCache, prompts: int, multiple: int = 16
    ) -> JointBatch:
        """Look up the states of packs.

        Args:
            packs: B packs.
            texts: strings of the segments.
            cache: states by string.
            prompts: places to leave free before the source.
            multiple: round the length of rows up to a multiple of it: a CPU compiles its products for every shape.
        """
        flat = [np.concatenate([pack.source.segments, pack.targets.reshape(-1)]) for pack in packs]
        distinct, inverse = np.unique(np.concatenate(flat), return_inverse=True)
        states = cache.get([texts[segment] for segment in distinct])
        lengths = np.array([len(own) for own in states])
        starts = np.cumsum(lengths) - lengths
        parts = np.split(inverse, np.cumsum([len(own) for own in flat])[:-1])
        rows = [_Row.of(pack, own, lengths, starts, prompts) for pack, own in zip(packs, parts, strict=True)]
        width = -(-max(len(row.parts) for row in rows) // multiple) * multiple

        def stacked(name: str, fill: int) -> torch.Tensor:
            table = np.full((len(rows), width), fill, dtype=np.int64)
            for place, row in enumerate(rows):
                own = getattr(row, name)
                table[place, : len(own)] = own
            return torch.from_numpy(table)

        device = states[0].device
        index = stacked("index", 0).to(device)
        counts = [len(row.last) for row in rows]
        last = np.stack([np.repeat(np.arange(len(rows)), counts), np.concatenate([row.last for row in rows])], axis=1)
        return cls(
            torch.cat(states)[index],
            stacked("kinds", 0).to(device),
            stacked("parts", PADDING).to(device),
            stacked("positions", 0).to(device),
            torch.from_numpy(last).to(device),
        )

    def allowed(self) -> torch.Tensor:
        """Return which states see which, bool [B, L, L] (query, key).

        The source sees all of itself and nothing else; a target sees the source and its own states up to the query.
        """
        query, key = self.parts[:, :, None], self.parts[:, None, :]
        order = torch.arange(self.parts.shape[1], device=self.parts.device)
        own = (query == key) & (order[None, :] <= order[:, None]) & (query != PADDING)
        return own | (key == SOURCE)


@dataclass(frozen=True)
class _Row:
    """One pack as flat arrays over its states; prompts first."""

    index: np.ndarray
    kinds: np.ndarray
    parts: np.ndarray
    positions: np.ndarray
    last: np.ndarray

    @classmethod
    def of(cls, pack: Pack, segments: np.ndarray, lengths: np.ndarray, starts: np.ndarray, prompts: int) -> _Row:
        """Lay out a pack.

        Args:
            pack: source and targets.
            segments: index of each of its segments, source first, in `lengths` and `starts`.
            lengths: states of each segment.
            starts: first state of each segment.
            prompts: places before the source.
        """
        targets, width = pack.targets.shape
        sizes = lengths[segments]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        part_of = np.concatenate([np.full(len(pack.source.segments), SOURCE), np.repeat(np.arange(targets), width)])
        kind_of = np.concatenate([pack.source.kinds, np.tile(pack.target_kinds, targets)])
        parts = np.concatenate([np.full(prompts, SOURCE), np.repeat(part_of, sizes)])
        source = int((parts == SOURCE).sum())
        # Where each target begins, and so the distance of its states from there.
        ends = prompts + np.cumsum(sizes)[len(pack.source.segments) + width - 1 :: width]
        begins = np.concatenate([[source], ends[:-1]])
        positions = np.arange(len(parts))
        positions[source:] += source - np.repeat(begins, ends - begins)
        free = np.zeros(prompts, dtype=np.int64)
        return cls(
            np.concatenate([free, np.repeat(starts[segments], sizes) + within]),
            np.concatenate([free, np.repeat(kind_of, sizes)]),
            parts,
            positions,
            ends - 1,
        )


def joint_layers(decoder: Decoder, depth: int, batch: JointBatch, states: torch.Tensor) -> torch.Tensor:
    """Run the layers above `depth`, and the final norm at the targets' last states.

    Args:
        decoder: full decoder.
        depth: number L' of lower layers, which are left out.
        batch: layout of the rows.
        states: [B, L, d] input of the first joint layer.

    Returns:
        [N, d], the last state of each target.
    """
    allowed = batch.allowed()
    mask = torch.zeros(allowed.shape, dtype=states.dtype, device=states.device)
    mask = mask.masked_fill(~allowed, torch.finfo(states.dtype).min)[:, None]
    rotary = cast(nn.Module, decoder.rotary_emb)(states, batch.positions)
    for layer in list(decoder.layers)[depth:]:
        states = layer(states, attention_mask=mask, position_ids=batch.positions, position_embeddings=rotary)
    return decoder.norm(states[batch.last[:, 0], batch.last[:, 1]])
