"""The student: a small transformer over the full text of a source and its targets, with early exits.

Layers can share one set of parameters (ALBERT), embeddings are factorised, and one norm and one head serve all exits,
so that exit k is a student of k layers. The source sees itself in both directions and no target; a target sees its
source and is causal. So a source is computed once for all its targets, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm, LlamaRotaryEmbedding

from recbole_recfound.backbone.attention import additive_mask, cache_argument
from recbole_recfound.edge.options import HEAD_SIZE, DistilOptions
from recbole_recfound.edge.pruning import matrices_of
from recbole_recfound.edge.rounding import RoundedEmbedding, RoundedLinear, with_rounding
from recbole_recfound.edge.tokens import FIRST, PADDING
from recbole_recfound.model.late import SourceKeys

CLASSES = 2
"""Of a click: no and yes."""
EMBEDDING_SCALE = 0.5
"""Typical size of an entry of a token's embedding before training."""


class Student(nn.Module):
    """A click model over token ids.

    Read are the mean states of the segments of a target, which come in one order: each with weights of its own.

    Args:
        vocabulary: number of token ids, with padding and unknown tokens.
        segments: of each target.
        newline: token id that begins every segment and is nowhere else.
        options: sizes, sharing and exits.

    Attributes:
        exits: layers after which the student can answer, ascending.
        center, spread: [segments, d], mean and standard deviation of the states that are read, before training.
    """

    center: torch.Tensor
    spread: torch.Tensor

    def __init__(self, vocabulary: int, segments: int, newline: int, options: DistilOptions) -> None:
        super().__init__()
        self.segments, self.newline = segments, newline
        width = options.width
        self.config = LlamaConfig(
            hidden_size=width,
            intermediate_size=2 * width,
            num_attention_heads=width // HEAD_SIZE,
            num_key_value_heads=width // HEAD_SIZE,
            num_hidden_layers=options.layers,
        )
        self.set_attention("sdpa")
        self.depth, self.exits = options.layers, options.exit_layers
        self.embedding = RoundedEmbedding(vocabulary, options.embedding_size, padding_idx=PADDING)
        self.project = RoundedLinear(options.embedding_size, width, bias=False)
        distinct = 1 if options.share_layers else options.layers
        self.layers = nn.ModuleList(with_rounding(LlamaDecoderLayer(self.config, layer)) for layer in range(distinct))
        self._shrink_branches()
        self.rotary = LlamaRotaryEmbedding(self.config)
        self.norm = LlamaRMSNorm(width)
        self.head = nn.Linear(segments * width, CLASSES)
        self.register_buffer("center", torch.zeros(segments, width))
        self.register_buffer("spread", torch.ones(segments, width))
        self._cache = cache_argument(self.layers[0])

    @torch.no_grad()
    def _shrink_branches(self) -> None:
        """Let all layers together begin with the weight of one.

        What untrained layers add is noise to a head that reads the sum, and shared layers add the same again and again:
        without this, the deepest exit begins behind the first and needs most of the training to catch up.
        """
        for layer in self.layers:
            for last in (layer.self_attn.o_proj, layer.mlp.down_proj):  # type: ignore[union-attr]
                last.weight.div_(self.depth)  # type: ignore[union-attr, operator]

    @torch.no_grad()
    def set_embeddings(self, table: torch.Tensor) -> None:
        """Begin with the directions in which the embeddings of the teacher differ most.

        Args:
            table: [n, d] of the tokens of the vocabulary, from `FIRST`.
        """
        left, values, _ = torch.linalg.svd(table - table.mean(0), full_matrices=False)
        size = min(self.embedding.embedding_dim, len(values))
        found = left[:, :size] * values[:size]
        self.embedding.weight.mul_(EMBEDDING_SCALE)
        self.embedding.weight[FIRST:, :size] = EMBEDDING_SCALE * found / found.square().mean().sqrt().clamp(min=1e-9)

    def matrices(self) -> dict[str, nn.Parameter]:
        """Return the matrices by name, each once: all but the head, which is fitted to what the others give."""
        return {name: each for name, each in matrices_of(self).items() if each is not self.head.weight}

    def parameters_of(self, layer: int) -> list[nn.Parameter]:
        """Return the parameters that an exit reads, each once: all but those of deeper layers.

        Args:
            layer: of the exit, from 1.
        """
        deeper = {id(weight) for weight in self.layers[layer:].parameters()}
        return [weight for weight in self.parameters() if id(weight) not in deeper]

    def layer(self, number: int) -> LlamaDecoderLayer:
        """Return the layer that runs as layer `number`, from 1."""
        return self.layers[(number - 1) % len(self.layers)]  # type: ignore[return-value]

    def set_attention(self, implementation: str) -> None:
        """Choose the form of the attention: `sdpa`, or `eager` for a graph."""
        self.config._attn_implementation = implementation

    def forward(
        self, sources: torch.Tensor, targets: torch.Tensor, source_of: torch.Tensor, exits: list[int] | None = None
    ) -> list[torch.Tensor]:
        """Return the logits of each exit, [N, C].

        Args:
            sources: [B, S] token ids, padding on the right.
            targets: [N, T] token ids, padding on the right.
            source_of: [N] source of each target.
            exits: layers that answer; None: all exits.
        """
        pooled = self.pooled(sources, targets, source_of, exits)
        # Not as a product of matrices, which 8 bits would round: thousands of terms make one number.
        return [(self.read(states).unsqueeze(1) * self.head.weight).sum(-1) + self.head.bias for states in pooled]

    def read(self, pooled: torch.Tensor) -> torch.Tensor:
        """Return what the head reads of pooled states, [N, segments * d]."""
        return ((pooled - self.center) / self.spread).flatten(1)

    def pooled(
        self, sources: torch.Tensor, targets: torch.Tensor, source_of: torch.Tensor, exits: list[int] | None = None
    ) -> list[torch.Tensor]:
        """Return the mean state of each segment of the targets at each exit, [N, segments, d]; see `forward`."""
        exits = self.exits if exits is None else exits
        places = torch.arange(1, self.segments + 1, device=targets.device).view(1, -1, 1)
        segment = (targets == self.newline).long().cumsum(1).unsqueeze(1)
        own = ((segment == places) & (targets != PADDING).unsqueeze(1)).float()  # [N, segments, T]
        own = own / own.sum(2, keepdim=True).clamp(min=1.0)
        states = self.states(sources, targets, source_of, max(exits))
        return [own @ self.norm(each) for number, each in enumerate(states, start=1) if number in exits]

    def states(
        self, sources: torch.Tensor, targets: torch.Tensor, source_of: torch.Tensor, depth: int
    ) -> Iterator[torch.Tensor]:
        """Yield the states of the targets after each layer, [N, T, d].

        Args:
            sources: [B, S].
            targets: [N, T].
            source_of: [N].
            depth: number of layers to run.
        """
        seen = sources != PADDING
        source, target = self.project(self.embedding(sources)), self.project(self.embedding(targets))
        places = torch.arange(targets.shape[1], device=targets.device)
        causal = (places[:, None] >= places[None, :]).expand(targets.shape[0], -1, -1)
        before = seen[source_of].unsqueeze(1).expand(-1, targets.shape[1], -1)
        of_source = additive_mask(seen.unsqueeze(1).expand(-1, sources.shape[1], -1), source.dtype)
        of_target = additive_mask(torch.cat([before, causal], dim=2), target.dtype)
        positions = torch.arange(sources.shape[1], device=sources.device).unsqueeze(0)
        source_rotary = self.rotary(source, positions)
        target_rotary = self.rotary(target, seen.sum(1)[source_of].unsqueeze(1) + places.unsqueeze(0))
        for number in range(1, depth + 1):
            layer, keys = self.layer(number), SourceKeys()
            cached: dict[str, Any] = {self._cache: keys}
            source = layer(source, attention_mask=of_source, position_embeddings=source_rotary, **cached)
            keys.source_of = source_of
            target = layer(target, attention_mask=of_target, position_embeddings=target_rotary, **cached)
            yield target
