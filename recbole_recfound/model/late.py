"""Late interaction: the joint layers over the states of a source and of the candidates that share it.

The source never sees a candidate, so that its keys and values in the joint layers are computed once for all of them;
every candidate is a row of its own that reads them before its own states. This equals one pass over source and
candidate with a bidirectional source and a causal candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import transformers
from torch import nn

from recbole_recfound.backbone.attention import additive_mask, cache_argument, check_window
from recbole_recfound.backbone.depth import Decoder, decode, first_layers
from recbole_recfound.backbone.segments import SegmentCache
from recbole_recfound.data.behaviour import Pack
from recbole_recfound.data.padding import pad_flat
from recbole_recfound.errors import BackboneError
from recbole_recfound.runtime.device import is_gpu

MEAN, LAST = "mean", "last"
"""States of a target that are classified: the mean of those of each segment, or the last one of all."""
ROUNDING, HALF_ROUNDING = 0.005, 0.05
"""Largest difference between two ways through the same layers, as a share of the states: in float32, and in 16 bits."""
PASS_STATES = 2048
"""States of targets that run through the joint layers at a time on a CPU; more would leave its caches."""


@dataclass(frozen=True)
class Rows:
    """Token states of rows of segments, padded on the right.

    Attributes:
        states: [B, T, d], after the lower layers.
        kinds: int64 [B, T], kind of the segment of each state.
        mask: bool [B, T], False on the padding.
    """

    states: torch.Tensor
    kinds: torch.Tensor
    mask: torch.Tensor

    @property
    def lengths(self) -> torch.Tensor:
        """States of each row, int64 [B]."""
        return self.mask.sum(1)

    @classmethod
    def of(
        cls,
        states: torch.Tensor,
        lengths: np.ndarray,
        segments: np.ndarray,
        kinds: np.ndarray,
        counts: np.ndarray,
    ) -> Rows:
        """Lay out the states of rows.

        Args:
            states: [n, d], of all distinct segments, one after the other.
            lengths: int64 [m], states of each distinct segment.
            segments: int64 [k], distinct segment at each place of all rows, one row after the other.
            kinds: int64 [k].
            counts: int64 [B], segments of each row.
        """
        starts = np.cumsum(lengths) - lengths
        sizes = lengths[segments]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        index, kind = np.repeat(starts[segments], sizes) + within, np.repeat(kinds, sizes)
        row_sizes = np.add.reduceat(sizes, np.cumsum(counts) - counts)
        begins = np.cumsum(row_sizes) - row_sizes
        table, mask = pad_flat(index, begins, row_sizes, fill=0)
        kind_table, _ = pad_flat(kind, begins, row_sizes, fill=0)
        device = states.device
        return cls(
            states[torch.from_numpy(table).to(device)],
            torch.from_numpy(kind_table).to(device),
            torch.from_numpy(mask).to(device),
        )


@dataclass(frozen=True)
class JointBatch:
    """Sources and candidates.

    Attributes:
        sources: B rows.
        targets: N rows, by pack and target.
        source_of: int64 [N], source of each target.
    """

    sources: Rows
    targets: Rows
    source_of: torch.Tensor

    @classmethod
    def of(cls, packs: Sequence[Pack], texts: Sequence[str], cache: SegmentCache) -> JointBatch:
        """Look up the states of packs.

        Args:
            packs: B packs.
            texts: strings of the segments.
            cache: states by string.
        """
        source = np.concatenate([pack.source.segments for pack in packs])
        target = np.concatenate([pack.targets for pack in packs])
        distinct, inverse = np.unique(np.concatenate([source, target.reshape(-1)]), return_inverse=True)
        states = cache.get([texts[segment] for segment in distinct])
        lengths = np.array([len(own) for own in states])
        flat = torch.cat(states)
        kinds = np.concatenate([pack.source.kinds for pack in packs])
        counts = np.array([len(pack.source.segments) for pack in packs])
        target_kinds = np.concatenate([np.tile(pack.target_kinds, len(pack.targets)) for pack in packs])
        return cls(
            Rows.of(flat, lengths, inverse[: len(source)], kinds, counts),
            Rows.of(flat, lengths, inverse[len(source) :], target_kinds, np.full(len(target), target.shape[1])),
            torch.from_numpy(np.repeat(np.arange(len(packs)), [len(pack.targets) for pack in packs])).to(flat.device),
        )


class GrowingKeys:
    """Keys and values of all states of a row so far in each layer, in the form of transformers' `Cache`."""

    def __init__(self) -> None:
        self._stored: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add keys and values behind those that are stored, and return all.

        Args:
            keys: [B, heads, T, size].
            values: likewise.
            layer: index of the layer.
            args: not used.
            kwargs: not used.
        """
        if layer in self._stored:
            before = self._stored[layer]
            keys, values = torch.cat([before[0], keys], dim=2), torch.cat([before[1], values], dim=2)
        self._stored[layer] = keys, values
        return keys, values


class SourceKeys(GrowingKeys):
    """Keys and values of sources in each layer, to which those of rows behind them are not added.

    Attributes:
        source_of: int64 [N], source of each row; None: the rows are the sources, whose keys and values are stored.
    """

    def __init__(self) -> None:
        super().__init__()
        self.source_of: torch.Tensor | None = None

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the keys and values of sources, or put those of its source before those of every row.

        See `GrowingKeys.update`.
        """
        if self.source_of is None:
            return super().update(keys, values, layer)
        before = [stored[self.source_of] for stored in self._stored[layer]]
        return torch.cat([before[0], keys], dim=2), torch.cat([before[1], values], dim=2)


def joint_layers(
    decoder: Decoder, depth: int, batch: JointBatch, sources: torch.Tensor, targets: torch.Tensor, pooling: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the layers above `depth` and the final norm, and pool the states of each target.

    Args:
        decoder: full decoder.
        depth: number L' of lower layers, which are left out.
        batch: layout of the rows.
        sources: [B, P + S, d] input of the first joint layer: P prompts before each source.
        targets: [N, W, d] input of the first joint layer.
        pooling: `mean` of the states of each segment of a target, or the `last` state of all.

    Returns:
        States of the sources [B, P + S, d], before the final norm, and of the targets float32 [N, K, d]: K segments, by
        kind; 1 for the last state.
    """
    prompts = sources.shape[1] - batch.sources.mask.shape[1]
    seen = torch.cat([batch.sources.mask.new_ones(len(sources), prompts), batch.sources.mask], dim=1)
    keys = SourceKeys()
    places = torch.arange(sources.shape[1], device=sources.device)[None]
    above = run_layers(
        decoder, slice(depth, None), sources, seen[:, None, :].expand(-1, sources.shape[1], -1), places, keys
    )
    starts = prompts + batch.sources.lengths
    size = len(targets) if is_gpu(targets.device) else max(1, PASS_STATES // targets.shape[1])
    found = []
    for first in range(0, len(targets), size):
        part = slice(first, first + size)
        keys.source_of = source_of = batch.source_of[part]
        rows = Rows(targets[part], batch.targets.kinds[part], batch.targets.mask[part])
        found.append(_pooled(decoder, depth, rows, seen[source_of], starts[source_of], keys, pooling))
    return above, torch.cat(found)


def _pooled(
    decoder: Decoder,
    depth: int,
    rows: Rows,
    seen: torch.Tensor,
    starts: torch.Tensor,
    keys: SourceKeys,
    pooling: str,
) -> torch.Tensor:
    """Return the pooled states of targets, float32 [N, K, d], behind `seen`, bool [N, P + S]."""
    width = rows.mask.shape[1]
    own = torch.ones(width, width, dtype=torch.bool, device=rows.mask.device).tril()
    allowed = torch.cat([seen[:, None, :].expand(-1, width, -1), own & rows.mask[:, None, :]], dim=2)
    places = starts[:, None] + torch.arange(width, device=starts.device)
    states = run_layers(decoder, slice(depth, None), rows.states, allowed, places, keys)
    if pooling == MEAN:
        return _segment_means(decoder.norm(states), rows)
    last = rows.lengths - 1
    return decoder.norm(states[torch.arange(len(states), device=states.device), last])[:, None].float()


def _segment_means(states: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Return the mean state of each segment, float32 [N, K, d]; each kind of a target's segments occurs once."""
    kinds = torch.where(rows.mask, rows.kinds, -1)
    own = (kinds[:, None, :] == torch.unique(rows.kinds[0][rows.mask[0]])[None, :, None]).float()  # [N, K, T]
    return own @ states.float() / own.sum(2, keepdim=True).clamp(min=1.0)


def run_layers(
    decoder: Decoder,
    layers: slice,
    states: torch.Tensor,
    allowed: torch.Tensor,
    places: torch.Tensor,
    keys: GrowingKeys,
) -> torch.Tensor:
    """Run some layers of a decoder over rows.

    Args:
        decoder: full decoder.
        layers: those that are run.
        states: [B, T, d].
        allowed: bool [B, T, K], keys that each state sees.
        places: int64 [B or 1, T], positions.
        keys: adds the keys and values of earlier states.

    Raises:
        BackboneError: a layer has a window of fewer keys than are given.
    """
    check_window(decoder.config, allowed.shape[2])
    mask = additive_mask(allowed, states.dtype)
    rotary = cast(nn.Module, decoder.rotary_emb)(states, places)
    for layer in list(decoder.layers)[layers]:
        before = {cache_argument(layer): keys}
        states = layer(states, attention_mask=mask, position_ids=places, position_embeddings=rotary, **before)
    return states


@torch.no_grad()
def check_layers(decoder: Decoder, depth: int, ids: torch.Tensor) -> None:
    """Check that layers which are run by `run_layers` do what the whole decoder does.

    Those of some models need more than a mask and rotary embeddings, and some models change their input before the
    first layer.

    Args:
        decoder: full decoder.
        depth: number of lower layers.
        ids: [1, T] tokens.

    Raises:
        BackboneError: they do something else, cannot be run so, or have a window of fewer than T states.
    """
    embedded, length = decoder.embed_tokens(ids), ids.shape[1]
    rounding = ROUNDING if embedded.dtype == torch.float32 else HALF_ROUNDING
    whole = decode(decoder, embedded).float()
    allowed = torch.ones(1, length, length, dtype=torch.bool, device=ids.device).tril()
    places, joint = torch.arange(length, device=ids.device)[None], slice(depth, None)
    cause: Exception | None = None
    try:
        below = run_layers(decoder, slice(depth), embedded, allowed, places, GrowingKeys())
        above = [
            decoder.norm(run_layers(decoder, joint, states, allowed, places, GrowingKeys())).float()
            for states in (below, decode(first_layers(decoder, depth), embedded))
        ]
        equal = all((states - whole).norm() <= rounding * whole.norm() for states in above)
    except BackboneError:
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        equal, cause = False, error
    if not equal:
        name, version = decoder.config.model_type, transformers.__version__
        raise BackboneError(
            f"a {name} model cannot be run layer by layer in transformers {version}, by which segments are read: take "
            "another backbone, such as a Llama or Qwen2"
        ) from cause
